//! The `plugnode` command: arguments → config → run → drain.

use std::process::ExitCode;

use clap::Parser;
use plugnode::cli::{
    Arguments, Verb, check, compile, config, dead, deploy, dev, log, new, releases, remove, replay, rollback, run,
    script, status, test,
};

/// Gives back to the system what clients who left had, by a thread of its own; glibc keeps most of it for good.
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Dev(arguments) => dev::dev(&arguments),
        Verb::Build(arguments) => script::build(&arguments),
        Verb::Test(arguments) => test::test(&arguments),
        Verb::Replay(arguments) => replay::replay(&arguments),
        Verb::Run(arguments) => run::run(&arguments),
        Verb::Deploy(arguments) => deploy::deploy(&arguments),
        Verb::Rollback(arguments) => rollback::rollback(&arguments),
        Verb::Remove(arguments) => remove::remove(&arguments),
        Verb::Releases(arguments) => releases::releases(&arguments),
        Verb::Status(arguments) => status::status(&arguments),
        Verb::Config(arguments) => config::config(&arguments),
        Verb::Check(arguments) => check::check(&arguments),
        Verb::New(arguments) => new::new(&arguments),
        Verb::Dead(arguments) => dead::dead(&arguments),
        Verb::Compile(arguments) => compile::compile(&arguments),
    };
    done.unwrap_or_else(|error| {
        log::fatal(&error);
        ExitCode::FAILURE
    })
}
