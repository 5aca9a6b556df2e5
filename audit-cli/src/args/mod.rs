//! What the command can be asked for.

mod ask;
mod evidence;
mod questions;

use std::path::PathBuf;

pub(crate) use ask::AskArgs;
pub(crate) use evidence::{ExportArgs, ExportFormat, WatchArgs};
pub(crate) use questions::{
    AnomaliesArgs, ByArg, EffectsArgs, EventsArgs, ModelArgs, OverridesArgs, SessionArgs,
    SessionsArgs, UsageArgs, WalkArgs, WhyArgs,
};

use agent_audit_core::id::{AgentId, SessionId, TenantId};
use clap::{Parser, Subcommand, ValueEnum};

/// Verify, ask, show and import tamper-evident audit logs of AI agents.
#[derive(Debug, Parser)]
#[command(
    name = "agent-audit",
    version,
    after_help = "A log is the directory that an agent's program keeps its records in. Start with\n  \
                  agent-audit verify DIR                    is it as it was written?\n  \
                  agent-audit show DIR                      what does it say?\n  \
                  agent-audit sessions DIR --tenant acme    questions: session, why, effects, overrides,\n  \
                                                            model, anomalies, usage, events\n  \
                  agent-audit export DIR --tenant acme --out EVIDENCE    and verify EVIDENCE, anywhere"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Verify(VerifyArgs),
    Show(ShowArgs),
    Sessions(SessionsArgs),
    Session(SessionArgs),
    Why(WhyArgs),
    Effects(EffectsArgs),
    Overrides(OverridesArgs),
    Model(ModelArgs),
    Anomalies(AnomaliesArgs),
    Usage(UsageArgs),
    Events(EventsArgs),
    Export(ExportArgs),
    Watch(WatchArgs),
    Import(ImportArgs),
    Keys(KeysArgs),
    #[cfg(feature = "kafka")]
    Relay(RelayArgs),
    Completions(CompletionsArgs),
}

/// Check that a log, a store or an export is as it was written, and say what is wrong where it is not
///
/// Of a log's directory every record of the journal and of the embedded store (DIR/sqlite) is checked:
/// hashes, order, content, columns, and the signed checkpoints over them. Of a store alone
/// (`sqlite:DIR`, `postgres:`, `clickhouse:`, `s3:`) its records are, but for columns. An export is
/// checked offline, by nothing but public keys. Nothing is changed, and all may be in use.
///
/// The first line is the verdict: INTACT, TAMPERED, INCOMPLETE (an export that lacks what it says it
/// has), or COULD NOT TELL. What it rests on comes next: whoever can write to the log can also replace
/// the keys and checkpoints in it, so keep both elsewhere and name them here.
///
/// Exit code: 0 intact, 1 tampered or incomplete, 2 could not tell.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit verify ./audit\n  \
                  agent-audit verify ./audit --key auditor/agent.pub --checkpoints /mnt/elsewhere/checkpoints\n  \
                  agent-audit verify ./export --exporter-key exporter.pub --key auditor/agent.pub\n  \
                  agent-audit verify postgres: --tenant acme\n  \
                  agent-audit verify ./audit --json | jq '.verdict, .findings[]'"
)]
pub(crate) struct VerifyArgs {
    /// The directory of a log or of an export, or a store: `sqlite:DIR`, `postgres:`, `clickhouse:`, `s3:`
    pub(crate) store: String,
    /// Of a store that does not tell which tenants it has: these (repeatable)
    #[arg(long = "tenant", value_name = "TENANT")]
    pub(crate) tenant: Vec<TenantId>,
    /// Believe exports that this key signed, and no others: a file with public keys, or a key itself (repeatable)
    #[arg(long = "exporter-key", value_name = "FILE|KEY")]
    pub(crate) exporter_keys: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    /// Believe checkpoints of this key alone: a file with public keys, or a key itself as `agent-audit keys` prints it (repeatable)
    #[arg(long = "key", value_name = "FILE|KEY")]
    pub(crate) keys: Vec<String>,
    /// Check against checkpoints that were kept apart from the log: a directory of *.ndjson files, or one file (repeatable)
    #[arg(long = "checkpoints", value_name = "DIR")]
    pub(crate) checkpoints: Vec<PathBuf>,
}

/// Show what a log says: its tenants, the sessions of one, or one session as a timeline
///
/// Without --tenant the tenants are listed, without --session the sessions of the tenant. A session
/// is shown with those of the sub-agents that it spawned. The log may be in use.
///
/// Showing is not verifying: run `agent-audit verify` to know whether what you read was changed.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit show ./audit\n  \
                  agent-audit show ./audit --tenant acme\n  \
                  agent-audit show ./audit --tenant acme --session s-1 --full\n  \
                  agent-audit show ./audit --tenant acme --session s-1 --json | jq .event.event_type\n  \
                  agent-audit show ./audit --tenant acme --format openai-chat > transcripts.jsonl"
)]
pub(crate) struct ShowArgs {
    /// The directory of the log
    pub(crate) dir: PathBuf,
    /// The tenant (customer) to show
    #[arg(long)]
    pub(crate) tenant: Option<TenantId>,
    /// The session to show
    #[arg(long, requires = "tenant")]
    pub(crate) session: Option<SessionId>,
    /// Show content whole instead of its beginning
    #[arg(long)]
    pub(crate) full: bool,
    /// Print JSON: one object for each event, or for each tenant or session of a list
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Give imported sessions back in the format they came in, one JSON object a line
    #[arg(long, value_enum, requires = "tenant")]
    pub(crate) format: Option<Format>,
}

