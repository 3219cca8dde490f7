//! The counts of this process as text for Prometheus. It counts nothing itself.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::counts::{self, Family};
use crate::timings::{ACKNOWLEDGEMENT, CLIENTS, HANDLING, IN_HAND, INGEST};

/// The format of [`text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every count, by reason where there are several of a kind; what there is at present; how long things take; and the version.
/// How many events wait in the whole cluster is left out where nobody knows it.
pub fn text(backlog: Option<u64>) -> String {
    let mut registry = Registry::with_prefix("plugnode");
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version of plugnode", version);
    registry.register_collector(Box::new(Counts));
    registry.register_collector(Box::new(Present { backlog }));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a text takes everything");
    text
}

#[derive(Debug)]
struct Counts;

/// What changes all the time.
#[derive(Debug)]
struct Present {
    backlog: Option<u64>,
}

impl Collector for Present {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let backlog = self.backlog.and_then(|backlog| i64::try_from(backlog).ok());
        for (name, help, value) in [
            (
                "clients",
                "Clients that are connected to this process",
                Some(CLIENTS.get()),
            ),
            (
                "events_in_hand",
                "Events that this app-node has read and not committed",
                Some(IN_HAND.get()),
            ),
            (
                "backlog",
                "Events of the whole cluster that were accepted and are not committed",
                backlog,
            ),
        ] {
            if let Some(value) = value {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
        }
        for (name, help, histogram) in [
            (
                "ingest",
                "From an event's arrival until the transport has accepted it",
                &INGEST,
            ),
            ("handling", "In the handler", &HANDLING),
            (
                "acknowledgement",
                "From an event's arrival until its acknowledgement goes to the client",
                &ACKNOWLEDGEMENT,
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
            let (sum, count, buckets) = histogram.shown();
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

impl Collector for Counts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, sums } in counts::families() {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (reason, sum) in sums {
                let labels: Vec<_> = reason.map(|reason| ("reason", reason)).into_iter().collect();
                ConstCounter::new(sum).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}
