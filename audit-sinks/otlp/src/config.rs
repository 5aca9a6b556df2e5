//! How the sink is set up.

mod environment;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use agent_audit_core::sink::SinkError;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// The protocol of a collector.
///
/// ```
/// use agent_audit_otlp::{OtlpConfig, Protocol};
/// assert_eq!(OtlpConfig::grpc("http://localhost:4317").protocol, Protocol::Grpc);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Protocol {
    /// gRPC over HTTP/2.
    #[serde(rename = "grpc")]
    Grpc,
    /// Protobuf over HTTP/1.1.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
}

/// How requests are compressed.
///
/// ```
/// use agent_audit_otlp::Compression;
/// assert_eq!(Compression::default(), Compression::None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With gzip.
    Gzip,
}

/// What becomes of an event that makes a request larger than a collector takes.
///
/// ```
/// use agent_audit_otlp::Oversized;
/// assert_eq!(Oversized::default(), Oversized::Refuse);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Oversized {
    /// It is refused, and its chain halts visibly.
    #[default]
    Refuse,
    /// Where content makes it too large, the event goes without its content, and says so in
    /// `agent_audit.content.left_out`. One that is too large without content is refused.
    LeaveOutContent,
}

/// Where the collector is and what it is sent.
///
/// ```
/// use agent_audit_otlp::{Compression, OtlpConfig};
/// let config = OtlpConfig::http("https://collector.example:4318")
///     .with_header("authorization", "Bearer very-secret")
///     .with_compression(Compression::Gzip)
///     .with_resource("service.name", "support");
/// assert_eq!(config.endpoint, "https://collector.example:4318/v1/logs");
/// assert!(!format!("{config:?}").contains("very-secret"));
/// ```
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct OtlpConfig {
    /// The URL of the collector. Over HTTP it is the whole URL of its logs, as
    /// `http://localhost:4318/v1/logs`; over gRPC scheme, host and port count. `https` is TLS.
    pub endpoint: String,
    /// The protocol; `http/protobuf` where nothing else is said.
    #[serde(default)]
    pub protocol: Protocol,
    /// The name of the sink in its log; `otlp` where nothing else is said.
    #[serde(default = "default_name")]
    pub name: String,
    /// Headers of every request; their values are secret.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretString>,
    /// How requests are compressed; not at all where nothing else is said.
    #[serde(default)]
    pub compression: Compression,
    /// How many milliseconds one request may take; 10,000 where nothing else is said.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Attributes of the resource, as `service.name`. `agent_audit.tenant.id` is added to them.
    #[serde(default)]
    pub resource: BTreeMap<String, String>,
    /// Whether content is sent; where nothing else is said, only the commitments to it are.
    #[serde(default)]
    pub content: bool,
    /// Whether each record carries the canonical bytes of its event in `agent_audit.event`, so that
    /// what a collector received can be verified; it does where nothing else is said.
    #[serde(default = "default_event")]
    pub event: bool,
    /// The most bytes of one request before compression; 4 MiB, which a collector takes over gRPC
    /// as it is, where nothing else is said.
    #[serde(default = "default_max_request_bytes")]
    pub max_request_bytes: usize,
    /// What becomes of an event that alone is larger than that; refused where nothing else is said.
    #[serde(default)]
    pub oversized: Oversized,
    /// A PEM file with the certificates that the collector's is trusted by; those of the Mozilla
    /// root program where nothing is said.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// A PEM file with the certificate that this process shows; it goes with `client_key`, and over
    /// HTTP with `certificate` too.
    #[serde(default)]
    pub client_certificate: Option<PathBuf>,
    /// A PEM file with the private key to `client_certificate`.
    #[serde(default)]
    pub client_key: Option<PathBuf>,
}

impl OtlpConfig {
    /// A collector that speaks gRPC, by the URL of its host and port.
    ///
    /// ```
    /// use agent_audit_otlp::OtlpConfig;
    /// assert_eq!(OtlpConfig::grpc("http://localhost:4317").timeout_ms, 10_000);
    /// ```
    pub fn grpc(endpoint: impl Into<String>) -> Self {
        Self::new(Protocol::Grpc, endpoint.into())
    }

    /// A collector that speaks HTTP, by its base URL: `v1/logs` is appended.
    ///
    /// ```
    /// use agent_audit_otlp::OtlpConfig;
    /// let config = OtlpConfig::http("http://localhost:4318/");
    /// assert_eq!(config.endpoint, "http://localhost:4318/v1/logs");
    /// ```
    pub fn http(base: impl AsRef<str>) -> Self {
        Self::new(Protocol::HttpProtobuf, environment::logs_below(base.as_ref()))
    }

