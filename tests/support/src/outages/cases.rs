//! The outages.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agent_audit_core::conformance::Applies;
use tokio::task::block_in_place;

use super::{OutageHarness, WhenFull, scene::Scene, switch::Switch, writer};
use crate::{
    proxy::Behaviour,
    service::{Answer, Request, Response, Service},
};

/// How often a tenant records before, during and after.
const TIMES: usize = 6;

/// Slow enough that a batch takes about a second.
const SLOW: Behaviour = Behaviour::Slow { bytes: 512, pause: Duration::from_millis(10) };

pub(super) async fn connections_are_refused(harness: &dyn OutageHarness, _: &str) -> Applies {
    lasting(harness, Behaviour::Refuse).await
}

pub(super) async fn connections_are_reset_at_once(harness: &dyn OutageHarness, _: &str) -> Applies {
    lasting(harness, Behaviour::ResetAtOnce).await
}

pub(super) async fn the_network_hangs(harness: &dyn OutageHarness, _: &str) -> Applies {
    lasting(harness, Behaviour::Hang).await
}

pub(super) async fn answers_never_come_back(harness: &dyn OutageHarness, _: &str) -> Applies {
    lasting(harness, Behaviour::HalfOpen).await
}

pub(super) async fn the_network_is_slow(harness: &dyn OutageHarness, _: &str) -> Applies {
    let mut scene = Scene::new(harness).await;
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.delivered(&log).await;
    let before = scene.proxy.bites();
    scene.proxy.set(SLOW);
    scene.record(&log, TIMES).await;
    scene.bitten(&log, before).await;
    scene.record(&log, TIMES).await;
    scene.proxy.set(Behaviour::Pass);
    scene.record(&log, TIMES).await;
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}

pub(super) async fn connections_are_reset_in_mid_request(
    harness: &dyn OutageHarness,
    _: &str,
) -> Applies {
    let mut scene = Scene::new(harness).await;
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.delivered(&log).await;
    for further in [1, 700, 2_000, 5_000] {
        let before = scene.proxy.bites();
        let after = harness.handshake_bytes() + further;
        scene.proxy.set(Behaviour::ResetMidRequest { after });
        scene.record(&log, TIMES).await;
        scene.bitten(&log, before).await;
    }
    scene.proxy.set(Behaviour::Pass);
    scene.record(&log, TIMES).await;
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}

pub(super) async fn answers_are_lost_after_the_commit(
    harness: &dyn OutageHarness,
    _: &str,
) -> Applies {
    let mut scene = Scene::new(harness).await;
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.delivered(&log).await;
    scene.proxy.set(Behaviour::ResetAfterCommit { after: harness.handshake_bytes() });
    // First of all: where a store cannot be asked for heads, what comes later waits for these.
    scene.committed_unknown(&log).await;
    scene.record(&log, TIMES).await;
    scene.proxy.set(Behaviour::Pass);
    scene.record(&log, TIMES).await;
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}

/// An outage during which nothing is delivered.
async fn lasting(harness: &dyn OutageHarness, behaviour: Behaviour) -> Applies {
    let mut scene = Scene::new(harness).await;
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.delivered(&log).await;
    scene.proxy.set(behaviour);
    scene.record(&log, TIMES).await;
    scene.troubled(&log).await;
    scene.record(&log, TIMES).await;
    scene.proxy.set(Behaviour::Pass);
    scene.record(&log, TIMES).await;
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}

pub(super) async fn the_log_opens_while_the_server_is_away(
    harness: &dyn OutageHarness,
    _: &str,
) -> Applies {
    if !harness.connects_lazily() {
        return Applies::No;
    }
    let mut scene = Scene::new(harness).await;
    scene.proxy.set(Behaviour::Refuse);
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.troubled(&log).await;
    scene.proxy.set(Behaviour::Pass);
    scene.delivered(&log).await;
    scene.record(&log, TIMES).await;
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}

/// What a close leaves behind is delivered by the next process.
pub(super) async fn the_log_closes_during_an_outage(
    harness: &dyn OutageHarness,
    _: &str,
) -> Applies {
    let mut scene = Scene::new(harness).await;
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.delivered(&log).await;
    scene.proxy.set(Behaviour::Hang);
    scene.record(&log, TIMES).await;
    let report = log.close(Duration::from_secs(1)).await.unwrap();
    assert_eq!(report.undelivered.len(), 1, "it says what is left: {report:?}");
    drop(log);
    scene.proxy.set(Behaviour::Pass);
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}

pub(super) async fn credentials_are_wrong_for_a_while(
    harness: &dyn OutageHarness,
    _: &str,
) -> Applies {
    let mut scene = Scene::new(harness).await;
    let Some(stranger) = harness.sink_with_wrong_credentials(scene.proxy.address()).await else {
        return Applies::No;
    };
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.close(log).await;

    let log = scene.open_with(stranger).await;
    scene.record(&log, TIMES).await;
    scene.blocked(&log).await;
    scene.record(&log, TIMES).await;
    let report = log.close(Duration::from_millis(500)).await.unwrap();
    assert_eq!(report.undelivered.len(), 1, "it says what is left: {report:?}");
    drop(log);

    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}

