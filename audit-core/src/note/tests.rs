#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct KnownAnswers {
    notes: Vec<KnownNote>,
}

#[derive(Deserialize)]
struct KnownNote {
    verifier: NoteVerifierText,
    signer: Option<String>,
    note: String,
}

type NoteVerifierText = String;

fn known_notes() -> Vec<KnownNote> {
    let answers: KnownAnswers =
        serde_json::from_str(include_str!("../../tests-data/notes.json")).unwrap();
    assert_eq!(answers.notes.len(), 2);
    answers.notes
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&[seed; 32])
}

fn verifier(name: &str, seed: u8) -> NoteVerifier {
    key(seed).verifying_key().note_verifier(name).unwrap()
}

fn kind(result: Result<Vec<&NoteSignature>, NoteError>) -> NoteErrorKind {
    result.unwrap_err().kind()
}

#[test]
fn published_notes_verify() {
    for known in known_notes() {
        let verifier: NoteVerifier = known.verifier.parse().unwrap();
        assert_eq!(verifier.to_string(), known.verifier);
        let note = SignedNote::parse(&known.note).unwrap();
        assert_eq!(note.to_string(), known.note);
        let verified = note.verify(std::slice::from_ref(&verifier)).unwrap();
        assert_eq!(verified[0].name(), verifier.name());

        let other = SignedNote::parse(&known.note.replacen('i', "j", 1)).unwrap();
        assert_eq!(kind(other.verify(&[verifier])), NoteErrorKind::BadSignature);
    }
}

#[test]
fn signing_gives_the_published_note() {
    let known = &known_notes()[0];
    let base64 = known.signer.as_ref().unwrap().splitn(5, '+').nth(4).unwrap();
    let secret = STANDARD.decode(base64).unwrap();
    let key = SigningKey::from_seed(secret[1..].try_into().unwrap());
    let text = known.note.split_once("\n\n").unwrap().0;
    let note = SignedNote::sign(format!("{text}\n"), "PeterNeumann", &key).unwrap();
    assert_eq!(note.to_string(), known.note);
}

#[test]
fn unknown_signatures_are_kept_and_ignored() {
    let note = SignedNote::sign("text\n", "log", &key(1)).unwrap();
    // A cosignature of type 0x04 (8 bytes of time, 64 of signature) and one of unheard-of length.
    let cosignature = format!("— witness.example {}\n", STANDARD.encode([4; 4 + 8 + 64]));
    let tiny = format!("— log {}\n", STANDARD.encode([9; 5]));
    let text = format!("{note}{cosignature}{tiny}");
    let note = SignedNote::parse(&text).unwrap();
    assert_eq!(note.to_string(), text);
    assert_eq!(note.signatures().len(), 3);
    assert_eq!(note.verify(&[verifier("log", 1)]).unwrap().len(), 1);
    assert_eq!(note.signatures()[1].signature(), [4; 72]);
}

#[test]
fn a_bad_signature_by_a_known_key_spoils_the_note() {
    let mut note = SignedNote::sign("text\n", "log", &key(1)).unwrap();
    note.add_signature("witness", &key(2)).unwrap();
    let known = [verifier("log", 1), verifier("witness", 2)];
    assert_eq!(note.verify(&known).unwrap().len(), 2);
    for spoilt in 0..2 {
        let mut bad = note.clone();
        bad.signatures[spoilt].signature[0] ^= 1;
        assert_eq!(kind(bad.verify(&known)), NoteErrorKind::BadSignature);
        let good = &known[1 - spoilt..2 - spoilt];
        assert_eq!(bad.verify(good).unwrap().len(), 1);
    }
    for length in [1, 63, 65, 72] {
        let mut bad = note.clone();
        bad.signatures[0].signature.resize(length, 0);
        assert_eq!(kind(bad.verify(&known)), NoteErrorKind::BadSignature);
    }
}

#[test]
fn a_note_without_a_known_signature_is_refused() {
    let note = SignedNote::sign("text\n", "log", &key(1)).unwrap();
    // The same key under another name is another key, and so is another key under the same name.
    for known in [vec![], vec![verifier("gol", 1)], vec![verifier("log", 2)]] {
        assert_eq!(kind(note.verify(&known)), NoteErrorKind::UnknownKey);
    }
}

#[test]
fn a_repeated_signature_counts_once() {
    let mut note = SignedNote::sign("text\n", "log", &key(1)).unwrap();
    note.add_signature("log", &key(1)).unwrap();
    assert_eq!(note.verify(&[verifier("log", 1)]).unwrap().len(), 1);
    // A key that is listed twice is no ambiguity; two keys of one id are.
    let mut twin = verifier("log", 2);
    twin.key_id = verifier("log", 1).key_id;
    assert!(note.verify(&[verifier("log", 1), verifier("log", 1)]).is_ok());
    assert_eq!(kind(note.verify(&[verifier("log", 1), twin])), NoteErrorKind::AmbiguousKey);
}

#[test]
fn the_text_may_hold_blank_lines_and_signature_like_lines() {
    let text = "one\n\n— log AAAA\n\ntwo\n";
    let note = SignedNote::sign(text, "log", &key(1)).unwrap();
    let read = SignedNote::parse(&note.to_string()).unwrap();
    assert_eq!(read.text(), text);
    assert!(read.verify(&[verifier("log", 1)]).is_ok());
}

