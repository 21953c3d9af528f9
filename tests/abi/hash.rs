//! The document's hash, computed from its words alone (ABI, Signatures SG-2 to SG-5).

/// A type, as far as its hash and its layout depend on it.
pub enum Type {
    /// Name, size, alignment.
    Named(&'static str, u64, u64),
    /// Name, size and alignment, and the types between the angle brackets.
    Of(&'static str, u64, u64, Box<Type>),
    Option(Box<Type>),
    List(Box<Type>),
    Array(Box<Type>, u64),
    Tuple(Vec<Type>),
    Result(Box<Type>, Box<Type>),
    Struct(&'static str, Vec<Field>),
    /// Name, integer, variants.
    Enum(&'static str, Box<Type>, Vec<Variant>),
}

pub type Field = (&'static str, Type);
pub type Variant = (&'static str, i64, Vec<Field>);

/// SG-2.
#[derive(Default)]
pub struct Input(pub Vec<u8>);

impl Input {
    fn number(mut self, number: u64) -> Self {
        self.0.extend(number.to_le_bytes());
        self
    }
    fn text(self, text: &str) -> Self {
        let mut input = self.number(text.len() as u64);
        input.0.extend(text.bytes());
        input
    }
    /// SG-3.
    fn hash(&self) -> u64 {
        let mut h = 0xcbf2_9ce4_8422_2325_u64;
        for byte in &self.0 {
            h = (h ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        h ^ h >> 31
    }
}

pub fn up(size: u64, align: u64) -> u64 {
    size.div_ceil(align) * align
}

/// ABI, Layout L-2: the offset of each field, after `start` bytes; the end; the alignment.
pub fn place(start: (u64, u64), fields: &[Field]) -> (Vec<u64>, u64, u64) {
    let (mut end, mut most) = start;
    let mut offsets = Vec::new();
    for (_, ty) in fields {
        let (size, align) = ty.layout();
        offsets.push(up(end, align));
        end = up(end, align) + size;
        most = most.max(align);
    }
    (offsets, end, most)
}

impl Type {
    fn name(&self) -> &'static str {
        match self {
            Self::Named(name, ..) => name,
            _ => unreachable!("not an integer"),
        }
    }

    pub fn layout(&self) -> (u64, u64) {
        match self {
            Self::Named(_, size, align) | Self::Of(_, size, align, _) => (*size, *align),
            Self::Option(ty) => match **ty {
                // ABI, Types TY-10
                Self::Of(_, size, align, _) => (size, align),
                Self::Named("ForeignBuf" | "ForeignStr", size, align) => (size, align),
                // ABI, Types TY-11
                _ => {
                    let (size, align) = ty.layout();
                    (up(up(4, align) + size, align.max(4)), align.max(4))
                }
            },
            Self::Result(..) => unreachable!("has no wire form"),
            // ABI, Packed values PK-2
            Self::List(_) => (16, 8),
            // ABI, Types TY-14
            Self::Array(ty, len) => {
                let (size, align) = ty.layout();
                (size * len, align)
            }
            // ABI, Types TY-15
            Self::Tuple(types) => {
                let (mut end, mut most) = (0, 1);
                for (size, align) in types.iter().map(Self::layout) {
                    end = up(end, align) + size;
                    most = most.max(align);
                }
                (up(end, most), most)
            }
            Self::Struct(_, fields) => {
                let (_, end, align) = place((0, 1), fields);
                (up(end, align), align)
            }
            // ABI, Types TY-8 and TY-9
            Self::Enum(_, repr, variants) => {
                let places = variants.iter().map(|(_, _, fields)| place(repr.layout(), fields));
                let (end, align) = places.fold(repr.layout(), |(end, align), place| {
                    (end.max(place.1), align.max(place.2))
                });
                (up(end, align), align)
            }
        }
    }

    pub fn hash(&self) -> u64 {
        let input = Input::default();
        let declared = |kind, name| {
            let (size, align) = self.layout();
            Input::default().text(kind).text(name).number(size).number(align)
        };
        let fields = |mut input: Input, start, fields: &[Field]| {
            let (offsets, ..) = place(start, fields);
            for ((name, ty), offset) in fields.iter().zip(offsets) {
                if !name.is_empty() {
                    input = input.text(name);
                }
                input = input.number(offset).number(ty.hash());
            }
            input
        };
        match self {
            Self::Named(name, ..) => input.text(name),
            Self::Of(name, _, _, ty) => input.text(name).number(ty.hash()),
            Self::Option(ty) => input.text("Option").number(ty.hash()),
            Self::List(ty) => input.text("List").number(ty.hash()),
            Self::Array(ty, len) => input.text("array").number(ty.hash()).number(*len),
            Self::Tuple(types) => {
                let start = input.text("tuple").number(types.len() as u64);
                types.iter().fold(start, |input, ty| input.number(ty.hash()))
            }
            Self::Result(ok, err) => input.text("Result").number(ok.hash()).number(err.hash()),
            Self::Struct(name, list) => fields(declared("struct", name), (0, 1), list),
            Self::Enum(name, repr, variants) => {
                let start = declared("enum", name).text(repr.name());
                variants.iter().fold(start, |input, (name, number, list)| {
                    fields(input.text(name).number(*number as u64), repr.layout(), list)
                })
            }
        }
        .hash()
    }
}

pub fn function(name: &str, parameters: &[Type], returned: &Type) -> (Input, u64) {
    let start =
        Input::default().text("fn").text("Vectors").text(name).number(parameters.len() as u64);
    let input = parameters.iter().fold(start, |input, ty| input.number(ty.hash()));
    let input = input.number(returned.hash());
    let hash = input.hash();
    (input, hash)
}
