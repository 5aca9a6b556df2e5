//! Taking over a journal directory: ownership, leftovers, and the end of the newest segment.

use std::collections::VecDeque;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::cursor::{SegmentCursor, Step, Verdict};
use super::error::{JournalError, JournalErrorKind};
use super::format::{RECORD, as_length, as_offset};
use super::io::{JournalIo, write_all_at};
use super::scan::list_segments;
use super::segment::write_seal;
use super::state::Segment;
use super::{CheckOnOpen, JournalOptions, TornTail};

/// What is in a directory that this process now owns.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) segments: VecDeque<Segment>,
    pub(super) next_index: u64,
    pub(super) torn: Option<TornTail>,
}

/// Makes the directory if it is missing, for its owner alone.
pub(super) fn create_dir(dir: &Path) -> Result<(), JournalError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| JournalError::io("create journal directory", dir, error))
}

/// Takes the directory for this handle; the lock goes when the file is closed, at the latest with
/// the process.
pub(super) fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("lock");
    let failed = |error| JournalError::io("lock journal", &path, error);
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(&path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(locked(dir, &mut file)),
        Err(errno) => return Err(failed(errno.into())),
    }
    // Only a help for people, so that failing to write it is no reason to stop.
    let pid = format!("{}\n", std::process::id());
    let _ =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(pid.as_bytes()));
    Ok(file)
}

fn locked(dir: &Path, file: &mut File) -> JournalError {
    let mut text = String::new();
    let _ = file.take(32).read_to_string(&mut text);
    let owner = match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    };
    JournalError::new(
        JournalErrorKind::Locked,
        format!(
            "the journal in `{}` is in use by {owner}, close it there or choose another directory",
            dir.display()
        ),
    )
}

/// Reads the segments and ends the newest, so that writing goes on in a new one.
pub(super) fn load(dir: &Path, options: &JournalOptions) -> Result<Opened, JournalError> {
    remove_leftovers(dir, options.io.as_ref())?;
    let firsts = list_segments(dir)?;
    let mut opened = Opened { segments: VecDeque::new(), next_index: 0, torn: None };
    for (at, &first) in firsts.iter().enumerate() {
        if let Some(previous) = opened.segments.back()
            && previous.end != first
        {
            return Err(gap(dir, previous.end, first));
        }
        let mut cursor = SegmentCursor::open(dir, first)?;
        let newest = at + 1 == firsts.len();
        if !newest
            && options.check_on_open == CheckOnOpen::Newest
            && let Some(end) = cursor.sealed_next()?
        {
            opened.segments.push_back(Segment { first, end, bytes: cursor.limit() });
            continue;
        }
        let bytes = read_segment(dir, &mut cursor, newest, options, &mut opened.torn)?;
        opened.segments.push_back(Segment { first, end: cursor.next, bytes });
    }
    opened.next_index = opened.segments.back().map_or(0, |newest| newest.end);
    Ok(opened)
}

