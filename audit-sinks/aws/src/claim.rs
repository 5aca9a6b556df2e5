//! Large events: an object in S3, and a message that says where it is and what it must be.

use std::time::Duration;

use agent_audit_core::{chain::ChainRef, hash::Hash, sink::SinkErrorKind};
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::{Client, config::Builder, error::SdkError, primitives::ByteStream};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    config::{AwsConfig, client_config},
    error::Fault,
    message::Unreadable,
};

/// Where events go that are larger than a message may be.
///
/// ```
/// use agent_audit_aws::ClaimConfig;
/// let config = ClaimConfig::new("acme-audit-large").with_prefix("queue-1/");
/// assert_eq!((config.bucket.as_str(), config.prefix.as_str()), ("acme-audit-large", "queue-1/"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ClaimConfig {
    /// The bucket.
    pub bucket: String,
    /// What every key begins with; `agent-audit/` where nothing else is said.
    #[serde(default = "default_prefix")]
    pub prefix: String,
    /// The region of the bucket, where it is not that of the sink.
    #[serde(default)]
    pub region: Option<String>,
    /// The address of S3, where it is not that of the sink.
    #[serde(default)]
    pub endpoint: Option<String>,
}

impl ClaimConfig {
    /// Objects in a bucket.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self { bucket: bucket.into(), prefix: default_prefix(), region: None, endpoint: None }
    }

    /// Sets what every key begins with.
    #[must_use]
    pub fn with_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the region of the bucket.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Sets the address of S3.
    #[must_use]
    pub fn with_endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoint = Some(endpoint.into());
        self
    }
}

fn default_prefix() -> String {
    "agent-audit/".to_owned()
}

/// A message that stands for an object.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The object.
    pub claim: Object,
    /// The tenant of the event.
    pub tenant_id: String,
    /// The chain of the event.
    pub chain_id: String,
    /// The position of the event.
    pub sequence: u64,
    /// The hash of the event.
    pub event_hash: Hash,
}

/// An object and what it must be.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// The bucket.
    pub bucket: String,
    /// The key.
    pub key: String,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// How many bytes it has.
    pub bytes: u64,
}

impl Claim {
    /// How the text of a claim begins, and that of no record.
    pub const BEGINNING: &str = r#"{"claim":{"#;

    /// The text of the message.
    #[must_use]
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("names and numbers have a JSON form")
    }

    /// The claim that a message holds, if it is one.
    ///
    /// # Errors
    /// [`Unreadable::Never`] where it begins like one and is none.
    pub fn of_text(text: &str) -> Result<Option<Self>, Unreadable> {
        if !text.starts_with(Self::BEGINNING) {
            return Ok(None);
        }
        let claim = serde_json::from_str(text);
        claim.map(Some).map_err(|_| Unreadable::never("a message is a claim without its fields"))
    }
}

/// The place of the objects.
#[doc(hidden)]
pub struct Claims {
    client: Client,
    bucket: String,
    prefix: String,
    timeout: Duration,
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { bucket, prefix, .. } = self;
        f.debug_struct("Claims").field("bucket", bucket).field("prefix", prefix).finish()
    }
}

impl Claims {
    /// Objects as configured. Makes no request.
    ///
    /// # Errors
    /// [`Fault`] where the configuration cannot be one.
    pub async fn new(config: &ClaimConfig, aws: &AwsConfig) -> Result<Self, Fault> {
        if config.bucket.is_empty() {
            return Err(Fault::new(
                SinkErrorKind::Misconfigured,
                "the bucket for large events is \"\"",
            ));
        }
        let aws = aws.elsewhere(config.region.as_deref(), config.endpoint.as_deref());
        let shared = client_config(&aws, "s3").await?;
        // An emulator has no name in the DNS for each bucket.
        let builder = Builder::from(&shared).force_path_style(aws.endpoint.is_some());
        Ok(Self {
            client: Client::from_conf(builder.build()),
            bucket: config.bucket.clone(),
            prefix: config.prefix.clone(),
            timeout: aws.request_timeout(),
        })
    }

    /// The claim on the object that will hold a line.
    #[must_use]
    pub fn claim(&self, chain: &ChainRef, sequence: u64, event_hash: Hash, line: &[u8]) -> Claim {
        let sha256 = const_hex::encode(Sha256::digest(line));
        let key = format!("{}{chain}/{sequence:020}-{sha256}.json", self.prefix);
        let bytes = line.len() as u64;
        Claim {
            claim: Object { bucket: self.bucket.clone(), key, sha256, bytes },
            tenant_id: chain.tenant_id.to_string(),
            chain_id: chain.chain_id.to_string(),
            sequence,
            event_hash,
        }
    }

    /// Puts the line that a claim is on. The same line again is the same object.
    ///
    /// # Errors
    /// [`Fault`] where it is not there afterwards. The event itself is nowhere then.
    pub async fn put(&self, claim: &Claim, line: String) -> Result<(), Fault> {
        let doing = || format!("put a large event into bucket {}", self.bucket);
        let checksum = const_hex::decode(&claim.claim.sha256).expect("it was encoded just now");
        let put = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(&claim.claim.key)
            .content_type("application/json")
            .checksum_sha256(STANDARD.encode(checksum))
            .body(ByteStream::from(line.into_bytes()))
            .customize()
            .config_override(Builder::new().timeout_config(self.patience(claim.claim.bytes)));
        put.send().await.map(drop).map_err(|error| Fault::of(&error, &doing()).untried())
    }

