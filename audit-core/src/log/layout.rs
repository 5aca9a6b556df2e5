//! The files of a log directory.
//!
//! | path | what |
//! |---|---|
//! | `log.json` | `{"format":1,"writer_id":"…"}`: what makes a directory a log |
//! | `journal/` | the [journal](crate::journal); its entries are described in [`super::entry`] |
//! | `chains.json` | the state of every chain at one journal entry, so that opening is quick |
//! | `checkpoints/NNNNNN.ndjson` | signed checkpoints, one JSON object a line; where the log was told to keep them elsewhere, in a directory there with the writer id as its name |
//! | `keys/signing.key` | the signing key, readable by its owner alone |
//! | `keys/<id>.pub` | each public key that signed here, one line |
//! | `cursors/<sink>.json` | how far each sink has acknowledged |
//! | `quarantine/<sink>/<event hash>.json` | events that a sink refused for good, kept aside |
//! | `sqlite/` | where the embedded store lives, by convention |

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{AuditError, AuditErrorKind},
    id::WriterId,
};

/// The paths of a log directory.
///
/// ```
/// use agent_audit_core::log::Layout;
/// let layout = Layout::new("/var/lib/audit");
/// assert_eq!(layout.journal(), std::path::Path::new("/var/lib/audit/journal"));
/// ```
#[derive(Debug, Clone)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout under a directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What makes the directory a log.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.root.join("log.json")
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// The snapshot of the chains.
    #[must_use]
    pub fn chains(&self) -> PathBuf {
        self.root.join("chains.json")
    }

    /// The checkpoints, unless the log was told to keep them elsewhere.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The cursors of the sinks.
    #[must_use]
    pub fn cursors(&self) -> PathBuf {
        self.root.join("cursors")
    }

    /// Events that a sink refused for good, kept aside.
    #[must_use]
    pub fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// Where the embedded store lives, by convention.
    #[must_use]
    pub fn sqlite(&self) -> PathBuf {
        self.root.join("sqlite")
    }
}

/// The content of `log.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) format: u32,
    pub(crate) writer_id: WriterId,
}

const FORMAT: u32 = 1;

/// Reads the identity of a log, or makes the directory one.
///
/// The caller holds the journal's lock, and knows whether the journal is empty: one that is not
/// belongs to an identity that must be there.
pub(crate) fn identity(layout: &Layout, empty: bool) -> Result<Identity, AuditError> {
    let path = layout.identity();
    match fs::read(&path) {
        Ok(bytes) => {
            let identity: Identity = serde_json::from_slice(&bytes).map_err(|error| {
                AuditError::damaged(format!(
                    "`{}` is not the description of a log: restore it from a backup",
                    path.display()
                ))
                .with_source(error)
            })?;
            if identity.format != FORMAT {
                return Err(AuditError::new(
                    AuditErrorKind::UnknownVersion,
                    format!(
                        "`{}` is a log of format {}, this program knows {FORMAT}: use the release \
                         that wrote it or a later one",
                        layout.root().display(),
                        identity.format
                    ),
                ));
            }
            Ok(identity)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !empty => {
            Err(AuditError::damaged(format!(
                "`{}` is missing beside a journal that is not empty: restore it from a backup",
                path.display()
            )))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let identity = Identity { format: FORMAT, writer_id: WriterId::random() };
            let bytes = serde_json::to_vec(&identity).expect("an identity has a JSON form");
            replace(&path, &bytes)?;
            Ok(identity)
        }
        Err(error) => Err(AuditError::io("read", &path, error)),
    }
}

/// Creates a directory for its owner alone, and its parents.
pub(crate) fn create_dir(path: &Path) -> Result<(), AuditError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| AuditError::io("create the directory", path, error))
}

/// Replaces a file as a whole: after a crash it is the old one or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), AuditError> {
    let fail = |error| AuditError::io("write", path, error);
    let draft = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .map_err(fail)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(fail)?;
    fs::rename(&draft, path).map_err(fail)?;
    sync_dir(path.parent().unwrap_or(Path::new("."))).map_err(fail)
}

pub(crate) fn sync_dir(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}
