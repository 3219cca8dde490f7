//! `plugnode dead`: lists, shows, retries and drops dead letters, the events that no attempt could handle.

mod letter;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use super::cluster::ClusterArgs;
use super::format::{json_page, parse_span, parse_time};
use super::rollout;
use super::terminal::{during, say};
use plugnode_message::{EventId, Namespace, now_ms};
use plugnode_transport::{DeadFilter, DeadLetter, DeadLetters, Operations, RetryResult, Sweep};

/// More letters than any transport keeps.
const ALL: usize = 1_000_000;

/// Arguments of `plugnode dead`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A dead letter is an event that its handler rejected, or that failed in every attempt ([app-node] attempts), kept with the error report.

Examples:
  plugnode dead list --app /chat --before 2h
  plugnode dead show 002a-0000000001f4
  plugnode dead retry --reason timeout
  plugnode dead drop --all --port 8080              those of the plugnode dev at http://localhost:8080")]
pub struct DeadArgs {
    /// The cluster.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// What to do.
    #[command(subcommand)]
    pub verb: DeadVerb,
}

/// Subcommands of `plugnode dead`.
#[derive(Debug, clap::Subcommand)]
pub enum DeadVerb {
    /// List dead letters, oldest first
    List {
        /// Number of letters, the latest ones
        #[arg(long, value_name = "N", default_value_t = 100)]
        most: usize,
        /// The filter.
        #[command(flatten)]
        filter: Filter,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one dead letter: the event, its arguments, and the error report
    Show {
        /// Id of the letter
        #[arg(value_name = "ID")]
        id: EventId,
        /// Print a JSON object, with attachments as base64
        #[arg(long)]
        json: bool,
    },
    /// Retry dead letters, each after the events that its client has sent since
    Retry(Selection),
    /// Delete dead letters
    Drop(Selection),
}

/// Selects dead letters.
#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = true, args = ["ids", "all", "app", "reason", "before"])]
pub struct Selection {
    /// Ids of letters
    #[arg(value_name = "ID", conflicts_with_all = ["all", "app", "reason", "before"])]
    pub ids: Vec<EventId>,
    /// All letters, or all that match the other options
    #[arg(long)]
    pub all: bool,
    /// The filter.
    #[command(flatten)]
    pub filter: Filter,
}

impl DeadVerb {
    /// The app whose letters are meant.
    fn app(&self) -> Option<&str> {
        match self {
            Self::List { filter, .. } => filter.app.as_deref(),
            Self::Retry(which) | Self::Drop(which) => which.filter.app.as_deref(),
            Self::Show { .. } => None,
        }
    }
}

/// Properties of dead letters.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Filter {
    /// Letters of this app, or of this namespace
    #[arg(long, value_name = "NAMESPACE")]
    pub app: Option<String>,
    /// Letters whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Letters from before this time, such as 2026-11-05T09:30:00Z, or older than this, such as 2h or 7d
    #[arg(long, value_name = "TIME", value_parser = parse_past)]
    pub before: Option<u64>,
}

impl Filter {
    fn is_empty(&self) -> bool {
        self.app.is_none() && self.reason.is_none() && self.before.is_none()
    }

    fn for_transport(&self) -> DeadFilter {
        DeadFilter {
            ids: None,
            app: self.app.as_deref().map(Namespace::from),
            reason: self.reason.clone(),
            before_ms: self.before,
        }
    }
}

/// Runs the subcommand. The exit code is success if it succeeded for all letters.
pub(super) fn dead(args: &DeadArgs) -> Result<ExitCode> {
    args.cluster.run(async |cluster| {
        if let Some(app) = args.verb.app() {
            check_app(app, cluster).await?;
        }
        let all_done = run(&args.verb, &*cluster.dead_letters, &mut io::stdout()).await?;
        Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    })
}

/// Refuses an app that the cluster does not have. One that it had, and that has letters still, is accepted.
async fn check_app(app: &str, cluster: &Operations) -> Result<()> {
    let (_, board) = rollout::board(cluster).await?;
    if rollout::has_app(cluster, &board, app).await? {
        return Ok(());
    }
    let of_app = Filter {
        app: Some(app.into()),
        ..Filter::default()
    };
    if letters(&*cluster.dead_letters, 1, &of_app).await?.is_empty() {
        bail!("{}", rollout::unknown(&app.into(), &board));
    }
    Ok(())
}

