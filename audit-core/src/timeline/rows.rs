//! The line of one event.

use std::fmt::Write as _;

use super::{Labels, visible};
use crate::{
    content::{AbsentReason, ContentRef, PartBody},
    event::{
        Event, Payload,
        chain::ChainGap,
        integrity::IntegrityFailed,
        model::{ContextItem, ContextRole, DecisionKind, ModelDecided, ModelStatus, Usage},
        review::{ReviewDecided, ReviewDecision},
        session::{Provenance, SessionOutcome, SessionStarted},
        tool::{Effect, ToolAttempted, ToolCompleted, ToolStatus},
    },
};

/// One event on its way into a line.
pub(super) struct Row<'a> {
    event: &'a Event,
    parts: &'a [PartBody],
    limit: usize,
    labels: &'a Labels<'a>,
    /// Whether the line stands below the one that says what it is about.
    nested: bool,
}

impl<'a> Row<'a> {
    pub(super) fn new(
        event: &'a Event,
        parts: &'a [PartBody],
        limit: usize,
        labels: &'a Labels<'a>,
        nested: bool,
    ) -> Self {
        Self { event, parts, limit, labels, nested }
    }

    /// What the model was told, as lines of their own; the bytes tell what was told already.
    pub(super) fn prompts(&self) -> Vec<(&'a [u8], String)> {
        let context: &[ContextItem] = match &self.event.payload {
            Payload::ModelRequested(requested) => &requested.context,
            Payload::ModelDecided(decided) => &decided.context,
            _ => return Vec::new(),
        };
        let told = |item: &&ContextItem| {
            use ContextRole::{Memory, Retrieved, System, User};
            matches!(item.role, System | Memory | Retrieved | User)
        };
        let line = |item: &ContextItem| {
            let (reference, body) = self.part(&item.part)?;
            let text = format!("» {} {}", visible(item.role.as_str()), self.show(reference, body));
            Some((body.and_then(PartBody::bytes)?, text))
        };
        context.iter().filter(told).filter_map(line).collect()
    }

    /// The line.
    pub(super) fn text(&self) -> String {
        let mut text = match &self.event.payload {
            Payload::SessionStarted(started) => session_started(started),
            Payload::SessionEnded(ended) => {
                let mark = match ended.outcome {
                    SessionOutcome::Completed => "✓",
                    SessionOutcome::Cancelled => "⊘",
                    _ => "✗",
                };
                let reason =
                    ended.reason.as_deref().map(|reason| format!(" ({})", visible(reason)));
                let outcome = visible(ended.outcome.as_str());
                format!("{mark} session {outcome}{}", reason.unwrap_or_default())
            }
            Payload::ModelRequested(requested) => {
                let mut text = format!("model {} asked", visible(&requested.requested_model));
                append_omitted(&mut text, &requested.omitted_inputs);
                text
            }
            Payload::ModelDecided(decided) => self.model_decided(decided),
            Payload::ToolAttempted(attempted) => self.tool_attempted(attempted),
            Payload::ToolCompleted(completed) => self.tool_completed(completed),
            Payload::ReviewProposed(proposed) => {
                let mut text = format!(
                    "review of {} proposed ({})",
                    visible(&proposed.action),
                    visible(&proposed.review_id)
                );
                if let Some(policy) = &proposed.policy {
                    let _ = write!(text, " · because {}", visible(policy));
                }
                self.append(&mut text, "  ", "proposal");
                self.append_apart(&mut text, "proposal.");
                append_omitted(&mut text, &proposed.omitted_inputs);
                text
            }
            Payload::ReviewPresented(presented) => format!(
                "{}presented to {} in {}",
                self.review(&presented.review_id),
                visible(&presented.presented_to),
                visible(&presented.channel)
            ),
            Payload::ReviewDecided(decided) => self.review_decided(decided),
            Payload::ReviewApplied(applied) => format!(
                "{}applied: {}",
                self.review(&applied.review_id),
                visible(&applied.resulting_state)
            ),
            other => self.housekeeping(other),
        };
        if let Some(at) = self.event.occurred_at {
            let _ = write!(text, " · happened {at}");
        }
        text
    }

