//! Commands for authors of handlers: `test`, `replay`, and `build` and `dev` with any toolchain.

use std::fs;
use std::path::Path;

use plugnode_tests::{Client, Node, component, node_script, repository, temp_folder, verb};
use serde_json::json;

/// The code blocks of one language in a document.
fn blocks(document: &str, language: &str) -> Vec<String> {
    let begin = format!("```{language}\n");
    let parts = document.split(&begin).skip(1);
    parts
        .map(|part| part.split("```").next().unwrap_or_default().to_owned())
        .collect()
}

fn write(folder: &Path, name: &str, text: &str) {
    let file = folder.join(name);
    fs::create_dir_all(file.parent().expect("it is in the folder")).expect("the folder can be created");
    fs::write(file, text).expect("the folder is writable");
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).expect("the file exists")
}

/// Writes the handler and the test of docs/testing.md.
fn documented(folder: &Path) {
    let document = fs::read_to_string(repository().join("docs/testing.md")).expect("the file exists");
    write(folder, "app.js", &blocks(&document, "js")[0]);
    write(folder, "events.toml", &blocks(&document, "toml")[0]);
}

#[tokio::test]
async fn documented_test_passes_reports_differences_and_updates() {
    let folder = temp_folder();
    let folder = folder.path();
    documented(folder);
    let said = verb(&["test", "app.js", "events.toml"], folder).await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(said.out, "events.toml: 5 events, as expected\n");

    // Differences are reported, and nothing is written.
    let events = read(folder, "events.toml");
    let wrong = events.replace("ack = [5]", "ack = [6]").replace("add = 1", "add = 2");
    write(folder, "events.toml", &wrong);
    let said = verb(&["test", "app.js", "events.toml"], folder).await;
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    for part in [
        "events.toml:15: message \"say\" of ada is not as expected\n",
        "- ack = [6]\n    + ack = [5]\n",
        "-   { bucket = \"default\", key = \"said\", add = 2 },\n",
        "1 of 5 events are not as expected",
    ] {
        assert!(said.out.contains(part), "{part:?} in {}", said.out);
    }
    assert_eq!(read(folder, "events.toml"), wrong);

    // --update replaces failed expectations, adds missing ones, and changes nothing else.
    let said = verb(&["test", "app.js", "events.toml", "--update"], folder).await;
    assert!(said.status.success() && said.out.contains("updated"), "{said:?}");
    let updated = read(folder, "events.toml");
    let from = events
        .find("[[event]]\nclient = \"nobody\"")
        .expect("the document has the event");
    assert!(updated.contains(&events[from..]), "{updated}");
    assert!(
        updated.contains("{ join = [\"lobby\"], clients = [\"ada\"] },\n"),
        "{updated}"
    );
    let said = verb(&["test", "app.js", "events.toml"], folder).await;
    assert!(said.status.success(), "{said:?}");
}

#[tokio::test]
async fn update_writes_missing_expectations_and_keeps_comments() {
    let folder = temp_folder();
    let folder = folder.path();
    let app = "from plugnode import app, everyone, kv\n\n\n@app.on(\"add\")\ndef add(client, number):\n    if number is None:\n        \
               raise ValueError(\"no number\")\n    before = kv.get(\"sum\") or \"0\"\n    kv.set(\"sum\", str(int(before) + number))\n    \
               client.set(last=number)\n    client.emit(\"bytes\", b\"\\x00\\xff\")\n    everyone.emit(\"sum\", kv.get(\"sum\"), None)\n\n\n\
               @app.on(\"last\")\ndef last(client):\n    return client.attributes[\"last\"]\n";
    write(folder, "app.py", app);
    write(
        folder,
        "sum.toml",
        "# Sums.\n[[event]]\nmessage = \"add\" # one\nargs = [1]\n\n# The next one.\n[[event]]\nmessage = \"add\"\nargs = [\n  2,\n]\n\
         expect = { error = \"something else\" }\n\n[[event]]\nmessage = \"add\"\nargs = '[null]'\n\n[[event]]\nmessage = \"last\"\nack = true\n",
    );
    let said = verb(&["test", "app.py", "sum.toml", "--update"], folder).await;
    assert!(said.status.success(), "{said:?}");
    let updated = read(folder, "sum.toml");
    for part in [
        "# Sums.\n[[event]]\nmessage = \"add\" # one\nargs = [1]\n[event.expect]\n",
        "]\n\n# The next one.\n[[event]]\n",
        "{ emit = \"bytes\", args = [{ base64 = \"AP8=\" }], clients = [\"client\"], channels = [\"client\"] }",
        "{ emit = \"sum\", args = '[\"3\",null]' }",
        "key = \"sum\", set = \"\\\"3\\\"\" }",
        "no number",
        "message = \"last\"\nack = true\n[event.expect]\nack = [2]\n",
    ] {
        assert!(updated.contains(part), "{part:?} in {updated}");
    }
    assert!(!updated.contains("something else"), "{updated}");
    let said = verb(&["test", "app.py", "sum.toml"], folder).await;
    assert_eq!(said.out, "sum.toml: 4 events, as expected\n", "{said:?}");
}

