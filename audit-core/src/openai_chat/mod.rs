//! The OpenAI chat format: transcripts taken into the log and given back, answers read.
//!
//! # A transcript as events
//!
//! A transcript is one JSON object: `session_id`, `messages`, usually `model`, and whatever else its
//! owner keeps there. [`Transcript::events`] tells it as events that are marked as imported:
//!
//! | event | for | content |
//! |---|---|---|
//! | `session.started` | the object | `transcript`: the object without `messages` |
//! | `model.decided` | each message of role `assistant` | `context.0`, `context.1`, …: the messages since the decision before; `output`: the message |
//! | `tool.attempted` | each message of role `tool` (or `function`) | `input`: the arguments of its call |
//! | `tool.completed` | the same message | `output`: the message |
//! | `session.ended` | the end | `context.0`, …: the messages after the last decision |
//!
//! Messages and values are kept byte for byte as they stood in the transcript, never parsed and
//! printed again: numbers, escapes, unknown keys and repeated keys survive.
//! [`Transcript::rebuild`] joins them to the object that they came from.
//!
//! What a transcript does not say is not made up:
//!
//! - A call that no message answers is named by its decision and has no attempt: nothing shows that
//!   it was carried out.
//! - A message belongs to the latest call with its call id that no message has answered yet; without
//!   a call id, to the next unanswered call of the latest decision, and the link says `scope`.
//! - The format has no field for a failed call. A result that begins with the word `Error` and a
//!   colon is recorded as `tool_error`, which means just that; every other as `ok`.
//! - A call without an id of its own is named after its place, `message-4-call-0`.
//! - A transcript that names no model was made by the model `unknown`, and no transcript says who ran
//!   it, unless it has a `provider`.

mod fields;
mod message;
mod rebuild;
mod response;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
mod tests;
mod transcript;

pub use rebuild::NotRebuilt;
pub use response::{ChatResponse, InvalidResponse, ToolCallRequest, decided};
pub use transcript::{InvalidTranscript, Transcript, TranscriptEvent};
