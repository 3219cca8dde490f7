//! The packages to publish: packed, unpacked elsewhere, and used from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use plugnode_tests::{Client, Node, binary, installed_tool, repository, run_command, temp_folder};
use serde_json::json;
use tempfile::TempDir;

/// The crates that are published.
const CRATES: [&str; 12] = [
    "engine-io",
    "plugnode-message",
    "plugnode-process",
    "plugnode-release",
    "plugnode-transport",
    "plugnode-transport-redis",
    "plugnode-sdk",
    "plugnode-runtime",
    "plugnode-settings",
    "plugnode-socket-io",
    "plugnode-server",
    "plugnode",
];

/// The packages of crates.io, unpacked in a folder by their names.
fn packed_crates() -> TempDir {
    let folder = temp_folder();
    let mut package = Command::new(env!("CARGO"));
    package
        .args(["package", "--quiet", "--no-verify", "--allow-dirty", "--offline"])
        .args(CRATES.iter().flat_map(|name| ["-p", name]))
        .arg("--target-dir")
        .arg(folder.path())
        .current_dir(repository());
    run_command(&mut package);
    for name in CRATES {
        let file = folder.path().join(format!("package/{name}-0.1.0.crate"));
        let mut unpack = Command::new("tar");
        unpack.arg("xf").arg(file).arg("-C").arg(folder.path());
        run_command(&mut unpack);
    }
    folder
}

/// The paths in `include_str!` and `include_bytes!` of a package's files.
fn included(folder: &Path) -> Vec<PathBuf> {
    let mut included = Vec::new();
    for entry in fs::read_dir(folder).expect("the file exists").flatten() {
        let path = entry.path();
        if path.is_dir() {
            included.extend(self::included(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = fs::read_to_string(&path).expect("it is text");
            for macro_name in ["include_str!(\"", "include_bytes!(\""] {
                let named = text.split(macro_name).skip(1).filter_map(|rest| rest.split('"').next());
                included.extend(named.map(|name| folder.join(name)));
            }
        }
    }
    included
}

#[tokio::test]
async fn packed_rust_sdk_builds_handler() {
    let packed = packed_crates();
    for (package, files) in [
        ("engine-io-0.1.0", &["src/lib.rs"][..]),
        (
            "plugnode-sdk-0.1.0",
            &["README.md", "LICENSE", "wit/app.wit", "wit/deps/keyvalue.wit"],
        ),
        ("plugnode-runtime-0.1.0", &["wit/app.wit"]),
        ("plugnode-transport-redis-0.1.0", &["src/lua/commit.lua"]),
        ("plugnode-server-0.1.0", &["client/socket.io.min.js"]),
        (
            "plugnode-0.1.0",
            &["README.md", "src/cli/templates/types/plugnode.d.ts"],
        ),
    ] {
        let folder = packed.path().join(package);
        for file in files {
            assert!(folder.join(file).is_file(), "{package} has no {file}");
        }
        for file in included(&folder) {
            let is_inside = file.canonicalize().is_ok_and(|file| file.starts_with(&folder));
            assert!(is_inside, "{package} includes {}, which is not in it", file.display());
        }
    }

    // A crate that depends only on the package. It reuses the examples' build: the same versions and profile.
    let project = packed.path().join("scratch");
    fs::create_dir_all(project.join("src")).expect("the folder can be created");
    let sdk = packed.path().join("plugnode-sdk-0.1.0");
    let manifest = format!(
        "[package]\nname = \"scratch\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n\
         [dependencies]\nplugnode-sdk = {{ path = {sdk:?} }}\n[profile.release]\nlto = \"fat\"\ncodegen-units = 1\n\
         debug = \"line-tables-only\"\n[workspace]\n"
    );
    fs::write(project.join("Cargo.toml"), manifest).expect("the file can be written");
    fs::copy(repository().join("Cargo.lock"), project.join("Cargo.lock")).expect("the file can be copied");
    fs::copy(
        repository().join("examples/echo/src/lib.rs"),
        project.join("src/lib.rs"),
    )
    .expect("the file can be copied");
    let cargo = repository().join("target/guest-cargo");
    let mut build = Command::new(cargo);
    build
        .args([
            "build",
            "--quiet",
            "--release",
            "--offline",
            "--target",
            "wasm32-wasip2",
        ])
        .arg("--target-dir")
        .arg(repository().join("target/guests"))
        .current_dir(&project);
    run_command(&mut build);
    let component = repository().join("target/guests/wasm32-wasip2/release/scratch.wasm");
    let node = Node::app(&component, "").await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.ask("hello", &[json!(1)]).await, [json!(1)]);
}

#[test]
fn packed_python_package_tests_program() {
    let folder = temp_folder();
    let python = || {
        let mut python = Command::new(installed_tool("python/bin/python"));
        python.current_dir(folder.path()).env("PYTHONDONTWRITEBYTECODE", "1");
        python
    };
    let sources = folder.path().join("sources");
    run_command(
        Command::new("cp")
            .arg("-rL")
            .arg(repository().join("guest-sdk/python"))
            .arg(&sources),
    );
    run_command(
        python()
            .args(["-m", "build", "--no-isolation", "--outdir", "dist"])
            .arg(&sources),
    );
    for packed in ["plugnode-0.1.0.tar.gz", "plugnode-0.1.0-py3-none-any.whl"] {
        assert!(
            folder.path().join("dist").join(packed).is_file(),
            "there is no {packed}"
        );
    }
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
        "--target",
        "installed",
        "dist/plugnode-0.1.0-py3-none-any.whl",
    ];
    run_command(python().args(install));
    let installed = folder.path().join("installed");
    for file in [
        "plugnode/py.typed",
        "plugnode/testing.py",
        "plugnode-0.1.0.dist-info/METADATA",
    ] {
        assert!(installed.join(file).is_file(), "the wheel has no {file}");
    }
    let program = repository().join("tests/py/handlers");
    let path = std::env::join_paths([&installed, &program]).expect("no path has a colon");
    for (tests, ran) in [
        ("test_handlers.py", "Ran 12 tests"),
        ("test_refusals.py", "Ran 5 tests"),
        ("test_presence.py", "Ran 2 tests"),
    ] {
        let said = run_command(
            python()
                .arg(repository().join("tests/py").join(tests))
                .env("PYTHONPATH", &path),
        );
        assert!(said.contains(ran), "{said}");
    }
}

