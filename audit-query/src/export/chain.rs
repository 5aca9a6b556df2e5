//! Writing the events of one chain after the other, with their proofs and with what explains them.

use std::collections::{BTreeMap, BTreeSet};

use agent_audit_core::{
    checkpoint::SignedCheckpoint,
    hash::Hash,
    id::{ChainId, EventId, TenantId},
    key::VerifyingKey,
    record::Record,
};

use super::{
    checkpoints::{CheckpointLine, LogCheckpoints},
    events::EventFiles,
    line::canonical_line,
    manifest::{Counts, EVIDENCE, EVIDENCE_PROOFS, ExportedChain, Format, PROOFS, ProvenAt},
    output::{Output, Writing},
    parts::{self, Part, Reason},
    progress::Ticker,
    proof::{ProofLine, Run},
    proven::{Proven, disagrees, previous_hash},
};
use crate::{Found, Ledger, QueryError, QueryErrorKind};

/// How many events that say why content is gone are looked up for one chain. Beyond, whoever verifies
/// the export cannot tell.
const MAX_EVIDENCE: usize = 1 << 16;

/// Writes events, chain by chain.
pub(super) struct Chains<'a> {
    ledger: &'a Ledger,
    checkpoints: Option<&'a LogCheckpoints>,
    files: EventFiles,
    proofs: Option<Writing>,
    evidence: Option<Evidence>,
    open: Option<OpenChain>,
    done: Written,
}

/// What was written.
#[derive(Default)]
pub(super) struct Written {
    pub(super) chains: Vec<ExportedChain>,
    pub(super) checkpoints: BTreeMap<ChainId, CheckpointLine>,
    pub(super) keys: Vec<VerifyingKey>,
    pub(super) counts: Counts,
}

/// The files of events that say why content is gone.
struct Evidence {
    events: Writing,
    proofs: Writing,
    count: u64,
}

/// The chain whose turn it is.
struct OpenChain {
    id: ChainId,
    proven: Option<Proven>,
    entry: ExportedChain,
    run: Option<Run>,
    head: Hash,
    /// Events that are named as the reason why content is gone, and those that were exported anyway.
    named: BTreeSet<(EventId, Reason)>,
    said: BTreeSet<EventId>,
}

impl<'a> Chains<'a> {
    pub(super) fn new(
        ledger: &'a Ledger,
        checkpoints: Option<&'a LogCheckpoints>,
        format: Format,
        file_bytes: u64,
    ) -> Result<Self, QueryError> {
        Ok(Self {
            ledger,
            checkpoints,
            files: EventFiles::new(format, file_bytes)?,
            proofs: None,
            evidence: None,
            open: None,
            done: Written::default(),
        })
    }

    pub(super) fn begin(&mut self, output: &mut Output) -> Result<(), QueryError> {
        self.proofs = Some(output.begin(PROOFS)?);
        Ok(())
    }

    /// Whether the event belongs to the chain whose turn it is.
    pub(super) fn is_at(&self, found: &Found) -> bool {
        self.open.as_ref().is_some_and(|open| open.id.as_str() == found.chain_id())
    }

    /// How many events were written.
    pub(super) fn events(&self) -> u64 {
        self.files.events()
    }

    /// About how many bytes there are in the file of events that is not whole yet.
    pub(super) fn open_bytes(&self) -> u64 {
        self.files.open_bytes()
    }

    /// Ends the chain whose turn it was, and begins that of an event.
    pub(super) async fn turn_to(
        &mut self,
        next: Option<&Found>,
        output: &mut Output,
        ticker: &mut Ticker<'_>,
    ) -> Result<(), QueryError> {
        if let Some(mut open) = self.open.take() {
            self.end_run(&mut open)?;
            self.explain(&open, output).await?;
            self.note(open);
        }
        let Some(next) = next else { return Ok(()) };
        let id = ChainId::new(next.chain_id()).map_err(|error| {
            QueryError::corrupt("a record is of a chain without a name").with_source(error)
        })?;
        let signed = self.checkpoints.map_or(&[][..], |checkpoints| checkpoints.of(&id));
        let proven = Proven::read(self.ledger, &id, signed, output.dir(), ticker).await?;
        let checkpoint = proven.as_ref().map(|proven| {
            let checkpoint = proven.checkpoint().unverified();
            ProvenAt::new(checkpoint.size, checkpoint.root)
        });
        let entry = ExportedChain::of(id.clone(), checkpoint);
        self.open = Some(OpenChain {
            id,
            proven,
            entry,
            run: None,
            head: Hash::ZERO,
            named: BTreeSet::new(),
            said: BTreeSet::new(),
        });
        Ok(())
    }

