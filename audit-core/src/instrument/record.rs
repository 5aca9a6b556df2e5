//! What can be recorded, and the inputs of a call on their way into the record.

use std::fmt::Display;

use serde::Serialize;

/// A parameter that can be recorded: everything that serde can write as JSON.
///
/// ```
/// use agent_audit_core::instrument::RecordInput;
/// assert_eq!(RecordInput::json(&("A-1", 3))?, br#"["A-1",3]"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be recorded: it does not implement `serde::Serialize`",
    label = "this would go into the record",
    note = "name the parameter in `skip(…)`: the record then says that it was left out",
    note = "or implement `serde::Serialize` for `{Self}`, or record something else with `input = …`"
)]
pub trait RecordInput {
    /// The value as JSON.
    ///
    /// # Errors
    /// Where the value has no JSON form, as a map whose keys are not text.
    fn json(&self) -> Result<Vec<u8>, serde_json::Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> RecordInput for T {
    fn json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// A returned value that can be recorded: everything that serde can write as JSON.
///
/// ```
/// use agent_audit_core::instrument::RecordOutput;
/// assert_eq!(RecordOutput::json(&Some(3))?, b"3");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "the returned `{Self}` cannot be recorded: it does not implement `serde::Serialize`",
    label = "this would go into the record as the output",
    note = "leave it out with `skip(return)`, or implement `serde::Serialize` for `{Self}`"
)]
pub trait RecordOutput {
    /// The value as JSON.
    ///
    /// # Errors
    /// Where the value has no JSON form, as a map whose keys are not text.
    fn json(&self) -> Result<Vec<u8>, serde_json::Error>;
}

#[diagnostic::do_not_recommend]
impl<T: Serialize + ?Sized> RecordOutput for T {
    fn json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// A returned error that can be recorded: its text is content, its type is the error code.
///
/// ```
/// use agent_audit_core::instrument::RecordError;
/// let error = "x".parse::<u8>().unwrap_err();
/// assert_eq!(error.code(), "ParseIntError");
/// assert_eq!(error.text(), "invalid digit found in string");
/// ```
#[diagnostic::on_unimplemented(
    message = "the returned error `{Self}` cannot be recorded: it does not implement `Display`",
    label = "the text of this error would go into the record",
    note = "implement `std::fmt::Display` for `{Self}`, or return an error that does"
)]
pub trait RecordError {
    /// The name of the type, without its path and its parameters.
    fn code(&self) -> String;
    /// What it says.
    fn text(&self) -> String;
}

#[diagnostic::do_not_recommend]
impl<E: Display> RecordError for E {
    fn code(&self) -> String {
        short_name(std::any::type_name::<E>()).to_owned()
    }

    fn text(&self) -> String {
        self.to_string()
    }
}

/// `alloc::boxed::Box<dyn core::error::Error>` is a `Box`, `&my::Error` an `Error`.
fn short_name(mut name: &str) -> &str {
    while let Some(rest) = ["&", "mut ", "dyn "].iter().find_map(|prefix| name.strip_prefix(prefix))
    {
        name = rest;
    }
    let name = name.split_once('<').map_or(name, |(name, _)| name);
    name.rsplit_once("::").map_or(name, |(_, name)| name)
}

/// The inputs of one call, written before anything else happens, so that the record holds them as
/// they were and the body may consume them.
///
/// ```
/// use agent_audit_core::instrument::Inputs;
/// let inputs = Inputs::new().record("order", "A-1").record_apart("card", "4111").omit("client");
/// assert!(!format!("{inputs:?}").contains("4111"));
/// ```
#[derive(Default)]
pub struct Inputs {
    /// The members of the object, separated by commas.
    pub(super) members: Vec<u8>,
    pub(super) apart: Vec<(&'static str, Vec<u8>)>,
    pub(super) omitted: Vec<&'static str>,
    /// The first parameter that has no JSON form.
    pub(super) unrecordable: Option<&'static str>,
}

impl Inputs {
    /// No inputs yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a parameter to the object of all ordinary ones.
    #[must_use]
    pub fn record<T: RecordInput + ?Sized>(mut self, name: &'static str, value: &T) -> Self {
        if let Some(json) = self.json(name, value) {
            if !self.members.is_empty() {
                self.members.push(b',');
            }
            self.members.push(b'"');
            // The name of a parameter is an identifier: nothing in it needs escaping.
            self.members.extend_from_slice(name.as_bytes());
            self.members.extend_from_slice(b"\":");
            self.members.extend_from_slice(&json);
        }
        self
    }

    /// Adds a parameter that becomes a part of its own, so that it can be sealed and erased alone.
    #[must_use]
    pub fn record_apart<T: RecordInput + ?Sized>(mut self, name: &'static str, value: &T) -> Self {
        if let Some(json) = self.json(name, value) {
            self.apart.push((name, json));
        }
        self
    }

    /// Names a parameter that is left out on purpose.
    #[must_use]
    pub fn omit(mut self, name: &'static str) -> Self {
        self.omitted.push(name);
        self
    }

    fn json<T: RecordInput + ?Sized>(&mut self, name: &'static str, value: &T) -> Option<Vec<u8>> {
        let json = value.json().ok();
        if json.is_none() {
            self.unrecordable.get_or_insert(name);
        }
        json
    }
}

impl std::fmt::Debug for Inputs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inputs")
            .field("apart", &self.apart.len())
            .field("omitted", &self.omitted)
            .finish_non_exhaustive()
    }
}
