//! Handles events one after the other with the pool and the transport of a node, without a network: each event sees the committed
//! writes of those before. There are no clients; commands to them are reported as outcomes.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::super::log;
use super::super::project::{BuiltComponent, Project};
use super::super::terminal::{during, say};
use super::entry::{Connection, Entry, IO_NODE, Token};
use super::outcome::EventOutcome;
use plugnode_message::namespaces::Namespaces;
use plugnode_message::{
    Audience, Change, Command, Effects, Event, EventId, EventKind, KeyChange, Namespace, Scope, Selection, SessionId,
};
use plugnode_process::shutdown::Shutdown;
use plugnode_runtime::{Engine, Job, Pool};
use plugnode_server::config::Config;
use plugnode_server::roles::app_node::engine_settings;
use plugnode_transport::{
    Conflict, Delivery, IoNode, IoSession, Lease, Leases, Memory, Outcome, Transport, TransportSettings, Verdict,
};

/// Time-out for instances to end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Attributes of clients, by namespace and session id.
type Attributes = HashMap<(Namespace, String), Value>;

/// A compiled component, for each app of the configuration that uses it.
pub(in super::super) struct CompiledApps {
    engine: Engine,
    apps: Vec<(plugnode_server::config::App, plugnode_runtime::Component)>,
}

/// Handles the events of one file.
pub(in super::super) struct Harness {
    pools: Namespaces<Arc<Pool>>,
    /// Namespace of the first app.
    namespace: String,
    io: IoSession,
    lease: Lease,
    _leases: Box<dyn Leases>,
    attributes: Attributes,
    requests: VecDeque<OpenRequest>,
    /// Clients that the transport knows.
    connected: HashSet<(Namespace, SessionId)>,
    shutdown: Shutdown,
}

/// A request of a handler that clients are to answer.
struct OpenRequest {
    token: Token,
    to: Audience,
    answered: HashSet<String>,
}

impl CompiledApps {
    /// Builds and compiles a project, with its settings.
    pub(in super::super) async fn build(project: &Project, instances: Option<usize>) -> Result<Self> {
        let BuiltComponent { file, component, .. } = project.build_watched().await?;
        let config = project.config(&file, instances, |config| {
            // No pages are served.
            config.frontend.static_dir = ".".into();
        })?;
        log::init_for_handlers(&config.log)?;
        let what = || format!("compiling {}", project.path.display());
        let compiled = during(what, say, Self::compile(&config, component)).await;
        compiled.with_context(|| format!("{} cannot run", project.path.display()))
    }

    async fn compile(config: &Config, bytes: Bytes) -> Result<Self> {
        let engine = Engine::new(engine_settings(config)).context("cannot start the WebAssembly engine")?;
        let mut apps = Vec::new();
        let first = config.apps.first().map(|app| app.component.clone());
        for app in config.apps.iter().filter(|app| Some(&app.component) == first.as_ref()) {
            apps.push((app.clone(), engine.load(bytes.clone(), &app.handler.grants).await?));
        }
        Ok(Self { engine, apps })
    }
}

impl Harness {
    /// Starts instances, with a key-value store of these contents.
    pub(in super::super) async fn start(
        apps: &CompiledApps,
        keyvalue: &BTreeMap<String, BTreeMap<String, String>>,
    ) -> Result<Self> {
        let shutdown = Shutdown::new();
        // One partition keeps all events in order.
        let memory = Transport::from(Memory::new(TransportSettings {
            partitions: 1,
            ..TransportSettings::default()
        }));
        let io = memory.events.join_io(IoNode::without_address(IO_NODE)).await?;
        let mut leases = memory.events.join_app("app".into()).await?;
        let lease = leases.next().await?;
        let mut pools = Namespaces::default();
        let mut namespace = String::new();
        for (app, compiled) in &apps.apps {
            let settings = app.settings(&"app".into(), memory.key_value.clone());
            let pool = Pool::start(&apps.engine, compiled.clone(), settings, &shutdown).await?;
            pools.insert(&app.namespace, pool).map_err(anyhow::Error::msg)?;
            if namespace.is_empty() {
                namespace.clone_from(&app.namespace);
            }
        }
        let mut harness = Self {
            pools,
            namespace,
            io,
            lease,
            _leases: leases,
            attributes: HashMap::new(),
            requests: VecDeque::new(),
            connected: HashSet::new(),
            shutdown,
        };
        harness.write(keyvalue).await?;
        Ok(harness)
    }

    /// Handles and commits the event of an entry. `number` counts from 1 in the file.
    ///
    /// # Errors
    /// When the entry is not a valid event. A failure of the handler is an outcome.
    pub(in super::super) async fn handle_entry(&mut self, number: usize, entry: &Entry) -> Result<EventOutcome> {
        let namespace = entry.namespace(&self.namespace).to_owned();
        let token = match (entry.is_reply(), entry.client()) {
            (true, Some(client)) => self.take_request(&namespace, client),
            _ => None,
        };
        let attributes = self.attributes_of(&namespace, entry)?;
        let event = entry.event(number, &namespace, &attributes, token)?;
        self.handle(event).await
    }

