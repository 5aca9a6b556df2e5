//! `agent-audit events`.

use agent_audit_query::{Access, Page};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Asking,
    brief::brief,
    json::{self, Places},
};
use crate::{args::EventsArgs, failure::Failure, table::Table};

#[derive(Serialize)]
struct Json {
    events: Vec<Box<RawValue>>,
    #[serde(flatten)]
    places: Places,
}

pub(super) async fn ask(args: &EventsArgs, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let filter = args.filters.filter(&asking.zone)?;
    let request = args.page.request();
    let request = if args.content { request.content() } else { request };
    let page = asking.ledger.events(&filter, &request).await?;
    let answer = Access::digest(&page.events);
    asking.recorder.queried(&asking.ledger, "events", &filter, answer).await?;
    if asking.args.json {
        let events = page.events.iter().map(json::event).collect::<Result<_, _>>()?;
        let places = Places::new(page.next.as_ref(), page.previous.as_ref());
        return asking.out.line(serde_json::to_string(&Json { events, places })?);
    }
    if page.events.is_empty() {
        return asking.out.line("no event matches");
    }
    let mut table = Table::new(["TIME", "SESSION", "TYPE", "WHAT", "EVENT"]);
    for found in &page.events {
        table.row([
            asking.zone.show(found.timestamp()).as_str(),
            found.session_id(),
            found.event_type(),
            &brief(found)?,
            &found.event_id().to_string(),
        ]);
    }
    asking.out.text(&table.to_string())?;
    more(&page, asking)
}

/// How to go on.
fn more(page: &Page, asking: &mut Asking<'_>) -> Result<(), Failure> {
    if let Some(next) = &page.next {
        asking.out.line(format!("\nthere are more: --after {next}"))?;
    }
    if let Some(previous) = &page.previous {
        asking.out.line(format!("before these: --before {previous}"))?;
    }
    Ok(())
}
