//! Crowds of clients, and what of them a process still holds when they are gone: connections, clients, memory.
//!
//! Each is played short by `make test`, and long by `SOAK_SCENE=... make soak`. Memory is what the kernel counts (RSS), from
//! a process that has handled an event already; it has some time to come back, as an allocator gives back what is free for a
//! while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::bare::Bare;
use crate::{Client, Node, app, component, within, within_minutes};

/// By so much a process may be larger in the end than at the start.
const LEFT: u64 = 30 << 20;
/// How long that may take from the last client's end.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients that connect at the same moment.
const AT_ONCE: usize = 100;
/// What a process has open beside its connections, and what is not yet closed.
const FILES: usize = 16;

/// Clients that stay, and others that come and go beside them.
#[derive(Debug, Clone, Copy)]
pub struct ComingAndGoing {
    /// How many stay,
    pub idle: usize,
    /// how many come in a second, and go again at once,
    pub each_second: usize,
    /// and for how long.
    pub seconds: u64,
}

/// Messages as large as may be, and then many who leave.
#[derive(Debug, Clone, Copy)]
pub struct LargeMessages {
    /// Clients that each send one and hear it come back, at once,
    pub clients: usize,
    /// so often,
    pub rounds: usize,
    /// of so many bytes.
    pub size: usize,
    /// How many connect after them, and leave.
    pub leaving: usize,
}

impl ComingAndGoing {
    /// For `make test`.
    pub const SHORT: Self = Self {
        idle: 2_000,
        each_second: 300,
        seconds: 8,
    };
    /// For `make soak`. With the one who counts, there are 10,000 that stay.
    pub const LONG: Self = Self {
        idle: 9_999,
        each_second: 1_000,
        seconds: 60,
    };

    /// Plays it.
    ///
    /// # Panics
    /// When somebody could not connect, or something of those who left is still there.
    pub async fn play(self) {
        let app = app(
            "/",
            &component("conformance"),
            "admission = true\ngrants = { keyvalue = [\"default\"] }\nconfig = { configuration = \"cluster\" }",
        );
        let node = node(&app).await;
        let mut counter = Client::connect(&node).await;
        drop(connected(&node, 50).await);
        settle(&mut counter, 1).await;
        let (files, start) = (files(&node), node.memory());

        // Who counts all of them has a handler list them, whose memory then stays as large as that took. So that is done last.
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
        let most = self.come_and_go(&node).await;
        println!(
            "{} clients came and went in {:.1?}, {} MB at the most",
            self.each_second as u64 * self.seconds,
            begun.elapsed(),
            most >> 20
        );
        assert_files(&node, files + self.idle).await;
        comes_back(&node, full, "beside those who stay").await;

        drop(idle);
        assert_files(&node, files).await;
        comes_back(&node, start, "after all left").await;
        settle(&mut counter, 1).await;
    }

    /// Has clients come at an even pace, or as fast as the machine can, and go in each of the ways there are.
    async fn come_and_go(self, node: &Node) -> u64 {
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
                let mut bare = Bare::client(port, number).await.expect("a client connects");
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
        let everybody = places.acquire_many(2 * AT_ONCE as u32);
        drop(within("the last ones went", everybody).await);
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

    /// Plays it.
    ///
    /// # Panics
    /// When a message does not come back, or the memory.
    pub async fn play(self) {
        let node = node(&app("/", &component("echo"), "")).await;
        let mut client = Client::connect(&node).await;
        client.ask("ready", &[]).await;
        let files = files(&node);
        let start = node.memory();
        let storm = self.storm(&node);
        let most = within_minutes(10, "large messages come back", storm).await;
        println!(
            "{} messages of {} KB both ways: from {} MB to {} MB",
            self.clients * self.rounds,
            self.size / 1_000,
            start >> 20,
            most >> 20
        );
        comes_back(&node, start, "after the storm").await;
        let clients = connected(&node, self.leaving).await;
        client.ask("all are here", &[]).await;
        println!("{} clients: {} MB", self.leaving, node.memory() >> 20);
        drop(clients);
        assert_files(&node, files).await;
        comes_back(&node, start, "after all left").await;
        client.ask("still here", &[json!(1)]).await;
    }

    async fn storm(self, node: &Node) -> u64 {
        let message = format!("42[\"big\",\"{}\"]", "x".repeat(self.size));
        let most = AtomicU64::new(0);
        let clients = (0..self.clients).map(|number| {
            let (message, most) = (&message, &most);
            async move {
                let mut bare = Bare::client(node.port(), number).await.expect("a client connects");
                for _ in 0..self.rounds {
                    bare.send(message).await.expect("it is open");
                    let heard = bare.hear("42[\"big\"").await.expect("it comes back");
                    assert_eq!(heard, message.len());
                    most.fetch_max(node.memory(), Ordering::Relaxed);
                }
            }
        });
        join_all(clients).await;
        most.into_inner()
    }
}

/// Nobody is pinged, so that who is idle needs nobody to answer for it.
async fn node(app: &str) -> Node {
    let files = rlimit::increase_nofile_limit(u64::MAX).expect("its own limit can be raised");
    assert!(
        files > 12_000,
        "{files} files may be open: raise the hard limit (ulimit -Hn)"
    );
    Node::run(&format!(
        "[http]\nmax-connections = 15000\n[io-node]\nping-interval-ms = 600000\n{app}"
    ))
    .await
}

/// So many clients, who do nothing.
async fn connected(node: &Node, clients: usize) -> Vec<Bare> {
    let port = node.port();
    let connecting = stream::iter(0..clients).map(|number| async move {
        let client = Bare::client(port, number).await;
        client.expect("a client connects")
    });
    let connected = connecting.buffer_unordered(AT_ONCE).collect();
    within_minutes(5, "the clients connect", connected).await
}

/// Waits until the node has exactly so many clients.
async fn settle(counter: &mut Client, clients: usize) {
    let begun = Instant::now();
    loop {
        let found = counter.ask("fetch_sockets", &[]).await;
        let found = found[0].as_array().expect("a list").len();
        if found == clients {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "{found} clients are there, and not {clients}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Files that a node has open.
pub(crate) fn files(node: &Node) -> usize {
    let open = std::fs::read_dir(format!("/proc/{}/fd", node.pid()));
    open.expect("it runs on Linux").count()
}

async fn assert_files(node: &Node, expected: usize) {
    let begun = Instant::now();
    while files(node).abs_diff(expected) > FILES {
        let open = files(node);
        assert!(begun.elapsed() < PATIENCE, "{open} files are open, and not {expected}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until a process is no larger than it was, or nearly so.
pub async fn comes_back(node: &Node, before: u64, when: &str) {
    let begun = Instant::now();
    while node.memory() > before + LEFT && begun.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let now = node.memory();
    let change = (now as i64 - before as i64) >> 20;
    println!("{when}: {change:+} MB after {:.1?}", begun.elapsed());
    assert!(
        now <= before + LEFT,
        "{when} it has {} MB, from {} MB before, after {PATIENCE:?}",
        now >> 20,
        before >> 20
    );
}
