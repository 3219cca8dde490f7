//! A client of the run: sends numbered messages, records all that it receives, and reconnects as a new client when its connection
//! ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::history::{ClientTrace, Delivery, DeliveryKind, Ended, EventId, ReleaseAnswers, Sent};
use super::progress::Progress;
use super::random::Random;
use super::run::Settings;
use super::socket::{Packet, Socket, Targets};

/// Pause before connecting again.
const PAUSE: Duration = Duration::from_millis(100);
/// Share of messages that ask for an acknowledgement.
const ASKING: f64 = 0.8;
/// Share of messages that are also sent to one other client.
const TO_PEER: f64 = 0.25;
/// Share of messages with an attachment.
const WITH_BYTES: f64 = 0.05;
/// Share of the messages failing at the first attempt that panic; the others ask for a retry.
const PANIC: f64 = 0.2;
/// Share of the failing messages that fail at every attempt; the others are rejected at once.
const EVERY_ATTEMPT: f64 = 0.3;
/// Half of the messages that increment a shared counter increment the first, so that it is contended. This share increments a second
/// counter as well.
const TWO_COUNTERS: f64 = 0.2;
/// Longest delay of a timer, in milliseconds.
const TIMER_MS: usize = 500;

/// State shared by the clients of a run.
pub(super) struct SharedState {
    pub(super) settings: Settings,
    pub(super) targets: Targets,
    /// Nodes that serve the server API.
    pub(super) apis: RwLock<Vec<String>>,
    pub(super) progress: Arc<Progress>,
    /// Part of the channel names, so that two runs do not receive each other's messages.
    pub(super) run: String,
    /// Every client's index in the history, by session id.
    names: RwLock<HashMap<String, u32>>,
    /// Connected clients that have joined their channel and can be sent to.
    peers: RwLock<Vec<(u32, String)>>,
    traces: Mutex<Vec<(u32, ClientTrace)>>,
    releases: Mutex<BTreeMap<String, ReleaseAnswers>>,
    /// How many clients are connected to each io-node, by its host and port.
    connected: Mutex<BTreeMap<String, usize>>,
    /// The last reason why a client could not connect.
    pub(super) refusal: Mutex<Option<String>>,
}

/// Phase of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Clients send.
    Sending,
    /// Clients send one last message, then only receive.
    Listening,
    /// Clients leave.
    Leaving,
}

/// Runs a client until the run ends, as several clients one after the other if connections end.
pub(super) async fn run(shared: Arc<SharedState>, number: usize, mut phases: watch::Receiver<Phase>) {
    let mut random = Random::new(shared.settings.seed.wrapping_add(number as u64 + 1));
    let mut turn = number;
    while *phases.borrow_and_update() == Phase::Sending {
        let target = shared.targets.at(turn);
        let channel = format!("{}:{}", shared.run, number / shared.settings.channel.max(1));
        let auth = json!({ "channel": channel });
        let connected = tokio::select! {
            connected = Socket::connect(&target, &auth) => connected,
            _ = phases.changed() => return,
        };
        match connected {
            Ok(socket) => {
                shared.count_connected(&target.authority, |count| count + 1);
                let stayed = Client::new(&shared, socket, channel, &mut random)
                    .run(&mut phases)
                    .await;
                shared.count_connected(&target.authority, |count| count - 1);
                if stayed {
                    return;
                }
            }
            Err(error) => {
                *lock(&shared.refusal) = Some(format!("{error:#}"));
                tokio::select! {
                    () = sleep(PAUSE.mul_f64(random.about_one())) => {}
                    _ = phases.changed() => return,
                }
            }
        }
        turn += 1;
    }
}

/// One connection of a client.
struct Client<'a> {
    shared: &'a SharedState,
    random: &'a mut Random,
    socket: Socket,
    index: u32,
    trace: ClientTrace,
    /// Greatest number that was handled or refused.
    settled: usize,
}

impl<'a> Client<'a> {
    fn new(shared: &'a SharedState, socket: Socket, channel: String, random: &'a mut Random) -> Self {
        shared.progress.has_connected();
        let trace = ClientTrace {
            id: socket.id().to_owned(),
            channel,
            connected_at: shared.progress.now(),
            ..Default::default()
        };
        Self {
            shared,
            random,
            index: shared.register(socket.id()),
            socket,
            trace,
            settled: 0,
        }
    }

