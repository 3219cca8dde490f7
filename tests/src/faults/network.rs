//! The network between nodes and Redis: cut, slow, narrow, swallowing, or failing all the time.

use std::time::Duration;

use serde_json::json;

use super::Plan;
use super::ground::{Ground, cluster};
use crate::check::{Ended, Report};
use crate::{Client, Node, Proxy, Redis, RedisServer};

const LEASE: Duration = Duration::from_secs(1);
/// What a narrow link carries in a second.
const NARROW: u64 = 384 << 10;
/// Answers that are asked for at once, and bytes of each: all together many times what a narrow link carries in the two seconds that
/// a call may take.
const ANSWERS: u64 = 80;
const ANSWER: usize = 60_000;

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

/// Links carry little, and some clients ask for many large answers at once: these come, one after the other, and all others
/// are served meanwhile.
pub(super) async fn links_narrow(plan: Plan) -> Report {
    let rate = plan.rate.min(1.0);
    let plan = Plan { rate, ..plan };
    let mut links = Links::new(plan, Duration::from_secs(3)).await;
    for _ in 0..plan.rounds.div_ceil(6) {
        links.ground.wait(300..800).await;
        for proxy in links.all() {
            proxy.bandwidth(NARROW);
        }
        let (_, ()) = tokio::join!(download(&links.ground.ios[0]), links.ground.work_goes_on());
        links.mend();
        links.ground.work_goes_on().await;
    }
    links.ground.finish_undisturbed("links-narrow").await
}

/// One client asks for many large answers at once and hears all of them.
async fn download(node: &Node) {
    let mut client = Client::connect(node).await;
    for number in 1..=ANSWERS {
        client.emit("n", &[json!(number), json!({ "padding": ANSWER })]).await;
    }
    for number in 1..=ANSWERS {
        // Each within a limit of its own.
        let (event, args) = loop {
            let heard = client.event().await;
            if heard.0 != "welcome" {
                break heard;
            }
        };
        assert_eq!((event.as_str(), &args[1]), ("direct", &json!(number)));
        assert_eq!(args[4].as_str().map(str::len), Some(ANSWER));
    }
}

/// One io-node reaches Redis no more, in any of the ways there are: it closes its clients by itself, before others take it for
/// dead, takes no new ones, and is back when the link is.
pub(super) async fn io_node_isolated(plan: Plan) -> Report {
    let redis = Redis::new().start().await;
    let link = Proxy::to(redis.address()).await;
    let cluster = cluster(redis.url(), plan, Duration::from_secs(3));
    let ios = vec![cluster.by(link.url(&redis)).start_io().await, cluster.start_io().await];
    let apps = vec![cluster.start_app().await, cluster.start_app().await];
    let mut ground = Ground::with(cluster, plan, ios, apps).await;
    let url = ground.ios[0].url();
    let connected = |ground: &Ground| ground.check.connected_to(&url);
    for _ in 0..plan.rounds.div_ceil(2) {
        ground
            .until("the io-node has clients", |ground| connected(ground) > 0)
            .await;
        ground.wait(300..800).await;
        match ground.random.below(3) {
            0 => link.blackhole(),
            1 => link.hold(),
            _ => link.cut(),
        }
        let closed = "an io-node without Redis closes its clients and takes no new ones";
        ground.until(closed, |ground| connected(ground) == 0).await;
        let ready = ground.ios[0].get("/readyz").await;
        assert!(ready.contains(" 503 "), "an io-node without Redis is ready: {ready}");
        ground.work_goes_on().await;
        ground.wait(0..3_000).await;
        assert_eq!(connected(&ground), 0, "{closed}");
        link.mend();
        ground.work_goes_on().await;
    }
    ground
        .until("the io-node has clients again", |ground| connected(ground) > 0)
        .await;
    let report = ground.finish("io-node-isolated").await;
    assert_closed_before_declared_dead(&report);
    report
}

/// Of the clients whose io-node was taken for dead, each was closed before that.
fn assert_closed_before_declared_dead(report: &Report) {
    let history = &report.history;
    for gone in history.watches.iter().flat_map(|watch| &watch.gone) {
        let story = &history.stories[gone.who as usize];
        if gone.reason == "node-lost" && matches!(story.ended, Ended::Lost(_)) {
            assert!(
                story.ended_at <= gone.at,
                "client {} was connected for {:?} after its io-node was declared dead",
                story.id,
                Duration::from_micros(story.ended_at - gone.at)
            );
        }
    }
}
