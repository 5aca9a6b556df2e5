//! How the sink and the store are set up.

mod env;
mod url;

use std::{fmt, path::PathBuf, time::Duration};

use agent_audit_core::sink::SinkError;
use secrecy::SecretString;
use serde::Deserialize;

pub(crate) use url::Address;

/// Where the database is, as whom to log in, and how long to wait.
///
/// A password is given apart, or in the URL; neither is ever shown.
///
/// ```
/// use agent_audit_postgres::PostgresConfig;
/// let config = PostgresConfig::new("postgres://agent_1:secret@db.example.com/ledger")
///     .with_name("ledger")
///     .with_connections(2);
/// assert_eq!((config.name.as_str(), config.connections), ("ledger", 2));
/// let shown = format!("{config:?}");
/// assert!(shown.contains("postgres://agent_1@db.example.com:5432/ledger"));
/// assert!(!shown.contains("secret"));
/// ```
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PostgresConfig {
    /// `postgres://USER@HOST:PORT/DATABASE`, with the parameters of libpq behind a `?`. It is a
    /// secret because it may hold the password.
    pub url: SecretString,
    /// The password of the login, where the URL has none.
    #[serde(default)]
    pub password: Option<SecretString>,
    /// The name of the sink in its log; `postgres` where nothing else is said.
    #[serde(default = "default_name")]
    pub name: String,
    /// Whether the connection is encrypted and the server's certificate checked. Where nothing is said
    /// here nor in the URL (`sslmode`): [`SslMode::VerifyFull`], and [`SslMode::Prefer`] where the
    /// server is on this machine.
    #[serde(default)]
    pub ssl_mode: Option<SslMode>,
    /// A file of certificates in PEM form, one of which the server's is signed by. Where nothing is
    /// said here nor in the URL (`sslrootcert`), the operating system's.
    #[serde(default)]
    pub root_certificates: Option<PathBuf>,
    /// The most connections that are open at a time, at least 1; 4 where nothing else is said.
    #[serde(default = "default_connections")]
    pub connections: usize,
    /// How many milliseconds a connection may take; 5,000 where nothing else is said.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// How many milliseconds a statement may take; 30,000 where nothing else is said. The server
    /// cancels it then; one that does not even do that is given up two seconds later.
    #[serde(default = "default_statement_timeout_ms")]
    pub statement_timeout_ms: u64,
    /// How many milliseconds to wait for a chain that another transaction holds; 250 where nothing
    /// else is said.
    #[serde(default = "default_lock_timeout_ms")]
    pub lock_timeout_ms: u64,
    /// How many months ahead partitions are created, at most 24; 3 where nothing else is said. With
    /// 0 the sink creates none, and an operator or a job calls `agent_audit.ensure_partitions`.
    #[serde(default = "default_partitions_ahead")]
    pub partitions_ahead: u32,
}

/// How a connection is protected, in the words of libpq.
///
/// ```
/// use agent_audit_postgres::SslMode;
/// assert_eq!(serde_json::to_string(&SslMode::VerifyFull)?, "\"verify-full\"");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server offers it; whose server it is is not checked.
    Prefer,
    /// Always encrypted; whose server it is is not checked. With a file of root certificates as
    /// [`VerifyCa`](Self::VerifyCa), which is how libpq means it.
    Require,
    /// Always encrypted, with a certificate that is signed by a root; its name is not checked.
    VerifyCa,
    /// Always encrypted, with a certificate for the host's name that is signed by a root.
    VerifyFull,
}

