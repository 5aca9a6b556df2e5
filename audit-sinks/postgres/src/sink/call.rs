//! One call of `audit_append`: arrays in, one answer for each segment out.

use std::{borrow::Cow, error::Error, sync::LazyLock};

use agent_audit_core::{
    columns::{COLUMNS, Value},
    content::{AbsentReason, PartBody},
    hash::Hash,
    id::EventId,
    sink::{Head, SinkErrorKind},
};
use bytes::BytesMut;
use tokio::time::timeout;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::prepared::{EVENT_ID, Prepared};
use crate::{error::Fault, pool::Lease, store::text};

/// What became of a segment.
pub(super) enum Answer {
    Stored,
    Busy,
    Detached { head: Option<Head> },
    Conflict { sequence: u64 },
    Gone { sequence: u64 },
}

/// The columns that the function derives from the segments.
const DERIVED: usize = 2;

static SQL: LazyLock<String> = LazyLock::new(|| {
    // Five arrays of segments, those of columns and the event, 13 of content and four of external ids.
    let parameters: Vec<String> =
        (1..=5 + COLUMNS.len() - DERIVED + 1 + 13 + 4).map(|at| format!("${at}")).collect();
    format!(
        "SELECT segment, state, head_sequence, head_hash, differs FROM agent_audit.audit_append({})",
        parameters.join(", ")
    )
});

/// Appends segments of different chains in one transaction, and says what became of each.
pub(super) async fn append(
    lease: &mut Lease,
    segments: &[&Prepared<'_>],
) -> Result<Vec<Answer>, Fault> {
    let doing = match segments {
        [segment] => format!("append to chain {}", segment.chain()),
        segments => format!("append to {} chains", segments.len()),
    };
    if lease.is_closed() {
        return Err(Fault::new(
            SinkErrorKind::Unavailable,
            format!("{doing}: the connection was lost before"),
        ));
    }
    let patience = lease.patience();
    let statement = timeout(patience, lease.prepare(&SQL))
        .await
        .map_err(|_| Fault::timeout(&doing))?
        .map_err(|error| Fault::postgres(&error, &doing))?;
    let arrays = Arrays::of(segments);
    let parameters: Vec<&(dyn ToSql + Sync)> =
        arrays.0.iter().map(|array| array as &(dyn ToSql + Sync)).collect();
    let rows = timeout(patience, lease.client().query(&statement, &parameters))
        .await
        .map_err(|_| Fault::timeout(&doing).with_maybe_applied(true))?
        .map_err(|error| Fault::of_append(&error, &doing))?;
    let unclear = || {
        let text = format!("{doing}: the database answers what it should not");
        Fault::new(SinkErrorKind::Other, text).with_maybe_applied(true)
    };
    let mut answers = Vec::with_capacity(segments.len());
    for (at, row) in (1i32..).zip(&rows) {
        if row.try_get::<_, i32>("segment").ok() != Some(at) {
            return Err(unclear());
        }
        answers.push(answer(row).ok_or_else(unclear)?);
    }
    Ok(answers)
}

fn answer(row: &tokio_postgres::Row) -> Option<Answer> {
    let position = |name| -> Option<u64> {
        row.try_get::<_, Option<i64>>(name).ok().flatten()?.try_into().ok()
    };
    let differs = || position("differs");
    Some(match row.try_get("state").ok()? {
        "stored" => Answer::Stored,
        "busy" => Answer::Busy,
        "conflict" => Answer::Conflict { sequence: differs()? },
        "gone" => Answer::Gone { sequence: differs()? },
        "detached" => Answer::Detached {
            head: position("head_sequence").and_then(|sequence| {
                let hash = row.try_get::<_, Option<&[u8]>>("head_hash").ok().flatten()?;
                Some(Head::new(sequence, Hash::from_bytes(hash.try_into().ok()?)))
            }),
        },
        _ => return None,
    })
}

/// The parameters, in their order.
struct Arrays<'a>(Vec<Array<'a>>);

