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
//! - A request goes out before the next one is made, so that the service has work meanwhile.

mod lane;

use std::{
    collections::{HashMap, VecDeque},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use agent_audit_core::{
    chain::ChainRef,
    record::Record,
    sink::{Batch, BatchAck, Segment, SegmentOutcome, SinkError, SinkErrorKind},
};
use async_trait::async_trait;
use futures_util::{
    StreamExt,
    future::{Either, select},
    stream::FuturesUnordered,
};
use tokio::{task::yield_now, time::Instant};

use crate::{claim::Claims, error::Fault, message::Message};
use lane::{Lane, Spot};

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

    /// What it says of an event beside the text; nothing where it says nothing.
    fn label<'a>(&self, _record: &'a Record) -> &'a str {
        ""
    }

    /// The form in which it takes a text.
    fn encode(&self, text: String) -> String {
        text
    }

    /// How many bytes of a message count beside its text.
    fn overhead(&self, message: &Message<'_>) -> usize;

    /// Sends messages; one result for each, or a fault of the request.
    async fn send(&self, messages: Vec<Message<'_>>) -> Result<Vec<Result<(), Fault>>, Fault>;
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
        let settled = match run.next_request(plain < parallelism, large < parallelism) {
            Some(Request { messages, spots, is_large, .. }) => {
                *if is_large { &mut large } else { &mut plain } += 1;
                under_way.push(async move {
                    let result = send(messages, transport, claims).await;
                    (spots, is_large, result)
                });
                // The client hands its bytes to a task of its own, which needs a turn to send them.
                match select(under_way.next(), pin!(yield_now())).await {
                    Either::Left((settled, _)) => settled,
                    Either::Right(_) => None,
                }
            }
            None => match under_way.next().await {
                None => break,
                settled => settled,
            },
        };
        if let Some((spots, is_large, result)) = settled {
            *if is_large { &mut large } else { &mut plain } -= 1;
            run.settle(&spots, result);
        }
    }
    drop(under_way);
    run.finish()
}

async fn send(
    mut messages: Vec<Message<'_>>,
    transport: &impl Transport,
    claims: Option<&Claims>,
) -> Result<Vec<Result<(), Fault>>, Trouble> {
    for message in &mut messages {
        if let (Some(object), Some(claims)) = (message.object.take(), claims) {
            let (claim, line) = *object;
            claims.put(&claim, line).await.map_err(Trouble::Object)?;
        }
    }
    transport.send(messages).await.map_err(Trouble::Request)
}

/// Why a request was not answered for each message.
enum Trouble {
    Object(Fault),
    Request(Fault),
}

/// Messages that go together.
struct Request<'a> {
    messages: Vec<Message<'a>>,
    /// Where each is from.
    spots: Vec<(usize, Spot)>,
    bytes: usize,
    /// It holds one message, which stands for an object.
    is_large: bool,
}

struct Run<'a, T> {
    transport: &'a T,
    claims: Option<&'a Claims>,
    lanes: Vec<Lane<'a>>,
    /// The lane of each segment, and which of the lane's it is.
    places: Vec<(usize, usize)>,
    /// Lanes that have something to send and are not under way.
    ready: VecDeque<usize>,
    /// Why nothing more is sent.
    down: Option<Fault>,
    /// Why no more objects are put.
    objects_down: Option<Fault>,
    until: Instant,
}

