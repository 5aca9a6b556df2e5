//! What the server and the network report, in the terms of a sink.
//!
//! A message here is made of what was being done, a code and names of tables and constraints. What the
//! server says of a value (its message of data errors, detail, context) never comes near it, and
//! neither does the client library's error as a source, because it holds all of that.

use std::{error::Error as _, fmt, io};

use agent_audit_core::sink::{SinkError, SinkErrorKind};
use tokio_postgres::{Error, error::DbError};

/// A fault that several segments can share, which a [`SinkError`] cannot.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    pub(crate) kind: SinkErrorKind,
    context: String,
    maybe_applied: bool,
    about_data: bool,
}

impl Fault {
    pub(crate) fn new(kind: SinkErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), maybe_applied: false, about_data: false }
    }

    /// A fault of a statement or a connection while doing something.
    pub(crate) fn postgres(error: &Error, doing: &str) -> Self {
        let (kind, reason) = reason(error);
        let mut fault = Self::new(kind, format!("{doing}: {reason}"));
        fault.about_data = kind == SinkErrorKind::Rejected || is_position(error.as_db_error());
        fault
    }

    /// A fault of a statement that stores something.
    pub(crate) fn of_append(error: &Error, doing: &str) -> Self {
        let mut fault = Self::postgres(error, doing);
        // What the server answers about a statement it has taken back; a server that goes away, or
        // says nothing, may have committed.
        let decided = error.as_db_error().is_some_and(|db| {
            let code = db.code().code();
            !code.starts_with("57P") && !code.starts_with("08") && !code.starts_with("XX")
        });
        fault.maybe_applied = !decided;
        fault
    }

    /// No answer came in time.
    pub(crate) fn timeout(doing: &str) -> Self {
        Self::new(SinkErrorKind::Timeout, format!("{doing}: the server does not answer"))
    }

    pub(crate) fn with_maybe_applied(mut self, maybe_applied: bool) -> Self {
        self.maybe_applied = maybe_applied;
        self
    }

    /// Whether the database refuses what it was given, and not the statement or the login.
    pub(crate) fn is_about_data(&self) -> bool {
        self.about_data
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.context)
    }
}

impl From<Fault> for SinkError {
    fn from(fault: Fault) -> Self {
        let error = Self::new(fault.kind, fault.context);
        if fault.maybe_applied { error.with_maybe_applied() } else { error }
    }
}

/// How to get tables; also said where they are of another version.
pub(crate) const HOW_TO_MIGRATE: &str = "have an administrator run sql/roles.sql of \
    agent-audit-postgres in this database once, then PostgresStore::migrate as a member of audit_owner";

fn reason(error: &Error) -> (SinkErrorKind, String) {
    if let Some(db) = error.as_db_error() {
        return reason_of_server(db);
    }
    let cause = error.source();
    // The client's kinds are private; their texts are what tells them apart.
    match error.to_string().as_str() {
        "authentication error" => (
            SinkErrorKind::Unauthenticated,
            "the server does not take the login: check user and password".to_owned(),
        ),
        "invalid configuration" => match cause.map(ToString::to_string).as_deref() {
            Some("password missing") => (
                SinkErrorKind::Unauthenticated,
                "the server asks for a password and none is set".to_owned(),
            ),
            _ => (
                SinkErrorKind::Misconfigured,
                "the url does not fit together: give a user, and as many ports as hosts".to_owned(),
            ),
        },
        "error performing TLS handshake" => reason_of_tls(cause),
        "connection closed" => {
            (SinkErrorKind::Unavailable, "the server closed the connection".to_owned())
        }
        "error encoding message to server" => {
            (SinkErrorKind::Rejected, "it is too large for one statement".to_owned())
        }
        text if text.starts_with("error deserializing column") => {
            (SinkErrorKind::Corrupt, "a stored value is not of its type".to_owned())
        }
        text if text.starts_with("error serializing parameter") => {
            (SinkErrorKind::Rejected, "it is too large for one statement".to_owned())
        }
        text => match cause.and_then(|cause| cause.downcast_ref::<io::Error>()) {
            Some(io) => (SinkErrorKind::Unavailable, format!("{text}: {io}")),
            None => (SinkErrorKind::Unavailable, text.to_owned()),
        },
    }
}

