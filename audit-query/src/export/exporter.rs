//! How an export is asked for, and made.

use std::path::Path;

use agent_audit_core::{hash::Hash, id::ChainId, key::SigningKey, timestamp::Timestamp};

use super::{
    chain::{Chains, Written, line},
    checkpoints::LogCheckpoints,
    claim::{Claim, provable},
    complete,
    manifest::{self, CHECKPOINTS, ExporterName, FORMAT, Format, MANIFEST, Manifest, SIGNATURE},
    output::Output,
    pages::Pages,
    progress::{Progress, Ticker},
    proven::disagrees,
};
use crate::{Filter, Ledger, QueryError};

/// A file of events is ended once it has so many bytes, unless something else was asked for.
const FILE_BYTES: u64 = 256 << 20;

/// Writes events of a tenant into a directory, with everything it takes to verify them there.
///
/// - The directory MUST NOT exist, or be empty. An export that failed or was killed MUST NOT be taken
///   for a whole one: the signed manifest is written last.
/// - Memory is bounded, whatever there is to export: pages of 4 MiB, or of one event where that is
///   larger. For each chain, 64 bytes an event go into a temporary file of the directory.
/// - Where the store does not hold what the checkpoints of a chain state, the export fails: nothing is
///   signed that does not agree with what was signed before.
///
/// Reads and writes files on the calling thread.
///
/// ```
/// use std::sync::Arc;
/// use agent_audit_core::{event::Other, key::SigningKey, log::{AuditLog, Layout}, memory::MemorySink};
/// use agent_audit_query::{Filter, Ledger, scan::Scanned};
/// use agent_audit_query::export::{self, ExportVerdict, Exporter, LogCheckpoints, VerifyOptions};
///
/// # let dir = tempfile::tempdir()?;
/// let (log_dir, out) = (dir.path().join("log"), dir.path().join("export"));
/// let (log_key, exporter_key) = (SigningKey::generate()?, SigningKey::generate()?);
/// let sink = MemorySink::new();
/// let log = AuditLog::builder(&log_dir)
///     .with_signing_key(log_key.clone())
///     .with_sink(sink.clone())
///     .open()?;
/// log.session("acme", "session-1", "support-agent")?.record_blocking(Other::custom("note")?)?;
/// log.close_blocking(std::time::Duration::from_secs(5))?;
///
/// let ledger = Ledger::new(Arc::new(Scanned::new("memory", sink)), "acme".parse()?);
/// let mut checkpoints = LogCheckpoints::trusting("acme".parse()?, [log_key.verifying_key()]);
/// checkpoints.read(&log_dir.join("checkpoints"))?;
/// # pollster::block_on(async {
/// let exported = Exporter::new(&ledger, &exporter_key, &checkpoints)
///     .with_name("auditor-3")
///     .with_filter(Filter::new())
///     .with_content()
///     .write(&out)
///     .await?;
/// assert_eq!(exported.manifest.counts.uncovered, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
///
/// let options = VerifyOptions::default()
///     .with_exporter_keys([exporter_key.verifying_key()])
///     .with_log_keys([log_key.verifying_key()]);
/// let report = export::verify(&out, options)?;
/// assert_eq!(report.verdict(), ExportVerdict::Intact);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Exporter<'a> {
    ledger: &'a Ledger,
    key: &'a SigningKey,
    checkpoints: Option<&'a LogCheckpoints>,
    name: String,
    filter: Filter,
    content: bool,
    format: Format,
    file_bytes: u64,
    progress: Option<&'a (dyn Fn(Progress) + Sync)>,
}

/// What was exported.
///
/// ```
/// # use agent_audit_query::export::example;
/// # let dir = tempfile::tempdir()?;
/// let exported = example(dir.path())?;
/// assert!(exported.bytes >= exported.manifest.files.iter().map(|file| file.bytes).sum());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// What the export says of itself.
    pub manifest: Manifest,
    /// The SHA-256 of the manifest, which stands for the whole export.
    pub digest: Hash,
    /// How many bytes all files have together.
    pub bytes: u64,
}

impl<'a> Exporter<'a> {
    /// Exports events of a ledger, with proofs that lead to these checkpoints, and signs with a key.
    ///
    /// Without anything else, every event of the tenant, without the bodies of content, as NDJSON.
    #[must_use]
    pub fn new(ledger: &'a Ledger, key: &'a SigningKey, checkpoints: &'a LogCheckpoints) -> Self {
        Self { checkpoints: Some(checkpoints), ..Self::without_proofs(ledger, key) }
    }

