//! Is an export what it says that it is?

mod chains;
mod files;
mod gone;
mod index;
mod judge;
mod lines;
mod options;
mod positions;
mod records;
mod report;
mod run;
mod signature;
mod walk;

use std::path::Path;

use agent_audit_core::{
    hash::Hash,
    verify::{Basis, Finding, FindingKind},
};

pub use options::VerifyOptions;
pub use report::{ExportCompleteness, ExportReport, ExportVerdict};

use super::{
    claim::{Claim, Positions, provable},
    manifest::{
        self, BadManifest, CHECKPOINTS, COMPLETENESS, EVENTS, EVIDENCE, EVIDENCE_PROOFS, Format,
        MANIFEST, Manifest, PROOFS, SIGNATURE,
    },
    progress::Ticker,
};
use crate::{Filter, QueryError, QueryErrorKind};
use chains::Chains;
use files::{Files, Listing};
use gone::Gone;
use positions::Cover;
use records::Records;
use report::Draft;
use walk::{Tally, Walk};

/// Whether a directory is an export, or what is left of one.
///
/// ```
/// use agent_audit_query::export::{example, is_export};
/// # let dir = tempfile::tempdir()?;
/// example(dir.path())?;
/// assert!(is_export(&dir.path().join("export")) && !is_export(&dir.path().join("log")));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn is_export(dir: &Path) -> bool {
    Listing::read(dir).is_ok_and(|listing| listing.is_export())
}

/// Verifies an export: nothing but its files is read, and what the options name.
///
/// Takes memory for the manifest, for one record, and for the positions of an export that claims to
/// be complete by an index.
///
/// # Errors
/// Where the directory is no export or cannot be read, or the checkpoints that were kept apart
/// cannot. What is wrong with the export is a finding and no error.
///
/// ```
/// use agent_audit_query::export::{VerifyOptions, verify};
/// let error = verify("/nowhere/export".as_ref(), VerifyOptions::default()).unwrap_err();
/// assert!(error.to_string().contains("/nowhere/export"));
/// ```
pub fn verify(dir: &Path, options: VerifyOptions<'_>) -> Result<ExportReport, QueryError> {
    let listing = Listing::read(dir)?;
    if !listing.is_export() {
        return Err(QueryError::new(
            QueryErrorKind::NotFound,
            format!("`{}` is no export: it has no {MANIFEST}", dir.display()),
        ));
    }
    let mut draft = Draft::new();
    let mut ticker = Ticker::new(options.progress);
    if let Some((manifest, digest)) = read_manifest(&listing, &mut draft)? {
        match listing.bytes(SIGNATURE)? {
            Some(note) => signature::check(&note, &manifest, &digest, &options, &mut draft),
            None => draft.find(
                FindingKind::Missing,
                SIGNATURE,
                "the export is not signed: it was never finished, or its signature was removed",
            ),
        }
        draft.report.tenant = Some(manifest.tenant_id.clone());
        check_files(&listing, &manifest, &options, &mut ticker, &mut draft)?;
        draft.report.manifest = Some(manifest);
    }
    Ok(draft.finish())
}

fn read_manifest(
    listing: &Listing,
    draft: &mut Draft,
) -> Result<Option<(Manifest, Hash)>, QueryError> {
    let Some(bytes) = listing.bytes(MANIFEST)? else {
        draft.find(
            FindingKind::Missing,
            MANIFEST,
            "the export has no manifest: it was never finished, or its manifest was removed",
        );
        return Ok(None);
    };
    match Manifest::read(&bytes) {
        Ok(manifest) => return Ok(Some((manifest, manifest::sha256(&bytes)))),
        Err(BadManifest::UnknownFormat(format)) => {
            let detail = format!(
                "the export has format {format}, which this program does not know: use a newer one"
            );
            draft.find(FindingKind::UnknownSchema, MANIFEST, detail);
        }
        Err(BadManifest::Unreadable(what)) => {
            let detail = format!("the manifest was changed and cannot be read: {what}");
            draft.find(FindingKind::Tampered, MANIFEST, detail);
        }
    }
    Ok(None)
}

