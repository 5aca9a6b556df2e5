//! Ledgers of any size, to be asked about: many sessions of real shape.

use std::collections::VecDeque;

use agent_audit_core::{
    content::{ContentRef, Part, PartBody},
    event::{
        Event, Payload,
        model::{
            ContextItem, ContextRole, Decision, DecisionKind, ModelDecided, ModelStatus,
            SelectedCall, Usage,
        },
        review::{
            ReviewApplied, ReviewDecided, ReviewDecision, ReviewPresented, ReviewProposed,
            Reviewer, ReviewerKind,
        },
        session::{SessionEnded, SessionOutcome, SessionStarted},
        tool::{Effect, ExternalId, ToolAttempted, ToolCompleted, ToolStatus},
    },
    hash::Hash,
    id::{AgentId, CallId, ChainId, EventId, SessionId, SubjectId, TenantId, TraceId},
    record::Record,
    sink::{ChainRef, Segment},
    timestamp::Timestamp,
};

/// Sessions of one tenant, on some chains: a model, tools, a review, now and then a sub-agent; about
/// 20 events each, a few sessions at a time on each chain.
///
/// ```
/// use agent_audit_test_support::sessions::Sessions;
/// let mut sessions = Sessions::new("acme".parse()?, 2, 1_767_225_600_000_000_000, 1_000_000);
/// let segments = sessions.next(30);
/// assert_eq!(segments.iter().map(|segment| segment.len()).collect::<Vec<_>>(), [30, 30]);
/// assert_eq!(sessions.next(5)[0].first(), 30);
/// # Ok::<(), agent_audit_core::id::InvalidId>(())
/// ```
#[derive(Debug)]
pub struct Sessions {
    chains: Vec<Chain>,
    time: u64,
    step: u64,
    begun: usize,
}

#[derive(Debug)]
struct Chain {
    chain: ChainRef,
    next: u64,
    head: Hash,
    /// What is still to come of the sessions that are open.
    open: VecDeque<Script>,
}

type Script = VecDeque<(Event, Vec<PartBody>)>;

/// How many sessions are open on a chain at a time.
const AT_A_TIME: usize = 6;

impl Sessions {
    /// No sessions yet. The first event is recorded at this many nanoseconds after 1970, and each one
    /// so many behind the one before, which may be none.
    ///
    /// # Panics
    /// Where the start is before the first millisecond.
    #[must_use]
    pub fn new(tenant: TenantId, chains: usize, start: u64, step: u64) -> Self {
        let chain = |_| Chain {
            chain: ChainRef::new(tenant.clone(), ChainId::random()),
            next: 0,
            head: Hash::ZERO,
            open: VecDeque::new(),
        };
        Self { chains: (0..chains).map(chain).collect(), time: start, step, begun: 0 }
    }

    /// The next so many events of each chain.
    ///
    /// # Panics
    /// Where there are none, because a segment is never empty.
    pub fn next(&mut self, events: usize) -> Vec<Segment> {
        let mut records: Vec<Vec<Record>> = self.chains.iter().map(|_| Vec::new()).collect();
        for _ in 0..events {
            for (at, records) in records.iter_mut().enumerate() {
                records.push(self.record(at));
            }
        }
        let chains = self.chains.iter().map(|chain| chain.chain.clone());
        chains.zip(records).map(|(chain, records)| Segment::new(chain, records).unwrap()).collect()
    }

    fn record(&mut self, at: usize) -> Record {
        let (time, chain) = (self.time, &mut self.chains[at]);
        self.time += self.step;
        while chain.open.len() < AT_A_TIME {
            chain.open.push_back(session(self.begun, time));
            self.begun += 1;
        }
        let mut script = chain.open.pop_front().unwrap();
        let (mut event, bodies) = script.pop_front().unwrap();
        if !script.is_empty() {
            chain.open.push_back(script);
        }
        event.tenant_id = chain.chain.tenant_id.clone();
        event.chain_id = chain.chain.chain_id.clone();
        event.sequence = chain.next;
        event.previous_event_hash = chain.head;
        event.timestamp_utc = Timestamp::from_nanos(time);
        let record = Record::new(event.canonical_bytes().unwrap(), bodies);
        chain.next += 1;
        chain.head = record.event_hash();
        record
    }
}

/// Writes a session.
struct Writer {
    script: Script,
    millis: u64,
    session: SessionId,
    agent: AgentId,
    subject: Option<SubjectId>,
    trace: TraceId,
}

