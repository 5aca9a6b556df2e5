//! Appending through the sink, side by side with the service's own client sending the same records.
//!
//! `servers/with otlp -- cargo bench -p agent-audit-otlp --bench append` prints events per second of
//! both and the ratio of their times. Both send batches of 1,000 events over gRPC to one collector,
//! in the same requests, one after the other; the collector decodes them and writes them to a file.
//! The client's requests are built before the clock starts; the sink reads, maps and encodes each
//! event while the clock runs.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a measurement")]

use std::{sync::Mutex, time::Instant};

use agent_audit_core::{
    conformance::TestChain,
    id::TenantId,
    sink::{Batch, Segment, Sink},
};
use agent_audit_otlp::{OtlpConfig, OtlpSink};
use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
    logs_service_client::LogsServiceClient,
    logs_service_server::{LogsService, LogsServiceServer},
};
use prost::Message;
use tonic::{Request, Response, Status};

const BATCHES: u64 = 20;
const BATCH: u64 = 1_000;
const ROUNDS: usize = 9;

fn main() {
    let Ok(collector) = std::env::var("AUDIT_TEST_OTLP_GRPC") else {
        println!("skipped: AUDIT_TEST_OTLP_GRPC is not set; start with servers/with otlp -- …");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(measure(collector));
}

async fn measure(collector: String) {
    let mut chain = TestChain::of(TenantId::new("acme").unwrap());
    chain.extend(usize::try_from(BATCHES * BATCH).unwrap());
    let batches: Vec<Batch> = (0..BATCHES)
        .map(|at| chain.segment(at * BATCH..=(at + 1) * BATCH - 1))
        .map(|segment: Segment| Batch::new(vec![segment]))
        .collect();
    let requests = requests(&batches).await;
    let bytes: usize = requests.iter().flatten().map(Message::encoded_len).sum();
    let size: usize = chain.records().iter().map(|record| record.event_bytes().len()).sum();

    let sink = OtlpSink::new(OtlpConfig::grpc(&collector)).unwrap();
    let mut client = LogsServiceClient::connect(collector.clone()).await.unwrap();
    sink.check().await.unwrap();
    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        // Batch by batch in turn, so that what else the machine does meets both alike.
        let (mut through_sink, mut directly) = (0.0, 0.0);
        for (batch, request) in batches.iter().zip(requests.clone()) {
            let start = Instant::now();
            sink.append(batch).await.unwrap();
            through_sink += start.elapsed().as_secs_f64();

            let start = Instant::now();
            for request in request {
                client.export(request).await.unwrap();
            }
            directly += start.elapsed().as_secs_f64();
        }
        ratios.push((directly / through_sink, through_sink, directly));
    }
    ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (ratio, through_sink, directly) = ratios[ROUNDS / 2];
    #[allow(clippy::cast_precision_loss, reason = "a measurement")]
    let (events, bytes, size) = ((BATCHES * BATCH) as f64, bytes as f64, size as f64);
    println!("events of {:.0} bytes, as records of {:.0} bytes", size / events, bytes / events);
    println!("sink    {:>9.0} events/s", events / through_sink);
    println!("client  {:>9.0} events/s", events / directly);
    println!("ratio   {ratio:>9.2} (median of {ROUNDS}; at least 0.8 is the aim)");
}

/// What the sink sends for each of these batches.
async fn requests(batches: &[Batch]) -> Vec<Vec<ExportLogsServiceRequest>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = LogsServiceServer::new(Keep).max_decoding_message_size(usize::MAX);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)),
    );
    let sink = OtlpSink::new(OtlpConfig::grpc(format!("http://{address}"))).unwrap();
    let mut requests = Vec::new();
    for batch in batches {
        sink.append(batch).await.unwrap();
        requests.push(std::mem::take(&mut *KEPT.lock().unwrap()));
    }
    requests
}

static KEPT: Mutex<Vec<ExportLogsServiceRequest>> = Mutex::new(Vec::new());

struct Keep;

#[tonic::async_trait]
impl LogsService for Keep {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        KEPT.lock().unwrap().push(request.into_inner());
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}
