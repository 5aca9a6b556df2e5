//! One chain, manifest by manifest, each with its object and with what is wrong with both.

use agent_audit_core::{chain::ChainRef, hash::Hash, record::Record};
use futures_util::{StreamExt, stream, stream::BoxStream};

use super::{ArchiveFinding, ArchiveFindingKind as Kind, S3Archive};
use crate::{
    config::Lock,
    error::Fault,
    store::{Body, KeyVersions, Object, Shelf, Signature, SignedManifest, digest, format_of},
};

/// A chain on its way to a reader, in the order of its positions.
pub(super) struct Walk {
    shelf: Shelf,
    chain: ChainRef,
    lock: Option<Lock>,
    legal_hold: bool,
    fetched: BoxStream<'static, Result<Fetched, Fault>>,
    /// The position that comes next, and the digest of the manifest before; none where the walk
    /// began within the chain.
    next: Option<u64>,
    previous: Option<Hash>,
}

/// A record, and the column beside it that does not agree.
pub(super) type Row = (Record, Option<&'static str>);

/// What was found of one manifest.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) manifest: Option<SignedManifest>,
    /// The records that could be read, whether the object is sound or not.
    pub(super) rows: Vec<Row>,
    pub(super) findings: Vec<ArchiveFinding>,
}

impl Found {
    /// # Errors
    /// The first thing that is wrong.
    pub(super) fn sound(&self) -> Result<(), Fault> {
        use agent_audit_core::verify::Severity::{Tampering, Unsure};
        let serious = |finding: &&ArchiveFinding| {
            matches!(finding.kind.severity(), Tampering | Unsure) && finding.kind != Kind::Unlocked
        };
        // An attempt that came to nothing is for `verify` to tell: what counts can be read.
        let harmless = |kind| matches!(kind, Kind::Overwritten | Kind::Hidden);
        let mut serious = self.findings.iter().filter(serious).filter(|f| !harmless(f.kind));
        match serious.next() {
            Some(finding) => Err(Fault::corrupt(finding.to_string())),
            None => Ok(()),
        }
    }
}

/// A manifest and its object as they came.
struct Fetched {
    entry: KeyVersions,
    manifest_object: Option<Object>,
    manifest: Result<SignedManifest, String>,
    object: Wanted,
    /// Manifests that were written over the first one.
    others: Vec<Option<Object>>,
}

/// The object of a manifest.
enum Wanted {
    Not,
    Gone,
    Here { lock: Option<(crate::LockMode, i64)>, legal_hold: bool, written: i64, body: Contents },
}

struct Contents {
    sha256: Hash,
    rows: Vec<Row>,
    fault: Option<String>,
}

/// Clocks differ by no more than this many seconds.
const SLACK: i64 = 300;

impl Walk {
    /// Manifests and objects, from the one that holds a position.
    pub(super) async fn whole(
        archive: &S3Archive,
        chain: &ChainRef,
        from: u64,
    ) -> Result<Self, Fault> {
        Self::begin(archive, chain, from, true).await
    }

    /// Manifests alone.
    pub(super) async fn manifests(
        archive: &S3Archive,
        chain: &ChainRef,
        from: u64,
    ) -> Result<Self, Fault> {
        Self::begin(archive, chain, from, false).await
    }

    async fn begin(
        archive: &S3Archive,
        chain: &ChainRef,
        from: u64,
        objects: bool,
    ) -> Result<Self, Fault> {
        let entries = archive.entries(chain, from).await?;
        let start = (from == 0).then_some((0, Hash::ZERO));
        Ok(Self::through(archive, chain, entries, objects, start))
    }

    /// Manifests that are listed already, and their objects: those behind a position and the digest
    /// of the manifest before it, or all from the first one on.
    #[cfg(feature = "query")]
    pub(super) fn behind(
        archive: &S3Archive,
        chain: &ChainRef,
        entries: Vec<KeyVersions>,
        known: Option<(u64, Hash)>,
    ) -> Self {
        Self::through(archive, chain, entries, true, Some(known.unwrap_or((0, Hash::ZERO))))
    }

