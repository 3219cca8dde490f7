//! Faults of the network between nodes and Redis: cut, delayed, narrow, blackholed or flaky links.

use std::time::Duration;

use serde_json::json;

use super::Plan;
use super::testbed::{Testbed, cluster};
use crate::check::{Ended, Report};
use crate::{Client, Node, Proxy, Redis, RedisServer};

const LEASE: Duration = Duration::from_secs(1);
/// Bytes per second of a narrow link.
const NARROW: u64 = 384 << 10;
/// Answers that are requested at once, and bytes of each: in total many times what a narrow link carries within the time-out of a call,
/// two seconds.
const ANSWERS: u64 = 80;
const ANSWER: usize = 60_000;

/// A cluster in which one io-node and one app-node reach Redis through one proxy, and the others through another.
struct Links {
    _redis: RedisServer,
    first: Proxy,
    others: Proxy,
    bed: Testbed,
}

impl Links {
    async fn new(plan: Plan, lease: Duration) -> Self {
        let redis = Redis::new().start().await;
        let (first, others) = (Proxy::to(redis.address()).await, Proxy::to(redis.address()).await);
        let cluster = cluster(others.url(&redis), plan, lease);
        let via_first = cluster.by(first.url(&redis));
        let apps = vec![via_first.start_app().await, cluster.start_app().await];
        let ios = vec![via_first.start_io().await, cluster.start_io().await];
        Self {
            bed: Testbed::with(cluster, plan, ios, apps).await,
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

/// Cuts the connections of all nodes, briefly and for longer than a lease, and of some nodes for longer than a lease.
pub(super) async fn links_cut(plan: Plan) -> Report {
    let mut links = Links::new(plan, LEASE).await;
    for _ in 0..plan.rounds {
        for (some, time) in [(false, 0..300), (false, 1_200..2_500), (true, 2_200..2_600)] {
            links.bed.wait(300..800).await;
            links.first.cut();
            if !some {
                links.others.cut();
            }
            links.bed.wait(time).await;
            links.mend();
            links.bed.await_progress().await;
        }
    }
    links.bed.finish("links-cut").await
}

/// Delays every answer of Redis by 200 ms. There are fewer messages, because each needs several round trips.
pub(super) async fn links_delayed(plan: Plan) -> Report {
    let rate = plan.rate.min(2.0);
    let plan = Plan { rate, ..plan };
    let mut links = Links::new(plan, Duration::from_secs(3)).await;
    for _ in 0..plan.rounds {
        links.bed.wait(300..800).await;
        for proxy in links.all() {
            proxy.delay(Duration::from_millis(100));
        }
        links.bed.wait(2_000..3_000).await;
        links.bed.await_progress().await;
        links.mend();
        links.bed.await_progress().await;
    }
    links.bed.finish_undisturbed("links-delayed").await
}

/// Drops all traffic for five seconds: of all nodes, then of some.
pub(super) async fn links_blackholed(plan: Plan) -> Report {
    let mut links = Links::new(plan, LEASE).await;
    for round in 0..plan.rounds.div_ceil(2) * 2 {
        links.bed.wait(300..800).await;
        links.first.blackhole();
        if round % 2 == 0 {
            links.others.blackhole();
        }
        links.bed.wait(5_000..5_200).await;
        links.mend();
        links.bed.await_progress().await;
    }
    links.bed.finish("links-blackholed").await
}

/// Cuts every connection repeatedly, each at an arbitrary byte.
pub(super) async fn links_flaky(plan: Plan) -> Report {
    let mut links = Links::new(plan, LEASE).await;
    for _ in 0..plan.rounds {
        for proxy in links.all() {
            proxy.flaky(Duration::from_millis(300));
        }
        links.bed.wait(2_000..4_000).await;
        links.mend();
        links.bed.await_progress().await;
    }
    links.bed.finish("links-flaky").await
}

/// On narrow links one client requests many large answers at once: all arrive, and the other clients are served meanwhile.
pub(super) async fn links_narrow(plan: Plan) -> Report {
    let rate = plan.rate.min(1.0);
    let plan = Plan { rate, ..plan };
    let mut links = Links::new(plan, Duration::from_secs(3)).await;
    for _ in 0..plan.rounds.div_ceil(6) {
        links.bed.wait(300..800).await;
        for proxy in links.all() {
            proxy.bandwidth(NARROW);
        }
        let (_, ()) = tokio::join!(download(&links.bed.ios[0]), links.bed.await_progress());
        links.mend();
        links.bed.await_progress().await;
    }
    links.bed.finish_undisturbed("links-narrow").await
}

/// One client requests many large answers at once and receives all of them.
async fn download(node: &Node) {
    let mut client = Client::connect(node).await;
    for number in 1..=ANSWERS {
        client.emit("n", &[json!(number), json!({ "padding": ANSWER })]).await;
    }
    for number in 1..=ANSWERS {
        // Each answer has its own time-out.
        let args = loop {
            let heard = client.event().await;
            if heard.0 == "direct" {
                break heard.1;
            }
        };
        assert_eq!(args[1], json!(number));
        assert_eq!(args[4].as_str().map(str::len), Some(ANSWER));
    }
}

/// One io-node loses Redis, in one of three ways: it closes its clients before its lease ends, accepts no new ones, and resumes with the
/// link.
pub(super) async fn io_node_isolated(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let link = Proxy::to(redis.address()).await;
    let cluster = cluster(redis.url(), plan, Duration::from_secs(3));
    let ios = vec![cluster.by(link.url(&redis)).start_io().await, cluster.start_io().await];
    let apps = vec![cluster.start_app().await, cluster.start_app().await];
    let mut bed = Testbed::with(cluster, plan, ios, apps).await;
    let url = bed.ios[0].url();
    let connected = |bed: &Testbed| bed.check.connected_to(&url);
    for _ in 0..plan.rounds.div_ceil(2) {
        bed.until("the io-node has clients", |bed| connected(bed) > 0).await;
        bed.wait(300..800).await;
        match bed.random.below(3) {
            0 => link.blackhole(),
            1 => link.hold(),
            _ => link.cut(),
        }
        let closed = "an io-node without Redis closes its clients and takes no new ones";
        bed.until(closed, |bed| connected(bed) == 0).await;
        let ready = bed.ios[0].get("/readyz").await;
        assert!(ready.contains(" 503 "), "an io-node without Redis is ready: {ready}");
        bed.await_progress().await;
        bed.wait(0..3_000).await;
        assert_eq!(connected(&bed), 0, "{closed}");
        link.mend();
        bed.await_progress().await;
    }
    bed.until("the io-node has clients again", |bed| connected(bed) > 0)
        .await;
    let report = bed.finish("io-node-isolated").await;
    assert_closed_before_declared_dead(&report);
    report
}

/// Asserts that the clients of the lost io-node were closed before others declared it lost.
fn assert_closed_before_declared_dead(report: &Report) {
    let history = &report.history;
    for notice in history.watches.iter().flat_map(|watch| &watch.notices) {
        let trace = &history.traces[notice.client as usize];
        if notice.reason == "node-lost" && matches!(trace.ended, Ended::Lost(_)) {
            assert!(
                trace.ended_at <= notice.at,
                "client {} was connected for {:?} after its io-node was declared dead",
                trace.id,
                Duration::from_micros(trace.ended_at - notice.at)
            );
        }
    }
}
