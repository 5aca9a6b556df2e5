//! Appending through the sink, side by side with `tokio-postgres` writing the same rows.
//!
//! `servers/with postgres -- cargo bench -p agent-audit-postgres --bench append` prints events per
//! second and the ratio of times. All commit every 1,000 events, into equal tables with the same
//! indexes, triggers and partitions, over one connection without TLS:
//!
//! - `insert`: prepared `INSERT … SELECT FROM unnest(…)`, one for each table and in one transaction, by a
//!   role that row-level security lets in. It is what a good user of the client would write.
//! - `copy`: `COPY … FROM STDIN BINARY` by a superuser. Row-level security refuses COPY FROM, so it is
//!   no choice for anybody else; it shows what the security costs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a measurement")]

use std::{error::Error, time::Instant};

use agent_audit_core::{
    conformance::TestChain,
    id::TenantId,
    sink::{Batch, Segment, SegmentOutcome, Sink},
};
use agent_audit_postgres::{PostgresConfig, PostgresSink, PostgresStore, ROLES};
use agent_audit_test_support::servers::required;
use bytes::BytesMut;
use tokio_postgres::{
    Client, Config, NoTls, Row, Statement,
    binary_copy::BinaryCopyInWriter,
    config::Host,
    types::{FromSql, IsNull, ToSql, Type, to_sql_checked},
};

const BATCHES: u64 = 20;
const BATCH: u64 = 1_000;
const ROUNDS: usize = 7;
const PASSWORD: &str = "of-the-benchmark";

fn main() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(run());
}

async fn run() {
    let server = Server::of_environment();
    server.create_template().await;
    let mut chain = TestChain::of(TenantId::new("acme").unwrap());
    chain.extend(usize::try_from(BATCHES * BATCH).unwrap());
    let batches: Vec<Batch> = (0..BATCHES)
        .map(|at| chain.segment(at * BATCH..=(at + 1) * BATCH - 1))
        .map(|segment: Segment| Batch::new(vec![segment]))
        .collect();
    let bytes: usize = chain.records().iter().map(|record| record.to_bytes().len()).sum();

    let mut rows = None;
    let (mut to_insert, mut to_copy) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        server.fresh("audit_bench_sink").await;
        let config = PostgresConfig::new(server.url("audit_bench_writer", "audit_bench_sink"));
        let sink = PostgresSink::new(config).unwrap();
        sink.head(chain.chain()).await.unwrap();
        let start = Instant::now();
        for batch in &batches {
            let ack = sink.append(batch).await.unwrap();
            assert!(matches!(ack.outcomes[..], [SegmentOutcome::Accepted]), "{ack:?}");
        }
        let through_sink = start.elapsed().as_secs_f64();
        sink.close().await.unwrap();
        if rows.is_none() {
            rows = Some(Rows::read(&server.admin("audit_bench_sink").await).await);
        }
        let rows = rows.as_ref().unwrap();

        server.fresh("audit_bench_raw").await;
        let client = connect(&server.url("audit_bench_raw", "audit_bench_raw")).await;
        let insert = Insert::prepare(&client).await;
        let start = Instant::now();
        for batch in &rows.batches {
            insert.run(&client, batch).await;
        }
        let inserted = start.elapsed().as_secs_f64();
        drop(client);

        server.fresh("audit_bench_raw").await;
        let client = server.admin("audit_bench_raw").await;
        let start = Instant::now();
        for batch in &rows.batches {
            copy(&client, batch).await;
        }
        let copied = start.elapsed().as_secs_f64();
        to_insert.push((inserted / through_sink, through_sink, inserted));
        to_copy.push((copied / through_sink, through_sink, copied));
    }
    #[allow(clippy::cast_precision_loss, reason = "a measurement")]
    let (events, size) = ((BATCHES * BATCH) as f64, bytes as f64);
    println!("events of {:.0} bytes with their content, {BATCH} a commit", size / events);
    for (name, mut ratios) in [("insert", to_insert), ("copy", to_copy)] {
        ratios.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (ratio, through_sink, directly) = ratios[ROUNDS / 2];
        println!("sink      {:>9.0} events/s", events / through_sink);
        println!("{name:9} {:>9.0} events/s", events / directly);
        let (least, most) = (ratios[0].0, ratios[ROUNDS - 1].0);
        println!("ratio     {ratio:>9.2} (median of {ROUNDS}, {least:.2} to {most:.2})");
    }
    println!("the aim is at least 0.8 of insert");
    let sizes = server.admin("audit_bench_sink").await;
    let sql = "SELECT p.relname::text, sum(pg_table_size(c.oid))::bigint, sum(pg_indexes_size(c.oid))::bigint \
        FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent \
        WHERE p.relkind = 'p' GROUP BY 1 ORDER BY 1";
    for row in sizes.query(sql, &[]).await.unwrap() {
        let of = |at| row.get::<_, i64>(at) / i64::try_from(BATCHES * BATCH).unwrap();
        println!("{:20} {:>5} bytes an event, indexes {:>5}", row.get::<_, &str>(0), of(1), of(2));
    }
}

