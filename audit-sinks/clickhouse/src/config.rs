//! How the sink is set up.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use agent_audit_core::{
    id::TenantId,
    sink::{SinkError, SinkErrorKind},
};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

/// Where the server is, who this process is there, and how long content stays.
///
/// ```
/// use agent_audit_clickhouse::ClickHouseConfig;
/// let config = ClickHouseConfig::new("https://clickhouse.example:8443")
///     .with_user("audit_writer", "very-secret")
///     .with_database("ledger")
///     .with_content_retention_days(180);
/// assert_eq!((config.database.as_str(), config.user.as_str()), ("ledger", "audit_writer"));
/// assert!(!format!("{config:?}").contains("very-secret"));
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ClickHouseConfig {
    /// The URL of the server's HTTP interface, as `http://localhost:8123`. `https` is TLS. User and
    /// password that stand in it are taken where `user` and `password` say nothing.
    pub url: String,
    /// The database of the tables; `audit` where nothing else is said. Letters, digits and `_`.
    #[serde(default = "default_database")]
    pub database: String,
    /// The user; `default` where nothing else is said.
    #[serde(default = "default_user")]
    pub user: String,
    /// The password of the user; empty where nothing is said. It is never written out.
    #[serde(default, skip_serializing)]
    pub password: SecretString,
    /// The name of the sink in its log; `clickhouse` where nothing else is said.
    #[serde(default = "default_name")]
    pub name: String,
    /// A PEM file with the certificates that the server's is trusted by; those of the Mozilla root
    /// program where nothing is said.
    #[serde(default)]
    pub certificate: Option<PathBuf>,
    /// How many milliseconds a connection may take to be made; 5,000 where nothing else is said.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// How many milliseconds a request may take; 30,000 where nothing else is said.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Whether the server gathers inserts of many clients into one part before it writes. It is
    /// always waited for; each insert then takes up to the server's `async_insert_busy_timeout_ms`
    /// longer. For many processes that each write little. No where nothing else is said.
    #[serde(default)]
    pub async_insert: bool,
    /// How many days content stays, counted from the event; for ever where nothing is said. It
    /// holds for what is written from then on. Events stay in any case.
    #[serde(default)]
    pub content_retention_days: Option<u32>,
    /// The same for single tenants, by name; `null` is for ever.
    #[serde(default)]
    pub tenant_content_retention_days: BTreeMap<TenantId, Option<u32>>,
    /// The most events of one batch; 10,000 where nothing else is said. The server likes few large
    /// inserts: each makes a part, and parts are merged later.
    #[serde(default = "default_max_batch_events")]
    pub max_batch_events: usize,
    /// The most bytes of one batch; 16 MiB where nothing else is said.
    #[serde(default = "default_max_batch_bytes")]
    pub max_batch_bytes: usize,
}

