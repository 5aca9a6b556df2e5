//! Which tenants the job has ever seen, and under which random id the checkpoints of each are kept.
//!
//! ```text
//! STATE/tenants.json      {"format":1,"tenants":{"<tenant>":"<id>"}}
//! ```
//!
//! Where the file is gone, the checkpoints themselves and the last report say the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use agent_audit_core::{
    id::TenantId,
    verify::{Finding, FindingKind},
};
use serde::{Deserialize, Serialize};

use super::{
    WatchError, disk,
    known::{PLACE, Places, id_of},
    log::{Opened, StateLog},
};

const FORMAT: u32 = 1;

#[derive(Debug, Default, Serialize, Deserialize)]
struct File {
    format: u32,
    tenants: BTreeMap<TenantId, String>,
}

/// The ids of all tenants.
#[derive(Debug)]
pub(super) struct Index {
    path: PathBuf,
    ids: BTreeMap<TenantId, String>,
    written: BTreeMap<TenantId, String>,
}

impl Index {
    pub(super) fn load(places: &Places, findings: &mut Vec<Finding>) -> Result<Self, WatchError> {
        let path = places.state.join("tenants.json");
        let file = disk::read(&path)?.map(|bytes| serde_json::from_slice::<File>(&bytes));
        let file = match file {
            Some(Ok(file)) if file.format == FORMAT => file,
            None => File::default(),
            Some(_) => {
                let what = format!("`{}` is not what the job wrote", path.display());
                findings.push(Finding::new(FindingKind::StateRolledBack, what).in_place(PLACE));
                File::default()
            }
        };
        let written = file.tenants;
        let mut index = Self { path, ids: written.clone(), written };
        index.ids.retain(|_, id| id_of(&format!("agent-audit/tenant/{id}")).is_some());
        index.add_checkpoints(places, findings)?;
        Ok(index)
    }

    /// Adds the tenants whose checkpoints are there.
    fn add_checkpoints(
        &mut self,
        places: &Places,
        findings: &mut Vec<Finding>,
    ) -> Result<(), WatchError> {
        let mut found: BTreeMap<TenantId, BTreeSet<String>> = BTreeMap::new();
        let mut followed = BTreeSet::new();
        for id in disk::names(&places.checkpoints, ".ndjson")? {
            match StateLog::open(places.checkpoints_of(&id))? {
                Opened::Log(log) => {
                    followed.extend(log.header.follows.map(|follows| follows.origin));
                    if let (Some(tenant), Some(own)) =
                        (log.header.tenant_id, id_of(&log.header.origin))
                        && own == id
                    {
                        found.entry(tenant).or_default().insert(id);
                    }
                }
                Opened::Damaged(what) => {
                    findings.push(Finding::new(FindingKind::Tampered, what).in_place(PLACE));
                }
                Opened::Missing => {}
            }
        }
        for (tenant, ids) in found {
            let newest =
                ids.into_iter().rfind(|id| !followed.contains(&format!("agent-audit/tenant/{id}")));
            if let Some(id) = newest {
                self.ids.entry(tenant).or_insert(id);
            }
        }
        Ok(())
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.ids.keys()
    }

    pub(super) fn id(&self, tenant: &TenantId) -> Option<&str> {
        self.ids.get(tenant).map(String::as_str)
    }

    pub(super) fn set(&mut self, tenant: &TenantId, origin: &str) {
        if let Some(id) = id_of(origin) {
            self.ids.insert(tenant.clone(), id.to_owned());
        }
    }

    /// Writes what is new.
    pub(super) fn save(&mut self) -> Result<(), WatchError> {
        if self.ids == self.written {
            return Ok(());
        }
        let file = File { format: FORMAT, tenants: self.ids.clone() };
        let bytes = serde_json::to_vec(&file).expect("ids have a JSON form");
        disk::replace(&self.path, &bytes)?;
        self.written.clone_from(&self.ids);
        Ok(())
    }
}
