//! The client of one queue.

use agent_audit_aws::internal::{Claims, Fault, client_config};
use agent_audit_core::sink::SinkErrorKind;
use aws_sdk_sqs::{Client, types::QueueAttributeName};

use crate::{config::SqsConfig, error};

/// The longest message group id of the service.
pub(crate) const LONGEST_KEY: usize = 128;

pub(crate) struct Access {
    pub(crate) client: Client,
    pub(crate) claims: Option<Claims>,
    pub(crate) config: SqsConfig,
}

impl Access {
    pub(crate) async fn new(config: SqsConfig) -> Result<Self, Fault> {
        config.check()?;
        let client = Client::new(&client_config(&config.aws, "sqs").await?);
        let claims = match &config.claims {
            Some(claims) => Some(Claims::new(claims, &config.aws).await?),
            None => None,
        };
        Ok(Self { client, claims, config })
    }

    /// The most bytes of a message that the queue takes, where it says so.
    pub(crate) async fn largest_message(&self) -> Result<Option<usize>, Fault> {
        let queue = self.config.queue();
        let doing = error::describing(queue);
        let ask = self.client.get_queue_attributes().queue_url(&self.config.queue_url);
        let ask = ask
            .attribute_names(QueueAttributeName::FifoQueue)
            .attribute_names(QueueAttributeName::MaximumMessageSize);
        let answer = ask.send().await.map_err(|error| Fault::of(&error, &doing).untried())?;
        let attribute = |name| answer.attributes().and_then(|all| all.get(&name));
        if attribute(QueueAttributeName::FifoQueue).is_none_or(|fifo| fifo != "true") {
            let what = format!("queue {queue} is no FIFO queue: create one");
            return Err(Fault::new(SinkErrorKind::Misconfigured, what));
        }
        let size = attribute(QueueAttributeName::MaximumMessageSize);
        Ok(size.and_then(|size| size.parse().ok()))
    }
}
