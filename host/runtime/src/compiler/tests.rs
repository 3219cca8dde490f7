//! Compilers that come to no good end. Scripts stand in for them: what matters here is what becomes of a process.

use std::io::Read;
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::testing::script;

const LIMITS: Limits = Limits {
    time: Duration::from_secs(20),
    memory: 1 << 30,
};

fn any(bytes: &Bytes) -> Work<'_> {
    Work {
        bytes,
        configuration: "any",
        functions: Path::new("/not/there"),
        is_first: false,
    }
}

async fn run(executable: &Path, limits: Limits) -> String {
    let result = tempfile::tempfile().expect("a temporary file can be made");
    let bytes = Bytes::from(vec![0; 1 << 20]);
    let ended = compile_in_child(executable, any(&bytes), result, limits).await;
    ended.expect_err("nothing was compiled").to_string()
}

async fn ended(lines: &str) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    run(&script(&folder, lines), LIMITS).await
}

#[tokio::test]
async fn a_component_that_is_refused_is_told_from_a_compiler_that_fails() {
    let error = ended("echo 'no such type' >&2; exit 65").await;
    assert_eq!(
        error,
        "the component cannot be compiled, so build it again: no such type"
    );
    let error = ended("echo \"thread 'main' panicked\" >&2; echo 'note: try this' >&2; exit 101").await;
    assert_eq!(
        error,
        "the compiler did not finish: it ended with exit status: 101: thread 'main' panicked"
    );
    let error = ended("kill -9 $$").await;
    assert!(error.contains("it was killed (signal: 9 (SIGKILL))"), "{error}");
    let error = ended("echo 'stack overflow' >&2; kill -6 $$").await;
    assert!(error.contains("SIGABRT") && error.contains("stack overflow"), "{error}");
    let error = ended("echo 'memory allocation of 7 bytes failed' >&2; kill -6 $$").await;
    assert!(error.contains("needed more than the 1GB of memory"), "{error}");
    let error = run(Path::new("/not/there"), LIMITS).await;
    assert!(error.contains("cannot start /not/there"), "{error}");
}

#[tokio::test]
async fn one_that_never_ends_is_stopped() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let time = Duration::from_millis(300);
    let began = Instant::now();
    let error = run(
        &script(&folder, "echo $$ > \"$0.pid\"; exec sleep 1000"),
        Limits { time, ..LIMITS },
    )
    .await;
    assert!(error.contains("still at work after 0.3 s"), "{error}");
    assert!(began.elapsed() < LIMITS.time);
    gone(&folder).await;
}

#[tokio::test]
async fn one_that_nobody_waits_for_is_stopped() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let endless = script(&folder, "echo $$ > \"$0.pid\"; exec sleep 1000");
    tokio::select! {
        error = run(&endless, LIMITS) => panic!("it ended: {error}"),
        () = pid_written(&folder) => {}
    }
    gone(&folder).await;
}

async fn pid_written(folder: &TempDir) {
    while pid(folder).is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn pid(folder: &TempDir) -> Option<u32> {
    let text = std::fs::read_to_string(folder.path().join("script.pid")).ok()?;
    text.trim().parse().ok()
}

async fn gone(folder: &TempDir) {
    let pid = pid(folder).expect("it has begun");
    let waiting = async {
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMITS.time, waiting).await.expect("it is gone soon");
}

#[test]
fn how_instances_find_their_memory_changes_no_code() {
    let compiles = wasmtime::Engine::new(&config()).expect("an engine");
    let mut pooling = config();
    pooling.allocation_strategy(wasmtime::PoolingAllocationConfig::new());
    let runs = wasmtime::Engine::new(&pooling).expect("an engine");
    assert_eq!(configuration(&compiles), configuration(&runs));
    let mut other = config();
    other.epoch_interruption(false);
    let other = wasmtime::Engine::new(&other).expect("an engine");
    assert_ne!(configuration(&compiles), configuration(&other));
}

#[tokio::test]
async fn one_that_waits_for_processors_in_vain_is_replaced() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let lines = "case \"$*\" in *--idle*) echo something longer; exec sleep 1000;; *) echo code;; esac";
    let mut result = tempfile::tempfile().expect("a temporary file can be made");
    let output = result.try_clone().expect("there are handles left");
    let bytes = Bytes::from_static(b"any");
    let ended = compile_in_child(&script(&folder, lines), any(&bytes), output, LIMITS).await;
    ended.expect("the second one ends well");
    let mut written = String::new();
    result.rewind().expect("it is a file");
    result.read_to_string(&mut written).expect("it is text");
    assert_eq!(written, "code\n");
}

#[test]
fn a_process_is_told_what_it_has_had() {
    let began = Instant::now();
    while time_of(std::process::id()).expect("it is alive") < Duration::from_millis(30) {
        assert!(began.elapsed() < Duration::from_secs(60), "this loop takes time");
    }
    assert_eq!(time_of(u32::MAX), None);
}
