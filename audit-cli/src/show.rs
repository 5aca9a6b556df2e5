//! `agent-audit show`: what does the log say?

use std::collections::{BTreeMap, HashMap, HashSet};

use agent_audit_core::{
    canonical::EventView,
    id::{SessionId, TenantId},
    openai_chat::Transcript,
    record::Record,
    timeline::{Timeline, visible},
};
use serde::Deserialize;

use crate::{
    args::ShowArgs,
    failure::Failure,
    output::{self, Out, counted, listed, shell},
    reading::{Log, Remarks},
    record_json,
    sessions::{self, Sessions, Tenant},
};

pub(crate) fn run(args: &ShowArgs, out: &mut Out) -> Result<(), Failure> {
    let log = Log::open(&args.dir)?;
    let remarks = match (&args.tenant, &args.session) {
        (None, _) => tenants(args, &log, out)?,
        (Some(tenant), session) if args.format.is_some() => {
            transcripts(&log, tenant, session.as_ref(), out)?
        }
        (Some(tenant), None) => list(args, &log, tenant, out)?,
        (Some(tenant), Some(id)) => session(args, &log, tenant, id, out)?,
    };
    out.flush()?;
    for warning in remarks.warnings() {
        output::complain(&format!("warning: {}", visible(&warning)));
    }
    if !remarks.warnings().is_empty() {
        let dir = shell(&args.dir.display().to_string());
        output::complain(&format!("this may not be all: run `agent-audit verify {dir}`"));
    } else if !args.json && args.format.is_none() {
        let dir = shell(&args.dir.display().to_string());
        output::complain(&format!("shown as stored, not verified: run `agent-audit verify {dir}`"));
    }
    Ok(())
}

/// The fields of a payload that tell sessions apart.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Started {
    parent_session_id: Option<String>,
    provenance: Option<String>,
}

fn started(event: &EventView<'_>) -> Started {
    serde_json::from_slice(event.payload).unwrap_or_default()
}

fn tenants(args: &ShowArgs, log: &Log, out: &mut Out) -> Result<Remarks, Failure> {
    let mut tenants: BTreeMap<String, (Tenant, HashSet<String>)> = BTreeMap::new();
    let remarks = log.read(None, &mut |found| {
        let event = found.event;
        if !tenants.contains_key(event.tenant_id) {
            let tenant = Tenant { tenant_id: event.tenant_id.to_owned(), ..Tenant::default() };
            tenants.insert(event.tenant_id.to_owned(), (tenant, HashSet::new()));
        }
        if let Some((tenant, sessions)) = tenants.get_mut(event.tenant_id) {
            tenant.events += 1;
            if tenant.last.as_str() < event.timestamp_utc {
                event.timestamp_utc.clone_into(&mut tenant.last);
            }
            if !is_own(event.session_id) && !sessions.contains(event.session_id) {
                sessions.insert(event.session_id.to_owned());
            }
        }
        Ok(true)
    })?;
    let tenants: Vec<Tenant> = tenants
        .into_values()
        .map(|(tenant, sessions)| Tenant { sessions: count(sessions.len()), ..tenant })
        .collect();
    if args.json {
        for tenant in &tenants {
            out.line(serde_json::to_string(tenant)?)?;
        }
        return Ok(remarks);
    }
    if tenants.is_empty() {
        out.line("nothing was recorded")?;
        return Ok(remarks);
    }
    out.text(&sessions::table_of_tenants(&tenants))?;
    let dir = shell(&args.dir.display().to_string());
    out.line(format!("\nlist the sessions of one: agent-audit show {dir} --tenant TENANT"))?;
    Ok(remarks)
}

fn list(args: &ShowArgs, log: &Log, tenant: &TenantId, out: &mut Out) -> Result<Remarks, Failure> {
    let mut sessions = Sessions::default();
    let remarks = log.read(Some(tenant.as_str()), &mut |found| {
        sessions.add(&found.event);
        Ok(true)
    })?;
    if sessions.is_empty() {
        return Err(unknown_tenant(tenant, &remarks));
    }
    let sessions = sessions.in_order();
    if args.json {
        for session in sessions {
            out.line(serde_json::to_string(session)?)?;
        }
        return Ok(remarks);
    }
    let (own, sessions): (Vec<_>, Vec<_>) =
        sessions.into_iter().partition(|session| is_own(&session.session_id));
    let events = own.iter().chain(&sessions).map(|session| session.events).sum();
    out.line(format!(
        "tenant {tenant}: {}, {}\n",
        counted(count(sessions.len()), "session"),
        counted(events, "event")
    ))?;
    out.text(&sessions::table_of_sessions(&sessions))?;
    let example = sessions.last().or(own.last()).map(|session| session.session_id.as_str());
    out.line(format!(
        "\nshow one: agent-audit show {} --tenant {tenant} --session {}",
        shell(&args.dir.display().to_string()),
        visible(&shell(example.unwrap_or("SESSION")))
    ))?;
    if let [own] = own[..] {
        out.line(format!(
            "{} about the log itself: --session {}",
            counted(own.events, "event"),
            shell(&own.session_id)
        ))?;
    }
    Ok(remarks)
}

