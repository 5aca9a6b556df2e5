//! Manifests: what is signed of each object. The crate's documentation specifies the form.

use std::fmt::Write;

use agent_audit_core::{
    chain::ChainRef,
    checkpoint::{Checkpoint, CheckpointErrorKind, SignedCheckpoint, chain_origin},
    hash::Hash,
    id::TenantId,
    key::{SigningKey, VerifyingKey},
    tree::CompactRange,
};
use sha2::{Digest, Sha256};

/// What a manifest says of one object, and of the chain up to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) chain: ChainRef,
    /// The key of the object without the tenant's folder.
    pub(crate) object: String,
    /// The version of the object, where the bucket has versions.
    pub(crate) version: Option<String>,
    pub(crate) sha256: Hash,
    pub(crate) bytes: u64,
    pub(crate) first: u64,
    /// The event hash of the last event.
    pub(crate) head: Hash,
    /// SHA-256 of the manifest before; zeros where this is the first.
    pub(crate) previous: Hash,
    /// The tree over all events up to the last.
    pub(crate) tree: CompactRange,
}

/// A manifest as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct SignedManifest {
    pub(crate) manifest: Manifest,
    pub(crate) text: String,
}

/// Who vouches for a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signature {
    /// A key that is believed.
    Known,
    /// Another key.
    Unknown,
    /// A believed key is named, and the signature does not verify.
    Bad,
    /// Nobody: it is not signed.
    Missing,
}

/// The first line behind the root: what the lines are, and their version.
const HEADING: &str = "agent-audit/archive/v1";

impl Manifest {
    /// The position of the last event.
    pub(crate) fn last(&self) -> u64 {
        self.tree.size().saturating_sub(1)
    }

    /// Writes the manifest, signed where there is a key.
    pub(crate) fn write(&self, key: Option<&SigningKey>) -> Result<String, String> {
        let origin = chain_origin(self.chain.chain_id.as_str());
        let mut checkpoint = Checkpoint::new(origin, self.tree.size(), self.tree.root());
        let mut tree = "tree".to_owned();
        for hash in self.tree.hashes() {
            // Writing to a string cannot fail.
            let _ = write!(tree, " {hash}");
        }
        checkpoint.extensions = vec![
            HEADING.to_owned(),
            format!("tenant {}", self.chain.tenant_id),
            format!("object {}", self.object),
            format!("version {}", self.version.as_deref().unwrap_or("-")),
            format!("sha256 {}", self.sha256),
            format!("bytes {}", self.bytes),
            format!("first {}", self.first),
            format!("head {}", self.head),
            format!("previous {}", self.previous),
            tree,
        ];
        match key {
            Some(key) => {
                let signed = checkpoint.sign(key).map_err(|error| error.to_string())?;
                Ok(signed.to_string())
            }
            None => Ok(checkpoint.to_string()),
        }
    }
}

impl SignedManifest {
    /// Reads a stored manifest, strictly.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?.to_owned();
        let checkpoint = if text.contains("\n\n") {
            let signed = SignedCheckpoint::parse(&text).map_err(|error| error.to_string())?;
            signed.unverified().clone()
        } else {
            text.parse::<Checkpoint>().map_err(|error| error.to_string())?
        };
        let manifest = read(&checkpoint).map_err(str::to_owned)?;
        Ok(Self { manifest, text })
    }

    /// Who vouches for it.
    pub(crate) fn signature(&self, keys: &[VerifyingKey]) -> Signature {
        let Ok(signed) = SignedCheckpoint::parse(&self.text) else { return Signature::Missing };
        let origin = chain_origin(self.manifest.chain.chain_id.as_str());
        match signed.verify(&origin, keys) {
            Ok(_) => Signature::Known,
            Err(error) if error.kind() == CheckpointErrorKind::UnknownKey => Signature::Unknown,
            Err(_) => Signature::Bad,
        }
    }

    /// What the next manifest names it by.
    pub(crate) fn digest(&self) -> Hash {
        digest(self.text.as_bytes())
    }
}

/// SHA-256 of bytes as they are stored.
pub(crate) fn digest(bytes: &[u8]) -> Hash {
    Hash::from_bytes(Sha256::digest(bytes).into())
}

