//! A disk for tests: real files, any operation of which can be made to fail, and which can crash.
//!
//! Beside the real files it keeps what a power failure would leave: synced bytes for certain, any
//! 512-byte sector of unsynced ones, file names up to the last sync of the directory and any prefix
//! of the later ones.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::format::{as_length, as_offset};
use super::io::{JournalFile, JournalIo, SystemIo};

const SECTOR: u64 = 512;

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not done, and what a failed sync should have made durable is lost.
    NotPersisted,
    /// It is done, but reported as failed.
    Persisted,
    /// A write writes half; anything else succeeds.
    Short,
    /// There is no room, for allocations and writes; anything else succeeds.
    NoSpace,
    /// Allocations are not supported; anything else succeeds.
    NoAllocate,
    /// A sync fails, and what was written before is neither durable nor lost; anything else
    /// succeeds.
    Unsynced,
}

/// The faulty disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct FaultyIo {
    disk: Arc<Mutex<Disk>>,
}

#[derive(Debug, Default)]
struct Disk {
    calls: u64,
    /// Which fault from which call to before which.
    fault: Option<(Fault, u64, u64)>,
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    renames: Vec<Naming>,
    next_id: u64,
}

#[derive(Debug, Default, Clone)]
struct Content {
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Size(u64),
}

#[derive(Debug, Clone)]
enum Naming {
    Put(PathBuf, u64),
    Move(PathBuf, PathBuf),
    Remove(PathBuf),
}

impl FaultyIo {
    /// A disk without faults, for an empty directory.
    pub fn new() -> Self {
        Self::default()
    }

    /// A disk that holds the files that `dir` has now, all durable.
    ///
    /// # Errors
    ///
    /// The directory cannot be read.
    pub fn holding(dir: &Path) -> io::Result<Self> {
        let mut disk = Disk::default();
        for item in std::fs::read_dir(dir)? {
            let path = item?.path();
            let id = disk.put(&path);
            if let Some(content) = disk.files.get_mut(&id) {
                content.durable = std::fs::read(path)?;
            }
        }
        disk.sync_names();
        Ok(Self { disk: Arc::new(Mutex::new(disk)) })
    }

    /// How many operations there have been.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// Lets `count` operations fail, after `skip` more that succeed.
    pub fn fail(&self, fault: Fault, skip: u64, count: u64) {
        let mut disk = self.lock();
        let from = disk.calls.saturating_add(skip);
        disk.fault = Some((fault, from, from.saturating_add(count)));
    }

    /// Lets everything succeed again.
    pub fn heal(&self) {
        self.lock().fault = None;
    }

    /// Writes to `dir` what a power failure at this moment would leave; `survives` decides for each
    /// sector and change of size that was not synced, and for each file name in turn.
    ///
    /// # Errors
    ///
    /// A file cannot be written.
    pub fn crash_into(&self, dir: &Path, mut survives: impl FnMut() -> bool) -> io::Result<()> {
        let disk = self.lock();
        let mut names = disk.durable_names.clone();
        for naming in &disk.renames {
            if !survives() {
                break;
            }
            naming.apply(&mut names);
        }
        for (path, id) in names {
            let Some(content) = disk.files.get(&id) else { continue };
            let mut bytes = content.durable.clone();
            for change in &content.unsynced {
                match change {
                    Change::Write(offset, written) => {
                        write_sectors(&mut bytes, *offset, written, &mut survives);
                    }
                    Change::Size(_) if !survives() => {}
                    Change::Size(size) => bytes.resize(as_length(*size), 0),
                }
            }
            if let Some(name) = path.file_name() {
                std::fs::write(dir.join(name), bytes)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write_sectors(
    bytes: &mut Vec<u8>,
    offset: u64,
    written: &[u8],
    survives: &mut impl FnMut() -> bool,
) {
    let mut at = 0;
    while at < written.len() {
        let start = offset + as_offset(at);
        let length = as_length(SECTOR - start % SECTOR).min(written.len() - at);
        if survives() {
            put(bytes, start, &written[at..at + length]);
        }
        at += length;
    }
}

fn put(bytes: &mut Vec<u8>, offset: u64, written: &[u8]) {
    let start = as_length(offset);
    let end = start + written.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[start..end].copy_from_slice(written);
}

impl Naming {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Put(path, id) => {
                names.insert(path.clone(), *id);
            }
            Self::Move(from, to) => {
                if let Some(id) = names.remove(from) {
                    names.insert(to.clone(), id);
                }
            }
            Self::Remove(path) => {
                names.remove(path);
            }
        }
    }
}

impl Content {
    fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            match change {
                Change::Write(offset, written) => put(&mut self.durable, offset, &written),
                Change::Size(size) => self.durable.resize(as_length(size), 0),
            }
        }
    }
}

