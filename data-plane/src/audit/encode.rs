//! Writes events as protobuf, straight from what the request path left: no text is copied but into
//! the batch. The messages are `LogEvent` and `Batch` of the API; a test holds this to them.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, message},
};
use uuid::{Uuid, fmt::Hyphenated};

use super::{Event, batch::Gap};
use crate::identity::Identity;

/// A `Batch` under way.
pub(super) struct Encoder<'a> {
    identity: &'a Identity,
    batch: Vec<u8>,
    /// The event being written, whose length must be known before it.
    event: Vec<u8>,
}

impl<'a> Encoder<'a> {
    /// A batch of this node that begins with the event of this number, and will have about so many
    /// bytes.
    pub(super) fn new(identity: &'a Identity, first_seq: u64, len: usize) -> Self {
        let mut batch = Vec::with_capacity(len);
        let Identity { node_id, boot_id, environment } = identity;
        begin(&mut batch, (node_id.as_str(), *boot_id, environment.as_str()), first_seq);
        Self { identity, batch, event: Vec::new() }
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.batch.len()
    }

    /// Adds an event.
    pub(super) fn push(&mut self, event: &Event) {
        let out = &mut self.event;
        out.clear();
        let key = event.key.as_ref();
        message::encode(1, &prost_types::Timestamp::from(event.timestamp), out);
        text(out, 2, event.texts.request_id());
        text(out, 3, key.map_or(&[], |key| key.key_id().as_bytes()));
        text(out, 4, key.map_or(&[], |key| key.source_path().as_bytes()));
        text(out, 5, event.method.as_str().as_bytes());
        any_text(out, 6, event.texts.path());
        text(out, 7, event.target_url.as_deref().unwrap_or_default().as_bytes());
        number(out, 8, u64::from(event.status.as_u16()));
        milliseconds(out, 9, event.response_time);
        number(out, 10, event.request_size);
        number(out, 11, event.response_size);
        any_text(out, 12, event.texts.user_agent());
        address(out, 13, event.ip_address);
        text(out, 14, self.identity.environment.as_str().as_bytes());
        text(out, 15, self.identity.node_id.as_str().as_bytes());
        text(out, 16, event.route_id.as_ref().map_or(&[], |id| id.as_str().as_bytes()));
        milliseconds(out, 17, event.upstream_time);
        milliseconds(out, 18, event.ttfb);
        number(out, 19, u64::from(event.attempts));
        text(out, 20, event.error.unwrap_or_default().as_bytes());
        number(out, 21, u64::from(event.rate_limited));
        number(out, 22, u64::from(event.secret_version));
        delimited(&mut self.batch, 5, &self.event);
    }

    /// The event added last, as a `LogEvent`.
    pub(super) fn last(&self) -> &[u8] {
        &self.event
    }

    /// The whole batch, which tells of these events before it.
    pub(super) fn finish(mut self, gaps: &[Gap]) -> Bytes {
        tell(&mut self.batch, gaps);
        self.batch.into()
    }
}

/// A batch without events, which tells what is lost of a boot.
pub(super) fn last_words(whose: (&str, Uuid, &str), first_seq: u64, gaps: &[Gap]) -> Bytes {
    let mut batch = Vec::new();
    begin(&mut batch, whose, first_seq);
    tell(&mut batch, gaps);
    batch.into()
}

/// What is read of a batch of an earlier boot: all but its events, which may be many.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Opening {
    #[prost(string, tag = "1")]
    pub(super) node_id: String,
    #[prost(string, tag = "3")]
    pub(super) environment: String,
    #[prost(uint64, tag = "4")]
    pub(super) first_seq: u64,
    #[prost(message, repeated, tag = "6")]
    pub(super) gaps: Vec<ToldGap>,
}

/// A gap as it is written.
#[derive(Clone, PartialEq, Message)]
pub(super) struct ToldGap {
    #[prost(uint64, tag = "1")]
    pub(super) first_seq: u64,
    #[prost(uint64, tag = "2")]
    pub(super) events: u64,
    #[prost(string, tag = "3")]
    pub(super) reason: String,
}

fn begin(batch: &mut Vec<u8>, (node_id, boot, environment): (&str, Uuid, &str), first_seq: u64) {
    text(batch, 1, node_id.as_bytes());
    let mut space = [0; Hyphenated::LENGTH];
    text(batch, 2, boot.hyphenated().encode_lower(&mut space).as_bytes());
    text(batch, 3, environment.as_bytes());
    number(batch, 4, first_seq);
}

fn tell(batch: &mut Vec<u8>, gaps: &[Gap]) {
    for Gap { first_seq, events, reason } in gaps {
        let reason = reason.name().to_owned();
        message::encode(6, &ToldGap { first_seq: *first_seq, events: *events, reason }, batch);
    }
}

/// What a client wrote may hold any byte above 0x7F, stored text may not.
fn any_text(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(sound) => text(out, tag, sound.as_bytes()),
        Err(_) => text(out, tag, String::from_utf8_lossy(bytes).as_bytes()),
    }
}

fn text(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    if !bytes.is_empty() {
        delimited(out, tag, bytes);
    }
}

