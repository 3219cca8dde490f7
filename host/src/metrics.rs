//! The counts of this process as text for Prometheus. It counts nothing itself.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::counts::{self, Family};

/// The format of [`text`].
pub(crate) const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every count, by reason where there are several of a kind, and the version.
pub(crate) fn text() -> String {
    let mut registry = Registry::with_prefix("plugnode");
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "The version of plugnode", version);
    registry.register_collector(Box::new(Counts));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a text takes everything");
    text
}

#[derive(Debug)]
struct Counts;

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
