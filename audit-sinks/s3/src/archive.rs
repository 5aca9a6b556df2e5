//! The archive as a reader sees it.

mod finding;
#[cfg(feature = "query")]
mod news;
mod records;
mod store;
mod verify;
mod walk;

use agent_audit_core::{
    chain::ChainRef,
    hash::Hash,
    id::{ChainId, TenantId},
    sink::SinkError,
};

pub use finding::{ArchiveFinding, ArchiveFindingKind};
#[cfg(feature = "query")]
pub(crate) use news::{Mark, Unread};
pub use records::Records;
pub use store::S3Store;
pub use verify::{ArchiveOptions, ArchiveReport};

use crate::{
    config::S3Config,
    layout::Layout,
    store::{KeyVersions, Page, Shelf, connect},
};
use walk::Walk;

/// Lists, fetches and verifies what an archive holds. It never writes.
///
/// [`trusted_keys`](S3Config::trusted_keys) of the configuration are the keys whose manifests are
/// believed, and [`lock`](S3Config::lock) and [`legal_hold`](S3Config::legal_hold) what
/// [`verify`](Self::verify) demands of each object.
///
/// ```no_run
/// use agent_audit_core::{id::TenantId, verify::Verdict};
/// use agent_audit_s3::{ArchiveOptions, S3Archive, S3Config};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let key = "ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".parse()?;
/// let archive = S3Archive::open(S3Config::new("ledger").with_trusted_key(key)).await?;
/// for tenant in archive.tenants().await? {
///     let report = archive.verify(&tenant, &ArchiveOptions::default()).await?;
///     assert_eq!(report.verdict(), Verdict::Intact);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct S3Archive {
    shelf: Shelf,
    lock: Option<crate::Lock>,
    legal_hold: bool,
    parallelism: usize,
}

/// One object with events, as its manifest names it.
///
/// ```
/// use agent_audit_s3::ArchivedObject;
/// fn events(object: &ArchivedObject) -> u64 {
///     object.last - object.first + 1
/// }
/// # let _ = events;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ArchivedObject {
    /// Its key.
    pub key: String,
    /// The version that counts, where the bucket has versions.
    pub version: Option<String>,
    /// SHA-256 of its bytes.
    pub sha256: Hash,
    /// How many bytes it has.
    pub bytes: u64,
    /// The position of its first event.
    pub first: u64,
    /// The position of its last event.
    pub last: u64,
    /// The event hash of its last event.
    pub head: Hash,
    /// The manifest, with its signature: a signed checkpoint of the chain.
    pub manifest: String,
}

impl S3Archive {
    /// An archive as configured. The bucket is not asked anything yet.
    ///
    /// # Errors
    /// [`SinkError`] where the configuration cannot be used.
    pub async fn open(config: S3Config) -> Result<Self, SinkError> {
        Ok(Self {
            shelf: Shelf {
                bucket: connect(&config).await?,
                layout: Layout::new(&config.prefix),
                believed: config.believed_keys()?,
                unsigned: config.unsigned_manifests,
            },
            lock: config.lock,
            legal_hold: config.legal_hold,
            parallelism: config.parallelism.clamp(1, 4),
        })
    }

    /// The tenants that have something in the archive, in order.
    ///
    /// # Errors
    /// [`SinkError`] where the bucket cannot be listed.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, SinkError> {
        let folders = self.shelf.bucket.folders(self.shelf.layout.root()).await?;
        let mut tenants: Vec<_> =
            folders.iter().filter_map(|name| TenantId::new(name).ok()).collect();
        tenants.sort();
        Ok(tenants)
    }

    /// The chains of a tenant that have a manifest, in order.
    ///
    /// # Errors
    /// [`SinkError`] where the bucket cannot be listed.
    pub async fn chains(&self, tenant: &TenantId) -> Result<Vec<ChainRef>, SinkError> {
        let folders = self.shelf.bucket.folders(&self.shelf.layout.chains(tenant)).await?;
        let ids = folders.iter().filter_map(|name| ChainId::new(name).ok());
        let mut chains: Vec<_> = ids.map(|id| ChainRef::new(tenant.clone(), id)).collect();
        chains.sort();
        Ok(chains)
    }

    /// The objects of a chain, in the order of their events. Manifests that are not believed, or
    /// that do not follow each other, are an error.
    ///
    /// # Errors
    /// [`SinkError`] where they cannot be read, or are not what was written.
    pub async fn objects(&self, chain: &ChainRef) -> Result<Vec<ArchivedObject>, SinkError> {
        let mut objects = Vec::new();
        let mut walk = Walk::manifests(self, chain, 0).await?;
        while let Some(found) = walk.next().await? {
            found.sound()?;
            if let Some(signed) = found.manifest {
                let manifest = &signed.manifest;
                objects.push(ArchivedObject {
                    key: self.shelf.object_key(manifest),
                    version: manifest.version.clone(),
                    sha256: manifest.sha256,
                    bytes: manifest.bytes,
                    first: manifest.first,
                    last: manifest.last(),
                    head: manifest.head,
                    manifest: signed.text,
                });
            }
        }
        Ok(objects)
    }

    /// The records of a chain from a position on, in order. What is not exactly what was written is
    /// an error, and ends them. One object of each of up to four requests is held in memory.
    #[must_use]
    pub fn records(&self, chain: &ChainRef, from: u64) -> Records {
        Records::new(self.clone(), chain.clone(), from)
    }

    /// The manifests of a chain, oldest first, beginning with the one whose object holds a position.
    async fn entries(
        &self,
        chain: &ChainRef,
        from: u64,
    ) -> Result<Vec<KeyVersions>, crate::error::Fault> {
        let mut entries = Vec::new();
        let layout = &self.shelf.layout;
        let take = |entry: KeyVersions| {
            let first = layout.manifest_first(chain, &entry.key);
            entries.push(entry);
            from == 0 || first.is_none_or(|first| first > from)
        };
        let prefix = layout.manifests(chain);
        self.shelf.bucket.walk(&prefix, Page::default(), 1_000, take).await?;
        entries.reverse();
        Ok(entries)
    }
}
