//! A plugnode that is one value in memory, with one handler.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::answering::{self, NODE};
use super::clients::Clients;
use super::effects::{Change, Command, Effects, Failure, Refusal, Sent};
use super::host::{self, Buckets, Call, Line};
use crate::bindings::plugnode::app::types::{self, Event};
use crate::context::CHANNELS;
use crate::handler::{Handler, dispatch, reason};
use crate::incoming::{Custom, DisconnectReason, Handshake};
use crate::late_reply;
use crate::native::{self, words_of};
use crate::payload::{Args, Payload};

/// What a client is told whose connection could not be handled.
const UNDECIDED: &str = "the server could not decide";

/// The handshake of a client that gave nothing of its own, to be changed at will:
/// `Handshake { auth: Some("{}".into()), ..handshake() }`.
pub fn handshake() -> Handshake {
    Handshake {
        auth: None,
        query: "EIO=4&transport=websocket".into(),
        headers: Vec::new(),
        remote_addr: Some("127.0.0.1:50000".into()),
        transport: "websocket".into(),
        recovered: false,
    }
}

/// A client of a [`Kit`], by its id. A `&str` does as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestClient(String);

impl AsRef<str> for TestClient {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// A plugnode in memory: instances of one handler, clients, buckets. See the [module](super) for an example.
///
/// Events come from here one at a time, and go to the instances in turn. The methods without `try_` panic when the
/// handler fails, since that is what most tests want.
#[derive(Debug)]
pub struct Kit<H> {
    instances: Vec<Instance<H>>,
    events: usize,
    sticky: bool,
    admission: bool,
    clients: Clients,
    buckets: Buckets,
    /// When keys are gone that were set for a time, by bucket and key.
    ends: BTreeMap<(String, String), u64>,
    config: BTreeMap<String, String>,
    log: Vec<Line>,
    now_ms: u64,
    states_refused: Vec<String>,
}

#[derive(Debug)]
struct Instance<H> {
    handler: H,
    has_started: bool,
    seen: BTreeSet<String>,
}

impl<H: Handler> Default for Kit<H> {
    fn default() -> Self {
        Self::new()
    }
}

impl<H: Handler> Kit<H> {
    /// With one instance of the handler.
    pub fn new() -> Self {
        Self::with_instances(1)
    }

    /// With several instances, which take events in turn.
    pub fn with_instances(count: usize) -> Self {
        assert!(count > 0, "a kit needs an instance");
        Self {
            instances: (0..count).map(|_| Instance::new()).collect(),
            events: 0,
            sticky: false,
            admission: false,
            clients: Clients::new(),
            buckets: Buckets::new(),
            ends: BTreeMap::new(),
            config: BTreeMap::new(),
            log: Vec::new(),
            now_ms: 1_800_000_000_000,
            states_refused: Vec::new(),
        }
    }

    /// Each client keeps to one instance, as with `dispatch = "sticky"`.
    pub fn sticky(mut self) -> Self {
        self.sticky = true;
        self
    }

    /// The app's configuration says `admission = true`: its handler may refuse clients, and one whose connection it fails
    /// to handle is refused.
    pub fn with_admission(mut self) -> Self {
        self.admission = true;
        self
    }

    /// The app is bound to this namespace, instead of `/`.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.clients.namespace = namespace.into();
        self
    }

    /// The app's configuration has this in its `config` table.
    pub fn with_config(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }

    /// This is in a bucket, as JSON.
    pub fn with_value(mut self, bucket: &str, key: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_vec(&value).expect("a test's value can be written as JSON");
        self.buckets.entry(bucket.into()).or_default().insert(key.into(), value);
        self
    }

    /// A client connects. With admission it may be [refused](Self::refusal_of).
    #[track_caller]
    pub fn connect(&mut self, id: &str) -> TestClient {
        self.connect_with(id, handshake())
    }

    /// A client connects in a certain way.
    #[track_caller]
    pub fn connect_with(&mut self, id: &str, handshake: Handshake) -> TestClient {
        let connected = self.try_connect(id, handshake);
        succeeded("connection", connected).0
    }

    /// A client connects, and the handler may fail.
    pub fn try_connect(&mut self, id: &str, handshake: Handshake) -> Result<(TestClient, Effects), Failure> {
        self.clients.add(id);
        let handled = self.feed(id, |client| Event::Connection((client, handshake)));
        let refusal = match &handled {
            Ok(effects) => effects.commands.iter().find_map(|command| match command {
                Command::Refuse { message, data } => Some((message.clone(), data.clone())),
                _ => None,
            }),
            Err(_) => self.admission.then(|| (UNDECIDED.into(), None)),
        };
        if let Some((message, data)) = refusal {
            self.forget(id);
            self.clients.get_mut(id).refusal = Some(Refusal { message, data });
        }
        Ok((TestClient(id.into()), handled?))
    }

