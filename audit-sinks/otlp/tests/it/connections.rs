//! What happens on the way: hangs, resets, nobody there, TLS, compression, headers.

use std::time::Duration;

use agent_audit_core::{
    conformance::TestChain,
    sink::{Batch, SegmentOutcome, Sink, SinkError, SinkErrorKind},
};
use agent_audit_otlp::{Compression, OtlpSink};
use agent_audit_test_support::servers::required;
use tokio::{io::AsyncReadExt, net::TcpListener};

use crate::{
    all_of, append,
    collector::{Collector, Way},
    service::{Answer, Service, is_of, log_records},
};

async fn failure(sink: &OtlpSink) -> SinkError {
    sink.append(&Batch::new(vec![TestChain::new().extend(3)])).await.unwrap_err()
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_nothing_was_applied() {
    for way in Way::BOTH {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let sink = OtlpSink::new(way.config(&format!("http://{address}"))).unwrap();
        let error = failure(&sink).await;
        assert_eq!(error.kind(), SinkErrorKind::Unavailable);
        assert!(error.is_retryable() && !error.maybe_applied(), "{error:?}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert_eq!(sink.check().await.unwrap_err().kind(), SinkErrorKind::Unavailable);
    }
}

#[tokio::test]
async fn a_collector_that_hangs_is_given_up_and_the_next_request_reaches_it() {
    for way in Way::BOTH {
        let service = Service::start(way, |_| Answer::Hang).await;
        let config = service.config().with_timeout(Duration::from_millis(300));
        let sink = OtlpSink::new(config).unwrap();
        let batch = Batch::new(vec![TestChain::new().extend(3)]);
        let outcome = sink.append(&batch).await.unwrap().outcomes.pop();
        let Some(SegmentOutcome::Failed { error }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.kind(), SinkErrorKind::Timeout);
        assert!(error.is_retryable() && error.maybe_applied(), "{error:?}");
        service.decide(|_| Answer::Take);
        let outcomes = sink.append(&batch).await.unwrap().outcomes;
        assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{outcomes:?}");
    }
}

#[tokio::test]
async fn a_tenant_that_hangs_lets_the_others_through() {
    for way in Way::BOTH {
        let (mut ill, mut sound) = (TestChain::new(), TestChain::new());
        let chain = ill.chain().clone();
        let service =
            Service::start(
                way,
                move |request| {
                    if is_of(request, &chain) { Answer::Hang } else { Answer::Take }
                },
            )
            .await;
        let config = service.config().with_timeout(Duration::from_millis(300));
        let sink = OtlpSink::new(config).unwrap();
        let segments = [ill.extend(2), sound.extend(2)];
        // Another one is tried first each time, and where it is the one that hangs, that is all.
        let mut through = false;
        for _ in 0..2 {
            let outcomes = append(&sink, &segments.iter().collect::<Vec<_>>()).await;
            assert!(matches!(outcomes[0], SegmentOutcome::Failed { .. }), "{outcomes:?}");
            through |= matches!(outcomes[1], SegmentOutcome::Accepted);
        }
        assert!(through, "{way:?}");
    }
}

#[tokio::test]
async fn a_connection_that_is_reset_is_unavailable_and_may_have_been_applied() {
    for way in Way::BOTH {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                // So much that the request is on its way, and not so much that it is whole.
                let mut some = [0; 200];
                let _ = stream.read_exact(&mut some).await;
                stream.set_zero_linger().unwrap();
            }
        });
        let sink = OtlpSink::new(way.config(&format!("http://{address}"))).unwrap();
        let error = failure(&sink).await;
        assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{way:?}: {error:?}");
        assert!(error.is_retryable() && error.maybe_applied(), "{way:?}: {error:?}");
    }
}

#[tokio::test]
async fn what_is_no_collector_is_told_as_such() {
    for way in Way::BOTH {
        let service = Service::start(
            match way {
                Way::Grpc => Way::Http,
                Way::Http => Way::Grpc,
            },
            |_| Answer::Take,
        )
        .await;
        let base = service.config().endpoint.replace("/v1/logs", "");
        let sink = OtlpSink::new(way.config(&base)).unwrap();
        let shown = all_of(&failure(&sink).await);
        assert!(shown.contains("collector at http://127.0.0.1"), "{shown}");
    }
}

