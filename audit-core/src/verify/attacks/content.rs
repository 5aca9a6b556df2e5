//! Content changed, guessed, taken away and oversized.

use super::*;

#[test]
fn attack_21_content_changed_and_hash_intact() {
    let mut changed = ledger();
    let record = changed.record(6);
    let mut parts = record.parts().to_vec();
    let PartBody::Clear { bytes, .. } = &mut parts[0] else { panic!("clear") };
    bytes[0] ^= 1;
    changed.records[6] = Record::new(record.event_bytes().to_vec(), parts.clone()).to_bytes();
    found(&changed, &[(FindingKind::ContentMismatch, 6, 6)]);
    assert!(sentences(&changed.verify())[0].contains("part \"output\" was changed"));

    // Another salt; a part taken away; parts exchanged.
    let bodies = record.parts();
    let PartBody::Clear { bytes, .. } = &bodies[0] else { panic!("clear") };
    let resalted = PartBody::Clear { salt: Salt::random(), bytes: bytes.clone() };
    for parts in [
        vec![resalted, bodies[1].clone()],
        vec![bodies[0].clone()],
        vec![bodies[0].clone(), bodies[1].clone(), bodies[1].clone()],
    ] {
        changed.records[6] = Record::new(record.event_bytes().to_vec(), parts).to_bytes();
        found(&changed, &[(FindingKind::ContentMismatch, 6, 6)]);
    }
}

#[test]
fn attack_24_erased_content_cannot_be_guessed() {
    let mut ledger = Ledger::new("acme", "chain-1", 5);
    while ledger.size() < 9 {
        ledger.work();
    }
    let destroyed = ledger.append(destroyed(), []);
    let purged = ledger.append(ContentPurged::new("shelf", "retention", "policy-90d"), []);
    ledger.append(ChainClosed::new("shutdown"), []);
    ledger.checkpoint();
    let secret = b"answer 6 for ann@example.com";
    let record = ledger.record(6);
    let view = record.view().unwrap();
    let named = view.content().next().unwrap();
    assert_eq!(record.content("output"), Some(&secret[..]));
    // The commitment of the same text elsewhere is another one, and no unsalted digest fits.
    assert_ne!(
        Part::text("output", "answer 6 for ann@example.com").commit().0.commitment,
        named.commitment
    );
    assert_ne!(commitment(&Salt::from_bytes([0; 32]), secret), named.commitment);
    assert_ne!(leaf(secret), named.commitment);
    // Erased: salt and text are gone, and everything still verifies.
    let gone = absent(AbsentReason::Erased, Some(destroyed));
    let purged = absent(AbsentReason::Purged, Some(purged));
    let PartBody::Clear { salt, .. } = &record.parts()[0] else { panic!("clear") };
    let erased = Record::new(record.event_bytes().to_vec(), vec![gone, purged]).to_bytes();
    assert!(memchr::memmem::find(&erased, secret).is_none());
    assert!(memchr::memmem::find(&erased, salt.as_bytes()).is_none());
    ledger.records[6] = erased;
    for (place, report) in everywhere(&ledger) {
        assert_eq!(report.findings, [], "{place}");
        assert_eq!((report.erased, report.purged), (1, 1), "{place}");
        assert_eq!(report.verdict(), Verdict::Intact, "{place}");
    }
}

fn destroyed() -> KeyDestroyed {
    KeyDestroyed::new("key-1", KeyScope::Subject, "dpo-1", "GDPR Art. 17")
}

fn absent(reason: AbsentReason, evidence: Option<EventId>) -> PartBody {
    PartBody::Absent { reason, at: None, evidence }
}