impl<'a, T: Transport> Run<'a, T> {
    fn new(segments: &'a [Segment], transport: &'a T, claims: Option<&'a Claims>) -> Self {
        let mut lanes: Vec<Lane<'a>> = Vec::new();
        let mut known: HashMap<&ChainRef, usize> = HashMap::new();
        let mut places = Vec::with_capacity(segments.len());
        for segment in segments {
            let lane = *known.entry(segment.chain()).or_insert_with(|| {
                let most = transport.limits().messages_of_a_chain.max(1);
                lanes.push(Lane::new(transport.key(segment.chain()), most));
                lanes.len() - 1
            });
            places.push((lane, lanes[lane].add(segment)));
        }
        let ready = (0..lanes.len()).collect();
        let until = Instant::now() + transport.limits().time;
        let (down, objects_down) = (None, None);
        Self { transport, claims, lanes, places, ready, down, objects_down, until }
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
        // Room for all at once, unless the service takes any number.
        let room = self.transport.limits().messages.min(1_000);
        let (messages, spots) = (Vec::with_capacity(room), Vec::with_capacity(room));
        let mut request = Request { messages, spots, bytes: 0, is_large: false };
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
    fn fill(&mut self, request: &mut Request<'a>, at: usize, plain: bool, large: bool) -> Filled {
        let lane = &mut self.lanes[at];
        if lane.alone && !request.messages.is_empty() {
            return Filled::Waits;
        }
        // No message is made before there is room for it.
        if !plain && !lane.has_made() {
            return Filled::Waits;
        }
        let Limits { messages, request_bytes, .. } = *self.transport.limits();
        let before = request.messages.len();
        while request.messages.len() - before < lane.most {
            let taken = request.messages.len() > before;
            let (is_large, bytes) = match lane.peek(self.transport, self.claims) {
                Ok(Some(message)) => (message.object.is_some(), message.bytes),
                Ok(None) => break,
                // What precedes it goes first; then it is met again.
                Err(_) if taken => break,
                Err(fault) => {
                    lane.stopped = Some(fault);
                    return Filled::Done;
                }
            };
            if is_large {
                if taken {
                    break;
                }
                if let Some(fault) = &self.objects_down {
                    lane.stopped = Some(fault.clone());
                    return Filled::Done;
                }
                if !request.messages.is_empty() || !large {
                    return Filled::Waits;
                }
                request.is_large = true;
            } else if !plain {
                return Filled::Waits;
            }
            let fits = request.messages.len() < messages.max(1)
                && request.bytes.saturating_add(bytes) <= request_bytes;
            if !fits && !request.messages.is_empty() {
                return Filled::Full { waits: !taken };
            }
            if let Some((spot, message)) = lane.take() {
                request.bytes += bytes;
                request.messages.push(message);
                request.spots.push((at, spot));
            }
            if is_large {
                return Filled::Full { waits: false };
            }
        }
        if lane.alone && request.messages.len() > before {
            return Filled::Full { waits: false };
        }
        Filled::Done
    }

    fn settle(&mut self, spots: &[(usize, Spot)], result: Result<Vec<Result<(), Fault>>, Trouble>) {
        match result {
            Ok(results) => self.take_results(spots, results),
            Err(Trouble::Object(fault)) => {
                self.stop(spots, &fault);
                if fault.kind() != SinkErrorKind::Rejected {
                    self.objects_down = Some(fault);
                }
            }
            Err(Trouble::Request(fault)) if fault.kind() == SinkErrorKind::Rejected => {
                self.divide(spots, &fault);
            }
            Err(Trouble::Request(fault)) => {
                self.stop(spots, &fault);
                self.down = Some(fault.untried());
            }
        }
    }

    fn stop(&mut self, spots: &[(usize, Spot)], fault: &Fault) {
        for (lane, _) in spots {
            self.lanes[*lane].stopped = Some(fault.clone());
        }
    }

    fn take_results(&mut self, spots: &[(usize, Spot)], results: Vec<Result<(), Fault>>) {
        let mut results = results.into_iter();
        let mut spots = spots.iter().peekable();
        while let Some(&(at, spot)) = spots.next() {
            let result = results.next().unwrap_or_else(|| {
                let context = "the service did not answer for each message";
                Err(Fault::new(SinkErrorKind::Other, context).with_maybe_applied())
            });
            let lane = &mut self.lanes[at];
            match (result, &mut lane.stopped) {
                (Ok(()), None) => lane.took(spot),
                // It is there, behind a hole.
                (Ok(()), Some(fault)) => *fault = fault.clone().with_maybe_applied(),
                (Err(fault), None) => lane.stopped = Some(fault),
                (Err(_), Some(_)) => {}
            }
            let last = spots.peek().is_none_or(|(next, _)| *next != at);
            if last && lane.stopped.is_none() {
                self.ready.push_back(at);
            }
        }
    }

    /// Finds out which message it was that made the service refuse a request.
    fn divide(&mut self, spots: &[(usize, Spot)], fault: &Fault) {
        let count = spots.len();
        let several = spots.windows(2).any(|pair| pair[0].0 != pair[1].0);
        // From the last on, so that each lane goes back to its first.
        for (at, spot) in spots.iter().rev() {
            let lane = &mut self.lanes[*at];
            if several {
                lane.alone = true;
            } else if count > 1 {
                lane.most = count / 2;
            } else {
                lane.stopped = Some(fault.clone());
                continue;
            }
            lane.back_to(*spot);
            if !self.ready.contains(at) {
                self.ready.push_front(*at);
            }
        }
    }

    fn finish(self) -> Result<BatchAck, SinkError> {
        let Self { lanes, places, down, .. } = self;
        let nothing = lanes.iter().all(Lane::took_nothing);
        if let (Some(fault), true) = (&down, nothing && !places.is_empty()) {
            let tried = lanes.iter().filter_map(|lane| lane.stopped.as_ref());
            let maybe_applied = tried.into_iter().any(Fault::maybe_applied);
            let fault = fault.clone();
            return Err(if maybe_applied { fault.with_maybe_applied() } else { fault }.into());
        }
        let outcomes = places.into_iter().map(|(lane, part)| {
            let lane = &lanes[lane];
            let (segment, taken) = lane.taken_of(part);
            if taken == segment.len() {
                return SegmentOutcome::Accepted;
            }
            if taken > 0 {
                return SegmentOutcome::Prefix { through: segment.first() + taken as u64 - 1 };
            }
            let fault = lane.stopped.clone().or_else(|| down.clone());
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
