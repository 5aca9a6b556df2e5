//! How the archive is set up.

use std::time::Duration;

use agent_audit_core::{
    key::{SigningKey, VerifyingKey},
    sink::{SinkError, SinkErrorKind},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

mod env;

/// Which bucket the archive is in and what is demanded of it.
///
/// A value that is left out has its default. Secrets are read and never written: a serialised
/// configuration lacks them.
///
/// ```
/// use std::time::Duration;
/// use agent_audit_s3::{Lock, S3Config};
/// let config = S3Config::new("ledger")
///     .with_prefix("audit")
///     .with_lock(Lock::compliance(Duration::from_secs(7 * 365 * 86_400)))
///     .with_credentials("AKIDEXAMPLE", "secret");
/// assert_eq!((config.name.as_str(), config.bucket.as_str()), ("s3", "ledger"));
/// assert!(!format!("{config:?}").contains("secret\""));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct S3Config {
    /// The bucket.
    pub bucket: String,
    /// The name of the sink in its log; `s3` where nothing else is said.
    #[serde(default = "default_name")]
    pub name: String,
    /// What all keys begin with; nothing where nothing is said. Below it there is nothing but the
    /// archive.
    #[serde(default)]
    pub prefix: String,
    /// The address of a service that is not Amazon's.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The region; where none is given, the default sources of Amazon's client are asked, and
    /// `us-east-1` is taken where an endpoint is given.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether the bucket stands in the path and not in the host name, as most services other than
    /// Amazon's want it.
    #[serde(default)]
    pub path_style: bool,
    /// Credentials; where none are given, the default sources of Amazon's client are asked.
    #[serde(default)]
    pub credentials: Option<S3Credentials>,
    /// How objects are locked; without it no lock is asked for, and that of the bucket applies.
    #[serde(default)]
    pub lock: Option<Lock>,
    /// Whether each object is put on legal hold, until somebody who may takes it off.
    #[serde(default)]
    pub legal_hold: bool,
    /// How the first writer of a key is found.
    #[serde(default)]
    pub create_once: CreateOnce,
    /// The form of the objects with events.
    #[serde(default)]
    pub format: ObjectFormat,
    /// The seed of the key that signs manifests, in base64.
    #[serde(default, skip_serializing)]
    pub manifest_key: Option<SecretString>,
    /// Other keys whose manifests are believed: those that signed before.
    #[serde(default)]
    pub trusted_keys: Vec<VerifyingKey>,
    /// Whether manifests may be written without a signature, where no key is given.
    #[serde(default)]
    pub unsigned_manifests: bool,
    /// How many chains are written, or objects read, at a time, at least 1; 16 where nothing else
    /// is said.
    #[serde(default = "default_parallelism")]
    pub parallelism: usize,
    /// The most events that one batch should hold; 20,000 where nothing else is said.
    #[serde(default = "default_max_batch_events")]
    pub max_batch_events: usize,
    /// The most bytes that one batch should hold; 32 MiB where nothing else is said.
    #[serde(default = "default_max_batch_bytes")]
    pub max_batch_bytes: usize,
    /// The most bytes of records in one object, before compression; 32 MiB where nothing else is
    /// said. A single larger record is still stored.
    #[serde(default = "default_max_object_bytes")]
    pub max_object_bytes: usize,
    /// How many milliseconds a connection may take; 3,000 where nothing else is said.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// How many milliseconds one request may take, its body included; 30,000 where nothing else is
    /// said.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
}

/// An access key.
///
/// ```
/// use agent_audit_s3::S3Credentials;
/// let credentials = S3Credentials::new("AKIDEXAMPLE", "a secret").with_session_token("a token");
/// let shown = format!("{credentials:?}");
/// assert!(!shown.contains("a secret") && !shown.contains("a token"));
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct S3Credentials {
    /// The id of the access key.
    pub access_key_id: String,
    /// The secret that belongs to it.
    #[serde(skip_serializing)]
    pub secret_access_key: SecretString,
    /// The token of a session, where the key is a temporary one.
    #[serde(default, skip_serializing)]
    pub session_token: Option<SecretString>,
}

impl S3Credentials {
    /// An access key with its secret.
    pub fn new(access_key_id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: SecretString::from(secret.into()),
            session_token: None,
        }
    }

    /// Adds the token of a session.
    #[must_use]
    pub fn with_session_token(mut self, token: impl Into<String>) -> Self {
        self.session_token = Some(SecretString::from(token.into()));
        self
    }
}

