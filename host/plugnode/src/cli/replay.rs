//! `plugnode replay`: runs an event again, here, and shows what it leads to. A dead letter is read from its cluster; nothing is
//! written there.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::cluster::Cluster;
use super::events::{Bench, Came, EventsFile, file_of, in_toml};
use super::project::Project;
use super::runtime;
use super::test::compiled;
use super::words::plain;
use plugnode_message::{Event, EventId};
use plugnode_transport::DeadContent;

/// Arguments of `plugnode replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
What the event leads to is shown in the words of a file of events (plugnode test --help), and committed nowhere. Events of the
file that come before the last one, and its [keyvalue], say what is there by then; so they do with --dead, which comes after them.

Examples:
  plugnode replay server.js event.toml
  plugnode replay server.js --dead 002a-0000000001f4 -c plugnode.toml
  plugnode replay server.js --dead 002a-0000000001f4 --port 8080 --save failed.toml

The exit code is 0 when the event was handled.")]
pub struct Arguments {
    /// A script, a .wasm file, or the folder of a handler
    #[arg(value_name = "APP")]
    pub app: PathBuf,
    /// A file of events
    #[arg(value_name = "EVENTS.toml", required_unless_present = "dead")]
    pub file: Option<PathBuf>,
    /// A dead letter, by the id that plugnode dead list shows
    #[arg(long, value_name = "ID")]
    pub dead: Option<EventId>,
    /// Write the dead letter as a file of events, for plugnode test
    #[arg(long, value_name = "FILE", requires = "dead")]
    pub save: Option<PathBuf>,
    /// Where the dead letter is.
    #[command(flatten)]
    pub cluster: Cluster,
}

/// Replays. The exit code says whether the event was handled.
pub fn replay(arguments: &Arguments) -> Result<ExitCode> {
    let file = arguments.file.as_deref().map(EventsFile::read).transpose()?;
    let project = Project::at(&arguments.app)?;
    let dead = match arguments.dead {
        Some(id) => Some(read(&arguments.cluster, id)?),
        None => None,
    };
    if let (Some(event), Some(save)) = (&dead, &arguments.save) {
        save_as(event, save)?;
    }
    runtime::block_on(async {
        let component = compiled(&project, None).await?;
        let empty = Default::default();
        let keyvalue = file.as_ref().map_or(&empty, |file| &file.keyvalue);
        let mut bench = Bench::start(&component, keyvalue).await?;
        let mut came = None;
        for (place, entry) in file.iter().flat_map(|file| &file.events).enumerate() {
            let handled = bench.handle(place + 1, entry).await;
            let at = || format!("event {} ({})", place + 1, plain(&entry.what()));
            came = Some(handled.with_context(at)?);
        }
        if let Some(event) = dead {
            came = Some(bench.handle_event(Event::clone(&event)).await?);
        }
        bench.end().await;
        let came = came.context("there is no event")?;
        show(&came);
        Ok(match came.error() {
            None => ExitCode::SUCCESS,
            Some(_) => ExitCode::FAILURE,
        })
    })
}

/// Reads a dead letter's event.
fn read(cluster: &Cluster, id: EventId) -> Result<Arc<Event>> {
    let mut found = None;
    cluster.visit(async |cluster| {
        let letter = cluster.dead_letters.dead_letter(id).await;
        found = letter.with_context(|| format!("cannot read {id}"))?;
        Ok(ExitCode::SUCCESS)
    })?;
    match found.map(|letter| letter.content) {
        Some(DeadContent::Event(event)) => Ok(event),
        Some(DeadContent::Foreign(_)) => {
            bail!("{id} is no event that this version knows: replay it by the version of plugnode that wrote it")
        }
        None => bail!("there is no dead letter {id}; see `plugnode dead list`"),
    }
}

fn save_as(event: &Event, file: &Path) -> Result<()> {
    if file.exists() {
        bail!("{} is there already; name another by --save", file.display());
    }
    std::fs::write(file, file_of(event)?).with_context(|| format!("cannot write {}", file.display()))
}

fn show(came: &Came) {
    let lines = in_toml(came);
    if lines.is_empty() {
        println!("# it is handled, and leads to nothing");
    }
    for line in lines {
        println!("{}", plain(&line));
    }
    for line in came.error().into_iter().flat_map(str::lines).skip(1) {
        println!("# {}", plain(line));
    }
}
