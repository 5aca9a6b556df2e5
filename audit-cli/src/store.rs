//! A store by its name on the command line.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use agent_audit_core::{
    id::{ChainId, TenantId},
    log::Layout,
    record::Record,
};
use agent_audit_query::{
    EventStore, Filter, Joined, Order, QueryError, QueryErrorKind, Select,
    scan::{Records, Scanned},
};
use agent_audit_sqlite::SqliteEvents;

use crate::{failure::Failure, output::listed, reading::Log};

/// The stores of a build, as a person names them.
const KNOWN: &[&str] = &[
    "DIR (the directory of a log)",
    "sqlite:DIR",
    #[cfg(feature = "postgres")]
    "postgres:",
    #[cfg(feature = "clickhouse")]
    "clickhouse:",
    #[cfg(feature = "s3")]
    "s3:",
];

/// A store to be asked.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) store: Arc<dyn EventStore>,
    /// The directory of the log, where it is one.
    pub(crate) dir: Option<PathBuf>,
    warnings: Warnings,
}

/// What a person must know before believing that an answer is all.
type Warnings = Arc<Mutex<Vec<String>>>;

impl Opened {
    /// That the store has anything of a tenant: a name that is misspelt is no empty answer.
    pub(crate) async fn expect_tenant(&self, tenant: &TenantId) -> Result<(), Failure> {
        if !self.store.chains(tenant).await?.is_empty() {
            return Ok(());
        }
        let there = match self.store.tenants().await {
            Ok(tenants) if tenants.is_empty() => "it has none that this reader can see".to_owned(),
            Ok(tenants) => format!("there are: {}", listed(tenants.iter().map(TenantId::as_str))),
            // A reader of one tenant may not be told about others.
            Err(_) => "it does not tell this reader which there are".to_owned(),
        };
        let name = self.store.name();
        Err(Failure::new(format!("{name} has no record of tenant `{tenant}`; {there}")))
    }

    /// What was found out while the store was read.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        warnings.sort_unstable();
        warnings.dedup();
        warnings
    }
}

/// The kind of a store and the rest of its name; a path has no kind.
pub(crate) fn kind_of(name: &str) -> (Option<&str>, &str) {
    match name.split_once(':') {
        // `C:\…` and `./a:b` are paths.
        Some((kind, rest)) if kind.len() > 1 && kind.chars().all(|c| c.is_ascii_alphanumeric()) => {
            (Some(kind), rest)
        }
        _ => (None, name),
    }
}

/// Opens a store to ask about one tenant, or about all.
pub(crate) async fn open(name: &str, tenant: Option<&TenantId>) -> Result<Opened, Failure> {
    let warnings = Warnings::default();
    let (kind, rest) = kind_of(name);
    let store: Arc<dyn EventStore> = match kind {
        None => {
            let store = directory(Path::new(name), tenant, &warnings).await?;
            return Ok(Opened { store, dir: Some(PathBuf::from(name)), warnings });
        }
        Some("sqlite") if !rest.is_empty() => Arc::new(SqliteEvents::open(rest)?),
        Some(_) if !rest.is_empty() => {
            // A URL on the command line can be read by everybody on the machine, with its password.
            return Err(Failure::new(format!(
                "the store `{}:…` is named with more than its kind: where the server is comes from the \
                 environment alone, as AGENT_AUDIT_{}_URL",
                kind.unwrap_or_default(),
                kind.unwrap_or_default().to_ascii_uppercase()
            )));
        }
        #[cfg(feature = "postgres")]
        Some("postgres") => {
            use agent_audit_postgres::{PostgresConfig, PostgresEvents};
            Arc::new(PostgresEvents::new(PostgresConfig::from_env()?)?)
        }
        #[cfg(feature = "clickhouse")]
        Some("clickhouse") => {
            use agent_audit_clickhouse::{ClickHouseConfig, ClickHouseEvents};
            Arc::new(ClickHouseEvents::new(ClickHouseConfig::from_env()?)?)
        }
        #[cfg(feature = "s3")]
        Some("s3") => {
            use agent_audit_s3::{S3Config, S3Events};
            let config = S3Config::from_env()?;
            // The copy that questions are answered from: kept where it is named, else for this time.
            match std::env::var_os("AGENT_AUDIT_S3_COPY") {
                Some(dir) => Arc::new(S3Events::open(config, dir).await?),
                None => Arc::new(S3Events::temporary(config).await?),
            }
        }
        Some(kind) => {
            return Err(Failure::new(format!(
                "the store `{kind}:` is not known: use one of {}, or a build with the feature `{kind}`",
                KNOWN.join(", ")
            )));
        }
    };
    Ok(Opened { store, dir: None, warnings })
}

