//! What every question has in common: the store, the tenant, the filters, the pages.

use std::path::PathBuf;

use agent_audit_core::id::{AgentId, ChainId, EventId, SessionId, SubjectId, TenantId};
use agent_audit_query::{Cursor, Filter, Order, Request};
use clap::{Args, ValueEnum};

use crate::{failure::Failure, time::Zone};

/// Whom to ask, and who asks.
#[derive(Debug, Args)]
pub(crate) struct AskArgs {
    /// Where the records are: the directory of a log, `sqlite:DIR`, `postgres:`, `clickhouse:` or `s3:` (the latter three as AGENT_AUDIT_POSTGRES_… and so on say)
    pub(crate) store: String,
    /// The tenant (customer) who is asked about
    #[arg(long)]
    pub(crate) tenant: TenantId,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Show times in UTC instead of the local zone; dates in filters are then of UTC, too
    #[arg(long)]
    pub(crate) utc: bool,
    /// Who asks, as it is recorded; by default the user of this process
    #[arg(long = "as", value_name = "NAME", help_heading = "Record of this read")]
    pub(crate) actor: Option<String>,
    /// What for, as it is recorded
    #[arg(long, value_name = "TEXT", help_heading = "Record of this read")]
    pub(crate) purpose: Option<String>,
    /// The log in which this read is recorded on the tenant's ledger; by default DIR/access of a directory
    #[arg(
        long,
        value_name = "DIR",
        env = "AGENT_AUDIT_ACCESS_LOG",
        help_heading = "Record of this read"
    )]
    pub(crate) access_log: Option<PathBuf>,
}

impl AskArgs {
    pub(crate) fn zone(&self) -> Zone {
        if self.utc { Zone::utc() } else { Zone::local() }
    }
}

/// Which events are asked about. Each can be given several times: then one of the values must hold.
#[derive(Debug, Args, Default)]
#[command(next_help_heading = "Filters")]
pub(crate) struct FilterArgs {
    /// In this session
    #[arg(long)]
    pub(crate) session: Vec<SessionId>,
    /// Of this agent
    #[arg(long)]
    pub(crate) agent: Vec<AgentId>,
    /// Of this type, as `tool.completed`, or of all types that begin so, as `review.*`
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Vec<String>,
    /// Of this model
    #[arg(long)]
    pub(crate) model: Vec<String>,
    /// Of this version of a model
    #[arg(long)]
    pub(crate) model_version: Vec<String>,
    /// Of a model of this provider
    #[arg(long)]
    pub(crate) provider: Vec<String>,
    /// Of this tool
    #[arg(long)]
    pub(crate) tool: Vec<String>,
    /// Decided by this reviewer
    #[arg(long)]
    pub(crate) reviewer: Vec<String>,
    /// Decided so: approve, reject, modify, escalate, timed_out, dismissed
    #[arg(long)]
    pub(crate) decision: Vec<String>,
    /// About this person, named by a token
    #[arg(long)]
    pub(crate) subject: Vec<SubjectId>,
    /// That ended so: ok, error, tool_error, cancelled, panicked, unknown
    #[arg(long)]
    pub(crate) status: Vec<String>,
    /// Touched this thing outside: `KEY=VALUE`, or a value under any key
    #[arg(long, value_name = "[KEY=]VALUE")]
    pub(crate) external: Vec<String>,
    /// In this chain
    #[arg(long)]
    pub(crate) chain: Vec<ChainId>,
    /// This event
    #[arg(long = "event", value_name = "ID")]
    pub(crate) events: Vec<EventId>,
    /// Recorded then or later: a date, a time (RFC 3339), or how long ago, as `7d` or `36h`
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Recorded before then
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

impl FilterArgs {
    pub(crate) fn filter(&self, zone: &Zone) -> Result<Filter, Failure> {
        let mut filter = Filter::new();
        type Texts<'a> = (&'a [String], fn(Filter, &str) -> Filter);
        let texts: [Texts<'_>; 7] = [
            (&self.model, Filter::model),
            (&self.model_version, Filter::model_version),
            (&self.provider, Filter::provider),
            (&self.tool, Filter::tool),
            (&self.reviewer, Filter::reviewer),
            (&self.decision, Filter::decision),
            (&self.status, Filter::status),
        ];
        for (values, add) in texts {
            filter = values.iter().fold(filter, |filter, value| add(filter, value));
        }
        filter = self.session.iter().cloned().fold(filter, Filter::session);
        filter = self.agent.iter().cloned().fold(filter, Filter::agent);
        filter = self.subject.iter().cloned().fold(filter, Filter::subject);
        filter = self.chain.iter().cloned().fold(filter, Filter::chain);
        filter = self.events.iter().copied().fold(filter, Filter::event);
        for event_type in &self.event_type {
            filter = match event_type.strip_suffix('*') {
                None => filter.event_type(event_type),
                Some(family) if self.event_type.len() == 1 => filter.family(family),
                Some(_) => {
                    return Err(Failure::new(format!(
                        "`--type {event_type}` cannot stand beside another --type: name the types one by one"
                    )));
                }
            };
        }
        for external in &self.external {
            filter = match external.split_once('=') {
                Some((key, value)) => filter.external(key, value),
                None => filter.external_value(external),
            };
        }
        if let Some(since) = &self.since {
            filter = filter.since(zone.parse("--since", since)?);
        }
        if let Some(until) = &self.until {
            filter = filter.before(zone.parse("--until", until)?);
        }
        filter.check()?;
        Ok(filter)
    }
}

/// Which page of the answer.
#[derive(Debug, Args)]
#[command(next_help_heading = "Pages")]
pub(crate) struct PageArgs {
    /// How many at most, up to 10,000
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub(crate) limit: usize,
    /// The last ones instead of the first
    #[arg(long, conflicts_with_all = ["after", "before"])]
    pub(crate) last: bool,
    /// What comes after a place, as the page before it gave it
    #[arg(long, value_name = "CURSOR", conflicts_with = "before")]
    pub(crate) after: Option<Cursor>,
    /// What comes before a place
    #[arg(long, value_name = "CURSOR")]
    pub(crate) before: Option<Cursor>,
    /// In which order
    #[arg(long, value_enum, default_value_t)]
    pub(crate) order: OrderArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum OrderArg {
    /// By the time of recording
    #[default]
    Time,
    /// By chain and position
    Chain,
}

impl PageArgs {
    pub(crate) fn request(&self) -> Request {
        let request = match (&self.after, &self.before) {
            (Some(place), _) => Request::after(place.clone(), self.limit),
            (None, Some(place)) => Request::before(place.clone(), self.limit),
            (None, None) if self.last => Request::last(self.limit),
            (None, None) => Request::first(self.limit),
        };
        request.order(match self.order {
            OrderArg::Time => Order::Time,
            OrderArg::Chain => Order::Chain,
        })
    }
}
