//! How the sink is set up.

use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use agent_audit_core::sink::{SinkError, SinkErrorKind};
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

    /// Databases as the environment says, in a directory where it names none.
    ///
    /// | variable | sets | as |
    /// |---|---|---|
    /// | `AGENT_AUDIT_SQLITE_DIR` | `directory` | a directory |
    /// | `AGENT_AUDIT_SQLITE_NAME` | `name` | `sqlite` |
    /// | `AGENT_AUDIT_SQLITE_MAX_OPEN` | `max_open` | `64` |
    /// | `AGENT_AUDIT_SQLITE_PARALLELISM` | `parallelism` | `4` |
    /// | `AGENT_AUDIT_SQLITE_BUSY_TIMEOUT_MS` | `busy_timeout_ms` | `250` |
    /// | `AGENT_AUDIT_SQLITE_MAX_DATABASE_BYTES` | `max_database_bytes` | `1073741824` |
    ///
    /// ```
    /// use agent_audit_sqlite::SqliteConfig;
    /// // No such variable is set here.
    /// assert_eq!(SqliteConfig::from_env("ledger")?, SqliteConfig::new("ledger"));
    /// # Ok::<(), agent_audit_core::sink::SinkError>(())
    /// ```
    ///
    /// # Errors
    /// [`SinkError`] that names the variable whose value cannot be used.
    pub fn from_env(directory: impl Into<PathBuf>) -> Result<Self, SinkError> {
        Self::from_variables(directory.into(), &|name| std::env::var_os(name))
    }

    fn from_variables(
        directory: PathBuf,
        lookup: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, SinkError> {
        let set = |name: &str| {
            let name = format!("AGENT_AUDIT_SQLITE_{name}");
            let value = lookup(&name).filter(|value| !value.is_empty());
            value.map(|value| (name, value))
        };
        fn number<T: FromStr>(set: Option<(String, OsString)>, usual: T) -> Result<T, SinkError> {
            let Some((name, value)) = set else { return Ok(usual) };
            value.to_str().and_then(|value| value.trim().parse().ok()).ok_or_else(|| {
                let shown: String = value.to_string_lossy().chars().take(64).collect();
                let context = format!(
                    "the environment variable {name} is {shown:?}: expected a whole number that \
                     fits; change it or unset it"
                );
                SinkError::new(SinkErrorKind::Misconfigured, context)
            })
        }
        let usual = Self::new(directory);
        let max_database_bytes = set("MAX_DATABASE_BYTES");
        Ok(Self {
            directory: set("DIR").map_or(usual.directory, |(_, directory)| directory.into()),
            name: set("NAME").map_or(usual.name, |(_, name)| name.to_string_lossy().into_owned()),
            max_open: number(set("MAX_OPEN"), usual.max_open)?,
            parallelism: number(set("PARALLELISM"), usual.parallelism)?,
            busy_timeout_ms: number(set("BUSY_TIMEOUT_MS"), usual.busy_timeout_ms)?,
            max_database_bytes: match max_database_bytes {
                Some(set) => Some(number(Some(set), 0)?),
                None => None,
            },
        })
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
    fn the_environment_sets_what_it_names() {
        let lookup = |name: &str| match name {
            "AGENT_AUDIT_SQLITE_DIR" => Some(OsString::from("elsewhere")),
            "AGENT_AUDIT_SQLITE_MAX_OPEN" => Some(OsString::from("7")),
            "AGENT_AUDIT_SQLITE_MAX_DATABASE_BYTES" => Some(OsString::from("4096")),
            _ => None,
        };
        let config = SqliteConfig::from_variables("ledger".into(), &lookup).unwrap();
        let expected =
            SqliteConfig::new("elsewhere").with_max_open(7).with_max_database_bytes(4096);
        assert_eq!(config, expected);
    }

    #[test]
    fn a_variable_that_is_wrong_is_named_with_its_value() {
        for name in ["MAX_OPEN", "PARALLELISM", "BUSY_TIMEOUT_MS", "MAX_DATABASE_BYTES"] {
            let name = format!("AGENT_AUDIT_SQLITE_{name}");
            let lookup = |asked: &str| (asked == name).then(|| OsString::from("plenty"));
            let error = SqliteConfig::from_variables("ledger".into(), &lookup).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(&name) && text.contains("plenty"), "{text}");
        }
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error = serde_json::from_str::<SqliteConfig>(r#"{"directory": "d", "max_opne": 1}"#);
        assert!(error.unwrap_err().to_string().contains("max_opne"));
    }
}
