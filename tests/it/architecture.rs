//! The picture of the crates, `docs/architecture.svg`, is drawn from `docs/architecture.txt`.

use std::process::Command;

use plugnode_tests::repository;

#[test]
fn picture_is_up_to_date_with_its_text() {
    let script = repository().join(".ci/draw-architecture");
    let drawn = Command::new("python3").arg(script).arg("--check").output();
    let drawn = drawn.expect("python3 can be run");
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
}