/// While the log works; it goes on by itself when they are given back.
pub(super) async fn rights_are_withdrawn_during_the_work(
    harness: &dyn OutageHarness,
    _: &str,
) -> Applies {
    let mut scene = Scene::new(harness).await;
    let through = scene.proxy.address();
    let Some(stranger) = harness.sink_with_wrong_credentials(through).await else {
        return Applies::No;
    };
    let sink = Switch::new(harness.sink(through).await, stranger);
    let log = scene.open_with(Arc::<Switch>::clone(&sink)).await;
    scene.record(&log, TIMES).await;
    scene.delivered(&log).await;
    for _ in 0..2 {
        scene.record(&log, TIMES).await;
        if !harness.set_rights(false).await {
            sink.set(true);
        }
        scene.record(&log, TIMES).await;
        scene.blocked(&log).await;
        scene.record(&log, TIMES).await;
        if !harness.set_rights(true).await {
            sink.set(false);
        }
        scene.delivered(&log).await;
    }
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}

/// Full, and with room again.
pub(super) async fn the_store_is_full_for_a_while(harness: &dyn OutageHarness, _: &str) -> Applies {
    match harness.when_full() {
        WhenFull::Disk { spare, restart } => full_disk(harness, spare, restart).await,
        WhenFull::Answer(answer) => full_by_its_answer(harness, answer).await,
        WhenFull::Never => Applies::No,
    }
}

async fn full_disk(harness: &dyn OutageHarness, spare: u64, restart: bool) -> Applies {
    let Some(own) = harness.on_own_server().await else { return Applies::No };
    let Some(server) = own.server() else {
        panic!("a harness on a server of its own has to name that server");
    };
    let Some(disk) = block_in_place(|| server.move_to_small_disk(spare)) else {
        let why = "the_store_is_full_for_a_while: NOT RUN, this user may not mount a file system";
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "{why}");
        // Past the capture of the test runner: what was not tested must be seen.
        let _ = writeln!(std::io::stderr(), "outages: {why}");
        return Applies::No;
    };
    let mut scene = Scene::new(&*own).await;
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.delivered(&log).await;
    for _ in 0..2 {
        // In the middle of the work, so that something is on its way.
        scene.record(&log, TIMES).await;
        // What the server lets go of, to go on, is taken too.
        scene.troubled_by(&log, || block_in_place(|| disk.fill())).await;
        scene.record(&log, TIMES).await;
        block_in_place(|| disk.make_room());
        if restart {
            block_in_place(|| server.restart());
        }
        let revive = || {
            if TcpStream::connect(own.upstream()).is_err() {
                block_in_place(|| server.restart());
            }
        };
        scene.delivered_with(&log, revive).await;
    }
    scene.close(log).await;
    scene.compare().await;
    drop(scene);
    Applies::Yes
}

async fn full_by_its_answer(
    harness: &dyn OutageHarness,
    answer: fn(&Request) -> Option<Response>,
) -> Applies {
    let full = Arc::new(AtomicBool::new(false));
    let service = Service::start({
        let (full, server) = (Arc::clone(&full), harness.upstream());
        move |request| {
            let refusal = full.load(Ordering::Acquire).then(|| answer(&request)).flatten();
            Answer::Send(refusal.unwrap_or_else(|| request.forward(server)))
        }
    });
    let mut scene = Scene::before(harness, service.address()).await;
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.delivered(&log).await;
    for _ in 0..2 {
        full.store(true, Ordering::Release);
        scene.record(&log, TIMES).await;
        scene.troubled(&log).await;
        scene.record(&log, TIMES).await;
        full.store(false, Ordering::Release);
        scene.delivered(&log).await;
    }
    scene.close(log).await;
    scene.compare().await;
    Applies::Yes
}

pub(super) async fn the_server_is_killed_and_comes_back(
    harness: &dyn OutageHarness,
    _: &str,
) -> Applies {
    let Some(own) = harness.on_own_server().await else { return Applies::No };
    let Some(server) = own.server() else {
        panic!("a harness on a server of its own has to name that server");
    };
    let mut scene = Scene::new(&*own).await;
    let log = scene.open().await;
    scene.record(&log, TIMES).await;
    scene.delivered(&log).await;
    for _ in 0..2 {
        // In the middle of the work, so that something is on its way.
        scene.record(&log, TIMES).await;
        block_in_place(|| server.kill());
        scene.record(&log, TIMES).await;
        scene.troubled(&log).await;
        block_in_place(|| server.restart());
        scene.record(&log, TIMES).await;
    }
    scene.close(log).await;
    scene.compare().await;
    drop(scene);
    Applies::Yes
}

pub(super) async fn the_writer_is_killed_while_connections_are_refused(
    harness: &dyn OutageHarness,
    name: &str,
) -> Applies {
    writer::killed(harness, name, Behaviour::Refuse).await
}

pub(super) async fn the_writer_is_killed_while_connections_are_reset_in_mid_request(
    harness: &dyn OutageHarness,
    name: &str,
) -> Applies {
    let after = harness.handshake_bytes() + 700;
    writer::killed(harness, name, Behaviour::ResetMidRequest { after }).await
}

pub(super) async fn the_writer_is_killed_while_answers_are_lost_after_the_commit(
    harness: &dyn OutageHarness,
    name: &str,
) -> Applies {
    let after = harness.handshake_bytes();
    writer::killed(harness, name, Behaviour::ResetAfterCommit { after }).await
}

pub(super) async fn the_writer_is_killed_while_the_network_is_slow(
    harness: &dyn OutageHarness,
    name: &str,
) -> Applies {
    writer::killed(harness, name, SLOW).await
}

pub(super) async fn the_writer_is_killed_while_the_network_hangs(
    harness: &dyn OutageHarness,
    name: &str,
) -> Applies {
    writer::killed(harness, name, Behaviour::Hang).await
}

pub(super) async fn the_writer_is_killed_while_answers_never_come_back(
    harness: &dyn OutageHarness,
    name: &str,
) -> Applies {
    writer::killed(harness, name, Behaviour::HalfOpen).await
}
