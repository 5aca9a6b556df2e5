//! Each question takes the way that it is meant to take.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use agent_audit_core::{id::EventId, timestamp::Timestamp};
use agent_audit_query::{Cursor, Filter, Order, Select};
use rusqlite::{Connection, params_from_iter, types::Value};

use super::{question::Question, sql, way};
use crate::store::SCHEMA;

fn ledger() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn
}

fn plan(conn: &Connection, (text, values): (String, Vec<Value>)) -> Vec<String> {
    let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
    let lines = plan.query_map(params_from_iter(values), |row| row.get(3)).unwrap();
    lines.map(Result::unwrap).collect()
}

fn plan_of(select: &Select) -> Vec<String> {
    let conn = ledger();
    // So that there is a type of the family that is asked about.
    conn.execute_batch(
        "INSERT INTO events (chain_id, sequence, event_hash, event_id, event_type, session_id, agent_id, \
         timestamp_utc, event) VALUES ('c', 0, zeroblob(32), 'e', 'review.decided', 's', 'a', 0, x'00')",
    )
    .unwrap();
    let mut question = Question::of(&select.filter).unwrap();
    if let Some(place) = &select.after {
        question = question.after(place, select.order, select.descending).unwrap();
    }
    let way = way::to_events(&conn, &question, select.order).unwrap();
    plan(&conn, sql::events(&question, &way, select.order, select.descending, 50))
}

/// The way is one search of an index for each value, and what is sorted is only what has one time.
fn assert_search(filter: Filter, index: &str, terms: &str) {
    for descending in [false, true] {
        for after in [None, Some(Cursor::new(5, "c", 7))] {
            let mut select = Select::new(filter.clone(), Order::Time, 50).after(after.clone());
            select.descending = descending;
            let plan = plan_of(&select);
            let bound = match (&after, descending) {
                (None, _) => String::new(),
                (Some(_), false) => " AND timestamp_utc>?".to_owned(),
                (Some(_), true) => " AND timestamp_utc<?".to_owned(),
            };
            let search = format!("SEARCH events USING INDEX {index} ({terms}{bound})");
            let search = search.replace("( AND ", "(").replace(" ()", "");
            let scan = search.replace("SEARCH", "SCAN");
            assert!(
                plan.contains(&search) || (terms.is_empty() && plan.contains(&scan)),
                "{search}: {plan:#?}"
            );
            let sorted = plan.iter().any(|line| line == "USE TEMP B-TREE FOR ORDER BY");
            assert!(!sorted, "{plan:#?}");
        }
    }
}

fn assert_gathered(filter: Filter, search: &str) {
    for order in [Order::Time, Order::Chain] {
        for after in [None, Some(Cursor::new(5, "c", 7))] {
            let plan = plan_of(&Select::new(filter.clone(), order, 50).after(after));
            assert!(plan.iter().any(|line| line == search), "{search}: {plan:#?}");
            assert!(!plan.iter().any(|line| line.starts_with("SCAN events")), "{plan:#?}");
        }
    }
}

#[test]
fn events_of_one_value_come_in_order_through_its_index() {
    let session = "s".parse().unwrap();
    assert_search(Filter::new().session(session), "events_by_session", "session_id=?");
    let two = Filter::new().session("s".parse().unwrap()).session("t".parse().unwrap());
    assert_search(two, "events_by_session", "session_id=?");
    assert_search(Filter::new().tool("t"), "events_by_tool", "tool_name=?");
    assert_search(Filter::new().tool("t").status("ok"), "events_by_tool", "tool_name=?");
    assert_search(Filter::new().model("m"), "events_by_model", "model=?");
    assert_search(Filter::new().reviewer("r"), "events_by_reviewer", "reviewer_id=?");
    assert_search(Filter::new().event_type("x"), "events_by_type", "event_type=?");
    assert_search(Filter::new().family("review."), "events_by_type", "event_type=?");
    let agent = "a".parse().unwrap();
    assert_search(Filter::new().agent(agent), "events_by_agent", "agent_id=?");
    let subject = "p".parse().unwrap();
    assert_search(Filter::new().subject(subject), "events_by_subject", "subject_id=?");
    assert_search(Filter::new(), "events_by_time", "");
    assert_search(Filter::new().status("ok"), "events_by_time", "");
}

