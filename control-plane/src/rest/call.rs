//! A gRPC call within this process.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use http::{
    HeaderMap, HeaderValue, Request, Response, Version,
    header::{AUTHORIZATION, CONTENT_TYPE, TE},
};
use http_body_util::{BodyExt as _, Full};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use tonic::{Code, Status, body::Body};

use super::endpoint::Endpoint;
use crate::gate::Gate;

/// What stands before a message on the wire: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

/// Calls a method through the gate, as the caller these headers name.
pub(super) async fn unary(
    gate: Gate,
    endpoint: &Endpoint,
    headers: &HeaderMap,
    message: &DynamicMessage,
) -> Result<DynamicMessage, Status> {
    let (_, body) = begin(gate, endpoint, headers, message).await?.into_parts();
    let body = body.collect().await?;
    if let Some(trailers) = body.trailers() {
        check(trailers)?;
    }
    let bytes = body.to_bytes();
    let reply = bytes.get(FRAME_HEAD..).unwrap_or_default();
    DynamicMessage::decode(endpoint.output.clone(), reply).map_err(|_| broken())
}

/// Calls a method that answers with messages without an end that is known, when it begins to.
pub(super) async fn begin(
    gate: Gate,
    endpoint: &Endpoint,
    headers: &HeaderMap,
    message: &DynamicMessage,
) -> Result<Response<Body>, Status> {
    let mut request = Request::new(Body::new(Full::new(frame(message))));
    *request.uri_mut() = endpoint.rpc.parse().map_err(|_| broken())?;
    *request.method_mut() = http::Method::POST;
    *request.version_mut() = Version::HTTP_2;
    let own = request.headers_mut();
    own.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    own.insert(TE, HeaderValue::from_static("trailers"));
    if let Some(authorization) = headers.get(AUTHORIZATION) {
        own.insert(AUTHORIZATION, authorization.clone());
    }
    let response = gate.answer(request).await;
    check(response.headers())?;
    Ok(response)
}

/// The messages of an answer, one after the other.
pub(super) struct Messages {
    kind: MessageDescriptor,
    body: Body,
    read: BytesMut,
}

impl Messages {
    pub(super) fn new(endpoint: &Endpoint, body: Body) -> Self {
        Self { kind: endpoint.output.clone(), body, read: BytesMut::new() }
    }

    /// `None` at the end, if it is a good one.
    pub(super) async fn next(&mut self) -> Result<Option<DynamicMessage>, Status> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(Some(message));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            match frame?.into_data() {
                Ok(data) => self.read.extend_from_slice(&data),
                Err(frame) => frame.trailers_ref().map_or(Ok(()), check)?,
            }
        }
    }

    /// The next message, if all of it was read.
    fn take(&mut self) -> Result<Option<DynamicMessage>, Status> {
        let Some((head, rest)) = self.read.split_first_chunk::<FRAME_HEAD>() else {
            return Ok(None);
        };
        let [_, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if rest.len() < length {
            return Ok(None);
        }
        self.read.advance(FRAME_HEAD);
        let message = DynamicMessage::decode(self.kind.clone(), self.read.split_to(length));
        message.map(Some).map_err(|_| broken())
    }
}

fn broken() -> Status {
    Status::internal("a call within the process broke")
}

fn frame(message: &DynamicMessage) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(FRAME_HEAD + length);
    frame.put_u8(0);
    // Bodies are far below 4 GiB; a length that did not fit would be refused as broken.
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    frame.put_slice(&message.encode_to_vec());
    frame.freeze()
}

fn check(headers: &HeaderMap) -> Result<(), Status> {
    match Status::from_header_map(headers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}
