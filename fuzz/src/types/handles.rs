//! Handles: what each reader of one sees.

use std::io::Read;

use vmffi::{
    CallError, ErrorKind, Foreign, ForeignBuf, ForeignPacked, ForeignSlice, ForeignStr, List, Peer,
    Shared, SharedBuf, SharedPacked, SharedSlice, SharedStr,
};

use super::{
    super::{
        model::Ty,
        packed::{self, NOTE, Note},
        world::Handle,
    },
    Look, Value, len, show,
};

impl<T: Value> Look for Foreign<T> {
    const TY: Ty = Ty::Foreign(&T::TY);
    fn look(&self, seen: &mut Vec<u8>) {
        let mut again = Vec::new();
        let from = seen.len();
        show(self.read(), seen);
        show(self.read(), &mut again);
        assert_eq!(seen[from..], again, "a second read agrees");
    }
    fn handles(self, all: &mut Vec<Handle>) {
        all.push(Handle::new(self));
    }
    fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<Self::Shared, CallError> {
        let value = T::value();
        value.look(seen);
        Shared::new(peer, value)
    }
}

impl Look for ForeignBuf {
    const TY: Ty = Ty::Buffer { text: false };
    fn look(&self, seen: &mut Vec<u8>) {
        let bytes = self.read_vec().expect("a checked buffer");
        assert_eq!((bytes.len(), bytes.is_empty()), (self.len(), self.is_empty()));
        let mut other = vec![7];
        self.append_to(&mut other).expect("room");
        assert_eq!(other[1..], bytes);
        other.clear();
        let mut reader = self.reader();
        reader.read_to_end(&mut other).expect("a checked buffer");
        assert_eq!(other, bytes);
        assert_eq!([reader.read(&mut other).ok(), reader.read(&mut other).ok()], [Some(0); 2]);
        let mut part = [0; 77];
        let part = self.read_into(&mut part).expect("a checked buffer");
        assert_eq!(*part, bytes[..bytes.len().min(77)]);
        let mut one = [0];
        for at in [0, bytes.len() / 2, bytes.len().wrapping_sub(1), bytes.len(), usize::MAX] {
            let read = self.read_at(at, &mut one).map(|()| one[0]).map_err(|error| error.kind());
            assert_eq!(read, bytes.get(at).copied().ok_or(ErrorKind::BadPointer));
        }
        self.read_at(bytes.len(), &mut []).expect("nothing, at the end");
        // SAFETY: no thread of this process writes while the slice lives.
        assert_eq!(unsafe { self.as_slice_unchecked() }.expect("a checked buffer"), bytes);
        seen.extend(&bytes);
        seen.extend(bytes.len().to_le_bytes());
    }
    fn handles(self, all: &mut Vec<Handle>) {
        all.push(Handle::new(self));
    }
    fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<SharedBuf, CallError> {
        let (more, len) = (len(3), len(600));
        let mut buf = SharedBuf::with_capacity(peer, len + more)?;
        for i in 0..len {
            buf.extend_from_slice(&[(i ^ len) as u8])?;
        }
        if more == 3 {
            buf.truncate(len / 2);
        }
        seen.extend(buf.as_slice());
        seen.extend(buf.len().to_le_bytes());
        Ok(buf)
    }
}

impl Look for ForeignStr {
    const TY: Ty = Ty::Buffer { text: true };
    fn look(&self, seen: &mut Vec<u8>) {
        // SAFETY: no thread of this process writes while the text lives.
        let text = unsafe { self.as_str_unchecked() };
        assert_eq!(self.read_string().as_deref(), text.as_deref());
        let mut local = [0; 60];
        match (self.read_into(&mut local), text.clone()) {
            (read, text) if self.len() <= 60 => assert_eq!(read, text),
            (read, _) => {
                assert_eq!(read.map_err(|error| error.kind()), Err(ErrorKind::OutOfMemory))
            }
        }
        match text {
            Ok(text) => {
                assert_eq!((text.len(), text.is_empty()), (self.len(), self.is_empty()));
                seen.extend(text.bytes());
                seen.extend(text.len().to_le_bytes());
            }
            Err(error) => seen.extend([0xee, error.kind() as u8]),
        }
    }
    fn handles(self, all: &mut Vec<Handle>) {
        all.push(Handle::new(Self::from(ForeignBuf::from(self))));
    }
    fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<SharedStr, CallError> {
        let text = "grüße, 字".chars().cycle().take(len(80)).collect::<String>();
        seen.extend(text.bytes());
        seen.extend(text.len().to_le_bytes());
        SharedStr::copy_from(peer, &text)
    }
}

impl<T: Value> Look for ForeignSlice<T> {
    const TY: Ty = Ty::Slice(&T::TY);
    fn look(&self, seen: &mut Vec<u8>) {
        let from = seen.len();
        let mut good = Vec::new();
        for (i, value) in self.iter().enumerate() {
            let same = self.get(i).map(|value| value.expect("below the length"));
            let (at, mut again) = (seen.len(), Vec::new());
            show(same, &mut again);
            match value {
                Ok(value) => {
                    value.look(seen);
                    good.push(value);
                }
                Err(error) => seen.extend([0xee, error.kind() as u8]),
            }
            assert_eq!(seen[at..], again);
        }
        assert!(self.get(self.len()).expect("nothing is read").is_none());
        let size = T::TY.layout().0;
        let all = self.read_vec();
        assert_eq!(all.is_ok(), good.len() == self.len());
        let looks = |values: &[T]| {
            let mut seen = Vec::new();
            values.iter().for_each(|value| value.look(&mut seen));
            seen
        };
        match all {
            Ok(all) => assert_eq!(seen[from..], looks(&all)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::BadValue),
        }
        if let Ok(read) = self.read_into(&mut good) {
            let read = looks(read);
            assert_eq!(seen[from..from + read.len()], read, "{size} bytes a value");
        }
        assert_eq!(self.is_empty(), matches!(self.len(), 0));
        seen.extend(self.len().to_le_bytes());
    }
    fn handles(self, all: &mut Vec<Handle>) {
        all.push(Handle::new(self));
    }
    fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<SharedSlice<T>, CallError> {
        let values = (0..len(5)).map(|_| T::value()).collect::<Vec<_>>();
        values.iter().for_each(|value| value.look(seen));
        seen.extend(values.len().to_le_bytes());
        SharedSlice::copy_from(peer, &values)
    }
}

impl Look for ForeignPacked<Note<'static>> {
    const TY: Ty = Ty::Packed(&NOTE);
    fn look(&self, seen: &mut Vec<u8>) {
        // Each time from the peer's memory: what `read` has copied or checked stays as it is.
        let mut local = vec![0; self.byte_len()];
        match self.read_into(&mut local) {
            Ok(note) => packed::Look::look(&note, seen),
            Err(error) => seen.extend([0xee, error.kind() as u8]),
        }
        seen.extend(self.byte_len().to_le_bytes());
    }
    fn handles(self, all: &mut Vec<Handle>) {
        all.push(Handle::new(self));
    }
    fn make(peer: &Peer, seen: &mut Vec<u8>) -> Result<SharedPacked<Note<'static>>, CallError> {
        let text = "grüße, 字".chars().cycle().take(len(80)).collect::<String>();
        let flags = (0..len(5)).map(|_| bool::value()).collect::<Vec<_>>();
        let note = Note { text: &text, flags: List::from(&flags[..]), nr: u16::value() };
        packed::Look::look(&note, seen);
        let packed = SharedPacked::copy_from(peer, &note)?;
        seen.extend(packed.byte_len().to_le_bytes());
        Ok(packed)
    }
}
