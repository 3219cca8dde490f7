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
use crate::transport::Result;

/// A Redis that is starting as well is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(300);
/// How often it is told that Redis is being waited for.
const PROGRESS: Duration = Duration::from_secs(3);
const ANSWER: Duration = Duration::from_secs(2);

/// The categories that hold what plugnode needs, as few as can be.
const RIGHTS: &str = "+@connection +@hash +@set +@sortedset +@stream +del +exists +expire +eval +evalsha +time +info \
    +role +cluster|slots +cluster|nodes +config|get";

static PROBE: Script = Script::new("probe", include_str!("scripts/probe.lua"));

/// Why Redis cannot be used.
enum Refusal {
    /// For a while, or for good.
    Trouble(Trouble),
    /// As long as nobody changes something.
    Unfit(String),
}

/// What a server says of itself.
type Facts = HashMap<String, String>;

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
    format!("at least: ACL SETUSER NAME '~{{{prefix}:*' {RIGHTS}")
}

async fn look(server: &Server, settings: &RedisSettings) -> std::result::Result<(), Refusal> {
    look_at_mode(server).await?;
    let mut connection = server.connect(ANSWER).await?;
    for (name, facts) in facts_of_all(server, &mut connection).await? {
        fits(&name, &facts, settings)?;
        advise(&name, &facts, settings);
        advise_on_disk(&name, &facts, &mut connection).await;
    }
    if server.is_cluster() && settings.shards == 1 {
        tracing::info!("[transport] shards = 1 uses one node of the Cluster; write more to use more");
    }
    probe(server, &mut connection, settings).await
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
        Connection::Cluster(cluster) => {
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
            trouble if trouble.kind == Kind::Rights => {
                tracing::warn!(
                    "{}: plugnode cannot see whether it is set up well",
                    trouble.words(&server.to_string())
                );
                Ok(Vec::new())
            }
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
mod tests {
    use super::super::TlsFiles;
    use super::super::testing::TestServer;
    use super::*;
    use crate::transport::TransportError;

    fn settings(url: &str) -> RedisSettings {
        RedisSettings {
            url: url.into(),
            tls: TlsFiles::default(),
            prefix: "test".into(),
            partitions: 4,
            shards: 1,
            backlog: 100,
            client_backlog: 10,
            outbox: 100,
            dead_letters: 100,
            lease: Duration::from_secs(1),
            wait_replicas: 0,
            wait_aof: false,
        }
    }

    async fn examined(settings: &RedisSettings) -> std::result::Result<(), String> {
        let server = match Server::new(&settings.url, &settings.tls) {
            Ok(server) => server,
            Err(error) => return Err(error.to_string()),
        };
        assert!(!format!("{server:?} {server}").contains("secret"));
        match server.examine(settings).await {
            Ok(()) => Ok(()),
            Err(TransportError::Unusable(problem)) => Err(problem),
            Err(TransportError::Fenced) => panic!("nobody has joined"),
        }
    }

    async fn refused(url: &str, expected: &str) {
        let problem = examined(&settings(url)).await.expect_err(url);
        assert!(problem.contains(expected), "{problem}\nshould say\n{expected}");
        assert!(!problem.contains("secret"), "{problem}");
    }

    /// The URL of a server with a login.
    fn with_login(server: &TestServer, login: &str) -> String {
        server.url().replace(":///", &format!("://{login}@/"))
    }

    #[tokio::test]
    async fn a_server_as_it_comes_is_fit() {
        let server = TestServer::start().await;
        examined(&settings(&server.url())).await.unwrap();
        let all = server.ask(&["KEYS", "*"]).await.unwrap();
        assert_eq!(all, Value::Array(Vec::new()), "looking leaves nothing behind");
        let database = format!("{}?db=3", server.url());
        examined(&settings(&database)).await.unwrap();
        refused(&format!("{}?db=99", server.url()), "has no such database").await;
    }

    #[tokio::test]
    async fn passwords_and_users_let_in_or_are_refused_with_words() {
        let server = TestServer::start_with(&["--requirepass", "secret%"]).await;
        examined(&settings(&with_login(&server, ":secret%25"))).await.unwrap();
        refused(&server.url(), "refuses the login (NOAUTH").await;
        refused(&with_login(&server, ":secret"), "refuses the login (WRONGPASS").await;
        let open = TestServer::start().await;
        refused(&with_login(&open, ":secret"), "without any password configured").await;

        let allow = async |rules: &[&str]| {
            let all = [&["ACL", "SETUSER", "me", "reset", "on", ">secret"], rules].concat();
            server.ask(&all).await.unwrap();
        };
        let url = with_login(&server, "me:secret");
        let needed = RIGHTS.split(' ').collect::<Vec<_>>();
        allow(&[&["~{test:*"], &needed[..]].concat()).await;
        examined(&settings(&url))
            .await
            .unwrap_or_else(|problem| panic!("with {RIGHTS}: {problem}"));
        allow(&["~{test:*", "+@all", "-config", "-info"]).await;
        examined(&settings(&url)).await.unwrap();
        allow(&["~{test:*", "+@all", "-xdel", "-hset"]).await;
        refused(
            &url,
            "(HSET, XDEL); give the user of [transport] url the right; it needs at least: ACL SETUSER",
        )
        .await;
        allow(&["~other:*", "+@all"]).await;
        refused(&url, "~{test:*").await;
        allow(&["~*", "+@all", "-eval"]).await;
        refused(&url, "'eval' command").await;
    }

    #[tokio::test]
    async fn what_cannot_be_used_is_told_with_a_remedy() {
        let master = TestServer::start().await;
        let replica = TestServer::start().await;
        replica.ask(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
        refused(&replica.url(), "is a replica of 127.0.0.1:1").await;
        let mut waits = settings(&master.url());
        waits.wait_aof = true;
        let problem = examined(&waits).await.unwrap_err();
        assert!(
            problem.contains("7.2 or newer") || problem.contains("CONFIG SET appendonly yes"),
            "{problem}"
        );

        let port = super::super::testing::free_port().to_string();
        let node = TestServer::start_with(&["--cluster-enabled", "yes", "--port", &port]).await;
        refused(&node.url(), "is a node of a Cluster: write redis+cluster://").await;
        let plain = super::super::testing::free_port().to_string();
        let _plain = TestServer::start_with(&["--port", &plain]).await;
        refused(
            &format!("redis+cluster://127.0.0.1:{plain}"),
            "is no Cluster: write redis://",
        )
        .await;
    }

    #[tokio::test]
    async fn an_old_server_is_refused_and_valkey_is_not() {
        let url = settings("redis://h");
        let facts = |pairs: &[(&str, &str)]| -> Facts {
            pairs
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect()
        };
        let old = facts(&[("redis_version", "6.2.14")]);
        let Err(Refusal::Unfit(problem)) = fits("h", &old, &url) else {
            panic!("6.2 is too old");
        };
        assert!(
            problem.contains("has version 6.2.14, and plugnode needs 7.0 or newer"),
            "{problem}"
        );
        let waits = RedisSettings { wait_aof: true, ..url };
        let valkey = facts(&[
            ("redis_version", "7.2.4"),
            ("valkey_version", "8.0.1"),
            ("aof_enabled", "1"),
        ]);
        assert!(fits("h", &valkey, &waits).is_ok());
        assert!(fits("h", &Facts::new(), &waits).is_ok());
    }

    #[tokio::test]
    async fn a_server_that_starts_late_is_waited_for_and_one_that_does_not_is_told() {
        let mut server = TestServer::start().await;
        server.kill();
        let url = server.url();
        let examining = tokio::spawn(async move { examined(&settings(&url)).await });
        tokio::time::sleep(Duration::from_millis(400)).await;
        server.restart().await;
        examining.await.unwrap().unwrap();
    }
}
