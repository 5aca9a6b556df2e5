//! The records of one chain, as they come.

use agent_audit_core::{chain::ChainRef, record::Record, sink::SinkError};

use super::{S3Archive, walk::Walk};

/// The records of a chain from a position on, in order, each with its position.
///
/// ```no_run
/// use agent_audit_core::chain::ChainRef;
/// use agent_audit_s3::S3Archive;
/// # async fn example(archive: S3Archive, chain: ChainRef) -> Result<(), Box<dyn std::error::Error>> {
/// let mut records = archive.records(&chain, 0);
/// while let Some(record) = records.next().await {
///     let (position, record) = record?;
///     assert_eq!(record.view()?.sequence, position);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Records {
    archive: S3Archive,
    chain: ChainRef,
    from: u64,
    walk: Option<Walk>,
    ready: std::vec::IntoIter<(u64, Record)>,
    ended: bool,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl Records {
    pub(super) fn new(archive: S3Archive, chain: ChainRef, from: u64) -> Self {
        Self { archive, chain, from, walk: None, ready: Vec::new().into_iter(), ended: false }
    }

    /// The next record; `None` behind the last one, and behind an error.
    pub async fn next(&mut self) -> Option<Result<(u64, Record), SinkError>> {
        loop {
            if let Some((position, record)) = self.ready.next() {
                if position < self.from {
                    continue;
                }
                return Some(Ok((position, record)));
            }
            if self.ended {
                return None;
            }
            match self.more().await {
                Ok(true) => {}
                Ok(false) => self.ended = true,
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }

    async fn more(&mut self) -> Result<bool, SinkError> {
        let walk = match &mut self.walk {
            Some(walk) => walk,
            None => self.walk.insert(Walk::whole(&self.archive, &self.chain, self.from).await?),
        };
        let Some(found) = walk.next().await? else { return Ok(false) };
        found.sound()?;
        let first = found.manifest.map_or(0, |signed| signed.manifest.first);
        let records: Vec<_> =
            (first..).zip(found.rows.into_iter().map(|(record, _)| record)).collect();
        self.ready = records.into_iter();
        Ok(true)
    }
}
