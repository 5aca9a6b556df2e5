//! Which decision made which tool call.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use crate::id::{CallId, EventId};

/// How many calls a session remembers. Older ones are found by scope.
const MAX_CALLS: usize = 4_096;

#[derive(Debug, Default)]
pub(super) struct Links {
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    decision_of: HashMap<CallId, EventId>,
    oldest_first: VecDeque<CallId>,
}

impl Links {
    pub(super) fn add(&self, decision: EventId, calls: &[CallId]) {
        let mut known = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        for call in calls {
            if known.decision_of.insert(call.clone(), decision).is_none() {
                known.oldest_first.push_back(call.clone());
            }
            if known.oldest_first.len() > MAX_CALLS
                && let Some(oldest) = known.oldest_first.pop_front()
            {
                known.decision_of.remove(&oldest);
            }
        }
    }

    pub(super) fn decision_of(&self, call: &CallId) -> Option<EventId> {
        let known = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        known.decision_of.get(call).copied()
    }
}