#[tokio::test]
async fn requests_are_packed_and_carry_their_headers() {
    for way in Way::BOTH {
        let service = Service::start(way, |_| Answer::Take).await;
        let config = service
            .config()
            .with_compression(Compression::Gzip)
            .with_header("authorization", "Bearer s3cret");
        let sink = OtlpSink::new(config).unwrap();
        let segment = TestChain::new().extend(10);
        let outcomes = append(&sink, &[&segment]).await;
        assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{outcomes:?}");
        assert_eq!(log_records(&service.last()).len(), 10);
        let headers = service.last_headers();
        assert_eq!(headers["authorization"], "Bearer s3cret");
        let packed = ["grpc-encoding", "content-encoding"].map(|name| headers.get(name));
        assert!(packed.into_iter().flatten().any(|value| value == "gzip"), "{way:?}: {headers:?}");
        let agent = headers["user-agent"].to_str().unwrap();
        assert!(agent.starts_with("agent-audit-otlp/"), "{agent}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_OTLP_TLS_GRPC: servers/with otlp -- cargo test -- --include-ignored"]
async fn a_collector_behind_tls_and_its_client_trust_each_other_by_certificate() {
    for (way, variable) in
        [(Way::Grpc, "AUDIT_TEST_OTLP_TLS_GRPC"), (Way::Http, "AUDIT_TEST_OTLP_TLS_HTTP")]
    {
        let (certificate, key) = (required("AUDIT_TEST_OTLP_CA"), required("AUDIT_TEST_OTLP_KEY"));
        let config = way.config(&required(variable));
        let error = failure(&OtlpSink::new(config.clone()).unwrap()).await;
        assert_eq!(error.kind(), SinkErrorKind::Unavailable);
        assert!(!error.maybe_applied(), "{error:?}");
        assert!(error.to_string().contains("certificate"), "{way:?}: {error}");

        let trusting = config.with_certificate(&certificate);
        let error = failure(&OtlpSink::new(trusting.clone()).unwrap()).await;
        assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{way:?}: it shows no certificate");

        let known = trusting.clone().with_client_certificate(&certificate, &key);
        let sink = OtlpSink::new(known).unwrap();
        let mut chain = TestChain::new();
        let outcomes = append(&sink, &[&chain.extend(3)]).await;
        assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{way:?}: {outcomes:?}");
        assert_eq!(Collector::shared().records(chain.chain()).await.len(), 3);

        // A key is no certificate, and a certificate no key.
        for wrong in [
            trusting.clone().with_certificate("/no/such.pem"),
            trusting.clone().with_certificate(&key),
            trusting.clone().with_client_certificate(&certificate, &certificate),
            trusting.clone().with_client_certificate(&certificate, "/no/such.pem"),
        ] {
            match OtlpSink::new(wrong) {
                Ok(sink) => drop(failure(&sink).await),
                Err(error) => assert_eq!(error.kind(), SinkErrorKind::Misconfigured, "{error}"),
            }
        }
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_OTLP_AUTH_GRPC: servers/with otlp -- cargo test -- --include-ignored"]
async fn a_collector_that_asks_for_a_token_takes_the_right_one_alone() {
    let collector = Collector::shared();
    for (way, base) in [(Way::Grpc, &collector.auth_grpc), (Way::Http, &collector.auth_http)] {
        let with = |token: &str| {
            let config = way.config(base).with_header("authorization", format!("Bearer {token}"));
            OtlpSink::new(config).unwrap()
        };
        let sink = with("s3cret-of-nobody");
        let error = failure(&sink).await;
        assert_eq!(error.kind(), SinkErrorKind::Unauthenticated, "{way:?}: {error}");
        assert!(!all_of(&error).contains("s3cret"), "{error:?}");
        assert_eq!(sink.check().await.unwrap_err().kind(), SinkErrorKind::Unauthenticated);

        let sink = with(&collector.token);
        sink.check().await.unwrap();
        let outcomes = append(&sink, &[&TestChain::new().extend(3)]).await;
        assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{way:?}: {outcomes:?}");
    }
}
