//! How a chain grows: an object is written, and its manifest makes it count.
//!
//! The manifest is the commit. Its key names the position of the object's first event, and its
//! first version counts, so that of two writers at one position one wins, however they cut their
//! segments; the other finds out and goes on behind. What an object holds for which no manifest was
//! written has not been acknowledged to anybody.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use agent_audit_core::{
    chain::ChainRef,
    hash::Hash,
    key::SigningKey,
    record::Record,
    sink::{Head, Segment, SinkErrorKind},
    timestamp::Timestamp,
    tree::CompactRange,
};
use bytes::Bytes;

use super::{
    Body, Manifest, SignedManifest,
    bucket::Put,
    manifest::digest,
    piece::{Piece, Press, Pressed, grown},
    shelf::{Shelf, decode_off_thread},
};
use crate::{
    config::{CreateOnce, ObjectFormat},
    error::Fault,
    layout::{Layout, object_name},
};

/// The chains of an archive, and how far the ones are known that were written lately.
#[derive(Debug)]
pub(crate) struct Chains {
    pub(crate) shelf: Shelf,
    press: Press,
    key: Option<SigningKey>,
    max_object_bytes: usize,
    tips: Mutex<HashMap<ChainRef, Arc<tokio::sync::Mutex<Option<Tip>>>>>,
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grown {
    /// All of it is stored.
    Whole,
    /// The events up to and including this position are stored.
    Through(u64),
    /// Another event is stored at this position.
    Conflict(u64),
}

/// How far a chain goes.
#[derive(Debug, Clone, Default)]
struct Tip {
    tree: CompactRange,
    head: Option<Hash>,
    /// SHA-256 of the newest manifest.
    manifest: Option<Hash>,
    /// An object that lies where the next one belongs, and that this process may not read.
    unreadable: Option<String>,
}

/// One try to store a segment on a tip.
enum Step {
    Done(Tip, Grown),
    /// The tip is not the newest any more.
    Stale,
    /// The segment does not attach.
    Detached(Fault),
}

/// How often the tip is read anew before a segment is given up: others write the same chain.
const ATTEMPTS: usize = 6;
/// How many chains are remembered; each costs at most 4 KiB.
const REMEMBERED: usize = 10_000;

impl Tip {
    fn of(signed: &SignedManifest) -> Self {
        Self {
            tree: signed.manifest.tree.clone(),
            head: Some(signed.manifest.head),
            manifest: Some(signed.digest()),
            unreadable: None,
        }
    }

    /// The position of the next event.
    fn next(&self) -> u64 {
        self.tree.size()
    }

    fn head(&self) -> Option<Head> {
        Some(Head::new(self.next().checked_sub(1)?, self.head?))
    }
}

impl Chains {
    pub(crate) fn new(
        shelf: Shelf,
        format: ObjectFormat,
        key: Option<SigningKey>,
        max_object_bytes: usize,
    ) -> Self {
        Self { shelf, press: Press::new(format), key, max_object_bytes, tips: Mutex::default() }
    }

    /// The last event that is stored of a chain.
    pub(crate) async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, Fault> {
        let newest = self.shelf.newest(chain).await?;
        Ok(newest.and_then(|signed| Tip::of(&signed).head()))
    }

