//! The contract of sinks, on the emulator.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use agent_audit_core::{
    conformance::{Capabilities, Fault, Harness, lose_answers},
    record::Record,
    sink::{ChainRef, Sink as AnySink},
};
use agent_audit_test_support::service::{Answer, Service};

use super::{SECRET, emulator};
use crate::place::{Arrival, Arrivals, Config, Inbox, Place, Sink, answer_of_an_ill_service};

type Ill = Arc<Mutex<Option<(Fault, String)>>>;

struct Emulated {
    place: Place,
    strict: bool,
    /// What reads, and keeps what arrived.
    store: tokio::sync::Mutex<(Inbox, Arrivals, HashMap<ChainRef, Vec<Record>>)>,
    /// Between the sink and the emulator, where a chain is ill.
    service: Service,
    ill: Ill,
}

impl Emulated {
    async fn new(strict: bool) -> Self {
        let place = Place::create(emulator()).await;
        let store = (Inbox::of(place.config()).await, Arrivals::new(), HashMap::new());
        let ill = Ill::default();
        let service = Service::start({
            let (ill, at) = (Arc::clone(&ill), place.at);
            move |request| match &*ill.lock().unwrap() {
                Some((fault, key)) => answer_of_an_ill_service(&request, at, *fault, key),
                None => Answer::Send(request.forward(at)),
            }
        });
        Self { place, strict, store: store.into(), service, ill }
    }

    async fn connect(&self, config: Config) -> Arc<dyn AnySink> {
        let config = if self.strict { config.with_strict_order() } else { config };
        Arc::new(Sink::connect(config).await.unwrap())
    }
}

#[async_trait::async_trait]
impl Harness for Emulated {
    async fn sink(&self) -> Arc<dyn AnySink> {
        self.connect(self.place.config()).await
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let mut store = self.store.lock().await;
        let (inbox, arrivals, chains) = &mut *store;
        for received in inbox.rest().await.unwrap() {
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

    async fn faulty(&self, fault: Fault, chain: &ChainRef) -> Option<Arc<dyn AnySink>> {
        if self.strict && fault == Fault::AfterCommit {
            // Of what is sent one by one, only one answer can be lost by the way.
            return Some(lose_answers(self.sink().await));
        }
        *self.ill.lock().unwrap() = Some((fault, chain.to_string()));
        Some(self.connect(self.place.config_through(self.service.address())).await)
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
