//! Commands against a cluster whose Redis is full, down, a replica or read-only, and commands that check a configuration.

use std::fs;
use std::time::{Duration, Instant};

use plugnode_tests::{
    Client, Cluster, CommandOutput, Flaw, KEY_VALUE, Node, Redis, RedisServer, app, component, rebuilt, repository,
    run_to_end, temp_folder, verb,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest run time of a command, whatever the state of Redis.
const SECONDS: Duration = Duration::from_secs(12);

/// A cluster with one app, and a folder with the configuration for commands.
struct Setup {
    redis: RedisServer,
    io_node: Node,
    _app_node: Node,
    folder: TempDir,
}

impl Setup {
    async fn new(redis: Redis) -> Self {
        let redis = redis.start().await;
        let cluster = Cluster::new(redis.url()).transport(DEAD_LETTER_LIMITS);
        let cluster = cluster.app("/", &component("faulty"), KEY_VALUE);
        let io_node = cluster.start_io().await;
        let app_node = cluster.start_app().await;
        let setup = Self {
            redis,
            io_node,
            _app_node: app_node,
            folder: temp_folder(),
        };
        setup.configure(&setup.redis.url());
        let next = rebuilt(&component("faulty"), 1);
        fs::write(setup.folder.path().join("next.wasm"), next).expect("the file can be written");
        setup
    }

    fn configure(&self, url: &str) {
        let config = format!("[transport]\nurl = {url:?}\n");
        fs::write(self.folder.path().join("plugnode.toml"), config).expect("the file can be written");
    }

    /// Creates a dead letter and `copies` copies of it.
    async fn create_dead_letters(&self, copies: usize) {
        let mut client = Client::connect(&self.io_node).await;
        client.ask("panic", &[json!(1)]).await;
        self.redis.until(&["XLEN", "{plugnode:0}:dead"], "1").await;
        let copy = "local letter = redis.call('XRANGE', KEYS[1], '-', '+')[1][2] \
                    for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', unpack(letter)) end";
        let command = ["EVAL", copy, "1", "{plugnode:0}:dead", &copies.to_string()];
        self.redis.command(&command).await;
    }

    async fn verb(&self, line: &str) -> CommandOutput {
        let begun = Instant::now();
        let args: Vec<_> = line.split(' ').collect();
        let said = verb(&args, self.folder.path()).await;
        assert!(begun.elapsed() < SECONDS, "{line} took {:?}: {said:?}", begun.elapsed());
        said
    }

    async fn assert_reads(&self) {
        for line in ["status", "status --json", "releases", "dead list", "dead list --json"] {
            let said = self.verb(line).await;
            assert!(said.status.success(), "{line}: {said:?}");
        }
        assert_eq!(self.verb("dead list --json").await.json()[0]["event"], "panic");
    }

    /// Asserts that these commands fail in time with all these words.
    async fn assert_refuses(&self, lines: &[&str], words: &[&str]) {
        for line in lines {
            let said = self.verb(line).await;
            assert!(!said.status.success(), "{line}: {said:?}");
            for word in words {
                assert!(said.err.contains(word), "{line} should say {word:?}: {said:?}");
            }
        }
    }
}

const CHANGES: [&str; 2] = ["deploy next.wasm", "rollback 1"];
/// Limits for many copies of a letter: all are of one client, whose share is a tenth.
const DEAD_LETTER_LIMITS: &str = "dead-letters = 200000\ndead-letters-bytes = \"1GB\"";

#[tokio::test]
async fn verbs_explain_a_full_redis() {
    let setup = Setup::new(Redis::new().setting("maxmemory-policy noeviction")).await;
    setup.create_dead_letters(20).await;
    setup.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    setup.assert_reads().await;
    setup
        .assert_refuses(&["deploy next.wasm"], &["is full", "maxmemory"])
        .await;
    // Dropping dead letters frees memory.
    let said = setup.verb("dead drop --all").await;
    assert!(said.status.success() && said.out.lines().count() == 21, "{said:?}");
    setup.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    // Not within the time limit of `Setup::verb`: it compiles.
    let said = verb(&["deploy", "next.wasm", "--json"], setup.folder.path()).await;
    assert_eq!(said.json()["outcome"], "not-tried", "{said:?}");
    setup.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    setup.assert_refuses(&["rollback 1"], &["is full", "maxmemory"]).await;
}

#[tokio::test]
async fn verbs_explain_an_unreachable_redis() {
    let mut setup = Setup::new(Redis::new()).await;
    let reading = ["status", "releases", "dead list", "dead drop --all"];
    setup.redis.pause();
    setup
        .assert_refuses(&[&reading[..2], &CHANGES[..1]].concat(), &[&setup.redis.address()])
        .await;
    setup.redis.resume();
    setup.redis.kill().await;
    let address = setup.redis.address();
    setup
        .assert_refuses(&[&reading[..], &CHANGES[..]].concat(), &[&address, "cannot be reached"])
        .await;
}

#[tokio::test]
async fn reading_verbs_need_only_read_permission() {
    let viewer = "%R~{plugnode:* +@read +@connection";
    let everything = "~* &* +@all";
    let redis = Redis::new()
        .user("plugnode", "secret", everything)
        .user("viewer", "look", viewer);
    let redis = redis.start().await;
    let cluster = Cluster::new(redis.url_for("plugnode", "secret")).transport(DEAD_LETTER_LIMITS);
    let cluster = cluster.app("/", &component("faulty"), KEY_VALUE);
    let io_node = cluster.start_io().await;
    let app_node = cluster.start_app().await;
    let setup = Setup {
        io_node,
        _app_node: app_node,
        folder: temp_folder(),
        redis,
    };
    fs::write(setup.folder.path().join("next.wasm"), rebuilt(&component("faulty"), 1))
        .expect("the file can be written");
    setup.configure(&setup.redis.url_for("viewer", "look"));
    setup.create_dead_letters(1).await;
    setup.assert_reads().await;
    let id = setup.verb("dead list --json").await.json()[0]["id"].clone();
    let id = id.as_str().expect("an id is text");
    assert!(setup.verb(&format!("dead show {id}")).await.status.success());
    let drop = format!("dead drop {id}");
    setup
        .assert_refuses(&["deploy next.wasm", "dead drop --all", &drop], &["denies its user"])
        .await;
}

#[tokio::test]
async fn reading_verbs_work_on_replica() {
    let setup = Setup::new(Redis::new()).await;
    setup.create_dead_letters(1).await;
    let replica = RedisServer::start().await;
    replica.replica_of(&setup.redis).await;
    setup.configure(&replica.url());
    setup.assert_reads().await;
    setup
        .assert_refuses(&["deploy next.wasm", "dead drop --all"], &["is a replica", "master"])
        .await;
}

#[tokio::test]
async fn drops_ten_thousand_dead_letters() {
    let setup = Setup::new(Redis::new()).await;
    setup.create_dead_letters(10_023).await;
    let said = setup.verb("dead drop --reason nothing-of-the-kind").await;
    assert!(
        said.status.success() && said.out == "no dead letter matches\n",
        "{said:?}"
    );
    let begun = Instant::now();
    let said = setup.verb("dead drop --all --app /").await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(
        said.out.lines().filter(|line| line.ends_with(": dropped")).count(),
        10_024
    );
    println!("10,024 letters were dropped in {:?}", begun.elapsed());
    assert_eq!(setup.redis.command(&["XLEN", "{plugnode:0}:dead"]).await, "0");
    assert_eq!(setup.verb("dead list").await.out, "there are no dead letters\n");
}

/// The ACL lines of docs/redis.md.
fn documented_users() -> Vec<Vec<String>> {
    let docs = fs::read_to_string(repository().join("docs/redis.md")).expect("the file exists");
    let lines = docs.lines().filter(|line| line.starts_with("ACL SETUSER "));
    lines.map(|line| line.split(' ').map(str::to_owned).collect()).collect()
}

#[tokio::test]
async fn documented_acl_users_suffice() {
    let users = documented_users();
    let [old, new, viewer] = &users[..] else {
        panic!("{users:?}")
    };
    let valkey = Redis::valkey().aof("always").start();
    let (redis, valkey) = tokio::join!(Redis::new().aof("always").start(), valkey);
    for (server, user, lines) in [
        (&redis, old, "wait-replicas = 0"),
        (&valkey, old, "wait-replicas = 0"),
        (&valkey, new, "wait-aof = true"),
    ] {
        server.command(&["ACL", "DELUSER", "plugnode", "viewer"]).await;
        for line in [user, viewer] {
            let line: Vec<_> = line.iter().map(String::as_str).collect();
            server.command(&line).await;
        }
        let cluster = Cluster::new(server.url_for("plugnode", "PASSWORD")).transport(lines);
        let cluster = cluster.app("/", &component("echo"), "");
        let (io_node, app_node) = tokio::join!(cluster.start_io(), cluster.start_app());
        let mut client = Client::connect(&io_node).await;
        client.ask("n", &[json!(1)]).await;
        let folder = temp_folder();
        let config = format!("[transport]\nurl = {:?}\n", server.url_for("viewer", "PASSWORD"));
        fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
        let said = verb(&["status"], folder.path()).await;
        assert!(said.status.success(), "{said:?}");
        assert!(!app_node.log().contains("denies"), "{}", app_node.log());
    }
}

#[tokio::test]
async fn check_starts_component_and_reads_config() {
    let folder = temp_folder();
    let write =
        |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).expect("the file can be written");
    let recorder = fs::read(component("recorder")).expect("the component was built");
    write("broken.wasm", &Flaw::Start.of(recorder.clone()));
    write("good.wasm", &recorder);
    let config = |file: &str, grants: &str| format!("[[app]]\ncomponent = {file:?}\n{grants}\n");
    let granted = KEY_VALUE;
    write("good.toml", config("good.wasm", granted).as_bytes());
    write("broken.toml", config("broken.wasm", granted).as_bytes());
    write("poor.toml", config("good.wasm", "").as_bytes());
    write("wrong.toml", config("good.wasm", "instance = 3").as_bytes());
    for (args, runs, words) in [
        ("broken.wasm --grant-keyvalue default", false, "does not start"),
        ("good.wasm --grant-keyvalue default", true, "ok"),
        ("-c good.toml", true, "good.wasm: ok"),
        ("-c broken.toml", false, "does not start"),
        ("broken.wasm -c good.toml", false, "does not start"),
        ("good.wasm -c broken.toml", true, "good.wasm: ok"),
        ("-c poor.toml", false, "is not granted"),
        ("-c wrong.toml", false, "instance"),
        ("-c missing.toml", false, "missing.toml"),
        ("-c good.toml --app /other", false, "/other"),
    ] {
        let args: Vec<_> = ["check"].into_iter().chain(args.split(' ')).collect();
        let (status, said) = run_to_end(&args, folder.path()).await;
        assert_eq!(status.success(), runs, "{args:?}: {said}");
        assert!(said.contains(words), "{args:?} should say {words:?}: {said}");
    }
}

