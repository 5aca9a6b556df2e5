//! Two different events never have the same bytes, and no bytes are read in two ways.

use proptest::prelude::*;

use super::*;
use crate::content::ContentRef;

/// Text that shifts field boundaries wherever fields are joined instead of quoted.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[|,:;\"'\\\\{}\\[\\]\\x00-\\x1f\\x7f\u{80}\u{2028}\u{202e}=a]{0,12}",
    ]
}

/// The same, as far as ids take it.
fn id_text() -> impl Strategy<Value = String> {
    let id = prop_oneof![any::<String>(), "[|,:;\"'\\\\{}\\[\\]= a\u{202e}é𝄞]{1,12}"];
    id.prop_map(|text| text.chars().filter(|c| !c.is_control()).take(40).collect::<String>())
        .prop_filter("ids are not empty", |text| !text.is_empty())
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9._-]{0,8}"
}

fn key() -> impl Strategy<Value = String> {
    "[ !#-\\[\\]-~]{1,6}"
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::Bool),
        (-9_007_199_254_740_991i64..=9_007_199_254_740_991).prop_map(Value::Integer),
        text().prop_map(Value::Text),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            prop::collection::btree_map(key(), inner, 0..4).prop_map(Value::Object),
        ]
    })
}

fn timestamp() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_nanos)
}

fn event_id() -> impl Strategy<Value = EventId> {
    any::<[u8; 16]>().prop_map(|mut bytes| {
        bytes[6] = bytes[6] & 0x0f | 0x70;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        EventId::from_bytes(bytes).unwrap()
    })
}

fn part() -> impl Strategy<Value = ContentRef> {
    let media_type = "[ !#-\\[\\]-~]{1,9}";
    (name(), media_type, 0..=canonical::MAX_INTEGER, any::<[u8; 32]>()).prop_map(
        |(name, media_type, bytes, commitment)| ContentRef {
            name,
            media_type,
            bytes,
            commitment: Hash::from_bytes(commitment),
            extra: Extra::new(),
        },
    )
}

prop_compose! {
    fn payload()(
        event_type in "[a-z_0-9]{1,5}(\\.[a-z0-9_]{1,5}){0,2}",
        fields in prop::collection::btree_map(key(), value(), 0..5),
    ) -> Payload {
        let mut payload = Other::custom(&event_type).unwrap();
        payload.fields = fields;
        payload.into()
    }
}

prop_compose! {
    fn event()(
        ids in (event_id(), name(), id_text(), id_text(), name()),
        at in timestamp(),
        sequence in 0..=canonical::MAX_INTEGER,
        previous in any::<[u8; 32]>(),
        payload in payload(),
        content in prop::collection::vec(part(), 0..3),
        parent in prop::option::of(event_id()),
        subject in prop::option::of(id_text()),
        writer in prop::option::of(name()),
        trace in prop::option::of(("[1-9a-f][0-9a-f]{31}", "[1-9a-f][0-9a-f]{15}")),
        occurred_at in prop::option::of(timestamp()),
        extra in prop::collection::btree_map("x_[a-z]{1,3}", value(), 0..3),
        minor in 0u8..20,
    ) -> Event {
        let (event_id, tenant, session, agent, chain) = ids;
        Event {
            schema_version: format!("1.{minor}"),
            event_id,
            tenant_id: TenantId::new(tenant).unwrap(),
            session_id: SessionId::new(session).unwrap(),
            agent_id: AgentId::new(agent).unwrap(),
            timestamp_utc: at,
            chain_id: ChainId::new(chain).unwrap(),
            sequence,
            previous_event_hash: Hash::from_bytes(previous),
            payload,
            content,
            parent_event_id: parent,
            trace_id: trace.as_ref().map(|(trace, _)| TraceId::new(trace).unwrap()),
            span_id: trace.as_ref().map(|(_, span)| SpanId::new(span).unwrap()),
            subject_id: subject.map(|subject| SubjectId::new(subject).unwrap()),
            writer_id: writer.map(|writer| WriterId::new(writer).unwrap()),
            occurred_at,
            extra,
        }
    }
}

