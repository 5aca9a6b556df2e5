//! Attacks on the records of an export, with and without a key.

use std::fs;

use agent_audit_core::{event::Other, key::SigningKey, record::Record, verify::FindingKind};

use super::scene::{
    Chain, Scene, among, assert_verdict, completed, edit, faults, lines, only, recompute, resign,
    with_content, write_lines,
};
use crate::{
    Filter,
    export::{ExportCompleteness, ExportVerdict},
};

/// The line of a record, as an exporter writes it.
fn line(record: &Record) -> String {
    record.to_json_line().unwrap()
}

/// The record with another payload at the same place.
fn other(record: &Record) -> Record {
    let mut event = record.event().unwrap();
    event.payload = Other::custom("forged").unwrap().into();
    Record::new(event.canonical_bytes().unwrap(), record.parts().to_vec())
}

#[test]
fn an_edited_line_is_named() {
    let scene = Scene::new();
    let out = scene.whole();
    edit(&out.join("events-000001.ndjson"), |text| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[5] = lines[5].replacen("\"refund\"", "\"refuse\"", 1);
        lines.iter().map(|line| format!("{line}\n")).collect()
    });
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(&report, FindingKind::Tampered, &["the file was changed", "events-000001.ndjson"]);
    let names = ["acme/chain-a: record 5 (event ", "does not have the hash", "ndjson line 6]"];
    among(&report, FindingKind::Tampered, &names);
    assert_eq!(faults(&report).len(), 2, "one change, and the file that it is in");
}

#[test]
fn an_edited_line_with_its_own_hash_is_named_by_its_neighbours_or_its_proof() {
    let scene = Scene::new();
    // In the middle, at the first and last position of a run, and in the tail that nothing covers.
    for at in [1, 5, 34, 35, 37] {
        let out = scene.whole();
        let mut all = lines(&out);
        all[at] = line(&other(&scene.chains[0].records[at]));
        write_lines(&out, &all);
        for key in [None, Some(&scene.key)] {
            match key {
                None => recompute(&out, |_| {}),
                Some(key) => resign(&out, key, |_| {}),
            }
            let report = scene.verify(&out);
            assert_verdict(&report, ExportVerdict::Tampered);
            let record = format!("acme/chain-a: record {at} (event ");
            let place = format!("line {}]", at + 1);
            among(&report, FindingKind::Tampered, &[&record, "was changed", &place]);
            let others = faults(&report).len() - 1;
            assert_eq!(others, usize::from(key.is_none()), "{at}: {:?}", report.findings);
            if key.is_none() {
                among(&report, FindingKind::BadSignature, &["manifest.json"]);
            }
        }
    }
}

#[test]
fn an_edited_event_of_a_filter_is_named_by_its_proof() {
    let scene = Scene::new();
    let (out, _) = scene.export(|exporter| exporter.with_filter(completed()));
    let mut all = lines(&out);
    let record = Record::from_json_line(all[3].as_bytes()).unwrap();
    let mut event = record.event().unwrap();
    event.session_id = "another".parse().unwrap();
    all[3] = line(&Record::new(event.canonical_bytes().unwrap(), Vec::new()));
    write_lines(&out, &all);
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    let names = ["acme/chain-a: record 8 (event ", "proof does not lead to the root", "line 4]"];
    only(&report, FindingKind::Tampered, &names);
}

#[test]
fn a_history_that_was_rewritten_whole_is_found_by_its_proof() {
    let scene = Scene::new();
    let (out, _) = scene.export(with_content);
    let forged = scene.chains[0].rewritten(3, |event| {
        event.payload = Other::custom("forged").unwrap().into();
    });
    let mut all = lines(&out);
    for (at, record) in forged.records.iter().enumerate() {
        all[at] = line(record);
    }
    write_lines(&out, &all);
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    let names = ["acme/chain-a: records 0 to 35 were rewritten", "checkpoint of size 36"];
    only(&report, FindingKind::Tampered, &names);
}

#[test]
fn a_line_that_is_none_is_named_once() {
    let scene = Scene::new();
    let out = scene.whole();
    let mut all = lines(&out);
    all[7] = "{\"event\":".to_owned();
    write_lines(&out, &all);
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    only(&report, FindingKind::Tampered, &["the line is no record", "line 8"]);
}

