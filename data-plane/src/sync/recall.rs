//! Tells Redis what it has forgotten of quotas: how much was used, as the control plane has it stored.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fastgate::{
    model::Calendar,
    node::v1::{Usage, UsagePeriod, UsageQuery, audit_query_client::AuditQueryClient},
};
use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

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

/// Quotas that are looked after at a time. Further ones wait, and are found again where they can't.
const LOOKED_AFTER: usize = 4096;

/// So many of them are asked and told about at a time; the others wait for their next try.
const AT_ONCE: usize = 16;

/// A connection to a control plane is used for so long. Then it is made anew: the node's certificate may
/// be another by then.
const LINE_LIVES: Duration = Duration::from_secs(60);

/// Looks after quotas that may be forgotten.
pub(crate) struct Recall {
    identity: Arc<Identity>,
    control_planes: ControlPlanes,
    limiter: Limiter,
    turns: Semaphore,
    line: Mutex<Option<Line>>,
}

/// The connection that was used last.
struct Line {
    channel: Channel,
    since: Instant,
}

impl Recall {
    /// Quotas of a limiter, which control planes know of.
    pub(crate) fn new(
        identity: Arc<Identity>,
        control_planes: ControlPlanes,
        limiter: Limiter,
    ) -> Self {
        let (turns, line) = (Semaphore::new(AT_ONCE), Mutex::default());
        Self { identity, control_planes, limiter, turns, line }
    }

    /// Asks and tells, until `stop` is cancelled.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let Some(mut forgotten) = self.limiter.forgotten() else { return };
        let (recall, mut under_way) = (Arc::new(self), JoinSet::new());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Some(_) = under_way.join_next() => {}
                quota = forgotten.recv(), if under_way.len() < LOOKED_AFTER => {
                    let Some(quota) = quota else { return };
                    let recall = recall.clone();
                    under_way.spawn(async move { recall.recall(&quota).await });
                }
            }
        }
    }

    async fn recall(&self, quota: &Forgotten) {
        let mut settles_in = Some(quota.settles_in);
        while let Some(time) = settles_in {
            sleep(time).await;
            if !self.tell(quota).await {
                return;
            }
            settles_in = quota.was_told();
        }
    }

    /// False: that can't be done, for as long as it is tried.
    async fn tell(&self, quota: &Forgotten) -> bool {
        let began = Instant::now();
        let mut backoff = Backoff::new();
        while let Err(fault) = self.try_to_recall(quota).await {
            if began.elapsed() > TRYING {
                tracing::warn!(?quota, "what was used of a quota is not known to redis: {fault}");
                return false;
            }
            tracing::debug!(?quota, "can't recall a quota: {fault}");
            sleep(backoff.wait(random())).await;
        }
        true
    }

    async fn try_to_recall(&self, quota: &Forgotten) -> Result<(), String> {
        // An error means that it was closed, which it never is.
        let _turn = self.turns.acquire().await;
        let usage = self.ask(quota).await?;
        let used = match quota.unit {
            Unit::Requests(_) => usage.requests,
            Unit::RequestBytes => usage.request_bytes,
            Unit::ResponseBytes => usage.response_bytes,
            Unit::Told => 0,
        };
        let ends_in = Duration::from_millis(usage.ends_in_ms);
        self.limiter.recall(quota, used, ends_in).await.map_err(|fault| fault.to_string())
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
        if let Some(line) = self.line()
            && let Ok(usage) = count(line, query.clone()).await
        {
            return Ok(usage);
        }
        let mut fault = "there is no control plane".to_owned();
        for uri in self.control_planes.uris() {
            let asked = async {
                let channel = self.control_planes.connect(uri).await?.channel;
                let usage = count(channel.clone(), query.clone()).await?;
                self.keep(Some(Line { channel, since: Instant::now() }));
                Ok(usage)
            };
            match timeout(PATIENCE, asked).await {
                Ok(Ok(usage)) => return Ok(usage),
                Ok(Err(refused)) => fault = refused,
                Err(_) => "it takes too long".clone_into(&mut fault),
            }
        }
        self.keep(None);
        Err(fault)
    }

    fn line(&self) -> Option<Channel> {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        let line = line.as_ref().filter(|line| line.since.elapsed() < LINE_LIVES);
        line.map(|line| line.channel.clone())
    }

    fn keep(&self, line: Option<Line>) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = line;
    }
}

async fn count(channel: Channel, query: UsageQuery) -> Result<Usage, String> {
    let asked = timeout(PATIENCE, AuditQueryClient::new(channel).count_usage(query)).await;
    let answer = asked.map_err(|_| "it takes too long".to_owned())?;
    answer.map(tonic::Response::into_inner).map_err(|status| dial::refusal(&status))
}