    fn model_decided(&self, decided: &ModelDecided) -> String {
        let mut text = format!("model {}", visible(&decided.requested_model));
        let served = decided.served_model.as_deref();
        if let Some(served) = served.filter(|served| *served != decided.requested_model) {
            let _ = write!(text, " (served by {})", visible(served));
        }
        let ok = decided.status.is_ok();
        if ok {
            text.push_str(" → ");
            self.decision(decided, &mut text);
        } else {
            let _ = write!(text, " {}", model_mark(&decided.status));
            if let Some(code) = &decided.error_code {
                let _ = write!(text, " ({})", visible(code));
            }
        }
        let usage = decided.usage.as_ref().and_then(usage);
        let latency = decided.latency_us.map(duration);
        let figures: Vec<String> = usage.into_iter().chain(latency).collect();
        if !figures.is_empty() {
            let _ = write!(text, " · {}", figures.join(", "));
        }
        if !ok {
            self.append(&mut text, ": ", "error");
        }
        text
    }

    fn decision(&self, decided: &ModelDecided, text: &mut String) {
        match decided.decision.as_ref().map(|decision| (&decision.kind, decision)) {
            Some((DecisionKind::Tools, decision)) if decision.tool_calls.is_empty() => {
                text.push_str("call no tool");
            }
            Some((DecisionKind::Tools, decision)) => {
                let calls = decision.tool_calls.iter().map(|call| {
                    format!("{} ({})", visible(&call.tool_name), visible(call.call_id.as_str()))
                });
                let _ = write!(text, "call {}", calls.collect::<Vec<_>>().join(", "));
            }
            Some((DecisionKind::Branch, decision)) => {
                let branch = decision.branch.as_deref().unwrap_or("without a name");
                let _ = write!(text, "branch {}", visible(branch));
            }
            Some((DecisionKind::Refusal, _)) => {
                text.push_str("✗ refused");
                self.append(text, " ", "output");
            }
            _ => {
                text.push_str("answered");
                self.append(text, " ", "output");
            }
        }
    }

    fn tool_attempted(&self, attempted: &ToolAttempted) -> String {
        let mut text = format!("tool {}", visible(&attempted.tool_name));
        if let Some(version) = &attempted.tool_version {
            let _ = write!(text, " {}", visible(version));
        }
        text.push_str(" attempted");
        match &attempted.effect {
            Some(Effect::ReadOnly) => text.push_str(" · read-only"),
            Some(effect) => {
                let _ = write!(text, " · {}", visible(effect.as_str()));
            }
            None => {}
        }
        if let Some(approval) = attempted.approval_event_id {
            let label = self.labels.of_id(&self.event.tenant_id, approval);
            let _ = write!(text, " · relies on {label}");
        }
        self.append(&mut text, "  ", "input");
        self.append_apart(&mut text, "input.");
        append_omitted(&mut text, &attempted.omitted_inputs);
        text
    }

    /// The parameters that are parts of their own.
    fn append_apart(&self, text: &mut String, prefix: &str) {
        for reference in &self.event.content {
            if let Some(name) = reference.name.strip_prefix(prefix) {
                let _ = write!(text, "  {}=", visible(name));
                self.append(text, "", &reference.name);
            }
        }
    }

    fn tool_completed(&self, completed: &ToolCompleted) -> String {
        let (mark, remark) = match &completed.status {
            ToolStatus::Ok => ("✓ ok", ""),
            ToolStatus::Error => ("✗ FAILED", ""),
            ToolStatus::ToolError => ("✗ FAILED", ", as its result says"),
            ToolStatus::Cancelled => ("⊘ CANCELLED", ", what it had done by then stays done"),
            ToolStatus::Panicked => ("✗ PANICKED", ""),
            ToolStatus::Unknown => ("? UNKNOWN", ", whether it took effect is not known"),
            ToolStatus::Other(_) => ("?", ""),
        };
        let mut text = mark.to_owned();
        if let ToolStatus::Other(word) = &completed.status {
            let _ = write!(text, " {}", visible(word));
        }
        if !self.nested {
            let _ = write!(text, " · tool {}", visible(&completed.tool_name));
        }
        if let Some(code) = &completed.error_code {
            let _ = write!(text, " ({})", visible(code));
        }
        if let Some(micros) = completed.duration_us {
            let word = if completed.status.is_ok() { "in" } else { "after" };
            let _ = write!(text, " {word} {}", duration(micros));
        }
        text.push_str(remark);
        for id in &completed.external_ids {
            let _ = write!(text, " · touched {} {}", visible(&id.key), visible(&id.value));
        }
        self.append(&mut text, ": ", "error");
        self.append(&mut text, "  ", "output");
        text
    }