/// A server, and databases with equal tables.
struct Server {
    host: String,
    port: u16,
    user: String,
    password: String,
}

impl Server {
    fn of_environment() -> Self {
        let config: Config = required("AUDIT_TEST_POSTGRES").parse().unwrap();
        let [Host::Tcp(host), ..] = config.get_hosts() else { panic!("a host is needed") };
        Self {
            host: host.clone(),
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config.get_user().unwrap_or("postgres").to_owned(),
            password: String::from_utf8(config.get_password().unwrap_or_default().to_vec())
                .unwrap(),
        }
    }

    fn url(&self, login: &str, database: &str) -> String {
        let Self { host, port, .. } = self;
        format!("postgres://{login}:{PASSWORD}@{host}:{port}/{database}?sslmode=disable")
    }

    fn admin_url(&self, database: &str) -> String {
        let Self { host, port, user, password } = self;
        format!("postgres://{user}:{password}@{host}:{port}/{database}?sslmode=disable")
    }

    async fn admin(&self, database: &str) -> Client {
        connect(&self.admin_url(database)).await
    }

    async fn create_template(&self) {
        let admin = self.admin("postgres").await;
        for sql in [
            "DROP DATABASE IF EXISTS audit_bench_template WITH (FORCE)",
            "CREATE DATABASE audit_bench_template ENCODING 'UTF8'",
        ] {
            admin.batch_execute(sql).await.unwrap();
        }
        let template = self.admin("audit_bench_template").await;
        template.batch_execute(ROLES).await.unwrap();
        let config = PostgresConfig::new(self.admin_url("audit_bench_template"));
        PostgresStore::new(config).unwrap().migrate().await.unwrap();
        template
            .batch_execute(&format!(
                "DO $$ BEGIN
                    CREATE ROLE audit_bench_writer LOGIN PASSWORD '{PASSWORD}' IN ROLE audit_writer;
                    CREATE ROLE audit_bench_raw LOGIN PASSWORD '{PASSWORD}';
                 EXCEPTION WHEN duplicate_object THEN NULL; END $$;
                 SELECT agent_audit.ensure_partitions();
                 GRANT USAGE ON SCHEMA agent_audit TO audit_bench_raw;"
            ))
            .await
            .unwrap();
        for table in TABLES {
            template
                .batch_execute(&format!(
                    "GRANT INSERT ON agent_audit.{table} TO audit_bench_raw;
                     CREATE POLICY raw_adds ON agent_audit.{table} FOR INSERT TO audit_bench_raw
                     WITH CHECK (true);"
                ))
                .await
                .unwrap();
        }
    }

