//! In which order events come, and how to go on from one of them.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::Found;

/// The order in which events come.
///
/// Both are total and never change: new events stand behind old ones of the same chain, and a clock
/// that was set back moves no event that was read before.
///
/// ```
/// assert_eq!(agent_audit_query::Order::default(), agent_audit_query::Order::Time);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[expect(clippy::exhaustive_enums, reason = "a store must know how to sort by each of them")]
pub enum Order {
    /// By the time of recording, then chain id, then position.
    #[default]
    Time,
    /// By chain id (byte by byte), then position.
    Chain,
}

/// A place in an order: behind one event and before the next.
///
/// Its text form is opaque; keep it and hand it back.
///
/// ```
/// use agent_audit_query::Cursor;
/// let cursor = Cursor::new(1_700_000_000_000_000_000, "chain-1", 7);
/// assert_eq!(cursor.to_string().parse::<Cursor>(), Ok(cursor));
/// assert!("nonsense".parse::<Cursor>().is_err());
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    timestamp: i64,
    chain: String,
    sequence: u64,
}

impl Cursor {
    /// The place of an event: nanoseconds since 1970, the chain and the position.
    #[must_use]
    pub fn new(timestamp: i64, chain: impl Into<String>, sequence: u64) -> Self {
        Self { timestamp, chain: chain.into(), sequence }
    }

    /// When the event was recorded, in nanoseconds since 1970.
    #[must_use]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The chain of the event.
    #[must_use]
    pub fn chain(&self) -> &str {
        &self.chain
    }

    /// The position of the event in its chain.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How this place compares with another one in an order.
    #[must_use]
    pub fn cmp_in(&self, other: &Self, order: Order) -> std::cmp::Ordering {
        let by_chain = self.chain.cmp(&other.chain).then(self.sequence.cmp(&other.sequence));
        match order {
            Order::Time => self.timestamp.cmp(&other.timestamp).then(by_chain),
            Order::Chain => by_chain,
        }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{}.{}", self.timestamp, self.sequence, self.chain);
        f.write_str(&URL_SAFE_NO_PAD.encode(text))
    }
}

/// Text that is no [`Cursor`].
///
/// ```
/// let error = "%".parse::<agent_audit_query::Cursor>().unwrap_err();
/// assert!(error.to_string().starts_with("not a cursor"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: give the text that came with a page, whole and unchanged")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidCursor)?;
        let text = String::from_utf8(bytes).map_err(|_| InvalidCursor)?;
        let mut fields = text.splitn(3, '.');
        let mut field = || fields.next().ok_or(InvalidCursor);
        let (timestamp, sequence, chain) = (field()?, field()?, field()?);
        Ok(Self {
            timestamp: timestamp.parse().map_err(|_| InvalidCursor)?,
            sequence: sequence.parse().map_err(|_| InvalidCursor)?,
            chain: chain.to_owned(),
        })
    }
}

/// Which page of an answer is wanted.
///
/// ```
/// use agent_audit_query::{Cursor, Order, Request};
/// let request = Request::last(50).order(Order::Chain).content();
/// assert_eq!(request.limit(), 50);
/// assert_eq!(Request::before(Cursor::new(0, "c", 0), 9_999_999).limit(), Request::MAX);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) order: Order,
    pub(crate) backwards: bool,
    pub(crate) from: Option<Cursor>,
    pub(crate) limit: usize,
    pub(crate) content: bool,
}

impl Request {
    /// The most events of one page.
    pub const MAX: usize = 10_000;

    fn new(backwards: bool, from: Option<Cursor>, limit: usize) -> Self {
        let limit = limit.clamp(1, Self::MAX);
        Self { order: Order::Time, backwards, from, limit, content: false }
    }

    /// The first events, at most so many.
    #[must_use]
    pub fn first(limit: usize) -> Self {
        Self::new(false, None, limit)
    }

    /// The last events, at most so many; they come in the order asked for, like every page.
    #[must_use]
    pub fn last(limit: usize) -> Self {
        Self::new(true, None, limit)
    }

    /// The events behind a place.
    #[must_use]
    pub fn after(place: Cursor, limit: usize) -> Self {
        Self::new(false, Some(place), limit)
    }

    /// The events before a place.
    #[must_use]
    pub fn before(place: Cursor, limit: usize) -> Self {
        Self::new(true, Some(place), limit)
    }

    /// Sets the order; by time unless said.
    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// Also asks for the bodies of content.
    #[must_use]
    pub fn content(mut self) -> Self {
        self.content = true;
        self
    }

    /// How many events at most.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }
}

/// Some events, in order, and how to go on in both directions.
///
/// ```
/// let page = agent_audit_query::Page::default();
/// assert!(page.events.is_empty() && page.next.is_none());
/// ```
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Page {
    /// The events, in the order that was asked for.
    pub events: Vec<Found>,
    /// The place behind the last of them, where there may be more.
    pub next: Option<Cursor>,
    /// The place before the first of them, where there may be more.
    pub previous: Option<Cursor>,
}
