//! What `#[audited]` expands to: the steps of one recorded call, without syntax.
//!
//! The attribute writes the parameters into [`Inputs`], names the call by a [`Call`], and hands the
//! body to [`run_async`] or [`run_blocking`], which record the intent, run the body in the context
//! of the attempt and record the outcome. The outcome is read off the returned value by a
//! [`Probe`], which tells a `Result` from a plain value by its type and never by its spelling.
//!
//! The facade shows this module as `agent_audit::__private`, for the expansion alone. Two traits in
//! it are for users, and the facade names them openly: [`ModelResponse`] and [`ReviewResponse`].
//! Whoever records a call by hand uses [`crate::attempt`].

mod approval;
mod call;
mod outcome;
mod policy;
mod probe;
mod record;
mod response;
mod run;

pub use core::option::Option::{None, Some};

pub use self::{
    approval::Approval,
    call::Call,
    outcome::{ModelObserved, ReviewObserved, ToolObserved},
    policy::{Deny, Policy},
    probe::{Probe, ProbePlain, never, test},
    record::{Inputs, RecordError, RecordInput, RecordOutput},
    response::{ModelResponse, ReviewResponse},
    run::{Model, Plane, Review, Tool, run_async, run_blocking},
};
pub use crate::event::tool::Effect;
