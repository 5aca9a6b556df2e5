//! `agent-audit session`.

use agent_audit_core::timeline::Timeline;
use agent_audit_query::Access;
use serde::Serialize;

use super::{
    Asking,
    json::{Flat, Linked},
};
use crate::{args::SessionArgs, failure::Failure};

#[derive(Serialize)]
struct Story<'a> {
    session_id: &'a str,
    sessions: Vec<&'a str>,
    events: Vec<Linked<'a>>,
}

pub(super) async fn ask(args: &SessionArgs, asking: &mut Asking<'_>) -> Result<(), Failure> {
    let story = asking.ledger.story(&args.session, true).await?;
    let answer = Access::digest(story.lines.iter().map(|line| &line.found));
    asking.recorder.queried(&asking.ledger, "session", &args.session.as_str(), answer).await?;
    if !asking.args.json {
        let timeline = Timeline::new();
        let timeline = if args.full { timeline.with_content_limit(usize::MAX) } else { timeline };
        let records = story.lines.iter().map(|line| line.found.record());
        return asking.out.text(&timeline.render_records(records));
    }
    let mut events = Vec::with_capacity(story.lines.len());
    for line in &story.lines {
        let event = Flat::of(&line.found)?;
        events.push(Linked {
            depth: Some(line.depth),
            distance: None,
            causes: &line.causes,
            event,
        });
    }
    let story = Story {
        session_id: args.session.as_str(),
        sessions: story.sessions.iter().map(|session| session.as_str()).collect(),
        events,
    };
    asking.out.line(serde_json::to_string(&story)?)
}