impl ClickHouseConfig {
    /// A server by its URL, and the defaults for everything else.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            database: default_database(),
            user: default_user(),
            password: SecretString::default(),
            name: default_name(),
            certificate: None,
            connect_timeout_ms: default_connect_timeout_ms(),
            timeout_ms: default_timeout_ms(),
            async_insert: false,
            content_retention_days: None,
            tenant_content_retention_days: BTreeMap::new(),
            max_batch_events: default_max_batch_events(),
            max_batch_bytes: default_max_batch_bytes(),
        }
    }

    /// What the environment says: `AGENT_AUDIT_CLICKHOUSE_URL`, and, where they are set and not empty,
    /// `AGENT_AUDIT_CLICKHOUSE_DATABASE`, `_USER`, `_PASSWORD`, `_NAME`, `_CERTIFICATE`,
    /// `_CONNECT_TIMEOUT_MS`, `_TIMEOUT_MS`, `_ASYNC_INSERT` (`true` or `false`),
    /// `_CONTENT_RETENTION_DAYS`, `_MAX_BATCH_EVENTS` and `_MAX_BATCH_BYTES`.
    ///
    /// # Errors
    /// [`SinkError`] names the variable that is missing or cannot be read, and never a password.
    pub fn from_env() -> Result<Self, SinkError> {
        Self::read(&|name| std::env::var(name).ok())
    }

    fn read(variables: &dyn Fn(&str) -> Option<String>) -> Result<Self, SinkError> {
        let set = |name: &str| {
            let name = format!("AGENT_AUDIT_CLICKHOUSE_{name}");
            let value = variables(&name).filter(|value| !value.trim().is_empty());
            value.map(|value| (name, value))
        };
        fn number<T: std::str::FromStr>((name, value): (String, String)) -> Result<T, SinkError> {
            let wrong = |_| misconfigured(format!("{name} is not a number that fits: {value:?}"));
            value.trim().parse().map_err(wrong)
        }
        let Some((_, url)) = set("URL") else {
            return Err(misconfigured("AGENT_AUDIT_CLICKHOUSE_URL is not set".to_owned()));
        };
        let mut config = Self::new(url);
        let text = |name, field: &mut String| {
            if let Some((_, value)) = set(name) {
                *field = value;
            }
        };
        text("DATABASE", &mut config.database);
        text("USER", &mut config.user);
        text("NAME", &mut config.name);
        if let Some((_, password)) = set("PASSWORD") {
            config.password = password.into();
        }
        config.certificate = set("CERTIFICATE").map(|(_, file)| file.into());
        if let Some(value) = set("CONNECT_TIMEOUT_MS") {
            config.connect_timeout_ms = number(value)?;
        }
        if let Some(value) = set("TIMEOUT_MS") {
            config.timeout_ms = number(value)?;
        }
        if let Some(value) = set("CONTENT_RETENTION_DAYS") {
            config.content_retention_days = Some(number(value)?);
        }
        if let Some(value) = set("MAX_BATCH_EVENTS") {
            config.max_batch_events = number(value)?;
        }
        if let Some(value) = set("MAX_BATCH_BYTES") {
            config.max_batch_bytes = number(value)?;
        }
        if let Some((name, value)) = set("ASYNC_INSERT") {
            let wrong = |_| misconfigured(format!("{name} is neither true nor false: {value:?}"));
            config.async_insert = value.trim().parse().map_err(wrong)?;
        }
        Ok(config)
    }

    /// Sets the database of the tables.
    #[must_use]
    pub fn with_database(mut self, database: impl Into<String>) -> Self {
        self.database = database.into();
        self
    }

    /// Sets user and password.
    #[must_use]
    pub fn with_user(mut self, user: impl Into<String>, password: impl Into<SecretString>) -> Self {
        self.user = user.into();
        self.password = password.into();
        self
    }

    /// Sets the name of the sink in its log.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Trusts the certificates of a PEM file, and no others.
    #[must_use]
    pub fn with_certificate(mut self, file: impl Into<PathBuf>) -> Self {
        self.certificate = Some(file.into());
        self
    }

    /// Sets how long a connection may take to be made, in whole milliseconds.
    #[must_use]
    pub fn with_connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout_ms = millis(timeout);
        self
    }

    /// Sets how long a request may take, in whole milliseconds.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout_ms = millis(timeout);
        self
    }

    /// Says whether the server gathers inserts before it writes; see
    /// [`async_insert`](Self::async_insert).
    #[must_use]
    pub fn with_async_insert(mut self, gather: bool) -> Self {
        self.async_insert = gather;
        self
    }

    /// Sets how many days content stays.
    #[must_use]
    pub fn with_content_retention_days(mut self, days: u32) -> Self {
        self.content_retention_days = Some(days);
        self
    }

    /// Sets how many days one tenant's content stays; `None` is for ever.
    #[must_use]
    pub fn with_tenant_content_retention_days(
        mut self,
        tenant: TenantId,
        days: Option<u32>,
    ) -> Self {
        self.tenant_content_retention_days.insert(tenant, days);
        self
    }

    /// Sets how large a batch is at most.
    #[must_use]
    pub fn with_max_batch(mut self, events: usize, bytes: usize) -> Self {
        self.max_batch_events = events;
        self.max_batch_bytes = bytes;
        self
    }

    /// How many days the content of a tenant stays.
    pub(crate) fn retention_days(&self, tenant: &TenantId) -> Option<u32> {
        match self.tenant_content_retention_days.get(tenant) {
            Some(days) => *days,
            None => self.content_retention_days,
        }
    }
}

impl fmt::Debug for ClickHouseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClickHouseConfig")
            .field("url", &without_credentials(&self.url))
            .field("database", &self.database)
            .field("user", &self.user)
            .field("name", &self.name)
            .field("certificate", &self.certificate)
            .field("connect_timeout_ms", &self.connect_timeout_ms)
            .field("timeout_ms", &self.timeout_ms)
            .field("async_insert", &self.async_insert)
            .field("content_retention_days", &self.content_retention_days)
            .field("tenant_content_retention_days", &self.tenant_content_retention_days)
            .field("max_batch_events", &self.max_batch_events)
            .field("max_batch_bytes", &self.max_batch_bytes)
            .finish_non_exhaustive()
    }
}

