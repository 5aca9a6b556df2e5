//! How the relay is doing, as others see it.

use super::State;
use crate::relay::{
    chain::Chain,
    status::{Gap, PartitionStatus, RelaySinkStatus, RelayStatus},
};

impl State {
    pub(in crate::relay) fn status(&self) -> RelayStatus {
        let mut partitions: Vec<_> = self
            .partitions
            .values()
            .map(|partition| PartitionStatus {
                topic: partition.topic.clone(),
                partition: partition.partition,
                committed: partition.committed,
                position: partition.position(),
                end: partition.end,
                open: partition.open_messages(),
                paused: partition.paused,
                stuck_at: partition.stuck_at,
            })
            .collect();
        partitions.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let stopped = |sink: usize| {
            self.chains.values().filter(|chain| chain.lanes[sink].is_stopped()).count()
        };
        let sinks = self.sinks.iter().enumerate().map(|(at, sink)| RelaySinkStatus {
            name: sink.name.clone(),
            acknowledged: sink.acknowledged,
            failures: self.failures(at),
            last_error: sink.last_error.clone(),
            halted: stopped(at),
        });
        let gapped = self.gapped.iter().filter_map(|id| self.chains.get(id));
        RelayStatus {
            partitions,
            sinks: sinks.collect(),
            read: self.read,
            relayed: self.relayed,
            copies: self.copies,
            problems: self.problems,
            gaps: gapped.flat_map(|chain| self.gaps(chain)).collect(),
            latest_problems: self.latest.iter().cloned().collect(),
            last_error: self.last_error.clone(),
        }
    }

    /// What a chain waits for: once, where all sinks lack the same.
    fn gaps(&self, chain: &Chain) -> Vec<Gap> {
        let waiting = chain.lanes.iter().enumerate().filter(|(_, lane)| !lane.early.is_empty());
        let mut gaps: Vec<Gap> = waiting
            .map(|(sink, lane)| Gap {
                chain: chain.chain.clone(),
                missing: lane.next(),
                waiting: lane.early.len(),
                sink: Some(self.sinks[sink].name.clone()),
            })
            .collect();
        let same = gaps.iter().all(|gap| gap.missing == gaps[0].missing);
        if same && gaps.len() == self.sinks.len() {
            gaps.truncate(1);
            gaps[0].sink = None;
        }
        gaps
    }
}