#[tokio::test]
async fn refuses_invalid_event_files_with_reason() {
    let folder = temp_folder();
    let folder = folder.path();
    let echo = component("echo");
    let echo = echo.to_str().expect("the path is UTF-8");
    for (events, words) in [
        ("", "has no [[event]]"),
        (
            "[[event]]\nmesage = \"a\"\n",
            "events.toml:2: unknown key `mesage`; did you mean `message`?",
        ),
        (
            "[[event]]\nargs = []\n",
            "events.toml:1: has to be one of connection, message",
        ),
        (
            "\n[[event]]\nmessage = \"a\"\nargs = 1\n",
            "events.toml:2: args: is not a list",
        ),
        ("[[event]]\nconnection = {}\nack = true\n", "ack: a connection has none"),
        ("[[event]]\nreply = [1]\n", "no event before it has asked"),
        ("[[event]]\nmessage = \"connect\"\n", "reserved"),
        (
            "[[event]]\nnamespace = \"/x\"\nmessage = \"a\"\n",
            "no app is bound to the namespace \"/x\"",
        ),
        (
            "[[event]]\nmessage = \"a\"\nexpect = { acks = [] }\n",
            "there is no `acks`",
        ),
    ] {
        write(folder, "events.toml", events);
        let said = verb(&["test", echo, "events.toml"], folder).await;
        assert_eq!(said.status.code(), Some(1), "{events}: {said:?}");
        assert!(said.err.contains(words), "{words:?} in {}", said.err);
    }
    let events = "[[event]]\nmessage = \"echo\"\nargs = [1, { base64 = \"AP8=\" }]\n[event.expect]\ncommands = \
                  [{ emit = \"echo\", args = [1, { base64 = \"AP8=\" }], clients = [\"client\"] }]\n";
    write(folder, "events.toml", events);
    let said = verb(&["test", echo, "events.toml"], folder).await;
    assert!(said.status.success(), "{said:?}");
}

#[tokio::test]
async fn replays_dead_letter_and_saves_it_as_test() {
    let folder = temp_folder();
    let folder = folder.path();
    documented(folder);
    let node = Node::dev(&folder.join("app.js"), &[]).await;
    let mut ada = Client::connect_to(&node, "/", json!({ "name": "Ada" }))
        .await
        .expect("the client is accepted");
    let told = ada.ask("say", &[json!({ "no": null })]).await;
    let id = told[0]["error"]["event"].as_str().expect("it has an id").to_owned();
    let port = node.port().to_string();
    let replay = [
        "replay",
        "app.js",
        "--dead",
        &id,
        "--port",
        &port,
        "--save",
        "failed.toml",
    ];
    let said = verb(&replay, folder).await;
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(
        said.out.contains("a text is wanted") && said.out.contains("app.js:16"),
        "{said:?}"
    );
    let saved = read(folder, "failed.toml");
    assert!(saved.contains("args = '[{\"no\":null}]'\nack = true"), "{saved}");
    // The dead letter is still there.
    let list = verb(&["dead", "list", "--port", &port], folder).await;
    assert!(list.out.contains(&id), "{list:?}");

    // A fixed handler, with the saved event as a test.
    let app = read(folder, "app.js").replace("throw new TypeError(\"a text is wanted\")", "text = String(text)");
    write(folder, "fixed.js", &app);
    let said = verb(&["replay", "fixed.js", "failed.toml"], folder).await;
    assert!(
        said.status.success() && said.out.starts_with("ack = [15]\n"),
        "{said:?}"
    );
    let said = verb(&["test", "fixed.js", "failed.toml"], folder).await;
    assert!(said.status.success(), "{said:?}");
    let said = verb(
        &["replay", "app.js", "--dead", "0000-000000000001", "--port", &port],
        folder,
    )
    .await;
    assert!(
        !said.status.success() && said.err.contains("there is no dead letter"),
        "{said:?}"
    );
}