fn session(number: usize, time: u64) -> Script {
    let mut writer = Writer {
        script: Script::new(),
        millis: time / 1_000_000,
        session: SessionId::new(format!("session-{number:07}")).unwrap(),
        agent: AgentId::new(["support", "billing", "ops"][number % 3]).unwrap(),
        subject: number
            .is_multiple_of(2)
            .then(|| SubjectId::new(format!("p-{}", number / 8)).unwrap()),
        trace: TraceId::new(format!("{:032x}", number + 1)).unwrap(),
    };
    let started = writer.add(None, SessionStarted::new().with_agent_version("1.4"), &[]);
    let mut last = started;
    for turn in 0..3 {
        let name = ["lookup_order", "search", "list_invoices", "send_mail"][(number + turn) % 4];
        let call = CallId::new(format!("call-{number}-{turn}")).unwrap();
        let decided = writer.model(last, number, Some((&call, name)));
        last = writer.tool(decided, number, &call, name, None);
    }
    let call = CallId::new(format!("call-{number}-refund")).unwrap();
    let decided = writer.model(last, number, Some((&call, "refund")));
    let review = format!("review-{number}");
    let proposed = ReviewProposed::new(&*review, "refund").with_proposed_call_id(call.clone());
    let proposed = writer.add(Some(decided), proposed, &[r#"{"amount":40,"currency":"EUR"}"#]);
    let reviewer = format!("reviewer-{}", number % 40);
    let presented =
        ReviewPresented::new(&*review, &*reviewer, "console").with_proposed_event_id(proposed);
    let presented = writer.add(Some(proposed), presented, &["Refund 40 EUR to the customer?"]);
    let approve = !number.is_multiple_of(7);
    let decision = if approve { ReviewDecision::Approve } else { ReviewDecision::Reject };
    let decision =
        ReviewDecided::new(&*review, decision, Reviewer::new(reviewer, ReviewerKind::Human))
            .with_proposed_event_id(proposed)
            .with_presented_event_id(presented)
            .with_decided_after_us(4_000_000u64);
    let approval = writer.add(Some(proposed), decision, &["within policy"]);
    let state = if approve { "resumed" } else { "stopped" };
    writer.add(Some(approval), ReviewApplied::new(review, state), &[]);
    if approve {
        writer.tool(decided, number, &call, "refund", Some(approval));
    }
    if number.is_multiple_of(10) {
        writer.sub_agent(decided, number);
    }
    writer.model(approval, number, None);
    writer.add(Some(started), SessionEnded::new(SessionOutcome::Completed), &[]);
    writer.script
}

impl Writer {
    fn add(
        &mut self,
        parent: Option<EventId>,
        payload: impl Into<Payload>,
        content: &[&str],
    ) -> EventId {
        let mut event = Event::example(payload);
        // As if it had been made when the session began.
        let mut id = *event.event_id.as_bytes();
        id[..6].copy_from_slice(&self.millis.to_be_bytes()[2..]);
        event.event_id = EventId::from_bytes(id).unwrap();
        event.session_id = self.session.clone();
        event.agent_id = self.agent.clone();
        event.subject_id = self.subject.clone();
        event.trace_id = Some(self.trace.clone());
        event.parent_event_id = parent;
        let commit = |(at, text): (usize, &&str)| Part::text(format!("part.{at}"), *text).commit();
        let (references, bodies): (Vec<ContentRef>, _) =
            content.iter().enumerate().map(commit).unzip();
        event.content = references;
        let id = event.event_id;
        self.script.push_back((event, bodies));
        id
    }

    fn model(&mut self, parent: EventId, number: usize, call: Option<(&CallId, &str)>) -> EventId {
        let kind = if call.is_some() { DecisionKind::Tools } else { DecisionKind::Content };
        let calls = call.map(|(call, tool)| SelectedCall::new(call.clone(), tool));
        let model = ["gpt-5", "gpt-5-mini", "claude-sonnet"][number % 3];
        let payload = ModelDecided::new("openai", model, ModelStatus::Ok)
            .with_served_model(format!("{model}-2026-{:02}", number % 5 + 1))
            .with_context([ContextItem::new(ContextRole::User, "part.0")])
            .with_usage(Usage::new().with_input_tokens(812u64).with_output_tokens(64u64))
            .with_latency_us(900_000u64)
            .with_decision(Decision::new(kind).with_tool_calls(calls));
        let asked = "My order has not arrived, and I want my money back. It was due last Tuesday.";
        self.add(Some(parent), payload, &[asked, "I look at the order first."])
    }

    fn tool(
        &mut self,
        parent: EventId,
        number: usize,
        call: &CallId,
        name: &str,
        approval: Option<EventId>,
    ) -> EventId {
        let mut attempted =
            ToolAttempted::new(name).with_effect(Effect::ReadOnly).with_call_id(call.clone());
        attempted.approval_event_id = approval;
        let attempted = self.add(Some(parent), attempted, &[r#"{"order":"A-1","verbose":false}"#]);
        let status = if number.is_multiple_of(50) { ToolStatus::Error } else { ToolStatus::Ok };
        let completed = ToolCompleted::new(name, attempted, status)
            .with_call_id(call.clone())
            .with_duration_us(40_000u64)
            .with_external_ids([ExternalId::new("order", format!("A-{}", number / 3))]);
        self.add(Some(attempted), completed, &[r#"{"order":"A-1","state":"lost","amount":40}"#]);
        attempted
    }

    /// A session in the session, under a call that spawned it.
    fn sub_agent(&mut self, parent: EventId, number: usize) {
        let call = CallId::new(format!("call-{number}-delegate")).unwrap();
        let attempted = ToolAttempted::new("delegate").with_call_id(call.clone());
        let spawn = self.add(Some(parent), attempted, &[r#"{"task":"where is the parcel?"}"#]);
        let outer = (self.session.clone(), self.agent.clone());
        self.session = SessionId::new(format!("{}/research", outer.0)).unwrap();
        self.agent = AgentId::new("research").unwrap();
        let started =
            SessionStarted::new().with_parent_session_id(outer.0.clone()).with_spawned_by(spawn);
        let started = self.add(Some(spawn), started, &[]);
        let search = CallId::new(format!("call-{number}-search")).unwrap();
        let decided = self.model(started, number, Some((&search, "search")));
        self.tool(decided, number, &search, "search", None);
        self.add(Some(started), SessionEnded::new(SessionOutcome::Completed), &[]);
        (self.session, self.agent) = outer;
        let completed = ToolCompleted::new("delegate", spawn, ToolStatus::Ok).with_call_id(call);
        self.add(Some(spawn), completed, &["it was lost"]);
    }
}
