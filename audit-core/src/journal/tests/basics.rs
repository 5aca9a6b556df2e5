//! Single operations: order, durability, limits, ownership, trimming, following.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use crate::journal::format::{body_crc, frame_crc};
use crate::journal::{
    CheckOnOpen, Journal, JournalErrorKind, JournalOptions, MAX_ENTRY_BYTES, Scan, ScanEnd, Ticket,
    WhenFull,
};

pub(super) fn open(dir: &Path) -> Journal {
    Journal::open(dir, JournalOptions::default().with_segment_bytes(4096)).unwrap().0
}

pub(super) fn append(journal: &Journal, entry: &[u8]) -> Ticket {
    journal.append(journal.admit_blocking(entry.len()).unwrap(), &[entry]).unwrap()
}

pub(super) fn record(journal: &Journal, entry: &[u8]) -> u64 {
    let ticket = append(journal, entry);
    journal.durable(ticket).wait().unwrap();
    ticket.index()
}

/// Every entry of a directory, and how the scan ended.
pub(super) fn scan(dir: &Path) -> (Vec<(u64, Vec<u8>)>, ScanEnd) {
    let mut scan = Scan::open(dir).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = scan.next_entry().unwrap() {
        entries.push((entry.index, entry.bytes.to_vec()));
    }
    let end = scan.end().unwrap().clone();
    (entries, end)
}

pub(super) fn read_from(journal: &Journal, from: u64) -> Vec<(u64, Vec<u8>)> {
    let mut reader = journal.reader(from).unwrap();
    let (mut entries, mut entry) = (Vec::new(), Vec::new());
    while let Some(index) = reader.next(&mut entry).unwrap() {
        entries.push((index, entry.clone()));
    }
    entries
}

pub(super) fn segments(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().ends_with(".journal")).count()
}

#[test]
fn frame_of_the_worked_example() {
    assert_eq!(frame_crc(body_crc(&[b"a"]), 0, 1), 0x5BBE_78B3);
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    record(&journal, b"a");
    let bytes = std::fs::read(dir.path().join("00000000000000000000.journal")).unwrap();
    assert_eq!(bytes[..8], *b"\x89AUDJ\r\n\x1a");
    assert_eq!(bytes[64..68], *b"AJR\xB1");
    assert_eq!(bytes[112..121], [1, 0, 0, 0, 0xB3, 0x78, 0xBE, 0x5B, b'a']);
}

#[test]
fn entries_are_read_back_in_order_across_segments_and_opens() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..3_u8 {
        let journal = open(dir.path());
        for n in 0..20_u8 {
            let entry = vec![round * 20 + n; 1 + usize::from(n) * 60];
            let index = record(&journal, &entry);
            expected.push((index, entry));
        }
        assert_eq!(read_from(&journal, 0), expected);
        let half = expected.len() / 2;
        assert_eq!(read_from(&journal, half as u64), expected[half..]);
    }
    assert!(segments(dir.path()) > 6);
    let (entries, end) = scan(dir.path());
    assert_eq!(entries, expected);
    assert_eq!(end, ScanEnd::Clean { next_index: 60 });
    let options = JournalOptions::default().with_check_on_open(CheckOnOpen::All);
    let (_, recovered) = Journal::open(dir.path(), options).unwrap();
    assert_eq!((recovered.first_index, recovered.next_index, recovered.torn), (0, 60, None));
}

#[test]
fn an_entry_larger_than_a_segment_gets_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    record(&journal, b"before");
    let large = vec![7; 3 << 20];
    assert_eq!(record(&journal, &large), 1);
    record(&journal, b"after");
    let expected = vec![(0, b"before".to_vec()), (1, large), (2, b"after".to_vec())];
    assert_eq!(read_from(&journal, 0), expected);
    journal.close();
    assert_eq!(scan(dir.path()).0, expected);
}

#[test]
fn impossible_entries_are_refused_and_take_no_place() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions::default().with_max_bytes(40_000);
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    let permit = journal.admit_blocking(1).unwrap();
    assert_eq!(journal.append(permit, &[]).unwrap_err().kind(), JournalErrorKind::EmptyEntry);
    let permit = journal.admit_blocking(1).unwrap();
    assert_eq!(
        journal.append(permit, &[b"", b""]).unwrap_err().kind(),
        JournalErrorKind::EmptyEntry
    );
    for bytes in [40_000, MAX_ENTRY_BYTES + 1] {
        let error = journal.admit_blocking(bytes).unwrap_err();
        assert_eq!(error.kind(), JournalErrorKind::TooLarge);
        assert!(!error.is_retryable());
    }
    assert_eq!(journal.stats().pending_bytes, 0);
    assert_eq!(record(&journal, b"fine"), 0);
}

#[test]
fn one_owner_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = Journal::open(dir.path(), JournalOptions::default()).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Locked);
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    first.close();
    let second = open(dir.path());
    drop(second);
    open(dir.path());
}

