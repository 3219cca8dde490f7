//! The command line: one file a verb, and beside them what the verbs share.
//!
//! A verb reads its arguments, makes settings of them and of the configuration, and starts what they say. Nothing below
//! knows that there is a command line.

pub mod check;
pub mod cluster;
pub mod compile;
pub mod config;
pub mod dead;
pub mod deploy;
pub mod dev;
pub mod new;
pub mod releases;
pub mod remove;
pub mod replay;
pub mod rollback;
pub mod run;
pub mod script;
pub mod status;
pub mod test;

mod author;
mod build;
mod command;
mod events;
mod exposed;
pub mod log;
mod node;
mod notice;
mod outcome;
mod progress;
mod project;
mod redeploy;
mod reload;
mod rollout;
mod runtime;
mod signals;
mod sources;
mod transport;
mod words;

use clap::{Parser, Subcommand};

/// The version, with the commit if the build tells it.
const VERSION: &str = match option_env!("PLUGNODE_VERSION") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// What a person types.
#[derive(Debug, Parser)]
#[command(name = "plugnode", version = VERSION, arg_required_else_help = true, after_help = EXAMPLES)]
#[command(about = "Runs Socket.IO applications as hot-swappable WebAssembly components")]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What `plugnode` can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Build and run a handler here, and take each change into use as it is saved
    Dev(dev::Arguments),
    /// Make a component of a script, a crate, or what a [build] command makes
    Build(script::Arguments),
    /// Run a handler against a file of events, and compare what it does with what is expected
    Test(test::Arguments),
    /// Run an event, or a dead letter, again here, and show what it leads to; nothing is committed
    Replay(replay::Arguments),
    /// Run the roles that a config file names
    Run(run::Arguments),
    /// Take a component into use on all nodes of an app, with nobody noticing
    Deploy(deploy::Arguments),
    /// Go back to a release that was in use, or end a rollout
    Rollback(rollback::Arguments),
    /// Forget an app that no app-node runs any more, with its releases
    Remove(remove::Arguments),
    /// List the releases of an app, and what became of each
    Releases(releases::Arguments),
    /// Show what each app-node runs, and how that does
    Status(status::Arguments),
    /// Check a configuration, or show its values and where each came from
    Config(config::Arguments),
    /// Say whether a component can run here, and what it asks for
    Check(check::Arguments),
    /// Make the project of a new handler
    New(new::Arguments),
    /// List, show, retry or drop events that were put aside
    Dead(dead::Arguments),
    /// Compile a component, for a node
    #[command(hide = true)]
    Compile(compile::Arguments),
}

const EXAMPLES: &str = "\
Examples:
  plugnode new hello && plugnode dev hello     a handler and its page, at http://localhost:8080
  plugnode dev chat.wasm --port 9000           a component that is built already
  plugnode dev server.js                       a program of Socket.IO's in JavaScript
  plugnode build server.js                     the same as a component: server.wasm
  plugnode test server.js events.toml          what it does about events, against what is expected
  plugnode run -c plugnode.toml                all roles, in one process
  plugnode run -c plugnode.toml --role frontend
  plugnode deploy chat.wasm --canary 10% --for 2m
  plugnode status --watch                      which release runs where, and how it does
  plugnode rollback                            to the release before
  plugnode check chat.wasm --grant-keyvalue default
  plugnode dead list                           events that could not be handled, and why

Every key of the config file can be set in the environment too: PLUGNODE_HTTP__LISTEN=0.0.0.0:9000.
RUST_LOG=debug says more.";

#[cfg(test)]
mod tests;
