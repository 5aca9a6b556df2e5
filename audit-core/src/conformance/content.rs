//! The lines of the contract about content: what was received comes back byte for byte.

use super::{
    Applies, Harness, TestChain,
    cases::{expect_stored, store},
};
use crate::{
    content::{AbsentReason, Part, PartBody, Sealed},
    id::EventId,
    record::Record,
    sink::Segment,
    timestamp::Timestamp,
};

pub(super) async fn content_of_every_size_comes_back(harness: &dyn Harness) -> Applies {
    if !harness.capabilities().content {
        return Applies::No;
    }
    let mut chain = TestChain::new();
    let sink = harness.sink().await;
    let octets = "application/octet-stream";
    for size in [0, 1, 64 << 10, 5 << 20] {
        let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
        let parts = [Part::new("output", octets, bytes), Part::new("empty", octets, Vec::new())];
        store(&sink, &[chain.extend_with(parts.into_iter().map(Part::commit).collect())]).await;
    }
    let many = (0..300).map(|at| Part::text(format!("context.{at}"), "one of many").commit());
    store(&sink, &[chain.extend_with(many.collect())]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn content_in_every_state_comes_back(harness: &dyn Harness) -> Applies {
    if !harness.capabilities().content {
        return Applies::No;
    }
    let absent = |reason, at, evidence| PartBody::Absent { reason, at, evidence };
    let bodies = [
        PartBody::Sealed(Sealed::new("tenant-key-1", 1, vec![7; 12], vec![9; 80])),
        PartBody::Sealed(Sealed::new("", 0, Vec::new(), Vec::new())),
        absent(AbsentReason::Erased, None, None),
        absent(AbsentReason::Purged, Some(Timestamp::from_nanos(5)), Some(EventId::new())),
        absent(AbsentReason::Erased, Some(Timestamp::from_nanos(u64::MAX)), None),
    ];
    let mut content: Vec<_> = bodies
        .into_iter()
        .enumerate()
        .map(|(at, body)| (Part::text(format!("part.{at}"), "hidden").commit().0, body))
        .collect();
    content.insert(2, Part::text("clear", "between the others").commit());
    let mut chain = TestChain::new();
    store(&harness.sink().await, &[chain.extend_with(content)]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

pub(super) async fn content_of_any_bytes_comes_back(harness: &dyn Harness) -> Applies {
    if !harness.capabilities().content {
        return Applies::No;
    }
    let texts = [
        "a\0b\u{1}\u{7f}\u{85}\u{2028}\r\n\t\\\"'`;--",
        "\u{feff}Ünïcödé 👩‍👩‍👧 \u{202e}rtl\u{10ffff}",
        r#"{"n": 1.0, "n": 1e400, "deep": [[[]]]}"#,
        "\u{1b}[31m ' OR 1=1; DROP TABLE events; $1 ?1 %s {}",
    ];
    let mut content: Vec<_> = (0..)
        .zip(texts)
        .map(|(at, text): (usize, _)| Part::text(format!("text.{at}"), text).commit())
        .collect();
    let not_text: Vec<u8> = (0..=u8::MAX).rev().chain([0xc3, 0x28, 0xed, 0xa0, 0x80]).collect();
    content.push(Part::new("bytes", "application/octet-stream", not_text).commit());
    let mut chain = TestChain::new();
    store(&harness.sink().await, &[chain.extend_with(content)]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}

/// Only the event is under the hash: the same event with less content is the same event.
pub(super) async fn content_that_went_since_is_no_conflict(harness: &dyn Harness) -> Applies {
    let mut chain = TestChain::new();
    let segment = chain.extend_with(vec![Part::text("output", "personal").commit()]);
    let gone = PartBody::Absent { reason: AbsentReason::Erased, at: None, evidence: None };
    let erased = Record::new(segment.records()[0].event_bytes().to_vec(), vec![gone]);
    let erased = Segment::new(chain.chain().clone(), vec![erased]).expect("it is the same event");
    let sink = harness.sink().await;
    store(&sink, &[segment]).await;
    store(&sink, &[erased]).await;
    expect_stored(harness, &chain).await;
    Applies::Yes
}