#[tokio::test]
async fn two_roles_share_one_config_file() {
    let redis = RedisServer::start().await;
    let port = plugnode_tests::free_port();
    let listen = format!("127.0.0.1:{port}");
    let config = format!(
        "[transport]\nurl = {:?}\n{}",
        redis.url(),
        app("/", &component("echo"), "")
    );
    let folder = temp_folder();
    let file = folder.path().join("plugnode.toml");
    fs::write(&file, config).expect("the file can be written");
    let start = async |role: &str| {
        let variables = [("PLUGNODE_ROLES", role), ("PLUGNODE_HTTP__LISTEN", &listen)];
        Node::configured(&file, &variables).await
    };
    let app_node = start("app-node").await;
    let io_node = start("io-node").await;
    assert_eq!((app_node.port(), io_node.port()), (0, port));
    let mut client = Client::connect(&io_node).await;
    client.ask("n", &[json!(1)]).await;
}

#[tokio::test]
async fn releases_record_author_and_message() {
    let setup = Setup::new(Redis::new()).await;
    let mut deploy = vec!["deploy", "next.wasm", "--message", "mends the echo of large events"];
    let said = verb(&deploy, setup.folder.path()).await;
    assert!(said.status.success(), "{said:?}");
    let releases = setup.verb("releases --json").await.json();
    assert_eq!(releases[0]["message"], "mends the echo of large events");
    let (user, host) = (releases[0]["user"].as_str(), releases[0]["host"].as_str());
    let who = format!("{}@{}", user.expect("it is known"), host.expect("it is known"));
    assert_eq!(releases[1]["message"], json!(null));
    for line in ["releases", "status"] {
        let said = setup.verb(line).await;
        assert!(
            said.out.contains(&who) && said.out.contains("mends the echo"),
            "{said:?}"
        );
    }
    let status = setup.verb("status --json").await.json();
    assert_eq!(
        status["apps"][0]["release"]["message"],
        "mends the echo of large events"
    );
    let said = verb(&["rollback", "-m", "it was no good"], setup.folder.path()).await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(
        setup.verb("releases --json").await.json()[0]["message"],
        "it was no good"
    );
    let long = "x".repeat(501);
    deploy[3] = &long;
    assert!(!verb(&deploy, setup.folder.path()).await.status.success());
}

