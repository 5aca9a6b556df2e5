//! `agent-audit watch`: the integrity job.

use std::{num::NonZeroU32, time::Duration};

use agent_audit_core::log::AuditLog;
use agent_audit_query::{
    integrity::{Outcome, Watch, Webhook},
    scan::Scanned,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::WatchArgs,
    failure::Failure,
    output::{self, Out},
    store,
    verify::read_keys,
};

pub(crate) fn run(args: &WatchArgs, out: &mut Out) -> Result<u8, Failure> {
    crate::block_on(watch(args, out))
}

async fn watch(args: &WatchArgs, out: &mut Out) -> Result<u8, Failure> {
    let mut watch = Watch::builder(&args.state)
        .with_name(&args.name)
        .with_tenants(args.tenants.iter().cloned())
        .with_grace(Duration::from_secs(args.grace.saturating_mul(60)));
    for name in &args.stores {
        watch = watch.with_store(store::open(name, None).await?.store);
    }
    if let Some(dir) = &args.tenant_checkpoints {
        watch = watch.with_checkpoint_dir(dir);
    }
    if args.whole {
        watch = watch.with_whole_every(NonZeroU32::MIN);
    }
    let keys = read_keys(&args.keys)?;
    for path in &args.checkpoints {
        watch = watch.with_writer_checkpoints(path, keys.iter().copied());
    }
    let mut record = None;
    if let Some(dir) = &args.record {
        let log = AuditLog::open(dir)?;
        watch = watch.with_record(log.clone(), args.record_tenant.clone());
        watch = watch.with_record_store(std::sync::Arc::new(Scanned::new(
            dir.display().to_string(),
            store::journal(dir)?,
        )));
        record = Some(log);
    }
    if let Some(address) = &args.webhook {
        let mut webhook = Webhook::new(address)?;
        if let Ok(token) = std::env::var("AGENT_AUDIT_WEBHOOK_TOKEN") {
            webhook = webhook.with_bearer(&token)?;
        }
        watch = watch.with_alert(webhook);
    }
    let mut watch = watch.open()?;
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut worst = 0;
    loop {
        let outcome = watch.run().await?;
        told(args, &outcome, out)?;
        // Tampering that was found once stays found, whatever a later run could not tell.
        worst =
            if worst == 1 || outcome.exit_code() == 1 { 1 } else { outcome.exit_code().max(worst) };
        let Some(minutes) = args.every else { break };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(minutes.max(1).saturating_mul(60))) => {}
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
        }
    }
    if let Some(log) = record {
        drop(watch);
        log.close(Duration::from_secs(10)).await?;
    }
    Ok(worst)
}

fn told(args: &WatchArgs, outcome: &Outcome, out: &mut Out) -> Result<(), Failure> {
    if args.json {
        out.line(String::from_utf8(outcome.signed.to_bytes())?)?;
    } else {
        out.text(&outcome.report.to_string())?;
    }
    if let Some(Err(error)) = &outcome.recorded {
        output::complain(&format!("the run could not be recorded: {error}"));
    }
    out.flush()
}
