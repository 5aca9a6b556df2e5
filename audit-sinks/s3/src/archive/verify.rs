//! The verification of a tenant's archive.

use std::collections::HashMap;

use agent_audit_core::{
    chain::ChainRef,
    id::{ChainId, TenantId},
    sink::SinkError,
    verify::{
        Basis, ChainReport, ChainVerifier, CheckpointSource, Checkpoints, Report, Severity, Verdict,
    },
};

use super::{ArchiveFinding, ArchiveFindingKind as Kind, S3Archive, walk::Walk};
use crate::{
    error::Fault,
    layout::object_name,
    store::{KeyVersions, Manifest, Page, digest},
};

/// What an archive is held against, beyond itself.
///
/// ```
/// use agent_audit_s3::ArchiveOptions;
/// assert_eq!(format!("{:?}", ArchiveOptions::default()), "ArchiveOptions { checkpoints: [] }");
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ArchiveOptions {
    /// Signed checkpoints that were kept apart from the archive, and their chains: they show that an
    /// archive was cut, which its own manifests cannot.
    pub checkpoints: Vec<(ChainRef, String)>,
}

impl ArchiveOptions {
    /// Adds a signed checkpoint of a chain that was kept apart, and demands one of every chain.
    #[must_use]
    pub fn with_checkpoint(mut self, chain: ChainRef, note: impl Into<String>) -> Self {
        self.checkpoints.push((chain, note.into()));
        self
    }
}

/// What was found of a tenant's archive.
///
/// ```no_run
/// use agent_audit_s3::ArchiveReport;
/// fn show(report: &ArchiveReport) {
///     println!("{:?}: {} objects", report.verdict(), report.objects);
///     for finding in &report.findings {
///         println!("{finding}");
///     }
///     for finding in &report.events.findings {
///         println!("{finding}");
///     }
/// }
/// # let _ = show;
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ArchiveReport {
    /// The tenant.
    pub tenant: TenantId,
    /// What the events say, over all chains.
    pub events: Report,
    /// What the events of each chain say.
    pub chains: Vec<ChainReport>,
    /// What the objects and manifests say; the first 10,000.
    pub findings: Vec<ArchiveFinding>,
    /// How many objects with events were read.
    pub objects: u64,
    /// How many bytes they have.
    pub bytes: u64,
}

impl ArchiveReport {
    /// The answer, over the events and the archive together.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let has = |severity| self.findings.iter().any(|f| f.kind.severity() == severity);
        match self.events.verdict() {
            Verdict::Tampered => Verdict::Tampered,
            _ if has(Severity::Tampering) => Verdict::Tampered,
            Verdict::Unsure => Verdict::Unsure,
            _ if has(Severity::Unsure) => Verdict::Unsure,
            intact => intact,
        }
    }

    fn say(&mut self, findings: impl IntoIterator<Item = ArchiveFinding>) {
        let room = MOST_FINDINGS.saturating_sub(self.findings.len());
        self.findings.extend(findings.into_iter().take(room));
    }
}

const MOST_FINDINGS: usize = 10_000;

/// What manifests name: the version and SHA-256 of each object, and where each chain ends.
#[derive(Default)]
struct Listed {
    objects: HashMap<String, (ChainRef, Option<String>, agent_audit_core::hash::Hash)>,
    ends: HashMap<ChainId, u64>,
}

impl S3Archive {
    /// Verifies everything that the archive holds of a tenant: each manifest's signature and place,
    /// each object's version, SHA-256 and lock, each event's bytes, links and content, and that
    /// nothing was written over, hidden or left out.
    ///
    /// Reads every object once. Memory is bounded by a few objects, plus a few hundred bytes for each
    /// object that there is.
    ///
    /// # Errors
    /// [`SinkError`] where the bucket cannot be read. Damage is not an error but a finding.
    pub async fn verify(
        &self,
        tenant: &TenantId,
        options: &ArchiveOptions,
    ) -> Result<ArchiveReport, SinkError> {
        let mut report = ArchiveReport {
            tenant: tenant.clone(),
            events: Report::from_chains([]),
            chains: Vec::new(),
            findings: Vec::new(),
            objects: 0,
            bytes: 0,
        };
        let separate = options.checkpoints.iter().map(|(chain, _)| chain);
        let mut chains = self.chains(tenant).await?;
        chains.extend(separate.filter(|chain| chain.tenant_id == *tenant).cloned());
        chains.sort();
        chains.dedup();
        let mut listed = Listed::default();
        let mut reports = Vec::new();
        for chain in &chains {
            reports.push(self.verify_chain(chain, options, &mut listed, &mut report).await?);
        }
        report.events = Report::from_chains(reports.iter().cloned());
        report.chains = reports;
        self.look_for_others(tenant, &listed, &mut report).await?;
        Ok(report)
    }