    /// An empty database with the tables.
    async fn fresh(&self, name: &str) {
        let admin = self.admin("postgres").await;
        for sql in [
            format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
            format!("CREATE DATABASE {name} TEMPLATE audit_bench_template"),
            "CHECKPOINT".to_owned(),
        ] {
            admin.batch_execute(&sql).await.unwrap();
        }
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

const TABLES: [&str; 3] = ["audit_events", "audit_content", "audit_external_ids"];

/// The rows of each batch, as columns of each table.
struct Rows {
    batches: Vec<[Vec<Column>; 3]>,
}

#[derive(Debug, Clone)]
enum Column {
    Text(Vec<Option<String>>),
    Long(Vec<Option<i64>>),
    Int(Vec<Option<i32>>),
    Short(Vec<Option<i16>>),
    Bytes(Vec<Option<Vec<u8>>>),
    Id(Vec<Option<Id>>),
}

#[derive(Debug, Clone)]
struct Id([u8; 16]);

impl Rows {
    async fn read(client: &Client) -> Self {
        let mut batches = Vec::new();
        for at in 0..BATCHES {
            let range = [at * BATCH, (at + 1) * BATCH - 1].map(|at| i64::try_from(at).unwrap());
            let mut tables = [const { Vec::new() }; 3];
            for (table, columns) in TABLES.iter().zip(&mut tables) {
                let order =
                    if *table == "audit_events" { "e.sequence" } else { "e.sequence, t.ordinal" };
                let sql = format!(
                    "SELECT t.* FROM agent_audit.{table} t JOIN agent_audit.audit_events e \
                     ON e.event_id = t.event_id WHERE e.sequence BETWEEN $1 AND $2 ORDER BY {order}"
                );
                let rows = client.query(&sql, &[&range[0], &range[1]]).await.unwrap();
                let first = rows.first().unwrap();
                *columns = (0..first.columns().len()).map(|at| Column::read(&rows, at)).collect();
            }
            batches.push(tables);
        }
        Self { batches }
    }
}

impl Column {
    fn read(rows: &[Row], at: usize) -> Self {
        match *rows[0].columns()[at].type_() {
            Type::TEXT => Self::Text(rows.iter().map(|row| row.get(at)).collect()),
            Type::INT8 => Self::Long(rows.iter().map(|row| row.get(at)).collect()),
            Type::INT4 => Self::Int(rows.iter().map(|row| row.get(at)).collect()),
            Type::INT2 => Self::Short(rows.iter().map(|row| row.get(at)).collect()),
            Type::BYTEA => Self::Bytes(rows.iter().map(|row| row.get(at)).collect()),
            Type::UUID => Self::Id(rows.iter().map(|row| row.get(at)).collect()),
            ref other => panic!("a column of type {other}"),
        }
    }

    fn type_(&self) -> Type {
        match self {
            Self::Text(_) => Type::TEXT,
            Self::Long(_) => Type::INT8,
            Self::Int(_) => Type::INT4,
            Self::Short(_) => Type::INT2,
            Self::Bytes(_) => Type::BYTEA,
            Self::Id(_) => Type::UUID,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Text(all) => all.len(),
            Self::Long(all) => all.len(),
            Self::Int(all) => all.len(),
            Self::Short(all) => all.len(),
            Self::Bytes(all) => all.len(),
            Self::Id(all) => all.len(),
        }
    }

    fn value(&self, at: usize) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(all) => &all[at],
            Self::Long(all) => &all[at],
            Self::Int(all) => &all[at],
            Self::Short(all) => &all[at],
            Self::Bytes(all) => &all[at],
            Self::Id(all) => &all[at],
        }
    }

    fn array(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(all) => all,
            Self::Long(all) => all,
            Self::Int(all) => all,
            Self::Short(all) => all,
            Self::Bytes(all) => all,
            Self::Id(all) => all,
        }
    }
}

/// One prepared statement for each table.
struct Insert([Statement; 3]);

impl Insert {
    async fn prepare(client: &Client) -> Self {
        let mut statements = Vec::new();
        for table in TABLES {
            let sql = "SELECT string_agg(format('$%s::%s[]', attnum, format_type(atttypid, NULL)), ', ' \
                ORDER BY attnum) FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0";
            let name = format!("agent_audit.{table}");
            let arrays: String = client.query_one(sql, &[&name]).await.unwrap().get(0);
            let insert =
                format!("INSERT INTO {name} SELECT * FROM unnest({arrays}) ON CONFLICT DO NOTHING");
            statements.push(client.prepare(&insert).await.unwrap());
        }
        Self(statements.try_into().unwrap())
    }

    async fn run(&self, client: &Client, tables: &[Vec<Column>; 3]) {
        client.batch_execute("BEGIN").await.unwrap();
        for (statement, columns) in self.0.iter().zip(tables) {
            let arrays: Vec<&(dyn ToSql + Sync)> = columns.iter().map(Column::array).collect();
            let rows = client.execute(statement, &arrays).await.unwrap();
            assert_eq!(usize::try_from(rows), Ok(columns[0].len()));
        }
        client.batch_execute("COMMIT").await.unwrap();
    }
}

async fn copy(client: &Client, tables: &[Vec<Column>; 3]) {
    client.batch_execute("BEGIN").await.unwrap();
    for (table, columns) in TABLES.iter().zip(tables) {
        let sql = format!("COPY agent_audit.{table} FROM STDIN BINARY");
        let sink = client.copy_in(&sql).await.unwrap();
        let types: Vec<Type> = columns.iter().map(Column::type_).collect();
        let mut writer = Box::pin(BinaryCopyInWriter::new(sink, &types));
        for at in 0..columns[0].len() {
            let row: Vec<&(dyn ToSql + Sync)> = columns.iter().map(|c| c.value(at)).collect();
            writer.as_mut().write(&row).await.unwrap();
        }
        writer.as_mut().finish().await.unwrap();
    }
    client.batch_execute("COMMIT").await.unwrap();
}

impl<'a> FromSql<'a> for Id {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(raw.try_into()?))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }
}

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    to_sql_checked!();
}
