//! Signed notes: a text and the signatures under it.
//!
//! The format of <https://c2sp.org/signed-note>, with Ed25519 signatures (type `0x01`):
//!
//! ```text
//! text, one or more lines
//!
//! — <key name> <base64(key id ‖ signature)>
//! ```
//!
//! The text ends with its last newline, before the blank line; that is what is signed. The key id
//! is the first four bytes of SHA-256(key name ‖ 0x0A ‖ 0x01 ‖ public key).
//!
//! A signature by a key that the reader does not know is kept and ignored, whatever its type, so
//! that a witness's cosignature (type `0x04` and others) survives here. A signature that names a
//! known key and does not verify spoils the note.
//!
//! Limits: 1 MiB for a note, 64 signatures (the specification asks for at least 16), 512 bytes
//! for a key name.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::key::{SigningKey, VerifyingKey};

/// The largest note that is read or written, in bytes.
pub const MAX_NOTE_BYTES: usize = 1 << 20;

/// The largest number of signatures under a note.
pub const MAX_SIGNATURES: usize = 64;

/// The longest key name, in bytes.
pub const MAX_NAME_BYTES: usize = 512;

/// A text with at least one signature, not yet verified.
///
/// `Display` writes exactly the bytes that [`parse`](Self::parse) accepts. The text of a note that
/// was parsed MUST NOT be acted on before [`verify`](Self::verify).
///
/// ```
/// use agent_audit_core::key::SigningKey;
/// use agent_audit_core::note::{NoteVerifier, SignedNote};
///
/// let key = SigningKey::generate().unwrap();
/// let note = SignedNote::sign("all is well\n", "example.com/log", &key).unwrap();
///
/// let received = SignedNote::parse(&note.to_string()).unwrap();
/// let known = NoteVerifier::new("example.com/log", key.verifying_key()).unwrap();
/// assert_eq!(received.verify(&[known]).unwrap().len(), 1);
/// assert_eq!(received.text(), "all is well\n");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl SignedNote {
    /// Signs a text under a key name.
    ///
    /// # Errors
    ///
    /// If the text does not end in a newline, holds control characters or is too long, or the
    /// name is not a key name.
    pub fn sign(text: impl Into<String>, name: &str, key: &SigningKey) -> Result<Self, NoteError> {
        let text = text.into();
        if !text.ends_with('\n') {
            return Err(Fault::TextEnd.into());
        }
        check_characters(&text)?;
        let mut note = Self { text, signatures: Vec::new() };
        note.add_signature(name, key)?;
        Ok(note)
    }

    /// Adds a signature by one more key.
    ///
    /// # Errors
    ///
    /// If the name is not a key name, or the note would exceed a limit.
    pub fn add_signature(&mut self, name: &str, key: &SigningKey) -> Result<(), NoteError> {
        let verifier = NoteVerifier::new(name, key.verifying_key())?;
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(Fault::TooManySignatures.into());
        }
        self.signatures.push(NoteSignature {
            name: verifier.name,
            key_id: verifier.key_id,
            signature: key.sign(self.text.as_bytes()).to_vec(),
        });
        let length = self.to_string().len();
        if length > MAX_NOTE_BYTES {
            self.signatures.pop();
            return Err(Fault::TooLong { length }.into());
        }
        Ok(())
    }

    /// Reads a note, strictly: exactly what `Display` writes.
    ///
    /// # Errors
    ///
    /// If the text is not a signed note or exceeds a limit.
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(Fault::TooLong { length: note.len() }.into());
        }
        check_characters(note)?;
        // The last blank line: the text may hold blank lines of its own.
        let blank = note.rfind("\n\n").ok_or(Fault::NoSignatures)?;
        let (text, rest) = note.split_at(blank + 1);
        let lines = rest[1..].strip_suffix('\n').ok_or(Fault::NoSignatures)?;
        let mut signatures = Vec::new();
        for (index, line) in lines.split('\n').enumerate() {
            if index >= MAX_SIGNATURES {
                return Err(Fault::TooManySignatures.into());
            }
            let line =
                NoteSignature::parse(line).ok_or(Fault::SignatureLine { line: index + 1 })?;
            signatures.push(line);
        }
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// Checks the signatures by known keys and returns them, in the order of the note.
    ///
    /// Signatures by other keys are ignored, and so is a second one by the same key.
    ///
    /// # Errors
    ///
    /// If a signature that names a known key does not verify ([`NoteErrorKind::BadSignature`]), if
    /// no known key signed ([`NoteErrorKind::UnknownKey`]), or if two known keys share name and id
    /// ([`NoteErrorKind::AmbiguousKey`]).
    pub fn verify(&self, known: &[NoteVerifier]) -> Result<Vec<&NoteSignature>, NoteError> {
        let mut verified: Vec<&NoteSignature> = Vec::new();
        for signature in &self.signatures {
            let mut matching = known.iter().filter(|key| key.made(signature));
            let Some(key) = matching.next() else {
                continue;
            };
            if matching.any(|other| other.key != key.key) {
                return Err(Fault::Ambiguous { name: quote(&key.name) }.into());
            }
            if verified.iter().any(|earlier| key.made(earlier)) {
                continue;
            }
            key.check(&self.text, signature)?;
            verified.push(signature);
        }
        if verified.is_empty() {
            let names = self.signatures.iter().map(|line| quote(&line.name));
            return Err(Fault::UnknownKey { names: names.collect::<Vec<_>>().join(", ") }.into());
        }
        Ok(verified)
    }

    /// The text, with its final newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, known and unknown, in the order of the note.
    #[must_use]
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }
}

impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl FromStr for SignedNote {
    type Err = NoteError;

    fn from_str(note: &str) -> Result<Self, Self::Err> {
        Self::parse(note)
    }
}

/// One signature line of a note, of any signature type.
///
/// ```
/// use agent_audit_core::key::SigningKey;
/// use agent_audit_core::note::SignedNote;
///
/// let key = SigningKey::from_seed(&[1; 32]);
/// let note = SignedNote::sign("text\n", "log", &key).unwrap();
/// let line = &note.signatures()[0];
/// assert_eq!((line.name(), line.signature().len()), ("log", 64));
/// assert!(line.to_string().starts_with("— log "));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key_id: [u8; 4],
    signature: Vec<u8>,
}

impl NoteSignature {
    /// The name of the key that is said to have signed.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key that is said to have signed.
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// The signature without the key id; its form depends on the key's signature type.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    fn parse(line: &str) -> Option<Self> {
        let (name, base64) = line.strip_prefix(LINE_START)?.split_once(' ')?;
        let bytes = STANDARD.decode(base64).ok()?;
        let (&key_id, signature) = bytes.split_first_chunk::<4>()?;
        if !is_name(name) || signature.is_empty() {
            return None;
        }
        Some(Self { name: name.to_owned(), key_id, signature: signature.to_vec() })
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [self.key_id.as_slice(), &self.signature].concat();
        write!(f, "{LINE_START}{} {}", self.name, STANDARD.encode(bytes))
    }
}

/// A known Ed25519 key under its name: what a reader trusts.
///
/// In text the verifier key of the specification, `<name>+<hex key id>+<base64(0x01 ‖ key)>`. The
/// same key under two names is two verifiers, and neither accepts the other's signatures.
///
/// ```
/// use agent_audit_core::note::NoteVerifier;
///
/// let text = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
/// let verifier: NoteVerifier = text.parse().unwrap();
/// assert_eq!(verifier.name(), "example.com/foo");
/// assert_eq!(verifier.to_string(), text);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteVerifier {
    name: String,
    key_id: [u8; 4],
    key: VerifyingKey,
}

impl NoteVerifier {
    /// Trusts the key under the name.
    ///
    /// # Errors
    ///
    /// If the name is not a key name: empty, too long, or with spaces, control characters or `+`.
    pub fn new(name: impl Into<String>, key: VerifyingKey) -> Result<Self, NoteError> {
        let name = name.into();
        if !is_name(&name) {
            return Err(Fault::Name { name: quote(&name) }.into());
        }
        let mut hasher = Sha256::new();
        hasher.update(&name);
        hasher.update([b'\n', ED25519]);
        hasher.update(key.as_bytes());
        let digest: [u8; 32] = hasher.finalize().into();
        let [first, second, third, fourth, ..] = digest;
        Ok(Self { name, key_id: [first, second, third, fourth], key })
    }

    /// The name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key, which depends on its name too.
    #[must_use]
    pub fn key_id(&self) -> [u8; 4] {
        self.key_id
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// Whether the signature names this key; it may still be bad.
    #[must_use]
    pub fn made(&self, signature: &NoteSignature) -> bool {
        self.key_id == signature.key_id && self.name == signature.name
    }

    fn check(&self, text: &str, signature: &NoteSignature) -> Result<(), NoteError> {
        signature
            .signature
            .as_slice()
            .try_into()
            .ok()
            .filter(|bytes| self.key.verify(text.as_bytes(), bytes).is_ok())
            .map(|_| ())
            .ok_or_else(|| Fault::BadSignature { name: quote(&self.name) }.into())
    }
}

impl VerifyingKey {
    /// The key as a verifier of notes that were signed under `name`; for a checkpoint, its origin.
    ///
    /// # Errors
    ///
    /// If the name is not a key name.
    pub fn note_verifier(&self, name: impl Into<String>) -> Result<NoteVerifier, NoteError> {
        NoteVerifier::new(name, *self)
    }
}

impl fmt::Display for NoteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key_id = u32::from_be_bytes(self.key_id);
        let key = [[ED25519].as_slice(), self.key.as_bytes()].concat();
        write!(f, "{}+{key_id:08x}+{}", self.name, STANDARD.encode(key))
    }
}

