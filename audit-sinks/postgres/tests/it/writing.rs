//! Writing: what is refused is refused alone, what is accepted is stored as it is.

use std::time::Duration;

use agent_audit_core::{
    columns::check_columns,
    conformance::{TestChain, chain},
    content::Part,
    event::{
        Event, Other,
        model::{ModelDecided, ModelStatus},
        review::{ReviewDecided, ReviewDecision, Reviewer, ReviewerKind},
        tool::{ExternalId, ToolCompleted, ToolStatus},
    },
    id::{ChainId, EventId},
    record::Record,
    sink::{ChainRef, Segment, SegmentOutcome, Sink, SinkErrorKind},
};
use agent_audit_postgres::PostgresSink;

use super::{
    append, chain_of,
    database::{Database, count},
    failure, records, store, tenant,
};

/// The same events in another chain.
fn moved(segment: &Segment) -> Segment {
    let chain = ChainRef::new(segment.chain().tenant_id.clone(), ChainId::random());
    let events = segment.records().iter().map(|record| record.event().unwrap());
    chain_of(&chain, events.map(|event| (event.event_id, event)).collect())
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn what_the_database_refuses_is_refused_alone() {
    let database = Database::shared().await;
    let sink = database.sink();
    let stored: Vec<Segment> = (0..3).map(|_| TestChain::new().extend(2)).collect();
    for segment in &stored {
        store(&sink, segment).await;
    }
    let mut sound: Vec<Segment> = (0..60).map(|_| TestChain::new().extend(2)).collect();
    for (at, segment) in [0, 31, 62].into_iter().zip(&stored) {
        sound.insert(at, moved(segment));
    }
    let batch = sound;
    let outcomes = append(&sink, &batch.iter().collect::<Vec<_>>()).await;
    for (at, (outcome, segment)) in outcomes.iter().zip(&batch).enumerate() {
        let found = records(&database.reader(), segment.chain()).await;
        if [0, 31, 62].contains(&at) {
            let SegmentOutcome::Failed { error } = outcome else { panic!("{at}: {outcome:?}") };
            assert_eq!(error.kind(), SinkErrorKind::Rejected);
            assert!(!error.is_retryable() && !error.maybe_applied());
            assert!(error.to_string().contains("23505), constraint"), "{error}");
            assert!(error.to_string().contains(segment.chain().chain_id.as_str()), "{error}");
            assert!(found.is_empty());
        } else {
            assert!(matches!(outcome, SegmentOutcome::Accepted), "{at}: {outcome:?}");
            assert_eq!(found, segment.records());
        }
    }
}

/// What follows a segment that has to come again has to come again too: it is not refused for good.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_chain_that_is_held_is_worth_a_retry_and_delays_nobody_else() {
    let database = Database::shared().await;
    let config = database.config("audit_test_writer").with_lock_timeout(Duration::from_millis(50));
    let sink = PostgresSink::new(config).unwrap();
    let mut held: Vec<TestChain> = (0..4).map(|_| TestChain::new()).collect();
    for chain in &mut held {
        store(&sink, &chain.extend(1)).await;
    }
    let mut free = TestChain::new();
    // One that exists, and one that another transaction is just beginning.
    let begun = TestChain::new().extend(1);
    let admin = database.admin().await;
    admin.batch_execute("BEGIN").await.unwrap();
    for chain in &held {
        let hold = "SELECT FROM agent_audit.audit_heads WHERE chain_id = $1 FOR UPDATE";
        admin.execute(hold, &[&chain.chain().chain_id.as_str()]).await.unwrap();
    }
    let begin =
        "INSERT INTO agent_audit.audit_heads VALUES ($1, $2, -1, decode(repeat('00', 32), 'hex'))";
    let (tenant, name) = (&begun.chain().tenant_id, &begun.chain().chain_id);
    admin.execute(begin, &[&tenant.as_str(), &name.as_str()]).await.unwrap();

    let mut batch = Vec::new();
    for chain in &mut held {
        batch.extend([chain.extend(1), free.extend(1), chain.extend(1)]);
    }
    batch.push(begun.clone());
    let outcomes = append(&sink, &batch.iter().collect::<Vec<_>>()).await;
    for (outcome, segment) in outcomes.iter().zip(&batch) {
        match outcome {
            SegmentOutcome::Accepted => assert_eq!(segment.chain(), free.chain()),
            SegmentOutcome::Failed { error } => {
                assert_ne!(segment.chain(), free.chain(), "{error}");
                assert_eq!(error.kind(), SinkErrorKind::Unavailable, "{error}");
                assert!(error.is_retryable() && !error.maybe_applied(), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(records(&database.reader(), free.chain()).await, free.records());
    admin.batch_execute("ROLLBACK").await.unwrap();
    for segment in &batch {
        store(&sink, segment).await;
    }
    for chain in &held {
        assert_eq!(records(&database.reader(), chain.chain()).await, chain.records());
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn no_event_is_refused_for_its_names() {
    let database = Database::shared().await;
    // Longer than an entry of an index can be, and not compressible.
    let long: String = (0..2_000).map(|_| EventId::new().to_string()).collect();
    let names =
        ["", "a\0b\u{1}\u{7f}", "\0", "\u{f8ff}0\u{f8ff}", "' OR 1=1; --", "\u{10ffff}", &long];
    let mut events = Vec::new();
    for name in names {
        let reviewer = Reviewer::new(name, ReviewerKind::Human);
        events.push(Event::example(
            ToolCompleted::new(name, EventId::new(), ToolStatus::from(name))
                .with_external_ids([ExternalId::new(name, name)]),
        ));
        events.push(Event::example(
            ModelDecided::new(name, name, ModelStatus::Ok)
                .with_served_model(name)
                .with_model_version(name),
        ));
        events.push(Event::example(ReviewDecided::new(name, ReviewDecision::from(name), reviewer)));
    }
    let chain = TestChain::new().chain().clone();
    let segment = chain_of(&chain, events.into_iter().map(|e| (EventId::new(), e)).collect());
    store(&database.sink(), &segment).await;
    let mut found = database.reader().records(&chain, 0).await.unwrap();
    for record in segment.records() {
        let (row, stored) = found.next().await.unwrap().unwrap();
        assert_eq!(stored, *record);
        assert_eq!(check_columns(&row, record.event_bytes()), None);
    }
    // What is too long for an index is found too.
    let client = database.client_of("audit_test_any", chain.tenant_id.as_str()).await;
    let sql = "SELECT count(*) FROM agent_audit.audit_events \
               WHERE tenant_id = $1 AND tool_name = $2";
    let row = client.query_one(sql, &[&chain.tenant_id.as_str(), &long]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 1);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn columns_say_what_the_event_says() {
    let database = Database::shared().await;
    let mut chain = TestChain::new();
    store(&database.sink(), &chain.extend(18)).await;
    let mut found = database.reader().records(chain.chain(), 0).await.unwrap();
    let mut rows = Vec::new();
    while let Some(item) = found.next().await {
        let (row, record) = item.unwrap();
        assert_eq!(check_columns(&row, record.event_bytes()), None);
        assert_eq!(row.event_hash(), Some(record.event_hash()));
        rows.push((row, record));
    }
    let column = |at: usize, name| rows[at].0.column(name).unwrap_or_default();
    assert_eq!(column(1, "event_type"), "session.started");
    assert_eq!(column(2, "model"), "gpt-5-2025-08-07");
    assert_eq!(column(5, "decision"), "approve");
    assert_eq!(column(5, "decided_after_us"), "4200000");
    assert_eq!(column(7, "tool_name"), "refund");
    assert_eq!(column(7, "parent_event_id"), column(6, "event_id"));
    let at: u64 = column(4, "timestamp_utc").parse().unwrap();
    assert_eq!(at, rows[4].1.event().unwrap().timestamp_utc.as_nanos());
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_thousand_tenants_share_a_batch_and_a_connection() {
    let database = Database::own().await;
    let sink = PostgresSink::new(database.config("audit_test_writer").with_connections(1)).unwrap();
    let mut chains: Vec<TestChain> =
        (0..1_000).map(|at| TestChain::of(tenant(&format!("tenant-{at}")))).collect();
    for _ in 0..2 {
        let batch: Vec<_> = chains.iter_mut().map(|chain| chain.extend(1)).collect();
        let outcomes = append(&sink, &batch.iter().collect::<Vec<_>>()).await;
        assert!(outcomes.iter().all(|outcome| matches!(outcome, SegmentOutcome::Accepted)));
    }
    let admin = database.admin().await;
    let transactions = "SELECT count(DISTINCT xmin::text) FROM agent_audit.audit_events";
    assert_eq!(count(&admin, transactions).await, 2, "one transaction for each batch");
    assert_eq!(database.reader().tenants().await.unwrap().len(), 1_000);
    for chain in chains.iter().step_by(97) {
        assert_eq!(records(&database.reader(), chain.chain()).await, chain.records());
    }
}

/// A database may be set to answer before a commit is on disk; the sink's sessions are not.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn an_acknowledgement_means_synced() {
    let database = Database::own().await;
    let admin = database.admin().await;
    let name = &database.name;
    admin
        .batch_execute(&format!(
            "ALTER DATABASE {name} SET synchronous_commit = off;
             ALTER DATABASE {name} SET default_transaction_isolation = 'serializable';
             CREATE TABLE public.seen (setting text);
             CREATE FUNCTION public.see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
                 INSERT INTO public.seen VALUES (current_setting('synchronous_commit')),
                     (current_setting('transaction_isolation'));
                 RETURN NULL; END $$;
             CREATE TRIGGER see AFTER INSERT ON agent_audit.audit_events
                 FOR EACH STATEMENT EXECUTE FUNCTION public.see();"
        ))
        .await
        .unwrap();
    store(&database.sink(), &chain(&tenant("acme"), 1)).await;
    let rows = admin.query("SELECT setting FROM public.seen", &[]).await.unwrap();
    let seen: Vec<&str> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(seen, ["on", "read committed"]);
}

/// The server's own message of a refused row shows the row; ours shows names alone.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn an_error_shows_nothing_of_a_row() {
    const CANARY: &str = "canary-4111111111111111";
    let database = Database::own().await;
    let admin = database.admin().await;
    for forbid in [
        "ALTER TABLE agent_audit.audit_events ADD CONSTRAINT forbidden CHECK (event_type <> 'custom.a')",
        "ALTER TABLE agent_audit.audit_events ALTER COLUMN subject_id TYPE varchar(3)",
        "CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
             RAISE 'no: %', NEW USING DETAIL = NEW::text, HINT = NEW::text, ERRCODE = 'P0001'; END $$;
         CREATE TRIGGER no BEFORE INSERT ON agent_audit.audit_content FOR EACH ROW
             WHEN (NEW.name = 'refused') EXECUTE FUNCTION public.no()",
    ] {
        admin.batch_execute(forbid).await.unwrap();
    }
    let segment = |kind: &str, part: &str, subject: bool| {
        let mut event = Event::example(Other::custom(kind).unwrap());
        event.subject_id = subject.then(|| CANARY.parse().unwrap());
        event.session_id = CANARY.parse().unwrap();
        let (reference, body) = Part::text(part, CANARY).commit();
        event.content = vec![reference];
        let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
        let record = Record::new(event.canonical_bytes().unwrap(), vec![body]);
        Segment::new(chain, vec![record]).unwrap()
    };
    let sink = database.sink();
    for (segment, code) in [
        (segment("a", "output", false), "23514"),
        (segment("b", "output", true), "22001"),
        (segment("c", "refused", false), "P0001"),
    ] {
        let error = failure(&sink, &segment).await;
        let mut shown = format!("{error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            shown.push_str(&format!(" {cause} {cause:?}"));
            source = cause.source();
        }
        assert!(shown.contains(code), "{shown}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_segment_that_names_other_content_than_it_has_is_refused() {
    let database = Database::shared().await;
    let whole = TestChain::new().extend_with(vec![Part::text("output", "x").commit()]);
    let record = Record::new(whole.records()[0].event_bytes().to_vec(), Vec::new());
    let segment = Segment::new(whole.chain().clone(), vec![record]).unwrap();
    let error = failure(&database.sink(), &segment).await;
    assert_eq!(error.kind(), SinkErrorKind::Rejected);
    assert!(error.to_string().contains("names 1 parts of content and its record has 0"), "{error}");
    assert_eq!(database.sink().head(segment.chain()).await.unwrap(), None);
}

/// The function is the only way in, so it has to hold against a caller who is not the sink.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_stolen_login_of_a_writer_cannot_give_a_position_twice_nor_leave_a_hole() {
    let database = Database::own().await;
    let mut chain = TestChain::of(tenant("acme"));
    store(&database.sink(), &chain.extend(3)).await;
    let admin = database.admin().await;
    let sql = "SELECT array_agg(n ORDER BY i), array_agg(format_type(t, NULL) ORDER BY i) \
        FROM pg_proc, unnest(proargnames[1:pronargs], proargtypes::oid[]) WITH ORDINALITY AS a (n, t, i) \
        WHERE proname = 'audit_append'";
    let row = admin.query_one(sql, &[]).await.unwrap();
    let (names, types): (Vec<String>, Vec<String>) = (row.get(0), row.get(1));
    let writer = database.client("audit_test_writer").await;
    let hash = &format!("decode('{}', 'hex')", chain.records()[2].event_hash());
    // Chains, first positions, numbers of events, hashes before, and how many events there are.
    let call = |first: &[i64], events: &[i64], previous: &str, given: usize| {
        let list = |value: &dyn Fn(usize) -> String, count: usize| {
            (0..count).map(value).collect::<Vec<_>>().join(", ")
        };
        let argument = |name: &str, of: &str| match name {
            "s_tenant" => list(&|_| "'acme'".to_owned(), first.len()),
            "s_chain" => list(&|_| format!("'{}'", chain.chain().chain_id), first.len()),
            "s_first" => list(&|at| first[at].to_string(), first.len()),
            "s_events" => list(&|at| events[at].to_string(), first.len()),
            "s_previous" => list(&|_| previous.to_owned(), first.len()),
            "e_event_id" => list(&|at| format!("'0{at}000000-0000-7000-8000-000000000000'"), given),
            "e_event_hash" => list(&|_| "decode(repeat('ab', 32), 'hex')".to_owned(), given),
            name if name.starts_with("e_") => {
                let required = ["event_type", "session_id", "agent_id", "timestamp_utc", "event"];
                let value = if required.contains(&&name[2..]) { "'1'" } else { "NULL" };
                list(&|_| value.to_owned(), given)
            }
            _ => String::new(),
        } + &format!("]::{of}");
        let arguments: Vec<String> = names
            .iter()
            .zip(&types)
            .map(|(name, of)| format!("ARRAY[{}", argument(name, of)))
            .collect();
        format!("SELECT state FROM agent_audit.audit_append({})", arguments.join(", "))
    };
    let zero = "decode(repeat('00', 32), 'hex')";
    for (sql, expected) in [
        (call(&[3, 3], &[1, 1], hash, 2), Err("21000")),
        (call(&[3], &[2], hash, 1), Err("21000")),
        (call(&[3], &[1], hash, 2), Err("21000")),
        (call(&[3], &[-1], hash, 0), Err("21000")),
        (call(&[4], &[1], hash, 1), Ok("detached")),
        (call(&[3], &[1], zero, 1), Ok("detached")),
        (call(&[3], &[1], "NULL", 1), Ok("detached")),
        (call(&[0], &[1], zero, 1), Ok("conflict")),
        (call(&[-1], &[1], zero, 1), Ok("gone")),
        (call(&[2], &[2], hash, 2), Ok("conflict")),
    ] {
        match (writer.query_one(&sql, &[]).await, expected) {
            (Ok(row), Ok(state)) => assert_eq!(row.get::<_, &str>(0), state, "{sql}"),
            (Err(error), Err(code)) => {
                assert_eq!(error.code().unwrap().code(), code, "{sql}: {error:?}")
            }
            (result, _) => panic!("{sql}: {result:?}"),
        }
        assert_eq!(count(&admin, "SELECT count(*) FROM agent_audit.audit_events").await, 3);
    }
    let appended = writer.query_one(&call(&[3], &[1], hash, 1), &[]).await.unwrap();
    assert_eq!(appended.get::<_, &str>(0), "stored", "the call itself is sound");
    assert_eq!(count(&admin, "SELECT count(*) FROM agent_audit.audit_events").await, 4);
    assert_eq!(database.sink().head(chain.chain()).await.unwrap().unwrap().sequence, 3);
}

/// As after a backup of another day was put back: what is stored is not stored again.
#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_head_that_was_set_back_stops_its_chain_alone() {
    let database = Database::own().await;
    let sink = database.sink();
    let mut ill = TestChain::of(tenant("acme"));
    store(&sink, &ill.extend(1)).await;
    let first = ill.records()[0].event_hash();
    store(&sink, &ill.extend(2)).await;
    let admin = database.admin().await;
    let set_back = format!(
        "SET session_replication_role = replica;
         UPDATE agent_audit.audit_heads SET sequence = 0, event_hash = decode('{first}', 'hex')"
    );
    admin.batch_execute(&set_back).await.unwrap();
    let mut sound: Vec<TestChain> = (0..5).map(|_| TestChain::of(tenant("acme"))).collect();
    let mut batch: Vec<Segment> = sound.iter_mut().map(|chain| chain.extend(2)).collect();
    let again = ill.fork(1).extend(1);
    batch.insert(3, again);
    let outcomes = append(&sink, &batch.iter().collect::<Vec<_>>()).await;
    for (at, outcome) in outcomes.iter().enumerate() {
        if at == 3 {
            let SegmentOutcome::Failed { error } = outcome else { panic!("{outcome:?}") };
            assert_eq!(error.kind(), SinkErrorKind::Corrupt, "{error}");
            assert!(!error.is_retryable());
        } else {
            assert!(matches!(outcome, SegmentOutcome::Accepted), "{at}: {outcome:?}");
        }
    }
    assert_eq!(records(&database.reader(), ill.chain()).await, ill.records());
}
