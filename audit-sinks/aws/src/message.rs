//! A record as a message, and back.

use std::sync::Arc;

use agent_audit_core::{
    chain::ChainRef,
    hash::Hash,
    id::{ChainId, TenantId},
    record::Record,
    sink::{SinkError, SinkErrorKind},
};
use sha2::{Digest, Sha256};

use crate::{
    claim::{Claim, Claims},
    error::Fault,
};

/// A record as it came out of a stream or a queue.
///
/// The same event can come more than once, and after a fault one event can come before another that
/// precedes it in its chain: see [`Arrivals`](crate::Arrivals).
///
/// ```
/// use agent_audit_aws::Received;
/// fn bytes(received: &Received) -> usize {
///     received.record.event_bytes().len()
/// }
/// # let _ = bytes;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// Its chain.
    pub chain: ChainRef,
    /// Its position.
    pub sequence: u64,
    /// The event hash of the position before.
    pub previous_event_hash: Hash,
    /// Its event hash.
    pub event_hash: Hash,
    /// The record.
    pub record: Record,
}

impl Received {
    /// Takes a record apart as far as order is concerned.
    ///
    /// # Errors
    /// [`SinkError`] where it does not hold an event.
    ///
    /// ```
    /// use agent_audit_aws::Received;
    /// use agent_audit_core::{event::{Event, chain::ChainClosed}, record::Record};
    /// let event = Event::example(ChainClosed::new("shutdown"));
    /// let record = Record::new(event.canonical_bytes()?, Vec::new());
    /// let received = Received::new(record)?;
    /// assert_eq!((received.chain.chain_id, received.sequence), (event.chain_id, event.sequence));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(record: Record) -> Result<Self, SinkError> {
        let not = |_| SinkError::new(SinkErrorKind::Corrupt, "a record does not hold an event");
        let view = record.view().map_err(|e| not(e.to_string()))?;
        let chain = ChainRef::new(
            TenantId::new(view.tenant_id).map_err(|e| not(e.to_string()))?,
            ChainId::new(view.chain_id).map_err(|e| not(e.to_string()))?,
        );
        let (sequence, previous_event_hash) = (view.sequence, view.previous_event_hash);
        let event_hash = record.event_hash();
        Ok(Self { chain, sequence, previous_event_hash, event_hash, record })
    }
}

/// What keeps the messages of a chain together: `tenant/chain`, or, where that is longer than the
/// service takes, the SHA-256 of it in hexadecimal digits. No name holds a slash, so that a hash
/// cannot be the key of another chain.
#[doc(hidden)]
#[must_use]
pub fn chain_key(chain: &ChainRef, most_bytes: usize) -> Arc<str> {
    let key = chain.to_string();
    if key.len() <= most_bytes { key.into() } else { const_hex::encode(Sha256::digest(key)).into() }
}

/// A message on its way.
#[doc(hidden)]
#[derive(Debug)]
pub struct Message<'a> {
    /// What keeps the messages of a chain together.
    pub key: Arc<str>,
    /// The chain.
    pub chain: &'a ChainRef,
    /// The position.
    pub sequence: u64,
    /// The event hash.
    pub event_hash: Hash,
    /// What the transport says of the event beside the text.
    pub label: &'a str,
    /// The text.
    pub text: String,
    /// What is to be put before the message is sent, where it stands for an object.
    pub object: Option<Box<(Claim, String)>>,
    /// How many bytes count against the limits of the service.
    pub bytes: usize,
}

/// Why a message gives no record.
#[doc(hidden)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreadable {
    /// It cannot be read at present.
    Now(Fault),
    /// It will never be one.
    Never(String),
}

impl Unreadable {
    pub(crate) fn never(what: impl Into<String>) -> Self {
        Self::Never(what.into())
    }
}

/// The record of a message's text.
///
/// # Errors
/// [`Unreadable`] where there is none.
#[doc(hidden)]
pub async fn read(text: &str, claims: Option<&Claims>) -> Result<Received, Unreadable> {
    let Some(claim) = Claim::of_text(text)? else {
        return received(text.as_bytes());
    };
    let Some(claims) = claims else {
        let what = "a message is a claim, and no bucket for large events is set: set it";
        return Err(Unreadable::Now(Fault::new(SinkErrorKind::Misconfigured, what)));
    };
    let received = received(&claims.fetch(&claim).await?)?;
    let chain = &received.chain;
    let same = chain.tenant_id.as_str() == claim.tenant_id
        && chain.chain_id.as_str() == claim.chain_id
        && received.sequence == claim.sequence
        && received.event_hash == claim.event_hash;
    if same {
        Ok(received)
    } else {
        Err(Unreadable::never("the object of a claim holds another event"))
    }
}

fn received(line: &[u8]) -> Result<Received, Unreadable> {
    let record = Record::from_json_line(line)
        .map_err(|error| Unreadable::never(format!("a message is not a record: {error}")))?;
    Received::new(record).map_err(|error| Unreadable::never(error.to_string()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::conformance::TestChain;

    use super::*;

    #[test]
    fn the_key_of_a_long_name_is_its_hash() {
        let of = |tenant: &str| {
            ChainRef::new(TenantId::new(tenant).unwrap(), ChainId::new("c-1").unwrap())
        };
        assert_eq!(&*chain_key(&of("acme"), 128), "acme/c-1");
        let (one, two) = (of(&"a".repeat(128)), of(&format!("{}b", "a".repeat(127))));
        let keys = [chain_key(&one, 128), chain_key(&two, 128)];
        assert!(keys.iter().all(|key| key.len() == 64 && !key.contains('/')), "{keys:?}");
        assert_ne!(keys[0], keys[1]);
    }

    #[tokio::test]
    async fn a_line_gives_its_record_and_nothing_else_does() {
        let mut chain = TestChain::new();
        let record = chain.extend(1).records()[0].clone();
        let line = record.to_json_line().unwrap();
        let received = read(&line, None).await.unwrap();
        assert_eq!((&received.record, &received.chain), (&record, chain.chain()));
        for text in ["", "{}", "hello", &line.replace("acme", "b"), &line[..line.len() - 1]] {
            if text == line {
                continue;
            }
            let error = read(text, None).await.unwrap_err();
            assert!(matches!(error, Unreadable::Never(_)), "{error:?}");
        }
    }
}
