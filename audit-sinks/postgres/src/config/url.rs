//! The URL of a database, as libpq reads it.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use agent_audit_core::sink::SinkErrorKind;
use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::Host;

use super::{PostgresConfig, SslMode};
use crate::error::Fault;

/// Where to connect to, and how.
pub(crate) struct Address {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) ssl_mode: SslMode,
    pub(crate) root_certificates: Option<PathBuf>,
}

impl Address {
    /// Reads the URL and lays the rest of the configuration over it.
    pub(crate) fn of(config: &PostgresConfig) -> Result<Self, Fault> {
        let mut url = Parameters::of(config.url.expose_secret())?;
        let (mode, file) = (url.take("sslmode"), url.take("sslrootcert"));
        let mut address: tokio_postgres::Config = url.rest.parse().map_err(|_| unreadable())?;
        if address.get_hosts().is_empty() {
            return Err(unreadable());
        }
        if let Some(password) = &config.password {
            address.password(password.expose_secret());
        }
        let timeout = Duration::from_millis(config.connect_timeout_ms);
        address.connect_timeout(timeout);
        // Half-open connections are noticed also while nothing is asked.
        address.keepalives_idle(Duration::from_secs(30));
        address.keepalives_interval(Duration::from_secs(10));
        address.keepalives_retries(3);
        if address.get_application_name().is_none() {
            address.application_name("agent-audit");
        }
        let given = match (config.ssl_mode, mode) {
            (Some(mode), _) => Some(mode),
            (None, Some(text)) => Some(SslMode::of(&text)?),
            (None, None) => None,
        };
        let local = address.get_hosts().iter().all(is_local);
        let usual = if local { SslMode::Prefer } else { SslMode::VerifyFull };
        let ssl_mode = given.unwrap_or(usual);
        address.ssl_mode(match ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => {
                tokio_postgres::config::SslMode::Require
            }
        });
        let root_certificates = config.root_certificates.clone().or(file.map(PathBuf::from));
        Ok(Self { config: address, ssl_mode, root_certificates })
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&describe(&self.config))
    }
}

/// The URL without password and parameters.
pub(super) fn shown(url: &SecretString) -> String {
    let config = Parameters::of(url.expose_secret()).ok().and_then(|mut url| {
        // These two have values that the client's own reader does not know.
        for name in ["sslmode", "sslrootcert"] {
            url.take(name);
        }
        url.rest.parse().ok()
    });
    config.map_or_else(|| "(not readable)".to_owned(), |config| describe(&config))
}

fn describe(config: &tokio_postgres::Config) -> String {
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .zip(config.get_ports().iter().chain(std::iter::repeat(&5432)))
        .map(|(host, port)| match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]:{port}"),
            Host::Tcp(name) => format!("{name}:{port}"),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string(),
        })
        .collect();
    let user = config.get_user().map(|user| format!("{user}@")).unwrap_or_default();
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    format!("postgres://{user}{}/{database}", hosts.join(","))
}

fn is_local(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// What cannot be read may hold a password anywhere: nothing of it is shown.
fn unreadable() -> Fault {
    Fault::new(
        SinkErrorKind::Misconfigured,
        "the url of the postgres sink cannot be read: use \
         postgres://USER:PASSWORD@HOST:PORT/DATABASE?NAME=VALUE, with %XX for what is no letter or \
         digit in a password",
    )
}

/// A URL whose parameters can be taken out.
struct Parameters {
    rest: String,
}

impl Parameters {
    fn of(url: &str) -> Result<Self, Fault> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Self { rest: url.to_owned() });
        }
        Err(unreadable())
    }

    /// Takes a parameter out of the URL; of two the last counts.
    fn take(&mut self, name: &str) -> Option<String> {
        let (before, parameters) = self.rest.split_once('?')?;
        let is_it = |pair: &&str| pair.split_once('=').is_some_and(|(key, _)| key == name);
        let found = parameters.split('&').rfind(is_it)?.split_once('=')?.1;
        let value = percent_decoded(found);
        let kept: Vec<&str> = parameters.split('&').filter(|pair| !is_it(pair)).collect();
        let question = if kept.is_empty() { "" } else { "?" };
        self.rest = format!("{before}{question}{}", kept.join("&"));
        Some(value)
    }
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).and_then(|digits| str::from_utf8(digits).ok());
        match digits.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) if *first == b'%' => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::of(&PostgresConfig::new(url)).unwrap()
    }

    #[test]
    fn the_short_way_is_the_safe_way() {
        for (url, mode) in [
            ("postgres://db.example.com/ledger", SslMode::VerifyFull),
            ("postgres://10.0.0.7/ledger", SslMode::VerifyFull),
            ("postgres://localhost/ledger", SslMode::Prefer),
            ("postgres://127.0.0.1,[::1]/ledger", SslMode::Prefer),
            ("postgres://localhost,db/ledger", SslMode::VerifyFull),
            ("postgres://%2Frun%2Fpostgresql/ledger", SslMode::Prefer),
            ("postgres://db/ledger?sslmode=disable", SslMode::Disable),
            ("postgresql://db/ledger?sslmode=verify-ca", SslMode::VerifyCa),
        ] {
            assert_eq!(address(url).ssl_mode, mode, "{url}");
        }
        let config = PostgresConfig::new("postgres://db?sslmode=disable");
        let address = Address::of(&config.with_ssl_mode(SslMode::Require)).unwrap();
        assert_eq!(address.ssl_mode, SslMode::Require, "what is said in code counts");
    }

    #[test]
    fn parameters_of_libpq_are_known() {
        let url = "postgres://a:b@db:1/ledger?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem\
                   &application_name=x&sslmode=require";
        let address = address(url);
        assert_eq!(address.ssl_mode, SslMode::Require);
        assert_eq!(address.root_certificates, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(address.config.get_application_name(), Some("x"));
        assert_eq!(address.to_string(), "postgres://a@db:1/ledger");
    }

    #[test]
    fn what_cannot_be_read_shows_nothing() {
        for url in [
            "",
            "host=db password=secret",
            "postgres://a:secret@db:port/x",
            "postgres://a:secret@db/x?pasword=secret",
            "postgres://a:secret@db/x?secret",
            "mysql://a:secret@db",
        ] {
            let config = PostgresConfig::new(url);
            let error = Address::of(&config).err().unwrap().to_string();
            assert!(error.contains("cannot be read"), "{url}: {error}");
            assert!(!format!("{config:?} {error}").contains("secret"), "{error}");
        }
    }
}