#[test]
fn attack_24_content_removed_without_a_reason_that_the_chain_gives() {
    let mut honest = Ledger::new("acme", "chain-1", 5);
    while honest.size() < 9 {
        honest.work();
    }
    let evidence = honest.append(destroyed(), []);
    honest.append(ChainClosed::new("shutdown"), []);
    honest.checkpoint();
    let part = |body: PartBody| {
        let mut ledger = honest.clone();
        let record = ledger.record(6);
        let parts = vec![body, record.parts()[1].clone()];
        ledger.records[6] = Record::new(record.event_bytes().to_vec(), parts).to_bytes();
        ledger
    };
    let intact = part(absent(AbsentReason::Erased, Some(evidence)));
    for (place, report) in everywhere(&intact) {
        assert_eq!(faults(&report), [], "{place}");
    }
    for (reason, evidence) in [
        // Nothing, an event that is nowhere, one that says something else, one of another reason.
        (AbsentReason::Purged, None),
        (AbsentReason::Erased, Some(EventId::new())),
        (AbsentReason::Erased, Some(honest.record(3).event().unwrap().event_id)),
        (AbsentReason::Purged, Some(evidence)),
    ] {
        let removed = part(absent(reason, evidence));
        for (place, report) in everywhere(&removed) {
            let expected = [(FindingKind::ContentMissing, 6, 6)];
            assert_eq!(faults(&report), expected, "{place}: {:#?}", sentences(&report));
            assert!(report.findings[0].detail.contains("part \"output\" is gone"), "{place}");
            assert_eq!(report.exit_code(), 2, "{place}");
        }
    }
}

#[test]
fn attack_24_content_removed_in_a_store_and_explained_in_the_journal() {
    let mut ledger = Ledger::new("acme", "chain-1", 5);
    while ledger.size() < 9 {
        ledger.work();
    }
    let evidence = ledger.append(destroyed(), []);
    ledger.append(ChainClosed::new("shutdown"), []);
    ledger.checkpoint();
    let report = |evidence: EventId, journal: &[Vec<u8>]| {
        let mut stored = ledger.records[..9].to_vec();
        let record = ledger.record(6);
        let parts = record.parts().iter();
        let parts = parts.map(|_| absent(AbsentReason::Erased, Some(evidence))).collect();
        stored[6] = Record::new(record.event_bytes().to_vec(), parts).to_bytes();
        seams::seam(&ledger, journal, &stored)
    };
    for from in [0, 5, 9] {
        assert_eq!(faults(&report(evidence, &ledger.records[from..])), [], "{from}");
        let faults = faults(&report(EventId::new(), &ledger.records[from..]));
        assert_eq!(faults, [(FindingKind::ContentMissing, 6, 6)], "{from}");
    }
}

#[test]
fn attack_24_sealed_garbage() {
    let honest = ledger();
    let sealed = |algorithm, more: usize| {
        let mut ledger = honest.clone();
        let record = ledger.record(6);
        let len = usize::try_from(record.view().unwrap().content().next().unwrap().bytes).unwrap();
        let body = Sealed::new("k", algorithm, vec![0; 12], vec![7; len + more]);
        let parts = vec![PartBody::Sealed(body), record.parts()[1].clone()];
        ledger.records[6] = Record::new(record.event_bytes().to_vec(), parts).to_bytes();
        ledger
    };
    assert_eq!(faults(&sealed(1, 48).verify()), []);
    found(&sealed(1, 47), &[(FindingKind::ContentMismatch, 6, 6)]);
    found(&sealed(1, 0), &[(FindingKind::ContentMismatch, 6, 6)]);
    for (place, report) in everywhere(&sealed(9, 48)) {
        assert_eq!(faults(&report), [(FindingKind::UnknownSeal, 6, 6)], "{place}");
        assert_eq!(report.exit_code(), 2, "{place}");
    }
}

#[test]
fn attack_29_oversized_payload_is_recorded_whole() {
    let mut ledger = Ledger::new("acme", "chain-1", 100);
    let huge: Vec<u8> = (0..8u32 << 20).map(|at| at.to_le_bytes()[at as usize % 3]).collect();
    ledger.append(
        ToolAttempted::new("fill"),
        [Part::new("input", "application/octet-stream", huge.clone()), Part::text("empty", "")],
    );
    ledger.append(ChainClosed::new("shutdown"), []);
    ledger.checkpoint();
    assert_eq!(ledger.record(1).content("input"), Some(&huge[..]));
    for (place, report) in everywhere(&ledger) {
        assert_eq!(report.verdict(), Verdict::Intact, "{place}: {:#?}", sentences(&report));
    }
    let end = ledger.records[1].len() - 42;
    ledger.records[1][end] ^= 1;
    found(&ledger, &[(FindingKind::ContentMismatch, 1, 1)]);
}
