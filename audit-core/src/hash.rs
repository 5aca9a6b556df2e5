//! The 32-byte SHA-256 value that links, names and proves every event.
//!
//! Two domains, never mixed (RFC 6962 section 2.1): a leaf is hashed behind the byte `0x00`, a
//! tree node behind `0x01`. No event bytes can therefore pass for a node, and no pair of nodes
//! for an event.
//!
//! In text a hash is exactly 64 lower-case hexadecimal digits. Reading is as strict as writing, so
//! one hash has one spelling and equal text means equal hash.

#[cfg(target_arch = "x86_64")]
mod avx512;
mod lanes;

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest, Sha256};

pub(crate) use lanes::{Message, digests, leaves_and_macs};

/// A SHA-256 value: an event hash, a tree node or a tree root.
///
/// `Display`, `Debug`, `LowerHex` and serde all use the same 64 lower-case hexadecimal digits.
///
/// ```
/// use agent_audit_core::hash::{Hash, leaf};
///
/// let hash = leaf(b"");
/// assert_eq!(
///     hash.to_string(),
///     "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
/// );
/// assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
/// assert!("6E34".parse::<Hash>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash([u8; 32]);

/// Hashes the bytes of one event: SHA-256(0x00 ‖ bytes), the leaf hash of RFC 6962.
///
/// ```
/// use agent_audit_core::hash::leaf;
///
/// assert_ne!(leaf(b"paid 10 EUR"), leaf(b"paid 100 EUR"));
/// ```
#[must_use]
pub fn leaf(bytes: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update([0x00]);
    hasher.update(bytes);
    Hash(hasher.finalize().into())
}

/// Hashes the bytes of one event piece by piece, to the same value as [`leaf`].
#[cfg(feature = "writer")]
pub(crate) struct LeafHasher(Sha256);

#[cfg(feature = "writer")]
impl LeafHasher {
    pub(crate) fn new() -> Self {
        Self(Sha256::new_with_prefix([0x00]))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(self) -> Hash {
        Hash(self.0.finalize().into())
    }
}

/// Hashes two subtrees into their parent: SHA-256(0x01 ‖ left ‖ right), the node hash of RFC 6962.
///
/// ```
/// use agent_audit_core::hash::{leaf, node};
///
/// let (left, right) = (leaf(b"a"), leaf(b"b"));
/// assert_ne!(node(&left, &right), node(&right, &left));
/// ```
#[must_use]
pub fn node(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0x01; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash(Sha256::digest(bytes).into())
}

impl Hash {
    /// Thirty-two zero bytes: the previous event hash of the first event of a chain.
    pub const ZERO: Self = Self([0; 32]);

    /// Takes the 32 bytes of a hash that was computed elsewhere.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Writes the 64 lower-case hexadecimal digits into `out`, without allocating.
    pub fn write_hex(&self, out: &mut [u8; 64]) {
        const_hex::encode_to_slice(self.0, out).expect("64 digits have room in 64 bytes");
    }

    /// The hash of these digits; nothing where one is not a lower-case hexadecimal digit.
    pub(crate) fn from_digits(digits: &[u8; 64]) -> Option<Self> {
        // The library takes capitals too, which are another spelling.
        let capital = digits.iter().fold(false, |any, byte| any | byte.is_ascii_uppercase());
        let mut bytes = [0; 32];
        (!capital && const_hex::decode_to_slice(digits, &mut bytes).is_ok()).then_some(Self(bytes))
    }

    /// Hands the hexadecimal text to `use_text`, from the stack.
    fn with_hex<T>(&self, use_text: impl FnOnce(&str) -> T) -> T {
        let mut out = [0; 64];
        self.write_hex(&mut out);
        use_text(std::str::from_utf8(&out).expect("hexadecimal digits are ASCII"))
    }
}

/// Text that is not 64 lower-case hexadecimal digits.
///
/// ```
/// use agent_audit_core::hash::Hash;
///
/// let error = "6E".repeat(32).parse::<Hash>().unwrap_err();
/// assert!(error.to_string().ends_with("found byte 0x45 at offset 1"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a hash: expected 64 lower-case hexadecimal digits, found {found}")]
pub struct ParseHashError {
    found: String,
}

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits: &[u8; 64] = text
            .as_bytes()
            .try_into()
            .map_err(|_| ParseHashError { found: format!("{} bytes", text.len()) })?;
        if let Some(hash) = Self::from_digits(digits) {
            return Ok(hash);
        }
        let at =
            digits.iter().position(|b| !matches!(b, b'0'..=b'9' | b'a'..=b'f')).unwrap_or_default();
        Err(ParseHashError { found: format!("byte {:#04x} at offset {at}", digits[at]) })
    }
}

impl fmt::LowerHex for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_hex(|text| f.write_str(text))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.with_hex(|text| f.pad(text))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl AsRef<[u8]> for Hash {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.with_hex(|text| serializer.serialize_str(text))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HexVisitor;

        impl Visitor<'_> for HexVisitor {
            type Value = Hash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("64 lower-case hexadecimal digits")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Hash, E> {
                text.parse().map_err(E::custom)
            }
        }

        deserializer.deserialize_str(HexVisitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Hash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Hash".into()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        concat!(module_path!(), "::Hash").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "SHA-256 value as 64 lower-case hexadecimal digits",
            "type": "string",
            "pattern": "^[0-9a-f]{64}$",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// SHA-256("abc"), FIPS 180-2 appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn leaf_and_node_use_their_own_prefix() {
        let plain = |parts: &[&[u8]]| Hash(Sha256::digest(parts.concat()).into());
        assert_eq!(plain(&[b"abc"]).to_string(), ABC);
        assert_eq!(leaf(b"abc"), plain(&[&[0x00], b"abc"]));
        let (left, right) = (leaf(b"l"), leaf(b"r"));
        let children = [left.as_bytes().as_slice(), right.as_bytes()].concat();
        assert_eq!(node(&left, &right), plain(&[&[0x01], &children]));
        assert_ne!(leaf(&children), node(&left, &right));
    }

    #[test]
    fn text_that_is_not_a_hash_is_refused() {
        for bad in ["", "0", &ABC[1..], &format!("{ABC}0"), &ABC.to_uppercase()] {
            assert!(bad.parse::<Hash>().is_err(), "{bad}");
        }
        for bad in ["g", "+", " ", "-", "\0", "/", ":", "`", "G"] {
            for at in [0, 1, 31, 63] {
                let mut text = ABC.to_owned();
                text.replace_range(at..=at, bad);
                let message = text.parse::<Hash>().unwrap_err().to_string();
                assert!(message.ends_with(&format!("offset {at}")), "{message}");
            }
        }
        // Sixty-four bytes, but not sixty-four characters.
        assert!("é".repeat(32).parse::<Hash>().is_err());
    }

    #[test]
    fn every_text_form_is_the_same() {
        let hash: Hash = ABC.parse().unwrap();
        assert_eq!(format!("{hash} {hash:?} {hash:x}"), format!("{ABC} {ABC} {ABC}"));
        assert_eq!(format!("{hash:.8}"), &ABC[..8]);
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{ABC}\""));
        assert_eq!(Hash::ZERO.to_string(), "0".repeat(64));
        assert!(serde_json::from_str::<Hash>("12").is_err());
    }

    proptest! {
        #[test]
        fn text_and_json_round_trip(bytes: [u8; 32]) {
            let hash = Hash::from_bytes(bytes);
            prop_assert_eq!(hash.to_string().parse::<Hash>().unwrap(), hash);
            let json = serde_json::to_vec(&hash).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Hash>(&json).unwrap(), hash);
        }
    }
}
