//! Every metric of the control plane's admin port.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::Family,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// The metrics, and the registry other parts add theirs to.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Mutex<Registry>>,
    calls: Family<Call, Counter>,
    seconds: Family<Method, Histogram>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Call {
    method: String,
    code: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct Method {
    method: String,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let calls = Family::default();
        let seconds = Family::<Method, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.001, 4.0, 8))
        });
        registry.register("fastgate_admin_calls", "Admin calls, gRPC and REST", calls.clone());
        registry.register("fastgate_admin_call_seconds", "Time admin calls took", seconds.clone());
        Self { registry: Arc::new(Mutex::new(registry)), calls, seconds }
    }

    /// Lets another part register its metrics.
    pub(crate) fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Counts one call. `method` is a method of the API, or the number of series has no bound.
    pub(crate) fn count(&self, method: &str, code: tonic::Code, seconds: f64) {
        let code = format!("{code:?}");
        self.calls.get_or_create(&Call { method: method.into(), code }).inc();
        self.seconds.get_or_create(&Method { method: method.into() }).observe(seconds);
    }

    /// The text Prometheus reads.
    pub(crate) fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut out, &registry)?;
        Ok(out)
    }
}
