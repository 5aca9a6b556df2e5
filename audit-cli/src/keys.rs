//! `agent-audit keys`: which keys sign a log, and where the private one is.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use agent_audit_core::{
    chain::ChainRef,
    checkpoint::{SignedCheckpoint, chain_origin},
    id::{ChainId, TenantId},
    key::{SIGNING_KEY_VARIABLE, SigningKey, VerifyingKey},
    log::Layout,
};
use serde::Deserialize;

use crate::{
    args::{KeysArgs, KeysCommand},
    failure::Failure,
    output::{Out, shell},
    reading::Log,
};

pub(crate) fn run(args: &KeysArgs, out: &mut Out) -> Result<(), Failure> {
    match (&args.command, &args.dir) {
        (Some(KeysCommand::Generate { file }), _) => generate(file, out),
        (None, Some(dir)) => {
            // Only to say what is wrong with the directory, where something is.
            Log::open(dir)?;
            if args.verifiers { verifiers(dir, out) } else { show(dir, out) }
        }
        (None, None) => Err(Failure::new("give the directory of a log, or `generate FILE`")),
    }
}

fn generate(file: &Path, out: &mut Out) -> Result<(), Failure> {
    if file.symlink_metadata().is_ok() {
        return Err(Failure::new(format!(
            "`{}` is already there and is not replaced: name a new file",
            file.display()
        )));
    }
    let key = SigningKey::load_or_create(file)?.verifying_key();
    let name = shell(&file.display().to_string());
    out.line(format!("made a signing key in {}, readable by its owner alone", file.display()))?;
    out.line(format!("public key {}: {key}", key.id()))?;
    out.line(format!(
        "\nto sign a log with it, move it to DIR/keys/signing.key before the log is first opened, \
         or give its second word to the program:\n  export {SIGNING_KEY_VARIABLE}=\"$(cut -d' ' \
         -f2 {name})\""
    ))
}

fn show(dir: &Path, out: &mut Out) -> Result<(), Failure> {
    let layout = Layout::new(dir);
    let private = layout.keys().join("signing.key");
    let keys = public_keys(&layout)?;
    let checkpoints = checkpoints(&layout)?;
    let latest = checkpoints.last().and_then(|line| signer(line, &keys));
    out.line("Public keys:")?;
    if keys.is_empty() {
        out.line("  none yet: the first is made when the log is first opened")?;
    }
    for key in &keys {
        let current = if latest == Some(*key) { "  (signed the latest checkpoint)" } else { "" };
        out.line(format!("  {}  {key}{current}", key.id()))?;
    }
    if latest.is_none() && !checkpoints.is_empty() {
        out.line("  the latest checkpoint is signed by none of them")?;
    }
    for key in public_keys(&Layout::new(crate::access::default_log(dir)))? {
        out.line(format!("  {}  {key}  (signs the record of reads)", key.id()))?;
    }
    out.line("\nPrivate key:")?;
    out.line(match fs::metadata(&private) {
        Ok(metadata) => {
            let mode = metadata.permissions().mode() & 0o7777;
            let who = if mode & 0o077 == 0 {
                "its owner alone can read it"
            } else {
                "OTHERS THAN ITS OWNER CAN USE IT: run `chmod 600`, and make a new key if it may \
                 have been read"
            };
            format!("  {} (mode {mode:04o}: {who})", private.display())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!(
            "  not in this directory: it comes from the variable {SIGNING_KEY_VARIABLE} or from \
             the program"
        ),
        Err(error) => format!("  {}: {error}", private.display()),
    })?;
    if let Some(key) = latest.or(keys.first().copied()) {
        let dir = shell(&dir.display().to_string());
        out.line("\nWhoever can write to the log can replace a key in it: keep it elsewhere, and")?;
        out.line(format!("  agent-audit verify {dir} --key {key}"))?;
    }
    Ok(())
}

fn verifiers(dir: &Path, out: &mut Out) -> Result<(), Failure> {
    let layout = Layout::new(dir);
    let keys = public_keys(&layout)?;
    let chains: BTreeSet<ChainRef> = checkpoints(&layout)?
        .into_iter()
        .map(|line| ChainRef::new(line.tenant_id, line.chain_id))
        .collect();
    if chains.is_empty() {
        return Err(Failure::new(format!(
            "`{}` holds no checkpoint: a log signs its first one while it runs, or keeps them in \
             another directory",
            layout.checkpoints().display()
        )));
    }
    for chain in chains {
        for key in &keys {
            out.line(key.note_verifier(chain_origin(chain.chain_id.as_str()))?)?;
        }
    }
    Ok(())
}

/// The public keys beside the log, each once.
fn public_keys(layout: &Layout) -> Result<Vec<VerifyingKey>, Failure> {
    let mut keys = Vec::new();
    for path in files(&layout.keys(), "pub")? {
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let key = line.parse().map_err(|error| unreadable(&path, &error))?;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

#[derive(Deserialize)]
struct Line {
    chain_id: ChainId,
    note: String,
    tenant_id: TenantId,
}

/// The checkpoints beside the log, oldest first. Lines that are none are for the verifier to judge.
fn checkpoints(layout: &Layout) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    for path in files(&layout.checkpoints(), "ndjson")? {
        let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
        lines.extend(text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()));
    }
    Ok(lines)
}

/// Which of the keys signed a checkpoint.
fn signer(line: &Line, keys: &[VerifyingKey]) -> Option<VerifyingKey> {
    let signed: SignedCheckpoint = line.note.parse().ok()?;
    let origin = chain_origin(line.chain_id.as_str());
    keys.iter().find(|key| signed.verify(&origin, &[**key]).is_ok()).copied()
}

/// The files of a directory with an extension, sorted; none where there is no directory.
fn files(dir: &Path, extension: &str) -> Result<Vec<PathBuf>, Failure> {
    let items = match fs::read_dir(dir) {
        Ok(items) => items,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(dir, &error)),
    };
    let mut files = Vec::new();
    for item in items {
        let path = item.map_err(|error| unreadable(dir, &error))?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::new(format!("cannot read `{}`: {why}", path.display()))
}
