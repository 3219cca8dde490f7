//! Programs in JavaScript, TypeScript and Python, with the official client.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use plugnode_tests::{
    Client, Heard, Node, app, binary, component, free_port, node_script, repository, run_command, run_to_end,
    temp_folder, verb, within,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Barrier;

const ADMISSION: &str = "admission = true";

/// Builds a script of this repository with `plugnode build`; the folder holds the component.
pub(crate) async fn built(script: &str) -> (PathBuf, TempDir) {
    let folder = temp_folder();
    let script = repository().join(script);
    let script = script.to_str().expect("the path is UTF-8");
    let (status, said) = run_to_end(&["build", script, "-o", "app.wasm"], folder.path()).await;
    assert!(status.success(), "{said}");
    (folder.path().join("app.wasm"), folder)
}

#[tokio::test]
async fn socketio_server_program_runs_in_several_instances() {
    let (component, _folder) = built("tests/js/handlers/server.js").await;
    for (dispatch, arguments) in [("sticky", &[][..]), ("round-robin", &["spread"])] {
        // Some events set thousands of timers, on a machine that does other things as well.
        let settings = format!("{ADMISSION}\ninstances = 3\ndispatch = {dispatch:?}\nlimits = {{ time-ms = 5000 }}");
        let apps = [app("/", &component, &settings), app("/second", &component, &settings)];
        let node = Node::run(&apps.concat()).await;
        let url = node.url();
        node_script("socketio-server.mjs", &[&[url.as_str()], arguments].concat()).await;
    }
}

#[tokio::test]
async fn names_example_runs() {
    let node = Node::dev(&repository().join("examples/js/names/server.js"), &[]).await;
    node_script("chat-names.mjs", &[&node.url()]).await;
}

#[tokio::test]
async fn whiteboard_example_runs() {
    let (component, _folder) = built("examples/js/whiteboard/server.js").await;
    let node = Node::app(&component, "").await;
    node_script("whiteboard.mjs", &[&node.url()]).await;
}

/// An HTTP server that answers nothing until this many requests are open at once.
async fn answers_together(requests: usize) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    let together = Arc::new(Barrier::new(requests));
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.expect("it listens");
            let together = together.clone();
            tokio::spawn(async move {
                let mut request = [0; 4096];
                let read = connection.read(&mut request).await.expect("a request comes");
                assert!(read > 0, "the request is there");
                together.wait().await;
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";
                connection.write_all(answer).await.expect("the client reads");
            });
        }
    });
    port
}

#[tokio::test]
async fn pool_grows_while_instances_wait_for_answers() {
    const CLIENTS: usize = 24;
    let (component, _folder) = built("tests/js/handlers/fetch.js").await;
    let port = answers_together(CLIENTS).await;
    let settings = format!(
        "instances = 2\nmax-instances = {CLIENTS}\ngrants = {{ http = [\"127.0.0.1:{port}\"] }}\nlimits = {{ time-ms = 20_000 }}"
    );
    let node = Node::app(&component, &settings).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(&node).await);
    }
    let url = [json!(format!("http://127.0.0.1:{port}/"))];
    let asking = clients.iter_mut().map(|client| client.ask("fetch", &url));
    for told in join_all(asking).await {
        assert_eq!(
            (&told[0]["status"], &told[0]["text"]),
            (&json!(200), &json!("ok")),
            "{told:?}"
        );
    }
}

#[tokio::test]
async fn fetch_reaches_only_granted_hosts() {
    let (component, _folder) = built("tests/js/handlers/fetch.js").await;
    let [open, closed] = [free_port(), free_port()].map(|port| port.to_string());
    let settings =
        format!("grants = {{ http = [\"127.0.0.1:{open}\", \"127.0.0.1:{closed}\"] }}\nlimits = {{ time-ms = 3000 }}");
    let node = Node::app(&component, &settings).await;
    node_script("fetch.mjs", &[&node.url(), &open, &closed]).await;
    let log = node.log();
    assert!(
        log.contains("was over before there was an answer to GET http://127.0.0.1"),
        "{log}"
    );
    // Without a grant, everything is denied.
    let node = Node::app(&component, "").await;
    let mut client = Client::connect(&node).await;
    let told = client.ask("fetch", &[json!("http://127.0.0.1:1/")]).await;
    let error = told[0]["error"].as_str().expect("it is denied");
    assert!(error.contains("grants = { http = [\"127.0.0.1:1\"] }"), "{error}");
}

