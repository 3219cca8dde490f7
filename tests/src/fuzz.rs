//! Fuzzing: thousands of malformed inputs to a node, while it serves a well-behaved client, the bystander.
//!
//! The inputs follow from a seed, except for timing. They are not checked one by one: together they must not end the process, disturb the
//! bystander or leak resources.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use crate::check::random::Random;
use crate::leaks::{assert_memory_released, files};
use crate::raw_client::{RawClient, frame};
use crate::{Client, Node, app, component, within_minutes};

/// Concurrent senders.
const AT_ONCE: usize = 16;
/// Time for which a sender reads answers.
const LISTENS: Duration = Duration::from_millis(20);
/// Time-out for the process to release everything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Short time-outs, so that abandoned connections end soon.
const LIMITS: &str = "[http]\nheader-timeout-ms = 1000\nbody-timeout-ms = 1000\n[io-node]\nping-interval-ms = 1000\n\
    ping-timeout-ms = 1000\nconnect-timeout-ms = 1000\nupgrade-timeout-ms = 1000\n";

/// A fuzzing run.
#[derive(Debug, Clone, Copy)]
pub struct Fuzz {
    /// Seed of the inputs.
    pub seed: u64,
    /// Number of inputs, each on a connection of its own.
    pub inputs: usize,
}

impl Fuzz {
    /// Runs against a process with additional `settings` in `[io-node]`.
    ///
    /// # Panics
    /// When the process ends, does not serve the bystander, or leaks resources.
    pub async fn run(self, settings: &str) {
        println!("seed {}, {} inputs", self.seed, self.inputs);
        let clients = app(
            "/{*rest}",
            &component("conformance"),
            "admission = true\ngrants = { keyvalue = [\"default\"] }\nconfig = { configuration = \"cluster\" }",
        );
        let mut node = Node::run(&format!(
            "{LIMITS}{settings}\n{}{clients}",
            app("/", &component("echo"), "")
        ))
        .await;
        let port = node.port();
        // The first inputs allocate what the process keeps for good: instances, buffers.
        within_minutes(2, "the first inputs end", self.send_inputs(port, 0, self.inputs / 10)).await;
        let (files_before, before) = (open_files(&node).await, node.memory());

        let is_over = AtomicBool::new(false);
        let attack = async {
            within_minutes(8, "the inputs end", self.send_inputs(port, 1, self.inputs)).await;
            is_over.store(true, Ordering::Relaxed);
        };
        let (answers, ()) = tokio::join!(bystander(port, settings.contains("msgpack"), &is_over), attack);
        println!("the bystander was answered {answers} times");
        assert!(node.is_running(), "the process ended:\n{}", node.log());
        assert!(!node.log().contains("panicked"), "something panicked:\n{}", node.log());

        let begun = Instant::now();
        while open_files(&node).await > files_before + 8 && begun.elapsed() < PATIENCE {}
        assert!(
            files(&node) <= files_before + 8,
            "{} files are open, and {files_before} were",
            files(&node)
        );
        if !settings.contains("msgpack") {
            let mut counter = Client::connect_to(&node, "/other", json!({}))
                .await
                .expect("it is let in");
            let found = counter.ask("fetch_sockets", &[]).await;
            assert_eq!(
                found[0].as_array().map(Vec::len),
                Some(1),
                "clients that have left are still listed: {found:?}"
            );
        }
        assert_memory_released(&node, before, "after all inputs").await;
    }

    /// Sends `inputs` inputs, [`AT_ONCE`] at a time.
    async fn send_inputs(self, port: u16, part: u64, inputs: usize) {
        let next = AtomicUsize::new(0);
        let senders = (0..AT_ONCE).map(|_| async {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= inputs {
                    return;
                }
                let mut random = Random::new(self.seed ^ part << 63 ^ number as u64);
                let mut input = Input {
                    port,
                    number,
                    random: &mut random,
                };
                // An error means that the process closed the connection, which is fine.
                let _ = input.send().await;
            }
        });
        join_all(senders).await;
    }
}

/// The lowest number of open files within three seconds.
async fn open_files(node: &Node) -> usize {
    let mut seen = BTreeSet::new();
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        seen.insert(files(node));
    }
    *seen.first().expect("it was sampled")
}

