//! The suite of questions on the reference store itself, with real sessions where there are some.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_audit_core::memory::MemorySink;
use agent_audit_query::{
    conformance::{Input, assert_same_answers},
    scan::Scanned,
};

#[test]
fn the_suite_passes_where_nothing_is_between_question_and_records() {
    pollster::block_on(async {
        let input = Input::new("suite-").await;
        let sink = MemorySink::new();
        input.load(&sink).await;
        assert_same_answers(&input, Arc::new(Scanned::new("memory", sink))).await;
    });
}