    fn review_decided(&self, decided: &ReviewDecided) -> String {
        let (mark, word) = match &decided.decision {
            ReviewDecision::Approve => ("✓", "approved"),
            ReviewDecision::Modify => ("✓", "approved with changes"),
            ReviewDecision::Reject => ("✗", "REJECTED"),
            ReviewDecision::Escalate => ("?", "escalated"),
            ReviewDecision::TimedOut => ("✗", "TIMED OUT"),
            ReviewDecision::Dismissed => ("⊘", "dismissed"),
            ReviewDecision::Other(word) => ("?", word.as_str()),
        };
        let mut text = format!("{mark} {}", self.review(&decided.review_id));
        let reviewer = &decided.reviewer;
        let _ = write!(text, "{} by {}", visible(word), visible(&reviewer.reviewer_id));
        let _ = write!(text, " ({}", visible(reviewer.kind.as_str()));
        if let Some(role) = &reviewer.role {
            let _ = write!(text, ", {}", visible(role));
        }
        text.push(')');
        if let Some(to) = &decided.escalated_to {
            let _ = write!(text, " to {}", visible(to));
        }
        match (decided.decided_after_us, decided.presented_event_id) {
            (Some(micros), _) => {
                let _ = write!(text, " after {}", duration(micros));
            }
            (None, Some(_)) => {}
            (None, None) => text.push_str(", without a record of what was shown"),
        }
        if let Some(scope) = &decided.scope {
            let _ = write!(text, " · {}", visible(scope.as_str()));
        }
        self.append(&mut text, ": ", "rationale");
        self.append(&mut text, "  changes ", "diff");
        text
    }

    /// The review that a line is about, unless it stands below it.
    fn review(&self, review_id: &str) -> String {
        if self.nested { String::new() } else { format!("review {} ", visible(review_id)) }
    }

