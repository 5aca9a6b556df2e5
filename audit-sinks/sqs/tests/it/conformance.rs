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
use agent_audit_sqs::{Arrival, Arrivals, SqsConfig, SqsSink};
use agent_audit_test_support::service::{Answer, Request, Response, Service};
use serde_json::{Value, json};

use crate::queue::{Queue, SECRET, emulator};

type Ill = Arc<Mutex<Option<(Fault, String)>>>;

struct Emulated {
    queue: Queue,
    strict: bool,
    /// The store of the consumer that empties the queue.
    store: tokio::sync::Mutex<(Arrivals, HashMap<ChainRef, Vec<Record>>)>,
    /// Between the sink and the emulator, where a chain is ill.
    service: Service,
    ill: Ill,
}

impl Emulated {
    async fn new(strict: bool) -> Self {
        let queue = Queue::create(emulator()).await;
        let ill = Ill::default();
        let service = Service::start({
            let (ill, at) = (Arc::clone(&ill), queue.at);
            move |request| answer(&request, at, &ill)
        });
        let store = (Arrivals::new(), HashMap::new());
        Self { queue, strict, store: store.into(), service, ill }
    }

    async fn connect(&self, config: SqsConfig) -> Arc<dyn Sink> {
        let config = if self.strict { config.with_strict_order() } else { config };
        Arc::new(SqsSink::connect(config).await.unwrap())
    }
}

/// As the service answers when it fails for the messages of one chain, or when its answer is lost.
fn answer(request: &Request, emulator: SocketAddr, ill: &Ill) -> Answer {
    let Some((fault, group)) = ill.lock().unwrap().clone() else {
        return Answer::Send(request.forward(emulator));
    };
    let is_ill = |entry: &Value| entry["MessageGroupId"] == *group;
    if fault == Fault::BeforeCommit {
        return Answer::Send(without(request, emulator, "InternalError", is_ill));
    }
    let response = request.forward(emulator);
    let any = request.json()["Entries"].as_array().unwrap().iter().any(is_ill);
    if any { Answer::HangUp } else { Answer::Send(response) }
}

/// Passes on what is not ill, and answers for the rest that it failed.
pub(crate) fn without(
    request: &Request,
    emulator: SocketAddr,
    code: &str,
    is_ill: impl Fn(&Value) -> bool,
) -> Response {
    let mut body = request.json();
    let all = body["Entries"].as_array().unwrap().clone();
    let (ill, sound): (Vec<Value>, Vec<Value>) = all.into_iter().partition(is_ill);
    let mut response = json!({ "Successful": [], "Failed": [] });
    if !sound.is_empty() {
        body["Entries"] = sound.into();
        response = request.clone().with_json(&body).forward(emulator).to_json();
    }
    let failed = ill.iter().map(|entry| {
        json!({ "Id": entry["Id"], "Code": code, "Message": "injected", "SenderFault": false })
    });
    response["Failed"] = failed.collect();
    Response::json(200, &response)
}

#[async_trait::async_trait]
impl Harness for Emulated {
    async fn sink(&self) -> Arc<dyn Sink> {
        self.connect(self.queue.config()).await
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let mut store = self.store.lock().await;
        let (arrivals, chains) = &mut *store;
        for received in self.queue.drain().await {
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
            // Of what is sent one by one, only one answer can be lost by the way.
            return Some(lose_answers(self.sink().await));
        }
        *self.ill.lock().unwrap() = Some((fault, chain.to_string()));
        Some(self.connect(self.queue.config_through(self.service.address())).await)
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
