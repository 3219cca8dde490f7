//! The commands `check`, `run`, `dev` and `dead`, and their errors.

use std::fs;
use std::time::Duration;

use plugnode_tests::{
    Client, Heard, KEY_VALUE, Node, RunningCommand, app, component, run_to_end, temp_folder, verb, within,
};
use serde_json::json;
use tokio::net::TcpStream;

/// An empty core module: the header without sections.
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

#[tokio::test]
async fn refuses_files_that_are_no_handler() {
    let folder = temp_folder();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).expect("the file can be written");
    write("empty.wasm", b"");
    write("text.wasm", b"this is not wasm");
    write("core.wasm", CORE_MODULE);
    // An empty component.
    write("other.wasm", b"\0asm\x0d\0\x01\0");
    let mut broken = fs::read(component("echo")).expect("the component was built");
    broken.truncate(broken.len() / 2);
    write("broken.wasm", &broken);
    for (file, words) in [
        ("empty.wasm", "empty"),
        ("text.wasm", "not a WebAssembly component"),
        ("core.wasm", "core"),
        ("other.wasm", "plugnode:app/handler"),
        ("broken.wasm", "broken.wasm"),
        ("missing.wasm", "missing.wasm"),
    ] {
        let (status, said) = run_to_end(&["check", file], folder.path()).await;
        assert!(!status.success(), "{file}: {said}");
        assert!(said.contains(words), "{file} should be refused with {words:?}: {said}");
        let config = format!("[http]\nlisten = \"127.0.0.1:0\"\n[[app]]\ncomponent = {file:?}\n");
        write("plugnode.toml", config.as_bytes());
        let (status, said) = run_to_end(&["run", "-c", "plugnode.toml"], folder.path()).await;
        assert!(!status.success() && said.contains(words), "{file}: {said}");
    }
}

#[tokio::test]
async fn refuses_ungranted_import_and_names_the_grant() {
    let chat = component("chat");
    let chat = chat.to_str().expect("the path is UTF-8");
    let folder = temp_folder();
    let config = format!("[http]\nlisten = \"127.0.0.1:0\"\n[[app]]\ncomponent = {chat:?}\n");
    fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
    let (status, said) = run_to_end(&["run", "-c", "plugnode.toml"], folder.path()).await;
    assert!(!status.success(), "{said}");
    assert!(said.contains("wasi:keyvalue") && said.contains("grants"), "{said}");
}

#[tokio::test]
async fn config_error_names_key_file_and_line() {
    let folder = temp_folder();
    for (config, key, line) in [
        ("[http]\nlisten = \"x\"\nlistne = 1\n", "listne", "3"),
        ("[io-node]\nping-interval-ms = \"soon\"\n", "ping-interval-ms", "2"),
        (
            "[[app]]\nnamespace = \"/\"\ncomponent = \"gone.wasm\"\n",
            "gone.wasm",
            "3",
        ),
        ("[http\n", "plugnode.toml", "1"),
    ] {
        fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
        let (status, said) = run_to_end(&["run", "-c", "plugnode.toml"], folder.path()).await;
        assert!(!status.success(), "{config:?}: {said}");
        for part in [key, "plugnode.toml", line] {
            assert!(
                said.contains(part),
                "{config:?} should be refused with {part:?}: {said}"
            );
        }
    }
}

#[tokio::test]
async fn node_outlives_the_reader_of_its_log() {
    let folder = temp_folder();
    let app = app("/", &component("echo"), "");
    let config = format!("[http]\nlisten = \"127.0.0.1:0\"\n[shutdown]\nlame-duck-ms = 0\n{app}");
    fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
    let mut node = RunningCommand::begin(&["run"], folder.path());
    node.close_errors_after("listening on").await;
    // It logs its end too.
    node.interrupt();
    let said = node.end().await;
    assert!(said.status.success(), "{said:?}");
}

