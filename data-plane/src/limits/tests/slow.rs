//! A Redis that is far away, or slow.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::future::poll_immediate;
use tracing::subscriber::DefaultGuard;

use super::{log::Log, servers::Server, *};

/// A port that leads to a server, and every answer of which comes late.
struct Wire {
    port: u16,
    late_by: Arc<AtomicU64>,
}

impl Wire {
    fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let (late_by, server) = (Arc::<AtomicU64>::default(), server.port);
        let late = late_by.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                if let Ok(far) = TcpStream::connect(("127.0.0.1", server)) {
                    carry(near, far, late.clone());
                }
            }
        });
        Self { port, late_by }
    }
}

/// A Redis that can be slowed, and a worker that counts in it.
struct Slow {
    wire: Wire,
    limiter: Limiter,
    worker: WorkerLimiter,
    log: Log,
    _guard: DefaultGuard,
    _server: Server,
}

impl Slow {
    /// Connected, and not slow yet.
    async fn start() -> Self {
        let (server, (log, guard)) = (Server::start(), Log::begin());
        let wire = Wire::to(&server);
        let limiter = limiter(&format!("redis://fastgate:choose-one@127.0.0.1:{}", wire.port));
        limiter.set_node_count(1);
        let worker = limiter.for_worker();
        until("connected", || limiter.state() == State::Redis).await;
        Self { wire, limiter, worker, log, _guard: guard, _server: server }
    }

    fn slow_by(&self, milliseconds: u64) {
        self.wire.late_by.store(milliseconds, Relaxed);
    }

    /// Why the log was told that Redis is away.
    fn told(&self) -> Vec<String> {
        let lines = self.log.lines().into_iter();
        let away = lines.filter(|line| line.contains("redis is away"));
        away.map(|line| line.split(": ").last().unwrap_or_default().to_owned()).collect()
    }
}

