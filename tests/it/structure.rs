//! Rules of the source tree that Cargo cannot enforce.

use std::fs;
use std::path::{Path, PathBuf};

use plugnode_tests::repository;

#[test]
fn every_source_file_has_a_header() {
    for folder in [
        "host",
        "guest-sdk/src",
        "tests/src",
        "tests/it",
        "tests/hostile",
        "examples",
    ] {
        for file in rust_files(&repository().join(folder)) {
            let text = fs::read_to_string(&file).expect("a source file is readable");
            assert!(text.starts_with("//!"), "{} does not begin with `//!`", file.display());
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder exists");
    let paths = entries.map(|entry| entry.expect("the folder is readable").path());
    let (folders, files): (Vec<_>, Vec<_>) = paths.partition(|path| path.is_dir());
    let rust = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|kind| kind == "rs"));
    rust.chain(folders.iter().flat_map(|folder| rust_files(folder)))
        .collect()
}
