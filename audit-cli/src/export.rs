//! `agent-audit export`: events in files that prove what they are.

use std::{path::PathBuf, time::Duration};

use agent_audit_core::{
    key::{SigningKey, VerifyingKey},
    log::Layout,
    timeline::visible,
};
use agent_audit_query::{
    Ledger,
    export::{Exported, Exporter, Format, LogCheckpoints},
};

use crate::{
    access::Recorder,
    args::{ExportArgs, ExportFormat},
    failure::Failure,
    output::{self, Out, counted, grouped, shell},
    store::{self, Opened},
    verify::read_keys,
};

pub(crate) fn run(args: &ExportArgs, out: &mut Out) -> Result<(), Failure> {
    crate::block_on(export(args, out))
}

async fn export(args: &ExportArgs, out: &mut Out) -> Result<(), Failure> {
    let opened = store::open(&args.ask.store, Some(&args.ask.tenant)).await?;
    opened.expect_tenant(&args.ask.tenant).await?;
    let recorder = Recorder::open(&args.ask, &opened).await?;
    let ledger = Ledger::new(opened.store.clone(), args.ask.tenant.clone());
    let filter = args.filters.filter(&args.ask.zone())?;
    let key = signing_key(args)?;
    let checkpoints = checkpoints(args, &opened)?;

    let bar = output::progress("exporting");
    bar.enable_steady_tick(Duration::from_millis(200));
    let show = |progress: agent_audit_query::export::Progress| {
        bar.set_position(progress.bytes);
        bar.set_message(counted(progress.events, "event"));
    };
    let format = match args.format {
        ExportFormat::Ndjson => Format::Ndjson,
        ExportFormat::Parquet => Format::Parquet,
    };
    let mut exporter = match &checkpoints {
        Some(checkpoints) => Exporter::new(&ledger, &key, checkpoints),
        None => Exporter::without_proofs(&ledger, &key),
    }
    .with_filter(filter.clone())
    .with_format(format)
    .with_progress(&show);
    if let Some(actor) = &args.ask.actor {
        exporter = exporter.with_name(actor);
    }
    if args.content {
        exporter = exporter.with_content();
    }
    let exported = exporter.write(&args.out).await;
    bar.finish_and_clear();
    let exported = exported?;
    let files = u64::try_from(exported.manifest.files.len()).unwrap_or(u64::MAX);
    let answer = agent_audit_query::Answer::new(exported.manifest.counts.events, exported.digest);
    let recorded = recorder.exported(&ledger, &filter, format.extension(), files, answer).await;
    if recorded.is_err() {
        // What is not recorded must not be in anybody's hands.
        std::fs::remove_dir_all(&args.out)?;
    }
    recorded?;
    recorder.close().await?;
    for warning in opened.warnings() {
        output::complain(&format!(
            "warning: {warning}: this may not be all; run `agent-audit verify`"
        ));
    }
    told(args, &exported, &key.verifying_key(), out)
}

/// The checkpoints that proofs lead to: those that were named, else those of the log itself.
fn checkpoints(args: &ExportArgs, opened: &Opened) -> Result<Option<LogCheckpoints>, Failure> {
    let mut keys = read_keys(&args.keys)?;
    let mut places: Vec<PathBuf> = args.checkpoints.clone();
    if let Some(dir) = &opened.dir {
        for log in [dir.clone(), crate::access::default_log(dir)] {
            let layout = Layout::new(&log);
            if args.checkpoints.is_empty() && layout.checkpoints().is_dir() {
                places.push(layout.checkpoints());
            }
            if args.keys.is_empty() && layout.keys().is_dir() {
                keys.extend(public_keys(&layout)?);
            }
        }
    }
    if places.is_empty() {
        output::complain(
            "the export has no proofs: name the log's checkpoints with --checkpoints DIR and its keys \
             with --key",
        );
        return Ok(None);
    }
    let mut checkpoints = LogCheckpoints::trusting(args.ask.tenant.clone(), keys);
    for place in places {
        checkpoints.read(&place)?;
    }
    Ok(Some(checkpoints))
}

/// The public keys beside a log.
fn public_keys(layout: &Layout) -> Result<Vec<VerifyingKey>, Failure> {
    let mut files = Vec::new();
    for item in std::fs::read_dir(layout.keys())? {
        let path = item?.path();
        if path.extension().is_some_and(|extension| extension == "pub") {
            files.push(path.display().to_string());
        }
    }
    read_keys(&files)
}

/// The exporter's key: the file that was named, else one of this user, made at first use.
fn signing_key(args: &ExportArgs) -> Result<SigningKey, Failure> {
    if let Some(file) = &args.signing_key {
        if !file.exists() {
            return Err(Failure::new(format!(
                "there is no key `{}`: make one with `agent-audit keys generate FILE`",
                file.display()
            )));
        }
        return Ok(SigningKey::load_or_create(file)?);
    }
    let home = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share")));
    let Some(home) = home else {
        return Err(Failure::new(
            "there is no home directory for a key: name one with --signing-key FILE",
        ));
    };
    let dir = home.join("agent-audit");
    std::fs::create_dir_all(&dir)?;
    Ok(SigningKey::load_or_create(dir.join("exporter.key"))?)
}

fn told(
    args: &ExportArgs,
    exported: &Exported,
    key: &VerifyingKey,
    out: &mut Out,
) -> Result<(), Failure> {
    let manifest = &exported.manifest;
    let counts = &manifest.counts;
    if args.ask.json {
        return out.line(serde_json::to_string(manifest)?);
    }
    let dir = args.out.display().to_string();
    out.line(format!(
        "exported {} of tenant {} to {}: {} bytes, {}",
        counted(counts.events, "event"),
        args.ask.tenant,
        visible(&dir),
        grouped(exported.bytes),
        if counts.uncovered == 0 {
            "all proved against signed checkpoints".to_owned()
        } else {
            format!(
                "{} of them behind the last signed checkpoint, not proved",
                grouped(counts.uncovered)
            )
        }
    ))?;
    out.line(format!("  {}", manifest.completeness))?;
    out.line(format!("  signed with {key}"))?;
    out.line(format!(
        "\n  verify it    agent-audit verify {} --exporter-key {key}",
        visible(&shell(&dir))
    ))
}
