//! One `plugnode` process with its own port and its own folder.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use crate::tools::{binary, broken_binary, built};
use crate::{signals, within};

/// A running process. It is killed when dropped.
pub struct Node {
    child: Child,
    port: u16,
    log: Arc<Log>,
    folder: TempDir,
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    news: Notify,
}

impl Node {
    /// Runs `plugnode run` with this configuration and waits until it listens.
    pub async fn run(config: &str) -> Self {
        let (command, folder) = with_config(Command::new(binary()), config);
        Self::start(command, folder).await
    }

    /// The same with the deliberately broken build, with this fault.
    pub async fn run_broken(fault: &str, config: &str) -> Self {
        let mut command = Command::new(broken_binary());
        command.env("PLUGNODE_BREAK", fault);
        let (command, folder) = with_config(command, config);
        Self::start(command, folder).await
    }

    /// Runs `plugnode run` with this node name, for any role.
    pub(crate) async fn run_as(name: &str, config: &str) -> Self {
        let mut command = Command::new(binary());
        // Not in the file: the test may have written the same section.
        command.env("PLUGNODE_IO_NODE__NAME", name);
        command.env("PLUGNODE_APP_NODE__NAME", name);
        let (command, folder) = with_config(command, config);
        Self::start(command, folder).await
    }

