//! Many nodes on one control plane: how long all of them take to catch up, and to follow changes.
//!
//! `nodes NODE_URL ADMIN_URL TOKEN NODES DEAF KEYS RATE SECONDS` lets as many nodes connect at once
//! that hold nothing, then changes so many keys a second, each another one, then some one by one, and
//! prints figures as JSON. The nodes are streams of this process: they acknowledge all they are sent
//! and serve nothing. The first one keeps what it is sent and checks each digest; all must end with
//! the same. Deaf ones are besides: they connect and read nothing.

#![allow(clippy::indexing_slicing, reason = "places in lists this program has made")]

use std::{
    collections::HashMap,
    env,
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use fastgate::{
    admin::v1::{ImportKeysRequest, Key, UpdateKeyRequest, key_service_client::KeyServiceClient},
    digest::Digest,
    node::v1::{
        Ack, ControlMessage, Delta, Entity, EntitySet, Hello, Namespace, NodeMessage, Status,
        change::Change as What, config_stream_client::ConfigStreamClient, control_message,
        node_message::Body,
    },
};
use prost::Message as _;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Streaming, metadata::MetadataValue, transport::Channel};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Keys of one call of an import.
const BATCH: usize = 1000;

/// Changes under way at a time.
const CALLS: usize = 256;

/// How long nodes may take to come to the same state after the last change.
const PATIENCE: Duration = Duration::from_secs(60);

/// Changes that come one by one, and how many a second.
const ALONE: usize = 100;
const ALONE_RATE: usize = 20;

/// Never changed.
const NEVER: u64 = u64::MAX;

#[tokio::main]
async fn main() -> Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    let [node_url, admin_url, token, nodes, deaf, keys, rate, seconds] = &args[..] else {
        return Err("usage: nodes NODE_URL ADMIN_URL TOKEN NODES DEAF KEYS RATE SECONDS".into());
    };
    let (nodes, deaf, keys): (usize, usize, usize) = (nodes.parse()?, deaf.parse()?, keys.parse()?);
    let (rate, seconds): (usize, usize) = (rate.parse()?, seconds.parse()?);
    let many = rate * seconds;
    if many + ALONE > keys {
        return Err("KEYS must be more than RATE x SECONDS: each is changed once".into());
    }
    let admin = Admin::connect(admin_url, token).await?;
    let ids = admin.import(keys).await?;
    let clock = Arc::new(Clock::new(&ids));

    let mut fleet = Fleet::start(node_url, (nodes, deaf), &clock);
    let cold = fleet.wait_until(|node| node.has_both()).await?;
    let rounds = admin.change(&ids[..many], rate, &clock).await?;
    let began = Instant::now();
    let converged = fleet.converge().await?;
    let lags = clock.take_lags();
    clock.bytes.store(0, Relaxed);
    admin.change(&ids[many..many + ALONE], ALONE_RATE, &clock).await?;
    fleet.converge().await?;
    let alone = clock.take_lags();
    println!(
        "{{\"cold_s\": {:.3}, \"changes_per_s\": {rounds:.1}, \"seen\": {}, \"lag_p50_ms\": {:.2}, \
         \"lag_p99_ms\": {:.2}, \"lag_max_ms\": {:.2}, \"converged_s\": {:.3}, \
         \"alone_p99_ms\": {:.2}, \"alone_bytes\": {}}}",
        cold.as_secs_f64(),
        lags.len(),
        milliseconds(&lags, 0.5),
        milliseconds(&lags, 0.99),
        milliseconds(&lags, 1.0),
        (converged - began).as_secs_f64(),
        milliseconds(&alone, 0.99),
        clock.bytes.load(Relaxed) / (ALONE * nodes) as u64,
    );
    Ok(())
}

/// Below which this part of the sorted microseconds is.
fn milliseconds(sorted: &[u32], part: f64) -> f64 {
    let place = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(place.max(1) - 1).map_or(f64::NAN, |micros| f64::from(*micros) / 1e3)
}

/// When each key was changed, and how long after that nodes were sent it.
struct Clock {
    began: Instant,
    places: HashMap<String, usize>,
    /// Microseconds from the start to the call.
    changed: Vec<AtomicU64>,
    /// Microseconds.
    lags: Mutex<Vec<u32>>,
    /// Of all deltas that all nodes were sent.
    bytes: AtomicU64,
}

