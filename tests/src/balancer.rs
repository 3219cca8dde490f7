//! HAProxy and nginx with the configurations of `docs/proxies.md`, adapted to a test's addresses.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::{free_port, installed_tool, repository, within};

/// The listen address in the document.
const LISTEN: &str = "10.0.0.10:80";
/// Attempts to start: another process may take the free port.
const TRIES: usize = 3;

/// A load balancer in front of two nodes. It is killed when dropped.
pub struct Balancer {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Balancer {
    /// HAProxy in front of the nodes at these ports.
    pub async fn haproxy(nodes: [u16; 2]) -> Self {
        Self::start("haproxy", nodes, |folder| {
            vec!["-db".into(), "-f".into(), folder.join("config")]
        })
        .await
    }

    /// nginx in front of the nodes at these ports.
    pub async fn nginx(nodes: [u16; 2]) -> Self {
        Self::start("nginx", nodes, |folder| {
            let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|name| format!("{name}_temp_path {}; ", folder.join(name).display()));
            let config = fs::read_to_string(folder.join("config")).expect("it was just written");
            let config = config.replacen("http {", &format!("http {{ access_log off; {}", paths.concat()), 1);
            // Its temporary files stay in the test's folder.
            let main = format!(
                "daemon off; master_process off; pid {}/pid;\n{config}",
                folder.display()
            );
            fs::write(folder.join("config"), main).expect("it can be written");
            vec![
                "-p".into(),
                folder.clone(),
                "-e".into(),
                "stderr".into(),
                "-c".into(),
                folder.join("config"),
            ]
        })
        .await
    }

    async fn start(name: &str, nodes: [u16; 2], arguments: impl Fn(&PathBuf) -> Vec<PathBuf>) -> Self {
        for _ in 0..TRIES {
            if let Some(balancer) = Self::try_start(name, nodes, &arguments).await {
                return balancer;
            }
        }
        panic!("{name} does not start");
    }

    async fn try_start(name: &str, nodes: [u16; 2], arguments: impl Fn(&PathBuf) -> Vec<PathBuf>) -> Option<Self> {
        let folder = crate::temp_folder();
        let port = free_port();
        let config = documented(name)
            .replace(LISTEN, &format!("127.0.0.1:{port}"))
            .replace("10.0.0.1:8080", &format!("127.0.0.1:{}", nodes[0]))
            .replace("10.0.0.2:8080", &format!("127.0.0.1:{}", nodes[1]));
        fs::write(folder.path().join("config"), config).expect("it can be written");
        let log = fs::File::create(folder.path().join("log")).expect("it can be made");
        let mut command = command(name);
        let child = command
            .args(arguments(&folder.path().to_path_buf()))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("there are files left"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} cannot be run: {error}; run .ci/setup-tests proxies"));
        let mut balancer = Self { child, port, folder };
        within(&format!("{name} listens"), balancer.listens())
            .await
            .then_some(balancer)
    }

    async fn listens(&mut self) -> bool {
        loop {
            if TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return true;
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                println!("the load balancer ended with {status}: {}", self.log());
                return false;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

/// The code block of `docs/proxies.md` in this language.
fn documented(language: &str) -> String {
    let document = fs::read_to_string(repository().join("docs/proxies.md")).expect("it is there");
    let (_, rest) = document
        .split_once(&format!("```{language}\n"))
        .expect("the document has such a block");
    let (block, _) = rest.split_once("```").expect("the block has an end");
    block.to_owned()
}

/// The program on PATH, or the one that `.ci/setup-tests` installed, with its libraries.
fn command(name: &str) -> Command {
    let folder = installed_tool("proxies");
    let program = folder.join("usr/sbin").join(name);
    if !program.exists() {
        return Command::new(name);
    }
    let libraries = ["usr/lib", "lib"].map(|place| folder.join(place));
    let libraries = libraries.iter().filter_map(|place| fs::read_dir(place).ok()).flatten();
    let libraries = libraries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with("-linux-gnu"));
    let libraries = std::env::join_paths(libraries).expect("no path has a colon");
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", libraries);
    command
}
