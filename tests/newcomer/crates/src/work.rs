//! The work of each crate. A mistake is a panic, whose text the host sees.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::str;

/// The result of a crate for its input.
pub fn of(name: &str, input: &[u8]) -> String {
    let text = || str::from_utf8(input).unwrap();
    match name {
        "base64" => base64(input),
        "hashbrown" => hashbrown(text()),
        "libm" => format!("{:.9}", libm::sqrt(text().parse().unwrap())),
        "lz4_flex" => lz4_flex(input),
        "minicbor" => minicbor(text()),
        "miniz_oxide" => miniz_oxide(input),
        "postcard" => postcard(text()),
        "regex-automata" => regex_automata(text()),
        #[cfg(feature = "interpreters")]
        "rhai" => rhai::Engine::new().eval::<i64>(text()).unwrap().to_string(),
        "serde_json" => serde_json(input),
        "sha2" => sha2(input),
        "time" => time(text()),
        "uuid" => uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_DNS, input).to_string(),
        #[cfg(feature = "interpreters")]
        "wasmi" => wasmi(input),
        "winnow" => winnow(text()),
        "zune-png" => zune_png(input),
        other => panic!("no crate {other}"),
    }
}

fn base64(input: &[u8]) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let encoded = BASE64_STANDARD.encode(input);
    assert_eq!(BASE64_STANDARD.decode(&encoded).unwrap(), input);
    encoded
}

/// The most frequent word.
fn hashbrown(text: &str) -> String {
    let mut counts = hashbrown::HashMap::new();
    text.split_whitespace().for_each(|word| *counts.entry(word).or_insert(0) += 1);
    let (word, count) = counts.into_iter().max_by_key(|(word, count)| (*count, *word)).unwrap();
    format!("{word} {count}")
}

fn lz4_flex(input: &[u8]) -> String {
    let packed = lz4_flex::compress_prepend_size(input);
    assert_eq!(lz4_flex::decompress_size_prepended(&packed).unwrap(), input);
    packed.len().to_string()
}

/// An array of numbers.
fn minicbor(text: &str) -> String {
    let numbers: Vec<u64> = text.split(' ').map(|number| number.parse().unwrap()).collect();
    let bytes = minicbor::to_vec(&numbers).unwrap();
    assert_eq!(minicbor::decode::<Vec<u64>>(&bytes).unwrap(), numbers);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The content of a gzip file, whose header has a name or not.
fn miniz_oxide(input: &[u8]) -> String {
    let body = match input[3] {
        0 => &input[10..],
        8 => &input[11 + input[10..].iter().position(|byte| *byte == 0).unwrap()..],
        other => panic!("flags {other:#x}"),
    };
    String::from_utf8(miniz_oxide::inflate::decompress_to_vec(body).unwrap()).unwrap()
}

fn postcard(text: &str) -> String {
    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Line<'t> {
        number: u32,
        text: &'t str,
    }
    let lines: Vec<Line> =
        (0..).zip(text.lines()).map(|(number, text)| Line { number, text }).collect();
    let bytes = postcard::to_allocvec(&lines).unwrap();
    assert_eq!(postcard::from_bytes::<Vec<Line>>(&bytes).unwrap(), lines);
    bytes.len().to_string()
}

/// The links of a Markdown document.
fn regex_automata(text: &str) -> String {
    let links = regex_automata::meta::Regex::new(r"\]\([^)]+\)").unwrap();
    links.find_iter(text).count().to_string()
}

/// The names of the targets in cargo's metadata.
fn serde_json(input: &[u8]) -> String {
    let data: serde_json::Value = serde_json::from_slice(input).unwrap();
    let targets = data["packages"][0]["targets"].as_array().unwrap();
    let names: Vec<&str> = targets.iter().map(|target| target["name"].as_str().unwrap()).collect();
    names.join(" ")
}

fn sha2(input: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(input).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The time one day later, in seconds since 1970.
fn time(text: &str) -> String {
    use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};
    let time = OffsetDateTime::parse(text, &Rfc3339).unwrap() + Duration::DAY;
    time.unix_timestamp().to_string()
}

/// Calls the `double` of a module with 21.
#[cfg(feature = "interpreters")]
fn wasmi(input: &[u8]) -> String {
    use wasmi::{Engine, Linker, Module, Store};
    let engine = Engine::default();
    let module = Module::new(&engine, input).unwrap();
    let mut store = Store::new(&engine, ());
    let instance = Linker::<()>::new(&engine).instantiate(&mut store, &module).unwrap();
    let instance = instance.start(&mut store).unwrap();
    let double = instance.get_typed_func::<i32, i32>(&store, "double").unwrap();
    double.call(&mut store, 21).unwrap().to_string()
}

/// The sum of a list of numbers.
fn winnow(text: &str) -> String {
    use winnow::{Parser, Result, ascii::dec_uint, combinator::separated};
    fn list(input: &mut &str) -> Result<Vec<u32>> {
        separated(1.., dec_uint::<_, u32, _>, ", ").parse_next(input)
    }
    list.parse(text).unwrap().iter().sum::<u32>().to_string()
}

/// The width, the height and the last pixel.
fn zune_png(input: &[u8]) -> String {
    let mut decoder = zune_png::PngDecoder::new(input);
    let pixels = decoder.decode_raw().unwrap();
    let (width, height) = decoder.get_dimensions().unwrap();
    format!("{width} {height} {}", pixels.last().unwrap())
}
