//! `plugnode run` over a transport that breaks one promise, again and again: what `plugnode-check` has to find out.
//!
//! The environment variable PLUGNODE_BREAK says which; see [`Fault`]. Also shows how a transport is wrapped by another.

mod broken;
mod fault;

use std::process::ExitCode;

use clap::Parser;
use plugnode::cli::{Arguments, Verb, compile, run};

use crate::broken::Broken;
use crate::fault::Fault;

fn main() -> ExitCode {
    let verb = Arguments::parse().verb;
    if let Verb::Compile(arguments) = verb {
        return ended(compile::compile(&arguments));
    }
    let fault = std::env::var("PLUGNODE_BREAK").unwrap_or_default();
    let Some(fault) = Fault::named(&fault) else {
        let names = Fault::ALL.map(|(name, _)| name).join(", ");
        eprintln!("plugnode-broken: set PLUGNODE_BREAK to one of {names}");
        return ExitCode::FAILURE;
    };
    let Verb::Run(arguments) = verb else {
        eprintln!("plugnode-broken: only `run` can be broken");
        return ExitCode::FAILURE;
    };
    ended(run::run_over(&arguments, |transport| Broken::over(transport, fault)))
}

fn ended(done: anyhow::Result<ExitCode>) -> ExitCode {
    done.unwrap_or_else(|error| {
        eprintln!("plugnode-broken: {error:#}");
        ExitCode::FAILURE
    })
}
