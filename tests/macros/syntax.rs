//! The shapes of functions that `#[audited]` takes, and every message where it cannot be used.
//!
//! A package of its own, because each case is compiled with the features of the package that it belongs
//! to: the facade's would bring the clients of all sinks.

#[test]
fn syntax() {
    let cases = trybuild::TestCases::new();
    cases.pass("pass/*.rs");
    cases.compile_fail("ui/*.rs");
}
