//! The command line. Each verb has a file; the other files are shared by several verbs.
//!
//! - Settings and process: `project` (a handler during development), `node`, `runtime`, `signals`, `reload`, `log`.
//! - Building handlers: `script`, `cargo`, `build_command`, `source_watcher`.
//! - A running cluster: `cluster` (the connection), `api_args` (the server API), `rollout` and `release_request`, `redeploy`.
//! - Output: `format`, `terminal`, `release_format`, `rollout_report`, `error_overlay`.
//!
//! No other crate knows that there is a command line.

mod build;
mod check;
mod compile;
mod component_file;
mod config;
mod dead;
mod deploy;
mod dev;
mod event;
mod new;
mod publish;
mod releases;
mod remove;
mod replay;
mod rollback;
mod run;
mod status;
mod test;

mod api_args;
mod author;
mod build_command;
mod cargo;
mod child;
mod cluster;
mod error_overlay;
mod event_file;
mod format;
mod log;
mod node;
mod private_files;
mod project;
mod redeploy;
mod release_format;
mod release_request;
mod reload;
mod rollout;
mod rollout_report;
mod runtime;
mod script;
mod signals;
mod source_excerpt;
mod source_watcher;
mod terminal;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

pub use self::run::run_over;

/// Version, with the commit if the build sets it.
const VERSION: &str = match option_env!("PLUGNODE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "plugnode", version = VERSION, arg_required_else_help = true, after_help = EXAMPLES)]
#[command(about = "Run Socket.IO applications as hot-swappable WebAssembly components")]
pub struct Arguments {
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// A verb and its arguments.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build and run a handler on this machine, and reload it at each save
    Dev(dev::DevArgs),
    /// Build a component from a script, a Rust crate, or by a [build] command
    Build(build::BuildArgs),
    /// Test a handler against files of events with expected effects
    Test(test::TestArgs),
    /// Handle an event or a dead letter again on this machine, and show its effects, without committing them
    Replay(replay::ReplayArgs),
    /// Run the roles of a config file
    Run(run::RunArgs),
    /// Deploy a component to all app-nodes of an app, without dropping a connection
    Deploy(deploy::DeployArgs),
    /// Return to an earlier release, or end a rollout
    Rollback(rollback::RollbackArgs),
    /// Delete an app that no app-node runs, with its releases
    Remove(remove::RemoveArgs),
    /// List the releases of an app with their states
    Releases(releases::ReleasesArgs),
    /// Show the release in use on each app-node, with event rates, failures and latencies
    Status(status::StatusArgs),
    /// Check a configuration, or show its values and their origins
    Config(config::ConfigArgs),
    /// Check that a component can run here, and list its imports and exports
    Check(check::CheckArgs),
    /// Create the project of a handler
    New(new::NewArgs),
    /// List, show, retry or drop dead letters
    Dead(dead::DeadArgs),
    /// Emit an event to clients, by the server API
    Publish(publish::PublishArgs),
    /// Give a custom event to the handler of an app, by the server API
    Event(event::EventArgs),
    /// Compile a component for a node
    #[command(hide = true)]
    Compile(compile::CompileArgs),
}

const EXAMPLES: &str = "\
Examples:
  plugnode new hello && plugnode dev hello     create a handler and its page, and run it at http://localhost:8080
  plugnode dev server.js                       run a program for Node's Socket.IO
  plugnode dev chat.wasm --port 9000           run a component
  plugnode build server.js                     build server.wasm
  plugnode test server.js events.toml          test the effects of events
  plugnode run -c plugnode.toml                run all roles in one process
  plugnode run -c plugnode.toml --role frontend
  plugnode deploy chat.wasm --canary 10% --for 2m
  plugnode status --watch                      show the releases on all nodes
  plugnode rollback                            return to the previous release
  plugnode check chat.wasm --grant-keyvalue default
  plugnode dead list                           show which events failed, and why
  plugnode publish / news hello --all          emit an event to all clients

Each key of the config file can be set by an environment variable too: PLUGNODE_HTTP__LISTEN=0.0.0.0:9000.
Set RUST_LOG=debug for more log lines.";

impl Verb {
    /// Runs the verb and returns the exit code of the process.
    ///
    /// # Errors
    /// The error says what failed, why, and what to do.
    pub fn run(&self) -> Result<ExitCode> {
        match self {
            Self::Dev(args) => dev::dev(args),
            Self::Build(args) => build::build(args),
            Self::Test(args) => test::test(args),
            Self::Replay(args) => replay::replay(args),
            Self::Run(args) => run::run(args),
            Self::Deploy(args) => deploy::deploy(args),
            Self::Rollback(args) => rollback::rollback(args),
            Self::Remove(args) => remove::remove(args),
            Self::Releases(args) => releases::releases(args),
            Self::Status(args) => status::status(args),
            Self::Config(args) => config::config(args),
            Self::Check(args) => check::check(args),
            Self::New(args) => new::new(args),
            Self::Dead(args) => dead::dead(args),
            Self::Publish(args) => publish::publish(args),
            Self::Event(args) => event::event(args),
            Self::Compile(args) => compile::compile(args),
        }
    }
}

/// Parses the command line and runs its verb. An error is written to the log, or to standard error without one.
pub fn main() -> ExitCode {
    Arguments::parse().verb.run().unwrap_or_else(|error| {
        log::fatal(&error);
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests;
