//! The commands `deploy`, `rollback`, `releases` and `status`, against processes that serve clients meanwhile.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use plugnode_tests::{
    Client, Cluster, CommandOutput, Flaw, Node, RedisServer, RunningCommand, app, component, rebuilt, temp_folder,
    verb, within,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const KEY_VALUE: &str = "instances = 2\ngrants = { keyvalue = [\"default\"] }";
/// An empty core module.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// An io-node and app-nodes over Redis, and a folder with the configuration for commands.
struct Setup {
    _redis: RedisServer,
    cluster: Cluster,
    io_node: Node,
    app_nodes: Vec<Node>,
    folder: TempDir,
}

impl Setup {
    /// Runs this component in namespace `/` on `app_nodes` app-nodes.
    async fn new(first: &Path, app_nodes: usize) -> Self {
        let redis = RedisServer::start().await;
        let cluster = Cluster::new(redis.url()).app("/", first, KEY_VALUE);
        let io_node = cluster.start_io().await;
        let mut running = Vec::new();
        for _ in 0..app_nodes {
            running.push(cluster.start_app().await);
        }
        let folder = temp_folder();
        // Only the transport: commands need no app in the configuration.
        let config = format!("[transport]\nurl = {:?}\n", redis.url());
        fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
        Self {
            _redis: redis,
            cluster,
            io_node,
            app_nodes: running,
            folder,
        }
    }

    async fn verb(&self, args: &[&str]) -> CommandOutput {
        verb(args, self.folder.path()).await
    }

    async fn deploy(&self, component: &Path, args: &[&str]) -> CommandOutput {
        let component = component.to_str().expect("the path is UTF-8");
        self.verb(&[&["deploy", component], args].concat()).await
    }

