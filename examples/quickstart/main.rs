//! An agent that works for two tenants at once, everything it does recorded, and the record proved.
//!
//! ```text
//! cargo run --example quickstart --features sqlite            in a new directory below the temporary one
//! cargo run --example quickstart --features sqlite -- DIR     in DIR, which must be new or empty
//! ```
//!
//! The model is whatever `OPENAI_BASE_URL`, `OPENAI_API_KEY` and `OPENAI_MODEL` name; without the
//! first two, a stand-in that speaks the same protocol over HTTP and follows a script. The tools are
//! real either way. Each thing the example says is checked; it ends with an error where one is not so.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example tells what it does")]

mod agent;
mod http;
mod model;
mod proof;
mod review;
mod scripted;
mod tamper;
mod tools;
mod world;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use agent_audit::{
    AuditContext, AuditLog,
    event::{
        Event, Payload,
        session::{SessionEnded, SessionOutcome, SessionStarted},
        tool::ToolStatus,
    },
    key::VerifyingKey,
    sqlite::SqliteSink,
    timeline::visible,
    verify::{Report, Severity, Verdict},
};

use crate::{
    agent::Agent,
    http::ApiKey,
    model::Model,
    tools::{Refund, Shop},
    world::{ACME, GLOBEX, Tenant},
};

/// Whatever ends the example early.
pub(crate) type Fault = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    // One of the tools is going to panic, and that is part of the story.
    std::panic::set_hook(Box::new(|panic| {
        println!("  !       panic         {}", panic.payload_as_str().unwrap_or_default());
    }));
    match story().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("\nthe quickstart failed: {}", explain(&*fault));
            ExitCode::FAILURE
        }
    }
}

async fn story() -> Result<(), Fault> {
    let home = home()?;
    let log_dir = home.join("log");
    let (model, scripted) = model().await?;
    let carrier = world::start_carrier().await?;
    let shops = [ACME.open_shop(&home, &carrier)?, GLOBEX.open_shop(&home, &carrier)?];

    heading("Two agents work, for two tenants at once");
    println!("  model   {} at {}", model.name(), model.base_url());
    println!("  log     {}\n", log_dir.display());
    let log =
        AuditLog::builder(&log_dir).with_sink(SqliteSink::open(log_dir.join("sqlite"))?).open()?;
    let (acme, globex) = tokio::join!(
        serve(&log, &ACME, Agent::support(Arc::clone(&model), Arc::clone(&shops[0]))),
        serve(&log, &GLOBEX, Agent::support(Arc::clone(&model), Arc::clone(&shops[1]))),
    );
    println!("\n  acme    {}\n  globex  {}", visible(&acme?), visible(&globex?));

    heading("The log is closed");
    let key = log.verifying_key();
    let left = log.close(Duration::from_secs(10)).await?;
    check(left.is_complete(), "every event is on disk and in the store of its tenant")?;

    for tenant in [&ACME, &GLOBEX] {
        heading(&format!("What {} can read of {}", tenant.id, tenant.session));
        print!("{}", proof::timeline(&proof::records(&log_dir, tenant.id)?, tenant.session)?);
    }

    heading("What that shows");
    complete(&log_dir, model.key())?;
    if scripted {
        as_scripted(&log_dir, &shops)?;
    }

    heading("Is the log as it was written?");
    intact(&log_dir, &key)?;

    heading("Somebody who owns the disk rewrites a copy");
    let copy = home.join("tampered");
    tampered(&log_dir, &copy, &key)?;

    farewell(&log_dir, &copy, &key);
    Ok(())
}

/// One tenant's ticket, from the start of the session to its end.
async fn serve(log: &AuditLog, tenant: &Tenant, agent: Agent) -> Result<String, Fault> {
    let session = log.session(tenant.id, tenant.session, "support")?;
    session.start(SessionStarted::new().with_purpose("answer a customer")).await?;
    let answer = session.scope(Arc::new(agent).work(tenant.task.to_owned())).await;
    let outcome = if answer.is_ok() { SessionOutcome::Completed } else { SessionOutcome::Failed };
    session.end(SessionEnded::new(outcome)).await?;
    Ok(answer?)
}

/// The model that the environment names, or the stand-in; and whether it is that.
async fn model() -> Result<(Arc<Model>, bool), Fault> {
    if let Some(model) = Model::from_env() {
        return Ok((Arc::new(model), false));
    }
    let key = ApiKey::new("sk-a-key-that-must-not-be-recorded".to_owned());
    let model = Model::new(&scripted::start().await?, "scripted-model", Some(key));
    Ok((Arc::new(model), true))
}

/// What holds whichever model decided.
fn complete(log_dir: &Path, key: Option<&ApiKey>) -> Result<(), Fault> {
    for tenant in [&ACME, &GLOBEX] {
        let events = proof::events(&proof::records(log_dir, tenant.id)?)?;
        let own = events.iter().all(|event| event.tenant_id.as_str() == tenant.id);
        check(own, &format!("{}: all {} events are its own", tenant.id, events.len()))?;
        let open = proof::unresolved(&events);
        check(open == 0, &format!("{}: every tool call has an end on record", tenant.id))?;
    }
    if let Some(key) = key {
        let leaks = proof::files_with(key.expose(), log_dir)?;
        check(leaks == 0, "the API key of the model is in no file of the log")?;
    }
    Ok(())
}

