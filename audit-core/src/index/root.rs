//! The line of a checkpoint that commits to an index.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::MAX_EVENTS;
use crate::{
    checkpoint::{Checkpoint, parse_size},
    hash::Hash,
};

const NAME: &str = "agent-audit-index/1";

/// The most indexes that one checkpoint commits to.
pub(super) const MAX_ROOTS: usize = 1_024;

/// What a checkpoint says of the index of one interval: `Display` writes the extension line, and
/// `FromStr` reads exactly that.
///
/// ```
/// use agent_audit_core::index::IndexRoot;
/// let line = "agent-audit-index/1 3 7 2 S/J3I1JMl4bw1hN7+Z6k84xvU6rv0BxVMy2W6H0Jc3U=";
/// let root: IndexRoot = line.parse()?;
/// assert_eq!((root.from, root.size, root.entries), (3, 7, 2));
/// assert_eq!(root.to_string(), line);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "the version of the line fixes what it says")]
pub struct IndexRoot {
    /// The first position of the interval.
    pub from: u64,
    /// The position behind the last of it.
    pub size: u64,
    /// How many entries the index has.
    pub entries: u64,
    /// The root over them.
    pub root: Hash,
}

impl IndexRoot {
    /// The indexes that a checkpoint commits to, in order; none where the writer made none.
    ///
    /// Extension lines of other kinds are passed over.
    ///
    /// # Errors
    /// [`InvalidIndexRoot`] where a line is not as specified, or the lines do not join, or do not end
    /// at the size of the checkpoint.
    ///
    /// ```
    /// use agent_audit_core::{checkpoint::Checkpoint, index::IndexRoot, tree::EMPTY_ROOT};
    /// let checkpoint = Checkpoint::new("example.com/log", 0, EMPTY_ROOT);
    /// assert_eq!(IndexRoot::all_of(&checkpoint)?, []);
    /// # Ok::<(), agent_audit_core::index::InvalidIndexRoot>(())
    /// ```
    pub fn all_of(checkpoint: &Checkpoint) -> Result<Vec<Self>, InvalidIndexRoot> {
        let ours = |line: &&String| line.split(' ').next() == Some(NAME);
        let lines = checkpoint.extensions.iter().filter(ours);
        let roots: Vec<Self> = lines.map(|line| line.parse()).collect::<Result<_, _>>()?;
        if roots.len() > MAX_ROOTS {
            return Err(InvalidIndexRoot("the checkpoint has too many indexes"));
        }
        if roots.windows(2).any(|pair| pair[0].size != pair[1].from) {
            return Err(InvalidIndexRoot("the indexes of the checkpoint do not join"));
        }
        if roots.last().is_some_and(|last| last.size != checkpoint.size) {
            return Err(InvalidIndexRoot("the indexes do not end at the size of the checkpoint"));
        }
        Ok(roots)
    }

    /// Whether the interval has this position.
    #[must_use]
    pub fn covers(&self, position: u64) -> bool {
        (self.from..self.size).contains(&position)
    }
}

impl fmt::Display for IndexRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, size, entries, root } = self;
        write!(f, "{NAME} {from} {size} {entries} {}", STANDARD.encode(root.as_bytes()))
    }
}

impl FromStr for IndexRoot {
    type Err = InvalidIndexRoot;

    fn from_str(line: &str) -> Result<Self, InvalidIndexRoot> {
        let fault = InvalidIndexRoot;
        let fields: Vec<&str> = line.split(' ').collect();
        let [NAME, from, size, entries, root] = fields[..] else {
            return Err(fault("the line has not the five fields of an index"));
        };
        let number = |text| parse_size(text).ok_or(fault("a number of the line is not in decimal"));
        let root = STANDARD.decode(root).ok().and_then(|bytes| bytes.try_into().ok());
        let root = Self {
            from: number(from)?,
            size: number(size)?,
            entries: number(entries)?,
            root: Hash::from_bytes(root.ok_or(fault("the root is not the base64 of 32 bytes"))?),
        };
        if root.from >= root.size || root.size - root.from > MAX_EVENTS {
            return Err(fault("the interval is empty or has too many events"));
        }
        if root.entries == 0 {
            return Err(fault("an index of events has entries"));
        }
        Ok(root)
    }
}

/// A line of a checkpoint that is not as specified.
///
/// ```
/// use agent_audit_core::index::IndexRoot;
/// let error = "agent-audit-index/1 7 7 0 ".parse::<IndexRoot>().unwrap_err();
/// assert_eq!(error.to_string(), "the root is not the base64 of 32 bytes");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidIndexRoot(&'static str);
