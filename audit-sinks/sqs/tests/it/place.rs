//! A queue and a bucket of one test alone, on the emulator.

use std::{net::SocketAddr, time::Duration};

use agent_audit_core::{
    conformance::Fault,
    record::Record,
    sink::{ChainRef, SinkError},
};
use agent_audit_sqs::SqsReader;
use agent_audit_test_support::service::{Answer, Request, Response};
use aws_sdk_sqs::{
    config::{BehaviorVersion, Region},
    types::QueueAttributeName,
};
use serde_json::{Value, json};

pub(crate) use agent_audit_sqs::{
    Arrival, Arrivals, AwsConfig, ClaimConfig, Received, SqsConfig as Config, SqsSink as Sink,
};

use crate::shared::{ACCOUNT, REGION, aws_at, credentials, fresh_name, http};

/// What errors call it.
pub(crate) const KIND: &str = "queue";
/// A name that one can have.
pub(crate) const NAME: &str = "audit.fifo";

pub(crate) const WRITER: &str = include_str!("../../policies/writer.json");
pub(crate) const READER: &str = include_str!("../../policies/reader.json");

pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) bucket: String,
    pub(crate) at: SocketAddr,
}

impl Place {
    /// A FIFO queue, and a bucket.
    pub(crate) async fn create(at: SocketAddr) -> Self {
        let name = fresh_name();
        let bucket = format!("b{}", &name[..40]);
        let place = Self { name: format!("{name}.fifo"), bucket, at };
        let create = place.client().create_queue().queue_name(&place.name);
        create.attributes(QueueAttributeName::FifoQueue, "true").send().await.unwrap();
        place.create_bucket().await;
        place
    }

    /// One that was created before.
    pub(crate) fn known(name: &str, bucket: &str, at: SocketAddr) -> Self {
        Self { name: name.to_owned(), bucket: bucket.to_owned(), at }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/{ACCOUNT}/{}", self.at, self.name)
    }

    /// The service as anybody talks to it.
    pub(crate) fn client(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("http://{}", self.at))
            .credentials_provider(credentials())
            .http_client(http());
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    /// A sink's way to the queue past `at`.
    pub(crate) fn config_through(&self, at: SocketAddr) -> Config {
        Config::new(self.url()).with_aws(aws_at(at)).with_claims(self.claims())
    }

    /// That of a sink of messages as large as a queue can be told to take.
    pub(crate) fn config_of_largest(&self) -> Config {
        self.config().with_max_message_bytes(1 << 20)
    }

    pub(crate) fn config_of_reader(&self, config: Config) -> Config {
        config
    }

    /// A documented policy, for this queue and bucket.
    pub(crate) fn policy(&self, policy: &str) -> String {
        policy
            // The service checks a batch against the action for one; the emulator has an action for
            // each kind of batch.
            .replace("\"sqs:SendMessage\"", "\"sqs:SendMessage\", \"sqs:SendMessageBatch\"")
            .replace("\"sqs:DeleteMessage\"", "\"sqs:DeleteMessage\", \"sqs:DeleteMessageBatch\"")
            .replace("REGION", REGION)
            .replace("ACCOUNT", ACCOUNT)
            .replace("QUEUE", &self.name)
            .replace("BUCKET", &self.bucket)
    }

    /// What counts of a message beside its text.
    pub(crate) fn overhead(_: &ChainRef, record: &Record) -> usize {
        let event = record.view().unwrap();
        let named = event.tenant_id.len() + event.event_type.len() + 64;
        "tenant".len() + 2 * "event_type".len() + 3 * "String".len() + named
    }

    pub(crate) async fn reader(&self) -> SqsReader {
        SqsReader::connect(self.config()).await.unwrap().with_wait(Duration::ZERO)
    }

    /// The first messages, which stay in the queue: whoever cannot read one lets it go.
    pub(crate) async fn look(&self, count: usize) -> Vec<Result<Received, SinkError>> {
        let reader = self.reader().await;
        let messages = reader.receive().await.unwrap();
        reader.release(&messages).await.unwrap();
        assert!(messages.len() >= count, "{messages:?}");
        messages.into_iter().map(|message| message.received).collect()
    }

    /// The text of the first messages, which stay in the queue.
    pub(crate) async fn texts(&self) -> Vec<String> {
        let client = self.client();
        let receive = client.receive_message().queue_url(self.url()).max_number_of_messages(10);
        let messages = receive.send().await.unwrap().messages.unwrap_or_default();
        for message in &messages {
            let change = client.change_message_visibility().queue_url(self.url());
            let change =
                change.visibility_timeout(0).set_receipt_handle(message.receipt_handle.clone());
            change.send().await.unwrap();
        }
        messages.into_iter().filter_map(|message| message.body).collect()
    }
}

/// Who empties the queue.
pub(crate) struct Inbox(SqsReader);

impl Inbox {
    pub(crate) async fn of(config: Config) -> Self {
        Self(SqsReader::connect(config).await.unwrap().with_wait(Duration::ZERO))
    }

    /// Takes out all that the queue holds, in its order.
    pub(crate) async fn rest(&mut self) -> Result<Vec<Received>, SinkError> {
        let mut all = Vec::new();
        loop {
            let messages = self.0.receive().await?;
            if messages.is_empty() {
                return Ok(all);
            }
            self.0.delete(&messages).await?;
            all.extend(messages.into_iter().map(|message| message.received.unwrap()));
        }
    }
}

/// As the service answers when it fails for the messages of one chain, or when its answer is lost.
pub(crate) fn answer_of_an_ill_service(
    request: &Request,
    emulator: SocketAddr,
    fault: Fault,
    group: &str,
) -> Answer {
    let is_ill = |entry: &Value| entry["MessageGroupId"] == *group;
    if fault == Fault::BeforeCommit {
        return Answer::Send(without(request, emulator, "InternalError", is_ill));
    }
    let response = request.forward(emulator);
    let any = request.json()["Entries"].as_array().unwrap().iter().any(is_ill);
    if any { Answer::HangUp } else { Answer::Send(response) }
}

/// A queue has no disk that its user could fill, and takes any number of messages: this is how it
/// answers when it takes none at present.
pub(crate) fn answer_of_a_full_service(request: &Request) -> Option<Response> {
    let sends = request.json()["Entries"].is_array();
    sends.then(|| Response::json(400, &json!({ "__type": "ThrottlingException" })))
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