    /// Writes an event of the chain whose turn it is.
    pub(super) fn push(
        &mut self,
        found: Found,
        content: bool,
        output: &mut Output,
    ) -> Result<(), QueryError> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        let at = found.sequence();
        let covered = open.covers(at);
        self.check(&open, &found)?;
        if open.run.as_ref().is_none_or(|run| run.next() != at || run.covered != covered) {
            self.end_run(&mut open)?;
            open.run = Some(Run::new(at, covered));
        }
        if let Some(run) = &mut open.run {
            run.last = at;
        }
        open.head = *found.hash();
        open.entry.events += 1;
        open.entry.covered += u64::from(covered);
        open.entry.first.get_or_insert(at);
        open.entry.last = Some(at);
        self.follow_content(&mut open, &found, content)?;
        let record = if content || found.record().parts().is_empty() {
            found.into_record()
        } else {
            Record::new(found.record().event_bytes().to_vec(), Vec::new())
        };
        let hash = open.head;
        self.open = Some(open);
        self.files.push(output, &record, &hash)
    }

    pub(super) fn finish(mut self, output: &mut Output) -> Result<Written, QueryError> {
        self.files.finish(output)?;
        if let Some(proofs) = self.proofs.take() {
            output.commit(proofs, None)?;
        }
        if let Some(evidence) = self.evidence.take() {
            output.commit(evidence.events, Some(evidence.count))?;
            output.commit(evidence.proofs, None)?;
        }
        Ok(self.done)
    }

    /// The event is the one that was proved; behind what is proved, it follows the one before.
    fn check(&self, open: &OpenChain, found: &Found) -> Result<(), QueryError> {
        let at = found.sequence();
        match &open.proven {
            Some(proven) if at < proven.size() => match proven.holds(found)? {
                true => {}
                false => {
                    let what = format!("event {} changed while it was read", found.event_id());
                    return Err(disagrees(self.ledger, &open.id, &what));
                }
            },
            _ if open.run.as_ref().is_some_and(|run| run.next() == at)
                && previous_hash(found)? != open.head =>
            {
                let what = format!("event {} does not follow the one before", found.event_id());
                return Err(disagrees(self.ledger, &open.id, &what));
            }
            _ => {}
        }
        Ok(())
    }

    /// Bodies are those that the event committed to, and the events that explain why others are gone
    /// are remembered.
    fn follow_content(
        &mut self,
        open: &mut OpenChain,
        found: &Found,
        content: bool,
    ) -> Result<(), QueryError> {
        let unreadable = |error| {
            let what = format!("event {} cannot be read", found.event_id());
            QueryError::corrupt(what).with_source(error)
        };
        let view = found.record().view().map_err(unreadable)?;
        self.done.counts.parts += u64::try_from(view.content_len()).unwrap_or(u64::MAX);
        if Reason::of_event_type(found.event_type()).is_some() && open.said.len() < MAX_EVIDENCE {
            open.said.insert(found.event_id());
        }
        if !content {
            return Ok(());
        }
        let mut wrong = None;
        let bodies = found.record().parts();
        let counted = parts::judge(&view, bodies, &mut |part| match part {
            Part::Other { name } => wrong = Some(format!("part {name:?} is not what it was")),
            Part::Gone { reason, evidence, .. } if open.named.len() < MAX_EVIDENCE => {
                open.named.insert((evidence, reason));
            }
            _ => {}
        });
        if let Err(named) = counted {
            wrong = Some(format!("it names {named} parts and is stored with {}", bodies.len()));
        }
        match wrong {
            None => Ok(()),
            Some(what) => {
                let what = format!("event {}: {what}", found.event_id());
                Err(disagrees(self.ledger, &open.id, &what))
            }
        }
    }

    fn end_run(&mut self, open: &mut OpenChain) -> Result<(), QueryError> {
        if let (Some(run), Some(proofs)) = (open.run.take(), &mut self.proofs) {
            proofs.put(&line(&open.proof(&run)?)?)?;
            open.entry.runs += 1;
        }
        Ok(())
    }

    /// Adds the events that say why content is gone, where they are not in the export anyway.
    async fn explain(&mut self, open: &OpenChain, output: &mut Output) -> Result<(), QueryError> {
        let mut found = Vec::new();
        for (id, reason) in open.named.iter().filter(|(id, _)| !open.said.contains(id)) {
            let event = match self.ledger.event(*id, false).await {
                Ok(event) => event,
                Err(error) if error.kind() == QueryErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if event.chain_id() == open.id.as_str() && event.event_type() == reason.event_type() {
                found.push(event);
            }
        }
        found.sort_by_key(Found::sequence);
        for event in found {
            let (at, covered) = (event.sequence(), open.covers(event.sequence()));
            if let Some(proven) = open.proven.as_ref().filter(|_| covered)
                && !proven.holds(&event)?
            {
                let what = format!("event {} changed while it was read", event.event_id());
                return Err(disagrees(self.ledger, &open.id, &what));
            }
            let evidence = match &mut self.evidence {
                Some(evidence) => evidence,
                None => self.evidence.insert(Evidence {
                    events: output.begin(EVIDENCE)?,
                    proofs: output.begin(EVIDENCE_PROOFS)?,
                    count: 0,
                }),
            };
            let bare = Record::new(event.record().event_bytes().to_vec(), Vec::new());
            let mut text = bare.to_json_line_with(event.hash());
            text.push(b'\n');
            evidence.events.put(&text)?;
            evidence.proofs.put(&line(&open.proof(&Run::new(at, covered))?)?)?;
            evidence.count += 1;
            self.done.counts.evidence += 1;
        }
        Ok(())
    }

    /// Keeps what the manifest says of a chain.
    fn note(&mut self, open: OpenChain) {
        let counts = &mut self.done.counts;
        counts.events += open.entry.events;
        counts.covered += open.entry.covered;
        counts.uncovered += open.entry.events - open.entry.covered;
        if let (Some(proven), Some(checkpoints)) = (&open.proven, self.checkpoints) {
            let signed = proven.checkpoint();
            self.done.add_checkpoint(self.ledger.tenant(), &open.id, signed, checkpoints);
        }
        self.done.chains.push(open.entry);
    }
}

