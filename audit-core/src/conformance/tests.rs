//! The suite itself: it passes a sink that keeps the contract and names each line that one breaks.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use super::*;
use crate::{
    hash::Hash,
    sink::{Batch, BatchAck, Head, Segment, SegmentOutcome, SinkError, SinkErrorKind, SinkInfo},
};

/// What is wrong with a sink; `None` is right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    ForgetsAtRestart,
    Overwrites,
    StoresTwice,
    TakesHoles,
    TakesUnlinked,
    StopsAtAConflict,
    MixesTenants,
    SaysTheWrongHead,
    LosesContent,
    FailsSilently,
    CheckWrites,
    ShowsContent,
    CutsSegments,
}

type Chains = BTreeMap<ChainRef, Vec<Record>>;

#[derive(Debug)]
struct Toy {
    defect: Defect,
    info: SinkInfo,
    chains: Arc<Mutex<Chains>>,
    ill: Arc<Mutex<Option<ChainRef>>>,
}

struct Toys {
    defect: Defect,
    chains: Arc<Mutex<Chains>>,
    ill: Arc<Mutex<Option<ChainRef>>>,
}

#[async_trait]
impl Harness for Toys {
    async fn sink(&self) -> Arc<dyn Sink> {
        if self.defect == Defect::ForgetsAtRestart {
            self.chains.lock().unwrap().clear();
        }
        Arc::new(Toy {
            defect: self.defect,
            info: SinkInfo::new("toy", "toy").with_readable_heads(),
            chains: Arc::clone(&self.chains),
            ill: Arc::clone(&self.ill),
        })
    }
    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let key = key(self.defect, chain);
        self.chains.lock().unwrap().get(&key).cloned().unwrap_or_default()
    }
    async fn faulty(&self, fault: Fault, chain: &ChainRef) -> Option<Arc<dyn Sink>> {
        let sink = self.sink().await;
        if fault == Fault::AfterCommit {
            return Some(lose_answers(sink));
        }
        *self.ill.lock().unwrap() = Some(chain.clone());
        Some(sink)
    }
    async fn mend(&self) {
        *self.ill.lock().unwrap() = None;
    }
}

fn key(defect: Defect, chain: &ChainRef) -> ChainRef {
    let mut key = chain.clone();
    if defect == Defect::MixesTenants {
        key.tenant_id = "everybody".parse().unwrap();
    }
    key
}

impl Toy {
    fn store(&self, segment: &Segment) -> SegmentOutcome {
        let failed =
            |kind, text: &str| SegmentOutcome::Failed { error: SinkError::new(kind, text) };
        if self.ill.lock().unwrap().as_ref() == Some(segment.chain()) {
            if self.defect == Defect::ShowsContent {
                let content = segment.records()[0].content("output").unwrap_or_default();
                return failed(SinkErrorKind::Unavailable, str::from_utf8(content).unwrap());
            }
            if self.defect != Defect::FailsSilently {
                return failed(SinkErrorKind::Unavailable, "ill");
            }
            return SegmentOutcome::Accepted;
        }
        let mut chains = self.chains.lock().unwrap();
        let stored = chains.entry(key(self.defect, segment.chain())).or_default();
        let next = stored.len() as u64;
        let head = stored.last().map_or(Hash::ZERO, Record::event_hash);
        let linked = segment.records()[0].view().unwrap().previous_event_hash == head;
        if segment.first() > next && self.defect != Defect::TakesHoles {
            return failed(SinkErrorKind::Rejected, "a hole");
        }
        if segment.first() == next && !linked && self.defect != Defect::TakesUnlinked {
            return failed(SinkErrorKind::Rejected, "not linked");
        }
        let most = if self.defect == Defect::CutsSegments { 1_000 } else { usize::MAX };
        for (sequence, hash, record) in segment.iter().take(most) {
            let mut record = record.clone();
            if self.defect == Defect::LosesContent {
                record = Record::new(record.event_bytes().to_vec(), Vec::new());
            }
            let at = usize::try_from(sequence).unwrap();
            match stored.get(at).map(Record::event_hash) {
                Some(_) if self.defect == Defect::StoresTwice => stored.insert(at, record),
                Some(stored_hash) if stored_hash == *hash => {}
                Some(_) if self.defect == Defect::Overwrites => stored[at] = record,
                Some(_) => return SegmentOutcome::Conflict { sequence },
                None => stored.push(record),
            }
        }
        SegmentOutcome::Accepted
    }
}

