//! A collector's service in this process that fails as a test wants it, over gRPC and HTTP.

use std::{
    convert::Infallible,
    fmt,
    io::Read,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use agent_audit_core::sink::ChainRef;
use agent_audit_otlp::OtlpConfig;
use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
        logs_service_client::LogsServiceClient,
        logs_service_server::{LogsService, LogsServiceServer},
    },
    common::v1::any_value::Value,
    logs::v1::LogRecord,
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{Code, Request, Response, Status, codec::CompressionEncoding};

use crate::collector::{Collector, Way};

/// What the service does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// It takes it.
    Take,
    /// It gives it to the real collector.
    Forward,
    /// It gives it to the real collector, and then fails with this.
    ForwardAndFail(Code),
    /// It takes all but so many records.
    Partial(i64),
    /// It fails with this.
    Fail(Code),
    /// It asks to be left alone for so many seconds.
    Throttle(u32),
    /// It never answers.
    Hang,
}

type Decide = dyn Fn(&ExportLogsServiceRequest) -> Answer + Send + Sync;

/// A service that runs as long as the runtime of its test.
#[derive(Clone)]
pub(crate) struct Service {
    way: Way,
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    decide: Mutex<Box<Decide>>,
    requests: Mutex<Vec<ExportLogsServiceRequest>>,
    headers: Mutex<Vec<HeaderMap>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Service {
    pub(crate) async fn start(
        way: Way,
        decide: impl Fn(&ExportLogsServiceRequest) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            decide: Mutex::new(Box::new(decide)),
            requests: Mutex::default(),
            headers: Mutex::default(),
        });
        let service = Self { way, address, state };
        match way {
            Way::Grpc => {
                let grpc = LogsServiceServer::new(service.clone())
                    .accept_compressed(CompressionEncoding::Gzip)
                    .max_decoding_message_size(usize::MAX);
                let incoming = tonic::transport::server::TcpIncoming::from(listener);
                tokio::spawn(
                    tonic::transport::Server::builder()
                        .add_service(grpc)
                        .serve_with_incoming(incoming),
                );
            }
            Way::Http => {
                let service = service.clone();
                tokio::spawn(async move {
                    loop {
                        let (stream, _) = listener.accept().await.unwrap();
                        let service = service.clone();
                        let answer = service_fn(move |request| {
                            let service = service.clone();
                            async move { Ok::<_, Infallible>(service.http(request).await) }
                        });
                        let connection = http1::Builder::new();
                        tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
                    }
                });
            }
        }
        service
    }

    /// A sink for this service.
    pub(crate) fn config(&self) -> OtlpConfig {
        self.way.config(&format!("http://{}", self.address))
    }

    /// Does something else from now on.
    pub(crate) fn decide(
        &self,
        decide: impl Fn(&ExportLogsServiceRequest) -> Answer + Send + Sync + 'static,
    ) {
        *self.state.decide.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(decide);
    }

    /// How many requests came, whatever became of them.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Every request that came, in order.
    pub(crate) fn all(&self) -> Vec<ExportLogsServiceRequest> {
        self.state.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last request that came.
    pub(crate) fn last(&self) -> ExportLogsServiceRequest {
        let requests = self.state.requests.lock().unwrap_or_else(PoisonError::into_inner);
        requests.last().unwrap().clone()
    }

    /// The headers of the last request.
    pub(crate) fn last_headers(&self) -> HeaderMap {
        let headers = self.state.headers.lock().unwrap_or_else(PoisonError::into_inner);
        headers.last().unwrap().clone()
    }

    async fn answer(
        &self,
        headers: HeaderMap,
        request: ExportLogsServiceRequest,
    ) -> Result<ExportLogsServiceResponse, Failure> {
        let answer = {
            let decide = self.state.decide.lock().unwrap_or_else(PoisonError::into_inner);
            decide(&request)
        };
        self.state.headers.lock().unwrap_or_else(PoisonError::into_inner).push(headers);
        let requests = &self.state.requests;
        requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        match answer {
            Answer::Take => Ok(ExportLogsServiceResponse::default()),
            Answer::Forward => Ok(forward(request).await),
            Answer::ForwardAndFail(code) => {
                forward(request).await;
                Err(Failure { code, delay: None })
            }
            Answer::Partial(rejected_log_records) => Ok(ExportLogsServiceResponse {
                partial_success: Some(ExportLogsPartialSuccess {
                    rejected_log_records,
                    error_message: "canary-words".to_owned(),
                }),
            }),
            Answer::Fail(code) => Err(Failure { code, delay: None }),
            Answer::Throttle(seconds) => {
                Err(Failure { code: Code::ResourceExhausted, delay: Some(seconds) })
            }
            Answer::Hang => std::future::pending().await,
        }
    }

    async fn http(&self, request: hyper::Request<Incoming>) -> hyper::Response<Full<Bytes>> {
        assert_eq!(request.uri().path(), "/v1/logs");
        let (head, body) = request.into_parts();
        let mut body = body.collect().await.unwrap().to_bytes();
        if head.headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip") {
            let mut whole = Vec::new();
            GzDecoder::new(&body[..]).read_to_end(&mut whole).unwrap();
            body = whole.into();
        }
        let request = ExportLogsServiceRequest::decode(body).unwrap();
        match self.answer(head.headers, request).await {
            Ok(answer) => hyper::Response::new(Full::new(answer.encode_to_vec().into())),
            Err(failure) => {
                let mut answer = hyper::Response::new(Full::new("canary-words".into()));
                *answer.status_mut() = failure.status();
                if let Some(seconds) = failure.delay {
                    answer.headers_mut().insert("retry-after", seconds.into());
                }
                answer
            }
        }
    }
}

