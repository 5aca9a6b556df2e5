//! Writes the JSON Schema and the `.proto` of the event into `docs/schema/`.
//!
//! ```text
//! cargo run -p agent-audit-core --example generate_schema --features schema
//! ```

use std::{fs, io, path::PathBuf};

use agent_audit_core::schema;

fn main() -> io::Result<()> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/schema");
    fs::create_dir_all(&directory)?;
    fs::write(directory.join("agent-audit-1.0.schema.json"), schema::json_schema_text())?;
    let path = directory.join("agent-audit-1.0.proto");
    // The numbers of the fields live in the file, so a file that cannot be read stops the run.
    let before = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    fs::write(&path, schema::proto(before.as_deref()))
}