/// The part of a URL that may be shown.
fn without_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.to_owned(),
        _ => url.to_owned(),
    }
}

pub(crate) fn misconfigured(text: String) -> SinkError {
    SinkError::new(SinkErrorKind::Misconfigured, text)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn default_database() -> String {
    "audit".to_owned()
}

fn default_user() -> String {
    "default".to_owned()
}

fn default_name() -> String {
    "clickhouse".to_owned()
}

fn default_connect_timeout_ms() -> u64 {
    5_000
}

fn default_timeout_ms() -> u64 {
    30_000
}

fn default_max_batch_events() -> usize {
    10_000
}

fn default_max_batch_bytes() -> usize {
    16 << 20
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_url_alone_is_a_config() {
        let config: ClickHouseConfig =
            serde_json::from_str(r#"{"url": "http://localhost:8123"}"#).unwrap();
        let expected = ClickHouseConfig::new("http://localhost:8123");
        assert_eq!(format!("{config:?}"), format!("{expected:?}"));
        assert!(config.password.expose_secret().is_empty());
    }

    #[test]
    fn what_is_written_out_has_no_password() {
        let config = ClickHouseConfig::new("http://localhost").with_user("writer", "s3cret");
        let written = serde_json::to_string(&config).unwrap();
        assert!(!written.contains("s3cret"), "{written}");
        let again: ClickHouseConfig = serde_json::from_str(&written).unwrap();
        assert_eq!(again.user, "writer");
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error =
            serde_json::from_str::<ClickHouseConfig>(r#"{"url": "http://h", "databse": "x"}"#);
        assert!(error.unwrap_err().to_string().contains("databse"));
    }

    #[test]
    fn tenants_have_terms_of_their_own() {
        let config: ClickHouseConfig = serde_json::from_str(
            r#"{"url": "http://h", "content_retention_days": 30,
                "tenant_content_retention_days": {"acme": 90, "globex": null}}"#,
        )
        .unwrap();
        let days = |name| config.retention_days(&TenantId::new(name).unwrap());
        assert_eq!((days("acme"), days("globex"), days("initech")), (Some(90), None, Some(30)));
    }

    #[test]
    fn the_environment_says_everything() {
        let variables = |name: &str| match name {
            "AGENT_AUDIT_CLICKHOUSE_URL" => Some("http://h:8123".to_owned()),
            "AGENT_AUDIT_CLICKHOUSE_USER" => Some("writer".to_owned()),
            "AGENT_AUDIT_CLICKHOUSE_PASSWORD" => Some("s3cret".to_owned()),
            "AGENT_AUDIT_CLICKHOUSE_DATABASE" => Some(String::new()),
            "AGENT_AUDIT_CLICKHOUSE_ASYNC_INSERT" => Some("true".to_owned()),
            "AGENT_AUDIT_CLICKHOUSE_CONTENT_RETENTION_DAYS" => Some("7".to_owned()),
            _ => None,
        };
        let config = ClickHouseConfig::read(&variables).unwrap();
        assert_eq!((config.user.as_str(), config.database.as_str()), ("writer", "audit"));
        assert_eq!(config.password.expose_secret(), "s3cret");
        assert!(config.async_insert);
        assert_eq!(config.content_retention_days, Some(7));
        assert!(!format!("{config:?}").contains("s3cret"));
    }

    #[test]
    fn a_variable_that_cannot_be_read_is_named() {
        let missing = ClickHouseConfig::read(&|_| None).unwrap_err();
        assert!(missing.to_string().contains("AGENT_AUDIT_CLICKHOUSE_URL"), "{missing}");
        let wrong = |name: &str| match name {
            "AGENT_AUDIT_CLICKHOUSE_URL" => Some("http://h".to_owned()),
            "AGENT_AUDIT_CLICKHOUSE_TIMEOUT_MS" => Some("soon".to_owned()),
            _ => None,
        };
        let wrong = ClickHouseConfig::read(&wrong).unwrap_err();
        assert!(wrong.to_string().contains("AGENT_AUDIT_CLICKHOUSE_TIMEOUT_MS"), "{wrong}");
    }

    #[test]
    fn credentials_in_a_url_are_not_shown() {
        let config = ClickHouseConfig::new("http://writer:p@ss@host:8123");
        let shown = format!("{config:?}");
        assert!(shown.contains("http://host:8123") && !shown.contains("p@ss"), "{shown}");
    }
}