    fn through(
        archive: &S3Archive,
        chain: &ChainRef,
        entries: Vec<KeyVersions>,
        objects: bool,
        start: Option<(u64, Hash)>,
    ) -> Self {
        let (shelf, of) = (archive.shelf.clone(), chain.clone());
        let fetched = stream::iter(entries)
            .map(move |entry| fetch(shelf.clone(), of.clone(), entry, objects))
            .buffered(archive.parallelism);
        Self {
            shelf: archive.shelf.clone(),
            chain: chain.clone(),
            lock: archive.lock,
            legal_hold: archive.legal_hold,
            fetched: fetched.boxed(),
            next: start.map(|(next, _)| next),
            previous: start.map(|(_, previous)| previous),
        }
    }

    /// # Errors
    /// What keeps the reader from telling; what is wrong with the archive is a finding.
    pub(super) async fn next(&mut self) -> Result<Option<Found>, Fault> {
        match self.fetched.next().await {
            Some(fetched) => Ok(Some(self.judge(fetched?))),
            None => Ok(None),
        }
    }

    /// The position behind the last manifest.
    pub(super) fn end(&self) -> u64 {
        self.next.unwrap_or_default()
    }

    fn judge(&mut self, fetched: Fetched) -> Found {
        let key = fetched.entry.key.clone();
        let mut found = Found::default();
        let mut say = |kind, key: &str, detail: String| {
            found.findings.push(ArchiveFinding::new(kind, Some(&self.chain), key, detail));
        };
        if fetched.entry.markers > 0 {
            say(Kind::Hidden, &key, "was deleted, and its version is still there".to_owned());
        }
        for other in &fetched.others {
            let (kind, detail) = other_manifest(&self.shelf, &self.chain, &key, other.as_ref());
            say(kind, &key, detail);
        }
        let signed = match fetched.manifest {
            Ok(signed) => signed,
            Err(what) => {
                if self.shelf.layout.manifest_first(&self.chain, &key).is_none() {
                    say(Kind::Foreign, &key, "is no manifest".to_owned());
                    return found;
                }
                let detail = format!("is not the manifest that belongs there: {what}");
                say(Kind::ManifestChanged, &key, detail);
                // What follows cannot be held against it.
                (self.next, self.previous) = (None, None);
                return found;
            }
        };
        let manifest = &signed.manifest;
        match signed.signature(&self.shelf.believed) {
            Signature::Known => {}
            Signature::Bad => {
                say(Kind::ManifestChanged, &key, "was changed after it was signed".to_owned());
            }
            Signature::Unknown | Signature::Missing if self.shelf.unsigned => {}
            Signature::Unknown => {
                let detail = "is not signed by a key that is believed; give the key that signed it";
                say(Kind::NotVouched, &key, detail.to_owned());
            }
            Signature::Missing => {
                say(Kind::NotVouched, &key, "is not signed by anybody".to_owned());
            }
        }
        let expected = self.next;
        match expected {
            Some(next) if manifest.first > next => {
                let detail = format!(
                    "follows a gap: events {next} to {} have no manifest",
                    manifest.first - 1
                );
                say(Kind::ManifestMissing, &key, detail);
            }
            Some(next) if manifest.first < next => {
                let detail =
                    format!("begins at {} and the one before ends at {}", manifest.first, next - 1);
                say(Kind::ManifestChanged, &key, detail);
            }
            Some(_) if self.previous.is_some_and(|previous| previous != manifest.previous) => {
                let detail = "names another manifest as the one before it".to_owned();
                say(Kind::ManifestChanged, &key, detail);
            }
            _ => {}
        }
        self.next = Some(manifest.last().saturating_add(1));
        self.previous = Some(signed.digest());
        if let Some(object) = &fetched.manifest_object
            && let Some(detail) =
                unlocked(self.lock, self.legal_hold, object.lock, object.legal_hold, object.written)
        {
            say(Kind::Unlocked, &key, detail);
        }
        let object_key = self.shelf.object_key(manifest);
        let events = format!("events {} to {}", manifest.first, manifest.last());
        match fetched.object {
            Wanted::Not => {}
            Wanted::Gone => {
                say(Kind::ObjectMissing, &object_key, format!("is gone, with {events}"))
            }
            Wanted::Here { lock, legal_hold, written, body } => {
                let detail = unlocked(self.lock, self.legal_hold, lock, legal_hold, written);
                if let Some(detail) = detail {
                    say(Kind::Unlocked, &object_key, detail);
                }
                let last = body.rows.last().map(|(record, _)| record.event_hash());
                let count = u64::try_from(body.rows.len()).unwrap_or(u64::MAX);
                let wrong = if body.sha256 != manifest.sha256 {
                    Some("does not have the SHA-256 that its manifest says".to_owned())
                } else if let Some(fault) = &body.fault {
                    Some(format!("cannot be read: {fault}"))
                } else if count != manifest.last() - manifest.first + 1 {
                    Some(format!("holds {count} events"))
                } else if last != Some(manifest.head) {
                    Some("does not end with the event that its manifest says".to_owned())
                } else {
                    None
                };
                if let Some(wrong) = wrong {
                    say(Kind::ObjectChanged, &object_key, format!("({events}) {wrong}"));
                }
                for (position, (_, mismatch)) in (manifest.first..).zip(&body.rows) {
                    if let Some(column) = mismatch {
                        let detail = format!(
                            "has a column {column} that does not agree with event {position}"
                        );
                        say(Kind::ColumnMismatch, &object_key, detail);
                    }
                }
                found.rows = body.rows;
            }
        }
        found.manifest = Some(signed);
        found
    }
}