impl Disk {
    /// The fault that hits the operation now beginning.
    fn begin(&mut self) -> Option<Fault> {
        let call = self.calls;
        self.calls += 1;
        self.fault.filter(|(_, from, to)| (*from..*to).contains(&call)).map(|(fault, ..)| fault)
    }

    fn put(&mut self, path: &Path) -> u64 {
        self.next_id += 1;
        let id = self.next_id;
        self.files.insert(id, Content::default());
        self.name(Naming::Put(path.to_path_buf(), id));
        id
    }

    fn name(&mut self, naming: Naming) {
        naming.apply(&mut self.names);
        self.renames.push(naming);
    }

    fn sync_names(&mut self) {
        self.durable_names = self.names.clone();
        self.renames.clear();
    }

    fn change(&mut self, id: u64, change: Change) {
        if let Some(content) = self.files.get_mut(&id) {
            content.unsynced.push(change);
        }
    }
}

fn broken() -> io::Error {
    io::Error::other("input/output error made by a test")
}

/// Does an operation, or fails as `fault` says.
fn with_fault<T>(fault: Option<Fault>, operation: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match fault {
        Some(Fault::NotPersisted) => Err(broken()),
        Some(Fault::Persisted) => operation().and_then(|_| Err(broken())),
        _ => operation(),
    }
}

impl JournalIo for FaultyIo {
    fn create(&self, path: &Path) -> io::Result<Box<dyn JournalFile>> {
        let mut disk = self.lock();
        with_fault(disk.begin(), || {
            let file = File::create(path)?;
            let id = disk.put(path);
            Ok(Box::new(FaultyFile { io: self.clone(), file, id }) as Box<dyn JournalFile>)
        })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn JournalFile>> {
        let mut disk = self.lock();
        with_fault(disk.begin(), || {
            let file = File::options().write(true).open(path)?;
            let id = disk.names.get(path).copied().ok_or(io::ErrorKind::NotFound)?;
            Ok(Box::new(FaultyFile { io: self.clone(), file, id }) as Box<dyn JournalFile>)
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        with_fault(disk.begin(), || {
            SystemIo.rename(from, to)?;
            disk.name(Naming::Move(from.to_path_buf(), to.to_path_buf()));
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        with_fault(disk.begin(), || {
            SystemIo.remove(path)?;
            disk.name(Naming::Remove(path.to_path_buf()));
            Ok(())
        })
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut disk = self.lock();
        with_fault(disk.begin(), || {
            disk.sync_names();
            Ok(())
        })
    }
}

#[derive(Debug)]
struct FaultyFile {
    io: FaultyIo,
    file: File,
    id: u64,
}

impl FaultyFile {
    /// Real syncs are left out: the model says what is durable.
    fn sync(&self) -> io::Result<()> {
        let mut disk = self.io.lock();
        let fault = disk.begin();
        let Some(content) = disk.files.get_mut(&self.id) else { return Ok(()) };
        match fault {
            Some(Fault::NotPersisted) => content.unsynced.clear(),
            Some(Fault::Unsynced) => return Err(broken()),
            _ => {}
        }
        with_fault(fault, || {
            content.sync();
            Ok(())
        })
    }
}

impl JournalFile for FaultyFile {
    fn allocate(&self, length: u64) -> io::Result<bool> {
        let mut disk = self.io.lock();
        let fault = disk.begin();
        match fault {
            Some(Fault::NoSpace) => return Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::NoAllocate) => return Ok(false),
            _ => {}
        }
        with_fault(fault, || {
            self.file.set_len(length)?;
            disk.change(self.id, Change::Size(length));
            Ok(true)
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.io.lock();
        let fault = disk.begin();
        let length = match fault {
            Some(Fault::NoSpace) => return Err(io::ErrorKind::StorageFull.into()),
            Some(Fault::Short) => bytes.len().div_ceil(2),
            _ => bytes.len(),
        };
        with_fault(fault, || {
            let written = self.file.write_at(&bytes[..length], offset)?;
            disk.change(self.id, Change::Write(offset, bytes[..written].to_vec()));
            Ok(written)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync()
    }

    fn truncate(&self, length: u64) -> io::Result<()> {
        let mut disk = self.io.lock();
        with_fault(disk.begin(), || {
            self.file.set_len(length)?;
            disk.change(self.id, Change::Size(length));
            Ok(())
        })
    }
}
