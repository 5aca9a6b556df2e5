//! The names of objects: where each one lies, and what a name says.

use agent_audit_core::{
    chain::ChainRef,
    id::{ChainId, TenantId},
    timestamp::Timestamp,
};

use crate::config::ObjectFormat;

/// Keys below a prefix. See the crate's documentation for their form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Empty, or ending in a slash.
    prefix: String,
}

/// The folder of a tenant that holds its manifests; the others are years.
const CHAINS: &str = "chains/";
const MANIFEST: &str = ".manifest";

/// What the key of an object with events says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectName {
    pub(crate) chain_id: ChainId,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) format: ObjectFormat,
}

impl Layout {
    /// Slashes around the prefix do not count.
    pub(crate) fn new(prefix: &str) -> Self {
        let trimmed = prefix.trim_matches('/');
        let prefix = if trimmed.is_empty() { String::new() } else { format!("{trimmed}/") };
        Self { prefix }
    }

    /// Where the folders of all tenants are.
    pub(crate) fn root(&self) -> &str {
        &self.prefix
    }

    /// The folder of a tenant.
    pub(crate) fn tenant(&self, tenant: &TenantId) -> String {
        format!("{}{tenant}/", self.prefix)
    }

    /// The folder of a tenant's manifests.
    pub(crate) fn chains(&self, tenant: &TenantId) -> String {
        format!("{}{CHAINS}", self.tenant(tenant))
    }

    /// The folder of a chain's manifests.
    pub(crate) fn manifests(&self, chain: &ChainRef) -> String {
        format!("{}{}/", self.chains(&chain.tenant_id), chain.chain_id)
    }

    /// The key of the manifest of the object that starts at a position. Its number counts down, so
    /// that a listing shows the newest first.
    pub(crate) fn manifest(&self, chain: &ChainRef, first: u64) -> String {
        format!("{}{:020}{MANIFEST}", self.manifests(chain), u64::MAX - first)
    }

    /// What comes before the manifest of the object that starts at a position, and after those of
    /// all objects that start behind it.
    pub(crate) fn before_manifest(&self, chain: &ChainRef, first: u64) -> String {
        format!("{}{:020}", self.manifests(chain), u64::MAX - first)
    }

    /// What comes behind all manifests of a chain in a listing.
    #[cfg(feature = "query")]
    pub(crate) fn behind_manifests(&self, chain: &ChainRef) -> String {
        // The character behind the slash.
        format!("{}{}0", self.chains(&chain.tenant_id), chain.chain_id)
    }

    /// The position that the key of a manifest says.
    pub(crate) fn manifest_first(&self, chain: &ChainRef, key: &str) -> Option<u64> {
        let name = key.strip_prefix(&self.manifests(chain))?.strip_suffix(MANIFEST)?;
        number(name).map(|counted_down| u64::MAX - counted_down)
    }

    /// The key of an object, without the tenant's folder: what a manifest names it by.
    pub(crate) fn object_path(
        chain_id: &ChainId,
        at: Timestamp,
        (first, last): (u64, u64),
        format: ObjectFormat,
    ) -> String {
        format!("{}{chain_id}-{first:020}-{last:020}{}", day(at), format.extension())
    }

    /// What the keys of all objects begin with that hold an event of this time and position first.
    pub(crate) fn object_prefix(&self, chain: &ChainRef, at: Timestamp, first: u64) -> String {
        let tenant = self.tenant(&chain.tenant_id);
        format!("{tenant}{}{}-{first:020}-", day(at), chain.chain_id)
    }

    /// Whether the key lies in a tenant's folder of manifests.
    pub(crate) fn is_manifest(&self, tenant: &TenantId, key: &str) -> bool {
        key.starts_with(&self.chains(tenant))
    }
}

/// Reads the last part of an object's key. A chain id may itself look like one, so that it is read
/// from the end.
pub(crate) fn object_name(key: &str) -> Option<ObjectName> {
    let name = key.rsplit('/').next()?;
    let (stem, format) = [ObjectFormat::NdjsonZstd, ObjectFormat::Parquet]
        .into_iter()
        .find_map(|format| Some((name.strip_suffix(format.extension())?, format)))?;
    let (rest, last) = stem.rsplit_once('-')?;
    let (chain_id, first) = rest.rsplit_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    let chain_id = ChainId::new(chain_id).ok()?;
    (first <= last).then_some(ObjectName { chain_id, first, last, format })
}

/// Twenty digits, as they are written.
fn number(text: &str) -> Option<u64> {
    let digits = text.len() == 20 && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok())?
}

/// `yyyy/mm/dd/` in UTC.
fn day(at: Timestamp) -> String {
    let mut day: String = at.to_string().chars().take(10).collect();
    day.push('/');
    day.replace('-', "/")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn chain(tenant: &str, chain: &str) -> ChainRef {
        ChainRef::new(TenantId::new(tenant).unwrap(), ChainId::new(chain).unwrap())
    }

    #[test]
    fn keys_are_as_specified() {
        let layout = Layout::new("/audit/eu//");
        let chain = chain("Acme.-_1", "c-1");
        let at: Timestamp = "2026-11-23T23:59:59.999999999Z".parse().unwrap();
        let path = Layout::object_path(&chain.chain_id, at, (7, 12), ObjectFormat::NdjsonZstd);
        let key = format!("{}{path}", layout.tenant(&chain.tenant_id));
        assert_eq!(
            key,
            "audit/eu/Acme.-_1/2026/11/23/c-1-00000000000000000007-00000000000000000012.ndjson.zst"
        );
        assert!(key.starts_with(&layout.object_prefix(&chain, at, 7)));
        assert_eq!(
            layout.manifest(&chain, 7),
            "audit/eu/Acme.-_1/chains/c-1/18446744073709551608.manifest"
        );
        assert_eq!(layout.manifest_first(&chain, &layout.manifest(&chain, 7)), Some(7));
        assert!(layout.is_manifest(&chain.tenant_id, &layout.manifest(&chain, 7)));
        assert_eq!(Layout::new("").root(), "");
    }

    #[test]
    fn a_chain_that_looks_like_a_range_is_read_back() {
        let id = ChainId::new("c-00000000000000000000-00000000000000000001").unwrap();
        let at = Timestamp::from_nanos(0);
        let key = Layout::object_path(&id, at, (5, 9), ObjectFormat::Parquet);
        assert!(key.starts_with("1970/01/01/"));
        let name = object_name(&key).unwrap();
        assert_eq!((name.chain_id, name.first, name.last), (id, 5, 9));
        assert_eq!(name.format, ObjectFormat::Parquet);
    }

    #[test]
    fn what_is_no_name_is_none() {
        for name in
            ["c-1-2.ndjson.zst", "x.txt", "c-00000000000000000009-00000000000000000001.parquet"]
        {
            assert_eq!(object_name(name), None, "{name}");
        }
        let layout = Layout::new("p");
        assert_eq!(layout.manifest_first(&chain("a", "c"), "p/a/chains/c/7.manifest"), None);
    }

    #[test]
    fn newer_manifests_come_first_in_a_listing() {
        let layout = Layout::new("p");
        let chain = chain("a", "c");
        let keys = [u64::MAX, 100, 99, 10, 9, 0].map(|first| layout.manifest(&chain, first));
        assert!(keys.is_sorted());
        assert!(layout.before_manifest(&chain, 10) < layout.manifest(&chain, 10));
        assert!(layout.before_manifest(&chain, 10) > layout.manifest(&chain, 11));
    }
}