    async fn verify_chain(
        &self,
        chain: &ChainRef,
        options: &ArchiveOptions,
        listed: &mut Listed,
        report: &mut ArchiveReport,
    ) -> Result<ChainReport, Fault> {
        let checkpoints = self.checkpoints(chain, options).await?;
        let mut verifier = ChainVerifier::new(chain.clone(), checkpoints);
        let mut walk = Walk::whole(self, chain, 0).await?;
        while let Some(found) = walk.next().await? {
            report.say(found.findings);
            for (record, _) in &found.rows {
                verifier.push(&record.to_bytes());
            }
            if let Some(signed) = found.manifest {
                let Manifest { version, sha256, bytes, .. } = signed.manifest.clone();
                let key = self.shelf.object_key(&signed.manifest);
                listed.objects.insert(key, (chain.clone(), version, sha256));
                report.objects += 1;
                report.bytes = report.bytes.saturating_add(bytes);
            }
        }
        listed.ends.insert(chain.chain_id.clone(), walk.end());
        let demanded = if !options.checkpoints.is_empty() {
            Basis::SeparateCheckpoint
        } else if !self.shelf.unsigned {
            Basis::OwnCheckpoint
        } else {
            Basis::ChainOnly
        };
        Ok(verifier.finish().demanding(demanded))
    }

    /// Those of the manifests, and those that were kept apart.
    async fn checkpoints(
        &self,
        chain: &ChainRef,
        options: &ArchiveOptions,
    ) -> Result<Checkpoints, Fault> {
        let mut checkpoints = Checkpoints::trusting(chain, self.shelf.believed.clone());
        let mut walk = Walk::manifests(self, chain, 0).await?;
        while let Some(found) = walk.next().await? {
            // What cannot be believed is a finding of the archive already.
            let believed = |text: &str| {
                let mut one = Checkpoints::trusting(chain, self.shelf.believed.clone());
                one.add(text, CheckpointSource::Own);
                !one.is_empty()
            };
            if let Some(signed) = found.manifest.filter(|signed| believed(&signed.text)) {
                checkpoints.add(&signed.text, CheckpointSource::Own);
            }
        }
        for (_, note) in options.checkpoints.iter().filter(|(of, _)| of == chain) {
            checkpoints.add(note, CheckpointSource::Separate);
        }
        Ok(checkpoints)
    }

    /// Goes through everything below the tenant's folder, for what no manifest names.
    async fn look_for_others(
        &self,
        tenant: &TenantId,
        listed: &Listed,
        report: &mut ArchiveReport,
    ) -> Result<(), Fault> {
        let mut suspicious = Vec::new();
        let prefix = self.shelf.layout.tenant(tenant);
        let take = |entry: KeyVersions| {
            let manifest = self.shelf.layout.is_manifest(tenant, &entry.key);
            let sound = listed.objects.get(&entry.key).is_some_and(|(_, version, _)| {
                entry.markers == 0 && entry.versions.len() == 1 && entry.oldest() == Some(version)
            });
            if !manifest && !sound && suspicious.len() < MOST_FINDINGS {
                suspicious.push(entry);
            }
            true
        };
        self.shelf.bucket.walk(&prefix, Page::default(), 1_000, take).await?;
        for entry in suspicious {
            let found = self.other(tenant, listed, &entry).await?;
            report.say(found);
        }
        Ok(())
    }

    /// What is to be said of an object that is not exactly what a manifest names.
    async fn other(
        &self,
        tenant: &TenantId,
        listed: &Listed,
        entry: &KeyVersions,
    ) -> Result<Vec<ArchiveFinding>, Fault> {
        let key = entry.key.as_str();
        let Some((chain, pinned, sha256)) = listed.objects.get(key) else {
            return Ok(vec![unlisted(tenant, listed, entry)]);
        };
        let mut findings = Vec::new();
        let mut say = |kind, detail: &str| {
            findings.push(ArchiveFinding::new(kind, Some(chain), key, detail));
        };
        if entry.markers > 0 {
            say(Kind::Hidden, "was deleted, and its version is still there");
        }
        for version in entry.versions.iter().filter(|version| *version != pinned) {
            let other = self.shelf.bucket.get(key, version.as_deref()).await?;
            if other.is_some_and(|other| digest(&other.body) == *sha256) {
                say(Kind::WrittenTwice, "was written again with the same bytes");
            } else {
                say(
                    Kind::Overwritten,
                    "was written over; the version that its manifest names counts",
                );
            }
        }
        Ok(findings)
    }
}

fn unlisted(tenant: &TenantId, listed: &Listed, entry: &KeyVersions) -> ArchiveFinding {
    let key = entry.key.as_str();
    let Some(name) = object_name(key) else {
        return ArchiveFinding::new(Kind::Foreign, None, key, "is no object of an archive");
    };
    let end = listed.ends.get(&name.chain_id).copied().unwrap_or_default();
    let chain = ChainRef::new(tenant.clone(), name.chain_id);
    if name.first >= end {
        let detail = format!(
            "has no manifest, and the chain ends before it, at {end} events: a writer was \
             interrupted, and its next append finishes this, or the manifest was removed"
        );
        return ArchiveFinding::new(Kind::Pending, Some(&chain), key, detail);
    }
    let detail = "has no manifest: a writer was interrupted or came second; nobody was told that it \
                  is stored";
    ArchiveFinding::new(Kind::Unlisted, Some(&chain), key, detail)
}
