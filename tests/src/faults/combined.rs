//! Combined faults: nodes, Redis and the network fail while earlier faults have not ended yet.

use std::time::Duration;

use super::Plan;
use super::testbed::{Testbed, cluster};
use crate::check::Report;
use crate::{Node, Proxy, Redis, RedisServer};

const LEASE: Duration = Duration::from_secs(1);

/// The parts that can fail.
struct CombinedFaults {
    redis: RedisServer,
    /// Between Redis and the first node of each role.
    link: Proxy,
    bed: Testbed,
    /// App-nodes that are shutting down.
    leaving: Vec<usize>,
}

/// In each round two faults overlap, and a third comes during recovery.
pub(super) async fn at_once(plan: Plan) -> Report {
    let redis = Redis::new().aof("always").start().await;
    let link = Proxy::to(redis.address()).await;
    let cluster = cluster(redis.url(), plan, LEASE);
    let via_link = cluster.by(link.url(&redis));
    let apps = vec![
        via_link.start_app().await,
        cluster.start_app().await,
        cluster.start_app().await,
    ];
    let ios = vec![
        via_link.start_io().await,
        cluster.start_io().await,
        cluster.start_io().await,
    ];
    let mut all = CombinedFaults {
        bed: Testbed::with(cluster, plan, ios, apps).await,
        redis,
        link,
        leaving: Vec::new(),
    };
    for _ in 0..plan.rounds * 2 {
        all.bed.wait(200..800).await;
        for _ in 0..2 {
            all.break_something().await;
            all.bed.wait(0..600).await;
        }
        all.mend().await;
        all.break_something().await;
        all.bed.wait(0..1_000).await;
        all.mend().await;
        all.bed.await_progress().await;
    }
    all.bed.finish("everything-at-once").await
}

impl CombinedFaults {
    async fn break_something(&mut self) {
        let victim = self.bed.random.below(3);
        match self.bed.random.below(9) {
            0 => self.bed.apps[victim].kill9().await,
            1 => self.bed.ios[victim].kill9().await,
            2 if self.bed.apps[victim].is_running() => self.bed.apps[victim].pause(),
            3 if self.bed.ios[victim].is_running() => self.bed.ios[victim].pause(),
            4 if self.bed.apps[victim].is_running() => {
                self.bed.apps[victim].terminate();
                self.leaving.push(victim);
            }
            5 => self.redis.kill().await,
            6 => self.link.cut(),
            7 => self.link.blackhole(),
            8 => self.link.flaky(Duration::from_millis(200)),
            _ => {}
        }
    }

    /// Ends all faults, after a time that may be longer than a lease.
    async fn mend(&mut self) {
        self.bed.wait(0..2_500).await;
        if !self.redis.is_running() {
            self.redis.restart().await;
        }
        self.link.mend();
        for place in 0..3 {
            for node in [&mut self.bed.apps[place], &mut self.bed.ios[place]] {
                if node.is_running() {
                    node.resume();
                }
            }
        }
        for place in std::mem::take(&mut self.leaving) {
            self.bed.apps[place].ended().await;
        }
        for place in 0..3 {
            if !self.bed.apps[place].is_running() {
                let next = self.start("app-node", place).await;
                self.bed.replace_app(place, next).await;
            }
            if !self.bed.ios[place].is_running() {
                let next = self.start("io-node", place).await;
                self.bed.replace_io(place, next).await;
            }
        }
    }

    /// Starts a node under the name of its predecessor or under a new one.
    async fn start(&mut self, role: &str, place: usize) -> Node {
        let cluster = match place {
            0 => self.bed.cluster.by(self.link.url(&self.redis)),
            _ => self.bed.cluster.clone(),
        };
        match (self.bed.random.chance(0.5), role) {
            (true, _) => cluster.start_as(role, &format!("{role}-of-{place}")).await,
            (false, "io-node") => cluster.start_io().await,
            (false, _) => cluster.start_app().await,
        }
    }
}
