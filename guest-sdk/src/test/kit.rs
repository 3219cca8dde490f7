//! An in-memory plugnode with one handler.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::clients::Clients;
use super::effects::{Change, Command, Effects, Failure, Refusal, Sent};
use super::host::{self, Buckets, CallHost, Line};
use super::queries::{self, NODE};
use super::timers::{Fired, Timers};
use crate::bindings::plugnode::app::types::{self, Event};
use crate::context::CHANNELS;
use crate::handler::{Handler, dispatch, reason};
use crate::incoming::{Custom, DisconnectReason, Handshake};
use crate::late_reply;
use crate::native::{self, CallKind, CommandLimits, CommandRules, words_of};
use crate::payload::{Args, Payload};

/// The refusal message when the connection event failed, as on the real host.
const UNDECIDED: &str = "the server could not decide";

/// A minimal handshake, as a base for others:
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

/// The id of a client of a [`Kit`]. The kit's methods also accept a `&str`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TestClient(String);

impl AsRef<str> for TestClient {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

/// An in-memory plugnode: instances of one handler, clients, buckets. See the [module](super) for an example.
///
/// Events go to the instances in turn, one at a time. Methods without `try_` panic if the handler fails.
#[derive(Debug)]
pub struct Kit<H> {
    instances: Vec<Instance<H>>,
    events: usize,
    sticky: bool,
    admission: bool,
    limits: CommandLimits,
    clients: Clients,
    buckets: Buckets,
    /// When keys expire, in milliseconds since 1970, by bucket and key.
    expiries: BTreeMap<(String, String), u64>,
    timers: Timers,
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
    /// Creates a kit with one instance of the handler.
    pub fn new() -> Self {
        Self::with_instances(1)
    }

    /// Creates a kit with several instances, which receive events in turn.
    pub fn with_instances(count: usize) -> Self {
        assert!(count > 0, "a kit needs at least one instance");
        Self {
            instances: (0..count).map(|_| Instance::new()).collect(),
            events: 0,
            sticky: false,
            admission: false,
            limits: CommandLimits::default(),
            clients: Clients::new(),
            buckets: Buckets::new(),
            expiries: BTreeMap::new(),
            timers: Timers::default(),
            config: BTreeMap::new(),
            log: Vec::new(),
            now_ms: 1_800_000_000_000,
            states_refused: Vec::new(),
        }
    }

    /// Sends all events of a client to the same instance, like `dispatch = "sticky"`.
    pub fn sticky(mut self) -> Self {
        self.sticky = true;
        self
    }

    /// Sets `admission = true`: the handler may refuse clients, and a client whose connection event fails is refused.
    pub fn with_admission(mut self) -> Self {
        self.admission = true;
        self
    }

    /// Sets the app's `limits` on commands. The default is that of the configuration file.
    pub fn with_limits(mut self, limits: CommandLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Binds the app to this namespace instead of `/`.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.clients.namespace = namespace.into();
        self
    }

    /// Sets a key in the `config` table of the app's configuration.
    pub fn with_config(mut self, key: &str, value: &str) -> Self {
        self.config.insert(key.into(), value.into());
        self
    }

    /// Stores a value in a bucket, as JSON.
    pub fn with_value(mut self, bucket: &str, key: &str, value: impl Serialize) -> Self {
        let value = serde_json::to_vec(&value).expect("the value of a test can be written as JSON");
        self.buckets.entry(bucket.into()).or_default().insert(key.into(), value);
        self
    }

    /// Connects a client. With admission, the handler may [refuse](Self::refusal_of) it.
    #[track_caller]
    pub fn connect(&mut self, id: &str) -> TestClient {
        self.connect_with(id, handshake())
    }

    /// Connects a client with this handshake.
    #[track_caller]
    pub fn connect_with(&mut self, id: &str, handshake: Handshake) -> TestClient {
        let connected = self.try_connect(id, handshake);
        expect_success("connection", connected).0
    }

