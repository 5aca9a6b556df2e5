//! Partitions created ahead: once when a sink starts, and when a month begins.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use agent_audit_core::timestamp::Timestamp;
use tokio::time::timeout;

use crate::{error::Fault, pool::Lease};

#[derive(Debug)]
pub(super) struct Months {
    ahead: u32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The month that partitions were created from, as `2026-11`.
    ensured: String,
    not_before: Option<Instant>,
}

/// How long a server is left alone that could not create partitions.
const PAUSE: Duration = Duration::from_secs(60);

impl Months {
    pub(super) fn new(ahead: u32) -> Self {
        Self { ahead, state: Mutex::default() }
    }

    /// Creates partitions where it is time. Without them events go to the default partition, so a fault
    /// here is told and is no fault of the caller.
    pub(super) async fn ensure(&self, lease: &Lease) {
        let month = Timestamp::now().to_string().chars().take(7).collect::<String>();
        if self.ahead == 0 || !self.is_time(&month) {
            return;
        }
        let months = i32::try_from(self.ahead).unwrap_or(i32::MAX);
        let sql = "SELECT to_char(month, 'YYYY-MM') FROM agent_audit.ensure_partitions($1) \
                   WHERE state = 'default'";
        let ensured =
            timeout(lease.patience(), async { lease.client().query(sql, &[&months]).await });
        let doing = "create partitions";
        let fault = match ensured.await {
            Ok(Ok(kept)) => {
                if !kept.is_empty() {
                    let months: Vec<&str> = kept.iter().map(|row| row.get(0)).collect();
                    tracing::warn!(
                        ?months,
                        "these months have events in the default partition, and get none of their own"
                    );
                }
                self.state.lock().unwrap_or_else(PoisonError::into_inner).ensured = month;
                return;
            }
            Ok(Err(error)) => Fault::postgres(&error, doing),
            Err(_) => Fault::timeout(doing),
        };
        tracing::warn!(%fault, "partitions are not created ahead, events may go to the default one");
    }

    /// Whether it is this caller's turn to create them.
    fn is_time(&self, month: &str) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.ensured == month || state.not_before.is_some_and(|at| now < at) {
            return false;
        }
        state.not_before = Some(now + PAUSE);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_of_many_has_the_turn() {
        let months = Months::new(3);
        assert!(months.is_time("2026-11"));
        assert!(!months.is_time("2026-11"), "another one is at it");
        months.state.lock().unwrap_or_else(PoisonError::into_inner).ensured = "2026-11".to_owned();
        assert!(!months.is_time("2026-11"));
    }
}