/// Reads a segment to its end; how many bytes of it are of use.
fn read_segment(
    dir: &Path,
    cursor: &mut SegmentCursor,
    newest: bool,
    options: &JournalOptions,
    torn: &mut Option<TornTail>,
) -> Result<u64, JournalError> {
    let io = options.io.as_ref();
    loop {
        match cursor.step()? {
            Step::Entry(_) => {}
            Step::Sealed => {
                let end = cursor.offset + as_offset(RECORD);
                if cursor.limit() > end {
                    // The process ended between writing the seal and cutting behind it.
                    let cut = io.open(&cursor.path).and_then(|file| file.truncate(end));
                    cut.map_err(|error| {
                        JournalError::io("cut journal segment", &cursor.path, error)
                    })?;
                }
                return Ok(end);
            }
            Step::End if !newest => {
                let reason = "the segment ends without its seal, and another one follows";
                return Err(JournalError::damaged(&cursor.path, cursor.offset, reason));
            }
            Step::End if cursor.is_cut_short() => {
                let reason = "the file is shorter than it was made and has no seal";
                return Err(JournalError::damaged(&cursor.path, cursor.offset, reason));
            }
            Step::End => return seal(cursor, io),
            Step::Bad(reason) if !newest => {
                return Err(JournalError::damaged(&cursor.path, cursor.offset, reason));
            }
            Step::Bad(reason) => match cursor.judge(reason)? {
                Verdict::Readable => {}
                Verdict::Damaged(reason) => {
                    return Err(JournalError::damaged(&cursor.path, cursor.offset, &reason));
                }
                Verdict::Torn => {
                    let tail = TornTail {
                        segment: cursor.header.first,
                        offset: cursor.offset,
                        bytes: cursor.used_after()?,
                    };
                    keep_torn(dir, cursor, tail, io)?;
                    tracing::warn!(
                        segment = tail.segment,
                        offset = tail.offset,
                        bytes = tail.bytes,
                        "cut an incomplete write that was never acknowledged"
                    );
                    *torn = Some(tail);
                    return seal(cursor, io);
                }
            },
        }
    }
}

/// Ends the segment at the cursor.
///
/// What is in front of it is synced first: a seal says that it is durable, but the process that
/// wrote it may have died before it was.
fn seal(cursor: &SegmentCursor, io: &dyn JournalIo) -> Result<u64, JournalError> {
    let sealed = io.open(&cursor.path).and_then(|file| {
        file.sync_data()?;
        let end = write_seal(
            file.as_ref(),
            cursor.header.salt,
            cursor.offset,
            cursor.offset,
            cursor.next,
        )?;
        file.truncate(end)?;
        file.sync_all()?;
        Ok(end)
    });
    sealed.map_err(|error| JournalError::io("seal journal segment", &cursor.path, error))
}

/// Copies what is about to be cut to a file beside it, for those who want to look.
fn keep_torn(
    dir: &Path,
    cursor: &SegmentCursor,
    tail: TornTail,
    io: &dyn JournalIo,
) -> Result<(), JournalError> {
    let path = dir.join(format!("torn-{:020}-{}", tail.segment, tail.offset));
    if path.exists() {
        // From an earlier open that did not come to the cut; that copy is the original one.
        return Ok(());
    }
    let draft = dir.join("torn.new");
    let copied = File::open(&cursor.path).and_then(|from| {
        let to = io.create(&draft)?;
        let mut block = vec![0; 1 << 20];
        let mut at = 0;
        while at < tail.bytes {
            let length = as_length((tail.bytes - at).min(as_offset(block.len())));
            from.read_exact_at(&mut block[..length], tail.offset + at)?;
            write_all_at(to.as_ref(), &block[..length], at)?;
            at += as_offset(length);
        }
        to.sync_all()?;
        io.rename(&draft, &path)?;
        io.sync_dir(dir)
    });
    copied.map_err(|error| JournalError::io("keep a copy of the torn tail as", &path, error))
}

/// Deletes preallocated files that never became segments.
fn remove_leftovers(dir: &Path, io: &dyn JournalIo) -> Result<(), JournalError> {
    let failed = |error| JournalError::io("list journal directory", dir, error);
    for item in std::fs::read_dir(dir).map_err(failed)? {
        let item = item.map_err(failed)?;
        if item.file_name().to_str().is_some_and(|name| name.ends_with(".new")) {
            let path = item.path();
            io.remove(&path).map_err(|error| JournalError::io("delete", &path, error))?;
        }
    }
    Ok(())
}

fn gap(dir: &Path, expected: u64, found: u64) -> JournalError {
    JournalError::new(
        JournalErrorKind::Damaged,
        format!(
            "the journal in `{}` has no segment for entry {expected}, the next one starts with \
             entry {found}; restore the missing file from a copy, or move the journal directory \
             aside to start a new one",
            dir.display()
        ),
    )
}
