//! The tools: files, SQL, arithmetic and HTTP. `#[audited]` records each call of them.

use std::{fs, path::PathBuf};

use agent_audit::{AuditError, AuditUnavailable, Receipt, audited};
use rusqlite::{Connection, OpenFlags, params, types::ValueRef};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::http::Client;

/// What an agent of one shop can work with.
#[derive(Debug)]
pub(crate) struct Shop {
    pub(crate) files: PathBuf,
    pub(crate) database: PathBuf,
    /// The address of the carrier's parcel service.
    pub(crate) carrier: String,
    pub(crate) client: Client,
}

/// Money that goes back to a customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refund {
    pub(crate) order: String,
    pub(crate) cents: i64,
}

/// The operations of [`Shop::calculate`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// Why a tool did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ToolError {
    #[error("{name}: {error}")]
    File { name: String, error: std::io::Error },
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    #[error("the carrier gave no answer: {0}")]
    Carrier(String),
    #[error("the other agent gave no answer: {0}")]
    Delegate(String),
    #[error("this is no call of a tool: {0}")]
    Call(String),
    /// Nothing happens unrecorded: without a log there is no tool call.
    #[error(transparent)]
    Unrecorded(#[from] AuditUnavailable),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

impl Shop {
    #[audited(tool, effect = read_only)]
    pub(crate) fn read_file(&self, name: &str) -> Result<String, ToolError> {
        let fault = |error| ToolError::File { name: name.to_owned(), error };
        if name.contains(['/', '\\']) {
            return Err(fault(std::io::ErrorKind::InvalidFilename.into()));
        }
        fs::read_to_string(self.files.join(name)).map_err(fault)
    }

    #[audited(tool, effect = read_only)]
    pub(crate) fn query_orders(&self, sql: &str) -> Result<Vec<Value>, ToolError> {
        let database =
            Connection::open_with_flags(&self.database, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut statement = database.prepare(sql)?;
        let columns: Vec<_> = statement.column_names().map(str::to_owned).collect();
        let rows = statement.query_map([], |row| {
            let cell = |(at, name): (usize, &String)| Ok((name.clone(), to_json(row.get_ref(at)?)));
            columns.iter().enumerate().map(cell).collect::<rusqlite::Result<_>>().map(Value::Object)
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Panics on what has no result, as code of the real world does.
    #[audited(tool, effect = read_only)]
    pub(crate) fn calculate(
        &self,
        operation: Operation,
        left: i64,
        right: i64,
    ) -> Result<i64, ToolError> {
        Ok(match operation {
            Operation::Add => left + right,
            Operation::Subtract => left - right,
            Operation::Multiply => left * right,
            Operation::Divide => left / right,
        })
    }

    #[audited(tool, effect = read_only)]
    pub(crate) async fn track_parcel(&self, order: &str) -> Result<Value, ToolError> {
        let fault = |error: &dyn std::error::Error| ToolError::Carrier(error.to_string());
        let url = format!("{}/parcels/{order}", self.carrier);
        let answer = self.client.get(&url).await.map_err(|error| fault(&error))?;
        serde_json::from_slice(&answer).map_err(|error| fault(&error))
    }

    /// Runs only after a review: the record names the decision that allows it.
    #[audited(
        tool,
        name = "refund",
        effect = destructive,
        input = refund,
        approval = approval,
        external(order = refund.order, refund = output)
    )]
    pub(crate) fn pay_back(&self, refund: &Refund, approval: &Receipt) -> Result<i64, ToolError> {
        let database = Connection::open(&self.database)?;
        let row = params![refund.order, refund.cents];
        database.execute("INSERT INTO refunds (order_id, cents) VALUES (?1, ?2)", row)?;
        Ok(database.last_insert_rowid())
    }
}

fn to_json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into(),
    }
}

/// The tools as the chat protocol offers them to a model.
pub(crate) fn offered(names: &[&str]) -> Value {
    let text = json!({"type": "string"});
    let whole = json!({"type": "integer"});
    let operation = json!({"enum": ["add", "subtract", "multiply", "divide"]});
    let all = [
        ("read_file", "read a text file of the shop", json!({"name": text})),
        (
            "query_orders",
            "run a SELECT on the table orders(id, customer, item, paid_cents)",
            json!({"sql": text}),
        ),
        (
            "calculate",
            "whole-number arithmetic",
            json!({"operation": operation, "left": whole, "right": whole}),
        ),
        ("track_parcel", "ask the carrier where the parcel of an order is", json!({"order": text})),
        ("refund", "pay money back, after a review", json!({"order": text, "cents": whole})),
        ("delegate", "let the courier agent find something out", json!({"task": text})),
    ];
    let offered = all.into_iter().filter(|(name, ..)| names.contains(name));
    let tool = |(name, description, properties): (&str, &str, Value)| {
        let required: Vec<_> = properties.as_object().into_iter().flat_map(|o| o.keys()).collect();
        let parameters = json!({"type": "object", "properties": properties, "required": required});
        json!({"type": "function", "function": {
            "name": name, "description": description, "parameters": parameters,
        }})
    };
    offered.map(tool).collect()
}
