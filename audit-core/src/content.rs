//! Content: prompts, outputs, inputs, anything free-form or personal, kept beside the event.
//!
//! Content never enters the hashed bytes. An event names each part of its content by a
//! [`ContentRef`]: name, media type, length and a commitment,
//!
//! ```text
//! commitment = HMAC-SHA256(key = salt, plaintext bytes)      salt: 32 random bytes, one per part
//! ```
//!
//! (HMAC: RFC 2104 with SHA-256, FIPS 180-4). The salt travels with the content, as a [`PartBody`]
//! in the record: once it is gone, the commitment tells nothing, even of a value that is easily
//! guessed; while it is there, one part can be disclosed and checked without any other.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroize;

use crate::{event::Extra, hash::Hash, id::EventId, timestamp::Timestamp};

/// One piece of content on its way into the record: opaque bytes, stored exactly as given.
///
/// The name is unique within its event and at most 128 bytes of `[A-Za-z0-9._-]`, as `input`,
/// `output` or `context.0`; the media type is at most 128 bytes of printable ASCII without `"` and
/// `\`. Both are checked when the event is recorded.
///
/// ```
/// use agent_audit_core::content::Part;
/// let part = Part::new("output", "application/json", br#"{"ok":true}"#);
/// assert_eq!(part.name(), "output");
/// assert_eq!(format!("{part:?}"), "Part { name: \"output\", media_type: \"application/json\", bytes: 11 }");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Part {
    name: String,
    media_type: String,
    bytes: Vec<u8>,
}

impl Part {
    /// A part of any media type.
    pub fn new(
        name: impl Into<String>,
        media_type: impl Into<String>,
        bytes: impl Into<Vec<u8>>,
    ) -> Self {
        Self { name: name.into(), media_type: media_type.into(), bytes: bytes.into() }
    }