impl PostgresConfig {
    /// The database at a URL, and the defaults for everything else.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            password: None,
            name: default_name(),
            ssl_mode: None,
            root_certificates: None,
            connections: default_connections(),
            connect_timeout_ms: default_connect_timeout_ms(),
            statement_timeout_ms: default_statement_timeout_ms(),
            lock_timeout_ms: default_lock_timeout_ms(),
            partitions_ahead: default_partitions_ahead(),
        }
    }

    /// What the environment says: `AGENT_AUDIT_POSTGRES_URL`, and `_PASSWORD`, `_NAME`, `_SSL_MODE`,
    /// `_ROOT_CERTIFICATES`, `_CONNECTIONS`, `_CONNECT_TIMEOUT_MS`, `_STATEMENT_TIMEOUT_MS`,
    /// `_LOCK_TIMEOUT_MS` and `_PARTITIONS_AHEAD` behind `AGENT_AUDIT_POSTGRES`, where they are set.
    ///
    /// # Errors
    /// [`SinkError`] where the URL is missing or a value is not one.
    ///
    /// ```
    /// use agent_audit_postgres::PostgresConfig;
    /// let error = PostgresConfig::from_env().unwrap_err();
    /// assert!(error.to_string().contains("AGENT_AUDIT_POSTGRES_URL"));
    /// ```
    pub fn from_env() -> Result<Self, SinkError> {
        Ok(env::read(|name| std::env::var(name).ok())?)
    }

    /// Sets the password of the login.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<SecretString>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Sets the name of the sink in its log.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets how the connection is protected.
    #[must_use]
    pub fn with_ssl_mode(mut self, mode: SslMode) -> Self {
        self.ssl_mode = Some(mode);
        self
    }

    /// Sets the file of root certificates.
    #[must_use]
    pub fn with_root_certificates(mut self, file: impl Into<PathBuf>) -> Self {
        self.root_certificates = Some(file.into());
        self
    }

    /// Sets the most connections that are open at a time.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Sets how long a connection may take, in whole milliseconds.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout_ms = millis(timeout);
        self
    }

    /// Sets how long a statement may take, in whole milliseconds.
    #[must_use]
    pub fn with_statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout_ms = millis(timeout);
        self
    }

    /// Sets how long to wait for a chain that another transaction holds, in whole milliseconds.
    #[must_use]
    pub fn with_lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout_ms = millis(timeout);
        self
    }

    /// Sets how many months ahead partitions are created.
    #[must_use]
    pub fn with_partitions_ahead(mut self, months: u32) -> Self {
        self.partitions_ahead = months;
        self
    }
}

impl fmt::Debug for PostgresConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresConfig")
            .field("url", &url::shown(&self.url))
            .field("name", &self.name)
            .field("ssl_mode", &self.ssl_mode)
            .field("root_certificates", &self.root_certificates)
            .field("connections", &self.connections)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("statement_timeout_ms", &self.statement_timeout_ms)
            .field("lock_timeout_ms", &self.lock_timeout_ms)
            .field("partitions_ahead", &self.partitions_ahead)
            .finish_non_exhaustive()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn default_name() -> String {
    "postgres".to_owned()
}

fn default_connections() -> usize {
    4
}

fn default_connect_timeout_ms() -> u64 {
    5_000
}

fn default_statement_timeout_ms() -> u64 {
    30_000
}

fn default_lock_timeout_ms() -> u64 {
    250
}

fn default_partitions_ahead() -> u32 {
    3
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_url_alone_is_a_config() {
        let config: PostgresConfig =
            serde_json::from_str(r#"{"url": "postgres://a:secret@db/ledger"}"#).unwrap();
        let expected = PostgresConfig::new("postgres://a:secret@db/ledger");
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));
        assert!(!format!("{config:?}").contains("secret"));
        let config: PostgresConfig = serde_json::from_str(
            r#"{"url": "postgres://db", "password": "secret", "ssl_mode": "verify-ca"}"#,
        )
        .unwrap();
        assert_eq!(config.ssl_mode, Some(SslMode::VerifyCa));
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error = serde_json::from_str::<PostgresConfig>(r#"{"url": "u", "conections": 1}"#);
        assert!(error.unwrap_err().to_string().contains("conections"));
    }
}