#[test]
fn what_is_not_a_note_is_refused() {
    let good = SignedNote::sign("text\n", "log", &key(1)).unwrap().to_string();
    let line = good.rsplit("\n\n").next().unwrap();
    for bad in [
        String::new(),
        "\n\n".into(),
        "text\n".into(),
        "text\n\n".into(),
        good.trim_end().into(),
        format!("{good}\n"),
        format!("{good} "),
        format!("text\n{line}"),
        good.replace('\n', "\r\n"),
        good.replace("text", "te\txt"),
        good.replace("text", "te\0xt"),
        good.replace('—', "-"),
        good.replace("— ", "—"),
        good.replace("— ", "—  "),
        good.replace("log ", "log  "),
        good.replace("log ", "l+g "),
        good.replace("log ", "l\u{a0}g "),
        good.replace("log ", " "),
        good.replace("=\n", "\n"),
        good.replace("=\n", "==\n"),
        format!("{good}— log AAAAAA==\n"),
        format!("{good}— log \n"),
        format!("{good}— {} {}\n", "n".repeat(513), STANDARD.encode([1; 68])),
    ] {
        let error = SignedNote::parse(&bad).expect_err(&bad);
        assert_eq!(error.kind(), NoteErrorKind::Malformed, "{bad:?}");
    }
    assert!(SignedNote::parse(&good).is_ok());
}

#[test]
fn limits_hold_on_both_sides() {
    let mut note = SignedNote::sign("text\n", "log", &key(1)).unwrap();
    for _ in 1..MAX_SIGNATURES {
        note.add_signature("log", &key(1)).unwrap();
    }
    let full = note.to_string();
    assert!(SignedNote::parse(&full).is_ok());
    assert!(note.add_signature("log", &key(1)).is_err());
    let line = full.lines().last().unwrap();
    assert!(SignedNote::parse(&format!("{full}{line}\n")).is_err());

    let long = "x".repeat(MAX_NOTE_BYTES);
    assert!(SignedNote::sign(format!("{long}\n"), "log", &key(1)).is_err());
    assert!(SignedNote::parse(&full.replace("text", &long)).is_err());
    let small = SignedNote::sign("x\n", "log", &key(1)).unwrap().to_string();
    let fits = "x".repeat(MAX_NOTE_BYTES - small.len() + 1);
    let largest = SignedNote::sign(format!("{fits}\n"), "log", &key(1)).unwrap().to_string();
    assert_eq!(largest.len(), MAX_NOTE_BYTES);
    assert!(SignedNote::parse(&largest).is_ok());
}

#[test]
fn what_cannot_be_a_note_is_not_signed() {
    for text in ["", "no end", "tab\t\n", "\u{1b}[31mred\n"] {
        assert!(SignedNote::sign(text, "log", &key(1)).is_err(), "{text:?}");
    }
    for name in ["", "a b", "a+b", "a\nb", "a\u{2003}b", "a\u{1}b", &"n".repeat(513)] {
        let error = SignedNote::sign("text\n", name, &key(1)).unwrap_err();
        assert_eq!(error.kind(), NoteErrorKind::InvalidName, "{name:?}");
    }
    assert!(SignedNote::sign("text\n", &"n".repeat(512), &key(1)).is_ok());
}

#[test]
fn what_is_not_a_verifier_key_is_refused() {
    let good = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k";
    assert!(good.parse::<NoteVerifier>().is_ok());
    for bad in [
        "",
        "++",
        "example.com/foo",
        "example.com/foo+530d903a",
        &good.replace("foo", "bar"),
        &good.replace("530d903a", "530D903A"),
        &good.replace("530d903a", "530d903b"),
        &good.replace("530d903a", "0530d903a"),
        &good.replace("530d903a", ""),
        &good.replace("+Ae", "+Be"),
        &good.replace("2k", "2"),
        &good[..good.len() - 4],
        &format!("{good}AAAA"),
        &format!("{good}\n"),
        &format!(" {good}"),
    ] {
        assert!(bad.parse::<NoteVerifier>().is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn what_is_signed_is_read_back_and_verifies(text in "[^\\x00-\\x1f]{0,40}(\n[^\\x00-\\x1f]{0,20}){0,6}\n", name in "[a-z0-9./_-]{1,30}") {
        let note = SignedNote::sign(text.as_str(), &name, &key(1)).unwrap();
        let read = SignedNote::parse(&note.to_string()).unwrap();
        prop_assert_eq!(&read, &note);
        prop_assert_eq!(read.text(), text);
        prop_assert!(read.verify(&[verifier(&name, 1)]).is_ok());
    }

    #[test]
    fn what_is_read_is_written_back(note in "(.|\n){0,30}\n\n(— [a-z+ ]{1,4} [A-Za-z0-9+/]{6,8}={0,2}\n){1,3}") {
        if let Ok(read) = SignedNote::parse(&note) {
            prop_assert_eq!(read.to_string(), note);
        }
    }

    #[test]
    fn no_flipped_bit_passes(at: prop::sample::Index, bit in 0..8) {
        let note = SignedNote::sign("origin\n12\nroot\n", "log", &key(1)).unwrap().to_string();
        let mut bytes = note.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        let verified = String::from_utf8(bytes)
            .ok()
            .and_then(|text| SignedNote::parse(&text).ok())
            .is_some_and(|note| note.verify(&[verifier("log", 1)]).is_ok());
        prop_assert!(!verified);
    }
}
