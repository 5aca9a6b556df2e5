//! Sending a batch chain by chain: many requests at a time, never two for the same chain.
//!
//! Each chain is a lane. A request takes messages from the lanes that are not under way, up to the
//! limits of the service. What the service took of a lane, up to the first message that it did not
//! take, is acknowledged; the lane stops there, because what follows must not be acknowledged over a
//! hole. Other lanes go on.
//!
//! - A request that is refused because of one of its messages is sent again in smaller ones, until
//!   the refused message is alone.
//! - A request that fails as a whole for another reason ends the sending: what was not tried is
//!   reported so.
//! - After the time that the transport allows nothing more is sent, so that a slow service makes
//!   progress instead of being asked for the same again and again.
//! - A large event goes in a request of its own, after its object was put, so that trouble with the
//!   objects holds up no chain without them. After the first failure no other object is tried.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use agent_audit_core::{
    chain::ChainRef,
    sink::{Batch, BatchAck, Segment, SegmentOutcome, SinkError, SinkErrorKind},
};
use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::Instant;

use crate::{claim::Claims, error::Fault, message::Message};

/// What a request and a message may hold, and how many requests may be under way.
#[doc(hidden)]
#[derive(Debug, Clone)]
pub struct Limits {
    /// The most messages of a request.
    pub messages: usize,
    /// The most messages of one chain in a request.
    pub messages_of_a_chain: usize,
    /// The most bytes of a request.
    pub request_bytes: usize,
    /// The most bytes of a message.
    pub message_bytes: usize,
    /// The most requests at a time.
    pub parallelism: usize,
    /// How long to go on sending.
    pub time: Duration,
}

/// A service that takes messages.
#[doc(hidden)]
#[async_trait]
pub trait Transport: Sync {
    /// What it takes at a time.
    fn limits(&self) -> &Limits;

    /// What keeps the messages of a chain together.
    fn key(&self, chain: &ChainRef) -> Arc<str>;

    /// The form in which it takes a text.
    fn encode(&self, text: String) -> String {
        text
    }

    /// How many bytes of a message count beside its text.
    fn overhead(&self, message: &Message<'_>) -> usize;

    /// Sends messages; one result for each, or a fault of the request.
    async fn send(&self, messages: &[Message<'_>]) -> Result<Vec<Result<(), Fault>>, Fault>;
}

/// Appends a batch.
///
/// # Errors
/// [`SinkError`] where the service failed and took nothing of the batch.
#[doc(hidden)]
pub async fn append(
    batch: &Batch,
    transport: &impl Transport,
    claims: Option<&Claims>,
) -> Result<BatchAck, SinkError> {
    let mut run = Run::new(batch.segments(), transport, claims);
    let mut under_way = FuturesUnordered::new();
    let mut plain = 0;
    let mut large = 0;
    let parallelism = transport.limits().parallelism.max(1);
    loop {
        while let Some(request) = run.next_request(plain < parallelism, large < parallelism) {
            let counter = if request.is_large() { &mut large } else { &mut plain };
            *counter += 1;
            under_way.push(async move {
                let result = request.send(transport, claims).await;
                (request, result)
            });
        }
        let Some((request, result)) = under_way.next().await else { break };
        let counter = if request.is_large() { &mut large } else { &mut plain };
        *counter -= 1;
        run.settle(request, result);
    }
    drop(under_way);
    run.finish()
}

struct Run<'a, T> {
    segments: &'a [Segment],
    transport: &'a T,
    claims: Option<&'a Claims>,
    lanes: Vec<Lane<'a>>,
    /// The lane of each segment, and how many of its events the service took.
    progress: Vec<(usize, usize)>,
    /// Lanes that have something to send and are not under way.
    ready: VecDeque<usize>,
    /// Why nothing more is sent.
    down: Option<Fault>,
    /// Why no more objects are put.
    objects_down: Option<Fault>,
    until: Instant,
}

/// The messages of one chain.
struct Lane<'a> {
    key: Arc<str>,
    /// Events that were not looked at yet, as segment and place in it.
    rest: VecDeque<usize>,
    at: usize,
    /// Messages that are made and wait.
    made: VecDeque<Message<'a>>,
    /// It shares no request, because one that it shared was refused.
    alone: bool,
    most: usize,
    stopped: Option<Fault>,
}

struct Request<'a> {
    messages: Vec<Message<'a>>,
    bytes: usize,
}

