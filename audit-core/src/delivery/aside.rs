//! What runs beside the main flow of a sink: chains that fail by themselves, each in calls of its
//! own, a few at a time; and events that come out of quarantine.
//!
//! A chain that hangs or fails here delays nobody but those who wait for one of the places.

use std::collections::BTreeSet;

use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use crate::{
    error::{AuditError, AuditErrorKind},
    sink::{Batch, Segment, SegmentOutcome, SinkError},
};

use super::{
    call::race,
    draft::{Draft, Shipment},
    lane::Request,
    ledger::{Contact, Fault, Flow, Lag, Ledger, SlotId},
    outcome::{apply, failures, is_refusal},
    post::Post,
    quarantine::read_quarantined,
    source::{Fill, Source, lock},
};

/// How many chains are sent by themselves at a time.
pub(super) const MOST_ASIDE: usize = 8;

/// What runs beside the main flow.
#[derive(Debug)]
pub(super) struct Aside {
    post: Post,
    source: Source,
    /// The chains that are on their way.
    busy: BTreeSet<SlotId>,
    flights: JoinSet<Option<SlotId>>,
}

impl Aside {
    pub(super) fn new(post: Post) -> Self {
        let source = Source::new(std::sync::Arc::clone(&post.lane.journal));
        Self { post, source, busy: BTreeSet::new(), flights: JoinSet::new() }
    }

    /// Works until it is dropped. What is on its way then comes again as it was.
    pub(super) async fn work(&mut self) {
        loop {
            while let Some(landed) = self.flights.try_join_next() {
                self.landed(landed.ok().flatten());
            }
            let next = self.launch();
            let lane = &self.post.lane;
            let told = async {
                lane.aside.notified().await;
                None
            };
            let sleep = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
                None
            };
            let flights = &mut self.flights;
            let landing = async {
                match flights.join_next().await {
                    Some(landed) => landed.ok().flatten(),
                    None => std::future::pending().await,
                }
            };
            let landed = race(race(sleep, landing), told).await;
            self.landed(landed);
        }
    }

    fn landed(&mut self, landed: Option<SlotId>) {
        if let Some(id) = landed {
            self.busy.remove(&id);
            lock(&self.post.lane.ledger).note_state();
            // The chain may have caught up, or everything may be delivered.
            self.post.lane.main.notify_one();
        }
    }

    /// Sends what is due, as far as there are places; says when something is due next.
    fn launch(&mut self) -> Option<Instant> {
        for request in self.post.lane.take_requests() {
            let post = self.post.clone();
            self.flights.spawn(async move {
                release(&post, request).await;
                None
            });
        }
        loop {
            let now = Instant::now();
            let next = {
                let ledger = lock(&self.post.lane.ledger);
                if ledger.retrying && ledger.trouble().is_some() {
                    // The sink as a whole fails: the main flow tells when it is back.
                    return None;
                }
                let waiting =
                    ledger.lagging().filter(|(id, lag)| lag.apart && !self.busy.contains(id));
                waiting.map(|(id, lag)| (lag.due, id)).min()
            };
            let (due, id) = next?;
            if self.busy.len() >= MOST_ASIDE {
                return None;
            }
            if due > now {
                return Some(due);
            }
            self.send(id);
        }
    }

    fn send(&mut self, id: SlotId) {
        let lane = &self.post.lane;
        let mut due = BTreeSet::from([id]);
        let draft = Draft::apart(lane.most_events, lane.most_bytes);
        let (limit, fill) = {
            let limit = lock(&lane.ledger).passed;
            (limit, self.source.behind(&lane.ledger, &mut due, draft))
        };
        let fill = match fill {
            // The chain is halted, or catch-up begins elsewhere.
            Ok(_) if due.is_empty() => return lane.main.notify_one(),
            Ok(fill) => fill,
            Err(error) => {
                self.source.reset();
                let mut ledger = lock(&lane.ledger);
                ledger.last_fault = Some(Fault { retryable: false, message: error.to_string() });
                if let Flow::Lagging(lag) = ledger.slot(id).flow {
                    let due = Instant::now() + self.post.backoff.longest(None);
                    ledger.lag(id, Lag { due, ..lag });
                }
                return;
            }
        };
        self.busy.insert(id);
        let post = self.post.clone();
        self.flights.spawn(async move {
            carry(&post, id, fill, limit).await;
            Some(id)
        });
    }
}

