//! How the sinks and the journal are doing, as OpenTelemetry metrics.

use std::sync::{Arc, Weak};

use opentelemetry::{
    KeyValue, global,
    metrics::{AsyncInstrument, Meter},
};

use super::health::{Circuit, SinkHealth};
use crate::{
    journal::JournalStats,
    log::{AuditLog, Core},
    timestamp::Timestamp,
};

/// The name of the instrumentation scope.
const SCOPE: &str = "agent-audit";

impl AuditLog {
    /// Shows the state of this log in the metrics of the global OpenTelemetry provider.
    ///
    /// Set the provider first. The instruments are read when the provider collects, and cost nothing
    /// in between. They do not keep the log open.
    ///
    /// | instrument | unit | shows |
    /// |---|---|---|
    /// | `agent_audit.sink.circuit` | `{state}` | 0 closed, 1 half-open, 2 open |
    /// | `agent_audit.sink.waiting.events` | `{event}` | durable events that it has not acknowledged |
    /// | `agent_audit.sink.waiting.bytes` | `By` | about what these take in the journal |
    /// | `agent_audit.sink.lag` | `s` | age of the oldest of them; 0 where there is none |
    /// | `agent_audit.sink.chains.lagging` | `{chain}` | chains that failed by themselves and are retried |
    /// | `agent_audit.sink.chains.halted` | `{chain}` | chains that a person must mend |
    /// | `agent_audit.sink.missing` | `{event}` | events in declared holes |
    /// | `agent_audit.sink.quarantined` | `{event}` | refused events that are kept aside |
    /// | `agent_audit.sink.events` | `{event}` | counter: events acknowledged |
    /// | `agent_audit.sink.bytes` | `By` | counter: their bytes in the journal |
    /// | `agent_audit.sink.batches` | `{call}` | counter: calls answered |
    /// | `agent_audit.sink.failures` | `{failure}` | counter: calls and segments that failed |
    /// | `agent_audit.sink.retries` | `{call}` | counter: calls with events sent before |
    /// | `agent_audit.sink.duplicates` | `{event}` | counter: events in those |
    /// | `agent_audit.journal.entries` | `{event}` | entries that the journal keeps |
    /// | `agent_audit.journal.bytes` | `By` | their bytes |
    /// | `agent_audit.journal.pending.bytes` | `By` | bytes on their way to the disk |
    ///
    /// Those of a sink carry `agent_audit.sink.name`, `agent_audit.sink.kind` and
    /// `agent_audit.sink.required`. Nothing carries the name of a tenant.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use agent_audit_core::log::AuditLog;
    /// let log = AuditLog::open(dir.path())?;
    /// log.observe(); // once for each log
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observe(&self) {
        self.observe_with(&global::meter(SCOPE));
    }

    /// As [`observe`](Self::observe), in the metrics of a meter.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use agent_audit_core::log::AuditLog;
    /// let log = AuditLog::open(dir.path())?;
    /// log.observe_with(&opentelemetry::global::meter("my-agent"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observe_with(&self, meter: &Meter) {
        let core = Arc::downgrade(self.shared_core());
        gauges(meter, &core);
        counters(meter, &core);
        journal(meter, &core);
    }
}

