//! The contract of sinks, on a real server.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use agent_audit_core::{
    conformance::{Fault, Harness},
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_s3::{CreateOnce, ObjectFormat, S3Config, S3Sink};
use agent_audit_test_support::service::{Answer, Response, Service};

use super::place::{Place, User};

struct Server {
    place: Place,
    create_once: CreateOnce,
    format: ObjectFormat,
    between: Mutex<Option<Service>>,
}

impl Server {
    fn at(place: Place) -> Self {
        Self {
            place,
            create_once: CreateOnce::Conditional,
            format: ObjectFormat::NdjsonZstd,
            between: Mutex::default(),
        }
    }

    fn config(&self) -> S3Config {
        self.place.config().with_create_once(self.create_once).with_format(self.format)
    }
}

#[async_trait::async_trait]
impl Harness for Server {
    async fn sink(&self) -> Arc<dyn Sink> {
        Arc::new(S3Sink::open(self.config()).await.unwrap())
    }

    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        super::records(&self.place.archive().await, chain, 0).await
    }

    fn credentials(&self) -> Vec<String> {
        vec![User::Admin.keys().1]
    }

    /// The object is refused, or the answer to the manifest, which is the commit, is lost.
    async fn faulty(&self, fault: Fault, chain: &ChainRef) -> Option<Arc<dyn Sink>> {
        let server: SocketAddr = self.place.url.strip_prefix("http://").unwrap().parse().unwrap();
        let tenant = format!("/audit/{}/", chain.tenant_id);
        let service = Service::start(move |request| {
            let put = request.method == "PUT" && request.target.contains(&tenant);
            let manifest = request.target.contains("/chains/");
            match fault {
                Fault::BeforeCommit if put && !manifest => {
                    Answer::Send(Response { status: 503, headers: Vec::new(), body: Vec::new() })
                }
                Fault::AfterCommit if put && manifest => {
                    assert_eq!(request.forward(server).status, 200);
                    Answer::HangUp
                }
                _ => Answer::Send(request.forward(server)),
            }
        });
        let sink = S3Sink::open(self.config().with_endpoint(service.url())).await.unwrap();
        *self.between.lock().unwrap() = Some(service);
        Some(Arc::new(sink))
    }

    async fn mend(&self) {
        self.between.lock().unwrap().take();
    }
}

mod create_once {
    use super::*;

    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
        Server::at(Place::new().await)
    );
}

mod oldest_version {
    use super::*;

    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
        Server { create_once: CreateOnce::Versions, ..Server::at(Place::new().await) }
    );
}

mod without_versions {
    use super::*;

    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
        Server::at(Place::plain().await)
    );
}

#[cfg(feature = "parquet")]
mod parquet {
    use super::*;

    agent_audit_core::sink_conformance!(
        #[ignore = "needs AUDIT_TEST_S3: servers/with s3 -- cargo test -- --include-ignored"]
        Server { format: ObjectFormat::Parquet, ..Server::at(Place::new().await) }
    );
}
