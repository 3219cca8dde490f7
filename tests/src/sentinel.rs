//! A Redis as it is kept available: a master, a replica, and three Sentinels that promote the one when the other dies.

use std::time::Duration;

use crate::{Redis, RedisServer, within};

/// The name that the Sentinels know the master by.
const NAME: &str = "plugnode";
/// A majority of the three.
const QUORUM: &str = "2";
const PAUSE: Duration = Duration::from_millis(50);

/// Two servers, one of them the master, and three Sentinels. All are killed when dropped.
pub struct Sentinels {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
    master: usize,
}

impl Sentinels {
    /// Starts all of them, the servers with AOF, and waits until they know each other.
    pub async fn start() -> Self {
        Self::of(Redis::new().aof("everysec")).await
    }

    /// The same with servers that are set up like this. (Not with users or TLS; with a password, Sentinels ask for none.)
    pub async fn of(setup: Redis) -> Self {
        // Each is replica or master in turn, so each knows what to say to the other.
        let setup = match setup.password.clone() {
            Some(password) => setup.setting(&format!("masterauth \"{password}\"")),
            None => setup,
        };
        let servers = [setup.clone().start().await, setup.clone().start().await];
        servers[1].replica_of(&servers[0]).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(sentinel(&servers[0], setup.password.as_deref()).await);
        }
        let this = Self {
            servers,
            sentinels,
            master: 0,
        };
        this.acquainted().await;
        this
    }

    /// `redis+sentinel://127.0.0.1:…,127.0.0.1:…,127.0.0.1:…/plugnode`
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.sentinels.iter().map(RedisServer::address).collect();
        let login = self.servers[0].login_in_url();
        format!("redis+sentinel://{login}{}/{NAME}", addresses.join(","))
    }

    /// The server that is the master, as far as the last [`Sentinels::await_promotion`] or [`Sentinels::promote`] saw.
    pub fn master(&self) -> &RedisServer {
        &self.servers[self.master]
    }

    /// The other one.
    pub fn replica(&self) -> &RedisServer {
        &self.servers[1 - self.master]
    }

    /// Kills the master (SIGKILL); after a second the Sentinels begin to promote the replica.
    pub async fn kill_master(&mut self) {
        // They promote none of which they last heard that it does not follow, and ask only every ten seconds.
        for sentinel in &self.sentinels {
            let line = "master-link-status\nok";
            sentinel.until(&["SENTINEL", "REPLICAS", NAME], line).await;
        }
        self.servers[self.master].kill().await;
    }

    /// Waits until another server is the master, says so itself, and every Sentinel says so.
    pub async fn await_promotion(&mut self) {
        let new = 1 - self.master;
        let port = self.servers[new].port().to_string();
        self.servers[new].until(&["ROLE"], "master").await;
        for sentinel in &self.sentinels {
            sentinel
                .until(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME], &port)
                .await;
        }
        self.master = new;
    }

    /// Starts the server that was the master before. It takes itself for a master for some ten seconds, until the
    /// Sentinels tell it otherwise: see [`Sentinels::await_replica`].
    pub async fn restart_old_master(&mut self) {
        self.servers[1 - self.master].restart().await;
    }

    /// Lets the Sentinels make the replica the master while both are well, and waits until they have. The old one is
    /// not stopped, and goes on taking writes from whoever still asks it, which are lost when it becomes a replica, some
    /// ten seconds later: see [`Sentinels::await_replica`].
    pub async fn promote(&mut self) {
        self.acquainted().await;
        let asked = async {
            // They refuse within a while after the last time.
            while self.sentinels[0]
                .try_command(&["SENTINEL", "FAILOVER", NAME])
                .await
                .is_err()
            {
                tokio::time::sleep(PAUSE).await;
            }
        };
        within("Sentinels take the order to promote the replica", asked).await;
        self.await_promotion().await;
    }

    /// Waits until the server that was the master before follows the new one. Sentinels look at it every ten seconds, and for eight
    /// more they leave it to itself, so that half a minute may be too short.
    pub async fn await_replica(&self) {
        let port = format!("master_port:{}\r", self.master().port());
        let told = async {
            while !matches!(self.replica().try_command(&["INFO", "replication"]).await, Ok(info) if info.contains(&port))
            {
                tokio::time::sleep(PAUSE).await;
            }
        };
        crate::within_minutes(2, "the old master is told of the new one", told).await;
        self.replica()
            .until(&["INFO", "replication"], "master_link_status:up")
            .await;
    }

    /// Until each Sentinel knows the others and the replica: before that they promote nobody.
    async fn acquainted(&self) {
        for sentinel in &self.sentinels {
            let line = "status=ok";
            sentinel.until(&["INFO", "sentinel"], line).await;
            sentinel.until(&["INFO", "sentinel"], "slaves=1,sentinels=3").await;
        }
    }
}

async fn sentinel(master: &RedisServer, password: Option<&str>) -> RedisServer {
    let mut setup = Redis::new()
        .sentinel()
        .setting(&format!("sentinel monitor {NAME} 127.0.0.1 {} {QUORUM}", master.port()))
        .setting(&format!("sentinel down-after-milliseconds {NAME} 1000"))
        .setting(&format!("sentinel failover-timeout {NAME} 5000"));
    if let Some(password) = password {
        setup = setup.setting(&format!("sentinel auth-pass {NAME} \"{password}\""));
    }
    setup.start().await
}
