//! Which records go together in one request.

use std::collections::{HashMap, VecDeque};

use agent_audit_core::sink::{ChainRef, Segment};
use bytes::Bytes;
use prost::encoding::encoded_len_varint;

use super::OtlpSink;
use crate::{
    error::Fault,
    mapping::Mapping,
    store::{Request, ResourceLogs, ScopeLogs},
};

/// A run of records of one segment.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// The place of the segment in the batch.
    pub(super) segment: usize,
    /// The place of the first record in the segment.
    pub(super) start: usize,
    pub(super) records: Vec<Bytes>,
}

impl Span {
    pub(super) fn end(&self) -> usize {
        self.start + self.records.len()
    }
}

/// The requests of a batch, made one after the other.
pub(super) struct Plan<'a> {
    sink: &'a OtlpSink,
    segments: &'a [Segment],
    /// The tenant and the chain of each segment, by number.
    pub(super) tenants: Vec<usize>,
    pub(super) chains: Vec<usize>,
    resources: Vec<Bytes>,
    scope: Bytes,
    /// The next record: segment, and place in it.
    next: (usize, usize),
    /// A record that did not fit any more.
    held: Option<Bytes>,
}

/// What comes next.
pub(super) enum Step {
    /// A request.
    Request(Vec<Span>),
    /// A record of a segment that cannot be sent, by its place; its segment ends before it.
    Unsendable(usize, usize, Fault),
    Done,
}

/// How many bytes a request has, unless it is a single record that has more: small enough that the
/// next one is made while the collector works at one, and large enough that nothing else matters.
const PIECE: usize = 512 << 10;

/// The bytes of what is around records: tags and lengths of three messages, generously.
const FRAME: usize = 32;

impl<'a> Plan<'a> {
    pub(super) fn new(sink: &'a OtlpSink, segments: &'a [Segment]) -> Self {
        let mut tenants_seen = HashMap::new();
        let mut chains_seen: HashMap<&ChainRef, usize> = HashMap::new();
        let (mut tenants, mut chains, mut resources) = (Vec::new(), Vec::new(), Vec::new());
        for segment in segments {
            let chain = segment.chain();
            tenants.push(*tenants_seen.entry(&chain.tenant_id).or_insert_with(|| {
                resources.push(sink.mapping.resource(&chain.tenant_id));
                resources.len() - 1
            }));
            let chains_so_far = chains_seen.len();
            chains.push(*chains_seen.entry(chain).or_insert(chains_so_far));
        }
        let (scope, next, held) = (Mapping::scope(), (0, 0), None);
        Self { sink, segments, tenants, chains, resources, scope, next, held }
    }

    /// Passes over what is left of a segment.
    fn skip(&mut self, segment: usize) {
        if self.next.0 == segment {
            self.next = (segment + 1, 0);
            self.held = None;
        }
    }

    /// The next request, without the chains that are stopped.
    pub(super) fn next(&mut self, stopped: &[bool]) -> Step {
        let most = self.sink.config.max_request_bytes;
        let mut spans: Vec<Span> = Vec::new();
        let mut bytes = 0;
        // The records of a tenant go into one resource, wherever they are in the batch.
        let mut in_request = vec![false; self.resources.len()];
        loop {
            let (segment, at) = self.next;
            let Some(of) = self.segments.get(segment) else { break };
            if at == of.len() || stopped[self.chains[segment]] {
                self.skip(segment);
                continue;
            }
            let tenant = self.tenants[segment];
            let around = self.resources[tenant].len() + self.scope.len() + FRAME;
            let record = match self.record(of, at, most.saturating_sub(around)) {
                Ok(record) => record,
                Err(_) if !spans.is_empty() => break,
                Err(fault) => {
                    self.skip(segment);
                    return Step::Unsendable(segment, at, fault);
                }
            };
            let new = if in_request[tenant] { 0 } else { around } + framed(record.len());
            if bytes + new > most.min(PIECE) && !spans.is_empty() {
                self.held = Some(record);
                break;
            }
            bytes += new;
            in_request[tenant] = true;
            match spans.last_mut() {
                Some(span) if span.segment == segment => span.records.push(record),
                _ => spans.push(Span { segment, start: at, records: vec![record] }),
            }
            self.next = (segment, at + 1);
        }
        if spans.is_empty() { Step::Done } else { Step::Request(spans) }
    }

