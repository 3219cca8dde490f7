//! What is looked at before Redis is used: whether it is there, whether it can be used at all, and whether it is set up
//! well. Each finding comes with what to do about it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{FromRedisValue, Value};

use super::RedisSettings;
use super::script::Script;
use super::server::{Connection, Server, unusable};
use super::trouble::{Kind, Trouble};
use super::url::Place;
use plugnode_transport::{Result, TransportError};

/// A Redis that is starting as well is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for somebody at a terminal.
const GREETING: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(300);
/// How often it is told that Redis is being waited for.
const PROGRESS: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(2);

/// The categories that hold what plugnode needs, as few as can be.
const RIGHTS: &str = "+@connection +@hash +@set +@sortedset +@stream +@string +del +exists +expire +eval +evalsha +time +info \
    +role +cluster|slots +cluster|nodes +config|get";

static PROBE: Script = Script::new("probe", include_str!("probe.lua"));

/// Why Redis cannot be used.
enum Refusal {
    /// For a while, or for good.
    Trouble(Trouble),
    /// As long as nobody changes something.
    Unfit(String),
}

/// What a server says of itself.
type Facts = HashMap<String, String>;

/// Looks whether Redis is there, for somebody at a terminal.
pub(super) async fn greet(server: &Server) -> Result<()> {
    let begun = Instant::now();
    loop {
        let trouble = match greet_once(server).await {
            Ok(()) => return Ok(()),
            Err(Refusal::Unfit(problem)) => return Err(unusable(problem)),
            Err(Refusal::Trouble(trouble)) => trouble,
        };
        let may_pass = matches!(
            trouble.kind,
            Kind::Cluster | Kind::Sentinel | Kind::Loading | Kind::Busy
        );
        if !may_pass || begun.elapsed() > GREETING {
            let words = trouble.words(&server.to_string());
            return Err(match trouble.kind {
                Kind::Unreachable => TransportError::Unreachable(words),
                _ => unusable(words),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn greet_once(server: &Server) -> std::result::Result<(), Refusal> {
    look_at_mode(server).await?;
    server.connect(ANSWER).await?;
    Ok(())
}

pub(super) async fn examine(server: &Server, settings: &RedisSettings) -> Result<()> {
    let begun = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        let trouble = match look(server, settings).await {
            Ok(()) => return Ok(()),
            Err(Refusal::Unfit(problem)) => return Err(unusable(problem)),
            Err(Refusal::Trouble(trouble)) => trouble,
        };
        let words = trouble.words(&server.to_string());
        if trouble.kind == Kind::Rights {
            return Err(unusable(format!("{words}; it needs {}", rights(settings))));
        }
        if !may_pass(trouble.kind) || begun.elapsed() > PATIENCE {
            return Err(unusable(words));
        }
        if told.is_none_or(|told| told.elapsed() >= PROGRESS) {
            let left = PATIENCE.saturating_sub(begun.elapsed()).as_secs();
            tracing::info!("{words}; trying again for {left} s");
            told = Some(Instant::now());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn may_pass(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Unreachable
            | Kind::Silent
            | Kind::Loading
            | Kind::Crowded
            | Kind::Busy
            | Kind::Cluster
            | Kind::Sentinel
            | Kind::NoScript
    )
}

fn rights(settings: &RedisSettings) -> String {
    let prefix = &settings.prefix;
    let wait = if settings.wait_replicas > 0 || settings.wait_aof {
        " +wait"
    } else {
        ""
    };
    // Redis 7.0 refuses a line that has it.
    let wait_aof = if settings.wait_aof { " +waitaof" } else { "" };
    format!("at least: ACL SETUSER NAME '~{{{prefix}:*' {RIGHTS}{wait}{wait_aof}")
}

async fn look(server: &Server, settings: &RedisSettings) -> std::result::Result<(), Refusal> {
    look_at_mode(server).await?;
    let mut connection = server.connect(ANSWER).await?;
    let servers = facts_of_all(server, &mut connection).await?;
    for (name, facts) in &servers {
        fits(name, facts, settings)?;
    }
    probe(server, &mut connection, settings).await?;
    // Advice comes last, or it would be given with every attempt.
    if servers.is_empty() {
        tracing::warn!("Redis at {server} does not let its user ask for INFO: whether it is set up well is not known");
    }
    for (name, facts) in &servers {
        advise(name, facts, settings);
        advise_on_disk(name, facts, &mut connection).await;
    }
    if server.is_cluster() && settings.shards == 1 {
        tracing::info!("[transport] shards = 1 uses one node of the Cluster; write more to use more");
    }
    Ok(())
}

/// Whether it is a Cluster, or not, as the URL says. Asked of one node: a client for Clusters would fail at another.
async fn look_at_mode(server: &Server) -> std::result::Result<(), Refusal> {
    let mut connection = match &server.location().place {
        Place::Cluster(hosts) => {
            let mut found = Err(Trouble::new(Kind::Unreachable, "no host is named"));
            for host in hosts {
                found = server.connect_node(&server.address(host), ANSWER).await;
                if found.is_ok() {
                    break;
                }
            }
            Connection::Node(found?)
        }
        _ => server.connect(ANSWER).await?,
    };
    let facts = match connection.ask(&redis::cmd("INFO")).await {
        Ok(answer) => facts(&answer),
        Err(error) if Trouble::of(&error).kind == Kind::Rights => Facts::new(),
        Err(error) => return Err(Trouble::of(&error).into()),
    };
    let problem = match (facts.get("redis_mode").map(String::as_str), server.is_cluster()) {
        (Some("cluster"), false) => "is a node of a Cluster: write redis+cluster://HOST:PORT,HOST:PORT in",
        (Some("standalone"), true) => "is no Cluster: write redis:// for redis+cluster:// in",
        (Some("sentinel"), _) => "is a Sentinel: write redis+sentinel://HOST:PORT,HOST:PORT/MASTER in",
        _ => return Ok(()),
    };
    Err(Refusal::Unfit(format!("Redis at {server} {problem} [transport] url")))
}

/// What all masters say of themselves, by their names; nothing where nobody may ask.
async fn facts_of_all(
    server: &Server,
    connection: &mut Connection,
) -> std::result::Result<Vec<(String, Facts)>, Trouble> {
    let question = redis::cmd("INFO");
    let answer = match connection {
        Connection::Node(_) => connection
            .ask(&question)
            .await
            .map(|answer| vec![(server.to_string(), answer)]),
        Connection::Cluster(cluster, _) => {
            let everywhere = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
            let answers = cluster.route_command(question, everywhere).await;
            answers.and_then(|answers| Ok(Vec::<(String, Value)>::from_redis_value(answers)?))
        }
    };
    match answer {
        Ok(answers) => Ok(answers
            .into_iter()
            .map(|(name, answer)| (name, facts(&answer)))
            .collect()),
        Err(error) => match Trouble::of(&error) {
            trouble if trouble.kind == Kind::Rights => Ok(Vec::new()),
            trouble => Err(trouble),
        },
    }
}

/// `name:value` lines.
fn facts(answer: &Value) -> Facts {
    let text = match answer {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes),
        Value::VerbatimString { text, .. } => text.as_str().into(),
        Value::SimpleString(text) => text.as_str().into(),
        _ => return Facts::new(),
    };
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.into(), value.trim().into())).collect()
}

/// Whether a server can be used at all.
fn fits(name: &str, facts: &Facts, settings: &RedisSettings) -> std::result::Result<(), Refusal> {
    let unfit = |problem: String| Err(Refusal::Unfit(format!("Redis at {name} {problem}")));
    let fact = |name: &str| facts.get(name).map(String::as_str).unwrap_or_default();
    let is_valkey = facts.contains_key("valkey_version");
    let version = fact("redis_version");
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let numbers = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if !version.is_empty() && !is_valkey && numbers < (7, 0) {
        return unfit(format!(
            "has version {version}, and plugnode needs 7.0 or newer, or Valkey"
        ));
    }
    if fact("role") == "slave" {
        let master = format!("{}:{}", fact("master_host"), fact("master_port"));
        return unfit(format!(
            "is a replica of {master}, which takes no writes: write its master, or redis+sentinel://, in [transport] url"
        ));
    }
    if settings.wait_aof && !version.is_empty() && !is_valkey && numbers < (7, 2) {
        return unfit(format!(
            "has version {version}, and [transport] wait-aof needs 7.2 or newer, or Valkey; without it, \
             `CONFIG SET appendfsync always` there does the same"
        ));
    }
    if settings.wait_aof && fact("aof_enabled") == "0" {
        return unfit(
            "keeps no append-only file, which [transport] wait-aof waits for: CONFIG SET appendonly yes".into(),
        );
    }
    Ok(())
}

/// Whether it is set up so that it keeps what it was given.
fn advise(name: &str, facts: &Facts, settings: &RedisSettings) {
    if let Some(policy) = facts.get("maxmemory_policy").filter(|policy| *policy != "noeviction") {
        tracing::warn!(
            "Redis at {name} has the maxmemory-policy {policy}: when its memory is full it throws away what clients were \
             promised; with CONFIG SET maxmemory-policy noeviction, clients are slowed down instead"
        );
    }
    let replicas = facts
        .get("connected_slaves")
        .and_then(|number| number.parse::<u32>().ok());
    if let Some(replicas) = replicas.filter(|replicas| *replicas < settings.wait_replicas) {
        tracing::warn!(
            "Redis at {name} has {replicas} replicas, and [transport] wait-replicas = {} waits for more: every change \
             waits until they are there",
            settings.wait_replicas
        );
    }
}

/// Tells what a restart of Redis would lose. `CONFIG` is often forbidden where somebody else runs it.
async fn advise_on_disk(name: &str, facts: &Facts, connection: &mut Connection) {
    if facts.get("aof_enabled").is_none_or(|enabled| enabled != "0") {
        return;
    }
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg("save");
    let answer = connection.ask(&question).await.ok();
    let save = answer.and_then(|answer| HashMap::<String, String>::from_redis_value(answer).ok());
    let lost = match save.as_ref().and_then(|save| save.get("save")) {
        Some(save) if save.is_empty() => "keeps nothing on disk: a restart loses all that was accepted and not handled",
        Some(_) => "keeps snapshots only: a restart loses what was accepted since the last",
        None => "keeps no append-only file: a restart loses what was accepted of late",
    };
    tracing::info!("Redis at {name} {lost}, and all sessions begin anew; CONFIG SET appendonly yes keeps them");
}

/// Runs every command once, where that changes nothing.
async fn probe(
    server: &Server,
    connection: &mut Connection,
    settings: &RedisSettings,
) -> std::result::Result<(), Refusal> {
    let key = format!("{{{}:0}}:probe", settings.prefix).into();
    let answer = connection.ask(&PROBE.by_code(&[key], &[])).await;
    let trouble = match answer.map(Vec::<String>::from_redis_value) {
        Ok(Ok(denied)) if denied.is_empty() => return Ok(()),
        Ok(Ok(denied)) => Trouble::new(Kind::Rights, denied.join(", ")),
        Ok(Err(error)) => Trouble::new(Kind::Unexpected, error.to_string()),
        Err(error) => Trouble::of(&error),
    };
    if matches!(trouble.kind, Kind::Full | Kind::Disk | Kind::Lonely) {
        // The links will wait for it, and say so, when there is something to do.
        tracing::warn!("{}: until then nothing is taken in", trouble.words(&server.to_string()));
        return Ok(());
    }
    Err(trouble.into())
}

impl From<Trouble> for Refusal {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

#[cfg(test)]
mod tests;
