//! The same store as a process of its own, which is killed and comes back.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use agent_audit_core::{
    conformance::Applies,
    record::Record,
    sink::{ChainRef, Sink},
};
use agent_audit_test_support::{
    outages::{CASES, OutageHarness},
    servers::Instance,
};
use async_trait::async_trait;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::framed::{Flaw, FramedSink, Shelf, serve};

const FILE: &str = "FRAMED_FILE";
const ADDRESS: &str = "FRAMED_ADDRESS";

/// The process of the server; where nobody starts it as one it does nothing.
#[test]
fn framed_server() {
    let (Ok(file), Ok(address)) = (std::env::var(FILE), std::env::var(ADDRESS)) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await.unwrap();
        serve(listener, Arc::new(Shelf::of_file(Path::new(&file))), Flaw::None).await;
    });
}

/// What the suite is given: nothing but the way to a server of its own.
struct Anybody {
    script: PathBuf,
    flaw: Flaw,
}

/// A store in a process.
struct Own {
    server: Instance,
    flaw: Flaw,
}

impl Anybody {
    fn new(scripts: &TempDir, flaw: Flaw) -> Self {
        let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../servers/lib.sh");
        let script = scripts.path().join("framed");
        let body = format!(
            "#!/usr/bin/env bash\n\
             source {lib}\n\
             install() {{ :; }}\n\
             start() {{\n\
               local address\n\
               address=127.0.0.1:$(keep_port \"$1\" main)\n\
               {FILE}=$1/records {ADDRESS}=$address spawn \"$1/pid\" \\\n\
                 {program} process::framed_server --exact --nocapture\n\
               wait_for_server \"$1/pid\" 60 listens \"${{address##*:}}\"\n\
               export_variable AUDIT_TEST_FRAMED \"$address\"\n\
             }}\n\
             stop() {{ stop_pid \"$1/pid\" \"$2\"; }}\n\
             serve \"$@\"\n",
            lib = lib.display(),
            program = std::env::current_exe().unwrap().display(),
        );
        fs::write(&script, body).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        Self { script, flaw }
    }
}

#[async_trait]
impl OutageHarness for Anybody {
    fn upstream(&self) -> SocketAddr {
        panic!("the suite asks the server of its own")
    }
    async fn sink(&self, _: SocketAddr) -> Arc<dyn Sink> {
        panic!("the suite asks the server of its own")
    }
    async fn read_back(&self, _: &ChainRef) -> Vec<Record> {
        panic!("the suite asks the server of its own")
    }
    async fn on_own_server(&self) -> Option<Box<dyn OutageHarness>> {
        let server = tokio::task::block_in_place(|| Instance::start_by(&self.script));
        Some(Box::new(Own { server, flaw: self.flaw }))
    }
}

#[async_trait]
impl OutageHarness for Own {
    fn upstream(&self) -> SocketAddr {
        self.server.variable("AUDIT_TEST_FRAMED").parse().unwrap()
    }
    async fn sink(&self, through: SocketAddr) -> Arc<dyn Sink> {
        Arc::new(FramedSink::new(through))
    }
    async fn read_back(&self, chain: &ChainRef) -> Vec<Record> {
        let mut records = Shelf::of_file(&self.server.directory().join("records")).read(chain);
        if self.flaw == Flaw::DropsABatch {
            // As a store that had said that it is durable, and was not.
            records.remove(records.len() / 2);
        }
        records
    }
    fn server(&self) -> Option<&Instance> {
        Some(&self.server)
    }
}

/// Goes through a case; none where it does not hold.
async fn go_through(case: &str, flaw: Flaw) -> Option<Applies> {
    let scripts = tempfile::tempdir().unwrap();
    let harness = Anybody::new(&scripts, flaw);
    let case = CASES.iter().find(|known| known.name == case).expect("a case of that name");
    let run = tokio::spawn(async move { case.run(&harness, "nobody is started").await });
    run.await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_comes_back_with_everything() {
    let case = "the_server_is_killed_and_comes_back";
    assert_eq!(go_through(case, Flaw::None).await, Some(Applies::Yes));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_comes_back_with_less_is_seen() {
    assert_eq!(go_through("the_server_is_killed_and_comes_back", Flaw::DropsABatch).await, None);
}

/// Where nobody may mount a disk the case does not apply, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_full_has_everything_afterwards() {
    assert!(go_through("the_store_is_full_for_a_while", Flaw::None).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_lost_something_when_it_was_full_is_seen() {
    let seen = go_through("the_store_is_full_for_a_while", Flaw::DropsABatch).await;
    assert_ne!(seen, Some(Applies::Yes));
}
