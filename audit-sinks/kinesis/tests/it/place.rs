//! A stream and a bucket of one test alone, on the emulator.

use std::net::SocketAddr;

use agent_audit_core::{
    conformance::Fault,
    record::Record,
    sink::{ChainRef, SinkError},
};
use agent_audit_kinesis::KinesisReader;
use agent_audit_test_support::service::{Answer, Request, Response};
use aws_sdk_kinesis::config::{BehaviorVersion, Region};
use serde_json::{Value, json};

pub(crate) use agent_audit_kinesis::{
    Arrival, Arrivals, AwsConfig, ClaimConfig, KinesisConfig as Config, KinesisSink as Sink,
    Received,
};

use crate::shared::{ACCOUNT, REGION, aws_at, credentials, fresh_name, http};

/// What errors call it.
pub(crate) const KIND: &str = "stream";
/// A name that one can have.
pub(crate) const NAME: &str = "audit";

pub(crate) const WRITER: &str = include_str!("../../policies/writer.json");
pub(crate) const READER: &str = include_str!("../../policies/reader.json");

pub(crate) const THROTTLED: &str = "ProvisionedThroughputExceededException";

pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) bucket: String,
    pub(crate) at: SocketAddr,
}

impl Place {
    /// A stream of two shards, and a bucket.
    pub(crate) async fn create(at: SocketAddr) -> Self {
        let name = fresh_name();
        let place = Self { bucket: format!("b{}", &name[..40]), name, at };
        let create = place.client().create_stream().stream_name(&place.name).shard_count(2);
        create.send().await.unwrap();
        place.create_bucket().await;
        place
    }

    /// One that was created before.
    pub(crate) fn known(name: &str, bucket: &str, at: SocketAddr) -> Self {
        Self { name: name.to_owned(), bucket: bucket.to_owned(), at }
    }

    /// The service as anybody talks to it.
    pub(crate) fn client(&self) -> aws_sdk_kinesis::Client {
        let config = aws_sdk_kinesis::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(REGION))
            .endpoint_url(format!("http://{}", self.at))
            .credentials_provider(credentials())
            .http_client(http());
        aws_sdk_kinesis::Client::from_conf(config.build())
    }

    /// A sink's way to the stream past `at`.
    pub(crate) fn config_through(&self, at: SocketAddr) -> Config {
        Config::new(&self.name).with_aws(aws_at(at)).with_claims(self.claims())
    }

    /// That of a sink of records as large as every stream takes.
    pub(crate) fn config_of_largest(&self) -> Config {
        self.config()
    }

    /// An iterator names its stream for the service, and not for the emulator.
    pub(crate) fn config_of_reader(&self, mut config: Config) -> Config {
        config.stream = self.arn();
        config
    }

    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{}", self.name)
    }

    /// A documented policy, for this stream and bucket.
    pub(crate) fn policy(&self, policy: &str) -> String {
        policy
            .replace("REGION", REGION)
            .replace("ACCOUNT", ACCOUNT)
            .replace("STREAM", &self.name)
            .replace("BUCKET", &self.bucket)
    }

    /// What counts of a record beside its text.
    pub(crate) fn overhead(chain: &ChainRef, _: &Record) -> usize {
        chain.to_string().len()
    }

    pub(crate) async fn reader(&self) -> KinesisReader {
        KinesisReader::connect(self.config()).await.unwrap()
    }

    /// The first so many records.
    pub(crate) async fn look(&self, count: usize) -> Vec<Result<Received, SinkError>> {
        let mut reader = self.reader().await;
        let mut found = Vec::new();
        while found.len() < count {
            let records = reader.receive().await.unwrap();
            found.extend(records.into_iter().map(|record| record.received));
        }
        found
    }

    /// The text of every record.
    pub(crate) async fn texts(&self) -> Vec<String> {
        let client = self.client();
        let mut texts = Vec::new();
        for shard in client.list_shards().stream_name(&self.name).send().await.unwrap().shards() {
            let iterator = client.get_shard_iterator().stream_name(&self.name);
            let iterator =
                iterator.shard_id(shard.shard_id()).shard_iterator_type("TRIM_HORIZON".into());
            let iterator = iterator.send().await.unwrap().shard_iterator.unwrap();
            let answer = client.get_records().shard_iterator(iterator).send().await.unwrap();
            let text = |r: &aws_sdk_kinesis::types::Record| {
                String::from_utf8(r.data().as_ref().to_vec()).unwrap()
            };
            texts.extend(answer.records().iter().map(text));
        }
        texts
    }
}

/// Who reads the stream, and goes on where it was.
pub(crate) struct Inbox(KinesisReader);

impl Inbox {
    pub(crate) async fn of(config: Config) -> Self {
        Self(KinesisReader::connect(config).await.unwrap())
    }

    /// What was not read yet.
    pub(crate) async fn rest(&mut self) -> Result<Vec<Received>, SinkError> {
        rest(&mut self.0).await
    }
}

/// What a reader has not read yet.
pub(crate) async fn rest(reader: &mut KinesisReader) -> Result<Vec<Received>, SinkError> {
    let mut all = Vec::new();
    loop {
        let records = reader.receive().await?;
        let nothing = records.is_empty();
        all.extend(records.into_iter().map(|record| record.received.unwrap()));
        if nothing && reader.is_caught_up() {
            return Ok(all);
        }
    }
}

/// As the service answers when it fails for the records of one chain, or when its answer is lost.
pub(crate) fn answer_of_an_ill_service(
    request: &Request,
    emulator: SocketAddr,
    fault: Fault,
    key: &str,
) -> Answer {
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

/// A stream has no disk that its user could fill: this is how it answers when its shards take nothing
/// more at present.
pub(crate) fn answer_of_a_full_service(request: &Request) -> Option<Response> {
    let count = request.json()["Records"].as_array()?.len();
    let records = vec![failed(THROTTLED); count];
    Some(Response::json(200, &json!({ "FailedRecordCount": count, "Records": records })))
}

fn failed(code: &str) -> Value {
    json!({ "ErrorCode": code, "ErrorMessage": "injected" })
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
    let records: Vec<Value> = all
        .iter()
        .map(|record| if is_ill(record) { failed(code) } else { taken.next().unwrap() })
        .collect();
    let count = all.iter().filter(|record| is_ill(record)).count();
    Response::json(200, &json!({ "FailedRecordCount": count, "Records": records }))
}
