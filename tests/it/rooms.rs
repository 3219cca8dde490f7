//! The picture of the crates, `docs/rooms.svg`, is drawn from `docs/rooms.txt`.

use std::process::Command;

use plugnode_tests::repository;

#[test]
fn picture_is_up_to_date_with_its_text() {
    let script = repository().join(".ci/draw-rooms");
    let drawn = Command::new("python3").arg(script).arg("--check").output();
    let drawn = drawn.expect("python3 can be run");
    assert!(drawn.status.success(), "{}", String::from_utf8_lossy(&drawn.stderr));
}
