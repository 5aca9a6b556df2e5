//! Content beside an event: does it match what the event committed to, and where it is gone, why.

use super::{
    super::{
        FindingKind,
        memory::{Gone, event_id},
    },
    ChainVerifier, length, shown,
};
use crate::{
    canonical::EventView,
    content::{AbsentReason, Salt, commitment},
    hash::Hash,
    id::EventId,
    record::{PartView, RecordView},
};

/// The parts of a record.
#[derive(Clone, Copy)]
pub(super) struct Content<'a> {
    pub(super) record: RecordView<'a>,
    /// The commitments to the clear ones; none where they have not been computed yet.
    pub(super) commitments: &'a [Hash],
}

/// The algorithm of encrypted content, and what it adds to the length: the salt and the tag.
const AES_256_GCM: u8 = 1;
const SEAL: u64 = 32 + 16;

impl ChainVerifier {
    pub(super) fn check_content(&mut self, content: Content<'_>, event: &EventView<'_>, at: u64) {
        let Content { record, commitments } = content;
        let mut known = commitments.iter();
        let count = record.part_count();
        if count == 0 && event.content_len() == 0 {
            return;
        }
        let mut named = event.content();
        let mut parts = 0u64;
        for body in record.part_views() {
            let Some(reference) = named.next() else { break };
            parts += 1;
            match body {
                PartView::Clear { salt, bytes } => {
                    self.counts.bytes += length(bytes.len());
                    let known = known.next();
                    let matches = length(bytes.len()) == reference.bytes
                        && known.map_or_else(
                            || commitment(&Salt::from_bytes(*salt), bytes),
                            |known| *known,
                        ) == reference.commitment;
                    if !matches {
                        let detail = format!(
                            "has other content than it committed to: part {} was changed",
                            shown(reference.name)
                        );
                        self.content_finding(at, detail);
                    }
                }
                PartView::Sealed { algorithm, len } => {
                    self.counts.sealed += 1;
                    self.check_seal(at, reference.name, algorithm, len, reference.bytes);
                }
                PartView::Absent { reason, evidence } => {
                    self.check_absence(at, reference.name, reason, evidence);
                }
            }
        }
        self.counts.parts += parts;
        if length(count) != parts || named.next().is_some() {
            let expected = event.content_len();
            let detail = format!(
                "has other content than it committed to: it names {expected} parts and is stored \
                 with {count}"
            );
            self.content_finding(at, detail);
        }
    }

    fn content_finding(&mut self, at: u64, detail: String) {
        let id = self.recent.event_id(at);
        self.findings.at(FindingKind::ContentMismatch, at, id, detail);
    }

    /// What is encrypted cannot be compared, but its length is known.
    fn check_seal(&mut self, at: u64, name: &str, algorithm: u8, len: u64, plain: u64) {
        if algorithm != AES_256_GCM {
            let detail = format!(
                "has content that this program cannot judge: part {} is encrypted with algorithm \
                 {algorithm}; use a release that knows it",
                shown(name)
            );
            let id = self.recent.event_id(at);
            self.findings.at(FindingKind::UnknownSeal, at, id, detail);
        } else if plain.checked_add(SEAL) != Some(len) {
            let detail = format!(
                "has other content than it committed to: part {} has {plain} bytes and cannot be \
                 what {len} encrypted ones hold",
                shown(name)
            );
            self.content_finding(at, detail);
        }
    }

    /// That content is gone is no fault where an event of the chain says why.
    fn check_absence(
        &mut self,
        at: u64,
        name: &str,
        reason: AbsentReason,
        evidence: Option<EventId>,
    ) {
        let part: String = name.chars().take(128).collect();
        let Some(evidence) = evidence else {
            let detail =
                format!("lacks content: part {} is gone, and nothing says why", shown(&part));
            let id = self.recent.event_id(at);
            self.findings.at(FindingKind::ContentMissing, at, id, detail);
            return;
        };
        match reason {
            AbsentReason::Erased => self.counts.erased += 1,
            AbsentReason::Purged => self.counts.purged += 1,
        }
        let id = u128::from_be_bytes(*evidence.as_bytes());
        if let Some(gone) = self.evidence.names(id, Gone { at, part, more: 0, reason }) {
            self.unexplained_part(id, &gone);
        }
    }

    /// Content whose reason no event of the chain gave.
    pub(super) fn unexplained(&mut self) {
        for (id, gone) in std::mem::take(&mut self.evidence).into_awaited() {
            self.unexplained_part(id, &gone);
        }
    }

    fn unexplained_part(&mut self, named: u128, gone: &Gone) {
        let wanted = match gone.reason {
            AbsentReason::Erased => "key.destroyed",
            AbsentReason::Purged => "content.purged",
        };
        let named = event_id(named).map_or_else(String::new, |id| id.to_string());
        let more = match gone.more {
            0 => String::new(),
            more => format!(" ({more} more parts name the same one)"),
        };
        let detail = format!(
            "lacks content: part {} is gone, and the event that it names for it, {named}, is not \
             a {wanted} of this chain{more}",
            shown(&gone.part)
        );
        let id = self.recent.event_id(gone.at);
        self.findings.at(FindingKind::ContentMissing, gone.at, id, detail);
    }
}
