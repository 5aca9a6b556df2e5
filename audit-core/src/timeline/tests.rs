#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    content::{AbsentReason, Part, Salt, Sealed},
    event::{
        Other,
        chain::{ChainGap, GapReason},
        integrity::{FindingSummary, IntegrityFailed},
        model::{
            ContextItem, ContextRole, Decision, DecisionKind, ModelDecided, ModelRequested,
            ModelStatus, SelectedCall, Usage,
        },
        review::{
            ReviewApplied, ReviewDecided, ReviewDecision, ReviewPresented, ReviewProposed,
            Reviewer, ReviewerKind,
        },
        session::{SessionEnded, SessionOutcome, SessionStarted},
        tool::{Effect, ExternalId, ToolAttempted, ToolCompleted, ToolStatus},
    },
    id::{CallId, ChainId},
    timestamp::Timestamp,
};

/// Events in the making: one second passes between them.
struct Scene {
    session: &'static str,
    now: Timestamp,
    told: Vec<(Event, Vec<PartBody>)>,
}

impl Scene {
    fn new() -> Self {
        let now = "2026-11-23T07:52:56.123000000Z".parse().unwrap();
        Self { session: "s-1", now, told: Vec::new() }
    }

    fn tell(
        &mut self,
        payload: impl Into<Payload>,
        parent: Option<EventId>,
        parts: impl IntoIterator<Item = Part>,
    ) -> EventId {
        let mut event = Event::example(payload);
        let mut bodies = Vec::new();
        for part in parts {
            let (reference, body) = part.commit();
            event = event.with_content(reference);
            bodies.push(body);
        }
        event.session_id = SessionId::new(self.session).unwrap();
        event.sequence = self.told.len() as u64;
        event.timestamp_utc = self.now;
        event.parent_event_id = parent;
        self.now = Timestamp::from_nanos(self.now.as_nanos() + 1_000_000_000);
        let id = event.event_id;
        self.told.push((event, bodies));
        id
    }

    fn tool(&mut self, parent: Option<EventId>, status: ToolStatus, error: &str) {
        let id = self.tell(ToolAttempted::new("pay"), parent, []);
        let completed = ToolCompleted::new("pay", id, status).with_duration_us(39_000u64);
        self.tell(completed, Some(id), [Part::text("error", error)]);
    }

    fn render(&self) -> String {
        let told = self.told.iter().map(|(event, parts)| (event, &parts[..]));
        Timeline::new().render(told)
    }

