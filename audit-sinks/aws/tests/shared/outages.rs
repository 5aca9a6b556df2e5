//! Outages between the sink and the emulator, through a real log.

use std::{collections::HashMap, net::SocketAddr, sync::Arc};

use agent_audit_core::{
    record::Record,
    sink::{ChainRef, Sink as AnySink},
};
use agent_audit_test_support::{
    aws::{grant, revoke, user_with_policy},
    outages::{OutageHarness, Promise, WhenFull, inherited},
};

use super::{guarded_emulator, impatient};
use crate::place::{Inbox, Place, Sink, WRITER, answer_of_a_full_service};

/// A writer with the documented policy, and a consumer that keeps what arrives.
struct Emulated {
    place: Place,
    writer: String,
    key: [String; 2],
    store: tokio::sync::Mutex<(Inbox, HashMap<ChainRef, Vec<Record>>)>,
}

impl Emulated {
    async fn new() -> Self {
        let at = guarded_emulator();
        let names = inherited();
        let names: Vec<&str> = names.iter().flat_map(|names| names.split(' ')).collect();
        let (place, key) = if let [name, bucket, id, secret] = names[..] {
            (Place::known(name, bucket, at), [id.to_owned(), secret.to_owned()])
        } else {
            let place = Place::create(at).await;
            let policy = place.policy(WRITER);
            let key = user_with_policy(at, &format!("{}-writer", place.name), &policy);
            (place, key.into())
        };
        let store = (Inbox::of(place.config()).await, HashMap::new());
        Self { writer: format!("{}-writer", place.name), place, key, store: store.into() }
    }

    async fn connect(&self, through: SocketAddr, [id, secret]: [&str; 2]) -> Arc<dyn AnySink> {
        let mut config = impatient(self.place.config_through(through));
        config.aws = config.aws.with_credentials(id, secret);
        Arc::new(Sink::connect(config).await.unwrap())
    }
}

#[async_trait::async_trait]
impl OutageHarness for Emulated {
    fn upstream(&self) -> SocketAddr {
        self.place.at
    }

    async fn sink(&self, through: SocketAddr) -> Arc<dyn AnySink> {
        self.connect(through, self.key.each_ref().map(String::as_str)).await
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let mut store = self.store.lock().await;
        let (inbox, chains) = &mut *store;
        for received in inbox.rest().await.unwrap() {
            chains.entry(received.chain).or_default().push(received.record);
        }
        chains.get(chain).cloned().unwrap_or_default()
    }

    fn promise(&self) -> Promise {
        Promise::AtLeastOnce
    }

    /// A request of one event has more than the usual bytes: text in JSON in JSON.
    fn handshake_bytes(&self) -> u64 {
        16 << 10
    }

    async fn sink_with_wrong_credentials(&self, through: SocketAddr) -> Option<Arc<dyn AnySink>> {
        Some(self.connect(through, ["AKIANOBODY", "secret-of-nobody"]).await)
    }

    async fn set_rights(&self, granted: bool) -> bool {
        tokio::task::block_in_place(|| match granted {
            true => grant(self.place.at, &self.writer, &self.place.policy(WRITER)),
            false => revoke(self.place.at, &self.writer),
        });
        true
    }

    fn when_full(&self) -> WhenFull {
        WhenFull::Answer(answer_of_a_full_service)
    }

    fn handed_down(&self) -> String {
        let Place { name, bucket, .. } = &self.place;
        format!("{name} {bucket} {}", self.key.join(" "))
    }
}

agent_audit_test_support::outage_suite!(
    #[ignore = "needs AUDIT_TEST_AWS_IAM: servers/with aws -- cargo test -- --include-ignored"]
    Emulated::new().await
);