#[tokio::test]
async fn fetch_over_limit_of_open_requests_fails() {
    let (component, _folder) = built("tests/js/handlers/fetch.js").await;
    let server = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("http://{}/", server.local_addr().expect("it is bound"));
    let connected = Arc::new(AtomicUsize::new(0));
    let count = connected.clone();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = server.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                // Time for further connections, if there were any.
                tokio::time::sleep(Duration::from_millis(500)).await;
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
                let _ = connection.write_all(answer).await;
            });
        }
    });
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let settings = format!("grants = {{ http = [{host:?}] }}\nlimits = {{ time-ms = 5000, http-requests = 3 }}");
    let node = Node::app(&component, &settings).await;
    let mut client = Client::connect(&node).await;
    let urls = vec![url.clone(); 20];
    let answers = client.ask("all", &[json!(urls)]).await;
    let answers = answers[0].as_array().expect("an answer for each");
    let failed = |answer: &&serde_json::Value| {
        let error = answer["error"].as_str();
        error.is_some_and(|error| error.contains("raise limits.http-requests"))
    };
    assert_eq!(answers.iter().filter(failed).count(), 17, "{answers:?}");
    assert_eq!(answers.iter().filter(|answer| answer["text"] == "ok").count(), 3);
    assert_eq!(connected.load(Ordering::Relaxed), 3);
    // Its requests have ended, so there is room again.
    let answers = client.ask("all", &[json!([url])]).await;
    assert_eq!(answers[0][0]["text"], json!("ok"), "{answers:?}");
    assert_eq!(node.log().matches("the instance has too many open").count(), 1);
}

#[tokio::test]
async fn socketio_cluster_example_runs_over_instances() {
    let (component, folder) = built("examples/js/cluster/appNode.js").await;
    let settings = "instances = 3\ngrants = { keyvalue = [\"default\"] }";
    let node = Node::app(&component, settings).await;
    let mut one = Client::connect(&node).await;
    assert_eq!(one.event().await, ("message".into(), vec![json!({ "buffer": [] })]));
    let mut two = Client::connect(&node).await;
    let came = json!({ "announcement": format!("{} connected", two.id()) });
    assert_eq!(one.event().await.1, [came]);
    assert_eq!(two.event().await.1, [json!({ "buffer": [] })]);
    // Handled in turn by instances that did not see the connection.
    let mut said = Vec::new();
    for number in 0..20 {
        two.emit("message", &[json!(number)]).await;
        let message = json!({ "message": [two.id(), number] });
        assert_eq!(one.event().await.1, std::slice::from_ref(&message));
        said.push(message);
    }
    let mut three = Client::connect(&node).await;
    assert_eq!(three.event().await.1, [json!({ "buffer": said[5..] })]);
    drop(folder);
}

/// Asserts that a new project's clients exchange messages and that its page has the official client.
async fn assert_project_works(node: &Node) {
    let (mut one, mut other) = (Client::connect(node).await, Client::connect(node).await);
    for client in [&mut one, &mut other] {
        let (event, args) = client.event().await;
        assert_eq!((event.as_str(), &args[0]), ("welcome", &json!(client.id())));
    }
    one.emit("say", &[json!("hello")]).await;
    let heard = other.event().await;
    assert_eq!(heard, ("said".into(), vec![json!(one.id()), json!("hello")]));
    let page = node.get("/").await;
    assert!(page.contains("/socket.io/socket.io.js"), "{page}");
    let client = node.get("/socket.io/socket.io.js").await;
    assert!(
        client.contains("200 OK") && client.contains("Socket.IO v4"),
        "{}",
        &client[..400]
    );
}

