//! The work for one sink: it is sent what is there for it, and asked what it holds.

use std::{sync::Arc, time::Instant};

use agent_audit_core::sink::{Batch, Sink};
use tokio::{sync::watch, task::JoinSet};

use super::{
    Shared,
    calls::{Calls, guarded},
    outcome::settle,
};

/// How many chains a sink is asked about at a time.
const HEADS_AT_A_TIME: usize = 16;

/// Sends until it is told to stop: one batch at a time, and chains that may be at fault beside it.
pub(super) async fn work(
    shared: Arc<Shared>,
    sink: Arc<dyn Sink>,
    at: usize,
    calls: Calls,
    mut stop: watch::Receiver<bool>,
) {
    let mut on_way = JoinSet::new();
    loop {
        if *stop.borrow() {
            return;
        }
        let wake = loop {
            let next = shared.state().next_loads(at, Instant::now());
            let loads = match next {
                Ok(loads) => loads,
                Err(wake) => break wake,
            };
            let batch = Batch::new(loads.iter().map(|load| load.segment.clone()).collect());
            let sink = Arc::clone(&sink);
            let call = async move { Ok(sink.append(&batch).await?.outcomes) };
            on_way.spawn(async move { (loads, guarded(calls.limit, call).await) });
        };
        tokio::select! {
            // The panic of a sink is caught inside.
            Some(Ok((loads, answer))) = on_way.join_next() => {
                settle(&shared, at, &loads, answer, calls);
            }
            () = shared.wake[at].notified() => {}
            () = until(wake) => {}
            _ = stop.changed() => {}
        }
    }
}

/// Asks a sink what it holds of chains until it is told to stop.
pub(super) async fn meet(
    shared: Arc<Shared>,
    sink: Arc<dyn Sink>,
    at: usize,
    calls: Calls,
    mut stop: watch::Receiver<bool>,
) {
    let mut asked = JoinSet::new();
    loop {
        if *stop.borrow() {
            return;
        }
        let mut wake = None;
        while asked.len() < HEADS_AT_A_TIME {
            let next = shared.state().next_question(at, Instant::now());
            let (id, chain) = match next {
                Ok(question) => question,
                Err(due) => {
                    wake = due;
                    break;
                }
            };
            let sink = Arc::clone(&sink);
            let call = async move { sink.head(&chain).await };
            asked.spawn(async move { (id, guarded(calls.limit, call).await) });
        }
        tokio::select! {
            Some(Ok((id, answer))) = asked.join_next() => {
                shared.state().answered(at, id, answer, calls);
                shared.wake_all();
            }
            () = shared.contact[at].notified() => {}
            () = until(wake) => {}
            _ = stop.changed() => {}
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
