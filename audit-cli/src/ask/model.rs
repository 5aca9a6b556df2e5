//! `agent-audit model`.

use std::collections::BTreeMap;

use agent_audit_query::Access;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Asking,
    brief::brief,
    json::{self, Places},
};
use crate::{args::ModelArgs, failure::Failure, output::counted, table::Table};

#[derive(Serialize)]
struct Json {
    decisions: Vec<Box<RawValue>>,
    downstream: Vec<Box<RawValue>>,
    #[serde(flatten)]
    places: Places,
}

pub(super) async fn ask(args: &ModelArgs, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let filters = &args.filters;
    if filters.model.is_empty() && filters.model_version.is_empty() && filters.provider.is_empty() {
        return Err(Failure::new(
            "which model? Name it with --model, --model-version or --provider; `agent-audit usage` \
             lists those that there are",
        ));
    }
    let filter = filters.filter(&asking.zone)?;
    let answer = asking.ledger.attribution(&filter, &args.page.request()).await?;
    let digest = Access::digest(answer.decisions.iter().chain(&answer.downstream));
    asking.recorder.queried(&asking.ledger, "model", &filter, digest).await?;
    let places = Places::new(answer.next.as_ref(), answer.previous.as_ref());
    if asking.args.json {
        let decisions = answer.decisions.iter().map(json::event).collect::<Result<_, _>>()?;
        let downstream = answer.downstream.iter().map(json::event).collect::<Result<_, _>>()?;
        let json = Json { decisions, downstream, places };
        return asking.out.line(serde_json::to_string(&json)?);
    }
    if answer.decisions.is_empty() {
        return asking.out.line("no decision of such a model");
    }
    let mut table = Table::new(["TIME", "SESSION", "STEPS", "WHAT", "EVENT"]);
    let mut rows: Vec<_> = answer.decisions.iter().map(|found| (found, 0)).collect();
    rows.extend(
        answer.downstream.iter().map(|found| {
            (found, answer.distance.get(&found.event_id()).copied().unwrap_or_default())
        }),
    );
    rows.sort_by(|a, b| a.0.place().cmp(b.0.place()));
    for (found, distance) in rows {
        table.row([
            asking.zone.show(found.timestamp()).as_str(),
            found.session_id(),
            &if distance == 0 { "decision".to_owned() } else { format!("+{distance}") },
            &brief(found)?,
            &found.event_id().to_string(),
        ]);
    }
    asking.out.text(&table.to_string())?;
    let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    for found in &answer.downstream {
        *kinds.entry(found.event_type()).or_default() += 1;
    }
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    asking.out.line(format!(
        "\n{}, and {} downstream: {}",
        counted(count(answer.decisions.len()), "decision"),
        counted(count(answer.downstream.len()), "event"),
        kinds.join(", ")
    ))?;
    if let Some(next) = places.next {
        asking.out.line(format!("there are more decisions: --after {next}"))?;
    }
    Ok(())
}