impl Clock {
    fn new(ids: &[String]) -> Self {
        Self {
            began: Instant::now(),
            places: ids.iter().enumerate().map(|(at, id)| (id.clone(), at)).collect(),
            changed: ids.iter().map(|_| AtomicU64::new(NEVER)).collect(),
            lags: Mutex::default(),
            bytes: AtomicU64::new(0),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(NEVER)
    }

    /// Those since the last time, sorted.
    fn take_lags(&self) -> Vec<u32> {
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        lags.sort_unstable();
        std::mem::take(&mut *lags)
    }

    /// Notes what a delta brings.
    fn note(&self, delta: &Delta) {
        let now = self.now();
        self.bytes.fetch_add(delta.encoded_len() as u64, Relaxed);
        let mut lags = self.lags.lock().unwrap_or_else(PoisonError::into_inner);
        for change in &delta.changes {
            let Some(What::Upsert(entity)) = &change.change else { continue };
            let Some(place) = self.places.get(&entity.id) else { continue };
            let changed = self.changed[*place].load(Relaxed);
            if changed != NEVER {
                lags.push(u32::try_from(now.saturating_sub(changed)).unwrap_or(u32::MAX));
            }
        }
    }
}

/// The admin API.
struct Admin {
    keys: KeyServiceClient<Channel>,
    token: MetadataValue<tonic::metadata::Ascii>,
}

impl Admin {
    async fn connect(url: &str, token: &str) -> Result<Self> {
        let channel = Channel::from_shared(url.to_owned())?.connect().await?;
        Ok(Self { keys: KeyServiceClient::new(channel), token: format!("Bearer {token}").parse()? })
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.token.clone());
        request
    }

    /// New keys; returns their ids.
    async fn import(&self, count: usize) -> Result<Vec<String>> {
        let mut ids = Vec::with_capacity(count);
        while ids.len() < count {
            let key = Key { source_path: "app".into(), ..Key::default() };
            let keys = vec![key; BATCH.min(count - ids.len())];
            let request = self.request(ImportKeysRequest { keys, ..Default::default() });
            let made = self.keys.clone().import_keys(request).await?.into_inner();
            ids.extend(made.keys.into_iter().map(|key| key.key_id));
        }
        Ok(ids)
    }

    /// Changes each key once, so many a second; returns how many a second it was. The time of a change
    /// counts from when its call was due.
    async fn change(&self, ids: &[String], rate: usize, clock: &Arc<Clock>) -> Result<f64> {
        let turns = Arc::new(Semaphore::new(CALLS));
        let mut calls = JoinSet::new();
        let began = (Instant::now(), clock.now());
        let at_once = (rate / 100).max(1);
        let mut ticks = interval(Duration::from_secs(1) * at_once as u32 / rate as u32);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        for (at, id) in ids.iter().enumerate() {
            if at.is_multiple_of(at_once) {
                ticks.tick().await;
            }
            let due = at as u64 * 1_000_000 / rate as u64;
            clock.changed[clock.places[id]].store(began.1 + due, Relaxed);
            let key = Key { key_id: id.clone(), source_path: format!("app{at}"), ..Key::default() };
            let request = self.request(UpdateKeyRequest { key: Some(key), ..Default::default() });
            let (mut keys, turn) = (self.keys.clone(), turns.clone().acquire_owned().await?);
            calls.spawn(async move {
                let changed = keys.update_key(request).await;
                drop(turn);
                changed
            });
        }
        while let Some(call) = calls.join_next().await {
            call??;
        }
        Ok(ids.len() as f64 / began.0.elapsed().as_secs_f64())
    }
}

/// What a node holds, by namespace: revision and digest.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Holds([Option<(u64, Vec<u8>)>; 2]);

impl Holds {
    fn has_both(&self) -> bool {
        self.0.iter().all(Option::is_some)
    }
}

/// All nodes.
struct Fleet {
    began: Instant,
    nodes: Vec<watch::Receiver<Holds>>,
    tasks: JoinSet<Result<()>>,
}

impl Fleet {
    fn start(url: &str, (count, deaf): (usize, usize), clock: &Arc<Clock>) -> Self {
        let (mut nodes, mut tasks) = (Vec::new(), JoinSet::new());
        for number in 0..count {
            let (holds, seen) = watch::channel(Holds::default());
            nodes.push(seen);
            let node = Node { number, holds, kept: [HashMap::new(), HashMap::new()], ns: 0 };
            tasks.spawn(node.follow(url.to_owned(), clock.clone()));
        }
        for number in count..count + deaf {
            let url = url.to_owned();
            tasks.spawn(async move {
                let _held = connect(url, number).await?;
                std::future::pending().await
            });
        }
        Self { began: Instant::now(), nodes, tasks }
    }

    /// Waits until something holds of every node; returns how long that took from the start.
    async fn wait_until(&mut self, holds: impl Fn(&Holds) -> bool) -> Result<Duration> {
        let all = async {
            for node in &mut self.nodes {
                node.wait_for(&holds).await?;
            }
            Result::Ok(())
        };
        tokio::select! {
            done = all => done?,
            Some(ended) = self.tasks.join_next() => {
                ended??;
                return Err("a stream ended".into());
            }
        }
        Ok(self.began.elapsed())
    }

