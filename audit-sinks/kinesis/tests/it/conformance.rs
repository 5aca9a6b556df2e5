//! The contract of sinks, on the emulator.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use agent_audit_core::{
    conformance::{Capabilities, Fault, Harness, lose_answers},
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_kinesis::{Arrival, Arrivals, KinesisConfig, KinesisReader, KinesisSink};
use agent_audit_test_support::service::{Answer, Request, Response, Service};
use serde_json::{Value, json};

use crate::stream::{SECRET, Stream, emulator, rest};

type Ill = Arc<Mutex<Option<(Fault, String)>>>;

struct Emulated {
    stream: Stream,
    strict: bool,
    reader: tokio::sync::Mutex<(KinesisReader, Arrivals, HashMap<ChainRef, Vec<Record>>)>,
    /// Between the sink and the emulator, where a chain is ill.
    service: Service,
    ill: Ill,
}

impl Emulated {
    async fn new(strict: bool) -> Self {
        let stream = Stream::create(emulator()).await;
        let reader = (stream.reader().await, Arrivals::new(), HashMap::new());
        let ill = Ill::default();
        let service = Service::start({
            let (ill, at) = (Arc::clone(&ill), stream.at);
            move |request| answer(&request, at, &ill)
        });
        Self { stream, strict, reader: reader.into(), service, ill }
    }

    async fn connect(&self, config: KinesisConfig) -> Arc<dyn Sink> {
        let config = if self.strict { config.with_strict_order() } else { config };
        Arc::new(KinesisSink::connect(config).await.unwrap())
    }
}

/// As the service answers when it fails for the records of one chain, or when its answer is lost.
fn answer(request: &Request, emulator: SocketAddr, ill: &Ill) -> Answer {
    let Some((fault, key)) = ill.lock().unwrap().clone() else {
        return Answer::Send(request.forward(emulator));
    };
    let body = request.json();
    let is_ill = |record: &Value| record["PartitionKey"] == *key;
    let Some(records) = body["Records"].as_array() else {
        // One record, in strict order.
        if !is_ill(&body) {
            return Answer::Send(request.forward(emulator));
        }
        let error = json!({ "__type": "InternalFailureException", "message": "injected" });
        return Answer::Send(Response::json(500, &error));
    };
    if fault == Fault::AfterCommit {
        let response = request.forward(emulator);
        return if records.iter().any(is_ill) { Answer::HangUp } else { Answer::Send(response) };
    }
    Answer::Send(without(request, emulator, "InternalFailure", is_ill))
}

/// Passes on what is not ill, and answers for the rest that it failed.
pub(crate) fn without(
    request: &Request,
    emulator: SocketAddr,
    code: &str,
    is_ill: impl Fn(&Value) -> bool,
) -> Response {
    let mut body = request.json();
    let all = body["Records"].as_array().unwrap().clone();
    let sound: Vec<Value> = all.iter().filter(|record| !is_ill(record)).cloned().collect();
    let mut taken = Vec::new();
    if !sound.is_empty() {
        body["Records"] = sound.into();
        let response = request.clone().with_json(&body).forward(emulator).to_json();
        taken = response["Records"].as_array().unwrap().clone();
    }
    let mut taken = taken.into_iter();
    let failed = json!({ "ErrorCode": code, "ErrorMessage": "injected" });
    let records: Vec<Value> = all
        .iter()
        .map(|record| if is_ill(record) { failed.clone() } else { taken.next().unwrap() })
        .collect();
    let count = all.iter().filter(|record| is_ill(record)).count();
    Response::json(200, &json!({ "FailedRecordCount": count, "Records": records }))
}

#[async_trait::async_trait]
impl Harness for Emulated {
    async fn sink(&self) -> Arc<dyn Sink> {
        self.connect(self.stream.config()).await
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let mut state = self.reader.lock().await;
        let (reader, arrivals, chains) = &mut *state;
        for received in rest(reader).await {
            if let Arrival::Next(next) = arrivals.take(received) {
                for received in next {
                    chains.entry(received.chain).or_default().push(received.record);
                }
            }
        }
        assert_eq!(arrivals.waiting(), 0);
        chains.get(chain).cloned().unwrap_or_default()
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::default().without_conflicts().without_order()
    }

    fn credentials(&self) -> Vec<String> {
        vec![SECRET.to_owned()]
    }

    async fn faulty(&self, fault: Fault, chain: &ChainRef) -> Option<Arc<dyn Sink>> {
        if self.strict && fault == Fault::AfterCommit {
            // Of what is put one by one, only one answer can be lost by the way.
            return Some(lose_answers(self.sink().await));
        }
        *self.ill.lock().unwrap() = Some((fault, chain.to_string()));
        Some(self.connect(self.stream.config_through(self.service.address())).await)
    }

    async fn mend(&self) {
        self.ill.lock().unwrap().take();
    }
}

agent_audit_core::sink_conformance!(
    #[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
    Emulated::new(false).await
);

mod strict_order {
    use super::Emulated;

    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_AWS: servers/with aws -- cargo test -- --include-ignored"]
        Emulated::new(true).await
    );
}
