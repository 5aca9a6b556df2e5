//! The Ed25519 keys that sign checkpoints, and their text forms.
//!
//! | what | text |
//! |---|---|
//! | public key | `ed25519:` and the base64 of its 32 bytes |
//! | public key id | the first 8 bytes of SHA-256(public key), as 16 lower-case hexadecimal digits |
//! | seed in the environment | the base64 of its 32 bytes |
//! | seed in a file | `agent-audit-ed25519-seed-v1`, a space, the base64 of its 32 bytes, a newline |
//!
//! Base64 is the standard alphabet with padding (RFC 4648 section 4), read strictly.
//!
//! Whoever holds a seed can sign any history. A seed is erased from memory when its key is
//! dropped and appears in no `Debug` output and in no error.

#[cfg(feature = "writer")]
mod file;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

#[cfg(feature = "writer")]
pub use file::{KeyFileError, SIGNING_KEY_VARIABLE};

/// The length of an Ed25519 signature in bytes.
pub const SIGNATURE_LENGTH: usize = 64;

/// An Ed25519 private key.
///
/// Erased from memory when dropped; `Debug` shows the id of its public key alone. Signing is
/// deterministic (RFC 8032): the same message has the same signature.
///
/// ```
/// use agent_audit_core::key::SigningKey;
///
/// let key = SigningKey::generate().unwrap();
/// let signature = key.sign(b"message");
/// assert!(key.verifying_key().verify(b"message", &signature).is_ok());
/// assert!(key.verifying_key().verify(b"massage", &signature).is_err());
/// ```
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Makes a new key from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// If the operating system gives no randomness.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(|_| KeyError(Fault::Randomness))?;
        Ok(Self::from_seed(&seed))
    }

    /// Takes the 32-byte seed of RFC 8032; every seed is a key.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed))
    }

    /// Reads a seed from its base64.
    ///
    /// # Errors
    ///
    /// If the text is not the base64 of 32 bytes. The error does not repeat the text.
    pub fn from_seed_base64(text: &str) -> Result<Self, KeyError> {
        let seed = Zeroizing::new(decode_32(text).ok_or(KeyError(Fault::Seed))?);
        Ok(Self::from_seed(&seed))
    }

    /// The base64 of the seed, to store in a secret manager.
    #[must_use]
    pub fn to_seed_base64(&self) -> SeedText {
        SeedText(Zeroizing::new(STANDARD.encode(self.0.as_bytes())))
    }

    /// The public key.
    #[must_use]
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs the message.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LENGTH] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key().id())
    }
}

/// The text of a seed, erased from memory when dropped and hidden in `Debug`.
///
/// ```
/// use agent_audit_core::key::SigningKey;
///
/// let key = SigningKey::from_seed(&[7; 32]);
/// let text = key.to_seed_base64();
/// assert_eq!(format!("{text:?}"), "SeedText(hidden)");
/// let copy = SigningKey::from_seed_base64(text.expose()).unwrap();
/// assert_eq!(copy.verifying_key(), key.verifying_key());
/// ```
pub struct SeedText(Zeroizing<String>);

impl SeedText {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SeedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SeedText(hidden)")
    }
}

/// An Ed25519 public key.
///
/// In text and in serde `ed25519:` and the base64 of its 32 bytes. A key of small order, under
/// which one signature fits many messages, cannot be built.
///
/// ```
/// use agent_audit_core::key::VerifyingKey;
///
/// let text = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
/// let key: VerifyingKey = text.parse().unwrap();
/// assert_eq!(key.to_string(), text);
/// assert_eq!(key.id(), "21fe31dfa154a261");
/// ```
#[derive(Clone, Copy)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

impl VerifyingKey {
    /// Takes the 32 bytes of RFC 8032.
    ///
    /// # Errors
    ///
    /// If the bytes are not a point of the curve, or one of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        ed25519_dalek::VerifyingKey::from_bytes(bytes)
            .ok()
            .filter(|key| !key.is_weak())
            .map(Self)
            .ok_or(KeyError(Fault::Point))
    }

    /// The 32 bytes of RFC 8032.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// A short name for the key: 16 hexadecimal digits of its SHA-256, for logs and reports.
    ///
    /// Not strong enough to trust a key by.
    #[must_use]
    pub fn id(&self) -> String {
        let digest = crate::hash::Hash::from_bytes(Sha256::digest(self.as_bytes()).into());
        format!("{digest:.16}")
    }

    /// Checks the signature over the message.
    ///
    /// Strict: of the spellings that some Ed25519 implementations accept for one signature, only
    /// that of RFC 8032 passes.
    ///
    /// # Errors
    ///
    /// If the signature is not by this key over this message.
    pub fn verify(
        &self,
        message: &[u8],
        signature: &[u8; SIGNATURE_LENGTH],
    ) -> Result<(), KeyError> {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.0.verify_strict(message, &signature).map_err(|_| KeyError(Fault::Signature))
    }
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for VerifyingKey {}