#[tokio::test]
async fn new_javascript_project_runs() {
    let folder = temp_folder();
    let said = verb(&["new", "hello", "--lang", "js"], folder.path()).await;
    assert!(
        said.status.success() && said.out.contains("plugnode dev hello"),
        "{said:?}"
    );
    let node = Node::dev(&folder.path().join("hello"), &[]).await;
    assert_project_works(&node).await;
}

#[tokio::test]
async fn new_typescript_project_type_checks_and_reloads() {
    let folder = temp_folder();
    let said = verb(&["new", "hello", "--lang", "ts"], folder.path()).await;
    assert!(said.status.success() && said.out.contains("npm install"), "{said:?}");
    let project = folder.path().join("hello");
    // As after `npm install`.
    let modules = repository().join("tests/node_modules");
    std::os::unix::fs::symlink(&modules, project.join("node_modules")).expect("the link can be created");
    let types = Command::new("node")
        .arg(modules.join("typescript/bin/tsc"))
        .args(["--noEmit", "-p", "."])
        .current_dir(&project)
        .output()
        .expect("node is installed");
    assert!(types.status.success(), "{}", String::from_utf8_lossy(&types.stdout));
    let node = Node::dev(&project, &[]).await;
    assert_project_works(&node).await;

    // A changed import is reloaded, and an error in it has its file and line.
    let server = fs::read_to_string(project.join("server.ts")).expect("the file exists");
    fs::write(
        project.join("answers.ts"),
        "export type Answer = { text: string };\n\nexport function answer(text: string): Answer {\n  if (text === \"bad\") throw new \
         Error(\"it was bad\");\n  return { text };\n}\n",
    )
    .expect("the file can be written");
    let listener =
        "  socket.on(\"ask\", (text: string, done: (answer: unknown) => void) => done(answer(text)));\n});\n";
    let changed = format!(
        "import {{ answer }} from \"./answers\";\n{}",
        server.trim_end().trim_end_matches("});").to_owned() + listener
    );
    fs::write(project.join("server.ts"), changed).expect("the file can be written");
    node.logged("of / runs, ").await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.event().await.0, "welcome");
    assert_eq!(client.ask("ask", &[json!("good")]).await, [json!({ "text": "good" })]);
    client.emit("ask", &[json!("bad")]).await;
    node.logged("answers.ts:4").await;
    let log = node.log();
    assert!(log.contains("Error: it was bad") && log.contains("server.ts:"), "{log}");
}

#[tokio::test]
async fn new_projects_build_and_pass_their_own_tests() {
    let folder = temp_folder();
    for (language, component) in [("js", "server.wasm"), ("ts", "server.wasm"), ("python", "app.wasm")] {
        let said = verb(&["new", language, "--lang", language], folder.path()).await;
        assert!(said.status.success(), "{said:?}");
        let project = folder.path().join(language);
        if language == "ts" {
            // As after `npm install`.
            let modules = repository().join("tests/node_modules");
            std::os::unix::fs::symlink(modules, project.join("node_modules")).expect("the link can be created");
        }
        let said = verb(&["build"], &project).await;
        assert!(said.status.success() && project.join(component).is_file(), "{said:?}");
        let said = verb(&["test", ".", "events.toml"], &project).await;
        assert_eq!(said.out, "events.toml: 2 events, as expected\n", "{language}: {said:?}");
    }
}

/// Reuses the dependencies of the example handlers: the same versions, profile and folder.
#[test]
fn new_rust_project_builds_and_passes_its_own_tests() {
    let folder = temp_folder();
    let project = folder.path().join("fresh-rust");
    let plugnode = |args: &[&str], folder: &Path| {
        let cargo = repository().join("target/guest-cargo");
        run_command(
            Command::new(binary())
                .args(args)
                .current_dir(folder)
                .env("PLUGNODE_GUEST_CARGO", cargo),
        )
    };
    let sdk = repository().join("guest-sdk");
    let sdk = sdk.to_str().expect("the path is UTF-8");
    plugnode(&["new", "fresh-rust", "--sdk", sdk], folder.path());
    fs::copy(repository().join("Cargo.lock"), project.join("Cargo.lock")).expect("the file can be copied");
    let guests = repository().join("target/guests");
    let settings = format!(
        "[build]\ntarget-dir = {guests:?}\n[net]\noffline = true\n[profile.release]\ndebug = \"line-tables-only\"\n"
    );
    fs::create_dir(project.join(".cargo")).expect("the folder can be created");
    fs::write(project.join(".cargo/config.toml"), settings).expect("the file can be written");
    plugnode(&["build"], &project);
    assert!(project.join("fresh_rust.wasm").is_file());
    let said = plugnode(&["test", ".", "events.toml"], &project);
    assert!(said.contains("events.toml: 2 events, as expected\n"), "{said}");
}

