//! From an event to its causes, and to its effects.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use agent_audit_core::{
    event::{Event, Payload},
    id::EventId,
};

use super::{
    links::{Link, LinkKind},
    order,
    story::MOST,
};
use crate::{Filter, Found, Ledger, Order, QueryError, QueryErrorKind, Select};

/// How many events are asked about at a time.
const AT_ONCE: usize = 500;

/// How far to walk.
///
/// ```
/// use agent_audit_query::questions::walk::Reach;
/// let reach = Reach::default().steps(3).content();
/// assert_ne!(reach, Reach::default());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    steps: Option<usize>,
    context: bool,
    content: bool,
}

impl Reach {
    /// At most so many steps away.
    #[must_use]
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Also what a model merely had before it: of effects, the next decision in the session of
    /// every result and decision, and what that one caused. (Causes always go through the context.)
    #[must_use]
    pub fn context(mut self) -> Self {
        self.context = true;
        self
    }

    /// With the bodies of content.
    #[must_use]
    pub fn content(mut self) -> Self {
        self.content = true;
        self
    }
}

/// The events that lead to one, or that it leads to.
///
/// ```
/// # use agent_audit_query::questions::walk::Walk;
/// # fn first(walk: &Walk) -> &str {
/// walk.steps[0].found.event_type()
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Walk {
    /// The event that was asked about.
    pub origin: EventId,
    /// All events on the way, the origin among them, causes before effects.
    pub steps: Vec<Step>,
    /// Events that are named as causes and are not there, with the event that names them.
    pub missing: Vec<(EventId, Link)>,
}

/// One event on the way.
///
/// ```
/// # use agent_audit_query::questions::walk::Step;
/// # fn is_origin(step: &Step) -> bool {
/// step.distance == 0
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Step {
    /// The event.
    pub found: Found,
    /// How many steps it is away from the origin, on the shortest way.
    pub distance: usize,
    /// Its causes among the events of this walk.
    pub causes: Vec<Link>,
}

impl Ledger {
    /// What led to an event: the decision, the prompt and the earlier results that the decision had
    /// before it, the approval that a tool relied on and what the reviewer was shown, the call that
    /// spawned the session, back to the beginning.
    ///
    /// What the record names is followed as it is named. A decision that does not say what its context
    /// goes on from is joined to the [decision before it](LinkKind::Earlier) in its session, and to
    /// the [results](LinkKind::Result) in between.
    ///
    /// # Errors
    /// [`NotFound`](QueryErrorKind::NotFound) where the tenant has no such event.
    pub async fn why(&self, event: EventId, reach: Reach) -> Result<Walk, QueryError> {
        let origin = self.event(event, false).await?;
        let mut sessions = Sessions::default();
        let mut reached: BTreeMap<EventId, (usize, Vec<Link>)> = BTreeMap::new();
        let mut missing = Vec::new();
        sessions.load(self, origin).await?;
        let mut level = vec![event];
        let mut distance = 0;
        while !level.is_empty() {
            let mut next: Vec<(EventId, Link)> = Vec::new();
            for id in std::mem::take(&mut level) {
                if reached.contains_key(&id) {
                    continue;
                }
                let links = if reach.steps.is_none_or(|steps| distance < steps) {
                    sessions.causes(id)?
                } else {
                    Vec::new()
                };
                next.extend(links.iter().map(|link| (id, *link)));
                reached.insert(id, (distance, links));
            }
            let wanted: BTreeSet<EventId> = next
                .iter()
                .map(|(_, link)| link.cause)
                .filter(|cause| !sessions.events.contains_key(cause))
                .collect();
            for found in self.by_id(&wanted, false).await? {
                sessions.load(self, found).await?;
            }
            for (from, link) in next {
                if sessions.events.contains_key(&link.cause) {
                    level.push(link.cause);
                } else {
                    missing.push((from, link));
                }
            }
            distance += 1;
        }
        self.finish(event, reached, sessions.events, missing, reach).await
    }

    /// What an event caused: the calls that a decision made and how they ended, the reviews, the
    /// calls that relied on an approval, the sessions that were spawned and everything in them.
    ///
    /// # Errors
    /// [`NotFound`](QueryErrorKind::NotFound) where the tenant has no such event.
    pub async fn effects(&self, event: EventId, reach: Reach) -> Result<Walk, QueryError> {
        let origin = self.event(event, false).await?;
        let (events, distances) = self.downstream(vec![origin], reach).await?;
        let mut reached = BTreeMap::new();
        for (id, distance) in distances {
            let links = events.get(&id).map(named).transpose()?.unwrap_or_default();
            let links = if distance == 0 { Vec::new() } else { links };
            let among = links.into_iter().filter(|link| events.contains_key(&link.cause)).collect();
            reached.insert(id, (distance, among));
        }
        self.finish(event, reached, events, Vec::new(), reach).await
    }

