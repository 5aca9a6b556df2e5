//! A log directory: is it as it was written?

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use agent_audit_core::{
    log::Layout,
    timeline::visible,
    verify::{
        Basis, Finding, FindingKind, Report, Severity, Verdict,
        directory::{Progress, VerifyOptions, verify_directory},
    },
};
use serde::Serialize;

use crate::{
    FAILED, TAMPERED,
    args::VerifyArgs,
    failure::Failure,
    output::{self, Out, counted},
    stores,
};

pub(super) fn run(args: &VerifyArgs, dir: &Path, out: &mut Out) -> Result<u8, Failure> {
    let report = match verify(args, dir) {
        Ok(report) => report,
        Err(failure) => return super::could_not_tell(args, failure, out),
    };
    let verdict = report.verdict();
    if args.json {
        let explanation = report.explanation();
        out.line(serde_json::to_string(&Answer {
            verdict,
            basis_explanation: &explanation,
            report: &report,
        })?)?;
    } else {
        out.text(&told(&report))?;
    }
    Ok(match verdict {
        Verdict::Intact => 0,
        Verdict::Tampered => TAMPERED,
        Verdict::Unsure => FAILED,
    })
}

#[derive(Serialize)]
struct Answer<'a> {
    verdict: Verdict,
    basis_explanation: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

fn verify(args: &VerifyArgs, dir: &Path) -> Result<Report, Failure> {
    let keys = super::read_keys(&args.keys)?;
    let bar = output::progress("verifying");
    bar.enable_steady_tick(Duration::from_millis(200));
    let show = |progress: Progress| {
        if let Some(total) = progress.total_bytes {
            bar.set_length(total);
        }
        bar.set_position(progress.bytes);
        bar.set_message(counted(progress.events, "event"));
    };
    let mut options = VerifyOptions::default().with_trusted_keys(keys).with_progress(&show);
    for path in &args.checkpoints {
        for file in checkpoint_files(path)? {
            options = options.with_checkpoint_file(file);
        }
    }
    let layout = Layout::new(dir);
    if layout.identity().is_file()
        && let Some(store) = stores::embedded(&layout)?
    {
        options.stores.extend(store.record_stores()?);
    }
    let report = verify_directory(dir, options);
    bar.finish_and_clear();
    Ok(report?)
}

fn checkpoint_files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let fail = |why: &dyn std::fmt::Display| {
        Failure::new(format!("cannot read the checkpoints `{}`: {why}", path.display()))
    };
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for item in fs::read_dir(path).map_err(|error| fail(&error))? {
        let path = item.map_err(|error| fail(&error))?.path();
        if path.extension().is_some_and(|extension| extension == "ndjson") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(fail(
            &"it has no *.ndjson file; give the directory that the log keeps them in",
        ));
    }
    files.sort();
    Ok(files)
}

/// The report for a person.
fn told(report: &Report) -> String {
    let mut lines = vec![headline(report)];
    if report.verdict() == Verdict::Intact {
        lines.push(format!("  {}", report.explanation()));
        lines.extend(match report.basis {
            Basis::ChainOnly | Basis::OwnKey => {
                Some("  (to rest on more: --key KEY, and --checkpoints DIR)".to_owned())
            }
            Basis::OwnCheckpoint => Some("  (to rest on more: --checkpoints DIR)".to_owned()),
            _ => None,
        });
    }
    super::findings(&report.findings, &mut lines);
    let states = states(report);
    if !states.is_empty() {
        lines.push("\nStates (no faults):".to_owned());
        lines.extend(states.into_iter().map(|state| format!("  {state}")));
    }
    lines.join("\n") + "\n"
}

fn headline(report: &Report) -> String {
    let extent = format!(
        "{} in {} of {}",
        counted(report.events, "event"),
        counted(report.chains, "chain"),
        counted(report.tenants, "tenant")
    );
    let covered = match (report.covered, report.checkpoints_checked) {
        (_, 0) => "no signed checkpoint covers them".to_owned(),
        (covered, checkpoints) => {
            let by = counted(checkpoints, "signed checkpoint");
            if covered == report.events {
                format!("all covered by {by}")
            } else {
                format!("{} of them covered by {by}", output::grouped(covered))
            }
        }
    };
    let faults = |severity| report.findings.iter().filter(|f| f.severity == severity).count();
    let findings = |severity| counted(faults(severity).try_into().unwrap_or(u64::MAX), "finding");
    match report.verdict() {
        Verdict::Intact => format!("INTACT — {extent}; {covered}"),
        Verdict::Tampered => {
            format!("TAMPERED — {}; read {extent}", findings(Severity::Tampering))
        }
        Verdict::Unsure => {
            format!("COULD NOT TELL — {}; read {extent}", findings(Severity::Unsure))
        }
    }
}

fn states(report: &Report) -> Vec<String> {
    let mut states = Vec::new();
    let mut parts = |count: u64, what: &str| {
        if count > 0 {
            states.push(format!("{} {what}", counted(count, "part")));
        }
    };
    parts(report.erased, "of content erased, by an event that says so: the proof stays");
    parts(report.purged, "of content purged, by an event that says so: the proof stays");
    parts(report.sealed, "of content encrypted, therefore not compared with their commitments");
    let of_state = |finding: &&Finding| finding.severity == Severity::State;
    let (unclosed, others): (Vec<&Finding>, Vec<_>) = report
        .findings
        .iter()
        .filter(of_state)
        .partition(|finding| finding.kind == FindingKind::Unclosed);
    if let [one] = unclosed[..] {
        states.push(visible(&one.to_string()).to_string());
    } else if !unclosed.is_empty() {
        let chains = counted(unclosed.len().try_into().unwrap_or(u64::MAX), "chain");
        states.push(format!("{chains} not closed: their writer is at work, or died"));
    }
    let shown = others.iter().take(super::SHOWN);
    states.extend(shown.map(|finding| visible(&finding.to_string()).to_string()));
    states
}
