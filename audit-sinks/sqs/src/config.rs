//! How the sink is set up.

use agent_audit_aws::{
    AwsConfig, ClaimConfig,
    internal::{Fault, Variables, message_settings},
};
use agent_audit_core::sink::{SinkError, SinkErrorKind};
use serde::{Deserialize, Serialize};

/// The most bytes of a message, and of all messages of a call, that every queue takes.
const MESSAGE_BYTES: usize = 256 << 10;
/// The most bytes of either that a queue can be told to take.
const LARGEST_MESSAGE_BYTES: usize = 1 << 20;

/// Which queue the events go to, and how.
///
/// ```
/// use agent_audit_sqs::{ClaimConfig, SqsConfig};
/// let url = "https://sqs.eu-central-1.amazonaws.com/000000000000/audit.fifo";
/// let config = SqsConfig::new(url).with_claims(ClaimConfig::new("acme-audit-large"));
/// assert_eq!((config.name.as_str(), config.max_message_bytes), ("sqs", 256 << 10));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SqsConfig {
    /// The URL of the queue, which is a FIFO queue.
    pub queue_url: String,
    /// The name of the sink in its log; `sqs` where nothing else is said.
    #[serde(default = "default_name")]
    pub name: String,
    /// Whether the messages of a chain are sent one by one, each after the one before was taken;
    /// otherwise up to ten go together, and after a fault some can stand in the queue before one
    /// that precedes them.
    #[serde(default)]
    pub strict_order: bool,
    /// The most bytes of a message with its attributes, and of a call; 256 KiB where nothing else is
    /// said. A queue takes up to 1 MiB where its `MaximumMessageSize` says so. What is larger goes
    /// by reference.
    #[serde(default = "default_max_message_bytes")]
    pub max_message_bytes: usize,
    /// The most calls at a time, for different chains; 8 where nothing else is said.
    #[serde(default = "default_parallelism")]
    pub parallelism: usize,
    /// For how many milliseconds one batch is sent before what was taken is acknowledged and the
    /// rest left for the next; 15,000 where nothing else is said. With the time of a request it must
    /// stay below delivery's timeout of an append.
    #[serde(default = "default_append_time_ms")]
    pub append_time_ms: u64,
    /// Where events go that are larger than a message may be; without it they are refused.
    #[serde(default)]
    pub claims: Option<ClaimConfig>,
    /// Region, endpoint, credentials and patience.
    #[serde(default)]
    pub aws: AwsConfig,
}

impl SqsConfig {
    /// Events to a queue, and the defaults for everything else.
    pub fn new(queue_url: impl Into<String>) -> Self {
        Self {
            queue_url: queue_url.into(),
            name: default_name(),
            strict_order: false,
            max_message_bytes: default_max_message_bytes(),
            parallelism: default_parallelism(),
            append_time_ms: default_append_time_ms(),
            claims: None,
            aws: AwsConfig::default(),
        }
    }

    /// The settings in the environment: `AGENT_AUDIT_SQS_QUEUE_URL`, and, where they are set,
    /// `…_NAME`, `…_STRICT_ORDER` (`true` or `false`), `…_MAX_MESSAGE_BYTES`, `…_PARALLELISM`,
    /// `…_APPEND_TIME_MS`, `…_REGION`, `…_ENDPOINT`, `…_CONNECT_TIMEOUT_MS`,
    /// `…_REQUEST_TIMEOUT_MS`, `…_CLAIM_BUCKET`, `…_CLAIM_PREFIX`, `…_CLAIM_REGION` and
    /// `…_CLAIM_ENDPOINT`. Credentials come from where Amazon's own tools take them.
    ///
    /// # Errors
    /// [`SinkError`] that names the variable that is missing or wrong.
    ///
    /// ```
    /// use agent_audit_sqs::SqsConfig;
    /// // Where no queue is named there is no sink.
    /// assert!(SqsConfig::from_env().unwrap_err().to_string().contains("SQS_QUEUE_URL"));
    /// ```
    pub fn from_env() -> Result<Self, SinkError> {
        Ok(Self::from_variables(&|name| std::env::var(name).ok())?)
    }

