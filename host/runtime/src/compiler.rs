//! From a component's bytes to machine code, by a process that ends when it is done.
//!
//! wasmtime keeps memory of what it compiled for as long as the process lives, and a component can be made so that the
//! compiler crashes, or never ends. None of it may happen to a node: it starts its own executable once more, with another
//! verb, which reads the component, writes machine code, and is gone. What that one may keep are the functions that it has
//! compiled, as the next build has most of them as well. This knows neither where the result is kept nor what handlers are.

mod known;

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

use self::known::Known;
use super::engine::config;
use super::load_error::LoadError;
use super::settings::in_words;

/// Time and memory for one component. An interpreter of 12 MB takes a minute of a slow machine, and 400 MB.
const LIMITS: Limits = Limits {
    time: Duration::from_secs(300),
    memory: 4 << 30,
};
/// Threads of one compiler, at most: each sets address space aside, and the events of the node come first.
const THREADS: usize = 4;
/// What of a compiler's last words is kept.
const WORDS: u64 = 4 << 10;
/// How often a compiler that takes the time that nobody else wants is looked after,
const LOOK: Duration = Duration::from_secs(1);
/// and how much of a processor it has to have had by then, or it is not for it to wait any longer.
const LEAST: f64 = 0.1;
/// In what the system counts the time of a process.
const TICK: Duration = Duration::from_millis(10);

/// By whom components are compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compiler {
    /// By this process, which keeps some of the memory that it takes. For tests and benchmarks, whose executables have no
    /// verbs.
    Here,
    /// By a process of this executable, started with the verb [`Compiler::VERB`].
    Child(PathBuf),
}

/// What there is to compile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work<'a> {
    /// The component.
    pub(super) bytes: &'a Bytes,
    /// The name of the engine's configuration.
    pub(super) configuration: &'a str,
    /// The folder for functions that a process which compiles has use for.
    pub(super) functions: &'a Path,
    /// Whether no handler runs yet: then nobody's events wait for what this takes of the processors.
    pub(super) is_first: bool,
}

/// The machine code of a component, and what was learned on the way.
#[derive(Debug)]
pub struct Compiled {
    /// What wasmtime runs.
    pub code: Vec<u8>,
    known: Option<io::Result<Arc<Known>>>,
    name: String,
}

impl Compiled {
    /// Keeps its functions for whoever compiles next, where a folder for that was given.
    pub fn keep_functions(self) -> io::Result<()> {
        match self.known {
            Some(known) => known?.keep(&self.name),
            None => Ok(()),
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    time: Duration,
    memory: usize,
}

/// What a compiler gets of the processors.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Share {
    /// As much as anybody: somebody waits for it, and no handler runs meanwhile whose events would.
    Full,
    /// What nobody else wants: no event waits for it.
    Idle,
    /// A little, whatever others want: a deploy may be what mends a node that has no time left.
    Little,
}

impl Compiler {
    /// The verb of the executable that reads a component from standard input and writes machine code to standard output.
    pub const VERB: &str = "compile";
    /// With which the process ends when the component cannot be compiled; why not is on standard error. Ended in any other
    /// way, the compiler is to blame.
    pub const REFUSED: u8 = 65;

