//! `agent-audit sessions`.

use agent_audit_core::timeline::visible;
use agent_audit_query::Access;
use serde::Serialize;

use super::{Asking, json};
use crate::{
    args::SessionsArgs,
    failure::Failure,
    output::{counted, grouped, shell},
    table::Table,
};

#[derive(Serialize)]
struct Session<'a> {
    session_id: &'a str,
    agent_id: &'a str,
    first: String,
    last: String,
    events: u64,
}

pub(super) async fn ask(args: &SessionsArgs, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let filter = args.filters.filter(&asking.zone)?;
    let limit = args.limit.max(1);
    let mut found =
        asking.ledger.sessions(&filter, args.after.as_ref(), limit.saturating_add(1)).await?;
    let more = found.len() > limit;
    found.truncate(limit);
    let answer = Access::digest_of_table(&found)?;
    asking.recorder.queried(&asking.ledger, "sessions", &filter, answer).await?;
    let behind = found.last().filter(|_| more).map(|session| session.session_id.clone());
    found.sort_by_key(|session| (session.first, session.session_id.clone()));
    if asking.args.json {
        let sessions: Vec<Session<'_>> = found
            .iter()
            .map(|session| Session {
                session_id: session.session_id.as_str(),
                agent_id: session.agent_id.as_str(),
                first: json::time(session.first),
                last: json::time(session.last),
                events: session.events,
            })
            .collect();
        return asking.out.line(serde_json::to_string(&sessions)?);
    }
    if found.is_empty() {
        return asking.out.line(format!(
            "tenant {} has no session that matches, or is not known to {}",
            asking.args.tenant,
            visible(asking.ledger.store_name())
        ));
    }
    let mut table = Table::new(["SESSION", "AGENT", "FIRST", "LAST", "EVENTS"]).numbers_from(4);
    for session in &found {
        table.row([
            session.session_id.as_str(),
            session.agent_id.as_str(),
            &asking.zone.show(session.first),
            &asking.zone.show(session.last),
            &grouped(session.events),
        ]);
    }
    asking.out.text(&table.to_string())?;
    let count = u64::try_from(found.len()).unwrap_or(u64::MAX);
    asking.out.line(format!("\n{}", counted(count, "session")))?;
    if let Some(behind) = behind {
        let behind = shell(behind.as_str());
        asking.out.line(format!("there are more: --after {}", visible(&behind)))?;
    }
    Ok(())
}
