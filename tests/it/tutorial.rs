//! The tutorial (docs/tutorial.md): its commands are run and its files written, in order.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use plugnode_tests::{Client, Node, binary, component, free_port, repository, temp_folder};
use serde_json::json;
use tempfile::TempDir;

/// The code blocks: the words after the opening fence, and the text.
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

/// A reader's terminal and files.
struct Reader {
    home: TempDir,
    place: PathBuf,
    port: String,
    server: Option<Node>,
}

impl Reader {
    fn new() -> Self {
        let home = temp_folder();
        let reader = Self {
            place: home.path().to_owned(),
            port: free_port().to_string(),
            home,
            server: None,
        };
        reader.publish_npm_package();
        reader
    }

    /// Puts a wrapper before npm that installs the packed package instead of one from the registry.
    fn publish_npm_package(&self) {
        let package = self.home.path().join("package");
        let copied = Command::new("cp")
            .arg("-r")
            .arg(repository().join("guest-sdk/js"))
            .arg(&package)
            .status();
        assert!(copied.expect("cp is there").success());
        fs::copy(component("plugnode-js"), package.join("plugnode-js.wasm")).expect("the component was built");
        let bin = self.home.path().join("bin");
        fs::create_dir(&bin).expect("the folder can be created");
        std::os::unix::fs::symlink(binary(), bin.join("plugnode")).expect("the link can be created");
        let npm = format!(
            "#!/usr/bin/env bash\nPATH=${{PATH#*:}}\n[[ \"$*\" == 'install --save-dev plugnode' ]] || exit 64\n\
             (cd {package:?} && npm pack --silent >/dev/null) && exec npm install --silent --offline --no-audit --no-fund \
             --save-dev {package:?}/plugnode-0.1.0.tgz\n"
        );
        fs::write(bin.join("npm"), npm).expect("the file can be written");
        let runnable = Command::new("chmod").arg("+x").arg(bin.join("npm")).status();
        assert!(runnable.expect("chmod is there").success());
    }

    /// A shell that runs commands in the current folder.
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

    /// Runs commands that end, and returns their output.
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

    /// Starts a server, after stopping the one before.
    async fn starts(&mut self, command: &str) {
        if let Some(before) = self.server.take() {
            assert!(before.stop().await.success());
        }
        self.server = Some(Node::typed(self.bash(&format!("exec {command}"))).await);
    }

    async fn writes(&self, name: &str, text: &str) {
        fs::write(self.place.join(name), text.replace("8080", &self.port)).expect("the file can be written");
    }

    fn server(&self) -> &Node {
        self.server.as_ref().expect("there is one")
    }
}

/// The sender's name that another client sees when a client with this name, or none, sends a message.
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
    let text = fs::read_to_string(repository().join("docs/tutorial.md")).expect("the file exists");
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
            _ => panic!("unknown kind of code block: {words:?}"),
        }
        if block.contains("plugnode deploy") {
            assert_eq!(speaker(reader.server(), None).await, "somebody");
        }
    }
    assert_eq!(speaker(reader.server(), None).await, "its id");
    // A client that connected before the deploy is still connected after the rollback.
    let mut stayed = stayed.expect("a client connected");
    let answer = json!({ "ok": "still here" });
    stayed.emit("say", &[json!("")]).await;
    assert_eq!(stayed.ask("say", &[json!("still here")]).await, [answer]);
    for words in ["no ids in the chat", "server.wasm", "pass 1"] {
        assert!(said.contains(words), "no command printed {words:?}:\n{said}");
    }
}
