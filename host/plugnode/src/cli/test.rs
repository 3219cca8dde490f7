//! `plugnode test`: has a handler take the events of a file, and compares what it does about each with what the file expects.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::events::{Bench, Came, Component, EventsFile, diff, in_toml, update};
use super::progress::{during, say};
use super::project::{Made, Project};
use super::words::plain;
use super::{log, runtime};

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

An event without `expect` may do anything but fail; with it, it does this and no more. \"<any>\" stands for any value. Each file
begins with new instances and an empty key-value store, and what one of its events writes, the next one reads. APP's settings are
those of the plugnode.toml beside it, as for plugnode dev. docs/testing.md has all kinds of events and effects.

Examples:
  plugnode test server.js events.toml
  plugnode test . tests/*.toml --update     write down what comes

The exit code is 0 when all that was expected came.")]
pub struct Arguments {
    /// A script, a .wasm file, or the folder of a handler
    #[arg(value_name = "APP")]
    pub app: PathBuf,
    /// Files of events
    #[arg(value_name = "EVENTS.toml", required = true)]
    pub files: Vec<PathBuf>,
    /// Write what came into the files, as what is expected from now on
    #[arg(long)]
    pub update: bool,
    /// Instances of the handler [default: those of plugnode.toml; without one, 1 for a script and 4 for others]
    #[arg(long, value_name = "N")]
    pub instances: Option<usize>,
}

/// Tests. The exit code says whether all that was expected came.
pub fn test(arguments: &Arguments) -> Result<ExitCode> {
    // What cannot be read should not cost a build.
    let files = arguments.files.iter().map(|file| EventsFile::read(file));
    let files: Vec<_> = files.collect::<Result<_>>()?;
    let project = Project::at(&arguments.app)?;
    runtime::block_on(async {
        let component = compiled(&project, arguments.instances).await?;
        let mut as_expected = true;
        for file in &files {
            as_expected &= run(&component, file, arguments.update).await?;
        }
        Ok(if as_expected {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

/// A project's component, built and compiled, with the settings of the project.
pub(super) async fn compiled(project: &Project, instances: Option<usize>) -> Result<Component> {
    let Made { file, component, .. } = project.make().await?;
    let config = project.config(&file, instances, |config| {
        // There are no pages here.
        config.frontend.static_dir = ".".into();
    })?;
    log::init_for_handlers(&config.log)?;
    let what = || format!("compiling {}", project.path.display());
    let compiled = during(what, say, Component::load(&config, component)).await;
    compiled.with_context(|| format!("{} cannot run", project.path.display()))
}

/// Runs the events of a file, and says whether all that was expected came.
async fn run(component: &Component, file: &EventsFile, updates: bool) -> Result<bool> {
    let path = file.path.display();
    let lines = file.lines();
    let mut bench = Bench::start(component, &file.keyvalue).await?;
    let mut differing = 0;
    let mut all = Vec::with_capacity(file.events.len());
    for (place, entry) in file.events.iter().enumerate() {
        let at = match lines.get(place) {
            Some(line) => format!("{path}:{line}"),
            None => format!("{path}: event {}", place + 1),
        };
        let expected = entry.expect.as_ref().map(Came::expected).transpose();
        let expected = expected.with_context(|| format!("{at}: expect"))?;
        let came = bench.handle(place + 1, entry).await.with_context(|| at.clone())?;
        let is_met = match &expected {
            Some(expected) => expected.is_met_by(&came),
            None => came.error().is_none(),
        };
        if updates {
            all.push(match &expected {
                // As it is written.
                Some(_) if is_met => None,
                Some(expected) => Some(came.kept_by(expected)),
                None => Some(came),
            });
        } else if !is_met {
            differing += 1;
            println!("{at}: {} is not as expected", plain(&entry.what()));
            // What may be anything is no difference to be shown.
            let shown = expected
                .as_ref()
                .map_or_else(|| came.clone(), |expected| came.clone().kept_by(expected));
            for line in diff(&expected.as_ref().map(in_toml).unwrap_or_default(), &in_toml(&shown)) {
                println!("    {}", plain(&line));
            }
            for line in came.error().into_iter().flat_map(str::lines).skip(1) {
                println!("    | {}", plain(line));
            }
        }
    }
    bench.end().await;
    let events = file.events.len();
    if updates {
        let updated = update(file, &all)?;
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
        _ => println!("{path}: {differing} of {events} events are not as expected; --update takes what came"),
    }
    Ok(differing == 0)
}
