//! The story of a session as lines that a person can read.
//!
//! ```text
//! session s-1 · tenant acme · agent support-agent · 2026-11-23 UTC
//!   07:52:56.123  #1  » user "I want my money back"
//!   07:52:56.123  #1  model gpt-4o → call refund (call_1) · 412 in / 38 out tokens, 1.2 s
//!   07:52:57.001  #2  ├ review of refund proposed (r-1)  {"order":"A-1"}
//!   07:52:57.101  #3  │ ├ presented to reviewer-7 in console
//!   07:53:38.101  #4  │ └ ✓ approved by reviewer-7 (human) after 41 s: "in policy"
//!   07:53:38.200  #5  └ tool refund attempted · destructive · relies on #4  {"order":"A-1"}
//!   07:53:38.239  #6    └ ✗ PANICKED after 39 ms: "no such account"
//! ```
//!
//! - One line for each event; `#` is its position in the chain. What an event caused stands below
//!   it, indented; the session of a sub-agent stands below the call that spawned it.
//! - `✓` went well, `✗` failed or is a fault, `⊘` was stopped, `?` is not known. An attempt of which
//!   no end was recorded says so.
//! - Long content is cut and its size given. Content that is sealed, erased or purged is shown as
//!   such; content that does not match its commitment is not shown at all.
//! - Recorded text cannot draw on the terminal: see [`visible`].
//!
//! The text has no colours and no width; it is for reading, and says nothing about integrity.

mod rows;
#[cfg(test)]
mod tests;
mod visible;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Write as _,
};

pub use visible::{Visible, visible};

use crate::{
    chain::ChainRef,
    content::PartBody,
    event::{Event, Payload, session::Provenance},
    hash::{self, Hash},
    id::{EventId, SessionId, TenantId},
    record::Record,
};
use rows::Row;

/// How many characters of one piece of content are shown, unless asked otherwise.
const CONTENT_LIMIT: usize = 120;
/// How deep lines are indented at most; what lies deeper stands at this depth.
const MAX_DEPTH: usize = 24;

/// Renders events as lines that a person can read. See the [module](self) for how they look.
///
/// ```
/// use agent_audit_core::{event::{Event, tool::ToolAttempted}, timeline::Timeline};
/// let event = Event::example(ToolAttempted::new("refund"));
/// let text = Timeline::new().render([(&event, &[][..])]);
/// assert!(text.starts_with("session session-1 · tenant acme · agent support-agent"));
/// assert!(text.contains("tool refund attempted"));
/// assert!(text.contains("? no outcome was recorded"));
/// ```
#[derive(Debug, Clone)]
pub struct Timeline {
    content_limit: usize,
}

impl Default for Timeline {
    fn default() -> Self {
        Self::new()
    }
}

impl Timeline {
    /// A renderer that shows the beginning of each piece of content.
    #[must_use]
    pub fn new() -> Self {
        Self { content_limit: CONTENT_LIMIT }
    }

    /// Sets how many characters of each piece of content are shown.
    ///
    /// ```
    /// use agent_audit_core::{content::Part, event::{Event, tool::ToolAttempted}, timeline::Timeline};
    /// let (reference, body) = Part::text("input", "a long input").commit();
    /// let event = Event::example(ToolAttempted::new("refund")).with_content(reference);
    /// let text = Timeline::new().with_content_limit(6).render([(&event, &[body][..])]);
    /// assert!(text.contains("\"a long…\" (12 bytes)"));
    /// ```
    #[must_use]
    pub fn with_content_limit(mut self, characters: usize) -> Self {
        self.content_limit = characters;
        self
    }

    /// Renders events and the bodies of their content, in whatever order they come.
    ///
    /// They are put in the order of time, and of position within a chain; sessions come in the
    /// order in which they began.
    #[must_use]
    pub fn render<'a>(
        &self,
        entries: impl IntoIterator<Item = (&'a Event, &'a [PartBody])>,
    ) -> String {
        let entries: Vec<_> = entries.into_iter().collect();
        let order = chronological(entries.iter().map(|(event, _)| *event));
        let entries: Vec<_> = order.into_iter().map(|at| entries[at]).collect();
        if entries.is_empty() {
            return "nothing was recorded\n".to_owned();
        }
        Story::new(&entries, self.content_limit).draw()
    }

    /// Renders records; those that cannot be read are counted at the end.
    ///
    /// ```
    /// use agent_audit_core::{record::Record, timeline::Timeline};
    /// let text = Timeline::new().render_records([&Record::new(b"{}".to_vec(), Vec::new())]);
    /// assert_eq!(text, "✗ 1 record cannot be read\n");
    /// ```
    #[must_use]
    pub fn render_records<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> String {
        let mut unreadable = 0u64;
        let mut entries = Vec::new();
        for record in records {
            match record.event() {
                Ok(event) => entries.push((event, record.parts())),
                Err(_) => unreadable += 1,
            }
        }
        let mut text = match (entries.is_empty(), unreadable) {
            (true, 1..) => String::new(),
            _ => self.render(entries.iter().map(|(event, parts)| (event, *parts))),
        };
        if unreadable > 0 {
            let records = rows::plural(unreadable, "record");
            let _ = writeln!(text, "✗ {records} cannot be read");
        }
        text
    }
}

