//! The sink: batches of all tenants, each in as few statements as there can be.

mod call;
mod months;
mod prepared;

use std::{collections::HashMap, sync::Arc};

use agent_audit_core::{
    hash::Hash,
    sink::{
        Batch, BatchAck, ChainRef, Head, SegmentOutcome, Sink, SinkError, SinkErrorKind, SinkInfo,
    },
};
use tokio::time::timeout;

use crate::{
    config::PostgresConfig,
    error::Fault,
    pool::{Lease, Pool},
    store::schema,
};
use call::{Answer, append};
use months::Months;
use prepared::Prepared;

/// Keeps the events of all tenants in one database.
///
/// Segments of different chains go to the server in one statement, which is one transaction. Where the
/// database refuses that statement for what is in it, it is tried again in halves, until the segment at
/// fault is alone. A call that is cancelled may still be carried out; the same segment again is
/// accepted once.
///
/// ```
/// use agent_audit_core::sink::Sink;
/// use agent_audit_postgres::{PostgresConfig, PostgresSink};
/// let config = PostgresConfig::new("postgres://agent_1@localhost/ledger").with_name("ledger");
/// let sink = PostgresSink::new(config)?;
/// assert_eq!((sink.info().name.as_str(), sink.info().kind), ("ledger", "postgres"));
/// assert!(sink.info().readable_heads);
/// # Ok::<(), agent_audit_core::sink::SinkError>(())
/// ```
#[derive(Debug)]
pub struct PostgresSink {
    info: SinkInfo,
    pool: Arc<Pool>,
    months: Months,
}

/// The most bytes of one statement that holds more than one segment: what the server needs for it is a
/// few times that.
const CALL_BYTES: usize = 32 << 20;

impl PostgresSink {
    /// A sink as configured. Connects when it is first used.
    ///
    /// # Errors
    /// [`SinkError`] where the URL or the certificates cannot be read.
    pub fn new(config: PostgresConfig) -> Result<Self, SinkError> {
        let info = SinkInfo::new(config.name.clone(), "postgres").with_readable_heads();
        let months = Months::new(config.partitions_ahead);
        Ok(Self { info, pool: Arc::new(Pool::for_writing(&config)?), months })
    }
}

#[async_trait::async_trait]
impl Sink for PostgresSink {
    fn info(&self) -> &SinkInfo {
        &self.info
    }

    async fn append(&self, batch: &Batch) -> Result<BatchAck, SinkError> {
        let mut outcomes: Vec<Option<SegmentOutcome>> = Vec::new();
        outcomes.resize_with(batch.segments().len(), || None);
        let mut prepared = Vec::with_capacity(batch.segments().len());
        for (place, segment) in batch.segments().iter().enumerate() {
            match Prepared::new(place, segment) {
                Ok(segment) => prepared.push(segment),
                Err(fault) => outcomes[place] = Some(failed(&fault)),
            }
        }
        if !prepared.is_empty() {
            let mut writing = Writing {
                lease: self.pool.lease().await?,
                outcomes: &mut outcomes,
                waiting: HashMap::new(),
            };
            self.months.ensure(&writing.lease).await;
            for call in calls(&prepared) {
                writing.call(&call).await;
            }
            writing.finish();
        }
        // Each segment was refused at once, or was part of a call.
        let missing = || failed(&Fault::new(SinkErrorKind::Other, "append: it was left out"));
        Ok(BatchAck::new(outcomes.into_iter().map(|o| o.unwrap_or_else(missing)).collect()))
    }

    async fn head(&self, chain: &ChainRef) -> Result<Option<Head>, SinkError> {
        const SQL: &str = "SELECT sequence, event_hash FROM agent_audit.audit_head($1, $2)";
        let doing = format!("read the head of chain {chain}");
        let mut lease = self.pool.lease().await?;
        let patience = lease.patience();
        let asked = timeout(patience, async {
            let statement = lease.prepare(SQL).await?;
            let (tenant, chain) = (chain.tenant_id.as_str(), chain.chain_id.as_str());
            lease.client().query_opt(&statement, &[&tenant, &chain]).await
        });
        let row = asked
            .await
            .map_err(|_| Fault::timeout(&doing))?
            .map_err(|error| Fault::postgres(&error, &doing))?;
        lease.give_back();
        let damaged = || Fault::new(SinkErrorKind::Corrupt, format!("{doing}: it is none"));
        row.map(|row| {
            let sequence: i64 = row.try_get(0).map_err(|_| damaged())?;
            let hash: &[u8] = row.try_get(1).map_err(|_| damaged())?;
            let sequence = sequence.try_into().map_err(|_| damaged())?;
            let hash = hash.try_into().map_err(|_| damaged())?;
            Ok(Head::new(sequence, Hash::from_bytes(hash)))
        })
        .transpose()
    }

    async fn check(&self) -> Result<(), SinkError> {
        let lease = self.pool.lease().await?;
        let checked = timeout(lease.patience(), schema::check_writer(lease.client()));
        checked.await.map_err(|_| Fault::timeout("check the database"))??;
        self.months.ensure(&lease).await;
        lease.give_back();
        Ok(())
    }

