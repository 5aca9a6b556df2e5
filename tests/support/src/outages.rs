//! One suite of outages for all sinks: a real log, the sink and its real server, and a network
//! between them that fails.
//!
//! A sink brings an [`OutageHarness`]; [`outage_suite!`](crate::outage_suite) turns it into one test
//! for each outage. Every case opens a log of several tenants with the sink, by way of a
//! [`Proxy`](crate::proxy::Proxy); records before, during and after the outage; mends what was
//! broken and closes the log. Then
//!
//! - recording went on during the outage, and everything that was acknowledged is in the journal;
//! - closing left nothing undelivered;
//! - the store holds every event of the journal exactly once, in order, byte for byte; a sink that
//!   [promises](Promise) to deliver at least once may hold one again, the same bytes, later;
//! - the verifier, over the store, the journal and the signed checkpoints, finds nothing at all.
//!
//! ```
//! use std::{net::SocketAddr, sync::Arc};
//! use agent_audit_core::{memory::MemorySink, record::Record, sink::{ChainRef, Sink}};
//! use agent_audit_test_support::outages::OutageHarness;
//!
//! /// The store of this example has no server, so no outage will ever meet it.
//! struct Memory(MemorySink);
//!
//! #[async_trait::async_trait]
//! impl OutageHarness for Memory {
//!     fn upstream(&self) -> SocketAddr {
//!         ([127, 0, 0, 1], 5432).into()
//!     }
//!     async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
//!         // Here a client would be told to connect to `through`, with short timeouts.
//!         # let _ = through;
//!         Arc::new(self.0.clone())
//!     }
//!     async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
//!         self.0.records(chain)
//!     }
//! }
//!
//! #[cfg(test)]
//! mod outages {
//!     agent_audit_test_support::outage_suite!(
//!         #[ignore = "needs AUDIT_TEST_X: servers/with x -- cargo test -- --include-ignored"]
//!         super::Memory(Default::default())
//!     );
//! }
//! ```

mod cases;
mod ledger;
mod scene;
mod switch;
mod writer;

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use agent_audit_core::{
    conformance::Applies,
    record::Record,
    sink::{ChainRef, Sink},
};
use async_trait::async_trait;

use crate::{
    servers::Instance,
    service::{Request, Response},
};

/// How a sink is reached, and how what its store holds is read past it.
///
/// The expression that [`outage_suite!`](crate::outage_suite) is given makes one for each test, and
/// another in each process that a test starts: that process has the same environment, and finds in
/// [`inherited`] what [`handed_down`](Self::handed_down) said in the test.
///
/// See the [module](self) for an example.
#[async_trait]
pub trait OutageHarness: Send + Sync {
    /// Where the server listens. The proxy stands in front of it.
    fn upstream(&self) -> SocketAddr;

    /// A fresh sink that connects to `through` instead, as a process makes it at its start. Always
    /// under the same name, and with timeouts of about a second: the suite waits for several.
    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink>;

    /// Every record that the store holds of a chain, past the proxy, as the store keeps them: in its
    /// order, and one that it holds twice comes twice.
    async fn read_back(&self, chain: &ChainRef) -> Vec<Record>;

    /// How often the store may hold an event.
    fn promise(&self) -> Promise {
        Promise::ExactlyOnce
    }

    /// Whether the store keeps the bodies of content, and not only the events.
    fn keeps_content(&self) -> bool {
        true
    }

    /// How many bytes a client sends on a connection before its first append, at most: greetings,
    /// logins, questions for heads. Resets in the middle of a request come later than that.
    fn handshake_bytes(&self) -> u64 {
        4 << 10
    }

    /// Whether a sink can be made while its server cannot be reached.
    fn connects_lazily(&self) -> bool {
        true
    }

    /// A sink that the server does not let in, made while it can be reached; none where the server
    /// lets everybody in.
    async fn sink_with_wrong_credentials(&self, _through: SocketAddr) -> Option<Arc<dyn Sink>> {
        None
    }

