//! Groups of clients in which one client sends and all receive: a broadcast to all clients, and rooms.
//!
//! The sender of a group has a limited number of messages in flight: a message is in flight until as many deliveries are
//! counted as the group has members. So the recipients set the rate, and what waits for them is bounded.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, TryStreamExt, stream};
use plugnode_tests::sequence::{FIRST, SequenceCheck};
use tokio::sync::Notify;

use crate::client::{Client, MAX_CONNECTING, connect};
use crate::exchange::end_of_client;
use crate::load::{Load, Progress};
use crate::numbered_text::{NumberedText, frame, number};
use crate::server::Server;

/// The beginning of a message to a room; the three digits of the room follow.
const ROOM: &[u8] = br#"42["room",""#;

/// Clients that receive the same messages.
struct Group {
    message: NumberedText,
    members: u64,
    in_flight: u64,
    sent: Arc<AtomicU64>,
    deliveries: AtomicU64,
    /// Signals that another message is delivered to all members.
    delivered: Notify,
}

/// A client, and the groups of which it is a member.
struct Member {
    progress: Arc<Progress>,
    groups: Arc<Vec<Group>>,
    /// By group number.
    checks: Vec<(usize, Arc<Mutex<SequenceCheck>>)>,
    /// The group to which it sends.
    sends_to: Option<usize>,
}

/// Starts clients of which the first broadcasts to all.
pub(crate) async fn broadcast(server: &Server, clients: usize, in_flight: u64) -> io::Result<Load> {
    let groups = vec![Group::new(NumberedText::event("all", ""), clients as u64, in_flight)];
    let clients = connect(server, clients).await?;
    Ok(start(
        groups,
        clients.into_iter().map(|client| (client, vec![0])).collect(),
    ))
}

/// Starts clients that join `rooms_of_client` rooms each. In each room one client sends.
pub(crate) async fn rooms(
    server: &Server,
    clients: usize,
    rooms: usize,
    rooms_of_client: usize,
    in_flight: u64,
) -> io::Result<Load> {
    assert!(
        clients >= rooms && rooms <= 1_000 && (clients * rooms_of_client).is_multiple_of(rooms),
        "rooms must have equal sizes, a sender each, and names of three digits"
    );
    let members = (clients * rooms_of_client / rooms) as u64;
    let groups = (0..rooms)
        .map(|room| {
            Group::new(
                NumberedText::event("room", &format!("{},", name(room))),
                members,
                in_flight,
            )
        })
        .collect();
    let connected = connect(server, clients).await?;
    let joined = stream::iter(connected.into_iter().enumerate())
        .map(|(client, connection)| {
            let own = (0..rooms_of_client)
                .map(|nth| (client + nth * (rooms / rooms_of_client)) % rooms)
                .collect();
            join(connection, own)
        })
        .buffered(MAX_CONNECTING)
        .try_collect()
        .await?;
    Ok(start(groups, joined))
}

async fn join(mut client: Client, rooms: Vec<usize>) -> io::Result<(Client, Vec<usize>)> {
    for room in &rooms {
        client.send(&frame(format!(r#"420["join",{}]"#, name(*room)).as_bytes()))?;
        let reply = client.text().await?;
        if reply != br#"430["ok"]"# {
            return Err(io::Error::other(format!(
                "unexpected reply to join: {:?}",
                String::from_utf8_lossy(reply)
            )));
        }
    }
    Ok((client, rooms))
}

/// The name of a room as JSON: three digits.
fn name(room: usize) -> String {
    format!("\"{room:03}\"")
}

/// Starts the clients. Client N sends to group N.
fn start(groups: Vec<Group>, clients: Vec<(Client, Vec<usize>)>) -> Load {
    let groups = Arc::new(groups);
    let mut load = Load::new();
    for (number, (client, own)) in clients.into_iter().enumerate() {
        let checks = own.iter().map(|group| {
            let check = Arc::new(Mutex::new(SequenceCheck::new(groups[*group].sent.clone())));
            load.checks.push(check.clone());
            (*group, check)
        });
        let member = Member {
            checks: checks.collect(),
            progress: load.progress.clone(),
            sends_to: (number < groups.len()).then_some(number),
            groups: groups.clone(),
        };
        load.tasks.spawn(async move { end_of_client(member.run(client).await) });
    }
    load
}

impl Group {
    fn new(message: NumberedText, members: u64, in_flight: u64) -> Self {
        Self {
            message,
            members,
            in_flight,
            sent: Arc::default(),
            deliveries: AtomicU64::new(0),
            delivered: Notify::new(),
        }
    }

    fn may_send(&self) -> bool {
        let delivered = self.deliveries.load(Ordering::Relaxed) / self.members;
        self.sent.load(Ordering::Relaxed) < delivered + self.in_flight
    }

    /// Counts one delivery.
    fn count_delivery(&self) {
        let deliveries = self.deliveries.fetch_add(1, Ordering::Relaxed) + 1;
        if deliveries.is_multiple_of(self.members) {
            self.delivered.notify_one();
        }
    }
}

impl Member {
    async fn run(self, mut client: Client) -> io::Result<()> {
        let Some(group) = self.sends_to.map(|group| &self.groups[group]) else {
            loop {
                self.receive(client.text().await?);
            }
        };
        let mut message = group.message.clone();
        loop {
            while !self.progress.is_over() && group.may_send() {
                self.progress.expect(group.members);
                let number = FIRST + group.sent.fetch_add(1, Ordering::Release);
                client.send(message.numbered(number))?;
            }
            tokio::select! {
                text = client.text() => self.receive(text?),
                () = group.delivered.notified() => {}
            }
        }
    }

    fn receive(&self, text: &[u8]) {
        let room = text.strip_prefix(ROOM).and_then(|rest| number(rest.get(..3)?));
        let group = room.map_or(0, |room| room as usize);
        let Some((_, check)) = self.checks.iter().find(|(own, _)| *own == group) else {
            // A message to a room that the client has not joined.
            let (_, check) = &self.checks[0];
            check.lock().expect("the lock is not poisoned").record(None);
            return;
        };
        let number = self.groups[group].message.number_in(text);
        if check.lock().expect("the lock is not poisoned").record(number) {
            self.groups[group].count_delivery();
            self.progress.received();
        }
    }
}