/// How objects are locked, counted from the moment of writing.
///
/// ```
/// use std::time::Duration;
/// use agent_audit_s3::{Lock, LockMode};
/// let lock = Lock::governance(Duration::from_secs(86_400));
/// assert_eq!((lock.mode, lock.retention()), (LockMode::Governance, Duration::from_secs(86_400)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Lock {
    /// Who may end it before its time.
    pub mode: LockMode,
    /// For how many seconds.
    pub retention_seconds: u64,
}

/// Who may end a lock before its time.
///
/// ```
/// use agent_audit_s3::LockMode;
/// assert_eq!(LockMode::Compliance.to_string(), "COMPLIANCE");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these two")]
pub enum LockMode {
    /// Nobody, the owner of the account included.
    Compliance,
    /// Who is permitted `s3:BypassGovernanceRetention`.
    Governance,
}

impl std::fmt::Display for LockMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Compliance => "COMPLIANCE",
            Self::Governance => "GOVERNANCE",
        })
    }
}

impl Lock {
    /// A lock that nobody can end before its time.
    #[must_use]
    pub fn compliance(retention: Duration) -> Self {
        Self { mode: LockMode::Compliance, retention_seconds: retention.as_secs() }
    }

    /// A lock that a permitted person can end before its time.
    #[must_use]
    pub fn governance(retention: Duration) -> Self {
        Self { mode: LockMode::Governance, retention_seconds: retention.as_secs() }
    }

    /// For how long.
    #[must_use]
    pub fn retention(&self) -> Duration {
        Duration::from_secs(self.retention_seconds)
    }
}

/// How the first writer of a key is found.
///
/// ```
/// use agent_audit_s3::CreateOnce;
/// assert_eq!(CreateOnce::default(), CreateOnce::Conditional);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CreateOnce {
    /// The service honours `If-None-Match: *`, as Amazon's does.
    #[default]
    Conditional,
    /// It does not, and the bucket has versions: the oldest version of a manifest counts.
    Versions,
}

/// The form of the objects with events.
///
/// A reader takes both, whatever it is configured with.
///
/// ```
/// use agent_audit_s3::ObjectFormat;
/// assert_eq!(ObjectFormat::default().extension(), ".ndjson.zst");
/// assert_eq!(ObjectFormat::Parquet.extension(), ".parquet");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ObjectFormat {
    /// One line of JSON a record, compressed with Zstandard.
    #[default]
    NdjsonZstd,
    /// One row of Apache Parquet a record; needs the feature `parquet`.
    Parquet,
}

impl ObjectFormat {
    /// What the keys of such objects end in.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::NdjsonZstd => ".ndjson.zst",
            Self::Parquet => ".parquet",
        }
    }
}

