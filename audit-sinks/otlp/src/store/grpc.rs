//! The collector's service over gRPC.

use std::{
    error::Error,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use hyper::http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use prost::Message;
use secrecy::ExposeSecret;
use tonic::{
    Code, ConnectError, Status,
    codec::CompressionEncoding,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_prost::ProstCodec;

use super::{
    bad_header, file, identity,
    wire::{self, Request, RetryInfo},
};
use crate::{
    config::{Compression, OtlpConfig},
    error::Fault,
};

/// The method of the collector's service.
const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// What tonic says, without a cause, of a channel that gave up.
const NOT_READY: &str = "Service was not ready";

type Client = tonic::client::Grpc<Channel>;

pub(super) struct Grpc {
    endpoint: Endpoint,
    metadata: MetadataMap,
    compression: Compression,
    /// Made by the first request, because making it takes a runtime.
    client: Mutex<Option<Client>>,
}

impl fmt::Debug for Grpc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grpc").field("endpoint", &self.endpoint.uri()).finish_non_exhaustive()
    }
}

impl Grpc {
    pub(super) fn new(config: &OtlpConfig, place: &str) -> Result<Self, SinkError> {
        let misconfigured =
            |what: &str| SinkError::new(SinkErrorKind::Misconfigured, what.to_owned());
        let mut endpoint = Endpoint::from_shared(place.to_owned())
            .and_then(|endpoint| {
                endpoint.user_agent(concat!("agent-audit-otlp/", env!("CARGO_PKG_VERSION")))
            })
            .map_err(|_| misconfigured("the endpoint is no URL for gRPC"))?
            .connect_timeout(config.timeout());
        if place.starts_with("https:") {
            let mut tls = ClientTlsConfig::new();
            tls = match &config.certificate {
                Some(path) => tls.ca_certificate(Certificate::from_pem(file(path)?)),
                None => tls.with_webpki_roots(),
            };
            if let Some(shown) = identity(config)? {
                tls = tls.identity(Identity::from_pem(shown.certificate, shown.key));
            }
            endpoint = endpoint.tls_config(tls).map_err(|error| {
                misconfigured("the certificates cannot be used for TLS").with_source(error)
            })?;
        }
        let mut metadata = MetadataMap::new();
        for (name, value) in &config.headers {
            let key =
                AsciiMetadataKey::from_bytes(name.as_bytes()).map_err(|_| bad_header(name))?;
            let mut value = AsciiMetadataValue::try_from(value.expose_secret())
                .map_err(|_| bad_header(name))?;
            value.set_sensitive(true);
            metadata.insert(key, value);
        }
        Ok(Self { endpoint, metadata, compression: config.compression, client: Mutex::new(None) })
    }

    pub(super) async fn export(
        &self,
        request: Request,
    ) -> Result<ExportLogsServiceResponse, Fault> {
        let mut client = self.client();
        client.ready().await.map_err(|error| unreachable(&error))?;
        let mut request = tonic::Request::new(request);
        *request.metadata_mut() = self.metadata.clone();
        let codec: ProstCodec<Request, ExportLogsServiceResponse> = ProstCodec::default();
        match client.unary(request, PathAndQuery::from_static(EXPORT), codec).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => Err(meaning(&status)),
        }
    }

    /// Forgets the connection: one that does not answer may be dead without anybody having said so.
    pub(super) fn forget(&self) {
        *self.client.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn client(&self) -> Client {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        client
            .get_or_insert_with(|| {
                let client = Client::new(self.endpoint.connect_lazy());
                match self.compression {
                    Compression::None => client,
                    Compression::Gzip => client
                        .send_compressed(CompressionEncoding::Gzip)
                        .accept_compressed(CompressionEncoding::Gzip),
                }
            })
            .clone()
    }
}