#[test]
fn nothing_can_hide_in_a_line() {
    let scene = Scene::new();
    for (from, to) in [
        ("\"content\":[", "\"note\":\"x\",\"content\":["),
        ("\"content\":[", "\"content\": ["),
        ("order A-", "order \\u0041-"),
    ] {
        let out = scene.whole();
        let mut all = lines(&out);
        let (before, behind) = all[7].rsplit_once(from).unwrap();
        all[7] = format!("{before}{to}{behind}");
        write_lines(&out, &all);
        resign(&out, &scene.key, |_| {});
        let report = scene.verify(&out);
        assert_verdict(&report, ExportVerdict::Tampered);
        let names = ["acme/chain-a: record 7 (event ", "not spelt", "line 8]"];
        only(&report, FindingKind::Tampered, &names);
    }
}

#[test]
fn exchanged_content_is_named_by_record_and_part() {
    let scene = Scene::new();
    let records = &scene.chains[0].records;
    let out = scene.whole();
    let mut all = lines(&out);
    // The bodies of two calls change places; both are UTF-8, and one is as long as the other.
    let swapped = |at: usize, with: usize| {
        Record::new(records[at].event_bytes().to_vec(), records[with].parts().to_vec())
    };
    all[13] = line(&swapped(13, 15));
    all[15] = line(&swapped(15, 13));
    write_lines(&out, &all);
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    for (at, number) in [(13, 14), (15, 16)] {
        let record = format!("acme/chain-a: record {at} (event ");
        let place = format!("line {number}]");
        let names = [&*record, "part \"input\" was changed", &place];
        among(&report, FindingKind::ContentMismatch, &names);
    }
    assert_eq!(faults(&report).len(), 2);

    // A part that is gone altogether, and one too many.
    for parts in [Vec::new(), [records[13].parts(), records[15].parts()].concat()] {
        all[13] = line(&Record::new(records[13].event_bytes().to_vec(), parts));
        all[15] = line(&records[15]);
        write_lines(&out, &all);
        resign(&out, &scene.key, |_| {});
        only(&scene.verify(&out), FindingKind::ContentMismatch, &["record 13", "parts"]);
    }
}

#[test]
fn a_removed_record_is_named() {
    let scene = Scene::new();
    let out = scene.whole();
    let mut all = lines(&out);
    all.remove(5);
    write_lines(&out, &all);
    // Plainly.
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    among(&report, FindingKind::Missing, &["acme/chain-a: record 5 is missing"]);
    assert_eq!(report.completeness, ExportCompleteness::Broken);

    // With digests and counts recomputed, by somebody without the key.
    recompute(&out, |manifest| {
        manifest.counts.events -= 1;
        manifest.counts.covered -= 1;
        manifest.chains[0].events -= 1;
        manifest.chains[0].covered -= 1;
    });
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(&report, FindingKind::BadSignature, &["manifest.json", "changed afterwards"]);
    among(&report, FindingKind::Missing, &["acme/chain-a: record 5 is missing"]);

    // By the exporter itself.
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Incomplete);
    only(&report, FindingKind::Missing, &["acme/chain-a: record 5 is missing"]);
}

/// The holder of the exporter's key leaves a record out, and makes proofs as if it had not been
/// asked for.
#[test]
fn a_record_that_the_exporter_leaves_out_is_named_where_positions_are_claimed() {
    let scene = Scene::new();
    for first in [0, 5, 39] {
        let whole = scene.whole();
        let (parts, _) = scene.export(|exporter| {
            let filter = Filter::new().chain("chain-b".parse().unwrap());
            exporter.with_content().with_filter(filter)
        });
        // Proofs of what is before and behind, taken from honest exports of these positions.
        let mut proofs = String::new();
        for (from, to) in [(0, first), (first + 1, 40)] {
            if from < to {
                let filter = Filter::new()
                    .chain("chain-a".parse().unwrap())
                    .from_sequence(from)
                    .to_sequence(to);
                let (part, _) = scene.export(|exporter| exporter.with_filter(filter));
                proofs += &fs::read_to_string(part.join("proofs.ndjson")).unwrap();
            }
        }
        proofs += &fs::read_to_string(parts.join("proofs.ndjson")).unwrap();
        fs::write(whole.join("proofs.ndjson"), &proofs).unwrap();
        let mut all = lines(&whole);
        all.remove(usize::try_from(first).unwrap());
        write_lines(&whole, &all);
        resign(&whole, &scene.key, |manifest| {
            let chain = &mut manifest.chains[0];
            chain.events -= 1;
            manifest.counts.events -= 1;
            if first == 39 {
                manifest.counts.uncovered -= 1;
                manifest.counts.parts -= 1;
                chain.last = Some(38);
            } else {
                chain.covered -= 1;
                manifest.counts.covered -= 1;
                chain.first = Some(u64::from(first == 0));
                chain.runs = if first == 0 { 2 } else { 3 };
            }
        });
        let report = scene.verify(&whole);
        if first == 39 {
            // Behind the last checkpoint nobody can know.
            assert_verdict(&report, ExportVerdict::Intact);
            continue;
        }
        assert_verdict(&report, ExportVerdict::Incomplete);
        assert_eq!(report.completeness, ExportCompleteness::Broken);
        let record = format!("acme/chain-a: record {first} is left out");
        only(&report, FindingKind::Missing, &[&record, "proofs.ndjson"]);
    }
}