/// One field taken from another event.
fn with_one_field_of(mut event: Event, other: &Event, field: usize) -> Event {
    match field {
        0 => event.event_id = other.event_id,
        1 => event.tenant_id = other.tenant_id.clone(),
        2 => event.session_id = other.session_id.clone(),
        3 => event.agent_id = other.agent_id.clone(),
        4 => event.timestamp_utc = other.timestamp_utc,
        5 => event.chain_id = other.chain_id.clone(),
        6 => event.sequence = other.sequence,
        7 => event.previous_event_hash = other.previous_event_hash,
        8 => event.payload = other.payload.clone(),
        9 => event.content = other.content.clone(),
        10 => event.parent_event_id = other.parent_event_id,
        11 => event.subject_id = other.subject_id.clone(),
        12 => event.writer_id = other.writer_id.clone(),
        13 => event.occurred_at = other.occurred_at,
        14 => event.extra = other.extra.clone(),
        15 => event.trace_id = other.trace_id.clone(),
        16 => event.span_id = other.span_id.clone(),
        _ => event.schema_version = other.schema_version.clone(),
    }
    event
}

proptest! {
    #[test]
    fn canonical_bytes_read_back_as_the_same_event(event in event()) {
        let bytes = event.canonical_bytes().unwrap();
        prop_assert_eq!(Event::from_slice(&bytes).unwrap(), event);
    }

    #[test]
    fn different_events_have_different_bytes(a in event(), b in event(), field in 0usize..18) {
        let bytes = a.canonical_bytes().unwrap();
        let near = with_one_field_of(a.clone(), &b, field);
        for other in [near, b] {
            let other_bytes = other.canonical_bytes().unwrap();
            prop_assert_eq!(bytes == other_bytes, a == other);
            prop_assert_eq!(a.hash().unwrap() == other.hash().unwrap(), a == other);
        }
    }

    #[test]
    fn the_bytes_are_those_of_a_jcs_library(event in event()) {
        let json = serde_json::to_value(&event).unwrap();
        let expected = serde_json_canonicalizer::to_vec(&json).unwrap();
        prop_assert_eq!(event.canonical_bytes().unwrap(), expected);
    }

    #[test]
    fn the_scanner_sees_the_same_event(event in event()) {
        let bytes = event.canonical_bytes().unwrap();
        let view = canonical::scan(&bytes).unwrap();
        let quoted = |text: &str| {
            let json = String::from_utf8(canonical::to_vec(text).unwrap()).unwrap();
            json[1..json.len() - 1].to_owned()
        };
        prop_assert_eq!(view.agent_id, quoted(event.agent_id.as_str()));
        prop_assert_eq!(view.session_id, quoted(event.session_id.as_str()));
        prop_assert_eq!(view.tenant_id, event.tenant_id.as_str());
        prop_assert_eq!(view.chain_id, event.chain_id.as_str());
        prop_assert_eq!(view.event_id, event.event_id.to_string());
        prop_assert_eq!(view.event_type, event.payload.type_name());
        let parent = event.parent_event_id.map(|id| id.to_string());
        prop_assert_eq!(view.parent_event_id, parent.as_deref());
        prop_assert_eq!(view.previous_event_hash, event.previous_event_hash);
        prop_assert_eq!(view.schema_version, &event.schema_version);
        prop_assert_eq!(view.sequence, event.sequence);
        prop_assert_eq!(view.timestamp_utc, event.timestamp_utc.to_string());
        prop_assert_eq!(view.payload, canonical::to_vec(&event.payload).unwrap());
        let seen: Vec<_> =
            view.content().map(|part| (part.name, part.bytes, part.commitment)).collect();
        let named: Vec<_> =
            event.content.iter().map(|part| (&*part.name, part.bytes, part.commitment)).collect();
        prop_assert_eq!(seen, named);
    }

    /// What is read at all is what would be written again: one spelling for one event.
    #[test]
    fn a_changed_byte_is_refused_or_is_another_event(
        event in event(), at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let bytes = event.canonical_bytes().unwrap();
        let mut changed = bytes.clone();
        changed[at.index(bytes.len())] = byte;
        if let Ok(read) = Event::from_slice(&changed) {
            prop_assert_eq!(read == event, changed == bytes);
            prop_assert_eq!(read.canonical_bytes().unwrap(), changed);
        }
    }

    /// Moving a boundary between two neighbouring texts gives other bytes, whatever the separator.
    #[test]
    fn a_shifted_boundary_is_another_event(
        event in event(), left in text(), separator in "[|,:\"\\x1f\\x00 ]{0,3}", right in text(),
    ) {
        prop_assume!(!separator.is_empty());
        let with = |a: String, b: String| {
            let mut event = event.clone();
            event.payload =
                Other::custom("x").unwrap().with_field("a", a).with_field("b", b).into();
            event.canonical_bytes().unwrap()
        };
        let one = with(format!("{left}{separator}"), right.clone());
        let other = with(left.clone(), format!("{separator}{right}"));
        let joined = with(format!("{left}\",\"b\":\"{right}"), String::new());
        prop_assert_ne!(&one, &other);
        prop_assert_ne!(&one, &joined);
        prop_assert_ne!(&other, &joined);
    }
}

