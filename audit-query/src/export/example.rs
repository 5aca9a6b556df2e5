//! A small export, to try things on.

use std::{error::Error, path::Path, sync::Arc, time::Duration};

use agent_audit_core::{
    event::session::SessionStarted, key::SigningKey, log::AuditLog, memory::MemorySink,
};

use super::{Exported, Exporter, LogCheckpoints};
use crate::{Ledger, scan::Scanned};

/// Makes a small log in the directory `log` of another one, and exports it to `export` beside it: all
/// events of the tenant `acme`. One key, beside the log, signs both.
///
/// # Errors
/// Where the directories cannot be written, or are not empty.
///
/// ```
/// use agent_audit_query::export::{self, ExportVerdict, VerifyOptions};
/// # let dir = tempfile::tempdir()?;
/// let exported = export::example(dir.path())?;
/// assert_eq!(exported.manifest.tenant_id.as_str(), "acme");
/// let report = export::verify(&dir.path().join("export"), VerifyOptions::default())?;
/// assert_eq!(report.verdict(), ExportVerdict::Intact);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn example(dir: &Path) -> Result<Exported, Box<dyn Error>> {
    let key = SigningKey::generate()?;
    let sink = MemorySink::new();
    let log_dir = dir.join("log");
    let log =
        AuditLog::builder(&log_dir).with_signing_key(key.clone()).with_sink(sink.clone()).open()?;
    log.session("acme", "session-1", "support-agent")?.record_blocking(SessionStarted::new())?;
    log.close_blocking(Duration::from_secs(60))?;

    let ledger = Ledger::new(Arc::new(Scanned::new("memory", sink)), "acme".parse()?);
    let mut checkpoints = LogCheckpoints::trusting("acme".parse()?, [key.verifying_key()]);
    checkpoints.read(&log_dir.join("checkpoints"))?;
    let exporter = Exporter::new(&ledger, &key, &checkpoints).with_content();
    Ok(pollster::block_on(exporter.write(&dir.join("export")))?)
}