    fn from_variables(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Fault> {
        let variables = Variables::new("AGENT_AUDIT_SQS_", lookup);
        let mut config = Self::new(variables.required("QUEUE_URL")?).with_variables(&variables)?;
        variables.set("MAX_MESSAGE_BYTES", &mut config.max_message_bytes)?;
        Ok(config)
    }

    message_settings!();

    /// Sets the most bytes of a message and of a call.
    #[must_use]
    pub fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// The name of the queue, as it stands at the end of its URL.
    pub(crate) fn queue(&self) -> &str {
        self.queue_url.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// Refuses what the service would refuse with every call.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let wrong = |what: String| Err(Fault::new(SinkErrorKind::Misconfigured, what));
        let scheme =
            self.queue_url.starts_with("https://") || self.queue_url.starts_with("http://");
        if !scheme || self.queue_url.contains('@') {
            return wrong("queue_url is not the URL of a queue: begin it with https://".to_owned());
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        let queue = self.queue();
        let fifo = queue.strip_suffix(".fifo");
        if queue.len() > 80 || !fifo.is_some_and(|n| !n.is_empty() && n.bytes().all(plain)) {
            return wrong(format!(
                "queue {queue:?} is no FIFO queue: its name is letters, digits, '_' and '-', and \
                 .fifo at the end"
            ));
        }
        if !(1024..=LARGEST_MESSAGE_BYTES).contains(&self.max_message_bytes) {
            return wrong(format!(
                "max_message_bytes is {}: use 1 KiB to 1 MiB",
                self.max_message_bytes
            ));
        }
        Ok(())
    }
}

fn default_name() -> String {
    "sqs".to_owned()
}

fn default_max_message_bytes() -> usize {
    MESSAGE_BYTES
}

fn default_parallelism() -> usize {
    8
}

fn default_append_time_ms() -> u64 {
    15_000
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const URL: &str = "https://sqs.eu-central-1.amazonaws.com/000000000000/audit.fifo";

    #[test]
    fn a_queue_alone_is_a_config() {
        let config: SqsConfig =
            serde_json::from_str(&format!(r#"{{"queue_url": "{URL}"}}"#)).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", SqsConfig::new(URL)));
        let text = serde_json::to_string(&config.with_claims(ClaimConfig::new("large"))).unwrap();
        let again: SqsConfig = serde_json::from_str(&text).unwrap();
        assert_eq!(again.claims, Some(ClaimConfig::new("large")));
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error = serde_json::from_str::<SqsConfig>(r#"{"queue_url": "q", "strict": true}"#);
        assert!(error.unwrap_err().to_string().contains("strict"));
    }

    #[test]
    fn the_environment_is_read_and_what_is_wrong_is_named() {
        let lookup = |name: &str| {
            let value = match name.strip_prefix("AGENT_AUDIT_SQS_")? {
                "QUEUE_URL" => URL,
                "MAX_MESSAGE_BYTES" => "1048576",
                "CLAIM_BUCKET" => "large",
                "REGION" => "eu-central-1",
                _ => return None,
            };
            Some(value.to_owned())
        };
        let config = SqsConfig::from_variables(&lookup).unwrap();
        assert_eq!((config.queue(), config.max_message_bytes), ("audit.fifo", 1 << 20));
        assert_eq!(config.claims, Some(ClaimConfig::new("large")));
        assert_eq!(config.aws.region.as_deref(), Some("eu-central-1"));

        let error = SqsConfig::from_variables(&|_| None).unwrap_err();
        assert_eq!(error.to_string(), "AGENT_AUDIT_SQS_QUEUE_URL is not set");
    }

    #[test]
    fn what_the_service_would_always_refuse_is_refused_at_once() {
        assert_eq!(SqsConfig::new(URL).check(), Ok(()));
        for bad in [
            "audit.fifo",
            "https://sqs.eu-central-1.amazonaws.com/000000000000/audit",
            "https://sqs.eu-central-1.amazonaws.com/000000000000/.fifo",
            "https://key:secret@sqs.eu-central-1.amazonaws.com/000000000000/audit.fifo",
        ] {
            let fault = SqsConfig::new(bad).check().unwrap_err();
            assert!(!fault.to_string().contains("secret"), "{fault}");
        }
        for bytes in [100, 2 << 20] {
            assert!(SqsConfig::new(URL).with_max_message_bytes(bytes).check().is_err());
        }
    }
}