    /// Compiles for this engine, and writes the result to the file.
    pub(super) async fn compile(
        &self,
        engine: &wasmtime::Engine,
        work: Work<'_>,
        result: File,
    ) -> Result<(), LoadError> {
        match self {
            Self::Here => compile_here(engine.clone(), work.bytes.clone(), result).await,
            Self::Child(executable) => compile_in_child(executable, work, result, LIMITS).await,
        }
    }
}

/// Compiles a component for the engine whose configuration has this name: what the verb does. Functions that are known in
/// this folder are not compiled again; without one, or where it cannot be used, all of them are.
pub fn compile(bytes: &[u8], configuration: &str, functions: Option<&Path>) -> Result<Compiled, LoadError> {
    let unusable = |error: wasmtime::Error| LoadError::Engine {
        cause: format!("{error:#}"),
    };
    let known = functions.map(|folder| Known::open(folder, configuration).map(Arc::new));
    let mut config = config();
    if let Some(Ok(known)) = &known {
        config.enable_incremental_compilation(known.clone()).map_err(unusable)?;
    }
    let engine = wasmtime::Engine::new(&config).map_err(unusable)?;
    if self::configuration(&engine) != configuration {
        return Err(LoadError::Compiler {
            cause: "it is of another build than what asks for it: start the node again".to_owned(),
        });
    }
    Ok(Compiled {
        code: precompile(&engine, bytes)?,
        known,
        name: format!("{:016x}", xxh3_64(bytes)),
    })
}

/// The name of all that machine code depends on: wasmtime's version, the processor, and how the engine is set up. How
/// instances find their memory is no part of it.
pub(super) fn configuration(engine: &wasmtime::Engine) -> String {
    let mut hasher = Xxh3Default::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

fn precompile(engine: &wasmtime::Engine, bytes: &[u8]) -> Result<Vec<u8>, LoadError> {
    engine.precompile_component(bytes).map_err(|error| LoadError::Invalid {
        cause: format!("{error:#}"),
    })
}

async fn compile_here(engine: wasmtime::Engine, bytes: Bytes, mut result: File) -> Result<(), LoadError> {
    let compiled = spawn_blocking(move || {
        let code = precompile(&engine, &bytes)?;
        result.write_all(&code).map_err(|error| LoadError::Compiler {
            cause: format!("cannot write what was compiled: {error}"),
        })
    });
    compiled.await.map_err(|error| LoadError::Compiler {
        cause: format!("it crashed: {error}"),
    })?
}

/// Where nothing is left for a compiler that waits for idle processors, another is started that does not.
async fn compile_in_child(
    executable: &Path,
    work: Work<'_>,
    mut result: File,
    limits: Limits,
) -> Result<(), LoadError> {
    let failed = |cause| LoadError::Compiler { cause };
    let unwritable = |error| failed(format!("what it makes cannot be written: {error}"));
    let compiling = async {
        let output = result.try_clone().map_err(unwritable)?;
        let share = if work.is_first { Share::Full } else { Share::Idle };
        if let Some(ended) = run(executable, work, output, limits, share).await {
            return ended;
        }
        tracing::info!("the processors are busy: the compiler does not wait for them any longer");
        let emptied = result.set_len(0).and_then(|()| result.rewind());
        emptied.map_err(unwritable)?;
        let ended = run(executable, work, result, limits, Share::Little).await;
        ended.expect("only one that waits gives up waiting")
    };
    timeout(limits.time, compiling).await.unwrap_or_else(|_| {
        let seconds = limits.time.as_secs_f32();
        Err(failed(format!(
            "it was still at work after {seconds} s and was stopped; make the component smaller"
        )))
    })
}

/// How a child ended. None when it was stopped because it had too little of the processors. It ends by itself when what it
/// reads from does, so that it does not outlive a node that is killed.
async fn run(
    executable: &Path,
    work: Work<'_>,
    result: File,
    limits: Limits,
    share: Share,
) -> Option<Result<(), LoadError>> {
    let failed = |cause| Some(Err(LoadError::Compiler { cause }));
    let threads = available_parallelism().map_or(1, |threads| threads.get().min(THREADS));
    let spawned = Command::new(executable)
        .arg0("plugnode")
        .arg(Compiler::VERB)
        .args(["--bytes", &work.bytes.len().to_string()])
        .args(["--memory", &limits.memory.to_string()])
        .args(["--for", work.configuration])
        .arg("--functions")
        .arg(work.functions)
        .args(match share {
            Share::Full => Some("--first"),
            Share::Idle => Some("--idle"),
            Share::Little => None,
        })
        // What it has to do is all said; nothing of the node's secrets is any of its business.
        .env_clear()
        .env("RAYON_NUM_THREADS", threads.to_string())
        .stdin(Stdio::piped())
        .stdout(result)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return failed(format!("cannot start {}: {error}", executable.display())),
    };
    let starves = starves(child.id().filter(|_| share == Share::Idle));
    let mut stdin = child.stdin.take().expect("it is piped");
    let mut stderr = child.stderr.take().expect("it is piped").take(WORDS);
    let mut said = Vec::new();
    let working = async {
        // One that ends early says why.
        let feed = async { drop(stdin.write_all(work.bytes).await) };
        let listen = async { drop(stderr.read_to_end(&mut said).await) };
        let (status, (), ()) = tokio::join!(child.wait(), feed, listen);
        status
    };
    let status = tokio::select! {
        status = working => Some(status),
        () = starves => None,
    };
    // Not before: its end would be the child's.
    drop(stdin);
    match status {
        Some(Ok(status)) => Some(judge(status, words(&said), limits)),
        Some(Err(error)) => failed(format!("cannot wait for it: {error}")),
        None => {
            // It would go on writing to the file that the next one writes to.
            let _ = child.kill().await;
            None
        }
    }
}

/// Completes when a process has had much less of the processors than it could use. Never without one.
async fn starves(process: Option<u32>) {
    let Some(process) = process else { return pending().await };
    let began = Instant::now();
    loop {
        sleep(LOOK).await;
        // One that has ended is not waiting.
        let Some(had) = time_of(process) else {
            return pending().await;
        };
        if had < began.elapsed().mul_f64(LEAST) {
            return;
        }
    }
}

/// How much of the processors a process has had. None where the system does not tell.
fn time_of(process: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // After the name, which may have anything in it, comes the state. User's and system's time are eleven words further.
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name
        .split_whitespace()
        .skip(11)
        .map(|ticks| ticks.parse::<u32>().ok());
    Some(TICK * (times.next()?? + times.next()??))
}

fn judge(status: ExitStatus, said: String, limits: Limits) -> Result<(), LoadError> {
    const SIGKILL: i32 = 9;
    if status.success() {
        if !said.is_empty() {
            tracing::warn!(said, "a component was compiled, but not all is well with the compiler");
        }
        return Ok(());
    }
    if status.code() == Some(i32::from(Compiler::REFUSED)) {
        return Err(LoadError::Invalid { cause: said });
    }
    let cause = if said.contains("memory allocation of") {
        let memory = in_words(limits.memory);
        format!("it needed more than the {memory} of memory that it may have; make the component smaller")
    } else if status.signal() == Some(SIGKILL) {
        format!(
            "it was killed ({status}), as happens when the machine runs out of memory; try again when there is some"
        )
    } else if status.signal().is_some() {
        format!("it crashed ({status}), so build the component in another way: {said}")
    } else {
        format!("it ended with {status}: {said}")
    };
    Err(LoadError::Compiler { cause })
}

/// What a process said, in one line, without what Rust advises after a panic.
fn words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines = said.lines().map(str::trim);
    let lines: Vec<_> = lines
        .filter(|line| !line.is_empty() && !line.starts_with("note: "))
        .collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests;
