//! The outages.

use std::time::Duration;

use agent_audit_core::conformance::Applies;

use super::{OutageHarness, scene::Scene, writer};
use crate::proxy::Behaviour;

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
        tokio::task::block_in_place(|| server.kill());
        scene.record(&log, TIMES).await;
        scene.troubled(&log).await;
        tokio::task::block_in_place(|| server.restart());
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
