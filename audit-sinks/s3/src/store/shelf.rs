//! The archive as it is read: manifests, and the objects that they name.

use agent_audit_core::{chain::ChainRef, hash::Hash, key::VerifyingKey, record::Record};

use super::{
    Body, Bucket, KeyVersions, Manifest, Object, Page, Signature, SignedManifest, manifest::digest,
};
use crate::{
    config::ObjectFormat,
    error::Fault,
    layout::{Layout, object_name},
};

/// A bucket, where things lie in it, and whose manifests are believed.
#[derive(Debug, Clone)]
pub(crate) struct Shelf {
    pub(crate) bucket: Bucket,
    pub(crate) layout: Layout,
    pub(crate) believed: Vec<VerifyingKey>,
    /// Whether a manifest without a signature is believed too.
    pub(crate) unsigned: bool,
}

impl Shelf {
    /// The newest manifest of a chain.
    pub(crate) async fn newest(&self, chain: &ChainRef) -> Result<Option<SignedManifest>, Fault> {
        match self.first_manifest(chain, Page::default()).await? {
            Some(entry) => self.manifest(chain, &entry).await.map(Some),
            None => Ok(None),
        }
    }

    /// The manifest of the object that holds a position; of the newest before it where none does.
    async fn covering(&self, chain: &ChainRef, at: u64) -> Result<Option<SignedManifest>, Fault> {
        let from = Page::after(self.layout.before_manifest(chain, at));
        match self.first_manifest(chain, from).await? {
            Some(entry) => self.manifest(chain, &entry).await.map(Some),
            None => Ok(None),
        }
    }

    /// The first key from a place on that is one of a manifest, and not something else that was put
    /// there.
    async fn first_manifest(
        &self,
        chain: &ChainRef,
        from: Page,
    ) -> Result<Option<KeyVersions>, Fault> {
        let is_one = |key: &str| self.layout.manifest_first(chain, key).is_some();
        self.bucket.first(&self.layout.manifests(chain), from, is_one).await
    }

    /// The first version of a manifest, where it is one and is believed.
    pub(crate) async fn manifest(
        &self,
        chain: &ChainRef,
        entry: &KeyVersions,
    ) -> Result<SignedManifest, Fault> {
        let key = &entry.key;
        let read = self.any_manifest(chain, entry).await?;
        let signed = read.map_err(|what| Fault::corrupt(format!("read manifest {key}: {what}")))?;
        match signed.signature(&self.believed) {
            Signature::Known => Ok(signed),
            Signature::Missing if self.unsigned => Ok(signed),
            Signature::Bad => Err(Fault::corrupt(format!("{key} was changed after it was signed"))),
            Signature::Unknown | Signature::Missing => Err(Fault::corrupt(format!(
                "{key} is not signed by a key that is believed; add the key that signed it to the \
                 trusted keys"
            ))),
        }
    }

    /// The first version of a manifest, whoever signed it; what is wrong where it is none.
    pub(crate) async fn any_manifest(
        &self,
        chain: &ChainRef,
        entry: &KeyVersions,
    ) -> Result<Result<SignedManifest, String>, Fault> {
        let Some(version) = entry.oldest() else {
            return Ok(Err("it was deleted".to_owned()));
        };
        let Some(object) = self.bucket.get(&entry.key, version.as_deref()).await? else {
            return Ok(Err("it is gone".to_owned()));
        };
        Ok(self.check_manifest(chain, &entry.key, &object))
    }

    /// Whether an object is the manifest that its key says.
    pub(crate) fn check_manifest(
        &self,
        chain: &ChainRef,
        key: &str,
        object: &Object,
    ) -> Result<SignedManifest, String> {
        let signed = SignedManifest::parse(&object.body)?;
        if signed.manifest.chain != *chain {
            return Err(format!("it is of chain {}", signed.manifest.chain));
        }
        if self.layout.manifest_first(chain, key) != Some(signed.manifest.first) {
            return Err(format!("it is of position {}", signed.manifest.first));
        }
        Ok(signed)
    }

    /// The key of the object that a manifest names.
    pub(crate) fn object_key(&self, manifest: &Manifest) -> String {
        format!("{}{}", self.layout.tenant(&manifest.chain.tenant_id), manifest.object)
    }

    /// The object that a manifest names, in the version that it pins and with its SHA-256.
    pub(crate) async fn object(&self, manifest: &Manifest) -> Result<Object, Fault> {
        let key = self.object_key(manifest);
        let Some(object) = self.bucket.get(&key, manifest.version.as_deref()).await? else {
            return Err(Fault::corrupt(format!("{key} is gone, and its manifest is not")));
        };
        if digest(&object.body) != manifest.sha256 {
            return Err(Fault::corrupt(format!("{key} does not have the SHA-256 of its manifest")));
        }
        Ok(object)
    }

    /// The records of the object that a manifest names.
    pub(crate) async fn records(&self, manifest: &Manifest) -> Result<Vec<Record>, Fault> {
        let format = format_of(manifest);
        let object = self.object(manifest).await?;
        decode_off_thread(format, object.body)
            .await
            .map_err(|what| Fault::corrupt(format!("read {}: {what}", self.object_key(manifest))))
    }

    /// The event hash at a position that is stored.
    pub(crate) async fn hash_at(&self, chain: &ChainRef, at: u64) -> Result<Hash, Fault> {
        let lost = || Fault::corrupt(format!("chain {chain} has no event {at}"));
        let manifest = self.covering(chain, at).await?.ok_or_else(lost)?.manifest;
        if manifest.last() == at {
            return Ok(manifest.head);
        }
        let records = self.records(&manifest).await?;
        let index = at.checked_sub(manifest.first).and_then(|index| usize::try_from(index).ok());
        let record = index.and_then(|index| records.get(index));
        record.map(Record::event_hash).ok_or_else(lost)
    }

    /// The event hashes of the object that holds a position, and the position of the first.
    pub(crate) async fn hashes_around(
        &self,
        chain: &ChainRef,
        at: u64,
    ) -> Result<(u64, Vec<Hash>), Fault> {
        let lost = || Fault::corrupt(format!("chain {chain} has no event {at}"));
        let manifest = self.covering(chain, at).await?.ok_or_else(lost)?.manifest;
        if manifest.last() < at {
            return Err(lost());
        }
        let records = self.records(&manifest).await?;
        Ok((manifest.first, records.iter().map(Record::event_hash).collect()))
    }
}

/// The form of the object that a manifest names; the key says it.
pub(crate) fn format_of(manifest: &Manifest) -> ObjectFormat {
    object_name(&manifest.object).map_or(ObjectFormat::NdjsonZstd, |name| name.format)
}

/// Decodes on a thread where it disturbs nobody.
pub(crate) async fn decode_off_thread(
    format: ObjectFormat,
    body: bytes::Bytes,
) -> Result<Vec<Record>, String> {
    let decoding = tokio::task::spawn_blocking(move || Body::decode_all(format, &body));
    decoding.await.unwrap_or_else(|_| Err("the work was stopped".to_owned()))
}
