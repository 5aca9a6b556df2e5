//! Integrity over time: checkpoints of whole tenants, and the job that keeps watch over the stores.
//!
//! A verifier that is started once says whether what it is given is as it was written. It cannot say
//! what it is not given: a chain, or a tenant, that is gone with everything that spoke of it. A
//! [`Watch`] remembers. Each run of it
//!
//! 1. verifies what is new of every chain in every store, behind what an earlier run verified; a
//!    rolling share of the chains, and in every so many runs all of them, from the beginning; and a
//!    chain in which anything is wrong, too;
//! 2. compares the stores with each other, with the tenants' earlier checkpoints and, where they are
//!    given, with the writers' own;
//! 3. signs the next checkpoint of every tenant, of an idle one as well;
//! 4. signs a report, for a machine and for a person, and records the run as `integrity.verified` or
//!    `integrity.failed` in a log of its own;
//! 5. alerts where it did not find everything intact: by its exit code, by whatever [`Alert`]s it was
//!    given, and in metrics (feature `opentelemetry`).
//!
//! What to run where, with which rights, and what each finding means is in
//! [`docs/integrity.md`](https://github.com/agent-audit/agent-audit/blob/main/docs/integrity.md); the
//! bytes are in `docs/SPEC.md`.
//!
//! # The tenant checkpoint
//!
//! Each tenant has a log of [states](TenantState): the sorted set of its chains, each with size, root,
//! head and standing, and the hash of the state before. The leaf hashes of the states are under an
//! RFC 6962 tree, whose size and root are signed as a C2SP checkpoint, of the origin
//! `agent-audit/tenant/<random id>`. So a witness can cosign it, and of any two checkpoints it can be
//! proved that the later one continues the earlier ([`TenantCheckpoints`]).
//!
//! An entry says how far the chain has been verified without a fault in any of the stores. It never
//! goes back: a chain that was cut keeps its size here, and every run says that it was cut. A chain
//! that has never been verified without a fault is not in it, and is in the report.
//!
//! # Promises
//!
//! - A store that cannot be read, or disappears in the middle, MUST be "could not tell", and MUST NOT
//!   take anything away from what earlier runs knew.
//! - A number that a checkpoint was signed for MUST NOT be signed again: a log that was cut is not
//!   gone on with; another takes its place, and says what it follows.
//! - A run that dies leaves files that are whole, and the next one completes.
//! - What is kept in three places (the tenants' checkpoints, what the job remembers, the recorded
//!   reports) is held against each other: to put back one of them alone, or two, is found.
//!
//! # What it cannot see
//!
//! Whoever holds the job's key, its directory, its checkpoints and the store of its reports can write
//! all of them anew; an independent witness of the checkpoints cannot be. What was never delivered to
//! a store is not known here. Columns that a store extracts are not compared: `agent-audit verify`
//! does. Content that is sealed is not checked against its commitment without its key.

mod absent;
mod alert;
mod chain;
mod checkpoints;
mod copy;
mod disk;
mod docket;
mod ends;
mod error;
mod index;
mod judge;
mod known;
mod log;
mod memory;
#[cfg(feature = "opentelemetry")]
mod metrics;
mod options;
mod outcome;
mod record;
mod recorded;
mod report;
mod rows;
mod runs;
mod state;
mod tenant;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod watch;
#[cfg(feature = "webhook")]
mod webhook;
mod writers;

pub use alert::{Alert, AlertFinding, AlertMessage, AlertOutcome};
pub use checkpoints::TenantCheckpoints;
pub use docket::FindingCounts;
pub use error::{WatchError, WatchErrorKind};
pub use options::WatchBuilder;
pub use outcome::Outcome;
pub use report::{InvalidReport, ReportCounts, ReportedTenant, SignedReport, WatchReport};
pub use state::{ChainEntry, InvalidState, Standing, TenantState, tenant_origin};
pub use watch::Watch;
#[cfg(feature = "webhook")]
pub use webhook::Webhook;
