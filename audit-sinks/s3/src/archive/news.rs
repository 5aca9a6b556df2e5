//! What an archive holds of a tenant behind what is known of it already.

use std::collections::BTreeMap;

use agent_audit_core::{
    chain::ChainRef,
    hash::Hash,
    id::{ChainId, TenantId},
    record::Record,
};
use serde::{Deserialize, Serialize};

use super::{S3Archive, walk::Walk};
use crate::{
    error::Fault,
    store::{KeyVersions, Page},
};

/// How far a chain is known: its newest manifest that was read, with its object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    /// The position that comes next.
    pub(crate) next: u64,
    /// The event hash of the one before.
    pub(crate) head: Hash,
    /// The key of the manifest.
    manifest: String,
    /// The version of it that counts, where the bucket has versions.
    version: Option<String>,
    /// SHA-256 of it, which the next one names.
    digest: Hash,
}

/// Manifests of one chain that are not known, oldest first.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) chain: ChainRef,
    mark: Option<Mark>,
    entries: Vec<KeyVersions>,
}

/// One object: its records, its key, and how far the chain is known with it.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) records: Vec<Record>,
    pub(crate) key: String,
    pub(crate) mark: Mark,
}

/// Objects as they come, each verified: the signature and place of its manifest, its version, its
/// SHA-256, and that it holds what the manifest says.
pub(crate) struct Arriving {
    archive: S3Archive,
    walk: Walk,
    /// Key and version of the manifests that are still to come: each of them comes.
    entries: std::vec::IntoIter<(String, Option<String>)>,
}

/// How many known manifests are passed over before the next chain is asked for by its name.
const PASSED: usize = 1_000;

impl S3Archive {
    /// Which manifests of a tenant are not known: of these chains, or of all.
    ///
    /// # Errors
    /// [`Fault`] where the bucket cannot be listed, or what was known is there no more.
    pub(crate) async fn unread(
        &self,
        tenant: &TenantId,
        chains: Option<&[ChainId]>,
        known: &BTreeMap<ChainId, Mark>,
    ) -> Result<Vec<Unread>, Fault> {
        let mut found = BTreeMap::new();
        match chains {
            None => self.list(tenant, &self.shelf.layout.chains(tenant), known, &mut found).await?,
            Some(chains) => {
                for id in chains {
                    let chain = ChainRef::new(tenant.clone(), id.clone());
                    let prefix = self.shelf.layout.manifests(&chain);
                    self.list(tenant, &prefix, known, &mut found).await?;
                }
            }
        }
        let unread = found.into_iter().map(|(id, mut entries)| {
            let mark = known.get(&id).cloned();
            let chain = ChainRef::new(tenant.clone(), id);
            // A listing shows the newest first, and the last one is what is known.
            entries.reverse();
            if let Some(mark) = &mark {
                let is_there = entries.first().is_some_and(|entry| {
                    entry.key == mark.manifest && entry.oldest() == Some(&mark.version)
                });
                if !is_there {
                    return Err(Fault::corrupt(format!(
                        "{chain}: {:?} was read before and is gone, or is another one",
                        mark.manifest
                    )));
                }
                entries.remove(0);
            }
            Ok(Unread { chain, mark, entries })
        });
        let unread = unread.collect::<Result<Vec<_>, _>>()?;
        let gone = known.iter().find(|(id, _)| {
            chains.is_none_or(|chains| chains.contains(id))
                && !unread.iter().any(|unread| unread.chain.chain_id == **id)
        });
        match gone {
            Some((id, mark)) => Err(Fault::corrupt(format!(
                "{tenant}/{id}: {:?} was read before, and the chain is gone",
                mark.manifest
            ))),
            None => Ok(unread),
        }
    }

    /// The manifests below a prefix, newest first, down to the one that is known.
    async fn list(
        &self,
        tenant: &TenantId,
        prefix: &str,
        known: &BTreeMap<ChainId, Mark>,
        found: &mut BTreeMap<ChainId, Vec<KeyVersions>>,
    ) -> Result<(), Fault> {
        let layout = &self.shelf.layout;
        let folder = layout.chains(tenant);
        let mut page = Page::default();
        loop {
            let mut passed = 0;
            let mut jump = None;
            let take = |entry: KeyVersions| {
                let id = entry.key.strip_prefix(&folder).and_then(|rest| rest.split_once('/'));
                let Some(Ok(id)) = id.map(|(id, _)| ChainId::new(id)) else { return true };
                let chain = ChainRef::new(tenant.clone(), id);
                let Some(first) = layout.manifest_first(&chain, &entry.key) else { return true };
                let entries: &mut Vec<KeyVersions> =
                    found.entry(chain.chain_id.clone()).or_default();
                let next = known.get(&chain.chain_id).map_or(0, |mark| mark.next);
                let is_over = entries.last().is_some_and(|last| {
                    layout.manifest_first(&chain, &last.key).is_some_and(|first| first < next)
                });
                if !is_over {
                    entries.push(entry);
                    return true;
                }
                debug_assert!(first < next, "the newest come first");
                passed += 1;
                if passed < PASSED {
                    return true;
                }
                jump = Some(layout.behind_manifests(&chain));
                false
            };
            self.shelf.bucket.walk(prefix, page, 1_000, take).await?;
            match jump {
                Some(key) => page = Page::after(key),
                None => return Ok(()),
            }
        }
    }

    /// The objects of manifests that are not known, in the order of their events.
    pub(crate) fn arriving(&self, unread: Unread) -> Arriving {
        let known = unread.mark.map(|mark| (mark.next, mark.digest));
        let name = |entry: &KeyVersions| (entry.key.clone(), entry.oldest().cloned().flatten());
        let entries: Vec<_> = unread.entries.iter().map(name).collect();
        let walk = Walk::behind(self, &unread.chain, unread.entries, known);
        Arriving { archive: self.clone(), walk, entries: entries.into_iter() }
    }

    /// The same archive, of which so many objects are read at a time.
    pub(crate) fn reading(mut self, objects: usize) -> Self {
        self.parallelism = objects.clamp(1, self.parallelism);
        self
    }
}

impl Unread {
    /// Leaves out the objects that begin at a position or behind it.
    pub(crate) fn before(mut self, position: u64, archive: &S3Archive) -> Self {
        let layout = &archive.shelf.layout;
        self.entries.retain(|entry| {
            layout.manifest_first(&self.chain, &entry.key).is_none_or(|first| first < position)
        });
        self
    }

    /// Whether all of it is known.
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Arriving {
    /// The next object; `None` behind the last one.
    ///
    /// # Errors
    /// [`Fault`] names the object or manifest that is not what it should be.
    pub(crate) async fn next(&mut self) -> Result<Option<Arrived>, Fault> {
        while let (Some((manifest, version)), Some(found)) =
            (self.entries.next(), self.walk.next().await?)
        {
            found.sound()?;
            let Some(signed) = found.manifest else { continue };
            let mark = Mark {
                next: signed.manifest.last().saturating_add(1),
                head: signed.manifest.head,
                digest: signed.digest(),
                manifest,
                version,
            };
            return Ok(Some(Arrived {
                records: found.rows.into_iter().map(|(record, _)| record).collect(),
                key: self.archive.shelf.object_key(&signed.manifest),
                mark,
            }));
        }
        Ok(None)
    }
}
