//! The HTTP interface of the server: statements, and inserts of rows.
//!
//! Plain HTTP and not the crate `clickhouse`: that one writes the text of a server's exception, which
//! quotes rows, to `tracing` and into its errors, and gives its code only as part of that text. Here
//! the code is taken from its header and the text is dropped.

use std::{fmt, sync::Arc, time::Duration};

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Request, Response, Uri,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER},
};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as HttpClient, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use secrecy::{ExposeSecret as _, SecretString};

use super::sql;
use crate::{
    config::{ClickHouseConfig, misconfigured},
    error::Fault,
};

/// The server closes a connection that was idle for 3 s or longer, by its version; a request must
/// not meet that moment.
const IDLE: Duration = Duration::from_secs(2);

/// How much of an error's text is looked at for its code, where no header has it.
const ERROR_BYTES: usize = 16 << 10;

const USER: HeaderName = HeaderName::from_static("x-clickhouse-user");
const KEY: HeaderName = HeaderName::from_static("x-clickhouse-key");
const CODE: HeaderName = HeaderName::from_static("x-clickhouse-exception-code");

/// A user at a server, with its connections.
pub(crate) struct Client {
    http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    base: String,
    database: String,
    user: HeaderValue,
    key: HeaderValue,
    timeout: Duration,
}

/// In which database a statement is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum In {
    /// In the one of the ledger.
    Database,
    /// In the user's own, which is there also before that of the ledger is.
    Default,
}

impl Client {
    pub(crate) fn new(config: &ClickHouseConfig) -> Result<Self, SinkError> {
        if !sql::is_identifier(&config.database) {
            let name = &config.database;
            let text = format!("database {name:?} is no name: use letters, digits and `_`");
            return Err(misconfigured(text));
        }
        let address = Address::parse(&config.url)?;
        let given = !config.password.expose_secret().is_empty() || config.user != "default";
        let (user, password) = match address.credentials {
            Some((user, password)) if !given => (user, password),
            _ => (config.user.clone(), config.password.clone()),
        };
        let header = |what: &str, value: &str| {
            let refused = |_| misconfigured(format!("{what} holds what no header can"));
            HeaderValue::from_bytes(value.as_bytes()).map_err(refused)
        };
        let user = header("the user", &user)?;
        let mut key = header("the password", password.expose_secret())?;
        key.set_sensitive(true);
        Ok(Self {
            http: connections(config)?,
            base: address.base,
            database: config.database.clone(),
            user,
            key,
            timeout: Duration::from_millis(config.timeout_ms.max(1)),
        })
    }

    /// What a SELECT finds, in the format `RowBinary`.
    pub(crate) async fn select(&self, query: &str, doing: &str) -> Result<Bytes, Fault> {
        let query = format!("{query}\nFORMAT RowBinary");
        let answer = self.statement(query, In::Database, doing).await;
        // Whatever went wrong, a question changes nothing.
        answer.map_err(|fault| fault.maybe_applied(false))
    }

    /// What a SELECT with parameters finds, in the format `RowBinary`.
    #[cfg(feature = "query")]
    pub(crate) async fn ask(
        &self,
        query: &str,
        params: &super::form::Params,
        doing: &str,
    ) -> Result<Bytes, Fault> {
        let (kind, body) = params.form(&format!("{query}\nFORMAT RowBinary"));
        let uri = self.uri(In::Database);
        self.request(uri, Some(&kind), body, doing).await
    }

    /// Carries out a statement that finds nothing.
    pub(crate) async fn execute(
        &self,
        statement: &str,
        place: In,
        doing: &str,
    ) -> Result<(), Fault> {
        self.statement(statement.to_owned(), place, doing).await.map(|_| ())
    }

    async fn statement(&self, text: String, place: In, doing: &str) -> Result<Bytes, Fault> {
        self.request(self.uri(place), None, text.into(), doing).await
    }

    fn uri(&self, place: In) -> String {
        // The answer begins when the end is known, so that its status tells of every fault.
        let mut uri = format!("{}/?wait_end_of_query=1", self.base);
        if place == In::Database {
            uri.push_str(&format!("&database={}", self.database));
        }
        uri
    }

    /// Inserts rows in the format `RowBinary`.
    pub(crate) async fn insert(
        &self,
        statement: &str,
        settings: &[(&str, &str)],
        rows: Bytes,
        doing: &str,
    ) -> Result<(), Fault> {
        let mut uri = format!(
            "{}/?wait_end_of_query=1&database={}&query={}",
            self.base,
            self.database,
            sql::percent_encoded(&format!("{statement} FORMAT RowBinary"))
        );
        for (name, value) in settings {
            uri.push_str(&format!("&{name}={}", sql::percent_encoded(value)));
        }
        self.request(uri, None, rows, doing).await.map(|_| ())
    }

