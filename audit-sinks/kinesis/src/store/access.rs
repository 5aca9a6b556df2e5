//! The client of one stream.

use agent_audit_aws::internal::{Claims, Fault, client_config};
use agent_audit_core::sink::SinkErrorKind;
use aws_sdk_kinesis::{Client, types::StreamDescriptionSummary};

use crate::{config::KinesisConfig, error};

/// The longest partition key of the service, in characters.
pub(crate) const LONGEST_KEY: usize = 256;

pub(crate) struct Access {
    pub(crate) client: Client,
    pub(crate) claims: Option<Claims>,
    pub(crate) config: KinesisConfig,
}

impl Access {
    pub(crate) async fn new(config: KinesisConfig) -> Result<Self, Fault> {
        config.check()?;
        let client = Client::new(&client_config(&config.aws, "kinesis").await?);
        let claims = match &config.claims {
            Some(claims) => Some(Claims::new(claims, &config.aws).await?),
            None => None,
        };
        Ok(Self { client, claims, config })
    }

    /// The name of the stream, unless it is known by its ARN.
    pub(crate) fn name(&self) -> Option<String> {
        self.arn().is_none().then(|| self.config.stream.clone())
    }

    /// The ARN of the stream, unless it is known by its name.
    pub(crate) fn arn(&self) -> Option<String> {
        self.config.stream.starts_with("arn:").then(|| self.config.stream.clone())
    }

    pub(crate) async fn describe(&self) -> Result<StreamDescriptionSummary, Fault> {
        let doing = error::describing(&self.config.stream);
        let describe = self.client.describe_stream_summary();
        let answer = describe.set_stream_name(self.name()).set_stream_arn(self.arn()).send().await;
        let answer = answer.map_err(|error| Fault::of(&error, &doing).untried())?;
        answer.stream_description_summary.ok_or_else(|| {
            Fault::new(SinkErrorKind::Other, format!("{doing}: the answer says nothing"))
        })
    }
}
