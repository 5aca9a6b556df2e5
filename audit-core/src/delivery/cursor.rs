//! The file that says how far a sink has acknowledged.
//!
//! `cursors/<sink>.json`, replaced as a whole:
//!
//! ```json
//! {"format":2,"checksum":"5bbe78b3","position":812,"chains":[["acme","c-1",12],["beta","c-2",7,640]],"missing":[["beta","c-2",7,9,"trimmed"]]}
//! ```
//!
//! | field | meaning |
//! |---|---|
//! | `format` | 2 |
//! | `checksum` | CRC-32C, 8 lower-case hex digits, of the JSON text `[position,chains,missing]` without spaces |
//! | `position` | entries of the journal before this one are acknowledged, but for chains with a fourth field |
//! | `chains` | tenant, chain, next sequence to be acknowledged, and, where the chain lags or is halted, the journal entry before which nothing of it is left |
//! | `missing` | tenant, chain, first and last position of events that the sink does not have and will not get by itself, and why: `trimmed` or `quarantined` |
//!
//! Format 1 is without `missing`, and its checksum covers `[position,chains]`; it is read as nothing
//! missing.
//!
//! A file that is missing or does not read like that costs no event: delivery then starts from the
//! oldest entry of the journal, and the sink says what it has, or takes the same events again.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    chain::ChainRef,
    error::AuditError,
    id::{ChainId, TenantId},
    log::replace,
};

use super::health::{MissingEvents, MissingReason};

const FORMAT: u32 = 2;

/// How far a sink has acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cursor {
    pub(super) position: u64,
    pub(super) chains: Vec<ChainCursor>,
    pub(super) missing: Vec<MissingEvents>,
}

/// How far a sink has acknowledged one chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ChainCursor {
    pub(super) chain: ChainRef,
    pub(super) next: u64,
    /// Nothing of the chain is left before this entry; absent where that is the position.
    pub(super) from: Option<u64>,
}

impl Cursor {
    /// The oldest entry that the sink may still need.
    pub(super) fn trimmable(&self) -> u64 {
        let pins = self.chains.iter().filter_map(|chain| chain.from);
        pins.fold(self.position, u64::min)
    }
}

/// Reads a cursor; none where it is missing or cannot be trusted.
pub(super) fn load(path: &Path, sink: &str) -> Result<Option<Cursor>, AuditError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(AuditError::io("read", path, error)),
    };
    let cursor = parse(&bytes);
    if cursor.is_none() {
        tracing::warn!(
            sink,
            path = %path.display(),
            "the cursor of a sink is damaged, so delivery starts from the oldest entry kept"
        );
    }
    Ok(cursor)
}

/// Replaces a cursor.
pub(super) fn store(path: &Path, cursor: &Cursor) -> Result<(), AuditError> {
    replace(path, &to_bytes(cursor))
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    checksum: String,
    position: u64,
    chains: Vec<Row>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    missing: Option<Vec<Hole>>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Row {
    Settled(TenantId, ChainId, u64),
    Pinned(TenantId, ChainId, u64, u64),
}

#[derive(Serialize, Deserialize)]
struct Hole(TenantId, ChainId, u64, u64, Why);

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Why {
    Trimmed,
    Quarantined,
}

fn to_bytes(cursor: &Cursor) -> Vec<u8> {
    let chains: Vec<Row> = cursor
        .chains
        .iter()
        .map(|ChainCursor { chain, next, from }| {
            let (tenant, chain) = (chain.tenant_id.clone(), chain.chain_id.clone());
            match from {
                None => Row::Settled(tenant, chain, *next),
                Some(from) => Row::Pinned(tenant, chain, *next, *from),
            }
        })
        .collect();
    let missing = cursor.missing.iter().map(|missing| {
        let MissingEvents { chain, first, last, reason } = missing;
        let why = match reason {
            MissingReason::Trimmed => Why::Trimmed,
            MissingReason::Quarantined => Why::Quarantined,
        };
        Hole(chain.tenant_id.clone(), chain.chain_id.clone(), *first, *last, why)
    });
    let (position, missing) = (cursor.position, Some(missing.collect()));
    let mut file = File { format: FORMAT, checksum: String::new(), position, chains, missing };
    file.checksum = checksum(&file);
    serde_json::to_vec(&file).expect("names and numbers have a JSON form")
}

fn parse(bytes: &[u8]) -> Option<Cursor> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    let known = matches!((file.format, &file.missing), (1, None) | (FORMAT, Some(_)));
    if !known || file.checksum != checksum(&file) {
        return None;
    }
    let chains = file.chains.into_iter().map(|row| {
        let (tenant, chain, next, from) = match row {
            Row::Settled(tenant, chain, next) => (tenant, chain, next, None),
            Row::Pinned(tenant, chain, next, from) => (tenant, chain, next, Some(from)),
        };
        ChainCursor { chain: ChainRef::new(tenant, chain), next, from }
    });
    let missing = file.missing.unwrap_or_default().into_iter();
    let missing = missing.map(|Hole(tenant, chain, first, last, why)| {
        let reason = match why {
            Why::Trimmed => MissingReason::Trimmed,
            Why::Quarantined => MissingReason::Quarantined,
        };
        MissingEvents { chain: ChainRef::new(tenant, chain), first, last, reason }
    });
    let (chains, missing) = (chains.collect(), missing.collect());
    Some(Cursor { position: file.position, chains, missing })
}