    /// Connects a client; returns the handler's failure.
    pub fn try_connect(&mut self, id: &str, handshake: Handshake) -> Result<(TestClient, Effects), Failure> {
        self.clients.add(id);
        let handled = self.deliver(id, |client| Event::Connection((client, handshake)));
        let refusal = match &handled {
            Ok(effects) => effects.commands.iter().find_map(|command| match command {
                Command::Refuse { message, data } => Some((message.clone(), data.clone())),
                _ => None,
            }),
            Err(_) => self.admission.then(|| (UNDECIDED.into(), None)),
        };
        if let Some((message, data)) = refusal {
            self.remove_client(id);
            self.clients.get_mut(id).refusal = Some(Refusal { message, data });
        }
        Ok((TestClient(id.into()), handled?))
    }

    /// The refusal of a client, or none if it was not refused.
    pub fn refusal_of(&self, client: impl AsRef<str>) -> Option<&Refusal> {
        self.clients.get(client.as_ref()).refusal.as_ref()
    }

    /// Lets a client emit an event.
    #[track_caller]
    pub fn message(&mut self, client: impl AsRef<str>, event: &str, args: impl Args) -> Effects {
        let handled = self.try_message(client, event, args);
        expect_success(event, handled)
    }

    /// Lets a client emit an event; returns the handler's failure.
    pub fn try_message(&mut self, client: impl AsRef<str>, event: &str, args: impl Args) -> Result<Effects, Failure> {
        self.emit(client.as_ref(), event, args, None)
    }

    /// Lets a client emit an event with an acknowledgement, and returns the handler's answer, if any.
    #[track_caller]
    pub fn ask(&mut self, client: impl AsRef<str>, event: &str, args: impl Args) -> Option<Payload> {
        let ack = format!("{}.{}.{}", self.events, client.as_ref(), self.clients.namespace);
        let handled = self.emit(client.as_ref(), event, args, Some(ack.clone()));
        expect_success(event, handled);
        self.clients.acks.get(&ack).cloned()
    }

    /// Disconnects a client for this reason.
    #[track_caller]
    pub fn disconnect(&mut self, client: impl AsRef<str>, reason: DisconnectReason) -> Effects {
        let handled = self.deliver(client.as_ref(), |client| Event::Disconnect((client, reason)));
        self.remove_client(client.as_ref());
        expect_success("disconnect", handled)
    }

    /// Delivers a client's answer to a request; none means that it did not answer in time.
    #[track_caller]
    pub fn reply(&mut self, client: impl AsRef<str>, token: impl AsRef<[u8]>, answer: Option<Payload>) -> Effects {
        let reply = types::Reply {
            token: token.as_ref().into(),
            answer,
        };
        let handled = self.deliver(client.as_ref(), |client| Event::Reply((client, reply)));
        expect_success("reply", handled)
    }

    /// Makes a client acknowledge this event with these arguments, whenever [`collect`](crate::Audience::collect) sends it. By
    /// default a client does not answer.
    pub fn will_answer(&mut self, client: impl AsRef<str>, event: &str, args: impl Args) {
        let answer = Payload::new(args).expect("the arguments of a test can be written as JSON");
        let client = self.clients.get_mut(client.as_ref());
        client.answers.insert(event.into(), answer);
    }

    /// Delivers an event that no client sent.
    #[track_caller]
    pub fn custom(&mut self, custom: Custom) -> Effects {
        let handled = self.deliver_custom(custom, Vec::new());
        expect_success("custom", handled)
    }

    /// Delivers the event of a timer of the app, also before the timer is due. A one-shot timer is then gone, a periodic one is due
    /// again a period later.
    ///
    /// The clock stays as it is. [`advance`](Self::advance) it over several periods of a timer first to have an event with
    /// [`missed`](crate::schedule::Due::missed) periods.
    ///
    /// # Panics
    ///
    /// If the app has no timer with this key.
    #[track_caller]
    pub fn fire(&mut self, key: &str) -> Effects {
        let Fired { kind, data, extra } = self.timers.fire(None, key, self.now_ms);
        let custom = Custom {
            kind,
            client: None,
            data,
            content_type: None,
        };
        let handled = self.deliver_custom(custom, extra);
        expect_success(key, handled)
    }