    /// Runs `work` while clients send requests, so that a new release gets events. Every request must be answered.
    async fn while_asking<T>(&self, event: &str, work: impl Future<Output = T>) -> T {
        let is_over = AtomicBool::new(false);
        let mut clients = Vec::new();
        for _ in 0..8 {
            clients.push(Client::connect(&self.io_node).await);
        }
        let ask = clients.iter_mut().map(|client| async {
            while !is_over.load(Ordering::Relaxed) {
                client.ask(event, &[json!(1)]).await;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        let work = async {
            let done = work.await;
            is_over.store(true, Ordering::Relaxed);
            done
        };
        tokio::join!(futures_util::future::join_all(ask), work).1
    }

    /// Short digest of the release that answers.
    async fn answers(&self) -> String {
        let mut client = Client::connect(&self.io_node).await;
        release(&mut client).await
    }
}

/// Short digest of the release that answers, by the handler `faulty`.
async fn release(client: &mut Client) -> String {
    let answer = client.ask("where", &[]).await;
    answer[0]["release"]
        .as_str()
        .expect("`faulty` returns its release")
        .to_owned()
}

/// A new build of a component, in a file.
fn build(folder: &TempDir, component: &Path, number: u64) -> PathBuf {
    let path = folder.path().join(format!("build-{number}.wasm"));
    fs::write(&path, rebuilt(component, number)).expect("the file can be written");
    path
}

fn short(digest: &Value) -> &str {
    &digest.as_str().expect("a digest is text")[..12]
}

#[tokio::test]
async fn deploy_reaches_all_nodes_and_rolls_back() {
    let faulty = component("faulty");
    let setup = Setup::new(&faulty, 2).await;
    let mut client = Client::connect(&setup.io_node).await;
    let first = release(&mut client).await;

    let second = build(&setup.folder, &faulty, 1);
    let said = setup.while_asking("where", setup.deploy(&second, &["--json"])).await;
    assert!(said.status.success(), "{said:?}");
    let told = said.json();
    assert_eq!(
        (&told["outcome"], &told["release"]),
        (&json!("in-use"), &json!(2)),
        "{told}"
    );
    assert_eq!(told["nodes"].as_array().expect("an array").len(), 2, "{told}");
    assert!(
        told["nodes"]
            .as_array()
            .expect("an array")
            .iter()
            .all(|node| node["ms"].is_u64()),
        "{told}"
    );
    for words in ["app-1 uses it", "app-2 uses it", "is in use on 2 nodes", "after deploy"] {
        assert!(said.err.contains(words), "{words:?} is missing in {}", said.err);
    }
    let deployed = short(&told["digest"]).to_owned();
    assert_ne!(deployed, first);
    assert_eq!(
        release(&mut client).await,
        deployed,
        "the new release answers on the same socket"
    );

    // Deploying the same component again changes nothing.
    let said = setup.deploy(&second, &[]).await;
    assert!(said.status.success() && said.err.contains("in use already"), "{said:?}");

    let releases = setup.verb(&["releases", "--json"]).await.json();
    assert_eq!(
        (&releases[0]["state"], &releases[1]["state"]),
        (&json!("in-use"), &json!("was-in-use"))
    );
    assert_eq!(
        (&releases[0]["origin"], &releases[1]["origin"]),
        (&json!("deploy"), &json!("config"))
    );
    assert_eq!(short(&releases[1]["digest"]), first);
    let said = setup.verb(&["releases"]).await;
    assert!(said.out.contains("RELEASE") && said.out.contains(&deployed), "{said:?}");

    let status = setup.verb(&["status", "--json"]).await.json();
    let app = &status["apps"][0];
    assert_eq!(
        (&app["app"], &app["release"]["release"]),
        (&json!("/"), &json!(2)),
        "{status}"
    );
    let nodes = app["nodes"].as_array().expect("an array");
    assert_eq!(nodes.len(), 2, "{status}");
    for key in [
        "node",
        "release",
        "digest",
        "instances",
        "events",
        "events_per_second",
        "failures",
        "p50_us",
        "p99_us",
    ] {
        assert!(nodes.iter().all(|node| !node[key].is_null()), "{key}: {status}");
    }
    assert!(status["backlog"].is_u64(), "{status}");
    let said = setup.verb(&["status"]).await;
    for words in ["app /: release 2", "app-1", "app-2", "EVENTS/S", "P99"] {
        assert!(said.out.contains(words), "{words:?} is missing in {}", said.out);
    }

    let said = setup.verb(&["rollback", "--json"]).await;
    assert!(said.status.success() && said.err.contains("after rollback"), "{said:?}");
    assert_eq!(short(&said.json()["digest"]), first);
    assert_eq!(release(&mut client).await, first);
    let said = setup.verb(&["rollback", "2"]).await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(release(&mut client).await, deployed);
    for (args, words) in [
        (["rollback", "99"], "no release 99"),
        (["rollback", "4"], "in use already"),
    ] {
        let said = setup.verb(&args).await;
        assert!(said.err.contains(words), "{said:?}");
    }
}

#[tokio::test]
async fn unusable_component_replaces_nothing_and_reason_is_shown() {
    // `echo` answers the event `panic`, at which `faulty` traps.
    let setup = Setup::new(&component("echo"), 2).await;
    let write = |name: &str, bytes: &[u8]| {
        let path = setup.folder.path().join(name);
        fs::write(&path, bytes).expect("the file can be written");
        path
    };
    // Refused by the command itself.
    for (name, bytes, words) in [
        ("empty.wasm", &b""[..], "empty"),
        ("text.wasm", b"this is not wasm", "not a WebAssembly component"),
        ("core.wasm", CORE_MODULE, "core WebAssembly module"),
        ("other.wasm", b"\0asm\x0d\0\x01\0", "plugnode:app/handler"),
    ] {
        let said = setup.deploy(&write(name, bytes), &["--json"]).await;
        assert!(!said.status.success() && said.err.contains(words), "{name}: {said:?}");
        assert_eq!(said.json()["outcome"], "refused", "{said:?}");
    }
    let releases = setup.verb(&["releases", "--json"]).await.json();
    assert_eq!(releases.as_array().expect("an array").len(), 1, "{releases}");

    // Detected by the app-nodes: its instances trap at their start.
    let recorder = fs::read(component("recorder")).expect("the component was built");
    let start = write("start.wasm", &Flaw::Start.of(recorder));
    let said = setup.while_asking("hello", setup.deploy(&start, &["--json"])).await;
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let told = said.json();
    assert_eq!(
        (&told["outcome"], &told["in_use"]),
        (&json!("failed"), &json!(1)),
        "{told}"
    );
    assert!(
        said.err.contains("this build fails when it starts") && said.err.contains("release 1 stays in use"),
        "{said:?}"
    );

    // Its handler traps at its first events, which `echo` answers instead; the release is not used.
    let said = setup
        .while_asking("panic", setup.deploy(&component("faulty"), &["--json"]))
        .await;
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let told = said.json();
    assert_eq!(
        (&told["outcome"], &told["in_use"]),
        (&json!("failed"), &json!(1)),
        "{told}"
    );
    assert!(
        said.err.contains("panicked on request") && said.err.contains("release 1 stays in use"),
        "{said:?}"
    );

    let releases = setup.verb(&["releases", "--json"]).await.json();
    let states: Vec<_> = releases
        .as_array()
        .expect("an array")
        .iter()
        .map(|release| &release["state"])
        .collect();
    assert_eq!(states, ["failed", "failed", "in-use"], "{releases}");
}

#[tokio::test]
async fn refuses_to_deploy_unknown_app() {
    let setup = Setup::new(&component("echo"), 1).await;
    let new = build(&setup.folder, &component("echo"), 1);
    let said = setup.deploy(&new, &["--app", "/nowhere"]).await;
    assert!(
        !said.status.success() && said.err.contains("there is no app /nowhere; the apps are: /"),
        "{said:?}"
    );

    let Setup {
        app_nodes,
        folder,
        _redis,
        ..
    } = setup;
    for node in app_nodes {
        node.stop().await;
    }
    let new = new.to_str().expect("the path is UTF-8");
    let said = verb(&["status"], folder.path()).await;
    assert!(
        said.status.success() && said.out.contains("no app-node runs it"),
        "{said:?}"
    );

    let empty = RedisServer::start().await;
    fs::write(
        folder.path().join("plugnode.toml"),
        format!("[transport]\nurl = {:?}\n", empty.url()),
    )
    .expect("the file can be written");
    for args in [&["deploy", new][..], &["status"], &["releases"], &["rollback"]] {
        let said = verb(args, folder.path()).await;
        assert!(
            !said.status.success() && said.err.contains("no app runs here yet"),
            "{args:?}: {said:?}"
        );
    }
    let said = verb(&["status", "-c", "gone.toml"], folder.path()).await;
    assert!(!said.status.success() && said.err.contains("gone.toml"), "{said:?}");
}

#[tokio::test]
async fn equal_canary_is_promoted() {
    let setup = Setup::new(&component("faulty"), 2).await;
    let new = build(&setup.folder, &component("faulty"), 2);
    let args = ["--canary", "50%", "--for", "3s", "--p99-margin", "10000%", "--json"];
    let said = setup.while_asking("where", setup.deploy(&new, &args)).await;
    assert!(said.status.success(), "{said:?}");
    let told = said.json();
    assert_eq!(told["outcome"], "in-use", "{told}");
    for side in ["in_use", "new"] {
        assert!(told["canary"][side]["events"].as_u64().expect("a number") > 0, "{told}");
    }
    assert!(
        said.err.contains("50 % of the partitions") && said.err.contains("p99"),
        "{said:?}"
    );
    assert_eq!(setup.answers().await, short(&told["digest"]));
}

#[tokio::test]
async fn failing_canary_is_rolled_back_automatically() {
    let setup = Setup::new(&component("echo"), 2).await;
    // The event at which `faulty` traps is sent only after its first events were answered.
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(Client::connect(&setup.io_node).await);
    }
    let is_over = AtomicBool::new(false);
    let is_canary = AtomicBool::new(false);
    let ask = clients.iter_mut().map(|client| async {
        while !is_over.load(Ordering::Relaxed) {
            let event = if is_canary.load(Ordering::Relaxed) {
                "panic"
            } else {
                "hello"
            };
            client.ask(event, &[]).await;
        }
    });
    let faulty = component("faulty");
    let deploy = async {
        let said = setup
            .deploy(&faulty, &["--canary", "50%", "--for", "60s", "--json"])
            .await;
        is_over.store(true, Ordering::Relaxed);
        said
    };
    let watch = async {
        loop {
            let status = setup.verb(&["status", "--json"]).await.json();
            if status["apps"][0]["rollout"]["phase"] == "canary" {
                // Wait until every node runs the canary: before, a single failure would end it.
                tokio::time::sleep(Duration::from_secs(1)).await;
                return is_canary.store(true, Ordering::Relaxed);
            }
        }
    };
    let (_, said, ()) = tokio::join!(
        futures_util::future::join_all(ask),
        deploy,
        within("the release is a canary", watch)
    );
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    let told = said.json();
    assert_eq!(
        (&told["outcome"], &told["in_use"]),
        (&json!("failed"), &json!(1)),
        "{told}"
    );
    assert!(
        told["reason"].as_str().expect("a reason").contains("events failed"),
        "{told}"
    );
    assert!(
        told["canary"]["new"]["events"].as_u64().expect("a number") > 0,
        "{told}"
    );
}

#[tokio::test]
async fn rollback_cancels_rollout() {
    let setup = Setup::new(&component("faulty"), 1).await;
    let first = setup.answers().await;
    let new = build(&setup.folder, &component("faulty"), 3);
    let args = [
        "deploy",
        new.to_str().expect("the path is UTF-8"),
        "--canary",
        "10%",
        "--for",
        "1h",
    ];
    let deploy = RunningCommand::begin(&args, setup.folder.path());
    let rollback = async {
        loop {
            let status = setup.verb(&["status", "--json"]).await.json();
            if status["apps"][0]["rollout"]["release"] == 2 {
                return setup.verb(&["rollback"]).await;
            }
        }
    };
    let (deployed, rolled_back) = tokio::join!(deploy.end(), within("the rollout is in progress", rollback));
    assert!(rolled_back.status.success(), "{rolled_back:?}");
    assert!(
        rolled_back
            .err
            .contains("the rollout of release 2 is ended; release 1 stays in use"),
        "{rolled_back:?}"
    );
    assert_eq!(deployed.status.code(), Some(1), "{deployed:?}");
    assert!(
        deployed.err.contains("release 2 was cancelled by a rollback"),
        "{deployed:?}"
    );
    assert_eq!(setup.answers().await, first);
}

#[tokio::test]
async fn ctrl_c_leaves_rollout_running_until_superseded() {
    let setup = Setup::new(&component("faulty"), 1).await;
    let (two, three) = (
        build(&setup.folder, &component("faulty"), 4),
        build(&setup.folder, &component("faulty"), 5),
    );
    let canary = |path: &Path| {
        let path = path.to_str().expect("the path is UTF-8").to_owned();
        RunningCommand::begin(
            &["deploy", &path, "--canary", "10%", "--for", "1h"],
            setup.folder.path(),
        )
    };
    let until_rolling_out = async || loop {
        let status = setup.verb(&["status", "--json"]).await.json();
        if status["apps"][0]["rollout"]["release"] == 2 {
            return;
        }
    };
    let interrupted = canary(&two);
    within("the rollout is in progress", until_rolling_out()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    interrupted.interrupt();
    let said = interrupted.end().await;
    assert!(
        said.status.code() == Some(130) && said.err.contains("the rollout goes on"),
        "{said:?}"
    );
    // Deploying the same component again only follows the rollout.
    let again = canary(&two);
    let said = setup.while_asking("where", setup.deploy(&three, &[])).await;
    assert!(said.status.success(), "{said:?}");
    let superseded = again.end().await;
    assert_eq!(superseded.status.code(), Some(1), "{superseded:?}");
    assert!(superseded.err.contains("superseded by release 3"), "{superseded:?}");
}

#[tokio::test]
async fn late_node_runs_deployed_release() {
    let faulty = component("faulty");
    let mut setup = Setup::new(&faulty, 1).await;
    let said = setup.deploy(&build(&setup.folder, &faulty, 6), &["--json"]).await;
    assert!(said.status.success(), "{said:?}");
    let deployed = short(&said.json()["digest"]).to_owned();
    let late = setup.cluster.start_app().await;
    // Its configured file is another component, which it logs.
    late.logged("is not the configured component").await;
    for node in setup.app_nodes.drain(..) {
        node.stop().await;
    }
    assert_eq!(setup.answers().await, deployed);
}

#[tokio::test]
async fn watched_file_is_deployed_on_change() {
    let faulty = component("faulty");
    let folder = temp_folder();
    let file = folder.path().join("app.wasm");
    fs::copy(&faulty, &file).expect("the file can be copied");
    let node = Node::app(&file, &format!("{KEY_VALUE}\nwatch = true")).await;
    let mut client = Client::connect(&node).await;
    let first = release(&mut client).await;

    fs::write(&file, CORE_MODULE).expect("the file can be written");
    node.logged("core WebAssembly module").await;
    assert_eq!(release(&mut client).await, first);

    let new = folder.path().join("new");
    fs::write(&new, rebuilt(&faulty, 7)).expect("the file can be written");
    fs::rename(&new, &file).expect("it can be renamed");
    let changed = async {
        while release(&mut client).await == first {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the new file is in use", changed).await;
    node.logged("the changed file is in use").await;
}

#[tokio::test]
async fn verbs_reach_single_process_by_port_socket_or_config() {
    let faulty = component("faulty");
    let folder = temp_folder();
    let file = |number| {
        build(&folder, &faulty, number)
            .to_str()
            .expect("the path is UTF-8")
            .to_owned()
    };
    let config = format!("[admin]\nsocket = \"own.sock\"\n{}", app("/", &faulty, KEY_VALUE));
    let usual = Node::app(&faulty, KEY_VALUE).await;
    let own = Node::run(&config).await;
    let dev = Node::dev(&PathBuf::from(file(8)), &[]).await;
    let port = |node: &Node| vec!["--port".to_owned(), node.port().to_string()];
    let at = |node: &Node, name: &str| node.folder().join(name).to_str().expect("the path is UTF-8").to_owned();
    for (node, place) in [
        (&usual, port(&usual)),
        (&own, vec!["--socket".to_owned(), at(&own, "own.sock")]),
        (&own, vec!["-c".to_owned(), at(&own, "plugnode.toml")]),
        (&dev, port(&dev)),
    ] {
        let run = async |args: &[&str]| {
            let place: Vec<_> = place.iter().map(String::as_str).collect();
            verb(&[args, &place].concat(), folder.path()).await
        };
        let mut client = Client::connect(node).await;
        let first = release(&mut client).await;
        let said = run(&["deploy", &file(9), "--json"]).await;
        assert!(said.status.success(), "{place:?}: {said:?}");
        assert_eq!(release(&mut client).await, short(&said.json()["digest"]), "{place:?}");
        let said = run(&["status"]).await;
        assert!(said.out.contains("app /: release"), "{place:?}: {said:?}");
        let said = run(&["rollback"]).await;
        assert!(said.status.success(), "{place:?}: {said:?}");
        assert_eq!(release(&mut client).await, first, "{place:?}");
        let releases = run(&["releases", "--json"]).await.json();
        assert_eq!(releases[0]["origin"], "rollback", "{place:?}: {releases}");
    }
    let place = port(&dev);
    dev.stop().await;
    let said = verb(&["status", &place[0], &place[1]], folder.path()).await;
    assert!(!said.status.success() && said.err.contains(&place[1]), "{said:?}");
}

#[tokio::test]
async fn deploy_without_app_node_waits_for_one() {
    let setup = Setup::new(&component("echo"), 1).await;
    let Setup {
        cluster,
        app_nodes,
        folder,
        ..
    } = &setup;
    app_nodes[0].terminate();
    app_nodes[0].logged("ended").await;
    let new = build(folder, &component("echo"), 1);
    let new = new.to_str().expect("the path is UTF-8");
    let said = setup.verb(&["deploy", new, "--timeout", "500ms", "--json"]).await;
    assert!(!said.status.success(), "{said:?}");
    assert!(said.err.contains("no app-node runs app /: waiting for one"), "{said:?}");
    assert_eq!(said.json()["outcome"], "not-followed", "{said:?}");

    let deploy = RunningCommand::begin(&["deploy", new, "--json"], folder.path());
    let (said, _node) = tokio::join!(deploy.end(), cluster.start_app());
    assert!(said.status.success(), "{said:?}");
    assert_eq!(said.json()["outcome"], "not-tried", "{said:?}");
}

#[tokio::test]
async fn release_without_events_is_reported_as_not_tried() {
    let setup = Setup::new(&component("echo"), 1).await;
    let new = build(&setup.folder, &component("echo"), 1);
    let said = setup.deploy(&new, &["--json"]).await;
    assert!(
        said.status.success() && said.err.contains("not tried yet: no events"),
        "{said:?}"
    );
    assert_eq!(said.json()["outcome"], "not-tried", "{said:?}");
    let said = setup.verb(&["status"]).await;
    assert!(said.out.contains("not tried yet: no events"), "{said:?}");
    let newer = build(&setup.folder, &component("echo"), 2);
    let said = setup.deploy(&newer, &["--wait-for-events=500ms", "--json"]).await;
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert_eq!(said.json()["outcome"], "not-tried", "{said:?}");

    // With --wait-for-events the command ends once events were answered.
    let newest = build(&setup.folder, &component("echo"), 3);
    let newest = newest.to_str().expect("the path is UTF-8");
    let deploy = RunningCommand::begin(&["deploy", newest, "--wait-for-events", "--json"], setup.folder.path());
    let events = async {
        setup.app_nodes[0].logged_times("not tried yet", 3).await;
        setup.while_asking("hello", deploy.end()).await
    };
    let said = events.await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(said.json()["outcome"], "in-use", "{said:?}");
    let releases = setup.verb(&["releases", "--json"]).await.json();
    assert_eq!(releases[0]["tried"], true, "{releases}");
}

#[tokio::test]
async fn release_failing_its_first_events_is_rolled_back() {
    // `echo` answers the event `panic`, at which `faulty` traps.
    let setup = Setup::new(&component("echo"), 1).await;
    // Connected before the deploy: the new release would answer its connection event.
    let mut client = Client::connect(&setup.io_node).await;
    let faulty = component("faulty");
    let faulty = faulty.to_str().expect("the path is UTF-8");
    let deploy = RunningCommand::begin(&["deploy", faulty, "--wait-for-events", "--json"], setup.folder.path());
    setup.app_nodes[0].logged("not tried yet").await;
    let (said, _) = tokio::join!(deploy.end(), client.ask("panic", &[]));
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert_eq!(said.json()["outcome"], "failed", "{said:?}");
    assert!(said.err.contains("taken back after it was in use"), "{said:?}");
    setup.app_nodes[0].logged("release was taken back").await;
    let said = setup.verb(&["status"]).await;
    assert!(
        said.out.contains("release 2 failed: taken back after it was in use"),
        "{said:?}"
    );
    let said = setup.verb(&["releases"]).await;
    assert!(said.out.contains("taken back after it was in use"), "{said:?}");
}
