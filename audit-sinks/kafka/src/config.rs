//! How the sink, the reader and the relay are set up.

use std::{collections::BTreeMap, fmt, time::Duration};

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use rdkafka::{ClientConfig, error::KafkaError};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::{encoding::Encoding, topic::TopicTemplate};

/// Where the cluster is and how messages are written.
///
/// A secret never shows in its `Debug` output.
///
/// ```
/// use agent_audit_kafka::{Encoding, KafkaConfig};
/// let config = KafkaConfig::new("kafka-1:9092,kafka-2:9092")
///     .with_topic("audit-{tenant}")
///     .with_encoding(Encoding::Protobuf)
///     .with_sasl("PLAIN", "writer", "hunter2".to_owned().into());
/// assert_eq!((config.name.as_str(), config.topic.as_str()), ("kafka", "audit-{tenant}"));
/// assert!(!format!("{config:?}").contains("hunter2"));
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KafkaConfig {
    /// Some brokers to begin with, as `host:port` separated by commas.
    pub brokers: String,
    /// The name of the sink in its log; `kafka` where nothing else is said.
    #[serde(default = "default_name")]
    pub name: String,
    /// The topic; `{tenant}` in it stands for the tenant's id. `agent-audit` where nothing else is
    /// said.
    #[serde(default = "default_topic")]
    pub topic: String,
    /// How events are written; JSON where nothing else is said.
    #[serde(default)]
    pub encoding: Encoding,
    /// How batches are compressed; LZ4 where nothing else is said.
    #[serde(default)]
    pub compression: Compression,
    /// How many milliseconds the client waits for more messages before it sends; 5 where nothing
    /// else is said.
    #[serde(default = "default_linger_ms")]
    pub linger_ms: u64,
    /// How many milliseconds an event may take to be acknowledged, retries of the client included;
    /// 15,000 where nothing else is said. After that it counts as not acknowledged, and delivery
    /// sends it again.
    #[serde(default = "default_message_timeout_ms")]
    pub message_timeout_ms: u64,
    /// The largest message, 16 MiB where nothing else is said. The topic's `max.message.bytes` MUST
    /// allow as much: a larger message is refused by the cluster.
    #[serde(default = "default_max_message_bytes")]
    pub max_message_bytes: u32,
    /// The most bytes of messages that wait to be acknowledged, 64 MiB where nothing else is said.
    #[serde(default = "default_max_buffered_bytes")]
    pub max_buffered_bytes: u32,
    /// Whether connections use TLS. It needs a client built with it: see the crate's documentation.
    #[serde(default)]
    pub tls: bool,
    /// Who the process says it is.
    #[serde(default)]
    pub sasl: Option<Sasl>,
    /// Further properties of librdkafka, as `ssl.ca.location`. What the guarantees rest on cannot
    /// be changed by it.
    #[serde(default)]
    pub properties: BTreeMap<String, SecretString>,
}

/// Name and password for the brokers.
///
/// ```
/// use agent_audit_kafka::Sasl;
/// let sasl = Sasl::new("PLAIN", "writer", "hunter2".to_owned().into());
/// assert!(!format!("{sasl:?}").contains("hunter2"));
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Sasl {
    /// `PLAIN`; with a client built with TLS also `SCRAM-SHA-256` and `SCRAM-SHA-512`.
    pub mechanism: String,
    /// The user.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

impl Sasl {
    /// A user and a password for a mechanism.
    pub fn new(
        mechanism: impl Into<String>,
        username: impl Into<String>,
        password: SecretString,
    ) -> Self {
        Self { mechanism: mechanism.into(), username: username.into(), password }
    }
}

/// How batches of messages are compressed.
///
/// ```
/// use agent_audit_kafka::Compression;
/// assert_eq!(Compression::default().to_string(), "lz4");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: costs little.
    #[default]
    Lz4,
    /// Zstandard: smaller, and slower.
    Zstd,
    /// Gzip, for consumers that know nothing else.
    Gzip,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        })
    }
}