#[tokio::test]
async fn names_what_has_no_effect_and_what_to_do() {
    let folder = temp_folder();
    let program = "const app = require(\"express\")();\nconst { Server } = require(\"socket.io\");\n\
                   app.get(\"/health\", (req, res) => res.end());\n\
                   const io = new Server(require(\"http\").createServer(app), { connectionStateRecovery: {}, path: \"/ws\" });\n\
                   io.engine.on(\"connection_error\", () => {});\nio.of(\"/\").adapter.on(\"create-room\", () => {});\n\
                   io.adapter({});\nsetInterval(() => io.emit(\"tick\"), 1000);\n\
                   io.on(\"connection\", (socket) => socket.conn.on(\"upgrade\", () => {}));\n";
    fs::write(folder.path().join("server.js"), program).expect("the file can be written");
    let node = Node::dev(&folder.path().join("server.js"), &[]).await;
    let _clients = [Client::connect(&node).await, Client::connect(&node).await];
    for (what, remedy) in [
        ("the route get \"/health\" of express", "frontend.static-dir"),
        ("the option connectionStateRecovery of Server", "key-value store"),
        ("the option path of Server", "io-node.path"),
        ("io.engine.on(\"connection_error\")", "io.use"),
        ("adapter.on(\"create-room\")", "connections and disconnects"),
        ("io.adapter", "by themselves"),
        ("setInterval between events", "schedule.app.every"),
        ("socket.conn.on(\"upgrade\")", "disconnect"),
    ] {
        let words = format!("{what} has no effect in plugnode: ");
        node.logged(remedy).await;
        let log = node.log().replace("\\\"", "\"");
        assert_eq!(log.matches(&words).count(), 1, "{words}: {log}");
    }

    let program = "const { Server } = require(\"socket.io\");\nconst { createAdapter } = require(\"@socket.io/redis-adapter\");\n";
    fs::write(folder.path().join("other.js"), program).expect("the file can be written");
    let said = verb(&["build", "other.js"], folder.path()).await;
    let words = "other.js:2:27: \"@socket.io/redis-adapter\" cannot be used in a component: remove it; ";
    assert!(!said.status.success() && said.err.contains(words), "{said:?}");
}

#[tokio::test]
async fn programs_with_habits_of_node_run_unchanged() {
    let node = Node::dev(&repository().join("tests/js/handlers/habits.js"), &[]).await;
    node_script("habits.mjs", &[&node.url()]).await;
    node.logged("removed \"get\", which an event added to Object.prototype")
        .await;
    node.logged("a new instance takes the place of this one").await;
    assert!(!node.log().contains("<input>"), "{}", node.log());
}

#[tokio::test]
async fn failures_name_place_and_setting() {
    let node = Node::dev(&repository().join("tests/js/handlers/habits.js"), &[]).await;
    let mut client = Client::connect(&node).await;
    for (event, words) in [
        // Not the column in what the runtime puts before the first line.
        ("first line", "at boom (habits.js:1:54)"),
        (
            "loop",
            "the handler failed: the event took longer than its time limit of 1000 ms: do less in one event, or raise limits.time-ms",
        ),
        ("eat", "memory limit of 64MB reached: keep less, or raise limits.memory"),
        ("causes", "caused by Error: inner"),
    ] {
        let told = client.ask(event, &[]).await;
        assert_eq!(told[0]["error"]["code"], "failed", "{event}: {told:?}");
        node.logged(words).await;
    }
    client.emit("later", &[]).await;
    node.logged("a callback of setTimeout waits for the first event after its time")
        .await;
    // The functions of the runtime say nothing to the author of a script.
    assert!(!node.log().contains("JS_"), "{}", node.log());
}