/// The order in which events are told: of time, and of position within a chain.
///
/// A clock that goes back inside a chain does not change the order of the chain.
pub(crate) fn chronological<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<usize> {
    let mut chains = BTreeMap::<_, Vec<_>>::new();
    for (at, event) in events.into_iter().enumerate() {
        let chain = (&event.tenant_id, event.chain_id.as_str());
        let place = (event.sequence, at, event.timestamp_utc.as_nanos());
        chains.entry(chain).or_default().push(place);
    }
    let mut order = Vec::new();
    for (chain, mut places) in chains {
        places.sort_unstable();
        let mut latest = 0;
        for (sequence, at, nanos) in places {
            latest = latest.max(nanos);
            order.push((latest, chain, sequence, at));
        }
    }
    order.sort_unstable();
    order.into_iter().map(|(.., at)| at).collect()
}

type SessionKey<'a> = (&'a TenantId, &'a SessionId);

/// Lines and what stands below what.
struct Story {
    nodes: Vec<Node>,
    roots: Vec<usize>,
}

/// What a line is about, as far as it decides what stands below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Header,
    Model,
    Attempt,
    Review,
    Outcome,
    Other,
}

impl Kind {
    fn of(payload: &Payload) -> Self {
        match payload {
            Payload::ModelRequested(_) | Payload::ModelDecided(_) => Self::Model,
            Payload::ToolAttempted(_) => Self::Attempt,
            Payload::ToolCompleted(_) => Self::Outcome,
            Payload::ReviewProposed(_)
            | Payload::ReviewPresented(_)
            | Payload::ReviewDecided(_)
            | Payload::ReviewApplied(_) => Self::Review,
            _ => Self::Other,
        }
    }
}

struct Node {
    kind: Kind,
    /// When and where; absent for lines that are no event.
    time: Option<String>,
    number: String,
    text: String,
    /// In the order of the story.
    children: Vec<usize>,
    depth: usize,
    parent: Option<usize>,
}

impl Node {
    fn new(kind: Kind, text: impl Into<String>) -> Self {
        let (time, number, children) = (None, String::new(), Vec::new());
        Self { kind, time, number, text: text.into(), children, depth: 0, parent: None }
    }

    fn at(mut self, time: &str, number: &str) -> Self {
        self.time = Some(time.to_owned());
        number.clone_into(&mut self.number);
        self
    }
}

/// What the lines of one session share.
struct Session {
    header: usize,
    day: String,
    /// Prompts that were told already.
    told: HashSet<Hash>,
}

impl Story {
    fn new(entries: &[(&Event, &[PartBody])], content_limit: usize) -> Self {
        let labels = Labels::new(entries);
        let mut story = Self { nodes: Vec::new(), roots: Vec::new() };
        let mut sessions: HashMap<SessionKey<'_>, Session> = HashMap::new();
        let mut events: HashMap<(&TenantId, EventId), usize> = HashMap::new();
        let mut reviews: HashMap<(&TenantId, &str), usize> = HashMap::new();
        let ended = ended(entries);
        for (event, parts) in entries {
            let key = (&event.tenant_id, &event.session_id);
            let above = |id: &EventId| events.get(&(&event.tenant_id, *id)).copied();
            if !sessions.contains_key(&key) {
                let session = story.open_session(event, &labels, &sessions, above);
                sessions.insert(key, session);
            }
            let session = sessions.get_mut(&key).expect("it was put there above");
            let review = rows::review_id(&event.payload).map(|id| (&event.tenant_id, id));
            let under = review
                .filter(|_| !matches!(event.payload, Payload::ReviewProposed(_)))
                .and_then(|review| reviews.get(&review).copied())
                .or_else(|| story.cause(event, above))
                .filter(|&at| story.is_below(at, session.header));
            story.day(event, session);
            let about = |at: usize| matches!(story.nodes[at].kind, Kind::Attempt | Kind::Review);
            let row = Row::new(event, parts, content_limit, &labels, under.is_some_and(about));
            let time = event.timestamp_utc.to_string()[11..23].to_owned();
            let number = labels.of(event);
            let under = under.unwrap_or(session.header);
            for (bytes, line) in row.prompts() {
                if session.told.insert(hash::leaf(bytes)) {
                    let line = Node::new(Kind::Other, line).at(&time, &number);
                    story.push(under, line);
                }
            }
            let line = Node::new(Kind::of(&event.payload), row.text()).at(&time, &number);
            let at = story.push(under, line);
            events.entry((&event.tenant_id, event.event_id)).or_insert(at);
            if let Some(review) = review {
                reviews.entry(review).or_insert(at);
            }
        }
        for (event, _) in entries {
            let begun =
                matches!(event.payload, Payload::ToolAttempted(_) | Payload::ModelRequested(_));
            let id = (&event.tenant_id, event.event_id);
            if begun && !ended.contains(&id) {
                story.push(events[&id], Node::new(Kind::Other, "? no outcome was recorded"));
            }
        }
        story
    }

