//! What is wrong between the parentheses.

use agent_audit::audited;

#[audited]
fn no_plane() {}

#[audited()]
fn no_plane_either() {}

#[audited(name = "refund", tool)]
fn plane_second() {}

#[audited(name = "refund")]
fn plane_nowhere() {}

#[audited(tols)]
fn plane_misspelt() {}

#[audited(tool, review)]
fn two_planes() {}

#[audited(tool, nme = "refund", retry, limit(3))]
fn unknown() {}

#[audited(tool, name = "a", name = "b", skip(x), skip(y))]
fn twice(x: u8, y: u8) {}

#[audited(tool, name("refund"), skip = x, version, sensitive)]
fn wrong_form(x: u8) {}

#[audited(tool, name =, version = "", on_audit_error = ignore, effect = "none")]
fn bad_values() {}

#[audited(tool, name = 7, version = b"1")]
fn no_text() {}

#[audited(tool, crate = "audit", name = "a" version = "1", 3)]
fn no_syntax() {}

#[audited(tool, skip(), sensitive(x, x), external(), external)]
fn empty_lists(x: u8) {}

#[audited(tool, external(order = output.id, order = output.id, payment))]
fn bad_external() {}

#[audited(tool, external(order = output.id, order = output.id))]
fn twice_external() {}

#[audited(tool, skip("x"))]
fn no_name(x: u8) {}

fn main() {}
