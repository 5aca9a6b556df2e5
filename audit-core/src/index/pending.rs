//! The indexes that the writer has not signed yet.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use super::{Field, IndexBuilder, IndexRoot, Terms, builder::Rows, root::MAX_ROOTS};

/// The events of a chain that no signed index covers yet, as an index to be.
///
/// A function of the chain's events and of where the last signed index ended. Where that is not known
/// any more it begins later: what it leaves out is then a hole that everybody sees.
///
/// Takes 8 bytes for an event and the text of each value that occurs, and nothing where there is no
/// event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pending {
    /// Whole intervals, in order, each joined to the next.
    roots: Vec<IndexRoot>,
    /// The position behind them, from which `open` begins.
    from: u64,
    open: Option<Box<IndexBuilder>>,
}

/// What is to be signed, apart from the chain that goes on.
#[derive(Debug, Clone)]
pub(crate) struct PendingIndexes {
    roots: Vec<IndexRoot>,
    open: Option<Rows>,
}

impl PendingIndexes {
    /// Does the hashing, which need not hold up the chain.
    pub(crate) fn roots(self) -> Vec<IndexRoot> {
        let mut roots = self.roots;
        roots.extend(self.open.map(|rows| rows.build().root()));
        roots
    }
}

impl Pending {
    /// Nothing, up to this position.
    pub(crate) fn starting_at(from: u64) -> Self {
        Self { roots: Vec::new(), from, open: None }
    }

    /// The position of the next event.
    pub(crate) fn next(&self) -> u64 {
        self.open.as_ref().map_or(self.from, |open| open.next())
    }

    /// The position from which on it has every event.
    pub(crate) fn start(&self) -> u64 {
        self.roots.first().map_or(self.from, |first| first.from)
    }

    /// Takes the event at a position.
    #[inline]
    pub(crate) fn push(&mut self, at: u64, terms: &Terms<'_>) {
        if at != self.next() {
            // Never seen to happen; whatever made it, a hole is honest and a wrong index is not.
            *self = Self::starting_at(at);
        }
        let from = self.from;
        let open = self.open.get_or_insert_with(|| Box::new(IndexBuilder::new(from)));
        if open.push_terms(terms).is_err() {
            self.close();
            self.push(at, terms);
        }
    }

    /// Ends an interval that is full.
    fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        if self.roots.len() + 1 >= MAX_ROOTS {
            self.roots.remove(0);
        }
        self.from = open.next();
        self.roots.push(open.build().root());
    }

    /// What a checkpoint of the chain as it stands has to say.
    pub(crate) fn indexes(&self) -> PendingIndexes {
        let open = self.open.as_ref().map(|open| open.rows().clone());
        PendingIndexes { roots: self.roots.clone(), open }
    }

    /// Lets go of what a signed checkpoint of this size covers.
    pub(crate) fn signed(&mut self, size: u64) {
        self.roots.retain(|root| root.size > size);
        if size <= self.from {
            return;
        }
        match self.open.take() {
            Some(open) if open.next() > size => self.open = Some(Box::new(open.behind(size))),
            _ => {}
        }
        self.from = size;
    }

    fn stored(&self) -> Stored {
        let rows = self.open.as_ref().map(|open| open.rows());
        let values = rows.map(Rows::values).unwrap_or_default();
        let mut entries: Vec<_> = values
            .into_iter()
            .map(|(field, raw, positions)| StoredEntry {
                field,
                positions,
                value: serde_json::from_str(&format!("\"{raw}\""))
                    .expect("a value stands in JSON as it is kept"),
            })
            .collect();
        entries.sort_unstable_by(|a, b| (a.field, &a.value).cmp(&(b.field, &b.value)));
        let roots = self.roots.iter().map(ToString::to_string).collect();
        Stored { from: self.from, roots, entries }
    }

    fn restore(stored: Stored) -> Option<Self> {
        let roots: Vec<IndexRoot> =
            stored.roots.iter().map(|line| line.parse().ok()).collect::<Option<_>>()?;
        let joined = roots.windows(2).all(|pair| pair[0].size == pair[1].from);
        if !joined || roots.last().is_some_and(|last| last.size != stored.from) {
            return None;
        }
        let mut pending = Self { roots, from: stored.from, open: None };
        let raw: Vec<String> = stored.entries.iter().map(|entry| raw(&entry.value)).collect();
        // Each event has one type: as many events as there are positions of types.
        let types = stored.entries.iter().filter(|entry| entry.field == Field::EventType);
        let count = types.map(|entry| entry.positions.len()).sum::<usize>();
        let mut events: Vec<[Option<&str>; 4]> = vec![[None; 4]; count];
        for (entry, raw) in stored.entries.iter().zip(&raw) {
            for position in &entry.positions {
                let at = usize::try_from(position.checked_sub(stored.from)?).ok()?;
                let slot = &mut events.get_mut(at)?[entry.field as usize];
                if slot.replace(raw).is_some() {
                    return None;
                }
            }
        }
        for (at, [event_type, reviewer, session, subject]) in (stored.from..).zip(events) {
            let (event_type, session) = (event_type?, session?);
            pending.push(at, &Terms { event_type, reviewer, session, subject });
        }
        Some(pending)
    }
}

/// As it stands in `chains.json`.
#[derive(PartialEq, Serialize, Deserialize)]
struct Stored {
    from: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roots: Vec<String>,
    entries: Vec<StoredEntry>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct StoredEntry {
    field: Field,
    positions: Vec<u64>,
    value: String,
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.stored() == other.stored()
    }
}

impl Eq for Pending {}

impl Serialize for Pending {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.stored().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Pending {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::deserialize(deserializer)?;
        Self::restore(stored).ok_or_else(|| D::Error::custom("the index of a chain is not one"))
    }
}

/// A value as it stands between the quotation marks of JSON.
fn raw(value: &str) -> String {
    let mut json = Vec::with_capacity(value.len() + 2);
    crate::canonical::write_string(&mut json, value);
    super::unquoted(&String::from_utf8_lossy(&json)).to_owned()
}