    /// The line that a claim is on, held against the claim.
    ///
    /// # Errors
    /// [`Unreadable::Never`] where the object is not what the claim says, [`Unreadable::Now`] where
    /// it cannot be fetched at present.
    pub async fn fetch(&self, claim: &Claim) -> Result<Vec<u8>, Unreadable> {
        let object = &claim.claim;
        // Whoever can write a message must not choose what a reader fetches.
        if object.bucket != self.bucket || !object.key.starts_with(&self.prefix) {
            return Err(Unreadable::never("a claim points outside the bucket for large events"));
        }
        let get = self
            .client
            .get_object()
            .bucket(&self.bucket)
            .key(&object.key)
            .customize()
            .config_override(Builder::new().timeout_config(self.patience(object.bytes)));
        let answer = get.send().await.map_err(|error| {
            let gone = matches!(&error, SdkError::ServiceError(e) if e.err().is_no_such_key());
            if gone {
                return Unreadable::never("the object of a claim is gone");
            }
            let doing = format!("fetch a large event from bucket {}", self.bucket);
            Unreadable::Now(Fault::of(&error, &doing).untried())
        })?;
        let differs = || Unreadable::never("the object of a claim is not what the claim says");
        // Before a byte is fetched: a claim cannot make its reader hold more than it says.
        if answer.content_length().and_then(|len| u64::try_from(len).ok()) != Some(object.bytes) {
            return Err(differs());
        }
        let bytes = answer.body.collect().await.map_err(|_| {
            let context = format!("fetch a large event from bucket {}: it broke off", self.bucket);
            Unreadable::Now(Fault::new(SinkErrorKind::Unavailable, context))
        })?;
        let bytes = bytes.to_vec();
        if const_hex::encode(Sha256::digest(&bytes)) == object.sha256 {
            Ok(bytes)
        } else {
            Err(differs())
        }
    }

    /// Whether the bucket is there. It need not be listable: who writes need not read.
    ///
    /// # Errors
    /// [`Fault`] that says what to mend.
    pub async fn check(&self) -> Result<(), Fault> {
        match self.client.head_bucket().bucket(&self.bucket).send().await {
            Ok(_) => Ok(()),
            Err(SdkError::ServiceError(e)) if e.raw().status().as_u16() == 403 => Ok(()),
            Err(error) => Err(Fault::of(&error, &format!("look for bucket {}", self.bucket))),
        }
    }

    /// A request's time, and a second more for each MiB.
    fn patience(&self, bytes: u64) -> TimeoutConfig {
        let time = self.timeout.saturating_add(Duration::from_secs(bytes >> 20));
        TimeoutConfig::builder().operation_timeout(time).operation_attempt_timeout(time).build()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use agent_audit_core::{
        hash::leaf,
        id::{ChainId, TenantId},
    };

    async fn claims() -> Claims {
        let aws = AwsConfig::default().with_region("eu-central-1").with_credentials("id", "s3cret");
        Claims::new(&ClaimConfig::new("large"), &aws).await.unwrap()
    }

    fn chain() -> ChainRef {
        ChainRef::new(TenantId::new("acme").unwrap(), ChainId::new("c-1").unwrap())
    }

    #[tokio::test]
    async fn the_text_of_a_claim_is_as_documented() {
        let claim = claims().await.claim(&chain(), 7, leaf(b"event"), b"line");
        let text = claim.to_text();
        assert!(text.starts_with(Claim::BEGINNING));
        assert!(text.contains(r#""key":"agent-audit/acme/c-1/00000000000000000007-"#), "{text}");
        assert!(text.ends_with(&format!(
            r#""tenant_id":"acme","chain_id":"c-1","sequence":7,"event_hash":"{}"}}"#,
            leaf(b"event")
        )));
        assert_eq!(Claim::of_text(&text).unwrap(), Some(claim));
        assert_eq!(Claim::of_text(r#"{"event_hash":"…"}"#).unwrap(), None);
        assert!(Claim::of_text(r#"{"claim":{"bucket":"b"}}"#).is_err());
    }

    #[tokio::test]
    async fn a_claim_outside_the_bucket_or_the_prefix_is_not_fetched() {
        let claims = claims().await;
        let good = claims.claim(&chain(), 7, leaf(b"event"), b"line");
        let mut bucket = good.clone();
        bucket.claim.bucket = "payroll".to_owned();
        let mut key = good;
        key.claim.key = "payroll/2026.json".to_owned();
        for claim in [bucket, key] {
            let error = claims.fetch(&claim).await.unwrap_err();
            assert!(matches!(error, Unreadable::Never(text) if text.contains("outside")));
        }
    }

    #[test]
    fn a_bucket_alone_is_a_config() {
        let config: ClaimConfig = serde_json::from_str(r#"{"bucket": "large"}"#).unwrap();
        assert_eq!(config, ClaimConfig::new("large"));
        let error = serde_json::from_str::<ClaimConfig>(r#"{"bucket": "large", "perfix": "x"}"#);
        assert!(error.unwrap_err().to_string().contains("perfix"));
    }
}
