//! `agent-audit relay`: from Kafka to other sinks.

use std::time::Duration;

use agent_audit_kafka::{KafkaConfig, Relay, RelayConfig, RelayMonitor, RelayStatus};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    args::RelayArgs,
    failure::Failure,
    output::{self, Out, counted},
    sinks,
};

/// Messages were read that belong nowhere.
const PROBLEMS: u8 = 1;

pub(crate) fn run(args: &RelayArgs, out: &mut Out) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(relay(args, out));
    // A sink may have blocking work that never returns.
    runtime.shutdown_background();
    done
}

async fn relay(args: &RelayArgs, out: &mut Out) -> Result<u8, Failure> {
    // From here on a signal is a wish, and not the end.
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut opened = Vec::new();
    for name in &args.to {
        let sink = sinks::open(name).await?;
        // A mistake in the set-up is said now; an outage is waited for.
        if let Err(error) = sink.check().await {
            if !error.is_retryable() {
                return Err(error.into());
            }
            output::complain(&format!("warning: {}: {error}", sink.info().name));
        }
        opened.push(sink);
    }
    let relay = Relay::new(config(args)?, opened)?;
    let monitor = relay.monitor();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(relay.run(async { drop(stopped.await) }));
    tokio::pin!(running);
    let mut stop = Some(stop);
    let mut interval = tokio::time::interval(Duration::from_secs(args.every.max(1)));
    interval.tick().await;
    let status = loop {
        tokio::select! {
            done = &mut running => break done.map_err(|_| Failure::new("the relay panicked"))??,
            _ = interrupt.recv() => ask(&mut stop)?,
            _ = terminate.recv() => ask(&mut stop)?,
            _ = interval.tick() => report(args, &monitor, out)?,
        }
    };
    say(args, &status, out)?;
    Ok(if status.problems == 0 { 0 } else { PROBLEMS })
}

fn config(args: &RelayArgs) -> Result<RelayConfig, Failure> {
    let mut kafka = match &args.brokers {
        Some(brokers) => KafkaConfig::from_env_with_brokers(brokers)?,
        None => KafkaConfig::from_env()?,
    };
    if let Some(topic) = &args.topic {
        kafka = kafka.with_topic(topic);
    }
    let mut config = RelayConfig::new(kafka, &args.group);
    if let Some(directory) = &args.quarantine {
        config = config.with_quarantine(directory);
    }
    if let Some(seconds) = args.gap_timeout {
        config = config.with_gap_timeout(Duration::from_secs(seconds));
    }
    Ok(config)
}

/// The first signal asks for an orderly end, the second for an end.
fn ask(stop: &mut Option<tokio::sync::oneshot::Sender<()>>) -> Result<(), Failure> {
    match stop.take() {
        Some(stop) => {
            output::complain("stopping: the sinks get what was read");
            // Where the relay has ended by itself, its result is next.
            let _ = stop.send(());
            Ok(())
        }
        None => Err(Failure::new("stopped at once: what was not committed is read again")),
    }
}

fn report(args: &RelayArgs, monitor: &RelayMonitor, out: &mut Out) -> Result<(), Failure> {
    say(args, &monitor.status(), out)
}

fn say(args: &RelayArgs, status: &RelayStatus, out: &mut Out) -> Result<(), Failure> {
    if args.json {
        out.line(serde_json::to_string(status)?)?;
        return out.flush();
    }
    let lag: i64 = status.partitions.iter().map(|partition| partition.lag()).sum();
    let mut line = format!(
        "relayed {}, {} read here, lag {}",
        counted(status.relayed, "event"),
        counted(u64::try_from(status.partitions.len()).unwrap_or_default(), "partition"),
        output::grouped(u64::try_from(lag).unwrap_or_default()),
    );
    if status.problems > 0 {
        line.push_str(&format!(", {}", counted(status.problems, "problem")));
        if let Some(last) = status.latest_problems.last() {
            line.push_str(&format!(" (the last: {last})"));
        }
    }
    for gap in status.gaps.iter().take(3) {
        line.push_str(&format!("\n  {} waits for event {}", gap.chain, gap.missing));
    }
    for sink in &status.sinks {
        if let Some(error) = &sink.last_error {
            line.push_str(&format!("\n  {}: {error}", sink.name));
        }
    }
    if let Some(error) = &status.last_error {
        line.push_str(&format!("\n  {error}"));
    }
    output::complain(&line);
    Ok(())
}