    /// Delivers the event of a client's timer, like [`fire`](Self::fire).
    ///
    /// # Panics
    ///
    /// If the client has no timer with this key. Its disconnect cancels its timers.
    #[track_caller]
    pub fn fire_of(&mut self, client: impl AsRef<str>, key: &str) -> Effects {
        let id = client.as_ref();
        let Fired { kind, data, extra } = self.timers.fire(Some(id), key, self.now_ms);
        let event = |client| {
            Event::Custom(Custom {
                kind,
                client: Some(client),
                data,
                content_type: None,
            })
        };
        let handled = self.deliver_with(id, extra, event);
        expect_success(key, handled)
    }

    /// The keys of the app's timers, sorted.
    pub fn timers(&self) -> Vec<&str> {
        self.timers.keys(None)
    }

    /// The keys of a client's timers, sorted.
    pub fn timers_of(&self, client: impl AsRef<str>) -> Vec<&str> {
        self.timers.keys(Some(client.as_ref()))
    }

    /// Starts all instances, which otherwise start before their first event; returns the handler's failure.
    pub fn try_start(&mut self) -> Result<(), Failure> {
        (0..self.instances.len()).try_for_each(|number| self.start(number))
    }

    /// Deploys a new release of the same handler: each instance stops and saves its state, and its successor starts and
    /// loads it.
    #[track_caller]
    pub fn swap(&mut self) {
        let kit = std::mem::take(self);
        *self = kit.swap_to();
    }

    /// Deploys another handler in the same way.
    #[track_caller]
    pub fn swap_to<N: Handler>(self) -> Kit<N> {
        let mut kit = Kit::<N> {
            instances: (0..self.instances.len()).map(|_| Instance::new()).collect(),
            events: self.events,
            sticky: self.sticky,
            admission: self.admission,
            limits: self.limits,
            clients: self.clients,
            buckets: self.buckets,
            expiries: self.expiries,
            timers: self.timers,
            config: self.config,
            log: self.log,
            now_ms: self.now_ms,
            states_refused: Vec::new(),
        };
        if let Err(failure) = kit.try_start() {
            panic!("the new release failed to start: {failure}");
        }
        for (number, mut old) in self.instances.into_iter().enumerate() {
            if let Err(reason) = kit.hand_over(number, &mut old) {
                kit.states_refused.push(format!("instance {number}: {reason}"));
            }
        }
        kit
    }

    /// The failed hand-overs of the last deploy, such as `instance 0: load: …`. The new instances started empty.
    pub fn states_refused(&self) -> &[String] {
        &self.states_refused
    }

    /// Advances the clock. Keys expire; timers do not [`fire`](Self::fire).
    pub fn advance(&mut self, time: Duration) {
        self.now_ms += time.as_millis() as u64;
        let buckets = &mut self.buckets;
        self.expiries.retain(|(bucket, key), expiry| {
            let has_expired = *expiry <= self.now_ms;
            if has_expired && let Some(bucket) = buckets.get_mut(bucket) {
                bucket.remove(key);
            }
            !has_expired
        });
    }

    /// All events that a client has received so far and that [`take_sent_to`](Self::take_sent_to) has not removed.
    pub fn sent_to(&self, client: impl AsRef<str>) -> &[Sent] {
        &self.clients.get(client.as_ref()).inbox
    }

    /// Removes and returns the events that a client has received.
    pub fn take_sent_to(&mut self, client: impl AsRef<str>) -> Vec<Sent> {
        std::mem::take(&mut self.clients.get_mut(client.as_ref()).inbox)
    }

    /// The channels that a client is subscribed to, sorted.
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