    /// Adds the heading of a session, below the call that spawned it where that is told too.
    fn open_session<'a>(
        &mut self,
        first: &'a Event,
        labels: &Labels<'a>,
        sessions: &HashMap<SessionKey<'_>, Session>,
        above: impl Fn(&EventId) -> Option<usize>,
    ) -> Session {
        let mut under = first.parent_event_id.as_ref().and_then(&above);
        if let Payload::SessionStarted(started) = &first.payload {
            let spawned = started.spawned_by.as_ref().and_then(&above);
            let parent = started.parent_session_id.as_ref();
            let outer = parent.and_then(|id| sessions.get(&(&first.tenant_id, id)));
            under = spawned.or(under).or(outer.map(|session| session.header));
        }
        let day = first.timestamp_utc.to_string()[..10].to_owned();
        let mut text = format!("session {}", visible(first.session_id.as_str()));
        if under.is_none() {
            let _ = write!(text, " · tenant {}", visible(first.tenant_id.as_str()));
        }
        let _ = write!(text, " · agent {} · {day} UTC", visible(first.agent_id.as_str()));
        if rows::provenance(&first.payload) == Some(&Provenance::Imported) {
            text.push_str(" · imported");
        }
        labels.legend(first, &mut text);
        let header = match under {
            Some(under) => self.push(under, Node::new(Kind::Header, format!("▸ {text}"))),
            None => {
                self.nodes.push(Node::new(Kind::Header, text));
                self.roots.push(self.nodes.len() - 1);
                self.nodes.len() - 1
            }
        };
        Session { header, day, told: HashSet::new() }
    }

    /// The line below which an event stands.
    ///
    /// Not every cause indents: an agent that goes from decision to decision would walk off the
    /// page. What a decision, a call or a review brought about stands below it; the next decision
    /// stands level with the one before, unless a call is under way in which it was taken.
    fn cause(&self, event: &Event, above: impl Fn(&EventId) -> Option<usize>) -> Option<usize> {
        let parent = event.parent_event_id.as_ref().and_then(&above);
        match &event.payload {
            Payload::ToolCompleted(completed) => above(&completed.attempt_event_id).or(parent),
            Payload::ModelRequested(_) | Payload::ModelDecided(_) => self.level(parent?),
            Payload::ToolAttempted(_) | Payload::ReviewProposed(_) => self.beside(parent?),
            Payload::SessionStarted(_) | Payload::SessionEnded(_) => None,
            _ => parent,
        }
    }

    /// The line below which the next decision stands.
    fn level(&self, at: usize) -> Option<usize> {
        let mut at = self.beside(at)?;
        loop {
            let node = &self.nodes[at];
            match node.kind {
                Kind::Header | Kind::Attempt => return Some(at),
                Kind::Model => return node.parent,
                Kind::Review | Kind::Outcome | Kind::Other => at = self.beside(node.parent?)?,
            }
        }
    }

    /// The line itself, or where it is about a call or review that ended, what brought that about.
    fn beside(&self, at: usize) -> Option<usize> {
        let mut at = at;
        loop {
            let node = &self.nodes[at];
            let parent = node.parent.map(|parent| &self.nodes[parent]);
            at = match (node.kind, parent.map(|parent| parent.kind)) {
                (Kind::Outcome, Some(Kind::Attempt)) => parent?.parent?,
                (Kind::Outcome | Kind::Review, _) => node.parent?,
                _ => return Some(at),
            };
        }
    }

    fn is_below(&self, at: usize, header: usize) -> bool {
        let mut next = Some(at);
        while let Some(at) = next {
            if at == header {
                return true;
            }
            next = self.nodes[at].parent;
        }
        false
    }

    /// Adds a line where a session goes on on another day.
    fn day(&mut self, event: &Event, session: &mut Session) {
        let day = event.timestamp_utc.to_string()[..10].to_owned();
        if day != session.day {
            self.push(session.header, Node::new(Kind::Other, format!("── {day} UTC")));
            session.day = day;
        }
    }

    fn push(&mut self, under: usize, mut node: Node) -> usize {
        let mut under = under;
        if self.nodes[under].depth >= MAX_DEPTH {
            under = self.nodes[under].parent.unwrap_or(under);
        }
        node.depth = self.nodes[under].depth + 1;
        node.parent = Some(under);
        let at = self.nodes.len();
        self.nodes[under].children.push(at);
        self.nodes.push(node);
        at
    }

    fn draw(&self) -> String {
        let mut out = String::new();
        let width = self.nodes.iter().map(|node| node.number.chars().count()).max().unwrap_or(0);
        for &root in &self.roots {
            if !out.is_empty() {
                out.push('\n');
            }
            let _ = writeln!(out, "{}", self.nodes[root].text);
            for &child in &self.nodes[root].children {
                self.draw_node(child, "", "", width, &mut out);
            }
        }
        out
    }

    fn draw_node(&self, at: usize, first: &str, below: &str, width: usize, out: &mut String) {
        let node = &self.nodes[at];
        let time = node.time.as_deref().unwrap_or_default();
        let _ = writeln!(out, "  {time:12}  {:width$}  {first}{}", node.number, node.text);
        let last = node.children.len().wrapping_sub(1);
        for (nth, &child) in node.children.iter().enumerate() {
            let (branch, trunk) = if nth == last { ("└ ", "  ") } else { ("├ ", "│ ") };
            self.draw_node(
                child,
                &format!("{below}{branch}"),
                &format!("{below}{trunk}"),
                width,
                out,
            );
        }
    }
}

