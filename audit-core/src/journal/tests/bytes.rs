//! Files that are not as they were written: every truncation, every changed byte, missing pieces.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::basics::{append, open, record, scan, segments};
use crate::journal::faulty::{Fault, FaultyIo};
use crate::journal::{
    CheckOnOpen, Journal, JournalError, JournalErrorKind, JournalOptions, Recovered, ScanEnd,
};

type Entries = Vec<(u64, Vec<u8>)>;

/// Entries of several sizes, and batches of several entries.
fn write_some(journal: &Journal) -> Entries {
    let mut expected = Vec::new();
    for n in 0..6_u8 {
        let single = vec![n; 1 + 37 * usize::from(n)];
        expected.push((record(journal, &single), single));
        let group: Vec<_> = (0..3_u8).map(|m| vec![n ^ m ^ 0x55; 20]).collect();
        let tickets: Vec<_> = group.iter().map(|entry| append(journal, entry)).collect();
        for (ticket, entry) in tickets.into_iter().zip(group) {
            journal.durable(ticket).wait().unwrap();
            expected.push((ticket.index(), entry));
        }
    }
    expected
}

fn name(first: u64) -> String {
    format!("{first:020}.journal")
}

/// A copy of the one segment of a live journal, taken when the mark behind the last batch is there.
fn live_copy(dir: &Path) -> Vec<u8> {
    loop {
        let bytes = std::fs::read(dir.join(name(0))).unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let marks = |at: usize| bytes[at..at + 8] == *b"AJR\xB1\x02\0\0\0";
        // The last bytes of a mark are its checksum, which may end in zeros.
        if (used..used + 4).any(|end| end >= 48 && marks(end - 48)) {
            return bytes;
        }
        std::thread::yield_now();
    }
}

struct Bench {
    dir: tempfile::TempDir,
    options: JournalOptions,
}

impl Bench {
    fn new() -> Self {
        let options = JournalOptions::default().with_check_on_open(CheckOnOpen::All);
        // Syncs are not what these tests are about, and there are thousands.
        let options = options.with_io(Arc::new(FaultyIo::new()));
        Self { dir: tempfile::tempdir().unwrap(), options }
    }

    /// Opens a directory that holds just this segment; what it found, and what it kept.
    fn open(&self, bytes: &[u8]) -> Result<(Recovered, Entries), JournalError> {
        let path = self.path();
        for item in std::fs::read_dir(&path).unwrap() {
            std::fs::remove_file(item.unwrap().path()).unwrap();
        }
        std::fs::write(path.join(name(0)), bytes).unwrap();
        let io = FaultyIo::holding(&path).unwrap();
        let (journal, recovered) =
            Journal::open(&path, self.options.clone().with_io(Arc::new(io)))?;
        drop(journal);
        let (entries, end) = scan(&path);
        assert_eq!(end, ScanEnd::Clean { next_index: recovered.next_index });
        Ok((recovered, entries))
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_path_buf()
    }

    fn is_untouched(&self, bytes: &[u8]) -> bool {
        std::fs::read(self.path().join(name(0))).unwrap() == bytes
    }
}

fn refused(error: &JournalError) -> bool {
    matches!(error.kind(), JournalErrorKind::Damaged | JournalErrorKind::UnknownVersion)
}

#[test]
fn every_changed_byte_of_a_closed_journal_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    write_some(&journal);
    journal.close();
    let bytes = std::fs::read(dir.path().join(name(0))).unwrap();
    let bench = Bench::new();
    bench.open(&bytes).unwrap();
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xFF] {
            let mut changed = bytes.clone();
            changed[at] ^= flip;
            let error = bench.open(&changed).unwrap_err();
            assert!(refused(&error), "byte {at}: {error}");
            assert!(bench.is_untouched(&changed), "byte {at}");
            assert!(!matches!(scan(&bench.path()).1, ScanEnd::Clean { .. }), "byte {at}");
        }
    }
}

#[test]
fn every_changed_byte_of_a_live_journal_is_found_or_was_never_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let expected = write_some(&journal);
    let bytes = live_copy(dir.path());
    let durable = journal.stats().bytes;
    let bench = Bench::new();
    let mut cut = 0;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        match bench.open(&changed) {
            Ok((recovered, entries)) => {
                assert!(at as u64 >= durable, "byte {at} had been acknowledged and was cut");
                assert_eq!(entries, expected, "byte {at}");
                assert!(recovered.torn.is_some_and(|torn| torn.offset >= durable));
                cut += 1;
            }
            Err(error) => {
                assert!(refused(&error), "byte {at}: {error}");
                assert!(bench.is_untouched(&changed), "byte {at}");
                assert!((at as u64) < durable, "byte {at}");
            }
        }
    }
    assert!(cut > 0);
}

#[test]
fn every_truncation_of_a_preallocated_journal_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    write_some(&journal);
    let live = live_copy(dir.path());
    journal.close();
    let closed = std::fs::read(dir.path().join(name(0))).unwrap();
    let bench = Bench::new();
    for bytes in [live, closed] {
        for length in 0..bytes.len() {
            let error = bench.open(&bytes[..length]).unwrap_err();
            assert_eq!(error.kind(), JournalErrorKind::Damaged, "cut to {length}: {error}");
            assert!(matches!(scan(&bench.path()).1, ScanEnd::Damaged { .. }), "cut to {length}");
        }
    }
}

