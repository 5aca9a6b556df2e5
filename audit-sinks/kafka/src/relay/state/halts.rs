//! Which chains are halted at which sinks, also after they were forgotten or the relay was started
//! again: what comes behind an event that a sink refused does not wait for it once more.

use super::{SinkState, State};
use crate::relay::halted::HaltNote;

impl State {
    /// A sink gets no more of a chain, because it refused an event.
    pub(super) fn note_halt(&mut self, sink: usize, id: u64, why: &str) {
        let Some(chain) = self.chains.get(&id).map(|chain| chain.chain.clone()) else { return };
        let SinkState { name, readable_heads, .. } = &self.sinks[sink];
        let note = HaltNote { sink: name.clone(), chain, halted: Some(why.to_owned()) };
        let known = (sink, note.chain.clone());
        let is_known = self.halts.get(&known).is_some_and(|known| known == why);
        if is_known || self.halts.len() >= self.limits.max_chains {
            return;
        }
        self.halts.insert(known, why.to_owned());
        // Other sinks do not lack anything, as far as they can say after a restart.
        if *readable_heads && self.limits.quarantine {
            self.halt_notes.push(note);
        }
    }

    /// A sink takes a chain. Where it did not before, somebody has mended it.
    pub(super) fn note_progress(&mut self, sink: usize, id: u64) {
        if self.halts.is_empty() {
            return;
        }
        let Some(chain) = self.chains.get(&id).map(|chain| chain.chain.clone()) else { return };
        if self.halts.remove(&(sink, chain.clone())).is_some() && self.limits.quarantine {
            let sink = self.sinks[sink].name.clone();
            self.halt_notes.push(HaltNote { sink, chain, halted: None });
        }
    }

    /// A chain that is met again is halted where nobody can be asked how far it went.
    pub(super) fn halt_again(&mut self, id: u64) {
        if self.halts.is_empty() {
            return;
        }
        let Some(chain) = self.chains.get_mut(&id) else { return };
        for (at, (sink, lane)) in self.sinks.iter().zip(&mut chain.lanes).enumerate() {
            if !sink.readable_heads {
                lane.halted = self.halts.get(&(at, chain.chain.clone())).cloned();
            }
        }
    }

    /// Takes up what relays have noted before.
    pub(in crate::relay) fn recall_halts(&mut self, notes: impl IntoIterator<Item = HaltNote>) {
        let sinks = &self.sinks;
        self.halts.retain(|(sink, _), _| !sinks[*sink].readable_heads);
        for note in notes.into_iter().chain(self.halt_notes.clone()) {
            let Some(sink) = self.sinks.iter().position(|sink| sink.name == note.sink) else {
                continue;
            };
            match note.halted {
                Some(why) if self.halts.len() < self.limits.max_chains => {
                    self.halts.insert((sink, note.chain), why);
                }
                Some(_) => {}
                None => drop(self.halts.remove(&(sink, note.chain))),
            }
        }
    }
}