    /// Runs until the connection ends, stores the trace, and returns whether the client stayed to the end.
    async fn run(mut self, phases: &mut watch::Receiver<Phase>) -> bool {
        let ended = match self.talk(phases).await {
            Ok(ended) => ended,
            Err(error) => Ended::Lost(format!("{error:#}")),
        };
        let Self {
            shared,
            index,
            socket,
            mut trace,
            settled,
            ..
        } = self;
        shared.forget_peer(index);
        trace.ended_at = shared.progress.now();
        let outstanding = trace.sent.len() - settled;
        shared
            .progress
            .has_ended(outstanding as i64, matches!(ended, Ended::Lost(_)));
        if matches!(ended, Ended::Stayed | Ended::Left) {
            socket.leave().await;
        }
        let stayed = ended == Ended::Stayed;
        trace.ended = ended;
        lock(&shared.traces).push((index, trace));
        stayed
    }

    async fn talk(&mut self, phases: &mut watch::Receiver<Phase>) -> Result<Ended> {
        let settings = &self.shared.settings;
        let pause = Duration::from_secs_f64(1.0 / settings.rate.max(0.001));
        let lifetime = settings.lifetime.unwrap_or(Duration::from_secs(86_400));
        let end_at = Instant::now() + lifetime.mul_f64(self.random.about_one());
        let mut send_at = Instant::now() + pause.mul_f64(self.random.about_one() - 0.5);
        let mut sending = true;
        loop {
            let room = self.trace.sent.len() - self.settled < settings.window;
            tokio::select! {
                packet = self.socket.next() => match packet? {
                    Packet::Disconnect => return Ok(Ended::Lost("the server disconnected it".into())),
                    packet => self.receive(packet),
                },
                () = sleep_until(send_at), if sending && room => {
                    self.send().await?;
                    send_at = Instant::now().max(send_at + pause.mul_f64(self.random.about_one()));
                }
                () = sleep_until(end_at), if sending => {
                    return Ok(if self.random.chance(0.5) { Ended::Left } else { Ended::Dropped });
                }
                // The sender outlives the clients: the run waits for them.
                _ = phases.changed() => {
                    let phase = *phases.borrow_and_update();
                    match phase {
                        Phase::Sending => {}
                        Phase::Listening => {
                            sending = false;
                            self.send().await?;
                        }
                        Phase::Leaving => return Ok(Ended::Stayed),
                    }
                }
            }
        }
    }

    async fn send(&mut self) -> Result<()> {
        let number = self.trace.sent.len() as u64 + 1;
        let asks = self.random.chance(ASKING);
        let peer = match self.random.chance(TO_PEER) {
            true => self.shared.peer(self.random, self.index),
            false => None,
        };
        let bytes = self.random.chance(WITH_BYTES).then(|| attachment(number));
        let increments = self.increments();
        let trouble = self.trouble();
        // The acknowledgement is the only delivery of a failed message.
        let fails = matches!(trouble, Some("fail" | "reject"));
        let asks = asks || fails;
        let names: Vec<String> = increments.iter().map(|counter| self.shared.counter(*counter)).collect();
        self.trace.sent.push(Sent {
            at: self.shared.progress.now(),
            acked_at: None,
            asks,
            peer: peer.as_ref().map(|(index, _)| *index),
            increments,
            fails,
        });
        self.shared.progress.has_sent();
        let requests = json!({
            "peer": peer.map(|(_, id)| id),
            "trouble": trouble,
            "increment": names,
            "attribute": self.shared.settings.attributes,
            "timer": self.random.chance(self.shared.settings.timers).then(|| self.random.below(TIMER_MS)),
        });
        self.socket
            .emit(
                "n",
                &json!([number, requests]),
                asks.then_some(number),
                bytes.as_deref(),
            )
            .await
    }