    /// Whether a client is connected.
    pub fn is_connected(&self, client: impl AsRef<str>) -> bool {
        self.clients.get(client.as_ref()).is_connected
    }

    /// The committed value of a key in a bucket, parsed from JSON.
    pub fn value<T: DeserializeOwned>(&self, bucket: &str, key: &str) -> Option<T> {
        let bytes = self.buckets.get(bucket)?.get(key)?;
        Some(serde_json::from_slice(bytes).expect("the stored value is JSON of the requested type"))
    }

    /// The committed keys of a bucket, sorted.
    pub fn keys(&self, bucket: &str) -> Vec<&str> {
        self.buckets
            .get(bucket)
            .into_iter()
            .flat_map(|bucket| bucket.keys())
            .map(String::as_str)
            .collect()
    }

    /// The log lines of the handler.
    pub fn log(&self) -> &[Line] {
        &self.log
    }

    fn emit(&mut self, client: &str, event: &str, args: impl Args, ack: Option<String>) -> Result<Effects, Failure> {
        let args = Payload::new(args).expect("the arguments of a test can be written as JSON");
        let message = types::Message {
            event: event.into(),
            args,
            ack,
        };
        self.deliver(client, |client| Event::Message((client, message)))
    }

    fn deliver(&mut self, id: &str, event: impl FnOnce(types::Client) -> Event) -> Result<Effects, Failure> {
        self.deliver_with(id, Vec::new(), event)
    }

    /// Delivers an event to the next instance, preceded by a `no-client` event if the instance does not know the client. `extra`
    /// are additional entries of the context.
    fn deliver_with(
        &mut self,
        id: &str,
        extra: Vec<(String, String)>,
        event: impl FnOnce(types::Client) -> Event,
    ) -> Result<Effects, Failure> {
        let connected = self.clients.get(id);
        assert!(connected.refusal.is_none(), "client `{id}` was refused");
        assert!(connected.is_connected, "client `{id}` is disconnected");
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
        let is_disconnect = matches!(events.last(), Some(Event::Disconnect(_)));
        let effects = self.call(turn, events, extra)?;
        match is_disconnect {
            // The client is gone before the effects are applied, so they cannot reach it.
            true => self.remove_client(id),
            false => drop(self.instances[turn].seen.insert(id.into())),
        }
        Ok(self.commit(effects, Some(id)))
    }

    fn deliver_custom(&mut self, custom: Custom, extra: Vec<(String, String)>) -> Result<Effects, Failure> {
        self.events += 1;
        let client = custom.client.as_ref().map(|client| client.id.clone());
        let effects = self.call(0, vec![Event::Custom(custom)], extra)?;
        Ok(self.commit(effects, client.as_deref()))
    }

