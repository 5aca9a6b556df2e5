//! Who is told what: the report, its signature, the record of the run, alerts and metrics.

use std::sync::{Arc, Mutex};

use agent_audit_core::{
    event::Payload,
    verify::{
        FindingKind::{NothingToVerify, Truncated, Unreported},
        Verdict,
    },
};
use async_trait::async_trait;

use super::{World, assert_intact, files, kinds, sentences, store};
use crate::integrity::{Alert, AlertMessage, SignedReport, Watch, WatchErrorKind};

#[derive(Debug, Clone, Default)]
struct Bell {
    rung: Arc<Mutex<Vec<AlertMessage>>>,
    broken: bool,
}

#[async_trait]
impl Alert for Bell {
    fn name(&self) -> &str {
        "bell"
    }

    async fn send(&self, message: &AlertMessage) -> Result<(), String> {
        if self.broken {
            return Err("it does not ring".to_owned());
        }
        self.rung.lock().unwrap().push(message.clone());
        Ok(())
    }
}

#[test]
fn the_report_is_signed_and_kept_and_recorded_with_what_was_found() {
    let world = World::new();
    let first = world.run_intact();
    let chain = world.chain("acme");
    world.hot.tamper().truncate(&chain, 15);
    let second = world.run();

    let keys = [world.key.verifying_key()];
    for (outcome, verified) in [(&first, true), (&second, false)] {
        assert_eq!(outcome.signed.verify(&keys).unwrap(), outcome.report);
        let number = format!("{:012}.json", outcome.report.run);
        let file = files(&world.path("integrity/reports"));
        let file = file.iter().find(|(path, _)| path.to_str().unwrap().ends_with(&number)).unwrap();
        let signed = SignedReport::from_slice(file.1).unwrap();
        assert_eq!(signed.verify(&keys).unwrap(), outcome.report);
        let text = std::fs::read_to_string(file.0.with_extension("txt")).unwrap();
        assert_eq!(text, outcome.report.to_string());

        let id = *outcome.recorded.as_ref().unwrap().as_ref().unwrap();
        let events = world.records.events();
        let event = events.iter().find(|event| event.id() == id).unwrap();
        assert_eq!(event.tenant().as_str(), "integrity");
        assert_eq!(event.content("report"), Some(outcome.signed.report_bytes()));
        match event.payload() {
            Payload::IntegrityVerified(run) if verified => {
                assert_eq!(run.checkpoint.as_deref(), Some(outcome.signed.note()));
                assert_eq!(run.chains, 2);
                assert_eq!(run.ranges.len(), 2);
            }
            Payload::IntegrityFailed(run) if !verified => {
                assert_eq!(run.findings_total, Some(1));
                assert_eq!(run.findings[0].kind, "truncated");
                assert_eq!(run.findings[0].sequence, Some(15));
            }
            other => panic!("{other:?}"),
        }
    }
    let text = second.report.to_string();
    assert!(text.starts_with("integrity of hot, cold: TAMPERED WITH\n"), "{text}");
    assert!(text.contains("\ntampering: 1\n  truncated: acme/"), "{text}");
    world.records.assert_chain_valid();
}

#[test]
fn a_report_that_was_changed_is_not_believed() {
    let world = World::new();
    let outcome = world.run_intact();
    let keys = [world.key.verifying_key()];
    let text = String::from_utf8(outcome.signed.to_bytes()).unwrap();
    let attacks = [
        ("\"verdict\":\"intact\"", "\"verdict\":\"unsure\""),
        ("\"leaf_index\":\"0\"", "\"leaf_index\":\"1\""),
        ("\"number\":0", "\"number\":1"),
        ("\"tenants\":3", "\"tenants\":2"),
    ];
    for (from, to) in attacks {
        assert!(text.contains(from), "{from}");
        let changed = SignedReport::from_slice(text.replacen(from, to, 1).as_bytes()).unwrap();
        assert!(changed.verify(&keys).is_err(), "{from}");
    }
    let other = agent_audit_core::key::SigningKey::from_seed(&[8; 32]).verifying_key();
    assert!(outcome.signed.verify(&[other]).is_err());
}

#[test]
fn who_is_to_be_alerted_is_told_what_and_where_and_nothing_else() {
    let world = World::new();
    let bell = Bell::default();
    let run = || world.run_with(|builder| builder.with_alert(bell.clone()));
    assert_intact(&run());
    assert!(bell.rung.lock().unwrap().is_empty(), "all is well");
    world.hot.tamper().truncate(&world.chain("acme"), 15);
    let outcome = run();
    assert!(outcome.report.alerts.iter().all(|alert| alert.delivered));
    let rung = bell.rung.lock().unwrap().clone();
    let [message] = &rung[..] else { panic!("{rung:?}") };
    assert_eq!((message.run, message.verdict), (Some(1), Verdict::Tampered));
    let json = serde_json::to_value(message).unwrap();
    assert_eq!(json["findings"][0]["kind"], "truncated");
    assert_eq!(json["findings"][0]["tenant_id"], "acme");
    assert_eq!(json["findings"][0]["sequence"], 15);
    assert_eq!(json["findings"][0]["place"], "hot");
    assert!(!json.to_string().contains("note"), "{json}");
    World::remove_tenant(&world.hot, "globex");
    run();
    let json = serde_json::to_value(&bell.rung.lock().unwrap()[1]).unwrap();
    assert_eq!(json["findings"][0]["kind"], "tenant_missing");
    assert_eq!(json["findings"][0]["tenant_id"], "globex");
}