    /// Closes the connections that are at rest. A later call connects again.
    async fn close(&self) -> Result<(), SinkError> {
        self.pool.close();
        Ok(())
    }
}

fn failed(fault: &Fault) -> SegmentOutcome {
    SegmentOutcome::Failed { error: fault.clone().into() }
}

/// Segments that go in one statement: none of them of the same chain, which keeps the segments of a
/// chain in their order.
fn calls<'a>(prepared: &'a [Prepared<'a>]) -> Vec<Vec<&'a Prepared<'a>>> {
    let mut calls: Vec<(usize, Vec<&Prepared<'_>>)> = Vec::new();
    let mut earliest: HashMap<&ChainRef, usize> = HashMap::new();
    for segment in prepared {
        let earliest = earliest.entry(segment.chain()).or_default();
        let fits = |(bytes, _): &(usize, _)| bytes + segment.bytes() <= CALL_BYTES;
        let at = calls.iter().skip(*earliest).position(fits).map(|at| at + *earliest);
        let at = at.unwrap_or_else(|| {
            calls.push((0, Vec::new()));
            calls.len() - 1
        });
        calls[at].0 += segment.bytes();
        calls[at].1.push(segment);
        *earliest = at + 1;
    }
    calls.into_iter().map(|(_, call)| call).collect()
}

/// A batch on its way to the server.
struct Writing<'a, 'p> {
    lease: Lease,
    outcomes: &'a mut Vec<Option<SegmentOutcome>>,
    /// Chains of which an earlier segment has to come again, and why.
    waiting: HashMap<&'p ChainRef, Fault>,
}

impl<'p> Writing<'_, 'p> {
    async fn call(&mut self, segments: &[&'p Prepared<'p>]) {
        let mut segments = segments.to_vec();
        segments.retain(|segment| match self.waiting.get(segment.chain()) {
            Some(fault) => {
                self.outcomes[segment.place()] = Some(failed(fault));
                false
            }
            None => true,
        });
        let mut parts = vec![segments];
        while let Some(part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let answer = match append(&mut self.lease, &part).await {
                Ok(answers) => Ok(answers),
                Err(fault) if fault.is_about_data() && part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    parts.push(right.to_vec());
                    parts.push(left.to_vec());
                    continue;
                }
                Err(fault) => Err(fault),
            };
            for (at, segment) in part.into_iter().enumerate() {
                let outcome = match &answer {
                    Ok(answers) => self.outcome(segment, answers.get(at)),
                    Err(fault) => {
                        if !fault.is_about_data() {
                            // What was in flight is unknown, what was behind it was not sent.
                            let behind = fault.clone().with_maybe_applied(false);
                            self.waiting.insert(segment.chain(), behind);
                        }
                        failed(fault)
                    }
                };
                self.outcomes[segment.place()] = Some(outcome);
            }
        }
    }

    fn outcome(&mut self, segment: &'p Prepared<'p>, answer: Option<&Answer>) -> SegmentOutcome {
        let chain = segment.chain();
        let fault = match answer {
            Some(Answer::Stored) => return SegmentOutcome::Accepted,
            Some(Answer::Conflict { sequence }) => {
                return SegmentOutcome::Conflict { sequence: *sequence };
            }
            Some(Answer::Busy) => {
                let text = format!("append to chain {chain}: another transaction holds the chain");
                let fault = Fault::new(SinkErrorKind::Unavailable, text);
                self.waiting.insert(chain, fault.clone());
                fault
            }
            Some(Answer::Gone { sequence }) => Fault::new(
                SinkErrorKind::Corrupt,
                format!(
                    "append to chain {chain}: event {sequence} was stored and is gone: verify the \
                     chain, and attach its month again where that was detached"
                ),
            ),
            Some(Answer::Detached { head }) => match segment.segment().attach(*head) {
                Err(detached) => return SegmentOutcome::Failed { error: detached.into() },
                Ok(_) => Fault::new(
                    SinkErrorKind::Corrupt,
                    format!("append to chain {chain}: the database does not take what attaches"),
                ),
            },
            None => Fault::new(
                SinkErrorKind::Other,
                format!("append to chain {chain}: the database does not say what became of it"),
            )
            .with_maybe_applied(true),
        };
        failed(&fault)
    }

    fn finish(self) {
        self.lease.give_back();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::conformance::TestChain;

    use super::*;

    #[test]
    fn segments_of_one_chain_are_in_different_calls_in_their_order() {
        let (mut one, mut two) = (TestChain::new(), TestChain::new());
        let batch = [one.extend(3), two.extend(2), one.extend(4), two.extend(1), one.extend(1)];
        let prepared: Vec<_> =
            batch.iter().enumerate().map(|(at, s)| Prepared::new(at, s).unwrap()).collect();
        let calls = calls(&prepared);
        let places: Vec<Vec<usize>> =
            calls.iter().map(|call| call.iter().map(|s| s.place()).collect()).collect();
        assert_eq!(places, [vec![0, 1], vec![2, 3], vec![4]]);
    }
}
