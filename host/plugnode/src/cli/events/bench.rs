//! Has a component handle the events of a file, one after the other, by the pool and the transport of a node: what one commits, the
//! next one finds. Clients are not there: what is sent to them is told and goes nowhere.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::{Attributes, Came, Connection, Entry, IO_NODE, Token};
use plugnode_message::namespaces::Namespaces;
use plugnode_message::{
    Audience, Change, Command, Effects, Event, EventId, EventKind, KeyChange, Namespace, Scope, Selection, SessionId,
};
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::{Engine, Job, Pool};
use plugnode_server::config::Config;
use plugnode_server::settings;
use plugnode_transport::{
    Conflict, Delivery, IoNode, IoSession, Lease, Leases, Memory, MemorySettings, Outcome, Transport, Verdict,
};

/// How long instances may take to end.
const ENDING: Duration = Duration::from_secs(2);

/// A component that was compiled, and the apps of the configuration that are of it.
pub(in super::super) struct Component {
    engine: Engine,
    apps: Vec<(plugnode_server::config::App, plugnode_runtime::Component)>,
}

/// A component at work on the events of one file.
pub(in super::super) struct Bench {
    pools: Namespaces<Arc<Pool>>,
    /// That of the first app.
    namespace: String,
    io: IoSession,
    lease: Lease,
    _leases: Box<dyn Leases>,
    attributes: Attributes,
    questions: VecDeque<Open>,
    /// The clients that the transport knows of.
    connected: HashSet<(Namespace, SessionId)>,
    shutdown: Shutdown,
}

/// A question that clients have to answer.
struct Open {
    token: Token,
    to: Audience,
    answered: HashSet<String>,
}

impl Component {
    /// Compiles it for the apps of a configuration whose component it is.
    pub(in super::super) async fn load(config: &Config, bytes: Bytes) -> Result<Self> {
        let engine = Engine::new(settings::engine(config)).context("cannot set WebAssembly up")?;
        let mut apps = Vec::new();
        let own = config.apps.first().map(|app| app.component.clone());
        for app in config.apps.iter().filter(|app| Some(&app.component) == own.as_ref()) {
            let grants = settings::app(
                app,
                &IO_NODE.into(),
                Transport::from(Memory::new(MemorySettings::default())).key_value,
            )
            .grants;
            apps.push((app.clone(), engine.load(bytes.clone(), &grants).await?));
        }
        Ok(Self { engine, apps })
    }
}

