//! Reading is recorded too.

use std::path::{Path, PathBuf};

use agent_audit_core::log::AuditLog;
use agent_audit_query::{Access, Answer, Ledger};
use serde::Serialize;

use crate::{args::AskArgs, failure::Failure, output, store::Opened};

/// The session that reads of a tenant's records belong to.
const READS: &str = "agent-audit-reads";
/// How long the log of reads may take to close.
const CLOSE: std::time::Duration = std::time::Duration::from_secs(10);

/// Where reads of a log directory are recorded unless another place is named.
pub(crate) fn default_log(dir: &Path) -> PathBuf {
    dir.join("access")
}

/// Records a read before its answer is shown.
pub(crate) struct Recorder {
    open: Option<(AuditLog, Access)>,
    /// Why nothing is recorded, where nobody asked for it.
    unrecorded: Option<String>,
}

impl Recorder {
    /// Opens the log of reads: the one that was named, else that beside the log that is read.
    pub(crate) async fn open(args: &AskArgs, opened: &Opened) -> Result<Self, Failure> {
        let named = args.access_log.as_deref();
        let beside = opened.dir.as_deref().map(default_log);
        let Some(dir) = named.or(beside.as_deref()) else {
            let why = "name a log for that with --access-log DIR".to_owned();
            return Ok(Self { open: None, unrecorded: Some(why) });
        };
        match Self::start(args, dir).await {
            Ok(open) => Ok(Self { open: Some(open), unrecorded: None }),
            Err(error) if named.is_some() => Err(error),
            // Evidence on a medium that cannot be written must still be readable.
            Err(error) => Ok(Self { open: None, unrecorded: Some(error.to_string()) }),
        }
    }

    async fn start(args: &AskArgs, dir: &Path) -> Result<(AuditLog, Access), Failure> {
        let log = AuditLog::open(dir)?;
        let actor = args.actor.clone().unwrap_or_else(user);
        let context = log.session(&args.tenant, READS, "agent-audit")?;
        let access = Access::new(context, actor);
        let access = match &args.purpose {
            Some(purpose) => access.with_purpose(purpose),
            None => access,
        };
        Ok((log, access))
    }

    /// Records the question and its answer. Without this an answer is not shown.
    pub(crate) async fn queried(
        &self,
        ledger: &Ledger,
        ask: &str,
        question: &(impl Serialize + Sync),
        answer: Answer,
    ) -> Result<(), Failure> {
        if let Some((_, access)) = &self.open {
            access.queried(ledger, ask, question, answer).await?;
        }
        Ok(())
    }

    /// Records an export.
    pub(crate) async fn exported(
        &self,
        ledger: &Ledger,
        question: &(impl Serialize + Sync),
        format: &str,
        files: u64,
        answer: Answer,
    ) -> Result<(), Failure> {
        if let Some((_, access)) = &self.open {
            access.exported(ledger, question, format, files, answer).await?;
        }
        Ok(())
    }

    /// Ends the record, and says where there is none.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        if let Some((log, access)) = self.open {
            drop(access);
            log.close(CLOSE).await?;
        }
        if let Some(why) = self.unrecorded {
            output::complain(&format!("this read was not recorded: {why}"));
        }
        Ok(())
    }
}

/// The user of this process: by name, else by number.
fn user() -> String {
    use std::os::unix::fs::MetadataExt as _;

    let name = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let number = || Some(format!("uid {}", std::fs::metadata("/proc/self").ok()?.uid()));
    name.filter(|name| !name.is_empty()).or_else(number).unwrap_or_else(|| "unknown".to_owned())
}
