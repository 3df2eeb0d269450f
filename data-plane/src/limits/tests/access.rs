//! A Redis that does not let everybody in, or not do everything: users, passwords, TLS.

use std::{path::PathBuf, time::Duration};

use fastgate::model::Fallback;

use super::{
    admits, id, limit, limiter,
    log::Log,
    servers::{Certificates, Cluster, Server, documented_user, eventually, free_port},
    settings, until,
};
use crate::limits::{Limiter, State};

#[tokio::test]
async fn each_right_the_docs_ask_for_is_needed_and_missed_in_the_log() {
    let server = Server::start();
    for right in documented_user().split_whitespace().skip(3) {
        let without = match right.strip_prefix('+') {
            Some(command) => format!("-{command}"),
            None => "resetkeys".to_owned(),
        };
        // A server that does not know the scripts needs all of them.
        server.admin::<()>("SCRIPT FLUSH");
        server.admin::<()>(&format!("ACL SETUSER fastgate {without}"));
        let (log, _guard) = Log::begin();
        let limiter = limiter(&server.url());
        let worker = limiter.for_worker();
        until(&format!("{right} is missed"), || !log.lines().is_empty()).await;
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{right}: {lines:?}");
        assert!(lines[0].contains("deploy/docs/SETTINGS.md"), "{right}: {lines:?}");
        assert_eq!(limiter.state(), State::Fallback, "{right}");
        assert!(admits(&worker, "k1", limit(60, Fallback::LocalShare)).await);

        server.admin::<()>(&format!("ACL SETUSER fastgate {right}"));
        until(&format!("{right} is back"), || limiter.state() == State::Redis).await;
        assert!(admits(&worker, "k1", limit(60, Fallback::Closed)).await);
    }
}

#[tokio::test]
async fn a_redis_that_is_no_use_is_away_and_the_log_says_why_once() {
    let server = Server::start();
    let (replica, member) = (Server::start(), Cluster::server(""));
    let full = Server::start();
    full.admin::<()>("CONFIG SET maxmemory 1");
    replica.admin::<()>(&format!("REPLICAOF 127.0.0.1 {}", server.port));
    member.admin::<()>("CLUSTER ADDSLOTSRANGE 0 8191");
    server.admin::<()>("ACL SETUSER default off");
    let (log, _guard) = Log::begin();
    let nodes = [
        (format!("redis://127.0.0.1:{}", server.port), "give user and password"),
        (server.url().replace("choose-one", "hidden"), "check user and password"),
        (replica.url(), "name the master"),
        (member.url(), "ClusterDown"),
        (full.url(), "maxmemory"),
        (server.url().replace("redis:", "redis+cluster:"), "cluster support disabled"),
        (replica.url().replace("redis:", "redis+sentinel:") + "/mymaster", "to a sentinel"),
        (format!("redis://127.0.0.1:{}", free_port()), "refused"),
    ]
    .map(|(url, why)| {
        let limiter = limiter(&url);
        // Two workers, and no line twice.
        let workers = [limiter.for_worker(), limiter.for_worker()];
        (limiter, workers, why)
    });
    until("all are away", || log.lines().len() >= nodes.len()).await;
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let lines = log.lines();
    assert_eq!(lines.len(), nodes.len(), "{lines:#?}");
    assert!(!lines.concat().contains("hidden"), "{lines:#?}");
    for (limiter, workers, why) in &nodes {
        assert_eq!(lines.iter().filter(|line| line.contains(why)).count(), 1, "{why}: {lines:#?}");
        assert_eq!(limiter.state(), State::Fallback, "{why}");
        assert!(admits(&workers[0], "k1", limit(60, Fallback::LocalShare)).await, "{why}");
    }

    replica.admin::<()>("REPLICAOF NO ONE");
    until("a replica became a master", || nodes[2].0.state() == State::Redis).await;
    assert!(admits(&nodes[2].1[0], "k1", limit(60, Fallback::Closed)).await);
    let told = |line: &String| line.contains("limits are counted in redis");
    until("good news are told", || log.lines().iter().any(told)).await;
}

#[tokio::test]
async fn all_kinds_of_redis_speak_tls_with_certificates_of_a_private_ca() {
    let certificates = Certificates::make();
    let stranger = Certificates::make();
    let ports = [free_port(), free_port(), free_port()];
    let one = Server::start_with(free_port(), &certificates.settings(ports[0]));
    let replicating = format!("{} --tls-replication yes", certificates.settings(ports[1]));
    let _sentinel = Server::start_sentinel(free_port(), ports[0], &replicating);
    let clustered = format!("{} --tls-cluster yes", certificates.settings(ports[2]));
    let member = Cluster::server(&clustered);
    member.admin::<()>("CLUSTER ADDSLOTSRANGE 0 16383");
    eventually("the cluster is ready", || {
        member.admin::<String>("CLUSTER INFO").contains("cluster_state:ok")
    });
    let at = "fastgate:choose-one@127.0.0.1";
    for url in [
        format!("rediss://{at}:{}", ports[0]),
        format!("rediss+sentinel://{at}:{}/mymaster", ports[1]),
        format!("rediss+cluster://{at}:{}", ports[2]),
    ] {
        let with = |ca: Option<PathBuf>| {
            Limiter::new(&id("default"), Some(&settings(&url, ca))).expect("a limiter")
        };
        let (log, guard) = Log::begin();
        for ca in [None, Some(stranger.dir().join("ca.pem"))] {
            let limiter = with(ca);
            let _worker = limiter.for_worker();
            let seen = log.lines().len();
            until("is not trusted", || log.lines().len() > seen).await;
            let lines = log.lines();
            let last = lines.last().expect("a line");
            assert!(last.contains("invalid peer certificate"), "{url}: {last}");
            assert_eq!(limiter.state(), State::Fallback, "{url}");
        }
        drop(guard);
        let limiter = with(Some(certificates.dir().join("ca.pem")));
        let worker = limiter.for_worker();
        until(&url, || limiter.state() == State::Redis).await;
        assert!(admits(&worker, "k1", limit(60, Fallback::Closed)).await, "{url}");
    }
    assert!(one.admin::<String>("INFO commandstats").contains("cmdstat_evalsha"));
}

#[test]
fn a_ca_that_can_not_be_used_is_told_at_the_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("made");
    let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    for (name, text, fault) in [
        ("missing.pem", None, "can't read"),
        ("empty.pem", Some(String::new()), "holds no certificate"),
        ("key.pem", Some(key), "holds no certificate"),
        ("broken.pem", Some(pem.replacen("MII", "***", 1)), "that can't be read"),
    ] {
        let path = dir.path().join(name);
        if let Some(text) = text {
            std::fs::write(&path, text).expect("written");
        }
        let settings = settings("rediss://127.0.0.1", Some(path));
        let told = Limiter::new(&id("default"), Some(&settings)).err().expect(name).to_string();
        assert!(told.starts_with("--redis-ca: "), "{told}");
        assert!(told.contains(name) && told.contains(fault), "{told}");
    }
}