/// One parameter.
#[derive(Debug)]
enum Array<'a> {
    Text(Vec<Option<Cow<'a, str>>>),
    Long(Vec<Option<i64>>),
    Int(Vec<i32>),
    Short(Vec<Option<i16>>),
    Bytes(Vec<Option<&'a [u8]>>),
    Id(Vec<Option<Id>>),
}

/// An event id in the binary form of the server.
#[derive(Debug)]
struct Id([u8; 16]);

impl Id {
    fn of(id: &EventId) -> Self {
        Self(*id.as_bytes())
    }
}

impl<'a> Arrays<'a> {
    fn of(segments: &'a [&'a Prepared<'a>]) -> Self {
        let mut arrays = vec![
            Array::Text(
                segments.iter().map(|s| Some(s.chain().tenant_id.as_str().into())).collect(),
            ),
            Array::Text(
                segments.iter().map(|s| Some(s.chain().chain_id.as_str().into())).collect(),
            ),
            Array::Long(segments.iter().map(|s| i64::try_from(s.segment().first()).ok()).collect()),
            Array::Long(segments.iter().map(|s| i64::try_from(s.segment().len()).ok()).collect()),
            Array::Bytes(
                segments.iter().map(|s| Some(s.previous().as_bytes().as_slice())).collect(),
            ),
        ];
        arrays.extend(events(segments));
        arrays.extend(content(segments));
        arrays.extend(external_ids(segments));
        Self(arrays)
    }
}

/// The arrays of columns, and the event itself.
fn events<'a>(segments: &'a [&'a Prepared<'a>]) -> Vec<Array<'a>> {
    let count = segments.iter().map(|segment| segment.rows().len()).sum();
    let mut arrays: Vec<Array<'a>> = COLUMNS[DERIVED..]
        .iter()
        .map(|column| match *column {
            "event_hash" => Array::Bytes(Vec::with_capacity(count)),
            "event_id" => Array::Id(Vec::with_capacity(count)),
            "timestamp_utc" | "occurred_at" | "decided_after_us" => {
                Array::Long(Vec::with_capacity(count))
            }
            _ => Array::Text(Vec::with_capacity(count)),
        })
        .collect();
    let mut bytes = Vec::with_capacity(count);
    for row in segments.iter().flat_map(|segment| segment.rows()) {
        let values = row.columns.values(row.hash);
        for (array, value) in arrays.iter_mut().zip(&values[DERIVED..]) {
            match (array, *value) {
                (Array::Text(texts), value) => texts.push(value.as_text().map(text::encode)),
                (Array::Long(numbers), value) => numbers.push(value.as_integer()),
                (Array::Bytes(all), Value::Bytes(bytes)) => all.push(Some(bytes)),
                (Array::Bytes(all), _) => all.push(None),
                // Filled below.
                (Array::Id(_) | Array::Int(_) | Array::Short(_), _) => {}
            }
        }
        if let Array::Id(ids) = &mut arrays[EVENT_ID - DERIVED] {
            ids.push(Some(Id::of(&row.event_id)));
        }
        bytes.push(Some(row.record.event_bytes()));
    }
    arrays.push(Array::Bytes(bytes));
    arrays
}

