//! `plugnode dead`: the events that were put aside. Lists and shows them, has them tried again, forgets them.

mod letter;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result};

use super::cluster::Cluster;
use super::progress::{during, say};
use super::words::{parse_span, parse_time};
use plugnode_message::{EventId, Namespace, now_ms};
use plugnode_transport::{DeadFilter, DeadLetter, DeadLetters, Revival, Sweep};

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
        /// Which.
        #[command(flatten)]
        filter: Filter,
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
#[group(id = "which", required = true, multiple = true, args = ["ids", "all", "app", "reason", "before"])]
pub struct Which {
    /// Their ids
    #[arg(value_name = "ID", conflicts_with_all = ["all", "app", "reason", "before"])]
    pub ids: Vec<EventId>,
    /// All that there are, or all that the other options name
    #[arg(long)]
    pub all: bool,
    /// Which of all.
    #[command(flatten)]
    pub filter: Filter,
}

/// What dead letters have in common.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Those of this app, or of this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// Those whose reason has this text in it
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Those that died before this time, such as 2026-11-05T09:30:00Z, or longer ago than this, such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub before: Option<u64>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.app.is_none() && self.reason.is_none() && self.before.is_none()
    }

    fn for_cluster(&self) -> DeadFilter {
        DeadFilter {
            ids: None,
            app: self.app.as_deref().map(Namespace::from),
            reason: self.reason.clone(),
            before_ms: self.before,
        }
    }
}

/// Does it. The exit code says whether all of it could be done.
pub fn dead(arguments: &Arguments) -> Result<ExitCode> {
    arguments.cluster.visit(async |cluster| {
        let all_done = run(&arguments.verb, &*cluster.dead_letters, &mut io::stdout()).await?;
        Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Does one verb, and says whether all of it could be done.
async fn run(verb: &Verb, cluster: &dyn DeadLetters, out: &mut dyn Write) -> Result<bool> {
    match verb {
        Verb::List { most, filter, json } => list(&letters(cluster, *most, filter).await?, *json, out),
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
        Verb::Retry(which) if which.ids.len() == 1 => {
            let id = which.ids[0];
            let revival = cluster.revive(id).await.with_context(|| format!("cannot retry {id}"))?;
            writeln!(out, "{id}: {}", words(Some(revival)))?;
            Ok(revival == Revival::Queued)
        }
        Verb::Drop(which) if which.ids.len() == 1 => {
            let id = which.ids[0];
            let was_there = cluster.bury(id).await.with_context(|| format!("cannot drop {id}"))?;
            writeln!(out, "{id}: {}", if was_there { words(None) } else { UNKNOWN })?;
            Ok(was_there)
        }
        Verb::Retry(which) => sweep(true, which, cluster, out).await,
        Verb::Drop(which) => sweep(false, which, cluster, out).await,
    }
}

/// Retries or drops many letters, page by page.
async fn sweep(retries: bool, which: &Which, cluster: &dyn DeadLetters, out: &mut dyn Write) -> Result<bool> {
    let mut filter = which.filter.for_cluster();
    filter.ids = (!which.ids.is_empty()).then(|| which.ids.iter().copied().collect());
    let sweep = Sweep { retries, filter };
    let (done, seen) = (Cell::new(0), Cell::new(0));
    let verb = if retries { "retry" } else { "drop" };
    let sweeping = async {
        let (mut all_done, mut place, mut open) = (true, None, sweep.filter.ids.clone());
        loop {
            let swept = cluster.sweep(&sweep, place.take()).await;
            let swept = swept.with_context(|| format!("cannot {verb} more than the first {}", done.get()))?;
            seen.set(seen.get() + swept.seen);
            for (id, revival) in swept.letters {
                all_done &= revival.is_none_or(|revival| revival == Revival::Queued);
                done.set(done.get() + 1);
                if let Some(open) = &mut open {
                    open.remove(&id);
                }
                writeln!(out, "{id}: {}", words(revival))?;
            }
            place = swept.next;
            if place.is_none() || open.as_ref().is_some_and(HashSet::is_empty) {
                break;
            }
        }
        for id in open.iter().flatten() {
            writeln!(out, "{id}: {UNKNOWN}")?;
        }
        let is_missed = open.is_some_and(|open| !open.is_empty());
        if done.get() == 0 && sweep.filter.ids.is_none() {
            writeln!(out, "{}", none(&which.filter))?;
        }
        Ok(all_done && !is_missed)
    };
    let progress = || format!("{verb}: {} letters of {} that were looked at", done.get(), seen.get());
    during(progress, say, sweeping).await
}

fn words(revival: Option<Revival>) -> &'static str {
    match revival {
        None => "dropped",
        Some(Revival::Queued) => "will be tried again, under a new id",
        Some(Revival::Unknown) => UNKNOWN,
        Some(Revival::ClientGone) => CLIENT_GONE,
        Some(Revival::Foreign) => FOREIGN,
    }
}

fn none(filter: &Filter) -> &'static str {
    match filter.is_empty() {
        true => "there are no dead letters",
        false => "there are no such dead letters",
    }
}

/// A time that is over: an instant in UTC, or a span before now.
fn parse_past(text: &str) -> Result<u64, String> {
    let past = parse_time(text).or_else(|| {
        let span = parse_span(text).ok()?;
        Some(now_ms().saturating_sub(u64::try_from(span.as_millis()).ok()?))
    });
    past.ok_or_else(|| "is no time such as 2026-11-05T09:30:00Z, and no age such as 2h or 7d".to_owned())
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

/// The latest that are meant.
async fn letters(cluster: &dyn DeadLetters, most: usize, filter: &Filter) -> Result<Vec<DeadLetter>> {
    let looked_at = if filter.is_empty() { most } else { ALL };
    let letters = cluster.dead_letters(looked_at).await;
    let mut letters = letters.context("cannot read the dead letters")?;
    let filter = filter.for_cluster();
    letters.retain(|letter| filter.takes(letter));
    let older = letters.len().saturating_sub(most);
    letters.drain(..older);
    Ok(letters)
}