    /// Runs `plugnode run` with a configuration file, overridden by environment variables.
    pub async fn configured(file: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary());
        command.arg("run").arg("-c").arg(file).envs(variables.iter().copied());
        let folder = crate::temp_folder();
        Self::start(command, folder).await
    }

    /// Runs `plugnode run` with one app in namespace `/`.
    pub async fn app(component: &Path, settings: &str) -> Self {
        Self::run(&app("/", component, settings)).await
    }

    /// Runs an example program that embeds plugnode.
    pub async fn program(name: &str, args: &[&str]) -> Self {
        let mut command = Command::new(built(name));
        command.args(args);
        let folder = crate::temp_folder();
        Self::start(command, folder).await
    }

    /// Runs `plugnode dev` on a path.
    pub async fn dev(path: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.arg("dev").arg(path).args(["--port", "0"]).args(args);
        let folder = crate::temp_folder();
        Self::start(command, folder).await
    }

    /// Runs a command line that starts plugnode, and waits until it listens.
    pub async fn typed(command: std::process::Command) -> Self {
        let folder = crate::temp_folder();
        Self::start(command.into(), folder).await
    }

    /// Starts `plugnode run` without waiting until it listens; its port is unknown.
    pub fn begin(config: &str) -> Self {
        let (command, folder) = with_config(Command::new(binary()), config);
        Self::spawn(command, folder)
    }

    async fn start(command: Command, folder: TempDir) -> Self {
        let mut node = Self::spawn(command, folder);
        node.port = tokio::select! {
            line = node.log.wait_for("listening on http://", 1) => port_in(&line),
            // An app-node alone has no port.
            _ = node.log.wait_for("started; it has no clients", 1) => 0,
            status = node.child.wait() => panic!("plugnode ended with {status:?}:\n{}", node.log.text()),
            () = tokio::time::sleep(crate::LIMIT * 4) => panic!("plugnode does not listen:\n{}", node.log.text()),
        };
        node
    }

    fn spawn(mut command: Command, folder: TempDir) -> Self {
        // No wait for load balancers at shutdown, unless the test sets it.
        for (name, value) in [
            ("PLUGNODE_HTTP__LISTEN", "127.0.0.1:0"),
            ("PLUGNODE_SHUTDOWN__LAME_DUCK_MS", "0"),
        ] {
            if command.as_std().get_envs().all(|(other, _)| other != name) {
                command.env(name, value);
            }
        }
        let mut child = command
            .current_dir(folder.path())
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("plugnode can be started");
        let log = Arc::<Log>::default();
        tokio::spawn(
            log.clone()
                .collect(BufReader::new(child.stdout.take().expect("it is piped"))),
        );
        tokio::spawn(
            log.clone()
                .collect(BufReader::new(child.stderr.take().expect("it is piped"))),
        );
        Self {
            child,
            port: 0,
            log,
            folder,
        }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its port of `[admin] listen`, from its log.
    pub async fn admin_port(&self) -> u16 {
        let line = self.logged("health and metrics on http://").await;
        let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        port.expect("the line ends with the port")
    }

    /// The URL of its server API, from its log, once it takes calls.
    pub async fn api_url(&self) -> String {
        let line = self.logged("server API on http://").await;
        self.logged("API node joined").await;
        let (_, address) = line.split_once("http://").expect("the line has the address");
        format!("http://{}", address.trim())
    }

    /// The answer to a GET, head and body.
    pub async fn get(&self, path: &str) -> String {
        self.get_at(self.port, path).await
    }

    /// The same at another of its ports.
    pub async fn get_at(&self, port: u16, path: &str) -> String {
        let asked = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        within("plugnode answers a GET", asked).await.expect("it listens")
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for a log line that contains `part`, and returns it.
    pub async fn logged(&self, part: &str) -> String {
        self.logged_times(part, 1).await
    }

    /// Waits for `times` log lines that contain `part`, and returns the last.
    pub async fn logged_times(&self, part: &str, times: usize) -> String {
        tokio::select! {
            line = self.log.wait_for(part, times) => line,
            () = tokio::time::sleep(crate::LIMIT) => panic!("{part:?} is not in the log:\n{}", self.log.text()),
        }
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let pid = self.child.id().expect("it runs");
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs on Linux");
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .expect("Linux tells it");
        let kilobytes: u64 = line
            .split_whitespace()
            .nth(1)
            .and_then(|field| field.parse().ok())
            .expect("it is a number");
        kilobytes * 1024
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Sends SIGTERM and waits until it has ended.
    pub async fn stop(mut self) -> ExitStatus {
        self.terminate();
        self.ended().await
    }

    /// The same; returns the log as well.
    pub async fn stop_with_log(mut self) -> (ExitStatus, String) {
        self.terminate();
        self.logged("ended").await;
        (self.ended().await, self.log.text())
    }

    /// Sends SIGTERM without waiting.
    pub fn terminate(&self) {
        signals::send(&self.child, Signal::SIGTERM);
    }

    /// Sends SIGHUP, which reloads its configuration.
    pub fn send_sighup(&self) {
        signals::send(&self.child, Signal::SIGHUP);
    }

    /// Waits until it has ended.
    pub async fn ended(&mut self) -> ExitStatus {
        let ended = within("plugnode ends", self.child.wait()).await;
        ended.expect("it is our child")
    }

    /// Kills it (SIGKILL), also while it is paused.
    pub async fn kill9(&mut self) {
        self.child.kill().await.expect("it is our child");
    }

    /// Pauses it (SIGSTOP).
    pub fn pause(&self) {
        signals::pause(&self.child);
    }

    /// Resumes it (SIGCONT).
    pub fn resume(&self) {
        signals::send(&self.child, Signal::SIGCONT);
    }
}

/// `plugnode run` in a folder with this configuration.
fn with_config(mut command: Command, config: &str) -> (Command, TempDir) {
    let folder = crate::temp_folder();
    std::fs::write(folder.path().join("plugnode.toml"), config).expect("the folder can be written to");
    command.args(["run", "-c", "plugnode.toml"]);
    (command, folder)
}

/// The `[[app]]` section of one app.
pub fn app(namespace: &str, component: &Path, settings: &str) -> String {
    format!("[[app]]\nnamespace = {namespace:?}\ncomponent = {component:?}\n{settings}\n")
}

/// Runs `plugnode` until it ends; returns its status and its output.
pub async fn run_to_end(args: &[&str], folder: &Path) -> (ExitStatus, String) {
    let output = Command::new(binary())
        .args(args)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within("plugnode ends by itself", output)
        .await
        .expect("plugnode can be started");
    let said = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&said).into_owned())
}

fn port_in(line: &str) -> u16 {
    let from = line.find("http://").expect("it was found by this") + "http://".len();
    let address: String = line[from..]
        .chars()
        .take_while(|c| !c.is_whitespace() && !"/\"".contains(*c))
        .collect();
    address
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or_else(|| panic!("no port in {line:?}"))
}

impl Log {
    async fn collect(self: Arc<Self>, lines: impl AsyncBufReadExt + Unpin) {
        let mut lines = lines.lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.lines.lock().expect("no holder of this lock panics").push(line);
            self.news.notify_waiters();
        }
    }

    async fn wait_for(&self, part: &str, times: usize) -> String {
        loop {
            let news = self.news.notified();
            {
                let lines = self.lines.lock().expect("no holder of this lock panics");
                if let Some(line) = lines.iter().filter(|line| line.contains(part)).nth(times - 1) {
                    return line.clone();
                }
            }
            news.await;
        }
    }

    fn text(&self) -> String {
        self.lines.lock().expect("no holder of this lock panics").join("\n")
    }
}