    /// A record that fits a request alone.
    fn record(&mut self, segment: &Segment, at: usize, most: usize) -> Result<Bytes, Fault> {
        if let Some(held) = self.held.take() {
            return Ok(held);
        }
        let (record, hash) = (&segment.records()[at], &segment.hashes()[at]);
        let mapping = &self.sink.mapping;
        let unreadable = |_| Fault::refused("it is no event that this version can read");
        let mut encoded = mapping.encode(record, hash).map_err(unreadable)?;
        if framed(encoded.len()) > most && self.sink.leaves_out_content() {
            encoded = mapping.encode_without_content(record, hash).map_err(unreadable)?;
        }
        let bytes = framed(encoded.len());
        if bytes <= most {
            return Ok(encoded);
        }
        let limit = self.sink.config.max_request_bytes;
        Err(Fault::refused(format!(
            "it takes {bytes} bytes, and max_request_bytes is {limit}; raise that limit and the \
             collector's, or send less with content, event or oversized"
        )))
    }

    /// The message of some spans.
    pub(super) fn request(&self, spans: &[Span]) -> Request {
        let mut of_tenants: Vec<Option<usize>> = vec![None; self.resources.len()];
        let mut resource_logs: Vec<ResourceLogs> = Vec::new();
        for span in spans {
            let tenant = self.tenants[span.segment];
            let at = *of_tenants[tenant].get_or_insert_with(|| {
                resource_logs.push(ResourceLogs {
                    resource: self.resources[tenant].clone(),
                    scope_logs: vec![ScopeLogs {
                        scope: self.scope.clone(),
                        log_records: Vec::new(),
                    }],
                });
                resource_logs.len() - 1
            });
            resource_logs[at].scope_logs[0].log_records.extend_from_slice(&span.records);
        }
        Request { resource_logs }
    }

    /// Spans that failed together, apart: each tenant alone. Where they are of one tenant and are
    /// refused for good: each chain alone, and then each half of it, so that in the end the one
    /// event is found. None where they cannot be parted.
    pub(super) fn part(&self, spans: &[Span], refused: bool) -> Option<VecDeque<Vec<Span>>> {
        let tenants = by(&self.tenants, spans);
        if tenants.len() > 1 {
            return Some(tenants);
        }
        if !refused {
            return None;
        }
        let chains = by(&self.chains, spans);
        if chains.len() > 1 {
            return Some(chains);
        }
        let records: usize = spans.iter().map(|span| span.records.len()).sum();
        if records < 2 {
            return None;
        }
        let (mut first, mut second, mut room) = (Vec::new(), Vec::new(), records / 2);
        for span in spans {
            let (here, there) = span.records.split_at(room.min(span.records.len()));
            room -= here.len();
            let start = span.start + here.len();
            for (records, start, half) in
                [(here, span.start, &mut first), (there, start, &mut second)]
            {
                if !records.is_empty() {
                    half.push(Span { segment: span.segment, start, records: records.to_vec() });
                }
            }
        }
        Some(VecDeque::from([first, second]))
    }
}

/// Spans grouped by a number of their segment, in the order of the batch.
fn by(numbers: &[usize], spans: &[Span]) -> VecDeque<Vec<Span>> {
    let mut groups: VecDeque<Vec<Span>> = VecDeque::new();
    let mut places: HashMap<usize, usize> = HashMap::new();
    for span in spans {
        let at = *places.entry(numbers[span.segment]).or_insert_with(|| {
            groups.push_back(Vec::new());
            groups.len() - 1
        });
        groups[at].push(span.clone());
    }
    groups
}

/// The bytes of a record with its tag and length.
fn framed(len: usize) -> usize {
    let len64 = u64::try_from(len).unwrap_or(u64::MAX);
    1 + encoded_len_varint(len64) + len
}
