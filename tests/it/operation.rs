//! What an operator does with a cluster whose Redis is full, away, a replica, or gives no more than the right to read.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use plugnode_tests::{
    Client, Cluster, CommandOutput, Flaw, Node, Redis, RedisServer, app, component, rebuilt, repository, run_to_end,
    verb, within,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a verb may take, whatever Redis does.
const SECONDS: Duration = Duration::from_secs(12);

/// A cluster with one app, and a folder with the configuration that verbs read.
struct Setup {
    redis: RedisServer,
    io_node: Node,
    _app_node: Node,
    folder: TempDir,
}

impl Setup {
    async fn new(redis: Redis) -> Self {
        let redis = redis.start().await;
        let cluster = Cluster::new(redis.url()).transport(ROOM);
        let cluster = cluster.app("/", &component("faulty"), "grants = { keyvalue = [\"default\"] }");
        let io_node = cluster.start_io().await;
        let app_node = cluster.start_app().await;
        let setup = Self {
            redis,
            io_node,
            _app_node: app_node,
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
        };
        setup.configure(&setup.redis.url());
        let next = rebuilt(&component("faulty"), 1);
        fs::write(setup.folder.path().join("next.wasm"), next).expect("it can be written");
        setup
    }

    fn configure(&self, url: &str) {
        let config = format!("[transport]\nurl = {url:?}\n");
        fs::write(self.folder.path().join("plugnode.toml"), config).expect("it can be written");
    }