fn checksum(file: &File) -> String {
    let text = match &file.missing {
        Some(missing) => serde_json::to_vec(&(file.position, &file.chains, missing)),
        None => serde_json::to_vec(&(file.position, &file.chains)),
    };
    let text = text.expect("names and numbers have a JSON form");
    format!("{:08x}", crc32c::crc32c(&text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn cursor() -> Cursor {
        let chain = |tenant: &str, next, from| ChainCursor {
            chain: ChainRef::new(TenantId::new(tenant).unwrap(), ChainId::new("c-1").unwrap()),
            next,
            from,
        };
        let chains = vec![chain("acme", 12, None), chain("beta", 7, Some(640))];
        let missing = vec![MissingEvents {
            chain: chains[1].chain.clone(),
            first: 7,
            last: 9,
            reason: MissingReason::Trimmed,
        }];
        Cursor { position: 812, chains, missing }
    }

    #[test]
    fn a_cursor_survives_and_the_oldest_pin_decides() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hot.json");
        assert_eq!(load(&path, "hot").unwrap(), None);
        store(&path, &cursor()).unwrap();
        let read = load(&path, "hot").unwrap().unwrap();
        assert_eq!(read, cursor());
        assert_eq!(read.trimmable(), 640);
    }

    #[test]
    fn the_format_is_as_documented() {
        let text = String::from_utf8(to_bytes(&cursor())).unwrap();
        let (before, after) = text.split_at(24);
        assert_eq!(before, r#"{"format":2,"checksum":""#);
        assert_eq!(
            &after[8..],
            r#"","position":812,"chains":[["acme","c-1",12],["beta","c-1",7,640]],"missing":[["beta","c-1",7,9,"trimmed"]]}"#
        );
    }

    #[test]
    fn the_format_before_is_still_read() {
        let chains = r#"[["acme","c-1",12],["beta","c-1",7,640]]"#;
        let sum = crc32c::crc32c(format!("[812,{chains}]").as_bytes());
        let text =
            format!(r#"{{"format":1,"checksum":"{sum:08x}","position":812,"chains":{chains}}}"#);
        let expected = Cursor { missing: Vec::new(), ..cursor() };
        assert_eq!(parse(text.as_bytes()), Some(expected));
    }

    #[test]
    fn a_changed_byte_is_not_trusted() {
        let good = to_bytes(&cursor());
        for at in 0..good.len() {
            for flip in [0x01, 0x80] {
                let mut bytes = good.clone();
                bytes[at] ^= flip;
                assert_eq!(parse(&bytes), None, "byte {at} of {}", String::from_utf8_lossy(&good));
            }
            assert_eq!(parse(&good[..at]), None);
        }
    }
}
