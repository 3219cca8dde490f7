//! Compilers that fail. Shell scripts stand in for them, since only the handling of the process is tested.

use std::io::Read;
use std::path::Path;
use std::time::Instant;

use tempfile::TempDir;

use super::*;
use crate::testing::script;

const LIMITS: CompileLimits = CompileLimits {
    time: Duration::from_secs(20),
    memory: 1 << 30,
};

fn request(bytes: &Bytes) -> CompileRequest<'_> {
    CompileRequest {
        bytes,
        configuration: "any",
        functions: Path::new("/not/there"),
        is_before_serving: false,
    }
}

async fn run(executable: &Path, limits: CompileLimits) -> String {
    let result = tempfile::tempfile().expect("a temporary file");
    let bytes = Bytes::from(vec![0; 1 << 20]);
    let ended = compile_in_child(executable, request(&bytes), result, limits).await;
    ended.expect_err("nothing was compiled").to_string()
}

async fn ended(lines: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    run(&script(&dir, lines), LIMITS).await
}

#[tokio::test]
async fn invalid_component_is_distinguished_from_compiler_failure() {
    let error = ended("echo 'no such type' >&2; exit 65").await;
    assert_eq!(error, "cannot compile the component: no such type; build it again");
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
    assert!(error.contains("exceeded its memory limit of 1GB"), "{error}");
    let error = run(Path::new("/not/there"), LIMITS).await;
    assert!(error.contains("cannot start /not/there"), "{error}");
}

#[tokio::test]
async fn compiler_is_stopped_at_its_time_limit() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let time = Duration::from_millis(300);
    let began = Instant::now();
    let error = run(
        &script(&dir, "echo $$ > \"$0.pid\"; exec sleep 1000"),
        CompileLimits { time, ..LIMITS },
    )
    .await;
    assert!(error.contains("stopped at its time limit of 0.3 s"), "{error}");
    assert!(began.elapsed() < LIMITS.time);
    gone(&dir).await;
}

#[tokio::test]
async fn compiler_is_stopped_when_its_future_is_dropped() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let endless = script(&dir, "echo $$ > \"$0.pid\"; exec sleep 1000");
    tokio::select! {
        error = run(&endless, LIMITS) => panic!("it ended: {error}"),
        () = pid_written(&dir) => {}
    }
    gone(&dir).await;
}

async fn pid_written(dir: &TempDir) {
    while pid(dir).is_none() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn pid(dir: &TempDir) -> Option<u32> {
    let text = std::fs::read_to_string(dir.path().join("script.pid")).ok()?;
    text.trim().parse().ok()
}

async fn gone(dir: &TempDir) {
    let pid = pid(dir).expect("it has begun");
    let waiting = async {
        while Path::new(&format!("/proc/{pid}")).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMITS.time, waiting).await.expect("it is gone soon");
}

#[test]
fn allocation_strategy_does_not_change_configuration() {
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
async fn starved_compiler_is_replaced() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let lines = "case \"$*\" in *--idle*) echo something longer; exec sleep 1000;; *) echo code;; esac";
    let mut result = tempfile::tempfile().expect("a temporary file");
    let output = result.try_clone().expect("there are handles left");
    let bytes = Bytes::from_static(b"any");
    let ended = compile_in_child(&script(&dir, lines), request(&bytes), output, LIMITS).await;
    ended.expect("the second one ends well");
    let mut written = String::new();
    result.rewind().expect("it is a file");
    result.read_to_string(&mut written).expect("it is text");
    assert_eq!(written, "code\n");
}

#[test]
fn reads_processor_time_of_a_process() {
    let began = Instant::now();
    while processor_time(std::process::id()).expect("it is alive") < Duration::from_millis(30) {
        assert!(began.elapsed() < Duration::from_secs(60), "this loop takes time");
    }
    assert_eq!(processor_time(u32::MAX), None);
}
