//! A configuration from the environment.

use std::{str::FromStr, time::Duration};

use agent_audit_core::{
    key::VerifyingKey,
    sink::{SinkError, SinkErrorKind},
};
use secrecy::SecretString;

use super::{CreateOnce, Lock, LockMode, ObjectFormat, S3Config, S3Credentials};

impl S3Config {
    /// The configuration that the environment holds.
    ///
    /// | variable | setting |
    /// |---|---|
    /// | `AGENT_AUDIT_S3_BUCKET` | [`bucket`](Self::bucket); must be set |
    /// | `AGENT_AUDIT_S3_NAME`, `_PREFIX`, `_ENDPOINT`, `_REGION` | as named |
    /// | `AGENT_AUDIT_S3_PATH_STYLE` | `true` or `false`; `true` where an endpoint is given |
    /// | `AGENT_AUDIT_S3_ACCESS_KEY_ID`, `_SECRET_ACCESS_KEY`, `_SESSION_TOKEN` | [`credentials`](Self::credentials) |
    /// | `AGENT_AUDIT_S3_LOCK_MODE` | `compliance` or `governance` |
    /// | `AGENT_AUDIT_S3_RETENTION_DAYS` | for how many days objects are locked |
    /// | `AGENT_AUDIT_S3_LEGAL_HOLD` | `true` or `false` |
    /// | `AGENT_AUDIT_S3_CREATE_ONCE` | `conditional` or `versions` |
    /// | `AGENT_AUDIT_S3_FORMAT` | `ndjson_zstd` or `parquet` |
    /// | `AGENT_AUDIT_S3_MANIFEST_KEY` | the base64 of the seed of the key that signs manifests |
    /// | `AGENT_AUDIT_S3_TRUSTED_KEYS` | other public keys, with commas between them |
    /// | `AGENT_AUDIT_S3_UNSIGNED_MANIFESTS` | `true` or `false` |
    /// | `AGENT_AUDIT_S3_PARALLELISM`, `_MAX_BATCH_EVENTS`, `_MAX_BATCH_BYTES`, `_MAX_OBJECT_BYTES`, `_CONNECT_TIMEOUT_MS`, `_TIMEOUT_MS` | as named |
    ///
    /// # Errors
    /// [`SinkError`] that names the variable that is missing, or whose value cannot be used. It does not
    /// repeat the value.
    ///
    /// ```
    /// use agent_audit_s3::S3Config;
    /// # if std::env::var_os("AGENT_AUDIT_S3_BUCKET").is_none() {
    /// let error = S3Config::from_env().unwrap_err();
    /// assert!(error.to_string().contains("AGENT_AUDIT_S3_BUCKET"));
    /// # }
    /// ```
    pub fn from_env() -> Result<Self, SinkError> {
        Self::from_variables(&|name| std::env::var(name).ok())
    }

    fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, SinkError> {
        let get = |name: &str| {
            let value = variable(&format!("AGENT_AUDIT_S3_{name}"));
            value.filter(|value| !value.is_empty())
        };
        let bucket = get("BUCKET").ok_or_else(|| {
            let text = "AGENT_AUDIT_S3_BUCKET is not set: it names the bucket of the archive";
            SinkError::new(SinkErrorKind::Misconfigured, text)
        })?;
        let mut config = Self::new(bucket);
        if let Some(name) = get("NAME") {
            config.name = name;
        }
        config.prefix = get("PREFIX").unwrap_or_default();
        config.endpoint = get("ENDPOINT");
        config.region = get("REGION");
        config.path_style = parsed(&get, "PATH_STYLE")?.unwrap_or(config.endpoint.is_some());
        config.credentials = credentials(&get)?;
        config.lock = lock(&get)?;
        config.legal_hold = parsed(&get, "LEGAL_HOLD")?.unwrap_or_default();
        config.create_once = match get("CREATE_ONCE").as_deref() {
            None | Some("conditional") => CreateOnce::Conditional,
            Some("versions") => CreateOnce::Versions,
            Some(_) => return Err(wrong("CREATE_ONCE", "`conditional` or `versions`")),
        };
        config.format = match get("FORMAT").as_deref() {
            None | Some("ndjson_zstd") => ObjectFormat::NdjsonZstd,
            Some("parquet") => ObjectFormat::Parquet,
            Some(_) => return Err(wrong("FORMAT", "`ndjson_zstd` or `parquet`")),
        };
        config.manifest_key = get("MANIFEST_KEY").map(SecretString::from);
        if let Some(keys) = get("TRUSTED_KEYS") {
            let keys = keys.split(',').map(|key| key.trim().parse::<VerifyingKey>());
            config.trusted_keys = keys
                .collect::<Result<_, _>>()
                .map_err(|_| wrong("TRUSTED_KEYS", "`ed25519:…`, with commas between keys"))?;
        }
        config.unsigned_manifests = parsed(&get, "UNSIGNED_MANIFESTS")?.unwrap_or_default();
        for (name, setting) in [
            ("PARALLELISM", &mut config.parallelism),
            ("MAX_BATCH_EVENTS", &mut config.max_batch_events),
            ("MAX_BATCH_BYTES", &mut config.max_batch_bytes),
            ("MAX_OBJECT_BYTES", &mut config.max_object_bytes),
        ] {
            *setting = parsed(&get, name)?.unwrap_or(*setting);
        }
        for (name, setting) in [
            ("CONNECT_TIMEOUT_MS", &mut config.connect_timeout_ms),
            ("TIMEOUT_MS", &mut config.timeout_ms),
        ] {
            *setting = parsed(&get, name)?.unwrap_or(*setting);
        }
        Ok(config)
    }
}

type Get<'a> = &'a dyn Fn(&str) -> Option<String>;

