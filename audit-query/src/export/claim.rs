//! What an export claims to leave out nothing of, and what that is worth.

use std::fmt;

use agent_audit_core::id::ChainId;
use serde::{Deserialize, Serialize};

use crate::{Filter, Predicate, completeness::Criteria};

/// What an export claims to leave out nothing of.
///
/// ```
/// # use agent_audit_query::export::{Claim, example};
/// # let dir = tempfile::tempdir()?;
/// assert_eq!(example(dir.path())?.manifest.completeness, Claim::Positions);
/// assert!(Claim::None.to_string().contains("cannot be shown"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Claim {
    /// Every position that was asked for, of every chain in it, up to the chain's checkpoint: the
    /// inclusion proofs show it.
    Positions,
    /// Every event that matches, up to the checkpoint of its chain: signed indexes show it.
    Index,
    /// Nothing: that no event which matches was left out cannot be shown.
    None,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Positions => {
                "of each chain in it, every event at the positions asked for is in the export, up to \
                 the chain's signed checkpoint; that the tenant has no further chain is not shown"
            }
            Self::Index => {
                "of each chain in it, every event that matches is in the export, as far as the signed \
                 indexes of the chain reach; that the tenant has no further chain is not shown"
            }
            Self::None => {
                "each event in the export was recorded; that no other event matches cannot be shown \
                 for a question of this kind"
            }
        })
    }
}

/// Positions of chains, where a filter asks for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Positions {
    /// The chains that are named; every chain where none is.
    pub(super) chains: Option<Vec<ChainId>>,
    /// The first position asked for.
    pub(super) from: u64,
    /// The position behind the last one asked for.
    pub(super) to: u64,
}

impl Positions {
    /// Nothing where the filter asks for more than chains and positions.
    pub(super) fn of(filter: &Filter) -> Option<Self> {
        let mut positions = Self { chains: None, from: 0, to: u64::MAX };
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        for predicate in filter.predicates() {
            match predicate {
                Predicate::AnyOf { column: "chain_id", values } => {
                    let chains = values.into_iter().map(|value| ChainId::new(value).ok());
                    positions.chains = Some(chains.collect::<Option<_>>()?);
                }
                Predicate::AtLeast { column: "sequence", value } => positions.from = number(value),
                Predicate::Below { column: "sequence", value } => positions.to = number(value),
                _ => return None,
            }
        }
        Some(positions)
    }
}

/// What a question can be proved complete by.
pub(super) fn provable(filter: &Filter) -> Claim {
    if Positions::of(filter).is_some() {
        Claim::Positions
    } else if Criteria::from_filter(filter).is_ok() {
        Claim::Index
    } else {
        Claim::None
    }
}
