//! Clients that each talk to the server alone: as fast as answers come, or at fixed times.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plugnode_tests::sequence::FIRST;
use tokio::time::{Instant, sleep_until};

use crate::books::Books;
use crate::client::{Client, connect};
use crate::crowd::Crowd;
use crate::server::Server;
use crate::text::Text;

/// What is said, and how the answer is read.
#[derive(Clone)]
pub(crate) struct Talk {
    text: Text,
    answer: Arc<Answer>,
}

/// The number of the message that a text answers, if it does.
type Answer = dyn Fn(&[u8]) -> Option<u64> + Send + Sync;

impl Talk {
    /// What comes back is this, and nothing else.
    pub(crate) fn new(text: Text, answer: Text) -> Self {
        Self::answered(text, move |text| answer.number_in(text))
    }

    /// What comes back is for this to read.
    pub(crate) fn answered(text: Text, answer: impl Fn(&[u8]) -> Option<u64> + Send + Sync + 'static) -> Self {
        Self {
            text,
            answer: Arc::new(answer),
        }
    }

    /// `echo` of a small object.
    pub(crate) fn echo() -> Self {
        let text = Text::event("echo", "");
        Self::new(text.clone(), text)
    }
}

/// So many clients that keep so many messages in flight each.
pub(crate) async fn steady(server: &Server, clients: usize, in_flight: usize, talk: &Talk) -> io::Result<Crowd> {
    let mut crowd = Crowd::new();
    for client in connect(server, clients).await? {
        let (books, talk) = (Books::open(&mut crowd), talk.clone());
        crowd
            .tasks
            .spawn(async move { failed(keep_in_flight(client, in_flight, talk, books).await) });
    }
    Ok(crowd)
}

/// So many clients that together send so many messages a second at fixed times, whatever comes back. `longest` of a client
/// is the longest that it waited for an answer, in microseconds.
pub(crate) async fn paced(
    server: &Server,
    clients: usize,
    rate: f64,
    talk: &Talk,
) -> io::Result<(Crowd, Vec<Arc<AtomicU64>>)> {
    let mut crowd = Crowd::new();
    let pause = Duration::from_secs_f64(clients as f64 / rate);
    let connected = connect(server, clients).await?;
    let begun = Instant::now();
    let mut longest = Vec::new();
    for (number, client) in connected.into_iter().enumerate() {
        // One after the other, and not all at the same moment.
        let first = begun + pause.mul_f64(number as f64 / clients as f64);
        let (books, talk, own) = (Books::open(&mut crowd), talk.clone(), Arc::<AtomicU64>::default());
        longest.push(own.clone());
        crowd
            .tasks
            .spawn(async move { failed(keep_time(client, first, pause, talk, books, &own).await) });
    }
    Ok((crowd, longest))
}

async fn keep_in_flight(mut client: Client, in_flight: usize, mut talk: Talk, books: Books) -> io::Result<()> {
    // By number; far more than are in flight, as one may be overtaken.
    let mut begun = vec![Instant::now(); in_flight * 8];
    let places = begun.len() as u64;
    for _ in 0..in_flight {
        begun[(books.sent() % places) as usize] = Instant::now();
        client.send(talk.text.numbered(books.send()))?;
    }
    loop {
        let text = client.text().await?;
        let number = (talk.answer)(text);
        let Some(number) = books.settle(number) else { continue };
        books
            .field
            .latency
            .record(begun[((number - FIRST) % places) as usize].elapsed());
        if !books.field.is_over() {
            begun[(books.sent() % places) as usize] = Instant::now();
            client.send(talk.text.numbered(books.send()))?;
        }
    }
}

async fn keep_time(
    mut client: Client,
    first: Instant,
    pause: Duration,
    mut talk: Talk,
    books: Books,
    longest: &AtomicU64,
) -> io::Result<()> {
    let mut due = first;
    let next = sleep_until(due);
    tokio::pin!(next);
    loop {
        tokio::select! {
            text = client.text() => {
                let number = (talk.answer)(text?);
                let Some(number) = books.settle(number) else { continue };
                let wait = (first + pause.mul_f64((number - FIRST) as f64)).elapsed();
                longest.fetch_max(wait.as_micros() as u64, Ordering::Relaxed);
                books.field.latency.record(wait);
            }
            () = &mut next => {
                if !books.field.is_over() {
                    client.send(talk.text.numbered(books.send()))?;
                }
                due = first + pause.mul_f64((books.sent()) as f64);
                if books.field.is_over() {
                    due = Instant::now() + pause;
                }
                next.as_mut().reset(due);
            }
        }
    }
}

/// A client's task ends by an error alone.
pub(crate) fn failed(ended: io::Result<()>) -> io::Error {
    ended
        .err()
        .unwrap_or_else(|| io::Error::other("a client left by itself"))
}