    /// Takes from the sink's user what it may do, or gives it back, on the server itself, while the
    /// sink is at work; false where this harness cannot. The suite then exchanges the sink for
    /// [that with wrong credentials](Self::sink_with_wrong_credentials), and back.
    async fn set_rights(&self, _granted: bool) -> bool {
        false
    }

    /// How the store runs out of room.
    fn when_full(&self) -> WhenFull {
        WhenFull::Disk { spare: 64 << 20, restart: false }
    }

    /// A harness like this one on a server of its own, which the suite may kill, and whose disk it may
    /// fill; none where there is no such server.
    async fn on_own_server(&self) -> Option<Box<dyn OutageHarness>> {
        None
    }

    /// The server that belongs to this harness alone.
    fn server(&self) -> Option<&Instance> {
        None
    }

    /// Where the proxy has to listen, for a server that tells its clients where to connect. Cases
    /// with the same address run one after another.
    fn listen(&self) -> Option<SocketAddr> {
        None
    }

    /// How long the suite waits for what comes by itself, before it calls that missing; long enough
    /// for a machine that is busy with other things.
    fn patience(&self) -> Duration {
        Duration::from_secs(120)
    }

    /// What a process that the suite starts has to know to find the same store: the name of a
    /// schema, topic, queue or bucket that was made up here.
    fn handed_down(&self) -> String {
        String::new()
    }
}

/// What [`OutageHarness::handed_down`] said in the test that started this process; none in the test
/// itself.
///
/// ```
/// use agent_audit_test_support::outages::inherited;
/// let schema = inherited().unwrap_or_else(|| "a fresh name".to_owned());
/// assert_eq!(schema, "a fresh name");
/// ```
#[must_use]
pub fn inherited() -> Option<String> {
    writer::Orders::given().map(|orders| orders.handed_down)
}

/// How often a store may hold an event.
///
/// ```
/// use agent_audit_test_support::outages::Promise;
/// assert_ne!(Promise::ExactlyOnce, Promise::AtLeastOnce);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third promise to make")]
pub enum Promise {
    /// Once, whatever happens.
    ExactlyOnce,
    /// Once or more, the same bytes; what came first is in order.
    AtLeastOnce,
}

/// How a store runs out of room, for the outage in which it does.
///
/// ```
/// use agent_audit_test_support::{outages::WhenFull, service::Response};
/// use serde_json::json;
/// /// As a service says that it takes nothing more at present.
/// let busy = WhenFull::Answer(|request| {
///     let writes = request.method == "POST";
///     writes.then(|| Response::json(503, &json!({ "__type": "ServiceUnavailable" })))
/// });
/// assert!(matches!(busy, WhenFull::Answer(_)));
/// ```
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum WhenFull {
    /// The suite puts the state of the harness's [own server](OutageHarness::on_own_server) on a small
    /// disk and fills that. A server that ends because of it is started again when there is room.
    Disk {
        /// How many bytes the server has for itself before that.
        spare: u64,
        /// Whether it has to be started again when there is room, also where it has not ended.
        restart: bool,
    },
    /// Nobody can fill the disk of the service, or there is none to fill: while it is full, this is
    /// what comes back instead of what the real one answers, which does not get the request. Over
    /// HTTP alone.
    Answer(fn(&Request) -> Option<Response>),
    /// It has no room that could be used up.
    Never,
}

/// One outage.
#[non_exhaustive]
pub struct Case {
    /// The outage, in words.
    pub name: &'static str,
    run: for<'h> fn(&'h dyn OutageHarness, &'h str) -> CaseFuture<'h>,
}

type CaseFuture<'h> = Pin<Box<dyn Future<Output = Applies> + Send + 'h>>;