/// Of a filter nobody can tell, and the report does not pretend to.
#[test]
fn a_record_that_the_exporter_leaves_out_of_a_filter_is_not_promised_to_be_found() {
    let scene = Scene::new();
    let (out, _) = scene.export(|exporter| exporter.with_filter(completed()));
    let mut all = lines(&out);
    all.remove(3);
    write_lines(&out, &all);
    edit(&out.join("proofs.ndjson"), |text| {
        let lines = text.lines().enumerate().filter(|(at, _)| *at != 3);
        lines.map(|(_, line)| format!("{line}\n")).collect()
    });
    resign(&out, &scene.key, |manifest| {
        let chain = &mut manifest.chains[0];
        (chain.events, chain.covered, chain.runs) =
            (chain.events - 1, chain.covered - 1, chain.runs - 1);
        manifest.counts.events -= 1;
        manifest.counts.covered -= 1;
        manifest.counts.parts -= 1;
    });
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Intact);
    assert_eq!(report.completeness, ExportCompleteness::NotProvable);
    assert!(report.explanation().contains("no other event matches cannot be shown"));
}

#[test]
fn records_that_were_put_in_repeated_or_moved_are_named() {
    let scene = Scene::new();
    let out = scene.whole();
    let honest = lines(&out);
    let attack = |change: &dyn Fn(&mut Vec<String>)| {
        let mut all = honest.clone();
        change(&mut all);
        write_lines(&out, &all);
        resign(&out, &scene.key, |_| {});
        let report = scene.verify(&out);
        assert_verdict(&report, ExportVerdict::Tampered);
        report
    };
    let repeated = attack(&|all| all.insert(5, all[4].clone()));
    only(&repeated, FindingKind::Duplicated, &["acme/chain-a: record 4", "twice", "line 6]"]);
    let moved = attack(&|all| all.swap(4, 5));
    among(&moved, FindingKind::Reordered, &["acme/chain-a: record 4", "line 6]"]);
    let inserted = attack(&|all| {
        let mut longer = Chain { chain: scene.chains[1].chain.clone(), ..scene.chains[1].clone() };
        longer.note();
        all.push(line(longer.records.last().unwrap()));
    });
    only(&inserted, FindingKind::Tampered, &["acme/chain-b: record 7", "put in", "line 48]"]);
    let foreign = attack(&|all| all.push(line(&Chain::new("acme", "chain-c").records[0])));
    only(&foreign, FindingKind::Foreign, &["acme/chain-c", "does not name", "line 48]"]);
}

