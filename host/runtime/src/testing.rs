//! What several tests of this module need.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// An executable that does this, in a folder. Written by another process: one that this process had open for writing could
/// not be run while any child of a test that runs at the same time still had it from us.
pub(super) fn script(folder: &TempDir, lines: &str) -> PathBuf {
    let path = folder.path().join("script");
    let text = format!("#!/bin/sh\n{lines}\n");
    let write = "printf %s \"$1\" > \"$0\" && chmod 700 \"$0\"";
    let status = Command::new("/bin/sh")
        .args(["-c", write])
        .arg(&path)
        .arg(text)
        .status();
    assert!(status.expect("there is a shell").success());
    path
}