    /// A part of plain text.
    ///
    /// ```
    /// use agent_audit_core::content::Part;
    /// assert_eq!(Part::text("rationale", "in policy").media_type(), "text/plain; charset=utf-8");
    /// ```
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self::new(name, "text/plain; charset=utf-8", text.into())
    }

    /// A part that is the JSON form of a value.
    ///
    /// # Errors
    /// The error of `serde_json` where the value has no JSON form.
    ///
    /// ```
    /// use agent_audit_core::content::Part;
    /// assert_eq!(Part::json("input", &[1, 2])?.bytes(), b"[1,2]");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn json<T: Serialize + ?Sized>(
        name: impl Into<String>,
        value: &T,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self::new(name, "application/json", serde_json::to_vec(value)?))
    }

    /// The name within the event.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What kind of bytes it holds.
    #[must_use]
    pub fn media_type(&self) -> &str {
        &self.media_type
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Commits to the part under a fresh random salt: what goes under the hash, and what goes beside.
    ///
    /// ```
    /// use agent_audit_core::content::Part;
    /// let (reference, body) = Part::text("output", "hello").commit();
    /// assert_eq!(reference.bytes, 5);
    /// assert!(body.check(&reference).is_ok());
    /// ```
    #[must_use]
    pub fn commit(self) -> (ContentRef, PartBody) {
        let salt = Salt::random();
        let reference = ContentRef {
            name: self.name,
            media_type: self.media_type,
            bytes: u64::try_from(self.bytes.len()).expect("a length in memory fits 64 bits"),
            commitment: commitment(&salt, &self.bytes),
            extra: Extra::new(),
        };
        (reference, PartBody::Clear { salt, bytes: self.bytes })
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part")
            .field("name", &self.name)
            .field("media_type", &self.media_type)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// The random key of one part's commitment. It is as secret as the part.
///
/// ```
/// use agent_audit_core::content::Salt;
/// assert_eq!(format!("{:?}", Salt::random()), "Salt(..)");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; 32]);

impl Salt {
    /// 32 bytes from the thread's cryptographic generator, which the operating system seeds.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// A salt that was read from a record.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Salt {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(..)")
    }
}

/// The commitment to some bytes under a salt.
///
/// ```
/// use agent_audit_core::content::{Salt, commitment};
/// // RFC 4231 has no 32-byte key; this value was computed with Python's hmac module.
/// let salt = Salt::from_bytes([0x0b; 32]);
/// assert_eq!(
///     commitment(&salt, b"Hi There").to_string(),
///     "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7",
/// );
/// ```
#[must_use]
pub fn commitment(salt: &Salt, bytes: &[u8]) -> Hash {
    let mut mac = Hmac::<Sha256>::new_from_slice(&salt.0).expect("HMAC takes a key of any length");
    mac.update(bytes);
    Hash::from_bytes(mac.finalize().into_bytes().into())
}

/// One part of content as the event names it, under the hash.
///
/// ```
/// use agent_audit_core::content::Part;
/// let (reference, _) = Part::text("output", "hello").commit();
/// assert_eq!((reference.name.as_str(), reference.bytes), ("output", 5));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[non_exhaustive]
pub struct ContentRef {
    /// The name, unique within the event.
    pub name: String,
    /// What kind of bytes it holds.
    pub media_type: String,
    /// The number of plaintext bytes.
    pub bytes: u64,
    /// The commitment to the plaintext bytes.
    pub commitment: Hash,
    /// Fields that a later schema added.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Why the bytes of a part are not in the record.
///
/// ```
/// use agent_audit_core::content::AbsentReason;
/// assert_ne!(AbsentReason::Erased, AbsentReason::Purged);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AbsentReason {
    /// The key was destroyed on request (`key.destroyed` is the evidence).
    Erased,
    /// The retention term ended (`content.purged` is the evidence).
    Purged,
}

/// The body of one part, in the record beside the event.
///
/// ```
/// use agent_audit_core::content::{AbsentReason, Part, PartBody};
/// let (reference, body) = Part::text("output", "hello").commit();
/// assert_eq!(body.bytes(), Some(&b"hello"[..]));
/// let gone = PartBody::Absent { reason: AbsentReason::Erased, at: None, evidence: None };
/// assert_eq!(gone.bytes(), None);
/// assert!(gone.check(&reference).is_ok(), "absence is a state, not a fault");
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartBody {
    /// Salt and plaintext.
    Clear {
        /// The key of the commitment.
        salt: Salt,
        /// The plaintext, exactly as it was received.
        bytes: Vec<u8>,
    },
    /// Salt and plaintext together, encrypted.
    Sealed(Sealed),
    /// The bytes are gone, and the record says why.
    Absent {
        /// Why.
        reason: AbsentReason,
        /// When the bytes went.
        at: Option<Timestamp>,
        /// The event that records it.
        evidence: Option<EventId>,
    },
}

/// An encrypted salt and plaintext.
///
/// ```
/// use agent_audit_core::content::Sealed;
/// let sealed = Sealed::new("tenant-key-1", 1, vec![0; 12], vec![0; 64]);
/// assert_eq!(sealed.key_id, "tenant-key-1");
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sealed {
    /// The key that opens it, by name; at most 65,535 bytes.
    pub key_id: String,
    /// How it was encrypted; 1 is AES-256-GCM.
    pub algorithm: u8,
    /// The nonce; at most 255 bytes.
    pub nonce: Vec<u8>,
    /// The encryption of the 32 salt bytes followed by the plaintext.
    pub ciphertext: Vec<u8>,
}

impl Sealed {
    /// Names the parts of a sealed body.
    pub fn new(
        key_id: impl Into<String>,
        algorithm: u8,
        nonce: Vec<u8>,
        ciphertext: Vec<u8>,
    ) -> Self {
        Self { key_id: key_id.into(), algorithm, nonce, ciphertext }
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .field("ciphertext", &self.ciphertext.len())
            .finish_non_exhaustive()
    }
}

/// A part whose body does not match what the event committed to.
///
/// ```
/// use agent_audit_core::content::{Part, PartBody, Salt};
/// let (reference, _) = Part::text("output", "hello").commit();
/// let forged = PartBody::Clear { salt: Salt::random(), bytes: b"hullo".to_vec() };
/// let error = forged.check(&reference).unwrap_err();
/// assert_eq!(error.to_string(), "part \"output\" does not match its commitment");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("part {name:?} does not match its commitment")]
pub struct ContentMismatch {
    name: String,
}

impl PartBody {
    /// The plaintext, where it is here in the clear.
    #[must_use]
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Clear { bytes, .. } => Some(bytes),
            Self::Sealed(_) | Self::Absent { .. } => None,
        }
    }

    /// Checks a clear body against the event's reference; sealed and absent bodies have nothing to
    /// check here.
    ///
    /// # Errors
    /// [`ContentMismatch`] where length or commitment differ.
    pub fn check(&self, reference: &ContentRef) -> Result<(), ContentMismatch> {
        let Self::Clear { salt, bytes } = self else { return Ok(()) };
        if u64::try_from(bytes.len()) == Ok(reference.bytes)
            && commitment(salt, bytes) == reference.commitment
        {
            return Ok(());
        }
        Err(ContentMismatch { name: reference.name.clone() })
    }
}

impl fmt::Debug for PartBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear { bytes, .. } => {
                f.debug_struct("Clear").field("bytes", &bytes.len()).finish_non_exhaustive()
            }
            Self::Sealed(sealed) => sealed.fmt(f),
            Self::Absent { reason, at, evidence } => f
                .debug_struct("Absent")
                .field("reason", reason)
                .field("at", at)
                .field("evidence", evidence)
                .finish(),
        }
    }
}

/// What is wrong with the name or media type of a part.
#[cfg(feature = "writer")]
pub(crate) fn invalid_part(part: &Part) -> Option<&'static str> {
    let name = part.name.as_bytes();
    let media = part.media_type.as_bytes();
    let named = (1..=128).contains(&name.len())
        && name.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    let typed = (1..=128).contains(&media.len())
        && media.iter().all(|b| (0x20..0x7f).contains(b) && !matches!(b, b'"' | b'\\'));
    if !named {
        Some("has a name that is not 1 to 128 letters, digits, '.', '_' and '-'")
    } else if !typed {
        Some("has a media type that is not 1 to 128 printable ASCII characters")
    } else {
        None
    }
}
