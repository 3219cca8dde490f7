//! A logical connection to Redis that survives reconnects. `ask` and `run` repeat a request until Redis answers it, so requests must
//! be idempotent. `try_ask` and `try_run` make one attempt and return an error.
//!
//! It knows no keys and no scripts of the transport.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{Cmd, FromRedisValue, ParsingError, Pipeline, RedisResult, Value};

use crate::client::answer_timeout::AnswerTimeout;
use crate::client::connection::Connection;
use crate::client::fault::{FaultKind, RedisFault};
use crate::client::master_watch;
use crate::client::next_attempt::{LAST_PAUSE, NextAttempt, backoff_up_to};
use crate::client::outage::OutageWaiter;
use crate::client::request::{Request, ScriptCall};
use crate::client::script::Script;
use crate::client::server::Server;
use plugnode_process::jittered;

/// Response timeout of a small request, well below a lease.
const ANSWER: Duration = Duration::from_secs(2);
/// The same for blocking reads, which Redis answers within a second.
const BLOCKING_ANSWER: Duration = Duration::from_secs(3);
/// Deadline of a single attempt for a connection that another request is making.
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// An unexpected answer is logged again after this many attempts, about once a minute.
const LOG_UNEXPECTED_EVERY: u32 = 120;
/// A Cluster connection repairs itself; after this many failures of one request it is replaced.
const CLUSTER_ATTEMPTS: u32 = 3;

/// A logical connection to Redis. Clones share it.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    server: Arc<Server>,
    longest_pause: Duration,
    answer_timeout: AnswerTimeout,
    live: RwLock<Option<LiveConnection>>,
    /// Held by the request that connects, while the others wait.
    connecting: tokio::sync::Mutex<NextAttempt>,
    /// Number of connections made so far.
    made: AtomicU64,
}

/// The present connection.
#[derive(Clone)]
struct LiveConnection {
    connection: Connection,
    /// Number of earlier connections of this link.
    number: u64,
    /// Number of master changes at its creation.
    change: u64,
    /// Time of its creation.
    since: Instant,
}

