//! Reviews that were decided hastily, unseen, by machines, or not at all.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use agent_audit_core::{
    event::{
        Payload,
        review::{ReviewDecided, ReviewerKind},
    },
    id::EventId,
};

use super::{Anomaly, AnomalyKind, Bounds};
use crate::{Filter, Found, Ledger, Order, QueryError};

/// How many decisions of a streak are named.
const NAMED: usize = 100;
/// How many reviews are asked about at a time.
const AT_ONCE: usize = 500;

pub(super) async fn look(
    ledger: &Ledger,
    filter: &Filter,
    bounds: &Bounds,
) -> Result<Vec<Anomaly>, QueryError> {
    let mut watch = Watch::new(bounds);
    let filter = filter.clone().family("review.");
    ledger.each(&filter, Order::Time, false, |found| watch.take(found).map(|()| true)).await?;
    watch.finish(ledger).await
}

struct Watch<'a> {
    bounds: &'a Bounds,
    anomalies: Vec<Anomaly>,
    /// When each review was first presented, and by which event.
    presented: HashMap<String, (i64, EventId)>,
    /// Proposals that nobody has decided so far.
    open: BTreeMap<String, Found>,
    /// Reviews whose proposal or presentation has not been seen here: decided, and nothing shown.
    unseen: BTreeMap<String, (Found, String)>,
    decided: HashSet<String>,
    streaks: BTreeMap<String, Streak>,
}

#[derive(Default)]
struct Streak {
    length: usize,
    last: VecDeque<EventId>,
    end: Option<Found>,
}

impl<'a> Watch<'a> {
    fn new(bounds: &'a Bounds) -> Self {
        Self {
            bounds,
            anomalies: Vec::new(),
            presented: HashMap::new(),
            open: BTreeMap::new(),
            unseen: BTreeMap::new(),
            decided: HashSet::new(),
            streaks: BTreeMap::new(),
        }
    }

    fn take(&mut self, found: Found) -> Result<(), QueryError> {
        match found.event()?.payload {
            Payload::ReviewProposed(proposed) => {
                let decided = self.decided.contains(&proposed.review_id);
                if !decided {
                    self.open.insert(proposed.review_id, found);
                }
            }
            Payload::ReviewPresented(presented) => {
                let here = (found.timestamp(), found.event_id());
                self.presented.entry(presented.review_id).or_insert(here);
            }
            Payload::ReviewDecided(decided) => self.decided(found, &decided),
            _ => {}
        }
        Ok(())
    }

    fn decided(&mut self, found: Found, decided: &ReviewDecided) {
        let reviewer = decided.reviewer.reviewer_id.as_str();
        self.open.remove(&decided.review_id);
        self.decided.insert(decided.review_id.clone());
        let by_machine = match decided.reviewer.kind {
            ReviewerKind::Model => Some((AnomalyKind::DecidedByModel, "a model")),
            ReviewerKind::Policy => Some((AnomalyKind::DecidedByPolicy, "a policy")),
            _ => None,
        };
        if let Some((kind, who)) = by_machine {
            let detail = format!("review {} was decided by {who}", decided.review_id);
            self.anomalies.push(Anomaly::new(kind, &found, detail).by(reviewer));
        }
        let presented = self.presented.get(&decided.review_id);
        if decided.presented_event_id.is_none() && presented.is_none() {
            let entry = (found.clone(), reviewer.to_owned());
            self.unseen.insert(decided.review_id.clone(), entry);
        }
        if by_machine.is_some() {
            return;
        }
        // What the writer measured; where it did not, what the clocks of the records say.
        let measured = decided.presented_event_id.and(decided.decided_after_us);
        let by_clock = presented
            .and_then(|(at, _)| u64::try_from(found.timestamp().checked_sub(*at)? / 1_000).ok());
        let after = measured.or(by_clock).map(Duration::from_micros);
        let hasty = after.is_some_and(|after| after < self.bounds.hasty);
        if let (true, Some(after)) = (hasty, after) {
            let detail = format!(
                "review {} was decided {:.3} s after it was presented, sooner than {:.3} s",
                decided.review_id,
                after.as_secs_f64(),
                self.bounds.hasty.as_secs_f64()
            );
            let related = decided.presented_event_id.or(presented.map(|(_, id)| *id));
            self.anomalies.push(
                Anomaly::new(AnomalyKind::HastyDecision, &found, detail).by(reviewer).with(related),
            );
        }
        let streak = self.streaks.entry(reviewer.to_owned()).or_default();
        if hasty && decided.decision.allows() {
            streak.length += 1;
            streak.last.push_back(found.event_id());
            if streak.last.len() > NAMED {
                streak.last.pop_front();
            }
            streak.end = Some(found);
        } else {
            let ended = std::mem::take(streak);
            self.anomalies.extend(ended.into_anomaly(reviewer, self.bounds.streak));
        }
    }

    async fn finish(mut self, ledger: &Ledger) -> Result<Vec<Anomaly>, QueryError> {
        for (reviewer, streak) in self.streaks {
            self.anomalies.extend(streak.into_anomaly(&reviewer, self.bounds.streak));
        }
        let shown = reviews_with(ledger, "review.presented", self.unseen.keys()).await?;
        for (review, (found, reviewer)) in self.unseen {
            if !shown.contains(&review) {
                let detail = format!(
                    "review {review} was decided, and nothing says that it was presented to anybody"
                );
                self.anomalies
                    .push(Anomaly::new(AnomalyKind::NeverPresented, &found, detail).by(&reviewer));
            }
        }
        let decided = reviews_with(ledger, "review.decided", self.open.keys()).await?;
        for (review, found) in self.open {
            if !decided.contains(&review) {
                let detail = format!("review {review} was proposed, and nobody decided it");
                self.anomalies.push(Anomaly::new(AnomalyKind::Undecided, &found, detail));
            }
        }
        Ok(self.anomalies)
    }
}

impl Streak {
    fn into_anomaly(self, reviewer: &str, bound: usize) -> Option<Anomaly> {
        let end = self.end.filter(|_| self.length >= bound)?;
        let detail = format!("reviewer {reviewer} approved hastily {} times in a row", self.length);
        Some(Anomaly::new(AnomalyKind::HastyStreak, &end, detail).by(reviewer).with(self.last))
    }
}

/// Which of these reviews have an event of a type, wherever it is.
async fn reviews_with(
    ledger: &Ledger,
    event_type: &str,
    reviews: impl Iterator<Item = &String>,
) -> Result<HashSet<String>, QueryError> {
    let reviews: Vec<&String> = reviews.collect();
    let mut with = HashSet::new();
    for some in reviews.chunks(AT_ONCE) {
        let filter =
            some.iter().fold(Filter::new(), |filter, review| filter.review(review.as_str()));
        ledger
            .each(&filter.event_type(event_type), Order::Time, false, |found| {
                with.extend(found.text("review_id"));
                Ok(true)
            })
            .await?;
    }
    Ok(with)
}