/// Carries bytes until one side ends. Answers come in their order, each as late as all others.
fn carry(near: TcpStream, far: TcpStream, late_by: Arc<AtomicU64>) {
    let clone = |stream: &TcpStream| stream.try_clone().expect("a socket");
    for stream in [&near, &far] {
        stream.set_nodelay(true).expect("a socket");
    }
    let (mut questions, mut server) = (clone(&near), clone(&far));
    thread::spawn(move || std::io::copy(&mut questions, &mut server));
    let (sender, receiver) = mpsc::channel::<(Instant, Vec<u8>)>();
    let (mut answers, mut client) = (far, near);
    thread::spawn(move || {
        let mut bytes = [0; 16 << 10];
        while let Ok(length @ 1..) = answers.read(&mut bytes) {
            let due = Instant::now() + Duration::from_millis(late_by.load(Relaxed));
            if sender.send((due, bytes[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if client.write_all(&bytes).is_err() {
                break;
            }
        }
    });
}

/// What is fetched ahead of requests that never come.
#[tokio::test]
async fn tokens_fetched_ahead_of_nobody_are_given_back() {
    let slow = Slow::start().await;
    slow.slow_by(3);
    let limit = limit(10, Fallback::Closed);
    // The first answers tell that Redis is far.
    ask(&slow.worker, super::limit(60_000, Fallback::Closed), 40, Duration::from_millis(1)).await;
    for _ in 0..6 {
        assert!(admits(&slow.worker, "k2", limit).await);
    }
    let given_back = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        let mut inspection = slow.limiter.inspect();
        inspection.add(Subject::Key("k2"), Scope::Key, limit, &Cost::ONE);
        inspection.look().await.expect("looks").first().expect("one limit").remaining
    };
    let remaining = tokio::select! {
        () = slow.worker.give_back() => unreachable!("it runs for ever"),
        remaining = given_back => remaining,
    };
    // A token comes every six seconds.
    assert!((4..=5).contains(&remaining), "{remaining}");
}

/// Asks at a pace; how many were admitted, and how many were answered without waiting.
async fn ask(worker: &WorkerLimiter, limit: Limit, requests: u32, every: Duration) -> [u32; 2] {
    let (mut admitted, mut at_once) = (0, 0);
    let mut ticks = tokio::time::interval(every);
    for _ in 0..requests {
        ticks.tick().await;
        let mut answer = pin!(admits(worker, "k1", limit));
        let is_admitted = match poll_immediate(&mut answer).await {
            Some(is_admitted) => {
                at_once += 1;
                is_admitted
            }
            None => answer.await,
        };
        admitted += u32::from(is_admitted);
    }
    [admitted, at_once]
}

#[tokio::test]
async fn a_redis_that_answers_late_again_and_again_is_done_without() {
    let redis = Slow::start().await;
    let open = || admits(&redis.worker, "k1", limit(60, Fallback::Open));

    redis.slow_by(20);
    let (begun, mut calls) = (Instant::now(), 0);
    while redis.limiter.state() == State::Redis {
        assert!(begun.elapsed() < Duration::from_secs(5), "no call was too slow");
        open().await;
        calls += 1;
    }
    // The background may have asked too. Of some calls it is not known: this thread was held up.
    assert!((5..=40).contains(&calls), "{calls}");
    assert_eq!(redis.told(), ["it answers, but too slowly"]);

    // It is tried all the time, and not used.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1600) {
        assert_eq!(redis.limiter.state(), State::Fallback);
        open().await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(redis.told().len(), 1, "{:?}", redis.told());
    redis.slow_by(0);
    until("taken back", || redis.limiter.state() == State::Redis).await;

    // Nobody asks, but the background does.
    redis.slow_by(20);
    until("noticed", || redis.limiter.state() == State::Fallback).await;
}

#[tokio::test]
async fn a_redis_within_the_budget_is_used_and_so_is_a_queue_before_it() {
    let redis = Slow::start().await;
    let worker = &redis.worker;
    redis.slow_by(3);
    let keys: Vec<_> = (0..100).map(|number| format!("k{number}")).collect();
    for _ in 0..20 {
        let limit = limit(60, Fallback::Closed);
        let calls = keys.iter().map(|key| admits(worker, key, limit));
        let admitted = futures_util::future::join_all(calls).await;
        assert!(!admitted.contains(&false), "{:?}", redis.told());
    }
    assert_eq!(redis.told(), [""; 0]);
}

#[tokio::test]
async fn a_key_within_its_limit_does_not_wait_for_a_slow_redis() {
    let redis = Slow::start().await;
    let worker = &redis.worker;
    redis.slow_by(4);
    for (per_minute, every) in [(12_000, 20), (6_000, 30), (12_000, 150)] {
        let (limit, every) = (limit(per_minute, Fallback::Closed), Duration::from_millis(every));
        // Until it is known how slow it is, and how often the key comes.
        ask(worker, limit, 15, every).await;
        let [admitted, at_once] = ask(worker, limit, 40, every).await;
        println!("{per_minute}/min, every {every:?}: {admitted} admitted, {at_once} at once");
        assert_eq!(admitted, 40, "{per_minute}/min, {:?}", redis.told());
        assert!(at_once >= 30, "{per_minute}/min, every {every:?}: {at_once} at once");
    }
    assert_eq!(redis.told(), [""; 0]);
}

#[tokio::test]
async fn a_key_in_overload_does_not_wait_for_a_slow_redis_and_gets_all_it_may_have() {
    let redis = Slow::start().await;
    let worker = &redis.worker;
    let limit = limit(600, Fallback::Closed);
    // Until its burst is gone.
    while admits(worker, "k1", limit).await {}
    redis.slow_by(4);
    ask(worker, limit, 20, Duration::from_millis(10)).await;
    let begun = Instant::now();
    let [admitted, at_once] = ask(worker, limit, 200, Duration::from_millis(10)).await;
    let refilled = begun.elapsed().as_secs_f64() * 10.0;
    println!("{admitted} of {refilled:.1} admitted, {at_once} of 200 at once");
    assert_eq!(redis.told(), [""; 0]);
    assert!((refilled - 2.0..=refilled + 2.0).contains(&admitted.into()), "{admitted} {refilled}");
    assert!(at_once >= 190, "{at_once}");
}

#[tokio::test]
async fn whoever_comes_when_told_to_gets_its_token_from_a_slow_redis() {
    let redis = Slow::start().await;
    let worker = &redis.worker;
    let limit = limit(60, Fallback::Closed);
    while admits(worker, "k1", limit).await {}
    redis.slow_by(4);
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(1010)).await;
        assert!(admits(worker, "k1", limit).await, "as it was told: {:?}", redis.told());
        assert!(!admits(worker, "k1", limit).await, "there is no second one");
    }
    assert_eq!(redis.told(), [""; 0]);
}
