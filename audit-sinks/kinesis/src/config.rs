//! How the sink is set up.

use agent_audit_aws::{
    AwsConfig, ClaimConfig,
    internal::{Fault, Variables, message_settings},
};
use agent_audit_core::sink::{SinkError, SinkErrorKind};
use serde::{Deserialize, Serialize};

/// The most bytes of a record that every stream takes, its partition key included.
const RECORD_BYTES: usize = 1 << 20;
/// The most bytes of a record that a stream can be told to take.
const LARGEST_RECORD_BYTES: usize = 10 << 20;
/// The most records of one call.
const REQUEST_RECORDS: usize = 500;

/// Which stream the events go to, and how.
///
/// ```
/// use agent_audit_kinesis::{ClaimConfig, KinesisConfig};
/// let config = KinesisConfig::new("audit-events")
///     .with_strict_order()
///     .with_claims(ClaimConfig::new("acme-audit-large"));
/// assert_eq!((config.name.as_str(), config.strict_order), ("kinesis", true));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct KinesisConfig {
    /// The name of the stream, or its ARN.
    pub stream: String,
    /// The name of the sink in its log; `kinesis` where nothing else is said.
    #[serde(default = "default_name")]
    pub name: String,
    /// Whether the records of a chain are put one by one, each after the one before; otherwise up to
    /// 500 go together, and after a fault some can stand in the stream before one that precedes
    /// them.
    #[serde(default)]
    pub strict_order: bool,
    /// The most bytes of a record with its partition key; 1 MiB where nothing else is said. A stream
    /// takes up to 10 MiB where its `MaxRecordSizeInKiB` says so. What is larger goes by reference.
    #[serde(default = "default_max_record_bytes")]
    pub max_record_bytes: usize,
    /// The most bytes of one call, at most 10 MiB; 5 MiB where nothing else is said.
    #[serde(default = "default_max_request_bytes")]
    pub max_request_bytes: usize,
    /// The most calls at a time, for different chains; 4 where nothing else is said.
    #[serde(default = "default_parallelism")]
    pub parallelism: usize,
    /// For how many milliseconds one batch is sent before what was taken is acknowledged and the
    /// rest left for the next; 15,000 where nothing else is said. With the time of a request it must
    /// stay below delivery's timeout of an append.
    #[serde(default = "default_append_time_ms")]
    pub append_time_ms: u64,
    /// Where events go that are larger than a record may be; without it they are refused.
    #[serde(default)]
    pub claims: Option<ClaimConfig>,
    /// Region, endpoint, credentials and patience.
    #[serde(default)]
    pub aws: AwsConfig,
}

impl KinesisConfig {
    /// Events to a stream, and the defaults for everything else.
    pub fn new(stream: impl Into<String>) -> Self {
        Self {
            stream: stream.into(),
            name: default_name(),
            strict_order: false,
            max_record_bytes: default_max_record_bytes(),
            max_request_bytes: default_max_request_bytes(),
            parallelism: default_parallelism(),
            append_time_ms: default_append_time_ms(),
            claims: None,
            aws: AwsConfig::default(),
        }
    }

    /// The settings in the environment: `AGENT_AUDIT_KINESIS_STREAM`, and, where they are set,
    /// `…_NAME`, `…_STRICT_ORDER` (`true` or `false`), `…_MAX_RECORD_BYTES`, `…_MAX_REQUEST_BYTES`,
    /// `…_PARALLELISM`, `…_APPEND_TIME_MS`, `…_REGION`, `…_ENDPOINT`, `…_CONNECT_TIMEOUT_MS`,
    /// `…_REQUEST_TIMEOUT_MS`, `…_CLAIM_BUCKET`, `…_CLAIM_PREFIX`, `…_CLAIM_REGION` and
    /// `…_CLAIM_ENDPOINT`. Credentials come from where Amazon's own tools take them.
    ///
    /// # Errors
    /// [`SinkError`] that names the variable that is missing or wrong.
    ///
    /// ```
    /// use agent_audit_kinesis::KinesisConfig;
    /// // Where no stream is named there is no sink.
    /// assert!(KinesisConfig::from_env().unwrap_err().to_string().contains("KINESIS_STREAM"));
    /// ```
    pub fn from_env() -> Result<Self, SinkError> {
        Ok(Self::from_variables(&|name| std::env::var(name).ok())?)
    }