/// What holds because the script says so.
fn as_scripted(log_dir: &Path, shops: &[Arc<Shop>; 2]) -> Result<(), Fault> {
    let acme = proof::events(&proof::records(log_dir, ACME.id)?)?;
    let globex = proof::events(&proof::records(log_dir, GLOBEX.id)?)?;
    check(ended(&acme, &ToolStatus::Error) == ["read_file"], "a tool that failed is recorded")?;
    check(ended(&acme, &ToolStatus::Panicked) == ["calculate"], "a tool that panicked is, too")?;
    let stopped = ended(&globex, &ToolStatus::Cancelled);
    check(stopped == ["track_parcel"], "and one that was stopped in the middle")?;
    let courier = acme.iter().any(|event| event.session_id.as_str() == "ticket-1.courier-1");
    check(courier, "the sub-agent's session is told below the call that spawned it")?;

    let paid = |order: &str, cents| Refund { order: order.to_owned(), cents };
    let approved = world::paid(&shops[0])? == [paid("A-1001", 4_000)];
    check(approved, "what the reviewer approved was paid")?;
    let changed = world::paid(&shops[1])? == [paid("G-7", 5_000)];
    check(changed, "what the reviewer changed was paid as changed, what was refused was not")?;
    let refunds = attempted(&globex, "refund");
    check(refunds == 1, "and the refused refund was not even attempted")
}

/// The tools whose calls ended so.
fn ended<'a>(events: &'a [Event], status: &ToolStatus) -> Vec<&'a str> {
    let name = |event: &'a Event| match &event.payload {
        Payload::ToolCompleted(done) if done.status == *status => Some(&*done.tool_name),
        _ => None,
    };
    events.iter().filter_map(name).collect()
}

fn attempted(events: &[Event], tool: &str) -> usize {
    let is = |event: &&Event| match &event.payload {
        Payload::ToolAttempted(attempted) => attempted.tool_name == tool,
        _ => false,
    };
    events.iter().filter(is).count()
}

fn intact(log_dir: &Path, key: &VerifyingKey) -> Result<(), Fault> {
    let report = proof::verify(log_dir, key)?;
    print_report(&report);
    check(report.verdict() == Verdict::Intact, "the verifier finds nothing wrong")
}

fn tampered(log_dir: &Path, copy: &Path, key: &VerifyingKey) -> Result<(), Fault> {
    tamper::copy(log_dir, copy)?;
    let forged = [tamper::forge_decision(copy, GLOBEX.id)?, tamper::forge_amount(copy, ACME.id)?];
    for forged in &forged {
        println!("  {} record {}: {}", forged.tenant, forged.sequence, forged.how);
    }
    println!();
    let report = proof::verify(copy, key)?;
    print_report(&report);
    check(report.verdict() == Verdict::Tampered, "the verifier says so")?;
    for forged in &forged {
        let named = report.findings.iter().any(|finding| {
            finding.severity == Severity::Tampering
                && finding.chain.as_ref().is_some_and(|c| c.tenant_id.as_str() == forged.tenant)
                && finding.is_at(forged.sequence)
        });
        check(named, &format!("it names {} record {}", forged.tenant, forged.sequence))?;
    }
    check(proof::verify(log_dir, key)?.verdict() == Verdict::Intact, "the original is untouched")
}

fn print_report(report: &Report) {
    let verdict = match report.verdict() {
        Verdict::Intact => "INTACT",
        Verdict::Tampered => "TAMPERED",
        Verdict::Unsure => "COULD NOT TELL",
    };
    let Report { events, chains, tenants, checkpoints_checked, .. } = report;
    println!(
        "  {verdict}: {events} events in {chains} chains of {tenants} tenants, against \
         {checkpoints_checked} signed checkpoints"
    );
    for finding in &report.findings {
        println!("  · {finding}");
    }
    println!("  the verdict {}", report.explanation());
}

fn farewell(log_dir: &Path, copy: &Path, key: &VerifyingKey) {
    let (log_dir, copy) = (log_dir.display(), copy.display());
    let Tenant { id, session, .. } = ACME;
    heading("Look for yourself");
    println!("  cargo run -q -p agent-audit-cli -- verify {log_dir} --key {key}");
    println!("  cargo run -q -p agent-audit-cli -- verify {copy} --key {key}");
    println!(
        "  cargo run -q -p agent-audit-cli -- show {log_dir} --tenant {id} --session {session}"
    );
}

/// Where everything of this run is kept.
fn home() -> Result<PathBuf, Fault> {
    let Some(dir) = env::args_os().nth(1).map(PathBuf::from) else {
        return Ok(tempfile::Builder::new().prefix("agent-audit-quickstart-").tempdir()?.keep());
    };
    fs::create_dir_all(&dir)?;
    if fs::read_dir(&dir)?.next().is_some() {
        return Err(format!("{} is not empty: name a new directory", dir.display()).into());
    }
    Ok(dir)
}

fn heading(text: &str) {
    println!("\n{text}\n{}", "─".repeat(text.chars().count()));
}

/// What came of a tool call, as it happens.
pub(crate) fn say(here: &AuditContext, tool: &str, result: &str) {
    let result: String = result.chars().take(80).collect();
    println!("  {:<7} {:<13} {}", here.tenant_id().as_str(), visible(tool), visible(&result));
}

/// What an error says, and what is behind it.
pub(crate) fn explain(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Prints what holds, or ends the example.
fn check(holds: bool, what: &str) -> Result<(), Fault> {
    if !holds {
        return Err(format!("this should hold and does not: {what}").into());
    }
    println!("  ✓ {what}");
    Ok(())
}
