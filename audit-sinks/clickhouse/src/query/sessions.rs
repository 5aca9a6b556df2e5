//! Sessions, counted by the server.

use agent_audit_core::id::{SessionId, TenantId};
use agent_audit_query::{Filter, QueryError, SessionSummary};

use super::{Asker, Question, name, rows};

pub(super) async fn sessions(
    asker: &Asker,
    tenant: &TenantId,
    filter: &Filter,
    after: Option<&SessionId>,
    limit: usize,
) -> Result<Vec<SessionSummary>, QueryError> {
    let doubled = doubled(asker, tenant).await?;
    let mut question = Question::of(tenant).matching(filter);
    if let Some(after) = after {
        question = question.with(|params| format!("session_id > {}", params.text(after.as_str())));
    }
    let conditions = question.conditions();
    let source = if doubled.is_empty() {
        "audit_events".to_owned()
    } else {
        let chains = question.params.texts(doubled.iter().map(String::as_str));
        // Where a place has several rows, the first one is looked for before anything is asked of it.
        format!(
            "(SELECT * FROM audit_events WHERE tenant_id = {{p0:String}} AND chain_id NOT IN {chains} \
             UNION ALL SELECT * FROM audit_events WHERE tenant_id = {{p0:String}} AND chain_id IN {chains} \
             ORDER BY chain_id, sequence, _block_number, _block_offset LIMIT 1 BY chain_id, sequence)"
        )
    };
    let limit = question.params.count(limit);
    let query = format!(
        "SELECT session_id, min(agent_id), count(), min(timestamp_utc), max(timestamp_utc) \
         FROM {source} WHERE {conditions} GROUP BY session_id ORDER BY session_id LIMIT {limit}"
    );
    let doing = "list sessions";
    let answer = asker.ask(Some(tenant), &query, &question.params, doing).await?;
    rows(&answer, doing, |row| {
        let session = name(row, |text| text.parse().ok())?;
        let agent = name(row, |text| text.parse().ok())?;
        Ok(SessionSummary::new(session, agent, row.u64()?, row.i64()?, row.i64()?))
    })
}

/// The chains of which some place may have more than one row: they have more rows than places, or,
/// where somebody took rows away, fewer.
async fn doubled(asker: &Asker, tenant: &TenantId) -> Result<Vec<String>, QueryError> {
    let question = Question::of(tenant);
    let query = format!(
        "SELECT chain_id FROM audit_events WHERE {} GROUP BY chain_id \
         HAVING count() != max(sequence) - min(sequence) + 1",
        question.conditions()
    );
    let doing = "count events";
    let answer = asker.ask(Some(tenant), &query, &question.params, doing).await?;
    rows(&answer, doing, |row| name(row, |text| Some(text.to_owned())))
}