#[test]
fn directories_and_files_are_for_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b");
    let journal = open(&path);
    record(&journal, b"secret");
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for item in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&item.unwrap().path()), 0o600);
    }
}

#[test]
fn a_directory_that_is_a_file_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, b"").unwrap();
    let error = Journal::open(&path, JournalOptions::default()).unwrap_err();
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn closing_commits_what_is_pending_and_refuses_more() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let tickets: Vec<_> = (0..50).map(|_| append(&journal, b"entry")).collect();
    let permit = journal.admit_blocking(1).unwrap();
    let mut reader = journal.reader(49).unwrap();
    journal.close();
    for ticket in tickets {
        journal.durable(ticket).wait().unwrap();
    }
    assert_eq!(journal.append(permit, &[b"x"]).unwrap_err().kind(), JournalErrorKind::Closed);
    assert_eq!(journal.admit_blocking(1).unwrap_err().kind(), JournalErrorKind::Closed);
    assert_eq!(journal.recover().unwrap_err().kind(), JournalErrorKind::Closed);
    assert_eq!(journal.wait_past(50).wait().unwrap_err().kind(), JournalErrorKind::Closed);
    assert_eq!(reader.next(&mut Vec::new()).unwrap(), Some(49));
    assert_eq!(scan(dir.path()).1, ScanEnd::Clean { next_index: 50 });
}

#[test]
fn trimming_deletes_whole_segments_but_never_the_newest() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    for _ in 0..40 {
        record(&journal, &[1; 500]);
    }
    let before = journal.stats();
    assert!(before.segments > 3);
    journal.trim(20).unwrap();
    let after = journal.stats();
    assert!(after.first_index > 0 && after.first_index <= 20, "{after:?}");
    assert!(after.bytes < before.bytes);
    assert_eq!(segments(dir.path()), after.segments);
    assert_eq!(journal.reader(0).unwrap_err().kind(), JournalErrorKind::Trimmed);
    assert_eq!(journal.reader(41).unwrap_err().kind(), JournalErrorKind::NotWritten);
    assert_eq!(read_from(&journal, after.first_index).len() as u64, 40 - after.first_index);
    journal.trim(u64::MAX).unwrap();
    assert_eq!(journal.stats().segments, 1);
    drop(journal);
    // The newest segment keeps the position, however often the journal is opened and trimmed.
    for _ in 0..3 {
        let journal = open(dir.path());
        journal.trim(u64::MAX).unwrap();
        assert_eq!(journal.next_index(), 40);
    }
    assert_eq!(record(&open(dir.path()), b"x"), 40);
}

#[test]
fn a_reader_overtaken_by_trimming_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let mut reader = journal.reader(0).unwrap();
    for _ in 0..40 {
        record(&journal, &[1; 500]);
    }
    journal.trim(40).unwrap();
    let error = reader.next(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), JournalErrorKind::Trimmed);
}

#[test]
fn a_full_journal_refuses_until_it_is_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions::default().with_max_bytes(20_000).with_when_full(WhenFull::Refuse);
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    let fill = || {
        let mut count = 0;
        loop {
            match journal.admit_blocking(1000) {
                Ok(permit) => {
                    let ticket = journal.append(permit, &[&[1; 1000]]).unwrap();
                    journal.durable(ticket).wait().unwrap();
                    count += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), JournalErrorKind::Full);
                    assert!(error.is_retryable());
                    return count;
                }
            }
        }
    };
    assert!(fill() > 10);
    assert!(journal.stats().bytes <= 20_000);
    journal.trim(journal.durable_index()).unwrap();
    assert!(fill() > 10);
}

#[test]
fn a_full_journal_blocks_until_it_is_trimmed() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions::default().with_max_bytes(20_000);
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    let journal = Arc::new(journal);
    let writer = {
        let journal = Arc::clone(&journal);
        std::thread::spawn(move || {
            for _ in 0..200 {
                record(&journal, &[1; 1000]);
            }
        })
    };
    let mut reader = journal.reader(0).unwrap();
    let mut entry = Vec::new();
    for expected in 0..200 {
        while reader.position() >= journal.durable_index() {
            reader.wait().wait().unwrap();
        }
        assert_eq!(reader.next(&mut entry).unwrap(), Some(expected));
        assert!(journal.stats().bytes <= 21_000, "{:?}", journal.stats());
        journal.trim(reader.position()).unwrap();
    }
    writer.join().unwrap();
}

#[test]
fn an_entry_of_nearly_the_whole_bound_does_not_block_the_journal_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) =
        Journal::open(dir.path(), JournalOptions::default().with_max_bytes(50_000)).unwrap();
    for _ in 0..3 {
        let index = record(&journal, &[1; 45_000]);
        journal.trim(index + 1).unwrap();
    }
    drop(journal);
    let (journal, _) =
        Journal::open(dir.path(), JournalOptions::default().with_max_bytes(50_000)).unwrap();
    journal.trim(3).unwrap();
    record(&journal, &[1; 45_000]);
}

