//! A collector that asks to be left alone is left alone.

use std::time::Duration;

use agent_audit_core::{
    conformance::TestChain,
    sink::{Batch, Sink, SinkErrorKind},
};
use agent_audit_otlp::OtlpSink;

use crate::{
    collector::Way,
    service::{Answer, Service},
};

#[tokio::test]
async fn throttling_says_how_long_and_nothing_is_sent_before_that() {
    for way in Way::BOTH {
        let service = Service::start(way, |_| Answer::Throttle(3_600)).await;
        let sink = OtlpSink::new(service.config()).unwrap();
        let batch = Batch::new(vec![TestChain::new().extend(2), TestChain::new().extend(2)]);
        let error = sink.append(&batch).await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Exhausted);
        assert!(error.is_retryable() && !error.maybe_applied());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3_600)));

        service.decide(|_| Answer::Take);
        let error = sink.append(&batch).await.unwrap_err();
        assert!(error.retry_after().unwrap() > Duration::from_secs(3_000), "{error:?}");
        assert_eq!(service.requests(), 1, "{way:?}: it was asked again before its time");
    }
}

#[tokio::test]
async fn a_delay_that_is_over_is_forgotten() {
    for way in Way::BOTH {
        let service = Service::start(way, |_| Answer::Throttle(0)).await;
        let sink = OtlpSink::new(service.config()).unwrap();
        let batch = Batch::new(vec![TestChain::new().extend(2)]);
        let error = sink.append(&batch).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::ZERO));
        service.decide(|_| Answer::Take);
        sink.append(&batch).await.unwrap();
    }
}
