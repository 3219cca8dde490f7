//! Checks before the first use of Redis: is it reachable, usable, and well configured? Errors refuse the start, and warnings
//! go to the log; both name the remedy.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{FromRedisValue, Value};

use crate::client::connection::Connection;
use crate::client::fault::{FaultKind, RedisFault};
use crate::client::script::Script;
use crate::client::server::Server;
use crate::client::url::Topology;
use crate::error::unusable;
use crate::settings::RedisSettings;
use plugnode_process::jittered;
use plugnode_transport::{Result, TransportError};

/// Time that a node waits for a Redis that is still starting.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// Time that a command of the CLI waits for a Redis that is still starting.
const GREET_DEADLINE: Duration = Duration::from_secs(3);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(300);
/// Interval of the log lines while waiting.
const LOG_INTERVAL: Duration = Duration::from_secs(3);
/// Response timeout.
const ANSWER: Duration = Duration::from_secs(2);

/// The smallest set of ACL categories and commands that plugnode needs.
const RIGHTS: &str = "+@connection +@hash +@set +@sortedset +@stream +@string +del +exists +expire +eval +evalsha +time +info \
    +role +cluster|slots +cluster|nodes +config|get";

static PROBE: Script = Script::new("probe", include_str!("probe.lua"));

/// Reason why Redis cannot be used.
enum StartupFailure {
    /// A fault that may pass.
    Fault(RedisFault),
    /// An unsuitable server or configuration.
    Unfit(String),
}

/// Fields of a server's `INFO`.
type ServerInfo = HashMap<String, String>;

/// Checks for the CLI that Redis is reachable and of the right kind. Needs few rights and gives no advice.
///
/// # Errors
/// If it is not. The text names the remedy.
pub(crate) async fn greet(server: &Server) -> Result<()> {
    let begun = Instant::now();
    loop {
        let fault = match greet_once(server).await {
            Ok(()) => return Ok(()),
            Err(StartupFailure::Unfit(problem)) => return Err(unusable(problem)),
            Err(StartupFailure::Fault(fault)) => fault,
        };
        let may_pass = matches!(
            fault.kind,
            FaultKind::Cluster | FaultKind::Sentinel | FaultKind::Loading | FaultKind::Busy
        );
        if !may_pass || begun.elapsed() > GREET_DEADLINE {
            let words = fault.describe(&server.to_string());
            return Err(match fault.kind {
                FaultKind::Unreachable => TransportError::Unreachable(words),
                _ => unusable(words),
            });
        }
        tokio::time::sleep(jittered(PAUSE)).await;
    }
}

async fn greet_once(server: &Server) -> std::result::Result<(), StartupFailure> {
    look_at_mode(server).await?;
    server.connect(ANSWER).await?;
    Ok(())
}

/// Checks for a node that Redis is reachable and usable, and logs advice about its configuration.
///
/// # Errors
/// If it cannot be used. The text names the remedy.
pub(crate) async fn examine(server: &Server, settings: &RedisSettings) -> Result<()> {
    let begun = Instant::now();
    let mut logged: Option<Instant> = None;
    loop {
        let fault = match look(server, settings).await {
            Ok(()) => return Ok(()),
            Err(StartupFailure::Unfit(problem)) => return Err(unusable(problem)),
            Err(StartupFailure::Fault(fault)) => fault,
        };
        let words = fault.describe(&server.to_string());
        if fault.kind == FaultKind::Rights {
            return Err(unusable(format!("{words}; it needs {}", rights(settings))));
        }
        if !may_pass(fault.kind) || begun.elapsed() > START_DEADLINE {
            return Err(unusable(words));
        }
        if logged.is_none_or(|logged| logged.elapsed() >= LOG_INTERVAL) {
            let left = START_DEADLINE.saturating_sub(begun.elapsed()).as_secs();
            tracing::warn!("{words}; trying again for up to {left} s");
            logged = Some(Instant::now());
        }
        tokio::time::sleep(jittered(PAUSE)).await;
    }
}