    /// The lines without time, so that a test shows what it is about.
    fn lines(&self) -> String {
        let text = self.render();
        text.lines()
            .skip(1)
            .map(|line| line.get(16..).unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
    }
}

fn call(id: &str, tool: &str) -> SelectedCall {
    SelectedCall::new(CallId::new(id).unwrap(), tool)
}

fn model(kind: DecisionKind) -> ModelDecided {
    ModelDecided::new("openai", "gpt-4o", ModelStatus::Ok).with_decision(Decision::new(kind))
}

fn answer(text: &str) -> (ModelDecided, [Part; 1]) {
    (model(DecisionKind::Content), [Part::text("output", text)])
}

#[test]
fn a_whole_story() {
    let mut scene = Scene::new();
    let started = SessionStarted::new().with_agent_version("2.1").with_purpose("refunds");
    let start = scene.tell(started, None, []);
    let decided = model(DecisionKind::Tools)
        .with_usage(Usage::new().with_input_tokens(1_412u64).with_output_tokens(38u64))
        .with_latency_us(1_234_000u64)
        .with_served_model("gpt-4o-2024-08-06")
        .with_context([ContextItem::new(ContextRole::User, "context.0")])
        .with_decision(
            Decision::new(DecisionKind::Tools)
                .with_tool_calls([call("call_1", "look_up"), call("call_2", "refund")]),
        );
    let decided = scene.tell(
        decided,
        Some(start),
        [Part::text("context.0", "I want my money back"), Part::text("output", "{}")],
    );
    let look = scene.tell(
        ToolAttempted::new("look_up").with_effect(Effect::ReadOnly),
        Some(decided),
        [Part::json("input", &serde_json::json!({"order": "A-1"})).unwrap()],
    );
    let proposed = scene.tell(
        ReviewProposed::new("r-1", "refund")
            .with_policy("refunds over 100 EUR")
            .with_omitted_inputs(["desk"]),
        Some(decided),
        [Part::json("proposal", &serde_json::json!({"amount": 250})).unwrap()],
    );
    scene.tell(
        ToolCompleted::new("look_up", look, ToolStatus::Ok)
            .with_duration_us(39_400u64)
            .with_external_ids([ExternalId::new("order", "A-1")]),
        Some(look),
        [Part::json("output", &serde_json::json!({"name": "Mia"})).unwrap()],
    );
    let shown =
        scene.tell(ReviewPresented::new("r-1", "reviewer-7", "console"), Some(proposed), []);
    let reviewer = Reviewer::new("reviewer-7", ReviewerKind::Human).with_role("duty manager");
    let approved = scene.tell(
        ReviewDecided::new("r-1", ReviewDecision::Approve, reviewer)
            .with_presented_event_id(shown)
            .with_decided_after_us(41_000_000u64),
        Some(shown),
        [Part::text("rationale", "in policy")],
    );
    scene.tell(ReviewApplied::new("r-1", "resumed"), Some(approved), []);
    let refund = scene.tell(
        ToolAttempted::new("refund")
            .with_effect(Effect::Destructive)
            .with_approval_event_id(approved)
            .with_omitted_inputs(["iban"]),
        Some(approved),
        [Part::json("input", &250).unwrap(), Part::text("input.pin", "1234")],
    );
    let done = ToolCompleted::new("refund", refund, ToolStatus::Panicked).with_duration_us(39u64);
    let done = scene.tell(done, Some(refund), [Part::text("error", "no such account")]);
    let (decided, output) = answer("I could not do it.");
    scene.tell(decided, Some(done), output);
    scene.tell(SessionEnded::new(SessionOutcome::Failed).with_reason("tool"), None, []);
    assert_eq!(
        scene.render(),
        r#"session s-1 · tenant acme · agent support-agent · 2026-11-23 UTC
  07:52:56.123  #0   session started · version 2.1 · for refunds
  07:52:57.123  #1   » user "I want my money back"
  07:52:57.123  #1   model gpt-4o (served by gpt-4o-2024-08-06) → call look_up (call_1), refund (call_2) · 1,412 in / 38 out tokens, 1.2 s
  07:52:58.123  #2   ├ tool look_up attempted · read-only  {"order":"A-1"}
  07:53:00.123  #4   │ └ ✓ ok in 39 ms · touched order A-1  {"name":"Mia"}
  07:52:59.123  #3   ├ review of refund proposed (r-1) · because refunds over 100 EUR  {"amount":250}  (not recorded: desk)
  07:53:01.123  #5   │ ├ presented to reviewer-7 in console
  07:53:02.123  #6   │ ├ ✓ approved by reviewer-7 (human, duty manager) after 41 s: "in policy"
  07:53:03.123  #7   │ └ applied: resumed
  07:53:04.123  #8   └ tool refund attempted · destructive · relies on #6  250  pin="1234"  (not recorded: iban)
  07:53:05.123  #9     └ ✗ PANICKED after 39 µs: "no such account"
  07:53:06.123  #10  model gpt-4o → answered "I could not do it."
  07:53:07.123  #11  ✗ session failed (tool)
"#
    );
}

#[test]
fn every_way_to_end() {
    let mut scene = Scene::new();
    for status in ["ok", "error", "tool_error", "cancelled", "panicked", "unknown", "later"] {
        scene.tool(None, ToolStatus::from(status), "why");
    }
    scene.tell(ToolAttempted::new("pay"), None, []);
    for status in ["error", "cancelled", "panicked", "unknown"] {
        let decided = ModelDecided::new("openai", "gpt-4o", ModelStatus::from(status));
        scene.tell(decided.with_error_code("e1"), None, [Part::text("error", "why")]);
    }
    scene.tell(ModelRequested::new("openai", "gpt-4o"), None, []);
    let lines = scene.lines();
    let expected = [
        "✓ ok in 39 ms: \"why\"",
        "✗ FAILED after 39 ms: \"why\"",
        "✗ FAILED after 39 ms, as its result says: \"why\"",
        "⊘ CANCELLED after 39 ms, what it had done by then stays done: \"why\"",
        "✗ PANICKED after 39 ms: \"why\"",
        "? UNKNOWN after 39 ms, whether it took effect is not known: \"why\"",
        "? later after 39 ms: \"why\"",
        "#14  tool pay attempted\n     └ ? no outcome was recorded\n#15",
        "model gpt-4o ✗ FAILED (e1): \"why\"",
        "model gpt-4o ⊘ CANCELLED (e1): \"why\"",
        "model gpt-4o ✗ PANICKED (e1): \"why\"",
        "model gpt-4o ? UNKNOWN: whether it answered is not known (e1): \"why\"",
        "model gpt-4o asked\n     └ ? no outcome was recorded",
    ];
    for line in expected {
        assert!(lines.contains(line), "{line}\n\nis not in\n\n{lines}");
    }
}

#[test]
fn a_sub_agent_stands_below_the_call_that_spawned_it() {
    let mut scene = Scene::new();
    let decided = scene.tell(model(DecisionKind::Tools), None, []);
    let spawn = scene.tell(ToolAttempted::new("research"), Some(decided), []);
    scene.session = "s-2";
    let started = SessionStarted::new()
        .with_parent_session_id(SessionId::new("s-1").unwrap())
        .with_spawned_by(spawn);
    let start = scene.tell(started, None, []);
    let (decided, output) = answer("found");
    scene.tell(decided, Some(start), output);
    scene.session = "s-1";
    let done = ToolCompleted::new("research", spawn, ToolStatus::Ok);
    let done = scene.tell(done, Some(spawn), []);
    let (decided, output) = answer("done");
    scene.tell(decided, Some(done), output);
    assert_eq!(
        scene.lines(),
        "#0  model gpt-4o → call no tool\n\
         #1  └ tool research attempted\n   \
         \u{20}  ├ ▸ session s-2 · agent support-agent · 2026-11-23 UTC\n\
         #2    │ ├ session started\n\
         #3    │ └ model gpt-4o → answered \"found\"\n\
         #4    └ ✓ ok\n\
         #5  model gpt-4o → answered \"done\""
    );
}

#[test]
fn a_model_asked_inside_a_call_stands_below_it() {
    let mut scene = Scene::new();
    let outer = scene.tell(ToolAttempted::new("summarise"), None, []);
    let first = scene.tell(model(DecisionKind::Tools), Some(outer), []);
    let inner = scene.tell(ToolAttempted::new("read"), Some(first), []);
    let read = scene.tell(ToolCompleted::new("read", inner, ToolStatus::Ok), Some(inner), []);
    scene.tell(answer("short").0, Some(read), []);
    scene.tell(ToolCompleted::new("summarise", outer, ToolStatus::Ok), Some(outer), []);
    assert_eq!(
        scene.lines(),
        "#0  tool summarise attempted\n\
         #1  ├ model gpt-4o → call no tool\n\
         #2  │ └ tool read attempted\n\
         #3  │   └ ✓ ok\n\
         #4  ├ model gpt-4o → answered\n\
         #5  └ ✓ ok"
    );
}

#[test]
fn recorded_text_cannot_draw() {
    let hostile =
        "\u{1b}[2J\u{9b}31m\r\nfake #9 ✓ ok\u{202e}\u{2066}\u{200f}\u{61c}\u{7f}\u{e0041}\"";
    let mut scene = Scene::new();
    let custom = Other::custom("note").unwrap().with_field("text", hostile);
    scene.tell(custom, None, [Part::text("note", hostile)]);
    let attempt = scene.tell(
        ToolAttempted::new(hostile).with_tool_version(hostile),
        None,
        [Part::new("input", "application/json", hostile)],
    );
    let completed = ToolCompleted::new(hostile, attempt, ToolStatus::from(hostile))
        .with_error_code(hostile)
        .with_external_ids([ExternalId::new(hostile, hostile)]);
    scene.tell(completed, None, [Part::text("error", hostile)]);
    let decided = ModelDecided::new("p", hostile, ModelStatus::Ok)
        .with_served_model("other")
        .with_decision(Decision::new(DecisionKind::Branch).with_branch(hostile));
    scene.tell(decided, None, []);
    let reviewer = Reviewer::new(hostile, ReviewerKind::from(hostile)).with_role(hostile);
    scene.tell(ReviewProposed::new(hostile, hostile).with_policy(hostile), None, []);
    scene.tell(ReviewDecided::new("r-2", ReviewDecision::from(hostile), reviewer), None, []);
    scene.tell(ReviewPresented::new("r-2", hostile, hostile), None, []);
    let mut event = Event::example(ChainGap::new(GapReason::from(hostile), 1u64));
    event.session_id = SessionId::new("s\u{202e}").unwrap();
    scene.told.push((event, Vec::new()));
    let findings = [FindingSummary::new(hostile)];
    scene.tell(IntegrityFailed::new("v", 1u64, 1u64).with_findings(findings), None, []);
    let text = scene.render();
    for c in text.chars().filter(|c| *c != '\n') {
        let hides = c.is_control()
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}'
                | '\u{61c}' | '\u{e0000}'..='\u{e007f}');
        assert!(!hides, "{:?} is in\n{text}", c);
    }
    let events = scene.told.len();
    assert_eq!(text.lines().count(), events + 3, "a line for each, two headings, a blank\n{text}");
    assert!(text.contains(
        r#""\u{1b}[2J\u{9b}31m\r\nfake #9 ✓ ok\u{202e}\u{2066}\u{200f}\u{61c}\u{7f}\u{e0041}\"""#
    ));
}

