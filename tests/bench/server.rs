//! A server under test: one or more processes that together serve on one or more ports.
//!
//! Each process writes its log to a file in the folder of its server, and a failed start shows it. CPU time (with that of
//! ended children) and memory (proportional set size) are read from the kernel. Knows nothing of the load.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use plugnode_tests::within;
use tokio::process::{Child, Command};

/// A server under test.
pub(crate) struct Server {
    /// The name in reports.
    pub(crate) name: &'static str,
    /// A port for each process that holds connections. Clients are spread over them in turn.
    pub(crate) ports: Vec<u16>,
    /// Whether it promises to answer the messages of one client in order.
    pub(crate) in_order: bool,
    /// The processes whose CPU time and memory are its cost.
    pub(crate) processes: Vec<Process>,
}

/// The part of a process in its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Holds connections.
    Io,
    /// Handles events.
    App,
    /// The queue.
    Redis,
    /// The whole server.
    Whole,
}

/// One process of a server, killed on drop.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// A server whose processes are started elsewhere, and whose cost is not measured.
    pub(crate) fn external(name: &'static str, port: u16) -> Self {
        Self {
            name,
            ports: vec![port],
            in_order: true,
            processes: Vec::new(),
        }
    }

    /// The port for a client by its number.
    pub(crate) fn port(&self, client: usize) -> u16 {
        self.ports[client % self.ports.len()]
    }

    /// CPU time of each part so far.
    pub(crate) fn cpu(&self) -> Vec<(Part, Duration)> {
        self.by_part(Process::cpu)
    }

    /// Memory of each part in bytes.
    pub(crate) fn memory(&self) -> Vec<(Part, u64)> {
        self.by_part(Process::memory)
    }

    fn by_part<T: std::iter::Sum>(&self, value: impl Fn(&Process) -> T) -> Vec<(Part, T)> {
        let sum = |part| {
            let mut processes = self
                .processes
                .iter()
                .filter(|process| process.part() == part)
                .peekable();
            processes.peek()?;
            Some((part, processes.map(&value).sum()))
        };
        Part::ALL.into_iter().filter_map(sum).collect()
    }
}

impl Part {
    pub(crate) const ALL: [Self; 4] = [Self::Io, Self::App, Self::Redis, Self::Whole];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::App => "app",
            Self::Redis => "Redis",
            Self::Whole => "server",
        }
    }
}

impl Process {
    /// Starts a command in a folder. The beginning of the name (`io`, `app`, `redis`, or anything else) selects its part.
    pub(crate) fn start(name: &'static str, mut command: Command, folder: &Path) -> Self {
        let (log, file) = log(name, folder);
        let child = command
            .current_dir(folder)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("cannot share the log file"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name, child, log }
    }

    /// Waits for a log line that contains a text, and returns the rest of that line.
    ///
    /// # Panics
    /// With the log, when the process ends before, or the line does not come in time.
    pub(crate) async fn wait_for(&mut self, text: &str) -> String {
        within(&format!("{} logs {text:?}", self.name), async {
            loop {
                let log = std::fs::read_to_string(&self.log).expect("cannot read the log");
                let lines = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                if let Some((_, rest)) = lines.filter_map(|line| line.split_once(text)).next() {
                    return rest.trim_end().to_owned();
                }
                if let Some(status) = self.child.try_wait().expect("cannot wait for the process") {
                    panic!("{} ended with {status}:\n{log}", self.name);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// Waits until it listens for HTTP, and returns the port.
    pub(crate) async fn port(&mut self) -> u16 {
        self.port_after("listening on http://").await
    }

    /// Waits for a log line with this text and an address after it, and returns the port.
    pub(crate) async fn port_after(&mut self, text: &str) -> u16 {
        let address = self.wait_for(text).await;
        address
            .split(|c: char| c.is_whitespace() || c == '/')
            .next()
            .and_then(|address| address.rsplit(':').next())
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("{} logs no port in {address:?}", self.name))
    }

    /// CPU time so far, user and system, of all threads and of ended children.
    ///
    /// # Panics
    /// When it has ended.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.proc_file("stat");
        let (state, cpu) = cpu_in(&stat);
        assert_ne!(
            state,
            "Z",
            "{} has ended; its log:\n{}",
            self.name,
            std::fs::read_to_string(&self.log).unwrap_or_default()
        );
        cpu
    }

    /// Proportional set size (PSS) in bytes: shared pages are divided by the number of processes that share them.
    ///
    /// # Panics
    /// When it has ended.
    pub(crate) fn memory(&self) -> u64 {
        let rollup = self.proc_file("smaps_rollup");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.expect("Linux reports the PSS") * 1024
    }

    fn part(&self) -> Part {
        match self.name {
            name if name.starts_with("io") => Part::Io,
            name if name.starts_with("app") => Part::App,
            name if name.starts_with("redis") => Part::Redis,
            _ => Part::Whole,
        }
    }

    /// Reads a file of the process in `/proc`.
    fn proc_file(&self, file: &str) -> String {
        let pid = self.child.id().expect("the process has not been waited for");
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_else(|error| {
            panic!(
                "cannot read /proc/PID/{file} of {}, which needs Linux: {error}",
                self.name
            )
        })
    }
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    cpu_in(&std::fs::read_to_string("/proc/self/stat").expect("cannot read /proc/self/stat, which needs Linux")).1
}

/// The state and the CPU time in `/proc/PID/stat`.
fn cpu_in(stat: &str) -> (&str, Duration) {
    let (_, rest) = stat.rsplit_once(") ").expect("the program name is in brackets");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11..15]
        .iter()
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    // User space always sees 100 ticks per second (USER_HZ).
    (fields[0], Duration::from_millis(ticks * 10))
}

/// Creates a log file. Several processes of a server may have the same name.
fn log(name: &str, folder: &Path) -> (PathBuf, File) {
    for number in 1.. {
        let path = folder.join(format!("{name}-{number}.log"));
        match File::create_new(&path) {
            Ok(file) => return (path, file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("cannot create {}: {error}", path.display()),
        }
    }
    unreachable!("the number of processes is small")
}