    /// What the standard variables of OpenTelemetry say.
    ///
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, `_PROTOCOL`, `_HEADERS`, `_COMPRESSION`, `_TIMEOUT` (in
    /// milliseconds), `_CERTIFICATE`, `_CLIENT_CERTIFICATE`, `_CLIENT_KEY` and `_INSECURE`; for each
    /// one `OTEL_EXPORTER_OTLP_LOGS_…` comes before it, and is used as it is where it is an endpoint.
    /// `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME` become the resource. An empty variable
    /// counts as none. Without any the collector is at `http://localhost:4318/v1/logs`.
    ///
    /// # Errors
    /// [`SinkError`] names the variable that cannot be read, and never the value of a header.
    pub fn from_env() -> Result<Self, SinkError> {
        environment::read(&|name| std::env::var(name).ok())
    }

    fn new(protocol: Protocol, endpoint: String) -> Self {
        Self {
            endpoint,
            protocol,
            name: default_name(),
            headers: BTreeMap::new(),
            compression: Compression::None,
            timeout_ms: default_timeout_ms(),
            resource: BTreeMap::new(),
            content: false,
            event: default_event(),
            max_request_bytes: default_max_request_bytes(),
            oversized: Oversized::Refuse,
            certificate: None,
            client_certificate: None,
            client_key: None,
        }
    }

    /// Sets the name of the sink in its log.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Adds a header to every request.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<SecretString>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }

    /// Sets how requests are compressed.
    #[must_use]
    pub fn with_compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Sets how long one request may take, in whole milliseconds.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Adds an attribute of the resource.
    #[must_use]
    pub fn with_resource(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.resource.insert(name.into(), value.into());
        self
    }

    /// Says whether content is sent. Who can read the collector's data can then read it, and no
    /// erasure reaches it there.
    #[must_use]
    pub fn with_content(mut self, content: bool) -> Self {
        self.content = content;
        self
    }

    /// Says whether records carry the canonical bytes of their events.
    #[must_use]
    pub fn with_event(mut self, event: bool) -> Self {
        self.event = event;
        self
    }

    /// Sets the most bytes of one request before compression.
    #[must_use]
    pub fn with_max_request_bytes(mut self, bytes: usize) -> Self {
        self.max_request_bytes = bytes;
        self
    }

    /// Says what becomes of an event that is too large for a request.
    #[must_use]
    pub fn with_oversized(mut self, oversized: Oversized) -> Self {
        self.oversized = oversized;
        self
    }

    /// Trusts the certificates of a PEM file, and no others.
    #[must_use]
    pub fn with_certificate(mut self, file: impl Into<PathBuf>) -> Self {
        self.certificate = Some(file.into());
        self
    }

    /// Shows a certificate to the collector: PEM files of the certificate and of its private key.
    #[must_use]
    pub fn with_client_certificate(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.client_certificate = Some(certificate.into());
        self.client_key = Some(key.into());
        self
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

/// By hand, because a URL can carry a password or a key as well as a header can.
impl fmt::Debug for OtlpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpConfig")
            .field("endpoint", &without_secrets(&self.endpoint))
            .field("protocol", &self.protocol)
            .field("name", &self.name)
            .field("headers", &self.headers)
            .field("compression", &self.compression)
            .field("timeout_ms", &self.timeout_ms)
            .field("resource", &self.resource)
            .field("content", &self.content)
            .field("event", &self.event)
            .field("max_request_bytes", &self.max_request_bytes)
            .field("oversized", &self.oversized)
            .field("certificate", &self.certificate)
            .field("client_certificate", &self.client_certificate)
            .field("client_key", &self.client_key)
            .finish()
    }
}

/// A URL without user, password and query.
pub(crate) fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let separator = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{separator}{host}{path}")
}

fn default_name() -> String {
    "otlp".to_owned()
}

fn default_timeout_ms() -> u64 {
    10_000
}

fn default_event() -> bool {
    true
}

fn default_max_request_bytes() -> usize {
    4 << 20
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_alone_is_a_config() {
        let config: OtlpConfig =
            serde_json::from_str(r#"{"endpoint": "http://localhost:4318/v1/logs"}"#).unwrap();
        let same = OtlpConfig::http("http://localhost:4318");
        assert_eq!(format!("{config:?}"), format!("{same:?}"));
        let whole = r#"{"endpoint": "http://c:4317", "protocol": "grpc", "compression": "gzip",
            "headers": {"x-key": "secret"}, "oversized": "leave_out_content", "content": true}"#;
        let config: OtlpConfig = serde_json::from_str(whole).unwrap();
        assert_eq!((config.protocol, config.compression), (Protocol::Grpc, Compression::Gzip));
        assert_eq!(config.oversized, Oversized::LeaveOutContent);
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error =
            serde_json::from_str::<OtlpConfig>(r#"{"endpoint": "http://c", "compresion": "gzip"}"#);
        assert!(error.unwrap_err().to_string().contains("compresion"));
    }

    #[test]
    fn debug_shows_no_secret() {
        let config = OtlpConfig::http("https://user:pa55@host:4318/x?key=k3y")
            .with_header("authorization", "Bearer t0ken");
        let shown = format!("{config:?}");
        for secret in ["user", "pa55", "k3y", "t0ken"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("authorization") && shown.contains("https://host:4318/x"));
    }
}
