//! Partial success and refusals: what can be taken is taken, and the refused event is found.

use agent_audit_core::{
    conformance::TestChain,
    sink::{Batch, SegmentOutcome, Sink, SinkErrorKind},
};
use agent_audit_otlp::OtlpSink;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use tonic::Code;

use crate::{
    all_of, append,
    collector::Way,
    service::{Answer, Service, is_of, log_records, text},
};

/// How many records of a request are of this event.
fn poisoned(request: &ExportLogsServiceRequest, event_id: &str) -> i64 {
    let records = log_records(request).into_iter();
    let ill = records.filter(|record| text(record, "audit.record.id") == Some(event_id));
    i64::try_from(ill.count()).unwrap()
}

#[tokio::test]
async fn partial_success_is_no_success_and_the_refused_event_is_found() {
    for way in Way::BOTH {
        let (mut ill, mut sibling) = (TestChain::new(), TestChain::new());
        let (failing, sound) = (ill.extend(20), sibling.extend(20));
        let event_id = ill.records()[13].event().unwrap().event_id.to_string();
        let name = event_id.clone();
        let service =
            Service::start(way, move |request| Answer::Partial(poisoned(request, &name))).await;
        let sink = OtlpSink::new(service.config()).unwrap();

        let outcomes = append(&sink, &[&failing, &sound]).await;
        let expected = matches!(
            outcomes[..],
            [SegmentOutcome::Prefix { through: 12 }, SegmentOutcome::Accepted]
        );
        assert!(expected, "{way:?}: {outcomes:?}");

        // What is left begins with the refused event, as delivery sends it.
        let outcomes = append(&sink, &[&ill.segment(13..=19), &sound]).await;
        let [SegmentOutcome::Failed { error }, SegmentOutcome::Accepted] = &outcomes[..] else {
            panic!("{way:?}: {outcomes:?}");
        };
        assert_eq!(error.kind(), SinkErrorKind::Rejected);
        assert!(!error.is_retryable() && !error.maybe_applied(), "{error}");
        let place = format!("event 13 of chain {}", ill.chain());
        assert!(error.to_string().contains(&place), "{error}");
        assert!(!all_of(error).contains("canary-words"), "{error:?}");
    }
}

#[tokio::test]
async fn a_refused_request_is_parted_until_the_refused_event_is_alone() {
    for way in Way::BOTH {
        for code in [Code::InvalidArgument, Code::Internal] {
            let mut chain = TestChain::new();
            let segment = chain.extend(64);
            let event_id = chain.records()[40].event().unwrap().event_id.to_string();
            let service = Service::start(way, move |request| {
                if poisoned(request, &event_id) > 0 { Answer::Fail(code) } else { Answer::Take }
            })
            .await;
            let sink = OtlpSink::new(service.config()).unwrap();
            let outcomes = append(&sink, &[&segment]).await;
            let found = matches!(outcomes[..], [SegmentOutcome::Prefix { through: 39 }]);
            assert!(found, "{way:?} {code:?}: {outcomes:?}");
            assert!(service.requests() <= 2 * 7 + 1, "{} requests", service.requests());
        }
    }
}

#[tokio::test]
async fn a_fault_of_one_tenant_fails_nobody_else() {
    for way in Way::BOTH {
        for code in [Code::Unavailable, Code::InvalidArgument] {
            let mut ill = TestChain::new();
            let mut others: Vec<_> = (0..5).map(|_| TestChain::new()).collect();
            let mut segments = vec![ill.extend(3)];
            segments.extend(others.iter_mut().map(|chain| chain.extend(3)));
            let chain = ill.chain().clone();
            let service = Service::start(way, move |request| {
                if is_of(request, &chain) { Answer::Fail(code) } else { Answer::Take }
            })
            .await;
            let sink = OtlpSink::new(service.config()).unwrap();
            // Whichever tenant is tried first.
            for _ in 0..7 {
                let outcomes = append(&sink, &segments.iter().collect::<Vec<_>>()).await;
                let [SegmentOutcome::Failed { error }, rest @ ..] = &outcomes[..] else {
                    panic!("{way:?}: {outcomes:?}");
                };
                assert_eq!(error.is_retryable(), code == Code::Unavailable, "{error}");
                assert!(rest.iter().all(|o| matches!(o, SegmentOutcome::Accepted)), "{rest:?}");
            }
        }
    }
}

/// Nobody asks a thousand times what is the same for everybody.
#[tokio::test]
async fn an_outage_of_everybody_is_not_asked_for_tenant_by_tenant() {
    for way in Way::BOTH {
        let mut chains: Vec<_> = (0..100).map(|_| TestChain::new()).collect();
        let segments: Vec<_> = chains.iter_mut().map(|chain| chain.extend(1)).collect();
        let service = Service::start(way, |_| Answer::Fail(Code::Unavailable)).await;
        let sink = OtlpSink::new(service.config()).unwrap();
        let outcomes = append(&sink, &segments.iter().collect::<Vec<_>>()).await;
        for outcome in outcomes {
            let SegmentOutcome::Failed { error } = outcome else { panic!("{outcome:?}") };
            assert!(error.is_retryable(), "{error}");
        }
        assert_eq!(service.requests(), 4, "the whole, and three tenants");
        service.decide(|_| Answer::Take);
        let outcomes = append(&sink, &segments.iter().collect::<Vec<_>>()).await;
        assert!(outcomes.iter().all(|o| matches!(o, SegmentOutcome::Accepted)));
    }
}

/// What a person has to mend blocks the sink, and halts no chain.
#[tokio::test]
async fn credentials_and_set_up_are_faults_of_the_sink() {
    for way in Way::BOTH {
        for (code, kind) in [
            (Code::Unauthenticated, SinkErrorKind::Unauthenticated),
            (Code::PermissionDenied, SinkErrorKind::PermissionDenied),
            (Code::Unimplemented, SinkErrorKind::Misconfigured),
        ] {
            let service = Service::start(way, move |_| Answer::Fail(code)).await;
            let config = service.config().with_header("authorization", "Bearer s3cret");
            let sink = OtlpSink::new(config).unwrap();
            let batch = Batch::new(vec![TestChain::new().extend(2), TestChain::new().extend(2)]);
            let error = sink.append(&batch).await.unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(!error.is_retryable());
            let shown = all_of(&error);
            assert!(!shown.contains("s3cret") && !shown.contains("canary-words"), "{shown}");
            assert_eq!(service.requests(), 1, "once is enough");
            assert_eq!(sink.check().await.unwrap_err().kind(), kind);
        }
    }
}
