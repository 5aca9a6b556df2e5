//! The directory that an export is written into.
//!
//! A file is written under another name, synced and renamed when it is whole. What was written goes
//! again unless the export is finished; a process that is killed leaves files without a manifest,
//! which nobody takes for an export.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use agent_audit_core::hash::Hash;
use sha2::{Digest, Sha256};

use super::manifest::{ExportedFile, PARTIAL};
use crate::{QueryError, QueryErrorKind};

/// An export that is being written.
pub(super) struct Output {
    dir: PathBuf,
    made_dir: bool,
    files: Vec<ExportedFile>,
    bytes: u64,
    finished: bool,
}

impl Output {
    /// Takes a directory that is not there, or is empty.
    pub(super) fn create(dir: &Path) -> Result<Self, QueryError> {
        let made_dir = match fs::read_dir(dir) {
            Ok(mut items) => {
                if items.next().is_some() {
                    return Err(QueryError::invalid(format!(
                        "`{}` is not empty: an export is written into a directory of its own",
                        dir.display()
                    )));
                }
                false
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut builder = fs::DirBuilder::new();
                builder.mode(0o700).create(dir).map_err(|error| failed("make", dir, error))?;
                true
            }
            Err(error) => return Err(failed("list", dir, error)),
        };
        Ok(Self { dir: dir.to_owned(), made_dir, files: Vec::new(), bytes: 0, finished: false })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The files that are whole, in the order of their names.
    pub(super) fn files(&self) -> Vec<ExportedFile> {
        let mut files = self.files.clone();
        files.sort_by(|a, b| a.name.cmp(&b.name));
        files
    }

    /// How many bytes the files have that are whole.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Begins a file.
    pub(super) fn begin(&self, name: impl Into<String>) -> Result<Writing, QueryError> {
        let name = name.into();
        let path = self.dir.join(format!("{name}{PARTIAL}"));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(|error| failed("write", &path, error))?;
        let out = BufWriter::with_capacity(256 << 10, file);
        Ok(Writing { name, path, out, sha256: Sha256::new(), bytes: 0 })
    }

    /// Ends a file: from here on it has its name.
    pub(super) fn commit(
        &mut self,
        writing: Writing,
        events: Option<u64>,
    ) -> Result<(), QueryError> {
        let Writing { name, path, out, sha256, bytes } = writing;
        let to = self.dir.join(&name);
        out.into_inner()
            .map_err(io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&path, &to))
            .map_err(|error| failed("write", &path, error))?;
        self.bytes += bytes;
        let sha256 = Hash::from_bytes(sha256.finalize().into());
        self.files.push(ExportedFile { bytes, events, name, sha256 });
        Ok(())
    }

    /// Gives a file up.
    pub(super) fn discard(&self, writing: Writing) -> Result<(), QueryError> {
        fs::remove_file(&writing.path).map_err(|error| failed("remove", &writing.path, error))
    }

    /// Writes a small file at once.
    pub(super) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), QueryError> {
        let mut writing = self.begin(name)?;
        writing.put(bytes)?;
        self.commit(writing, None)?;
        self.sync()
    }

    /// Keeps what was written.
    pub(super) fn finish(mut self) -> Result<(), QueryError> {
        self.sync()?;
        self.finished = true;
        Ok(())
    }

    fn sync(&self) -> Result<(), QueryError> {
        File::open(&self.dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| failed("sync", &self.dir, error))
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // Everything in the directory is ours: it was empty, and no file of another was replaced.
        if let Ok(items) = fs::read_dir(&self.dir) {
            let ours = |path: &Path| {
                let partial = path.extension().is_some_and(|end| end == &PARTIAL[1..]);
                partial || self.files.iter().any(|file| path.ends_with(&file.name))
            };
            for path in items.flatten().map(|item| item.path()).filter(|path| ours(path)) {
                let _ = fs::remove_file(path);
            }
        }
        if self.made_dir {
            let _ = fs::remove_dir(&self.dir);
        }
    }
}

/// A file that is being written.
pub(super) struct Writing {
    name: String,
    path: PathBuf,
    out: BufWriter<File>,
    sha256: Sha256,
    bytes: u64,
}

impl Writing {
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), QueryError> {
        self.write_all(bytes).map_err(|error| failed("write", &self.path, error))
    }

    /// How many bytes it has.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.sha256.update(&bytes[..written]);
        self.bytes += u64::try_from(written).unwrap_or(u64::MAX);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

pub(super) fn failed(what: &str, path: &Path, error: io::Error) -> QueryError {
    let kind = match error.kind() {
        io::ErrorKind::NotFound => QueryErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => QueryErrorKind::PermissionDenied,
        _ => QueryErrorKind::Other,
    };
    QueryError::new(kind, format!("cannot {what} `{}`", path.display())).with_source(error)
}
