//! What the compiler finds out about the types.

use std::fmt;

use agent_audit::{audited, error::AuditUnavailable};
use async_trait::async_trait;

pub struct Client;

pub struct Failed;
impl From<AuditUnavailable> for Failed {
    fn from(_: AuditUnavailable) -> Self {
        Failed
    }
}
impl fmt::Display for Failed {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

// A parameter that is neither serialisable nor skipped, at that parameter.

#[audited(tool)]
async fn unrecordable_parameter(order: u8, client: Client) -> Result<u8, Failed> {
    let _ = client;
    Ok(order)
}

#[audited(tool)]
fn unrecordable_generic<T>(value: T, (a, _b): (u8, Client)) -> Result<u8, Failed> {
    drop(value);
    Ok(a)
}

#[audited(tool, sensitive(client), input = Client)]
fn unrecordable_input(client: &Client) -> Result<(), Failed> {
    let _ = client;
    Ok(())
}

#[async_trait]
trait Tool {
    async fn call(&self, client: &Client) -> Result<Client, Failed>;
}

#[async_trait]
impl Tool for u8 {
    #[audited(tool)]
    async fn call(&self, client: &Client) -> Result<Client, Failed> {
        let _ = client;
        Ok(Client)
    }
}

// A result that cannot be recorded.

#[audited(tool)]
fn unrecordable_output() -> Result<Client, Failed> {
    Ok(Client)
}

#[audited(tool, on_audit_error = proceed)]
async fn unrecordable_plain_output() -> Client {
    Client
}

#[audited(tool, on_audit_error = proceed)]
fn unrecordable_error() -> Result<u8, Client> {
    Err(Client)
}

// A result that cannot say that the log is unavailable.

#[audited(tool)]
async fn cannot_be_denied() -> u8 {
    1
}

#[audited(tool)]
fn cannot_be_denied_either() {}

#[audited(tool)]
fn error_does_not_convert() -> Result<u8, std::num::ParseIntError> {
    "1".parse()
}

// The other planes.

#[audited(model)]
async fn no_model_response(prompt: String) -> Result<String, Failed> {
    Ok(prompt)
}

#[audited(review)]
async fn no_review_response(proposal: String) -> Result<bool, Failed> {
    Ok(proposal.is_empty())
}

// The user's own expressions.

#[audited(tool, parent = "decision", error_if = |n: &u8| *n, external(client = Client))]
fn wrong_expressions() -> Result<u8, Failed> {
    Ok(1)
}

#[audited(tool, approval = "review-7")]
fn wrong_approval() -> Result<u8, Failed> {
    Ok(1)
}

#[audited(tool, external(order = order))]
async fn consumed(order: String) -> Result<usize, Failed> {
    let bytes = order.into_bytes();
    Ok(bytes.len())
}

fn main() {}
