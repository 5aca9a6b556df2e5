//! What the last run found, as OpenTelemetry metrics.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use agent_audit_core::timestamp::Timestamp;
use opentelemetry::{
    KeyValue, global,
    metrics::{AsyncInstrument, Meter},
};

use super::{Watch, outcome::Latest};

/// The name of the instrumentation scope.
const SCOPE: &str = "agent-audit";

impl Watch {
    /// Shows what the last run found in the metrics of the global OpenTelemetry provider.
    ///
    /// Set the provider first. The instruments are read when the provider collects; they do not keep
    /// the job's directory. Nothing is shown before the first run of this process has ended.
    ///
    /// | instrument | unit | shows |
    /// |---|---|---|
    /// | `agent_audit.integrity.verdict` | `{verdict}` | 0 intact, 1 tampered, 2 could not tell |
    /// | `agent_audit.integrity.age` | `s` | time since the last run began: a job that stopped shows here |
    /// | `agent_audit.integrity.duration` | `s` | how long the last run took |
    /// | `agent_audit.integrity.findings` | `{finding}` | findings of the last run, by `agent_audit.severity` |
    /// | `agent_audit.integrity.tenants` | `{tenant}` | tenants |
    /// | `agent_audit.integrity.chains` | `{chain}` | chains |
    /// | `agent_audit.integrity.events` | `{event}` | records of all chains |
    /// | `agent_audit.integrity.runs` | `{run}` | counter: runs of this process |
    /// | `agent_audit.integrity.read` | `{event}` | counter: records read by this process |
    /// | `agent_audit.integrity.unreported` | `{report}` | counter: alerts not delivered, reports not recorded, runs that failed |
    ///
    /// Each carries `agent_audit.integrity.job`, the name of the job. Nothing carries the name of a
    /// tenant.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use std::sync::Arc;
    /// use agent_audit_core::memory::MemorySink;
    /// use agent_audit_query::{integrity::Watch, scan::Scanned};
    /// let store = Arc::new(Scanned::new("memory", MemorySink::new()));
    /// let watch = Watch::builder(dir.path()).with_store(store).open()?;
    /// watch.observe(); // once for each job
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn observe(&self) {
        self.observe_with(&global::meter(SCOPE));
    }

    /// As [`observe`](Self::observe), in the metrics of a meter.
    pub fn observe_with(&self, meter: &Meter) {
        let (name, latest) = self.latest();
        let shown = Shown { job: KeyValue::new("agent_audit.integrity.job", name), latest };
        gauges(meter, &shown);
        counters(meter, &shown);
    }
}

#[derive(Clone)]
struct Shown {
    job: KeyValue,
    latest: Weak<Mutex<Latest>>,
}

impl Shown {
    fn callback<T>(
        &self,
        show: impl Fn(&Latest) -> Vec<(T, Vec<KeyValue>)> + Send + Sync + 'static,
    ) -> impl Fn(&dyn AsyncInstrument<T>) + Send + Sync + 'static {
        let shown = self.clone();
        move |observer| {
            let Some(latest) = shown.latest.upgrade() else { return };
            let values = show(&lock(&latest));
            for (value, mut attributes) in values {
                attributes.push(shown.job.clone());
                observer.observe(value, &attributes);
            }
        }
    }
}

fn lock(latest: &Arc<Mutex<Latest>>) -> std::sync::MutexGuard<'_, Latest> {
    latest.lock().unwrap_or_else(PoisonError::into_inner)
}

fn gauges(meter: &Meter, shown: &Shown) {
    type Value = fn(&Latest) -> Option<u64>;
    let all: [(&'static str, &'static str, &'static str, Value); 4] = [
        (
            "agent_audit.integrity.verdict",
            "{verdict}",
            "0 intact, 1 tampered, 2 could not tell",
            |latest| latest.verdict.map(|verdict| u64::from(verdict.exit_code())),
        ),
        ("agent_audit.integrity.tenants", "{tenant}", "tenants", |latest| {
            latest.verdict.map(|_| latest.counts.tenants)
        }),
        ("agent_audit.integrity.chains", "{chain}", "chains", |latest| {
            latest.verdict.map(|_| latest.counts.chains)
        }),
        ("agent_audit.integrity.events", "{event}", "records of all chains", |latest| {
            latest.verdict.map(|_| latest.counts.events)
        }),
    ];
    for (name, unit, description, value) in all {
        let callback = shown
            .callback(move |latest| value(latest).map(|v| (v, Vec::new())).into_iter().collect());
        let gauge = meter.u64_observable_gauge(name).with_description(description);
        let _ = gauge.with_unit(unit).with_callback(callback).build();
    }
    let findings = shown.callback(|latest| {
        let of = |severity: &'static str, count| {
            (count, vec![KeyValue::new("agent_audit.severity", severity)])
        };
        let counts = latest.findings;
        latest.verdict.map_or_else(Vec::new, |_| {
            vec![
                of("tampering", counts.tampering),
                of("unsure", counts.unsure),
                of("warning", counts.warning),
                of("state", counts.state),
            ]
        })
    });
    let gauge = meter.u64_observable_gauge("agent_audit.integrity.findings");
    let gauge = gauge.with_description("findings of the last run, by severity");
    let _ = gauge.with_unit("{finding}").with_callback(findings).build();
    let age = shown.callback(|latest| {
        let since =
            latest.started_at.map(|at| Timestamp::now().as_nanos().saturating_sub(at.as_nanos()));
        let seconds = since.map(|nanos| std::time::Duration::from_nanos(nanos).as_secs_f64());
        seconds.map(|seconds| (seconds, Vec::new())).into_iter().collect()
    });
    let gauge = meter.f64_observable_gauge("agent_audit.integrity.age");
    let gauge = gauge.with_description("time since the last run began");
    let _ = gauge.with_unit("s").with_callback(age).build();
    let duration = shown.callback(|latest| {
        latest.verdict.map(|_| (latest.duration.as_secs_f64(), Vec::new())).into_iter().collect()
    });
    let gauge = meter.f64_observable_gauge("agent_audit.integrity.duration");
    let gauge = gauge.with_description("how long the last run took");
    let _ = gauge.with_unit("s").with_callback(duration).build();
}

fn counters(meter: &Meter, shown: &Shown) {
    type Counted = fn(&Latest) -> u64;
    let all: [(&'static str, &'static str, &'static str, Counted); 3] = [
        ("agent_audit.integrity.runs", "{run}", "runs of this process", |latest| latest.runs),
        ("agent_audit.integrity.read", "{event}", "records read by this process", |latest| {
            latest.read
        }),
        (
            "agent_audit.integrity.unreported",
            "{report}",
            "alerts not delivered, reports not recorded, runs that failed",
            |latest| latest.unreported,
        ),
    ];
    for (name, unit, description, counted) in all {
        let callback = shown.callback(move |latest| vec![(counted(latest), Vec::new())]);
        let counter = meter.u64_observable_counter(name).with_description(description);
        let _ = counter.with_unit(unit).with_callback(callback).build();
    }
}