#[test]
fn what_is_rare_is_found_through_its_index() {
    let id = EventId::new();
    for (filter, search) in [
        (Filter::new().event(id), "sqlite_autoindex_events_1 (event_id=?)"),
        (Filter::new().parent(id).parent(EventId::new()), "events_by_parent (parent_event_id=?)"),
        (Filter::new().approval(id), "events_by_approval (approval_event_id=?)"),
        (Filter::new().spawned_by(id), "events_by_spawner (spawned_by=?)"),
        (Filter::new().review("r"), "events_by_review (review_id=?)"),
        (Filter::new().call("c".parse().unwrap()), "events_by_call (call_id=?)"),
        (
            Filter::new().parent_session("s".parse().unwrap()),
            "events_by_parent_session (parent_session_id=?)",
        ),
        (
            Filter::new().trace(format!("{:032x}", 7).parse().unwrap()),
            "events_by_trace (trace_id=?)",
        ),
    ] {
        assert_gathered(filter, &format!("SEARCH events USING INDEX {search}"));
    }
    for external in [Filter::new().external("k", "v"), Filter::new().external_value("v")] {
        let plan = plan_of(&Select::new(external.external("l", "w"), Order::Time, 50));
        assert!(
            plan.iter().any(|line| line == "SEARCH events USING INTEGER PRIMARY KEY (rowid=?)"),
            "{plan:#?}"
        );
        let search = "USING INDEX external_ids_by_value (key=? AND value=?)";
        let covering = "USING COVERING INDEX external_ids_by_value (key=? AND value=?)";
        assert!(
            plan.iter().any(|line| line.contains(search) || line.contains(covering)),
            "{plan:#?}"
        );
    }
}

#[test]
fn the_order_of_chains_is_an_index_too() {
    let chain = |select: Select| plan_of(&select);
    let position = "SEARCH events USING INDEX sqlite_autoindex_events_2";
    let one = Filter::new().chain("c".parse().unwrap());
    let plan = chain(Select::new(one.clone(), Order::Chain, 50));
    assert_eq!(plan, [format!("{position} (chain_id=?)")]);
    let place = Some(Cursor::new(5, "c", 7));
    let plan = chain(Select::new(one.from_sequence(3), Order::Chain, 50).after(place.clone()));
    assert_eq!(plan, [format!("{position} (chain_id=? AND sequence>?)")]);
    let plan = chain(Select::new(Filter::new(), Order::Chain, 50).after(place).descending());
    assert_eq!(plan, [format!("{position} ((chain_id,sequence)<(?,?))")]);
}

#[test]
fn bounds_of_time_enter_the_index_of_time() {
    let at = Timestamp::from_nanos;
    let within = Filter::new().since(at(3)).before(at(9));
    let search = "SEARCH events USING INDEX events_by_time (timestamp_utc>? AND timestamp_utc<?)";
    for after in [None, Some(Cursor::new(5, "c", 7))] {
        let plan = plan_of(&Select::new(within.clone(), Order::Time, 50).after(after));
        assert!(plan.iter().any(|line| line == search), "{plan:#?}");
    }
}

#[test]
fn sessions_come_in_order_through_their_index() {
    let conn = ledger();
    for filter in [Filter::new(), Filter::new().status("ok")] {
        let question = Question::of(&filter).unwrap();
        let way = way::to_sessions(&conn, &question).unwrap();
        let plan = plan(&conn, sql::sessions(&question, &way, Some("s"), 50));
        assert_eq!(plan, ["SEARCH events USING INDEX events_by_session (session_id>?)"]);
    }
}