fn may_pass(kind: FaultKind) -> bool {
    matches!(
        kind,
        FaultKind::Unreachable
            | FaultKind::Silent
            | FaultKind::Loading
            | FaultKind::Crowded
            | FaultKind::Busy
            | FaultKind::Cluster
            | FaultKind::Sentinel
            | FaultKind::NoScript
    )
}

fn rights(settings: &RedisSettings) -> String {
    let prefix = &settings.prefix;
    let wait = if settings.wait_replicas > 0 || settings.wait_aof {
        " +wait"
    } else {
        ""
    };
    // Only if needed: Redis 7.0 refuses an ACL line with it.
    let wait_aof = if settings.wait_aof { " +waitaof" } else { "" };
    format!("at least: ACL SETUSER NAME '~{{{prefix}:*' {RIGHTS}{wait}{wait_aof}")
}

async fn look(server: &Server, settings: &RedisSettings) -> std::result::Result<(), StartupFailure> {
    look_at_mode(server).await?;
    let mut connection = server.connect(ANSWER).await?;
    let servers = info_of_masters(server, &mut connection).await?;
    for (name, info) in &servers {
        fits(name, info, settings)?;
    }
    probe(server, &mut connection, settings).await?;
    // Advice comes last, so that it is logged once.
    if servers.is_empty() {
        tracing::warn!(
            "Redis at {server} denies its user the command INFO: its version and settings are not checked; grant +info"
        );
    }
    for (name, info) in &servers {
        advise(name, info, settings);
        advise_on_disk(name, info, &mut connection).await;
    }
    if server.is_cluster() && settings.shards == 1 {
        tracing::info!("[transport] shards = 1 uses one node of the Cluster; write more to use more");
    }
    Ok(())
}

/// Checks that the server is of the kind that the URL says. Asks one node without the Cluster client, which would fail on a
/// server of another kind.
async fn look_at_mode(server: &Server) -> std::result::Result<(), StartupFailure> {
    let mut connection = match &server.location().topology {
        Topology::Cluster(hosts) => {
            let mut found = Err(RedisFault::new(FaultKind::Unreachable, "no host is named"));
            for host in hosts {
                found = server
                    .dialer()
                    .connect_node(&server.dialer().address(host), ANSWER)
                    .await;
                if found.is_ok() {
                    break;
                }
            }
            Connection::Node(found?)
        }
        _ => server.connect(ANSWER).await?,
    };
    let info = match connection.ask(&redis::cmd("INFO")).await {
        Ok(answer) => parse_info(&answer),
        Err(error) if RedisFault::of(&error).kind == FaultKind::Rights => ServerInfo::new(),
        Err(error) => return Err(RedisFault::of(&error).into()),
    };
    let problem = match (info.get("redis_mode").map(String::as_str), server.is_cluster()) {
        (Some("cluster"), false) => "is a node of a Cluster: write redis+cluster://HOST:PORT,HOST:PORT in",
        (Some("standalone"), true) => "is not a Cluster: write redis:// instead of redis+cluster:// in",
        (Some("sentinel"), _) => "is a Sentinel: write redis+sentinel://HOST:PORT,HOST:PORT/MASTER in",
        _ => return Ok(()),
    };
    Err(StartupFailure::Unfit(format!(
        "Redis at {server} {problem} [transport] url"
    )))
}

/// `INFO` of all masters, by their names; empty if the user may not ask for it.
async fn info_of_masters(
    server: &Server,
    connection: &mut Connection,
) -> std::result::Result<Vec<(String, ServerInfo)>, RedisFault> {
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
            .map(|(name, answer)| (name, parse_info(&answer)))
            .collect()),
        Err(error) => match RedisFault::of(&error) {
            fault if fault.kind == FaultKind::Rights => Ok(Vec::new()),
            fault => Err(fault),
        },
    }
}