impl S3Config {
    /// An archive in this bucket, and the defaults for everything else.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            name: default_name(),
            prefix: String::new(),
            endpoint: None,
            region: None,
            path_style: false,
            credentials: None,
            lock: None,
            legal_hold: false,
            create_once: CreateOnce::default(),
            format: ObjectFormat::default(),
            manifest_key: None,
            trusted_keys: Vec::new(),
            unsigned_manifests: false,
            parallelism: default_parallelism(),
            max_batch_events: default_max_batch_events(),
            max_batch_bytes: default_max_batch_bytes(),
            max_object_bytes: default_max_object_bytes(),
            connect_timeout_ms: default_connect_timeout_ms(),
            timeout_ms: default_timeout_ms(),
        }
    }

    /// Sets the name of the sink in its log.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets what all keys begin with.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the address of a service that is not Amazon's, with the bucket in the path.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self.path_style = true;
        self
    }

    /// Sets the region.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Says whether the bucket stands in the path and not in the host name.
    #[must_use]
    pub fn with_path_style(mut self, path_style: bool) -> Self {
        self.path_style = path_style;
        self
    }

    /// Sets an access key with its secret.
    #[must_use]
    pub fn with_credentials(
        mut self,
        access_key_id: impl Into<String>,
        secret: impl Into<String>,
    ) -> Self {
        self.credentials = Some(S3Credentials::new(access_key_id, secret));
        self
    }

    /// Sets how objects are locked.
    #[must_use]
    pub fn with_lock(mut self, lock: Lock) -> Self {
        self.lock = Some(lock);
        self
    }

    /// Puts each object on legal hold.
    #[must_use]
    pub fn with_legal_hold(mut self) -> Self {
        self.legal_hold = true;
        self
    }

    /// Sets how the first writer of a key is found.
    #[must_use]
    pub fn with_create_once(mut self, create_once: CreateOnce) -> Self {
        self.create_once = create_once;
        self
    }

    /// Sets the form of the objects with events.
    #[must_use]
    pub fn with_format(mut self, format: ObjectFormat) -> Self {
        self.format = format;
        self
    }

    /// Sets the key that signs manifests.
    ///
    /// With the key of the log, a manifest is one more checkpoint of that log. A key of the
    /// archive's own says apart who kept the events and who archived them.
    #[must_use]
    pub fn with_manifest_key(mut self, key: &SigningKey) -> Self {
        self.manifest_key = Some(SecretString::from(key.to_seed_base64().expose().to_owned()));
        self
    }

    /// Believes manifests of one more key: one that signed before, or, for a reader, the writer's.
    #[must_use]
    pub fn with_trusted_key(mut self, key: VerifyingKey) -> Self {
        self.trusted_keys.push(key);
        self
    }

    /// Allows manifests without a signature: whoever can write to the bucket can then make others
    /// that fit.
    #[must_use]
    pub fn with_unsigned_manifests(mut self) -> Self {
        self.unsigned_manifests = true;
        self
    }

    /// Sets how many chains are written, or objects read, at a time.
    #[must_use]
    pub fn with_parallelism(mut self, parallelism: usize) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// Sets how large a batch should be at most.
    #[must_use]
    pub fn with_max_batch(mut self, events: usize, bytes: usize) -> Self {
        self.max_batch_events = events;
        self.max_batch_bytes = bytes;
        self
    }

    /// Sets the most bytes of records in one object, before compression.
    #[must_use]
    pub fn with_max_object_bytes(mut self, bytes: usize) -> Self {
        self.max_object_bytes = bytes;
        self
    }

    /// Sets how long a connection, and one request with its body, may take.
    #[must_use]
    pub fn with_timeouts(mut self, connect: Duration, request: Duration) -> Self {
        let whole = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        self.connect_timeout_ms = whole(connect);
        self.timeout_ms = whole(request);
        self
    }

    /// The key that signs manifests.
    pub(crate) fn signing_key(&self) -> Result<Option<SigningKey>, SinkError> {
        let Some(seed) = &self.manifest_key else { return Ok(None) };
        SigningKey::from_seed_base64(seed.expose_secret()).map(Some).map_err(|_| {
            let what = "the manifest key is no key: give the base64 of a 32-byte seed";
            SinkError::new(SinkErrorKind::Misconfigured, what)
        })
    }

    /// All keys whose manifests are believed.
    pub(crate) fn believed_keys(&self) -> Result<Vec<VerifyingKey>, SinkError> {
        let own = self.signing_key()?.map(|key| key.verifying_key());
        Ok(own.into_iter().chain(self.trusted_keys.iter().copied()).collect())
    }
}

fn default_name() -> String {
    "s3".to_owned()
}

fn default_parallelism() -> usize {
    16
}

fn default_max_batch_events() -> usize {
    20_000
}

fn default_max_batch_bytes() -> usize {
    32 << 20
}

fn default_max_object_bytes() -> usize {
    32 << 20
}

fn default_connect_timeout_ms() -> u64 {
    3_000
}

fn default_timeout_ms() -> u64 {
    30_000
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_alone_is_a_config() {
        let config: S3Config = serde_json::from_str(r#"{"bucket": "ledger"}"#).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", S3Config::new("ledger")));
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error = serde_json::from_str::<S3Config>(r#"{"bucket": "b", "prefxi": "p"}"#);
        assert!(error.unwrap_err().to_string().contains("prefxi"));
    }

    #[test]
    fn secrets_are_read_and_neither_written_nor_shown() {
        let text = r#"{"bucket": "b", "credentials": {"access_key_id": "AK", "secret_access_key":
            "canary", "session_token": "canary"}, "manifest_key": "canary",
            "lock": {"mode": "compliance", "retention_seconds": 60}}"#;
        let config: S3Config = serde_json::from_str(text).unwrap();
        let shown = format!("{config:?} {}", serde_json::to_string(&config).unwrap());
        assert!(!shown.contains("canary"), "{shown}");
        assert_eq!(config.lock, Some(Lock::compliance(Duration::from_secs(60))));
        let error = config.signing_key().unwrap_err();
        assert!(!format!("{error} {error:?}").contains("canary"));
    }

    #[test]
    fn a_manifest_key_is_kept() {
        let key = SigningKey::from_seed(&[7; 32]);
        let config = S3Config::new("b").with_manifest_key(&key);
        assert_eq!(config.believed_keys().unwrap(), [key.verifying_key()]);
    }
}