#[test]
fn ids_with_control_characters_are_refused() {
    for id in ["a\u{1f}b", "a\nb", "\0", "a\u{7f}", "\u{85}"] {
        assert!(SessionId::new(id).is_err(), "{id:?}");
        assert!(TenantId::new(id).is_err(), "{id:?}");
    }
    for id in ["a|b", "a\"b", "a/b", "..", "", "-a", "ä"] {
        assert!(TenantId::new(id).is_err(), "{id:?}");
    }
}

/// What JSON readers disagree about is not an event.
#[test]
fn ambiguous_json_is_refused() {
    let payload = Other::custom("x").unwrap().with_field("n", 5u32).with_field("text", "plain");
    let good = String::from_utf8(Event::example(payload).canonical_bytes().unwrap()).unwrap();
    assert!(Event::from_slice(good.as_bytes()).is_ok());
    let tenant = "\"tenant_id\":\"acme\"";
    for (from, to) in [
        ("\"n\":5", "\"n\":5,\"n\":6"),
        (tenant, "\"tenant_id\":\"acme\",\"tenant_id\":\"globex\""),
        (tenant, "\"tenant_id\":\"globex\",\"tenant_id\":\"acme\""),
        (tenant, "\"tenant_\\u0069d\":\"acme\""),
        (tenant, "\"tenant_id\":\"acm\\u0065\""),
        ("\"n\":5", "\"n\":5.0"),
        ("\"n\":5", "\"n\":5e0"),
        ("\"n\":5", "\"n\":-0"),
        ("\"n\":5", "\"n\":+5"),
        ("\"n\":5", "\"n\":05"),
        ("\"n\":5", "\"n\":9007199254740992"),
        ("\"n\":5", "\"n\":-9007199254740992"),
        ("\"n\":5", "\"n\":18446744073709551621"),
        ("\"n\":5", "\"n\":NaN"),
        ("\"n\":5", "\"n\":null"),
        ("\"sequence\":0", "\"sequence\":\"0\""),
        ("\"sequence\":0", "\"sequence\":-1"),
        ("plain", "\\ud800"),
        ("plain", "\\udc00\\ud800"),
        ("plain", "\\/"),
        ("plain", "pl\tain"),
        ("{\"agent_id\"", "\u{feff}{\"agent_id\""),
    ] {
        assert!(good.contains(from), "{from}");
        let bad = good.replacen(from, to, 1);
        assert!(Event::from_slice(bad.as_bytes()).is_err(), "{bad}");
    }
    // A surrogate in the bytes themselves is not UTF-8.
    let at = good.find("plain").unwrap();
    let mut bytes = good.into_bytes();
    bytes.splice(at..at + 3, [0xed, 0xa0, 0x80]);
    assert!(Event::from_slice(&bytes).is_err());
}

/// A field that is there twice, once typed and once as unknown, cannot be written.
#[test]
fn an_unknown_field_cannot_shadow_a_known_one() {
    let mut event = Event::example(chain::ChainClosed::new("shutdown"));
    event.extra.insert("tenant_id".to_owned(), "globex".into());
    assert!(event.canonical_bytes().unwrap_err().to_string().contains("tenant_id"));
    let mut event = Event::example(chain::ChainClosed::new("shutdown"));
    for name in OPTIONAL_FIELDS {
        event.extra = Extra::from([((*name).to_owned(), "x".into())]);
        let error = event.canonical_bytes().unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
    let mut payload = chain::ChainClosed::new("shutdown");
    payload.extra.insert("reason".to_owned(), "crash".into());
    let error = Event::example(payload).canonical_bytes().unwrap_err().to_string();
    assert_eq!(error, "field payload.reason: the key occurs twice");
}
