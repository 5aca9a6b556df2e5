//! Putting records: many with one call, or, in strict order, one by one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use agent_audit_aws::internal::{Fault, Limits, Message, Transport, chain_key};
use agent_audit_core::sink::{ChainRef, SinkErrorKind};
use aws_sdk_kinesis::{error::SdkError, primitives::Blob, types::PutRecordsRequestEntry};

use super::{Access, access::LONGEST_KEY};
use crate::error;

/// Of how many chains the last sequence number is remembered.
const REMEMBERED: usize = 10_000;

pub(crate) struct Put {
    pub(crate) access: Access,
    limits: Limits,
    /// In strict order: the sequence number that the service gave the last record of a chain.
    last: Mutex<HashMap<Arc<str>, String>>,
}

impl Put {
    pub(crate) fn new(access: Access) -> Self {
        let config = &access.config;
        let limits = Limits {
            messages: config.max_request_records(),
            messages_of_a_chain: usize::MAX,
            request_bytes: config.max_request_bytes,
            message_bytes: config.max_record_bytes,
            parallelism: config.parallelism,
            time: config.append_time(),
        };
        Self { access, limits, last: Mutex::default() }
    }

    async fn together(&self, messages: Vec<Message<'_>>) -> Result<Vec<Result<(), Fault>>, Fault> {
        let doing = error::putting(&self.access.config.stream);
        let records = messages.into_iter().map(|message| {
            let data = Blob::new(message.text);
            let record = PutRecordsRequestEntry::builder().data(data).partition_key(&*message.key);
            record.build().expect("data and key are set")
        });
        let put = self.access.client.put_records().set_records(Some(records.collect()));
        let put = put.set_stream_name(self.access.name()).set_stream_arn(self.access.arn());
        let answer = put.send().await.map_err(|error| Fault::of(&error, &doing))?;
        let taken = |record: &aws_sdk_kinesis::types::PutRecordsResultEntry| {
            // Only a sequence number says that a record is in the stream.
            match (record.error_code(), record.sequence_number()) {
                (None, Some(_)) => Ok(()),
                (code, _) => Err(Fault::of_answer(code, 0, &doing)),
            }
        };
        Ok(answer.records().iter().map(taken).collect())
    }

    /// The outer result is that of the request, the inner one that of the record.
    async fn one(&self, message: Message<'_>) -> Result<Result<(), Fault>, Fault> {
        let doing = error::putting(&self.access.config.stream);
        let last = self.last().get(&message.key).cloned();
        let put = self.access.client.put_record();
        let put = put.set_stream_name(self.access.name()).set_stream_arn(self.access.arn());
        let put = put.partition_key(&*message.key).data(Blob::new(message.text));
        let answer = match put.set_sequence_number_for_ordering(last).send().await {
            Ok(answer) => answer,
            Err(error) => {
                use SinkErrorKind::{Exhausted, Other, Unavailable};
                let fault = Fault::of(&error, &doing);
                // The service is there and fails for this record: its shard may be busy or ill, and
                // others may not.
                let of_record = matches!(error, SdkError::ServiceError(_))
                    && matches!(fault.kind(), Exhausted | Unavailable | Other);
                return if of_record { Ok(Err(fault)) } else { Err(fault) };
            }
        };
        let mut last = self.last();
        if last.len() >= REMEMBERED && !last.contains_key(&message.key) {
            // Forgetting costs nothing but the help of the service against its own clock.
            last.clear();
        }
        last.insert(message.key, answer.sequence_number);
        Ok(Ok(()))
    }

    fn last(&self) -> std::sync::MutexGuard<'_, HashMap<Arc<str>, String>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl Transport for Put {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn key(&self, chain: &ChainRef) -> Arc<str> {
        chain_key(chain, LONGEST_KEY)
    }

    fn overhead(&self, message: &Message<'_>) -> usize {
        message.key.len()
    }

    async fn send(&self, messages: Vec<Message<'_>>) -> Result<Vec<Result<(), Fault>>, Fault> {
        if !self.access.config.strict_order {
            return self.together(messages).await;
        }
        // The limits give it one.
        let mut results = Vec::with_capacity(1);
        for message in messages {
            results.push(self.one(message).await?);
        }
        Ok(results)
    }
}
