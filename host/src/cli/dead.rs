//! `plugnode dead`: the events that were put aside. Lists and shows them, has them tried again, forgets them.

mod letter;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::cluster::Cluster;
use crate::message::EventId;
use crate::transport::{DeadLetter, DeadLetters, Revival};

/// More than any transport keeps.
const ALL: usize = 1_000_000;

/// Arguments of `plugnode dead`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where.
    #[command(flatten)]
    pub cluster: Cluster,
    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// What can be done with dead letters.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// Say which there are, oldest first
    List {
        /// At most so many, the latest
        #[arg(long, value_name = "N", default_value_t = 100)]
        most: usize,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one with all that is known: the event, its arguments, and the report
    Show {
        /// Its id
        #[arg(value_name = "ID")]
        id: EventId,
        /// As a JSON object, with attachments as base64
        #[arg(long)]
        json: bool,
    },
    /// Have them tried again, each behind what its client has sent since
    Retry(Which),
    /// Forget them
    Drop(Which),
}

/// Some dead letters, or all of them.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// Their ids
    #[arg(value_name = "ID")]
    pub ids: Vec<EventId>,
    /// All that there are
    #[arg(long)]
    pub all: bool,
}

/// Does it. The exit code says whether all of it could be done.
pub fn dead(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cluster.visit(async |cluster| {
        let all_done = run(&arguments.verb, cluster, &mut io::stdout()).await?;
        Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Does one verb, and says whether all of it could be done.
async fn run(verb: &Verb, cluster: &dyn DeadLetters, out: &mut dyn Write) -> Result<bool> {
    match verb {
        Verb::List { most, json } => list(&letters(cluster, *most).await?, *json, out),
        Verb::Show { id, json } => {
            let found = cluster.dead_letter(*id).await;
            let Some(letter) = &found.with_context(|| format!("cannot read {id}"))? else {
                writeln!(out, "{id}: {UNKNOWN}")?;
                return Ok(false);
            };
            match json {
                true => writeln!(out, "{:#}", letter::whole(letter))?,
                false => write!(out, "{}", letter::page(letter))?,
            }
            Ok(true)
        }
        Verb::Retry(which) => {
            let mut all_done = true;
            for id in ids(which, cluster, out).await? {
                let revival = cluster.revive(id).await.with_context(|| format!("cannot retry {id}"))?;
                let words = match revival {
                    Revival::Queued => "will be tried again, under a new id",
                    Revival::Unknown => UNKNOWN,
                    Revival::ClientGone => CLIENT_GONE,
                    Revival::Foreign => FOREIGN,
                };
                all_done &= revival == Revival::Queued;
                writeln!(out, "{id}: {words}")?;
            }
            Ok(all_done)
        }
        Verb::Drop(which) => {
            let mut all_done = true;
            for id in ids(which, cluster, out).await? {
                let was_there = cluster.bury(id).await.with_context(|| format!("cannot drop {id}"))?;
                all_done &= was_there;
                writeln!(out, "{id}: {}", if was_there { "dropped" } else { UNKNOWN })?;
            }
            Ok(all_done)
        }
    }
}

const UNKNOWN: &str =
    "there is no such dead letter: it was retried, dropped, or pushed out by newer ones; see `plugnode dead list`";
const CLIENT_GONE: &str = "its client is gone, and after a client's disconnect no event of it may come; what it asked \
     for has to be done in another way, and `plugnode dead drop` forgets it";
const FOREIGN: &str = "it is no event that this version knows: retry it by the version of plugnode that wrote it, see \
     what it is by `plugnode dead show`, or forget it by `plugnode dead drop`";

fn list(letters: &[DeadLetter], json: bool, out: &mut dyn Write) -> Result<bool> {
    if json {
        let letters: Vec<_> = letters.iter().map(letter::summary).collect();
        writeln!(out, "{:#}", serde_json::Value::from(letters))?;
    } else if letters.is_empty() {
        writeln!(out, "there are no dead letters")?;
    } else {
        write!(out, "{}", letter::table(letters))?;
    }
    Ok(true)
}

async fn letters(cluster: &dyn DeadLetters, most: usize) -> Result<Vec<DeadLetter>> {
    cluster.dead_letters(most).await.context("cannot read the dead letters")
}

/// The ids that are meant: as they were typed, or of all that there are.
async fn ids(which: &Which, cluster: &dyn DeadLetters, out: &mut dyn Write) -> Result<Vec<EventId>> {
    if !which.all {
        return Ok(which.ids.clone());
    }
    let letters = letters(cluster, ALL).await?;
    if letters.is_empty() {
        writeln!(out, "there are no dead letters")?;
    }
    Ok(letters.iter().map(|letter| letter.id).collect())
}