fn reason_of_tls(cause: Option<&(dyn std::error::Error + 'static)>) -> (SinkErrorKind, String) {
    let io = cause.and_then(|cause| cause.downcast_ref::<io::Error>());
    let tls =
        io.and_then(|io| io.get_ref()).and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match (tls, io) {
        (Some(tls @ rustls::Error::InvalidCertificate(_)), _) => (
            SinkErrorKind::Misconfigured,
            format!("the server's certificate is not trusted: {tls}: name the file of its roots"),
        ),
        (Some(tls), _) => (SinkErrorKind::Unavailable, format!("no TLS with the server: {tls}")),
        (None, Some(io)) => (SinkErrorKind::Unavailable, format!("no TLS with the server: {io}")),
        (None, None) => (
            SinkErrorKind::Misconfigured,
            "the server offers no TLS: turn it on there, or use ssl mode disable".to_owned(),
        ),
    }
}

fn reason_of_server(db: &DbError) -> (SinkErrorKind, String) {
    use SinkErrorKind as Kind;
    let code = db.code().code();
    // These name roles, databases and tables, and never a value of a row.
    let said = |kind, text: &str| (kind, format!("{text} ({code}: {})", db.message()));
    match code {
        "23505" if is_position(Some(db)) => (
            Kind::Corrupt,
            "an event is stored behind the head of its chain: verify the chain".to_owned(),
        ),
        "25006" => said(Kind::Unavailable, "the server takes no writes, as a standby"),
        "28P01" | "28000" => said(
            Kind::Unauthenticated,
            "the server does not take the login: check user and password",
        ),
        "42501" => said(Kind::PermissionDenied, "a privilege is missing"),
        "3D000" => said(Kind::Misconfigured, "there is no such database"),
        "3F000" | "42P01" | "42883" | "42703" | "42704" | "22023" => {
            let (kind, text) = said(Kind::Misconfigured, "the tables of the audit log are missing");
            (kind, format!("{text}: {HOW_TO_MIGRATE}"))
        }
        "57014" => (Kind::Timeout, format!("the server cancelled the statement ({code})")),
        "40001" | "40P01" | "55P03" => {
            (Kind::Unavailable, format!("another transaction is in the way ({code})"))
        }
        "53300" => said(Kind::Exhausted, "the server has no connection left"),
        "53100" => (Kind::Exhausted, format!("the server's disk is full ({code})")),
        "XX001" | "XX002" => (Kind::Corrupt, format!("the server finds its data damaged ({code})")),
        _ => match &code[..2.min(code.len())] {
            "53" => (Kind::Exhausted, format!("the server is short of resources ({code})")),
            "08" | "57" | "58" => {
                (Kind::Unavailable, format!("the server is not at work ({code})"))
            }
            "22" | "23" | "54" => (Kind::Rejected, refusal(db)),
            "42" | "0A" => said(Kind::Misconfigured, "the server does not know the statement"),
            _ => (Kind::Other, format!("the server reports SQLSTATE {code}")),
        },
    }
}

/// Whether a row is refused because its position is taken. Appends are put to the head of their chain,
/// so that only happens where the head was set back.
fn is_position(db: Option<&DbError>) -> bool {
    db.is_some_and(|db| {
        db.code().code() == "23505"
            && db.constraint().is_some_and(|name| name.ends_with("_position"))
    })
}

/// Why a row is refused: by names alone.
fn refusal(db: &DbError) -> String {
    let mut text = format!("the database refuses it (SQLSTATE {})", db.code().code());
    for (what, name) in
        [("constraint", db.constraint()), ("table", db.table()), ("column", db.column())]
    {
        if let Some(name) = name {
            text.push_str(&format!(", {what} {name}"));
        }
    }
    text
}
