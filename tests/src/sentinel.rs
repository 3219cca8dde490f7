//! A highly available Redis: a master, a replica, and three Sentinels that promote the replica when the master fails.

use std::time::Duration;

use crate::{Redis, RedisServer, within};

/// Name of the master in the Sentinels' configuration.
const NAME: &str = "plugnode";
/// A majority of the three.
const QUORUM: &str = "2";
const PAUSE: Duration = Duration::from_millis(50);

/// A master, a replica and three Sentinels. All are killed when dropped.
pub struct Sentinels {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
    master: usize,
}

impl Sentinels {
    /// Starts all of them, the servers with AOF, and waits until the Sentinels know each other.
    pub async fn start() -> Self {
        Self::of(Redis::new().aof("everysec")).await
    }

    /// The same with another setup of the servers, without users or TLS. The Sentinels themselves need no password.
    pub async fn of(setup: Redis) -> Self {
        // Either server may become the replica, so both have the other's password.
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

    /// The master, as of the last [`Sentinels::await_promotion`] or [`Sentinels::promote`].
    pub fn master(&self) -> &RedisServer {
        &self.servers[self.master]
    }

    /// The replica.
    pub fn replica(&self) -> &RedisServer {
        &self.servers[1 - self.master]
    }

    /// Kills the master (SIGKILL); after a second the Sentinels start to promote the replica.
    pub async fn kill_master(&mut self) {
        // Sentinels promote only a replica whose link was up at their last check, and check every ten seconds.
        for sentinel in &self.sentinels {
            let line = "master-link-status\nok";
            sentinel.until(&["SENTINEL", "REPLICAS", NAME], line).await;
        }
        self.servers[self.master].kill().await;
    }

    /// Waits until the other server is the master, by its own `ROLE` and by every Sentinel.
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

    /// Restarts the former master. It acts as a master for some ten seconds, until the Sentinels make it a replica: see
    /// [`Sentinels::await_replica`].
    pub async fn restart_old_master(&mut self) {
        self.servers[1 - self.master].restart().await;
    }

    /// Fails over while both servers are healthy, and waits until that is done. The former master keeps accepting writes for some ten
    /// seconds, which are lost when it becomes a replica: see [`Sentinels::await_replica`].
    pub async fn promote(&mut self) {
        self.acquainted().await;
        let asked = async {
            // Refused for a while after the last failover.
            while self.sentinels[0]
                .try_command(&["SENTINEL", "FAILOVER", NAME])
                .await
                .is_err()
            {
                tokio::time::sleep(PAUSE).await;
            }
        };
        within("the Sentinels accept the failover", asked).await;
        self.await_promotion().await;
    }

    /// Waits until the former master follows the new one. The Sentinels check it every ten seconds and then wait for eight, so that
    /// [`crate::LIMIT`] may be too short.
    pub async fn await_replica(&self) {
        let port = format!("master_port:{}\r", self.master().port());
        let told = async {
            while !matches!(self.replica().try_command(&["INFO", "replication"]).await, Ok(info) if info.contains(&port))
            {
                tokio::time::sleep(PAUSE).await;
            }
        };
        crate::within_minutes(2, "the former master follows the new one", told).await;
        self.replica()
            .until(&["INFO", "replication"], "master_link_status:up")
            .await;
    }

    /// Waits until each Sentinel knows the others and the replica; before, they do not fail over.
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
