//! The `agent-audit` command: verify, ask, show and import audit logs of AI agents.
//!
//! Exit codes: 0 done, and for `verify` intact; 1 `verify` found tampering, or `relay` messages that
//! belong nowhere; 2 it could not tell, or the command could not do what it was asked for.

mod access;
mod args;
mod ask;
mod export;
mod failure;
mod import;
mod keys;
mod output;
mod reading;
mod record_json;
#[cfg(feature = "kafka")]
mod relay;
mod sessions;
mod show;
#[cfg(feature = "kafka")]
mod sinks;
mod store;
mod stores;
mod table;
mod time;
mod verify;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

use crate::{
    args::{Args, Command, CompletionsArgs},
    failure::Failure,
    output::Out,
};

/// Tampering was found.
const TAMPERED: u8 = 1;
/// The command could not tell, or not do what it was asked for.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    let mut out = Out::stdout();
    let done = match &args.command {
        Command::Verify(args) => verify::run(args, &mut out),
        Command::Show(args) => show::run(args, &mut out).map(|()| 0),
        Command::Export(args) => export::run(args, &mut out).map(|()| 0),
        Command::Watch(args) => watch::run(args, &mut out),
        Command::Import(args) => import::run(args, &mut out).map(|()| 0),
        Command::Keys(args) => keys::run(args, &mut out).map(|()| 0),
        #[cfg(feature = "kafka")]
        Command::Relay(args) => relay::run(args, &mut out),
        Command::Completions(args) => completions(args, &mut out).map(|()| 0),
        question => ask::run(question, &mut out).unwrap_or(Ok(0)),
    };
    let done = done.and_then(|code| out.flush().map(|()| code));
    match done {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            // What was found before still counts, and stands before the message.
            let _ = out.flush();
            output::complain(&format!("error: {failure}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Runs what waits for stores and servers.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let done = runtime.block_on(work);
    // What is still under way at a server has nobody to answer to any more.
    runtime.shutdown_background();
    done
}

fn completions(args: &CompletionsArgs, out: &mut Out) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Args::command(), "agent-audit", &mut script);
    out.text(&String::from_utf8(script)?)
}
