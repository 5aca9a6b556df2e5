//! Names that mean something to somebody else: to a database, to a pattern, to a terminal.

use agent_audit_core::{
    event::{
        Event, Payload,
        model::{ModelDecided, ModelStatus},
        review::{ReviewDecided, ReviewDecision, Reviewer, ReviewerKind},
        tool::{ExternalId, ToolCompleted, ToolStatus},
    },
    hash::Hash,
    id::{ChainId, EventId, SessionId, TenantId},
    record::Record,
    sink::{ChainRef, Segment},
    timestamp::Timestamp,
};

/// Such names, and a very long one.
///
/// ```
/// assert!(agent_audit_test_support::odd::values().contains(&"' OR 1=1 --".to_owned()));
/// ```
#[must_use]
pub fn values() -> Vec<String> {
    let mut values: Vec<String> = [
        "' OR 1=1 --",
        "\" OR \"\" = \"",
        "') UNION SELECT * FROM ledger --",
        "x; DROP TABLE events; --",
        "%",
        "_",
        "\\",
        "*",
        "?",
        "?1",
        "$1",
        ":tenant",
        "{acme}",
        "NULL",
        "a\0b",
        "\0",
        "\u{1}\u{7f}",
        "\u{f8ff}0\u{f8ff}",
        "\u{10ffff}",
        "ü💶",
        "Globex",
        "globex",
        "5",
    ]
    .map(str::to_owned)
    .into();
    // It does not compress, so that no index takes it in.
    values.push((0..2_000).map(|_| EventId::new().to_string()).collect());
    values
}

/// A chain that has each of them as the name of a tool, a model, a reviewer, a status, a decision, a
/// thing outside and, where it can be one, a session: three events for each.
///
/// ```
/// use agent_audit_test_support::odd;
/// let segment = odd::chain(&"acme".parse()?, &odd::values());
/// assert_eq!(segment.len(), odd::values().len() * 3);
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
///
/// # Panics
/// Where there are none, because a segment is never empty.
#[must_use]
pub fn chain(tenant: &TenantId, values: &[String]) -> Segment {
    let chain = ChainRef::new(tenant.clone(), ChainId::random());
    let mut previous = Hash::ZERO;
    let events = values.iter().flat_map(|value| events(value));
    let records = (0..).zip(events).map(|(sequence, mut event)| {
        event.tenant_id = tenant.clone();
        event.chain_id = chain.chain_id.clone();
        event.sequence = sequence;
        event.previous_event_hash = previous;
        event.timestamp_utc = Timestamp::from_nanos(1_790_000_000_000_000_000 + sequence);
        let record = Record::new(event.canonical_bytes().unwrap(), Vec::new());
        previous = record.event_hash();
        record
    });
    let records = records.collect();
    Segment::new(chain, records).unwrap()
}

fn events(value: &str) -> [Event; 3] {
    let reviewer = Reviewer::new(value, ReviewerKind::Human);
    let called = ToolCompleted::new(value, EventId::new(), ToolStatus::from(value))
        .with_external_ids([ExternalId::new(value, value)]);
    let payloads: [Payload; 3] = [
        called.into(),
        ModelDecided::new(value, value, ModelStatus::Ok).with_model_version(value).into(),
        ReviewDecided::new(value, ReviewDecision::from(value), reviewer).into(),
    ];
    payloads.map(|payload| {
        let mut event = Event::example(payload);
        event.session_id = SessionId::new(value).unwrap_or(event.session_id);
        event
    })
}
