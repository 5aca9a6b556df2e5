//! Stores that do not hold what was signed, and directories that are not fit.

use std::{cell::Cell, fs};

use agent_audit_core::{
    content::{Part, PartBody},
    event::Other,
    record::Record,
};

use super::scene::{Scene, assert_verdict, with_content};
use crate::{
    QueryErrorKind,
    export::{ExportVerdict, Exporter},
};

/// Exports from a store that was changed behind its checkpoints, and returns why it stops.
fn refused(change: impl FnOnce(&mut Scene)) -> String {
    let mut scene = Scene::new();
    let checkpoints = scene.checkpoints();
    change(&mut scene);
    let out = scene.out();
    let error = scene.try_export(&out, &checkpoints, with_content).unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Corrupt, "{error}");
    assert!(!out.exists(), "nothing is left behind");
    error.to_string()
}

#[test]
fn a_store_that_does_not_agree_with_the_signed_checkpoints_is_not_exported() {
    let rewritten = refused(|scene| {
        scene.chains[0] = scene.chains[0].rewritten(20, |event| {
            event.payload = Other::custom("forged").unwrap().into();
        });
    });
    assert!(rewritten.contains("chain acme/chain-a") && rewritten.contains("of size 36"));
    assert!(rewritten.contains("does not agree with what was signed"), "{rewritten}");
    assert!(rewritten.contains("run `agent-audit verify`"), "{rewritten}");

    let edited = refused(|scene| {
        let record = &mut scene.chains[0].records[20];
        let mut event = record.event().unwrap();
        event.payload = Other::custom("forged").unwrap().into();
        *record = Record::new(event.canonical_bytes().unwrap(), record.parts().to_vec());
    });
    assert!(edited.contains("does not follow the one before"), "{edited}");

    let cut = refused(|scene| scene.chains[0].records.truncate(30));
    assert!(cut.contains("holds 30 of its events") && cut.contains("there were 36"), "{cut}");

    let removed = refused(|scene| {
        scene.chains[0].records.remove(12);
    });
    assert!(removed.contains("no event at position 12"), "{removed}");

    let gone = refused(|scene| {
        scene.chains.remove(1);
    });
    assert!(gone.contains("chain acme/chain-b") && gone.contains("none of its events"), "{gone}");

    let tail = refused(|scene| {
        let record = &mut scene.chains[0].records[37];
        let mut event = record.event().unwrap();
        event.payload = Other::custom("forged").unwrap().into();
        *record = Record::new(event.canonical_bytes().unwrap(), record.parts().to_vec());
    });
    assert!(tail.contains("does not follow the one before"), "{tail}");
}

#[test]
fn content_that_is_not_what_its_event_committed_to_is_not_exported() {
    let other = refused(|scene| {
        let (_, body) = Part::text("input", "another order").commit();
        let record = &mut scene.chains[0].records[21];
        *record = Record::new(record.event_bytes().to_vec(), vec![body]);
    });
    assert!(other.contains("is not what the event committed to"), "{other}");
    let none = refused(|scene| {
        let record = &mut scene.chains[0].records[21];
        *record = Record::new(record.event_bytes().to_vec(), Vec::<PartBody>::new());
    });
    assert!(none.contains("names 1 parts and is stored with 0"), "{none}");
}

#[test]
fn an_export_has_a_directory_of_its_own() {
    let scene = Scene::new();
    let out = scene.out();
    fs::create_dir(&out).unwrap();
    scene.try_export(&out, &scene.checkpoints(), |exporter| exporter).unwrap();
    assert_verdict(&scene.verify(&out), ExportVerdict::Intact);
    let before = fs::read(out.join("manifest.json")).unwrap();
    let error = scene.try_export(&out, &scene.checkpoints(), |exporter| exporter).unwrap_err();
    assert_eq!(error.kind(), QueryErrorKind::Invalid);
    assert!(error.to_string().contains("is not empty"), "{error}");
    assert_eq!(fs::read(out.join("manifest.json")).unwrap(), before);
    let error =
        scene.try_export(&scene.path("no/where"), &scene.checkpoints(), |exporter| exporter);
    assert_eq!(error.unwrap_err().kind(), QueryErrorKind::NotFound);
}

#[test]
fn what_was_written_goes_when_an_export_is_dropped() {
    let scene = Scene::new();
    let (ledger, checkpoints) = (scene.ledger(), scene.checkpoints());
    let out = scene.out();
    fs::create_dir(&out).unwrap();
    let seen = Cell::new(0);
    // The store answers at once, so that the export is only dropped by a panic on the way.
    let stop = std::panic::AssertUnwindSafe(|| {
        let progress = |_| panic!("stop");
        let exporter = Exporter::new(&ledger, &scene.key, &checkpoints).with_progress(&progress);
        seen.set(1);
        let _ = pollster::block_on(exporter.write(&out));
    });
    assert!(std::panic::catch_unwind(stop).is_err());
    assert_eq!(seen.get(), 1);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
}

#[test]
fn checkpoints_of_another_tenant_are_refused() {
    let scene = Scene::new();
    let mut other = Scene::new();
    other.chains = vec![super::scene::Chain::new("globex", "chain-g")];
    other.sizes = vec![vec![1]];
    let error = scene.try_export(&scene.out(), &other.checkpoints(), |exporter| exporter);
    assert!(error.unwrap_err().to_string().contains("tenant globex"));
}

#[test]
fn checkpoints_are_read_as_a_log_writes_them() {
    let scene = Scene::new();
    let dir = scene.path("checkpoints");
    fs::create_dir_all(dir.join("writer-1")).unwrap();
    let line = |tenant: &str, note: &str| {
        let note = serde_json::to_string(note).unwrap();
        format!("{{\"chain_id\":\"chain-a\",\"note\":{note},\"tenant_id\":\"{tenant}\"}}\n")
    };
    let chain = &scene.chains[0];
    let [first, second] = [16, 36].map(|size| chain.checkpoint(size, &scene.log_key));
    fs::write(dir.join("000001.ndjson"), line("acme", &first) + &line("globex", "none")).unwrap();
    fs::write(dir.join("writer-1/000001.ndjson"), line("acme", &second) + "{\"torn").unwrap();
    let empty = || {
        let tenant = chain.chain.tenant_id.clone();
        crate::export::LogCheckpoints::trusting(tenant, [scene.log_key.verifying_key()])
    };
    let mut read = empty();
    read.read(&dir).unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!(read.of(&chain.chain.chain_id)[1].unverified().size, 36);

    // What cannot be relied on stops an export, instead of being passed over.
    let forged = agent_audit_core::key::SigningKey::from_seed(&[9; 32]);
    for (bad, names) in [
        (line("acme", &chain.checkpoint(36, &forged)), "give every key"),
        (line("acme", "nonsense"), "cannot be read"),
        ("nonsense\n".to_owned(), "line 1 of"),
    ] {
        fs::write(dir.join("000002.ndjson"), bad).unwrap();
        let error = empty().read(&dir).unwrap_err();
        assert!(error.to_string().contains(names), "{error}");
    }
    let other = chain.rewritten(3, |event| {
        event.payload = Other::custom("forged").unwrap().into();
    });
    fs::write(dir.join("000002.ndjson"), line("acme", &other.checkpoint(36, &scene.log_key)))
        .unwrap();
    let error = empty().read(&dir).unwrap_err();
    assert!(error.to_string().contains("two histories"), "{error}");
}
