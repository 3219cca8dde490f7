//! Files and programs of the repository that tests need, with a clear message when one was not built.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

/// The repository's root.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("this package is in the repository")
}

/// The `.wasm` of an example, by name.
///
/// # Panics
/// When it was not built; the message has the command.
pub fn component(name: &str) -> PathBuf {
    let path = repository().join("target/components").join(name).with_extension("wasm");
    assert!(
        path.exists(),
        "{} does not exist; build it with `make test`",
        path.display()
    );
    path
}

/// A component with the same behaviour and a different digest for each number.
///
/// # Panics
/// When the component cannot be read.
pub fn rebuilt(component: &Path, number: u64) -> Vec<u8> {
    const NAME: &[u8] = b"test-build";
    let mut bytes = std::fs::read(component).expect("the component can be read");
    let number = number.to_le_bytes();
    // A custom section, which has no effect: id, size, length of the name, name, content.
    let size = 1 + NAME.len() + number.len();
    bytes.extend([
        0,
        u8::try_from(size).expect("one byte of LEB128 is enough for less than 128"),
    ]);
    bytes.push(NAME.len() as u8);
    bytes.extend(NAME);
    bytes.extend(number);
    bytes
}

/// A component in whose file every `from` is replaced with `to`.
///
/// # Panics
/// When `from` does not occur, or the lengths differ.
pub fn patched(mut component: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len(), "both texts have the same length");
    let place = |bytes: &[u8]| bytes.windows(from.len()).position(|window| window == from.as_bytes());
    let mut at = 0;
    while let Some(place) = place(&component[at..]) {
        at += place;
        component[at..at + to.len()].copy_from_slice(to.as_bytes());
        at += to.len();
    }
    assert_ne!(at, 0, "{from:?} is not in the component");
    component
}

/// The `plugnode` binary that was built with these tests, or the one that `PLUGNODE_BIN` names.
///
/// # Panics
/// When it was not built; the message has the command.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("PLUGNODE_BIN") {
        return path.into();
    }
    built("plugnode")
}

/// A binary that was built with these tests.
///
/// # Panics
/// When it was not built; the message has the command.
pub fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own executable");
    let path = own
        .ancestors()
        .nth(2)
        .expect("tests are in target/PROFILE/deps")
        .join(name);
    assert!(
        path.exists(),
        "{} does not exist; build it with `cargo build -p {name}`",
        path.display()
    );
    path
}

/// The deliberately broken build.
pub(crate) fn broken_binary() -> PathBuf {
    let own = std::env::current_exe().expect("a test knows its own executable");
    let profile = own.ancestors().nth(2).expect("tests are in target/PROFILE/deps");
    let path = profile.join("examples/plugnode-broken");
    assert!(
        path.exists(),
        "{} does not exist; build it with `cargo build -p plugnode --example plugnode-broken`",
        path.display()
    );
    path
}

/// A new temporary folder, removed when dropped.
///
/// # Panics
/// When it cannot be created.
pub fn temp_folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder can be created")
}

/// Runs a command to its end and returns its output.
///
/// # Panics
/// When it cannot be run or fails, with its output.
pub fn run_command(command: &mut std::process::Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// Runs a script of `tests/js` with Node.js.
///
/// # Panics
/// When it fails, with its output.
pub async fn node_script(script: &str, args: &[&str]) {
    let mut command = node_command(script);
    command.args(args);
    succeeds(script, command).await;
}

/// Runs `tests/py/client.py` with the Python environment of `.ci/setup-tests`.
///
/// # Panics
/// When it fails, with its output.
pub async fn python_client(args: &[&str]) {
    let python = installed_tool("python/bin/python");
    assert!(
        python.exists(),
        "{} does not exist; create it with `.ci/setup-tests python`",
        python.display()
    );
    let mut command = Command::new(python);
    command.arg(repository().join("tests/py/client.py")).args(args);
    succeeds("client.py", command).await;
}

/// Runs the client of `tests/rust`, a separate package.
///
/// # Panics
/// When it fails, with its output.
pub async fn rust_client(args: &[&str]) {
    let program = repository().join("target/rust-client/debug/rust-client");
    assert!(
        program.exists(),
        "{} does not exist; build it with `.ci/setup-tests rust_client`",
        program.display()
    );
    let mut command = Command::new(program);
    command.args(args);
    succeeds("rust-client", command).await;
}

/// A script of `tests/js`, to be run with Node.js.
pub(crate) fn node_command(script: &str) -> Command {
    let folder = repository().join("tests");
    assert!(
        folder.join("node_modules").exists(),
        "npm packages are missing; install them with `make test`"
    );
    let mut command = Command::new("node");
    command.arg(folder.join("js").join(script));
    command
}

/// A tool that `.ci/setup-tests` or `.ci/setup-bench` downloaded; the folder is the one of `.ci/prelude.sh`.
pub fn installed_tool(path: &str) -> PathBuf {
    let cache = std::env::var_os("PLUGNODE_CACHE")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            let home = std::env::var_os("HOME").map(PathBuf::from);
            home.unwrap_or_else(|| repository().join("target"))
                .join(".cache/plugnode")
        });
    cache.join("tools").join(path)
}

async fn succeeds(what: &str, mut command: Command) {
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = crate::within_minutes(5, what, output)
        .await
        .unwrap_or_else(|error| panic!("{what} cannot be run: {error}"));
    assert!(
        output.status.success(),
        "{what} failed\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