    /// The shared counters that the next message increments.
    fn increments(&mut self) -> Vec<u16> {
        let count = self.shared.settings.counters;
        if count == 0 || !self.random.chance(self.shared.settings.increments) {
            return Vec::new();
        }
        let first = match self.random.chance(0.5) {
            true => 0,
            false => self.random.below(count),
        };
        let mut counters = vec![first as u16];
        let other = self.random.below(count);
        if self.random.chance(TWO_COUNTERS) && other != first {
            counters.push(other as u16);
        }
        counters
    }

    /// The failure that the next message asks for.
    fn trouble(&mut self) -> Option<&'static str> {
        let settings = &self.shared.settings;
        if self.random.chance(settings.trouble) {
            return Some(if self.random.chance(PANIC) { "panic" } else { "retry" });
        }
        if self.random.chance(settings.failures) {
            let fails = self.random.chance(EVERY_ATTEMPT);
            return Some(if fails { "fail" } else { "reject" });
        }
        None
    }

    fn receive(&mut self, packet: Packet) {
        self.shared.progress.has_received();
        match packet {
            Packet::Event(event, args, bytes) => self.receive_event(&event, &args, &bytes),
            Packet::Ack(number, args) => self.receive_ack(number, args.first().unwrap_or(&Value::Null)),
            Packet::Disconnect => {}
        }
    }

    fn receive_event<B: AsRef<[u8]>>(&mut self, event: &str, args: &[Value], bytes: &[B]) {
        if event == "welcome" {
            self.trace.welcomed_at.get_or_insert(self.shared.progress.now());
            self.shared.add_peer(self.index, self.socket.id());
            return self.note(self.index, 0, 0, DeliveryKind::Welcome, event_id(args.get(2)));
        }
        if event == "gone" {
            let who = args
                .first()
                .and_then(Value::as_str)
                .and_then(|id| self.shared.place(id));
            if let Some(who) = who {
                self.note(who, Delivery::LAST.into(), 0, DeliveryKind::Gone, event_id(args.get(3)));
            }
            return;
        }
        let kind = match event {
            "direct" => DeliveryKind::Direct,
            "peer" => DeliveryKind::Peer,
            "broadcast" => DeliveryKind::Broadcast,
            _ => return,
        };
        let from = args.first().and_then(Value::as_str).unwrap_or_default();
        // Clients of other runs do not belong to this history.
        let Some(from) = self.shared.place(from) else { return };
        let number = |place: usize| args.get(place).and_then(Value::as_u64).unwrap_or_default();
        self.note(from, number(1), number(2), kind, event_id(args.get(3)));
        if kind == DeliveryKind::Direct {
            self.settle(number(1));
            if bytes.iter().any(|bytes| bytes.as_ref() != attachment(number(1))) {
                self.trace.corrupted.push(number(1));
            }
        }
    }

    fn receive_ack(&mut self, number: u64, answer: &Value) {
        if answer["error"]["code"] == "overloaded" {
            self.shared.progress.has_been_refused();
            self.settle(number);
            return self.note(self.index, number, 0, DeliveryKind::Refused, EventId::default());
        }
        if answer["error"]["code"] == "failed" {
            self.settle(number);
            let event = event_id(answer["error"].get("event"));
            return self.note(self.index, number, 0, DeliveryKind::Failed, event);
        }
        self.shared.progress.has_been_acked();
        let now = self.shared.progress.now();
        if let Some(sent) = self.trace.sent.get_mut((number as usize).wrapping_sub(1)) {
            sent.acked_at.get_or_insert(now);
        }
        let count = answer["count"].as_u64().unwrap_or_default();
        if let Some(release) = answer["release"].as_str() {
            self.shared.note_release(release, now);
        }
        self.note(
            self.index,
            number,
            count,
            DeliveryKind::Ack,
            event_id(answer.get("event")),
        );
    }

    fn note(&mut self, from: u32, number: u64, count: u64, kind: DeliveryKind, event: EventId) {
        self.trace.deliveries.push(Delivery {
            from,
            number: number as u32,
            count: count as u32,
            kind,
            event,
        });
    }

    fn settle(&mut self, number: u64) {
        let number = (number as usize).min(self.trace.sent.len());
        if number > self.settled {
            self.shared.progress.has_settled((number - self.settled) as i64);
            self.settled = number;
        }
    }
}

