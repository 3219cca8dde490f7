//! Writes the metrics of this process as OpenMetrics text, for Prometheus.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::counters::{self, Family};
use super::gauge::{CLIENTS, EVENTS_IN_HAND};
use super::histogram::{ACKNOWLEDGEMENT_TIME, HANDLING_TIME, INGEST_TIME, Snapshot};

/// Media type of [`text`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics, with prefix `plugnode`. `backlog` is the number of uncommitted events in the whole cluster; the gauge is left
/// out if it is not known.
pub fn text(backlog: Option<u64>) -> String {
    let mut registry = Registry::with_prefix("plugnode");
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version of plugnode", version);
    registry.register_collector(Box::new(Counters));
    registry.register_collector(Box::new(Gauges { backlog }));
    registry.register_collector(Box::new(Histograms));
    let mut text = String::new();
    encode(&mut text, &registry).expect("writing to a String does not fail");
    text
}

#[derive(Debug)]
struct Counters;

#[derive(Debug)]
struct Gauges {
    backlog: Option<u64>,
}

#[derive(Debug)]
struct Histograms;

impl Collector for Counters {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for Family { name, help, values } in counters::families() {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (reason, value) in values {
                let labels: Vec<_> = reason.map(|reason| ("reason", reason)).into_iter().collect();
                ConstCounter::new(value).encode(metric.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let backlog = self.backlog.and_then(|backlog| i64::try_from(backlog).ok());
        for (name, help, value) in [
            ("clients", "Clients connected to this process", Some(CLIENTS.get())),
            (
                "events_in_hand",
                "Events that this app-node has read and not yet committed",
                Some(EVENTS_IN_HAND.get()),
            ),
            (
                "backlog",
                "Accepted events of the whole cluster that are not yet committed",
                backlog,
            ),
        ] {
            if let Some(value) = value {
                let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
                ConstGauge::new(value).encode(metric)?;
            }
        }
        Ok(())
    }
}

impl Collector for Histograms {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, histogram) in [
            (
                "ingest",
                "Time from an event's arrival until the transport has accepted it",
                &INGEST_TIME,
            ),
            ("handling", "Time in the handler", &HANDLING_TIME),
            (
                "acknowledgement",
                "Time from an event's arrival until its acknowledgement is sent to the client",
                &ACKNOWLEDGEMENT_TIME,
            ),
        ] {
            let mut metric = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
            let Snapshot { sum, count, buckets } = histogram.snapshot();
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
