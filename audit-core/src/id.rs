//! Identifiers: validated once, cheap to clone, never a default tenant.
//!
//! Text identifiers are shared strings. A [`TenantId`], [`ChainId`] or [`WriterId`] names files,
//! object keys and database rows, so its alphabet is narrow: it starts with an ASCII letter or digit
//! and goes on with letters, digits, `.`, `_` and `-`, at most 128 bytes. The others are at most 256
//! bytes of UTF-8 without control characters.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// An identifier that breaks the rules of its kind.
///
/// ```
/// use agent_audit_core::id::TenantId;
/// let error = TenantId::new("acme/../globex").unwrap_err();
/// assert!(error.to_string().starts_with("tenant id \"acme/../globex\" "));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {value:?} {rule}")]
pub struct InvalidId {
    kind: &'static str,
    value: String,
    rule: &'static str,
}

impl InvalidId {
    fn new(kind: &'static str, value: &str, rule: &'static str) -> Self {
        // An over-long value is shown by its beginning: the error must stay readable.
        let mut shown: String = value.chars().take(64).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self { kind, value: shown, rule }
    }
}

const NAME_RULE: &str = "is not a name: use 1 to 128 ASCII letters, digits, '.', '_' and '-', \
                         starting with a letter or a digit";
const TEXT_RULE: &str = "is not valid: use 1 to 256 bytes of text without control characters";

fn check_name(kind: &'static str, value: &str) -> Result<(), InvalidId> {
    let bytes = value.as_bytes();
    let valid = (1..=128).contains(&bytes.len())
        && bytes[0].is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if valid { Ok(()) } else { Err(InvalidId::new(kind, value, NAME_RULE)) }
}

fn check_text(kind: &'static str, value: &str) -> Result<(), InvalidId> {
    let valid = (1..=256).contains(&value.len()) && !value.chars().any(char::is_control);
    if valid { Ok(()) } else { Err(InvalidId::new(kind, value, TEXT_RULE)) }
}