/// What a status means, by the table of the protocol.
fn meaning(status: &Status) -> Fault {
    use SinkErrorKind::{Exhausted, Misconfigured, PermissionDenied, Unauthenticated, Unavailable};
    // A status with a cause is made on this side: the collector has not said anything.
    if let Some(cause) = status.source() {
        return if caused_by_connecting(cause) {
            unreachable(cause)
        } else {
            broken("the connection broke before the answer")
        };
    }
    if status.message().starts_with(NOT_READY) {
        return broken("the connection was not ready");
    }
    let answered = format!("it answered {:?}", status.code());
    let delay = retry_delay(status.details());
    match status.code() {
        Code::ResourceExhausted | Code::Unavailable if delay.is_some() => {
            Fault::collector(Exhausted, answered).with_retry_after(delay)
        }
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => Fault::passing(Unavailable, answered),
        Code::Unauthenticated => Fault::collector(Unauthenticated, answered),
        Code::PermissionDenied => Fault::collector(PermissionDenied, answered),
        Code::Unimplemented | Code::NotFound => Fault::collector(
            Misconfigured,
            format!("{answered}: it has no service for logs there; is it an OTLP/gRPC port"),
        ),
        // Without a delay it is a limit that the request breaks, as the size of a message.
        Code::ResourceExhausted => {
            Fault::refused(format!("{answered}: a limit of its own, perhaps max_recv_msg_size_mib"))
        }
        _ => Fault::refused(answered),
    }
}

fn broken(what: &str) -> Fault {
    Fault::collector(SinkErrorKind::Unavailable, what).with_maybe_applied()
}

fn unreachable(error: &(dyn Error + 'static)) -> Fault {
    // The innermost cause is of the operating system or of TLS; neither knows what is sent.
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    Fault::collector(SinkErrorKind::Unavailable, format!("it cannot be reached: {innermost}"))
}

fn caused_by_connecting(mut error: &(dyn Error + 'static)) -> bool {
    loop {
        if error.is::<ConnectError>() {
            return true;
        }
        let Some(cause) = error.source() else { return false };
        error = cause;
    }
}

/// How long a collector asks to be left alone: `RetryInfo` in the details of its status.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = wire::Status::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.clone()).ok()?.retry_delay.unwrap_or_default();
    let seconds = u64::try_from(delay.seconds).unwrap_or(0);
    let nanos = u32::try_from(delay.nanos).ok().filter(|nanos| *nanos < 1_000_000_000);
    Some(Duration::new(seconds, nanos.unwrap_or(0)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::error::About;

    /// The details of a status that asks for a delay.
    fn details(seconds: i64, nanos: i32) -> bytes::Bytes {
        let info = RetryInfo { retry_delay: Some(wire::Delay { seconds, nanos }) };
        let any = wire::Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".to_owned(),
            value: info.encode_to_vec().into(),
        };
        wire::Status { details: vec![any] }.encode_to_vec().into()
    }

    #[test]
    fn codes_are_retryable_as_the_protocol_says() {
        let retryable = |code| SinkError::from(meaning(&Status::new(code, "why"))).is_retryable();
        for code in 1..=16 {
            let code = Code::from_i32(code);
            let expected = matches!(
                code,
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
            );
            assert_eq!(retryable(code), expected, "{code:?}");
        }
    }

    #[test]
    fn a_delay_makes_exhausted_worth_a_retry() {
        for code in [Code::ResourceExhausted, Code::Unavailable] {
            let status = Status::with_details(code, "slow down", details(7, 500_000_000));
            let fault = meaning(&status);
            assert_eq!(fault.about, About::Collector);
            let error = SinkError::from(fault);
            assert!(error.is_retryable() && !error.maybe_applied());
            assert_eq!(error.retry_after(), Some(Duration::from_millis(7_500)));
        }
        let fault = meaning(&Status::with_details(Code::InvalidArgument, "", details(7, 0)));
        assert!(fault.is_refusal(), "a delay alone makes nothing worth a retry");
        assert_eq!(retry_delay(&details(-1, -1)), Some(Duration::ZERO));
        assert_eq!(retry_delay(b"\xff\xff"), None);
    }

    #[test]
    fn the_words_of_a_collector_are_not_repeated() {
        for code in 1..=16 {
            let status = Status::new(Code::from_i32(code), "card 4111 1111 1111 1111");
            let error = SinkError::from(meaning(&status));
            assert!(!format!("{error} {error:?}").contains("4111"), "{error:?}");
        }
    }
}
