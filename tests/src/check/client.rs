//! A client of the run: sends numbered messages, notes all it hears, and begins anew as another when its connection ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::history::{Answers, Ended, EventName, Heard, Sent, Story, What};
use super::progress::Progress;
use super::random::Random;
use super::run::Settings;
use super::socket::{Packet, Socket, Targets};

/// How long to wait before connecting again.
const PAUSE: Duration = Duration::from_millis(100);
/// Of all messages, so many ask for an acknowledgement,
const ASKING: f64 = 0.8;
/// name another client,
const TO_PEER: f64 = 0.25;
/// and carry bytes.
const WITH_BYTES: f64 = 0.05;
/// Of those that ask for trouble, so many ask for a panic.
const PANIC: f64 = 0.2;
/// Of those that are to fail, so many ask for every attempt; the others become dead letters at once.
const EVERY_ATTEMPT: f64 = 0.3;
/// Of the messages that increment a shared counter, half increment the first one, which is always contended; and so many another one as
/// well.
const TWO_COUNTERS: f64 = 0.2;
/// In how many milliseconds timers are due, at the most.
const TIMER_MS: usize = 500;

/// What the clients of a run share.
pub(super) struct Fleet {
    pub(super) settings: Settings,
    pub(super) targets: Targets,
    pub(super) progress: Arc<Progress>,
    /// Part of the names of channels, so that two runs do not hear each other.
    pub(super) run: String,
    /// Every client's place in the history, by its session id.
    names: RwLock<HashMap<String, u32>>,
    /// Connected clients that were welcomed: these can be sent to.
    peers: RwLock<Vec<(u32, String)>>,
    stories: Mutex<Vec<(u32, Story)>>,
    releases: Mutex<BTreeMap<String, Answers>>,
    /// How many clients are connected to each io-node, by its host and port.
    connected: Mutex<BTreeMap<String, usize>>,
    /// Why a client could not connect the last time.
    pub(super) refusal: Mutex<Option<String>>,
}

/// What the run is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Clients send.
    Sending,
    /// They send one last message, and listen.
    Listening,
    /// They leave.
    Leaving,
}

