//! One request to a collector, and what its answer means.

mod grpc;
mod http;
mod wire;

use std::time::Duration;

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use hyper::Uri;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;

pub(crate) use wire::{Request, ResourceLogs, ScopeLogs};

use crate::{
    config::{OtlpConfig, Protocol, without_secrets},
    error::Fault,
};

/// The way to a collector.
#[derive(Debug)]
pub(crate) struct Exporter {
    protocol: Way,
    timeout: Duration,
    /// For messages: scheme, host and port.
    place: String,
}

#[derive(Debug)]
enum Way {
    Grpc(Box<grpc::Grpc>),
    Http(Box<http::Http>),
}

impl Exporter {
    /// # Errors
    /// [`SinkError`] where the configuration cannot be used.
    pub(crate) fn new(config: &OtlpConfig) -> Result<Self, SinkError> {
        let endpoint = parse(&config.endpoint)?;
        let place = format!(
            "{}://{}",
            endpoint.scheme_str().unwrap_or_default(),
            endpoint.authority().map(hyper::http::uri::Authority::as_str).unwrap_or_default()
        );
        let protocol = match config.protocol {
            Protocol::Grpc => Way::Grpc(Box::new(grpc::Grpc::new(config, &place)?)),
            Protocol::HttpProtobuf => Way::Http(Box::new(http::Http::new(config, endpoint)?)),
        };
        Ok(Self { protocol, timeout: config.timeout(), place })
    }

    /// Sends a request and waits until the collector has taken all of it.
    pub(crate) async fn export(&self, request: Request) -> Result<(), Fault> {
        let records = request.records();
        let sending = async {
            match &self.protocol {
                Way::Grpc(grpc) => grpc.export(request).await,
                Way::Http(http) => http.export(request).await,
            }
        };
        let answer = match tokio::time::timeout(self.timeout, sending).await {
            Ok(answer) => answer,
            Err(_) => {
                self.close();
                let context = format!("no answer within {:?}", self.timeout);
                Err(Fault::passing(SinkErrorKind::Timeout, context))
            }
        };
        answer
            .and_then(|answer| whole(&answer, records))
            .map_err(|fault| fault.at(&format!("collector at {}", self.place)))
    }

    /// Lets go of connections; a later request makes new ones.
    pub(crate) fn close(&self) {
        if let Way::Grpc(grpc) = &self.protocol {
            grpc.forget();
        }
    }
}

/// Partial success is not success.
fn whole(answer: &ExportLogsServiceResponse, records: usize) -> Result<(), Fault> {
    let Some(partial) = &answer.partial_success else { return Ok(()) };
    let rejected = partial.rejected_log_records;
    if rejected > 0 {
        return Err(Fault::refused(format!("it refused {rejected} of {records} records")));
    }
    if !partial.error_message.is_empty() {
        // Full success with a warning. Its words may quote what was sent, so they are not repeated.
        tracing::debug!("a collector took all records and warned; its own log says why");
    }
    Ok(())
}

fn parse(endpoint: &str) -> Result<Uri, SinkError> {
    let wrong = |what: &str| {
        let context = format!("endpoint {:?} cannot be used: {what}", without_secrets(endpoint));
        SinkError::new(SinkErrorKind::Misconfigured, context)
    };
    let uri: Uri = endpoint.parse().map_err(|_| wrong("it is no URL"))?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(wrong("it does not begin with http:// or https://"));
    }
    match uri.authority() {
        None => Err(wrong("it names no host")),
        Some(authority) if authority.as_str().contains('@') => {
            Err(wrong("it holds a user or password; use a header for credentials"))
        }
        Some(_) => Ok(uri),
    }
}

/// A file that the configuration names.
fn file(path: &std::path::Path) -> Result<Vec<u8>, SinkError> {
    std::fs::read(path).map_err(|error| {
        let context = format!("{} cannot be read", path.display());
        SinkError::new(SinkErrorKind::Misconfigured, context).with_source(error)
    })
}

/// What this process shows of itself, in PEM.
struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// The certificate and the key that the configuration names, which go together.
fn identity(config: &OtlpConfig) -> Result<Option<Identity>, SinkError> {
    match (&config.client_certificate, &config.client_key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Ok(Some(Identity { certificate: file(certificate)?, key: file(key)? }))
        }
        _ => Err(SinkError::new(
            SinkErrorKind::Misconfigured,
            "client_certificate and client_key go together, and one is missing",
        )),
    }
}

/// A header whose name or value cannot be sent.
fn bad_header(name: &str) -> SinkError {
    let context = format!(
        "header {name:?} cannot be sent: a name has lower-case letters, digits, '-' and '_', and a \
         value visible ASCII characters"
    );
    SinkError::new(SinkErrorKind::Misconfigured, context)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsPartialSuccess;

    use super::*;

    #[test]
    fn an_endpoint_that_cannot_be_used_is_told_without_its_secrets() {
        for endpoint in
            ["localhost:4317", "ftp://c", "http://", "", "https://user:s3cret@c:4318/v1/logs"]
        {
            let mut config = OtlpConfig::grpc("http://c");
            config.endpoint = endpoint.to_owned();
            let error = Exporter::new(&config).unwrap_err();
            assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn headers_that_cannot_be_sent_are_told_without_their_values() {
        for config in [OtlpConfig::grpc("http://c"), OtlpConfig::http("http://c")] {
            for (name, value) in [("x key", "s3cret"), ("x-key", "s3cret\n"), ("X-Ä", "s3cret")] {
                let error = Exporter::new(&config.clone().with_header(name, value)).unwrap_err();
                assert!(error.to_string().contains(name), "{error}");
                assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
            }
        }
    }

    #[test]
    fn a_certificate_without_its_key_is_told() {
        for mut config in [OtlpConfig::grpc("https://c"), OtlpConfig::http("https://c")] {
            config.client_certificate = Some("certificate.pem".into());
            let error = Exporter::new(&config).unwrap_err();
            assert_eq!(error.kind(), SinkErrorKind::Misconfigured);
            assert!(error.to_string().contains("client_key"), "{error}");
        }
    }

    #[test]
    fn a_warning_is_no_refusal() {
        let answer = |rejected_log_records, error_message: &str| ExportLogsServiceResponse {
            partial_success: Some(ExportLogsPartialSuccess {
                rejected_log_records,
                error_message: error_message.to_owned(),
            }),
        };
        assert!(whole(&answer(0, "deprecated"), 5).is_ok());
        let fault = whole(&answer(2, "because of s3cret"), 5).unwrap_err();
        assert!(fault.is_refusal());
        let error = SinkError::from(fault).to_string();
        assert_eq!(error, "sink rejected: it refused 2 of 5 records");
    }
}