impl Link {
    /// For commands that Redis answers at once.
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self::with(server, ANSWER, LAST_PAUSE)
    }

    /// For heartbeats: after an outage the next attempt follows within this pause, before the lease expires.
    pub(crate) fn for_heartbeats(server: Arc<Server>, longest_pause: Duration) -> Self {
        Self::with(server, ANSWER, longest_pause)
    }

    /// For blocking reads of up to a second.
    pub(crate) fn for_waiting(server: Arc<Server>) -> Self {
        Self::with(server, BLOCKING_ANSWER, LAST_PAUSE)
    }

    fn with(server: Arc<Server>, answer: Duration, longest_pause: Duration) -> Self {
        Self(Arc::new(Shared {
            server,
            longest_pause,
            answer_timeout: AnswerTimeout::new(answer),
            live: RwLock::new(None),
            connecting: tokio::sync::Mutex::new(NextAttempt::with_pauses_up_to(longest_pause)),
            made: AtomicU64::new(0),
        }))
    }

    /// Sends a command until it is answered, without a deadline.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.until_answered(Request::One(command), only).await
    }

    /// Sends a command until it is answered. A permanent error, such as a missing key, counts as an answer.
    pub(crate) async fn ask_or_error<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, String> {
        let read = |answers: Vec<Value>| {
            let answer = answers.into_iter().next().unwrap_or(Value::Nil);
            match answer {
                Value::ServerError(error) => Ok(Err(error.details().unwrap_or(error.code()).to_owned())),
                answer => T::from_redis_value(answer).map(Ok),
            }
        };
        self.until_answered(Request::OneOrError(command), read).await
    }

    /// Sends several commands of one slot in one round trip, and repeats all until all are answered.
    pub(crate) async fn ask_all(&self, commands: &Pipeline) -> Vec<Value> {
        self.until_answered(Request::All(commands), Ok).await
    }

    /// Runs a script until it is answered. All keys must be in one slot.
    pub(crate) async fn run<T: FromRedisValue>(&self, script: &Script, keys: &[Bytes], arguments: &[Bytes]) -> T {
        let call = ScriptCall {
            script,
            keys,
            arguments,
        };
        self.until_answered(Request::CommandRun(call), only).await
    }

    /// Runs a script and, right behind it on the same connection, further commands such as `WAIT`. Repeats all until all are
    /// answered.
    pub(crate) async fn run_then<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[Bytes],
        arguments: &[Bytes],
        following: &[Cmd],
    ) -> (T, Vec<Value>) {
        let call = ScriptCall {
            script,
            keys,
            arguments,
        };
        let read = |mut answers: Vec<Value>| {
            let following = answers.split_off(1.min(answers.len()));
            Ok((only(answers)?, following))
        };
        self.until_answered(Request::RunThen(call, following), read).await
    }

    /// Sends a command once.
    ///
    /// # Errors
    /// The present fault, with its remedy.
    pub(crate) async fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, String> {
        self.try_request(Request::One(command)).await
    }

    /// Runs a script once.
    ///
    /// # Errors
    /// The present fault, with its remedy.
    pub(crate) async fn try_run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[Bytes],
        arguments: &[Bytes],
    ) -> Result<T, String> {
        let call = ScriptCall {
            script,
            keys,
            arguments,
        };
        self.try_request(Request::CommandRun(call)).await
    }

    async fn try_request<T: FromRedisValue>(&self, request: Request<'_>) -> Result<T, String> {
        let server = &self.0.server;
        let describe = |fault: RedisFault| fault.describe(&server.to_string());
        let mut live = self.live_or_not().await?;
        let fault = match self.send(&request, &mut live, 0).await {
            Ok(answer) => {
                server.outages().answered();
                return only(answer).map_err(|error| error.to_string());
            }
            Err(error) => RedisFault::of(&error),
        };
        if fault.needs_new_connection() && !server.is_cluster() {
            self.discard(live.number);
        }
        Err(describe(fault))
    }

    /// Number of connections made so far. After a change, the server may be another one, with older data.
    pub(crate) fn connections(&self) -> u64 {
        self.0.made.load(Ordering::Acquire)
    }

    /// Whether the present connection is older than `asked` and answers this command, within the response timeout.
    pub(crate) async fn has_answered_since(&self, asked: Instant, command: &Cmd) -> bool {
        let Some(live) = self.latest().filter(|live| live.since <= asked) else {
            return false;
        };
        let is_answered = self.try_ask::<Value>(command).await.is_ok();
        is_answered && self.latest().is_some_and(|now| now.number == live.number)
    }

    async fn until_answered<T>(&self, request: Request<'_>, read: fn(Vec<Value>) -> Result<T, ParsingError>) -> T {
        let mut waiting = OutageWaiter::new(self.0.server.outages());
        let mut backoff = backoff_up_to(self.0.longest_pause);
        let (mut failures, mut timeouts) = (0, 0);
        loop {
            let mut live = self.live(&mut waiting).await;
            let fault = match self.send(&request, &mut live, timeouts).await {
                Ok(answer) => match read(answer) {
                    Ok(answer) => {
                        waiting.answered();
                        return answer;
                    }
                    Err(error) => RedisFault::new(FaultKind::Unexpected, error.to_string()),
                },
                Err(error) => RedisFault::of(&error),
            };
            failures += 1;
            timeouts += u32::from(fault.kind == FaultKind::Silent);
            if fault.kind == FaultKind::Replica {
                self.0.server.invalidate(live.change);
            }
            if fault.needs_new_connection() {
                match self.0.server.is_cluster() {
                    false => self.discard(live.number),
                    true if failures % CLUSTER_ATTEMPTS == 0 => self.replace(live.number),
                    true => {}
                }
            }
            if fault.kind == FaultKind::Unexpected {
                if failures % LOG_UNEXPECTED_EVERY == 1 {
                    tracing::error!("{}: trying again", fault.describe(&self.0.server.to_string()));
                }
                tokio::time::sleep(jittered(self.0.longest_pause)).await;
                continue;
            }
            // A closed connection is not logged if the next one works.
            if fault.kind == FaultKind::Unreachable && failures == 1 {
                continue;
            }
            waiting.refused(&fault);
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }

    /// Sends a request once, which has timed out this often before.
    async fn send(&self, request: &Request<'_>, live: &mut LiveConnection, timeouts: u32) -> RedisResult<Vec<Value>> {
        let in_flight = self.0.answer_timeout.send(request.bytes());
        live.connection.set_response_timeout(in_flight.timeout_after(timeouts));
        let answer = request.send(&mut live.connection).await;
        if answer.is_ok() {
            in_flight.answered(timeouts);
        }
        answer
    }

    /// Returns the present connection, or connects until there is one.
    async fn live(&self, waiting: &mut OutageWaiter<'_>) -> LiveConnection {
        if let Some(live) = self.present() {
            return live;
        }
        let mut next_attempt = self.0.connecting.lock().await;
        loop {
            // Another request may have connected meanwhile.
            if let Some(live) = self.present() {
                return live;
            }
            next_attempt.wait().await;
            match self.connect(&mut next_attempt).await {
                Ok(live) => return live,
                Err(fault) => waiting.refused(&fault),
            }
        }
    }

    /// Returns the present connection, or makes one attempt to connect.
    async fn live_or_not(&self) -> Result<LiveConnection, String> {
        if let Some(live) = self.present() {
            return Ok(live);
        }
        let server = &self.0.server;
        let busy = || {
            let present = server.outages().present();
            present.unwrap_or_else(|| format!("Redis at {server} is just being connected to"))
        };
        let mut next_attempt = match self.0.connecting.try_lock() {
            Ok(next_attempt) => next_attempt,
            // During an outage, the other attempt may take long.
            Err(_) if server.outages().present().is_some() => return Err(busy()),
            Err(_) => tokio::time::timeout(CONNECT_WAIT, self.0.connecting.lock())
                .await
                .map_err(|_| busy())?,
        };
        match self.present() {
            Some(live) => Ok(live),
            None if next_attempt.is_early() => Err(busy()),
            None => self
                .connect(&mut next_attempt)
                .await
                .map_err(|fault| fault.describe(&server.to_string())),
        }
    }

    async fn connect(&self, next_attempt: &mut NextAttempt) -> Result<LiveConnection, RedisFault> {
        master_watch::start(&self.0.server);
        let (connection, change) = match self
            .0
            .server
            .connect_as_of(self.0.answer_timeout.for_new_connection())
            .await
        {
            Ok(made) => made,
            Err(fault) => {
                next_attempt.failed();
                return Err(fault);
            }
        };
        next_attempt.succeeded();
        let number = self.0.made.fetch_add(1, Ordering::AcqRel);
        let live = LiveConnection {
            connection,
            number,
            change,
            since: Instant::now(),
        };
        *self.0.live.write().expect("nothing panics while it holds this lock") = Some(live.clone());
        Ok(live)
    }

    /// Replaces the Cluster connection with this number in the background, unless that is happening already. The old one stays
    /// in use meanwhile, because its connections to the other servers may be fine and heartbeats must not pause.
    fn replace(&self, number: u64) {
        if self.0.connecting.try_lock().is_err() {
            return;
        }
        let link = self.clone();
        tokio::spawn(async move {
            let Ok(mut next_attempt) = link.0.connecting.try_lock() else {
                return;
            };
            next_attempt.wait().await;
            if link.latest().is_some_and(|live| live.number == number) {
                // Requests report the fault if it persists.
                let _ = link.connect(&mut next_attempt).await;
            }
        });
    }

    /// The usable connection, if there is one.
    fn present(&self) -> Option<LiveConnection> {
        let live = self.latest()?;
        if live.change == self.0.server.changes() {
            return Some(live);
        }
        if self.0.server.is_cluster() {
            self.replace(live.number);
            return Some(live);
        }
        self.discard(live.number);
        None
    }

    fn latest(&self) -> Option<LiveConnection> {
        let live = self.0.live.read().expect("nothing panics while it holds this lock");
        live.clone()
    }

    /// Drops the connection with this number, if it is still the present one.
    fn discard(&self, number: u64) {
        let mut live = self.0.live.write().expect("nothing panics while it holds this lock");
        live.take_if(|live| live.number == number);
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({})", self.0.server)
    }
}

