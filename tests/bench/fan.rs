//! Groups of clients in which one speaks and all hear it: a broadcast to everybody, and rooms.
//!
//! A group's speaker has few messages in flight: it says the next when, counted over all listeners, the oldest has been
//! heard. So the speed is that of the listeners, and what waits for them has a bound.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, TryStreamExt, stream};
use plugnode_tests::sequence::{FIRST, SequenceCheck};
use tokio::sync::Notify;

use crate::client::{AT_ONCE, Client, connect};
use crate::crowd::{Crowd, Field};
use crate::server::Server;
use crate::talk::failed;
use crate::text::{Text, frame, number};

/// What the text of a room begins with; its three digits follow.
const ROOM: &[u8] = br#"42["room",""#;

/// Those who hear the same.
struct Group {
    text: Text,
    listeners: u64,
    /// How many messages may be in flight.
    window: u64,
    sent: Arc<AtomicU64>,
    heard: AtomicU64,
    /// A message was heard by as many as there are listeners.
    news: Notify,
}

/// A client's part in the groups that it is in.
struct Listener {
    field: Arc<Field>,
    groups: Arc<Vec<Group>>,
    /// By the group's number.
    accounts: Vec<(usize, Arc<Mutex<SequenceCheck>>)>,
    /// The group in which it speaks.
    speaks: Option<usize>,
}

/// Everybody in the namespace hears the first.
pub(crate) async fn everybody(server: &Server, clients: usize, window: u64) -> io::Result<Crowd> {
    let groups = vec![Group::new(Text::event("all", ""), clients as u64, window)];
    let clients = connect(server, clients).await?;
    Ok(crowd(
        groups,
        clients.into_iter().map(|client| (client, vec![0])).collect(),
    ))
}

/// So many rooms, each client in some of them, and in each room one that speaks.
pub(crate) async fn rooms(
    server: &Server,
    clients: usize,
    rooms: usize,
    of_each: usize,
    window: u64,
) -> io::Result<Crowd> {
    assert!(
        clients >= rooms && rooms <= 1_000 && (clients * of_each).is_multiple_of(rooms),
        "rooms of one size, and three digits"
    );
    let size = (clients * of_each / rooms) as u64;
    let groups = (0..rooms)
        .map(|room| Group::new(Text::event("room", &format!("{},", name(room))), size, window))
        .collect();
    let connected = connect(server, clients).await?;
    let joined = stream::iter(connected.into_iter().enumerate())
        .map(|(client, connection)| {
            let own = (0..of_each)
                .map(|nth| (client + nth * (rooms / of_each)) % rooms)
                .collect();
            join(connection, own)
        })
        .buffered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(crowd(groups, joined))
}

async fn join(mut client: Client, rooms: Vec<usize>) -> io::Result<(Client, Vec<usize>)> {
    for room in &rooms {
        client.send(&frame(format!(r#"420["join",{}]"#, name(*room)).as_bytes()))?;
        let answer = client.text().await?;
        if answer != br#"430["ok"]"# {
            return Err(io::Error::other(format!(
                "join is answered by {:?}",
                String::from_utf8_lossy(answer)
            )));
        }
    }
    Ok((client, rooms))
}

/// Three digits as JSON.
fn name(room: usize) -> String {
    format!("\"{room:03}\"")
}

/// The first client whose first group it is speaks in a group.
fn crowd(groups: Vec<Group>, clients: Vec<(Client, Vec<usize>)>) -> Crowd {
    let groups = Arc::new(groups);
    let mut crowd = Crowd::new();
    for (number, (client, own)) in clients.into_iter().enumerate() {
        let accounts = own.iter().map(|group| {
            let account = Arc::new(Mutex::new(SequenceCheck::new(groups[*group].sent.clone())));
            crowd.accounts.push(account.clone());
            (*group, account)
        });
        let listener = Listener {
            accounts: accounts.collect(),
            field: crowd.field.clone(),
            speaks: (number < groups.len()).then_some(number),
            groups: groups.clone(),
        };
        crowd
            .tasks
            .spawn(async move { failed(listener.take_part(client).await) });
    }
    crowd
}

impl Group {
    fn new(text: Text, listeners: u64, window: u64) -> Self {
        Self {
            text,
            listeners,
            window,
            sent: Arc::default(),
            heard: AtomicU64::new(0),
            news: Notify::new(),
        }
    }

    fn may_speak(&self) -> bool {
        let heard = self.heard.load(Ordering::Relaxed) / self.listeners;
        self.sent.load(Ordering::Relaxed) < heard + self.window
    }

    /// One listener heard one message.
    fn hears(&self) {
        let heard = self.heard.fetch_add(1, Ordering::Relaxed) + 1;
        if heard.is_multiple_of(self.listeners) {
            self.news.notify_one();
        }
    }
}

impl Listener {
    async fn take_part(self, mut client: Client) -> io::Result<()> {
        let Some(group) = self.speaks.map(|group| &self.groups[group]) else {
            loop {
                self.hear(client.text().await?);
            }
        };
        let mut text = group.text.clone();
        loop {
            while !self.field.is_over() && group.may_speak() {
                self.field.sends(group.listeners);
                let number = FIRST + group.sent.fetch_add(1, Ordering::Release);
                client.send(text.numbered(number))?;
            }
            tokio::select! {
                text = client.text() => self.hear(text?),
                () = group.news.notified() => {}
            }
        }
    }

    fn hear(&self, text: &[u8]) {
        let room = text.strip_prefix(ROOM).and_then(|rest| number(rest.get(..3)?));
        let group = room.map_or(0, |room| room as usize);
        let Some((_, account)) = self.accounts.iter().find(|(own, _)| *own == group) else {
            // For a room in which it is not: nothing that it should have heard.
            let (_, account) = &self.accounts[0];
            account.lock().expect("nobody panics with it").record(None);
            return;
        };
        let number = self.groups[group].text.number_in(text);
        if account.lock().expect("nobody panics with it").record(number) {
            self.groups[group].hears();
            self.field.came();
        }
    }
}