fn check_hex(kind: &'static str, value: &str, digits: usize) -> Result<(), InvalidId> {
    let hex = value.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if value.len() == digits && hex && value.bytes().any(|b| b != b'0') {
        return Ok(());
    }
    let rule = if digits == 32 {
        "is not 32 lower-case hexadecimal digits, not all zero"
    } else {
        "is not 16 lower-case hexadecimal digits, not all zero"
    };
    Err(InvalidId::new(kind, value, rule))
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $pattern:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks the value and takes it.
            ///
            /// # Errors
            /// [`InvalidId`] where the value breaks the rule of its kind (see the [module](self)).
            pub fn new(value: impl AsRef<str>) -> Result<Self, InvalidId> {
                let value = value.as_ref();
                let check: fn(&'static str, &str) -> Result<(), InvalidId> = $check;
                check($kind, value)?;
                Ok(Self(Arc::from(value)))
            }

            /// The identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &*self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = InvalidId;
            fn try_from(value: &str) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(value: String) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<&String> for $name {
            type Error = InvalidId;
            fn try_from(value: &String) -> Result<Self, InvalidId> {
                Self::new(value)
            }
        }

        impl TryFrom<&$name> for $name {
            type Error = InvalidId;
            fn try_from(value: &$name) -> Result<Self, InvalidId> {
                Ok(value.clone())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let value = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Self::new(&*value).map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

text_id!(
    /// The customer for whom the agent acts and to whom the ledger belongs.
    ///
    /// ```
    /// use agent_audit_core::id::TenantId;
    /// assert_eq!(TenantId::new("acme")?.as_str(), "acme");
    /// assert!(TenantId::new("").is_err());
    /// # Ok::<(), agent_audit_core::id::InvalidId>(())
    /// ```
    TenantId, "tenant id", "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", check_name
);
text_id!(
    /// One chain of events: it belongs to one tenant and one writer. New ones are random UUIDs.
    ///
    /// ```
    /// use agent_audit_core::id::ChainId;
    /// assert_ne!(ChainId::random(), ChainId::random());
    /// ```
    ChainId, "chain id", "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", check_name
);
text_id!(
    /// One log directory, which is one writer at a time; it survives restarts.
    ///
    /// ```
    /// use agent_audit_core::id::WriterId;
    /// assert_ne!(WriterId::random(), WriterId::random());
    /// ```
    WriterId, "writer id", "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$", check_name
);
text_id!(
    /// One run of an agent, from `session.started` to `session.ended`.
    ///
    /// ```
    /// use agent_audit_core::id::SessionId;
    /// assert_eq!(SessionId::new("s-1")?.to_string(), "s-1");
    /// # Ok::<(), agent_audit_core::id::InvalidId>(())
    /// ```
    SessionId, "session id", "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,256}$", check_text
);
text_id!(
    /// The agent that acts.
    ///
    /// ```
    /// use agent_audit_core::id::AgentId;
    /// assert!(AgentId::new("refund agent").is_ok());
    /// assert!(AgentId::new("two\nlines").is_err());
    /// ```
    AgentId, "agent id", "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,256}$", check_text
);
text_id!(
    /// A token of the person whom the data is about; never a name or an address itself.
    ///
    /// ```
    /// use agent_audit_core::id::SubjectId;
    /// assert_eq!(SubjectId::new("subj-81f3")?.as_str(), "subj-81f3");
    /// # Ok::<(), agent_audit_core::id::InvalidId>(())
    /// ```
    SubjectId, "subject id", "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,256}$", check_text
);
text_id!(
    /// The id a model provider gave to a tool call.
    ///
    /// ```
    /// use agent_audit_core::id::CallId;
    /// assert_eq!(CallId::new("call_8Zq")?.as_str(), "call_8Zq");
    /// # Ok::<(), agent_audit_core::id::InvalidId>(())
    /// ```
    CallId, "call id", "^[^\\u0000-\\u001f\\u007f-\\u009f]{1,256}$", check_text
);
text_id!(
    /// A W3C trace id: 32 lower-case hexadecimal digits, not all zero.
    ///
    /// ```
    /// use agent_audit_core::id::TraceId;
    /// assert!(TraceId::new("4bf92f3577b34da6a3ce929d0e0e4736").is_ok());
    /// assert!(TraceId::new("00000000000000000000000000000000").is_err());
    /// ```
    TraceId, "trace id", "^[0-9a-f]{32}$", |kind, value| check_hex(kind, value, 32)
);
text_id!(
    /// A W3C span id: 16 lower-case hexadecimal digits, not all zero.
    ///
    /// ```
    /// use agent_audit_core::id::SpanId;
    /// assert!(SpanId::new("00f067aa0ba902b7").is_ok());
    /// assert!(SpanId::new("00F067AA0BA902B7").is_err());
    /// ```
    SpanId, "span id", "^[0-9a-f]{16}$", |kind, value| check_hex(kind, value, 16)
);

impl ChainId {
    /// A new random chain id. It reveals neither tenant nor time.
    #[must_use]
    pub fn random() -> Self {
        Self(Arc::from(random_name()))
    }
}

impl WriterId {
    /// A new random writer id.
    #[must_use]
    pub fn random() -> Self {
        Self(Arc::from(random_name()))
    }
}

fn random_name() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

/// The id reserved for events that belong to the log itself and to no agent session.
const SYSTEM: &str = "agent-audit";

impl SessionId {
    /// The session of events about the log itself (`chain.*`, `key.*`, `integrity.*`).
    ///
    /// ```
    /// use agent_audit_core::id::SessionId;
    /// assert_eq!(SessionId::system().as_str(), "agent-audit");
    /// ```
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::from(SYSTEM))
    }
}

impl AgentId {
    /// The agent of events about the log itself.
    ///
    /// ```
    /// use agent_audit_core::id::AgentId;
    /// assert_eq!(AgentId::system().as_str(), "agent-audit");
    /// ```
    #[must_use]
    pub fn system() -> Self {
        Self(Arc::from(SYSTEM))
    }
}

/// The identity of one event: a UUIDv7 (RFC 9562), unique across all tenants and writers.
///
/// ```
/// use agent_audit_core::id::EventId;
/// let id = EventId::new();
/// assert_eq!(id.to_string().parse::<EventId>()?, id);
/// assert!("f47ac10b-58cc-4372-a567-0e02b2c3d479".parse::<EventId>().is_err(), "version 4");
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// A new id, ordered by time within one process.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default identity would be a mistake")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The 16 bytes of the UUID.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// The id with these 16 bytes.
    ///
    /// # Errors
    /// [`InvalidId`] where they are not a UUIDv7.
    pub fn from_bytes(bytes: [u8; 16]) -> Result<Self, InvalidId> {
        Self::checked(Uuid::from_bytes(bytes), "")
    }

    /// Writes the canonical 36-character form.
    pub(crate) fn write_to<'b>(&self, buffer: &'b mut [u8; 36]) -> &'b str {
        self.0.hyphenated().encode_lower(buffer)
    }

    fn checked(uuid: Uuid, text: &str) -> Result<Self, InvalidId> {
        let canonical = text.is_empty() || text == uuid.hyphenated().to_string();
        if uuid.get_version_num() == 7 && uuid.get_variant() == uuid::Variant::RFC4122 && canonical
        {
            return Ok(Self(uuid));
        }
        let shown = if text.is_empty() { uuid.to_string() } else { text.to_owned() };
        Err(InvalidId::new("event id", &shown, "is not a lower-case UUID of version 7"))
    }
}

impl FromStr for EventId {
    type Err = InvalidId;
    fn from_str(value: &str) -> Result<Self, InvalidId> {
        let uuid = Uuid::try_parse(value).map_err(|_| {
            InvalidId::new("event id", value, "is not a lower-case UUID of version 7")
        })?;
        Self::checked(uuid, value)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write_to(&mut [0; 36]))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}

impl Serialize for EventId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.write_to(&mut [0; 36]))
    }
}

impl<'de> Deserialize<'de> for EventId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        value.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for EventId {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "EventId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "uuid" })
    }
}
