//! `plugnode run` over a transport that repeatedly breaks one promise, so that tests can show that `plugnode-check` detects it.
//!
//! The environment variable PLUGNODE_BREAK names the [`Fault`]. Also an example of a transport that wraps another.

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
        return ended(verb.run());
    }
    let fault = std::env::var("PLUGNODE_BREAK").unwrap_or_default();
    let Some(fault) = Fault::named(&fault) else {
        let names = Fault::ALL.map(|(name, _)| name).join(", ");
        eprintln!("plugnode-broken: set PLUGNODE_BREAK to one of {names}");
        return ExitCode::FAILURE;
    };
    let Verb::Run(arguments) = verb else {
        eprintln!("plugnode-broken: unsupported command; use `run`");
        return ExitCode::FAILURE;
    };
    ended(run_over(&arguments, |transport| Broken::over(transport, fault)))
}

fn ended(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("plugnode-broken: {error:#}");
        ExitCode::FAILURE
    })
}