#[test]
fn every_truncation_of_a_journal_without_preallocation_leaves_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let io = FaultyIo::new();
    io.fail(Fault::NoAllocate, 0, u64::MAX);
    let options = JournalOptions::default().with_io(Arc::new(io));
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    let expected = write_some(&journal);
    journal.close();
    let bytes = std::fs::read(dir.path().join(name(0))).unwrap();
    let bench = Bench::new();
    let mut before = 0;
    for length in 0..bytes.len() {
        match bench.open(&bytes[..length]) {
            Ok((_, entries)) => {
                assert!(length >= 64);
                assert_eq!(entries, expected[..entries.len()], "cut to {length}");
                assert!(entries.len() >= before, "cut to {length}");
                before = entries.len();
            }
            Err(error) => {
                assert!(length < 64, "cut to {length}: {error}");
                assert_eq!(error.kind(), JournalErrorKind::Damaged);
            }
        }
    }
    assert_eq!(before, expected.len());
}

#[test]
fn damage_before_a_later_watermark_is_refused_and_names_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    record(&journal, &[1; 100]);
    record(&journal, &[2; 100]);
    let mut bytes = live_copy(dir.path());
    // Zeros over the whole first batch, which is what a lost page would look like.
    bytes[64..220].fill(0);
    let bench = Bench::new();
    let error = bench.open(&bytes).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Damaged);
    let message = error.to_string();
    assert!(message.contains(&name(0)), "{message}");
    assert!(message.contains("offset 64"), "{message}");
    assert!(message.contains("restore"), "{message}");
    assert!(bench.is_untouched(&bytes));
}

#[test]
fn a_torn_tail_is_cut_and_a_copy_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    record(&journal, &[1; 100]);
    let mut bytes = live_copy(dir.path());
    let tail = usize::try_from(journal.stats().bytes).unwrap();
    bytes[tail..tail + 300].fill(0xAB);
    let bench = Bench::new();
    let (recovered, entries) = bench.open(&bytes).unwrap();
    let torn = recovered.torn.unwrap();
    assert_eq!((torn.segment, torn.offset, torn.bytes), (0, tail as u64, 300));
    assert_eq!(entries, [(0, vec![1; 100])]);
    let copy = bench.path().join(format!("torn-{:020}-{tail}", 0));
    assert_eq!(std::fs::read(copy).unwrap(), [0xAB; 300]);
}

#[test]
fn stale_records_are_not_taken_for_witnesses() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    record(&journal, &[1; 100]);
    record(&journal, &[2; 100]);
    let bytes = live_copy(dir.path());
    let tail = usize::try_from(journal.stats().bytes).unwrap();
    // Behind a torn place: an old batch of the same file at another offset, and the same bytes
    // at the right offset but of a segment with another salt.
    let mut stale = bytes.clone();
    stale[tail] = 1;
    stale.copy_within(220..376, tail + 512);
    let other_dir = tempfile::tempdir().unwrap();
    let other = open(other_dir.path());
    for _ in 0..12 {
        record(&other, &[3; 100]);
    }
    let foreign = live_copy(other_dir.path());
    stale[tail + 1024..].copy_from_slice(&foreign[tail + 1024..]);
    let (recovered, entries) = Bench::new().open(&stale).unwrap();
    assert_eq!(recovered.torn.unwrap().offset, tail as u64);
    assert_eq!(entries.len(), 2);
}

#[test]
fn a_missing_segment_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    for _ in 0..40 {
        record(&journal, &[1; 500]);
    }
    let second = read_firsts(dir.path())[1];
    let third = read_firsts(dir.path())[2];
    drop(journal);
    std::fs::remove_file(dir.path().join(name(second))).unwrap();
    let (entries, end) = scan(dir.path());
    assert_eq!(entries.len() as u64, second);
    assert_eq!(end, ScanEnd::Gap { expected: second, found: third });
    let error = Journal::open(dir.path(), JournalOptions::default()).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Damaged);
    assert!(error.to_string().contains(&format!("entry {second}")), "{error}");
}

#[test]
fn damage_in_an_older_segment_is_found_by_who_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    for _ in 0..20 {
        record(&journal, &[1; 500]);
    }
    drop(journal);
    assert!(segments(dir.path()) > 2);
    let second = read_firsts(dir.path())[1];
    let path = dir.path().join(name(second));
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[1500] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let all = JournalOptions::default().with_check_on_open(CheckOnOpen::All);
    assert_eq!(Journal::open(dir.path(), all).unwrap_err().kind(), JournalErrorKind::Damaged);
    assert!(matches!(scan(dir.path()).1, ScanEnd::Damaged { segment, .. } if segment == second));
    let journal = open(dir.path());
    let mut reader = journal.reader(0).unwrap();
    let mut entry = Vec::new();
    let error = loop {
        match reader.next(&mut entry) {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the damage was not seen"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), JournalErrorKind::Damaged);
    let position = reader.position();
    assert_eq!(reader.next(&mut entry).unwrap_err().kind(), JournalErrorKind::Damaged);
    assert_eq!(reader.position(), position);
}

#[test]
fn a_newer_version_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    record(&journal, b"x");
    let mut bytes = live_copy(dir.path());
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    let bench = Bench::new();
    let error = bench.open(&bytes).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::UnknownVersion);
    assert!(error.to_string().contains("version 2"), "{error}");
    assert!(bench.is_untouched(&bytes));
}

fn read_firsts(dir: &Path) -> Vec<u64> {
    crate::journal::scan::list_segments(dir).unwrap()
}