/// A folder with esbuild, and with this program and package.
fn program_with_package(program: &str, package: &[(&str, &str)]) -> TempDir {
    let folder = temp_folder();
    let packages = folder.path().join("node_modules/package");
    fs::create_dir_all(&packages).expect("the folder can be created");
    let tools = repository().join("tests/node_modules/.bin");
    std::os::unix::fs::symlink(tools, folder.path().join("node_modules/.bin")).expect("the link can be created");
    for (name, text) in package {
        fs::write(packages.join(name), text).expect("the file can be written");
    }
    fs::write(folder.path().join("server.js"), program).expect("the file can be written");
    folder
}

#[tokio::test]
async fn failure_in_large_bundle_shows_own_code_in_time() {
    let functions: String = (0..30_000)
        .map(|number| format!("export function f{number}(a, b) {{\n  return a.x{number} + b.y{number};\n}}\n"))
        .collect();
    let program = "import * as all from \"package\";\nimport { on } from \"plugnode\";\n\n\
                   on(\"fail\", (client, number) => {\n  all[`f${number}`](undefined);\n});\n";
    let folder = program_with_package(
        program,
        &[
            ("package.json", "{ \"module\": \"index.js\" }"),
            ("index.js", &functions),
        ],
    );
    let node = Node::dev(&folder.path().join("server.js"), &[]).await;
    let mut client = Client::connect(&node).await;
    for number in [0, 300, 29_999] {
        client.ask("fail", &[json!(number)]).await;
        let line = node.logged(&format!("property 'x{number}' of undefined")).await;
        let place = format!("index.js:{}:1", number * 3 + 2);
        for words in ["  > 5 |   all[`f${number}`](undefined);", &place, "server.js:5:21"] {
            assert!(line.contains(words), "{words}: {line}");
        }
    }
    assert!(!node.log().contains("time limit"), "{}", node.log());
}

#[tokio::test]
async fn packages_are_bundled_as_for_browsers() {
    let program = "const { start } = require(\"package\");\nrequire(\"plugnode\").on(\"start\", () => start());\n";
    let manifest = "{ \"main\": \"node.js\", \"browser\": \"browser.js\" }";
    let browser = "const { Transform } = require(\"stream\");\nclass Upper extends Transform {}\n\
                   exports.start = () => [typeof Upper, process.env.NODE_ENV ?? \"unset\"].join();\n";
    let folder = program_with_package(
        program,
        &[
            ("package.json", manifest),
            ("node.js", "require(\"tty\").isatty(1);\n"),
            ("browser.js", browser),
        ],
    );
    let node = Node::dev(&folder.path().join("server.js"), &[]).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.ask("start", &[]).await, [json!("function,unset")]);

    // What esbuild advises about its own options does not help.
    for (text, words) in [
        (
            "require(\"zlib\");\n",
            "\"zlib\" cannot be used in a component: plugnode's runtime does not have this module of Node",
        ),
        (
            "require(\"node:net\");\n",
            "\"node:net\" cannot be used in a component: a component opens no sockets",
        ),
        (
            "require(\"left-pad\");\n",
            "If \"left-pad\" is a package, install it: npm install left-pad",
        ),
    ] {
        let folder = program_with_package(
            program,
            &[("package.json", "{ \"main\": \"index.js\" }"), ("index.js", text)],
        );
        let said = verb(&["build", "server.js"], folder.path()).await;
        assert!(!said.status.success() && said.err.contains(words), "{words}: {said:?}");
        assert!(!said.err.contains("--platform"), "{said:?}");
    }
}

