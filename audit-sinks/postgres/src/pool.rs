//! A few connections that are used again, and made again when they are gone.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent_audit_core::sink::SinkErrorKind;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_postgres::{Client, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    config::{Address, PostgresConfig},
    error::Fault,
    tls,
};

pub(crate) struct Pool {
    address: Address,
    tls: MakeRustlsConnect,
    config: PostgresConfig,
    /// How many milliseconds a statement, and a lock, may take; 0 is no limit.
    limits: (u64, u64),
    /// What else a new connection is told.
    settings: &'static str,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Session>>,
}

/// A connection, with the statements that were prepared on it.
pub(crate) struct Session {
    pub(crate) client: Client,
    prepared: Vec<(String, Statement)>,
}

/// A session in use. Only one that is [given back](Self::give_back) is used again: on one that was let
/// go in the middle of something, nobody knows what still runs.
pub(crate) struct Lease {
    session: Session,
    pool: Arc<Pool>,
    _permit: OwnedSemaphorePermit,
}

/// How many statements a connection keeps.
const PREPARED: usize = 64;

/// What a connection that answers questions is told: it changes nothing, and goes through indexes.
/// A month that has just begun looks empty to the planner, which would read all of it; and a plan for
/// any chain looks so expensive that the server would compile it, for a hundred milliseconds.
#[cfg(feature = "query")]
const FOR_ASKING: &str = "SET default_transaction_read_only = on;
     SET enable_seqscan = off;
     SET enable_hashagg = off;
     SET jit = off;";

impl Pool {
    /// Connections of a writer, which must not wait long for a chain that is held.
    pub(crate) fn for_writing(config: &PostgresConfig) -> Result<Self, Fault> {
        Self::new(config, limits_of(config), "")
    }

    /// Connections of a reader. The server sets no limit, because rows wait there until whoever reads
    /// them asks for more; the client still gives up a server that does not answer.
    pub(crate) fn for_reading(config: &PostgresConfig) -> Result<Self, Fault> {
        Self::new(config, (0, 0), "")
    }

    /// Connections that questions are put to, each of which is answered within the limit.
    #[cfg(feature = "query")]
    pub(crate) fn for_asking(config: &PostgresConfig) -> Result<Self, Fault> {
        Self::new(config, limits_of(config), FOR_ASKING)
    }

    fn new(
        config: &PostgresConfig,
        limits: (u64, u64),
        settings: &'static str,
    ) -> Result<Self, Fault> {
        let address = Address::of(config)?;
        Ok(Self {
            tls: tls::connector(&address)?,
            address,
            permits: Arc::new(Semaphore::new(config.connections.max(1))),
            idle: Mutex::default(),
            config: config.clone(),
            limits,
            settings,
        })
    }

    pub(crate) fn config(&self) -> &PostgresConfig {
        &self.config
    }

    /// A session that was at rest, or a new one. Waits while all are in use.
    pub(crate) async fn lease(self: &Arc<Self>) -> Result<Lease, Fault> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Fault::new(SinkErrorKind::Other, "the pool of connections is closed"))?;
        let at_rest = || self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let session = loop {
            match at_rest() {
                Some(session) if session.client.is_closed() => {}
                Some(session) => break session,
                None => break self.connect().await?,
            }
        };
        Ok(Lease { session, pool: Arc::clone(self), _permit: permit })
    }

    /// Closes the sessions that are at rest.
    pub(crate) fn close(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn connect(&self) -> Result<Session, Fault> {
        let doing = format!("connect to {}", self.address);
        let limit = Duration::from_millis(self.config.connect_timeout_ms);
        timeout(limit, self.try_connect(&doing))
            .await
            .unwrap_or_else(|_| Err(Fault::timeout(&doing)))
    }

    async fn try_connect(&self, doing: &str) -> Result<Session, Fault> {
        let fault = |error: &tokio_postgres::Error| Fault::postgres(error, doing);
        let (client, connection) =
            self.address.config.connect(self.tls.clone()).await.map_err(|error| fault(&error))?;
        // Ends with the client. What goes wrong is told to whoever waits for an answer.
        tokio::spawn(connection);
        let settings = format!(
            "SET default_transaction_isolation = 'read committed';
             SET statement_timeout = {};
             SET lock_timeout = {};
             SELECT set_config('synchronous_commit', 'on', false)
             WHERE current_setting('synchronous_commit') = 'off';
             {}",
            // The server counts in 31 bits.
            self.limits.0.min(2_147_483_647),
            self.limits.1.min(2_147_483_647),
            self.settings,
        );
        client.batch_execute(&settings).await.map_err(|error| fault(&error))?;
        Ok(Session { client, prepared: Vec::new() })
    }

    /// How long to wait for an answer that the server itself should have given up before.
    pub(crate) fn patience(&self) -> Duration {
        Duration::from_millis(self.config.statement_timeout_ms)
            .saturating_add(Duration::from_secs(2))
    }
}

fn limits_of(config: &PostgresConfig) -> (u64, u64) {
    (config.statement_timeout_ms.max(1), config.lock_timeout_ms.max(1))
}

impl Lease {
    pub(crate) fn client(&self) -> &Client {
        &self.session.client
    }

    pub(crate) fn client_mut(&mut self) -> &mut Client {
        &mut self.session.client
    }

    /// Whether the connection is gone.
    pub(crate) fn is_closed(&self) -> bool {
        self.session.client.is_closed()
    }

    pub(crate) fn patience(&self) -> Duration {
        self.pool.patience()
    }

    /// A statement, prepared once on each connection.
    pub(crate) async fn prepare(&mut self, sql: &str) -> Result<Statement, tokio_postgres::Error> {
        let known = self.session.prepared.iter().find(|(known, _)| known == sql);
        if let Some((_, statement)) = known {
            return Ok(statement.clone());
        }
        let statement = self.session.client.prepare(sql).await?;
        if self.session.prepared.len() == PREPARED {
            self.session.prepared.remove(0);
        }
        self.session.prepared.push((sql.to_owned(), statement.clone()));
        Ok(statement)
    }

    /// Lets the next one have the session.
    pub(crate) fn give_back(self) {
        let Self { session, pool, _permit } = self;
        if !session.client.is_closed() {
            pool.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("config", &self.config).finish_non_exhaustive()
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("pool", &self.pool).finish_non_exhaustive()
    }
}
