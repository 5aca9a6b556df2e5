//! An export: is it what was exported, and what was recorded?

use std::{path::Path, time::Duration};

use agent_audit_query::export::{ExportReport, ExportVerdict, VerifyOptions, verify};
use serde::Serialize;

use crate::{
    args::VerifyArgs,
    failure::Failure,
    output::{self, Out, counted, grouped},
};

#[derive(Serialize)]
struct Answer<'a> {
    verdict: ExportVerdict,
    explanation: &'a str,
    #[serde(flatten)]
    report: &'a ExportReport,
}

pub(super) fn run(args: &VerifyArgs, dir: &Path, out: &mut Out) -> Result<u8, Failure> {
    let report = match report(args, dir) {
        Ok(report) => report,
        Err(failure) => return super::could_not_tell(args, failure, out),
    };
    let verdict = report.verdict();
    let explanation = report.explanation();
    if args.json {
        let answer = Answer { verdict, explanation: &explanation, report: &report };
        out.line(serde_json::to_string(&answer)?)?;
    } else {
        out.text(&told(&report, &explanation))?;
    }
    Ok(verdict.exit_code())
}

fn report(args: &VerifyArgs, dir: &Path) -> Result<ExportReport, Failure> {
    let bar = output::progress("verifying");
    bar.enable_steady_tick(Duration::from_millis(200));
    let show = |progress: agent_audit_query::export::Progress| {
        if let Some(total) = progress.total_bytes {
            bar.set_length(total);
        }
        bar.set_position(progress.bytes);
        bar.set_message(counted(progress.events, "event"));
    };
    let mut options = VerifyOptions::default()
        .with_exporter_keys(super::read_keys(&args.exporter_keys)?)
        .with_log_keys(super::read_keys(&args.keys)?)
        .with_progress(&show);
    for path in &args.checkpoints {
        options = options.with_checkpoints(path);
    }
    let report = verify(dir, options);
    bar.finish_and_clear();
    Ok(report?)
}

fn told(report: &ExportReport, explanation: &str) -> String {
    let extent = format!(
        "export of {} in {}{}",
        counted(report.events, "event"),
        counted(report.chains, "chain"),
        report.tenant.as_ref().map(|tenant| format!(", tenant {tenant}")).unwrap_or_default()
    );
    let headline = match report.verdict() {
        ExportVerdict::Intact => {
            let covered = match report.covered {
                covered if covered == report.events => {
                    "all covered by signed checkpoints".to_owned()
                }
                covered => format!("{} of them covered by signed checkpoints", grouped(covered)),
            };
            format!("INTACT — {extent}; {covered}")
        }
        ExportVerdict::Tampered => format!("TAMPERED — {extent}"),
        ExportVerdict::Incomplete => format!("INCOMPLETE — {extent}"),
        ExportVerdict::Unsure => format!("COULD NOT TELL — {extent}"),
    };
    let mut lines = vec![headline];
    lines.extend(explanation.split("; ").map(|sentence| format!("  {sentence}")));
    super::findings(&report.findings, &mut lines);
    for (count, what) in [
        (report.erased, "erased, by an event that says so: the proof stays"),
        (report.purged, "purged, by an event that says so: the proof stays"),
        (report.sealed, "encrypted, therefore not compared with their commitments"),
    ] {
        if count > 0 {
            lines.push(format!("  {} of content {what}", counted(count, "part")));
        }
    }
    lines.join("\n") + "\n"
}