    /// Handles and commits an event.
    pub(in super::super) async fn handle(&mut self, event: Event) -> Result<EventOutcome> {
        let Some(pool) = self.pools.find(event.namespace.as_str()).cloned() else {
            bail!(
                "no app is bound to the namespace {:?}; set `namespace` to one of plugnode.toml",
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
        let outcome = match handled.result {
            Ok(effects) => {
                let outcome = EventOutcome::handled(event, &effects);
                let commands = effects.commands.clone();
                match self.commit(delivery.id, effects).await? {
                    None => {
                        self.apply(&commands);
                        if let Some(client) = event
                            .client
                            .as_ref()
                            .filter(|_| commands.iter().any(Command::is_refusal))
                        {
                            self.connected.remove(&(event.namespace.clone(), client.id.clone()));
                        }
                        outcome
                    }
                    Some(reason) => {
                        self.commit(delivery.id, Effects::default()).await?;
                        EventOutcome::failed(reason)
                    }
                }
            }
            Err(failure) => {
                self.commit(delivery.id, Effects::default()).await?;
                EventOutcome::failed(failure.to_string())
            }
        };
        if let (EventKind::Disconnect(_), Some(client)) = (&event.kind, &event.client) {
            pool.forget(&event.namespace, &client.id);
            self.attributes
                .remove(&(event.namespace.clone(), client.id.to_string()));
        }
        Ok(outcome)
    }

    /// Stops the instances.
    pub(in super::super) async fn end(self) {
        self.shutdown.begin();
        drop(self.pools);
        self.shutdown.drained(SHUTDOWN).await;
    }

    /// Offers an event to the transport and reads it back. The client of a disconnect is connected first if necessary.
    async fn deliver(&mut self, event: Event) -> Result<Delivery> {
        let key = event
            .client
            .as_ref()
            .map(|client| (event.namespace.clone(), client.id.clone()));
        match (&event.kind, key) {
            (EventKind::Connection(_), Some(key)) => drop(self.connected.insert(key)),
            // The transport refuses the disconnect of an unknown client.
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

    /// Offers an event to the transport and reads it back.
    async fn pass(&mut self, event: Event) -> Result<Delivery> {
        let kind = event.kind.word();
        let refused = self.io.inbox.ingest(vec![event]).await?;
        if !refused.is_empty() {
            bail!("this {kind} is larger than an io-node accepts");
        }
        let read = self.lease.log.next().await?.unwrap_or_default();
        read.into_iter()
            .next()
            .context("the transport did not return the event")
    }

    /// Commits effects. Returns the reason if they cannot be committed.
    async fn commit(&mut self, id: EventId, effects: Effects) -> Result<Option<String>> {
        let outcome = Outcome::new(id, Verdict::Done(effects));
        let lost = self.lease.commits.commit(vec![outcome]).await?;
        // The outbox has to be emptied, or it fills up.
        while tokio::time::timeout(Duration::ZERO, self.io.outbox.next())
            .await
            .is_ok()
        {}
        Ok(lost.into_iter().next().map(|lost| match lost.conflict {
            Conflict::Changed => "a value that it has read has changed meanwhile".to_owned(),
            Conflict::Impossible(reason) | Conflict::Full { reason, .. } => {
                format!("its effects cannot be committed: {reason}")
            }
        }))
    }

    /// Writes values to the key-value store, as the effects of an event.
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

    /// Current attributes of a client.
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

    /// Applies commands as an io-node would, as far as later events depend on them: attributes and requests.
    fn apply(&mut self, commands: &[Command]) {
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
                Command::Request { to, token, .. } => self.requests.push_back(OpenRequest {
                    token: token.clone(),
                    to: to.clone(),
                    answered: HashSet::new(),
                }),
                Command::Ask { origin, token, .. } => self.requests.push_back(OpenRequest {
                    token: token.clone(),
                    to: Audience {
                        namespace: origin.namespace.clone(),
                        to: Scope::Only(Selection {
                            clients: vec![origin.client.clone()],
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

    /// Token of the oldest request that a client may have received and has not answered.
    fn take_request(&mut self, namespace: &str, client: &str) -> Option<Token> {
        let is_asked = |open: &OpenRequest| match &open.to.to {
            // Members of channels are not tracked: any client may be one.
            Scope::Only(some) if some.channels.is_empty() => some.clients.iter().any(|id| id.as_str() == client),
            _ => true,
        };
        let open = self.requests.iter_mut().find(|open| {
            open.to.namespace.as_str() == namespace && is_asked(open) && !open.answered.contains(client)
        })?;
        open.answered.insert(client.to_owned());
        Some(open.token.clone())
    }
}
