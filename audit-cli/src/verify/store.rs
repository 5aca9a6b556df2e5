//! A store on its own: is every chain in it as it was written?

use agent_audit_core::verify::Verdict;
use agent_audit_query::integrity::{Outcome, Watch};

use crate::{FAILED, TAMPERED, args::VerifyArgs, failure::Failure, output::Out, store};

pub(super) fn run(args: &VerifyArgs, out: &mut Out) -> Result<u8, Failure> {
    let outcome = match crate::block_on(verify(args)) {
        Ok(outcome) => outcome,
        Err(failure) => return super::could_not_tell(args, failure, out),
    };
    if args.json {
        out.line(serde_json::to_string(&outcome.report)?)?;
    } else {
        out.text(&outcome.report.to_string())?;
    }
    Ok(match outcome.report.verdict {
        Verdict::Intact => 0,
        Verdict::Tampered => TAMPERED,
        Verdict::Unsure => FAILED,
    })
}

/// One run of the integrity job, which remembers nothing.
async fn verify(args: &VerifyArgs) -> Result<Outcome, Failure> {
    let opened = store::open(&args.store, None).await?;
    let state = tempfile::tempdir()?;
    let mut watch = Watch::builder(state.path()).with_store(opened.store.clone());
    watch = watch.with_tenants(args.tenant.iter().cloned());
    let keys = super::read_keys(&args.keys)?;
    for path in &args.checkpoints {
        watch = watch.with_writer_checkpoints(path, keys.iter().copied());
    }
    Ok(watch.open()?.run().await?)
}