/// A process with these lines in its configuration and this `lame-duck-ms`.
pub(crate) async fn node(settings: &str, lame_duck_ms: &str) -> (Node, TempDir) {
    let folder = temp_folder();
    let file = folder.path().join("plugnode.toml");
    let app = app("/", &component("faulty"), KEY_VALUE);
    fs::write(&file, format!("{settings}\n{app}")).expect("the file can be written");
    let node = Node::configured(&file, &[("PLUGNODE_SHUTDOWN__LAME_DUCK_MS", lame_duck_ms)]).await;
    (node, folder)
}

/// The status line of the answer to a GET on a new connection.
pub(crate) async fn status(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn config_check_finds_unusable_keys() {
    let folder = temp_folder();
    let write = |settings: &str| {
        let app = app("/", &component("echo"), "");
        fs::write(folder.path().join("plugnode.toml"), format!("{settings}\n{app}")).expect("the file can be written");
    };
    for (settings, part) in [
        (
            "[http]\ntls-cert = \"plugnode.toml\"\ntls-key = \"plugnode.toml\"",
            "tls-cert",
        ),
        ("[io-node.token]\npublic-key = \"plugnode.toml\"", "[io-node.token]"),
        ("[io-node.token]\njwks = \"plugnode.toml\"", "[io-node.token]"),
    ] {
        write(settings);
        let said = verb(&["config", "check"], folder.path()).await;
        assert!(!said.status.success() && said.err.contains(part), "{said:?}");
    }
    write("");
    let said = verb(&["config", "check"], folder.path()).await;
    assert!(said.status.success() && said.out.contains("can be used"), "{said:?}");
}