fn gauges(meter: &Meter, core: &Weak<Core>) {
    type Shown = fn(&SinkHealth) -> u64;
    let circuit: Shown = |sink| match sink.circuit {
        Circuit::Closed => 0,
        Circuit::HalfOpen => 1,
        Circuit::Open => 2,
    };
    let missing: Shown =
        |sink| sink.missing.iter().map(|hole| (hole.last + 1).saturating_sub(hole.first)).sum();
    let all: [(&'static str, &'static str, &'static str, Shown); 7] = [
        ("agent_audit.sink.circuit", "{state}", "0 closed, 1 half-open, 2 open", circuit),
        (
            "agent_audit.sink.waiting.events",
            "{event}",
            "durable events that the sink has not acknowledged",
            |sink| sink.events_waiting,
        ),
        (
            "agent_audit.sink.waiting.bytes",
            "By",
            "about what waits, as bytes in the journal",
            |sink| sink.bytes_waiting,
        ),
        (
            "agent_audit.sink.chains.lagging",
            "{chain}",
            "chains that failed by themselves and are retried",
            |sink| sink.lagging as u64,
        ),
        ("agent_audit.sink.chains.halted", "{chain}", "chains that a person must mend", |sink| {
            sink.halted.len() as u64
        }),
        ("agent_audit.sink.missing", "{event}", "events in declared holes", missing),
        ("agent_audit.sink.quarantined", "{event}", "refused events that are kept aside", |sink| {
            sink.quarantined.len() as u64
        }),
    ];
    for (name, unit, description, shown) in all {
        let callback = each_sink(core, move |sink| Some(shown(sink)));
        let gauge = meter.u64_observable_gauge(name).with_description(description);
        let _ = gauge.with_unit(unit).with_callback(callback).build();
    }
    let lag = each_sink(core, |sink| {
        let now = Timestamp::now().as_nanos();
        let oldest = sink.oldest_waiting.map_or(now, Timestamp::as_nanos);
        Some(std::time::Duration::from_nanos(now.saturating_sub(oldest)).as_secs_f64())
    });
    let gauge = meter
        .f64_observable_gauge("agent_audit.sink.lag")
        .with_description("age of the oldest event that the sink has not acknowledged");
    let _ = gauge.with_unit("s").with_callback(lag).build();
}

fn counters(meter: &Meter, core: &Weak<Core>) {
    type Counted = fn(&SinkHealth) -> u64;
    let all: [(&'static str, &'static str, &'static str, Counted); 6] = [
        ("agent_audit.sink.events", "{event}", "events acknowledged", |s| s.counters.events),
        ("agent_audit.sink.bytes", "By", "bytes acknowledged", |s| s.counters.bytes),
        ("agent_audit.sink.batches", "{call}", "calls answered", |s| s.counters.batches),
        ("agent_audit.sink.failures", "{failure}", "calls and segments that failed", |s| {
            s.counters.failures
        }),
        (
            "agent_audit.sink.retries",
            "{call}",
            "calls with events that had been sent before",
            |s| s.counters.retries,
        ),
        ("agent_audit.sink.duplicates", "{event}", "events that were sent more than once", |s| {
            s.counters.duplicates
        }),
    ];
    for (name, unit, description, counted) in all {
        let callback = each_sink(core, move |sink| Some(counted(sink)));
        let counter = meter.u64_observable_counter(name).with_description(description);
        let _ = counter.with_unit(unit).with_callback(callback).build();
    }
}

fn journal(meter: &Meter, core: &Weak<Core>) {
    type Shown = fn(&JournalStats) -> u64;
    let all: [(&'static str, &'static str, &'static str, Shown); 3] = [
        ("agent_audit.journal.entries", "{event}", "entries that the journal keeps", |stats| {
            stats.durable_index.saturating_sub(stats.first_index)
        }),
        ("agent_audit.journal.bytes", "By", "bytes that the journal keeps", |stats| stats.bytes),
        ("agent_audit.journal.pending.bytes", "By", "bytes on their way to the disk", |stats| {
            stats.pending_bytes
        }),
    ];
    for (name, unit, description, shown) in all {
        let core = Weak::clone(core);
        let gauge = meter.u64_observable_gauge(name).with_description(description);
        let callback = move |observer: &dyn AsyncInstrument<u64>| {
            if let Some(core) = core.upgrade() {
                observer.observe(shown(&core.journal_stats()), &[]);
            }
        };
        let _ = gauge.with_unit(unit).with_callback(callback).build();
    }
}

fn each_sink<T>(
    core: &Weak<Core>,
    shown: impl Fn(&SinkHealth) -> Option<T> + Send + Sync + 'static,
) -> impl Fn(&dyn AsyncInstrument<T>) + Send + Sync + 'static {
    let core = Weak::clone(core);
    move |observer| {
        let Some(core) = core.upgrade() else { return };
        for sink in core.health() {
            let attributes = [
                KeyValue::new("agent_audit.sink.name", sink.name.clone()),
                KeyValue::new("agent_audit.sink.kind", sink.kind),
                KeyValue::new("agent_audit.sink.required", sink.is_required()),
            ];
            if let Some(value) = shown(&sink) {
                observer.observe(value, &attributes);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::{collections::BTreeMap, sync::Mutex, time::Duration};

    use opentelemetry::metrics::MeterProvider as _;
    use opentelemetry_sdk::{
        error::OTelSdkResult,
        metrics::{
            PeriodicReader, SdkMeterProvider, Temporality,
            data::{AggregatedMetrics, MetricData, ResourceMetrics},
            exporter::PushMetricExporter,
        },
    };

    use super::*;
    use crate::{
        event::Other,
        log::Draft,
        memory::{Fault, MemorySink},
        sink::SinkErrorKind,
    };

    /// Keeps the last value of each instrument, by its name and the name of the sink.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<BTreeMap<(String, String), f64>>>);

    impl PushMetricExporter for Kept {
        async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
            fn name<'a>(mut attributes: impl Iterator<Item = &'a KeyValue>) -> String {
                let name = attributes.find(|kv| kv.key.as_str() == "agent_audit.sink.name");
                name.map_or_else(String::new, |name| name.value.to_string())
            }
            let mut kept = self.0.lock().unwrap();
            kept.clear();
            for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
                let mut keep = |sink: String, value: f64| {
                    kept.insert((metric.name().to_owned(), sink), value);
                };
                match metric.data() {
                    AggregatedMetrics::U64(MetricData::Gauge(gauge)) => {
                        for point in gauge.data_points() {
                            keep(name(point.attributes()), as_f64(point.value()));
                        }
                    }
                    AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                        for point in sum.data_points() {
                            keep(name(point.attributes()), as_f64(point.value()));
                        }
                    }
                    AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
                        for point in gauge.data_points() {
                            keep(name(point.attributes()), point.value());
                        }
                    }
                    _ => {}
                }
            }
            Ok(())
        }
        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }
        fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
            Ok(())
        }
        fn temporality(&self) -> Temporality {
            Temporality::Cumulative
        }
    }

    fn as_f64(value: u64) -> f64 {
        f64::from(u32::try_from(value).unwrap())
    }

    #[test]
    fn a_provider_collects_how_each_sink_and_the_journal_are_doing() {
        let kept = Kept::default();
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(kept.clone()).build())
            .build();
        let read = |name: &str, sink: &str| {
            provider.force_flush().unwrap();
            kept.0.lock().unwrap().get(&(name.to_owned(), sink.to_owned())).copied()
        };

        let dir = tempfile::tempdir().unwrap();
        let (good, bad) = (MemorySink::named("good"), MemorySink::named("bad"));
        let outage = bad.faults().inject(Fault::before(SinkErrorKind::Unavailable).always());
        let log = AuditLog::builder(dir.path())
            .with_sink(good)
            .with_optional_sink(bad.clone())
            .open()
            .unwrap();
        log.observe_with(&provider.meter("test"));
        let session = log.session("acme", "s", "a").unwrap();
        for _ in 0..5 {
            let note = Draft::new(Other::custom("note").unwrap());
            let delivered = crate::log::Durability::Delivered;
            pollster::block_on(session.record_with(note, delivered)).unwrap();
        }
        assert_eq!(read("agent_audit.sink.events", "good"), Some(6.0), "with chain.opened");
        assert_eq!(read("agent_audit.sink.circuit", "good"), Some(0.0));
        assert_eq!(read("agent_audit.sink.waiting.events", "good"), Some(0.0));
        assert_eq!(read("agent_audit.sink.lag", "good"), Some(0.0));
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while read("agent_audit.sink.circuit", "bad") == Some(0.0) {
            assert!(std::time::Instant::now() < end, "its outage is never seen");
        }
        assert_eq!(read("agent_audit.sink.waiting.events", "bad"), Some(6.0));
        assert!(read("agent_audit.sink.waiting.bytes", "bad").unwrap() > 1_000.0);
        assert!(read("agent_audit.sink.lag", "bad").unwrap() > 0.0);
        assert!(read("agent_audit.sink.failures", "bad").unwrap() > 0.0);
        assert_eq!(read("agent_audit.sink.missing", "bad"), Some(0.0));
        assert_eq!(read("agent_audit.sink.quarantined", "bad"), Some(0.0));
        assert_eq!(read("agent_audit.sink.chains.halted", "bad"), Some(0.0));
        assert_eq!(read("agent_audit.journal.entries", ""), Some(6.0));
        assert!(read("agent_audit.journal.bytes", "").unwrap() > 1_000.0);

        assert!(outage.fired() > 0);
        bad.faults().clear();
        log.close_blocking(Duration::from_secs(60)).unwrap();
        let core = Arc::downgrade(log.shared_core());
        drop((session, log));
        assert!(core.upgrade().is_none(), "the instruments do not keep the log");
    }
}
