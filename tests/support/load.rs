//! HTTP load: callers that ask again and again, and what became of each request.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::sleep_until,
};

use super::{node::Node, percentile};

/// Callers of each node, each with a connection of its own.
const CALLERS: u32 = 2;

/// What is asked of some nodes: as much as they answer, if no pace is set.
#[derive(Clone)]
pub(crate) struct Load {
    hosts: Vec<String>,
    key: Arc<dyn Fn(u64) -> String + Send + Sync>,
    per_second: Option<f64>,
    at_once: u64,
}

/// Load that goes on until it is stopped.
pub(crate) struct Running {
    callers: JoinSet<Vec<Asked>>,
    turns: Arc<Turns>,
}

/// Requests all callers have sent, and how many they send in all.
struct Turns {
    next: AtomicU64,
    end: AtomicU64,
}

/// What became of requests, in the order they were asked.
pub(crate) struct Answers(Vec<Asked>);

#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// When it was sent; or was due, where the caller still waited for the answer before.
    pub(crate) at: Instant,
    pub(crate) took: Duration,
    pub(crate) status: u16,
}

impl Load {
    /// The nth request is sent with the nth key.
    pub(crate) fn with_keys(
        nodes: &[Node],
        key: impl Fn(u64) -> String + Send + Sync + 'static,
    ) -> Self {
        let host = |node: &Node| node.proxy_url.trim_start_matches("http://").to_owned();
        let hosts = nodes.iter().map(host).collect();
        Self { hosts, key: Arc::new(key), per_second: None, at_once: 1 }
    }

    pub(crate) fn with_key(nodes: &[Node], secret: &str) -> Self {
        let secret = secret.to_owned();
        Self::with_keys(nodes, move |_| secret.clone())
    }

    /// So many requests, from all callers together.
    pub(crate) fn per_second(mut self, requests: f64) -> Self {
        self.per_second = Some(requests);
        self
    }

    /// Sends so many requests at once over each connection (RFC 9112 section 9.3.2), which takes
    /// the least of the machine.
    pub(crate) fn at_once(mut self, requests: u64) -> Self {
        self.at_once = requests;
        self
    }

    pub(crate) fn start(&self) -> Running {
        self.start_times(u64::MAX)
    }

    pub(crate) async fn run_for(&self, time: Duration) -> Answers {
        let running = self.start();
        tokio::time::sleep(time).await;
        running.stop().await
    }

    pub(crate) async fn run_times(&self, requests: u64) -> Answers {
        self.start_times(requests).end().await
    }

    fn start_times(&self, requests: u64) -> Running {
        let turns = Arc::new(Turns { next: AtomicU64::new(0), end: AtomicU64::new(requests) });
        let mut callers = JoinSet::new();
        let begun = Instant::now();
        let count = self.hosts.len() as u32 * CALLERS;
        let pace = self.per_second.map(|requests| self.at_once as f64 / requests);
        let pace = pace.map(Duration::from_secs_f64);
        for (host, n) in self.hosts.iter().cycle().zip(0..count) {
            let (load, host, turns) = (self.clone(), host.clone(), turns.clone());
            // They do not all ask at the same moment.
            let pace = pace.map(|pace| (begun + pace * n, pace * count));
            callers.spawn(async move { load.call(&host, &turns, pace).await });
        }
        Running { callers, turns }
    }

    /// Asks until it is nobody's turn any more. The pace is when to begin, and the time between.
    async fn call(
        &self,
        host: &str,
        turns: &Turns,
        mut pace: Option<(Instant, Duration)>,
    ) -> Vec<Asked> {
        let stream = TcpStream::connect(host).await.expect("connects");
        stream.set_nodelay(true).expect("a socket");
        let mut line = Line { stream, received: Vec::new(), read: 0 };
        let mut asked = Vec::new();
        loop {
            let mut at = Instant::now();
            if let Some((due, every)) = &mut pace {
                if *due > at {
                    sleep_until((*due).into()).await;
                    at = Instant::now();
                } else {
                    at = *due;
                }
                *due += *every;
            }
            let turn = turns.take(self.at_once);
            if turn.is_empty() {
                return asked;
            }
            let head =
                |n| format!("GET / HTTP/1.1\r\nhost: gate\r\nx-api-key: {}\r\n\r\n", (self.key)(n));
            let heads: String = turn.clone().map(head).collect();
            line.stream.write_all(heads.as_bytes()).await.expect("the node reads");
            for _ in turn {
                let status = line.answer().await;
                asked.push(Asked { at, took: at.elapsed(), status });
            }
        }
    }
}

impl Turns {
    fn take(&self, at_once: u64) -> std::ops::Range<u64> {
        let first = self.next.fetch_add(at_once, SeqCst);
        first..self.end.load(SeqCst).min(first + at_once)
    }
}

impl Running {
    /// Lets the callers have their last answers.
    pub(crate) async fn stop(self) -> Answers {
        self.turns.end.store(0, SeqCst);
        self.end().await
    }

    async fn end(mut self) -> Answers {
        let mut all = Vec::new();
        while let Some(asked) = self.callers.join_next().await {
            all.extend(asked.expect("was answered"));
        }
        all.sort_by_key(|asked: &Asked| asked.at);
        Answers(all)
    }
}

/// One connection.
struct Line {
    stream: TcpStream,
    received: Vec<u8>,
    /// As much of it was read.
    read: usize,
}

impl Line {
    /// Reads an answer and returns its status.
    async fn answer(&mut self) -> u16 {
        loop {
            if let Some((status, length)) = first_answer(&self.received[self.read..]) {
                self.read += length;
                return status;
            }
            self.received.drain(..std::mem::take(&mut self.read));
            let more = self.stream.read_buf(&mut self.received).await.expect("the node answers");
            assert!(more > 0, "the node ended a connection");
        }
    }
}

/// The status and the length of the answer that these bytes begin with, once it is whole.
fn first_answer(bytes: &[u8]) -> Option<(u16, usize)> {
    let head = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&bytes[..head]).expect("text");
    let status = text.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a length"))
    });
    let whole = head + length.unwrap_or(0);
    (bytes.len() >= whole).then_some((status, whole))
}

impl Answers {
    pub(crate) fn all(&self) -> &[Asked] {
        &self.0
    }

    pub(crate) fn asked(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn admitted(&self) -> u64 {
        self.count(|status| status == 200)
    }

    pub(crate) fn count(&self, is_one: impl Fn(u16) -> bool) -> u64 {
        self.0.iter().filter(|asked| is_one(asked.status)).count() as u64
    }

    /// When the first was asked.
    pub(crate) fn begun(&self) -> Instant {
        self.0.first().expect("something was asked").at
    }

    /// When the last was answered.
    pub(crate) fn ended(&self) -> Instant {
        let answered = self.0.iter().map(|asked| asked.at + asked.took).max();
        answered.expect("something was asked")
    }

    /// Those before a moment, and those from then on.
    pub(crate) fn split_at(&self, moment: Instant) -> (Self, Self) {
        let (before, after) = self.0.split_at(self.0.partition_point(|asked| asked.at < moment));
        (Self(before.to_vec()), Self(after.to_vec()))
    }

    pub(crate) fn p99(&self) -> Duration {
        let mut took: Vec<_> = self.0.iter().map(|asked| asked.took).collect();
        took.sort();
        percentile(&took, 0.99)
    }
}