/// Runs a subcommand. Returns whether it succeeded for all letters.
async fn run(verb: &DeadVerb, cluster: &dyn DeadLetters, out: &mut dyn Write) -> Result<bool> {
    match verb {
        DeadVerb::List { most, filter, json } => list(&letters(cluster, *most, filter).await?, filter, *json, out),
        DeadVerb::Show { id, json } => {
            let found = cluster.dead_letter(*id).await;
            let Some(letter) = &found.with_context(|| format!("cannot read {id}"))? else {
                writeln!(out, "{id}: {UNKNOWN}")?;
                return Ok(false);
            };
            match json {
                true => writeln!(out, "{}", json_page(&letter::in_json(letter)))?,
                false => write!(out, "{}", letter::in_words(letter))?,
            }
            Ok(true)
        }
        DeadVerb::Retry(which) if which.ids.len() == 1 => {
            let id = which.ids[0];
            let result = cluster.retry(id).await.with_context(|| format!("cannot retry {id}"))?;
            writeln!(out, "{id}: {}", result_in_words(Some(result)))?;
            Ok(result == RetryResult::Queued)
        }
        DeadVerb::Drop(which) if which.ids.len() == 1 => {
            let id = which.ids[0];
            let was_there = cluster.delete(id).await.with_context(|| format!("cannot drop {id}"))?;
            writeln!(out, "{id}: {}", if was_there { result_in_words(None) } else { UNKNOWN })?;
            Ok(was_there)
        }
        DeadVerb::Retry(which) => sweep(true, which, cluster, out).await,
        DeadVerb::Drop(which) => sweep(false, which, cluster, out).await,
    }
}

/// Retries or drops many letters, a page at a time.
async fn sweep(retries: bool, which: &Selection, cluster: &dyn DeadLetters, out: &mut dyn Write) -> Result<bool> {
    let mut filter = which.filter.for_transport();
    filter.ids = (!which.ids.is_empty()).then(|| which.ids.iter().copied().collect());
    let sweep = Sweep { retries, filter };
    let (done, seen) = (Cell::new(0), Cell::new(0));
    let verb = if retries { "retry" } else { "drop" };
    let sweeping = async {
        let (mut all_done, mut cursor, mut missing) = (true, None, sweep.filter.ids.clone());
        loop {
            let swept = cluster.sweep(&sweep, cursor.take()).await;
            let swept = swept.with_context(|| format!("cannot {verb} more than the first {} letters", done.get()))?;
            seen.set(seen.get() + swept.seen);
            for (id, result) in swept.letters {
                all_done &= result.is_none_or(|result| result == RetryResult::Queued);
                done.set(done.get() + 1);
                if let Some(missing) = &mut missing {
                    missing.remove(&id);
                }
                writeln!(out, "{id}: {}", result_in_words(result))?;
            }
            cursor = swept.next;
            if cursor.is_none() || missing.as_ref().is_some_and(HashSet::is_empty) {
                break;
            }
        }
        for id in missing.iter().flatten() {
            writeln!(out, "{id}: {UNKNOWN}")?;
        }
        let any_missing = missing.is_some_and(|missing| !missing.is_empty());
        if done.get() == 0 && sweep.filter.ids.is_none() {
            writeln!(out, "{}", none(&which.filter))?;
        }
        Ok(all_done && !any_missing)
    };
    let progress = || format!("{verb}: {} letters of {} examined", done.get(), seen.get());
    during(progress, say, sweeping).await
}

/// Result for one letter: of a drop if there is no result.
fn result_in_words(result: Option<RetryResult>) -> &'static str {
    match result {
        None => "dropped",
        Some(RetryResult::Queued) => "will be retried, with a new id",
        Some(RetryResult::Unknown) => UNKNOWN,
        Some(RetryResult::ClientGone) => CLIENT_GONE,
        Some(RetryResult::Foreign) => FOREIGN,
    }
}

/// Message for an empty list.
fn none(filter: &Filter) -> &'static str {
    match filter.is_empty() {
        true => "there are no dead letters",
        false => "no dead letter matches",
    }
}

/// Parses a time in UTC, or an age.
fn parse_past(text: &str) -> Result<u64, String> {
    let past = parse_time(text).or_else(|| {
        let span = parse_span(text).ok()?;
        Some(now_ms().saturating_sub(u64::try_from(span.as_millis()).ok()?))
    });
    past.ok_or_else(|| "is neither a time such as 2026-11-05T09:30:00Z nor an age such as 2h or 7d".to_owned())
}

const UNKNOWN: &str =
    "there is no such dead letter: it was retried, dropped, or pushed out by newer ones; see `plugnode dead list`";
const CLIENT_GONE: &str = "its client is gone, and no event may follow a client's disconnect: do what it asked for in another \
     way, then delete it by `plugnode dead drop`";
const FOREIGN: &str = "this version does not know its kind of event: retry it with the version of plugnode that wrote it, look at it \
     by `plugnode dead show`, or delete it by `plugnode dead drop`";

fn list(letters: &[DeadLetter], filter: &Filter, json: bool, out: &mut dyn Write) -> Result<bool> {
    if json {
        let letters: Vec<_> = letters.iter().map(letter::summary).collect();
        writeln!(out, "{}", json_page(&serde_json::Value::from(letters)))?;
    } else if letters.is_empty() {
        writeln!(out, "{}", none(filter))?;
    } else {
        write!(out, "{}", letter::table(letters))?;
    }
    Ok(true)
}

/// Reads the latest letters that match.
async fn letters(cluster: &dyn DeadLetters, most: usize, filter: &Filter) -> Result<Vec<DeadLetter>> {
    let limit = if filter.is_empty() { most } else { ALL };
    let letters = cluster.dead_letters(limit).await;
    let mut letters = letters.context("cannot read the dead letters")?;
    let filter = filter.for_transport();
    letters.retain(|letter| filter.takes(letter));
    let older = letters.len().saturating_sub(most);
    letters.drain(..older);
    Ok(letters)
}
