#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

#[test]
fn nothing() {
    assert_eq!(Timeline::new().render([]), "nothing was recorded\n");
}
