//! What is measured: one or more processes that together serve Socket.IO on a port.
//!
//! A process writes its log to a file in the folder of the benchmark, where a start that fails can be read. Nothing here
//! knows what is sent to a server.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use plugnode_tests::within;
use tokio::process::{Child, Command};

/// One who takes part in a race.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    /// One of each process that holds connections.
    pub(crate) ports: Vec<u16>,
    /// Whether it means to echo one client's messages in the order in which they were sent.
    pub(crate) in_order: bool,
    pub(crate) processes: Vec<Process>,
}

/// One process of a server. It is killed when dropped.
pub(crate) struct Process {
    pub(crate) name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command in this folder.
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
        let address = self.says("listening on http://").await;
        address
            .split(|c: char| c.is_whitespace() || c == '/')
            .next()
            .and_then(|address| address.rsplit(':').next())
            .and_then(|port| port.parse().ok())
            .unwrap_or_else(|| panic!("{} names no port in {address:?}", self.name))
    }

    /// CPU time that it has used so far, all threads together, in the kernel and out of it.
    ///
    /// # Panics
    /// When it has ended.
    pub(crate) fn cpu(&self) -> Duration {
        let pid = self
            .child
            .id()
            .expect("nobody has waited for it, so it still has its number");
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs, on Linux");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("what follows the name of the program")
            .split_whitespace()
            .collect();
        assert_ne!(
            fields[0],
            "Z",
            "{} has ended; its log is {}",
            self.name,
            self.log.display()
        );
        let ticks: u64 = fields[11..13]
            .iter()
            .map(|field| field.parse::<u64>().expect("a number"))
            .sum();
        // Linux shows programs a hundred ticks a second, whatever the kernel counts in.
        Duration::from_millis(ticks * 10)
    }
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