/// Brings a part of one chain to the sink. The ledger changes only between two waits.
async fn carry(post: &Post, id: SlotId, mut fill: Fill, limit: u64) {
    let lane = &post.lane;
    if fill.draft.taken(id) > 0 && !meet(post, id, &mut fill).await {
        return;
    }
    let resume = fill.draft.excluded(id).unwrap_or(fill.end);
    let (shipment, failed, again) = {
        let mut ledger = lock(&lane.ledger);
        let failed = failures(&ledger.slot(id).flow);
        let mut again = failed > 0;
        let shipment = fill.draft.into_shipment(&mut ledger);
        if let (Some(Shipment { loads, .. }), Flow::Lagging(lag)) =
            (&shipment, &ledger.slot(id).flow)
            && let Some(load) = loads.first()
        {
            // However this ends, it comes again as it is now.
            again |= lag.exact.is_some();
            let lag = Lag { exact: Some(load.as_exact()), ..*lag };
            ledger.lag(id, lag);
        }
        (shipment, failed, again)
    };
    let Some(Shipment { batch, loads }) = shipment else {
        return went_on(&mut lock(&lane.ledger), id, resume, limit);
    };
    let outcomes = match post.append(std::sync::Arc::clone(&batch), again).await {
        Ok(outcomes) => outcomes,
        Err(error) if is_refusal(&error) => vec![SegmentOutcome::Failed { error }],
        Err(error) => return delay(post, id, &loads, &error, failed),
    };
    let answers = post.judge(&batch, outcomes);
    let delays = post.delays();
    let mut ledger = lock(&lane.ledger);
    if !ledger.retrying {
        ledger.set_trouble(None);
    }
    for (load, answer) in loads.iter().zip(answers) {
        if !apply(&mut ledger, load, answer, failed, &delays) {
            if let Flow::Lagging(lag) = ledger.slot(id).flow {
                ledger.lag(id, Lag { apart: true, ..lag });
            }
            return;
        }
    }
    went_on(&mut ledger, id, resume, limit);
}

/// Takes up that everything of a chain before an entry is settled.
fn went_on(ledger: &mut Ledger, id: SlotId, resume: u64, limit: u64) {
    let Flow::Lagging(lag) = ledger.slot(id).flow else { return };
    let from = lag.from.max(resume);
    // What the main flow has passed over since is little, and it takes that up itself.
    ledger.lag(id, Lag { apart: from < limit, ..Lag::now(from) });
    ledger.ease();
}

/// Notes that a segment failed, and with it the whole call.
fn delay(post: &Post, id: SlotId, loads: &[super::draft::Load], error: &SinkError, failed: u32) {
    tracing::debug!(sink = %post.lane.name, %error, "a chain by itself failed");
    let mut ledger = lock(&post.lane.ledger);
    ledger.last_fault = Some(Fault::from(error));
    for load in loads {
        ledger.lag(id, post.delays().lag(load, error, failed));
    }
}

/// Asks the sink what it has of a chain that it meets for the first time; false where there is
/// nothing to be sent now.
async fn meet(post: &Post, id: SlotId, fill: &mut Fill) -> bool {
    let lane = &post.lane;
    let chain = {
        let ledger = lock(&lane.ledger);
        let slot = ledger.slot(id);
        match slot.contact {
            Contact::Unknown => slot.chain.clone(),
            Contact::Verify { .. } | Contact::Settled => return true,
        }
    };
    let answer = post.head(chain, post.options.append_timeout).await;
    let mut ledger = lock(&lane.ledger);
    match answer {
        Ok(head) => fill.draft.meet(&mut ledger, id, head, &lane.journal),
        Err(error) => {
            tracing::debug!(sink = %lane.name, %error, "a sink cannot be asked for a head");
            ledger.last_fault = Some(Fault::from(&error));
            ledger.counters.failures += 1;
            if let Flow::Lagging(lag) = ledger.slot(id).flow {
                let failures = lag.failures.saturating_add(1);
                let due = Instant::now() + post.delays().after(&error, failures);
                ledger.lag(id, Lag { failures, due, apart: true, ..lag });
            }
            false
        }
    }
}

/// Sends an event once more that is kept aside, and lets go of it when the sink has it.
async fn release(post: &Post, request: Request) {
    let Request { chain, sequence, path, answer } = request;
    let released = async {
        let (event, record) = read_quarantined(&path)?;
        let segment = Segment::new(chain.clone(), vec![record])
            .map_err(|error| AuditError::damaged(error.to_string()))?;
        let batch = std::sync::Arc::new(Batch::new(vec![segment]));
        let outcome = match post.append(batch, true).await {
            Ok(mut outcomes) => outcomes.pop(),
            Err(error) => Some(SegmentOutcome::Failed { error }),
        };
        let refused = |why: String| {
            let message = format!(
                "sink `{}` does not take event {sequence} of chain {chain}, which stays in \
                 quarantine: {why}",
                post.lane.name
            );
            Err(AuditError::new(AuditErrorKind::Undelivered, message))
        };
        match outcome {
            Some(SegmentOutcome::Accepted) => {}
            Some(SegmentOutcome::Prefix { through }) if through == sequence => {}
            Some(SegmentOutcome::Conflict { .. }) => {
                return refused("it holds another event at that position".to_owned());
            }
            Some(SegmentOutcome::Failed { error }) => return refused(error.to_string()),
            _ => return refused("its answer makes no sense".to_owned()),
        }
        {
            let mut ledger = lock(&post.lane.ledger);
            ledger.counters.events += 1;
            ledger.released(&chain, sequence);
        }
        // The cursor first: a file that is left over is released again at most.
        post.lane.store()?;
        post.lane.quarantine().forget(event.event_hash)?;
        tracing::info!(
            sink = %post.lane.name, tenant = %chain.tenant_id, chain = %chain.chain_id, sequence,
            "a sink has taken an event that was kept aside"
        );
        Ok(())
    };
    let result = released.await;
    // Who asked may be gone.
    let _ = answer.send(result);
}