/// Record transcripts that something else kept, one JSON object a line
///
/// Each line has a `session_id`, usually a `model`, and `messages` in the format of the OpenAI chat
/// API; everything else in it is kept too. A session is recorded as model decisions, tool attempts
/// and tool results, marked as imported: the log did not witness them. Nothing is lost:
/// `agent-audit show DIR --tenant T --format openai-chat` gives every line back.
///
/// The directory is created where it is missing. A log that is open in another process is left
/// alone.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit import transcripts.jsonl --format openai-chat --tenant acme --dir ./audit\n  \
                  zcat old.jsonl.gz | agent-audit import - --format openai-chat --tenant acme --dir ./audit --sqlite"
)]
pub(crate) struct ImportArgs {
    /// The file of transcripts; `-` is standard input
    pub(crate) file: PathBuf,
    /// The format of the transcripts
    #[arg(long, value_enum)]
    pub(crate) format: Format,
    /// The tenant (customer) to whom the sessions belong
    #[arg(long)]
    pub(crate) tenant: TenantId,
    /// The directory of the log
    #[arg(long)]
    pub(crate) dir: PathBuf,
    /// The name of the agent that acted
    #[arg(long, value_name = "NAME", default_value = "imported-agent")]
    pub(crate) agent: AgentId,
    /// Also deliver to the embedded store, DIR/sqlite; a store that is there is used in any case
    #[arg(long)]
    pub(crate) sqlite: bool,
    /// Pass over sessions that the log already has, instead of stopping
    #[arg(long)]
    pub(crate) skip_existing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `session_id`, `model`, `messages` as in the OpenAI chat API
    OpenaiChat,
}

/// Show the public keys of a log, or make a signing key
///
/// A log signs its checkpoints. Hand the public key to auditors by another way than the log itself,
/// so that they can tell when somebody has replaced both: `agent-audit verify DIR --key KEY`.
/// Private keys are never shown.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  \
                  agent-audit keys ./audit\n  \
                  agent-audit keys ./audit --verifiers     for other tools that read C2SP signed notes\n  \
                  agent-audit keys generate signing.key"
)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: Option<KeysCommand>,
    /// The directory of the log
    #[arg(required = true)]
    pub(crate) dir: Option<PathBuf>,
    /// Print the C2SP note verifier of each chain instead, one a line
    #[arg(long)]
    pub(crate) verifiers: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a signing key in a new file, readable by its owner alone
    Generate {
        /// The file; one that is there is never replaced
        file: PathBuf,
    },
}

/// Bring events from Kafka to other sinks, checked on the way
///
/// Reads the topics as a member of a consumer group, so that several of these commands share the
/// work. Each chain is checked as it comes: hash links, order, copies, forks. Offsets are committed
/// when every sink has acknowledged what was read; kill it at any moment, and the next one goes on
/// without loss, and without doubles where the sinks take an event once.
///
/// A sink is one of
///   sqlite:DIR       the embedded store
///   postgres         and clickhouse, s3, otlp, kinesis, sqs: as AGENT_AUDIT_POSTGRES_… and so on say
/// where the command was built with them. Passwords come from the environment alone:
/// AGENT_AUDIT_KAFKA_SASL_USERNAME, _PASSWORD and the other settings of the library work here too.
///
/// A message that belongs nowhere (no event, a fork, refused by a sink for good) goes to the
/// quarantine. Without one the offset of its partition stays before it, and the other chains go on.
///
/// Ends when it is told to (SIGINT, SIGTERM), after the sinks have what was read. Exit code: 0 all
/// is where it belongs, 1 some messages belong nowhere, 2 it could not go on.
#[cfg(feature = "kafka")]
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit relay --brokers kafka:9092 --topic agent-audit --group audit-relay --to sqlite:/var/lib/audit\n  \
                  agent-audit relay --topic 'audit-{tenant}' --group audit-relay --to clickhouse --to s3 --quarantine /var/lib/audit/quarantine"
)]
pub(crate) struct RelayArgs {
    /// Some brokers to begin with, as host:port; else AGENT_AUDIT_KAFKA_BROKERS
    #[arg(long, value_name = "HOST:PORT,…")]
    pub(crate) brokers: Option<String>,
    /// The topic, with `{tenant}` in it where each tenant has its own; else AGENT_AUDIT_KAFKA_TOPIC
    #[arg(long)]
    pub(crate) topic: Option<String>,
    /// The consumer group
    #[arg(long)]
    pub(crate) group: String,
    /// Where events go (repeatable)
    #[arg(long = "to", value_name = "SINK", required = true)]
    pub(crate) to: Vec<String>,
    /// The directory for messages that belong nowhere
    #[arg(long, value_name = "DIR")]
    pub(crate) quarantine: Option<PathBuf>,
    /// How long events wait for one that is missing before them
    #[arg(long, value_name = "SECONDS")]
    pub(crate) gap_timeout: Option<u64>,
    /// How often to say how far it is
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    pub(crate) every: u64,
    /// Say it as one JSON object a line on standard output, with the lag of each partition
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print what a shell needs to complete this command
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
                  agent-audit completions bash > /etc/bash_completion.d/agent-audit\n  \
                  agent-audit completions zsh > ~/.zfunc/_agent-audit")]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Args::command().debug_assert();
    }
}
