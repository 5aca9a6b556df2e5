//! The suite of questions on the reference store itself, with real sessions where there are some.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use agent_audit_core::{
    memory::MemorySink,
    sink::{Batch, Segment, Sink},
};
use agent_audit_query::{
    EventStore, Joined,
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

#[test]
fn the_suite_passes_on_several_stores_that_are_asked_as_one() {
    pollster::block_on(async {
        let input = Input::new("joined-").await;
        let chains = input.records().chains();
        let stores = chains.iter().enumerate().map(|(at, chain)| -> Arc<dyn EventStore> {
            let sink = MemorySink::new();
            pollster::block_on(async {
                let segment = Segment::new(chain.clone(), input.records().records(chain)).unwrap();
                sink.append(&Batch::new(vec![segment])).await.unwrap();
            });
            Arc::new(Scanned::new(format!("memory-{at}"), sink))
        });
        let joined = Joined::new(stores.collect());
        assert_same_answers(&input, Arc::new(joined)).await;
    });
}
