//! A store that makes its events when they are asked for, so that a chain of any length takes no more
//! memory than its hashes.

use agent_audit_core::{
    checkpoint::{Checkpoint, chain_origin},
    columns::Columns,
    content::{Part, PartBody, Salt, commitment},
    event::{
        Event, Payload,
        chain::ChainOpened,
        tool::{ToolAttempted, ToolCompleted, ToolStatus},
    },
    hash::Hash,
    id::{ChainId, EventId, SessionId, TenantId, WriterId},
    key::SigningKey,
    record::Record,
    timestamp::Timestamp,
    tree::CompactRange,
};
use agent_audit_query::{
    EventStore, Filter, Found, Order, Predicate, QueryError, QueryErrorKind, Select,
    SessionSummary, export::LogCheckpoints,
};
use async_trait::async_trait;

/// One chain of calls of tools.
#[derive(Debug)]
pub(crate) struct Made {
    tenant: TenantId,
    chain: ChainId,
    /// The hash of each event, so that the next one can name it.
    hashes: Vec<Hash>,
}

impl Made {
    /// A chain of so many events.
    pub(crate) fn new(events: u64) -> Self {
        let mut made = Self {
            tenant: TenantId::new("acme").unwrap(),
            chain: ChainId::new("chain-1").unwrap(),
            hashes: Vec::new(),
        };
        for sequence in 0..events {
            let hash = made.record(sequence, false).event_hash();
            made.hashes.push(hash);
        }
        made
    }

    pub(crate) fn tenant(&self) -> TenantId {
        self.tenant.clone()
    }

    /// A signed checkpoint of all events but the last ones.
    pub(crate) fn checkpoints(&self, key: &SigningKey, behind: usize) -> LogCheckpoints {
        let covered = &self.hashes[..self.hashes.len() - behind];
        let tree: CompactRange = covered.iter().copied().collect();
        let origin = chain_origin(self.chain.as_str());
        let note = Checkpoint::new(origin, tree.size(), tree.root()).sign(key).unwrap();
        let mut checkpoints = LogCheckpoints::trusting(self.tenant(), [key.verifying_key()]);
        checkpoints.add(self.chain.clone(), &note.to_string()).unwrap();
        checkpoints
    }

    /// The event at a position: the same bytes whenever it is asked for.
    fn record(&self, sequence: u64, content: bool) -> Record {
        let (payload, text): (Payload, _) = match sequence {
            0 => (ChainOpened::new(writer(), "ed25519:made", "made").into(), None),
            odd if odd % 2 == 1 => {
                let text =
                    format!("{{\"order\":\"A-{odd}\",\"reason\":\"{}\"}}", "late ".repeat(40));
                (ToolAttempted::new("refund").into(), Some(("input", text)))
            }
            even => {
                let attempt = id(even - 1);
                let done = ToolCompleted::new("refund", attempt, ToolStatus::Ok);
                (done.into(), Some(("output", format!("refunded A-{even}"))))
            }
        };
        let mut event = Event::example(payload);
        event.event_id = id(sequence);
        event.tenant_id = self.tenant.clone();
        event.chain_id = self.chain.clone();
        event.session_id = format!("session-{}", sequence / 50).parse().unwrap();
        event.sequence = sequence;
        event.timestamp_utc =
            Timestamp::from_nanos(1_700_000_000_000_000_000 + sequence * 1_000_000);
        let before = usize::try_from(sequence).unwrap().checked_sub(1);
        event.previous_event_hash = before.map_or(Hash::ZERO, |before| self.hashes[before]);
        let mut bodies = Vec::new();
        if let Some((name, text)) = text {
            let (mut reference, _) = Part::text(name, text.clone()).commit();
            let mut salt = [7; 32];
            salt[..8].copy_from_slice(&sequence.to_le_bytes());
            let salt = Salt::from_bytes(salt);
            reference.commitment = commitment(&salt, text.as_bytes());
            event.content = vec![reference];
            if content {
                bodies.push(PartBody::Clear { salt, bytes: text.into_bytes() });
            }
        }
        Record::new(event.canonical_bytes().unwrap(), bodies)
    }
}

fn id(sequence: u64) -> EventId {
    let mut bytes = [0; 16];
    bytes[..6].copy_from_slice(&1_700_000_000_000u64.to_be_bytes()[2..]);
    bytes[6] = 0x70;
    bytes[8..].copy_from_slice(&(sequence | 1 << 63).to_be_bytes());
    EventId::from_bytes(bytes).unwrap()
}

fn writer() -> WriterId {
    WriterId::new("0b9d0a52-6f5f-4c4e-9d7e-2f8f1f3c5a77").unwrap()
}

#[async_trait]
impl EventStore for Made {
    fn name(&self) -> &str {
        "made"
    }

    async fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        Ok(vec![self.tenant()])
    }

    async fn chains(&self, _: &TenantId) -> Result<Vec<ChainId>, QueryError> {
        Ok(vec![self.chain.clone()])
    }

    async fn select(&self, _: &TenantId, select: &Select) -> Result<Vec<Found>, QueryError> {
        assert_eq!((select.order, select.descending), (Order::Chain, false));
        let mut next = select.after.as_ref().map_or(0, |after| after.sequence() + 1);
        let mut found = Vec::new();
        let end = select.filter.predicates().find_map(|predicate| match predicate {
            Predicate::Below { column: "sequence", value } => u64::try_from(value).ok(),
            _ => None,
        });
        let end = end.unwrap_or(u64::MAX).min(self.hashes.len() as u64);
        while next < end && found.len() < select.limit {
            let record = self.record(next, select.content);
            let columns = Columns::of(record.event_bytes()).unwrap();
            let hash = record.event_hash();
            if select.filter.matches(&columns, &columns.values(&hash)) {
                drop(columns);
                found.push(Found::new(record)?);
            }
            next += 1;
        }
        Ok(found)
    }

    async fn sessions(
        &self,
        _: &TenantId,
        _: &Filter,
        _: Option<&SessionId>,
        _: usize,
    ) -> Result<Vec<SessionSummary>, QueryError> {
        Err(QueryError::new(QueryErrorKind::Unsupported, "a made store has no list of sessions"))
    }
}