/// What a manifest is that was written over the first one.
fn other_manifest(
    shelf: &Shelf,
    chain: &ChainRef,
    key: &str,
    other: Option<&Object>,
) -> (Kind, String) {
    let signed = other.map(|object| shelf.check_manifest(chain, key, object));
    let believed = match &signed {
        Some(Ok(signed)) => signed.signature(&shelf.believed) == Signature::Known,
        _ => false,
    };
    if believed {
        let detail = "was written again by a writer that came second; the first version counts";
        (Kind::WrittenTwice, detail.to_owned())
    } else {
        let detail =
            "was written over, and not by a key that is believed; the first version counts";
        (Kind::Overwritten, detail.to_owned())
    }
}

/// What the lock of an object lacks.
fn unlocked(
    demanded: Option<Lock>,
    hold_demanded: bool,
    lock: Option<(crate::LockMode, i64)>,
    hold: bool,
    written: i64,
) -> Option<String> {
    if hold_demanded && !hold {
        return Some("is not on legal hold".to_owned());
    }
    let demanded = demanded?;
    let Some((mode, until)) = lock else {
        return Some("is not locked, or this reader may not see its lock".to_owned());
    };
    if demanded.mode == crate::LockMode::Compliance && mode != demanded.mode {
        return Some(format!("is locked in {mode} mode and not in {}", demanded.mode));
    }
    let due = written.saturating_add_unsigned(demanded.retention_seconds).saturating_sub(SLACK);
    (until < due).then(|| format!("is locked for {} seconds too short a time", due - until))
}

async fn fetch(
    shelf: Shelf,
    chain: ChainRef,
    entry: KeyVersions,
    objects: bool,
) -> Result<Fetched, Fault> {
    let mut fetched = Fetched {
        manifest_object: None,
        manifest: Err("it was deleted".to_owned()),
        object: Wanted::Not,
        others: Vec::new(),
        entry,
    };
    let Some((oldest, others)) = fetched.entry.versions.split_last() else { return Ok(fetched) };
    if let Some(object) = shelf.bucket.get(&fetched.entry.key, oldest.as_deref()).await? {
        fetched.manifest = shelf.check_manifest(&chain, &fetched.entry.key, &object);
        fetched.manifest_object = Some(object);
    }
    for version in others {
        fetched.others.push(shelf.bucket.get(&fetched.entry.key, version.as_deref()).await?);
    }
    let Ok(signed) = &fetched.manifest else { return Ok(fetched) };
    if objects {
        let manifest = &signed.manifest;
        let key = shelf.object_key(manifest);
        fetched.object = match shelf.bucket.get(&key, manifest.version.as_deref()).await? {
            None => Wanted::Gone,
            Some(object) => Wanted::Here {
                lock: object.lock,
                legal_hold: object.legal_hold,
                written: object.written,
                body: contents(format_of(manifest), object.body).await,
            },
        };
    }
    Ok(fetched)
}

/// Reads what can be read, on a thread where it disturbs nobody.
async fn contents(format: crate::ObjectFormat, body: bytes::Bytes) -> Contents {
    let reading = tokio::task::spawn_blocking(move || {
        let mut rows = Vec::new();
        let fault = Body::decode(format, &body, &mut |record, mismatch| {
            rows.push((record, mismatch));
            true
        });
        Contents { sha256: digest(&body), rows, fault: fault.err() }
    });
    let stopped = |_| Contents {
        sha256: Hash::ZERO,
        rows: Vec::new(),
        fault: Some("the work was stopped".to_owned()),
    };
    reading.await.unwrap_or_else(stopped)
}