    /// Puts an event aside, and so many copies of its letter.
    async fn kill(&self, copies: usize) {
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

    async fn reads(&self) {
        for line in ["status", "status --json", "releases", "dead list", "dead list --json"] {
            let said = self.verb(line).await;
            assert!(said.status.success(), "{line}: {said:?}");
        }
        assert_eq!(self.verb("dead list --json").await.json()[0]["event"], "panic");
    }

    /// These are refused in time, with what is wrong and what to do.
    async fn refuses(&self, lines: &[&str], words: &[&str]) {
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
/// All copies of a letter are of one client, whose share is a tenth.
const ROOM: &str = "dead-letters = 200000\ndead-letters-bytes = \"1GB\"";

#[tokio::test]
async fn verbs_explain_a_full_redis() {
    let setup = Setup::new(Redis::new().setting("maxmemory-policy noeviction")).await;
    setup.kill(20).await;
    setup.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    setup.reads().await;
    setup.refuses(&["deploy next.wasm"], &["is full", "maxmemory"]).await;
    // It makes room.
    let said = setup.verb("dead drop --all").await;
    assert!(said.status.success() && said.out.lines().count() == 21, "{said:?}");
    setup.redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    // It compiles, for as long as that takes.
    let said = verb(&["deploy", "next.wasm", "--json"], setup.folder.path()).await;
    assert_eq!(said.json()["outcome"], "not-tried", "{said:?}");
    setup.redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    setup.refuses(&["rollback 1"], &["is full", "maxmemory"]).await;
}

#[tokio::test]
async fn verbs_explain_an_unreachable_redis() {
    let mut setup = Setup::new(Redis::new()).await;
    let reading = ["status", "releases", "dead list", "dead drop --all"];
    setup.redis.pause();
    setup
        .refuses(&[&reading[..2], &CHANGES[..1]].concat(), &[&setup.redis.address()])
        .await;
    setup.redis.resume();
    setup.redis.kill().await;
    let address = setup.redis.address();
    setup
        .refuses(&[&reading[..], &CHANGES[..]].concat(), &[&address, "cannot be reached"])
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
    let cluster = Cluster::new(redis.url_for("plugnode", "secret")).transport(ROOM);
    let cluster = cluster.app("/", &component("faulty"), "grants = { keyvalue = [\"default\"] }");
    let io_node = cluster.start_io().await;
    let app_node = cluster.start_app().await;
    let setup = Setup {
        io_node,
        _app_node: app_node,
        folder: tempfile::tempdir().expect("a temporary folder can be made"),
        redis,
    };
    fs::write(setup.folder.path().join("next.wasm"), rebuilt(&component("faulty"), 1)).expect("it can be written");
    setup.configure(&setup.redis.url_for("viewer", "look"));
    setup.kill(1).await;
    setup.reads().await;
    let id = setup.verb("dead list --json").await.json()[0]["id"].clone();
    let id = id.as_str().expect("an id is text");
    assert!(setup.verb(&format!("dead show {id}")).await.status.success());
    let drop = format!("dead drop {id}");
    setup
        .refuses(&["deploy next.wasm", "dead drop --all", &drop], &["denies its user"])
        .await;
}

#[tokio::test]
async fn reading_verbs_work_on_replica() {
    let setup = Setup::new(Redis::new()).await;
    setup.kill(1).await;
    let replica = RedisServer::start().await;
    replica.replica_of(&setup.redis).await;
    setup.configure(&replica.url());
    setup.reads().await;
    setup
        .refuses(&["deploy next.wasm", "dead drop --all"], &["is a replica", "master"])
        .await;
}

#[tokio::test]
async fn drops_ten_thousand_dead_letters() {
    let setup = Setup::new(Redis::new()).await;
    setup.kill(10_023).await;
    let said = setup.verb("dead drop --reason nothing-of-the-kind").await;
    assert!(
        said.status.success() && said.out == "there are no such dead letters\n",
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

/// The lines of the documentation that make a user.
fn documented_users() -> Vec<Vec<String>> {
    let docs = fs::read_to_string(repository().join("docs/redis.md")).expect("it is there");
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
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let config = format!("[transport]\nurl = {:?}\n", server.url_for("viewer", "PASSWORD"));
        fs::write(folder.path().join("plugnode.toml"), config).expect("it can be written");
        let said = verb(&["status"], folder.path()).await;
        assert!(said.status.success(), "{said:?}");
        assert!(!app_node.log().contains("denies"), "{}", app_node.log());
    }
}

#[tokio::test]
async fn check_starts_component_and_reads_config() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let write = |name: &str, content: &[u8]| fs::write(folder.path().join(name), content).expect("it can be written");
    let recorder = fs::read(component("recorder")).expect("it was built");
    write("broken.wasm", &Flaw::Start.of(recorder.clone()));
    write("good.wasm", &recorder);
    let config = |file: &str, grants: &str| format!("[[app]]\ncomponent = {file:?}\n{grants}\n");
    let granted = "grants = { keyvalue = [\"default\"] }";
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
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("plugnode.toml");
    fs::write(&file, config).expect("it can be written");
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

/// A process with these lines in its configuration, and a lame duck of so many milliseconds.
async fn node(settings: &str, lame_duck_ms: &str) -> (Node, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("plugnode.toml");
    let app = app("/", &component("faulty"), "grants = { keyvalue = [\"default\"] }");
    fs::write(&file, format!("{settings}\n{app}")).expect("it can be written");
    let node = Node::configured(&file, &[("PLUGNODE_SHUTDOWN__LAME_DUCK_MS", lame_duck_ms)]).await;
    (node, folder)
}

/// The status of an answer on a connection of its own, or why there is none.
async fn status(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = vec![0; 4_096];
    let length = stream.read(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// The io-nodes that a frontend names.
async fn listed(node: &Node) -> Vec<Value> {
    let answer = node.get("/config.json").await;
    let (_, json) = answer.split_once("\r\n\r\n").expect("it has a body");
    serde_json::from_str(json).expect("it is JSON")
}

/// The same, once it names some.
async fn listed_at_last(node: &Node) -> Vec<Value> {
    let named = async {
        loop {
            let listed = listed(node).await;
            if !listed.is_empty() {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("io-nodes are listed", named).await
}

#[tokio::test]
async fn shutdown_refuses_no_load_balanced_connection() {
    let (mut node, _folder) = node("", "2500").await;
    let mut client = Client::connect(&node).await;
    let port = node.port();
    let balance = async {
        let (mut requests, mut is_ready) = (0, true);
        // As a load balancer does: looks again and again, and sends no more once it is told.
        for look in 0.. {
            if look % 10 == 0 {
                let ready = status(port, "/readyz").await.expect("health checks are answered");
                is_ready = ready.contains(" 200 ");
            }
            if !is_ready {
                return requests;
            }
            let answer = status(port, "/socket.io/?EIO=4&transport=polling").await;
            let answer = answer.expect("while it was ready a moment ago, it takes connections");
            assert!(answer.contains(" 200 "), "{answer}");
            requests += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        requests
    };
    let terminate = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.terminate();
    };
    let (requests, ()) = tokio::join!(within("it hears of the end", balance), terminate);
    assert!(requests > 10, "{requests}");
    let unlisted = async {
        while !listed(&node).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let unlisted = tokio::time::timeout(Duration::from_secs(2), unlisted).await;
    unlisted.expect("nobody is sent there any more");
    client.ask("where", &[]).await;
    let late = Client::connect(&node).await;
    drop(late);
    let answer = node.get("/healthz").await.to_lowercase();
    assert!(
        answer.contains("200 ok") && answer.contains("connection: close"),
        "{answer}"
    );
    assert!(node.ended().await.success(), "{}", node.log());
}

#[tokio::test]
async fn app_node_skips_lame_duck_period() {
    let redis = RedisServer::start().await;
    let cluster = Cluster::new(redis.url()).app("/", &component("echo"), "");
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("plugnode.toml");
    fs::write(&file, cluster.config("app-node")).expect("it can be written");
    let mut app_node = Node::configured(&file, &[("PLUGNODE_SHUTDOWN__LAME_DUCK_MS", "20000")]).await;
    app_node.terminate();
    let begun = Instant::now();
    assert!(app_node.ended().await.success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn shutdown_answers_events_already_read() {
    for over_redis in [false, true] {
        let redis = RedisServer::start().await;
        let settings = "[io-node]\ndrain-ms = 200";
        let cluster = Cluster::new(redis.url()).app("/", &component("faulty"), "grants = { keyvalue = [\"default\"] }");
        let (node, _app_node, _folder) = match over_redis {
            false => {
                let (node, folder) = node(settings, "0").await;
                (node, None, Some(folder))
            }
            true => {
                let cluster = cluster.settings(settings);
                (cluster.start_io().await, Some(cluster.start_app().await), None)
            }
        };
        let mut clients = Vec::new();
        for _ in 0..25 {
            clients.push(Client::connect(&node).await);
        }
        let asking = clients
            .iter_mut()
            .map(async |client| client.ask("slow", &[json!(50)]).await);
        let terminate = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            node.terminate();
        };
        // Each is asserted to be answered.
        let (answers, ()) = tokio::join!(join_all(asking), terminate);
        assert_eq!(answers.len(), 25);
        let mut node = node;
        assert!(node.ended().await.success(), "{}", node.log());
    }
}

/// One request on a connection of its own, and the body of its answer.
async fn polled(port: u16, method: &str, query: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let length = body.len();
    let request = format!(
        "{method} /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(body.to_owned())
}

#[tokio::test]
async fn polling_client_gets_every_answer_before_shutdown() {
    let (mut node, _folder) = node("[io-node]\ndrain-ms = 200", "300").await;
    let port = node.port();
    let opened = polled(port, "GET", "", "").await.expect("it listens");
    let opened: Value = serde_json::from_str(&opened[1..]).expect("it is an open packet");
    let sid = format!("&sid={}", opened["sid"].as_str().expect("it is text"));
    polled(port, "POST", &sid, "40").await.expect("it listens");
    polled(port, "GET", &sid, "").await.expect("it listens");
    node.terminate();
    let events: Vec<String> = (1..=4).map(|number| format!("42{number}[\"slow\",300]")).collect();
    polled(port, "POST", &sid, &events.join("\u{1e}"))
        .await
        .expect("it listens");
    let mut heard = String::new();
    // By a new connection each.
    while (1..=4).any(|number| !heard.contains(&format!("43{number}["))) {
        heard += &polled(port, "GET", &sid, "")
            .await
            .expect("it listens until all is answered");
    }
    let late = status(port, "/socket.io/?EIO=4&transport=polling").await;
    assert!(
        late.is_err() || late.is_ok_and(|status| status.contains("503")),
        "it takes no new sessions"
    );
    assert!(node.ended().await.success(), "{}", node.log());
}

#[tokio::test]
async fn config_check_finds_unusable_keys() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let write = |settings: &str| {
        let app = app("/", &component("echo"), "");
        fs::write(folder.path().join("plugnode.toml"), format!("{settings}\n{app}")).expect("it can be written");
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

#[tokio::test]
async fn shuts_down_promptly_while_redis_is_away() {
    let mut redis = RedisServer::start().await;
    let cluster = Cluster::new(redis.url()).app("/", &component("faulty"), "grants = { keyvalue = [\"default\"] }");
    let (mut io_node, mut app_node) = (cluster.start_io().await, cluster.start_app().await);
    let mut client = Client::connect(&io_node).await;
    client.ask("where", &[]).await;
    redis.kill().await;
    client.emit("where", &[]).await;
    let begun = Instant::now();
    io_node.terminate();
    app_node.terminate();
    tokio::join!(io_node.ended(), app_node.ended());
    println!("both ended after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

/// The address that a handler is told of a client that connects with these headers, behind these bytes.
async fn address_behind(node: &Node, first: &[u8], headers: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", node.port()))
        .await
        .expect("it listens");
    let opening = format!("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    stream.write_all(&[first, opening.as_bytes()].concat()).await.ok()?;
    let mut answer = vec![0; 4_096];
    let length = within("it answers", stream.read(&mut answer)).await.ok()?;
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    let sid = answer.split("\"sid\":\"").nth(1)?.split('"').next()?.to_owned();
    // The next requests come by the same proxy, and the session keeps what it was opened with.
    let post = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 2\r\n\r\n40"
    );
    stream.write_all(post.as_bytes()).await.ok()?;
    let line = node.logged(&format!("session=\"{sid}\"")).await;
    let address = line.split("address=\"").nth(1)?;
    Some(address.split('"').next()?.to_owned())
}

#[tokio::test]
async fn trusted_proxy_headers_set_client_address() {
    let trusting = "[http]\ntrusted-proxies = [\"127.0.0.0/8\", \"10.0.0.1\"]\n[log]\nlevel = \"debug\"\n\
                    [io-node]\nmax-clients-per-address = 1";
    let (node, _folder) = node(trusting, "0").await;
    let x_forwarded_for = "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 10.0.0.1\r\n";
    assert_eq!(
        address_behind(&node, b"", x_forwarded_for).await.as_deref(),
        Some("203.0.113.7")
    );
    assert_eq!(
        address_behind(&node, b"", x_forwarded_for).await,
        None,
        "the limit is of that address"
    );
    let forwarded = "Forwarded: for=6.6.6.6, for=\"203.0.113.8:4711\";proto=https\r\n";
    assert_eq!(
        address_behind(&node, b"", forwarded).await.as_deref(),
        Some("203.0.113.8:4711")
    );
}

#[tokio::test]
async fn untrusted_proxy_headers_are_ignored() {
    let (node, _folder) = node("[log]\nlevel = \"debug\"", "0").await;
    let address = address_behind(&node, b"", "X-Forwarded-For: 203.0.113.7\r\n").await;
    assert!(address.is_some_and(|address| address.starts_with("127.0.0.1:")));
}

#[tokio::test]
async fn proxy_protocol_sets_client_address() {
    let settings = "[http]\nproxy-protocol = true\ntrusted-proxies = [\"127.0.0.1\"]\n[log]\nlevel = \"debug\"";
    let (node, _folder) = node(settings, "0").await;
    let line = b"PROXY TCP4 203.0.113.7 127.0.0.1 4711 80\r\n";
    assert_eq!(
        address_behind(&node, line, "").await.as_deref(),
        Some("203.0.113.7:4711")
    );
    let version_2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x08\x7f\0\0\x01\x12\x67\0\x50";
    assert_eq!(
        address_behind(&node, version_2, "").await.as_deref(),
        Some("203.0.113.8:4711")
    );
    // Whoever is behind the proxy makes nothing up.
    let forged = "X-Forwarded-For: 6.6.6.6\r\n";
    assert_eq!(
        address_behind(&node, line, forged).await.as_deref(),
        Some("203.0.113.7:4711")
    );
    assert_eq!(
        address_behind(&node, b"", "").await,
        None,
        "a connection without a header is closed"
    );
    node.logged("do not begin as those of a proxy").await;
}

#[tokio::test]
async fn io_node_list_has_scheme_and_path() {
    let (plain, _folder) = node("[io-node]\npath = \"/rt\"", "0").await;
    let expected = json!({ "host": "127.0.0.1", "port": plain.port(), "scheme": "http", "path": "/rt" });
    assert_eq!(listed_at_last(&plain).await, [expected]);
    let (advertised, _folder) = node("[io-node]\nadvertise = \"https://chat.example/chat/socket.io\"", "0").await;
    let expected = json!({ "host": "chat.example", "port": 443, "scheme": "https", "path": "/chat/socket.io" });
    assert_eq!(listed_at_last(&advertised).await, [expected]);
}

const SECRETS: [&str; 2] = [
    "one that is long enough for HS256, really",
    "two that is long enough for HS256, really",
];

#[tokio::test]
async fn sighup_reloads_config_and_logs_changes() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let (file, secret) = (folder.path().join("plugnode.toml"), folder.path().join("secret"));
    let app = app("/", &component("echo"), "");
    let write = |settings: &str| {
        let token = format!("[io-node.token]\nsecret-file = {secret:?}\nrequired = false\n");
        fs::write(&file, format!("[io-node]\n{settings}\n{token}\n{app}")).expect("it can be written");
    };
    fs::write(&secret, SECRETS[0]).expect("it can be written");
    write("");
    let node = Node::configured(&file, &[]).await;
    let mut client = Client::connect(&node).await;
    node.send_sighup();
    node.logged("nothing has changed").await;
    fs::write(&secret, SECRETS[1]).expect("it can be written");
    write(
        "max-clients-per-address = 1\nping-interval-ms = 20000\n[log]\nlevel = \"debug\"\n[transport]\nlease-ms = 4000\n",
    );
    node.send_sighup();
    let line = node.logged("changed: ").await;
    for part in [
        "io-node.max-clients-per-address: null → 1",
        "log.level: \"info\" → \"debug\"",
        "the keys of tokens",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let line = node.logged("waiting for a restart").await;
    assert!(line.contains("io-node.ping-interval-ms, transport.lease-ms"), "{line}");
    let opened = async || {
        status(node.port(), "/socket.io/?EIO=4&transport=polling")
            .await
            .expect("it listens")
    };
    // The limit counts those that come from now on.
    assert!(opened().await.contains("200"));
    assert!(opened().await.contains("429"));
    let unknown = status(node.port(), "/socket.io/?EIO=4&transport=polling&sid=nobody").await;
    assert!(unknown.expect("it listens").contains("400"));
    node.logged("DEBUG").await;
    client.ask("n", &[]).await;

    // All or nothing: what is wrong with a key keeps the limit as it was, too.
    fs::write(&secret, "short").expect("it can be written");
    write("max-clients-per-address = 50");
    node.send_sighup();
    let line = node.logged("nothing of the configuration is read again").await;
    assert!(line.contains("ERROR") && line.contains("io-node.token"), "{line}");
    assert!(opened().await.contains("429"));

    write("max-clients-per-address = 0");
    node.send_sighup();
    let log = node.logged_times("nothing of the configuration is read again", 2).await;
    assert!(log.contains("max-clients-per-address"), "{log}");
    client.ask("n", &[]).await;
    let (_, log) = node.stop_with_log().await;
    assert!(!log.contains(SECRETS[0]) && !log.contains(SECRETS[1]), "{log}");
}

/// Makes a certificate of its own for localhost, with this serial number.
fn certificate(folder: &std::path::Path, serial: &str) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost -keyout new.key -out new.pem";
    let made = std::process::Command::new("openssl")
        .args(arguments.split(' '))
        .args(["-set_serial", serial])
        .current_dir(folder)
        .output();
    let made = made.expect("openssl can be started; run .ci/setup-tests openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for name in ["key", "pem"] {
        // Put in place as a whole.
        let new = folder.join(format!("new.{name}"));
        fs::rename(new, folder.join(format!("https.{name}"))).expect("it can be moved");
    }
}

/// The serial number of the certificate that is shown there.
async fn shown(port: u16) -> String {
    let line =
        format!("openssl s_client -connect 127.0.0.1:{port} </dev/null 2>/dev/null | openssl x509 -noout -serial");
    let shown = tokio::process::Command::new("sh").args(["-c", &line]).output();
    String::from_utf8_lossy(&shown.await.expect("there is a shell").stdout)
        .trim()
        .to_owned()
}

#[tokio::test]
async fn changed_certificate_is_reloaded() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    certificate(folder.path(), "17");
    let place = |name: &str| folder.path().join(name);
    let settings = format!(
        "[http]\ntls-cert = {:?}\ntls-key = {:?}\n",
        place("https.pem"),
        place("https.key")
    );
    let node = Node::begin(&(settings + &app("/", &component("echo"), "")));
    let line = node.logged("listening on https://").await;
    let port = line
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    let port = port.expect("the line has the port");
    assert_eq!(shown(port).await, "serial=11");
    certificate(folder.path(), "18");
    node.logged("the certificate was read again").await;
    assert_eq!(shown(port).await, "serial=12");
    // What cannot be used changes nothing.
    fs::write(place("https.pem"), "no certificate").expect("it can be written");
    node.send_sighup();
    node.logged("the certificate stays as it was").await;
    assert_eq!(shown(port).await, "serial=12");
}

#[tokio::test]
async fn json_log_lines_name_node_role_and_version() {
    let json = "[log]\nformat = \"json\"\n";
    let (node, _folder) = node(&format!("{json}[io-node]\nname = \"io-7\""), "0").await;
    for line in node.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(
            (&line["node"], &line["role"]),
            (&json!("io-7"), &json!("frontend,io-node,app-node")),
            "{line}"
        );
        assert!(
            line["version"].is_string() && line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("plugnode.toml");
    for (config, words) in [
        (
            format!(
                "{json}[http]\nlisten = \"127.0.0.1:{}\"\n{}",
                node.port(),
                app("/", &component("echo"), "")
            ),
            "something else does",
        ),
        (format!("{json}[http]\nlistne = 1\n"), "listne"),
    ] {
        fs::write(&file, config).expect("it can be written");
        let said = verb(&["run", "-c", "plugnode.toml"], folder.path()).await;
        assert!(!said.status.success());
        let last = said.err.lines().last().expect("it says why");
        let last: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!(last["level"], "ERROR", "{last}");
        assert!(
            last["message"].as_str().is_some_and(|message| message.contains(words)),
            "{last}"
        );
    }
}

#[tokio::test]
async fn metrics_report_gauges_and_latencies() {
    let settings = "[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"";
    let (node, _folder) = node(settings, "0").await;
    let line = node.logged("health and metrics on http://").await;
    let port = line
        .rsplit(':')
        .next()
        .and_then(|port| port.trim().parse().ok())
        .expect("it ends with the port");
    let mut client = Client::connect(&node).await;
    for _ in 0..5 {
        client.ask("where", &[]).await;
    }
    let metrics = node.get_at(port, "/metrics").await;
    let value = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    assert_eq!(value("plugnode_clients"), 1.0);
    assert_eq!(value("plugnode_acknowledgement_seconds_count"), 5.0);
    assert!(value("plugnode_handling_seconds_count") >= 6.0 && value("plugnode_ingest_seconds_count") >= 6.0);
    assert!(value("plugnode_acknowledgement_seconds_sum") < 10.0);
    assert!(value("plugnode_backlog") >= 0.0 && value("plugnode_events_in_hand") >= 0.0);

    for _ in 0..50 {
        let answer = status(node.port(), "/socket.io/?EIO=4&transport=polling&sid=nobody").await;
        assert!(answer.expect("it listens").contains("400"));
    }
    let logged = node
        .log()
        .lines()
        .filter(|line| line.contains("Session ID unknown"))
        .count();
    assert!((1..50).contains(&logged), "{logged}");
    let metrics = node.get_at(port, "/metrics").await;
    assert!(
        metrics.contains("plugnode_connections_refused_total{reason=\"session_unknown\"} 50\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn survivors_log_lost_node_and_its_share() {
    let redis = RedisServer::start().await;
    let cluster = Cluster::new(redis.url())
        .app("/", &component("echo"), "")
        .transport("lease-ms = 1000");
    let (io_1, mut io_2) = (cluster.start_io().await, cluster.start_io().await);
    let (app_1, mut app_2) = (cluster.start_app().await, cluster.start_app().await);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&io_2).await;
        client.ask("n", &[]).await;
        clients.push(client);
    }
    io_2.kill9().await;
    let told = async |node: &Node| {
        let line = node.logged("an io-node is gone").await;
        assert!(
            line.contains("WARN") && line.contains("io-2") && line.contains("clients=3"),
            "{line}"
        );
    };
    tokio::select! {
        () = told(&io_1) => {}
        () = told(&app_1) => {}
        () = told(&app_2) => {}
    }
    app_2.kill9().await;
    let line = app_1.logged("an app-node is gone").await;
    assert!(
        line.contains("WARN") && line.contains("app-2") && !line.contains("partitions=0"),
        "{line}"
    );
    // Each survivor finds it out by itself.
    io_1.logged("an app-node is gone").await;
    assert!(app_1.stop().await.success());
    let (_, log) = io_1.stop_with_log().await;
    assert_eq!(
        log.matches("an app-node is gone").count(),
        1,
        "who leaves is not told of: {log}"
    );
}

#[tokio::test]
async fn warns_of_world_readable_secret() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let secret = folder.path().join("token.secret");
    fs::write(&secret, SECRETS[0]).expect("it can be written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let (node, _folder) = node(&format!("[io-node.token]\nsecret-file = {secret:?}"), "0").await;
    let line = node.logged("secret-file").await;
    assert!(
        line.contains("WARN") && line.contains("0644") && line.contains("chmod"),
        "{line}"
    );
}
