#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::hash::leaf;

#[derive(Deserialize)]
struct KnownAnswers {
    checkpoint: KnownCheckpoint,
}

#[derive(Deserialize)]
struct KnownCheckpoint {
    origin: String,
    size: u64,
    root: Hash,
    note: String,
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn kind<T: fmt::Debug>(result: Result<T, CheckpointError>) -> CheckpointErrorKind {
    result.unwrap_err().kind()
}

/// The specification gives no key for its example, so the text is checked and written back.
#[test]
fn the_published_checkpoint_is_read_and_written_back() {
    let answers: KnownAnswers =
        serde_json::from_str(include_str!("../../tests-data/notes.json")).unwrap();
    let known = answers.checkpoint;
    let signed = SignedCheckpoint::parse(&known.note).unwrap();
    let expected = Checkpoint::new(&known.origin, known.size, known.root);
    assert_eq!(signed.unverified(), &expected);
    assert_eq!(signed.to_string(), known.note);
    assert_eq!(expected.to_string(), signed.note().text());
    // Its signature line carries the origin as the key name, as ours do.
    assert_eq!(signed.note().signatures()[0].name(), known.origin);
    let result = signed.verify(&known.origin, &[key(1).verifying_key()]);
    assert_eq!(kind(result), CheckpointErrorKind::UnknownKey);
}

#[test]
fn a_checkpoint_proves_its_own_chain_alone() {
    let keys = [key(1).verifying_key()];
    let [one, other] = ["one", "other"].map(chain_origin);
    let signed = Checkpoint::new(&one, 3, leaf(b"")).sign(&key(1)).unwrap();
    assert_eq!(signed.verify(&one, &keys).unwrap().size, 3);
    assert_eq!(kind(signed.verify(&other, &keys)), CheckpointErrorKind::ForeignOrigin);
    // Renamed in the text alone, and in text and signature line.
    let text = signed.to_string().replacen(&one, &other, 1);
    let renamed = SignedCheckpoint::parse(&text).unwrap();
    assert_eq!(kind(renamed.verify(&other, &keys)), CheckpointErrorKind::UnknownKey);
    let text = signed.to_string().replace(&one, &other);
    let renamed = SignedCheckpoint::parse(&text).unwrap();
    assert_eq!(kind(renamed.verify(&other, &keys)), CheckpointErrorKind::UnknownKey);
    // With the other chain's key id put in as well, the signature is known, and bad.
    let id = keys[0].note_verifier(&other).unwrap().key_id();
    let bytes = [id.as_slice(), signed.note().signatures()[0].signature()].concat();
    let line = format!("— {other} {}\n", STANDARD.encode(bytes));
    let forged = format!("{}\n{line}", renamed.note().text());
    let forged = SignedCheckpoint::parse(&forged).unwrap();
    assert_eq!(kind(forged.verify(&other, &keys)), CheckpointErrorKind::BadSignature);
}

#[test]
fn any_one_of_the_keys_of_a_writer_will_do() {
    let signed = key(2).sign_checkpoint(&Checkpoint::new("log", 1, leaf(b""))).unwrap();
    let [old, new] = [1, 2].map(|seed| key(seed).verifying_key());
    assert!(signed.verify("log", &[old, new]).is_ok());
    assert_eq!(kind(signed.verify("log", &[old])), CheckpointErrorKind::UnknownKey);
    assert_eq!(kind(signed.verify("log", &[])), CheckpointErrorKind::UnknownKey);
}

#[test]
fn a_changed_size_or_root_is_a_bad_signature() {
    let keys = [key(1).verifying_key()];
    let signed = Checkpoint::new("log", 17, leaf(b"")).sign(&key(1)).unwrap();
    for size in ["1", "16", "170", "18446744073709551615"] {
        let changed = signed.to_string().replacen("\n17\n", &format!("\n{size}\n"), 1);
        let changed = SignedCheckpoint::parse(&changed).unwrap();
        assert_eq!(kind(changed.verify("log", &keys)), CheckpointErrorKind::BadSignature);
    }
    let root = STANDARD.encode(leaf(b""));
    let changed = signed.to_string().replace(&root, &STANDARD.encode(leaf(b"x")));
    let changed = SignedCheckpoint::parse(&changed).unwrap();
    assert_eq!(kind(changed.verify("log", &keys)), CheckpointErrorKind::BadSignature);
}

#[test]
fn a_witness_signature_survives() {
    let signed = Checkpoint::new("log", 1, leaf(b"")).sign(&key(1)).unwrap();
    let text = format!("{signed}— witness {}\n", STANDARD.encode([4; 76]));
    let received = SignedCheckpoint::parse(&text).unwrap();
    assert!(received.verify("log", &[key(1).verifying_key()]).is_ok());
    assert_eq!(received.to_string(), text);
}

#[test]
fn what_is_not_a_checkpoint_is_refused() {
    let good = Checkpoint::new("log", 17, leaf(b"")).to_string();
    let root = STANDARD.encode(leaf(b""));
    assert!(good.parse::<Checkpoint>().is_ok());
    for bad in [
        "".into(),
        "\n".into(),
        "log\n17\n".into(),
        good.trim_end().into(),
        format!("\n{good}"),
        format!("{good}\n"),
        format!("{good}\next\n"),
        format!("{good}ext\n\n"),
        good.replace("log", ""),
        good.replace("17", "017"),
        good.replace("17", "+17"),
        good.replace("17", "-17"),
        good.replace("17", " 17"),
        good.replace("17", "00"),
        good.replace("17", "0x11"),
        good.replace("17", ""),
        good.replace("17", "1７"),
        good.replace("17", "18446744073709551616"),
        good.replace(&root, ""),
        good.replace('=', ""),
        good.replace(&root, &STANDARD.encode([0; 31])),
        good.replace(&root, &STANDARD.encode([0; 33])),
        good.replace(&root, &"_".repeat(44)),
        good.replace(&root, &format!("{root} ")),
    ] {
        assert_eq!(kind(bad.parse::<Checkpoint>()), CheckpointErrorKind::Malformed, "{bad:?}");
    }
}

#[test]
fn what_cannot_be_a_checkpoint_is_not_signed() {
    let good = Checkpoint::new("log", 1, leaf(b""));
    for origin in ["", "two words", "a+b", "two\nlines"] {
        let bad = Checkpoint::new(origin, 1, leaf(b""));
        assert_eq!(kind(bad.sign(&key(1))), CheckpointErrorKind::Malformed, "{origin:?}");
    }
    for line in ["", "two\nlines", "\n", "tab\t"] {
        let bad = Checkpoint { extensions: vec!["x".into(), line.into()], ..good.clone() };
        assert_eq!(kind(bad.sign(&key(1))), CheckpointErrorKind::Malformed, "{line:?}");
    }
}

/// What an error repeats comes from the file: it must not steer a terminal or fill it.
#[test]
fn errors_quote_what_they_repeat() {
    let hostile = format!("\u{9b}31m\u{202e}{}", "x".repeat(5000));
    let text = Checkpoint::new(&hostile, 1, leaf(b"")).to_string();
    let signed = crate::note::SignedNote::sign(text, "log", &key(1)).unwrap();
    let signed = SignedCheckpoint::parse(&signed.to_string()).unwrap();
    let error = signed.verify("log", &[]).unwrap_err().to_string();
    assert!(error.contains("\\u{9b}31m\\u{202e}xxx"), "{error}");
    assert!(error.len() < 200 && !error.contains('\u{202e}'), "{error}");
    let error = format!("log\n{hostile}\nroot\n").parse::<Checkpoint>().unwrap_err();
    assert!(error.to_string().len() < 250, "{error}");
}

#[test]
fn sizes_have_one_spelling() {
    for good in [0, 1, 10, u64::MAX] {
        assert_eq!(parse_size(&good.to_string()), Some(good));
    }
    for bad in ["", "00", "01", "+1", "-0", "1 ", "18446744073709551616", "٣"] {
        assert_eq!(parse_size(bad), None, "{bad:?}");
    }
}

proptest! {
    #[test]
    fn what_is_signed_is_read_back(origin in "[a-z0-9./-]{1,30}", size: u64, root: [u8; 32], extensions in prop::collection::vec("[ -~]{1,20}", 0..3)) {
        let root = Hash::from_bytes(root);
        let checkpoint = Checkpoint { origin, size, root, extensions };
        let signed = key(1).sign_checkpoint(&checkpoint).unwrap();
        let read: SignedCheckpoint = signed.to_string().parse().unwrap();
        prop_assert_eq!(&read, &signed);
        prop_assert_eq!(read.verify(&checkpoint.origin, &[key(1).verifying_key()]).unwrap(), &checkpoint);
    }

    #[test]
    fn what_is_read_is_written_back(text in "[a-z]{0,3}\n[0-9+-]{0,3}\n[A-Za-z0-9+/]{43}=\n([a-z]{0,2}\n){0,2}") {
        if let Ok(checkpoint) = text.parse::<Checkpoint>() {
            prop_assert_eq!(checkpoint.to_string(), text);
        }
    }
}
