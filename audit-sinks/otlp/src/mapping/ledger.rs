//! What the log says of itself: access, integrity, chains, keys and content that went.

use agent_audit_core::event::{
    access::{AccessExported, AccessQueried},
    chain::{ChainClosed, ChainGap, ChainOpened, ChainResumed},
    content::ContentPurged,
    integrity::{FindingSummary, IntegrityFailed, IntegrityVerified, VerifiedRange},
    key::{KeyCreated, KeyDestroyed, KeyRotated},
};

use super::{
    Told,
    attributes::{Attributes, int, object, text},
    body::{count, known, line},
    envelope::Envelope,
    names,
};

pub(super) fn access_queried(payload: &AccessQueried, out: &mut Attributes) -> Told {
    out.text("agent_audit.access.query", payload.query.as_str());
    out.optional_integer("agent_audit.access.rows", payload.rows);
    out.optional("agent_audit.access.digest", payload.digest.as_ref());
    out.optional("agent_audit.access.purpose", payload.purpose.as_ref());
    let rows = payload.rows.map(|rows| count(rows, "event"));
    Told::success(line(format_args!(
        "{} asked the log: {}{}",
        payload.actor,
        payload.query,
        known(", ", rows)
    )))
    .by(payload.actor.as_str(), names::ACTOR_USER)
}

pub(super) fn access_exported(payload: &AccessExported, out: &mut Attributes) -> Told {
    out.text("agent_audit.access.query", payload.query.as_str());
    out.text("agent_audit.access.format", payload.format.as_str());
    out.optional_integer("agent_audit.access.rows", payload.rows);
    out.optional_integer("agent_audit.access.files", payload.files);
    out.optional("agent_audit.access.digest", payload.digest.as_ref());
    out.optional("agent_audit.access.purpose", payload.purpose.as_ref());
    let rows = payload.rows.map(|rows| count(rows, "event"));
    Told::success(line(format_args!(
        "{} exported the log: {} as {}{}",
        payload.actor,
        payload.query,
        payload.format,
        known(", ", rows)
    )))
    .by(payload.actor.as_str(), names::ACTOR_USER)
}

pub(super) fn integrity_verified(payload: &IntegrityVerified, out: &mut Attributes) -> Told {
    verification(payload.events, payload.chains, payload.duration_us, out);
    out.optional("agent_audit.integrity.started_at", payload.started_at.as_ref());
    out.optional("agent_audit.integrity.checkpoint", payload.checkpoint.as_ref());
    ranges(&payload.ranges, out);
    Told::success(line(format_args!(
        "log intact: {} of {}",
        count(payload.events, "event"),
        count(payload.chains, "chain")
    )))
    .by(payload.verifier.as_str(), names::ACTOR_SYSTEM)
}

pub(super) fn integrity_failed(payload: &IntegrityFailed, out: &mut Attributes) -> Told {
    verification(payload.events, payload.chains, payload.duration_us, out);
    out.optional("agent_audit.integrity.started_at", payload.started_at.as_ref());
    out.optional("agent_audit.integrity.checkpoint", payload.checkpoint.as_ref());
    ranges(&payload.ranges, out);
    let listed = u64::try_from(payload.findings.len()).unwrap_or(u64::MAX);
    let total = payload.findings_total.unwrap_or(listed);
    out.integer("agent_audit.integrity.findings_total", total);
    out.list("agent_audit.integrity.findings", payload.findings.iter().map(finding));
    if let Some(first) = payload.findings.first() {
        out.text(names::ERROR_TYPE, first.kind.as_str());
    }
    let first = payload.findings.first().map(|first| {
        let at = known(" at ", first.sequence);
        format!("{}{}{at}", first.kind, known(" in chain ", first.chain_id.as_ref()))
    });
    Told::failure(line(format_args!(
        "log NOT intact: {}{}",
        count(total, "finding"),
        known(", first ", first)
    )))
    .by(payload.verifier.as_str(), names::ACTOR_SYSTEM)
}

pub(super) fn chain_opened(
    event: &Envelope<'_>,
    payload: &ChainOpened,
    out: &mut Attributes,
) -> Told {
    out.text("agent_audit.chain.public_key", payload.public_key.as_str());
    out.text("agent_audit.chain.software", payload.software.as_str());
    Told::success(line(format_args!("chain {} opened by {}", event.chain_id, payload.software)))
        .by(payload.writer_id.as_str(), names::ACTOR_SYSTEM)
}

pub(super) fn chain_resumed(
    event: &Envelope<'_>,
    payload: &ChainResumed,
    out: &mut Attributes,
) -> Told {
    out.text("agent_audit.chain.public_key", payload.public_key.as_str());
    out.text("agent_audit.chain.software", payload.software.as_str());
    out.flag("agent_audit.chain.closed_before", payload.closed_before);
    out.optional_integer("agent_audit.chain.torn_bytes", payload.torn_bytes);
    let after = match payload.closed_before {
        Some(false) => " after a crash",
        _ => "",
    };
    Told::success(line(format_args!(
        "chain {} resumed by {}{after}",
        event.chain_id, payload.software
    )))
    .by(payload.writer_id.as_str(), names::ACTOR_SYSTEM)
}

pub(super) fn chain_closed(
    event: &Envelope<'_>,
    payload: &ChainClosed,
    out: &mut Attributes,
) -> Told {
    out.text("agent_audit.chain.reason", payload.reason.as_str());
    let told =
        Told::success(line(format_args!("chain {} closed: {}", event.chain_id, payload.reason)));
    by_writer(event, told)
}

