//! The tutorial, as a reader types it: its commands are run and its files are written, in their order.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use plugnode_tests::{Client, Node, binary, component, free_port, repository};
use serde_json::json;
use tempfile::TempDir;

/// What is between two fences: the words behind the first one, and the text.
fn blocks(text: &str) -> Vec<(Vec<&str>, &str)> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("\n```") {
        let (words, after) = after.split_once('\n').expect("a block has lines");
        let (block, after) = after.split_once("\n```").expect("a block ends");
        blocks.push((words.split_whitespace().collect(), block));
        rest = after;
    }
    blocks
}

/// A person at a terminal.
struct Reader {
    home: TempDir,
    place: PathBuf,
    port: String,
    server: Option<Node>,
}

impl Reader {
    fn new() -> Self {
        let home = tempfile::tempdir().expect("a temporary folder can be made");
        let reader = Self {
            place: home.path().to_owned(),
            port: free_port().to_string(),
            home,
            server: None,
        };
        reader.publish_npm_package();
        reader
    }

    /// What npm would find in its registry: the package as it is packed, by a command that stands before npm.
    fn publish_npm_package(&self) {
        let package = self.home.path().join("package");
        let copied = Command::new("cp")
            .arg("-r")
            .arg(repository().join("guest-sdk/js"))
            .arg(&package)
            .status();
        assert!(copied.expect("cp is there").success());
        fs::copy(component("plugnode-js"), package.join("plugnode-js.wasm")).expect("it was built");
        let bin = self.home.path().join("bin");
        fs::create_dir(&bin).expect("a folder can be made");
        std::os::unix::fs::symlink(binary(), bin.join("plugnode")).expect("a link can be made");
        let npm = format!(
            "#!/usr/bin/env bash\nPATH=${{PATH#*:}}\n[[ \"$*\" == 'install --save-dev plugnode' ]] || exit 64\n\
             (cd {package:?} && npm pack --silent >/dev/null) && exec npm install --silent --offline --no-audit --no-fund \
             --save-dev {package:?}/plugnode-0.1.0.tgz\n"
        );
        fs::write(bin.join("npm"), npm).expect("it can be written");
        let runnable = Command::new("chmod").arg("+x").arg(bin.join("npm")).status();
        assert!(runnable.expect("chmod is there").success());
    }

    /// Commands, from the folder of those before.
    fn bash(&self, commands: &str) -> Command {
        let commands = commands.replace("8080", &self.port);
        let path = std::env::var("PATH").unwrap_or_default();
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", "-c"])
            .arg(format!("cd {:?}\n{commands}", self.place))
            .env("PATH", format!("{}:{path}", self.home.path().join("bin").display()))
            .env("PLUGNODE_HTTP__LISTEN", format!("127.0.0.1:{}", self.port))
            .env("NO_COLOR", "1");
        bash
    }

    /// Runs commands that end, and returns what they say.
    async fn types(&mut self, commands: &str) -> String {
        let mut bash = self.bash(&format!("{commands}\npwd >{:?}", self.home.path().join("place")));
        let output = tokio::task::spawn_blocking(move || bash.output());
        let output = output.await.expect("it does not panic").expect("bash is there");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{commands}\n{said}");
        let place = fs::read_to_string(self.home.path().join("place")).expect("it was written");
        self.place = place.trim().into();
        said
    }

    /// Runs one that goes on, in the place of the one before.
    async fn starts(&mut self, command: &str) {
        if let Some(before) = self.server.take() {
            assert!(before.stop().await.success());
        }
        self.server = Some(Node::typed(self.bash(&format!("exec {command}"))).await);
    }

    async fn writes(&self, name: &str, text: &str) {
        fs::write(self.place.join(name), text.replace("8080", &self.port)).expect("it can be written");
    }

    fn server(&self) -> &Node {
        self.server.as_ref().expect("there is one")
    }
}

/// Whom another hears when one speaks who has this name, or none.
async fn speaker(node: &Node, name: Option<&str>) -> String {
    let (mut one, mut other) = (Client::connect(node).await, Client::connect(node).await);
    for client in [&mut one, &mut other] {
        assert_eq!(client.event().await.0, "welcome");
    }
    if let Some(name) = name {
        assert_eq!(one.ask("call me", &[json!(name)]).await, [json!({ "ok": name })]);
    }
    assert_eq!(one.ask("say", &[json!(" hello ")]).await, [json!({ "ok": "hello" })]);
    let (event, args) = other.event().await;
    assert_eq!((event.as_str(), &args[1]), ("said", &json!("hello")));
    let speaker = args[0].as_str().expect("it is a text");
    speaker.replace(one.id(), "its id")
}

#[tokio::test]
async fn tutorial_commands_work_as_written() {
    let text = fs::read_to_string(repository().join("docs/tutorial.md")).expect("it is there");
    let mut reader = Reader::new();
    let mut said = String::new();
    let mut stayed = None;
    for (words, block) in blocks(&text) {
        match words[..] {
            ["sh"] => said += &reader.types(block).await,
            ["sh", "server"] => {
                reader.starts(block).await;
                stayed = Some(Client::connect(reader.server()).await);
            }
            [_, "server.js"] => {
                reader.writes("server.js", block).await;
                reader.server().logged("of / runs, ").await;
                assert_eq!(speaker(reader.server(), Some("Ada")).await, "Ada");
            }
            [_, name] => reader.writes(name, block).await,
            _ => panic!("what kind of block is this? {words:?}"),
        }
        if block.contains("plugnode deploy") {
            assert_eq!(speaker(reader.server(), None).await, "somebody");
        }
    }
    assert_eq!(speaker(reader.server(), None).await, "its id");
    // Whoever came before the deploy is there after the rollback.
    let mut stayed = stayed.expect("somebody came");
    let answer = json!({ "ok": "still here" });
    stayed.emit("say", &[json!("")]).await;
    assert_eq!(stayed.ask("say", &[json!("still here")]).await, [answer]);
    for words in ["no ids in the chat", "server.wasm", "pass 1"] {
        assert!(said.contains(words), "nothing said {words:?}:\n{said}");
    }
}