fn check_files(
    listing: &Listing,
    manifest: &Manifest,
    options: &VerifyOptions<'_>,
    ticker: &mut Ticker<'_>,
    draft: &mut Draft,
) -> Result<(), QueryError> {
    check_manifest(manifest, draft);
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).fold(0, u64::saturating_add);
    let events = || manifest.files.iter().filter(|file| file.events.is_some());
    let again: u64 = events().map(|file| file.bytes).fold(0, u64::saturating_add);
    ticker.total(bytes.saturating_add(again));
    let files = Files::check(listing, manifest, ticker, draft)?;
    let mut chains = Chains::read(manifest, &files, options, draft)?;
    let mut gone = Gone::default();
    let mut tick = |tally: &Tally| ticker.reached(tally.events, bytes.saturating_add(tally.bytes));

    let everything = Filter::new();
    let mut walk = Walk {
        tenant: &manifest.tenant_id,
        files: &files,
        content: false,
        filter: &everything,
        is_evidence: true,
        cover: None,
        collect: None,
    };
    let names = |prefix: &'static str| {
        let names = manifest.files.iter().map(|file| file.name.clone());
        names.filter(move |name| name.starts_with(prefix))
    };
    let records = Records::new(&files, Format::Ndjson, false, names(EVIDENCE));
    let evidence = walk.run(records, EVIDENCE_PROOFS, &mut chains, &mut gone, draft, |_| {})?;

    let cover = (manifest.completeness == Claim::Positions).then(|| Positions::of(&manifest.query));
    let index = manifest.completeness == Claim::Index;
    let mut walk = Walk {
        content: manifest.content,
        filter: &manifest.query,
        is_evidence: false,
        cover: cover.flatten().map(Cover::new),
        collect: index.then(Default::default),
        ..walk
    };
    let records = Records::new(&files, manifest.events_format, manifest.content, names(EVENTS));
    let tally = walk.run(records, PROOFS, &mut chains, &mut gone, draft, &mut tick)?;
    gone.finish(draft);

    let report = &mut draft.report;
    report.chains = u64::try_from(manifest.chains.len()).unwrap_or(u64::MAX);
    (report.events, report.parts, report.bytes) = (tally.events, tally.parts, tally.bytes);
    (report.erased, report.purged, report.sealed) = (tally.erased, tally.purged, tally.sealed);
    count(manifest, &tally, &evidence, &chains, draft);
    vouch(&chains, options, draft);
    let left_out = walk.cover.as_ref().is_some_and(|cover| cover.left_out);
    draft.report.completeness = match manifest.completeness {
        Claim::None => ExportCompleteness::NotProvable,
        _ if left_out || tally.missing > 0 => ExportCompleteness::Broken,
        Claim::Positions => proven(&chains),
        Claim::Index => {
            let keys = match &options.log_keys[..] {
                [] => &manifest.checkpoint_keys[..],
                keys => keys,
            };
            let events = walk.collect.take().unwrap_or_default();
            match index::check(&files, &manifest.query, events, &chains, keys, draft)? {
                ExportCompleteness::Proven => proven(&chains),
                other => other,
            }
        }
    };
    Ok(())
}

/// Whether the events that are claimed to be all there are proved.
fn proven(chains: &Chains) -> ExportCompleteness {
    let whole = |claimed: &chains::Claimed| {
        claimed.basis > Basis::ChainOnly && claimed.seen.proven == claimed.seen.covered
    };
    if chains.iter().next().is_some() && chains.iter().all(whole) {
        ExportCompleteness::Proven
    } else {
        ExportCompleteness::Unproven
    }
}

