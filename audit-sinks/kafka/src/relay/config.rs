//! How the relay is set up.

use std::{path::PathBuf, time::Duration};

use agent_audit_core::sink::SinkError;
use rdkafka::ClientConfig;
use serde::Deserialize;

use crate::config::{KafkaConfig, invalid, millis};

/// What the relay reads, and how much it may hold.
///
/// ```
/// use agent_audit_kafka::{KafkaConfig, RelayConfig};
/// let kafka = KafkaConfig::new("localhost:9092").with_topic("audit-{tenant}");
/// let config = RelayConfig::new(kafka, "audit-relay").with_quarantine("/var/lib/audit/quarantine");
/// assert_eq!(config.group, "audit-relay");
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RelayConfig {
    /// The cluster and the topics.
    pub kafka: KafkaConfig,
    /// The consumer group: relays of one group share the partitions.
    pub group: String,
    /// Where messages are kept that belong nowhere: those that are no event, that contradict another
    /// one, or that a sink refuses for good. Without it the relay never passes such a message: its
    /// partition's offset stays there, and the other chains go on. The directory also says which
    /// chains were halted at which sinks, so that a relay that starts again need not find out.
    #[serde(default)]
    pub quarantine: Option<PathBuf>,
    /// How many milliseconds events wait for one that is missing before them; 60,000 where nothing
    /// else is said. Then they are quarantined, or, without a quarantine, reported. The time does
    /// not run while the partition rests.
    #[serde(default = "default_gap_timeout_ms")]
    pub gap_timeout_ms: u64,
    /// The most bytes of events that are held, 64 MiB where nothing else is said. Partitions share
    /// them evenly; one that has used its share is not read on for a while.
    #[serde(default = "default_max_buffered_bytes")]
    pub max_buffered_bytes: usize,
    /// The most chains that are kept in mind, 100,000 where nothing else is said; of those at rest
    /// the longest unheard of are forgotten, and looked up in the sinks when they come back.
    #[serde(default = "default_max_chains")]
    pub max_chains: usize,
    /// How many milliseconds a sink may take for one call; 30,000 where nothing else is said.
    #[serde(default = "default_append_timeout_ms")]
    pub append_timeout_ms: u64,
    /// The bound of the first delay before a retry, in milliseconds; 100 where nothing else is said.
    #[serde(default = "default_shortest_retry_ms")]
    pub shortest_retry_ms: u64,
    /// The bound of all delays, in milliseconds; 30,000 where nothing else is said.
    #[serde(default = "default_longest_retry_ms")]
    pub longest_retry_ms: u64,
    /// How often offsets are committed, in milliseconds; 1,000 where nothing else is said.
    #[serde(default = "default_commit_interval_ms")]
    pub commit_interval_ms: u64,
    /// How many milliseconds the group waits for a relay that is gone; 45,000 where nothing else is
    /// said.
    #[serde(default = "default_session_timeout_ms")]
    pub session_timeout_ms: u64,
    /// How many milliseconds a stop waits for the sinks; 20,000 where nothing else is said. What is
    /// not acknowledged by then is read again after the next start.
    #[serde(default = "default_stop_timeout_ms")]
    pub stop_timeout_ms: u64,
}

impl RelayConfig {
    /// Topics to read as a group, and the defaults for everything else.
    pub fn new(kafka: KafkaConfig, group: impl Into<String>) -> Self {
        Self {
            kafka,
            group: group.into(),
            quarantine: None,
            gap_timeout_ms: default_gap_timeout_ms(),
            max_buffered_bytes: default_max_buffered_bytes(),
            max_chains: default_max_chains(),
            append_timeout_ms: default_append_timeout_ms(),
            shortest_retry_ms: default_shortest_retry_ms(),
            longest_retry_ms: default_longest_retry_ms(),
            commit_interval_ms: default_commit_interval_ms(),
            session_timeout_ms: default_session_timeout_ms(),
            stop_timeout_ms: default_stop_timeout_ms(),
        }
    }

