//! Appending: what the server holds is looked at, what is missing is inserted, and what was inserted
//! is looked at again.
//!
//! The server has no unique key. So before an insert the positions are read, to compare what is
//! there and to refuse what does not attach; and after it they are read again, because another
//! writer may have been at the same chain in between. Of two rows at one position the one with the
//! lower block number counts, here and for every reader, and block numbers are given in the order of
//! commits: whoever reads behind its own commit sees every row that could come before its own.
//!
//! Content goes first and events second, so that an event that is there has its content. An insert
//! is one part, all of it or nothing.

use std::collections::{BTreeMap, HashMap};

use agent_audit_core::{
    hash::{self, Hash},
    sink::{ChainRef, Head, Segment, SegmentOutcome, SinkError, SinkErrorKind},
};

use super::{
    client::Client,
    positions::{self, Range},
    row_binary::Writer,
    rows,
};
use crate::{config::ClickHouseConfig, error::Fault};

const NO_DATA_TO_INSERT: u32 = 108;

/// Appends segments: one outcome for each.
pub(crate) async fn append(
    client: &Client,
    config: &ClickHouseConfig,
    segments: &[Segment],
) -> Vec<SegmentOutcome> {
    match try_append(client, config, segments).await {
        Ok(outcomes) => outcomes,
        // Nothing was written yet.
        Err(fault) => segments.iter().map(|_| failed(fault.clone())).collect(),
    }
}

async fn try_append(
    client: &Client,
    config: &ClickHouseConfig,
    segments: &[Segment],
) -> Result<Vec<SegmentOutcome>, Fault> {
    let ranges: Vec<Range<'_>> = segments
        .iter()
        .map(|segment| Range {
            chain: segment.chain(),
            first: segment.first().saturating_sub(1),
            last: segment.last(),
        })
        .collect();
    let mut stored = positions::read(client, &ranges, "read what is stored").await?;
    let mut outcomes: Vec<SegmentOutcome> = Vec::with_capacity(segments.len());
    let mut fresh = Vec::new();
    for (place, segment) in segments.iter().enumerate() {
        let known = stored.of(segment.chain());
        match plan(client, segment, known).await {
            Ok(None) => outcomes.push(SegmentOutcome::Accepted),
            Ok(Some(first)) => {
                fresh.push(Fresh { place, segment, first });
                // What comes behind it in the batch attaches to it.
                known.extend(segment.iter().map(|(at, hash, _)| (at, *hash)));
                outcomes.push(SegmentOutcome::Accepted);
            }
            Err(outcome) => outcomes.push(outcome),
        }
    }
    for (place, outcome) in insert(client, config, fresh).await {
        outcomes[place] = outcome;
    }
    Ok(outcomes)
}

/// Makes sure that the user may insert into both tables, by an insert of no rows.
pub(crate) async fn may_insert(client: &Client) -> Result<(), Fault> {
    for statement in [insert_events(), insert_content()] {
        match client.insert(&statement, &[], bytes::Bytes::new(), "insert nothing").await {
            // Some servers say that there was nothing, and that is how it was meant.
            Err(fault) if fault.code() == Some(NO_DATA_TO_INSERT) => {}
            inserted => inserted?,
        }
    }
    Ok(())
}

fn insert_events() -> String {
    format!("INSERT INTO audit_events (tenant_id, {})", rows::event_columns())
}

fn insert_content() -> String {
    format!("INSERT INTO audit_content (tenant_id, {})", rows::CONTENT_COLUMNS)
}

/// The events of a segment, from a position on, that the server does not have.
#[derive(Debug, Clone, Copy)]
struct Fresh<'a> {
    /// The place of the segment in its batch.
    place: usize,
    segment: &'a Segment,
    first: u64,
}

impl<'a> Fresh<'a> {
    fn range(&self) -> Range<'a> {
        Range { chain: self.segment.chain(), first: self.first, last: self.segment.last() }
    }
}

/// The first position that is to be written, nothing where all is stored, or why it is refused.
async fn plan(
    client: &Client,
    segment: &Segment,
    known: &BTreeMap<u64, Hash>,
) -> Result<Option<u64>, SegmentOutcome> {
    let chain = segment.chain();
    for record in segment.records() {
        rows::check(record).map_err(|reason| {
            let text = format!("append to chain {chain}: {reason}");
            failed(Fault::new(SinkErrorKind::Rejected, text))
        })?;
    }
    let before = segment.first().checked_sub(1);
    let mut head = before.and_then(|at| known.get(&at).map(|hash| Head::new(at, *hash)));
    if before.is_some() && head.is_none() {
        // The segment starts behind the end of what is stored, or what was before it is gone.
        let end = positions::head(client, chain).await.map_err(failed)?;
        segment.attach(end).map_err(|detached| failed_as(detached.into()))?;
        return Err(lost(chain, segment.first() - 1));
    }
    for (at, hash) in known.range(segment.first()..=segment.last()) {
        let next = head.map_or(0, |head| head.sequence + 1);
        if *at != next {
            return Err(lost(chain, next));
        }
        head = Some(Head::new(*at, *hash));
    }
    let attached = segment.attach(head).map_err(|detached| failed_as(detached.into()))?;
    for (sequence, hash) in attached.overlap() {
        if known.get(&sequence) != Some(hash) {
            return Err(SegmentOutcome::Conflict { sequence });
        }
    }
    Ok(attached.fresh().next().map(|(at, ..)| at))
}

