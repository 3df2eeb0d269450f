//! Tells Redis what it has forgotten of quotas: how much was used, as the control plane has it stored.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use fastgate::{
    model::Calendar,
    node::v1::{Usage, UsagePeriod, UsageQuery, audit_query_client::AuditQueryClient},
};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    backoff::{Backoff, random},
    control_planes::ControlPlanes,
    dial,
    identity::Identity,
    limits::{Forgotten, Limiter, Unit},
};

/// How long a control plane may take to count.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long it is tried to learn how much was used of one quota. The events of that use are on their
/// way for as long.
const TRYING: Duration = Duration::from_secs(600);

/// Looks after quotas that may be forgotten.
pub(crate) struct Recall {
    pub(crate) identity: Arc<Identity>,
    pub(crate) control_planes: ControlPlanes,
    pub(crate) limiter: Limiter,
}

impl Recall {
    /// Asks and tells, one quota after the other, until `stop` is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Some(mut forgotten) = self.limiter.forgotten() else { return };
        let recalled = async {
            while let Some(quota) = forgotten.recv().await {
                self.recall(&quota).await;
            }
        };
        tokio::select! { () = recalled => {}, () = stop.cancelled() => {} }
    }

    async fn recall(&self, quota: &Forgotten) {
        let began = Instant::now();
        let mut backoff = Backoff::new();
        loop {
            match self.ask(quota).await {
                Ok(usage) => {
                    let used = match quota.unit {
                        Unit::Requests(_) => usage.requests,
                        Unit::RequestBytes => usage.request_bytes,
                        Unit::ResponseBytes => usage.response_bytes,
                        Unit::Told => 0,
                    };
                    let ends_in = Duration::from_millis(usage.ends_in_ms);
                    match self.limiter.recall(quota, used, ends_in).await {
                        Ok(()) => return,
                        Err(fault) => tracing::debug!(%fault, "can't recall a quota"),
                    }
                }
                Err(fault) => tracing::debug!(%fault, "can't learn what was used of a quota"),
            }
            if began.elapsed() > TRYING {
                tracing::warn!(?quota, "what was used of a quota could not be learnt");
                return;
            }
            sleep(backoff.wait(random())).await;
        }
    }

    async fn ask(&self, quota: &Forgotten) -> Result<Usage, String> {
        let period = match quota.calendar {
            Calendar::Day => UsagePeriod::Day,
            Calendar::Month => UsagePeriod::Month,
        };
        let query = UsageQuery {
            environment: self.identity.environment.to_string(),
            key_id: quota.key_id.as_deref().unwrap_or_default().to_owned(),
            route_id: quota.route_id.as_ref().map_or_else(String::new, ToString::to_string),
            period: period.into(),
        };
        let mut fault = "there is no control plane".to_owned();
        for uri in self.control_planes.uris() {
            let asked = async {
                // Anew each time: it is seldom asked, and the node's certificate may be another by then.
                let channel = self.control_planes.connect(uri).await?.channel;
                let answer = AuditQueryClient::new(channel).count_usage(query.clone()).await;
                answer.map_err(|status| dial::refusal(&status))
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(usage)) => return Ok(usage.into_inner()),
                Ok(Err(refused)) => fault = refused,
                Err(_) => "it takes too long".clone_into(&mut fault),
            }
        }
        Err(fault)
    }
}
