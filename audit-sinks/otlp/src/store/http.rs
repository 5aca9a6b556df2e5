//! The collector's service over HTTP, with protobuf.

use std::{
    error::Error,
    fmt,
    io::{Cursor, Read},
    time::{Duration, SystemTime},
};

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use bytes::Bytes;
use flate2::{Compression as Level, read::GzEncoder};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    HeaderMap, StatusCode, Uri,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use secrecy::ExposeSecret;

use super::{Request, bad_header, file, identity};
use crate::{
    config::{Compression, OtlpConfig},
    error::Fault,
};

/// The most bytes of an answer that are read.
const MAX_ANSWER: usize = 1 << 20;

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    endpoint: Uri,
    headers: HeaderMap,
    compression: Compression,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.endpoint.authority().map(hyper::http::uri::Authority::as_str);
        f.debug_struct("Http").field("authority", &authority).finish_non_exhaustive()
    }
}

impl Http {
    pub(super) fn new(config: &OtlpConfig, endpoint: Uri) -> Result<Self, SinkError> {
        let builder = HttpsConnectorBuilder::new();
        let builder = match trust(config)? {
            Some(tls) => builder.with_tls_config(tls),
            None => builder
                .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())
                .map_err(|error| unusable(&error))?,
        };
        let client = Client::builder(TokioExecutor::new())
            .build(builder.https_or_http().enable_http1().build());
        let mut headers = HeaderMap::new();
        for (name, value) in &config.headers {
            // As over gRPC, where a name has no capitals.
            let key = HeaderName::from_lowercase(name.as_bytes()).map_err(|_| bad_header(name))?;
            let mut value =
                HeaderValue::from_str(value.expose_secret()).map_err(|_| bad_header(name))?;
            value.set_sensitive(true);
            headers.insert(key, value);
        }
        let agent = concat!("agent-audit-otlp/", env!("CARGO_PKG_VERSION"));
        headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(agent));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        if config.compression == Compression::Gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self { client, endpoint, headers, compression: config.compression })
    }

    pub(super) async fn export(
        &self,
        request: Request,
    ) -> Result<ExportLogsServiceResponse, Fault> {
        let body = request.encode_to_vec();
        let body = match self.compression {
            Compression::None => body,
            Compression::Gzip => {
                let mut packed = Vec::with_capacity(body.len() / 4);
                GzEncoder::new(Cursor::new(body), Level::default())
                    .read_to_end(&mut packed)
                    .map_err(|error| Fault::refused(format!("it cannot be compressed: {error}")))?;
                packed
            }
        };
        let mut request = hyper::Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) if error.is_connect() => return Err(unreachable(&error)),
            Err(_) => return Err(broken()),
        };
        let (head, body) = answer.into_parts();
        if head.status != StatusCode::OK {
            return Err(meaning(head.status, &head.headers));
        }
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|_| broken())?;
        ExportLogsServiceResponse::decode(body.to_bytes()).map_err(|_| {
            let context = "its answer is not of OTLP; is it a collector";
            Fault::collector(SinkErrorKind::Misconfigured, context).with_maybe_applied()
        })
    }
}

/// The certificates that the configuration names; none where it names none.
fn trust(config: &OtlpConfig) -> Result<Option<ClientConfig>, SinkError> {
    let identity = identity(config)?;
    if config.certificate.is_none() && identity.is_none() {
        return Ok(None);
    }
    let mut roots = RootCertStore::empty();
    match &config.certificate {
        Some(path) => {
            for certificate in certificates(&file(path)?)? {
                roots.add(certificate).map_err(|error| unusable(&error))?;
            }
        }
        None => {
            return Err(SinkError::new(
                SinkErrorKind::Misconfigured,
                "over HTTP a client_certificate needs the certificate of the collector too",
            ));
        }
    }
    let builder =
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots);
    let config = match identity {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let key = PrivateKeyDer::from_pem_slice(&shown.key).map_err(|_| {
                SinkError::new(SinkErrorKind::Misconfigured, "client_key holds no private key")
            })?;
            builder
                .with_client_auth_cert(certificates(&shown.certificate)?, key)
                .map_err(|error| unusable(&error))?
        }
    };
    Ok(Some(config))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, SinkError> {
    let certificates: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap_or_default();
    if certificates.is_empty() {
        let context = "a certificate file holds no certificate in PEM";
        return Err(SinkError::new(SinkErrorKind::Misconfigured, context));
    }
    Ok(certificates)
}

fn unusable(error: &rustls::Error) -> SinkError {
    let context = format!("the certificates cannot be used for TLS: {error}");
    SinkError::new(SinkErrorKind::Misconfigured, context)
}

fn broken() -> Fault {
    Fault::collector(SinkErrorKind::Unavailable, "the connection broke before the answer")
        .with_maybe_applied()
}

fn unreachable(error: &(dyn Error + 'static)) -> Fault {
    // The innermost cause is of the operating system or of TLS; neither knows what is sent.
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    Fault::collector(SinkErrorKind::Unavailable, format!("it cannot be reached: {innermost}"))
}

/// What a status means, by the table of the protocol.
fn meaning(status: StatusCode, headers: &HeaderMap) -> Fault {
    use SinkErrorKind::{Exhausted, Misconfigured, PermissionDenied, Unauthenticated, Unavailable};
    let answered = format!("it answered {}", status.as_u16());
    let delay = retry_after(headers, SystemTime::now());
    match status.as_u16() {
        429 => Fault::collector(Exhausted, answered).with_retry_after(delay),
        503 if delay.is_some() => Fault::collector(Exhausted, answered).with_retry_after(delay),
        502..=504 => Fault::passing(Unavailable, answered),
        401 => Fault::collector(Unauthenticated, answered),
        403 => Fault::collector(PermissionDenied, answered),
        300..=399 | 404 | 405 | 415 | 501 => Fault::collector(
            Misconfigured,
            format!("{answered}: it takes no logs there; is the path /v1/logs missing"),
        ),
        413 => {
            Fault::refused(format!("{answered}: a limit of its own, perhaps max_request_body_size"))
        }
        _ => Fault::refused(answered),
    }
}

/// How long a collector asks to be left alone: seconds, or until a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let until = httpdate::parse_http_date(value).ok()?;
            Some(until.duration_since(now).unwrap_or_default())
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::error::About;

    #[test]
    fn statuses_are_retryable_as_the_protocol_says() {
        for status in (201..600).filter_map(|status| StatusCode::from_u16(status).ok()) {
            let fault = meaning(status, &HeaderMap::new());
            let expected = matches!(status.as_u16(), 429 | 502 | 503 | 504);
            assert_eq!(SinkError::from(fault).is_retryable(), expected, "{status}");
        }
    }

    #[test]
    fn a_delay_is_taken_as_seconds_and_as_a_date() {
        let now = httpdate::parse_http_date("Thu, 26 Nov 2026 10:00:00 GMT").unwrap();
        let delay = |value: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers, now)
        };
        assert_eq!(delay("120"), Some(Duration::from_secs(120)));
        assert_eq!(delay("Thu, 26 Nov 2026 10:00:30 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(delay("Thu, 26 Nov 2026 09:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(delay("soon"), None);
        let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("7"))]);
        for status in [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE] {
            let fault = meaning(status, &headers);
            assert_eq!(fault.about, About::Collector);
            assert_eq!(SinkError::from(fault).retry_after(), Some(Duration::from_secs(7)));
        }
    }
}