    /// Sets where messages are kept that belong nowhere.
    #[must_use]
    pub fn with_quarantine(mut self, directory: impl Into<PathBuf>) -> Self {
        self.quarantine = Some(directory.into());
        self
    }

    /// Sets how long events wait for one that is missing.
    #[must_use]
    pub fn with_gap_timeout(mut self, timeout: Duration) -> Self {
        self.gap_timeout_ms = millis(timeout);
        self
    }

    /// Sets the most bytes of events that are held.
    #[must_use]
    pub fn with_max_buffered_bytes(mut self, bytes: usize) -> Self {
        self.max_buffered_bytes = bytes;
        self
    }

    /// Sets the most chains that are kept in mind.
    #[must_use]
    pub fn with_max_chains(mut self, chains: usize) -> Self {
        self.max_chains = chains;
        self
    }

    /// Sets how long a sink may take for one call.
    #[must_use]
    pub fn with_append_timeout(mut self, timeout: Duration) -> Self {
        self.append_timeout_ms = millis(timeout);
        self
    }

    /// Sets the bounds of the delays before retries.
    #[must_use]
    pub fn with_retries(mut self, shortest: Duration, longest: Duration) -> Self {
        self.shortest_retry_ms = millis(shortest);
        self.longest_retry_ms = millis(longest);
        self
    }

    /// Sets how often offsets are committed.
    #[must_use]
    pub fn with_commit_interval(mut self, interval: Duration) -> Self {
        self.commit_interval_ms = millis(interval);
        self
    }

    /// Sets how long the group waits for a relay that is gone.
    #[must_use]
    pub fn with_session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout_ms = millis(timeout);
        self
    }

    /// Sets how long a stop waits for the sinks.
    #[must_use]
    pub fn with_stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout_ms = millis(timeout);
        self
    }

    /// What the consumer is told.
    pub(super) fn consumer(&self) -> Result<ClientConfig, SinkError> {
        if self.group.is_empty() {
            return Err(invalid("the relay has no group: name one"));
        }
        let mut client = self.kafka.client()?;
        client
            .set("group.id", &self.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            // Who keeps a partition goes on reading it while others change hands.
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", self.session_timeout_ms.to_string())
            .set(
                "heartbeat.interval.ms",
                (self.session_timeout_ms / 10).clamp(100, 3_000).to_string(),
            )
            .set("queued.max.messages.kbytes", "16384")
            .set("fetch.queue.backoff.ms", "100")
            .set("fetch.wait.max.ms", "100")
            // A tenant's new topic is found within this time.
            .set("topic.metadata.refresh.interval.ms", "10000")
            .set("statistics.interval.ms", "2000");
        Ok(client)
    }
}

fn default_gap_timeout_ms() -> u64 {
    60_000
}

fn default_max_buffered_bytes() -> usize {
    64 << 20
}

fn default_max_chains() -> usize {
    100_000
}

fn default_append_timeout_ms() -> u64 {
    30_000
}

fn default_shortest_retry_ms() -> u64 {
    100
}

fn default_longest_retry_ms() -> u64 {
    30_000
}

fn default_commit_interval_ms() -> u64 {
    1_000
}

fn default_session_timeout_ms() -> u64 {
    45_000
}

fn default_stop_timeout_ms() -> u64 {
    20_000
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_and_a_group_are_a_config() {
        let json = r#"{"kafka": {"brokers": "a:9092"}, "group": "g"}"#;
        let config: RelayConfig = serde_json::from_str(json).unwrap();
        let same = RelayConfig::new(KafkaConfig::new("a:9092"), "g");
        assert_eq!(format!("{config:?}"), format!("{same:?}"));
        assert!(serde_json::from_str::<RelayConfig>(r#"{"grop": "g"}"#).is_err());
        assert!(RelayConfig::new(KafkaConfig::new("a"), "").consumer().is_err());
    }
}