    /// How a client was refused. None when it came in.
    pub fn refusal_of(&self, client: impl AsRef<str>) -> Option<&Refusal> {
        self.clients.get(client.as_ref()).refusal.as_ref()
    }

    /// A client emits an event.
    #[track_caller]
    pub fn message(&mut self, client: impl AsRef<str>, event: &str, args: impl Args) -> Effects {
        let handled = self.try_message(client, event, args);
        succeeded(event, handled)
    }

    /// A client emits an event, and the handler may fail.
    pub fn try_message(&mut self, client: impl AsRef<str>, event: &str, args: impl Args) -> Result<Effects, Failure> {
        self.emit(client.as_ref(), event, args, None)
    }

    /// A client emits an event and waits for its acknowledgement. None when the handler gave none.
    #[track_caller]
    pub fn ask(&mut self, client: impl AsRef<str>, event: &str, args: impl Args) -> Option<Payload> {
        let ack = format!("{}.{}.{}", self.events, client.as_ref(), self.clients.namespace);
        let handled = self.emit(client.as_ref(), event, args, Some(ack.clone()));
        succeeded(event, handled);
        self.clients.acks.get(&ack).cloned()
    }

    /// A client is gone.
    #[track_caller]
    pub fn disconnect(&mut self, client: impl AsRef<str>, reason: DisconnectReason) -> Effects {
        let handled = self.feed(client.as_ref(), |client| Event::Disconnect((client, reason)));
        self.forget(client.as_ref());
        succeeded("disconnect", handled)
    }

    /// A client answers a request, or with none did not in time.
    #[track_caller]
    pub fn reply(&mut self, client: impl AsRef<str>, token: impl AsRef<[u8]>, answer: Option<Payload>) -> Effects {
        let reply = types::Reply {
            token: token.as_ref().into(),
            answer,
        };
        let handled = self.feed(client.as_ref(), |client| Event::Reply((client, reply)));
        succeeded("reply", handled)
    }

    /// From now on, a client acknowledges this event with these arguments when [`collect`](crate::Audience::collect) asks
    /// for it. Without that, it does not answer.
    pub fn will_answer(&mut self, client: impl AsRef<str>, event: &str, args: impl Args) {
        let answer = Payload::new(args).expect("a test's arguments can be written as JSON");
        let client = self.clients.get_mut(client.as_ref());
        client.answers.insert(event.into(), answer);
    }

    /// Something happens that no client sent.
    #[track_caller]
    pub fn custom(&mut self, custom: Custom) -> Effects {
        self.events += 1;
        let client = custom.client.as_ref().map(|client| client.id.clone());
        let handled = self.call(0, vec![Event::Custom(custom)]);
        let handled = handled.map(|effects| self.commit(effects, client.as_deref()));
        succeeded("custom", handled)
    }

    /// Has all instances start, which they otherwise do before their first event.
    pub fn try_start(&mut self) -> Result<(), Failure> {
        (0..self.instances.len()).try_for_each(|number| self.start(number))
    }

    /// Another release of the same handler takes this one's place, as it does on a deploy: each instance is stopped and
    /// saves what it has in memory, and the new one in its place starts and loads that.
    #[track_caller]
    pub fn swap(&mut self) {
        let kit = std::mem::take(self);
        *self = kit.swap_to();
    }

    /// Another handler takes this one's place.
    #[track_caller]
    pub fn swap_to<N: Handler>(self) -> Kit<N> {
        let mut kit = Kit::<N> {
            instances: (0..self.instances.len()).map(|_| Instance::new()).collect(),
            events: self.events,
            sticky: self.sticky,
            admission: self.admission,
            clients: self.clients,
            buckets: self.buckets,
            ends: self.ends,
            config: self.config,
            log: self.log,
            now_ms: self.now_ms,
            states_refused: Vec::new(),
        };
        if let Err(failure) = kit.try_start() {
            panic!("the new release does not start: {failure}");
        }
        for (number, mut old) in self.instances.into_iter().enumerate() {
            if let Err(reason) = kit.hand_over(number, &mut old) {
                kit.states_refused.push(format!("instance {number}: {reason}"));
            }
        }
        kit
    }

    /// Why instances of this release began with nothing although those before them had something in memory, such as
    /// `instance 0: load: …`.
    pub fn states_refused(&self) -> &[String] {
        &self.states_refused
    }

    /// Time passes.
    pub fn advance(&mut self, time: Duration) {
        self.now_ms += time.as_millis() as u64;
        let buckets = &mut self.buckets;
        self.ends.retain(|(bucket, key), end| {
            let is_over = *end <= self.now_ms;
            if is_over && let Some(bucket) = buckets.get_mut(bucket) {
                bucket.remove(key);
            }
            !is_over
        });
    }