fn session(
    args: &ShowArgs,
    log: &Log,
    tenant: &TenantId,
    session: &SessionId,
    out: &mut Out,
) -> Result<Remarks, Failure> {
    // A sub-agent's session starts after its parent's, on the same chain.
    let mut wanted = HashSet::from([session.as_str().to_owned()]);
    let mut known = Sessions::default();
    let mut records: Vec<Record> = Vec::new();
    let mut shown = 0u64;
    let remarks = log.read(Some(tenant.as_str()), &mut |found| {
        let event = found.event;
        if event.event_type == "session.started"
            && started(&event).parent_session_id.is_some_and(|parent| wanted.contains(&parent))
        {
            wanted.insert(event.session_id.to_owned());
        }
        if !wanted.contains(event.session_id) {
            if shown == 0 {
                known.add(&event);
            }
            return Ok(true);
        }
        shown += 1;
        if args.json {
            out.line(record_json::json(&found.record()?)?)?;
        } else {
            records.push(found.record()?);
        }
        Ok(!out.is_gone())
    })?;
    if shown == 0 {
        if known.is_empty() {
            return Err(unknown_tenant(tenant, &remarks));
        }
        return Err(Failure::new(format!(
            "tenant {tenant} has no session `{session}`; of its {} there are: {}",
            counted(count(known.len()), "session"),
            listed(known.names())
        )));
    }
    if !args.json {
        let timeline = Timeline::new();
        let timeline = if args.full { timeline.with_content_limit(usize::MAX) } else { timeline };
        out.text(&timeline.render_records(&records))?;
    }
    Ok(remarks)
}

/// Gives imported sessions back, each as soon as it is whole.
fn transcripts(
    log: &Log,
    tenant: &TenantId,
    session: Option<&SessionId>,
    out: &mut Out,
) -> Result<Remarks, Failure> {
    let mut open: HashMap<String, Vec<Record>> = HashMap::new();
    let (mut given, mut others) = (0u64, 0u64);
    let mut known = Sessions::default();
    let remarks = log.read(Some(tenant.as_str()), &mut |found| {
        let event = found.event;
        known.add(&event);
        if session.is_some_and(|session| session.as_str() != event.session_id) {
            return Ok(true);
        }
        match event.event_type {
            "session.started" if started(&event).provenance.as_deref() == Some("imported") => {
                open.entry(event.session_id.to_owned()).or_default();
            }
            "session.started" => others += 1,
            _ => {}
        }
        let Some(records) = open.get_mut(event.session_id) else { return Ok(true) };
        records.push(found.record()?);
        if event.event_type == "session.ended"
            && let Some(records) = open.remove(event.session_id)
        {
            given += 1;
            out.line(rebuilt(event.session_id, &records)?)?;
        }
        Ok(!out.is_gone())
    })?;
    match (session, open.iter().next()) {
        (_, Some((id, records))) => {
            // Says why it is not whole.
            rebuilt(id, records)?;
        }
        (Some(id), None) if given == 0 && known.names().any(|name| name == id.as_str()) => {
            return Err(Failure::new(format!(
                "session `{id}` was not imported, it was recorded as it happened: show it without \
                 --format, or with --json"
            )));
        }
        (_, None) if known.is_empty() => return Err(unknown_tenant(tenant, &remarks)),
        (Some(id), None) if given == 0 => {
            return Err(Failure::new(format!(
                "tenant {tenant} has no session `{id}`; there are: {}",
                listed(known.names())
            )));
        }
        _ => {}
    }
    if session.is_none() && others > 0 {
        output::complain(&format!(
            "{} left out: recorded as they happened, not imported",
            counted(others, "session")
        ));
    }
    Ok(remarks)
}

fn rebuilt(session: &str, records: &[Record]) -> Result<String, Failure> {
    Transcript::rebuild(records)
        .map_err(|error| Failure::new(format!("cannot give session `{session}` back: {error}")))
}

fn unknown_tenant(tenant: &TenantId, remarks: &Remarks) -> Failure {
    let tenants = remarks.tenants.iter().map(String::as_str);
    let mut message = if remarks.tenants.is_empty() {
        format!("the log has no tenant `{tenant}`: nothing was recorded in it yet")
    } else {
        format!("the log has no tenant `{tenant}`; there are: {}", listed(tenants))
    };
    let warnings = remarks.warnings();
    if !warnings.is_empty() {
        message = format!(
            "no event of tenant `{tenant}` can be read, and not all of the log can: {}; run \
             `agent-audit verify`",
            warnings.join("; ")
        );
    }
    Failure::new(message)
}

/// Whether events of this session are about the log itself.
fn is_own(session: &str) -> bool {
    session == SessionId::system().as_str()
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
