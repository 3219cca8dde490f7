//! `plugnode test`: gives the events of a file to a handler, and compares its effects with the expected ones.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::event_file::{CompiledApps, EventFile, EventOutcome, Harness, diff, update};
use super::format::plain;
use super::project::Project;
use super::runtime;

/// Arguments of `plugnode test`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A file of events, such as events.toml:

  [[event]]
  client = \"ada\"                      # her session id, too
  connection = { auth = { name = \"Ada\" } }

  [[event]]
  client = \"ada\"
  message = \"say\"
  args = [\"hello\"]
  ack = true
  [event.expect]
  ack = [1]
  commands = [{ emit = \"said\", args = [\"hello\"] }]
  writes = [{ bucket = \"default\", key = \"said\", add = 1 }]

An event without `expect` may do anything but fail; with it, it must have exactly these effects. \"<any>\" stands for any value. Each
file begins with new instances and an empty key-value store; its events are handled in order, and each sees the writes of those
before. The settings are those of the plugnode.toml beside APP, as for plugnode dev. docs/testing.md has all events and effects.

Examples:
  plugnode test server.js events.toml
  plugnode test . tests/*.toml --update     write the actual effects into the files

The exit code is 0 if all effects are as expected.")]
pub struct TestArgs {
    /// Script, .wasm file, or folder of a handler
    #[arg(value_name = "APP")]
    pub app: PathBuf,
    /// Files of events
    #[arg(value_name = "EVENTS.toml", required = true)]
    pub files: Vec<PathBuf>,
    /// Write the actual effects into the files, as expectations
    #[arg(long)]
    pub update: bool,
    /// Number of instances [default: from plugnode.toml; without one, 1 for a script and 4 for other handlers]
    #[arg(long, value_name = "N")]
    pub instances: Option<usize>,
}

/// Runs the files. The exit code is success if all effects are as expected.
pub(super) fn test(args: &TestArgs) -> Result<ExitCode> {
    // Before the build: an invalid file should not cost one.
    let files = args.files.iter().map(|file| EventFile::read(file));
    let files: Vec<_> = files.collect::<Result<_>>()?;
    let project = Project::open(&args.app)?;
    runtime::block_on(async {
        let apps = CompiledApps::build(&project, args.instances).await?;
        let mut all_as_expected = true;
        for file in &files {
            all_as_expected &= run(&apps, file, args.update).await?;
        }
        Ok(match all_as_expected {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    })
}

/// Handles the events of a file. Returns whether all effects are as expected, or have been written as expectations.
async fn run(apps: &CompiledApps, file: &EventFile, is_update: bool) -> Result<bool> {
    let path = file.path.display();
    let lines = file.lines();
    let mut harness = Harness::start(apps, &file.keyvalue).await?;
    let mut differing = 0;
    let mut updates = Vec::with_capacity(file.events.len());
    for (index, entry) in file.events.iter().enumerate() {
        let location = match lines.get(index) {
            Some(line) => format!("{path}:{line}"),
            None => format!("{path}: event {}", index + 1),
        };
        let expected = entry.expect.as_ref().map(EventOutcome::expected).transpose();
        let expected = expected.with_context(|| format!("{location}: expect"))?;
        let actual = harness.handle_entry(index + 1, entry).await;
        let actual = actual.with_context(|| location.clone())?;
        let is_met = match &expected {
            Some(expected) => expected.is_met_by(&actual),
            None => actual.error().is_none(),
        };
        if is_update {
            updates.push(match &expected {
                // The expectation stays as it is written.
                Some(_) if is_met => None,
                Some(expected) => Some(actual.with_wildcards_of(expected)),
                None => Some(actual),
            });
        } else if !is_met {
            differing += 1;
            println!("{location}: {} is not as expected", plain(&entry.description()));
            // Values that may be anything are not a difference.
            let shown = expected
                .as_ref()
                .map_or_else(|| actual.clone(), |expected| actual.clone().with_wildcards_of(expected));
            let expected = expected.as_ref().map(EventOutcome::to_toml).unwrap_or_default();
            for line in diff(&expected, &shown.to_toml()) {
                println!("    {}", plain(&line));
            }
            for line in actual.error().into_iter().flat_map(str::lines).skip(1) {
                println!("    | {}", plain(line));
            }
        }
    }
    harness.end().await;
    let events = file.events.len();
    if is_update {
        let updated = update(file, &updates)?;
        if updated == file.text {
            println!("{path}: {events} events, as expected");
        } else {
            std::fs::write(&file.path, updated).with_context(|| format!("cannot write {path}"))?;
            println!("{path}: {events} events, updated");
        }
        return Ok(true);
    }
    match differing {
        0 => println!("{path}: {events} events, as expected"),
        _ => println!(
            "{path}: {differing} of {events} events are not as expected; --update writes the actual effects into the file"
        ),
    }
    Ok(differing == 0)
}
