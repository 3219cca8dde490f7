//! What a cluster costs its Redis: the CPU time and the calls of a Redis server of its own, with a number of app-nodes and io-nodes in
//! this process, idle and in one of these scenarios:
//!
//! - `echo`: a client's message is acknowledged; COUNT of them
//! - `broadcast`: a client's message is published to all io-nodes with 1 KB; COUNT of them
//! - `register`: CLIENTS connect, and their io-nodes leave
//!
//! ```sh
//! cargo run --release -p plugnode-transport-redis --example scale -- SCENARIO APP_NODES IO_NODES CLIENTS COUNT [PARTITIONS [SHARDS]]
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plugnode_message::{
    AckId, Audience, Client, Command, Effects, Event, EventKind, Handshake, Payload, Scope, Selection, SessionId, Text,
};
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::{Events, IoNode, IoSession, Lease, Outcome, Verdict};
use plugnode_transport_redis::{Redis, RedisSettings};
use redis::Connection;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Duration of the measurement without messages.
const IDLE: Duration = Duration::from_secs(5);
/// Time for leases to settle after all nodes have joined.
const SETTLE: Duration = Duration::from_secs(4);

/// A Redis server that ends with this.
struct Server {
    process: Child,
    connection: Connection,
    url: String,
}

/// Use of the server so far.
struct Usage {
    /// CPU time in seconds.
    cpu: f64,
    /// Memory in use, in bytes.
    memory: f64,
    /// Command -> calls and microseconds.
    commands: BTreeMap<String, (u64, u64)>,
    input: u64,
    output: u64,
}