impl Written {
    /// Keeps the checkpoint that the proofs of a chain lead to, and the key that signed it.
    pub(super) fn add_checkpoint(
        &mut self,
        tenant: &TenantId,
        chain: &ChainId,
        signed: &SignedCheckpoint,
        checkpoints: &LogCheckpoints,
    ) {
        if let Some(key) = checkpoints.signer(signed).filter(|key| !self.keys.contains(key)) {
            self.keys.push(*key);
        }
        let line = CheckpointLine {
            chain_id: chain.clone(),
            note: signed.to_string(),
            tenant_id: tenant.clone(),
        };
        self.checkpoints.insert(chain.clone(), line);
    }
}

impl OpenChain {
    fn covers(&self, at: u64) -> bool {
        self.proven.as_ref().is_some_and(|proven| at < proven.size())
    }

    fn proof(&self, run: &Run) -> Result<ProofLine, QueryError> {
        let (size, hashes) = match &self.proven {
            Some(proven) if run.covered => {
                (Some(proven.size()), proven.prove(run.first, run.last)?)
            }
            _ => (None, Vec::new()),
        };
        Ok(ProofLine { chain_id: self.id.clone(), first: run.first, hashes, last: run.last, size })
    }
}

/// A value as one line of canonical JSON.
pub(super) fn line(value: &impl serde::Serialize) -> Result<Vec<u8>, QueryError> {
    let mut bytes = canonical_line(value).map_err(|error| {
        QueryError::invalid("a line of the export cannot be written").with_source(error)
    })?;
    bytes.push(b'\n');
    Ok(bytes)
}