/// The attempts and requests whose end was recorded.
fn ended<'a>(entries: &[(&'a Event, &[PartBody])]) -> HashSet<(&'a TenantId, EventId)> {
    let ends = entries.iter().filter_map(|(event, _)| match &event.payload {
        Payload::ToolCompleted(completed) => Some((&event.tenant_id, completed.attempt_event_id)),
        Payload::ModelDecided(decided) => {
            Some((&event.tenant_id, decided.request_event_id.or(event.parent_event_id)?))
        }
        _ => None,
    });
    ends.collect()
}

/// How events are named in the text: by position, and by a letter where there are several chains.
struct Labels<'a> {
    chains: BTreeMap<SessionKey<'a>, Vec<ChainRef>>,
    events: HashMap<(&'a TenantId, EventId), String>,
}

impl<'a> Labels<'a> {
    fn new(entries: &[(&'a Event, &[PartBody])]) -> Self {
        let mut labels = Self { chains: BTreeMap::new(), events: HashMap::new() };
        for (event, _) in entries {
            let chain = ChainRef::new(event.tenant_id.clone(), event.chain_id.clone());
            let chains = labels.chains.entry((&event.tenant_id, &event.session_id)).or_default();
            if !chains.contains(&chain) {
                chains.push(chain);
            }
        }
        for (event, _) in entries {
            let label = labels.of(event);
            labels.events.insert((&event.tenant_id, event.event_id), label);
        }
        labels
    }

    fn of(&self, event: &Event) -> String {
        let chains = self.chains.get(&(&event.tenant_id, &event.session_id));
        let chains = chains.map_or(&[][..], Vec::as_slice);
        let nth = chains.iter().position(|chain| chain.chain_id == event.chain_id).unwrap_or(0);
        match chains.len() {
            0 | 1 => format!("#{}", event.sequence),
            _ => format!("{}#{}", letter(nth), event.sequence),
        }
    }

    fn of_id(&self, tenant: &TenantId, id: EventId) -> String {
        self.events.get(&(tenant, id)).cloned().unwrap_or_else(|| format!("event {id}"))
    }

    fn legend(&self, first: &Event, text: &mut String) {
        let chains = self.chains.get(&(&first.tenant_id, &first.session_id));
        if let Some(chains) = chains.filter(|chains| chains.len() > 1) {
            text.push_str(" · chains");
            for (nth, chain) in chains.iter().enumerate() {
                let _ = write!(text, " {}={}", letter(nth), visible(chain.chain_id.as_str()));
            }
        }
    }
}

/// The letter of the n-th chain; beyond the alphabet, its number.
fn letter(nth: usize) -> String {
    let letters = u8::try_from(nth).ok().filter(|nth| *nth < 26);
    letters.map_or_else(|| format!("{nth}:"), |nth| char::from(b'a' + nth).to_string())
}
