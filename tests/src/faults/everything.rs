//! Everything at once: nodes, Redis and the network fail while they are still down from the last time.

use std::time::Duration;

use super::Plan;
use super::ground::{Ground, cluster};
use crate::check::Report;
use crate::{Node, Proxy, Redis, RedisServer};

const LEASE: Duration = Duration::from_secs(1);

/// All that can fail.
struct Everything {
    redis: RedisServer,
    /// Between Redis and the first node of each role.
    link: Proxy,
    ground: Ground,
    /// App-nodes that were asked to end.
    leaving: Vec<usize>,
}

/// In each round two things fail that need not wait for each other's end, and a third while these recover.
pub(super) async fn at_once(plan: Plan) -> Report {
    let redis = Redis::new().aof("always").start().await;
    let link = Proxy::to(redis.address()).await;
    let cluster = cluster(redis.url(), plan, LEASE);
    let by_link = cluster.by(link.url(&redis));
    let apps = vec![
        by_link.start_app().await,
        cluster.start_app().await,
        cluster.start_app().await,
    ];
    let ios = vec![
        by_link.start_io().await,
        cluster.start_io().await,
        cluster.start_io().await,
    ];
    let mut all = Everything {
        ground: Ground::with(cluster, plan, ios, apps).await,
        redis,
        link,
        leaving: Vec::new(),
    };
    for _ in 0..plan.rounds * 2 {
        all.ground.wait(200..800).await;
        for _ in 0..2 {
            all.break_something().await;
            all.ground.wait(0..600).await;
        }
        all.mend().await;
        all.break_something().await;
        all.ground.wait(0..1_000).await;
        all.mend().await;
        all.ground.work_goes_on().await;
    }
    all.ground.finish("everything-at-once").await
}

impl Everything {
    async fn break_something(&mut self) {
        let victim = self.ground.random.below(3);
        match self.ground.random.below(9) {
            0 => self.ground.apps[victim].kill9().await,
            1 => self.ground.ios[victim].kill9().await,
            2 if self.ground.apps[victim].is_running() => self.ground.apps[victim].pause(),
            3 if self.ground.ios[victim].is_running() => self.ground.ios[victim].pause(),
            4 if self.ground.apps[victim].is_running() => {
                self.ground.apps[victim].terminate();
                self.leaving.push(victim);
            }
            5 => self.redis.kill().await,
            6 => self.link.cut(),
            7 => self.link.blackhole(),
            8 => self.link.flaky(Duration::from_millis(200)),
            _ => {}
        }
    }

    /// Everything is whole again, after a while that may be longer than a lease.
    async fn mend(&mut self) {
        self.ground.wait(0..2_500).await;
        if !self.redis.is_running() {
            self.redis.restart().await;
        }
        self.link.mend();
        for place in 0..3 {
            for node in [&mut self.ground.apps[place], &mut self.ground.ios[place]] {
                if node.is_running() {
                    node.resume();
                }
            }
        }
        for place in std::mem::take(&mut self.leaving) {
            self.ground.apps[place].ended().await;
        }
        for place in 0..3 {
            if !self.ground.apps[place].is_running() {
                let next = self.start("app-node", place).await;
                self.ground.replace_app(place, next);
            }
            if !self.ground.ios[place].is_running() {
                let next = self.start("io-node", place).await;
                self.ground.replace_io(place, next);
            }
        }
    }

    /// One under the name of the one before, or under a new one.
    async fn start(&mut self, role: &str, place: usize) -> Node {
        let cluster = match place {
            0 => self.ground.cluster.by(self.link.url(&self.redis)),
            _ => self.ground.cluster.clone(),
        };
        match (self.ground.random.chance(0.5), role) {
            (true, _) => cluster.start_as(role, &format!("{role}-of-{place}")).await,
            (false, "io-node") => cluster.start_io().await,
            (false, _) => cluster.start_app().await,
        }
    }
}
