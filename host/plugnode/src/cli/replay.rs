//! `plugnode replay`: handles an event again, on this machine, and shows its effects. Nothing is committed; a dead letter is only read
//! from its cluster.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::cluster::ClusterArgs;
use super::event_file::{CompiledApps, EventFile, EventOutcome, Harness, file_of_event};
use super::format::plain;
use super::project::Project;
use super::runtime;
use plugnode_message::{Event, EventId};
use plugnode_transport::DeadContent;

/// Arguments of `plugnode replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Show the effects of the last event of a file, or of a dead letter, in the notation of a file of events (plugnode test --help). The
[keyvalue] and the earlier events of the file are the state that it finds; with --dead, all events of the file are earlier ones.

Examples:
  plugnode replay server.js event.toml
  plugnode replay server.js --dead 002a-0000000001f4 -c plugnode.toml
  plugnode replay server.js --dead 002a-0000000001f4 --port 8080 --save failed.toml

The exit code is 0 if the event was handled.")]
pub struct ReplayArgs {
    /// Script, .wasm file, or folder of a handler
    #[arg(value_name = "APP")]
    pub app: PathBuf,
    /// File of events
    #[arg(value_name = "EVENTS.toml", required_unless_present = "dead")]
    pub file: Option<PathBuf>,
    /// Id of a dead letter, from plugnode dead list
    #[arg(long, value_name = "ID")]
    pub dead: Option<EventId>,
    /// Write the dead letter to a new file of events, for plugnode test
    #[arg(long, value_name = "FILE", requires = "dead")]
    pub save: Option<PathBuf>,
    /// The cluster of the dead letter.
    #[command(flatten)]
    pub cluster: ClusterArgs,
}

/// Replays the event. The exit code is success if it was handled.
pub(super) fn replay(args: &ReplayArgs) -> Result<ExitCode> {
    let file = args.file.as_deref().map(EventFile::read).transpose()?;
    let project = Project::open(&args.app)?;
    let dead = match args.dead {
        Some(id) => Some(read_dead_letter(&args.cluster, id)?),
        None => None,
    };
    if let (Some(event), Some(path)) = (&dead, &args.save) {
        save(event, path)?;
    }
    runtime::block_on(async {
        let apps = CompiledApps::build(&project, None).await?;
        let empty = Default::default();
        let keyvalue = file.as_ref().map_or(&empty, |file| &file.keyvalue);
        let mut harness = Harness::start(&apps, keyvalue).await?;
        let mut last = None;
        for (index, entry) in file.iter().flat_map(|file| &file.events).enumerate() {
            let outcome = harness.handle_entry(index + 1, entry).await;
            let which = || format!("event {} ({})", index + 1, plain(&entry.description()));
            last = Some(outcome.with_context(which)?);
        }
        if let Some(event) = dead {
            last = Some(harness.handle(Event::clone(&event)).await?);
        }
        harness.end().await;
        let outcome = last.context("there is no event to replay")?;
        print(&outcome);
        Ok(match outcome.error() {
            None => ExitCode::SUCCESS,
            Some(_) => ExitCode::FAILURE,
        })
    })
}

/// Reads the event of a dead letter.
fn read_dead_letter(cluster: &ClusterArgs, id: EventId) -> Result<Arc<Event>> {
    let mut found = None;
    cluster.run(async |cluster| {
        let letter = cluster.dead_letters.dead_letter(id).await;
        found = letter.with_context(|| format!("cannot read dead letter {id}"))?;
        Ok(ExitCode::SUCCESS)
    })?;
    match found.map(|letter| letter.content) {
        Some(DeadContent::Event(event)) => Ok(event),
        Some(DeadContent::Foreign(_)) => {
            bail!(
                "cannot replay {id}: this version does not know its kind of event; use the version of plugnode that wrote it"
            )
        }
        None => bail!("there is no dead letter {id}; see `plugnode dead list`"),
    }
}

fn save(event: &Event, path: &Path) -> Result<()> {
    if path.exists() {
        bail!("{} exists already; name another file by --save", path.display());
    }
    std::fs::write(path, file_of_event(event)?).with_context(|| format!("cannot write {}", path.display()))
}

fn print(outcome: &EventOutcome) {
    let lines = outcome.to_toml();
    if lines.is_empty() {
        println!("# handled, without effects");
    }
    for line in lines {
        println!("{}", plain(&line));
    }
    for line in outcome.error().into_iter().flat_map(str::lines).skip(1) {
        println!("# {}", plain(line));
    }
}
