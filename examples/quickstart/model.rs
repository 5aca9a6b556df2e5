//! A language model behind the OpenAI chat protocol, each call of it recorded.

use std::env;

use agent_audit::{
    AuditContext, AuditError, ModelCall, ModelOutcome, Part,
    event::model::{ContextRole, ModelStatus},
    id::EventId,
    openai_chat::{ChatResponse, InvalidResponse},
};
use serde_json::{Value, json};

use crate::{
    explain,
    http::{ApiKey, Client},
};

/// Where a model is, and which.
#[derive(Debug)]
pub(crate) struct Model {
    client: Client,
    base_url: String,
    name: String,
    key: Option<ApiKey>,
}

/// Why a model gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelError {
    #[error("the model cannot be reached")]
    Unreachable(#[from] std::io::Error),
    #[error(transparent)]
    Answer(#[from] InvalidResponse),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Model {
    /// The endpoint that the environment names, if it names one.
    pub(crate) fn from_env() -> Option<Self> {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let (base_url, key) = (set("OPENAI_BASE_URL"), set("OPENAI_API_KEY"));
        if base_url.is_none() && key.is_none() {
            return None;
        }
        let base_url = base_url.unwrap_or_else(|| "https://api.openai.com/v1".to_owned());
        let name = set("OPENAI_MODEL").unwrap_or_else(|| "gpt-4o-mini".to_owned());
        Some(Self::new(&base_url, &name, key.map(ApiKey::new)))
    }

    pub(crate) fn new(base_url: &str, name: &str, key: Option<ApiKey>) -> Self {
        let base_url = base_url.trim_end_matches('/').to_owned();
        Self { client: Client::new(), base_url, name: name.to_owned(), key }
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn key(&self) -> Option<&ApiKey> {
        self.key.as_ref()
    }

    /// Asks for the next message of a chat and adds it.
    ///
    /// What the model is asked is on disk before the request leaves, what it decided before anybody
    /// acts on it. From then on, tool calls find this decision by their call ids.
    pub(crate) async fn ask(&self, chat: &mut Chat) -> Result<ChatResponse, ModelError> {
        let attempt = AuditContext::current()?.attempt_model(chat.call(&self.name)).await?;
        let answer = self.complete(chat).await;
        let receipt = attempt.complete(outcome(&answer)).await?;
        let answer = answer?;
        chat.answered(&answer, receipt.event_id);
        Ok(answer)
    }

    async fn complete(&self, chat: &Chat) -> Result<ChatResponse, ModelError> {
        let url = format!("{}/chat/completions", self.base_url);
        let body = json!({"model": self.name, "messages": chat.messages, "tools": chat.tools});
        let answer = self.client.post(&url, self.key.as_ref(), &body).await?;
        Ok(ChatResponse::parse(&answer)?)
    }
}

fn outcome(answer: &Result<ChatResponse, ModelError>) -> ModelOutcome {
    match answer {
        Ok(answer) => {
            let (decided, parts) = answer.decided("");
            parts.into_iter().fold(ModelOutcome::decided(decided), ModelOutcome::with_part)
        }
        Err(error) => {
            ModelOutcome::failed(ModelStatus::Error).with_part(Part::text("error", explain(error)))
        }
    }
}

/// A conversation with a model.
#[derive(Debug)]
pub(crate) struct Chat {
    messages: Vec<Value>,
    tools: Value,
    /// From here on, messages are in no record yet.
    unrecorded: usize,
    decided: Option<EventId>,
}

impl Chat {
    pub(crate) fn new(system: &str, user: &str, tools: Value) -> Self {
        let messages = vec![
            json!({"role": "system", "content": system}),
            json!({"role": "user", "content": user}),
        ];
        Self { messages, tools, unrecorded: 0, decided: None }
    }

    /// Adds what came of a tool call.
    pub(crate) fn tool_result(&mut self, call_id: &str, result: &str) {
        self.messages.push(json!({"role": "tool", "tool_call_id": call_id, "content": result}));
    }

    /// The call as it is recorded: only what was added since the decision before.
    fn call(&self, model: &str) -> ModelCall {
        let mut call = ModelCall::new("openai", model);
        match self.decided {
            Some(decided) => call = call.with_context_after(decided),
            None => call = call.with_part(json_part("tools", &self.tools)),
        }
        for message in &self.messages[self.unrecorded..] {
            let role = ContextRole::from(message["role"].as_str().unwrap_or_default());
            call = call.with_context(role, "application/json", message.to_string());
        }
        call
    }

    fn answered(&mut self, answer: &ChatResponse, decided: EventId) {
        self.messages.push(serde_json::from_str(answer.message()).unwrap_or_default());
        self.unrecorded = self.messages.len();
        self.decided = Some(decided);
    }
}

fn json_part(name: &str, value: &Value) -> Part {
    Part::new(name, "application/json", value.to_string())
}
