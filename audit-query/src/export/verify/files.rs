//! Are the files those that the manifest names?

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use agent_audit_core::{hash::Hash, verify::FindingKind};
use sha2::{Digest, Sha256};

use super::report::Draft;
use crate::{
    QueryError, QueryErrorKind,
    export::{
        manifest::{EVENTS, ExportedFile, MANIFEST, Manifest, PARTIAL, SIGNATURE},
        output::failed,
        progress::Ticker,
    },
};

/// What lies in a directory, by name: the length of each file, nothing for what is no file.
pub(super) struct Listing {
    dir: PathBuf,
    items: BTreeMap<String, Option<u64>>,
}

impl Listing {
    pub(super) fn read(dir: &Path) -> Result<Self, QueryError> {
        let fail = |error| failed("read", dir, error);
        let mut items = BTreeMap::new();
        for item in fs::read_dir(dir).map_err(fail)? {
            let item = item.map_err(fail)?;
            // A link is no file: it can lead anywhere.
            let meta = item.metadata().map_err(fail)?;
            let length = meta.is_file().then_some(meta.len());
            items.insert(item.file_name().to_string_lossy().into_owned(), length);
        }
        Ok(Self { dir: dir.to_owned(), items })
    }

    /// Whether this is an export, or what is left of one.
    pub(super) fn is_export(&self) -> bool {
        self.items.keys().any(|name| {
            let name = name.strip_suffix(PARTIAL).unwrap_or(name);
            name == MANIFEST || name == SIGNATURE || name.starts_with(EVENTS)
        })
    }

    fn is_file(&self, name: &str) -> bool {
        self.items.get(name).is_some_and(Option::is_some)
    }

    /// The bytes of a small file; nothing where it is not there.
    pub(super) fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, QueryError> {
        let path = self.dir.join(name);
        match self.items.get(name) {
            None | Some(None) => Ok(None),
            Some(Some(length)) if *length > MAX_MANIFEST => Err(QueryError::new(
                QueryErrorKind::Invalid,
                format!("`{}` has {length} bytes, which no manifest has", path.display()),
            )),
            Some(Some(_)) => {
                fs::read(&path).map(Some).map_err(|error| failed("read", &path, error))
            }
        }
    }
}

/// More than any manifest that an exporter writes.
const MAX_MANIFEST: u64 = 1 << 30;

/// The files of an export: under which name each of them can be read.
pub(super) struct Files {
    dir: PathBuf,
    found: BTreeMap<String, String>,
    /// Those that are shorter than they were.
    cut: BTreeSet<String>,
}

impl Files {
    /// Holds what lies in the directory against the manifest.
    pub(super) fn check(
        listing: &Listing,
        manifest: &Manifest,
        ticker: &mut Ticker<'_>,
        draft: &mut Draft,
    ) -> Result<Self, QueryError> {
        let mut files =
            Self { dir: listing.dir.clone(), found: BTreeMap::new(), cut: BTreeSet::new() };
        let (mut wrong, mut digests) = (Vec::new(), BTreeMap::new());
        let mut bytes = 0;
        for file in &manifest.files {
            let Some(Some(length)) = listing.items.get(&file.name) else {
                wrong.push((file, None));
                continue;
            };
            let digest = files.digest(&file.name)?;
            bytes += length;
            ticker.reached(0, bytes);
            files.found.insert(file.name.clone(), file.name.clone());
            if digest != file.sha256 || *length != file.bytes {
                wrong.push((file, Some(*length)));
                digests.insert(digest, file.name.clone());
            }
        }
        let mut extra = files.extra(listing, manifest);
        if !wrong.is_empty() {
            for name in extra.iter().filter(|name| listing.is_file(name)) {
                digests.insert(files.digest(name)?, name.clone());
            }
        }
        for (file, length) in wrong {
            if let Some(name) = digests.get(&file.sha256) {
                extra.remove(name);
                let detail = format!("the file was renamed: its bytes stand under `{name}`");
                draft.find(FindingKind::Tampered, &file.name, detail);
                files.found.insert(file.name.clone(), name.clone());
            } else {
                if length.is_some_and(|length| length < file.bytes) {
                    files.cut.insert(file.name.clone());
                }
                told(file, length, draft);
            }
        }
        for name in extra {
            draft.find(
                FindingKind::Foreign,
                &shown(&name),
                "the file was put in: the manifest does not name it, and nobody vouches for it",
            );
        }
        Ok(files)
    }

    /// Where a file of the manifest lies, if it is there.
    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.found.get(name).map(|found| self.dir.join(found))
    }

    /// Whether a file is shorter than it was.
    pub(super) fn is_cut(&self, name: &str) -> bool {
        self.cut.contains(name)
    }

    /// Opens a file of the manifest; nothing where it is not there.
    pub(super) fn open(&self, name: &str) -> Result<Option<File>, QueryError> {
        let Some(path) = self.path(name) else { return Ok(None) };
        File::open(&path).map(Some).map_err(|error| failed("read", &path, error))
    }

    /// What lies there and is not named.
    fn extra(&self, listing: &Listing, manifest: &Manifest) -> BTreeSet<String> {
        let named: BTreeSet<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
        let own = |name: &str| name == MANIFEST || name == SIGNATURE || named.contains(name);
        listing.items.keys().filter(|name| !own(name)).cloned().collect()
    }

    fn digest(&self, name: &str) -> Result<Hash, QueryError> {
        let path = self.dir.join(name);
        digest(&path).map_err(|error| failed("read", &path, error))
    }
}

fn told(file: &ExportedFile, length: Option<u64>, draft: &mut Draft) {
    match length {
        None => draft.find(
            FindingKind::Missing,
            &file.name,
            "the file is missing: the manifest names it, and it is not there",
        ),
        Some(length) if length < file.bytes => {
            let detail = format!(
                "the file was cut: it has {length} bytes, and the manifest says {}",
                file.bytes
            );
            draft.find(FindingKind::Truncated, &file.name, detail);
        }
        Some(_) => draft.find(
            FindingKind::Tampered,
            &file.name,
            "the file was changed: it does not have the SHA-256 that the manifest says",
        ),
    }
}

fn digest(path: &Path) -> io::Result<Hash> {
    let mut file = File::open(path)?;
    let (mut sha256, mut buffer) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Hash::from_bytes(sha256.finalize().into())),
            read => sha256.update(&buffer[..read]),
        }
    }
}

/// The name of a file that somebody put in, made safe to print.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(128).flat_map(char::escape_debug).collect()
}
