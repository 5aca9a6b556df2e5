//! The suite that every sink passes, as it is, against its real server.
//!
//! A sink brings a [`Harness`]; [`sink_conformance!`](crate::sink_conformance) turns it into one
//! test for each line of the [contract](crate::sink), so that a line that does not hold is named by
//! the test that fails. Chains have random tenants: cases may run at the same time and against a
//! store that holds other things.
//!
//! ```
//! use std::sync::Arc;
//! use agent_audit_core::{
//!     conformance::Harness, memory::MemorySink, record::Record, sink::{ChainRef, Sink},
//! };
//!
//! #[derive(Default)]
//! struct Memory(MemorySink);
//!
//! #[async_trait::async_trait]
//! impl Harness for Memory {
//!     async fn sink(&self) -> Arc<dyn Sink> {
//!         Arc::new(self.0.clone())
//!     }
//!     async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
//!         self.0.records(chain)
//!     }
//! }
//!
//! #[cfg(test)]
//! mod conformance {
//!     agent_audit_core::sink_conformance!(super::Memory::default());
//! }
//! ```
//!
//! Where a server has to be configured, mark the tests as ignored, and let CI run ignored tests:
//! `sink_conformance!(#[ignore = "needs POSTGRES_URL"] Postgres::from_env().await)`.

#![allow(clippy::panic, reason = "a line of the contract that does not hold is a panic")]

mod cases;
mod chain;
mod content;
mod faults;
mod lost;
#[cfg(test)]
mod tests;

use std::{fmt, pin::Pin, sync::Arc};

use async_trait::async_trait;

pub use chain::{TestChain, chain};
pub use lost::lose_answers;

use crate::{
    record::Record,
    sink::{ChainRef, Sink},
};

/// What the suite needs to know of a sink and of the store behind it.
///
/// See the [module](self) for an example.
#[async_trait]
pub trait Harness: Send + Sync {
    /// A fresh handle on the same store, as a process has after a restart.
    async fn sink(&self) -> Arc<dyn Sink>;

    /// Every record that the store holds of a chain, in the order of positions, past the handles of
    /// [`sink`](Self::sink): what a reader finds, each event once.
    async fn read_back(&self, chain: &ChainRef) -> Vec<Record>;

    /// What the sink promises beyond the contract's core.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Credentials of the sink: no error may show them.
    fn credentials(&self) -> Vec<String> {
        Vec::new()
    }

    /// A handle that meets a fault at its next append to this chain, or `None` where the harness
    /// cannot make that one happen. Other tenants' chains stay sound.
    async fn faulty(&self, _fault: Fault, _chain: &ChainRef) -> Option<Arc<dyn Sink>> {
        None
    }

    /// Undoes what [`faulty`](Self::faulty) did.
    async fn mend(&self) {}
}

/// A fault that a harness can make happen. Each is tried: not persisted, and persisted.
///
/// ```
/// use agent_audit_core::conformance::Fault;
/// assert_ne!(Fault::BeforeCommit, Fault::AfterCommit);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The append fails, and the store holds nothing of it.
    BeforeCommit,
    /// The append fails, and the store holds all of it: the answer is lost.
    AfterCommit,
}

/// What a sink promises beyond the core of the contract; all of it where nothing else is said.
///
/// ```
/// use agent_audit_core::conformance::Capabilities;
/// let kafka = Capabilities::default().without_conflicts().without_order();
/// assert!(kafka.content && !kafka.conflicts);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// It notices another event at a stored position.
    pub conflicts: bool,
    /// It refuses a segment that does not follow what is stored.
    pub order: bool,
    /// It keeps the bodies of content, and not only the events.
    pub content: bool,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { conflicts: true, order: true, content: true }
    }
}

impl Capabilities {
    /// Leaves conflicts to the reader, as a log of messages does.
    #[must_use]
    pub fn without_conflicts(mut self) -> Self {
        self.conflicts = false;
        self
    }

    /// Takes segments as they come, as a log of messages does.
    #[must_use]
    pub fn without_order(mut self) -> Self {
        self.order = false;
        self
    }

    /// Keeps events without their content, as an observability back end does.
    #[must_use]
    pub fn without_content(mut self) -> Self {
        self.content = false;
        self
    }
}

/// Whether a case had something to test.
///
/// ```
/// use agent_audit_core::conformance::Applies;
/// assert_ne!(Applies::Yes, Applies::No);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third answer")]
pub enum Applies {
    /// It held.
    Yes,
    /// The harness does not have what the case is about.
    No,
}

