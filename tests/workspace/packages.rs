//! The arrows between the crates of the workspace, and what a published crate must say of itself.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

const CORE: &str = "agent-audit-core";
const QUERY: &str = "agent-audit-query";

/// Runs cargo on this workspace without the network.
fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .args(["--offline", "--locked"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {error}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// The names of all packages that are built for another one, and of the package itself.
fn tree(package: &str, features: &[&str]) -> BTreeSet<String> {
    let common = ["tree", "-p", package, "-e", "normal", "--prefix", "none", "--format", "{p}"];
    let text = cargo(&[&common, features].concat());
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

fn packages() -> Vec<Value> {
    let text = cargo(&["metadata", "--format-version", "1", "--no-deps"]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The crates of this workspace that one of them depends on, but for its tests.
fn arrows(package: &Value) -> BTreeSet<&str> {
    let dependencies = package["dependencies"].as_array().unwrap().iter();
    dependencies
        .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
        .filter_map(|dependency| dependency["name"].as_str())
        .filter(|name| name.starts_with("agent-audit"))
        .collect()
}

#[test]
fn a_verifier_is_built_without_runtime_network_and_file_system() {
    let without = tree(CORE, &["--no-default-features"]);
    let with = tree(CORE, &["--features", "writer"]);
    // Were a name misspelt here, it would be in neither.
    for name in ["tokio", "rustix", "async-trait", "crc32c", "pollster"] {
        assert!(with.contains(name), "the writer needs {name}: {with:?}");
        assert!(!without.contains(name), "{name} is in the tree of a verifier: {without:?}");
    }
    for name in ["mio", "socket2", "hyper", "reqwest", "rusqlite", "opentelemetry", "tempfile"] {
        assert!(!without.contains(name), "{name} is in the tree of a verifier: {without:?}");
    }
    assert!(without.contains("sha2") && without.contains("ed25519-dalek"), "{without:?}");
}

#[test]
fn arrows_point_one_way() {
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let manifest = package["manifest_path"].as_str().unwrap();
        let found = arrows(&package);
        let allowed: BTreeSet<&str> = match name {
            "agent-audit" => {
                assert!(!found.contains("agent-audit-cli"), "a library does not need the command");
                continue;
            }
            "agent-audit-core" | "agent-audit-macros" => BTreeSet::new(),
            "agent-audit-cli" => {
                assert!(!found.contains("agent-audit"), "the command needs no facade");
                assert!(!found.contains("agent-audit-macros"), "the command audits nothing");
                continue;
            }
            // What the sinks of Amazon's services share is no sink.
            "agent-audit-kinesis" | "agent-audit-sqs" => BTreeSet::from([CORE, "agent-audit-aws"]),
            // The archive's objects and an export's files may be Parquet, which is written once.
            "agent-audit-parquet" => BTreeSet::from([CORE]),
            // An archive is asked through a copy in a database.
            "agent-audit-s3" => {
                BTreeSet::from([CORE, QUERY, "agent-audit-parquet", "agent-audit-sqlite"])
            }
            "agent-audit-query" => BTreeSet::from([CORE, "agent-audit-parquet"]),
            // For tests alone, and never published.
            "agent-audit-test-support" => BTreeSet::from([CORE]),
            "agent-audit-macro-tests" => BTreeSet::new(),
            // Those that can be asked are asked by the questions of the read side.
            _ if manifest.contains("/audit-sinks/") => BTreeSet::from([CORE, QUERY]),
            other => panic!("say in this test what {other} may depend on"),
        };
        assert!(found.is_subset(&allowed), "{name} depends on {found:?}, allowed is {allowed:?}");
    }
}

#[test]
fn every_published_crate_says_what_it_is() {
    let published: Vec<_> =
        packages().into_iter().filter(|package| package["publish"].is_null()).collect();
    assert!(published.len() >= 5, "{} crates are published", published.len());
    for package in &published {
        let name = package["name"].as_str().unwrap();
        for field in ["description", "license", "repository", "readme", "rust_version"] {
            let value = package[field].as_str().unwrap_or_default();
            assert!(!value.is_empty(), "{name} has no {field}");
        }
        assert_eq!(package["license"], "Apache-2.0 OR MIT", "{name}");
        for field in ["keywords", "categories"] {
            assert!(!package[field].as_array().unwrap().is_empty(), "{name} has no {field}");
        }
        let directory = std::path::Path::new(package["manifest_path"].as_str().unwrap());
        for file in ["LICENSE-APACHE", "LICENSE-MIT", package["readme"].as_str().unwrap()] {
            let path = directory.with_file_name(file);
            assert!(path.exists(), "{name}: {} is missing", path.display());
        }
    }
}

/// The command and the libraries promise the same.
#[test]
fn all_crates_have_one_version_and_one_minimum_rust() {
    let packages = packages();
    for field in ["version", "rust_version", "edition"] {
        let values: BTreeSet<_> = packages
            .iter()
            .filter(|package| package["publish"].is_null())
            .map(|package| package[field].to_string())
            .collect();
        assert_eq!(values.len(), 1, "{field}: {values:?}");
    }
}