#[tokio::test]
async fn custom_build_command_serves_build_test_and_dev() {
    let folder = temp_folder();
    let folder = folder.path();
    let at = |name: &str| folder.join(name);
    // A toolchain that inserts a word into a template.
    write(
        folder,
        "src/app.tmpl",
        "require('plugnode').on('ask', () => '@WORD@');\n",
    );
    write(folder, "src/word", "first");
    let settings = |build: &str| write(folder, "plugnode.toml", &format!("[build]\n{build}"));
    for (build, words) in [
        ("output = \"out/app.js\"", "plugnode.toml: [build] command: is missing"),
        ("command = \"true\"", "plugnode.toml: [build] output: is missing"),
        (
            "command = \"true\"\noutput = \"out/app.js\"",
            "ended well, and there is no ./out/app.js; name the file that it writes",
        ),
        (
            "command = \"no-such-tool\"\noutput = \"a.js\"",
            "install what is not found, or change [build] command",
        ),
        ("command = \"echo a.c:7: no; exit 3\"\noutput = \"a.js\"", "a.c:7: no"),
        (
            "command = \"echo x >a.wasm\"\noutput = \"a.wasm\"",
            "which `echo x >a.wasm` made, is no handler",
        ),
        ("comand = \"true\"", "unknown key `comand`"),
    ] {
        settings(build);
        let said = verb(&["build", "."], folder).await;
        assert!(
            !said.status.success() && said.err.contains(words),
            "{words:?}: {said:?}"
        );
    }
    let tool = "test $(cat src/word) != third || { echo src/word:1: no such word >&2; exit 1; }\n\
                mkdir -p out\nsed s/@WORD@/$(cat src/word)/ src/app.tmpl >out/app.js\n";
    write(folder, "tool.sh", tool);
    settings("command = \"sh tool.sh\"\noutput = \"out/app.js\"\nwatch = [\"none/*\"]\n");
    let said = verb(&["dev", ".", "--port", "0"], folder).await;
    assert!(
        !said.status.success() && said.err.contains("[build] watch") && said.err.contains("`none/*`"),
        "{said:?}"
    );
    settings("command = \"sh tool.sh\"\noutput = \"out/app.js\"\nwatch = [\"src/*\"]\n");
    let said = verb(&["build", "."], folder).await;
    assert!(said.status.success() && at("app.wasm").is_file(), "{said:?}");
    write(
        folder,
        "events.toml",
        "[[event]]\nmessage = \"ask\"\nack = true\nexpect = { ack = [\"first\"] }\n",
    );
    let said = verb(&["test", ".", "events.toml"], folder).await;
    assert!(said.status.success(), "{said:?}");

    let node = Node::dev(folder, &[]).await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.ask("ask", &[]).await, [json!("first")]);
    write(folder, "src/word", "third");
    node.logged("does not build").await;
    write(folder, "src/word", "second");
    node.logged("of / runs, ").await;
    assert_eq!(client.ask("ask", &[]).await, [json!("second")]);
}

#[tokio::test]
async fn dev_overlay_shows_errors_until_fixed() {
    let folder = temp_folder();
    let folder = folder.path();
    write(folder, "package.json", "{ \"main\": \"server.js\" }");
    write(
        folder,
        "server.js",
        "import { answer } from \"./answers.js\";\nimport { on } from \"plugnode\";\n\non(\"ask\", (client, text) => answer(text));\n",
    );
    write(folder, "answers.js", "export const answer = (text) => text;\n");
    let page = "<!doctype html><title>page</title><script src=\"/socket.io/socket.io.js\"></script>\n<script>window.socket = io();</script>\n\
                <body>page</body>\n";
    write(folder, "public/index.html", page);
    std::os::unix::fs::symlink(repository().join("tests/node_modules"), folder.join("node_modules"))
        .expect("the link can be created");
    let node = Node::dev(folder, &[]).await;
    let place = folder.to_str().expect("the path is UTF-8");
    node_script("overlay.mjs", &[&node.url(), place]).await;

    // `run` serves pages unchanged.
    let node = Node::run(&format!(
        "[frontend]\nstatic-dir = {:?}\n[[app]]\ncomponent = {:?}\n",
        folder.join("public"),
        component("echo")
    ))
    .await;
    assert!(!node.get("/").await.contains("overlay"));
    assert!(node.get("/__plugnode/overlay.json").await.contains("404"));
}