#[test]
fn an_alert_that_fails_is_itself_reported() {
    let world = World::new();
    world.run_intact();
    world.hot.tamper().truncate(&world.chain("acme"), 15);
    let bell = Bell { broken: true, ..Bell::default() };
    let outcome = world.run_with(|builder| builder.with_alert(bell));
    assert_eq!(kinds(&outcome), [Truncated]);
    let told = outcome.report.findings.iter().find(|finding| finding.kind == Unreported);
    assert!(told.unwrap().detail.contains("it does not ring"), "{}", sentences(&outcome));
    assert!(outcome.report.to_string().contains("alert bell was not delivered"));
    let keys = [world.key.verifying_key()];
    assert_eq!(outcome.signed.verify(&keys).unwrap(), outcome.report, "and signed");
}

#[test]
fn nothing_is_never_intact() {
    let dir = tempfile::tempdir().unwrap();
    let sink = agent_audit_core::memory::MemorySink::new();
    let mut watch = Watch::builder(dir.path()).with_store(store("memory", &sink)).open().unwrap();
    let outcome = pollster::block_on(watch.run()).unwrap();
    assert_eq!(kinds(&outcome), [NothingToVerify]);
    assert_eq!(outcome.exit_code(), 2);
}

/// A run that cannot come to its end tells whoever is to be alerted.
#[test]
fn a_run_that_fails_alerts() {
    let world = World::new();
    let bell = Bell::default();
    let mut watch = world.builder().with_alert(bell.clone()).open().unwrap();
    pollster::block_on(watch.run()).unwrap();
    std::fs::remove_dir_all(world.path("kept")).unwrap();
    assert!(pollster::block_on(watch.run()).is_err());
    let rung = bell.rung.lock().unwrap();
    assert_eq!((rung.len(), rung[0].verdict), (1, Verdict::Unsure));
    assert!(rung[0].error.is_some() && rung[0].run.is_none());
}

/// A run whose record failed is not called a success, and is recorded by the next.
#[test]
fn a_run_that_could_not_be_recorded_is_recorded_late() {
    let world = World::new();
    world.run_intact();
    let closed = super::writer(
        &world.path("closed"),
        &world.clock,
        &world.records,
        agent_audit_core::key::SigningKey::from_seed(&[6; 32]),
    );
    closed.close_blocking(std::time::Duration::from_secs(60)).unwrap();
    let outcome =
        world.run_with(|builder| builder.with_record(closed, "integrity".parse().unwrap()));
    assert_eq!(outcome.report.verdict, Verdict::Intact);
    assert!(matches!(outcome.recorded, Some(Err(_))));
    assert_eq!(outcome.exit_code(), 2);
    let next = world.run_intact();
    assert!(
        sentences(&next).contains("run 1 had not been recorded, and is now"),
        "{}",
        sentences(&next)
    );
    let runs = world
        .records
        .events()
        .iter()
        .filter(|event| matches!(event.payload(), Payload::IntegrityVerified(_)))
        .count();
    assert_eq!(runs, 3);
}

#[test]
fn what_makes_no_sense_is_refused_when_the_job_is_opened() {
    let world = World::new();
    let hot = || store("hot", &world.hot);
    let at = world.path("elsewhere");
    let cases = [
        (Watch::builder(&at), "with_store"),
        (Watch::builder(&at).with_store(hot()).with_store(hot()), "two stores"),
        (Watch::builder(&at).with_store(hot()).with_name(""), "name of the job"),
        (Watch::builder(&at).with_store(hot()).with_record_store(hot()), "with_record"),
        (Watch::builder(&at).with_store(hot()).with_writer_checkpoints(&at, []), "no key"),
    ];
    for (builder, why) in cases {
        let error = builder.open().unwrap_err();
        assert_eq!(error.kind(), WatchErrorKind::Invalid);
        assert!(error.to_string().contains(why), "{error}");
        assert!(!at.exists(), "nothing was made");
    }
}

