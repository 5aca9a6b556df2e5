//! Questions to a store.

mod anomalies;
mod brief;
mod events;
mod json;
mod model;
mod overrides;
mod sessions;
mod story;
mod usage;
mod walk;

use agent_audit_query::Ledger;

use crate::{
    access::Recorder,
    args::{AskArgs, Command},
    failure::Failure,
    output::{self, Out},
    store,
    time::Zone,
};

/// Everything that a question needs.
struct Asking<'a> {
    ledger: Ledger,
    recorder: Recorder,
    zone: Zone,
    args: &'a AskArgs,
    out: &'a mut Out,
}

/// Asks what the command line asks; `None` where it asks nothing of a store.
pub(crate) fn run(command: &Command, out: &mut Out) -> Option<Result<u8, Failure>> {
    let ask = match command {
        Command::Sessions(args) => &args.ask,
        Command::Session(args) => &args.ask,
        Command::Why(args) => &args.walk.ask,
        Command::Effects(args) => &args.walk.ask,
        Command::Overrides(args) => &args.ask,
        Command::Model(args) => &args.ask,
        Command::Anomalies(args) => &args.ask,
        Command::Usage(args) => &args.ask,
        Command::Events(args) => &args.ask,
        _ => return None,
    };
    Some(crate::block_on(answer(command, ask, out)).map(|()| 0))
}

async fn answer(command: &Command, args: &AskArgs, out: &mut Out) -> Result<(), Failure> {
    let opened = store::open(&args.store, Some(&args.tenant)).await?;
    opened.expect_tenant(&args.tenant).await?;
    let recorder = Recorder::open(args, &opened).await?;
    let ledger = Ledger::new(opened.store.clone(), args.tenant.clone());
    let mut asking = Asking { ledger, recorder, zone: args.zone(), args, out };
    let answered = match command {
        Command::Sessions(args) => sessions::ask(args, &mut asking).await,
        Command::Session(args) => story::ask(args, &mut asking).await,
        Command::Why(args) => walk::why(args, &mut asking).await,
        Command::Effects(args) => walk::effects(args, &mut asking).await,
        Command::Overrides(args) => overrides::ask(args, &mut asking).await,
        Command::Model(args) => model::ask(args, &mut asking).await,
        Command::Anomalies(args) => anomalies::ask(args, &mut asking).await,
        Command::Usage(args) => usage::ask(args, &mut asking).await,
        Command::Events(args) => events::ask(args, &mut asking).await,
        _ => Ok(()),
    };
    asking.out.flush()?;
    let Asking { recorder, .. } = asking;
    let closed = recorder.close().await;
    for warning in opened.warnings() {
        output::complain(&format!(
            "warning: {warning}: this may not be all; run `agent-audit verify`"
        ));
    }
    answered.and(closed)
}