/// Sends echo requests until `is_over`; returns their number.
async fn bystander(port: u16, is_msgpack: bool, is_over: &AtomicBool) -> usize {
    let mut bare = RawClient::open(port, 0).await.expect("it listens");
    let binary = |text: &[u8]| frame(0x82, text);
    let (enter, entered) = match is_msgpack {
        true => (binary(b"\x82\xa4type\x00\xa3nsp\xa1/"), "\u{0}"),
        false => (frame(0x81, b"40"), "40{"),
    };
    bare.write(&enter).await.expect("it is open");
    let mut answers = 0;
    if is_msgpack {
        bare.hear_binary(b"\xa3nsp").await.expect("it is let in");
    } else {
        bare.hear(entered).await.expect("it is let in");
    }
    while !is_over.load(Ordering::Relaxed) {
        let name = format!("still{answers:04}");
        let heard = if is_msgpack {
            let packet = [&b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x91\xa9"[..], name.as_bytes()].concat();
            bare.write(&binary(&packet)).await.expect("it is open");
            crate::within("the bystander is echoed", bare.hear_binary(name.as_bytes())).await
        } else {
            let said = format!("42[\"{name}\"");
            bare.send(&format!("{said}]")).await.expect("it is open");
            crate::within("the bystander is echoed", bare.hear(&said))
                .await
                .map(drop)
        };
        heard.expect("the bystander stays connected");
        answers = (answers + 1) % 10_000;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    answers
}

/// The input of one connection.
struct Input<'a> {
    port: u16,
    number: usize,
    random: &'a mut Random,
}

const HANDSHAKE: &str = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const EVENTS: &[&str] = &[
    "say",
    "all",
    "message",
    "rooms",
    "join_room",
    "broadcast_with_ack",
    "fetch_sockets",
    "disconnect_socket",
    "connect",
    "",
];

impl Input<'_> {
    fn send(&mut self) -> impl Future<Output = std::io::Result<()>> + Send {
        let kind = self.random.below(10);
        async move {
            match kind {
                0 => self.raw().await,
                1..=2 => self.polling().await,
                _ => self.websocket().await,
            }
        }
    }

    /// Random bytes or a mutated handshake.
    async fn raw(&mut self) -> std::io::Result<()> {
        let mut bare = RawClient::dial(self.port, self.number).await?;
        let bytes = match self.random.below(3) {
            0 => self.bytes(400),
            _ => self.mutated(HANDSHAKE.as_bytes().to_vec(), 4),
        };
        let cut = self.random.below(bytes.len().max(1));
        bare.write(&bytes[..cut]).await?;
        tokio::task::yield_now().await;
        bare.write(&bytes[cut..]).await?;
        self.leave(bare).await;
        Ok(())
    }

    async fn websocket(&mut self) -> std::io::Result<()> {
        let mut bare = RawClient::open(self.port, self.number).await?;
        if self.random.chance(0.8) {
            let enter = *self.one_of(&["40", "40/other,", "40/other/more,{\"a\":1}"]);
            bare.send(enter).await?;
            bare.write(&frame(0x82, b"\x82\xa4type\x00\xa3nsp\xa1/")).await?;
        }
        for _ in 0..self.random.below(12) {
            let frame = self.frame();
            bare.write(&frame).await?;
            if self.random.chance(0.2) {
                bare.read_for(LISTENS / 4).await;
            }
        }
        self.leave(bare).await;
        Ok(())
    }

    /// A polling session with some malformed requests.
    async fn polling(&mut self) -> std::io::Result<()> {
        let answer = self.request("GET", "", b"").await?;
        let sid = answer
            .split("\"sid\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let mut sid = format!("&sid={}", sid.unwrap_or("none"));
        if self.random.chance(0.1) {
            sid = String::from_utf8_lossy(&self.mutated(sid.into_bytes(), 2)).replace(['\r', '\n', ' '], "_");
        }
        if self.random.chance(0.8) {
            self.request("POST", &sid, b"40").await?;
        }
        for _ in 0..self.random.below(4) {
            let packets = 1 + self.random.below(3);
            let packets: Vec<Vec<u8>> = (0..packets).map(|_| self.packet()).collect();
            let mut body = packets.join(&0x1e);
            if self.random.chance(0.3) {
                body = self.mutated(body, 3);
            }
            self.request("POST", &sid, &body).await?;
            if self.random.chance(0.5) {
                self.request("GET", &sid, b"").await?;
            }
        }
        if self.random.chance(0.3) {
            self.request("POST", &sid, b"1").await?;
        }
        Ok(())
    }

    async fn request(&mut self, method: &str, query: &str, body: &[u8]) -> std::io::Result<String> {
        let mut bare = RawClient::dial(self.port, self.number).await?;
        let length = match self.random.below(20) {
            0 => body.len() + self.random.below(100_000),
            _ => body.len(),
        };
        let kind = *self.one_of(&["text/plain;charset=UTF-8", "application/octet-stream"]);
        let head = format!(
            "{method} /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        bare.write(&[head.as_bytes(), body].concat()).await?;
        // A poll may wait for longer.
        let answer = tokio::time::timeout(Duration::from_millis(100), bare.read_to_end()).await;
        let answer = answer.unwrap_or_else(|_| Ok(Vec::new()))?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// A frame, sometimes malformed.
    fn frame(&mut self) -> Vec<u8> {
        let content = match self.random.below(10) {
            0 => self.bytes(300),
            1 => b"x".repeat(self.random.below(200_000)),
            2 => self.pack(),
            _ => self.packet(),
        };
        let first = match self.random.below(20) {
            0 => self.random.below(256) as u8,
            1 => *self.one_of(&[0x01, 0x00, 0x80, 0x88, 0x89, 0x8a]),
            2..=5 => 0x82,
            _ => 0x81,
        };
        let frame = frame(first, &content);
        match self.random.below(20) {
            0 => self.mutated(frame, 2),
            // Announces the greatest length.
            1 => [&[first, 0xff], &u64::MAX.to_be_bytes()[..], b"mask", &content].concat(),
            _ => frame,
        }
    }

    /// A packet in JSON, sometimes malformed.
    fn packet(&mut self) -> Vec<u8> {
        let kind = *self.one_of(&[
            "42",
            "42",
            "42",
            "43",
            "40",
            "41",
            "451-",
            "452-",
            "461-",
            "44",
            "45999999999-",
            "4",
            "2",
            "3",
            "1",
            "5",
            "6",
            "2probe",
        ]);
        let namespace = *self.one_of(&["", "", "/other,", "/nowhere,", "/other"]);
        let number = *self.one_of(&["", "0", "7", "-1", "99999999999999999999"]);
        let name = *self.one_of(EVENTS);
        let args = self.json(0);
        let packet = match self.random.below(12) {
            0 => format!("{kind}{namespace}{number}{args}"),
            1 => format!("42[\"deep\",{}1{}]", "[".repeat(50_000), "]".repeat(50_000)),
            2 => format!("42{namespace}[\"{name}\",{}", "{\"a\":".repeat(10_000)),
            _ => format!("{kind}{namespace}{number}[\"{name}\",{args}]"),
        };
        match self.random.chance(0.4) {
            true => self.mutated(packet.into_bytes(), 3),
            false => packet.into_bytes(),
        }
    }

    fn json(&mut self, depth: usize) -> String {
        let items = |this: &mut Self| {
            (0..this.random.below(4))
                .map(|_| this.json(depth + 1))
                .collect::<Vec<_>>()
        };
        match self.random.below(if depth > 4 { 7 } else { 10 }) {
            0 => "null".into(),
            1 => "-1.5e300".into(),
            2 => "1e999".into(),
            3 => "{\"_placeholder\":true,\"num\":0}".into(),
            4 => "{\"_placeholder\":true,\"num\":1e9}".into(),
            5 => "\"\\ud800\"".into(),
            6 => "\"é\\u0000\"".into(),
            7 => format!("[{}]", items(self).join(",")),
            8 => format!("{{\"a\":{}}}", self.json(depth + 1)),
            _ => format!("{{\"a\":{},\"a\":[{}]}}", self.json(depth + 1), items(self).join(",")),
        }
    }

    /// A packet in MessagePack, sometimes malformed.
    fn pack(&mut self) -> Vec<u8> {
        let data = *self.one_of(&[
            &b"\x92\xa3say\xc4\x03abc"[..],
            b"\x91\xa3say",
            b"\x92\xa3say\x81\x01\x02",
            b"\xdd\xff\xff\xff\xff",
            b"\x92\xa3say\xc6\xff\xff\xff\xff",
            b"\xd4\x00\x00",
            b"\x92\xa3say\xdf\x00\x00\xff\xff",
        ]);
        let data = match self.random.below(10) {
            0 => [&b"\x92\xa3say"[..], &b"\x91".repeat(self.random.below(100_000))].concat(),
            1 => [&b"\xdc\xff\xff\xa3say"[..], &b"\x81\xa0\xc0".repeat(65_534)].concat(),
            _ => data.to_vec(),
        };
        let kind = self.random.below(8) as u8;
        let packet = [&b"\x84\xa4type"[..], &[kind], b"\xa3nsp\xa1/\xa2id\x07\xa4data", &data].concat();
        match self.random.chance(0.4) {
            true => self.mutated(packet, 3),
            false => packet,
        }
    }

    /// Changes some of the bytes.
    fn mutated(&mut self, mut bytes: Vec<u8>, changes: usize) -> Vec<u8> {
        for _ in 0..=self.random.below(changes) {
            if bytes.is_empty() {
                break;
            }
            let at = self.random.below(bytes.len());
            let until = (at + 1 + self.random.below(20)).min(bytes.len());
            match self.random.below(5) {
                0 => bytes[at] = self.random.below(256) as u8,
                1 => _ = bytes.splice(at..at, self.bytes(8)),
                2 => _ = bytes.drain(at..until),
                3 => _ = bytes.splice(at..at, bytes[at..until].to_vec()),
                _ => bytes.truncate(at.max(bytes.len() / 2)),
            }
        }
        bytes
    }

    fn bytes(&mut self, limit: usize) -> Vec<u8> {
        let length = self.random.below(limit);
        (0..length).map(|_| self.random.below(256) as u8).collect()
    }

    fn one_of<'a, T>(&mut self, some: &'a [T]) -> &'a T {
        &some[self.random.below(some.len())]
    }

    async fn leave(&mut self, mut bare: RawClient) {
        match self.random.below(4) {
            0 => bare.reset(),
            1 => drop(bare),
            2 => {
                let _ = bare.write(&frame(0x88, b"\x03\xe8")).await;
                bare.read_for(LISTENS).await;
            }
            _ => bare.read_for(LISTENS).await,
        }
    }
}
