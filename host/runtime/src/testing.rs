//! Helpers of several tests.

use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

/// A shell script in a directory. Another process writes it: a file that this process had open for writing cannot be executed
/// while a child process of a concurrent test has inherited the descriptor.
pub(super) fn script(folder: &TempDir, lines: &str) -> PathBuf {
    let path = folder.path().join("script");
    let text = format!("#!/bin/sh\n{lines}\n");
    let write = "printf %s \"$1\" > \"$0\" && chmod 700 \"$0\"";
    let status = Command::new("/bin/sh")
        .args(["-c", write])
        .arg(&path)
        .arg(text)
        .status();
    assert!(status.expect("/bin/sh runs").success());
    path
}