#[test]
fn a_dropped_admission_gives_up_its_place_only() {
    let dir = tempfile::tempdir().unwrap();
    let options = JournalOptions::default().with_max_pending_bytes(1100);
    let (journal, _) = Journal::open(dir.path(), options).unwrap();
    let held = journal.admit_blocking(800).unwrap();
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let mut large = Box::pin(journal.admit(800));
    let mut small = Box::pin(journal.admit(10));
    assert!(large.as_mut().poll(&mut context).is_pending());
    assert!(small.as_mut().poll(&mut context).is_pending(), "the first in the queue goes first");
    drop(large);
    let std::task::Poll::Ready(permit) = small.as_mut().poll(&mut context) else {
        panic!("nobody is in front any more");
    };
    drop(permit.unwrap());
    // Granted but never taken: what was reserved comes back.
    let mut granted = Box::pin(journal.admit(800));
    assert!(granted.as_mut().poll(&mut context).is_pending());
    drop(held);
    drop(granted);
    assert_eq!(journal.stats().pending_bytes, 0);
}

#[test]
fn a_permit_may_be_too_small_or_too_large() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    for reserved in [1, 100_000] {
        let permit = journal.admit_blocking(reserved).unwrap();
        let ticket = journal.append(permit, &[&[1; 10_000]]).unwrap();
        journal.durable(ticket).wait().unwrap();
    }
    assert_eq!(read_from(&journal, 0).len(), 2);
    assert_eq!(journal.stats().pending_bytes, 0);
}

#[test]
fn many_threads_get_distinct_places_and_all_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(
        dir.path(),
        JournalOptions::default().with_segment_bytes(100_000).with_max_pending_bytes(20_000),
    )
    .unwrap();
    let mut recorded: Vec<(u64, Vec<u8>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u8)
            .map(|thread| {
                let journal = &journal;
                scope.spawn(move || {
                    let entries = (0..200_u8).map(|n| vec![thread, n, 9, n]);
                    entries.map(|entry| (record(journal, &entry), entry)).collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    recorded.sort();
    assert_eq!(recorded.len(), 1600);
    assert!(recorded.iter().enumerate().all(|(at, (index, _))| at as u64 == *index));
    assert_eq!(read_from(&journal, 0), recorded);
    assert!(journal.stats().batches < 1600, "nothing was grouped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_wait_at_once_and_a_follower_sees_all() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Arc::new(
        Journal::open(dir.path(), JournalOptions::default().with_segment_bytes(50_000)).unwrap().0,
    );
    let follower = {
        let journal = Arc::clone(&journal);
        tokio::spawn(async move {
            let mut reader = journal.reader(0).unwrap();
            let (mut seen, mut entry) = (0, Vec::new());
            while seen < 6400 {
                reader.wait().await.unwrap();
                while let Some(index) = reader.next(&mut entry).unwrap() {
                    assert_eq!(index, seen);
                    assert_eq!(entry.len(), 100);
                    seen += 1;
                }
            }
        })
    };
    let tasks: Vec<_> = (0..64_u8)
        .map(|task| {
            let journal = Arc::clone(&journal);
            tokio::spawn(async move {
                for _ in 0..100 {
                    let permit = journal.admit(100).await.unwrap();
                    let ticket = journal.append(permit, &[&[task; 60], &[0; 40]]).unwrap();
                    journal.durable(ticket).await.unwrap();
                    assert!(journal.durable_index() > ticket.index());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    follower.await.unwrap();
}

#[test]
fn handles_and_futures_may_cross_threads() {
    fn crosses<T: Send + Sync + 'static>() {}
    crosses::<Journal>();
    crosses::<crate::journal::Admit>();
    crosses::<crate::journal::Permit>();
    crosses::<crate::journal::Durable>();
    crosses::<crate::journal::WaitPast>();
    crosses::<crate::journal::Reader>();
    crosses::<Scan>();
}

#[test]
fn a_permit_of_another_journal_takes_nothing_from_this_one() {
    let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (a, b) = (open(a.path()), open(b.path()));
    let ticket = b.append(a.admit_blocking(1000).unwrap(), &[b"x"]).unwrap();
    b.durable(ticket).wait().unwrap();
    assert_eq!((a.stats().pending_bytes, b.stats().pending_bytes), (0, 0));
}

#[test]
fn dropping_a_wait_for_durability_leaves_the_entry_and_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    let journal = open(dir.path());
    let ticket = append(&journal, b"entry");
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    for _ in 0..100 {
        let mut dropped = Box::pin(journal.durable(ticket));
        let _ = dropped.as_mut().poll(&mut context);
    }
    journal.durable(ticket).wait().unwrap();
    journal.durable(ticket).wait().unwrap();
    assert_eq!(read_from(&journal, 0), [(0, b"entry".to_vec())]);
}