    /// All that a client has received so far.
    pub fn sent_to(&self, client: impl AsRef<str>) -> &[Sent] {
        &self.clients.get(client.as_ref()).inbox
    }

    /// All that a client has received since it was last asked here.
    pub fn take_sent_to(&mut self, client: impl AsRef<str>) -> Vec<Sent> {
        std::mem::take(&mut self.clients.get_mut(client.as_ref()).inbox)
    }

    /// The channels that a client is subscribed to.
    pub fn channels_of(&self, client: impl AsRef<str>) -> Vec<&str> {
        self.clients
            .get(client.as_ref())
            .channels
            .iter()
            .map(String::as_str)
            .collect()
    }

    /// A client's attributes.
    pub fn attributes_of(&self, client: impl AsRef<str>) -> &Value {
        &self.clients.get(client.as_ref()).attributes
    }

    /// Whether a client is still connected.
    pub fn is_connected(&self, client: impl AsRef<str>) -> bool {
        self.clients.get(client.as_ref()).live
    }

    /// What a bucket holds under a key, from JSON.
    pub fn value<T: DeserializeOwned>(&self, bucket: &str, key: &str) -> Option<T> {
        let bytes = self.buckets.get(bucket)?.get(key)?;
        Some(serde_json::from_slice(bytes).expect("the value is JSON of the type that the test asked for"))
    }

    /// The keys of a bucket, sorted.
    pub fn keys(&self, bucket: &str) -> Vec<&str> {
        self.buckets
            .get(bucket)
            .into_iter()
            .flat_map(|bucket| bucket.keys())
            .map(String::as_str)
            .collect()
    }

    /// The lines that the handler wrote to the log.
    pub fn log(&self) -> &[Line] {
        &self.log
    }

    fn emit(&mut self, client: &str, event: &str, args: impl Args, ack: Option<String>) -> Result<Effects, Failure> {
        let args = Payload::new(args).expect("a test's arguments can be written as JSON");
        let message = types::Message {
            event: event.into(),
            args,
            ack,
        };
        self.feed(client, |client| Event::Message((client, message)))
    }

    /// Gives an event to the instance whose turn it is, with a `no-client` before it where that is due.
    fn feed(&mut self, id: &str, event: impl FnOnce(types::Client) -> Event) -> Result<Effects, Failure> {
        let connected = self.clients.get(id);
        assert!(connected.refusal.is_none(), "client `{id}` was refused");
        assert!(connected.live, "client `{id}` is gone");
        let turn = if self.sticky { connected.number } else { self.events };
        let turn = turn % self.instances.len();
        let client = types::Client {
            id: id.into(),
            io_node: NODE.into(),
            namespace: self.clients.namespace.clone(),
            attributes: connected.attributes.to_string(),
        };
        let mut events = vec![event(client.clone())];
        if !matches!(events[0], Event::Connection(_)) && !self.instances[turn].seen.contains(id) {
            events.insert(0, Event::NoClient(client));
        }
        self.events += 1;
        let is_end = matches!(events.last(), Some(Event::Disconnect(_)));
        let effects = self.call(turn, events)?;
        match is_end {
            // By the time that its effects are carried out, the client is gone.
            true => self.forget(id),
            false => drop(self.instances[turn].seen.insert(id.into())),
        }
        Ok(self.commit(effects, Some(id)))
    }

    /// Gives an instance of this release what the one before it saves.
    fn hand_over<O: Handler>(&mut self, number: usize, old: &mut Instance<O>) -> Result<(), String> {
        if !old.has_started {
            return Ok(());
        }
        let saved = self.outside("save", || {
            old.handler.on_stop();
            old.handler.save()
        })?;
        let Some(snapshot) = saved.filter(|saved| !saved.schema.is_empty() || !saved.data.is_empty()) else {
            return Ok(());
        };
        let mut new = std::mem::replace(&mut self.instances[number], Instance::new());
        match self.outside("load", || new.handler.load(snapshot)) {
            Ok(()) => {
                new.seen = std::mem::take(&mut old.seen);
                self.instances[number] = new;
                Ok(())
            }
            Err(reason) => Err(reason),
        }
    }

    fn start(&mut self, number: usize) -> Result<(), Failure> {
        if self.instances[number].has_started {
            return Ok(());
        }
        let mut instance = std::mem::replace(&mut self.instances[number], Instance::new());
        let started = self.call_outside(|| instance.handler.on_start());
        instance.has_started = started.is_ok();
        self.instances[number] = instance;
        started
    }