#[tokio::test]
async fn build_refuses_syntax_errors_with_place_and_code() {
    let folder = temp_folder();
    let place = |file: &str| folder.path().join(file);
    fs::create_dir(place("shop")).expect("the folder can be created");
    let stray = "this is no Python\n";
    for (file, text, words) in [
        (
            "common.js",
            "const { on } = require(\"plugnode\"); let a = = 1;\non(\"a\", () => 1);\n",
            "common.js:1:45: SyntaxError: ",
        ),
        (
            "module.js",
            "import { on } from \"plugnode\";\n\non(\"a\", () => {\n  const x = = 3;\n});\n",
            "module.js:4:13: SyntaxError: ",
        ),
        ("open.mjs", "on(\"a\", () => {\n", "open.mjs:1:"),
        (
            "shell.js",
            "#!/usr/bin/env node\nlet a = = 1;\n",
            "shell.js:2:9: SyntaxError: ",
        ),
        (
            "app.py",
            "from plugnode import app\n\n\n@app.on(\"a\")\ndef a(client)\n    return 1\n",
            "app.py:5:14: SyntaxError: expected ':'\n",
        ),
        ("main.py", "from shop import cart\n", "shop/cart.py:2:5: "),
    ] {
        fs::write(
            place("shop/cart.py"),
            if file == "main.py" { "x = 1\nx = (\n" } else { stray },
        )
        .expect("it is writable");
        fs::write(place(file), text).expect("the file can be written");
        let said = verb(&["build", file], folder.path()).await;
        assert!(
            !said.status.success() && said.err.contains(words),
            "{words:?}: {said:?}"
        );
        let line = words.split(':').nth(1).expect("words have a line");
        assert!(said.err.contains(&format!("  > {line} | ")), "{said:?}");
        // `dev` says the same, and names no file of its own.
        let said = verb(&["dev", file, "--port", "0"], folder.path()).await;
        assert!(
            !said.status.success() && said.err.contains(words),
            "{words:?}: {said:?}"
        );
        fs::remove_file(place(file)).expect("the file is there");
    }
    // What is not imported, and what fails when it runs, does not keep a program from being built.
    for (file, text) in [
        ("app.py", "from plugnode import config\nconfig[\"missing\"]\n"),
        ("server.js", "\"use strict\";\nconst at = JSON.parse(undefined);\n"),
        ("shell.js", "#!/usr/bin/env node\nJSON.parse(undefined);\n"),
        (
            "server.mjs",
            "import { config } from \"plugnode\";\nJSON.parse(config.missing);\n",
        ),
    ] {
        fs::write(place("shop/cart.py"), stray).expect("the file can be written");
        fs::write(place(file), text).expect("the file can be written");
        let said = verb(&["build", file], folder.path()).await;
        assert!(said.status.success(), "{said:?}");
        let said = verb(&["dev", file, "--port", "0"], folder.path()).await;
        assert!(
            !said.status.success() && said.err.contains(&format!(" {file} cannot start as the first release")),
            "{said:?}"
        );
    }
}

#[tokio::test]
async fn new_from_program_writes_its_settings() {
    let folder = temp_folder();
    let script = repository().join("tests/js/handlers/server.js");
    fs::copy(script, folder.path().join("server.js")).expect("the file can be copied");
    let said = verb(&["new", "--from", "server.js"], folder.path()).await;
    assert!(
        said.status.success() && said.out.contains("plugnode dev server.js"),
        "{said:?}"
    );
    let node = Node::dev(&folder.path().join("server.js"), &[]).await;
    within("both namespaces exist", async {
        let second = Client::connect_to(&node, "/second", json!({})).await;
        second.expect("the client is accepted");
    })
    .await;
    let again = verb(&["new", "--from", "server.js"], folder.path()).await;
    assert!(
        !again.status.success() && again.err.contains("is there already"),
        "{again:?}"
    );
    assert_builds(folder.path()).await;
}