    /// Everything that some events caused, and how far away it is.
    pub(super) async fn downstream(
        &self,
        origins: Vec<Found>,
        reach: Reach,
    ) -> Result<(HashMap<EventId, Found>, BTreeMap<EventId, usize>), QueryError> {
        let mut distances: BTreeMap<EventId, usize> =
            origins.iter().map(|found| (found.event_id(), 0)).collect();
        let mut events = HashMap::new();
        let mut level = origins;
        let mut distance = 0;
        while !level.is_empty() {
            if events.len() + level.len() > MOST {
                return Err(QueryError::new(
                    QueryErrorKind::Invalid,
                    format!("more than {MOST} events follow: ask for fewer steps, or page by page"),
                ));
            }
            let mut next = Vec::new();
            distance += 1;
            if reach.steps.is_none_or(|steps| distance <= steps) {
                for some in level.chunks(AT_ONCE) {
                    next.extend(self.direct_effects(some, reach).await?);
                }
            }
            for found in level {
                events.insert(found.event_id(), found);
            }
            level = Vec::new();
            for found in next {
                if let std::collections::btree_map::Entry::Vacant(new) =
                    distances.entry(found.event_id())
                {
                    new.insert(distance);
                    level.push(found);
                }
            }
        }
        Ok((events, distances))
    }

    async fn direct_effects(
        &self,
        causes: &[Found],
        reach: Reach,
    ) -> Result<Vec<Found>, QueryError> {
        let of_type = |wanted: &str| -> Vec<EventId> {
            let of_type = causes.iter().filter(|found| found.event_type() == wanted);
            of_type.map(Found::event_id).collect()
        };
        let all = || causes.iter().map(Found::event_id);
        let mut filters = vec![all().fold(Filter::new(), Filter::parent)];
        let spawned = all().fold(Filter::new(), Filter::spawned_by);
        filters.push(spawned);
        let decided = of_type("review.decided");
        if !decided.is_empty() {
            filters.push(decided.into_iter().fold(Filter::new(), Filter::approval));
        }
        let presented = of_type("review.presented");
        if !presented.is_empty() {
            filters.push(presented.into_iter().fold(Filter::new(), Filter::presented));
        }
        // A session that begins is the cause of everything in it.
        let begun = causes.iter().filter(|found| found.event_type() == "session.started");
        let begun = begun.filter_map(|found| found.session_id().parse().ok());
        let begun = begun.fold(Filter::new(), Filter::session);
        if !begun.is_empty() {
            filters.push(begun);
        }
        let mut effects = Vec::new();
        for filter in filters {
            effects.extend(self.all(&filter, Order::Time, false, MOST).await?);
        }
        if reach.context {
            for cause in causes {
                if matches!(cause.event_type(), "tool.completed" | "model.decided") {
                    effects.extend(self.next_decision(cause).await?);
                }
            }
        }
        Ok(effects)
    }

    /// The next that a model was asked or decided in the session of an event.
    async fn next_decision(&self, cause: &Found) -> Result<Vec<Found>, QueryError> {
        let Ok(session) = cause.session_id().parse() else { return Ok(Vec::new()) };
        let filter = Filter::new()
            .session(session)
            .event_type("model.requested")
            .event_type("model.decided");
        self.select(&Select::new(filter, Order::Time, 1).after(Some(cause.place().clone()))).await
    }

    /// Events by their ids.
    pub(super) async fn by_id(
        &self,
        ids: &BTreeSet<EventId>,
        content: bool,
    ) -> Result<Vec<Found>, QueryError> {
        let ids: Vec<EventId> = ids.iter().copied().collect();
        let mut events = Vec::with_capacity(ids.len());
        for some in ids.chunks(AT_ONCE) {
            let filter = some.iter().copied().fold(Filter::new(), Filter::event);
            events.extend(self.all(&filter, Order::Time, content, MOST).await?);
        }
        Ok(events)
    }