    /// A call outside of an event, by the words that the host has for its end.
    fn outside<T>(&mut self, function: &str, call: impl FnOnce() -> crate::Result<T>) -> Result<T, String> {
        self.call_outside(call).map_err(|failure| match failure {
            Failure::Error(error) => format!("{function}: {}", reason(error)),
            Failure::Panic(_) => format!("{function}: {failure}"),
        })
    }

    fn call_outside<T>(&mut self, call: impl FnOnce() -> crate::Result<T>) -> Result<T, Failure> {
        let outside = Call {
            is_outside: true,
            ..Call::default()
        };
        let (answer, _) = self.within(outside, call);
        answer
    }

    fn call(&mut self, turn: usize, events: Vec<Event>) -> Result<Effects, Failure> {
        if let Err(failure) = self.start(turn) {
            panic!("the handler does not start: {failure}");
        }
        self.now_ms += 1;
        let mut context = host::context(self.events as u64, self.now_ms, turn);
        if let Some(Event::Disconnect((client, reason))) = events.last()
            && !matches!(reason, DisconnectReason::NodeLost)
        {
            let channels = json!(self.clients.get(&client.id).channels).to_string();
            context.extra.push((CHANNELS.into(), channels));
        }
        let mut instance = std::mem::replace(&mut self.instances[turn], Instance::new());
        // A client is introduced before the event, so what that is, the last one says.
        let event = events.last();
        let about = Call {
            admission: self.admission,
            is_connection: matches!(event, Some(Event::Connection(_))),
            is_nobodys: matches!(event, Some(Event::Custom(custom)) if custom.client.is_none()),
            ..Call::default()
        };
        let (answer, mut effects) = self.within(about, || {
            events
                .into_iter()
                .try_for_each(|event| dispatch(&mut instance.handler, event, context.clone()))
        });
        if !matches!(answer, Err(Failure::Panic(_))) {
            self.instances[turn] = instance;
        }
        let is_refusal = |command: &Command| matches!(command, Command::Refuse { .. });
        if let Some(last) = effects.commands.iter().rposition(is_refusal) {
            effects.commands = vec![effects.commands.swap_remove(last)];
        }
        answer.map(|()| effects)
    }

    /// Runs a part of a handler, which can see what this app has.
    fn within<T>(&mut self, about: Call, part: impl FnOnce() -> crate::Result<T>) -> (Result<T, Failure>, Effects) {
        let call = Call {
            buckets: std::mem::take(&mut self.buckets),
            config: self.config.clone(),
            ..about
        };
        let (answer, call) = native::within(call, part);
        self.buckets = call.buckets;
        self.log.extend(call.log);
        let answer = match answer {
            Ok(answer) => answer.map_err(Failure::Error),
            Err(panic) => Err(Failure::Panic(words_of(&*panic).to_owned())),
        };
        (answer, call.effects)
    }

    /// Carries out what the handling of an event of this client did.
    fn commit(&mut self, effects: Effects, client: Option<&str>) -> Effects {
        for write in &effects.writes {
            let bucket = self.buckets.entry(write.bucket.clone()).or_default();
            match &write.value {
                Some(value) => bucket.insert(write.key.clone(), value.clone()),
                None => bucket.remove(&write.key),
            };
            let place = (write.bucket.clone(), write.key.clone());
            match write.change {
                Change::Added => {}
                Change::Set => drop(self.ends.remove(&place)),
                Change::SetFor(time) => {
                    let end = self.now_ms.saturating_add(time.as_millis() as u64);
                    self.ends.insert(place, end);
                }
            }
        }
        let mut answers = Vec::new();
        for command in &effects.commands {
            self.clients.apply(command);
            answers.extend(answering::answer(command, &mut self.clients));
        }
        while let Some(id) = self.clients.gone.pop_front() {
            if self.clients.get(&id).live {
                self.disconnect(&id, DisconnectReason::ServerDisconnect);
            }
        }
        for (token, answer) in answers {
            let Some(client) = client else { continue };
            match self.clients.get(client).live {
                true => drop(self.reply(client, token, Some(answer))),
                false => drop(self.custom(late_reply::write(client, &token, &answer))),
            }
        }
        effects
    }

    fn forget(&mut self, id: &str) {
        self.clients.remove(id);
        for instance in &mut self.instances {
            instance.seen.remove(id);
        }
    }
}

impl<H: Handler> Instance<H> {
    fn new() -> Self {
        Self {
            handler: H::default(),
            has_started: false,
            seen: BTreeSet::new(),
        }
    }
}

#[track_caller]
fn succeeded<T>(event: &str, handled: Result<T, Failure>) -> T {
    handled.unwrap_or_else(|failure| panic!("event `{event}` failed: {failure}"))
}