/// Inserts everything together; where that fails and the rows may be why, tenant by tenant, and
/// where that fails, chain by chain, so that none suffers from another.
async fn insert(
    client: &Client,
    config: &ClickHouseConfig,
    fresh: Vec<Fresh<'_>>,
) -> Vec<(usize, SegmentOutcome)> {
    let mut outcomes = Vec::with_capacity(fresh.len());
    let mut todo = vec![Group { segments: fresh, content_is_there: false }];
    while let Some(mut group) = todo.pop() {
        if group.segments.is_empty() {
            continue;
        }
        match insert_group(client, config, &mut group).await {
            Ok(done) => outcomes.extend(done),
            Err(fault) => match group.split() {
                Some(groups) if fault.may_be_of_the_rows() => todo.extend(groups),
                _ => {
                    let places = group.segments.iter().map(|fresh| fresh.place);
                    outcomes.extend(places.map(|place| (place, failed(fault.clone()))));
                }
            },
        }
    }
    outcomes
}

/// Segments that are inserted together.
#[derive(Debug)]
struct Group<'a> {
    segments: Vec<Fresh<'a>>,
    content_is_there: bool,
}

impl<'a> Group<'a> {
    /// The group by tenants, or by chains where it is of one tenant; nothing where it is of one chain.
    fn split(&self) -> Option<Vec<Group<'a>>> {
        let by = |same: fn(&ChainRef, &ChainRef) -> bool| {
            let mut groups: Vec<Group<'a>> = Vec::new();
            for fresh in &self.segments {
                let chain = fresh.segment.chain();
                match groups.iter_mut().find(|group| same(group.segments[0].segment.chain(), chain))
                {
                    Some(group) => group.segments.push(*fresh),
                    None => groups.push(Group {
                        segments: vec![*fresh],
                        content_is_there: self.content_is_there,
                    }),
                }
            }
            (groups.len() > 1).then_some(groups)
        };
        by(|one, other| one.tenant_id == other.tenant_id).or_else(|| by(|one, other| one == other))
    }
}

async fn insert_group(
    client: &Client,
    config: &ClickHouseConfig,
    group: &mut Group<'_>,
) -> Result<Vec<(usize, SegmentOutcome)>, Fault> {
    let segments = group.segments.clone();
    let token = token(&segments);
    for deduplicate in [true, false] {
        let (events, content) = encode(config, &segments)?;
        let settings = settings(config, deduplicate.then_some(token.as_str()));
        if !content.is_empty() && !group.content_is_there {
            let rows = content.into_bytes().into();
            let inserted =
                client.insert(&insert_content(), &settings, rows, "insert content").await;
            // Without its event, content counts for nothing.
            inserted.map_err(|fault| fault.maybe_applied(false))?;
        }
        group.content_is_there = true;
        let rows = events.into_bytes().into();
        client.insert(&insert_events(), &settings, rows, "insert events").await?;
        if let Some(outcomes) = confirm(client, &segments).await? {
            return Ok(outcomes);
        }
        // The server knew the token and dropped the rows, but has them no more: someone took them
        // away. Without a token it writes them again.
        group.content_is_there = false;
    }
    Err(Fault::corrupt("insert events: the server acknowledged events that it does not have")
        .maybe_applied(true))
}