    /// Exports without proofs: whoever verifies has the word of the exporter alone.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use agent_audit_core::{key::SigningKey, memory::MemorySink};
    /// use agent_audit_query::{Ledger, export::Exporter, scan::Scanned};
    /// # let dir = tempfile::tempdir()?;
    /// let ledger = Ledger::new(Arc::new(Scanned::new("memory", MemorySink::new())), "acme".parse()?);
    /// let key = SigningKey::generate()?;
    /// let out = dir.path().join("export");
    /// let export = Exporter::without_proofs(&ledger, &key).write(&out);
    /// assert_eq!(pollster::block_on(export)?.manifest.counts.events, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn without_proofs(ledger: &'a Ledger, key: &'a SigningKey) -> Self {
        Self {
            ledger,
            key,
            checkpoints: None,
            name: "unnamed".to_owned(),
            filter: Filter::new(),
            content: false,
            format: Format::Ndjson,
            file_bytes: FILE_BYTES,
            progress: None,
        }
    }

    /// Says who asks for the export, by a token and never by a name or an address itself.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Exports the events that match.
    #[must_use]
    pub fn with_filter(mut self, filter: Filter) -> Self {
        self.filter = filter;
        self
    }

    /// Also exports the bodies of content.
    #[must_use]
    pub fn with_content(mut self) -> Self {
        self.content = true;
        self
    }

    /// Sets how events are written.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// Begins another file of events once one has so many bytes; 256 MiB unless said.
    #[must_use]
    pub fn with_file_bytes(mut self, bytes: u64) -> Self {
        self.file_bytes = bytes.max(1);
        self
    }

    /// Reports progress to a function, on the thread that exports.
    #[must_use]
    pub fn with_progress(mut self, progress: &'a (dyn Fn(Progress) + Sync)) -> Self {
        self.progress = Some(progress);
        self
    }

    /// Writes the export.
    ///
    /// # Errors
    /// [`Invalid`](crate::QueryErrorKind::Invalid) where the directory is not empty or the question
    /// makes no sense, [`Corrupt`](crate::QueryErrorKind::Corrupt) where the store does not agree
    /// with the checkpoints or with itself, and whatever the store or the disk says. What was written
    /// is then removed.
    ///
    /// # Cancel safety
    /// Where the future is dropped, what was written is removed.
    pub async fn write(self, dir: &Path) -> Result<Exported, QueryError> {
        self.filter.check()?;
        self.check_checkpoints()?;
        let chains = self.ledger.chains().await?;
        let asked = self.filter.values_of("chain_id");
        let asked_for = |chain: &ChainId| asked.is_empty() || asked.contains(&chain.as_str());
        self.check_chains(&chains, asked_for)?;

        let mut ticker = Ticker::new(self.progress);
        let mut output = Output::create(dir)?;
        let mut writer = Chains::new(self.ledger, self.checkpoints, self.format, self.file_bytes)?;
        writer.begin(&mut output)?;
        let mut pages = Pages::new(self.ledger, self.filter.clone(), self.content);
        loop {
            let page = pages.next().await?;
            if page.is_empty() {
                break;
            }
            for found in page {
                if !writer.is_at(&found) {
                    writer.turn_to(Some(&found), &mut output, &mut ticker).await?;
                }
                writer.push(found, self.content, &mut output)?;
            }
            ticker.reached(writer.events(), output.bytes() + writer.open_bytes());
        }
        writer.turn_to(None, &mut output, &mut ticker).await?;
        let mut written = writer.finish(&mut output)?;

        let mut claim = provable(&self.filter);
        if claim == Claim::Index {
            let asked: Vec<_> = chains.into_iter().filter(asked_for).collect();
            let (ledger, filter) = (self.ledger, &self.filter);
            if complete::write(ledger, &asked, self.checkpoints, filter, &mut output).await? {
                if let Some(checkpoints) = self.checkpoints {
                    written.add_empty_chains(ledger.tenant(), &asked, checkpoints);
                }
            } else {
                claim = Claim::None;
            }
        } else if self.checkpoints.is_none() {
            claim = Claim::None;
        }
        if !written.checkpoints.is_empty() {
            let mut lines = output.begin(CHECKPOINTS)?;
            for checkpoint in written.checkpoints.values() {
                lines.put(&line(checkpoint)?)?;
            }
            output.commit(lines, None)?;
        }
        self.sign(output, claim, written)
    }

    fn sign(
        &self,
        mut output: Output,
        claim: Claim,
        written: Written,
    ) -> Result<Exported, QueryError> {
        let manifest = Manifest {
            chains: written.chains,
            checkpoint_keys: written.keys,
            completeness: claim,
            content: self.content,
            counts: written.counts,
            events_format: self.format,
            exported_at: Timestamp::now(),
            exporter: ExporterName::new(&self.name, self.key.verifying_key()),
            files: output.files(),
            format: FORMAT,
            order: "chain".to_owned(),
            query: self.filter.clone(),
            store: self.ledger.store_name().to_owned(),
            tenant_id: self.ledger.tenant().clone(),
        };
        let bytes = manifest.to_bytes()?;
        let digest = manifest::sha256(&bytes);
        let note = manifest::sign(&digest, self.key).map_err(|error| {
            QueryError::invalid("the manifest cannot be signed").with_source(error)
        })?;
        output.write(MANIFEST, &bytes)?;
        output.write(SIGNATURE, note.to_string().as_bytes())?;
        let bytes = output.bytes();
        output.finish()?;
        Ok(Exported { manifest, digest, bytes })
    }

    fn check_checkpoints(&self) -> Result<(), QueryError> {
        match self.checkpoints {
            Some(checkpoints) if checkpoints.tenant() != self.ledger.tenant() => {
                Err(QueryError::invalid(format!(
                    "the checkpoints are of tenant {}, and the export is of tenant {}",
                    checkpoints.tenant(),
                    self.ledger.tenant()
                )))
            }
            _ => Ok(()),
        }
    }

    /// A chain that was signed and is not there any more must not be passed over.
    fn check_chains(
        &self,
        chains: &[ChainId],
        asked_for: impl Fn(&ChainId) -> bool,
    ) -> Result<(), QueryError> {
        let Some(checkpoints) = self.checkpoints else { return Ok(()) };
        for chain in checkpoints.chains().filter(|chain| asked_for(chain)) {
            let size = checkpoints.of(chain).last().map_or(0, |last| last.unverified().size);
            if size > 0 && !chains.contains(chain) {
                let what = format!(
                    "it holds none of its events, and a signed checkpoint states that there were \
                     {size}"
                );
                return Err(disagrees(self.ledger, chain, &what));
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Exporter<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Exporter")
            .field("tenant", self.ledger.tenant())
            .field("filter", &self.filter)
            .field("content", &self.content)
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}
