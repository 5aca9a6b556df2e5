//! `agent-audit verify`: is it as it was written?

mod export;
mod log;
mod store;

use std::{fs, path::Path};

use agent_audit_core::{
    key::VerifyingKey,
    note::NoteVerifier,
    timeline::visible,
    verify::{Finding, Severity, Verdict},
};
use serde::Serialize;

use crate::{args::VerifyArgs, failure::Failure, output::Out, store::kind_of};

/// How many findings of one kind of severity a person is shown.
const SHOWN: usize = 50;

pub(crate) fn run(args: &VerifyArgs, out: &mut Out) -> Result<u8, Failure> {
    let path = Path::new(&args.store);
    match kind_of(&args.store) {
        (Some(_), _) => store::run(args, out),
        (None, _) if agent_audit_query::export::is_export(path) => export::run(args, path, out),
        (None, _) => log::run(args, path, out),
    }
}

#[derive(Serialize)]
struct CouldNotTell {
    verdict: Verdict,
    error: String,
}

/// What a script is told where nothing could be verified.
fn could_not_tell<T>(args: &VerifyArgs, failure: Failure, out: &mut Out) -> Result<T, Failure> {
    if args.json {
        let answer = CouldNotTell { verdict: Verdict::Unsure, error: failure.to_string() };
        out.line(serde_json::to_string(&answer)?)?;
    }
    Err(failure)
}

/// The findings for a person, the most serious first.
fn findings(findings: &[Finding], lines: &mut Vec<String>) {
    for (severity, title) in [
        (Severity::Tampering, "What is wrong:"),
        (Severity::Unsure, "What could not be told:"),
        (Severity::Warning, "Worth a look (no tampering):"),
    ] {
        let of_severity = |finding: &&Finding| finding.severity == severity;
        let findings: Vec<_> = findings.iter().filter(of_severity).collect();
        if findings.is_empty() {
            continue;
        }
        lines.push(format!("\n{title}"));
        for finding in findings.iter().take(SHOWN) {
            let text = finding.to_string();
            lines.push(format!("  {:<17} {}", finding.kind, visible(&text)));
        }
        if findings.len() > SHOWN {
            lines.push(format!("  … and {} more: see --json", findings.len() - SHOWN));
        }
    }
}

/// The keys in files, and those given as they are.
pub(crate) fn read_keys(given: &[String]) -> Result<Vec<VerifyingKey>, Failure> {
    let mut keys = Vec::new();
    for given in given {
        keys.extend(read_key_file(given)?);
    }
    Ok(keys)
}

/// The keys in a file, or a key given as it is.
fn read_key_file(given: &str) -> Result<Vec<VerifyingKey>, Failure> {
    if let Some(key) = parse_key(given) {
        return Ok(vec![key]);
    }
    let text = fs::read_to_string(given).map_err(|error| {
        Failure::new(format!(
            "cannot read the key `{given}`: {error}; give a file of public keys, or a key as \
             `agent-audit keys` prints it (ed25519:…)"
        ))
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let keys = lines.map(parse_key).collect::<Option<Vec<_>>>().unwrap_or_default();
    if keys.is_empty() {
        return Err(Failure::new(format!(
            "`{given}` does not hold public keys alone, one a line: `agent-audit keys DIR` shows \
             what they look like"
        )));
    }
    Ok(keys)
}

/// A public key, as such or as a verifier of signed notes.
fn parse_key(text: &str) -> Option<VerifyingKey> {
    text.parse::<VerifyingKey>()
        .ok()
        .or_else(|| text.parse::<NoteVerifier>().ok().map(|verifier| *verifier.key()))
}
