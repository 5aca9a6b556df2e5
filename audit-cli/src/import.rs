//! `agent-audit import`: transcripts that something else kept.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
    time::Duration,
};

use agent_audit_core::{
    event::Payload,
    log::{AuditLog, Draft, Durability, Layout},
    openai_chat::{Transcript, TranscriptEvent},
};
use agent_audit_sqlite::SqliteSink;
use indicatif::ProgressBar;

use crate::{
    args::ImportArgs,
    failure::Failure,
    output::{self, Out, counted, shell},
    reading::Log,
};

/// How long to bring what was recorded to the embedded store. What is left is not lost.
const DELIVERY: Duration = Duration::from_secs(600);

pub(crate) fn run(args: &ImportArgs, out: &mut Out) -> Result<(), Failure> {
    let (input, length) = open(&args.file)?;
    let log = open_log(args)?;
    let bar = output::progress("importing");
    if let Some(length) = length {
        bar.set_length(length);
    }
    let mut import = Import { args, log: &log, known: known(args)?, done: Done::default() };
    let read = import.read(input, &bar);
    let Done { sessions, events, skipped, example } = import.done;
    bar.set_message("making it durable");
    // Also after an error: what came before it stays.
    let closed = log.close_blocking(DELIVERY);
    bar.finish_and_clear();
    let recorded = counted(sessions, "session");
    if let Err(failure) = read {
        closed?;
        return Err(Failure::new(format!(
            "{failure}\n{recorded} before it {} recorded and {}; mend the line and import the file \
             again with --skip-existing",
            if sessions == 1 { "is" } else { "are" },
            if sessions == 1 { "stays" } else { "stay" },
        )));
    }
    let undelivered = closed?.undelivered;
    let dir = shell(&args.dir.display().to_string());
    let tenant = &args.tenant;
    out.line(format!(
        "imported {recorded} of tenant {tenant}: {}, durable in {}",
        counted(events, "event"),
        args.dir.display()
    ))?;
    if skipped > 0 {
        out.line(format!("skipped {}: the log already has them", counted(skipped, "session")))?;
    }
    for left in undelivered {
        out.line(format!(
            "{left} yet: they are safe in the journal, and delivered when the log is opened again"
        ))?;
    }
    out.line(format!("\n  verify it    agent-audit verify {dir}"))?;
    out.line(format!("  list it      agent-audit show {dir} --tenant {tenant}"))?;
    if let Some(session) = example {
        let session = shell(&session);
        out.line(format!(
            "  show one     agent-audit show {dir} --tenant {tenant} --session {session}"
        ))?;
    }
    out.line(format!(
        "  get it back  agent-audit show {dir} --tenant {tenant} --format openai-chat"
    ))
}

fn open(path: &Path) -> Result<(Box<dyn BufRead>, Option<u64>), Failure> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let fail = |why: &dyn std::fmt::Display| {
        Failure::new(format!("cannot read the transcripts `{}`: {why}", path.display()))
    };
    let file = File::open(path).map_err(|error| fail(&error))?;
    let metadata = file.metadata().map_err(|error| fail(&error))?;
    if metadata.is_dir() {
        return Err(fail(&"it is a directory; give a file with one JSON object a line"));
    }
    Ok((Box::new(BufReader::with_capacity(1 << 20, file)), Some(metadata.len())))
}

fn open_log(args: &ImportArgs) -> Result<AuditLog, Failure> {
    // Each session is durable when the command says so, at its end: a flush for each event would
    // be the greater part of the work.
    let mut builder = AuditLog::builder(&args.dir).with_durability(Durability::Buffered);
    let sqlite = Layout::new(&args.dir).sqlite();
    if args.sqlite || sqlite.is_dir() {
        builder = builder.with_sink(SqliteSink::open(sqlite)?);
    }
    Ok(builder.open()?)
}

/// The sessions that the tenant has, and whether they came to their end.
fn known(args: &ImportArgs) -> Result<HashMap<String, bool>, Failure> {
    let mut known: HashMap<String, bool> = HashMap::new();
    let log = Log::open(&args.dir)?;
    log.read(Some(args.tenant.as_str()), &mut |found| {
        let ended = found.event.event_type == "session.ended";
        match known.get_mut(found.event.session_id) {
            Some(whole) => *whole |= ended,
            None => {
                known.insert(found.event.session_id.to_owned(), ended);
            }
        }
        Ok(true)
    })?;
    Ok(known)
}

struct Import<'a> {
    args: &'a ImportArgs,
    log: &'a AuditLog,
    known: HashMap<String, bool>,
    done: Done,
}

#[derive(Default)]
struct Done {
    sessions: u64,
    events: u64,
    skipped: u64,
    /// A session to show.
    example: Option<String>,
}

impl Import<'_> {
    fn read(&mut self, mut input: Box<dyn BufRead>, bar: &ProgressBar) -> Result<(), Failure> {
        let mut line = Vec::new();
        let mut number = 0u64;
        loop {
            line.clear();
            let at = |number: u64| format!("{}, line {number}", self.args.file.display());
            let bytes = input
                .read_until(b'\n', &mut line)
                .map_err(|error| Failure::new(format!("{}: {error}", at(number + 1))))?;
            if bytes == 0 {
                return Ok(());
            }
            number += 1;
            let place = at(number);
            if !line.trim_ascii().is_empty() {
                self.line(&line).map_err(|why| Failure::new(format!("{place}: {why}")))?;
            }
            bar.inc(u64::try_from(bytes).unwrap_or_default());
            bar.set_message(counted(self.done.sessions, "session"));
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), Failure> {
        let transcript = Transcript::parse(line)?;
        let id = transcript.session_id();
        match self.known.get(id.as_str()) {
            None => {}
            Some(true) if self.args.skip_existing => {
                self.done.skipped += 1;
                return Ok(());
            }
            Some(true) => {
                return Err(Failure::new(format!(
                    "tenant {} already has a session `{id}`: give it another session_id, or pass \
                     over such sessions with --skip-existing",
                    self.args.tenant
                )));
            }
            Some(false) => {
                return Err(Failure::new(format!(
                    "tenant {} has a session `{id}` that did not come to its end, as after an \
                     interrupted import: records cannot be taken back, so give it another \
                     session_id to import it whole",
                    self.args.tenant
                )));
            }
        }
        let session = self.log.session(&self.args.tenant, id, &self.args.agent)?;
        for event in transcript.events() {
            session.record_blocking(self.draft(event))?;
            self.done.events += 1;
        }
        self.known.insert(id.as_str().to_owned(), true);
        self.done.sessions += 1;
        self.done.example.get_or_insert_with(|| id.as_str().to_owned());
        Ok(())
    }

    fn draft(&self, mut event: TranscriptEvent) -> Draft {
        if let Payload::SessionStarted(started) = &mut event.payload {
            started.agent_name = Some(self.args.agent.as_str().to_owned());
        }
        event.into()
    }
}
