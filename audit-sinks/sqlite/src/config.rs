//! How the sink is set up.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// Where the databases are and how much the sink may use.
///
/// ```
/// use agent_audit_sqlite::SqliteConfig;
/// let config = SqliteConfig::new("/var/lib/agent/audit").with_name("ledger").with_max_open(16);
/// assert_eq!((config.name.as_str(), config.max_open), ("ledger", 16));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The directory of the databases. It is created with mode 0700.
    pub directory: PathBuf,
    /// The name of the sink in its log; `sqlite` where nothing else is said.
    #[serde(default = "default_name")]
    pub name: String,
    /// The most databases that are open at a time, at least 1; 64 where nothing else is said. Each
    /// takes up to three file handles and 2 MiB of page cache.
    #[serde(default = "default_max_open")]
    pub max_open: usize,
    /// The most tenants that one batch is written for at a time, at least 1; 4 where nothing else
    /// is said.
    #[serde(default = "default_parallelism")]
    pub parallelism: usize,
    /// How many milliseconds to wait for a database that another process has locked; 250 where
    /// nothing else is said. Delivery tries again later, and a batch answers for all its tenants
    /// together, so a long wait for one would delay the others.
    #[serde(default = "default_busy_timeout_ms")]
    pub busy_timeout_ms: u64,
    /// The most bytes that one tenant's database may grow to; unlimited where nothing is said. A
    /// tenant at its limit is refused as exhausted, and others go on.
    #[serde(default)]
    pub max_database_bytes: Option<u64>,
}

impl SqliteConfig {
    /// Databases in a directory, and the defaults for everything else.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            name: default_name(),
            max_open: default_max_open(),
            parallelism: default_parallelism(),
            busy_timeout_ms: default_busy_timeout_ms(),
            max_database_bytes: None,
        }
    }

    /// Sets the name of the sink in its log.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the most databases that are open at a time.
    #[must_use]
    pub fn with_max_open(mut self, databases: usize) -> Self {
        self.max_open = databases;
        self
    }

    /// Sets the most tenants that one batch is written for at a time.
    #[must_use]
    pub fn with_parallelism(mut self, tenants: usize) -> Self {
        self.parallelism = tenants;
        self
    }

    /// Sets how long to wait for a locked database, in whole milliseconds.
    #[must_use]
    pub fn with_busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Sets the most bytes that one tenant's database may grow to.
    #[must_use]
    pub fn with_max_database_bytes(mut self, bytes: u64) -> Self {
        self.max_database_bytes = Some(bytes);
        self
    }
}

fn default_name() -> String {
    "sqlite".to_owned()
}

fn default_max_open() -> usize {
    64
}

fn default_parallelism() -> usize {
    4
}

fn default_busy_timeout_ms() -> u64 {
    250
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_directory_alone_is_a_config() {
        let config: SqliteConfig = serde_json::from_str(r#"{"directory": "ledger"}"#).unwrap();
        assert_eq!(config, SqliteConfig::new("ledger"));
        let again = serde_json::to_string(&config.clone().with_max_database_bytes(9)).unwrap();
        let again: SqliteConfig = serde_json::from_str(&again).unwrap();
        assert_eq!(again, config.with_max_database_bytes(9));
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error = serde_json::from_str::<SqliteConfig>(r#"{"directory": "d", "max_opne": 1}"#);
        assert!(error.unwrap_err().to_string().contains("max_opne"));
    }
}
