//! Content that is gone: lawfully, and as a cover-up.

use agent_audit_core::{
    content::{AbsentReason, Part, PartBody},
    event::{
        content::ContentPurged,
        key::{KeyDestroyed, KeyScope},
        tool::ToolAttempted,
    },
    id::EventId,
    record::Record,
    verify::FindingKind,
};

use super::scene::{Chain, Scene, assert_verdict, lines, only, resign, with_content, write_lines};
use crate::{Filter, export::ExportVerdict};

fn absent(reason: AbsentReason, evidence: Option<EventId>) -> PartBody {
    PartBody::Absent { reason, at: None, evidence }
}

/// A chain whose content at one position is gone, and the event that says why.
fn erased() -> (Scene, EventId) {
    let mut chain = Chain::new("acme", "chain-a").grow(20);
    let destroyed = KeyDestroyed::new("key-1", KeyScope::Subject, "dpo-1", "GDPR Art. 17");
    let evidence = chain.push(destroyed, Vec::new());
    let gone = absent(AbsentReason::Erased, Some(evidence));
    chain.records[5] = Record::new(chain.records[5].event_bytes().to_vec(), vec![gone]);
    let chain = chain.grow(30);
    (Scene::of(vec![chain], vec![vec![30]]), evidence)
}

fn attempts() -> Filter {
    Filter::new().event_type("tool.attempted").tool("refund")
}

#[test]
fn what_went_lawfully_is_no_fault_and_the_reason_comes_with_the_export() {
    let (scene, _) = erased();
    // The reason is in the export anyway.
    let (out, exported) = scene.export(with_content);
    assert_eq!(exported.manifest.counts.evidence, 0);
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!((report.erased, report.purged), (1, 0));

    // The reason was not asked for, and comes beside, proved like everything else.
    let (out, exported) = scene.export(|exporter| exporter.with_content().with_filter(attempts()));
    assert_eq!(exported.manifest.counts.evidence, 1);
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!(report.erased, 1);
    let text = std::fs::read_to_string(out.join("evidence.ndjson")).unwrap();
    assert!(text.contains("GDPR Art. 17"));

    // Without content there is nothing to explain.
    let (_, exported) = scene.export(|exporter| exporter.with_filter(attempts()));
    assert_eq!(exported.manifest.counts.evidence, 0);
}

#[test]
fn a_reason_that_is_taken_out_of_the_export_is_missed() {
    let (scene, evidence) = erased();
    let (out, _) = scene.export(|exporter| exporter.with_content().with_filter(attempts()));
    for name in ["evidence.ndjson", "evidence-proofs.ndjson"] {
        std::fs::remove_file(out.join(name)).unwrap();
    }
    resign(&out, &scene.key, |manifest| manifest.counts.evidence = 0);
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Unsure);
    let names = ["acme/chain-a: record 5", "part \"input\" is gone", &evidence.to_string()];
    only(&report, FindingKind::ContentMissing, &names);
}

/// The holder of the exporter's key makes content disappear, and says that it went lawfully.
#[test]
fn erasure_as_a_cover_up_is_named() {
    let (scene, evidence) = erased();
    let out = scene.whole();
    let honest = lines(&out);
    let hide = |body: PartBody| {
        let record = Record::new(scene.chains[0].records[7].event_bytes().to_vec(), vec![body]);
        let mut all = honest.clone();
        all[7] = record.to_json_line().unwrap();
        write_lines(&out, &all);
        resign(&out, &scene.key, |_| {});
        scene.verify(&out)
    };
    // Without a reason, with one that nobody recorded, and with one that says something else.
    let unknown = EventId::new();
    let note = scene.chains[0].records[3].event().unwrap().event_id;
    for (body, why) in [
        (absent(AbsentReason::Erased, None), "nothing says why".to_owned()),
        (absent(AbsentReason::Erased, Some(unknown)), format!("{unknown}, is not a key.destroyed")),
        (absent(AbsentReason::Erased, Some(note)), format!("{note}, is not a key.destroyed")),
        (
            absent(AbsentReason::Purged, Some(evidence)),
            format!("{evidence}, is not a content.purged"),
        ),
    ] {
        let report = hide(body);
        assert_verdict(&report, ExportVerdict::Unsure);
        let names = ["acme/chain-a: record 7 (event ", "part \"input\" is gone", &why, "line 8]"];
        only(&report, FindingKind::ContentMissing, &names);
    }
    // Without the key it is a file that was changed.
    let record = Record::new(
        scene.chains[0].records[7].event_bytes().to_vec(),
        vec![absent(AbsentReason::Erased, Some(evidence))],
    );
    let out = scene.whole();
    let mut all = lines(&out);
    all[7] = record.to_json_line().unwrap();
    write_lines(&out, &all);
    assert_verdict(&scene.verify(&out), ExportVerdict::Incomplete);
}

/// Who has the exporter's key and not the log's cannot make up the event that explains it.
#[test]
fn a_reason_that_no_checkpoint_covers_explains_nothing_that_one_covers() {
    let mut chain = Chain::new("acme", "chain-a");
    let (reference, body) = Part::text("input", "order A-1").commit();
    chain.push(ToolAttempted::new("refund"), vec![(reference, body)]);
    let mut chain = chain.grow(8);
    // Behind the last checkpoint everybody with the disk can write.
    let evidence = chain.push(ContentPurged::new("shelf", "retention", "rule-1"), Vec::new());
    let gone = absent(AbsentReason::Purged, Some(evidence));
    chain.records[1] = Record::new(chain.records[1].event_bytes().to_vec(), vec![gone]);
    for (filter, size) in [(Filter::new(), 8), (attempts(), 8), (Filter::new(), 9), (attempts(), 9)]
    {
        let scene = Scene::of(vec![chain.clone()], vec![vec![size]]);
        let (out, _) = scene.export(|exporter| exporter.with_content().with_filter(filter));
        let report = scene.verify(&out);
        if size == 9 {
            assert_verdict(&report, ExportVerdict::Intact);
        } else {
            assert_verdict(&report, ExportVerdict::Unsure);
            let names = ["record 1", "is not covered by a checkpoint, and the record is"];
            only(&report, FindingKind::ContentMissing, &names);
        }
    }
}

#[test]
fn evidence_is_no_way_to_bring_other_events_in() {
    let (scene, _) = erased();
    let (out, _) = scene.export(|exporter| exporter.with_content().with_filter(attempts()));
    let other = scene.chains[0].records[2].to_json_line().unwrap();
    let bare = Record::from_json_line(other.as_bytes()).unwrap();
    let bare = Record::new(bare.event_bytes().to_vec(), Vec::new()).to_json_line().unwrap();
    let text = std::fs::read_to_string(out.join("evidence.ndjson")).unwrap();
    std::fs::write(out.join("evidence.ndjson"), format!("{bare}\n{text}")).unwrap();
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    only(&report, FindingKind::Tampered, &["record 2", "put in", "evidence.ndjson line 1"]);
}
