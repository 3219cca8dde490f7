//! `plugnode run` with a transport that repeatedly breaks one promise, for `plugnode-check` to detect.
//!
//! The environment variable PLUGNODE_BREAK names the promise; see [`Fault`]. Also an example of wrapping a transport.

mod broken;
mod fault;

use std::process::ExitCode;

use clap::Parser;
use plugnode::cli::{Arguments, Verb, run_over};

use crate::broken::Broken;
use crate::fault::Fault;

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    // The node compiles components in a child process of this program.
    if let Verb::Compile(_) = verb {
        return exit_code(verb.run());
    }
    let fault = std::env::var("PLUGNODE_BREAK").unwrap_or_default();
    let Some(fault) = Fault::named(&fault) else {
        let names = Fault::ALL.map(|(name, _)| name).join(", ");
        eprintln!("plugnode-broken: set PLUGNODE_BREAK to one of {names}");
        return ExitCode::FAILURE;
    };
    let Verb::Run(args) = verb else {
        eprintln!("plugnode-broken: only `run` can be broken");
        return ExitCode::FAILURE;
    };
    exit_code(run_over(&args, |transport| Broken::over(transport, fault)))
}

fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("plugnode-broken: {error:#}");
        ExitCode::FAILURE
    })
}