/// One line of the contract.
///
/// ```
/// use agent_audit_core::conformance::CASES;
/// assert!(CASES.iter().any(|case| case.name == "an_acknowledgement_survives_a_restart"));
/// ```
#[non_exhaustive]
pub struct Case {
    /// The line, in words.
    pub name: &'static str,
    run: for<'h> fn(&'h dyn Harness) -> CaseFuture<'h>,
}

type CaseFuture<'h> = Pin<Box<dyn Future<Output = Applies> + Send + 'h>>;

impl Case {
    /// Tries the line.
    ///
    /// # Panics
    /// Where it does not hold.
    pub async fn run(&self, harness: &dyn Harness) -> Applies {
        (self.run)(harness).await
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Every line of the contract.
///
/// ```
/// assert!(agent_audit_core::conformance::CASES.len() > 20);
/// ```
pub const CASES: &[Case] = crate::__sink_cases!(list);

/// Tries the line of this name; a case that does not apply says so on the standard error.
#[doc(hidden)]
pub async fn __run(name: &str, harness: &dyn Harness) {
    use std::io::Write;

    let case = CASES.iter().find(|case| case.name == name).expect("the macro names known cases");
    if case.run(harness).await == Applies::No {
        // Past the capture of the test runner: what was not tested must be seen.
        let _ = writeln!(std::io::stderr(), "conformance: {name} does not apply to this sink");
    }
}

/// One `#[tokio::test]` for each line of the sink contract.
///
/// The argument is an expression that gives a [`Harness`]; it is evaluated once for each test and
/// may use `.await`. Attributes before it, as `#[ignore = "needs POSTGRES_URL"]`, go to every test.
/// The crate needs `tokio` with the features `macros`, `rt` and `time`. See the
/// [module](mod@crate::conformance).
///
/// [`Harness`]: crate::conformance::Harness
#[macro_export]
macro_rules! sink_conformance {
    // An expression may begin with an attribute too, so those before it are taken one by one.
    (@ [$($before:tt)*] #[$meta:meta] $($rest:tt)*) => {
        $crate::sink_conformance!(@ [$($before)* #[$meta]] $($rest)*);
    };
    (@ [$($before:tt)*] $harness:expr $(,)?) => {
        $crate::__sink_cases!(tests [$($before)*] [$harness]);
    };
    ($($all:tt)*) => {
        $crate::sink_conformance!(@ [] $($all)*);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __sink_cases {
    ($mode:ident $($arguments:tt)*) => {
        $crate::__sink_case! { $mode [$($arguments)*]
            an_acknowledgement_survives_a_restart
            closing_keeps_what_was_acknowledged
            the_same_segment_again_is_accepted_once
            an_overlapping_segment_is_accepted_once
            the_same_segment_twice_in_a_batch_is_accepted_once
            the_same_segment_through_two_handles_at_once_is_accepted_once
            segments_of_one_chain_in_one_batch_keep_their_order
            another_event_at_a_position_is_a_conflict
            a_conflict_names_the_first_position_that_differs
            a_conflict_stops_its_own_chain_alone
            a_hole_is_never_stored
            an_event_that_is_not_linked_is_never_stored
            a_chain_goes_on_from_its_head
            the_head_of_an_unknown_chain_is_none
            tenants_with_the_same_chain_id_are_apart
            many_chains_in_one_batch_are_all_stored
            a_segment_longer_than_a_batch_is_stored
            an_empty_batch_is_accepted
            check_writes_nothing
            content_of_every_size_comes_back
            content_in_every_state_comes_back
            content_of_any_bytes_comes_back
            content_that_went_since_is_no_conflict
            an_append_that_was_cancelled_is_made_good
            an_append_that_failed_before_it_was_stored_is_made_good
            an_append_whose_answer_was_lost_is_made_good
            a_fault_of_one_tenant_leaves_the_others_alone
            errors_show_neither_content_nor_credentials
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __sink_case {
    (list [] $($name:ident)*) => {
        &[$( Case { name: stringify!($name), run: |harness| Box::pin(cases::$name(harness)) } ),*]
    };
    (tests $arguments:tt) => {};
    (tests [[$($meta:tt)*] [$harness:expr]] $name:ident $($rest:ident)*) => {
        $($meta)*
        #[tokio::test]
        async fn $name() {
            let harness = $harness;
            $crate::conformance::__run(stringify!($name), &harness).await;
        }
        $crate::__sink_case! { tests [[$($meta)*] [$harness]] $($rest)* }
    };
}
