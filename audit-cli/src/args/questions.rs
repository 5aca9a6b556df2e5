//! The questions on the command line.

use std::path::PathBuf;

use agent_audit_core::id::{EventId, SessionId};
use clap::{Parser, ValueEnum};

use super::ask::{AskArgs, FilterArgs, PageArgs};

/// List the sessions of a tenant
///
/// With filters, those that have an event which matches; the counts are of such events.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit sessions ./audit --tenant acme\n  \
                  agent-audit sessions postgres: --tenant acme --tool refund --since 7d\n  \
                  agent-audit sessions sqlite:./store --tenant acme --json | jq '.[].session_id'"
)]
pub(crate) struct SessionsArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
    /// Only sessions whose id comes after this one, byte by byte
    #[arg(long, value_name = "SESSION", help_heading = "Pages")]
    pub(crate) after: Option<SessionId>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 1_000, help_heading = "Pages")]
    pub(crate) limit: usize,
}

/// Tell a session from beginning to end, with the sessions of the sub-agents that it spawned
///
/// Causes stand before their effects, also across chains and agents.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit session ./audit s-1 --tenant acme\n  \
                  agent-audit session postgres: s-1 --tenant acme --full\n  \
                  agent-audit session ./audit s-1 --tenant acme --json | jq '.events[].event.event_type'"
)]
pub(crate) struct SessionArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// The session
    pub(crate) session: SessionId,
    /// Show content whole instead of its beginning
    #[arg(long)]
    pub(crate) full: bool,
}

/// Say what led to an event: decision, prompt, earlier results, approval
///
/// The record's own words are followed; where a decision does not say what its context goes on from, the
/// decision before it in the session and the results in between are named `earlier` and `result`.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit why ./audit 01935a7b-… --tenant acme\n  \
                  agent-audit why clickhouse: 01935a7b-… --tenant acme --steps 3 --content"
)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) walk: WalkArgs,
}

/// Say what an event caused: calls and their ends, reviews, spawned sessions
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
                  agent-audit effects ./audit 01935a7b-… --tenant acme\n  \
                  agent-audit effects ./audit 01935a7b-… --tenant acme --context")]
pub(crate) struct EffectsArgs {
    #[command(flatten)]
    pub(crate) walk: WalkArgs,
    /// Also the decisions that had a result or decision before them, and what these caused
    #[arg(long)]
    pub(crate) context: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct WalkArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    /// The event, by its id
    pub(crate) event: EventId,
    /// At most so many steps away
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<usize>,
    /// With content, in the JSON form
    #[arg(long, requires = "json")]
    pub(crate) content: bool,
}

/// List what reviewers rejected, changed or handed on, with diff, rationale and latency
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
                  agent-audit overrides ./audit --tenant acme --since 2026-11-01\n  \
                  agent-audit overrides postgres: --tenant acme --reviewer alice --decision modify --json")]
pub(crate) struct OverridesArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// Only those of people, not of models and policies
    #[arg(long)]
    pub(crate) human: bool,
}

/// List what a model, or one version of it, decided, and everything that came of it
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
                  agent-audit model ./audit --tenant acme --model-version 2026-08-06\n  \
                  agent-audit model postgres: --tenant acme --model gpt-4o-2026-08-06 --since 30d --json")]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
    #[command(flatten)]
    pub(crate) page: PageArgs,
}

/// List what is not as it should be: hasty or unseen approvals, calls without approval, outcome or decision, gaps
///
/// An anomaly is no proof of a wrong: it is what a person should look at. Ask `why` about its event next.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit anomalies ./audit --tenant acme\n  \
                  agent-audit anomalies postgres: --tenant acme --since 24h --hasty 5 --streak 3 --json"
)]
pub(crate) struct AnomaliesArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
    /// A decision is hasty that came sooner after the presentation
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    pub(crate) hasty: f64,
    /// So many hasty approvals in a row are a streak
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub(crate) streak: usize,
    /// A writer is silent that has recorded nothing for so long
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub(crate) silence: u64,
}

/// Sum up tokens, time and cost of models
///
/// Cost needs prices: a JSON file such as
///   {"gpt-4o": {"input": 2500000, "cache_read": 1250000, "cache_write": 2500000, "output": 10000000}}
/// in millionths of your currency for a million tokens, by the beginning of the model's name.
#[derive(Debug, Parser)]
#[command(
    verbatim_doc_comment,
    after_help = "Examples:\n  \
                  agent-audit usage ./audit --tenant acme\n  \
                  agent-audit usage postgres: --tenant acme --by day --since 30d --prices prices.json"
)]
pub(crate) struct UsageArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
    /// What to sum up by
    #[arg(long, value_enum, default_value_t)]
    pub(crate) by: ByArg,
    /// What tokens cost
    #[arg(long, value_name = "FILE")]
    pub(crate) prices: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum ByArg {
    #[default]
    Model,
    Agent,
    Session,
    Day,
}

/// List the events that match
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
                  agent-audit events ./audit --tenant acme --tool refund --status error\n  \
                  agent-audit events postgres: --tenant acme --type 'review.*' --last --limit 20\n  \
                  agent-audit events ./audit --tenant acme --external order=A-1 --json | jq .events")]
pub(crate) struct EventsArgs {
    #[command(flatten)]
    pub(crate) ask: AskArgs,
    #[command(flatten)]
    pub(crate) filters: FilterArgs,
    #[command(flatten)]
    pub(crate) page: PageArgs,
    /// With content, in the JSON form
    #[arg(long, requires = "json")]
    pub(crate) content: bool,
}