impl Server {
    fn start(folder: &Path) -> Result<Self, Failure> {
        let socket = folder.join("redis.sock");
        let process = Process::new("redis-server")
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .current_dir(folder)
            .stdout(Stdio::null())
            .spawn()?;
        let url = format!("redis+unix://{}", socket.display());
        let client = redis::Client::open(url.as_str())?;
        let begun = Instant::now();
        let connection = loop {
            match client.get_connection() {
                Ok(connection) => break connection,
                Err(error) if begun.elapsed() > Duration::from_secs(10) => return Err(error.into()),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        Ok(Self {
            process,
            connection,
            url,
        })
    }

    fn usage(&mut self) -> Result<Usage, Failure> {
        let info: String = redis::cmd("INFO").arg("everything").query(&mut self.connection)?;
        let number = |name: &str| -> f64 {
            let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            value.and_then(|value| value.trim().parse().ok()).unwrap_or(0.0)
        };
        let mut commands = BTreeMap::new();
        for line in info.lines().filter_map(|line| line.strip_prefix("cmdstat_")) {
            let Some((name, stats)) = line.split_once(':') else {
                continue;
            };
            let stat = |name: &str| -> u64 {
                let value = stats
                    .split(',')
                    .find_map(|stat| stat.strip_prefix(name)?.strip_prefix('='));
                value.and_then(|value| value.parse().ok()).unwrap_or(0)
            };
            commands.insert(name.to_owned(), (stat("calls"), stat("usec")));
        }
        Ok(Usage {
            memory: number("used_memory"),
            cpu: number("used_cpu_user") + number("used_cpu_sys"),
            commands,
            input: number("total_net_input_bytes") as u64,
            output: number("total_net_output_bytes") as u64,
        })
    }

    /// Prints the use between two points, for each of a number of units.
    fn report(&mut self, before: &Usage, unit: &str, units: f64) -> Result<(), Failure> {
        let after = self.usage()?;
        let cpu = 1e6 * (after.cpu - before.cpu) / units;
        let input = (after.input - before.input) as f64 / units;
        let output = (after.output - before.output) as f64 / units;
        println!("  {cpu:.1} us of CPU, {input:.0} bytes in, {output:.0} bytes out for each {unit}");
        for (name, (calls, micros)) in after.commands {
            let (calls_before, micros_before) = before.commands.get(&name).copied().unwrap_or_default();
            let (calls, micros) = ((calls - calls_before) as f64, (micros - micros_before) as f64);
            if micros / units >= 0.05 && calls > 0.0 {
                let (calls_each, micros_each) = (calls / units, micros / units);
                println!(
                    "    {name:18} {calls_each:9.3} calls {micros_each:9.2} us, {:.2} us each",
                    micros / calls
                );
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn message(client: &SessionId, io_node: &str, number: i64) -> Event {
    Event {
        namespace: "/chat".into(),
        client: Some(Client {
            id: client.clone(),
            io_node: io_node.into(),
            attributes: Text::from_static(r#"{"name":"somebody","rank":7}"#),
            patched: 0,
        }),
        received_at_ms: 1_700_000_000_000,
        kind: EventKind::Message {
            event: Text::from_static("say"),
            args: Payload {
                json: format!(r#"[{{"n":{number},"text":"hello to all of you","tags":["a",true,null,1.5]}}]"#).into(),
                attachments: Vec::new(),
            },
            ack: Some(AckId {
                namespace: "/chat".into(),
                client: client.clone(),
                number,
            }),
        },
    }
}

fn connection(client: &SessionId, io_node: &str) -> Event {
    let handshake = Handshake {
        auth: None,
        query: "".into(),
        headers: [].into(),
        remote_addr: None,
        transport: "websocket".into(),
        recovered: false,
    };
    Event {
        kind: EventKind::Connection(Box::new(handshake)),
        ..message(client, io_node, 0)
    }
}

/// Handles the events of a partition: acknowledges messages with their arguments, or publishes to all io-nodes.
async fn handle(mut lease: Lease, is_broadcasting: bool, handled: Arc<AtomicU64>) {
    let publish = Command::Publish {
        to: Audience {
            namespace: "/chat".into(),
            to: Scope::All,
            except: Selection::default(),
        },
        event: Text::from_static("said"),
        args: Payload {
            json: format!("[{:?}]", "x".repeat(1_000)).into(),
            attachments: Vec::new(),
        },
        local: false,
        volatile: false,
    };
    while let Ok(Some(deliveries)) = lease.log.next().await {
        let events = deliveries.len() as u64;
        let outcomes = deliveries.into_iter().map(|delivery| {
            let mut commands = Vec::new();
            if let EventKind::Message {
                args, ack: Some(ack), ..
            } = &delivery.event.kind
            {
                if is_broadcasting {
                    commands.push(publish.clone());
                }
                commands.push(Command::Ack {
                    id: ack.clone(),
                    args: args.clone(),
                });
            }
            let effects = Effects {
                commands,
                ..Effects::default()
            };
            Outcome::new(delivery.id, Verdict::Done(effects))
        });
        if lease.commits.commit(outcomes.collect()).await.is_err() {
            return;
        }
        handled.fetch_add(events, Ordering::Relaxed);
    }
}

/// Sends a message of each client, and the next one after each acknowledgement, until enough were acknowledged and this io-node has
/// heard the broadcasts.
async fn talk(
    mut session: IoSession,
    io_node: String,
    clients: Vec<SessionId>,
    messages: u64,
    is_broadcasting: bool,
    done: Arc<AtomicU64>,
) {
    let mut events: Vec<Event> = clients.iter().map(|client| message(client, &io_node, 1)).collect();
    let mut heard = 0;
    let is_over = |heard| {
        let done = done.load(Ordering::Relaxed);
        done >= messages && (!is_broadcasting || heard >= done)
    };
    while !is_over(heard) {
        while !events.is_empty() {
            events = session.inbox.ingest(events).await.expect("this io-node is a member");
        }
        let Ok(commands) = tokio::time::timeout(Duration::from_secs(1), session.outbox.next()).await else {
            continue;
        };
        for command in commands.expect("this io-node is a member") {
            match command {
                Command::Ack { id, .. } => {
                    let is_more_to_do = done.fetch_add(1, Ordering::Relaxed) < messages;
                    events.extend(is_more_to_do.then(|| message(&id.client, &io_node, id.number + 1)));
                }
                Command::Publish { .. } => heard += 1,
                _ => {}
            }
        }
    }
}

/// Connects clients and waits until their apps have heard of it.
async fn register(session: &IoSession, io_node: &str, clients: &[SessionId], handled: &AtomicU64) {
    let (before, mut sent) = (handled.load(Ordering::Relaxed), 0);
    for some in clients.chunks(1_000) {
        let mut events: Vec<Event> = some.iter().map(|client| connection(client, io_node)).collect();
        sent += events.len() as u64;
        while !events.is_empty() {
            events = session.inbox.ingest(events).await.expect("this io-node is a member");
        }
        wait_until(|| handled.load(Ordering::Relaxed) >= before + sent).await;
    }
}

async fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// What the command line says.
struct Arguments {
    scenario: String,
    app_nodes: u64,
    io_nodes: u64,
    clients: u64,
    count: u64,
    settings: RedisSettings,
}

impl Arguments {
    fn read() -> Result<Self, Failure> {
        const USAGE: &str =
            "usage: scale echo|broadcast|register APP_NODES IO_NODES CLIENTS COUNT [PARTITIONS [SHARDS]]";
        let mut words = std::env::args().skip(1);
        let scenario = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words
            .map(|word| word.parse().map_err(|_| USAGE))
            .collect::<Result<_, _>>()?;
        let [app_nodes, io_nodes, clients, count, ref layout @ ..] = numbers[..] else {
            return Err(USAGE.into());
        };
        if !["echo", "broadcast", "register"].contains(&scenario.as_str()) || numbers[..4].contains(&0) {
            return Err(USAGE.into());
        }
        let mut settings = RedisSettings::default();
        if let Some(partitions) = layout.first() {
            settings.common.partitions = u16::try_from(*partitions)?;
        }
        if let Some(shards) = layout.get(1) {
            settings.shards = u16::try_from(*shards)?;
        }
        Ok(Self {
            scenario,
            app_nodes,
            io_nodes,
            clients,
            count,
            settings,
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let Arguments {
        scenario,
        app_nodes,
        io_nodes,
        clients,
        count,
        settings,
    } = Arguments::read()?;
    let is_broadcasting = scenario == "broadcast";
    let folder = tempfile::tempdir()?;
    let mut server = Server::start(folder.path())?;
    let shutdown = Shutdown::new();
    let handled = Arc::new(AtomicU64::new(0));
    for number in 0..app_nodes {
        let redis = Redis::connect(&server.url, settings.clone(), &shutdown).await?;
        let mut leases = redis.join_app(format!("app-{number}").as_str().into()).await?;
        let handled = handled.clone();
        tokio::spawn(async move {
            while let Ok(lease) = leases.next().await {
                tokio::spawn(handle(lease, is_broadcasting, handled.clone()));
            }
        });
    }
    let mut sessions = Vec::new();
    for number in 0..io_nodes {
        let redis = Redis::connect(&server.url, settings.clone(), &shutdown).await?;
        let name = format!("io-{number}");
        let session = redis.join_io(IoNode::without_address(name.as_str())).await?;
        sessions.push((name, session));
    }
    tokio::time::sleep(SETTLE).await;
    println!("{app_nodes} app-nodes, {io_nodes} io-nodes, idle:");
    let before = server.usage()?;
    tokio::time::sleep(IDLE).await;
    server.report(&before, "second", IDLE.as_secs_f64())?;
    let sessions: Vec<(String, IoSession, Vec<SessionId>)> = sessions
        .into_iter()
        .enumerate()
        .map(|(place, (name, session))| {
            let own = clients / io_nodes + u64::from(clients % io_nodes > place as u64);
            let ids = (0..).map(|number| SessionId::from(format!("{name}-client-{number:x}").as_str()));
            let ids = ids.filter(|id| session.inbox.prefers(id)).take(own as usize).collect();
            (name, session, ids)
        })
        .collect();
    let done = Arc::new(AtomicU64::new(0));
    let before = server.usage()?;
    let begun = Instant::now();
    if scenario == "register" {
        for (name, session, ids) in &sessions {
            register(session, name, ids, &handled).await;
        }
        let seconds = begun.elapsed().as_secs_f64();
        println!(
            "{clients} clients connected, {:.0} in a second:",
            clients as f64 / seconds
        );
        server.report(&before, "client", clients as f64)?;
        println!(
            "  {:.0} bytes of memory in Redis for each client",
            server.usage()?.memory / clients as f64
        );
        let (before, begun) = (server.usage()?, Instant::now());
        drop(sessions);
        wait_until(|| handled.load(Ordering::Relaxed) >= 2 * clients).await;
        println!(
            "their io-nodes have left, after {:.1} s:",
            begun.elapsed().as_secs_f64()
        );
        return server.report(&before, "client", clients as f64);
    }
    let talking = sessions
        .into_iter()
        .map(|(name, session, ids)| tokio::spawn(talk(session, name, ids, count, is_broadcasting, done.clone())));
    for talking in talking.collect::<Vec<_>>() {
        talking.await?;
    }
    let all = done.load(Ordering::Relaxed) as f64;
    let rate = all / begun.elapsed().as_secs_f64();
    println!("{clients} clients, {all} messages, {rate:.0} in a second:");
    server.report(&before, &scenario, all)
}
