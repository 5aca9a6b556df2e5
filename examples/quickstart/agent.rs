//! The agent: asks the model, carries out the calls that it decides on, and asks again.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use agent_audit::{
    AuditContext, AuditError, audited,
    event::session::{SessionEnded, SessionOutcome, SessionStarted},
    openai_chat::ToolCallRequest,
    spawn, spawn_blocking,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{task::JoinError, time::timeout};

use crate::{
    explain,
    model::{Chat, Model, ModelError},
    review::review,
    tools::{Operation, Refund, Shop, ToolError, offered},
};

/// How long the carrier may think. The scripted one hangs for good where it should.
const PATIENCE: Duration = Duration::from_secs(2);
/// After so many answers an agent that has not come to an end is stopped.
const MAX_TURNS: usize = 12;

/// A model, the tools that it may use, and what it is told to be.
#[derive(Debug)]
pub(crate) struct Agent {
    model: Arc<Model>,
    shop: Arc<Shop>,
    tools: &'static [&'static str],
    prompt: &'static str,
    delegated: AtomicU32,
}

/// Why an agent stopped without an answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("no answer after {MAX_TURNS} turns")]
    Endless,
}

/// A tool call with its arguments read.
#[derive(Debug, Deserialize)]
#[serde(tag = "name", content = "arguments", rename_all = "snake_case")]
enum Call {
    ReadFile { name: String },
    QueryOrders { sql: String },
    Calculate { operation: Operation, left: i64, right: i64 },
    TrackParcel { order: String },
    Refund(Refund),
    Delegate { task: String },
}

type Answer = Pin<Box<dyn Future<Output = Result<String, AgentError>> + Send>>;

impl Agent {
    pub(crate) fn support(model: Arc<Model>, shop: Arc<Shop>) -> Self {
        let prompt = "You are the support agent of a web shop. Work with the tools, one step after \
                      the other; amounts are in cents. Answer in one sentence when you are done.";
        let tools =
            &["read_file", "query_orders", "calculate", "track_parcel", "refund", "delegate"];
        Self { model, shop, tools, prompt, delegated: AtomicU32::new(0) }
    }

    fn courier(&self) -> Self {
        let prompt = "You find out where parcels are. Answer in one sentence.";
        let (model, shop) = (Arc::clone(&self.model), Arc::clone(&self.shop));
        Self { model, shop, tools: &["track_parcel"], prompt, delegated: AtomicU32::new(0) }
    }

    /// Works on a task in the audit context that is current, until the model answers in words.
    ///
    /// The future is boxed because it contains itself: an agent may delegate to an agent.
    pub(crate) fn work(self: Arc<Self>, task: String) -> Answer {
        Box::pin(async move {
            let mut chat = Chat::new(self.prompt, &task, offered(self.tools));
            for _ in 0..MAX_TURNS {
                let answer = self.model.ask(&mut chat).await?;
                if answer.tool_calls().is_empty() {
                    return Ok(answer.text().unwrap_or_default().to_owned());
                }
                for (call_id, result) in self.carry_out(answer.tool_calls()).await? {
                    chat.tool_result(&call_id, &result);
                }
            }
            Err(AgentError::Endless)
        })
    }

    /// Carries out the calls of one decision at the same time, each in a task of its own: a tool
    /// that panics takes nothing else with it.
    async fn carry_out(
        self: &Arc<Self>,
        calls: &[ToolCallRequest],
    ) -> Result<Vec<(String, String)>, AgentError> {
        let here = AuditContext::current()?;
        let start = |call: &ToolCallRequest| {
            let tool = Arc::clone(self).call(call.clone());
            here.with_call(call.call_id.clone()).run(|| spawn(tool))
        };
        let running: Vec<_> = calls.iter().map(start).collect();
        let mut results = Vec::new();
        for (call, task) in calls.iter().zip(running) {
            let result = match task.await {
                Ok(Ok(value)) => value.to_string(),
                Ok(Err(error)) => format!("Error: {error}"),
                Err(_) => "Error: the tool panicked".to_owned(),
            };
            crate::say(&here, &call.name, &result);
            results.push((call.call_id.to_string(), result));
        }
        Ok(results)
    }

    async fn call(self: Arc<Self>, request: ToolCallRequest) -> Result<Value, ToolError> {
        let shop = Arc::clone(&self.shop);
        Ok(match read(&request)? {
            Call::ReadFile { name } => {
                json!(joined(spawn_blocking(move || shop.read_file(&name)).await)?)
            }
            Call::QueryOrders { sql } => {
                json!(joined(spawn_blocking(move || shop.query_orders(&sql)).await)?)
            }
            Call::Calculate { operation, left, right } => {
                json!(shop.calculate(operation, left, right)?)
            }
            Call::TrackParcel { order } => {
                let answer = timeout(PATIENCE, shop.track_parcel(&order)).await;
                answer.map_err(|_| ToolError::Carrier("out of patience".to_owned()))??
            }
            Call::Refund(refund) => match review(&refund).await? {
                Some((refund, approval)) => {
                    let paid = refund.cents;
                    let work = spawn_blocking(move || shop.pay_back(&refund, &approval));
                    json!({"refund": joined(work.await)?, "cents": paid})
                }
                None => json!("the reviewer refused: nothing was paid"),
            },
            Call::Delegate { task } => json!(self.delegate(task).await?),
        })
    }

    /// A sub-agent with a session of its own, which names this call as its origin.
    #[audited(tool)]
    async fn delegate(self: Arc<Self>, task: String) -> Result<String, ToolError> {
        let here = AuditContext::current()?;
        let nth = self.delegated.fetch_add(1, Ordering::Relaxed) + 1;
        let session = format!("{}.courier-{nth}", here.session_id());
        let started = SessionStarted::new().with_purpose("find a parcel");
        let child = here.sub_agent(session, "courier", started).await?;
        let courier = Arc::new(self.courier());
        let answer = joined(child.run(|| spawn(courier.work(task))).await);
        let outcome =
            if answer.is_ok() { SessionOutcome::Completed } else { SessionOutcome::Failed };
        child.end(SessionEnded::new(outcome)).await?;
        answer.map_err(|error| ToolError::Delegate(explain(&error)))
    }
}

fn read(request: &ToolCallRequest) -> Result<Call, ToolError> {
    let fault = |error: serde_json::Error| ToolError::Call(error.to_string());
    let arguments: Value = serde_json::from_str(&request.arguments).map_err(fault)?;
    serde_json::from_value(json!({"name": request.name, "arguments": arguments})).map_err(fault)
}

/// What a task returned; its panic goes on here.
fn joined<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => unreachable!("nobody aborts these tasks"),
    })
}