#[test]
fn records_and_proofs_of_another_tenant_are_named() {
    let scene = Scene::new();
    let globex = Chain::new("globex", "chain-g").grow(40);
    let theirs = Scene::of(vec![globex.clone()], vec![vec![36]]);
    let stolen = theirs.whole();

    // Their records in the place of ours.
    let out = scene.whole();
    let mut all = lines(&out);
    all[5] = lines(&stolen)[5].clone();
    write_lines(&out, &all);
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    let names = ["another tenant", "record 5 of globex/chain-g", "events-000001.ndjson line 6"];
    only(&report, FindingKind::Foreign, &names);

    // Their proof and checkpoint for events of our own making, under the name of their chain.
    let forged = Chain::new("acme", "chain-g").grow(40);
    let forger = Scene::of(vec![forged], vec![vec![36]]);
    let out = forger.whole();
    for name in ["proofs.ndjson", "checkpoints.ndjson"] {
        fs::copy(stolen.join(name), out.join(name)).unwrap();
    }
    resign(&out, &forger.key, |manifest| {
        manifest.chains[0].checkpoint =
            theirs.export(|exporter| exporter).1.manifest.chains[0].checkpoint;
    });
    let report = forger.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(
        &report,
        FindingKind::Foreign,
        &["globex/chain-g", "of another tenant", "checkpoints.ndjson line 1"],
    );
    among(&report, FindingKind::Tampered, &["acme/chain-g: records 0 to 35 were rewritten"]);
    // With the name of the tenant changed in the line, the signature of the log does still hold, and
    // the events do not.
    edit(&out.join("checkpoints.ndjson"), |text| text.replace("globex", "acme"));
    resign(&out, &forger.key, |_| {});
    let report = forger.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    only(
        &report,
        FindingKind::Tampered,
        &["acme/chain-g: records 0 to 35", "checkpoint of size 36"],
    );

    // Their checkpoint for a chain of ours.
    let out = scene.whole();
    edit(&out.join("checkpoints.ndjson"), |text| {
        let note = serde_json::to_string(&globex.checkpoint(36, &scene.log_key)).unwrap();
        let line = format!(r#"{{"chain_id":"chain-a","note":{note},"tenant_id":"acme"}}"#);
        format!("{line}\n{}\n", text.lines().nth(1).unwrap())
    });
    resign(&out, &scene.key, |_| {});
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    only(&report, FindingKind::Foreign, &["acme/chain-a", "of another chain", "line 1"]);
    assert_eq!(report.covered, 7, "of the other chain");
}

#[test]
fn a_proof_from_elsewhere_in_the_chain_or_of_another_size_does_not_hold() {
    let scene = Scene::new();
    let (out, _) = scene.export(|exporter| exporter.with_filter(completed()));
    let path = out.join("proofs.ndjson");
    let honest = fs::read_to_string(&path).unwrap();
    let all: Vec<serde_json::Value> =
        honest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let attack = |line: serde_json::Value| {
        let text: Vec<_> = honest.lines().map(str::to_owned).collect();
        let forged = serde_json::to_string(&line).unwrap();
        let lines: Vec<_> =
            text.iter().enumerate().map(|(at, old)| if at == 3 { &forged } else { old }).collect();
        fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        resign(&out, &scene.key, |_| {});
        let report = scene.verify(&out);
        assert_verdict(&report, ExportVerdict::Tampered);
        report
    };
    let mut line = all[3].clone();
    line["hashes"] = all[4]["hashes"].clone();
    only(&attack(line), FindingKind::Tampered, &["acme/chain-a: record 8"]);
    let mut line = all[3].clone();
    line["size"] = 35.into();
    let report = attack(line);
    only(&report, FindingKind::Foreign, &["record 8", "size 35", "proofs.ndjson line 4"]);
    let mut line = all[3].clone();
    line["hashes"].as_array_mut().unwrap().pop();
    only(&attack(line), FindingKind::Tampered, &["record 8", "proofs.ndjson line 4"]);
    let mut line = all[3].clone();
    line["last"] = 3.into();
    among(&attack(line), FindingKind::Tampered, &["its run is none", "proofs.ndjson line 4"]);
}

#[test]
fn events_that_do_not_match_the_question_do_not_belong_to_the_answer() {
    let scene = Scene::new();
    let (out, _) = scene.export(|exporter| exporter.with_filter(completed()));
    resign(&out, &scene.key, |manifest| {
        manifest.query = completed().tool("other").agent("x".parse().unwrap())
    });
    let report = scene.verify(&out);
    assert_verdict(&report, ExportVerdict::Tampered);
    among(
        &report,
        FindingKind::Foreign,
        &["acme/chain-a: record 2", "does not match the question"],
    );
}

#[test]
fn what_an_attacker_made_up_whole_is_not_believed() {
    let mut scene = Scene::new();
    scene.log_key = SigningKey::from_seed(&[8; 32]);
    scene.key = SigningKey::from_seed(&[9; 32]);
    let out = scene.whole();
    let report = Scene::new().verify(&out);
    assert_verdict(&report, ExportVerdict::Unsure);
    among(&report, FindingKind::UnknownKey, &["manifest.note"]);
    among(&report, FindingKind::UnknownKey, &["acme/chain-a", "checkpoints.ndjson line 1"]);
}
