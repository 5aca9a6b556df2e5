//! Receiving messages, and deleting those that were handled.

use std::{fmt, time::Duration};

use agent_audit_aws::{
    Received,
    internal::{Fault, Unreadable, chain_key, read},
};
use agent_audit_core::sink::{SinkError, SinkErrorKind};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageSystemAttributeName,
};

use super::{Access, access::LONGEST_KEY, text};
use crate::{config::SqsConfig, error};

/// The most messages of one call.
const REQUEST_MESSAGES: i32 = 10;
/// The longest time for which a call waits for a message, in seconds.
const LONGEST_WAIT: u64 = 20;
/// The longest time for which a message is hidden, in seconds.
const LONGEST_VISIBILITY: u64 = 12 * 60 * 60;

/// A message of the queue. It comes again unless it is deleted.
///
/// ```
/// use agent_audit_sqs::SqsMessage;
/// /// What is to be stored before the messages are deleted.
/// fn events(messages: &[SqsMessage]) -> usize {
///     messages.iter().filter(|message| message.received.is_ok()).count()
/// }
/// assert_eq!(events(&[]), 0);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct SqsMessage {
    /// The event, or why it is none: a stranger's message, or a large event whose object is gone or
    /// was changed.
    pub received: Result<Received, SinkError>,
    receipt: String,
}

/// Receives events from a queue.
///
/// Receiving is destructive in two steps: a received message is hidden from everybody for a while,
/// and then comes again unless it was deleted. While a message of a chain is hidden, the queue hands
/// out no later one of that chain. So: receive, store durably by chain and sequence, delete.
///
/// The queue holds each event at least once (twice where it was sent again after more than five
/// minutes), and after a fault one can come before another that precedes it in its chain. Do not
/// wait for that other before you delete: it is behind. A store by chain and sequence puts them in
/// order; [`Arrivals`](crate::Arrivals) does so in memory, where the sink is in strict order or what
/// was received is stored apart.
///
/// ```no_run
/// use agent_audit_sqs::{SqsConfig, SqsReader};
/// # async fn run(url: &str) -> Result<(), agent_audit_core::sink::SinkError> {
/// let reader = SqsReader::connect(SqsConfig::new(url)).await?;
/// let messages = reader.receive().await?;
/// for message in &messages {
///     if let Ok(event) = &message.received {
///         // store it by event.chain and event.sequence, unless it is there
///         assert!(!event.record.event_bytes().is_empty());
///     }
/// }
/// reader.delete(&messages).await?;
/// # Ok(())
/// # }
/// ```
pub struct SqsReader {
    access: Access,
    wait: i32,
    visibility: i32,
}

impl fmt::Debug for SqsReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let queue = self.access.config.queue();
        f.debug_struct("SqsReader").field("queue", &queue).finish_non_exhaustive()
    }
}

impl SqsReader {
    /// A reader of the queue of a configuration. It waits for messages for as long as a request may
    /// take, less two seconds, and at most 20 seconds; what it receives is hidden for 30 seconds.
    ///
    /// # Errors
    /// [`SinkError`] where the configuration cannot be one.
    pub async fn connect(config: SqsConfig) -> Result<Self, SinkError> {
        let access = Access::new(config).await?;
        let patience = access.config.aws.request_timeout_ms / 1_000;
        let wait = seconds(Duration::from_secs(patience.saturating_sub(2)), LONGEST_WAIT);
        Ok(Self { access, wait, visibility: 30 })
    }

