//! The payload of an event: one typed struct per event type, and the macros that shape them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    InvalidEvent, Object, Value, access, chain, content, integrity, key, model, review, session,
    tool,
};

/// Declares payload structs, and structs inside them: documented fields, a constructor that takes
/// the mandatory ones, a `with_` method for each other one, and room for unknown fields.
///
/// Mandatory fields come first; after `[optional]` those that may be absent, after `[lists]` those
/// that are left out when empty.
macro_rules! payload {
    ($(
        $(#[$meta:meta])*
        $name:ident {
            $( $(#[$rmeta:meta])* $required:ident : $rtype:ty, )*
            $( [optional] $( $(#[$ometa:meta])* $optional:ident : $otype:ty, )* )?
            $( [lists] $( $(#[$lmeta:meta])* $list:ident : $ltype:ty, )* )?
        }
    )*) => { pastey::paste! { $(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[non_exhaustive]
        pub struct $name {
            $( $(#[$rmeta])* pub $required: $rtype, )*
            $($(
                $(#[$ometa])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $optional: Option<$otype>,
            )*)?
            $($(
                $(#[$lmeta])*
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                pub $list: Vec<$ltype>,
            )*)?
            /// Fields that a later schema added.
            #[serde(flatten)]
            pub extra: $crate::event::Extra,
        }

        impl $name {
            /// Takes the mandatory fields; everything else is absent.
            #[must_use]
            #[allow(
                clippy::new_without_default,
                clippy::allow_attributes,
                reason = "whether there are mandatory fields depends on the struct"
            )]
            pub fn new($( $required: impl Into<$rtype> ),*) -> Self {
                Self {
                    $( $required: $required.into(), )*
                    $($( $optional: None, )*)?
                    $($( $list: Vec::new(), )*)?
                    extra: $crate::event::Extra::new(),
                }
            }

            $($(
                $(#[$ometa])*
                #[must_use]
                pub fn [<with_ $optional>](mut self, value: impl Into<$otype>) -> Self {
                    self.$optional = Some(value.into());
                    self
                }
            )*)?
            $($(
                $(#[$lmeta])*
                #[must_use]
                pub fn [<with_ $list>]<I>(mut self, values: I) -> Self
                where
                    I: IntoIterator,
                    I::Item: Into<$ltype>,
                {
                    self.$list = values.into_iter().map(Into::into).collect();
                    self
                }
            )*)?
        }
    )* } };
}

/// Declares an enum that is written as one lower-case word and keeps words it does not know.
macro_rules! words {
    ($(
        $(#[$meta:meta])*
        $name:ident { $( $(#[$vmeta:meta])* $variant:ident = $word:literal, )* }
    )*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vmeta])* $variant, )*
            /// A word of a later schema.
            Other(String),
        }

        impl $name {
            /// The word as it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $word, )*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $( $word => Self::$variant, )*
                    other => Self::Other(other.to_owned()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let word = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                Ok(Self::from(&*word))
            }
        }

        #[cfg(feature = "schema")]
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "examples": [$( $word ),*] })
            }
        }
    )*};
}

pub(super) use {payload, words};

/// Declares the closed taxonomy: the name of each type and the struct of its payload.
macro_rules! event_types {
    ($( $(#[$meta:meta])* $variant:ident = $name:literal => $payload:ty, )*) => {
        /// The type of an event: a closed taxonomy, and `custom.*` for what a user adds.
        ///
        /// ```
        /// use agent_audit_core::event::EventType;
        /// let kind: EventType = "tool.attempted".parse()?;
        /// assert_eq!(kind, EventType::ToolAttempted);
        /// assert!("custom.cache_hit".parse::<EventType>()?.is_custom());
        /// assert!("Tool Attempted".parse::<EventType>().is_err());
        /// # Ok::<(), agent_audit_core::event::InvalidEvent>(())
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum EventType {
            $( $(#[$meta])* $variant, )*
            /// A user's own type, or one of a later schema: the whole name.
            Other(String),
        }

        impl EventType {
            /// Every type of schema 1.0, in the order of the specification.
            pub const ALL: &[Self] = &[$( Self::$variant ),*];

            /// The name as it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $name, )*
                    Self::Other(name) => name,
                }
            }

            fn known(name: &str) -> Option<Self> {
                match name {
                    $( $name => Some(Self::$variant), )*
                    _ => None,
                }
            }
        }

        /// What happened, typed by the event's type.
        ///
        /// ```
        /// use agent_audit_core::event::{EventType, Payload, tool::ToolAttempted};
        /// let payload = Payload::from(ToolAttempted::new("refund"));
        /// assert_eq!(payload.event_type(), EventType::ToolAttempted);
        /// ```
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[non_exhaustive]
        #[expect(
            clippy::large_enum_variant,
            reason = "an event lives until its bytes are written; a box would cost each one more"
        )]
        pub enum Payload {
            $( $(#[$meta])* $variant($payload), )*
            /// A user's own type, or one of a later schema.
            Other(Other),
        }

        impl Payload {
            /// The type of the event that carries this payload.
            #[must_use]
            pub fn event_type(&self) -> EventType {
                match self {
                    $( Self::$variant(_) => EventType::$variant, )*
                    Self::Other(other) => EventType::Other(other.event_type.clone()),
                }
            }

            pub(crate) fn type_name(&self) -> &str {
                match self {
                    $( Self::$variant(_) => $name, )*
                    Self::Other(other) => &other.event_type,
                }
            }

            /// Types the fields of a payload.
            pub(super) fn read(event_type: &str, fields: Object) -> Result<Self, InvalidEvent> {
                let mistyped = |error: super::Mistyped| InvalidEvent::Payload {
                    event_type: event_type.to_owned(),
                    reason: error.0,
                };
                Ok(match event_type {
                    $( $name => Self::$variant(
                        <$payload>::deserialize(Value::Object(fields)).map_err(mistyped)?,
                    ), )*
                    other => Self::Other(Other {
                        event_type: EventType::from_str(other)?.as_str().to_owned(),
                        fields,
                    }),
                })
            }

            /// The JSON Schema of every payload, by event type.
            #[cfg(feature = "schema")]
            pub(crate) fn schemas(
                generator: &mut schemars::SchemaGenerator,
            ) -> Vec<(&'static str, schemars::Schema)> {
                vec![$( ($name, generator.subschema_for::<$payload>()) ),*]
            }
        }

        impl Serialize for Payload {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self {
                    $( Self::$variant(payload) => payload.serialize(serializer), )*
                    Self::Other(other) => serializer.collect_map(&other.fields),
                }
            }
        }

        $(
            impl From<$payload> for Payload {
                fn from(payload: $payload) -> Self {
                    Self::$variant(payload)
                }
            }
        )*
    };
}

event_types! {
    /// An agent session opens.
    SessionStarted = "session.started" => session::SessionStarted,
    /// An agent session closes.
    SessionEnded = "session.ended" => session::SessionEnded,
    /// A model is about to be asked.
    ModelRequested = "model.requested" => model::ModelRequested,
    /// A model answered, failed or was cancelled.
    ModelDecided = "model.decided" => model::ModelDecided,
    /// A tool is about to act.
    ToolAttempted = "tool.attempted" => tool::ToolAttempted,
    /// A tool has acted, failed, or its outcome is unknown.
    ToolCompleted = "tool.completed" => tool::ToolCompleted,
    /// A reviewer is asked about an action.
    ReviewProposed = "review.proposed" => review::ReviewProposed,
    /// The proposal was shown.
    ReviewPresented = "review.presented" => review::ReviewPresented,
    /// The reviewer decided.
    ReviewDecided = "review.decided" => review::ReviewDecided,
    /// The decision took effect.
    ReviewApplied = "review.applied" => review::ReviewApplied,
    /// The log was read.
    AccessQueried = "access.queried" => access::AccessQueried,
    /// Evidence left the log.
    AccessExported = "access.exported" => access::AccessExported,
    /// A verification found the log intact.
    IntegrityVerified = "integrity.verified" => integrity::IntegrityVerified,
    /// A verification found faults, or could not tell.
    IntegrityFailed = "integrity.failed" => integrity::IntegrityFailed,
    /// A chain begins.
    ChainOpened = "chain.opened" => chain::ChainOpened,
    /// A chain goes on after a restart.
    ChainResumed = "chain.resumed" => chain::ChainResumed,
    /// A chain rests or ends.
    ChainClosed = "chain.closed" => chain::ChainClosed,
    /// Events could not be written.
    ChainGap = "chain.gap" => chain::ChainGap,
    /// A data key came into being.
    KeyCreated = "key.created" => key::KeyCreated,
    /// A data key was wrapped anew.
    KeyRotated = "key.rotated" => key::KeyRotated,
    /// A data key was destroyed, and with it the content that it sealed.
    KeyDestroyed = "key.destroyed" => key::KeyDestroyed,
    /// Content left a store at the end of its term.
    ContentPurged = "content.purged" => content::ContentPurged,
}

impl EventType {
    /// Whether it is a user's own type, `custom.*`.
    #[must_use]
    pub fn is_custom(&self) -> bool {
        self.as_str().starts_with("custom.")
    }
}

impl FromStr for EventType {
    type Err = InvalidEvent;

    fn from_str(name: &str) -> Result<Self, InvalidEvent> {
        if let Some(known) = Self::known(name) {
            return Ok(known);
        }
        let word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let named = name.len() <= 128 && name.contains('.') && name.split('.').all(word);
        if named {
            Ok(Self::Other(name.to_owned()))
        } else {
            Err(InvalidEvent::Field {
                field: "event_type",
                reason: format!(
                    "{:?} is not a dotted name of lower-case words, as custom.cache_hit",
                    name.chars().take(64).collect::<String>()
                ),
            })
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The payload of a user's own event type, or of one that a later schema added.
///
/// ```
/// use agent_audit_core::event::{Other, Payload, Value};
/// let payload = Other::custom("cache_hit")?.with_field("keys", 3u32);
/// assert_eq!(payload.event_type(), "custom.cache_hit");
/// assert_eq!(payload.fields["keys"], Value::Integer(3));
/// # Ok::<(), agent_audit_core::event::InvalidEvent>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Other {
    event_type: String,
    /// The fields.
    pub fields: Object,
}

impl Other {
    /// An empty payload of type `custom.<name>`.
    ///
    /// # Errors
    /// [`InvalidEvent`] where the name is not made of lower-case letters, digits, `_` and dots.
    pub fn custom(name: &str) -> Result<Self, InvalidEvent> {
        let event_type = EventType::from_str(&format!("custom.{name}"))?;
        Ok(Self { event_type: event_type.as_str().to_owned(), fields: Object::new() })
    }

    /// Adds a field.
    #[must_use]
    pub fn with_field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.fields.insert(name.into(), value.into());
        self
    }

    /// The whole name of the type.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }
}

impl From<Other> for Payload {
    fn from(payload: Other) -> Self {
        Self::Other(payload)
    }
}
