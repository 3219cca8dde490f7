//! Leak checks: many clients connect and leave, and the process must release their connections, sessions and memory.
//!
//! `make test` runs each briefly, `SOAK_SCENARIO=… make soak` for long. Memory is the resident set size of a process that has already
//! handled an event. It may take a while to shrink, because the allocator returns free memory with a delay.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::raw_client::RawClient;
use crate::{Client, Node, app, component, within, within_minutes};

/// Bytes by which a process may be larger at the end than at the start.
const LEFT: u64 = 30 << 20;
/// Time-out for releasing everything after the last client has left.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that connect at the same time.
const AT_ONCE: usize = 100;
/// Tolerance for open files besides connections.
const FILES: usize = 16;

/// Idle clients, and others that connect and leave.
#[derive(Debug, Clone, Copy)]
pub struct ClientChurn {
    /// Number of idle clients.
    pub idle: usize,
    /// Clients per second that connect and leave at once.
    pub each_second: usize,
    /// Duration in seconds.
    pub seconds: u64,
}

/// Messages of nearly the largest size, then many clients that leave.
#[derive(Debug, Clone, Copy)]
pub struct LargeMessages {
    /// Clients that each send a message and wait for its echo, all at once.
    pub clients: usize,
    /// Messages of each client.
    pub rounds: usize,
    /// Bytes of a message.
    pub size: usize,
    /// Clients that connect afterwards, and leave.
    pub leaving: usize,
}

impl ClientChurn {
    /// For `make test`.
    pub const SHORT: Self = Self {
        idle: 2_000,
        each_second: 300,
        seconds: 8,
    };
    /// For `make soak`. With the client that counts the others, 10,000 stay.
    pub const LONG: Self = Self {
        idle: 9_999,
        each_second: 1_000,
        seconds: 60,
    };

    /// Runs the check.
    ///
    /// # Panics
    /// When a client cannot connect, or resources of departed clients are not released.
    pub async fn run(self) {
        let app = app(
            "/",
            &component("conformance"),
            "admission = true\ngrants = { keyvalue = [\"default\"] }\nconfig = { configuration = \"cluster\" }",
        );
        let node = node(&app).await;
        let mut counter = Client::connect(&node).await;
        drop(connected(&node, 50).await);
        await_clients(&mut counter, 1).await;
        let (files, start) = (files(&node), node.memory());

        // Counting makes the handler list all clients, and its memory stays that large. So it comes last.
        let idle = connected(&node, self.idle).await;
        let full = node.memory();
        println!(
            "{} idle clients: {} MB over {} MB, {:.1} KB each",
            self.idle,
            (full.saturating_sub(start)) >> 20,
            start >> 20,
            full.saturating_sub(start) as f64 / self.idle as f64 / 1024.0
        );

        let begun = Instant::now();
        let most = self.churn(&node).await;
        println!(
            "{} clients connected and left in {:.1?}, {} MB at most",
            self.each_second as u64 * self.seconds,
            begun.elapsed(),
            most >> 20
        );
        assert_files(&node, files + self.idle).await;
        assert_memory_released(&node, full, "with the idle clients connected").await;

        drop(idle);
        assert_files(&node, files).await;
        assert_memory_released(&node, start, "after all clients left").await;
        await_clients(&mut counter, 1).await;
    }

    /// Connects clients at an even pace, or as fast as the machine can; they leave in different ways. Returns the peak memory.
    async fn churn(self, node: &Node) -> u64 {
        let (port, places) = (node.port(), Arc::new(Semaphore::new(2 * AT_ONCE)));
        let all = self.each_second as u64 * self.seconds;
        let begun = tokio::time::Instant::now();
        let mut most = 0;
        for number in 0..all {
            let due = begun + Duration::from_secs(1) / self.each_second as u32 * number as u32;
            tokio::time::sleep_until(due).await;
            let place = places.clone().acquire_owned().await.expect("it is not closed");
            tokio::spawn(async move {
                let number = number as usize;
                let mut bare = RawClient::client(port, number).await.expect("a client connects");
                match number % 4 {
                    0 => bare.reset(),
                    1 => drop(bare),
                    2 => {
                        let _ = bare.send("41").await;
                    }
                    _ => {
                        let _ = bare.send("42[\"nothing\",1]").await;
                    }
                }
                drop(place);
            });
            if number % self.each_second as u64 == 0 {
                most = node.memory().max(most);
            }
        }
        let all_done = places.acquire_many(2 * AT_ONCE as u32);
        drop(within("the last clients leave", all_done).await);
        most.max(node.memory())
    }
}

