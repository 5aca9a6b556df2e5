//! What happened in a session.

use std::collections::{BTreeSet, HashMap};

use agent_audit_core::id::{EventId, SessionId};

use super::{links::Link, order};
use crate::{Filter, Found, Ledger, Order, QueryError, QueryErrorKind};

/// The most events of one answer that is given as a whole.
pub(crate) const MOST: usize = 100_000;

/// A session and those that it spawned, from beginning to end.
///
/// ```
/// # use agent_audit_query::questions::story::Story;
/// # fn show(story: &Story) {
/// for line in &story.lines {
///     println!("{:indent$}{}", "", line.found.event_type(), indent = line.depth * 2);
/// }
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Story {
    /// The session that was asked for, and those that it spawned, directly or not, in the order in
    /// which they were found.
    pub sessions: Vec<SessionId>,
    /// The events, causes before effects.
    pub lines: Vec<Line>,
}

/// One event of a story.
///
/// ```
/// # use agent_audit_query::questions::story::Line;
/// # fn is_root(line: &Line) -> bool {
/// line.depth == 0
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Line {
    /// The event.
    pub found: Found,
    /// How many events of the story it happened under.
    pub depth: usize,
    /// What it names as its causes.
    pub causes: Vec<Link>,
}

impl Ledger {
    /// A session with all sessions that it spawned, in causal order across agents and chains.
    ///
    /// # Errors
    /// [`NotFound`](QueryErrorKind::NotFound) where the tenant has no such session,
    /// [`Invalid`](QueryErrorKind::Invalid) where it has more than 100,000 events: ask for
    /// [`events`](Self::events) page by page then.
    pub async fn story(&self, session: &SessionId, content: bool) -> Result<Story, QueryError> {
        let sessions = self.family(session).await?;
        let filter = sessions.iter().fold(Filter::new(), |filter, id| filter.session(id.clone()));
        let events = self.all(&filter, Order::Time, content, MOST).await?;
        if events.is_empty() {
            return Err(QueryError::new(
                QueryErrorKind::NotFound,
                format!(
                    "tenant {} has no session `{session}` in {}: list them to see which it has",
                    self.tenant(),
                    self.store_name()
                ),
            ));
        }
        let mut causes = HashMap::new();
        for found in &events {
            causes.insert(found.event_id(), Link::named_by(&found.event()?));
        }
        let named = |found: &Found| {
            causes.get(&found.event_id()).into_iter().flatten().map(|link| link.cause).collect()
        };
        let events = order::causal(events, named);
        let mut depth: HashMap<EventId, usize> = HashMap::new();
        let mut lines = Vec::with_capacity(events.len());
        for found in events {
            let above = found.parent().and_then(|parent| depth.get(&parent));
            let level = above.map_or(0, |above| above + 1);
            depth.insert(found.event_id(), level);
            let causes = causes.remove(&found.event_id()).unwrap_or_default();
            lines.push(Line { found, depth: level, causes });
        }
        Ok(Story { sessions, lines })
    }

    /// A session and all that were spawned in it, level by level.
    pub(super) async fn family(&self, session: &SessionId) -> Result<Vec<SessionId>, QueryError> {
        let mut family = vec![session.clone()];
        let mut known = BTreeSet::from([session.clone()]);
        let mut level = vec![session.clone()];
        while !level.is_empty() {
            let filter = level.drain(..).fold(Filter::new(), Filter::parent_session);
            for found in self.all(&filter, Order::Time, false, MOST).await? {
                let child: SessionId = found.session_id().parse().map_err(|error| {
                    QueryError::corrupt("a session without an id").with_source(error)
                })?;
                if known.insert(child.clone()) {
                    family.push(child.clone());
                    level.push(child);
                }
            }
        }
        Ok(family)
    }
}