/// Runs a client until the run is over; it may be several, one after the other.
pub(super) async fn run(fleet: Arc<Fleet>, number: usize, mut phases: watch::Receiver<Phase>) {
    let mut random = Random::new(fleet.settings.seed.wrapping_add(number as u64 + 1));
    let mut turn = number;
    while *phases.borrow_and_update() == Phase::Sending {
        let target = fleet.targets.at(turn);
        let channel = format!("{}:{}", fleet.run, number / fleet.settings.channel.max(1));
        let auth = json!({ "channel": channel });
        let connected = tokio::select! {
            connected = Socket::connect(&target, &auth) => connected,
            _ = phases.changed() => return,
        };
        match connected {
            Ok(socket) => {
                fleet.count_connected(&target.authority, |count| count + 1);
                let stayed = Client::new(&fleet, socket, channel, &mut random)
                    .tell(&mut phases)
                    .await;
                fleet.count_connected(&target.authority, |count| count - 1);
                if stayed {
                    return;
                }
            }
            Err(error) => {
                *lock(&fleet.refusal) = Some(format!("{error:#}"));
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
    fleet: &'a Fleet,
    random: &'a mut Random,
    socket: Socket,
    index: u32,
    story: Story,
    /// The greatest number that was handled or refused.
    settled: usize,
}

impl<'a> Client<'a> {
    fn new(fleet: &'a Fleet, socket: Socket, channel: String, random: &'a mut Random) -> Self {
        fleet.progress.has_connected();
        let story = Story {
            id: socket.id().to_owned(),
            channel,
            connected_at: fleet.progress.now(),
            ..Default::default()
        };
        Self {
            fleet,
            random,
            index: fleet.register(socket.id()),
            socket,
            story,
            settled: 0,
        }
    }

    /// Goes on until something ends it, hands its story in, and says whether it stayed to the end.
    async fn tell(mut self, phases: &mut watch::Receiver<Phase>) -> bool {
        let ended = match self.talk(phases).await {
            Ok(ended) => ended,
            Err(error) => Ended::Lost(format!("{error:#}")),
        };
        let Self {
            fleet,
            index,
            socket,
            mut story,
            settled,
            ..
        } = self;
        fleet.forget_peer(index);
        story.ended_at = fleet.progress.now();
        let outstanding = story.sent.len() - settled;
        fleet
            .progress
            .has_ended(outstanding as i64, matches!(ended, Ended::Lost(_)));
        if matches!(ended, Ended::Stayed | Ended::Left) {
            socket.leave().await;
        }
        let stayed = ended == Ended::Stayed;
        story.ended = ended;
        lock(&fleet.stories).push((index, story));
        stayed
    }

    async fn talk(&mut self, phases: &mut watch::Receiver<Phase>) -> Result<Ended> {
        let settings = &self.fleet.settings;
        let pause = Duration::from_secs_f64(1.0 / settings.rate.max(0.001));
        let lifetime = settings.lifetime.unwrap_or(Duration::from_secs(86_400));
        let end_at = Instant::now() + lifetime.mul_f64(self.random.about_one());
        let mut send_at = Instant::now() + pause.mul_f64(self.random.about_one() - 0.5);
        let mut sending = true;
        loop {
            let room = self.story.sent.len() - self.settled < settings.window;
            tokio::select! {
                packet = self.socket.next() => match packet? {
                    Packet::Disconnect => return Ok(Ended::Lost("the server disconnected it".into())),
                    packet => self.hear(packet),
                },
                () = sleep_until(send_at), if sending && room => {
                    self.send().await?;
                    send_at = Instant::now().max(send_at + pause.mul_f64(self.random.about_one()));
                }
                () = sleep_until(end_at), if sending => {
                    return Ok(if self.random.chance(0.5) { Ended::Left } else { Ended::Dropped });
                }
                // The run cannot be gone before its clients: it waits for them.
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
        let number = self.story.sent.len() as u64 + 1;
        let asks = self.random.chance(ASKING);
        let peer = match self.random.chance(TO_PEER) {
            true => self.fleet.peer(self.random, self.index),
            false => None,
        };
        let bytes = self.random.chance(WITH_BYTES).then(|| bytes_of(number));
        let increments = self.increments();
        let trouble = self.trouble();
        // Of a message that fails nothing is heard but that.
        let fails = matches!(trouble, Some("fail" | "reject"));
        let asks = asks || fails;
        let names: Vec<String> = increments.iter().map(|counter| self.fleet.counter(*counter)).collect();
        self.story.sent.push(Sent {
            at: self.fleet.progress.now(),
            acked_at: None,
            asks,
            peer: peer.as_ref().map(|(index, _)| *index),
            increments,
            fails,
        });
        self.fleet.progress.has_sent();
        let requests = json!({
            "peer": peer.map(|(_, id)| id),
            "trouble": trouble,
            "increment": names,
            "attribute": self.fleet.settings.attributes,
            "timer": self.random.chance(self.fleet.settings.timers).then(|| self.random.below(TIMER_MS)),
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
        let count = self.fleet.settings.counters;
        if count == 0 || !self.random.chance(self.fleet.settings.increments) {
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

    /// The trouble that the next message asks for.
    fn trouble(&mut self) -> Option<&'static str> {
        let settings = &self.fleet.settings;
        if self.random.chance(settings.trouble) {
            return Some(if self.random.chance(PANIC) { "panic" } else { "retry" });
        }
        if self.random.chance(settings.failures) {
            let fails = self.random.chance(EVERY_ATTEMPT);
            return Some(if fails { "fail" } else { "reject" });
        }
        None
    }

    fn hear(&mut self, packet: Packet) {
        self.fleet.progress.has_heard();
        match packet {
            Packet::Event(event, args, bytes) => self.hear_event(&event, &args, &bytes),
            Packet::Ack(number, args) => self.hear_ack(number, args.first().unwrap_or(&Value::Null)),
            Packet::Disconnect => {}
        }
    }

    fn hear_event<B: AsRef<[u8]>>(&mut self, event: &str, args: &[Value], bytes: &[B]) {
        if event == "welcome" {
            self.story.welcomed_at.get_or_insert(self.fleet.progress.now());
            self.fleet.add_peer(self.index, self.socket.id());
            return self.note(self.index, 0, 0, What::Welcome, event_name(args.get(2)));
        }
        if event == "gone" {
            let who = args.first().and_then(Value::as_str).and_then(|id| self.fleet.place(id));
            if let Some(who) = who {
                self.note(who, Heard::LAST.into(), 0, What::Gone, event_name(args.get(3)));
            }
            return;
        }
        let what = match event {
            "direct" => What::Direct,
            "peer" => What::Peer,
            "broadcast" => What::Broadcast,
            _ => return,
        };
        let from = args.first().and_then(Value::as_str).unwrap_or_default();
        // Clients of other runs and of other handlers are no part of this history.
        let Some(from) = self.fleet.place(from) else { return };
        let number = |place: usize| args.get(place).and_then(Value::as_u64).unwrap_or_default();
        self.note(from, number(1), number(2), what, event_name(args.get(3)));
        if what == What::Direct {
            self.settle(number(1));
            if bytes.iter().any(|bytes| bytes.as_ref() != bytes_of(number(1))) {
                self.story.garbled.push(number(1));
            }
        }
    }

    fn hear_ack(&mut self, number: u64, answer: &Value) {
        if answer["error"]["code"] == "overloaded" {
            self.fleet.progress.has_been_refused();
            self.settle(number);
            return self.note(self.index, number, 0, What::Refused, EventName::default());
        }
        if answer["error"]["code"] == "failed" {
            self.settle(number);
            let event = event_name(answer["error"].get("event"));
            return self.note(self.index, number, 0, What::Failed, event);
        }
        self.fleet.progress.has_been_acked();
        let now = self.fleet.progress.now();
        if let Some(sent) = self.story.sent.get_mut((number as usize).wrapping_sub(1)) {
            sent.acked_at.get_or_insert(now);
        }
        let count = answer["count"].as_u64().unwrap_or_default();
        if let Some(release) = answer["release"].as_str() {
            self.fleet.note_release(release, now);
        }
        self.note(self.index, number, count, What::Ack, event_name(answer.get("event")));
    }

    fn note(&mut self, from: u32, number: u64, count: u64, what: What, event: EventName) {
        self.story.heard.push(Heard {
            from,
            number: number as u32,
            count: count as u32,
            what,
            event,
        });
    }

    fn settle(&mut self, number: u64) {
        let number = (number as usize).min(self.story.sent.len());
        if number > self.settled {
            self.fleet.progress.has_settled((number - self.settled) as i64);
            self.settled = number;
        }
    }
}

impl Fleet {
    pub(super) fn new(settings: Settings, targets: Targets, progress: Arc<Progress>, run: String) -> Self {
        let (names, peers, stories, releases, connected, refusal) = Default::default();
        Self {
            settings,
            targets,
            progress,
            run,
            names,
            peers,
            stories,
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

    /// The place of a client in the history.
    pub(super) fn place(&self, id: &str) -> Option<u32> {
        self.names.read().expect(LOCK).get(id).copied()
    }

    /// The session ids of those who are connected and were welcomed, and of all there ever were.
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

    /// All stories, in their places. Only when every client has ended.
    pub(super) fn take_stories(&self) -> Vec<Story> {
        let mut stories = std::mem::take(&mut *lock(&self.stories));
        stories.sort_by_key(|(index, _)| *index);
        stories.into_iter().map(|(_, story)| story).collect()
    }

    /// The releases that acknowledgements named. Only when every client has ended.
    pub(super) fn take_releases(&self) -> BTreeMap<String, Answers> {
        std::mem::take(&mut *lock(&self.releases))
    }

    fn note_release(&self, release: &str, now: u64) {
        let mut releases = lock(&self.releases);
        if let Some(answers) = releases.get_mut(release) {
            answers.last_at = answers.last_at.max(now);
            answers.times += 1;
            return;
        }
        let answers = Answers {
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

const LOCK: &str = "nothing panics while it holds this lock";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect(LOCK)
}

fn event_name(text: Option<&Value>) -> EventName {
    let name = text.and_then(Value::as_str).and_then(EventName::read);
    name.unwrap_or_default()
}

/// The bytes that go with a message, and have to come back.
fn bytes_of(number: u64) -> Vec<u8> {
    let length = (number % 300) as usize + 1;
    number.to_le_bytes().iter().copied().cycle().take(length).collect()
}