    fn from_variables(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Fault> {
        let variables = Variables::new("AGENT_AUDIT_KINESIS_", lookup);
        let mut config = Self::new(variables.required("STREAM")?).with_variables(&variables)?;
        variables.set("MAX_RECORD_BYTES", &mut config.max_record_bytes)?;
        variables.set("MAX_REQUEST_BYTES", &mut config.max_request_bytes)?;
        Ok(config)
    }

    message_settings!();

    /// Sets the most bytes of a record and of a call.
    #[must_use]
    pub fn with_max_bytes(mut self, record: usize, request: usize) -> Self {
        (self.max_record_bytes, self.max_request_bytes) = (record, request);
        self
    }

    /// Refuses what the service would refuse with every call.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let wrong = |what: String| Err(Fault::new(SinkErrorKind::Misconfigured, what));
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        let name = self.stream.rsplit_once('/').map_or(&*self.stream, |(_, name)| name);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(plain) {
            return wrong(format!(
                "stream {:?} is neither a name of letters, digits, '_', '.' and '-' nor an ARN",
                self.stream
            ));
        }
        if !(1024..=LARGEST_RECORD_BYTES).contains(&self.max_record_bytes) {
            return wrong(format!(
                "max_record_bytes is {}: use 1 KiB to 10 MiB",
                self.max_record_bytes
            ));
        }
        if !(self.max_record_bytes..=LARGEST_RECORD_BYTES).contains(&self.max_request_bytes) {
            return wrong(format!(
                "max_request_bytes is {}: use max_record_bytes to 10 MiB",
                self.max_request_bytes
            ));
        }
        Ok(())
    }

    pub(crate) fn max_request_records(&self) -> usize {
        if self.strict_order { 1 } else { REQUEST_RECORDS }
    }
}

fn default_name() -> String {
    "kinesis".to_owned()
}

fn default_max_record_bytes() -> usize {
    RECORD_BYTES
}

fn default_max_request_bytes() -> usize {
    5 << 20
}

fn default_parallelism() -> usize {
    4
}

fn default_append_time_ms() -> u64 {
    15_000
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_stream_alone_is_a_config() {
        let config: KinesisConfig = serde_json::from_str(r#"{"stream": "audit"}"#).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", KinesisConfig::new("audit")));
        let text = serde_json::to_string(&config.with_claims(ClaimConfig::new("large"))).unwrap();
        let again: KinesisConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(again.claims, Some(ClaimConfig::new("large")));
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error = serde_json::from_str::<KinesisConfig>(r#"{"stream": "s", "strict": true}"#);
        assert!(error.unwrap_err().to_string().contains("strict"));
    }

    #[test]
    fn the_environment_is_read_and_what_is_wrong_is_named() {
        let lookup = |name: &str| {
            let value = match name.strip_prefix("AGENT_AUDIT_KINESIS_")? {
                "STREAM" => "audit",
                "STRICT_ORDER" => "true",
                "CLAIM_BUCKET" => "large",
                "ENDPOINT" => "http://127.0.0.1:4566",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let config = KinesisConfig::from_variables(&lookup).unwrap();
        assert!(config.strict_order && config.stream == "audit");
        assert_eq!(config.claims, Some(ClaimConfig::new("large")));
        assert_eq!(config.aws.endpoint.as_deref(), Some("http://127.0.0.1:4566"));

        let wrong = |name: &str| match name {
            "AGENT_AUDIT_KINESIS_STREAM" => Some("audit".to_owned()),
            "AGENT_AUDIT_KINESIS_STRICT_ORDER" => Some("yes".to_owned()),
            _ => None,
        };
        let error = KinesisConfig::from_variables(&wrong).unwrap_err();
        assert!(error.to_string().contains("AGENT_AUDIT_KINESIS_STRICT_ORDER is \"yes\""));
    }

    #[test]
    fn what_the_service_would_always_refuse_is_refused_at_once() {
        let arn = "arn:aws:kinesis:eu-central-1:000000000000:stream/audit";
        for good in ["audit", "audit.events_1-2", arn] {
            assert_eq!(KinesisConfig::new(good).check(), Ok(()));
        }
        for bad in ["", "audit events", "arn:aws:kinesis:eu-central-1:0:stream/", &"x".repeat(129)]
        {
            assert!(KinesisConfig::new(bad).check().is_err(), "{bad}");
        }
        for (record, request) in [(11 << 20, 11 << 20), (100, 5 << 20), (2 << 20, 1 << 20)] {
            assert!(KinesisConfig::new("audit").with_max_bytes(record, request).check().is_err());
        }
        assert_eq!(KinesisConfig::new("audit").with_max_bytes(10 << 20, 10 << 20).check(), Ok(()));
    }
}