impl KafkaConfig {
    /// A cluster, and the defaults for everything else.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            brokers: brokers.into(),
            name: default_name(),
            topic: default_topic(),
            encoding: Encoding::default(),
            compression: Compression::default(),
            linger_ms: default_linger_ms(),
            message_timeout_ms: default_message_timeout_ms(),
            max_message_bytes: default_max_message_bytes(),
            max_buffered_bytes: default_max_buffered_bytes(),
            tls: false,
            sasl: None,
            properties: BTreeMap::new(),
        }
    }

    /// What the environment says: `AGENT_AUDIT_KAFKA_BROKERS`, and, where they are set, `_NAME`,
    /// `_TOPIC`, `_ENCODING`, `_COMPRESSION`, `_LINGER_MS`, `_MESSAGE_TIMEOUT_MS`,
    /// `_MAX_MESSAGE_BYTES`, `_MAX_BUFFERED_BYTES`, `_TLS` (`true` or `false`), `_SASL_MECHANISM`,
    /// `_SASL_USERNAME`, `_SASL_PASSWORD` and `_SSL_CA_LOCATION`.
    ///
    /// # Errors
    /// [`SinkError`] that names the variable which is missing or is not what it should be.
    ///
    /// ```
    /// use agent_audit_kafka::KafkaConfig;
    /// // Nothing is set here.
    /// let error = KafkaConfig::from_env().unwrap_err();
    /// assert!(error.to_string().contains("AGENT_AUDIT_KAFKA_BROKERS is not set"));
    /// ```
    pub fn from_env() -> Result<Self, SinkError> {
        Self::from_lookup(|name| std::env::var(name).ok())
    }

    /// As [`from_env`](Self::from_env), with these brokers whatever the environment says of them.
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    ///
    /// ```
    /// use agent_audit_kafka::KafkaConfig;
    /// let config = KafkaConfig::from_env_with_brokers("localhost:9092")?;
    /// assert_eq!(config.brokers, "localhost:9092");
    /// # Ok::<(), agent_audit_core::sink::SinkError>(())
    /// ```
    pub fn from_env_with_brokers(brokers: impl Into<String>) -> Result<Self, SinkError> {
        let brokers = brokers.into();
        Self::from_lookup(|name| match name {
            "AGENT_AUDIT_KAFKA_BROKERS" => Some(brokers.clone()),
            name => std::env::var(name).ok(),
        })
    }

    fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, SinkError> {
        let get = |suffix: &str| {
            lookup(&format!("AGENT_AUDIT_KAFKA_{suffix}")).filter(|value| !value.is_empty())
        };
        let missing = |suffix: &str| invalid(format!("AGENT_AUDIT_KAFKA_{suffix} is not set"));
        let mut config = Self::new(get("BROKERS").ok_or_else(|| missing("BROKERS"))?);
        if let Some(name) = get("NAME") {
            config.name = name;
        }
        if let Some(topic) = get("TOPIC") {
            config.topic = topic;
        }
        if let Some(encoding) = get("ENCODING") {
            config.encoding = word("ENCODING", &encoding, "json or protobuf")?;
        }
        if let Some(compression) = get("COMPRESSION") {
            config.compression = word("COMPRESSION", &compression, "none, lz4, zstd or gzip")?;
        }
        if let Some(value) = get("LINGER_MS") {
            config.linger_ms = number("LINGER_MS", &value)?;
        }
        if let Some(value) = get("MESSAGE_TIMEOUT_MS") {
            config.message_timeout_ms = number("MESSAGE_TIMEOUT_MS", &value)?;
        }
        if let Some(value) = get("MAX_MESSAGE_BYTES") {
            config.max_message_bytes = number("MAX_MESSAGE_BYTES", &value)?;
        }
        if let Some(value) = get("MAX_BUFFERED_BYTES") {
            config.max_buffered_bytes = number("MAX_BUFFERED_BYTES", &value)?;
        }
        if let Some(value) = get("TLS") {
            config.tls = value.parse().map_err(|_| {
                invalid(format!("AGENT_AUDIT_KAFKA_TLS is {value:?}: use true or false"))
            })?;
        }
        if let Some(username) = get("SASL_USERNAME") {
            let password = get("SASL_PASSWORD").ok_or_else(|| missing("SASL_PASSWORD"))?;
            let mechanism = get("SASL_MECHANISM").unwrap_or_else(|| "PLAIN".to_owned());
            config.sasl = Some(Sasl::new(mechanism, username, password.into()));
        }
        if let Some(file) = get("SSL_CA_LOCATION") {
            config = config.with_property("ssl.ca.location", file.into());
        }
        Ok(config)
    }

    /// Sets the name of the sink in its log.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the topic; `{tenant}` in it stands for the tenant's id.
    #[must_use]
    pub fn with_topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Sets how events are written.
    #[must_use]
    pub fn with_encoding(mut self, encoding: Encoding) -> Self {
        self.encoding = encoding;
        self
    }

    /// Sets how batches are compressed.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets how long the client waits for more messages before it sends, in whole milliseconds.
    #[must_use]
    pub fn with_linger(mut self, linger: Duration) -> Self {
        self.linger_ms = millis(linger);
        self
    }

    /// Sets how long an event may take to be acknowledged, in whole milliseconds.
    #[must_use]
    pub fn with_message_timeout(mut self, timeout: Duration) -> Self {
        self.message_timeout_ms = millis(timeout);
        self
    }

    /// Sets the largest message.
    #[must_use]
    pub fn with_max_message_bytes(mut self, bytes: u32) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets the most bytes of messages that wait to be acknowledged.
    #[must_use]
    pub fn with_max_buffered_bytes(mut self, bytes: u32) -> Self {
        self.max_buffered_bytes = bytes;
        self
    }

    /// Sets whether connections use TLS.
    #[must_use]
    pub fn with_tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// Sets mechanism, user and password.
    #[must_use]
    pub fn with_sasl(
        mut self,
        mechanism: impl Into<String>,
        username: impl Into<String>,
        password: SecretString,
    ) -> Self {
        self.sasl = Some(Sasl::new(mechanism, username, password));
        self
    }

    /// Sets a further property of librdkafka.
    #[must_use]
    pub fn with_property(mut self, name: impl Into<String>, value: SecretString) -> Self {
        self.properties.insert(name.into(), value);
        self
    }

    pub(crate) fn message_timeout(&self) -> Duration {
        Duration::from_millis(self.message_timeout_ms)
    }

    pub(crate) fn router(&self) -> Result<TopicTemplate, SinkError> {
        TopicTemplate::new(&self.topic)
    }

    /// What every client of the cluster is told.
    pub(crate) fn client(&self) -> Result<ClientConfig, SinkError> {
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "agent-audit")
            // A cluster that is back is found soon: within a second, not ten.
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.connection.setup.timeout.ms", "5000")
            // Consumers too: a fetch may be as large as a message.
            .set("message.max.bytes", self.max_message_bytes.to_string());
        client.set(
            "security.protocol",
            match (self.tls, &self.sasl) {
                (false, None) => "plaintext",
                (true, None) => "ssl",
                (false, Some(_)) => "sasl_plaintext",
                (true, Some(_)) => "sasl_ssl",
            },
        );
        if let Some(Sasl { mechanism, username, password }) = &self.sasl {
            client
                .set("sasl.mechanism", mechanism)
                .set("sasl.username", username)
                .set("sasl.password", password.expose_secret());
        }
        for (name, value) in &self.properties {
            if FIXED.contains(&name.as_str()) {
                return Err(invalid(format!(
                    "the property {name} cannot be set: the guarantees rest on it, or a setting of \
                     its own is for it"
                )));
            }
            client.set(name, value.expose_secret());
        }
        Ok(client)
    }

    /// What the producer is told.
    pub(crate) fn producer(&self) -> Result<ClientConfig, SinkError> {
        let mut client = self.client()?;
        // With more room for a batch than for a message, a message that is too large for the topic
        // would take the others of its batch down with it.
        let batch = self.max_message_bytes.min(1_000_000);
        let buffered = self.max_buffered_bytes.max(self.max_message_bytes) / 1024 + 1;
        client
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("max.in.flight.requests.per.connection", "5")
            // The same partition as the clients in Java choose.
            .set("partitioner", "murmur2_random")
            .set("compression.type", self.compression.to_string())
            .set("linger.ms", self.linger_ms.min(self.message_timeout_ms / 2).to_string())
            .set("message.timeout.ms", self.message_timeout_ms.max(1).to_string())
            // A broker that does not answer must leave time for a second try.
            .set(
                "socket.timeout.ms",
                (self.message_timeout_ms / 2).clamp(1_000, 60_000).to_string(),
            )
            // How long a topic may be unknown before that is believed.
            .set(
                "topic.metadata.propagation.max.ms",
                (self.message_timeout_ms / 4).min(3_000).to_string(),
            )
            .set("batch.size", batch.to_string())
            .set("queue.buffering.max.kbytes", buffered.to_string());
        Ok(client)
    }
}