impl Case {
    /// Goes through the outage. `writer` is the full name of the test that is the writing process:
    /// `outage_writer` in the module where the suite is.
    ///
    /// # Panics
    /// Where something is lost, doubled, changed or out of order.
    pub async fn run(&self, harness: &dyn OutageHarness, writer: &str) -> Applies {
        (self.run)(harness, writer).await
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// Every outage.
///
/// ```
/// use agent_audit_test_support::outages::CASES;
/// assert!(CASES.iter().any(|case| case.name == "connections_are_refused"));
/// ```
pub const CASES: &[Case] = crate::__outage_cases!(list);

/// Makes the harness and goes through the outage of this name, in a runtime of its own. A case that
/// does not apply says so on the standard error.
#[doc(hidden)]
pub fn __run<H: OutageHarness + 'static>(
    name: &str,
    module: &str,
    harness: impl Future<Output = H>,
) {
    use std::io::Write as _;

    let case = CASES.iter().find(|case| case.name == name).expect("the macro names known cases");
    // Tests are named without the crate.
    let writer = match module.split_once("::") {
        Some((_, module)) => format!("{module}::outage_writer"),
        None => "outage_writer".to_owned(),
    };
    let applies = runtime().block_on(async {
        let harness = harness.await;
        case.run(&harness, &writer).await
    });
    if applies == Applies::No {
        // Past the capture of the test runner: what was not tested must be seen.
        let _ = writeln!(std::io::stderr(), "outages: {name} does not apply to this sink");
    }
}

/// The writing process that a case starts and kills; in every other process nothing.
#[doc(hidden)]
pub fn __write<H: OutageHarness + 'static>(harness: impl Future<Output = H>) {
    if let Some(orders) = writer::Orders::given() {
        runtime().block_on(async { writer::run(&harness.await, orders).await });
    }
}

/// Clients have tasks of their own, which have to go on while a test waits for something.
fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// One test for each outage.
///
/// The argument is an expression that gives an [`OutageHarness`]; it is evaluated once for each test
/// and may use `.await`. Attributes before it, as `#[ignore = "needs AUDIT_TEST_POSTGRES: …"]`, go to
/// every test. Use it once in a module. The test `outage_writer` that appears beside them is the
/// process that some of them start and kill; by itself it does nothing. See the
/// [module](mod@crate::outages).
///
/// [`OutageHarness`]: crate::outages::OutageHarness
#[macro_export]
macro_rules! outage_suite {
    // An expression may begin with an attribute too, so those before it are taken one by one.
    (@ [$($before:tt)*] #[$meta:meta] $($rest:tt)*) => {
        $crate::outage_suite!(@ [$($before)* #[$meta]] $($rest)*);
    };
    (@ [$($before:tt)*] $harness:expr $(,)?) => {
        $crate::__outage_cases!(tests [$($before)*] [$harness]);

        /// The process that others start and kill.
        #[test]
        fn outage_writer() {
            $crate::outages::__write(async { $harness });
        }
    };
    ($($all:tt)*) => {
        $crate::outage_suite!(@ [] $($all)*);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __outage_cases {
    ($mode:ident $($arguments:tt)*) => {
        $crate::__outage_case! { $mode [$($arguments)*]
            connections_are_refused
            connections_are_reset_at_once
            connections_are_reset_in_mid_request
            answers_are_lost_after_the_commit
            the_network_is_slow
            the_network_hangs
            answers_never_come_back
            the_log_opens_while_the_server_is_away
            the_log_closes_during_an_outage
            credentials_are_wrong_for_a_while
            rights_are_withdrawn_during_the_work
            the_store_is_full_for_a_while
            the_server_is_killed_and_comes_back
            the_writer_is_killed_while_connections_are_refused
            the_writer_is_killed_while_connections_are_reset_in_mid_request
            the_writer_is_killed_while_answers_are_lost_after_the_commit
            the_writer_is_killed_while_the_network_is_slow
            the_writer_is_killed_while_the_network_hangs
            the_writer_is_killed_while_answers_never_come_back
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __outage_case {
    (list [] $($name:ident)*) => {
        &[$(
            Case {
                name: stringify!($name),
                run: |harness, writer| Box::pin(cases::$name(harness, writer)),
            }
        ),*]
    };
    (tests $arguments:tt) => {};
    (tests [[$($meta:tt)*] [$harness:expr]] $name:ident $($rest:ident)*) => {
        #[test]
        $($meta)*
        fn $name() {
            $crate::outages::__run(stringify!($name), module_path!(), async { $harness });
        }
        $crate::__outage_case! { tests [[$($meta)*] [$harness]] $($rest)* }
    };
}
