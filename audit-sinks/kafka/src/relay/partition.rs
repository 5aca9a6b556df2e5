//! How far the offsets of a partition may be committed.

use std::collections::{BTreeMap, HashMap};

use agent_audit_core::sink::ChainRef;

/// A partition that is read here.
#[derive(Debug)]
pub(super) struct Partition {
    pub(super) topic: String,
    pub(super) partition: i32,
    /// The chains that were met in it.
    pub(super) chains: HashMap<ChainRef, u64>,
    /// The offset behind the last message.
    position: Option<i64>,
    /// Offsets that may not be passed, and for how many reasons.
    open: BTreeMap<i64, u32>,
    /// The first message that could not be brought anywhere: offsets stay here until a restart.
    pub(super) stuck_at: Option<i64>,
    pub(super) committed: Option<i64>,
    /// The offset behind the last message in the topic, as far as is known.
    pub(super) end: Option<i64>,
    /// The bytes of events that are held.
    pub(super) bytes: usize,
    pub(super) paused: bool,
}

impl Partition {
    pub(super) fn new(topic: String, partition: i32) -> Self {
        Self {
            topic,
            partition,
            chains: HashMap::new(),
            position: None,
            open: BTreeMap::new(),
            stuck_at: None,
            committed: None,
            end: None,
            bytes: 0,
            paused: false,
        }
    }

    /// Notes a message; its offset may not be passed before it is closed.
    pub(super) fn read(&mut self, offset: i64) {
        self.position = Some(offset.saturating_add(1));
        self.open(offset);
    }

    /// One more reason not to pass an offset.
    pub(super) fn open(&mut self, offset: i64) {
        *self.open.entry(offset).or_default() += 1;
    }

    /// One reason less.
    pub(super) fn close(&mut self, offset: i64) {
        if let Some(reasons) = self.open.get_mut(&offset) {
            *reasons -= 1;
            if *reasons == 0 {
                self.open.remove(&offset);
            }
        }
    }

    /// Never passes this offset.
    pub(super) fn stick(&mut self, offset: i64) {
        self.stuck_at = Some(self.stuck_at.map_or(offset, |at| at.min(offset)));
    }

    /// The offset to commit: every message before it is where it belongs.
    pub(super) fn committable(&self) -> Option<i64> {
        let open = self.open.keys().next().copied();
        [open, self.stuck_at]
            .into_iter()
            .flatten()
            .chain(self.position)
            .min()
            .filter(|_| self.position.is_some())
    }

    /// Whether there is something new to commit.
    pub(super) fn to_commit(&self) -> Option<i64> {
        self.committable().filter(|offset| self.committed.is_none_or(|known| known < *offset))
    }

    pub(super) fn position(&self) -> Option<i64> {
        self.position
    }

    /// Messages that were read and may not be passed yet.
    pub(super) fn open_messages(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_offset_is_passed_before_it_is_closed() {
        let mut partition = Partition::new("t".to_owned(), 0);
        assert_eq!(partition.to_commit(), None);
        for offset in [10, 11, 14] {
            partition.read(offset);
        }
        assert_eq!(partition.committable(), Some(10));
        partition.close(11);
        assert_eq!(partition.committable(), Some(10));
        partition.open(10);
        partition.close(10);
        assert_eq!(partition.committable(), Some(10), "there was another reason");
        partition.close(10);
        assert_eq!(partition.committable(), Some(14));
        partition.close(14);
        assert_eq!(partition.to_commit(), Some(15));
        partition.committed = Some(15);
        assert_eq!(partition.to_commit(), None);
    }

    #[test]
    fn a_message_without_a_place_is_never_passed() {
        let mut partition = Partition::new("t".to_owned(), 0);
        for offset in 0..5 {
            partition.read(offset);
            partition.close(offset);
            if matches!(offset, 2 | 3) {
                partition.stick(offset);
            }
        }
        assert_eq!(partition.committable(), Some(2));
    }
}
