//! The format `RowBinary`: values one behind the other, integers little-endian, strings with their
//! length before them as LEB128, a nullable value behind a byte that is 1 where it is missing.

use agent_audit_core::hash::Hash;

/// Rows on their way to the server.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn count(&mut self, mut len: usize) {
        loop {
            let low = u8::try_from(len & 0x7f).unwrap_or(0);
            len >>= 7;
            if len == 0 {
                self.bytes.push(low);
                return;
            }
            self.bytes.push(low | 0x80);
        }
    }

    pub(crate) fn string(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Bytes of a fixed number.
    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.fixed(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.fixed(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.fixed(&value.to_le_bytes());
    }

    /// Whether a nullable value follows.
    pub(crate) fn present(&mut self, present: bool) {
        self.bytes.push(u8::from(!present));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// What cannot be read: the server answered in another format than it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Rows of an answer.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let mut len = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            len |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(len).map_err(|_| Malformed);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.take(N)?.try_into().map_err(|_| Malformed)
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.count()?;
        self.take(len)
    }

    /// Text; none where it is not UTF-8.
    pub(crate) fn text(&mut self) -> Result<Option<&'a str>, Malformed> {
        Ok(str::from_utf8(self.bytes()?).ok())
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.fixed().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        self.fixed().map(i64::from_le_bytes)
    }

    pub(crate) fn hash(&mut self) -> Result<Hash, Malformed> {
        self.fixed().map(Hash::from_bytes)
    }

    /// A nullable value.
    pub(crate) fn nullable<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Option<T>, Malformed> {
        match self.u8()? {
            0 => read(self).map(Some),
            1 => Ok(None),
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Writer::default();
        for len in [0, 1, 127, 128, 300, 70_000] {
            out.string(&vec![7; len]);
        }
        out.i64(-5);
        out.u32(7);
        out.u64(u64::MAX);
        out.present(true);
        out.u8(9);
        out.present(false);
        let bytes = out.into_bytes();
        let mut rows = Reader::new(&bytes);
        for len in [0, 1, 127, 128, 300, 70_000] {
            assert_eq!(rows.bytes().unwrap().len(), len);
        }
        assert_eq!((rows.i64(), rows.u32(), rows.u64()), (Ok(-5), Ok(7), Ok(u64::MAX)));
        assert_eq!(rows.nullable(Reader::u8), Ok(Some(9)));
        assert_eq!(rows.nullable(Reader::u8), Ok(None));
        assert!(rows.is_empty());
    }

    #[test]
    fn what_ends_too_early_is_malformed() {
        assert_eq!(Reader::new(&[5, 1, 2]).bytes(), Err(Malformed));
        assert_eq!(Reader::new(&[0x80]).count(), Err(Malformed));
        assert_eq!(Reader::new(&[0xff; 11]).count(), Err(Malformed));
        assert_eq!(Reader::new(&[2]).nullable(Reader::u8), Err(Malformed));
        assert_eq!(Reader::new(&[]).i64(), Err(Malformed));
    }
}
