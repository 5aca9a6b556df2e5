//! Exports and the integrity job on the command line.

use std::path::PathBuf;

use agent_audit_core::id::TenantId;
use clap::{Parser, ValueEnum};

use super::ask::{AskArgs, FilterArgs};

/// Export events into files that prove what they are, for an auditor without access to the store
///
/// The directory holds the events, inclusion proofs against the log's signed checkpoints, a manifest
/// with the question, counts and digests, and a signature. `agent-audit verify DIR` checks it offline:
/// that nothing was changed, and, for a whole ledger, a range of a chain, and the questions by session,
/// type, reviewer or subject, that nothing was left out.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit export ./audit --tenant acme --out evidence --content\n  \
                  agent-audit export ./audit --tenant acme --session s-1 --format parquet --out evidence\n  \
                  agent-audit export postgres: --tenant acme --since 30d --checkpoints /mnt/checkpoints --key agent.pub --out evidence"
)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
    /// The directory to write; it must not be there yet, or be empty
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// How events are written
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: ExportFormat,
    /// Also export the bodies of content
    #[arg(long)]
    pub(crate) content: bool,
    /// The signed checkpoints that proofs lead to: a directory of *.ndjson files, or one file (repeatable); by default those of the log
    #[arg(long = "checkpoints", value_name = "DIR", help_heading = "Proofs")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// A key that the checkpoints are signed with: a file with public keys, or a key itself (repeatable); by default those of the log
    #[arg(long = "key", value_name = "FILE|KEY", help_heading = "Proofs")]
    pub(crate) keys: Vec<String>,
    /// Your own key, to sign the export with; by default one of your user, made at first use
    #[arg(long, value_name = "FILE", help_heading = "Proofs")]
    pub(crate) signing_key: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ExportFormat {
    /// One JSON object a line
    #[default]
    Ndjson,
    /// Apache Parquet, one row an event
    Parquet,
}

/// Keep watch over stores: verify what is new, compare them, and sign a checkpoint of every tenant
///
/// Each run verifies what was recorded since the one before, and a share of the rest from the
/// beginning; compares the stores with each other and with what was signed before; finds a chain or a
/// tenant that is gone; signs a report; records the run; and alerts where not everything is intact.
/// What to run where, and what each finding means: docs/integrity.md.
///
/// Exit code: 0 intact, 1 tampering found, 2 could not tell. AGENT_AUDIT_WEBHOOK_TOKEN is sent to the
/// webhook as a bearer token.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit watch postgres: s3: --state /var/lib/agent-audit/watch --record /mnt/elsewhere/integrity\n  \
                  agent-audit watch ./audit --state ./watch --every 60 --webhook https://alerts.example/audit"
)]
pub(crate) struct WatchArgs {
    /// The stores: directories of logs, `sqlite:DIR`, `postgres:`, `clickhouse:`, `s3:`
    #[arg(required = true, value_name = "STORE")]
    pub(crate) stores: Vec<String>,
    /// Where the job keeps what it knows; nobody who can write to the stores should be able to write here
    #[arg(long, value_name = "DIR")]
    pub(crate) state: PathBuf,
    /// Keep the tenants' checkpoints elsewhere, best on another machine
    #[arg(long, value_name = "DIR")]
    pub(crate) tenant_checkpoints: Option<PathBuf>,
    /// The name of the job
    #[arg(long, value_name = "NAME", default_value = "integrity")]
    pub(crate) name: String,
    /// Also watch this tenant, where a store does not tell which it has (repeatable)
    #[arg(long = "tenant", value_name = "TENANT")]
    pub(crate) tenants: Vec<TenantId>,
    /// Run again after so many minutes, until told to stop; once unless said
    #[arg(long, value_name = "MINUTES")]
    pub(crate) every: Option<u64>,
    /// How long a store may lag behind another
    #[arg(long, value_name = "MINUTES", default_value_t = 15)]
    pub(crate) grace: u64,
    /// Read everything from the beginning
    #[arg(long)]
    pub(crate) whole: bool,
    /// Hold the chains against their writers' signed checkpoints (repeatable)
    #[arg(long = "checkpoints", value_name = "DIR")]
    pub(crate) checkpoints: Vec<PathBuf>,
    /// A key that these are signed with: a file with public keys, or a key itself (repeatable)
    #[arg(long = "key", value_name = "FILE|KEY")]
    pub(crate) keys: Vec<String>,
    /// Record each run in this log
    #[arg(long, value_name = "DIR")]
    pub(crate) record: Option<PathBuf>,
    /// The tenant as which runs are recorded
    #[arg(long, value_name = "TENANT", default_value = "integrity")]
    pub(crate) record_tenant: TenantId,
    /// Alert by an HTTP POST to this address
    #[arg(long, value_name = "URL")]
    pub(crate) webhook: Option<String>,
    /// Print the signed report as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