#[test]
fn content_says_what_became_of_it() {
    let mut scene = Scene::new();
    let body = |body: PartBody| {
        let (reference, _) = Part::text("input", "x".repeat(1_234)).commit();
        (Event::example(ToolAttempted::new("pay")).with_content(reference), vec![body])
    };
    let at = Some("2026-11-20T00:00:00.000000000Z".parse().unwrap());
    let gone = |reason| PartBody::Absent { reason, at, evidence: None };
    let long = Part::text("input", "é".repeat(1_234)).commit();
    let binary = Part::new("input", "image/png", vec![0xff; 9]).commit();
    let with = |reference| Event::example(ToolAttempted::new("pay")).with_content(reference);
    scene.told = vec![
        body(PartBody::Sealed(Sealed::new("k", 1, vec![0; 12], vec![0; 48]))),
        body(gone(AbsentReason::Erased)),
        body(gone(AbsentReason::Purged)),
        body(PartBody::Clear { salt: Salt::random(), bytes: b"forged".to_vec() }),
        (with(long.0), vec![long.1]),
        (with(binary.0.clone()), vec![binary.1]),
        (with(binary.0), Vec::new()),
    ];
    for (at, (event, _)) in (0u64..).zip(&mut scene.told) {
        event.sequence = at;
    }
    let text = scene.render();
    let long = format!("\"{}…\" (2,468 bytes)", "é".repeat(120));
    let expected = [
        "attempted  <sealed, 1,234 bytes>",
        "attempted  <erased on 2026-11-20, 1,234 bytes>",
        "attempted  <purged on 2026-11-20, 1,234 bytes>",
        "attempted  <✗ ALTERED: does not match its commitment>",
        &long,
        "attempted  <image/png, 9 bytes>",
        "attempted  <not in this record, 9 bytes>",
    ];
    for line in expected {
        assert!(text.contains(line), "{line}\n\nis not in\n\n{text}");
    }
    assert!(!text.contains("forged"));
}