impl FromStr for NoteVerifier {
    type Err = NoteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The base64 may hold `+`, name and id may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(_), Some(base64)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(Fault::VerifierText.into());
        };
        let bytes = STANDARD.decode(base64).map_err(|_| Fault::VerifierText)?;
        let key = match bytes.split_first() {
            Some((&ED25519, key)) => key.try_into().map_err(|_| Fault::VerifierText)?,
            Some((&algorithm, _)) => return Err(Fault::Algorithm { algorithm }.into()),
            None => return Err(Fault::VerifierText.into()),
        };
        let key = VerifyingKey::from_bytes(key).map_err(|_| Fault::VerifierText)?;
        let verifier = Self::new(name, key)?;
        // Everything but the id is canonical already; its text must be what we would write.
        if verifier.to_string() == text { Ok(verifier) } else { Err(Fault::VerifierId.into()) }
    }
}

/// Why a note cannot be read, signed or believed.
///
/// ```
/// use agent_audit_core::note::SignedNote;
///
/// let error = SignedNote::parse("tab\t").unwrap_err();
/// assert_eq!(error.to_string(), r"the note holds the control character '\t' at byte 3");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct NoteError(#[from] Fault);

/// What kind of trouble a note is in.
///
/// ```
/// use agent_audit_core::note::{NoteErrorKind, SignedNote};
///
/// let error = SignedNote::parse("no signature\n").unwrap_err();
/// assert_eq!(error.kind(), NoteErrorKind::Malformed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoteErrorKind {
    /// It is not a signed note, or not a verifier key.
    Malformed,
    /// A name is not a key name.
    InvalidName,
    /// No known key signed: nothing can be said about the text.
    UnknownKey,
    /// A signature names a known key and does not verify: the text or the signature was changed.
    BadSignature,
    /// Two different known keys share name and id.
    AmbiguousKey,
}

impl NoteError {
    /// The kind of trouble.
    #[must_use]
    pub fn kind(&self) -> NoteErrorKind {
        match self.0 {
            Fault::Name { .. } => NoteErrorKind::InvalidName,
            Fault::UnknownKey { .. } => NoteErrorKind::UnknownKey,
            Fault::BadSignature { .. } => NoteErrorKind::BadSignature,
            Fault::Ambiguous { .. } => NoteErrorKind::AmbiguousKey,
            _ => NoteErrorKind::Malformed,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error("the note has {length} bytes, more than {MAX_NOTE_BYTES}")]
    TooLong { length: usize },
    #[error("the note has more than {MAX_SIGNATURES} signatures")]
    TooManySignatures,
    #[error(
        "the note has no blank line followed by signature lines, or its last line does not end"
    )]
    NoSignatures,
    #[error("signature line {line} is not `— <key name> <base64>`")]
    SignatureLine { line: usize },
    #[error("the text of a note must end in a newline")]
    TextEnd,
    #[error("the note holds the control character {character:?} at byte {at}")]
    Control { character: char, at: usize },
    #[error(
        "{name} is not a key name: it must have 1 to {MAX_NAME_BYTES} bytes and no spaces, control characters or `+`"
    )]
    Name { name: String },
    #[error("no known key signed the note; it was signed by: {names}")]
    UnknownKey { names: String },
    #[error("the signature by {name} does not verify: the text or the signature was changed")]
    BadSignature { name: String },
    #[error("two known keys share the name {name} and its key id; trust one of them")]
    Ambiguous { name: String },
    #[error("the verifier key is not `<name>+<hex key id>+<base64 key>`")]
    VerifierText,
    #[error("the verifier key is of type {algorithm:#04x}; only Ed25519 (0x01) is understood")]
    Algorithm { algorithm: u8 },
    #[error("the verifier key's id does not belong to its name and key")]
    VerifierId,
}

/// The signature type of Ed25519.
const ED25519: u8 = 0x01;

/// Em dash and space.
const LINE_START: &str = "\u{2014} ";

/// Untrusted text for an error message: escaped, so that it cannot steer a terminal, and short.
pub(crate) fn quote(text: &str) -> String {
    match text.char_indices().nth(80) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", &text[..end]),
    }
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&name.len())
        && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_ascii_control())
}

fn check_characters(text: &str) -> Result<(), Fault> {
    match text.char_indices().find(|&(_, c)| c < ' ' && c != '\n') {
        Some((at, character)) => Err(Fault::Control { character, at }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
