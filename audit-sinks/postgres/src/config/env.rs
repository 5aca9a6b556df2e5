//! The configuration that an environment describes.

use std::str::FromStr;

use agent_audit_core::sink::SinkErrorKind;
use secrecy::SecretString;

use super::{PostgresConfig, SslMode};
use crate::error::Fault;

const PREFIX: &str = "AGENT_AUDIT_POSTGRES";

pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<PostgresConfig, Fault> {
    let value = |suffix: &str| variable(&format!("{PREFIX}_{suffix}")).filter(|v| !v.is_empty());
    let url = value("URL").ok_or_else(|| {
        refused(format!("{PREFIX}_URL is not set: set it to postgres://USER@HOST:PORT/DATABASE"))
    })?;
    let mut config = PostgresConfig::new(url);
    config.password = value("PASSWORD").map(SecretString::from);
    config.root_certificates = value("ROOT_CERTIFICATES").map(Into::into);
    if let Some(name) = value("NAME") {
        config.name = name;
    }
    if let Some(mode) = value("SSL_MODE") {
        config.ssl_mode = Some(SslMode::of(&mode)?);
    }
    set(&mut config.connections, "CONNECTIONS", &value)?;
    set(&mut config.connect_timeout_ms, "CONNECT_TIMEOUT_MS", &value)?;
    set(&mut config.statement_timeout_ms, "STATEMENT_TIMEOUT_MS", &value)?;
    set(&mut config.lock_timeout_ms, "LOCK_TIMEOUT_MS", &value)?;
    set(&mut config.partitions_ahead, "PARTITIONS_AHEAD", &value)?;
    Ok(config)
}

fn set<T: FromStr>(
    field: &mut T,
    suffix: &str,
    value: &impl Fn(&str) -> Option<String>,
) -> Result<(), Fault> {
    if let Some(text) = value(suffix) {
        *field = text
            .parse()
            .map_err(|_| refused(format!("{PREFIX}_{suffix} is {text:?}: set it to a number")))?;
    }
    Ok(())
}

fn refused(text: String) -> Fault {
    Fault::new(SinkErrorKind::Misconfigured, text)
}

impl SslMode {
    /// The mode of this name.
    pub(super) fn of(text: &str) -> Result<Self, Fault> {
        Ok(match text {
            "disable" => Self::Disable,
            "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(refused(format!(
                    "ssl mode {text:?} is unknown: use disable, prefer, require, verify-ca or \
                     verify-full"
                )));
            }
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<PostgresConfig, Fault> {
        read(|name| {
            let suffix = name.strip_prefix("AGENT_AUDIT_POSTGRES_")?;
            variables.iter().find(|(key, _)| *key == suffix).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_setting_can_be_given() {
        let config = config(&[
            ("URL", "postgres://agent@db/ledger"),
            ("PASSWORD", "secret"),
            ("NAME", "hot"),
            ("SSL_MODE", "require"),
            ("ROOT_CERTIFICATES", "/etc/ca.pem"),
            ("CONNECTIONS", "9"),
            ("CONNECT_TIMEOUT_MS", "1"),
            ("STATEMENT_TIMEOUT_MS", "2"),
            ("LOCK_TIMEOUT_MS", "3"),
            ("PARTITIONS_AHEAD", "0"),
        ]);
        let config = config.unwrap();
        let expected = "PostgresConfig { url: \"postgres://agent@db:5432/ledger\", name: \"hot\", \
            ssl_mode: Some(Require), root_certificates: Some(\"/etc/ca.pem\"), connections: 9, \
            connect_timeout_ms: 1, statement_timeout_ms: 2, lock_timeout_ms: 3, \
            partitions_ahead: 0, .. }";
        assert_eq!(format!("{config:?}"), expected);
        assert!(config.password.is_some());
    }

    #[test]
    fn what_is_no_value_is_an_error_that_names_the_variable() {
        let error = |variables: &[_]| config(variables).unwrap_err().to_string();
        assert!(error(&[]).contains("AGENT_AUDIT_POSTGRES_URL is not set"));
        assert!(error(&[("URL", "")]).contains("AGENT_AUDIT_POSTGRES_URL is not set"));
        let many = error(&[("URL", "u"), ("CONNECTIONS", "many")]);
        assert!(many.contains("AGENT_AUDIT_POSTGRES_CONNECTIONS is \"many\""), "{many}");
        assert!(error(&[("URL", "u"), ("SSL_MODE", "maybe")]).contains("\"maybe\" is unknown"));
    }
}