    /// Forgets what is known, so that it is read anew.
    pub(crate) fn forget(&self) {
        self.tips.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Stores what is not stored yet of a segment.
    pub(crate) async fn append(&self, segment: &Segment) -> Result<Grown, Fault> {
        let tip = self.tip(segment.chain());
        let mut remembered = tip.lock().await;
        let mut through = None;
        for _ in 0..ATTEMPTS {
            // Taken out: a call that fails or is cancelled leaves nothing behind that may be stale.
            let (tip, known) = match remembered.take() {
                Some(tip) => (tip, true),
                None => (self.load(segment).await?, false),
            };
            match self.grow(tip, segment, &mut through).await {
                Ok(Step::Done(tip, grown)) => {
                    *remembered = Some(tip);
                    return Ok(grown);
                }
                Ok(Step::Detached(fault)) if !known => return Err(fault),
                Ok(Step::Stale | Step::Detached(_)) => {}
                Err(fault) => return through.map(Grown::Through).ok_or(fault),
            }
        }
        let what = format!(
            "append to chain {}: other writers are at work on it, or something else lies where its \
             next object belongs",
            segment.chain()
        );
        through.map(Grown::Through).ok_or_else(|| Fault::new(SinkErrorKind::Unavailable, what))
    }

    fn tip(&self, chain: &ChainRef) -> Arc<tokio::sync::Mutex<Option<Tip>>> {
        let mut tips = self.tips.lock().unwrap_or_else(PoisonError::into_inner);
        if tips.len() >= REMEMBERED && !tips.contains_key(chain) {
            // Those in use stay: two appends to one chain must not be at work at once.
            tips.retain(|_, tip| Arc::strong_count(tip) > 1);
        }
        Arc::clone(tips.entry(chain.clone()).or_default())
    }

    /// Reads how far a chain goes, and finishes what a writer began and did not commit.
    async fn load(&self, segment: &Segment) -> Result<Tip, Fault> {
        let newest = self.shelf.newest(segment.chain()).await?;
        let tip = newest.as_ref().map(Tip::of).unwrap_or_default();
        let begun = segment.first() <= tip.next() && tip.next() <= segment.last();
        if begun { self.adopt(tip, segment).await } else { Ok(tip) }
    }

    /// Commits an object that attaches to the tip and has no manifest: its writer was interrupted
    /// before it could acknowledge it. The day in its key is that of its first event, which the
    /// segment holds.
    async fn adopt(&self, mut tip: Tip, segment: &Segment) -> Result<Tip, Fault> {
        let chain = segment.chain();
        let first = tip.next();
        let index = first.checked_sub(segment.first()).and_then(|at| usize::try_from(at).ok());
        let record = index.and_then(|index| segment.records().get(index));
        let at = time_of(record, first, chain)?;
        let prefix = self.shelf.layout.object_prefix(chain, at, first);
        let mut found = Vec::new();
        let take = |entry| {
            found.push(entry);
            found.len() < 16
        };
        self.shelf.bucket.walk(&prefix, super::Page::default(), 16, take).await?;
        // The longest is the last in order.
        for entry in found.iter().rev() {
            let Some(name) = object_name(&entry.key) else { continue };
            let Some(version) = entry.oldest() else { continue };
            if name.chain_id != chain.chain_id || name.first != first {
                continue;
            }
            let object = match self.shelf.bucket.get(&entry.key, version.as_deref()).await {
                Ok(Some(object)) => object,
                Ok(None) => continue,
                // A writer need not be permitted to read events. Its own version can be pinned,
                // where the bucket has versions.
                Err(fault) if fault.kind == SinkErrorKind::PermissionDenied => {
                    if version.is_some() {
                        tip.unreadable = Some(entry.key.clone());
                    }
                    continue;
                }
                Err(fault) => return Err(fault),
            };
            let Ok(records) = decode_off_thread(name.format, object.body.clone()).await else {
                continue;
            };
            let Ok(run) = Segment::new(chain.clone(), records) else { continue };
            let fits = run.first() == first && run.last() == name.last;
            if !fits || run.attach(tip.head()).is_err() {
                continue;
            }
            let body = Body { sha256: digest(&object.body), bytes: object.body };
            let path = entry.key.strip_prefix(&self.shelf.layout.tenant(&chain.tenant_id));
            let Some(path) = path else { continue };
            let piece = Piece::whole(run);
            let pressed = Pressed { body, tree: grown(tip.tree.clone(), &piece) };
            let manifest = manifest_of(&tip, &piece, path.to_owned(), version.clone(), pressed);
            return match self.commit(manifest).await? {
                Some(tip) => Ok(tip),
                // Somebody else was quicker, and what they wrote counts.
                None => {
                    let newest = self.shelf.newest(chain).await?;
                    Ok(newest.as_ref().map(Tip::of).unwrap_or_default())
                }
            };
        }
        Ok(tip)
    }

    /// Stores a segment on a tip; `through` becomes the last position that this made durable.
    async fn grow(
        &self,
        mut tip: Tip,
        segment: &Segment,
        through: &mut Option<u64>,
    ) -> Result<Step, Fault> {
        if let Err(detached) = segment.attach(tip.head()) {
            let fault = Fault::new(SinkErrorKind::Rejected, detached.to_string());
            return Ok(Step::Detached(fault));
        }
        if let Some(sequence) = self.conflict(&tip, segment).await? {
            return Ok(Step::Done(tip, Grown::Conflict(sequence)));
        }
        while tip.next() <= segment.last() {
            let piece =
                Piece::cut(segment, tip.next(), self.max_object_bytes).ok_or_else(|| {
                    let what =
                        format!("a segment of {} has no event {}", segment.chain(), tip.next());
                    Fault::new(SinkErrorKind::Rejected, what)
                })?;
            match self.write(&tip, &piece).await? {
                Some(longer) => tip = longer,
                None => return Ok(Step::Stale),
            }
            if tip.next() <= segment.last() {
                *through = tip.next().checked_sub(1);
            }
        }
        Ok(Step::Done(tip, Grown::Whole))
    }

    /// The first position at which the store holds another event than the segment.
    ///
    /// An event's hash covers that of the one before: where the last position that both have is the
    /// same, so are all before it, and nothing has to be fetched.
    async fn conflict(&self, tip: &Tip, segment: &Segment) -> Result<Option<u64>, Fault> {
        let Some(head) = tip.head().filter(|head| segment.first() <= head.sequence) else {
            return Ok(None);
        };
        let at = segment.last().min(head.sequence);
        let stored = if at == head.sequence {
            head.event_hash
        } else {
            self.shelf.hash_at(segment.chain(), at).await?
        };
        if hash_of(segment, at) == Some(stored) {
            return Ok(None);
        }
        match self.first_difference(segment, at).await {
            // Without permission to read events this much is known.
            Err(fault) if fault.kind == SinkErrorKind::PermissionDenied => Ok(Some(at)),
            first => first.map(Some),
        }
    }

    async fn first_difference(&self, segment: &Segment, last: u64) -> Result<u64, Fault> {
        let mut at = segment.first();
        while at < last {
            let (first, hashes) = self.shelf.hashes_around(segment.chain(), at).await?;
            for (position, stored) in (first..last).zip(&hashes) {
                if position >= at && hash_of(segment, position) != Some(*stored) {
                    return Ok(position);
                }
            }
            at = first.saturating_add(u64::try_from(hashes.len()).unwrap_or(u64::MAX));
        }
        Ok(last)
    }

    /// Writes an object and its manifest; `None` where another writer was quicker.
    async fn write(&self, tip: &Tip, piece: &Piece) -> Result<Option<Tip>, Fault> {
        let pressed = self.press.press(piece, &tip.tree).await?;
        let (chain, format) = (piece.chain(), self.press.format());
        let at = time_of(piece.records().first(), piece.first(), chain)?;
        let range = (piece.first(), piece.last());
        let path = Layout::object_path(&chain.chain_id, at, range, format);
        let key = format!("{}{path}", self.shelf.layout.tenant(&chain.tenant_id));
        let media_type = Body::media_type(format);
        let (bucket, body) = (&self.shelf.bucket, &pressed.body);
        let put = if tip.unreadable.as_ref() == Some(&key) {
            bucket.put_version(&key, media_type, body.bytes.clone(), &body.sha256).await?
        } else {
            bucket.put(&key, media_type, body.bytes.clone(), &body.sha256).await?
        };
        match put {
            Put::Stored { version } => {
                self.commit(manifest_of(tip, piece, path, version, pressed)).await
            }
            Put::Exists => Ok(None),
        }
    }

    /// Writes a manifest; `None` where there is one already.
    async fn commit(&self, manifest: Manifest) -> Result<Option<Tip>, Fault> {
        let key = self.shelf.layout.manifest(&manifest.chain, manifest.first);
        let text = manifest.write(self.key.as_ref()).map_err(|what| {
            Fault::new(SinkErrorKind::Rejected, format!("sign manifest {key}: {what}"))
        })?;
        let body = Bytes::from(text.clone());
        let sha256 = digest(&body);
        let bucket = &self.shelf.bucket;
        let put = bucket.put(&key, "text/plain; charset=utf-8", body, &sha256).await;
        let version = match put.map_err(Fault::of_commit)? {
            Put::Stored { version } => version,
            Put::Exists => return Ok(None),
        };
        if bucket.create_once == CreateOnce::Versions {
            if version.is_none() {
                let what = format!("put {key}: the bucket keeps no versions; enable versioning");
                return Err(Fault::new(SinkErrorKind::Misconfigured, what));
            }
            let entry = bucket.first(&key, super::Page::default(), |found| found == key).await;
            let entry = entry.map_err(Fault::maybe_applied)?;
            if entry.as_ref().and_then(|entry| entry.oldest()) != Some(&version) {
                return Ok(None);
            }
        }
        Ok(Some(Tip::of(&SignedManifest { manifest, text })))
    }
}

/// The manifest of an object that makes a chain longer by a piece.
fn manifest_of(
    tip: &Tip,
    piece: &Piece,
    path: String,
    version: Option<String>,
    Pressed { body, tree }: Pressed,
) -> Manifest {
    Manifest {
        chain: piece.chain().clone(),
        object: path,
        version,
        sha256: body.sha256,
        bytes: u64::try_from(body.bytes.len()).unwrap_or(u64::MAX),
        first: piece.first(),
        head: piece.hashes().last().copied().unwrap_or(Hash::ZERO),
        previous: tip.manifest.unwrap_or(Hash::ZERO),
        tree,
    }
}

fn hash_of(segment: &Segment, at: u64) -> Option<Hash> {
    let index = usize::try_from(at.checked_sub(segment.first())?).ok()?;
    segment.hashes().get(index).copied()
}

/// When an event was recorded.
fn time_of(record: Option<&Record>, at: u64, chain: &ChainRef) -> Result<Timestamp, Fault> {
    let view = record.and_then(|record| record.view().ok());
    view.and_then(|view| view.timestamp_utc.parse().ok()).ok_or_else(|| {
        let what = format!("event {at} of chain {chain} does not say when it was");
        Fault::new(SinkErrorKind::Rejected, what)
    })
}