fn read(checkpoint: &Checkpoint) -> Result<Manifest, &'static str> {
    let mut lines = checkpoint.extensions.iter();
    let mut line = |name: &str| {
        let line = lines.next()?;
        line.strip_prefix(name)?.strip_prefix(' ')
    };
    let missing = "a line is missing, or is not where it belongs";
    if checkpoint.extensions.first().map(String::as_str) != Some(HEADING) {
        return Err("it is not a manifest of version 1");
    }
    let _ = line("");
    let tenant = line("tenant").ok_or(missing)?;
    let object = line("object").ok_or(missing)?;
    let version = line("version").ok_or(missing)?;
    let sha256 = line("sha256").ok_or(missing)?;
    let bytes = line("bytes").ok_or(missing)?;
    let first = line("first").ok_or(missing)?;
    let head = line("head").ok_or(missing)?;
    let previous = line("previous").ok_or(missing)?;
    let tree = line("tree").ok_or(missing)?;
    if checkpoint.extensions.len() != 10 {
        return Err("it has lines that do not belong there");
    }
    let hash = |text: &str| text.parse::<Hash>().map_err(|_| "a hash is none");
    let number = |text: &str| {
        let number = text.parse::<u64>().map_err(|_| "a number is none")?;
        if number.to_string() == text { Ok(number) } else { Err("a number is none") }
    };
    let chain_id =
        checkpoint.origin.strip_prefix(&chain_origin("")).ok_or("its origin is no chain")?;
    let chain = ChainRef::new(
        TenantId::new(tenant).map_err(|_| "its tenant is none")?,
        chain_id.parse().map_err(|_| "its origin is no chain")?,
    );
    let hashes = tree.split(' ').map(hash).collect::<Result<Vec<_>, _>>()?;
    let tree = CompactRange::from_parts(checkpoint.size, hashes)
        .map_err(|_| "its tree does not have its size")?;
    if tree.root() != checkpoint.root {
        return Err("its tree does not have its root");
    }
    let first = number(first)?;
    if first >= checkpoint.size {
        return Err("its object holds no event");
    }
    if object.is_empty() || object.starts_with('/') || object.split('/').any(|part| part == "..") {
        return Err("its object is no key");
    }
    Ok(Manifest {
        chain,
        object: object.to_owned(),
        version: (version != "-").then(|| version.to_owned()),
        sha256: hash(sha256)?,
        bytes: number(bytes)?,
        first,
        head: hash(head)?,
        previous: hash(previous)?,
        tree,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{hash::leaf, id::ChainId};

    use super::*;

    fn manifest() -> Manifest {
        let chain = ChainRef::new(TenantId::new("acme").unwrap(), ChainId::new("c-1").unwrap());
        Manifest {
            chain,
            object: "2026/11/23/c-1-00000000000000000001-00000000000000000002.ndjson.zst"
                .to_owned(),
            version: Some("v.1".to_owned()),
            sha256: leaf(b"object"),
            bytes: 7,
            first: 1,
            head: leaf(b"c"),
            previous: leaf(b"previous"),
            tree: [leaf(b"a"), leaf(b"b"), leaf(b"c")].into_iter().collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_and_verified() {
        let key = SigningKey::from_seed(&[7; 32]);
        let text = manifest().write(Some(&key)).unwrap();
        let read = SignedManifest::parse(text.as_bytes()).unwrap();
        assert_eq!(read.manifest, manifest());
        assert_eq!(read.signature(&[key.verifying_key()]), Signature::Known);
        let other = SigningKey::from_seed(&[8; 32]).verifying_key();
        assert_eq!(read.signature(&[other]), Signature::Unknown);
        let edited = text.replace("bytes 7", "bytes 8");
        let edited = SignedManifest::parse(edited.as_bytes()).unwrap();
        assert_eq!(edited.signature(&[key.verifying_key()]), Signature::Bad);
        let unsigned = manifest().write(None).unwrap();
        let unsigned = SignedManifest::parse(unsigned.as_bytes()).unwrap();
        assert_eq!(unsigned.manifest, manifest());
        assert_eq!(unsigned.signature(&[key.verifying_key()]), Signature::Missing);
    }

    #[test]
    fn a_manifest_is_a_checkpoint_of_its_chain() {
        let key = SigningKey::from_seed(&[7; 32]);
        let text = manifest().write(Some(&key)).unwrap();
        let signed: SignedCheckpoint = text.parse().unwrap();
        let checkpoint = signed.verify("agent-audit/chain/c-1", &[key.verifying_key()]).unwrap();
        assert_eq!((checkpoint.size, checkpoint.root), (3, manifest().tree.root()));
    }

    #[test]
    fn a_manifest_has_the_form_of_the_documentation() {
        let text = manifest().write(None).unwrap();
        let lines: Vec<&str> = text.lines().map(|line| line.split(' ').next().unwrap()).collect();
        let expected =
            "agent-audit/archive/v1 tenant object version sha256 bytes first head previous tree";
        assert_eq!(lines[0], "agent-audit/chain/c-1");
        assert_eq!(lines[1], "3");
        assert_eq!(lines[3..].join(" "), expected);
    }

    #[test]
    fn what_is_not_exactly_a_manifest_is_refused() {
        let text = manifest().write(None).unwrap();
        for (from, to) in [
            ("archive/v1", "archive/v2"),
            ("tenant acme", "tenant a/b"),
            ("bytes 7", "bytes 07"),
            ("first 1", "first 3"),
            ("first 1", "first -1"),
            ("object 2026", "object ../2026"),
            ("\n3\n", "\n4\n"),
            ("head ", "hed "),
            ("tree ", "more x\ntree "),
            ("agent-audit/chain/", "example.com/"),
        ] {
            assert!(text.contains(from), "{from}");
            let edited = text.replacen(from, to, 1);
            assert!(SignedManifest::parse(edited.as_bytes()).is_err(), "{from} -> {to}");
        }
    }
}
