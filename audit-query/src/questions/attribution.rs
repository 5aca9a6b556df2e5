//! What a model, or one version of it, decided, and what came of it.

use std::collections::BTreeMap;

use agent_audit_core::id::EventId;

use super::{order, walk::Reach};
use crate::{Cursor, Filter, Found, Ledger, QueryError, Request, questions::links::Link};

/// Decisions of a model, and everything that they caused.
///
/// ```
/// # use agent_audit_query::questions::attribution::Attribution;
/// # fn calls(answer: &Attribution) -> usize {
/// answer.downstream.iter().filter(|found| found.event_type() == "tool.attempted").count()
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Attribution {
    /// The decisions of this page, by time.
    pub decisions: Vec<Found>,
    /// What they caused, directly or not, causes before effects; without the decisions themselves.
    pub downstream: Vec<Found>,
    /// How many steps each of those is away from the nearest decision of this page.
    pub distance: BTreeMap<EventId, usize>,
    /// The place behind the last decision, where there may be more.
    pub next: Option<Cursor>,
    /// The place before the first decision, where there may be more.
    pub previous: Option<Cursor>,
}

impl Ledger {
    /// The decisions that match, of a [model](Filter::model) or a [version](Filter::model_version) of
    /// it in a period, and everything downstream of them.
    ///
    /// Every decision is on exactly one page; what several decisions caused together can be on several.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn attribution(
        &self,
        filter: &Filter,
        request: &Request,
    ) -> Result<Attribution, QueryError> {
        let filter = filter.clone().event_type("model.decided");
        let page = self.events(&filter, request).await?;
        let (mut events, mut distance) =
            self.downstream(page.events.clone(), Reach::default()).await?;
        for decision in &page.events {
            events.remove(&decision.event_id());
            distance.remove(&decision.event_id());
        }
        let mut causes = BTreeMap::new();
        for found in events.values() {
            let named = Link::named_by(&found.event()?);
            causes
                .insert(found.event_id(), named.iter().map(|link| link.cause).collect::<Vec<_>>());
        }
        let downstream = order::causal(events.into_values().collect(), |found| {
            causes.get(&found.event_id()).cloned().unwrap_or_default()
        });
        let (next, previous) = (page.next, page.previous);
        Ok(Attribution { decisions: page.events, downstream, distance, next, previous })
    }
}