#[async_trait]
impl Sink for Toy {
    fn info(&self) -> &SinkInfo {
        &self.info
    }
    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let mut outcomes: Vec<SegmentOutcome> = Vec::new();
        for segment in batch.segments() {
            let stop = matches!(outcomes.last(), Some(SegmentOutcome::Conflict { .. }));
            outcomes.push(if stop && self.defect == Defect::StopsAtAConflict {
                let error = SinkError::new(SinkErrorKind::Other, "stopped");
                SegmentOutcome::Failed { error }
            } else {
                self.store(segment)
            });
        }
        Ok(BatchAck::new(outcomes))
    }
    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        let chains = self.chains.lock().unwrap();
        let Some(stored) = chains.get(&key(self.defect, chain)) else { return Ok(None) };
        let extra = u64::from(self.defect == Defect::SaysTheWrongHead);
        let head = |last: &Record| Head::new(stored.len() as u64 - 1 + extra, last.event_hash());
        Ok(stored.last().map(head))
    }
    async fn check(&self) -> Result<(), SinkError> {
        if self.defect == Defect::CheckWrites {
            for stored in self.chains.lock().unwrap().values_mut() {
                stored.push(Record::new(b"check".to_vec(), Vec::new()));
            }
        }
        Ok(())
    }
    async fn close(&self) -> Result<(), SinkError> {
        Ok(())
    }
}

async fn failing(defect: Defect) -> BTreeSet<&'static str> {
    let mut failing = BTreeSet::new();
    for case in CASES {
        let harness = Toys { defect, chains: Arc::default(), ill: Arc::default() };
        let run = tokio::spawn(async move { case.run(&harness).await });
        match run.await {
            Ok(applies) => assert_eq!(applies, Applies::Yes, "{}", case.name),
            Err(_) => drop(failing.insert(case.name)),
        }
    }
    failing
}

#[tokio::test]
async fn a_sink_that_keeps_the_contract_passes() {
    assert_eq!(failing(Defect::None).await, BTreeSet::new());
}

#[tokio::test]
async fn each_broken_line_is_named() {
    for (defect, line) in [
        (Defect::ForgetsAtRestart, "an_acknowledgement_survives_a_restart"),
        (Defect::Overwrites, "another_event_at_a_position_is_a_conflict"),
        (Defect::Overwrites, "a_conflict_names_the_first_position_that_differs"),
        (Defect::StoresTwice, "the_same_segment_again_is_accepted_once"),
        (Defect::StoresTwice, "an_overlapping_segment_is_accepted_once"),
        (Defect::StoresTwice, "the_same_segment_twice_in_a_batch_is_accepted_once"),
        (Defect::StoresTwice, "an_append_whose_answer_was_lost_is_made_good"),
        (Defect::TakesHoles, "a_hole_is_never_stored"),
        (Defect::TakesUnlinked, "an_event_that_is_not_linked_is_never_stored"),
        (Defect::StopsAtAConflict, "a_conflict_stops_its_own_chain_alone"),
        (Defect::MixesTenants, "tenants_with_the_same_chain_id_are_apart"),
        (Defect::SaysTheWrongHead, "a_chain_goes_on_from_its_head"),
        (Defect::LosesContent, "content_of_every_size_comes_back"),
        (Defect::LosesContent, "content_in_every_state_comes_back"),
        (Defect::LosesContent, "content_of_any_bytes_comes_back"),
        (Defect::FailsSilently, "an_append_that_failed_before_it_was_stored_is_made_good"),
        (Defect::FailsSilently, "a_fault_of_one_tenant_leaves_the_others_alone"),
        (Defect::CheckWrites, "check_writes_nothing"),
        (Defect::ShowsContent, "errors_show_neither_content_nor_credentials"),
        (Defect::CutsSegments, "a_segment_longer_than_a_batch_is_stored"),
    ] {
        let failing = failing(defect).await;
        assert!(failing.contains(line), "{defect:?} breaks {failing:?}");
        assert!(failing.len() < CASES.len(), "{defect:?} breaks everything");
    }
}
