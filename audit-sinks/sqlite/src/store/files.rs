//! Which file belongs to which tenant, and who may read it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use agent_audit_core::{id::TenantId, sink::SinkErrorKind};

use crate::error::Fault;

const EXTENSION: &str = ".sqlite3";

/// The name of a tenant's database file.
///
/// Capitals are written small, followed by `=` and the positions of the capitals as a hexadecimal
/// number (bit *n* for character *n*), so that no two tenants share a file where a file system takes
/// capital and small letters for the same.
///
/// ```
/// use agent_audit_core::id::TenantId;
/// use agent_audit_sqlite::file_of_tenant;
/// assert_eq!(file_of_tenant(&TenantId::new("acme")?), "acme.sqlite3");
/// assert_eq!(file_of_tenant(&TenantId::new("AcmE")?), "acme=9.sqlite3");
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[must_use]
pub fn file_of_tenant(tenant: &TenantId) -> String {
    let name = tenant.as_str();
    // A tenant id has at most 128 bytes, which is why one 128-bit number holds every position.
    let capitals = name
        .bytes()
        .enumerate()
        .filter(|(_, byte)| byte.is_ascii_uppercase())
        .fold(0u128, |mask, (at, _)| mask | (1 << at));
    let small = name.to_ascii_lowercase();
    if capitals == 0 { small + EXTENSION } else { format!("{small}={capitals:x}{EXTENSION}") }
}

/// The tenant to whom a database file belongs, where the name is one that [`file_of_tenant`] gives.
///
/// ```
/// use agent_audit_sqlite::tenant_of_file;
/// assert_eq!(tenant_of_file("acme=9.sqlite3").expect("a tenant").as_str(), "AcmE");
/// assert_eq!(tenant_of_file("AcmE.sqlite3"), None);
/// assert_eq!(tenant_of_file("acme.sqlite3-wal"), None);
/// ```
#[must_use]
pub fn tenant_of_file(file_name: &str) -> Option<TenantId> {
    let stem = file_name.strip_suffix(EXTENSION)?;
    let (small, capitals) = match stem.split_once('=') {
        Some((small, digits)) => (small, u128::from_str_radix(digits, 16).ok()?),
        None => (stem, 0),
    };
    let name: String = small
        .chars()
        .enumerate()
        .map(|(at, c)| if at < 128 && capitals >> at & 1 == 1 { c.to_ascii_uppercase() } else { c })
        .collect();
    TenantId::new(name).ok().filter(|tenant| file_of_tenant(tenant) == file_name)
}

/// The tenants that have a database in a directory, sorted.
pub(crate) fn tenants_in(directory: &Path) -> Result<Vec<TenantId>, Fault> {
    let list = || -> std::io::Result<Vec<TenantId>> {
        let mut tenants = Vec::new();
        for entry in fs::read_dir(directory)? {
            tenants.extend(entry?.file_name().to_str().and_then(tenant_of_file));
        }
        tenants.sort_unstable();
        Ok(tenants)
    };
    list().map_err(|error| Fault::io(&error, &format!("list {}", directory.display())))
}

/// Creates the directory where it is missing, for its owner alone, and makes its name durable.
pub(crate) fn ensure_directory(directory: &Path) -> Result<(), Fault> {
    let fault = |error: &_| Fault::io(error, &format!("create directory {}", directory.display()));
    match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => {
            return Err(Fault::new(
                SinkErrorKind::Misconfigured,
                format!("{} is not a directory: name one for the databases", directory.display()),
            ));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(fault(&error)),
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory).map_err(|error| fault(&error))?;
    let parent = match directory.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    fs::File::open(parent).and_then(|parent| parent.sync_all()).map_err(|error| fault(&error))
}

/// Shows that files can be written here, and leaves none behind.
pub(crate) fn probe(directory: &Path) -> Result<(), Fault> {
    let path = directory.join(format!(".check-{}", std::process::id()));
    let probe = || {
        fs::write(&path, b"check")?;
        fs::remove_file(&path)
    };
    probe().map_err(|error| Fault::io(&error, &format!("write to {}", directory.display())))
}

/// Creates a tenant's empty file where it is missing, for its owner alone: `SQLite` would create it
/// for all to read, and gives its other files the mode of this one.
pub(crate) fn ensure_file(path: &Path) -> Result<(), Fault> {
    let mut options = fs::OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .map(drop)
        .map_err(|error| Fault::io(&error, &format!("open {}", path.display())))
}

/// What tells whether a path still leads to the file that was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64);

impl FileId {
    /// The identity of the file at a path now; on systems without one, all files are the same.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            Some(Self(metadata.dev(), metadata.ino()))
        }
        #[cfg(not(unix))]
        {
            drop(metadata);
            Some(Self(0, 0))
        }
    }
}

/// The path of a companion of a database: `-wal` or `-shm`.
pub(crate) fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_come_back_and_never_meet_on_a_file_system_without_case() {
        let longest = ["A".repeat(128), "aB".repeat(64), "z".repeat(128), "9".repeat(128)];
        let mut names = vec!["acme", "Acme", "aCme", "ACME", "a.b_c-d", "A.B_C-D", "0", "acme1"];
        names.extend(longest.iter().map(String::as_str));
        let files: HashSet<String> = names
            .iter()
            .map(|name| {
                let tenant = TenantId::new(name).unwrap();
                let file = file_of_tenant(&tenant);
                assert_eq!(tenant_of_file(&file), Some(tenant), "{file}");
                assert!(file.len() + "-wal".len() <= 255, "{file} fits every file system");
                file.to_ascii_lowercase()
            })
            .collect();
        assert_eq!(files.len(), names.len());
    }

    #[test]
    fn other_names_belong_to_nobody() {
        for name in [
            "acme",
            "acme.sqlite",
            ".sqlite3",
            "=1.sqlite3",
            "acme=0.sqlite3",
            "acme=.sqlite3",
            "acme=01.sqlite3",
            "acme=10.sqlite3",
            "acme=+1.sqlite3",
            "a9=2.sqlite3",
            "acme=1=1.sqlite3",
            "acme=F.sqlite3",
            "a b.sqlite3",
            "acme=fffffffffffffffffffffffffffffffff.sqlite3",
        ] {
            assert_eq!(tenant_of_file(name), None, "{name}");
        }
    }
}
