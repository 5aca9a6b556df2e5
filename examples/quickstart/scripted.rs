//! A stand-in for a language model: speaks the OpenAI chat protocol over HTTP on loopback, and
//! answers from a script.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Value, json};

use crate::http;

/// What the model says when it has been asked so often.
enum Turn {
    Calls(&'static [(&'static str, &'static str)]),
    Says(&'static str),
}

use Turn::{Calls, Says};

/// The parts that the model plays: a word of the task by which it knows each, and its turns.
const SCRIPT: &[(&str, &[Turn])] = &[
    (
        "A-1001",
        &[
            Calls(&[
                ("query_orders", r#"{"sql":"SELECT * FROM orders WHERE id = 'A-1001'"}"#),
                ("read_file", r#"{"name":"refund-policy.txt"}"#),
            ]),
            Calls(&[("calculate", r#"{"operation":"divide","left":4000,"right":0}"#)]),
            Calls(&[
                ("read_file", r#"{"name":"instalments.txt"}"#),
                ("delegate", r#"{"task":"Where is the parcel of A-1001-R?"}"#),
            ]),
            Calls(&[("refund", r#"{"order":"A-1001","cents":4000}"#)]),
            Says("Ana gets 40.00 back in one payment; her return has arrived."),
        ],
    ),
    (
        "A-1001-R",
        &[
            Calls(&[("track_parcel", r#"{"order":"A-1001-R"}"#)]),
            Says("The parcel was returned and has arrived."),
        ],
    ),
    (
        "G-7",
        &[
            Calls(&[
                ("query_orders", r#"{"sql":"SELECT id, paid_cents FROM orders ORDER BY id"}"#),
                ("track_parcel", r#"{"order":"G-7"}"#),
            ]),
            Calls(&[("refund", r#"{"order":"G-7","cents":10000}"#)]),
            Calls(&[("refund", r#"{"order":"G-8","cents":250000}"#)]),
            Says("G-7 got 50.00 back, as the desk decided; G-8 was refused."),
        ],
    ),
];

/// Starts the stand-in; returns its base URL.
pub(crate) async fn start() -> io::Result<String> {
    let answered = Arc::new(AtomicU64::new(0));
    let address = http::serve(move |_, uri, request| {
        let nth = answered.fetch_add(1, Ordering::Relaxed);
        async move { (uri.path() == "/v1/chat/completions").then(|| completion(nth, &request)) }
    });
    Ok(format!("{}/v1", address.await?))
}

fn completion(nth: u64, request: &Value) -> Value {
    let messages = request["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (message, finish_reason) = match turn(messages) {
        Some(Calls(calls)) => (asks_for(nth, calls), "tool_calls"),
        Some(Says(text)) => (json!({"role": "assistant", "content": text}), "stop"),
        None => (json!({"role": "assistant", "content": "I have no script for this."}), "stop"),
    };
    let tokens = |value: &Value| value.to_string().len() / 4;
    json!({
        "id": format!("chatcmpl-{nth}"),
        "object": "chat.completion",
        "model": format!("{}-2026-01-01", request["model"].as_str().unwrap_or_default()),
        "usage": {
            "prompt_tokens": tokens(&request["messages"]),
            "completion_tokens": tokens(&message),
        },
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
    })
}

fn turn(messages: &[Value]) -> Option<&'static Turn> {
    let has_role = |role: &'static str| move |message: &&Value| message["role"] == role;
    let task = messages.iter().find(has_role("user"))?["content"].as_str()?;
    let part = SCRIPT.iter().find(|(word, _)| names(task, word));
    let answers = messages.iter().filter(has_role("assistant")).count();
    part?.1.get(answers)
}

fn names(task: &str, order: &str) -> bool {
    task.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').any(|word| word == order)
}

fn asks_for(nth: u64, calls: &[(&str, &str)]) -> Value {
    let call = |(at, (name, arguments)): (usize, &(&str, &str))| {
        json!({"id": format!("call_{nth}_{at}"), "type": "function", "function": {
            "name": name, "arguments": arguments,
        }})
    };
    let calls: Vec<_> = calls.iter().enumerate().map(call).collect();
    json!({"role": "assistant", "content": null, "tool_calls": calls})
}
