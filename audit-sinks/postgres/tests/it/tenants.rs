//! One tenant's reader does not see another's rows, however it asks.

use agent_audit_core::conformance::chain;

use super::{
    database::{Database, count, refused, set_tenant},
    store, tenant,
};

const TABLES: [&str; 4] = ["audit_events", "audit_content", "audit_external_ids", "audit_heads"];

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn reading_another_tenant_fails_in_each_way() {
    let database = Database::own().await;
    let sink = database.sink();
    store(&sink, &chain(&tenant("acme"), 18)).await;
    let globex = chain(&tenant("globex"), 18);
    store(&sink, &globex).await;
    let client = database.client("audit_test_acme").await;
    for table in TABLES {
        let all = format!("SELECT count(*) FROM agent_audit.{table}");
        let foreign = format!("{all} WHERE tenant_id <> 'acme'");
        // Whatever it names, only its own tenant is there.
        for (named, own) in
            [("", false), ("globex", false), ("*", false), ("ACME", false), ("acme", true)]
        {
            set_tenant(&client, named).await;
            assert_eq!(count(&client, &all).await > 0, own, "{table} as {named:?}");
            assert_eq!(count(&client, &foreign).await, 0, "{table} as {named:?}");
        }
        client.batch_execute("RESET audit.tenant_id").await.unwrap();
        assert_eq!(count(&client, &all).await, 0, "{table} without a tenant");
        // A partition itself, and security switched off.
        for part in ["default", "2026_11"] {
            let part = format!("SELECT FROM agent_audit.{table}_{part}");
            let code = refused(&client, &part).await;
            assert!(code == "42501" || code == "42P01", "{part}: {code}");
        }
        let off = format!("BEGIN; SET LOCAL row_security = off; {all}");
        assert_eq!(refused(&client, &off).await, "42501");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    for sql in [
        "SELECT * FROM agent_audit.audit_head('globex', 'x')",
        "SELECT * FROM agent_audit.audit_access",
        "INSERT INTO agent_audit.audit_access VALUES ('audit_test_acme', '*')",
        "SET ROLE audit_test_globex",
        "SET ROLE audit_gate",
    ] {
        assert_eq!(refused(&client, sql).await, "42501", "{sql}");
    }
    assert_eq!(
        count(&client, "SELECT count(*) FROM pg_stats WHERE schemaname = 'agent_audit'").await,
        0
    );

    // A function that tells what it is given is given rows of its own tenant only.
    set_tenant(&client, "acme").await;
    client
        .batch_execute(
            "CREATE FUNCTION pg_temp.tell(tenant text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS \
             $$ BEGIN IF tenant <> 'acme' THEN RAISE 'told of %', tenant; END IF; RETURN true; END $$",
        )
        .await
        .unwrap();
    for table in TABLES {
        let sql = format!("SELECT count(*) FROM agent_audit.{table} WHERE pg_temp.tell(tenant_id)");
        assert!(count(&client, &sql).await > 0);
    }
    // A plan that was made for one tenant is not used for another.
    let statement = client.prepare("SELECT count(*) FROM agent_audit.audit_events").await.unwrap();
    for (named, rows) in [("acme", 18), ("globex", 0), ("acme", 18)].repeat(4) {
        set_tenant(&client, named).await;
        let found: i64 = client.query_one(&statement, &[]).await.unwrap().get(0);
        assert_eq!(found, rows, "{named}");
    }

    // And through the store.
    let store = database.store("audit_test_acme");
    assert_eq!(store.tenants().await.unwrap(), [tenant("acme")]);
    assert_eq!(store.chains(&tenant("globex")).await.unwrap(), []);
    assert!(store.records(globex.chain(), 0).await.unwrap().next().await.is_none());
    assert_eq!(store.record_stores().unwrap().len(), 1);
}

#[tokio::test]
#[ignore = "needs AUDIT_TEST_POSTGRES: servers/with postgres -- cargo test -- --include-ignored"]
async fn a_reader_without_a_tenant_sees_nothing() {
    let database = Database::own().await;
    store(&database.sink(), &chain(&tenant("acme"), 3)).await;
    let client = database.client_of("audit_test_nobody", "acme").await;
    for table in TABLES {
        assert_eq!(count(&client, &format!("SELECT count(*) FROM agent_audit.{table}")).await, 0);
    }
    assert_eq!(database.store("audit_test_nobody").tenants().await.unwrap(), []);
    // One that may read all still reads one at a time.
    let any = database.client_of("audit_test_any", "acme").await;
    assert_eq!(count(&any, "SELECT count(*) FROM agent_audit.audit_events").await, 3);
    set_tenant(&any, "globex").await;
    assert_eq!(count(&any, "SELECT count(*) FROM agent_audit.audit_events").await, 0);
}