impl SharedState {
    pub(super) fn new(settings: Settings, targets: Targets, progress: Arc<Progress>, run: String) -> Self {
        let (apis, names, peers, traces, releases, connected, refusal) = Default::default();
        Self {
            settings,
            targets,
            apis,
            progress,
            run,
            names,
            peers,
            traces,
            releases,
            connected,
            refusal,
        }
    }

    /// The name of a shared counter.
    fn counter(&self, number: u16) -> String {
        format!("{}:{number}", self.run)
    }

    /// The names of all shared counters.
    pub(super) fn counters(&self) -> Vec<String> {
        (0..self.settings.counters)
            .map(|number| self.counter(number as u16))
            .collect()
    }

    /// Index of a client in the history.
    pub(super) fn place(&self, id: &str) -> Option<u32> {
        self.names.read().expect(LOCK).get(id).copied()
    }

    /// Session ids of the clients that are connected and have joined their channel, and of all clients so far.
    pub(super) fn ids(&self) -> (Vec<String>, Vec<String>) {
        let peers = self.peers.read().expect(LOCK);
        let welcomed = peers.iter().map(|(_, id)| id.clone()).collect();
        (welcomed, self.names.read().expect(LOCK).keys().cloned().collect())
    }

    /// How many clients are connected to the io-node of this host and port.
    pub(super) fn connected_to(&self, authority: &str) -> usize {
        lock(&self.connected).get(authority).copied().unwrap_or_default()
    }

    fn count_connected(&self, authority: &str, change: impl FnOnce(usize) -> usize) {
        let mut connected = lock(&self.connected);
        let count = connected.entry(authority.to_owned()).or_default();
        *count = change(*count);
    }

    /// All traces, by client index. Call it after every client has ended.
    pub(super) fn take_traces(&self) -> Vec<ClientTrace> {
        let mut traces = std::mem::take(&mut *lock(&self.traces));
        traces.sort_by_key(|(index, _)| *index);
        traces.into_iter().map(|(_, trace)| trace).collect()
    }

    /// The releases that acknowledgements named. Call it after every client has ended.
    pub(super) fn take_releases(&self) -> BTreeMap<String, ReleaseAnswers> {
        std::mem::take(&mut *lock(&self.releases))
    }

    fn note_release(&self, release: &str, now: u64) {
        let mut releases = lock(&self.releases);
        if let Some(answers) = releases.get_mut(release) {
            answers.last_at = answers.last_at.max(now);
            answers.times += 1;
            return;
        }
        let answers = ReleaseAnswers {
            first_at: now,
            last_at: now,
            times: 1,
        };
        releases.insert(release.to_owned(), answers);
    }

    fn register(&self, id: &str) -> u32 {
        let mut names = self.names.write().expect(LOCK);
        let next = names.len() as u32;
        *names.entry(id.to_owned()).or_insert(next)
    }

    fn add_peer(&self, index: u32, id: &str) {
        let mut peers = self.peers.write().expect(LOCK);
        if peers.iter().all(|(known, _)| *known != index) {
            peers.push((index, id.to_owned()));
        }
    }

    fn forget_peer(&self, index: u32) {
        self.peers.write().expect(LOCK).retain(|(known, _)| *known != index);
    }

    fn peer(&self, random: &mut Random, but: u32) -> Option<(u32, String)> {
        let peers = self.peers.read().expect(LOCK);
        if peers.is_empty() {
            return None;
        }
        let peer = &peers[random.below(peers.len())];
        (peer.0 != but).then(|| peer.clone())
    }
}

const LOCK: &str = "no holder of this lock panics";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect(LOCK)
}

fn event_id(text: Option<&Value>) -> EventId {
    let name = text.and_then(Value::as_str).and_then(EventId::parse);
    name.unwrap_or_default()
}

/// The attachment of a message, which must come back unchanged.
fn attachment(number: u64) -> Vec<u8> {
    let length = (number % 300) as usize + 1;
    number.to_le_bytes().iter().copied().cycle().take(length).collect()
}
