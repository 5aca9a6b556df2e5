//! Why the command could not do what it was asked for.

use std::{error::Error, fmt};

use agent_audit_core::timeline::visible;

/// A message for the person at the terminal: what, which, and the way out.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// An error with its sources, in one line.
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some errors repeat what they come from.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = error.source();
        }
        Self(message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names of files and sessions come from outside and must not draw on the terminal; the
        // lines are ours.
        for (nth, line) in self.0.split('\n').enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}", visible(line))?;
        }
        Ok(())
    }
}