/// Properties that have a setting of their own, or that the guarantees rest on.
const FIXED: [&str; 26] = [
    "acks",
    "auto.offset.reset",
    "bootstrap.servers",
    "delivery.report.only.error",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "group.id",
    "isolation.level",
    "max.in.flight",
    "max.in.flight.requests.per.connection",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "partitioner",
    "request.required.acks",
    "sasl.mechanism",
    "sasl.mechanisms",
    "sasl.password",
    "sasl.username",
    "security.protocol",
    "transactional.id",
];

/// What the client says of its set-up. Values stay out: one of them can be a password.
pub(crate) fn refused(error: &KafkaError) -> SinkError {
    match error {
        KafkaError::ClientConfig(_, why, _, _) if why.contains("not available at build time") => {
            invalid("TLS and SCRAM need a client that is built with them: see the documentation")
        }
        KafkaError::ClientConfig(_, _, name, _) => {
            invalid(format!("the client does not take the property {name} or its value"))
        }
        KafkaError::ClientCreation(why) => invalid(format!("the client cannot be made: {why}")),
        other => invalid(format!("the client cannot be made: {other}")),
    }
}

pub(crate) fn invalid(message: impl Into<String>) -> SinkError {
    SinkError::new(SinkErrorKind::Misconfigured, message)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn number<N: std::str::FromStr>(suffix: &str, value: &str) -> Result<N, SinkError> {
    value.parse().map_err(|_| {
        invalid(format!("AGENT_AUDIT_KAFKA_{suffix} is {value:?}: use a whole number in range"))
    })
}

fn word<'de, T: Deserialize<'de>>(
    suffix: &str,
    value: &'de str,
    words: &str,
) -> Result<T, SinkError> {
    let deserializer: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
        serde::de::IntoDeserializer::into_deserializer(value);
    T::deserialize(deserializer)
        .map_err(|_| invalid(format!("AGENT_AUDIT_KAFKA_{suffix} is {value:?}: use {words}")))
}

fn default_name() -> String {
    "kafka".to_owned()
}

fn default_topic() -> String {
    "agent-audit".to_owned()
}

fn default_linger_ms() -> u64 {
    5
}

fn default_message_timeout_ms() -> u64 {
    15_000
}

fn default_max_message_bytes() -> u32 {
    16 << 20
}

fn default_max_buffered_bytes() -> u32 {
    64 << 20
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<KafkaConfig, SinkError> {
        KafkaConfig::from_lookup(|name| {
            let suffix = name.strip_prefix("AGENT_AUDIT_KAFKA_")?;
            variables.iter().find(|(key, _)| *key == suffix).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_brokers_alone_are_a_config() {
        let config: KafkaConfig = serde_json::from_str(r#"{"brokers": "a:9092"}"#).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", KafkaConfig::new("a:9092")));
        let error = serde_json::from_str::<KafkaConfig>(r#"{"brokers": "a", "topik": "t"}"#);
        assert!(error.unwrap_err().to_string().contains("topik"));
    }

    #[test]
    fn the_environment_says_everything() {
        let config = from(&[
            ("BROKERS", "a:9092"),
            ("NAME", "bus"),
            ("TOPIC", "audit.{tenant}"),
            ("ENCODING", "protobuf"),
            ("COMPRESSION", "zstd"),
            ("LINGER_MS", "1"),
            ("MESSAGE_TIMEOUT_MS", "2000"),
            ("MAX_MESSAGE_BYTES", "1000000"),
            ("MAX_BUFFERED_BYTES", "8000000"),
            ("TLS", "true"),
            ("SASL_USERNAME", "writer"),
            ("SASL_PASSWORD", "hunter2"),
            ("SSL_CA_LOCATION", "/etc/ca.pem"),
        ]);
        let config = config.unwrap();
        assert_eq!((config.name.as_str(), config.topic.as_str()), ("bus", "audit.{tenant}"));
        assert_eq!((config.encoding, config.compression), (Encoding::Protobuf, Compression::Zstd));
        assert_eq!((config.linger_ms, config.message_timeout_ms), (1, 2_000));
        assert_eq!((config.max_message_bytes, config.max_buffered_bytes), (1_000_000, 8_000_000));
        assert!(config.tls && config.sasl.as_ref().unwrap().mechanism == "PLAIN");
        assert!(!format!("{config:?}").contains("hunter2"));
        let client = config.producer().unwrap();
        assert_eq!(client.get("security.protocol"), Some("sasl_ssl"));
        assert_eq!(client.get("ssl.ca.location"), Some("/etc/ca.pem"));
        assert_eq!(client.get("batch.size"), Some("1000000"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let error = |variables: &[(&str, &str)]| from(variables).unwrap_err().to_string();
        assert!(error(&[]).contains("AGENT_AUDIT_KAFKA_BROKERS is not set"));
        let wrong = |name, value| error(&[("BROKERS", "a:1"), (name, value)]);
        assert!(wrong("ENCODING", "xml").contains("json or protobuf"));
        assert!(wrong("COMPRESSION", "7z").contains("zstd"));
        assert!(wrong("LINGER_MS", "soon").contains("LINGER_MS is \"soon\""));
        assert!(wrong("TLS", "yes").contains("true or false"));
        assert!(wrong("SASL_USERNAME", "writer").contains("SASL_PASSWORD is not set"));
    }

    #[test]
    fn guarantees_cannot_be_configured_away() {
        for name in FIXED {
            let config = KafkaConfig::new("a:1").with_property(name, "0".to_owned().into());
            assert!(config.producer().unwrap_err().to_string().contains(name));
        }
        let mut sorted = FIXED;
        sorted.sort_unstable();
        assert_eq!(sorted, FIXED);
    }

    #[test]
    fn a_value_that_the_client_refuses_is_not_shown() {
        let config = KafkaConfig::new("a:1")
            .with_property("socket.timeout.ms.x", "secret".to_owned().into());
        let made: Result<rdkafka::producer::BaseProducer, _> = config.producer().unwrap().create();
        let error = refused(&made.err().unwrap());
        assert!(error.to_string().contains("socket.timeout.ms.x"), "{error}");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }

    #[test]
    fn tls_without_its_library_says_so() {
        let made: Result<rdkafka::producer::BaseProducer, _> =
            KafkaConfig::new("a:1").with_tls(true).producer().unwrap().create();
        // Where a user's build has brought the library in, there is nothing to say.
        if let Err(error) = made {
            assert!(refused(&error).to_string().contains("see the documentation"));
        }
    }
}
