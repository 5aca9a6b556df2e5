//! The bytes of one record: spelling, boundaries, fields, leaves, columns.

use super::*;

#[test]
fn attack_16_other_spellings_of_json() {
    let big = format!("\"sequence\":{}", u64::MAX);
    for (from, to) in [
        ("\"sequence\":8", "\"sequence\":8,\"sequence\":8"),
        ("\"sequence\":8", "\"sequence\":8.0"),
        ("\"sequence\":8", "\"sequence\":-0"),
        ("\"sequence\":8", big.as_str()),
        ("\"sequence\":8", "\"sequence\": 8"),
        ("support-agent", "support-\\ud800"),
        ("support-agent", "support\\u002dagent"),
        ("\"agent_id\"", "\"\\u0061gent_id\""),
    ] {
        let mut respelled = ledger();
        respelled.edit(8, |text| text.replacen(from, to, 1));
        found(&respelled, &[(FindingKind::Tampered, 8, 8)]);
    }
}

#[test]
fn attack_17_field_boundaries_shifted() {
    for separator in ["|", "\\u001f", "\\\"", "\\\",\\\"session_id\\\":\\\""] {
        let mut before = Ledger::new("acme", "chain-1", 4);
        let joined = format!("support{separator}agent").replace("\\u001f", " ");
        before.append_with(ChainClosed::new("shutdown"), [], |event| {
            event.agent_id = joined.replace('\\', "").parse().unwrap();
        });
        before.work();
        before.checkpoint();
        assert_eq!(before.verify().verdict(), Verdict::Intact);
        // A character leaves one field and enters the next.
        let mut after = before.clone();
        after.edit(1, |text| {
            text.replacen("\"agent_id\":\"s", "\"agent_id\":\"", 1).replacen(
                "\"session_id\":\"",
                "\"session_id\":\"s",
                1,
            )
        });
        found(&after, &[(FindingKind::Tampered, 1, 1)]);
    }
}

#[test]
fn attack_18_every_field_is_under_the_hash() {
    let honest = ledger();
    let at = 6;
    let event: serde_json::Value = serde_json::from_slice(honest.record(at).event_bytes()).unwrap();
    for (field, value) in event.as_object().unwrap() {
        let changed = match value {
            serde_json::Value::Number(_) => serde_json::json!(3),
            serde_json::Value::String(text) if field == "previous_event_hash" => {
                serde_json::json!(text.chars().rev().collect::<String>())
            }
            serde_json::Value::String(text) if field == "event_id" => {
                serde_json::json!(text.replace('7', "6"))
            }
            serde_json::Value::String(text) if field == "timestamp_utc" => {
                serde_json::json!(text.replace('2', "1"))
            }
            serde_json::Value::String(text) => serde_json::json!(format!("{text}x")),
            serde_json::Value::Array(_) => serde_json::json!([]),
            _ => serde_json::json!({"tool": "other"}),
        };
        let mut edited = event.clone();
        edited[field] = changed;
        let mut attacked = honest.clone();
        attacked
            .edit(at, |_| String::from_utf8(crate::canonical::to_vec(&edited).unwrap()).unwrap());
        let report = attacked.verify();
        assert_eq!(report.verdict(), Verdict::Tampered, "{field}");
        let findings = sentences(&report);
        assert!(faults(&report).iter().all(|f| (f.1, f.2) == (6, 6)), "{field}: {findings:#?}");
    }
    // And one added.
    let mut added = honest.clone();
    added
        .edit(at, |text| text.replacen(",\"tenant_id\"", ",\"session_idx\":\"\",\"tenant_id\"", 1));
    found(&added, &[(FindingKind::Tampered, 6, 6)]);
}

#[test]
fn attack_19_odd_leaf_duplicated_and_leaf_taken_for_a_node() {
    // Trees that pair an odd leaf with itself have one root for three leaves and for four.
    let mut odd = Ledger::of("acme", "chain-1", 3, 100);
    odd.records.push(odd.records[2].clone());
    found(&odd, &[(FindingKind::Duplicated, 2, 2)]);
    let leaves: Vec<Hash> =
        odd.records[..3].iter().map(|r| Record::from_bytes(r).unwrap().event_hash()).collect();
    let three: CompactRange = leaves.iter().copied().collect();
    let four: CompactRange = leaves.iter().copied().chain([leaves[2]]).collect();
    assert_ne!(three.root(), four.root());

    // One record whose bytes are what an inner node hashes does not stand in for two.
    let joined = [&[1], leaves[0].as_bytes().as_slice(), leaves[1].as_bytes()].concat();
    assert_ne!(leaf(&joined[1..]), node(&leaves[0], &leaves[1]));
    let mut merged = Ledger::of("acme", "chain-1", 3, 100);
    merged.records[1] = Record::new(joined, Vec::new()).to_bytes();
    assert_eq!(faults(&merged.verify()), [(FindingKind::Tampered, 1, 1)]);
}

#[test]
fn attack_27_column_edited_and_bytes_intact() {
    let honest = ledger();
    let dir = tempfile::tempdir().unwrap();
    write_files(dir.path(), &[&honest]);
    write_journal(dir.path(), &[]).close();
    let mut shelf = Shelf::holding(&honest, &honest.records);
    shelf.column = Some((13, "tool_name"));
    let options = VerifyOptions::default().with_store(shelf);
    let report = verify_directory(dir.path(), options).unwrap();
    assert_eq!(faults(&report), [(FindingKind::ColumnMismatch, 13, 13)]);
    let finding = &report.findings[0];
    assert_eq!(finding.place.as_deref(), Some("shelf"));
    assert!(finding.event_id.is_some());
    assert!(finding.detail.contains("tool_name"));
}