#[cfg(feature = "webhook")]
mod webhook {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpListener,
        time::Duration,
    };

    use super::*;
    use crate::integrity::Webhook;

    /// Answers so many requests with these lines; returns what came.
    fn server(answers: &'static [&'static str]) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hooks/secret", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let mut came = Vec::new();
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let mut reader = BufReader::new(&stream);
                let (mut head, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if line == "\r\n" {
                        break;
                    }
                    head.push_str(&line);
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let answer =
                    format!("HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                (&stream).write_all(answer.as_bytes()).unwrap();
                came.push(format!("{head}\n{}", String::from_utf8(body).unwrap()));
            }
            came
        });
        (address, thread)
    }

    #[test]
    fn a_webhook_posts_json_and_tries_again() {
        let (address, server) = server(&["503 Service Unavailable", "204 No Content"]);
        let webhook = Webhook::new(&address).unwrap().with_bearer("token-1").unwrap();
        let world = World::new();
        world.run_intact();
        world.hot.tamper().truncate(&world.chain("acme"), 15);
        let outcome = world.run_with(|builder| builder.with_alert(webhook));
        assert!(outcome.report.alerts[0].delivered, "{:?}", outcome.report.alerts);
        let came = server.join().unwrap();
        assert_eq!(came.len(), 2);
        let (head, body) = came[1].split_once('\n').unwrap();
        assert!(head.starts_with("POST /hooks/secret HTTP/1.1"), "{head}");
        let text = came[1].to_ascii_lowercase();
        assert!(text.contains("authorization: bearer token-1"), "{text}");
        assert!(text.contains("content-type: application/json"), "{text}");
        let body = &body[body.find('{').unwrap()..];
        let message: AlertMessage = serde_json::from_str(body).unwrap();
        assert_eq!(message.findings[0].kind, "truncated");
    }

    #[test]
    fn a_webhook_that_refuses_hangs_or_is_not_there_fails_in_bounded_time() {
        let (refusing, server) = server(&["403 Forbidden"]);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let hanging = format!("http://{}/", silent.local_addr().unwrap());
        let gone = {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            format!("http://{}/", listener.local_addr().unwrap())
        };
        let message =
            AlertMessage::of_failure("test", agent_audit_core::timestamp::Timestamp::now(), &"x");
        let cases = [(refusing, "403"), (hanging, "no answer within"), (gone, "no connection")];
        for (address, why) in cases {
            let webhook = Webhook::new(&address).unwrap().with_timeout(Duration::from_millis(300));
            let error = pollster::block_on(webhook.send(&message)).unwrap_err();
            assert!(error.contains(why), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        assert_eq!(server.join().unwrap().len(), 1);
    }
}

#[cfg(feature = "opentelemetry")]
mod metrics {
    use std::collections::BTreeMap;

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

    /// The last value of each instrument, by its name and severity.
    #[derive(Debug, Clone, Default)]
    struct Kept(Arc<Mutex<BTreeMap<(String, String), u64>>>);

    impl PushMetricExporter for Kept {
        async fn export(&self, metrics: &ResourceMetrics) -> OTelSdkResult {
            let mut kept = self.0.lock().unwrap();
            for metric in metrics.scope_metrics().flat_map(|scope| scope.metrics()) {
                let points: Vec<_> = match metric.data() {
                    AggregatedMetrics::U64(MetricData::Gauge(gauge)) => gauge
                        .data_points()
                        .map(|point| {
                            (point.attributes().cloned().collect::<Vec<_>>(), point.value())
                        })
                        .collect(),
                    AggregatedMetrics::U64(MetricData::Sum(sum)) => sum
                        .data_points()
                        .map(|point| {
                            (point.attributes().cloned().collect::<Vec<_>>(), point.value())
                        })
                        .collect(),
                    _ => continue,
                };
                for (attributes, value) in points {
                    let severity = attributes
                        .iter()
                        .find(|attribute| attribute.key.as_str() == "agent_audit.severity")
                        .map_or_else(String::new, |attribute| attribute.value.to_string());
                    assert!(
                        attributes.iter().all(|attribute| attribute.value.to_string() != "acme")
                    );
                    kept.insert((metric.name().to_owned(), severity), value);
                }
            }
            Ok(())
        }
        fn force_flush(&self) -> OTelSdkResult {
            Ok(())
        }
        fn shutdown_with_timeout(&self, _: std::time::Duration) -> OTelSdkResult {
            Ok(())
        }
        fn temporality(&self) -> Temporality {
            Temporality::Cumulative
        }
    }

    #[test]
    fn a_provider_collects_what_the_last_run_found() {
        let kept = Kept::default();
        let provider = SdkMeterProvider::builder()
            .with_reader(PeriodicReader::builder(kept.clone()).build())
            .build();
        let read = |name: &str, severity: &str| {
            provider.force_flush().unwrap();
            let name = format!("agent_audit.integrity.{name}");
            kept.0.lock().unwrap().get(&(name, severity.to_owned())).copied()
        };
        let world = World::new();
        let bell = Bell { broken: true, ..Bell::default() };
        let mut watch = world.builder().with_alert(bell).open().unwrap();
        watch.observe_with(&provider.meter("test"));
        assert_eq!(read("verdict", ""), None, "nothing has been found yet");
        pollster::block_on(watch.run()).unwrap();
        assert_eq!(read("verdict", ""), Some(0));
        assert_eq!(read("tenants", ""), Some(3));
        assert_eq!(read("events", ""), Some(27));
        assert_eq!(read("findings", "tampering"), Some(0));
        world.hot.tamper().truncate(&world.chain("acme"), 15);
        pollster::block_on(watch.run()).unwrap();
        assert_eq!(read("verdict", ""), Some(1));
        assert_eq!(read("findings", "tampering"), Some(1));
        assert_eq!(read("runs", ""), Some(2));
        assert_eq!(read("unreported", ""), Some(1));
    }
}