#[test]
fn a_prompt_is_told_once() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        let context = [ContextItem::new(ContextRole::System, "context.0")];
        let (decided, _) = answer("");
        scene.tell(decided.with_context(context), None, [Part::text("context.0", "be kind")]);
    }
    assert_eq!(scene.render().matches("» system \"be kind\"").count(), 1);
}

#[test]
fn order_and_depth_withstand_a_hostile_log() {
    let mut scene = Scene::new();
    let mut parent = None;
    for _ in 0..5_000 {
        parent = Some(scene.tell(ToolAttempted::new("deeper"), parent, []));
    }
    // A cycle of causes, and a cause that is itself.
    let (last, first) = (parent.unwrap(), scene.told[0].0.event_id);
    scene.told[0].0.parent_event_id = Some(last);
    scene.told[1].0.parent_event_id = Some(scene.told[1].0.event_id);
    scene.told[2].0.parent_event_id = Some(first);
    // A clock that goes back does not reorder a chain.
    scene.told[4_999].0.timestamp_utc = Timestamp::from_nanos(0);
    let text = scene.render();
    assert_eq!(text.matches("attempted").count(), 5_000);
    let (before, after) = (text.find("#4998 ").unwrap(), text.find("#4999 ").unwrap());
    assert!(before < after, "the order of the chain");
    assert!(text.lines().all(|line| line.chars().count() < 120));
}

#[test]
fn several_chains_and_days_are_told_apart() {
    let mut scene = Scene::new();
    scene.tell(ToolAttempted::new("pay"), None, []);
    scene.now = "2026-11-24T00:00:01.000000000Z".parse().unwrap();
    scene.tell(ToolAttempted::new("pay"), None, []);
    scene.told[1].0.chain_id = ChainId::new("chain-2").unwrap();
    scene.told.reverse();
    assert_eq!(
        scene.render(),
        "session s-1 · tenant acme · agent support-agent · 2026-11-23 UTC · chains a=chain-1 b=chain-2\n\
         \u{20} 07:52:56.123  a#0  tool pay attempted\n\
         \u{20}                    └ ? no outcome was recorded\n\
         \u{20}                    ── 2026-11-24 UTC\n\
         \u{20} 00:00:01.000  b#1  tool pay attempted\n\
         \u{20}                    └ ? no outcome was recorded\n"
    );
}
