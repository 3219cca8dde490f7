//! One logical connection to Redis, made anew whenever it is lost. What is asked over it is answered, however long that
//! takes: it is sent again until it is, so only what may be sent twice may be asked.
//!
//! It knows no script and no key of the transport.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{Cmd, FromRedisValue, ParsingError, Pipeline, RedisResult, Value};

use super::outage::Waiting;
use super::pace::{LAST_PAUSE, Pace};
use super::patience::Patience;
use super::request::{Call, Request};
use super::script::Script;
use super::server::{Connection, Server};
use super::trouble::{Kind, Trouble};
use plugnode_process::jittered;

/// The time for an answer when little is on its way, well under a lease: then the connection is taken for dead.
const ANSWER: Duration = Duration::from_secs(2);
/// The same where an answer is held back for a second until there is something to read.
const LATE_ANSWER: Duration = Duration::from_secs(3);
/// The time that somebody waits for a connection who wants an answer or an error.
const PATIENCE: Duration = Duration::from_secs(3);
/// What is not expected is told again after so many tries, about once a minute.
const UNEXPECTED: u32 = 120;
/// A Cluster connection mends itself; after so many failures of one request another is made.
const CLUSTER_TRIES: u32 = 3;

/// A link to Redis. Clones share it.
#[derive(Clone)]
pub(crate) struct Link(Arc<Shared>);

struct Shared {
    server: Arc<Server>,
    longest_pause: Duration,
    patience: Patience,
    live: RwLock<Option<Live>>,
    /// Held by whoever connects; the others wait for that.
    connecting: tokio::sync::Mutex<Pace>,
    made: AtomicU64,
}

/// A connection that has not been found dead.
#[derive(Clone)]
struct Live {
    connection: Connection,
    /// How many there were before it on this link.
    number: u64,
    /// As of which change of masters it was made.
    change: u64,
    /// When it was there.
    since: Instant,
}

impl Link {
    /// For commands that are answered at once.
    pub(crate) fn new(server: Arc<Server>) -> Self {
        Self::with(server, ANSWER, LAST_PAUSE)
    }

    /// For heartbeats: after an outage a node is to be heard again within this time, or others take it for cut off.
    pub(crate) fn for_beats(server: Arc<Server>, longest_pause: Duration) -> Self {
        Self::with(server, ANSWER, longest_pause)
    }

    /// With a connection of its own for those that wait for up to a second until there is something to answer.
    pub(crate) fn for_waiting(server: Arc<Server>) -> Self {
        Self::with(server, LATE_ANSWER, LAST_PAUSE)
    }

    fn with(server: Arc<Server>, answer: Duration, longest_pause: Duration) -> Self {
        Self(Arc::new(Shared {
            server,
            longest_pause,
            patience: Patience::new(answer),
            live: RwLock::new(None),
            connecting: tokio::sync::Mutex::new(Pace::up_to(longest_pause)),
            made: AtomicU64::new(0),
        }))
    }