    async fn request(
        &self,
        uri: String,
        kind: Option<&str>,
        body: Bytes,
        doing: &str,
    ) -> Result<Bytes, Fault> {
        let mut request = Request::post(uri).header(USER, &self.user).header(KEY, &self.key);
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|_| Fault::new(SinkErrorKind::Misconfigured, "the URL is none"))?;
        let exchange = async {
            let response = self.http.request(request).await.map_err(|error| {
                let sent = !error.is_connect();
                Fault::network(&error, sent, doing)
            })?;
            answer(response, doing).await
        };
        tokio::time::timeout(self.timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(Fault::timeout(doing)))
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

async fn answer(response: Response<Incoming>, doing: &str) -> Result<Bytes, Fault> {
    let (head, body) = response.into_parts();
    let code = head.headers.get(CODE);
    if head.status.is_success() && code.is_none() {
        let body = body.collect().await.map_err(|error| Fault::network(&error, true, doing))?;
        return Ok(body.to_bytes());
    }
    let code = code.and_then(|code| code.to_str().ok()?.parse().ok());
    // Read to its end, so that the connection can be used again; a longer one is given up.
    let text = Limited::new(body, ERROR_BYTES).collect().await.map(|text| text.to_bytes());
    let code = code.or_else(|| text.ok().and_then(|text| code_in(&text)));
    let fault = match code {
        Some(code) => Fault::exception(code, doing),
        None => Fault::status(head.status.as_u16(), doing),
    };
    Err(fault.retry_after(retry_after(&head.headers)))
}

/// The code of an exception by its text, which begins with `Code: 60. DB::Exception:`.
fn code_in(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"Code: ")?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    digits[end..].starts_with(b". DB::").then(|| str::from_utf8(&digits[..end]).ok())??.parse().ok()
}

/// How long the server, or what stands before it, asks to be left alone.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn connections(
    config: &ClickHouseConfig,
) -> Result<HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>, SinkError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(30)));
    tcp.set_connect_timeout(Some(Duration::from_millis(config.connect_timeout_ms.max(1))));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls(config)?)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(HttpClient::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector))
}

fn tls(config: &ClickHouseConfig) -> Result<rustls::ClientConfig, SinkError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| misconfigured("this build has no version of TLS".to_owned()))?;
    let Some(file) = &config.certificate else {
        return Ok(builder.with_webpki_roots().with_no_client_auth());
    };
    let refused = |why: &str| misconfigured(format!("certificate file {}: {why}", file.display()));
    let mut roots = rustls::RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(file)
        .map_err(|_| refused("it cannot be read"))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| refused("it is not PEM"))?;
    let (added, _) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(refused("it holds no certificate"));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A URL, taken apart.
struct Address {
    /// Scheme, host, port and path, without a slash at the end.
    base: String,
    credentials: Option<(String, SecretString)>,
}

impl Address {
    fn parse(url: &str) -> Result<Self, SinkError> {
        // Nothing of it is shown: it may hold a password.
        let refused = |why: &str| misconfigured(format!("the URL of the server {why}"));
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| refused("has no scheme: http or https"))?;
        if !matches!(scheme, "http" | "https") {
            return Err(refused("is neither http nor https"));
        }
        if rest.contains(['?', '#']) {
            return Err(refused("has a query: settings go into the configuration"));
        }
        let (credentials, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((credentials, rest)) => {
                let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
                let decoded = |text| {
                    sql::percent_decoded(text)
                        .ok_or_else(|| refused("has credentials that are not percent-encoded"))
                };
                (Some((decoded(user)?, decoded(password)?.into())), rest)
            }
        };
        let base = format!("{scheme}://{}", rest.trim_end_matches('/'));
        let uri: Uri = base.parse().map_err(|_| refused("cannot be read"))?;
        if uri.host().is_none_or(str::is_empty) {
            return Err(refused("has no host"));
        }
        Ok(Self { base, credentials })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let address = Address::parse("https://writer:p%40ss@host:8443/click/").unwrap();
        assert_eq!(address.base, "https://host:8443/click");
        let (user, password) = address.credentials.unwrap();
        assert_eq!((user.as_str(), password.expose_secret()), ("writer", "p@ss"));
        assert!(Address::parse("http://host").unwrap().credentials.is_none());
    }

    #[test]
    fn a_url_that_is_none_is_refused_and_not_shown() {
        for url in
            ["host:8123", "ftp://s3cret@host", "http://", "http://s3cret@", "http://s3cret:x@h?a=1"]
        {
            let error = Address::parse(url).err().unwrap();
            assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{url}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_database_that_is_no_name_is_refused() {
        for name in ["", "a`; DROP TABLE audit_events; --", "a&query=SELECT", "a.b"] {
            let config = ClickHouseConfig::new("http://localhost").with_database(name);
            assert_eq!(Client::new(&config).err().unwrap().kind(), SinkErrorKind::Misconfigured);
        }
    }

    #[test]
    fn a_code_is_found_in_the_text_alone_where_it_must_be() {
        assert_eq!(code_in(b"Code: 60. DB::Exception: Unknown table"), Some(60));
        assert_eq!(code_in(b"Code: 60. nothing"), None);
        assert_eq!(code_in(b"<html>Code: 60. DB::"), None);
        assert_eq!(code_in(b"Code: 99999999999. DB::"), None);
    }

    #[test]
    fn a_client_shows_no_credentials() {
        let config = ClickHouseConfig::new("http://localhost").with_user("writer", "s3cret");
        let shown = format!("{:?}", Client::new(&config).unwrap());
        assert!(!shown.contains("s3cret"), "{shown}");
    }

    #[test]
    fn a_password_that_no_header_can_hold_is_refused_and_not_shown() {
        let config = ClickHouseConfig::new("http://localhost").with_user("writer", "s3cret\n");
        let error = Client::new(&config).err().unwrap();
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}