/// Installs the packed npm package, runs a program's tests with it, and builds the program with its runtime.
#[tokio::test]
async fn packed_npm_package_tests_and_builds_program() {
    let folder = temp_folder();
    let at = |name: &str| folder.path().join(name);
    let sources = repository().join("guest-sdk/js");
    run_command(Command::new("cp").arg("-r").arg(&sources).arg(at("package")));
    fs::copy(component("plugnode-js"), at("package/plugnode-js.wasm")).expect("the component was built");
    run_command(
        Command::new("npm")
            .args(["pack", "--silent"])
            .current_dir(at("package")),
    );
    fs::create_dir(at("program")).expect("the folder can be created");
    fs::write(
        at("program/package.json"),
        r#"{ "private": true, "type": "module", "main": "server.js" }"#,
    )
    .expect("the file can be written");
    let refusals = repository().join("guest-sdk/tests/refusals.json");
    fs::copy(refusals, at("program/refusals.json")).expect("the file can be copied");
    for file in [
        "server.js",
        "server.test.mjs",
        "timers.js",
        "timers.test.mjs",
        "customs.js",
        "customs.test.mjs",
        "presence.js",
        "presence.test.mjs",
        "refusals.test.mjs",
        "kit.test.mjs",
    ] {
        let from = repository().join("tests/js/handlers").join(file);
        fs::copy(from, at("program").join(file)).expect("the file can be copied");
    }
    let install = [
        "install",
        "--silent",
        "--offline",
        "--no-audit",
        "--no-fund",
        "../package/plugnode-0.1.0.tgz",
    ];
    run_command(Command::new("npm").args(install).current_dir(at("program")));
    run_command(Command::new("node").arg("--test").current_dir(at("program")));
    let runtime = at("program/node_modules/plugnode/plugnode-js.wasm");
    let runtime = runtime.to_str().expect("the path is UTF-8");
    let said = verb(&["build", "--runtime", runtime], &at("program")).await;
    assert!(said.status.success() && at("program/server.wasm").is_file(), "{said:?}");
}

/// Asserts that `plugnode build` writes the file that the settings name.
async fn assert_builds(folder: &Path) {
    let said = verb(&["build", "server.js"], folder).await;
    assert!(
        said.status.success() && folder.join("server.wasm").is_file(),
        "{said:?}"
    );
}

#[tokio::test]
async fn python_program_runs_in_several_instances() {
    let (component, _folder) = built("tests/py/handlers/app.py").await;
    let settings =
        "instances = 3\nadmission = true\ngrants = { keyvalue = [\"default\"] }\nconfig = { colour = \"red\" }";
    let node = Node::app(&component, settings).await;
    let mut ada = Client::connect_to(&node, "/", json!({ "name": "ada" }))
        .await
        .expect("the client is accepted");
    let mut bob = Client::connect(&node).await;
    let refused = Client::connect_to(&node, "/", json!({ "name": "nobody" })).await;
    let refused = format!("{:?}", refused.err().expect("the client named nobody is refused"));
    assert!(refused.contains("not you") && refused.contains('7'), "{refused}");

    for number in 0..6 {
        let args = [json!(number), json!({ "é": ["🦀", null, 1.5] })];
        ada.emit("echo", &args).await;
        assert_eq!(ada.event().await, ("echo".into(), args.to_vec()));
        assert_eq!(ada.ask("who", &[]).await, [json!({ "name": "ada" })]);
        assert_eq!(ada.ask("price", &[json!("ab"), json!("cde")]).await, [json!(5)]);
        assert_eq!(ada.ask("later", &[]).await, [json!("later")]);
    }
    // Each instance has fresh random numbers, not those of the runtime's snapshot.
    let mut drawn = Vec::new();
    for _ in 0..6 {
        drawn.push(ada.ask("draw", &[]).await[0].to_string());
    }
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), 6, "{drawn:?}");

    ada.ask("echo", &[]).await;
    assert_eq!(ada.event().await.0, "echo");
    bob.emit("join", &[json!("here")]).await;
    assert_eq!(bob.ask("price", &[]).await, [json!(0)]);
    ada.emit("to room", &[json!("here"), json!(1)]).await;
    assert_eq!(ada.event().await, ("for you".into(), vec![json!(1)]));
    assert_eq!(bob.event().await, ("in room".into(), vec![json!(1)]));
    ada.emit("ask me", &[json!("really?")]).await;
    let Heard::Event(_, _, Some(number)) = ada.next().await else {
        panic!("the client is asked")
    };
    ada.acknowledge(number, &[json!("yes")]).await;
    assert_eq!(ada.event().await, ("told".into(), vec![json!("yes")]));

    assert_eq!(ada.ask("log", &[]).await, [json!({ "colour": "red" })]);
    node.logged("a line of ada").await;
    assert_eq!(ada.ask("again", &[]).await, [json!(2)]);

    // A failure has no effects, is logged with file and line, and does not affect other clients.
    for (event, words) in [
        ("fail", "shop/cart.py:2"),
        ("loop", "time limit"),
        ("recurse", "RecursionError"),
        ("exit", "SystemExit"),
        ("denied", "secret"),
        ("eat", "memory"),
    ] {
        let told = ada.ask(event, &[]).await;
        assert_eq!(told[0]["error"]["code"], "failed", "{event}: {told:?}");
        node.logged(words).await;
        assert_eq!(bob.ask("price", &[json!("x")]).await, [json!(1)], "{event}");
    }
    let name = bob.ask("who", &[]).await[0]["name"].clone();
    drop(bob);
    let (event, args) = ada.event().await;
    assert_eq!((event.as_str(), &args[0], &args[2]), ("went", &name, &json!(["here"])));
}