impl Request<'_> {
    fn is_large(&self) -> bool {
        self.messages.iter().any(|message| message.object.is_some())
    }

    async fn send(
        &self,
        transport: &impl Transport,
        claims: Option<&Claims>,
    ) -> Result<Vec<Result<(), Fault>>, Trouble> {
        for message in &self.messages {
            if let (Some((claim, line)), Some(claims)) = (&message.object, claims) {
                claims.put(claim, line).await.map_err(Trouble::Object)?;
            }
        }
        transport.send(&self.messages).await.map_err(Trouble::Request)
    }
}

/// Why a request was not answered for each message.
enum Trouble {
    Object(Fault),
    Request(Fault),
}

impl<'a, T: Transport> Run<'a, T> {
    fn new(segments: &'a [Segment], transport: &'a T, claims: Option<&'a Claims>) -> Self {
        let mut lanes: Vec<Lane<'a>> = Vec::new();
        let mut places: HashMap<&ChainRef, usize> = HashMap::new();
        let mut progress = Vec::with_capacity(segments.len());
        for (at, segment) in segments.iter().enumerate() {
            let chain = segment.chain();
            let lane = *places.entry(chain).or_insert_with(|| {
                lanes.push(Lane {
                    key: transport.key(chain),
                    rest: VecDeque::new(),
                    at: 0,
                    made: VecDeque::new(),
                    alone: false,
                    most: transport.limits().messages_of_a_chain.max(1),
                    stopped: None,
                });
                lanes.len() - 1
            });
            lanes[lane].rest.push_back(at);
            progress.push((lane, 0));
        }
        let ready = (0..lanes.len()).collect();
        let until = Instant::now() + transport.limits().time;
        let (down, objects_down) = (None, None);
        Self { segments, transport, claims, lanes, progress, ready, down, objects_down, until }
    }

    /// Makes the next message of a lane, unless one is made already; false where there is none.
    fn make(&mut self, lane: usize) -> Result<bool, Fault> {
        if !self.lanes[lane].made.is_empty() {
            return Ok(true);
        }
        let Some(&segment) = self.lanes[lane].rest.front() else { return Ok(false) };
        let message = self.message(lane, segment, self.lanes[lane].at)?;
        let lane = &mut self.lanes[lane];
        lane.made.push_back(message);
        lane.at += 1;
        if lane.at == self.segments[segment].len() {
            lane.rest.pop_front();
            lane.at = 0;
        }
        Ok(true)
    }