fn delimited(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn number(out: &mut Vec<u8>, tag: u32, number: u64) {
    if number != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(number, out);
    }
}

/// To the microsecond: what is beyond it says nothing.
fn milliseconds(out: &mut Vec<u8>, tag: u32, duration: Duration) {
    let milliseconds = duration.as_micros() as f64 / 1000.0;
    if milliseconds > 0.0 {
        encode_key(tag, WireType::SixtyFourBit, out);
        out.extend_from_slice(&milliseconds.to_le_bytes());
    }
}

fn address(out: &mut Vec<u8>, tag: u32, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let mut bytes = Vec::with_capacity("255.255.255.255".len());
            for octet in address.octets() {
                bytes.extend_from_slice(itoa::Buffer::new().format(octet).as_bytes());
                bytes.push(b'.');
            }
            bytes.pop();
            text(out, tag, &bytes);
        }
        IpAddr::V6(address) => text(out, tag, address.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{Texts, batch::Reason},
        keys::HeldKey,
        record::Record,
    };
    use fastgate::{
        admin::v1::LogEvent,
        model::Id,
        node::v1::{self, Batch, KeyRecord, SecretRecord},
    };
    use http::{Method, StatusCode};

    fn id(text: &str) -> Id {
        Id::parse(text).expect("an id")
    }

    fn event() -> Event {
        let record = KeyRecord {
            key_id: "k1".into(),
            source_path: "mobile_app".into(),
            secrets: vec![SecretRecord { version: 2, hash: vec![7; 32], ..Default::default() }],
            ..Default::default()
        };
        Event {
            timestamp: std::time::UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
            texts: Texts::new(b"r-1", b"/p", b"a\xffb"),
            key: Some(HeldKey::of(Record::new(1, "k1", &record.encode_to_vec()))),
            secret_version: 2,
            route_id: Some(id("route")),
            method: Method::PATCH,
            target_url: Some("http://up:80".into()),
            status: StatusCode::TOO_MANY_REQUESTS,
            response_time: Duration::from_micros(1_234_567),
            ttfb: Duration::from_micros(345),
            upstream_time: Duration::from_micros(12),
            request_size: u64::MAX,
            response_size: 300,
            ip_address: "192.0.2.1".parse().expect("an address"),
            attempts: 3,
            error: Some("rate_limited"),
            rate_limited: true,
        }
    }

    fn nothing() -> Event {
        Event {
            texts: Texts::default(),
            key: None,
            secret_version: 0,
            route_id: None,
            target_url: None,
            response_time: Duration::ZERO,
            ttfb: Duration::ZERO,
            upstream_time: Duration::ZERO,
            request_size: 0,
            response_size: 0,
            ip_address: "2001:db8::1".parse().expect("an address"),
            attempts: 0,
            error: None,
            rate_limited: false,
            ..event()
        }
    }

    #[test]
    fn a_batch_is_what_the_api_says_it_is() {
        let identity = Identity::of_this_boot(id("default"), id("node-1"));
        let mut encoder = Encoder::new(&identity, 7, 0);
        encoder.push(&event());
        encoder.push(&nothing());
        let gaps = [Gap::of((1, 3), Reason::Damaged), Gap::of((4, 7), Reason::Dropped)];
        let encoded = encoder.finish(&gaps);
        let batch = Batch::decode(&*encoded).expect("a batch");
        let wire = LogEvent {
            timestamp: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_789 }),
            method: "PATCH".into(),
            status_code: 429,
            environment: "default".into(),
            node_id: "node-1".into(),
            ..Default::default()
        };
        let first = LogEvent {
            request_id: "r-1".into(),
            key_id: "k1".into(),
            source_path: "mobile_app".into(),
            path: "/p".into(),
            target_url: "http://up:80".into(),
            response_time_ms: 1234.567,
            request_size: u64::MAX,
            response_size: 300,
            user_agent: "a\u{fffd}b".into(),
            ip_address: "192.0.2.1".into(),
            route_id: "route".into(),
            upstream_time_ms: 0.012,
            ttfb_ms: 0.345,
            attempts: 3,
            error: "rate_limited".into(),
            rate_limited: true,
            secret_version: 2,
            ..wire.clone()
        };
        let second = LogEvent { ip_address: "2001:db8::1".into(), ..wire };
        let sent = Batch {
            node_id: "node-1".into(),
            boot_id: identity.boot_id.to_string(),
            environment: "default".into(),
            first_seq: 7,
            events: vec![first, second],
            gaps: [(1, 2, "damaged"), (4, 3, "dropped")]
                .map(|(first_seq, events, reason)| v1::Gap {
                    first_seq,
                    events,
                    reason: reason.into(),
                })
                .into(),
        };
        assert_eq!(batch, sent);
        let read = Opening::decode(encoded).expect("the same batch");
        assert_eq!((&*read.node_id, &*read.environment, read.first_seq), ("node-1", "default", 7));
        let whose = (&*batch.node_id, identity.boot_id, &*batch.environment);
        let last = Batch::decode(last_words(whose, 7, &gaps)).expect("a batch");
        assert_eq!(last, Batch { events: Vec::new(), ..batch });
        assert_eq!(read.gaps.len(), last.gaps.len());
    }
}
