//! Packed values in calls that are not declared: every type in them, there and back, and what does not fit.

use vmffi::{
    CallError, ForeignPacked, List, Peer, Serve, SharedPacked,
    contract::Contract,
    dynamic::{DynamicError, Value},
    loopback::Loopback,
};

use super::some;

vmffi::ffi_interface! {
    pub struct Header<'a> { name: &'a str, value: &'a [u8] }

    pub struct Page<'a> {
        nr: u16,
        title: Option<&'a str>,
        headers: List<'a, Header<'a>>,
        pair: (&'a str, [&'a str; 2]),
        sizes: List<'a, u32>,
        bits: List<'a, u8>,
        kind: Kind<'a>,
    }

    pub enum Kind<'a>: u8 { None, Named { name: &'a str, nr: i16 }, Bytes(&'a [u8]) }

    pub interface Packs {
        fn page(page: ForeignPacked<Page>) -> ForeignPacked<Page>;
        fn kinds(before: u8, kinds: Option<ForeignPacked<List<Kind>>>) -> Option<ForeignPacked<List<Kind>>>;
        fn number(value: ForeignPacked<u64>) -> ForeignPacked<u64>;
    }
}

struct Server;

impl Packs for Server {
    fn page(
        &self,
        peer: &Peer,
        page: ForeignPacked<Page>,
    ) -> Result<SharedPacked<Page<'_>>, CallError> {
        SharedPacked::copy_from(peer, &page.read()?)
    }
    fn kinds(
        &self,
        peer: &Peer,
        _: u8,
        kinds: Option<ForeignPacked<List<Kind>>>,
    ) -> Result<Option<SharedPacked<List<'_, Kind<'_>>>>, CallError> {
        kinds.map(|kinds| SharedPacked::copy_from(peer, &kinds.read()?)).transpose()
    }
    fn number(
        &self,
        peer: &Peer,
        value: ForeignPacked<u64>,
    ) -> Result<SharedPacked<u64>, CallError> {
        SharedPacked::copy_from(peer, &value.read()?)
    }
}

vmffi::serve!(Server: Packs);

fn both(test: impl Fn(&Peer, &Contract<'_>)) {
    let contract = Contract::read(Server::CONTRACT).unwrap();
    let pair = Loopback::new(Server, Server).unwrap();
    for peer in [pair.host(), pair.guest()] {
        test(peer, &contract);
        assert_eq!(peer.arena_stats().blocks, 0);
    }
}

fn bytes(bytes: &'static [u8]) -> Value<'static> {
    Value::from(bytes)
}

fn header(name: &'static str, value: &'static [u8]) -> Value<'static> {
    Value::structure([("name", name.into()), ("value", bytes(value))])
}

fn named(name: &'static str) -> Value<'static> {
    let fields = vec![("name".into(), name.into()), ("nr".into(), Value::I16(-3))];
    Value::Enum("Named".into(), fields)
}

fn page(
    title: Value<'static>,
    headers: Vec<Value<'static>>,
    kind: Value<'static>,
) -> Value<'static> {
    let both = Value::List(vec!["".into(), "second".into()]);
    Value::structure([
        ("nr", Value::U16(7)),
        ("title", title),
        ("headers", Value::List(headers)),
        ("pair", Value::List(vec!["first".into(), both])),
        ("sizes", Value::List(vec![Value::U32(1), Value::U32(u32::MAX)])),
        ("bits", bytes(b"\x01\x02")),
        ("kind", kind),
    ])
}

#[test]
fn packed_values_go_there_and_back() {
    both(|peer, contract| {
        let of = |name| contract.served("Packs", name).unwrap();
        let pages = [
            page(some("title".into()), vec![header("a", b"\xff"), header("", b"")], named("ü")),
            page(Value::None, vec![], Value::Enum("Bytes".into(), vec![("".into(), bytes(b"b"))])),
            page(some("".into()), vec![header("only", b"1")], Value::variant("None")),
        ];
        for page in pages {
            assert_eq!(peer.call_dynamic(of("page"), std::slice::from_ref(&page)).unwrap(), page);
        }
        let kinds = some(Value::List(vec![named("x"), Value::variant("None"), named("")]));
        for kinds in [kinds, some(Value::List(vec![])), Value::None] {
            let result = peer.call_dynamic(of("kinds"), &[1_u8.into(), kinds.clone()]);
            assert_eq!(result.unwrap(), kinds);
        }
        assert_eq!(peer.call_dynamic(of("number"), &[5_u8.into()]).unwrap(), Value::U64(5));
    });
}

#[test]
fn what_does_not_fit_is_told_at_its_place() {
    both(|peer, contract| {
        let of = |name| contract.served("Packs", name).unwrap();
        let told = |name, arguments: &[Value<'_>]| {
            let Err(DynamicError::Argument(bad)) = peer.call_dynamic(of(name), arguments) else {
                panic!("{name} takes {arguments:?}");
            };
            bad.to_string()
        };
        let bad = page(Value::None, vec![header("a", b""), 7_u8.into()], Value::variant("None"));
        assert_eq!(told("page", &[bad]), "`page.headers[1]` is a Header, but the U8 7 was given");
        let bad = page(some(bytes(b"t")), vec![], Value::variant("None"));
        assert_eq!(told("page", &[bad]), "`page.title` is a &str, but 1 bytes was given");
        let kinds = some(Value::List(vec![Value::variant("Other")]));
        let text = "`kinds[0]` is a Kind, but has no variant Other";
        assert_eq!(told("kinds", &[1_u8.into(), kinds]), text);
    });
}

#[test]
fn results_have_a_maximum() {
    both(|peer, contract| {
        let of = contract.served("Packs", "page").unwrap();
        let page = page(Value::None, vec![header("a", b"b"); 100], Value::variant("None"));
        let mut good = None;
        for max in (0..40_000).step_by(500) {
            match peer.call_dynamic_with_max(of, std::slice::from_ref(&page), max) {
                Ok(same) => {
                    assert_eq!(same, page);
                    good.get_or_insert(max);
                }
                Err(error) => assert!(good.is_none(), "{max}: {error}"),
            }
        }
        // More than the bytes, and less than a small multiple of them.
        assert!(good.is_some_and(|max| (3_000..30_000).contains(&max)), "{good:?}");
    });
}