fn content<'a>(segments: &'a [&'a Prepared<'a>]) -> [Array<'a>; 13] {
    let (mut event, mut ordinal) = (Vec::new(), Vec::new());
    let (mut name, mut media_type, mut state) = (Vec::new(), Vec::new(), Vec::new());
    let (mut salt, mut bytes, mut nonce) = (Vec::new(), Vec::new(), Vec::new());
    let (mut key_id, mut algorithm) = (Vec::new(), Vec::new());
    let (mut reason, mut at, mut evidence) = (Vec::new(), Vec::new(), Vec::new());
    let rows = segments.iter().flat_map(|segment| segment.rows());
    for (number, row) in (1i32..).zip(rows) {
        let parts = row.columns.parts().zip(row.record.parts());
        for (place, ((part_name, part_type), body)) in (0i32..).zip(parts) {
            event.push(number);
            ordinal.push(place);
            name.push(Some(text::encode(part_name)));
            media_type.push(Some(text::encode(part_type)));
            let mut columns = Body::default();
            match body {
                PartBody::Clear { salt, bytes } => {
                    columns.state = "clear";
                    columns.salt = Some(salt.as_bytes());
                    columns.bytes = Some(bytes);
                }
                PartBody::Sealed(sealed) => {
                    columns.state = "sealed";
                    columns.key_id = Some(text::encode(&sealed.key_id));
                    columns.algorithm = Some(i16::from(sealed.algorithm));
                    columns.nonce = Some(&sealed.nonce);
                    columns.bytes = Some(&sealed.ciphertext);
                }
                PartBody::Absent { reason, at, evidence } => {
                    columns.state = "absent";
                    columns.reason = absent_word(*reason);
                    columns.at = at.map(|at| at.as_nanos_i64());
                    columns.evidence = evidence.as_ref().map(Id::of);
                }
                // The database refuses a state that this release does not know.
                _ => columns.state = "unknown",
            }
            state.push(Some(columns.state.into()));
            salt.push(columns.salt);
            bytes.push(columns.bytes);
            key_id.push(columns.key_id);
            algorithm.push(columns.algorithm);
            nonce.push(columns.nonce);
            reason.push(columns.reason.map(Cow::from));
            at.push(columns.at);
            evidence.push(columns.evidence);
        }
    }
    [
        Array::Int(event),
        Array::Int(ordinal),
        Array::Text(name),
        Array::Text(media_type),
        Array::Text(state),
        Array::Bytes(salt),
        Array::Bytes(bytes),
        Array::Text(key_id),
        Array::Short(algorithm),
        Array::Bytes(nonce),
        Array::Text(reason),
        Array::Long(at),
        Array::Id(evidence),
    ]
}

/// The columns of one part's body.
#[derive(Default)]
struct Body<'a> {
    state: &'static str,
    salt: Option<&'a [u8]>,
    bytes: Option<&'a [u8]>,
    key_id: Option<Cow<'a, str>>,
    algorithm: Option<i16>,
    nonce: Option<&'a [u8]>,
    reason: Option<&'static str>,
    at: Option<i64>,
    evidence: Option<Id>,
}

fn absent_word(reason: AbsentReason) -> Option<&'static str> {
    match reason {
        AbsentReason::Erased => Some("erased"),
        AbsentReason::Purged => Some("purged"),
        _ => None,
    }
}

fn external_ids<'a>(segments: &'a [&'a Prepared<'a>]) -> [Array<'a>; 4] {
    let (mut event, mut ordinal, mut keys, mut values) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let rows = segments.iter().flat_map(|segment| segment.rows());
    for (number, row) in (1i32..).zip(rows) {
        for (place, (key, value)) in (0i32..).zip(row.columns.external_ids()) {
            event.push(number);
            ordinal.push(place);
            keys.push(Some(text::encode(key)));
            values.push(Some(text::encode(value)));
        }
    }
    [Array::Int(event), Array::Int(ordinal), Array::Text(keys), Array::Text(values)]
}

impl ToSql for Array<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self {
            Self::Text(values) => values.to_sql(ty, out),
            Self::Long(values) => values.to_sql(ty, out),
            Self::Int(values) => values.to_sql(ty, out),
            Self::Short(values) => values.to_sql(ty, out),
            Self::Bytes(values) => values.to_sql(ty, out),
            Self::Id(values) => values.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        [
            Type::TEXT_ARRAY,
            Type::INT8_ARRAY,
            Type::INT4_ARRAY,
            Type::INT2_ARRAY,
            Type::BYTEA_ARRAY,
            Type::UUID_ARRAY,
        ]
        .contains(ty)
    }

    to_sql_checked!();
}

impl ToSql for Id {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::UUID
    }

    to_sql_checked!();
}