/// Converts a single answer.
fn only<T: FromRedisValue>(answers: Vec<Value>) -> Result<T, ParsingError> {
    T::from_redis_value(answers.into_iter().next().unwrap_or(Value::Nil))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::testing::TestServer;
    use crate::settings::TlsFiles;

    static ECHO: Script = Script::new("echo", "#!lua\nreturn {KEYS[1], ARGV[1], ARGV[2]}");

    fn link(url: &str) -> Link {
        Link::new(Arc::new(Server::new(url, &TlsFiles::default()).unwrap()))
    }

    #[tokio::test]
    async fn commands_pipelines_and_scripts_are_answered() {
        let server = TestServer::start().await;
        let link = link(&server.url());
        let asking = link.clone();
        let numbers = tokio::spawn(async move {
            let one: i64 = asking.ask(redis::cmd("INCR").arg("n")).await;
            let mut more = Pipeline::new();
            more.cmd("INCR").arg("n").cmd("INCR").arg("n");
            (one, asking.ask_all(&more).await)
        });
        assert_eq!(numbers.await.unwrap(), (1, vec![Value::Int(2), Value::Int(3)]));
        let keys = ["k".into()];
        let arguments = ["a".into(), Bytes::from_static(b"\xff\0")];
        for _ in 0..2 {
            let answer: Vec<Bytes> = link.run(&ECHO, &keys, &arguments).await;
            assert_eq!(answer, [Bytes::from("k"), "a".into(), Bytes::from_static(b"\xff\0")]);
        }
        server.ask(&["SCRIPT", "FLUSH"]).await.unwrap();
        let wait = redis::cmd("WAIT").arg(0).arg(0).take();
        for _ in 0..2 {
            let running = link.clone();
            let (keys, arguments, wait) = (keys.clone(), arguments.clone(), wait.clone());
            let answers =
                tokio::spawn(async move { running.run_then::<Vec<Bytes>>(&ECHO, &keys, &arguments, &[wait]).await });
            let (answer, rest) = answers.await.unwrap();
            assert_eq!((answer.len(), rest), (3, vec![Value::Int(0)]));
        }
        assert_eq!(link.try_ask::<i64>(redis::cmd("GET").arg("n")).await, Ok(3));
        assert_eq!(link.connections(), 1);
    }
}