/// The embedded store of a log, what its journal holds beyond it, and the record of earlier reads.
async fn directory(
    dir: &Path,
    tenant: Option<&TenantId>,
    warnings: &Warnings,
) -> Result<Arc<dyn EventStore>, Failure> {
    let log = Log::open(dir)?;
    let mut stores: Vec<Arc<dyn EventStore>> = Vec::new();
    let mut told = HashMap::new();
    let sqlite = Layout::new(dir).sqlite();
    if sqlite.is_dir() {
        let store = SqliteEvents::open(sqlite)?;
        let tenants = match tenant {
            Some(tenant) => vec![tenant.clone()],
            None => store.tenants().await?,
        };
        for tenant in &tenants {
            for chain in store.chains(tenant).await? {
                let filter = Filter::new().chain(chain.clone());
                let last = Select::new(filter, Order::Chain, 1).descending();
                if let Some(last) = store.select(tenant, &last).await?.first() {
                    told.insert(chain, last.sequence());
                }
            }
        }
        stores.push(Arc::new(store));
    }
    let journal = Journal { log, told, warnings: Arc::clone(warnings) };
    stores.push(Arc::new(Scanned::new(dir.display().to_string(), journal)));
    let access = crate::access::default_log(dir);
    if Layout::new(&access).identity().is_file() {
        let log = Log::open(&access)?;
        let journal = Journal { log, told: HashMap::new(), warnings: Arc::clone(warnings) };
        stores.push(Arc::new(Scanned::new("access", journal)));
    }
    Ok(match <[_; 1]>::try_from(stores) {
        Ok([one]) => one,
        Err(stores) => Arc::new(Joined::new(stores)),
    })
}

/// The journal of a log that has no embedded store.
pub(crate) fn journal(dir: &Path) -> Result<Journal, Failure> {
    Ok(Journal { log: Log::open(dir)?, told: HashMap::new(), warnings: Warnings::default() })
}

/// What the journal of a log holds beyond its embedded store.
#[derive(Debug)]
pub(crate) struct Journal {
    log: Log,
    /// The last position of each chain in the embedded store.
    told: HashMap<ChainId, u64>,
    warnings: Warnings,
}

impl Records for Journal {
    fn tenants(&self) -> Result<Vec<TenantId>, QueryError> {
        let mut tenants = std::collections::BTreeSet::new();
        let read = self.log.read_journal(None, &mut |found| {
            tenants.extend(TenantId::new(found.event.tenant_id));
            Ok(true)
        });
        self.remark(read)?;
        Ok(tenants.into_iter().collect())
    }

    fn read(
        &self,
        tenant: &TenantId,
        each: &mut dyn FnMut(Record) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let mut failed = None;
        let read = self.log.read_journal(Some(tenant.as_str()), &mut |found| {
            let event = found.event;
            let told = ChainId::new(event.chain_id).ok().and_then(|chain| self.told.get(&chain));
            if told.is_some_and(|last| event.sequence <= *last) {
                return Ok(true);
            }
            match each(found.record()?) {
                Ok(()) => Ok(true),
                Err(error) => {
                    failed = Some(error);
                    Ok(false)
                }
            }
        });
        self.remark(read)?;
        failed.map_or(Ok(()), Err)
    }
}

impl Journal {
    fn remark(&self, read: Result<crate::reading::Remarks, Failure>) -> Result<(), QueryError> {
        let remarks =
            read.map_err(|failure| QueryError::new(QueryErrorKind::Other, failure.to_string()))?;
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        warnings.extend(remarks.warnings());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::kind_of;

    #[test]
    fn a_path_is_no_kind_of_store() {
        assert_eq!(kind_of("postgres:"), (Some("postgres"), ""));
        assert_eq!(kind_of("sqlite:./store"), (Some("sqlite"), "./store"));
        assert_eq!(kind_of("./audit"), (None, "./audit"));
        assert_eq!(kind_of("./a:b"), (None, "./a:b"));
        assert_eq!(kind_of("C:\\audit"), (None, "C:\\audit"));
    }
}
