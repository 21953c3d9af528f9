//! Writes contracts by the document, and not with the crate.

#[derive(Clone, Default)]
pub struct Bytes {
    records: usize,
    body: Vec<u8>,
}

impl Bytes {
    pub fn name(self, name: &str) -> Self {
        self.len(name.len()).raw(name.as_bytes())
    }
    pub fn len(self, len: usize) -> Self {
        self.raw(&(len as u16).to_le_bytes())
    }
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.body.extend_from_slice(bytes);
        self
    }
    pub fn begin(mut self, kind: u8) -> Self {
        self.records += 1;
        self.raw(&[kind])
    }
    /// The bytes of the contract.
    pub fn all(&self) -> Vec<u8> {
        self.says(self.records)
    }
    /// The bytes of the contract, with this number of records.
    pub fn says(&self, records: usize) -> Vec<u8> {
        [&(records as u16).to_le_bytes(), &*self.body].concat()
    }
    pub fn builtin(self, name: &str, of: &[u16]) -> Self {
        let start = self.begin(0).name(name).raw(&[of.len() as u8]);
        of.iter().fold(start, |bytes, index| bytes.len((*index).into()))
    }
    pub fn structure(self, name: &str, size: u32, align: u32, fields: &[(&str, u32, u16)]) -> Self {
        let start = self.begin(1).name(name).raw(&size.to_le_bytes()).raw(&align.to_le_bytes());
        start.fields(fields)
    }
    pub fn fields(self, fields: &[(&str, u32, u16)]) -> Self {
        fields.iter().fold(self.len(fields.len()), |bytes, (name, offset, of)| {
            bytes.name(name).raw(&offset.to_le_bytes()).len((*of).into())
        })
    }
    pub fn function(self, flags: u8, path: [&str; 2], all: &[(&str, u16)], returned: u16) -> Self {
        let start = self.begin(3).raw(&[flags]).name(path[0]).name(path[1]).len(all.len());
        let all = all.iter().fold(start, |bytes, (name, of)| bytes.name(name).len((*of).into()));
        all.len(returned.into())
    }
}