fn credentials(get: Get<'_>) -> Result<Option<S3Credentials>, SinkError> {
    match (get("ACCESS_KEY_ID"), get("SECRET_ACCESS_KEY")) {
        (None, None) => Ok(None),
        (Some(id), Some(secret)) => {
            let credentials = S3Credentials::new(id, secret);
            Ok(Some(match get("SESSION_TOKEN") {
                Some(token) => credentials.with_session_token(token),
                None => credentials,
            }))
        }
        (Some(_), None) => Err(wrong("SECRET_ACCESS_KEY", "the secret of the access key")),
        (None, Some(_)) => Err(wrong("ACCESS_KEY_ID", "the id of the access key")),
    }
}

fn lock(get: Get<'_>) -> Result<Option<Lock>, SinkError> {
    let mode = match get("LOCK_MODE").as_deref() {
        None => None,
        Some("compliance") => Some(LockMode::Compliance),
        Some("governance") => Some(LockMode::Governance),
        Some(_) => return Err(wrong("LOCK_MODE", "`compliance` or `governance`")),
    };
    let days: Option<u64> = parsed(get, "RETENTION_DAYS")?;
    match (mode, days) {
        (None, None) => Ok(None),
        (Some(mode), Some(days)) => {
            let retention = Duration::from_secs(days.saturating_mul(86_400));
            Ok(Some(match mode {
                LockMode::Compliance => Lock::compliance(retention),
                LockMode::Governance => Lock::governance(retention),
            }))
        }
        (Some(_), None) => Err(wrong("RETENTION_DAYS", "a number of days")),
        (None, Some(_)) => Err(wrong("LOCK_MODE", "`compliance` or `governance`")),
    }
}

fn parsed<T: FromStr>(get: Get<'_>, name: &str) -> Result<Option<T>, SinkError> {
    let parse = |text: String| text.parse().map_err(|_| wrong(name, "a number, `true` or `false`"));
    get(name).map(parse).transpose()
}

fn wrong(name: &str, wanted: &str) -> SinkError {
    let text = format!("the variable AGENT_AUDIT_S3_{name} must hold {wanted}");
    SinkError::new(SinkErrorKind::Misconfigured, text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<S3Config, SinkError> {
        S3Config::from_variables(&|name| {
            let name = name.strip_prefix("AGENT_AUDIT_S3_")?;
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_variable_is_a_setting() {
        let key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let config = read(&[
            ("BUCKET", "ledger"),
            ("NAME", "cold"),
            ("PREFIX", "audit"),
            ("ENDPOINT", "http://localhost:1"),
            ("REGION", "eu-central-1"),
            ("ACCESS_KEY_ID", "AK"),
            ("SECRET_ACCESS_KEY", "canary"),
            ("SESSION_TOKEN", "canary"),
            ("LOCK_MODE", "governance"),
            ("RETENTION_DAYS", "2"),
            ("LEGAL_HOLD", "true"),
            ("CREATE_ONCE", "versions"),
            ("FORMAT", "parquet"),
            ("MANIFEST_KEY", "canary"),
            ("TRUSTED_KEYS", key),
            ("UNSIGNED_MANIFESTS", "false"),
            ("PARALLELISM", "3"),
            ("MAX_BATCH_EVENTS", "4"),
            ("MAX_BATCH_BYTES", "5"),
            ("MAX_OBJECT_BYTES", "6"),
            ("CONNECT_TIMEOUT_MS", "7"),
            ("TIMEOUT_MS", "8"),
        ]);
        let config = config.unwrap();
        assert_eq!((config.name.as_str(), config.prefix.as_str()), ("cold", "audit"));
        assert!(config.path_style && config.legal_hold && !config.unsigned_manifests);
        assert_eq!(config.lock, Some(Lock::governance(Duration::from_secs(172_800))));
        assert_eq!(config.create_once, CreateOnce::Versions);
        assert_eq!(config.format, ObjectFormat::Parquet);
        assert_eq!(config.trusted_keys[0].to_string(), key);
        assert_eq!((config.parallelism, config.max_batch_events), (3, 4));
        assert_eq!((config.max_batch_bytes, config.max_object_bytes), (5, 6));
        assert_eq!((config.connect_timeout_ms, config.timeout_ms), (7, 8));
        assert!(!format!("{config:?}").contains("canary"));
    }

    #[test]
    fn a_value_that_cannot_be_used_is_named_and_not_repeated() {
        for (name, value) in [
            ("LOCK_MODE", "canary"),
            ("RETENTION_DAYS", "canary"),
            ("LEGAL_HOLD", "canary"),
            ("CREATE_ONCE", "canary"),
            ("FORMAT", "canary"),
            ("TRUSTED_KEYS", "canary"),
            ("PARALLELISM", "canary"),
            ("TIMEOUT_MS", "canary"),
        ] {
            let error = read(&[("BUCKET", "b"), (name, value)]).unwrap_err().to_string();
            assert!(error.contains(name) && !error.contains("canary"), "{error}");
        }
        assert!(read(&[]).unwrap_err().to_string().contains("AGENT_AUDIT_S3_BUCKET"));
        for (given, missing) in [
            (("LOCK_MODE", "compliance"), "RETENTION_DAYS"),
            (("RETENTION_DAYS", "1"), "LOCK_MODE"),
            (("ACCESS_KEY_ID", "AK"), "SECRET_ACCESS_KEY"),
            (("SECRET_ACCESS_KEY", "canary"), "ACCESS_KEY_ID"),
        ] {
            let error = read(&[("BUCKET", "b"), given]).unwrap_err().to_string();
            assert!(error.contains(missing) && !error.contains("canary"), "{error}");
        }
    }
}