    /// Waits until all hold the same for two heartbeats; returns since when.
    async fn converge(&mut self) -> Result<Instant> {
        let began = Instant::now();
        let mut same_since = None;
        let mut ticks = interval(Duration::from_millis(20));
        loop {
            ticks.tick().await;
            let first = self.nodes[0].borrow().clone();
            let is_same = self.nodes.iter().all(|node| *node.borrow() == first);
            same_since = same_since.filter(|_| is_same).or_else(|| is_same.then(Instant::now));
            match same_since {
                Some(since) if since.elapsed() > Duration::from_secs(2) => return Ok(since),
                _ if began.elapsed() > PATIENCE => return Err("they did not converge".into()),
                _ => {}
            }
        }
    }
}

/// Opens the stream of a node that holds nothing.
async fn connect(
    url: String,
    number: usize,
) -> Result<(mpsc::Sender<NodeMessage>, Streaming<ControlMessage>)> {
    let mut client = ConfigStreamClient::connect(url).await?.max_decoding_message_size(64 << 20);
    let (say, said) = mpsc::channel(16);
    let hello = Hello {
        node_id: format!("simulated-{number}"),
        boot_id: format!("boot-{number}"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        environment: "default".to_owned(),
        ..Hello::default()
    };
    say.send(NodeMessage { body: Some(Body::Hello(hello)) }).await?;
    Ok((say, client.sync(ReceiverStream::new(said)).await?.into_inner()))
}

/// One node's stream.
struct Node {
    number: usize,
    holds: watch::Sender<Holds>,
    /// The entities of each namespace; the first node alone keeps them.
    kept: [HashMap<(i32, String), Entity>; 2],
    /// Of the snapshot that is coming.
    ns: i32,
}

impl Node {
    async fn follow(mut self, url: String, clock: Arc<Clock>) -> Result<()> {
        let (say, mut stream) = connect(url, self.number).await?;
        let mut status = interval(Duration::from_secs(2));
        let mut revision = 0;
        loop {
            let message = tokio::select! {
                message = stream.message() => message?.ok_or("the stream ended")?,
                _ = status.tick() => {
                    let body = Some(Body::Status(Status::default()));
                    say.send(NodeMessage { body }).await?;
                    continue;
                }
            };
            let ack = match message.body {
                Some(control_message::Body::SnapshotBegin(begin)) => {
                    (self.ns, revision) = (begin.ns, begin.revision);
                    self.kept[usize::from(begin.ns() == Namespace::Config)].clear();
                    continue;
                }
                Some(control_message::Body::SnapshotChunk(chunk)) => {
                    if self.number == 0 {
                        let set = EntitySet::decode(chunk.data)?;
                        set.entities.into_iter().for_each(|entity| self.keep(self.ns, entity));
                    }
                    continue;
                }
                Some(control_message::Body::SnapshotEnd(end)) => {
                    Ack { ns: self.ns, revision, digest: end.digest, apply_us: 0 }
                }
                Some(control_message::Body::Delta(delta)) => {
                    clock.note(&delta);
                    self.change(delta)
                }
                _ => continue,
            };
            self.check(&ack)?;
            let at = usize::from(ack.ns() == Namespace::Config);
            self.holds.send_modify(|holds| holds.0[at] = Some((ack.revision, ack.digest.clone())));
            say.send(NodeMessage { body: Some(Body::Ack(ack)) }).await?;
        }
    }

    fn keep(&mut self, ns: i32, entity: Entity) {
        let kept = &mut self.kept[usize::from(ns == i32::from(Namespace::Config))];
        kept.insert((entity.kind, entity.id.clone()), entity);
    }

    fn change(&mut self, delta: Delta) -> Ack {
        let ack = Ack { ns: delta.ns, revision: delta.to, digest: delta.digest_after, apply_us: 0 };
        if self.number == 0 {
            for change in delta.changes {
                match change.change {
                    Some(What::Upsert(entity)) => self.keep(delta.ns, entity),
                    Some(What::Delete(gone)) => {
                        let at = usize::from(delta.ns == i32::from(Namespace::Config));
                        self.kept[at].remove(&(gone.kind, gone.id));
                    }
                    None => {}
                }
            }
        }
        ack
    }

    /// What is kept must have the digest that is acknowledged. Computed anew, that takes its time: at the
    /// end of snapshots, and now and then.
    fn check(&self, ack: &Ack) -> Result<()> {
        if self.number != 0
            || (!ack.revision.is_multiple_of(1000) && self.holds.borrow().has_both())
        {
            return Ok(());
        }
        let kept = &self.kept[usize::from(ack.ns() == Namespace::Config)];
        let digest: Digest = kept.values().cloned().collect();
        if digest.to_bytes()[..] == ack.digest[..] {
            return Ok(());
        }
        Err(format!("another digest at revision {} of {:?}", ack.revision, ack.ns()).into())
    }
}
