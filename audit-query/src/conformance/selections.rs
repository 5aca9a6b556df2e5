//! Every filter, order, direction and page size, held against the records themselves.

use agent_audit_core::{id::TenantId, timestamp::Timestamp};

use super::Input;
use crate::{EventStore, Filter, Found, Order, Select};

/// Asks for every kind of selection.
pub(super) async fn compare(input: &Input, store: &dyn EventStore) {
    let nobody: TenantId = "nobody-at-all".parse().unwrap();
    for tenant in input.tenants().iter().chain([&nobody]) {
        assert_eq!(
            store.chains(tenant).await.unwrap(),
            input.reference().chains(tenant).await.unwrap(),
            "the chains of {tenant}"
        );
        let all = Select::new(Filter::new(), Order::Time, usize::MAX / 4);
        let all = input.reference().select(tenant, &all).await.unwrap();
        for filter in filters(&all) {
            filter.check().unwrap();
            selection(input, store, tenant, &filter).await;
            sessions(input, store, tenant, &filter).await;
        }
    }
}

async fn selection(input: &Input, store: &dyn EventStore, tenant: &TenantId, filter: &Filter) {
    for order in [Order::Time, Order::Chain] {
        for descending in [false, true] {
            for content in [false, true] {
                let mut select = Select::new(filter.clone(), order, 10_000);
                (select.descending, select.content) = (descending, content);
                let expected = input.reference().select(tenant, &select).await.unwrap();
                let found = store.select(tenant, &select).await.unwrap();
                same(&found, &expected, &format!("{tenant}: {select:?}"));
                // The same in small pages.
                let mut paged = Vec::new();
                select.limit = 7;
                loop {
                    let page = store.select(tenant, &select).await.unwrap();
                    assert!(page.len() <= 7, "a page is as long as asked for at most");
                    select.after = page.last().map(|found| found.place().clone());
                    let last = page.len() < 7;
                    paged.extend(page);
                    if last || paged.len() > 70 {
                        break;
                    }
                }
                let pages = paged.len().min(expected.len());
                same(&paged, &expected[..pages], &format!("{tenant}, in pages: {select:?}"));
            }
        }
    }
}

async fn sessions(input: &Input, store: &dyn EventStore, tenant: &TenantId, filter: &Filter) {
    let mut after = None;
    loop {
        let expected = input.reference().sessions(tenant, filter, after.as_ref(), 5).await.unwrap();
        let found = store.sessions(tenant, filter, after.as_ref(), 5).await.unwrap();
        assert_eq!(found, expected, "the sessions of {tenant} after {after:?} with {filter}");
        let Some(last) = expected.last() else { return };
        after = Some(last.session_id.clone());
    }
}

fn same(found: &[Found], expected: &[Found], question: &str) {
    let ids = |events: &[Found]| events.iter().map(Found::event_id).collect::<Vec<_>>();
    assert_eq!(ids(found), ids(expected), "{question}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found, expected, "{question}");
    }
}

/// Filters of every kind, made of what is there.
fn filters(all: &[Found]) -> Vec<Filter> {
    let mut filters =
        vec![Filter::new(), Filter::new().family("review."), Filter::new().family("custom.")];
    let Some(middle) = all.get(all.len() / 2) else { return filters };
    let time = |at: i64| Timestamp::from_nanos(u64::try_from(at).unwrap());
    let (early, late) = (time(all[all.len() / 4].timestamp()), time(middle.timestamp()));
    let tool = |f: Filter| f.family("tool.");
    filters.extend([
        Filter::new().since(early).before(late),
        Filter::new().since(late),
        Filter::new().before(early).family("model."),
        Filter::new().chain(middle.chain_id().parse().unwrap()),
        Filter::new().chain(middle.chain_id().parse().unwrap()).from_sequence(3).to_sequence(20),
        Filter::new().event(middle.event_id()).event(all[0].event_id()),
        Filter::new().session("session-01".parse().unwrap()),
        Filter::new()
            .session("session-01".parse().unwrap())
            .session("session-01/research".parse().unwrap()),
        Filter::new().session("session-%".parse().unwrap()),
        Filter::new().session("session-0_".parse().unwrap()),
        Filter::new().session("' OR 1=1 --".parse().unwrap()),
        Filter::new().family("tool%"),
        Filter::new().family("too_"),
        Filter::new().agent("billing-agent".parse().unwrap()).event_type("tool.completed"),
        Filter::new().agent("Billing-Agent".parse().unwrap()),
        tool(Filter::new()).tool("refund").tool("delegate"),
        tool(Filter::new()).status("panicked").status("error"),
        Filter::new().provider("anthropic"),
        Filter::new().model("gpt-4o-2026-08-06"),
        Filter::new().model_version("2026-05-01"),
        Filter::new().reviewer("reviewer-1"),
        Filter::new().decision("reject").decision("modify"),
        Filter::new().subject("person-2".parse().unwrap()),
        Filter::new().call("call-refund-1".parse().unwrap()),
        Filter::new().review("expired"),
        Filter::new().parent_session("session-01".parse().unwrap()),
        Filter::new().external("order", "A-1"),
        Filter::new().external("payment", "A-1"),
        Filter::new().external_value("call-refund-0"),
        Filter::new().external("order", "nothing").external("payment", "call-refund-0"),
        Filter::new().external("order", "A-1").agent("support-agent".parse().unwrap()),
    ]);
    for (name, make) in [
        ("parent_event_id", Filter::parent as fn(Filter, _) -> Filter),
        ("approval_event_id", Filter::approval),
        ("presented_event_id", Filter::presented),
        ("spawned_by", Filter::spawned_by),
    ] {
        let ids = all.iter().filter_map(|found| found.text(name)?.parse().ok()).take(3);
        let filter = ids.fold(Filter::new(), make);
        filters.extend((!filter.is_empty()).then_some(filter));
    }
    filters
}