    async fn finish(
        &self,
        origin: EventId,
        mut reached: BTreeMap<EventId, (usize, Vec<Link>)>,
        mut events: HashMap<EventId, Found>,
        missing: Vec<(EventId, Link)>,
        reach: Reach,
    ) -> Result<Walk, QueryError> {
        let mut on_the_way: Vec<Found> = if reach.content {
            self.by_id(&reached.keys().copied().collect(), true).await?
        } else {
            reached.keys().filter_map(|id| events.remove(id)).collect()
        };
        on_the_way = order::causal(on_the_way, |found| {
            let links = reached.get(&found.event_id()).map(|(_, links)| links.as_slice());
            links.unwrap_or_default().iter().map(|link| link.cause).collect()
        });
        let steps = on_the_way.into_iter().filter_map(|found| {
            let (distance, causes) = reached.remove(&found.event_id())?;
            Some(Step { found, distance, causes })
        });
        Ok(Walk { origin, steps: steps.collect(), missing })
    }
}

fn named(found: &Found) -> Result<Vec<Link>, QueryError> {
    Ok(Link::named_by(&found.event()?))
}

/// The sessions that a walk has come to, whole.
#[derive(Debug, Default)]
struct Sessions {
    loaded: HashSet<String>,
    events: HashMap<EventId, Found>,
    /// The decisions, requests and results of each session, and its beginning, by time.
    marks: HashMap<String, Vec<Mark>>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    kind: MarkKind,
    id: EventId,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MarkKind {
    Started,
    Requested,
    Decided,
    Completed,
}

impl Sessions {
    /// Loads the session of an event, up to that event and what was recorded at the same time.
    async fn load(&mut self, ledger: &Ledger, found: Found) -> Result<(), QueryError> {
        let session = found.session_id().to_owned();
        self.events.insert(found.event_id(), found);
        if !self.loaded.insert(session.clone()) {
            return Ok(());
        }
        let id = session
            .parse()
            .map_err(|error| QueryError::corrupt("a session without an id").with_source(error))?;
        let all = ledger.all(&Filter::new().session(id), Order::Time, false, MOST).await?;
        let mut marks = Vec::new();
        for found in all {
            let kind = match found.event_type() {
                "session.started" => Some(MarkKind::Started),
                "model.requested" => Some(MarkKind::Requested),
                "model.decided" => Some(MarkKind::Decided),
                "tool.completed" => Some(MarkKind::Completed),
                _ => None,
            };
            marks.extend(kind.map(|kind| Mark { kind, id: found.event_id() }));
            self.events.insert(found.event_id(), found);
        }
        self.marks.insert(session, marks);
        Ok(())
    }

    /// The causes of an event that was loaded: those that it names, and those that follow from where
    /// it stands in its session.
    fn causes(&self, id: EventId) -> Result<Vec<Link>, QueryError> {
        let Some(found) = self.events.get(&id) else { return Ok(Vec::new()) };
        let event = found.event()?;
        let mut links = Link::named_by(&event);
        let marks = self.marks.get(found.session_id()).map_or(&[][..], Vec::as_slice);
        if let Some(context) = Self::context_of(&event, id, marks) {
            for link in context {
                if links.iter().all(|known| known.cause != link.cause) {
                    links.push(link);
                }
            }
        }
        if links.is_empty() {
            let start = marks.iter().find(|mark| mark.kind == MarkKind::Started && mark.id != id);
            links.extend(start.map(|mark| Link { kind: LinkKind::Session, cause: mark.id }));
        }
        Ok(links)
    }

    /// What stood in the context of a request, or of a decision without one.
    fn context_of(event: &Event, id: EventId, marks: &[Mark]) -> Option<Vec<Link>> {
        let after = match &event.payload {
            Payload::ModelRequested(requested) => requested.context_after,
            // What the model was asked is the request's to say.
            Payload::ModelDecided(decided) if decided.request_event_id.is_some() => return None,
            Payload::ModelDecided(decided) => decided.context_after,
            _ => return None,
        };
        let here = marks.iter().position(|mark| mark.id == id)?;
        let earlier = marks[..here].iter().rposition(|mark| match after {
            Some(after) => mark.id == after,
            None => mark.kind == MarkKind::Decided,
        });
        let mut links = Vec::new();
        if let (Some(at), None) = (earlier, after) {
            links.push(Link { kind: LinkKind::Earlier, cause: marks[at].id });
        }
        let between = &marks[earlier.map_or(0, |at| at + 1)..here];
        let results = between.iter().filter(|mark| mark.kind == MarkKind::Completed);
        links.extend(results.map(|mark| Link { kind: LinkKind::Result, cause: mark.id }));
        Some(links)
    }
}
