//! Sending messages: up to ten with one call.

use std::sync::Arc;

use agent_audit_aws::internal::{Fault, Limits, Message, Transport, chain_key};
use agent_audit_core::{
    record::Record,
    sink::{ChainRef, SinkErrorKind},
};
use aws_sdk_sqs::types::{MessageAttributeValue, SendMessageBatchRequestEntry};

use super::{Access, access::LONGEST_KEY, text};
use crate::error;

/// The most messages of one call.
const REQUEST_MESSAGES: usize = 10;
/// How many characters the hash of an event has.
const HASH: usize = 64;

const TENANT: &str = "tenant";
const EVENT_TYPE: &str = "event_type";
const EVENT_HASH: &str = "event_hash";
/// The data type of an attribute, which counts too.
const STRING: &str = "String";

pub(crate) struct Send {
    pub(crate) access: Access,
    limits: Limits,
}

impl Send {
    pub(crate) fn new(access: Access) -> Self {
        let config = &access.config;
        let limits = Limits {
            messages: REQUEST_MESSAGES,
            messages_of_a_chain: if config.strict_order { 1 } else { REQUEST_MESSAGES },
            request_bytes: config.max_message_bytes,
            message_bytes: config.max_message_bytes,
            parallelism: config.parallelism,
            time: config.append_time(),
        };
        Self { access, limits }
    }
}

#[async_trait::async_trait]
impl Transport for Send {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn key(&self, chain: &ChainRef) -> Arc<str> {
        chain_key(chain, LONGEST_KEY)
    }

    /// The type of the event.
    fn label<'a>(&self, record: &'a Record) -> &'a str {
        record.view().expect("a segment holds events that are canonical").event_type
    }

    fn encode(&self, text: String) -> String {
        text::encode(text)
    }

    fn overhead(&self, message: &Message<'_>) -> usize {
        let names = TENANT.len() + EVENT_TYPE.len() + EVENT_HASH.len() + 3 * STRING.len();
        names + message.chain.tenant_id.as_str().len() + message.label.len() + HASH
    }

    async fn send(&self, messages: Vec<Message<'_>>) -> Result<Vec<Result<(), Fault>>, Fault> {
        let doing = error::sending(self.access.config.queue());
        let count = messages.len();
        let entries = messages.into_iter().enumerate().map(|(at, message)| {
            let hash = message.event_hash.to_string();
            SendMessageBatchRequestEntry::builder()
                .id(at.to_string())
                .message_body(message.text)
                .message_group_id(&*message.key)
                .message_deduplication_id(&hash)
                .message_attributes(TENANT, attribute(message.chain.tenant_id.as_str()))
                .message_attributes(EVENT_TYPE, attribute(message.label))
                .message_attributes(EVENT_HASH, attribute(hash))
                .build()
                .expect("id and body are set")
        });
        let send = self.access.client.send_message_batch();
        let send = send.queue_url(&self.access.config.queue_url);
        let answer = send.set_entries(Some(entries.collect())).send().await;
        let answer = answer.map_err(|error| Fault::of(&error, &doing))?;
        // By id, because the answer has no order.
        let mut results: Vec<Option<Result<(), Fault>>> = vec![None; count];
        let place = |id: &str| id.parse().ok().filter(|at: &usize| *at < count);
        for at in answer.successful().iter().filter_map(|taken| place(taken.id())) {
            results[at] = Some(Ok(()));
        }
        for failed in answer.failed() {
            if let Some(at) = place(failed.id()) {
                results[at] = Some(Err(Fault::of_answer(Some(failed.code()), 0, &doing)));
            }
        }
        let unanswered = || {
            let what = format!("{doing}: the answer does not say what became of a message");
            Err(Fault::new(SinkErrorKind::Other, what).with_maybe_applied())
        };
        Ok(results.into_iter().map(|result| result.unwrap_or_else(unanswered)).collect())
    }
}

fn attribute(value: impl Into<String>) -> MessageAttributeValue {
    let attribute = MessageAttributeValue::builder().data_type(STRING).string_value(value);
    attribute.build().expect("the data type is set")
}