#[tokio::test]
async fn dev_swaps_component_and_keeps_sockets() {
    let folder = temp_folder();
    let wasm = folder.path().join("app.wasm");
    fs::copy(component("echo"), &wasm).expect("the file can be copied");
    let node = Node::dev(&wasm, &[]).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.ask("where", &[json!(1)]).await, [json!(1)], "echo answers");
    assert_eq!(client.event().await.0, "where");

    // An unusable file changes nothing.
    fs::write(&wasm, CORE_MODULE).expect("the file can be written");
    node.logged("core").await;
    assert_eq!(client.ask("where", &[json!(2)]).await, [json!(2)]);
    assert_eq!(client.event().await.0, "where");

    fs::copy(component("faulty"), &wasm).expect("the file can be copied");
    let answer = loop {
        let answer = client.ask("where", &[]).await;
        if answer.first().is_some_and(|answer| answer.is_object()) {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(
        answer[0]["release"].as_str().is_some_and(|release| release.len() == 12),
        "{answer:?}"
    );
    // The socket has been the same all the time.
    let who = client.ask("who", &[]).await;
    assert_eq!(who[0]["id"], json!(client.id()));
}

#[tokio::test]
async fn dev_swap_keeps_order_without_loss_or_duplicates() {
    let folder = temp_folder();
    let wasm = folder.path().join("app.wasm");
    fs::copy(component("echo"), &wasm).expect("the file can be copied");
    let node = Node::dev(&wasm, &[]).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&node).await);
    }
    let swapped = std::sync::atomic::AtomicBool::new(false);
    let talk = clients.iter_mut().map(|client| async {
        let mut number = 0u64;
        while !swapped.load(std::sync::atomic::Ordering::Relaxed) || number < 100 {
            client.emit("n", &[json!(number)]).await;
            assert_eq!(client.event().await, ("n".to_owned(), vec![json!(number)]));
            number += 1;
        }
    });
    let swap = async {
        for (n, name) in ["faulty", "echo", "faulty", "echo"].into_iter().enumerate() {
            fs::copy(component(name), &wasm).expect("the file can be copied");
            node.logged_times("release taken into use", n + 1).await;
        }
        swapped.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    tokio::join!(futures_util::future::join_all(talk), swap);
}

#[tokio::test]
async fn sigterm_closes_clients_and_handles_every_disconnect() {
    let settings = "[log]\nlevel = \"debug\"\n";
    let app = plugnode_tests::app("/", &component("faulty"), KEY_VALUE);
    let node = Node::run(&format!("{settings}{app}")).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&node).await);
    }
    let ((status, log), closed) = tokio::join!(node.stop_with_log(), clients[0].next());
    assert!(status.success(), "{log}");
    assert_eq!(closed, Heard::Closed);
    let is_disconnect = |line: &&str| line.contains("handling") && line.contains("kind=\"disconnect\"");
    assert_eq!(log.lines().filter(is_disconnect).count(), 20, "{log}");
}

#[tokio::test]
async fn dead_letters_of_running_process_are_managed_by_port() {
    let node = Node::dev(&component("faulty"), &[]).await;
    let folder = temp_folder();
    let port = node.port().to_string();
    let dead = async |args: &[&str]| verb(&[&["dead"], args, &["--port", &port]].concat(), folder.path()).await;
    let mut client = Client::connect(&node).await;
    let failed = client.ask("fail-reject", &[]).await;
    let id = failed[0]["error"]["event"].as_str().expect("it is told which event");

    let list = dead(&["list", "--json"]).await.json();
    assert_eq!(list[0]["id"], id, "{list}");
    let shown = dead(&["show", id, "--json"]).await.json();
    assert_eq!(shown["event"], "fail-reject", "{shown}");
    let retried = dead(&["retry", id]).await;
    assert!(retried.status.success(), "{retried:?}");
    // The retried event fails again, under a new id.
    loop {
        let list = dead(&["list", "--json"]).await.json();
        if list[0]["id"].as_str().is_some_and(|again| again != id) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let dropped = dead(&["drop", "--all"]).await;
    assert!(dropped.status.success(), "{dropped:?}");
    assert_eq!(dead(&["list", "--json"]).await.json(), json!([]));
}

#[tokio::test]
async fn admin_port_answers_when_connections_are_exhausted() {
    let settings = "[http]\nmax-connections = 1\n[admin]\nlisten = \"127.0.0.1:0\"\n";
    let node = Node::run(&(app("/", &component("echo"), "") + settings)).await;
    let port = node.admin_port().await;
    let holder = TcpStream::connect(("127.0.0.1", node.port()))
        .await
        .expect("the node listens");
    let refused = "plugnode_connections_refused_total{reason=\"max_connections\"} ";
    within("a connection is refused and counted", async {
        loop {
            let _more = TcpStream::connect(("127.0.0.1", node.port()))
                .await
                .expect("the node listens");
            let metrics = node.get_at(port, "/metrics").await;
            let sum = metrics.lines().find_map(|line| line.strip_prefix(refused));
            if sum.expect("it is counted") != "0" {
                return;
            }
        }
    })
    .await;
    assert!(node.get_at(port, "/healthz").await.contains("200 OK"));
    let ready = node.get_at(port, "/readyz").await;
    for line in [
        "200 OK",
        "[+]shutdown ok",
        "[+]lease ok",
        "[+]transport ok",
        "[+]io-node ok",
        "[+]memory ok",
    ] {
        assert!(ready.contains(line), "{ready}");
    }
    drop(holder);

    let taken = format!("[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:{port}\"\n");
    fs::write(
        node.folder().join("other.toml"),
        app("/", &component("echo"), "") + &taken,
    )
    .expect("the file can be written");
    let (status, said) = run_to_end(&["run", "-c", "other.toml"], node.folder()).await;
    assert!(!status.success() && said.contains("[admin] listen"), "{said}");
}
