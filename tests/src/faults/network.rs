//! The network between nodes and Redis: cut, slow, swallowing, or failing all the time.

use std::time::Duration;

use super::Plan;
use super::ground::{Ground, cluster};
use crate::check::Report;
use crate::{Proxy, Redis, RedisServer};

const LEASE: Duration = Duration::from_secs(1);

/// A cluster of which one io-node and one app-node reach Redis by one proxy, and the others by another.
struct Links {
    _redis: RedisServer,
    first: Proxy,
    others: Proxy,
    ground: Ground,
}

impl Links {
    async fn new(plan: Plan, lease: Duration) -> Self {
        let redis = Redis::new().start().await;
        let (first, others) = (Proxy::to(redis.address()).await, Proxy::to(redis.address()).await);
        let cluster = cluster(others.url(&redis), plan, lease);
        let by_first = cluster.by(first.url(&redis));
        let apps = vec![by_first.start_app().await, cluster.start_app().await];
        let ios = vec![by_first.start_io().await, cluster.start_io().await];
        Self {
            ground: Ground::with(cluster, plan, ios, apps).await,
            _redis: redis,
            first,
            others,
        }
    }

    fn all(&self) -> [&Proxy; 2] {
        [&self.first, &self.others]
    }

    fn mend(&self) {
        self.all().into_iter().for_each(Proxy::mend);
    }
}

/// Connections are cut: of all nodes for a moment and for longer than a lease, and of some for longer than a lease.
pub(super) async fn links_cut(plan: Plan) -> Report {
    let mut links = Links::new(plan, LEASE).await;
    for _ in 0..plan.rounds {
        for (some, time) in [(false, 0..300), (false, 1_200..2_500), (true, 2_200..2_600)] {
            links.ground.wait(300..800).await;
            links.first.cut();
            if !some {
                links.others.cut();
            }
            links.ground.wait(time).await;
            links.mend();
            links.ground.work_goes_on().await;
        }
    }
    links.ground.finish("links-cut").await
}

/// Every answer takes a fifth of a second. There are fewer messages, for each waits for several of them.
pub(super) async fn links_delayed(plan: Plan) -> Report {
    let rate = plan.rate.min(2.0);
    let plan = Plan { rate, ..plan };
    let mut links = Links::new(plan, Duration::from_secs(3)).await;
    for _ in 0..plan.rounds {
        links.ground.wait(300..800).await;
        for proxy in links.all() {
            proxy.delay(Duration::from_millis(100));
        }
        links.ground.wait(2_000..3_000).await;
        links.ground.work_goes_on().await;
        links.mend();
        links.ground.work_goes_on().await;
    }
    links.ground.finish_undisturbed("links-delayed").await
}

/// What is sent is swallowed, for five seconds: of all nodes, and then of some.
pub(super) async fn links_blackholed(plan: Plan) -> Report {
    let mut links = Links::new(plan, LEASE).await;
    for round in 0..plan.rounds.div_ceil(2) * 2 {
        links.ground.wait(300..800).await;
        links.first.blackhole();
        if round % 2 == 0 {
            links.others.blackhole();
        }
        links.ground.wait(5_000..5_200).await;
        links.mend();
        links.ground.work_goes_on().await;
    }
    links.ground.finish("links-blackholed").await
}

/// Every connection is cut again and again, each at an arbitrary byte.
pub(super) async fn links_flaky(plan: Plan) -> Report {
    let mut links = Links::new(plan, LEASE).await;
    for _ in 0..plan.rounds {
        for proxy in links.all() {
            proxy.flaky(Duration::from_millis(300));
        }
        links.ground.wait(2_000..4_000).await;
        links.mend();
        links.ground.work_goes_on().await;
    }
    links.ground.finish("links-flaky").await
}
