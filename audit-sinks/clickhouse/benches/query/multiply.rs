//! Many sessions out of a few: each copy has its own ids, session names, times and place.

use std::collections::HashMap;

use agent_audit_core::{
    chain::ChainRef,
    hash::{self, Hash},
    id::{ChainId, EventId, TenantId},
    record::Record,
    sink::Segment,
    timestamp::Timestamp,
};

/// How many sessions a chain has at a time.
const AT_A_TIME: usize = 8;

/// One session's records, as text.
type Session = Vec<Record>;

/// Sessions of real shape, copied over and over into some chains.
pub(crate) struct Multiplier {
    sessions: Vec<Session>,
    copies: usize,
    chains: Vec<Chain>,
    now: u64,
}

struct Chain {
    chain: ChainRef,
    next: u64,
    previous: Hash,
    /// The sessions that go on in it, and what has been given of each.
    open: Vec<(usize, usize, HashMap<String, String>, usize)>,
}

impl Multiplier {
    pub(crate) fn new(tenant: &TenantId, sessions: Vec<Session>, chains: usize) -> Self {
        let chain = |_| Chain {
            chain: ChainRef::new(tenant.clone(), ChainId::random()),
            next: 0,
            previous: Hash::ZERO,
            open: Vec::new(),
        };
        // 2026-01-01; a tenth of a second from event to event.
        Self {
            sessions,
            copies: 0,
            chains: (0..chains).map(chain).collect(),
            now: 1_767_225_600_000_000_000,
        }
    }

    /// The next events of each chain.
    pub(crate) fn next(&mut self, events: usize) -> Vec<Segment> {
        let mut grown: Vec<Vec<Record>> = self.chains.iter().map(|_| Vec::new()).collect();
        for _ in 0..events {
            for (at, records) in grown.iter_mut().enumerate() {
                let record = self.grow(at);
                records.push(record);
            }
        }
        let chains = self.chains.iter().map(|chain| chain.chain.clone());
        chains.zip(grown).map(|(chain, records)| Segment::new(chain, records).unwrap()).collect()
    }

    fn grow(&mut self, at: usize) -> Record {
        let chain = &mut self.chains[at];
        while chain.open.len() < AT_A_TIME {
            let session = self.copies % self.sessions.len();
            chain.open.push((session, 0, HashMap::new(), self.copies));
            self.copies += 1;
        }
        self.now += 100_000_000;
        let turn = usize::try_from(chain.next).unwrap() % AT_A_TIME;
        let (session, given, ids, copy) = &mut chain.open[turn];
        let original = &self.sessions[*session][*given];
        let text = str::from_utf8(original.event_bytes()).unwrap();
        let text = renamed(text, ids, *copy);
        let text = replaced(&text, "\"chain_id\":\"", chain.chain.chain_id.as_str(), '"');
        let text = replaced(&text, "\"previous_event_hash\":\"", &chain.previous.to_string(), '"');
        let text = replaced(&text, "\"sequence\":", &chain.next.to_string(), ',');
        let time = Timestamp::from_nanos(self.now).to_string();
        let text = replaced(&text, "\"timestamp_utc\":\"", &time, '"');
        let text = replaced(&text, "\"tenant_id\":\"", chain.chain.tenant_id.as_str(), '"');
        let parts = original.parts().to_vec();
        *given += 1;
        if *given == self.sessions[*session].len() {
            chain.open.remove(turn);
        }
        chain.previous = hash::leaf(text.as_bytes());
        chain.next += 1;
        Record::new(text.into_bytes(), parts)
    }
}

/// The event with every UUID and every name of a session or a call replaced, always by the same.
fn renamed(text: &str, ids: &mut HashMap<String, String>, copy: usize) -> String {
    let mut out = String::with_capacity(text.len() + 64);
    for (at, piece) in text.split('"').enumerate() {
        if at > 0 {
            out.push('"');
        }
        if piece.len() == 36 && piece.parse::<EventId>().is_ok() {
            let id = ids.entry(piece.to_owned()).or_insert_with(|| EventId::new().to_string());
            out.push_str(id);
        } else if let Some(rest) = piece.strip_prefix("session-") {
            out.push_str(&format!("session-{copy:07}-{rest}"));
        } else if let Some(rest) = piece.strip_prefix("call-") {
            out.push_str(&format!("call-{copy:07}-{rest}"));
        } else {
            out.push_str(piece);
        }
    }
    out
}

/// The text with the value behind a name replaced, up to what ends it.
fn replaced(text: &str, name: &str, value: &str, end: char) -> String {
    let start = text.find(name).unwrap_or_else(|| panic!("an event has {name}")) + name.len();
    let length = text[start..].find(end).unwrap();
    format!("{}{value}{}", &text[..start], &text[start + length..])
}