struct Failure {
    code: Code,
    delay: Option<u32>,
}

impl Failure {
    /// As a collector translates it.
    fn status(&self) -> StatusCode {
        match self.code {
            Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::InvalidArgument => StatusCode::BAD_REQUEST,
            Code::Unauthenticated => StatusCode::UNAUTHORIZED,
            Code::PermissionDenied => StatusCode::FORBIDDEN,
            Code::Unimplemented => StatusCode::NOT_FOUND,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    fn details(&self) -> Bytes {
        let Some(seconds) = self.delay else { return Bytes::new() };
        // google.rpc.Status { details: [Any { RetryInfo { retry_delay: Duration { seconds } } }] }
        let mut duration = vec![0x08];
        prost::encoding::encode_varint(seconds.into(), &mut duration);
        let message = |tag: u8, inner: &[u8]| {
            let mut message = vec![tag << 3 | 2];
            prost::encoding::encode_varint(inner.len().try_into().unwrap(), &mut message);
            message.extend_from_slice(inner);
            message
        };
        let info = message(1, &duration);
        let name = message(1, b"type.googleapis.com/google.rpc.RetryInfo");
        message(3, &[name, message(2, &info)].concat()).into()
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        match self.answer(metadata.into_headers(), request).await {
            Ok(answer) => Ok(Response::new(answer)),
            Err(failure) => {
                Err(Status::with_details(failure.code, "canary-words", failure.details()))
            }
        }
    }
}

async fn forward(request: ExportLogsServiceRequest) -> ExportLogsServiceResponse {
    let client = LogsServiceClient::connect(Collector::shared().grpc).await.unwrap();
    client.max_encoding_message_size(usize::MAX).export(request).await.unwrap().into_inner()
}

/// Every record of a request.
pub(crate) fn log_records(request: &ExportLogsServiceRequest) -> Vec<&LogRecord> {
    let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
    scopes.flat_map(|scope| &scope.log_records).collect()
}

/// The text of an attribute.
pub(crate) fn text<'a>(record: &'a LogRecord, name: &str) -> Option<&'a str> {
    let pair = record.attributes.iter().find(|pair| pair.key == name)?;
    match pair.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

/// Whether a request holds something of a chain.
pub(crate) fn is_of(request: &ExportLogsServiceRequest, chain: &ChainRef) -> bool {
    let stream = chain.to_string();
    log_records(request).iter().any(|record| text(record, "audit.stream_id") == Some(&stream))
}
