//! The `agent-audit` command: verify, show and import audit logs of AI agents.
//!
//! Exit codes: 0 done, and for `verify` intact; 1 `verify` found tampering, or `relay` messages that
//! belong nowhere; 2 it could not tell, or the command could not do what it was asked for.

mod args;
mod export;
mod failure;
mod import;
mod keys;
mod output;
mod reading;
#[cfg(feature = "kafka")]
mod relay;
mod sessions;
mod show;
#[cfg(feature = "kafka")]
mod sinks;
mod stores;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

use crate::{
    args::{Args, Command},
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
        Command::Import(args) => import::run(args, &mut out).map(|()| 0),
        Command::Keys(args) => keys::run(args, &mut out).map(|()| 0),
        #[cfg(feature = "kafka")]
        Command::Relay(args) => relay::run(args, &mut out),
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