    fn message(&self, lane: usize, segment: usize, at: usize) -> Result<Message<'a>, Fault> {
        let of = &self.segments[segment];
        let (chain, record, event_hash) = (of.chain(), &of.records()[at], of.hashes()[at]);
        let sequence = of.first() + at as u64;
        let refused = |what: String| {
            Fault::new(SinkErrorKind::Rejected, format!("event {sequence} of {chain} {what}"))
        };
        let to_line = || {
            String::from_utf8(record.to_json_line_with(&event_hash))
                .map_err(|_| refused("is not UTF-8".to_owned()))
        };
        let line = to_line()?;
        let event_type =
            record.view().map_err(|error| refused(format!("is no event: {error}")))?.event_type;
        let mut message = Message {
            key: Arc::clone(&self.lanes[lane].key),
            chain,
            sequence,
            event_hash,
            event_type,
            text: String::new(),
            object: None,
            bytes: 0,
            lane,
            segment,
        };
        let overhead = self.transport.overhead(&message);
        let most = self.transport.limits().message_bytes;
        // What is far too large is not encoded first.
        if line.len() + overhead <= most {
            let text = self.transport.encode(line);
            if text.len() + overhead <= most {
                message.bytes = text.len() + overhead;
                message.text = text;
                return Ok(message);
            }
            return self.refer(message, to_line()?, overhead);
        }
        self.refer(message, line, overhead)
    }

    /// Lets a message stand for an object.
    fn refer(
        &self,
        mut message: Message<'a>,
        line: String,
        overhead: usize,
    ) -> Result<Message<'a>, Fault> {
        let refused = |what: String| {
            let Message { sequence, chain, .. } = &message;
            Fault::new(SinkErrorKind::Rejected, format!("event {sequence} of {chain} {what}"))
        };
        let most = self.transport.limits().message_bytes;
        let Some(claims) = self.claims else {
            return Err(refused(format!(
                "is a message of {} bytes, more than {most}: set a bucket for large events",
                line.len() + overhead
            )));
        };
        let claim =
            claims.claim(message.chain, message.sequence, message.event_hash, line.as_bytes());
        let text = claim.to_text();
        if text.len() + overhead > most {
            return Err(refused(format!("has a claim of {} bytes, more than {most}", text.len())));
        }
        message.bytes = text.len() + overhead;
        message.text = text;
        message.object = Some((claim, line));
        Ok(message)
    }

    /// Messages of lanes that are ready, as many as go into one request.
    fn next_request(&mut self, plain: bool, large: bool) -> Option<Request<'a>> {
        if self.down.is_some() || self.ready.is_empty() || !(plain || large) {
            return None;
        }
        if Instant::now() >= self.until {
            let context = "not sent in time: the service is slow, and the rest comes again";
            self.down = Some(Fault::new(SinkErrorKind::Timeout, context));
            return None;
        }
        let mut request = Request { messages: Vec::new(), bytes: 0 };
        let mut waiting = Vec::new();
        while let Some(lane) = self.ready.pop_front() {
            match self.fill(&mut request, lane, plain, large) {
                Filled::Done => {}
                Filled::Waits => waiting.push(lane),
                Filled::Full { waits } => {
                    if waits {
                        waiting.push(lane);
                    }
                    break;
                }
            }
        }
        for lane in waiting.into_iter().rev() {
            self.ready.push_front(lane);
        }
        (!request.messages.is_empty()).then_some(request)
    }

    /// Fills a request from one lane.
    fn fill(&mut self, request: &mut Request<'a>, lane: usize, plain: bool, large: bool) -> Filled {
        if self.lanes[lane].alone && !request.messages.is_empty() {
            return Filled::Waits;
        }
        // No message is made before there is room for it.
        if !plain && self.lanes[lane].made.is_empty() {
            return Filled::Waits;
        }
        let Limits { messages, request_bytes, .. } = *self.transport.limits();
        let before = request.messages.len();
        while request.messages.len() - before < self.lanes[lane].most {
            let taken = request.messages.len() > before;
            match self.make(lane) {
                Ok(true) => {}
                Ok(false) => break,
                // What precedes it goes first; then it is met again.
                Err(_) if taken => break,
                Err(fault) => {
                    self.lanes[lane].stopped = Some(fault);
                    return Filled::Done;
                }
            }
            let Some(message) = self.lanes[lane].made.front() else { break };
            if message.object.is_some() {
                if taken {
                    break;
                }
                if let Some(fault) = &self.objects_down {
                    self.lanes[lane].stopped = Some(fault.clone());
                    return Filled::Done;
                }
                if !request.messages.is_empty() || !large {
                    return Filled::Waits;
                }
                request.messages.extend(self.lanes[lane].made.pop_front());
                return Filled::Full { waits: false };
            }
            if !plain {
                return Filled::Waits;
            }
            let fits = request.messages.len() < messages.max(1)
                && request.bytes.saturating_add(message.bytes) <= request_bytes;
            if !fits && !request.messages.is_empty() {
                return Filled::Full { waits: !taken };
            }
            request.bytes += message.bytes;
            request.messages.extend(self.lanes[lane].made.pop_front());
        }
        if self.lanes[lane].alone && request.messages.len() > before {
            return Filled::Full { waits: false };
        }
        Filled::Done
    }

    fn settle(&mut self, request: Request<'a>, result: Result<Vec<Result<(), Fault>>, Trouble>) {
        match result {
            Ok(results) => self.take_results(request, results),
            Err(Trouble::Object(fault)) => {
                for message in &request.messages {
                    self.lanes[message.lane].stopped = Some(fault.clone());
                }
                if fault.kind() != SinkErrorKind::Rejected {
                    self.objects_down = Some(fault);
                }
            }
            Err(Trouble::Request(fault)) if fault.kind() == SinkErrorKind::Rejected => {
                self.divide(request, fault);
            }
            Err(Trouble::Request(fault)) => {
                for message in &request.messages {
                    self.lanes[message.lane].stopped = Some(fault.clone());
                }
                self.down = Some(fault.untried());
            }
        }
    }

    fn take_results(&mut self, request: Request<'a>, results: Vec<Result<(), Fault>>) {
        let mut results = results.into_iter();
        let mut messages = request.messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            let result = results.next().unwrap_or_else(|| {
                let context = "the service did not answer for each message";
                Err(Fault::new(SinkErrorKind::Other, context).with_maybe_applied())
            });
            let lane = &mut self.lanes[message.lane];
            match (result, &mut lane.stopped) {
                (Ok(()), None) => self.progress[message.segment].1 += 1,
                // It is there, behind a hole.
                (Ok(()), Some(fault)) => *fault = fault.clone().with_maybe_applied(),
                (Err(fault), None) => lane.stopped = Some(fault),
                (Err(_), Some(_)) => {}
            }
            let last = messages.peek().is_none_or(|next| next.lane != message.lane);
            if last && self.lanes[message.lane].stopped.is_none() {
                self.ready.push_back(message.lane);
            }
        }
    }

    /// Finds out which message it was that made the service refuse a request.
    fn divide(&mut self, request: Request<'a>, fault: Fault) {
        let count = request.messages.len();
        let first = request.messages.first().map(|message| message.lane);
        let several = request.messages.iter().any(|message| Some(message.lane) != first);
        for message in request.messages.into_iter().rev() {
            let at = message.lane;
            let lane = &mut self.lanes[at];
            if several {
                lane.alone = true;
            } else if count > 1 {
                lane.most = count / 2;
            } else {
                lane.stopped = Some(fault.clone());
                continue;
            }
            lane.made.push_front(message);
            if !self.ready.contains(&at) {
                self.ready.push_front(at);
            }
        }
    }

    fn finish(self) -> Result<BatchAck, SinkError> {
        let Self { segments, lanes, progress, down, .. } = self;
        let nothing = progress.iter().all(|(_, taken)| *taken == 0);
        if let (Some(fault), true) = (&down, nothing && !segments.is_empty()) {
            let tried = lanes.iter().filter_map(|lane| lane.stopped.as_ref());
            let maybe_applied = tried.into_iter().any(Fault::maybe_applied);
            let fault = fault.clone();
            return Err(if maybe_applied { fault.with_maybe_applied() } else { fault }.into());
        }
        let outcomes = segments.iter().zip(progress).map(|(segment, (lane, taken))| {
            if taken == segment.len() {
                return SegmentOutcome::Accepted;
            }
            if taken > 0 {
                return SegmentOutcome::Prefix { through: segment.first() + taken as u64 - 1 };
            }
            let fault = lanes[lane].stopped.clone().or_else(|| down.clone());
            let fault = fault.unwrap_or_else(|| {
                Fault::new(SinkErrorKind::Other, "an event was left over").with_maybe_applied()
            });
            SegmentOutcome::Failed { error: fault.of_segment() }
        });
        Ok(BatchAck::new(outcomes.collect()))
    }
}

/// What came of filling a request from a lane.
enum Filled {
    /// What the lane has is in it, or the lane has nothing more, or is stopped.
    Done,
    /// The lane has its turn in another request.
    Waits,
    /// The request takes nothing more; the lane has its turn in another, or is in it.
    Full { waits: bool },
}

#[cfg(test)]
mod tests;
