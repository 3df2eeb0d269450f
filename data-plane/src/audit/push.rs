//! One stream of batches to the control plane, and its acknowledgements.

use bytes::{BufMut, Bytes};
use fastgate::node::v1::BatchAck;
use http::{Uri, uri::PathAndQuery};
use thiserror::Error;
use tokio::{
    sync::mpsc,
    time::{interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status,
    client::Grpc,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

use super::{
    batch::Sealed,
    refusal::Refusal,
    tail::Tails,
    window::{Window, WrongAck},
};
use crate::{
    control_planes::ControlPlanes,
    dial::{self, SILENCE},
};

/// Batches sent and not read by the connection yet: its flow control decides what is under way.
const QUEUE: usize = 4;

/// Why a stream ended.
#[derive(Debug, Error)]
pub(super) enum Lost {
    #[error("can't be reached: {0}")]
    Unreachable(String),
    #[error("refused the audit events: {0}")]
    Refused(String),
    #[error("left without a word: {0}")]
    Broke(String),
    #[error("did not acknowledge audit events for {} seconds", SILENCE.as_secs())]
    Silent,
    #[error("closed the audit stream")]
    Closed,
    #[error("is to see the node's new certificate")]
    Outdated,
    #[error("acknowledged a batch out of turn")]
    OutOfTurn,
    #[error("will never store a batch of audit events: {}", .0.why)]
    Batch(Refusal),
}

/// Sends what is in the window until the stream is lost; `stored` is told of every batch that is safe.
/// Tails are served over the same connection meanwhile, and hold nothing up.
pub(super) async fn push(
    control_planes: &ControlPlanes,
    uri: &Uri,
    window: &Window,
    tails: &Tails,
    mut stored: impl FnMut(&Sealed),
) -> Result<std::convert::Infallible, Lost> {
    let mut connected = control_planes.connect(uri).await.map_err(Lost::Unreachable)?;
    let channel = connected.channel.clone();
    let (outbound, batches) = mpsc::channel(QUEUE);
    let mut tailing = Box::pin(tails.serve(channel.clone()));
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|fault| Lost::Unreachable(fault.to_string()))?;
    let path = PathAndQuery::from_static("/fastgate.node.v1.AuditIngest/Push");
    let request = Request::new(ReceiverStream::new(batches));
    // Before anything goes out: a control plane may answer only when the first batch is stored.
    window.rewind();
    let mut opening = Box::pin(grpc.streaming(request, path, BatchCodec));
    let mut feed = Box::pin(feed(&outbound, window));
    let response = tokio::select! {
        response = timeout(SILENCE, &mut opening) => response.map_err(|_| Lost::Silent)?,
        lost = &mut feed => return Err(lost),
    };
    let mut acks = response.map_err(refused)?.into_inner();
    let mut patience = interval(SILENCE / 4);
    loop {
        tokio::select! {
            ack = acks.message() => {
                let ack: BatchAck = ack.map_err(refused)?.ok_or(Lost::Closed)?;
                let batch = window.acknowledge(ack.first_seq);
                stored(&batch.map_err(|WrongAck| Lost::OutOfTurn)?);
            }
            lost = &mut feed => return Err(lost),
            never = &mut tailing => match never {},
            () = connected.outdated() => return Err(Lost::Outdated),
            _ = patience.tick() => {
                if window.waiting_since().is_some_and(|since| since.elapsed() >= SILENCE) {
                    return Err(Lost::Silent);
                }
            }
        }
    }
}

/// Hands batches to the connection as fast as it takes them.
async fn feed(outbound: &mpsc::Sender<Bytes>, window: &Window) -> Lost {
    loop {
        let Ok(place) = outbound.reserve().await else { return Lost::Closed };
        place.send(window.next().await.encoded);
    }
}

fn refused(status: Status) -> Lost {
    match (Refusal::of(&status), dial::broke(&status)) {
        (Some(refusal), _) => Lost::Batch(refusal),
        (None, Some(why)) => Lost::Broke(why),
        (None, None) => Lost::Refused(dial::refusal(&status)),
    }
}

/// Sends batches that are encoded already: the memory they take is known, and sending one again
/// costs nothing.
struct BatchCodec;

impl Codec for BatchCodec {
    type Encode = Bytes;
    type Decode = BatchAck;
    type Encoder = AsIs;
    type Decoder = ProstDecoder<BatchAck>;

    fn encoder(&mut self) -> Self::Encoder {
        AsIs
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::default())
    }
}

struct AsIs;

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}