/// Looks at what was inserted; nothing where some of it is not there.
async fn confirm(
    client: &Client,
    segments: &[Fresh<'_>],
) -> Result<Option<Vec<(usize, SegmentOutcome)>>, Fault> {
    let ranges: Vec<Range<'_>> = segments.iter().map(Fresh::range).collect();
    let mut stored = positions::read(client, &ranges, "read what was inserted")
        .await
        .map_err(|fault| fault.maybe_applied(true))?;
    let mut outcomes = Vec::with_capacity(segments.len());
    let mut refused: HashMap<&ChainRef, u64> = HashMap::new();
    for fresh in segments {
        let chain = fresh.segment.chain();
        // What follows an event that lost its place has nothing to follow.
        if let Some(before) = refused.get(chain) {
            let text = format!("append to chain {chain}: another event is stored at {before}");
            let fault = Fault::new(SinkErrorKind::Rejected, text).maybe_applied(true);
            outcomes.push((fresh.place, failed(fault)));
            continue;
        }
        let known = stored.of(chain);
        let mut outcome = SegmentOutcome::Accepted;
        for (sequence, hash, _) in fresh.segment.iter().skip_while(|(at, ..)| *at < fresh.first) {
            match known.get(&sequence) {
                Some(stored) if stored == hash => {}
                Some(_) => {
                    refused.insert(chain, sequence);
                    outcome = SegmentOutcome::Conflict { sequence };
                    break;
                }
                None => return Ok(None),
            }
        }
        outcomes.push((fresh.place, outcome));
    }
    Ok(Some(outcomes))
}

fn encode(config: &ClickHouseConfig, segments: &[Fresh<'_>]) -> Result<(Writer, Writer), Fault> {
    let (mut events, mut content) = (Writer::default(), Writer::default());
    for fresh in segments {
        let chain = fresh.segment.chain();
        let days = config.retention_days(&chain.tenant_id);
        for (_, hash, record) in fresh.segment.iter().skip_while(|(at, ..)| *at < fresh.first) {
            rows::write(&mut events, &mut content, chain, hash, record, days).map_err(
                |reason| {
                    Fault::new(
                        SinkErrorKind::Rejected,
                        format!("append to chain {chain}: {reason}"),
                    )
                },
            )?;
        }
    }
    Ok((events, content))
}

/// What an identical insert is known by: all that is under the hashes, in order.
fn token(segments: &[Fresh<'_>]) -> String {
    let mut text = Vec::new();
    for fresh in segments {
        text.extend_from_slice(fresh.segment.chain().to_string().as_bytes());
        text.push(0);
        text.extend_from_slice(&fresh.first.to_le_bytes());
        let hashes = fresh.segment.iter().skip_while(|(at, ..)| *at < fresh.first);
        hashes.for_each(|(_, hash, _)| text.extend_from_slice(hash.as_bytes()));
    }
    hash::leaf(&text).to_string()
}

fn settings<'a>(config: &ClickHouseConfig, token: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
    let mut settings = match config.async_insert {
        true => vec![("async_insert", "1"), ("wait_for_async_insert", "1")],
        false => vec![("async_insert", "0")],
    };
    match token {
        Some(token) => settings.push(("insert_deduplication_token", token)),
        None => settings.push(("insert_deduplicate", "0")),
    }
    settings
}

fn failed(fault: Fault) -> SegmentOutcome {
    failed_as(fault.into())
}

fn failed_as(error: SinkError) -> SegmentOutcome {
    SegmentOutcome::Failed { error }
}

fn lost(chain: &ChainRef, sequence: u64) -> SegmentOutcome {
    failed(Fault::corrupt(format!(
        "append to chain {chain}: event {sequence} was stored and is gone: verify it"
    )))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use agent_audit_core::{conformance::TestChain, id::TenantId};

    use super::*;

    fn fresh(segment: &Segment) -> Fresh<'_> {
        Fresh { place: 0, segment, first: segment.first() }
    }

    #[test]
    fn a_token_is_that_of_the_same_events_alone() {
        let mut chain = TestChain::new();
        let (one, two) = (chain.extend(3), chain.extend(3));
        assert_eq!(token(&[fresh(&one)]), token(&[fresh(&one.clone())]));
        assert_ne!(token(&[fresh(&one)]), token(&[fresh(&two)]));
        assert_ne!(token(&[fresh(&one)]), token(&[fresh(&one), fresh(&two)]));
        assert_ne!(token(&[fresh(&one)]), token(&[Fresh { first: 1, ..fresh(&one) }]));
    }

    #[test]
    fn groups_become_smaller_until_they_are_of_one_chain() {
        let acme = TenantId::new("acme").unwrap();
        let mut chains = [
            TestChain::of(acme.clone()),
            TestChain::of(acme),
            TestChain::of(TenantId::new("globex").unwrap()),
        ];
        let segments: Vec<Segment> =
            chains.iter_mut().chain([]).map(|chain| chain.extend(1)).collect();
        let again = chains[0].extend(1);
        let all = segments.iter().chain([&again]).map(fresh).collect();
        let group = Group { segments: all, content_is_there: true };
        let tenants = group.split().unwrap();
        assert_eq!(tenants.iter().map(|g| g.segments.len()).collect::<Vec<_>>(), [3, 1]);
        let chains = tenants[0].split().unwrap();
        assert_eq!(chains.iter().map(|g| g.segments.len()).collect::<Vec<_>>(), [2, 1]);
        assert!(chains[0].split().is_none() && chains[0].content_is_there);
    }

    #[test]
    fn an_insert_is_always_waited_for() {
        let config = ClickHouseConfig::new("http://localhost");
        assert_eq!(
            settings(&config, Some("t")),
            [("async_insert", "0"), ("insert_deduplication_token", "t")]
        );
        let gathering = config.clone().with_async_insert(true);
        assert_eq!(
            settings(&gathering, None),
            [("async_insert", "1"), ("wait_for_async_insert", "1"), ("insert_deduplicate", "0")]
        );
    }
}
