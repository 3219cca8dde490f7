//! Compiles components to machine code, in a child process.
//!
//! A node does not compile in its own process: wasmtime does not free all memory of a compilation, and a malicious component
//! can crash the compiler or never finish. The node starts its own executable with the verb `compile`, which reads the
//! component, writes machine code, and ends. Compiled functions are cached, since the next build has most of them again. Where
//! the machine code is stored, and what handlers are, is not known here.

mod function_cache;

use std::fs::File;
use std::future::pending;
use std::hash::{Hash, Hasher};
use std::io::{self, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use self::function_cache::FunctionCache;
use crate::load_error::LoadError;
use crate::wasmtime_config::config;
use plugnode_settings::Size;

/// Limits of one compilation. An interpreter of 12 MB takes a minute on a slow machine, and 400 MB.
const LIMITS: CompileLimits = CompileLimits {
    time: Duration::from_secs(300),
    memory: 4 << 30,
};
/// Most threads of one compiler. Each reserves address space, and event handling comes first.
const MAX_THREADS: usize = 4;
/// Bytes of a compiler's standard error that are kept.
const MAX_STDERR: u64 = 4 << 10;
/// How often the processor time of a compiler with idle priority is checked.
const STARVATION_CHECK: Duration = Duration::from_secs(1);
/// The share of one processor below which such a compiler counts as starved.
const STARVATION_SHARE: f64 = 0.1;
/// The unit of processor time in `/proc`.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// The process in which components are compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// In this process, which keeps some of the memory. For tests and benchmarks, whose executables lack the verb.
    InProcess,
    /// In a child process of this executable, started with the verb [`Compiler::VERB`].
    ChildProcess(PathBuf),
}

/// A component to compile.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CompileRequest<'a> {
    /// Its bytes.
    pub(crate) bytes: &'a Bytes,
    /// Name of the engine's configuration, by [`configuration`].
    pub(crate) configuration: &'a str,
    /// Directory of the function cache.
    pub(crate) functions: &'a Path,
    /// Whether the node does not handle events yet, so that the compiler may use the processors fully.
    pub(crate) is_before_serving: bool,
}

/// The machine code of a component, and the functions to cache.
#[derive(Debug)]
pub struct CompiledComponent {
    /// Machine code, in wasmtime's format.
    pub code: Vec<u8>,
    functions: Option<io::Result<Arc<FunctionCache>>>,
    name: String,
}