    /// Sends a command until it is answered, however long that takes.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        self.until_answered(Request::One(command), only).await
    }

    /// Sends a command until it is answered, if only by an error that no waiting changes, such as that there is no such
    /// key.
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

    /// Sends several commands of one slot in one round trip, all of them again until all are answered.
    pub(crate) async fn ask_all(&self, commands: &Pipeline) -> Vec<Value> {
        self.until_answered(Request::All(commands), Ok).await
    }

    /// Runs a script, again until it is answered. All keys are of one slot.
    pub(crate) async fn run<T: FromRedisValue>(&self, script: &Script, keys: &[Bytes], arguments: &[Bytes]) -> T {
        let call = Call {
            script,
            keys,
            arguments,
        };
        self.until_answered(Request::Run(call), only).await
    }

    /// Runs a script and, right behind it on the same connection, the commands that follow, such as `WAIT`; all of it
    /// again until all is answered.
    pub(crate) async fn run_then<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[Bytes],
        arguments: &[Bytes],
        following: &[Cmd],
    ) -> (T, Vec<Value>) {
        let call = Call {
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

    /// Sends a command once, for somebody who waits: what hinders the answer is told at once.
    pub(crate) async fn try_ask<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, String> {
        self.try_request(Request::One(command)).await
    }

    /// Runs a script once, for somebody who waits: what hinders the answer is told at once.
    pub(crate) async fn try_run<T: FromRedisValue>(
        &self,
        script: &Script,
        keys: &[Bytes],
        arguments: &[Bytes],
    ) -> Result<T, String> {
        let call = Call {
            script,
            keys,
            arguments,
        };
        self.try_request(Request::Run(call)).await
    }

    async fn try_request<T: FromRedisValue>(&self, request: Request<'_>) -> Result<T, String> {
        let server = &self.0.server;
        let words = |trouble: Trouble| trouble.words(&server.to_string());
        let mut live = self.live_or_not().await?;
        let trouble = match self.send(&request, &mut live, 0).await {
            Ok(answer) => {
                server.outages().answered();
                return only(answer).map_err(|error| error.to_string());
            }
            Err(error) => Trouble::of(&error),
        };
        if trouble.needs_new_connection() && !server.is_cluster() {
            self.discard(live.number);
        }
        Err(words(trouble))
    }

    /// Counts the connections made so far: whoever sees it change may have lost what it had not asked again.
    pub(crate) fn connections(&self) -> u64 {
        self.0.made.load(Ordering::Acquire)
    }

    /// Whether the present connection has been there since that moment and answers this. An answer that others hold up is waited
    /// for, until the connection would be taken for dead.
    pub(crate) async fn has_answered_since(&self, asked: Instant, command: &Cmd) -> bool {
        let Some(live) = self.latest().filter(|live| live.since <= asked) else {
            return false;
        };
        let is_answered = self.try_ask::<Value>(command).await.is_ok();
        is_answered && self.latest().is_some_and(|now| now.number == live.number)
    }

    async fn until_answered<T>(&self, request: Request<'_>, read: fn(Vec<Value>) -> Result<T, ParsingError>) -> T {
        let mut waiting = Waiting::new(self.0.server.outages());
        let mut pace = Pace::up_to(self.0.longest_pause);
        let (mut failures, mut silences) = (0, 0);
        loop {
            let mut live = self.live(&mut waiting).await;
            let trouble = match self.send(&request, &mut live, silences).await {
                Ok(answer) => match read(answer) {
                    Ok(answer) => {
                        waiting.answered();
                        return answer;
                    }
                    Err(error) => Trouble::new(Kind::Unexpected, error.to_string()),
                },
                Err(error) => Trouble::of(&error),
            };
            failures += 1;
            silences += u32::from(trouble.kind == Kind::Silent);
            if trouble.kind == Kind::Replica {
                self.0.server.is_not_led_so(live.change);
            }
            if trouble.needs_new_connection() {
                match self.0.server.is_cluster() {
                    false => self.discard(live.number),
                    true if failures % CLUSTER_TRIES == 0 => self.replace(live.number),
                    true => {}
                }
            }
            if trouble.kind == Kind::Unexpected {
                if failures % UNEXPECTED == 1 {
                    tracing::error!("{}: trying again", trouble.words(&self.0.server.to_string()));
                }
                tokio::time::sleep(jittered(self.0.longest_pause)).await;
                continue;
            }
            // That a connection was closed is nothing to tell if the next one works.
            if trouble.kind == Kind::Unreachable && failures == 1 {
                continue;
            }
            waiting.refused(&trouble);
            pace.failed();
            pace.wait().await;
        }
    }

    /// Sends a request once, which was not answered in time so often before.
    async fn send(&self, request: &Request<'_>, live: &mut Live, silences: u32) -> RedisResult<Vec<Value>> {
        let under_way = self.0.patience.send(request.bytes());
        live.connection.set_time(under_way.time(silences));
        let answer = request.send(&mut live.connection).await;
        if answer.is_ok() {
            under_way.answered(silences);
        }
        answer
    }

    /// The connection, when there is one: connects until then.
    async fn live(&self, waiting: &mut Waiting<'_>) -> Live {
        if let Some(live) = self.present() {
            return live;
        }
        let mut pace = self.0.connecting.lock().await;
        loop {
            // Another may have connected in the meantime.
            if let Some(live) = self.present() {
                return live;
            }
            pace.wait().await;
            match self.connect(&mut pace).await {
                Ok(live) => return live,
                Err(trouble) => waiting.refused(&trouble),
            }
        }
    }

    /// The connection, made if that takes one attempt; else why there is none.
    async fn live_or_not(&self) -> Result<Live, String> {
        if let Some(live) = self.present() {
            return Ok(live);
        }
        let server = &self.0.server;
        let busy = || {
            let present = server.outages().present();
            present.unwrap_or_else(|| format!("Redis at {server} is just being connected to"))
        };
        let mut pace = match self.0.connecting.try_lock() {
            Ok(pace) => pace,
            // Whoever connects during an outage may do so for long.
            Err(_) if server.outages().present().is_some() => return Err(busy()),
            Err(_) => tokio::time::timeout(PATIENCE, self.0.connecting.lock())
                .await
                .map_err(|_| busy())?,
        };
        match self.present() {
            Some(live) => Ok(live),
            None if pace.is_early() => Err(busy()),
            None => self
                .connect(&mut pace)
                .await
                .map_err(|trouble| trouble.words(&server.to_string())),
        }
    }

    async fn connect(&self, pace: &mut Pace) -> Result<Live, Trouble> {
        self.0.server.watch();
        let (connection, change) = match self.0.server.connect_as_of(self.0.patience.of_connection()).await {
            Ok(made) => made,
            Err(trouble) => {
                pace.failed();
                return Err(trouble);
            }
        };
        *pace = Pace::up_to(self.0.longest_pause);
        let number = self.0.made.fetch_add(1, Ordering::AcqRel);
        let live = Live {
            connection,
            number,
            change,
            since: Instant::now(),
        };
        *self.0.live.write().expect("nothing panics while it holds this lock") = Some(live.clone());
        Ok(live)
    }

    /// Has a connection to a Cluster made in the place of the one of this number, unless somebody is at it. Until it is there
    /// the old one is used: what it has to all servers but one may be well, and whoever does not get through to these for as
    /// long as it takes is taken for dead.
    fn replace(&self, number: u64) {
        if self.0.connecting.try_lock().is_err() {
            return;
        }
        let link = self.clone();
        tokio::spawn(async move {
            let Ok(mut pace) = link.0.connecting.try_lock() else {
                return;
            };
            pace.wait().await;
            if link.latest().is_some_and(|live| live.number == number) {
                // Whoever is not answered tells why.
                let _ = link.connect(&mut pace).await;
            }
        });
    }

    /// The connection that is to be used, if there is one.
    fn present(&self) -> Option<Live> {
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

    fn latest(&self) -> Option<Live> {
        let live = self.0.live.read().expect("nothing panics while it holds this lock");
        live.clone()
    }

    /// Forgets the connection of this number, unless that has been done.
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

/// What a single answer says.
fn only<T: FromRedisValue>(answers: Vec<Value>) -> Result<T, ParsingError> {
    T::from_redis_value(answers.into_iter().next().unwrap_or(Value::Nil))
}

#[cfg(test)]
mod tests {
    use super::super::TlsFiles;
    use super::super::testing::TestServer;
    use super::*;

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
