//! `plugnode run` over a transport that breaks one promise, again and again: what `plugnode-check` has to find out.
//!
//! The environment variable PLUGNODE_BREAK says which; see [`Fault`]. Also shows how a transport is wrapped by another.

mod broken;
mod fault;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use plugnode::cli::{Arguments, Verb, run};

use crate::broken::Broken;
use crate::fault::Fault;

fn main() -> ExitCode {
    let fault = std::env::var("PLUGNODE_BREAK").unwrap_or_default();
    let Some(fault) = Fault::named(&fault) else {
        let names = Fault::ALL.map(|(name, _)| name).join(", ");
        eprintln!("plugnode-broken: set PLUGNODE_BREAK to one of {names}");
        return ExitCode::FAILURE;
    };
    let Verb::Run(arguments) = Arguments::parse().verb else {
        eprintln!("plugnode-broken: only `run` can be broken");
        return ExitCode::FAILURE;
    };
    let done = run::run_over(&arguments, |transport| Arc::new(Broken::new(transport, fault)));
    done.unwrap_or_else(|error| {
        eprintln!("plugnode-broken: {error:#}");
        ExitCode::FAILURE
    })
}
