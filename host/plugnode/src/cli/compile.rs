//! `plugnode compile`: compiles a component in a child process of a node. Hidden from the help.
//!
//! Reads the component from standard input and writes machine code to standard output. Compiled functions are kept in a folder, for
//! later components with the same ones. The node keeps the input open while it wants the result; when it closes, this process exits.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use plugnode_runtime::{Compiler, LoadError};

/// Priority of the compiler while handlers run: their events come first. On a contended processor it gets a tenth of the time. At the lowest
/// priority it would get a seventieth, too little to compile a JavaScript interpreter within the time-out.
const NICE: i32 = 10;

/// Arguments of `plugnode compile`.
#[derive(Debug, clap::Args)]
pub struct CompileArgs {
    /// Length of the component, in bytes
    #[arg(long)]
    pub bytes: usize,
    /// Limit of the address space, in bytes
    #[arg(long)]
    pub memory: u64,
    /// Name of the engine configuration to compile for
    #[arg(long = "for", value_name = "NAME")]
    pub configuration: String,
    /// Folder of compiled functions
    #[arg(long, value_name = "FOLDER")]
    pub functions: Option<PathBuf>,
    /// Use only idle processor time
    #[arg(long)]
    pub idle: bool,
    /// Run at normal priority
    #[arg(long, conflicts_with = "idle")]
    pub first: bool,
}

/// Compiles. The exit code distinguishes an invalid component from other failures.
pub(super) fn compile(args: &CompileArgs) -> Result<ExitCode> {
    limit_process(args);
    let mut bytes = vec![0; args.bytes];
    std::io::stdin()
        .read_exact(&mut bytes)
        .context("cannot read the component")?;
    std::thread::Builder::new()
        .spawn(exit_with_input)
        .context("cannot start a thread")?;
    match plugnode_runtime::compile(&bytes, &args.configuration, args.functions.as_deref()) {
        Ok(compiled) => {
            let written = std::io::stdout().write_all(&compiled.code);
            written.context("cannot write the machine code; check that the disk is not full")?;
            if let Err(error) = compiled.cache_functions() {
                eprintln!("cannot keep the compiled functions: {error}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(LoadError::Invalid { cause }) => {
            eprintln!("{cause}");
            Ok(ExitCode::from(Compiler::INVALID_COMPONENT))
        }
        Err(error) => Err(error.into()),
    }
}

/// Limits memory and lowers the priority, as far as the system supports it.
fn limit_process(args: &CompileArgs) {
    let _ = rlimit::setrlimit(rlimit::Resource::CORE, 0, 0);
    if !args.first {
        let _ = rustix::process::nice(NICE);
    }
    if args.idle {
        use_idle_time_only();
    }
    let _ = rlimit::setrlimit(rlimit::Resource::AS, args.memory, args.memory);
    // If the machine runs out of memory, the kernel ends this process first.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Sets the scheduling class for idle time. A process that is only nice keeps its processor for a moment when others wake, and makes it
/// look busy: with as many threads as processors, each event would wait behind it several times. There is no safe Rust call for this,
/// hence `chrt`.
fn use_idle_time_only() {
    let own = std::process::id().to_string();
    let _ = Command::new("chrt")
        .args(["-i", "-p", "0", &own])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

/// Exits once standard input closes.
fn exit_with_input() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    std::process::exit(1);
}
