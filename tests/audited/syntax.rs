//! What the macro says where it cannot be used.

use super::*;

#[test]
fn a_renamed_dependency_without_serde_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixture = root.join("tests/fixtures/renamed");
    // Built from a copy, with the locked versions, so that the source tree stays as it is.
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("renamed");
    fs::create_dir_all(copy.join("src")).unwrap();
    fs::copy(fixture.join("src/main.rs"), copy.join("src/main.rs")).unwrap();
    fs::copy(root.join("Cargo.lock"), copy.join("Cargo.lock")).unwrap();
    let manifest = fs::read_to_string(fixture.join("Cargo.toml")).unwrap();
    assert!(manifest.contains("\"../../..\"") && !manifest.contains("serde ="));
    let here = format!("{:?}", root.display().to_string());
    fs::write(copy.join("Cargo.toml"), manifest.replace("\"../../..\"", &here)).unwrap();
    let run = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--offline"])
        .current_dir(&copy)
        .env_remove("CARGO_TARGET_DIR")
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}
