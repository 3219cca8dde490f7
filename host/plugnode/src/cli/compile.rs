//! `plugnode compile`: what a node starts to have a component compiled. Not meant for people, and not shown to them.
//!
//! Reads so many bytes from standard input and writes machine code to standard output, and to a folder, for the next of its
//! kind, what of it may be used again. The input stays open for as long as somebody wants the result; when it ends, so does
//! this.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};

use plugnode_runtime::{Compiler, LoadError};

/// Given up of our share of the processors once handlers run: events of the node come first. It leaves a tenth of one that others want as well; at
/// the lowest priority it would be a seventieth, of which an interpreter of JavaScript is not compiled within its time.
const NICE: i32 = 10;

/// Arguments of `plugnode compile`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Length of the component
    #[arg(long)]
    pub bytes: usize,
    /// Bytes of address space that may be used
    #[arg(long)]
    pub memory: u64,
    /// The name of the configuration to compile for
    #[arg(long = "for", value_name = "NAME")]
    pub configuration: String,
    /// The folder of functions that were compiled before
    #[arg(long, value_name = "FOLDER")]
    pub functions: Option<PathBuf>,
    /// Take only the processors' time that nobody else wants
    #[arg(long)]
    pub idle: bool,
    /// Take as much of the processors as anybody
    #[arg(long, conflicts_with = "idle")]
    pub first: bool,
}

/// Compiles. The exit code tells a component that cannot be compiled from all else that can go wrong.
pub fn compile(arguments: &Arguments) -> Result<ExitCode> {
    step_back(arguments);
    let mut bytes = vec![0; arguments.bytes];
    std::io::stdin()
        .read_exact(&mut bytes)
        .context("cannot read the component")?;
    std::thread::Builder::new()
        .spawn(end_with_input)
        .context("cannot start a thread")?;
    match plugnode_runtime::compile(&bytes, &arguments.configuration, arguments.functions.as_deref()) {
        Ok(compiled) => {
            let written = std::io::stdout().write_all(&compiled.code);
            written.context("cannot write what was compiled; is the disk full?")?;
            if let Err(error) = compiled.cache_functions() {
                eprintln!("its functions cannot be kept for the next one: {error}");
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

/// Limits this process, and lets others go first. Where the system knows no such thing, it goes without.
fn step_back(arguments: &Arguments) {
    let _ = rlimit::setrlimit(rlimit::Resource::CORE, 0, 0);
    if !arguments.first {
        let _ = rustix::process::nice(NICE);
    }
    if arguments.idle {
        wait_for_idle_processors();
    }
    let _ = rlimit::setrlimit(rlimit::Resource::AS, arguments.memory, arguments.memory);
    // When the machine runs out of memory, this is what it can do without.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
}

/// Somebody who is only nice runs on for a moment when others wake, and keeps its processor from looking idle to them: with
/// as many threads as there are processors, each event waits behind it several times. What sets the kernel's class for idle
/// time is a command of the system, as Rust has no safe call for it.
fn wait_for_idle_processors() {
    let own = std::process::id().to_string();
    let _ = Command::new("chrt")
        .args(["-i", "-p", "0", &own])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}

fn end_with_input() {
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
    std::process::exit(1);
}
