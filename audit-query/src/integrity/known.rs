//! What is known of a tenant before a run: its checkpoints, what the job remembers, and what the last
//! report says. Each is held against the others, so that none can be put back alone.
//!
//! A log of states that was cut is never gone on with: a number that was signed once would be signed
//! again. A new log takes its place, which says what it follows, and knows what was known.

use std::path::{Path, PathBuf};

use agent_audit_core::{
    id::{ChainId, TenantId},
    verify::{Finding, FindingKind},
};

use super::{
    TenantState, WatchError,
    log::{Follows, Header, Opened, Problem, StateLog, Tail},
    memory::{Memory, Remembered, Seal},
    state::tenant_origin,
};

/// What a finding says of a tenant's checkpoints as its place.
pub(super) const PLACE: &str = "tenant checkpoints";

/// Where things are kept.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) state: PathBuf,
    pub(super) checkpoints: PathBuf,
}

impl Places {
    pub(super) fn checkpoints_of(&self, id: &str) -> PathBuf {
        self.checkpoints.join(format!("{id}.ndjson"))
    }

    pub(super) fn memory_of(&self, id: &str) -> PathBuf {
        self.memories().join(format!("{id}.json"))
    }

    pub(super) fn memories(&self) -> PathBuf {
        self.state.join("tenants")
    }
}

/// What a run begins with.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) log: StateLog,
    pub(super) memory: Memory,
    pub(super) findings: Vec<Finding>,
    /// Whether everything is to be read from the beginning: what was remembered is not there.
    pub(super) untrusted: bool,
    /// Whether the log had come further than what was remembered.
    pub(super) ahead: bool,
}

/// What is looked for.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    pub(super) places: &'a Places,
    pub(super) seal: &'a Seal<'a>,
    pub(super) tenant: &'a TenantId,
    /// The id of the tenant's checkpoints, where it has some.
    pub(super) id: Option<&'a str>,
    /// The tenant's state in the last report.
    pub(super) reported: Option<&'a TenantState>,
    /// Also check every earlier checkpoint.
    pub(super) whole: bool,
}

/// The log of a tenant, as it was found.
struct Found {
    log: StateLog,
    tail: Tail,
    last: Option<TenantState>,
}