/// mypy in strict mode, in the environment of `.ci/setup-tests`.
fn type_checker(cache: &TempDir) -> Command {
    let mut checker = Command::new(installed_tool("python/bin/python"));
    checker
        .args(["-m", "mypy", "--strict", "--cache-dir"])
        .arg(cache.path())
        .current_dir(repository());
    checker
}

#[test]
fn type_checker_passes_python_package() {
    let folder = temp_folder();
    // The contract's types, which the package imports when it is in a component.
    let bindings = folder.path().join("bindings");
    let runtime = repository().join("guest-sdk/python/runtime");
    run_command(
        Command::new(installed_tool("componentize-py/bin/componentize-py"))
            .args(["-q", "-w", "plugnode:py-runtime/runtime", "-d"])
            .arg(repository().join("wit"))
            .arg("-d")
            .arg(runtime.join("wit"))
            .arg("bindings")
            .arg(&bindings),
    );
    let package = repository().join("guest-sdk/python");
    let path = std::env::join_paths([&bindings, &package]).expect("no path has a colon");
    run_command(
        type_checker(&folder)
            .arg(package.join("plugnode"))
            .arg(runtime.join("runtime.py"))
            .env("MYPYPATH", path),
    );
}

#[test]
fn type_checker_passes_python_examples_and_finds_wrong_uses() {
    let cache = temp_folder();
    let examples = fs::read_dir(repository().join("examples/python")).expect("the folder exists");
    let mut programs: Vec<_> = examples.flatten().map(|example| example.path()).collect();
    assert!(!programs.is_empty());
    let created = temp_folder();
    run_command(
        Command::new(binary())
            .args(["new", "hello", "--lang", "python"])
            .current_dir(created.path()),
    );
    programs.push(created.path().join("hello/app.py"));
    // Fails if one of its wrong uses is not found.
    programs.push(repository().join("tests/py/wrong_uses.py"));
    for program in programs {
        // As an installed package, which is typed because it has `py.typed`.
        let package = repository().join("guest-sdk/python");
        run_command(type_checker(&cache).arg(program).env("PYTHONPATH", package));
    }
}