impl CompiledComponent {
    /// Stores its functions in the function cache, if a directory was given.
    pub fn cache_functions(self) -> io::Result<()> {
        match self.functions {
            Some(functions) => functions?.store(&self.name),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct CompileLimits {
    time: Duration,
    memory: usize,
}

/// Priority of a compiler for processor time.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Priority {
    /// Normal: the start of the node waits for it, and no events do.
    Normal,
    /// Idle: only what other processes leave.
    Idle,
    /// Low: some, even if the machine is busy, since the deploy may be the remedy for an overloaded node.
    Low,
}

impl Compiler {
    /// The verb of the executable that reads a component from standard input and writes machine code to standard output.
    pub const VERB: &str = "compile";
    /// Exit code of the process for an invalid component; standard error has the reason. Any other failure is the compiler's.
    pub const INVALID_COMPONENT: u8 = 65;

    /// Compiles for this engine, and writes the machine code to `output`.
    pub(crate) async fn compile(
        &self,
        engine: &wasmtime::Engine,
        request: CompileRequest<'_>,
        output: File,
    ) -> Result<(), LoadError> {
        match self {
            Self::InProcess => compile_in_process(engine.clone(), request.bytes.clone(), output).await,
            Self::ChildProcess(executable) => compile_in_child(executable, request, output, LIMITS).await,
        }
    }
}

/// Compiles a component for the engine whose configuration has this name; the verb `compile` calls this. Functions that are in
/// the cache in `functions` are not compiled again. Without the directory, or if it cannot be used, all are compiled.
///
/// # Errors
/// When the component is invalid, or this executable's configuration differs.
pub fn compile(bytes: &[u8], configuration: &str, functions: Option<&Path>) -> Result<CompiledComponent, LoadError> {
    let unusable = |error: wasmtime::Error| LoadError::Engine {
        cause: format!("{error:#}"),
    };
    let functions = functions.map(|dir| FunctionCache::open(dir, configuration).map(Arc::new));
    let mut config = config();
    if let Some(Ok(functions)) = &functions {
        config
            .enable_incremental_compilation(functions.clone())
            .map_err(unusable)?;
    }
    let engine = wasmtime::Engine::new(&config).map_err(unusable)?;
    if self::configuration(&engine) != configuration {
        return Err(LoadError::Compiler {
            cause: "it is another build than the node: restart the node".to_owned(),
        });
    }
    Ok(CompiledComponent {
        code: precompile(&engine, bytes)?,
        functions,
        name: format!("{:016x}", xxh3_64(bytes)),
    })
}

/// A hash of everything that machine code depends on: wasmtime's version, the processor, and the engine's settings. How
/// instances get their memory is not part of it.
pub(crate) fn configuration(engine: &wasmtime::Engine) -> String {
    let mut hasher = Xxh3Default::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn precompile(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    engine.precompile_component(bytes).map_err(|error| LoadError::Invalid {
        cause: format!("{error:#}"),
    })
}

async fn compile_in_process(engine: wasmtime::Engine, bytes: Bytes, mut output: File) -> Result<(), LoadError> {
    let compiled = spawn_blocking(move || {
        let code = precompile(&engine, &bytes)?;
        output.write_all(&code).map_err(|error| LoadError::Compiler {
            cause: format!("cannot write the machine code: {error}"),
        })
    });
    compiled.await.map_err(|error| LoadError::Compiler {
        cause: format!("it crashed: {error}"),
    })?
}

/// Runs a compiler in a child process. One with idle priority that starves on a busy machine is replaced by one with low
/// priority.
async fn compile_in_child(
    executable: &Path,
    request: CompileRequest<'_>,
    mut output: File,
    limits: CompileLimits,
) -> Result<(), LoadError> {
    let failed = |cause| LoadError::Compiler { cause };
    let unwritable = |error| failed(format!("cannot write the machine code: {error}"));
    let compiling = async {
        let first_output = output.try_clone().map_err(unwritable)?;
        let priority = if request.is_before_serving {
            Priority::Normal
        } else {
            Priority::Idle
        };
        if let Some(ended) = run_child(executable, request, first_output, limits, priority).await {
            return ended;
        }
        tracing::info!("compiler starves on a busy machine; restarting it with higher priority");
        let emptied = output.set_len(0).and_then(|()| output.rewind());
        emptied.map_err(unwritable)?;
        let ended = run_child(executable, request, output, limits, Priority::Low).await;
        ended.expect("only a compiler with idle priority starves")
    };
    timeout(limits.time, compiling).await.unwrap_or_else(|_| {
        let seconds = limits.time.as_secs_f32();
        Err(failed(format!(
            "it was stopped at its time limit of {seconds} s; make the component smaller"
        )))
    })
}

/// Runs one child process, and returns how it ended. None if it was stopped because it starved. The child ends when its
/// standard input is closed, so it does not outlive a node that is killed.
async fn run_child(
    executable: &Path,
    request: CompileRequest<'_>,
    output: File,
    limits: CompileLimits,
    priority: Priority,
) -> Option<Result<(), LoadError>> {
    let failed = |cause| Some(Err(LoadError::Compiler { cause }));
    let threads = available_parallelism().map_or(1, |threads| threads.get().min(MAX_THREADS));
    let spawned = Command::new(executable)
        .arg0("plugnode")
        .arg(Compiler::VERB)
        .args(["--bytes", &request.bytes.len().to_string()])
        .args(["--memory", &limits.memory.to_string()])
        .args(["--for", request.configuration])
        .arg("--functions")
        .arg(request.functions)
        .args(match priority {
            Priority::Normal => Some("--first"),
            Priority::Idle => Some("--idle"),
            Priority::Low => None,
        })
        // The arguments are all that it needs; the node's environment may contain secrets.
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return failed(format!("cannot start {}: {error}", executable.display())),
    };
    let starved = starved(child.id().filter(|_| priority == Priority::Idle));
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut stderr = child.stderr.take().expect("it is piped").take(MAX_STDERR);
    let mut stderr_text = Vec::new();
    let working = async {
        // Errors are ignored: a child that ends early reports why.
        let feed = async { drop(stdin.write_all(request.bytes).await) };
        let read = async { drop(stderr.read_to_end(&mut stderr_text).await) };
        let (status, (), ()) = tokio::join!(child.wait(), feed, read);
        status
    };
    let status = tokio::select! {
        status = working => Some(status),
        () = starved => None,
    };
    // Not earlier: the child ends when its input is closed.
    drop(stdin);
    match status {
        Some(Ok(status)) => Some(outcome(status, one_line(&stderr_text), limits)),
        Some(Err(error)) => failed(format!("cannot wait for it: {error}")),
        None => {
            // Waits for its end: the next compiler writes to the same file.
            let _ = child.kill().await;
            None
        }
    }
}

/// Completes when the process has had less than a tenth of a processor. Never completes without a process.
async fn starved(process: Option<u32>) {
    let Some(process) = process else { return pending().await };
    let began = Instant::now();
    loop {
        sleep(STARVATION_CHECK).await;
        // A process that has ended does not starve.
        let Some(used) = processor_time(process) else {
            return pending().await;
        };
        if used < began.elapsed().mul_f64(STARVATION_SHARE) {
            return;
        }
    }
}

/// Processor time that a process has used. None if the system does not report it.
fn processor_time(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in parentheses may contain anything. After it comes the state; user and system time are eleven words further.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name
        .split_whitespace()
        .skip(11)
        .map(|ticks| ticks.parse::<u32>().ok());
    Some(CLOCK_TICK * (times.next()?? + times.next()??))
}

fn outcome(status: ExitStatus, stderr: String, limits: CompileLimits) -> Result<(), LoadError> {
    const SIGKILL: i32 = 9;
    if status.success() {
        if !stderr.is_empty() {
            tracing::warn!(stderr, "the compiler succeeded with a warning");
        }
        return Ok(());
    }
    if status.code() == Some(i32::from(Compiler::INVALID_COMPONENT)) {
        return Err(LoadError::Invalid { cause: stderr });
    }
    let cause = if stderr.contains("memory allocation of") {
        let memory = Size::from(limits.memory);
        format!("it exceeded its memory limit of {memory}; make the component smaller")
    } else if status.signal() == Some(SIGKILL) {
        format!("it was killed ({status}), probably because the machine is out of memory; free some and try again")
    } else if status.signal().is_some() {
        format!("it crashed ({status}): {stderr}; build the component in another way")
    } else {
        format!("it ended with {status}: {stderr}")
    };
    Err(LoadError::Compiler { cause })
}

/// The output of a process in one line, without the notes that Rust adds to a panic.
fn one_line(output: &[u8]) -> String {
    let output = String::from_utf8_lossy(output);
    let lines = output.lines().map(str::trim);
    let lines: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("note: "))
        .collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests;