impl Lookup<'_> {
    pub(super) fn load(&self) -> Result<Known, WatchError> {
        let mut findings = Vec::new();
        let id = match self.reported {
            // The report outlives what stands beside the job.
            Some(reported) => id_of(&reported.origin).or(self.id),
            None => self.id,
        };
        let memory = self.memory(id, &mut findings)?;
        let found = self.log(id, memory.as_ref(), &mut findings)?;
        self.join(memory, found, findings)
    }

    fn memory(
        &self,
        id: Option<&str>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Memory>, WatchError> {
        let Some(id) = id else { return Ok(None) };
        let path = self.places.memory_of(id);
        match Memory::load(&path, self.seal)? {
            Remembered::Memory(memory)
                if memory.tenant_id == *self.tenant && memory.origin == tenant_origin(id) =>
            {
                Ok(Some(*memory))
            }
            Remembered::Memory(_) => {
                let what =
                    format!("`{}` is what the job remembers of another tenant", path.display());
                findings.push(self.finding(FindingKind::StateRolledBack, what));
                Ok(None)
            }
            Remembered::Bad(problem) => {
                findings.push(self.finding(problem.kind, problem.what));
                Ok(None)
            }
            Remembered::Nothing => {
                if self.reported.is_some() {
                    let what = format!("what the job remembered in `{}` is gone", path.display());
                    findings.push(self.finding(FindingKind::StateRolledBack, what));
                }
                Ok(None)
            }
        }
    }

    /// The log that can be gone on with, where there is one.
    fn log(
        &self,
        id: Option<&str>,
        memory: Option<&Memory>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Found>, WatchError> {
        let Some(id) = id else { return Ok(None) };
        let path = self.places.checkpoints_of(id);
        let log = match StateLog::open(path.clone())? {
            Opened::Log(log) => log,
            Opened::Damaged(what) => {
                findings.push(self.finding(FindingKind::Tampered, what));
                return Ok(None);
            }
            Opened::Missing => {
                let what = format!("its checkpoints in `{}` are gone", path.display());
                findings.push(self.finding(FindingKind::StateRolledBack, what));
                return Ok(None);
            }
        };
        if log.header.tenant_id.as_ref() != Some(self.tenant)
            || log.header.origin != tenant_origin(id)
        {
            let what =
                format!("`{}` says that it holds the checkpoints of another log", path.display());
            findings.push(self.finding(FindingKind::Foreign, what));
            return Ok(None);
        }
        let Some(memory) = memory else {
            let found = self.follow_all(log, None, findings)?;
            // A crash between the first checkpoint and the first memory leaves one; a report tells
            // of more.
            if self.reported.is_none() && found.as_ref().is_some_and(|found| found.tail.size() > 1)
            {
                let what = "what the job remembered of it is gone";
                findings.push(self.finding(FindingKind::StateRolledBack, what));
            }
            return Ok(found);
        };
        if self.whole {
            return self.follow_all(log, Some(memory), findings);
        }
        match log.last(&memory.tail, self.seal.keys)? {
            Ok(last) => self.go_on(log, memory, last.as_deref(), findings),
            Err(problem) => {
                findings.push(self.finding(problem.kind, problem.what));
                // Which one was changed is told by all of them.
                self.follow_all(log, Some(memory), findings)
            }
        }
    }

    /// Takes in what a run that did not come to its end wrote last.
    fn go_on(
        &self,
        log: StateLog,
        memory: &Memory,
        last: Option<&[u8]>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Found>, WatchError> {
        let mut tail = memory.tail.clone();
        let mut state = last.map(<[u8]>::to_vec);
        let problem = log.follow(&mut tail, self.seal.keys, &mut |bytes, _| {
            state = Some(bytes.to_vec());
        })?;
        // A death leaves a memory that is one behind, and no report of that run.
        let size = memory.tail.size();
        let reported = self.reported.is_some_and(|reported| reported.number >= size);
        if reported || tail.size() > size + 1 {
            let what = format!(
                "what the job remembers is older than its checkpoints: it had come to {size}, and \
                 there are {}",
                tail.size()
            );
            findings.push(self.finding(FindingKind::StateRolledBack, what));
        }
        self.taken(log, tail, state, problem, findings)
    }

    fn follow_all(
        &self,
        log: StateLog,
        memory: Option<&Memory>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Found>, WatchError> {
        let mut tail = log.beginning();
        let mut state = None;
        let mut at_memory = None;
        let mut reported = None;
        let problem = log.follow(&mut tail, self.seal.keys, &mut |bytes, _| {
            let read = TenantState::from_slice(bytes).ok();
            if let (Some(read), Some(expected)) = (&read, self.reported)
                && read.number == expected.number
            {
                reported = Some(read.hash());
            }
            if let (Some(read), Some(memory)) = (&read, memory)
                && read.number + 1 == memory.tail.size()
            {
                at_memory = Some(read.hash());
            }
            state = Some(bytes.to_vec());
        })?;
        if let Some(problem) = problem {
            findings.push(self.finding(problem.kind, problem.what));
            // An earlier state was changed, and what comes behind it may still be gone on with.
            if let Some(memory) = memory
                && let Ok(Some(last)) = log.last(&memory.tail, self.seal.keys)?
            {
                return self.go_on(log, memory, Some(&last), findings);
            }
            return Ok(None);
        }
        let expected = self.reported.map(TenantState::hash);
        if reported.is_some() && reported != expected {
            let what = "its checkpoints are of another history than the last report knows";
            findings.push(self.finding(FindingKind::Forked, what));
            return Ok(None);
        }
        let remembered = memory.map(|memory| memory.tail.size()).filter(|size| *size > 0);
        if let Some(size) =
            remembered.filter(|_| at_memory != memory.map(|memory| memory.tail.last))
        {
            let what = match tail.size() < size {
                true => format!("there were {size} checkpoints, and there are {}", tail.size()),
                false => "its checkpoints are of another history than the job remembers".to_owned(),
            };
            findings.push(self.finding(FindingKind::StateRolledBack, what));
            return Ok(None);
        }
        self.taken(log, tail, state, None, findings)
    }

    fn taken(
        &self,
        log: StateLog,
        tail: Tail,
        state: Option<Vec<u8>>,
        problem: Option<Problem>,
        findings: &mut Vec<Finding>,
    ) -> Result<Option<Found>, WatchError> {
        if let Some(problem) = problem {
            findings.push(self.finding(problem.kind, problem.what));
            return Ok(None);
        }
        let last = match state.as_deref().map(TenantState::from_slice).transpose() {
            Ok(last) => last,
            Err(error) => {
                findings.push(
                    self.finding(FindingKind::Tampered, format!("its last state is {error}")),
                );
                return Ok(None);
            }
        };
        if let Some(reported) = self.reported {
            let size = tail.size();
            if size <= reported.number {
                let what = format!(
                    "there are {size} checkpoints, and the last report names number {}: an older copy \
                     was put in their place",
                    reported.number
                );
                findings.push(self.finding(FindingKind::StateRolledBack, what));
                return Ok(None);
            }
            if size == reported.number + 1 && tail.last != reported.hash() {
                let what = "its last checkpoint is of another history than the last report knows";
                findings.push(self.finding(FindingKind::Forked, what));
                return Ok(None);
            }
        }
        Ok(Some(Found { log, tail, last }))
    }

    /// Joins what each source knows: nothing that one of them knows is forgotten.
    fn join(
        &self,
        memory: Option<Memory>,
        found: Option<Found>,
        mut findings: Vec<Finding>,
    ) -> Result<Known, WatchError> {
        let untrusted = memory.is_none() || found.is_none();
        let remembered = memory.as_ref().map_or(0, |memory| memory.tail.size());
        let last = found.as_ref().and_then(|found| found.last.clone());
        let (log, tail) = match found {
            Some(found) => (found.log, found.tail),
            None => {
                let log = self.begin(memory.as_ref())?;
                let tail = log.beginning();
                (log, tail)
            }
        };
        let ahead = tail.size() > remembered;
        let origin = log.header.origin.clone();
        let mut joined = Memory::new(self.tenant.clone(), origin, tail);
        if let Some(memory) = memory {
            (joined.chains, joined.at) = (memory.chains, memory.at);
        }
        for state in last.iter().chain(self.reported) {
            joined.at = joined.at.max(Some(state.at));
            for entry in &state.chains {
                let chain = joined.chains.entry(entry.chain_id.clone()).or_default();
                match &chain.known {
                    Some(known) if known.size > entry.size => {}
                    Some(known) if known.size == entry.size => {
                        if (known.root, known.head) != (entry.root, entry.head) {
                            let what = format!(
                                "of chain {} two histories of {} records were verified",
                                entry.chain_id, entry.size
                            );
                            findings.push(self.finding(FindingKind::Forked, what));
                        }
                    }
                    _ => chain.known = Some(entry.clone()),
                }
                chain.since.get_or_insert(state.at);
            }
        }
        Ok(Known { log, memory: joined, findings, untrusted, ahead })
    }

    /// Begins a log, in the place of one that cannot be gone on with where there was one.
    fn begin(&self, memory: Option<&Memory>) -> Result<StateLog, WatchError> {
        let remembered = memory.and_then(|memory| {
            let (hash, origin) = (Some(memory.tail.last), memory.origin.clone());
            Some(Follows { hash, number: memory.tail.size().checked_sub(1)?, origin })
        });
        let reported = self.reported.map(|state| {
            let origin = state.origin.clone();
            Follows { hash: Some(state.hash()), number: state.number, origin }
        });
        let follows = [remembered, reported].into_iter().flatten().max_by_key(|last| last.number);
        let id = ChainId::random();
        let header = Header::new(tenant_origin(id.as_str()), Some(self.tenant.clone()), follows);
        StateLog::create(self.places.checkpoints_of(id.as_str()), header)
    }

    fn finding(&self, kind: FindingKind, what: impl AsRef<str>) -> Finding {
        let detail = format!("tenant {}: {}", self.tenant, what.as_ref());
        Finding::new(kind, detail).in_place(PLACE)
    }
}

/// The id in the name of a file of checkpoints.
pub(super) fn id_of(origin: &str) -> Option<&str> {
    let id = origin.strip_prefix(&tenant_origin(""))?;
    let safe = id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    (safe && !id.is_empty() && Path::new(id).components().count() == 1).then_some(id)
}