pub(super) fn chain_gap(event: &Envelope<'_>, payload: &ChainGap, out: &mut Attributes) -> Told {
    out.text("agent_audit.chain.reason", payload.reason.as_str());
    out.text(names::ERROR_TYPE, payload.reason.as_str());
    out.integer("agent_audit.chain.lost_events", payload.lost_events);
    out.optional_integer("agent_audit.chain.unrecorded_actions", payload.unrecorded_actions);
    out.optional("agent_audit.chain.first_at", payload.first_at.as_ref());
    out.optional("agent_audit.chain.last_at", payload.last_at.as_ref());
    let told = Told::failure(line(format_args!(
        "chain {}: {} could not be written: {}",
        event.chain_id,
        count(payload.lost_events, "event"),
        payload.reason
    )));
    by_writer(event, told)
}

pub(super) fn key_created(
    event: &Envelope<'_>,
    payload: &KeyCreated,
    out: &mut Attributes,
) -> Told {
    key(&payload.key_id, payload.scope.as_str(), payload.subject_id.as_ref(), out);
    out.text("agent_audit.key.algorithm", payload.algorithm.as_str());
    out.optional("agent_audit.key.wrapped_by", payload.wrapped_by.as_ref());
    let told = Told::success(line(format_args!(
        "key {} of scope {} created for {}",
        payload.key_id, payload.scope, payload.algorithm
    )));
    by_writer(event, told)
}

pub(super) fn key_rotated(
    event: &Envelope<'_>,
    payload: &KeyRotated,
    out: &mut Attributes,
) -> Told {
    key(&payload.key_id, payload.scope.as_str(), payload.subject_id.as_ref(), out);
    out.optional("agent_audit.key.wrapped_by", payload.wrapped_by.as_ref());
    out.optional("agent_audit.key.successor_id", payload.successor_key_id.as_ref());
    out.optional("agent_audit.key.authority", payload.authority.as_ref());
    out.optional("agent_audit.key.reason", payload.reason.as_ref());
    let told = Told::success(line(format_args!(
        "key {} rotated{}",
        payload.key_id,
        known(": ", payload.reason.as_ref())
    )));
    match &payload.authority {
        Some(authority) => told.by(authority.as_str(), names::ACTOR_USER),
        None => by_writer(event, told),
    }
}

pub(super) fn key_destroyed(payload: &KeyDestroyed, out: &mut Attributes) -> Told {
    key(&payload.key_id, payload.scope.as_str(), payload.subject_id.as_ref(), out);
    out.text("agent_audit.key.authority", payload.authority.as_str());
    out.text("agent_audit.key.legal_basis", payload.legal_basis.as_str());
    out.optional_integer("agent_audit.key.affected_events", payload.affected_events);
    out.optional_integer("agent_audit.key.affected_parts", payload.affected_parts);
    let parts = payload.affected_parts.map(|parts| count(parts, "part"));
    // Lawful, and never to be undone: worth a look.
    Told::warning(
        super::SUCCESS,
        line(format_args!(
            "key {} destroyed under {}{}",
            payload.key_id,
            payload.legal_basis,
            known(", with it ", parts)
        )),
    )
    .by(payload.authority.as_str(), names::ACTOR_USER)
}

pub(super) fn content_purged(payload: &ContentPurged, out: &mut Attributes) -> Told {
    out.text("agent_audit.purge.store", payload.store.as_str());
    out.text("agent_audit.purge.reason", payload.reason.as_str());
    out.text("agent_audit.purge.authority", payload.authority.as_str());
    out.optional("agent_audit.purge.legal_basis", payload.legal_basis.as_ref());
    out.optional("agent_audit.purge.before", payload.before.as_ref());
    out.optional_integer("agent_audit.purge.events", payload.events);
    out.optional_integer("agent_audit.purge.parts", payload.parts);
    let parts = payload.parts.map(|parts| count(parts, "part"));
    Told::success(line(format_args!(
        "content purged from {}: {}{}",
        payload.store,
        payload.reason,
        known(", ", parts)
    )))
    .by(payload.authority.as_str(), names::ACTOR_SYSTEM)
}

fn verification(events: u64, chains: u64, duration_us: Option<u64>, out: &mut Attributes) {
    out.integer("agent_audit.integrity.events", events);
    out.integer("agent_audit.integrity.chains", chains);
    out.optional_integer("agent_audit.integrity.duration_us", duration_us);
}

fn ranges(ranges: &[VerifiedRange], out: &mut Attributes) {
    let ranges = ranges.iter().map(|range| {
        object([
            ("chain_id", Some(text(range.chain_id.as_str()))),
            ("from_sequence", Some(int(range.from_sequence))),
            ("to_sequence", Some(int(range.to_sequence))),
            ("checkpoint", range.checkpoint.as_ref().map(text)),
        ])
    });
    out.list("agent_audit.integrity.ranges", ranges);
}

fn finding(finding: &FindingSummary) -> opentelemetry_proto::tonic::common::v1::any_value::Value {
    object([
        ("kind", Some(text(&finding.kind))),
        ("chain_id", finding.chain_id.as_ref().map(|id| text(id.as_str()))),
        ("sequence", finding.sequence.map(int)),
        ("event_id", finding.event_id.as_ref().map(|id| text(id.to_string()))),
    ])
}

fn key(
    key_id: &str,
    scope: &str,
    subject: Option<&agent_audit_core::id::SubjectId>,
    out: &mut Attributes,
) {
    out.text("agent_audit.key.id", key_id);
    out.text("agent_audit.key.scope", scope);
    out.optional("agent_audit.key.subject.id", subject);
}

/// The log itself acted, as far as it is known which one.
fn by_writer(event: &Envelope<'_>, told: Told) -> Told {
    match &event.writer_id {
        Some(writer) => told.by(writer.as_ref(), names::ACTOR_SYSTEM),
        None => told,
    }
}