impl LargeMessages {
    /// For `make test`.
    pub const SHORT: Self = Self {
        clients: 60,
        rounds: 2,
        size: 900_000,
        leaving: 2_000,
    };
    /// For `make soak`.
    pub const LONG: Self = Self {
        clients: 200,
        rounds: 5,
        size: 900_000,
        leaving: 9_000,
    };

    /// Runs the check.
    ///
    /// # Panics
    /// When a message is not echoed, or the memory is not released.
    pub async fn run(self) {
        let node = node(&app("/", &component("echo"), "")).await;
        let mut client = Client::connect(&node).await;
        client.ask("ready", &[]).await;
        let files = files(&node);
        let start = node.memory();
        let exchange = self.exchange(&node);
        let most = within_minutes(10, "large messages are echoed", exchange).await;
        println!(
            "{} messages of {} KB both ways: from {} MB to {} MB",
            self.clients * self.rounds,
            self.size / 1_000,
            start >> 20,
            most >> 20
        );
        assert_memory_released(&node, start, "after the messages").await;
        let clients = connected(&node, self.leaving).await;
        client.ask("all are here", &[]).await;
        println!("{} clients: {} MB", self.leaving, node.memory() >> 20);
        drop(clients);
        assert_files(&node, files).await;
        assert_memory_released(&node, start, "after all clients left").await;
        client.ask("still here", &[json!(1)]).await;
    }

    async fn exchange(self, node: &Node) -> u64 {
        let message = format!("42[\"big\",\"{}\"]", "x".repeat(self.size));
        let most = AtomicU64::new(0);
        let clients = (0..self.clients).map(|number| {
            let (message, most) = (&message, &most);
            async move {
                let mut bare = RawClient::client(node.port(), number).await.expect("a client connects");
                for _ in 0..self.rounds {
                    bare.send(message).await.expect("it is open");
                    let heard = bare.hear("42[\"big\"").await.expect("the echo arrives");
                    assert_eq!(heard, message.len());
                    most.fetch_max(node.memory(), Ordering::Relaxed);
                }
            }
        });
        join_all(clients).await;
        most.into_inner()
    }
}

/// A node that sends no pings, so that idle clients need not answer any.
async fn node(app: &str) -> Node {
    let files = rlimit::increase_nofile_limit(u64::MAX).expect("its own limit can be raised");
    assert!(
        files > 12_000,
        "{files} files may be open: too few; raise the hard limit (ulimit -Hn)"
    );
    Node::run(&format!(
        "[http]\nmax-connections = 15000\n[io-node]\nping-interval-ms = 600000\n{app}"
    ))
    .await
}

/// Connects `clients` idle clients.
async fn connected(node: &Node, clients: usize) -> Vec<RawClient> {
    let port = node.port();
    let connecting = stream::iter(0..clients).map(|number| async move {
        let client = RawClient::client(port, number).await;
        client.expect("a client connects")
    });
    let connected = connecting.buffer_unordered(AT_ONCE).collect();
    within_minutes(5, "the clients connect", connected).await
}

/// Waits until the node has exactly `clients` clients.
async fn await_clients(counter: &mut Client, clients: usize) {
    let begun = Instant::now();
    loop {
        let found = counter.ask("fetch_sockets", &[]).await;
        let found = found[0].as_array().expect("a list").len();
        if found == clients {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "expected {clients} clients, found {found}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Number of open files of a node.
pub(crate) fn files(node: &Node) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.pid()));
    open.expect("it runs on Linux").count()
}

async fn assert_files(node: &Node, expected: usize) {
    let begun = Instant::now();
    while files(node).abs_diff(expected) > FILES {
        let open = files(node);
        assert!(
            begun.elapsed() < PATIENCE,
            "expected {expected} open files, found {open}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until a node's memory is back at `before`, within a tolerance.
///
/// # Panics
/// When it is not within [`PATIENCE`].
pub async fn assert_memory_released(node: &Node, before: u64, when: &str) {
    let begun = Instant::now();
    while node.memory() > before + LEFT && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = node.memory();
    let change = (now as i64 - before as i64) >> 20;
    println!("{when}: {change:+} MB after {:.1?}", begun.elapsed());
    assert!(
        now <= before + LEFT,
        "{when} the node has {} MB, before {} MB, after waiting {PATIENCE:?}",
        now >> 20,
        before >> 20
    );
}