impl Bench {
    /// Starts instances, over a key-value store of its own with these values in it.
    pub(in super::super) async fn start(
        component: &Component,
        keyvalue: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Self> {
        let shutdown = Shutdown::new();
        // One, so that all events are in one order.
        let memory = Transport::from(Memory::new(MemorySettings {
            partitions: 1,
            ..MemorySettings::default()
        }));
        let io = memory.events.join_io(IoNode::without_address(IO_NODE)).await?;
        let mut leases = memory.events.join_app("app".into()).await?;
        let lease = leases.next().await?;
        let mut pools = Namespaces::default();
        let mut namespace = String::new();
        for (app, compiled) in &component.apps {
            let settings = settings::app(app, &"app".into(), memory.key_value.clone());
            let pool = Pool::start(&component.engine, compiled.clone(), settings, &shutdown).await?;
            pools.insert(&app.namespace, pool).map_err(anyhow::Error::msg)?;
            if namespace.is_empty() {
                namespace.clone_from(&app.namespace);
            }
        }
        let mut bench = Self {
            pools,
            namespace,
            io,
            lease,
            _leases: leases,
            attributes: HashMap::new(),
            questions: VecDeque::new(),
            connected: HashSet::new(),
            shutdown,
        };
        bench.write(keyvalue).await?;
        Ok(bench)
    }

    /// Has an event handled and committed, and says what it led to.
    ///
    /// # Errors
    /// When the entry is no event. That its handler fails is something that came.
    pub(in super::super) async fn handle(&mut self, number: usize, entry: &Entry) -> Result<Came> {
        let namespace = entry.namespace(&self.namespace).to_owned();
        let token = match (entry.is_reply(), entry.client()) {
            (true, Some(client)) => self.answer(&namespace, client),
            _ => None,
        };
        let attributes = self.attributes_of(&namespace, entry)?;
        let event = entry.event(number, &namespace, &attributes, token)?;
        self.handle_event(event).await
    }

    /// The same of an event as it is.
    pub(in super::super) async fn handle_event(&mut self, event: Event) -> Result<Came> {
        let Some(pool) = self.pools.find(event.namespace.as_str()).cloned() else {
            bail!(
                "no app is bound to the namespace {:?}; name one of plugnode.toml by `namespace`",
                event.namespace.as_str()
            );
        };
        let mut delivery = self.deliver(event).await?;
        delivery.attempts = 1;
        let (done, mut handled) = mpsc::channel(1);
        pool.submit(Job {
            id: delivery.id,
            attempt: delivery.attempts,
            event: delivery.event.clone(),
            on_trial: None,
            done,
            token: TaskTracker::new().token(),
        });
        let handled = handled.recv().await.context("the instances have ended")?;
        let event = &*delivery.event;
        let came = match handled.result {
            Ok(effects) => {
                let came = Came::of(event, &effects);
                let commands = effects.commands.clone();
                match self.commit(delivery.id, effects).await? {
                    None => {
                        self.note(&commands);
                        if let Some(client) = event
                            .client
                            .as_ref()
                            .filter(|_| commands.iter().any(Command::is_refusal))
                        {
                            self.connected.remove(&(event.namespace.clone(), client.id.clone()));
                        }
                        came
                    }
                    Some(reason) => {
                        self.commit(delivery.id, Effects::default()).await?;
                        Came::failed(reason)
                    }
                }
            }
            Err(failure) => {
                self.commit(delivery.id, Effects::default()).await?;
                Came::failed(failure.to_string())
            }
        };
        if let (EventKind::Disconnect(_), Some(client)) = (&event.kind, &event.client) {
            pool.forget(&event.namespace, &client.id);
            self.attributes
                .remove(&(event.namespace.clone(), client.id.to_string()));
        }
        Ok(came)
    }

    /// Ends the instances.
    pub(in super::super) async fn end(self) {
        self.shutdown.begin();
        drop(self.pools);
        self.shutdown.drained(ENDING).await;
    }

    /// Puts an event into the log, and takes it out.
    async fn deliver(&mut self, event: Event) -> Result<Delivery> {
        let key = event
            .client
            .as_ref()
            .map(|client| (event.namespace.clone(), client.id.clone()));
        match (&event.kind, key) {
            (EventKind::Connection(_), Some(key)) => drop(self.connected.insert(key)),
            // The transport takes none of a client that it does not know.
            (EventKind::Disconnect(_), Some(key)) if !self.connected.remove(&key) => {
                let connection = Event {
                    kind: EventKind::Connection(Box::new(Connection::default().handshake()?)),
                    ..event.clone()
                };
                let connection = self.pass(connection).await?;
                self.commit(connection.id, Effects::default()).await?;
            }
            _ => {}
        }
        self.pass(event).await
    }

    async fn pass(&mut self, event: Event) -> Result<Delivery> {
        let what = event.kind.word();
        let refused = self.io.inbox.ingest(vec![event]).await?;
        if !refused.is_empty() {
            bail!("this {what} has more bytes than an io-node would take");
        }
        let read = self.lease.log.next().await?.unwrap_or_default();
        read.into_iter().next().context("the event is not in its log")
    }

    /// None when that is done, and else why it cannot be.
    async fn commit(&mut self, id: EventId, effects: Effects) -> Result<Option<String>> {
        let outcome = Outcome {
            id,
            verdict: Verdict::Done(effects),
            keep_turn: None,
        };
        let lost = self.lease.commits.commit(vec![outcome]).await?;
        // Nobody else empties the outbox.
        while tokio::time::timeout(Duration::ZERO, self.io.outbox.next())
            .await
            .is_ok()
        {}
        Ok(lost.into_iter().next().map(|lost| match lost.conflict {
            Conflict::Changed => "what it has read has changed meanwhile".to_owned(),
            Conflict::Impossible(reason) => format!("its effects cannot be committed: {reason}"),
        }))
    }

    /// Puts values into the key-value store, as an event from nobody would.
    async fn write(&mut self, keyvalue: &BTreeMap<String, BTreeMap<String, String>>) -> Result<()> {
        let mut writes = Vec::new();
        for (bucket, values) in keyvalue {
            writes.extend(values.iter().map(|(key, value)| KeyChange {
                bucket: bucket.as_str().into(),
                key: key.as_str().into(),
                change: Change::set(value.clone()),
            }));
        }
        if writes.is_empty() {
            return Ok(());
        }
        let delivery = self.deliver(Event {
            namespace: self.namespace.as_str().into(),
            client: None,
            received_at_ms: 0,
            kind: EventKind::Custom {
                kind: "plugnode.test/1".into(),
                data: Bytes::new(),
                content_type: None,
            },
        });
        let delivery = delivery.await?;
        let effects = Effects {
            writes,
            ..Effects::default()
        };
        match self.commit(delivery.id, effects).await? {
            Some(reason) => bail!("[keyvalue]: {reason}"),
            None => Ok(()),
        }
    }

    /// The attributes that a client has by now.
    fn attributes_of(&mut self, namespace: &str, entry: &Entry) -> Result<Value> {
        let Some(client) = entry.client() else {
            return Ok(json!({}));
        };
        let key = (Namespace::from(namespace), client.to_owned());
        let attributes = self.attributes.entry(key).or_insert_with(|| json!({}));
        if let Some(given) = entry.attributes()? {
            *attributes = given;
        }
        Ok(attributes.clone())
    }

    /// Does what an io-node would do with commands, as far as it shows in later events.
    fn note(&mut self, commands: &[Command]) {
        for command in commands {
            match command {
                Command::PatchAttributes {
                    namespace,
                    client,
                    patch,
                    ..
                } => {
                    let key = (namespace.clone(), client.to_string());
                    let attributes = self.attributes.entry(key).or_insert_with(|| json!({}));
                    let patch: Value = serde_json::from_str(patch).unwrap_or_default();
                    json_patch::merge(attributes, &patch);
                }
                Command::Request { to, token, .. } => self.questions.push_back(Open {
                    token: token.clone(),
                    to: to.clone(),
                    answered: HashSet::new(),
                }),
                Command::Ask { asker, token, .. } => self.questions.push_back(Open {
                    token: token.clone(),
                    to: Audience {
                        namespace: asker.namespace.clone(),
                        to: Scope::Only(Selection {
                            clients: vec![asker.client.clone()],
                            channels: Vec::new(),
                        }),
                        except: Selection::default(),
                    },
                    answered: HashSet::new(),
                }),
                _ => {}
            }
        }
    }

    /// The token of the oldest question that a client may have got and has not answered.
    fn answer(&mut self, namespace: &str, client: &str) -> Option<Token> {
        let is_asked = |open: &Open| match &open.to.to {
            // Who is in a channel is not known here.
            Scope::Only(some) if some.channels.is_empty() => some.clients.iter().any(|id| id.as_str() == client),
            _ => true,
        };
        let open = self.questions.iter_mut().find(|open| {
            open.to.namespace.as_str() == namespace && is_asked(open) && !open.answered.contains(client)
        })?;
        open.answered.insert(client.to_owned());
        Some(open.token.clone())
    }
}