#[tokio::test]
async fn python_failures_name_cause_place_and_setting() {
    let (component, _folder) = built("tests/py/handlers/app.py").await;
    let node = Node::app(&component, "limits = { commands = 10 }").await;
    let mut client = Client::connect(&node).await;
    for (event, words) in [
        (
            "flood",
            "this event has used up its commands, writes or bytes: do less in one event, or raise limits.commands",
        ),
        ("chain", "caused by KeyError: 'nothing'"),
        ("group", "one of them is ValueError: two"),
        ("unsendable", "in unsendable (app.py:"),
        ("fetch", "No module named 'requests'"),
    ] {
        let told = client.ask(event, &[]).await;
        assert_eq!(told[0]["error"]["code"], "failed", "{event}: {told:?}");
        node.logged(words).await;
    }
}

#[tokio::test]
async fn python_instance_with_changed_builtins_is_replaced() {
    let (component, _folder) = built("tests/py/handlers/app.py").await;
    let node = Node::app(&component, "instances = 1").await;
    let mut client = Client::connect(&node).await;
    client.ask("damage", &[]).await;
    node.logged("it cannot be shown, because the program has changed built-in functions")
        .await;
    assert_eq!(client.ask("price", &[json!("x")]).await, [json!(1)]);
    node.logged("a new instance takes the place of this one").await;
}

#[tokio::test]
async fn concurrent_python_increments_are_all_counted() {
    let (component, _folder) = built("tests/py/handlers/app.py").await;
    let node = Node::app(&component, "instances = 3\ngrants = { keyvalue = [\"default\"] }").await;
    let counting = (0..20).map(|_| async {
        let mut client = Client::connect(&node).await;
        for _ in 0..10 {
            client.ask("count", &[]).await;
        }
    });
    futures_util::future::join_all(counting).await;
    let mut client = Client::connect(&node).await;
    let counted = client.ask("counted", &[]).await;
    assert_eq!(counted, [json!(200), json!(200), json!(["counted"]), json!(true)]);
}

#[tokio::test]
async fn new_python_project_runs_and_reloads() {
    let folder = temp_folder();
    let said = verb(&["new", "hello", "--lang", "python"], folder.path()).await;
    assert!(
        said.status.success() && said.out.contains("plugnode dev hello"),
        "{said:?}"
    );
    let project = folder.path().join("hello");
    let node = Node::dev(&project, &[]).await;
    assert_project_works(&node).await;
    let mut program = fs::read_to_string(project.join("app.py")).expect("the file exists");
    program += "\n\n@app.on(\"ask\")\ndef ask(client):\n    return \"answered\"\n";
    fs::write(project.join("app.py"), program).expect("the file can be written");
    node.logged("of / runs, ").await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.event().await.0, "welcome");
    assert_eq!(client.ask("ask", &[]).await, [json!("answered")]);
}