    /// Sets for how long a call waits for a message, in whole seconds, at most 20. A request must be
    /// allowed more time than that.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = seconds(wait, LONGEST_WAIT);
        self
    }

    /// Sets for how long a received message is hidden, in whole seconds, at most 12 hours. It has to
    /// be stored and deleted within this time.
    #[must_use]
    pub fn with_visibility(mut self, visibility: Duration) -> Self {
        self.visibility = seconds(visibility, LONGEST_VISIBILITY);
        self
    }

    /// The next messages, at most ten. None is no fault: ask again.
    ///
    /// # Errors
    /// [`SinkError`] where the queue, or the object of a large event, cannot be read at present. The
    /// messages come again.
    ///
    /// # Cancel safety
    /// What was received comes again.
    pub async fn receive(&self) -> Result<Vec<SqsMessage>, SinkError> {
        let doing = error::receiving(self.access.config.queue());
        let receive = self.access.client.receive_message();
        let receive = receive
            .queue_url(&self.access.config.queue_url)
            .max_number_of_messages(REQUEST_MESSAGES)
            .wait_time_seconds(self.wait)
            .visibility_timeout(self.visibility)
            .message_system_attribute_names(MessageSystemAttributeName::MessageGroupId);
        let answer = receive.send().await.map_err(|error| Fault::of(&error, &doing).untried())?;
        let mut messages = Vec::new();
        for message in answer.messages() {
            let received = match self.open(message).await {
                Ok(received) => Ok(received),
                Err(Unreadable::Never(what)) => {
                    let at = format!("{what}, message {}", message.message_id().unwrap_or("?"));
                    Err(SinkError::new(SinkErrorKind::Corrupt, at))
                }
                Err(Unreadable::Now(fault)) => return Err(fault.into()),
            };
            let receipt = message.receipt_handle().unwrap_or_default().to_owned();
            messages.push(SqsMessage { received, receipt });
        }
        Ok(messages)
    }

    /// Deletes messages. Call it when what they hold is stored durably, and not before.
    ///
    /// # Errors
    /// [`SinkError`] where some are not deleted: they come again.
    pub async fn delete(&self, messages: &[SqsMessage]) -> Result<(), SinkError> {
        let doing = error::settling(self.access.config.queue());
        for messages in messages.chunks(10) {
            let entries = messages.iter().enumerate().map(|(at, message)| {
                let entry = DeleteMessageBatchRequestEntry::builder().id(at.to_string());
                entry.receipt_handle(&message.receipt).build().expect("id and receipt are set")
            });
            let delete = self.access.client.delete_message_batch();
            let delete = delete.queue_url(&self.access.config.queue_url);
            let answer = delete.set_entries(Some(entries.collect())).send().await;
            let answer = answer.map_err(|error| Fault::of(&error, &doing).untried())?;
            if let Some(failed) = answer.failed().first() {
                return Err(Fault::of_answer(Some(failed.code()), 0, &doing).into());
            }
        }
        Ok(())
    }

    /// Lets go of messages, so that they come again at once.
    ///
    /// # Errors
    /// [`SinkError`] where that fails: they come again when their time is over.
    pub async fn release(&self, messages: &[SqsMessage]) -> Result<(), SinkError> {
        let doing = error::settling(self.access.config.queue());
        for messages in messages.chunks(10) {
            let entries = messages.iter().enumerate().map(|(at, message)| {
                let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(at.to_string());
                let entry = entry.receipt_handle(&message.receipt).visibility_timeout(0);
                entry.build().expect("id and receipt are set")
            });
            let change = self.access.client.change_message_visibility_batch();
            let change = change.queue_url(&self.access.config.queue_url);
            let answer = change.set_entries(Some(entries.collect())).send().await;
            let answer = answer.map_err(|error| Fault::of(&error, &doing).untried())?;
            if let Some(failed) = answer.failed().first() {
                return Err(Fault::of_answer(Some(failed.code()), 0, &doing).into());
            }
        }
        Ok(())
    }

    async fn open(&self, message: &Message) -> Result<Received, Unreadable> {
        let text = text::decode(message.body().unwrap_or_default())?;
        let received = read(&text, self.access.claims.as_ref()).await?;
        let group = MessageSystemAttributeName::MessageGroupId;
        let group = message.attributes().and_then(|attributes| attributes.get(&group));
        if group.is_some_and(|group| **group == *chain_key(&received.chain, LONGEST_KEY)) {
            Ok(received)
        } else {
            Err(Unreadable::Never("a message does not stand in its chain's group".to_owned()))
        }
    }
}

fn seconds(time: Duration, most: u64) -> i32 {
    i32::try_from(time.as_secs().min(most)).unwrap_or(i32::MAX)
}
