//! Files that survive a crash: replaced as a whole, or appended to and cut where a line is not whole.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
};

use super::{WatchError, WatchErrorKind};

/// Makes a directory, for its owner alone, and its parents.
pub(super) fn create_dir(path: &Path) -> Result<(), WatchError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| WatchError::io("create the directory", path, error))
}

/// Replaces a file as a whole: after a crash it is the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), WatchError> {
    let fail = |error| WatchError::io("write", path, error);
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = Path::new(&draft);
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(draft)
        .map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
    fs::rename(draft, path).map_err(fail)?;
    sync_dir(path.parent().unwrap_or(Path::new("."))).map_err(fail)
}

/// Reads a file whole; none where there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, WatchError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(WatchError::io("read", path, error)),
    }
}

/// The names of the files of a directory that end so, without that end, sorted.
pub(super) fn names(dir: &Path, end: &str) -> Result<Vec<String>, WatchError> {
    let fail = |error| WatchError::io("list", dir, error);
    let items = match fs::read_dir(dir) {
        Ok(items) => items,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(fail(error)),
    };
    let mut names = Vec::new();
    for item in items {
        let name = item.map_err(fail)?.file_name();
        let name = name.to_str().and_then(|name| name.strip_suffix(end));
        names.extend(name.map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a directory this process's own, for as long as the file is kept open.
pub(super) fn lock(dir: &Path) -> Result<File, WatchError> {
    let path = dir.join("lock");
    let opened =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    let file = opened.map_err(|error| WatchError::io("open", &path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(WatchError::new(
            WatchErrorKind::InUse,
            format!(
                "another process runs the integrity job of `{}`: wait for it, or give this one a \
                 directory of its own",
                dir.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(WatchError::io("lock", &path, error)),
    }
}
