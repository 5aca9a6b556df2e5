//! `agent-audit overrides`.

use agent_audit_core::timeline::visible;
use agent_audit_query::{
    Access, Content,
    questions::overrides::{Override, Overrides},
};
use serde::Serialize;

use super::{
    Asking,
    json::{self, Places},
};
use crate::{args::OverridesArgs, failure::Failure};

/// How many characters of a piece of content are shown.
const SHOWN: usize = 200;

#[derive(Serialize)]
struct Json<'a> {
    overrides: Vec<Row<'a>>,
    #[serde(flatten)]
    places: Places,
}

#[derive(Serialize)]
struct Row<'a> {
    decided_at_utc: String,
    #[serde(flatten)]
    row: &'a Override,
}

pub(super) async fn ask(args: &OverridesArgs, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let filter = args.filters.filter(&asking.zone)?;
    let mut answer: Overrides = asking.ledger.overrides(&filter, &args.page.request()).await?;
    if args.human {
        answer.overrides.retain(Override::is_human);
    }
    let digest = Access::digest_of_table(&answer.overrides)?;
    asking.recorder.queried(&asking.ledger, "overrides", &filter, digest).await?;
    let places = Places::new(answer.next.as_ref(), answer.previous.as_ref());
    if asking.args.json {
        let row = |row| Row { decided_at_utc: json::time((row as &Override).decided_at), row };
        let overrides = answer.overrides.iter().map(row).collect();
        return asking.out.line(serde_json::to_string(&Json { overrides, places })?);
    }
    if answer.overrides.is_empty() {
        return asking.out.line("no decision that overrides, in what matches");
    }
    for row in &answer.overrides {
        let action = row.action.as_deref().unwrap_or("an action whose proposal is not there");
        let latency = match row.latency_us {
            Some(us) => format!("after {}.{:03} s", us / 1_000_000, us / 1_000 % 1_000),
            None => "never presented".to_owned(),
        };
        let role = row.reviewer_role.as_ref().map(|role| format!(", {role}")).unwrap_or_default();
        asking.out.line(format!(
            "{}  {} of {} by {} ({}{}), {latency}",
            asking.zone.show(row.decided_at),
            visible(&row.decision),
            visible(action),
            visible(&row.reviewer_id),
            visible(&row.reviewer_kind),
            visible(&role),
        ))?;
        asking.out.line(format!(
            "    session {}, agent {}, event {}",
            visible(&row.session_id),
            visible(&row.agent_id),
            row.event_id
        ))?;
        if let Some(to) = &row.escalated_to {
            asking.out.line(format!("    escalated to  {}", visible(to)))?;
        }
        for (name, content) in
            [("proposed", &row.proposal), ("rationale", &row.rationale), ("changed", &row.diff)]
        {
            if let Some(content) = content {
                asking.out.line(format!("    {name:<12}  {}", shown(content)))?;
            }
        }
    }
    if let Some(next) = places.next {
        asking.out.line(format!("\nthere are more: --after {next}"))?;
    }
    Ok(())
}

fn shown(content: &Content) -> String {
    match content {
        Content::Text { text } => {
            let cut: String = text.chars().take(SHOWN).collect();
            let more = if cut.len() < text.len() { " …" } else { "" };
            format!("{}{more}", visible(&cut))
        }
        Content::Binary { bytes } => format!("({bytes} bytes that are no text)"),
        Content::Sealed { key_id } => format!("(encrypted with key {})", visible(key_id)),
        Content::Absent { reason, .. } => format!("({reason})"),
        _ => "(not fetched)".to_owned(),
    }
}
