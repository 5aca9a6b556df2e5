//! Databases for tests, with logins of every role.

use std::sync::{
    LazyLock,
    atomic::{AtomicU32, Ordering},
};

use agent_audit_postgres::{MIGRATIONS, PostgresConfig, PostgresSink, PostgresStore, ROLES};
use agent_audit_test_support::servers;
use tokio::sync::{Mutex, OnceCell};
use tokio_postgres::{Client, NoTls, config::Host};

/// The password of every login here.
pub(crate) const PASSWORD: &str = "p4ssw0rd-of-the-tests";

/// Login, the role it is a member of, and the tenants it may name.
pub(crate) const LOGINS: [(&str, &str, &[&str]); 9] = [
    ("audit_test_writer", "audit_writer", &[]),
    ("audit_test_any", "audit_reader", &["*"]),
    ("audit_test_acme", "audit_reader", &["acme"]),
    ("audit_test_globex", "audit_reader", &["globex"]),
    ("audit_test_nobody", "audit_reader", &[]),
    ("audit_test_eraser", "audit_eraser", &["*"]),
    ("audit_test_eraser_acme", "audit_eraser", &["acme"]),
    ("audit_test_owner", "audit_owner", &[]),
    ("audit_test_stranger", "", &[]),
];

/// A server, by the URL of a superuser.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) host: String,
    pub(crate) port: u16,
    user: String,
    password: String,
}

impl Server {
    pub(crate) fn of_environment() -> Self {
        Self::at(&servers::required("AUDIT_TEST_POSTGRES"))
    }

    pub(crate) fn at(url: &str) -> Self {
        let config: tokio_postgres::Config = url.parse().unwrap();
        let [Host::Tcp(host), ..] = config.get_hosts() else { panic!("a host is needed") };
        Self {
            host: host.clone(),
            port: config.get_ports().first().copied().unwrap_or(5432),
            user: config.get_user().unwrap_or("postgres").to_owned(),
            password: String::from_utf8(config.get_password().unwrap_or_default().to_vec())
                .unwrap(),
        }
    }

    /// The URL of a login, without TLS.
    pub(crate) fn url(&self, login: &str, password: &str, database: &str) -> String {
        let Self { host, port, .. } = self;
        format!("postgres://{login}:{password}@{host}:{port}/{database}?sslmode=disable")
    }

    /// The URL that this server was named by.
    pub(crate) fn admin_url(&self) -> String {
        self.url(&self.user, &self.password, "postgres").replace("?sslmode=disable", "")
    }

    /// A superuser.
    pub(crate) async fn admin(&self, database: &str) -> Client {
        connect(&self.url(&self.user, &self.password, database)).await
    }

    /// An empty database of this name, with roles and logins.
    pub(crate) async fn prepare(&self, name: &str) {
        // Roles belong to the whole server, and two who change them at once are in each other's way.
        static ONE: LazyLock<Mutex<()>> = LazyLock::new(Mutex::default);
        let _one = ONE.lock().await;
        let admin = self.admin("postgres").await;
        admin.execute("SELECT pg_advisory_lock(20261126)", &[]).await.unwrap();
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")).await.unwrap();
        admin.batch_execute(&format!("CREATE DATABASE {name} ENCODING 'UTF8'")).await.unwrap();
        let database = self.admin(name).await;
        database.batch_execute(ROLES).await.unwrap();
        for (login, role, _) in LOGINS {
            let known = "SELECT FROM pg_roles WHERE rolname = $1";
            if database.query_opt(known, &[&login]).await.unwrap().is_none() {
                let within =
                    if role.is_empty() { String::new() } else { format!("IN ROLE {role}") };
                let create = format!("CREATE ROLE {login} LOGIN PASSWORD '{PASSWORD}' {within}");
                database.batch_execute(&create).await.unwrap();
            }
        }
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A database with the tables of this release.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) server: Server,
    pub(crate) name: String,
}

impl Database {
    /// One for all tests that use tenants of their own and change nothing else.
    pub(crate) async fn shared() -> &'static Self {
        static SHARED: OnceCell<Database> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                Self::create(Server::of_environment(), "agent_audit_test".to_owned()).await
            })
            .await
    }

    /// One for this test alone. The next run of the tests drops what this one leaves behind.
    pub(crate) async fn own() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("agent_audit_test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self::create(Server::of_environment(), name).await
    }

    pub(crate) async fn create(server: Server, name: String) -> Self {
        server.prepare(&name).await;
        Self::with_tables(server, name).await
    }

    /// The tables, in a database that is prepared.
    pub(crate) async fn with_tables(server: Server, name: String) -> Self {
        let database = Self { server, name };
        assert_eq!(database.store("audit_test_owner").migrate().await.unwrap(), MIGRATIONS.len());
        let admin = database.admin().await;
        for (login, _, tenants) in LOGINS {
            for tenant in tenants {
                let insert = "INSERT INTO agent_audit.audit_access VALUES ($1, $2)";
                admin.execute(insert, &[&login, tenant]).await.unwrap();
            }
        }
        database
    }

    pub(crate) async fn admin(&self) -> Client {
        self.server.admin(&self.name).await
    }

    pub(crate) async fn client(&self, login: &str) -> Client {
        connect(&self.server.url(login, PASSWORD, &self.name)).await
    }

    /// A session of a login that has named a tenant.
    pub(crate) async fn client_of(&self, login: &str, tenant: &str) -> Client {
        let client = self.client(login).await;
        set_tenant(&client, tenant).await;
        client
    }

    pub(crate) fn config(&self, login: &str) -> PostgresConfig {
        PostgresConfig::new(self.server.url(login, PASSWORD, &self.name))
    }

    pub(crate) fn sink(&self) -> PostgresSink {
        PostgresSink::new(self.config("audit_test_writer")).unwrap()
    }

    pub(crate) fn store(&self, login: &str) -> PostgresStore {
        PostgresStore::new(self.config(login)).unwrap()
    }

    /// Reads any tenant.
    pub(crate) fn reader(&self) -> PostgresStore {
        self.store("audit_test_any")
    }
}

pub(crate) async fn set_tenant(client: &Client, tenant: &str) {
    client.execute("SELECT set_config('audit.tenant_id', $1, false)", &[&tenant]).await.unwrap();
}

/// The SQLSTATE of what is refused.
pub(crate) async fn refused(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => panic!("{sql} was done"),
        Err(error) => error.code().unwrap_or_else(|| panic!("{sql}: {error:?}")).code().to_owned(),
    }
}

/// One number that is asked for.
pub(crate) async fn count(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap_or_else(|error| panic!("{sql}: {error:?}")).get(0)
}
