//! Nodes that read slowly or not at all: they hold up nobody, themselves least of all.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use fastgate::{
    admin::v1,
    digest::Digest,
    node::v1::{Namespace, node_message::Body},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket},
    sync::watch,
};
use tonic::Code;

use super::{
    Wire, World, id, key,
    model::{Node, Step, Stream},
};
use crate::domain::{Expect, Op, Upstream};

const KEYS: Namespace = Namespace::Keys;
const CONFIG: Namespace = Namespace::Config;

/// Some six megabytes of config and a key, and a node that has all keys and has read no further
/// than the first chunk of the config.
async fn within_a_snapshot() -> (World, Stream) {
    let world = World::start().await;
    world.commit("default", (0..100).map(large_upstream).collect()).await;
    world.add_key("k1").await;
    world.settle().await;
    let mut stream = Node::new("default").connect(&world.plane).await;
    stream.take(KEYS, 1).await;
    stream.read_into_snapshot(CONFIG).await;
    // What fits on the way is on its way.
    tokio::time::sleep(Duration::from_millis(200)).await;
    (world, stream)
}

fn large_upstream(n: usize) -> Op {
    let target = |at: usize| v1::Target {
        url: format!("http://127.0.0.1:1/{at}/{}", "x".repeat(1000)),
        ..v1::Target::default()
    };
    let targets = (0..64).map(target).collect();
    let wire = v1::Upstream { upstream_id: format!("up{n}"), targets, ..v1::Upstream::default() };
    Op::PutUpstream(Box::new(Upstream::parse(wire).expect("an upstream")), Expect::Absent)
}

#[tokio::test]
async fn a_revocation_goes_out_between_the_chunks_of_the_config() {
    let (world, mut stream) = within_a_snapshot().await;
    let mut revoked = key("k1");
    revoked.is_active = false;
    // Two in a row: the second waits for the node's word on the first, and for no more than that.
    for change in [Op::PutKey(revoked, Expect::Present), Op::DeleteKey(id("k1"), Expect::Present)] {
        let revision = world.commit("default", vec![change]).await.keys_revision;
        world.settle().await;
        let chunks = stream.chunks;
        let step = stream.step().await;
        assert!(matches!(&step, Step::Delta(delta) if Some(delta.to) == revision), "{step:?}");
        let chunks = stream.chunks - chunks;
        println!("the revocation came after {chunks} of some 100 chunks");
        assert!(chunks <= 6, "{chunks} chunks came first");
        stream.hold(&step).await;
    }
    let step = stream.step().await;
    assert!(matches!(step, Step::Snapshot(CONFIG, _)), "goes on where it was: {step:?}");
    stream.hold(&step).await;
    let revision = world.add_upstream("more").await;
    stream.take(CONFIG, revision).await;
}

#[tokio::test]
async fn a_revocation_waits_for_no_more_than_a_slow_link_has_taken() {
    let world = World::start().await;
    world.commit("default", (0..100).map(large_upstream).collect()).await;
    world.add_key("k1").await;
    world.settle().await;
    // A node ready to take megabytes, on a link that stops in the midst of them.
    let (link, carries) = link(world.plane.address, 256 << 10).await;
    let wire = Wire::dial(link, 4 << 20).await;
    wire.say(Body::Hello(Node::new("default").hello())).await;
    let mut stream = Node::new("default").on(wire);
    stream.take(KEYS, 1).await;
    stream.read_into_snapshot(CONFIG).await;
    tokio::time::sleep(Duration::from_millis(500)).await;

    let revoke = Op::DeleteKey(id("k1"), Expect::Present);
    let revision = world.commit("default", vec![revoke]).await.keys_revision;
    world.settle().await;
    carries.send_replace(usize::MAX);
    let step = stream.step().await;
    assert!(matches!(&step, Step::Delta(delta) if Some(delta.to) == revision), "{step:?}");
    println!("the revocation came after {} of some 100 chunks", stream.chunks);
    assert!(stream.chunks <= 12, "{} chunks came first", stream.chunks);
}

/// A way to an address that carries so many bytes back and then waits until it may carry more.
async fn link(to: SocketAddr, first: usize) -> (SocketAddr, watch::Sender<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (carries, mut may_carry) = watch::channel(first);
    tokio::spawn(async move {
        let (mut here, _) = listener.accept().await.expect("accepts");
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 << 10).expect("set");
        let mut there = socket.connect(to).await.expect("connects");
        let ((mut from, mut back), (mut answers, mut asked)) = (here.split(), there.split());
        let forth = tokio::io::copy(&mut from, &mut asked);
        let back = async {
            let mut carried = 0;
            let mut bytes = vec![0; 16 << 10];
            loop {
                may_carry.wait_for(|limit| carried < *limit).await?;
                let read = answers.read(&mut bytes).await?;
                back.write_all(&bytes[..read]).await?;
                carried += read;
            }
        };
        let _: Result<_, Box<dyn std::error::Error + Send + Sync>> = tokio::select! { copied = forth => copied.map(drop).map_err(Into::into), carried = back => carried };
    });
    (address, carries)
}

#[tokio::test]
async fn a_node_hears_how_many_there_are_within_a_snapshot() {
    let (world, mut stream) = within_a_snapshot().await;
    let _other = Node::new("default").named("n2").connect(&world.plane).await;
    while stream.heartbeat().await.node_count != 2 {}
    let step = stream.step().await;
    assert!(matches!(step, Step::Snapshot(CONFIG, _)), "{step:?}");
}

#[tokio::test]
async fn an_answer_before_the_end_of_a_snapshot_is_refused() {
    let (_world, mut stream) = within_a_snapshot().await;
    stream.nack(CONFIG, 1).await;
    stream.ack(CONFIG, 1, Digest::default()).await;
    assert_eq!(stream.end().await, Some(Code::InvalidArgument));
}

#[tokio::test]
async fn who_takes_over_waits_for_nothing_the_older_stream_does_not_read() {
    let (world, mut older) = within_a_snapshot().await;
    let begun = Instant::now();
    let newer = older.node.clone().connect(&world.plane).await;
    let chunks = older.chunks;
    assert_eq!(older.end().await, Some(Code::Aborted));
    println!("ended after {:?}, {} chunks on", begun.elapsed(), older.chunks - chunks);
    assert!(older.chunks - chunks <= 6, "the rest stayed where it was");
    drop(newer);
}

#[tokio::test]
async fn what_a_node_never_reads_is_given_up_with_its_connection() {
    let (world, mut older) = within_a_snapshot().await;
    let _newer = older.node.clone().connect(&world.plane).await;
    tokio::time::sleep(super::super::service::FAREWELL + Duration::from_secs(1)).await;
    let code = older.end().await;
    assert!(!matches!(code, None | Some(Code::Aborted)), "the connection broke: {code:?}");
}
