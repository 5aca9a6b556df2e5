//! What a real collector received: names, severity, body, ids, resource.

use agent_audit_core::{
    conformance::TestChain,
    content::Part,
    event::EventType,
    id::TenantId,
    record::Record,
    sink::{ChainRef, Segment, SegmentOutcome},
};
use agent_audit_otlp::OtlpSink;
use serde_json::json;

use crate::{
    append,
    collector::{Collector, Way, attribute},
};

#[tokio::test]
#[ignore = "needs AUDIT_TEST_OTLP_GRPC: servers/with otlp -- cargo test -- --include-ignored"]
async fn a_collector_receives_what_an_operator_can_read() {
    let collector = Collector::shared();
    for way in Way::BOTH {
        let mut chain = TestChain::new();
        let config = collector.config(way).with_resource("service.name", "support");
        let sink = OtlpSink::new(config).unwrap();
        let outcomes = append(&sink, &[&chain.extend(10)]).await;
        assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{way:?}: {outcomes:?}");

        let received = collector.json(&chain.chain().to_string()).await;
        assert_eq!(received.len(), 10);
        for ((resource, record), sent) in received.iter().zip(chain.records()) {
            let event = sent.event().unwrap();
            let tenant = json!({"stringValue": chain.chain().tenant_id.as_str()});
            assert_eq!(attribute(resource, "agent_audit.tenant.id"), &tenant);
            assert_eq!(attribute(resource, "service.name"), &json!({"stringValue": "support"}));
            assert_eq!(record["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_eq!(record["eventName"], format!("agent_audit.{}", event.event_type()));
            let time = event.timestamp_utc.as_nanos().to_string();
            assert_eq!(
                (&record["timeUnixNano"], &record["observedTimeUnixNano"]),
                (&json!(time), &json!(time))
            );
            let text = |name| attribute(record, name)["stringValue"].as_str().unwrap_or_default();
            assert_eq!(text("audit.record.id"), event.event_id.to_string());
            assert_eq!(text("audit.integrity.value"), sent.event_hash().to_string());
            assert_eq!(text("audit.previous_hash"), event.previous_event_hash.to_string());
            assert_eq!(text("audit.stream_id"), chain.chain().to_string());
            let sequence = json!({"intValue": event.sequence.to_string()});
            assert_eq!(attribute(record, "audit.sequence.number"), &sequence);
            assert_eq!(text("gen_ai.conversation.id"), "session-1");
            assert_eq!(text("agent_audit.event").as_bytes(), sent.event_bytes());
        }
        let said: Vec<_> = received
            .iter()
            .map(|(_, record)| {
                let body = record["body"]["stringValue"].as_str().unwrap();
                (record["severityText"].as_str().unwrap(), body)
            })
            .collect();
        assert_eq!(said[2], ("INFO", "model gpt-5-2025-08-07 ok: tools refund"));
        assert_eq!(said[5], ("INFO", "review review-0: approve by human reviewer-7 after 4200 ms"));
        assert_eq!(said[7], ("INFO", "tool refund attempted (destructive)"));
        assert_eq!(said[8], ("INFO", "tool refund ok"));
        let tool = &received[8].1;
        assert_eq!(
            attribute(tool, "gen_ai.operation.name"),
            &json!({"stringValue": "execute_tool"})
        );
        assert_eq!(attribute(tool, "gen_ai.tool.name"), &json!({"stringValue": "refund"}));
        assert_eq!(attribute(tool, "gen_ai.tool.call.id"), &json!({"stringValue": "call_2"}));
        let model = &received[2].1;
        assert_eq!(attribute(model, "gen_ai.request.model"), &json!({"stringValue": "gpt-5"}));
        let text = serde_json::to_string(&received).unwrap();
        assert!(!text.contains("within policy") && !text.contains("Wo bleibt"), "no content");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_OTLP_GRPC: servers/with otlp -- cargo test -- --include-ignored"]
async fn a_collector_receives_content_when_asked_to() {
    let collector = Collector::shared();
    for way in Way::BOTH {
        let sink = OtlpSink::new(collector.config(way).with_content(true)).unwrap();
        let mut chain = TestChain::new();
        chain.extend(9);
        chain.extend_with(vec![Part::new("bytes", "application/octet-stream", [255, 0]).commit()]);
        let outcomes = append(&sink, &[&chain.segment(0..=9)]).await;
        assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{way:?}: {outcomes:?}");
        let received = collector.json(&chain.chain().to_string()).await;
        let arguments = attribute(&received[7].1, "gen_ai.tool.call.arguments");
        assert_eq!(arguments, &json!({"stringValue": "{\"eur\": 19.90}"}));
        assert!(received[5].1.to_string().contains("within policy"));
        assert!(received[9].1.to_string().contains("\"bytesValue\":\"/wA=\""), "{}", received[9].1);
    }
}

/// Every type of the taxonomy passes through a collector, and comes back byte for byte.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_OTLP_GRPC: servers/with otlp -- cargo test -- --include-ignored"]
async fn every_event_type_comes_back_byte_for_byte() {
    let collector = Collector::shared();
    for way in Way::BOTH {
        let chain = ChainRef::new(
            TenantId::new(format!("tenant-{}", agent_audit_core::id::ChainId::random())).unwrap(),
            "all-types".parse().unwrap(),
        );
        let mut previous = agent_audit_core::hash::Hash::ZERO;
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../audit-core/tests/golden/1.0");
        let records: Vec<Record> = (0..)
            .zip(EventType::ALL)
            .map(|(sequence, event_type)| {
                let bytes = std::fs::read(format!("{golden}/{event_type}.json")).unwrap();
                let mut event =
                    agent_audit_core::event::Event::from_slice(bytes.trim_ascii_end()).unwrap();
                event.tenant_id = chain.tenant_id.clone();
                event.chain_id = chain.chain_id.clone();
                event.sequence = sequence;
                event.previous_event_hash = previous;
                let record = Record::new(event.canonical_bytes().unwrap(), Vec::new());
                previous = record.event_hash();
                record
            })
            .collect();
        let segment = Segment::new(chain.clone(), records.clone()).unwrap();
        let sink = OtlpSink::new(collector.config(way)).unwrap();
        let outcomes = append(&sink, &[&segment]).await;
        assert!(matches!(outcomes[..], [SegmentOutcome::Accepted]), "{way:?}: {outcomes:?}");
        assert_eq!(collector.records(&chain).await, records);
    }
}