    /// The lines of the log itself.
    fn housekeeping(&self, payload: &Payload) -> String {
        match payload {
            Payload::ChainOpened(opened) => {
                format!("chain opened by {}", visible(&opened.software))
            }
            Payload::ChainResumed(resumed) => {
                let mut text = format!("chain resumed by {}", visible(&resumed.software));
                if resumed.closed_before == Some(false) {
                    text.push_str(" · the process before ended without closing it");
                }
                if let Some(bytes) = resumed.torn_bytes.filter(|bytes| *bytes > 0) {
                    let bytes = plural(bytes, "byte");
                    let _ = write!(text, " · {bytes} of an unfinished write were cut off");
                }
                text
            }
            Payload::ChainClosed(closed) => format!("chain closed: {}", visible(&closed.reason)),
            Payload::ChainGap(gap) => chain_gap(gap),
            Payload::AccessQueried(queried) => {
                let mut text = format!(
                    "access {} asked: {}",
                    visible(&queried.actor),
                    visible(&queried.query)
                );
                if let Some(rows) = queried.rows {
                    let _ = write!(text, " · {}", plural(rows, "event"));
                }
                text
            }
            Payload::AccessExported(exported) => {
                let mut text = format!(
                    "access {} exported: {} as {}",
                    visible(&exported.actor),
                    visible(&exported.query),
                    visible(&exported.format)
                );
                if let Some(rows) = exported.rows {
                    let _ = write!(text, " · {}", plural(rows, "event"));
                }
                text
            }
            Payload::IntegrityVerified(verified) => format!(
                "integrity ✓ verified: {} in {}",
                plural(verified.events, "event"),
                plural(verified.chains, "chain")
            ),
            Payload::IntegrityFailed(failed) => integrity_failed(failed),
            Payload::KeyCreated(key) => {
                format!("key {} created for {}", visible(&key.key_id), visible(key.scope.as_str()))
            }
            Payload::KeyRotated(key) => {
                format!("key {} rotated of {}", visible(&key.key_id), visible(key.scope.as_str()))
            }
            Payload::KeyDestroyed(key) => {
                let mut text = format!(
                    "key {} DESTROYED by {} ({})",
                    visible(&key.key_id),
                    visible(&key.authority),
                    visible(&key.legal_basis)
                );
                if let Some(parts) = key.affected_parts {
                    let _ = write!(text, " · {} erased", plural(parts, "part"));
                }
                text
            }
            Payload::ContentPurged(purged) => {
                let mut text = format!(
                    "content purged from {} by {} ({})",
                    visible(&purged.store),
                    visible(&purged.authority),
                    visible(&purged.reason)
                );
                if let Some(parts) = purged.parts {
                    let _ = write!(text, " · {}", plural(parts, "part"));
                }
                text
            }
            other => {
                let mut text = visible(other.event_type().as_str()).to_string();
                if let Payload::Other(other) = other
                    && !other.fields.is_empty()
                {
                    let fields = serde_json::to_string(&other.fields).unwrap_or_default();
                    let _ = write!(text, "  {}", self.cut(&fields, fields.len(), false));
                }
                for reference in &self.event.content {
                    let _ = write!(text, "  {}=", visible(&reference.name));
                    self.append(&mut text, "", &reference.name);
                }
                text
            }
        }
    }

    /// Adds a part of content, where the event has it.
    fn append(&self, text: &mut String, before: &str, name: &str) {
        if let Some((reference, body)) = self.part(name) {
            let _ = write!(text, "{before}{}", self.show(reference, body));
        }
    }

    fn part(&self, name: &str) -> Option<(&'a ContentRef, Option<&'a PartBody>)> {
        let at = self.event.content.iter().position(|reference| reference.name == name)?;
        Some((&self.event.content[at], self.parts.get(at)))
    }

    /// A part of content: its beginning, or why it is not shown.
    fn show(&self, reference: &ContentRef, body: Option<&PartBody>) -> String {
        let size = plural(reference.bytes, "byte");
        let bytes = match body {
            None => return format!("<not in this record, {size}>"),
            Some(PartBody::Sealed(_)) => return format!("<sealed, {size}>"),
            Some(PartBody::Absent { reason, at, .. }) => {
                let word = match reason {
                    AbsentReason::Erased => "erased",
                    AbsentReason::Purged => "purged",
                };
                let on = at.map(|at| format!(" on {}", &at.to_string()[..10]));
                return format!("<{word}{}, {size}>", on.unwrap_or_default());
            }
            Some(body) if body.check(reference).is_err() => {
                return "<✗ ALTERED: does not match its commitment>".to_owned();
            }
            Some(PartBody::Clear { bytes, .. }) => bytes,
        };
        let json = reference.media_type.contains("json");
        match std::str::from_utf8(bytes) {
            Ok(text) => self.cut(text, bytes.len(), !json),
            Err(_) => format!("<{}, {size}>", visible(&reference.media_type)),
        }
    }

    /// The beginning of a text; in quotes where it could be taken for part of the line.
    fn cut(&self, text: &str, bytes: usize, quoted: bool) -> String {
        let end = text.char_indices().nth(self.limit).map(|(at, _)| at);
        let shown = visible(&text[..end.unwrap_or(text.len())]).to_string();
        let shown = if quoted { shown.replace('"', "\\\"") } else { shown };
        let (quote, cut) = (if quoted { "\"" } else { "" }, if end.is_some() { "…" } else { "" });
        let size = end.map(|_| format!(" ({})", plural(bytes as u64, "byte")));
        format!("{quote}{shown}{cut}{quote}{}", size.unwrap_or_default())
    }
}