impl std::hash::Hash for VerifyingKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.as_bytes()))
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text
            .strip_prefix(PUBLIC_PREFIX)
            .and_then(decode_32)
            .ok_or(KeyError(Fault::PublicText))?;
        Self::from_bytes(&bytes)
    }
}

impl Serialize for VerifyingKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VerifyingKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'_, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for VerifyingKey {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VerifyingKey".into()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        concat!(module_path!(), "::VerifyingKey").into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Ed25519 public key, base64 of its 32 bytes behind its algorithm",
            "type": "string",
            "pattern": "^ed25519:[A-Za-z0-9+/]{43}=$",
        })
    }
}

/// Why a key cannot be had or a signature does not hold.
///
/// ```
/// use agent_audit_core::key::SigningKey;
///
/// let error = SigningKey::from_seed_base64("hunter2").unwrap_err();
/// assert!(!error.is_bad_signature());
/// assert!(!error.to_string().contains("hunter2"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct KeyError(Fault);

impl KeyError {
    /// Whether a well-formed key refused a signature, as opposed to a malformed key.
    #[must_use]
    pub fn is_bad_signature(&self) -> bool {
        self.0 == Fault::Signature
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("the operating system gave no randomness for a new key")]
    Randomness,
    #[error("the signing key is not the base64 of a 32-byte seed (44 characters with padding)")]
    Seed,
    #[error("the public key is not `ed25519:` followed by the base64 of 32 bytes")]
    PublicText,
    #[error("the public key is not a usable point of the curve")]
    Point,
    #[error("the signature is not by this key over this message")]
    Signature,
}

const PUBLIC_PREFIX: &str = "ed25519:";

/// Strict base64 of exactly 32 bytes.
fn decode_32(text: &str) -> Option<[u8; 32]> {
    // The engine asks for room by the length of the text, which counts the padding.
    let mut bytes = Zeroizing::new([0; 33]);
    if text.len() != 44 {
        return None;
    }
    let length = STANDARD.decode_slice(text, bytes.as_mut_slice()).ok()?;
    bytes[..length].try_into().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// RFC 8032 section 7.1, test 1: an empty message.
    #[test]
    fn signs_as_rfc_8032() {
        let key =
            SigningKey::from_seed_base64("nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=").unwrap();
        assert_eq!(
            key.verifying_key().to_string(),
            "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
        );
        let expected = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                        5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        let signature: String = key.sign(b"").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(signature, expected);
    }

    #[test]
    fn a_secret_is_in_no_output() {
        let seed = [0x5a; 32];
        let key = SigningKey::from_seed(&seed);
        let text = key.to_seed_base64();
        let shown = format!("{key:?} {text:?}");
        assert!(!shown.contains(text.expose()), "{shown}");
        assert!(shown.contains(&key.verifying_key().id()), "{shown}");
        let broken = text.expose().replace('W', "!");
        let message = SigningKey::from_seed_base64(&broken).unwrap_err();
        assert!(!format!("{message} {message:?}").contains('!'));
    }

    #[test]
    fn text_that_is_not_a_key_is_refused() {
        let key = SigningKey::from_seed(&[1; 32]).verifying_key();
        let text = key.to_string();
        let bare = text.strip_prefix("ed25519:").unwrap();
        for bad in [
            "",
            "ed25519:",
            bare,
            &format!("Ed25519:{bare}"),
            &format!("{text}\n"),
            &format!("{text}="),
            &text.replace('=', ""),
            &text.replace("ed25519:", "ed25519: "),
        ] {
            assert!(bad.parse::<VerifyingKey>().is_err(), "{bad}");
        }
        // The last digit of the base64 of 32 bytes carries two bits that must be zero.
        let mut loose = text.clone().into_bytes();
        let last = loose.len() - 2;
        loose[last] += 1;
        let loose = String::from_utf8(loose).unwrap();
        assert!(loose.parse::<VerifyingKey>().is_err(), "{loose}");
    }

    #[test]
    fn keys_of_small_order_and_non_points_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        assert!(VerifyingKey::from_bytes(&identity).is_err());
        assert!(VerifyingKey::from_bytes(&[0; 32]).is_err());
        let mut not_a_point = [0; 32];
        not_a_point[0] = 2;
        assert!(VerifyingKey::from_bytes(&not_a_point).is_err());
    }

    #[test]
    fn every_bit_of_a_signature_counts() {
        let key = SigningKey::from_seed(&[9; 32]);
        let good = key.sign(b"message");
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            let error = key.verifying_key().verify(b"message", &bad).unwrap_err();
            assert!(error.is_bad_signature());
        }
    }

    #[test]
    fn json_is_the_text() {
        let key = SigningKey::from_seed(&[3; 32]).verifying_key();
        let json = serde_json::to_string(&key).unwrap();
        assert_eq!(json, format!("\"{key}\""));
        assert_eq!(serde_json::from_str::<VerifyingKey>(&json).unwrap(), key);
        assert!(serde_json::from_str::<VerifyingKey>("\"x\"").is_err());
    }
}
