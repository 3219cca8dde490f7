//! The shape of the host: who may know whom. A change that needs another arrow changes the structure first.

use std::fs;
use std::path::{Path, PathBuf};

use plugnode_tests::repository;

#[test]
fn arrows_point_down() {
    // A folder or file, and what of the crate it may name.
    let allowed: &[(&str, &[&str])] = &[
        ("message.rs", &[]),
        ("message", &[]),
        ("shutdown.rs", &[]),
        ("counts.rs", &[]),
        ("metrics.rs", &["counts", "timings"]),
        ("timings.rs", &[]),
        ("repeats.rs", &["message"]),
        ("browser_client.rs", &[]),
        ("pressure", &["shutdown"]),
        ("ids.rs", &[]),
        ("json.rs", &[]),
        ("namespaces.rs", &[]),
        ("pause.rs", &[]),
        ("namespaces.rs", &[]),
        ("release", &["message"]),
        ("admin", &["message", "release", "shutdown", "transport"]),
        ("config", &["namespaces", "release", "transport"]),
        ("http", &["counts", "metrics", "shutdown"]),
        // From the words of the configuration to those of each part.
        (
            "settings.rs",
            &["config", "http", "message", "pressure", "roles", "transport", "wasm"],
        ),
        (
            "transport",
            // A macro's place is the crate, wherever it is written.
            &[
                "counts",
                "forward_operations",
                "ids",
                "message",
                "pause",
                "release",
                "shutdown",
            ],
        ),
        ("wasm", &["ids", "json", "message", "release", "repeats", "shutdown"]),
        ("roles/frontend", &["browser_client", "config", "http", "shutdown"]),
        (
            "roles/io_node",
            &[
                "browser_client",
                "counts",
                "http",
                "ids",
                "json",
                "message",
                "namespaces",
                "pause",
                "pressure",
                "repeats",
                "shutdown",
                "timings",
                "transport",
            ],
        ),
        (
            "roles/app_node",
            &[
                "counts",
                "ids",
                "message",
                "namespaces",
                "pause",
                "release",
                "repeats",
                "shutdown",
                "timings",
                "transport",
                "wasm",
            ],
        ),
        (
            "embed",
            &[
                "config",
                "http",
                "message",
                "roles",
                "settings",
                "shutdown",
                "transport",
                "wasm",
            ],
        ),
        (
            "cli",
            &[
                "admin",
                "config",
                "counts",
                "embed",
                "http",
                "json",
                "message",
                "namespaces",
                "pressure",
                "release",
                "repeats",
                "roles",
                "settings",
                "shutdown",
                "transport",
                "wasm",
            ],
        ),
    ];
    let source = repository().join("host/src");
    for (place, names) in allowed {
        for file in rust_files(&source.join(place)) {
            let own = place
                .split('/')
                .next()
                .expect("a place has a name")
                .trim_end_matches(".rs");
            for name in crate_names(&file) {
                // What property tests and counted tests are made of.
                let inside =
                    ["arbitrary", "counted"].contains(&name.as_str()) || name == own && !own.starts_with("roles");
                assert!(
                    inside || names.contains(&name.as_str()),
                    "{} may not know crate::{name}",
                    file.display()
                );
            }
        }
    }
    for file in rust_files(&source) {
        let place = file
            .strip_prefix(&source)
            .expect("it was found there")
            .to_string_lossy()
            .into_owned();
        let known = allowed.iter().any(|(known, _)| place.starts_with(known));
        assert!(
            known || ["arbitrary.rs", "counted.rs", "lib.rs", "main.rs", "roles/mod.rs"].contains(&place.as_str()),
            "{place} has no place here"
        );
    }
}

#[test]
fn each_library_is_named_in_its_own_place() {
    let source = repository().join("host/src");
    for (library, home) in [
        // Beside the folder of that name, `redis::` is the module.
        ("redis::", "transport"),
        ("::redis::", "transport/redis"),
        ("wasmtime", "wasm"),
        ("plugnode_sdk", "wasm"),
        ("matchit", "namespaces.rs"),
        ("socketioxide", "roles/io_node"),
    ] {
        for file in rust_files(&source) {
            let place = file.strip_prefix(&source).expect("it was found there");
            // The module of that name is another thing.
            let code = code(&file).replace("self::redis::", "").replace("super::redis::", "");
            // Whoever embeds the host writes handlers, and so do the tests of that.
            let is_user = library == "plugnode_sdk" && place.starts_with("embed/tests.rs");
            assert!(
                place.starts_with(home) || is_user || !code.contains(library),
                "{} names {library}",
                place.display()
            );
        }
    }
}

#[test]
fn every_file_says_what_it_is() {
    for folder in [
        "host/src",
        "guest-sdk/src",
        "tests/src",
        "tests/it",
        "tests/hostile",
        "examples",
    ] {
        for file in rust_files(&repository().join(folder)) {
            let text = fs::read_to_string(&file).expect("it can be read");
            assert!(
                text.starts_with("//!"),
                "{} does not begin with what it is",
                file.display()
            );
        }
    }
}

fn rust_files(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    assert!(place.is_dir(), "{} is gone", place.display());
    let entries = fs::read_dir(place)
        .expect("it can be listed")
        .map(|entry| entry.expect("it can be listed").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = files
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    rust.chain(folders.iter().flat_map(|folder| rust_files(folder)))
        .collect()
}

/// A file without its comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("it can be read");
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The modules that a file names by `crate::`.
fn crate_names(file: &Path) -> Vec<String> {
    let code = code(file);
    let names = code.split("crate::").skip(1);
    names
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}