/// The review that an event is part of.
pub(super) fn review_id(payload: &Payload) -> Option<&str> {
    match payload {
        Payload::ReviewProposed(review) => Some(&review.review_id),
        Payload::ReviewPresented(review) => Some(&review.review_id),
        Payload::ReviewDecided(review) => Some(&review.review_id),
        Payload::ReviewApplied(review) => Some(&review.review_id),
        _ => None,
    }
}

/// Where the knowledge in an event comes from.
pub(super) fn provenance(payload: &Payload) -> Option<&Provenance> {
    match payload {
        Payload::SessionStarted(session) => session.provenance.as_ref(),
        Payload::ModelRequested(model) => model.provenance.as_ref(),
        Payload::ModelDecided(model) => model.provenance.as_ref(),
        Payload::ToolAttempted(tool) => tool.provenance.as_ref(),
        _ => None,
    }
}

/// A count and its noun.
pub(super) fn plural(count: u64, noun: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {noun}{s}", grouped(count))
}

fn session_started(started: &SessionStarted) -> String {
    let mut text = "session started".to_owned();
    if let Some(name) = &started.agent_name {
        let _ = write!(text, " · {}", visible(name));
    }
    if let Some(version) = &started.agent_version {
        let _ = write!(text, " · version {}", visible(version));
    }
    if let Some(purpose) = &started.purpose {
        let _ = write!(text, " · for {}", visible(purpose));
    }
    text
}

fn model_mark(status: &ModelStatus) -> String {
    match status {
        ModelStatus::Cancelled => "⊘ CANCELLED".to_owned(),
        ModelStatus::Panicked => "✗ PANICKED".to_owned(),
        ModelStatus::Unknown => "? UNKNOWN: whether it answered is not known".to_owned(),
        ModelStatus::Other(word) => format!("? {}", visible(word)),
        _ => "✗ FAILED".to_owned(),
    }
}

fn usage(usage: &Usage) -> Option<String> {
    let counted = [(usage.input_tokens, "in"), (usage.output_tokens, "out")];
    let counted = counted.into_iter().filter_map(|(tokens, word)| Some((tokens?, word)));
    let shown: Vec<_> =
        counted.map(|(tokens, word)| format!("{} {word}", grouped(tokens))).collect();
    (!shown.is_empty()).then(|| format!("{} tokens", shown.join(" / ")))
}

fn append_omitted(text: &mut String, names: &[String]) {
    if !names.is_empty() {
        let _ = write!(text, "  (not recorded: {})", visible(&names.join(", ")));
    }
}

fn chain_gap(gap: &ChainGap) -> String {
    let mut text = format!(
        "✗ GAP: {} could not be written ({})",
        plural(gap.lost_events, "event"),
        visible(gap.reason.as_str())
    );
    if let Some(actions) = gap.unrecorded_actions.filter(|actions| *actions > 0) {
        let _ = write!(text, " · {} went ahead without a record", plural(actions, "action"));
    }
    text
}

fn integrity_failed(failed: &IntegrityFailed) -> String {
    let found = failed.findings_total.unwrap_or(failed.findings.len() as u64);
    let mut text = format!("✗ integrity FAILED: {}", plural(found, "finding"));
    for (nth, finding) in failed.findings.iter().take(3).enumerate() {
        let _ = write!(text, "{}{}", if nth == 0 { ": " } else { ", " }, visible(&finding.kind));
        if let Some(sequence) = finding.sequence {
            let _ = write!(text, " at #{sequence}");
        }
    }
    text
}

/// A duration in the unit that a person would choose.
fn duration(micros: u64) -> String {
    let (seconds, minutes) = (micros / 1_000_000, micros / 60_000_000);
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..10_000_000 => format!("{seconds}.{} s", micros / 100_000 % 10),
        10_000_000..60_000_000 => format!("{seconds} s"),
        60_000_000..3_600_000_000 => format!("{minutes} min {} s", seconds % 60),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (nth, digit) in digits.chars().enumerate() {
        if nth > 0 && (digits.len() - nth).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