    /// Hands the state of an old instance over to its successor.
    fn hand_over<O: Handler>(&mut self, number: usize, old: &mut Instance<O>) -> Result<(), String> {
        if !old.has_started {
            return Ok(());
        }
        let saved = self.report_outside_event("save", || {
            old.handler.on_stop();
            old.handler.save()
        })?;
        let Some(snapshot) = saved.filter(|saved| !saved.schema.is_empty() || !saved.data.is_empty()) else {
            return Ok(());
        };
        let mut new = std::mem::replace(&mut self.instances[number], Instance::new());
        match self.report_outside_event("load", || new.handler.load(snapshot)) {
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
        let started = self.call_outside_event(|| instance.handler.on_start());
        instance.has_started = started.is_ok();
        self.instances[number] = instance;
        started
    }

    /// Calls a function outside of an event, and formats its failure as the host reports it.
    fn report_outside_event<T>(
        &mut self,
        function: &str,
        call: impl FnOnce() -> crate::Result<T>,
    ) -> Result<T, String> {
        self.call_outside_event(call).map_err(|failure| match failure {
            Failure::Error(error) => format!("{function}: {}", reason(error)),
            Failure::Panic(_) => format!("{function}: {failure}"),
        })
    }

    fn call_outside_event<T>(&mut self, call: impl FnOnce() -> crate::Result<T>) -> Result<T, Failure> {
        self.run(CallKind::OutsideEvent, call).0
    }

    fn call(&mut self, turn: usize, events: Vec<Event>, extra: Vec<(String, String)>) -> Result<Effects, Failure> {
        if let Err(failure) = self.start(turn) {
            panic!("the handler failed to start: {failure}");
        }
        self.now_ms += 1;
        let mut context = host::context(self.events as u64, self.now_ms, turn);
        context.extra = extra;
        if let Some(Event::Disconnect((client, reason))) = events.last()
            && !matches!(reason, DisconnectReason::NodeLost)
        {
            let channels = json!(self.clients.get(&client.id).channels).to_string();
            context.extra.push((CHANNELS.into(), channels));
        }
        let mut instance = std::mem::replace(&mut self.instances[turn], Instance::new());
        // The last one is the event itself; a `no-client` event may precede it.
        let kind = match events.last() {
            Some(Event::Connection(_)) => CallKind::Connection,
            Some(Event::Disconnect(_)) => CallKind::Disconnect,
            Some(Event::Custom(custom)) if custom.client.is_none() => CallKind::WithoutClient,
            _ => CallKind::OfClient,
        };
        let (answer, mut effects) = self.run(kind, || {
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

    /// Runs handler code against this kit's buckets and configuration.
    fn run<T>(&mut self, kind: CallKind, part: impl FnOnce() -> crate::Result<T>) -> (Result<T, Failure>, Effects) {
        let rules = CommandRules {
            call: kind,
            admission: self.admission,
            limits: self.limits,
        };
        let mut host = CallHost::new(rules);
        host.buckets = std::mem::take(&mut self.buckets);
        host.config = self.config.clone();
        host.present = self.clients.present();
        let (answer, host) = native::within(host, part);
        self.buckets = host.buckets;
        self.log.extend(host.log);
        let answer = match answer {
            Ok(answer) => answer.map_err(Failure::Error),
            Err(panic) => Err(Failure::Panic(words_of(&*panic).to_owned())),
        };
        (answer, host.effects)
    }

    /// Applies the effects of an event, and delivers the events that follow from them. `client` is the event's client.
    fn commit(&mut self, effects: Effects, client: Option<&str>) -> Effects {
        for write in &effects.writes {
            let bucket = self.buckets.entry(write.bucket.clone()).or_default();
            match &write.value {
                Some(value) => bucket.insert(write.key.clone(), value.clone()),
                None => bucket.remove(&write.key),
            };
            let key = (write.bucket.clone(), write.key.clone());
            match write.change {
                Change::Added => {}
                Change::Set => drop(self.expiries.remove(&key)),
                Change::SetFor(time) => {
                    let expiry = self.now_ms.saturating_add(time.as_millis() as u64);
                    self.expiries.insert(key, expiry);
                }
            }
        }
        let connected = client.filter(|id| self.clients.is_connected(id));
        let mut answers = Vec::new();
        for command in &effects.commands {
            self.clients.apply(command);
            self.timers.apply(command, connected, self.now_ms);
            answers.extend(queries::run(command, &mut self.clients));
        }
        while let Some(id) = self.clients.disconnecting.pop_front() {
            if self.clients.get(&id).is_connected {
                self.disconnect(&id, DisconnectReason::ServerDisconnect);
            }
        }
        for (token, answer) in answers {
            let Some(client) = client else { continue };
            match self.clients.get(client).is_connected {
                true => drop(self.reply(client, token, Some(answer))),
                false => drop(self.custom(late_reply::write(client, &token, &answer))),
            }
        }
        effects
    }

    fn remove_client(&mut self, id: &str) {
        self.clients.remove(id);
        self.timers.remove_client(id);
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
fn expect_success<T>(event: &str, handled: Result<T, Failure>) -> T {
    handled.unwrap_or_else(|failure| panic!("event `{event}` failed: {failure}"))
}