/// Does a manifest agree with itself?
fn check_manifest(manifest: &Manifest, draft: &mut Draft) {
    let mut wrong = |what: &str| {
        let detail = format!("the manifest contradicts itself: {what}");
        draft.find(FindingKind::Tampered, MANIFEST, detail);
    };
    if !manifest.chains.is_sorted_by(|a, b| a.chain_id < b.chain_id) {
        wrong("its chains are not sorted");
    }
    if !manifest.files.is_sorted_by(|a, b| a.name < b.name) {
        wrong("its files are not sorted");
    }
    if manifest.order != "chain" {
        wrong("its order is not `chain`");
    }
    if manifest.query.check().is_err() {
        wrong("the question makes no sense");
    }
    let provable = provable(&manifest.query);
    if manifest.completeness != Claim::None && manifest.completeness != provable {
        wrong("it claims a completeness that its question does not have");
    }
    let extension = manifest.events_format.extension();
    let mut number = 0;
    for file in &manifest.files {
        if file.name.starts_with(EVENTS) {
            number += 1;
            if file.name != format!("{EVENTS}{number:06}.{extension}") || file.events.is_none() {
                wrong("its files of events are not numbered from one");
                break;
            }
        } else if ![PROOFS, CHECKPOINTS, EVIDENCE, EVIDENCE_PROOFS, COMPLETENESS]
            .contains(&file.name.as_str())
        {
            wrong("it names a file that is none of an export");
            break;
        }
    }
    if !manifest.files.iter().any(|file| file.name == PROOFS) {
        wrong("it names no file of proofs");
    }
}

/// Are there as many of everything as the manifest says?
fn count(manifest: &Manifest, tally: &Tally, evidence: &Tally, chains: &Chains, draft: &mut Draft) {
    // What is damaged or missing was said, and cannot be counted.
    if draft.has_faults() {
        return;
    }
    let said = manifest.counts;
    let uncovered = tally.events - tally.covered;
    let found = [tally.events, tally.covered, uncovered, tally.parts, evidence.events];
    let named = [said.events, said.covered, said.uncovered, said.parts, said.evidence];
    if found != named {
        let detail = format!(
            "the manifest does not count what is there: events, covered, uncovered, parts and \
             evidence are {found:?}, and it says {named:?}"
        );
        draft.find(FindingKind::Tampered, MANIFEST, detail);
    }
    for claimed in chains.iter() {
        let (said, seen) = (&claimed.said, claimed.seen);
        let same = (said.events, said.covered, said.runs, said.first, said.last)
            == (seen.events, seen.covered, seen.runs, seen.first, seen.last);
        if !same {
            let detail = "the manifest does not say of it what is there";
            let finding = Finding::new(FindingKind::Tampered, detail).in_chain(&claimed.chain);
            draft.add(finding.in_place(MANIFEST));
        }
    }
}

/// Which signed checkpoints stand behind the chains, and what the caller demands of them.
fn vouch(chains: &Chains, options: &VerifyOptions<'_>, draft: &mut Draft) {
    let demanded = if !options.checkpoints.is_empty() {
        Basis::SeparateCheckpoint
    } else if !options.log_keys.is_empty() {
        Basis::OwnCheckpoint
    } else {
        Basis::ChainOnly
    };
    let mut weakest = None;
    for claimed in chains.iter().filter(|claimed| claimed.seen.events > 0) {
        let (basis, seen) = (claimed.worth(), claimed.seen);
        weakest = Some(weakest.map_or(basis, |weakest: Basis| weakest.min(basis)));
        if basis > Basis::ChainOnly {
            draft.report.covered += seen.proven;
        }
        let wanted = match demanded {
            Basis::SeparateCheckpoint => "no checkpoint that was kept apart",
            _ => "no checkpoint signed by a key that you trust",
        };
        // Where it was tampered with, that says more than who vouched for it.
        if basis < demanded && !draft.is_wrong(&claimed.chain) {
            let detail = format!("{wanted} covers its {} events in the export", seen.events);
            let finding = Finding::new(FindingKind::NotVouched, detail);
            draft.add(finding.in_chain(&claimed.chain));
        }
        let behind = seen.events - seen.covered;
        if behind > 0 && claimed.said.checkpoint.is_some() {
            let detail = format!(
                "{behind} of its events come behind its last checkpoint: whoever could write to the \
                 store can have written them"
            );
            let finding = Finding::new(FindingKind::UncoveredTail, detail);
            draft.add(finding.in_chain(&claimed.chain));
        }
    }
    draft.report.basis = weakest.unwrap_or(Basis::ChainOnly);
}
