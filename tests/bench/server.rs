//! What is measured: one or more processes that together serve Socket.IO on one or more ports.
//!
//! A process writes its log to a file in the folder of its server, where a start that fails can be read. What a run costs
//! is asked of the kernel: CPU time with that of children that ended, and memory that is a process's own share. Nothing
//! here knows what is sent to a server.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use plugnode_tests::within;
use tokio::process::{Child, Command};

/// One who takes part in a comparison.
pub(crate) struct Server {
    /// What people call it.
    pub(crate) name: &'static str,
    /// Where it listens: a port of each of its processes that holds connections. Clients are spread over them in turn.
    pub(crate) ports: Vec<u16>,
    /// Whether it means to answer one client's messages in the order in which they were sent.
    pub(crate) in_order: bool,
    /// All whose CPU time and memory are its cost.
    pub(crate) processes: Vec<Process>,
}

/// The part that a process plays in its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It holds connections.
    Io,
    /// It handles events.
    App,
    /// It is the queue.
    Redis,
    /// It is all of it.
    Whole,
}

/// One process of a server. It is killed when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// One that is started and ended elsewhere, and whose cost nobody asks for.
    pub(crate) fn of_port(name: &'static str, port: u16) -> Self {
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

    /// CPU time that each part has used so far.
    pub(crate) fn cpu(&self) -> Vec<(Part, Duration)> {
        self.by_part(Process::cpu)
    }

    /// Memory of each part in bytes.
    pub(crate) fn memory(&self) -> Vec<(Part, u64)> {
        self.by_part(Process::memory)
    }

    fn by_part<T: std::iter::Sum>(&self, of: impl Fn(&Process) -> T) -> Vec<(Part, T)> {
        let sum = |part| {
            let mut processes = self
                .processes
                .iter()
                .filter(|process| process.part() == part)
                .peekable();
            processes.peek()?;
            Some((part, processes.map(&of).sum()))
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
    /// Starts a command in this folder. A name that begins with `io`, `app` or `redis` says what part it plays.
    pub(crate) fn start(name: &'static str, mut command: Command, folder: &Path) -> Self {
        let (log, file) = log(name, folder);
        let child = command
            .current_dir(folder)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file can be shared"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name, child, log }
    }

    /// Waits until it says a line with this in it, and returns the rest of that line.
    ///
    /// # Panics
    /// When it ends instead, or never says it, with all that it said.
    pub(crate) async fn says(&mut self, part: &str) -> String {
        within(&format!("{} says {part:?}", self.name), async {
            loop {
                let log = std::fs::read_to_string(&self.log).expect("the log can be read");
                let whole = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                if let Some((_, rest)) = whole.filter_map(|line| line.split_once(part)).next() {
                    return rest.trim_end().to_owned();
                }
                if let Some(status) = self.child.try_wait().expect("it is our child") {
                    panic!("{} ended with {status}:\n{log}", self.name);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// The port on which it says to listen for HTTP.
    pub(crate) async fn port(&mut self) -> u16 {
        self.port_in("listening on http://").await
    }

    /// The port of the address that follows these words.
    pub(crate) async fn port_in(&mut self, words: &str) -> u16 {
        let address = self.says(words).await;
        address
            .split(|c: char| c.is_whitespace() || c == '/')
            .next()
            .and_then(|address| address.rsplit(':').next())
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("{} names no port in {address:?}", self.name))
    }

    /// CPU time that it has used so far, all threads together and with children that ended, in the kernel and out of it.
    ///
    /// # Panics
    /// When it has ended.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = self.asked("stat");
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

    /// Its memory in bytes: what it shares with others in equal parts, the rest whole (PSS).
    ///
    /// # Panics
    /// When it has ended.
    pub(crate) fn memory(&self) -> u64 {
        let told = self.asked("smaps_rollup");
        let line = told.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kilobytes.expect("Linux tells it") * 1024
    }

    fn part(&self) -> Part {
        let begins = |start: &str| self.name.starts_with(start);
        match () {
            () if begins("io") => Part::Io,
            () if begins("app") => Part::App,
            () if begins("redis") => Part::Redis,
            () => Part::Whole,
        }
    }

    /// What the kernel says of it.
    fn asked(&self, what: &str) -> String {
        let pid = self
            .child
            .id()
            .expect("nobody has waited for it, so it still has its number");
        std::fs::read_to_string(format!("/proc/{pid}/{what}"))
            .unwrap_or_else(|error| panic!("{} cannot be asked for its {what}, on Linux: {error}", self.name))
    }
}

/// CPU time of this process so far.
pub(crate) fn own_cpu() -> Duration {
    cpu_in(&std::fs::read_to_string("/proc/self/stat").expect("this is Linux")).1
}

/// The state and the CPU time that a `stat` of Linux tells.
fn cpu_in(stat: &str) -> (&str, Duration) {
    let (_, rest) = stat.rsplit_once(") ").expect("the name of the program is in brackets");
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: u64 = fields[11..15]
        .iter()
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    // Linux shows programs a hundred ticks a second, whatever the kernel counts in.
    (fields[0], Duration::from_millis(ticks * 10))
}

/// A file of its own, as several processes of a server may have one name.
fn log(name: &str, folder: &Path) -> (PathBuf, File) {
    for number in 1.. {
        let path = folder.join(format!("{name}-{number}.log"));
        match File::create_new(&path) {
            Ok(file) => return (path, file),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("{} cannot be made: {error}", path.display()),
        }
    }
    unreachable!("there are not so many processes")
}
