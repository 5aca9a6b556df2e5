//! Nobody sees what is another tenant's.

use std::sync::Arc;

use super::Input;
use crate::{EventStore, Filter, Ledger, Order, QueryErrorKind, Request, Select};

/// Tries to cross from every tenant to every other one.
pub(super) async fn cross(input: &Input, store: &Arc<dyn EventStore>) {
    for tenant in input.tenants() {
        let ledger = Ledger::new(Arc::clone(store), tenant.clone());
        for other in input.tenants().iter().filter(|other| *other != tenant) {
            let all = Select::new(Filter::new(), Order::Chain, 10_000);
            let theirs = input.reference().select(other, &all).await.unwrap();
            let [first, .., last] = &theirs[..] else { panic!("{other} has events") };
            let way = format!("from {tenant} to {other}");

            let error = ledger.event(first.event_id(), true).await.unwrap_err();
            assert_eq!(error.kind(), QueryErrorKind::NotFound, "{way} by event id");

            let ids =
                theirs.iter().fold(Filter::new(), |filter, found| filter.event(found.event_id()));
            let chain = Filter::new().chain(last.chain_id().parse().unwrap());
            for filter in [ids, chain] {
                let page = ledger.events(&filter, &Request::first(100)).await.unwrap();
                assert!(page.events.is_empty(), "{way} with {filter}");
                assert!(ledger.sessions(&filter, None, 100).await.unwrap().is_empty(), "{way}");
            }
            // A cursor that was made for the other tenant is a place, and opens nothing.
            for request in [
                Request::after(first.place().clone(), 100),
                Request::before(last.place().clone(), 100),
            ] {
                for order in [Order::Time, Order::Chain] {
                    let page =
                        ledger.events(&Filter::new(), &request.clone().order(order)).await.unwrap();
                    assert!(page.events.iter().all(|found| found.is_of(tenant)), "{way} by cursor");
                }
            }
        }
        let chains = ledger.chains().await.unwrap();
        assert!(!chains.is_empty(), "{tenant} has chains");
    }
}