/// Parses the `name:value` lines of `INFO`.
fn parse_info(answer: &Value) -> ServerInfo {
    let text = match answer {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes),
        Value::VerbatimString { text, .. } => text.as_str().into(),
        Value::SimpleString(text) => text.as_str().into(),
        _ => return ServerInfo::new(),
    };
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.into(), value.trim().into())).collect()
}

/// Checks version, role and persistence of a server.
fn fits(name: &str, info: &ServerInfo, settings: &RedisSettings) -> std::result::Result<(), StartupFailure> {
    let unfit = |problem: String| Err(StartupFailure::Unfit(format!("Redis at {name} {problem}")));
    let field = |name: &str| info.get(name).map(String::as_str).unwrap_or_default();
    let is_valkey = info.contains_key("valkey_version");
    let version = field("redis_version");
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    let numbers = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if !version.is_empty() && !is_valkey && numbers < (7, 0) {
        return unfit(format!(
            "has version {version}, and plugnode needs 7.0 or newer, or Valkey"
        ));
    }
    if field("role") == "slave" {
        let master = format!("{}:{}", field("master_host"), field("master_port"));
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
    if settings.wait_aof && field("aof_enabled") == "0" {
        return unfit(
            "keeps no append-only file, which [transport] wait-aof waits for: CONFIG SET appendonly yes".into(),
        );
    }
    Ok(())
}

/// Warns about settings that lose data or delay changes.
fn advise(name: &str, info: &ServerInfo, settings: &RedisSettings) {
    if let Some(policy) = info.get("maxmemory_policy").filter(|policy| *policy != "noeviction") {
        tracing::warn!(
            "Redis at {name} has the maxmemory-policy {policy}: when its memory is full it deletes accepted events and \
             data; with CONFIG SET maxmemory-policy noeviction, clients are slowed down instead"
        );
    }
    let replicas = info
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

/// Logs what a restart of Redis would lose. Managed services often forbid `CONFIG`.
async fn advise_on_disk(name: &str, info: &ServerInfo, connection: &mut Connection) {
    if info.get("aof_enabled").is_none_or(|enabled| enabled != "0") {
        return;
    }
    let mut question = redis::cmd("CONFIG");
    question.arg("GET").arg("save");
    let answer = connection.ask(&question).await.ok();
    let save = answer.and_then(|answer| HashMap::<String, String>::from_redis_value(answer).ok());
    let lost = match save.as_ref().and_then(|save| save.get("save")) {
        Some(save) if save.is_empty() => "keeps nothing on disk: a restart loses all events that are not handled",
        Some(_) => "keeps snapshots only: a restart loses the events accepted since the last one",
        None => "keeps no append-only file: a restart loses the latest events",
    };
    tracing::warn!("Redis at {name} {lost}, and all sessions begin anew; CONFIG SET appendonly yes keeps them");
}

/// Runs every needed command once, on a key that is deleted again.
async fn probe(
    server: &Server,
    connection: &mut Connection,
    settings: &RedisSettings,
) -> std::result::Result<(), StartupFailure> {
    let key = format!("{{{}:0}}:probe", settings.prefix).into();
    let answer = connection.ask(&PROBE.by_code(&[key], &[])).await;
    let fault = match answer.map(Vec::<String>::from_redis_value) {
        Ok(Ok(denied)) if denied.is_empty() => return Ok(()),
        Ok(Ok(denied)) => RedisFault::new(FaultKind::Rights, denied.join(", ")),
        Ok(Err(error)) => RedisFault::new(FaultKind::Unexpected, error.to_string()),
        Err(error) => RedisFault::of(&error),
    };
    if matches!(fault.kind, FaultKind::Full | FaultKind::Disk | FaultKind::Lonely) {
        // Not fatal: links wait until it is over.
        tracing::warn!(
            "{}: until then no events are accepted",
            fault.describe(&server.to_string())
        );
        return Ok(());
    }
    Err(fault.into())
}

impl From<RedisFault> for StartupFailure {
    fn from(fault: RedisFault) -> Self {
        Self::Fault(fault)
    }
}

#[cfg(test)]
mod tests;
