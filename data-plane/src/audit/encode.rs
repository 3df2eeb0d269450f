//! Writes events as protobuf, straight from what the request path left: no text is copied but into
//! the batch. The messages are `LogEvent` and `Batch` of the API; a test holds this to them.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use prost::{
    Message,
    encoding::{WireType, encode_key, encode_varint, message},
};
use uuid::{Uuid, fmt::Hyphenated};

use super::{Event, batch::Gap, redact};
use crate::{
    identity::Identity,
    recorded::{Recorded, Tap},
};

/// Writes one `Batch` after another, in room that it keeps.
pub(super) struct Encoder {
    identity: Arc<Identity>,
    /// The batch under way.
    batch: Vec<u8>,
    /// The event being written, whose length must be known before it.
    event: Vec<u8>,
    /// The same of a part of it.
    part: Vec<u8>,
}

impl Encoder {
    /// Writes batches of this node.
    pub(super) fn new(identity: Arc<Identity>) -> Self {
        Self { identity, batch: Vec::new(), event: Vec::new(), part: Vec::new() }
    }

    /// Whose batches it writes.
    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Begins a batch with the event of this number.
    pub(super) fn begin(&mut self, first_seq: u64) {
        let Identity { node_id, boot_id, environment } = &*self.identity;
        self.batch.clear();
        begin(&mut self.batch, (node_id.as_str(), *boot_id, environment.as_str()), first_seq);
    }

    /// Bytes of the batch so far.
    pub(super) fn len(&self) -> usize {
        self.batch.len()
    }

    /// Adds an event.
    pub(super) fn push(&mut self, event: &Event) {
        if event.is_counted_only {
            return self.count(event);
        }
        let out = &mut self.event;
        out.clear();
        let key = event.key.as_ref();
        moment(out, 1, event.timestamp);
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
        number(out, 23, u64::from(event.chunks));
        text(out, 24, event.ending.name().as_bytes());
        if let Some(recorded) = &event.recorded {
            put_recorded(out, &mut self.part, recorded);
        }
        delimited(&mut self.batch, 5, &self.event);
    }

    /// The event added last, as a `LogEvent`.
    pub(super) fn last(&self) -> &[u8] {
        &self.event
    }

    /// Adds what is counted of an event: all that sums are told apart by or made of.
    fn count(&mut self, event: &Event) {
        let out = &mut self.event;
        out.clear();
        let key = event.key.as_ref();
        moment(out, 1, event.timestamp);
        text(out, 3, key.map_or(&[], |key| key.key_id().as_bytes()));
        text(out, 4, key.map_or(&[], |key| key.source_path().as_bytes()));
        text(out, 7, event.target_url.as_deref().unwrap_or_default().as_bytes());
        number(out, 8, u64::from(event.status.as_u16()));
        milliseconds(out, 9, event.response_time);
        number(out, 10, event.request_size);
        number(out, 11, event.response_size);
        text(out, 16, event.route_id.as_ref().map_or(&[], |id| id.as_str().as_bytes()));
        text(out, 20, event.error.unwrap_or_default().as_bytes());
        number(out, 21, u64::from(event.rate_limited));
        delimited(&mut self.batch, 7, &self.event);
    }

    /// The whole batch, which tells of these events before it, in memory of just its
    /// size: what waits to be stored takes no more than the bytes it is counted with.
    pub(super) fn finish(&mut self, gaps: &[Gap]) -> Bytes {
        tell(&mut self.batch, gaps);
        // A batch seldom is as long as the longest one, which came after a pause.
        self.batch.shrink_to(2 * self.batch.len());
        Bytes::copy_from_slice(&self.batch)
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

/// Adds what a route asks for, without its secrets.
fn put_recorded(out: &mut Vec<u8>, part: &mut Vec<u8>, recorded: &Recorded) {
    let rules = &recorded.rules;
    let headers = [
        (25, &recorded.request_headers, &rules.request_headers),
        (26, &recorded.response_headers, &rules.response_headers),
    ];
    for (tag, headers, names) in headers {
        headers.each(names, |name, value| {
            part.clear();
            text(part, 1, name.as_bytes());
            any_text(part, 2, value);
            delimited(out, tag, part);
        });
    }
    for (tag, tap) in [(27, &recorded.request_body), (28, &recorded.response_body)] {
        let Some(body) = tap.as_deref().and_then(Tap::body) else { continue };
        part.clear();
        any_text(part, 1, body.content_type);
        match redact::text(&body, &rules.redact) {
            Ok(kept) => {
                text(part, 2, kept.as_bytes());
                number(part, 3, u64::from(body.is_cut));
            }
            Err(omitted) => {
                number(part, 3, u64::from(body.is_cut));
                text(part, 4, omitted.name().as_bytes());
            }
        }
        delimited(out, tag, part);
    }
}

/// What a client wrote may hold any byte, which stored text may not: of what is no UTF-8, and of NUL,
/// which Postgres takes in no text, it is left that there was something.
fn any_text(out: &mut Vec<u8>, tag: u32, bytes: &[u8]) {
    match str::from_utf8(bytes) {
        Ok(sound) if !bytes.contains(&0) => text(out, tag, sound.as_bytes()),
        _ => {
            let sound = String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
            text(out, tag, sound.as_bytes());
        }
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

/// To the microsecond: what is stored and what sinks get is one time.
fn moment(out: &mut Vec<u8>, tag: u32, time: SystemTime) {
    let mut time = prost_types::Timestamp::from(time);
    time.nanos -= time.nanos % 1000;
    message::encode(tag, &time, out);
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
    use std::sync::Arc;

    use crate::{
        audit::{Ending, Texts, batch::Reason},
        framing::Framing,
        head::{Index, Lines},
        keys::HeldKey,
        record::Record,
        recorded::Room,
    };
    use fastgate::{
        admin::{
            self,
            v1::{LogEvent, RecordedBody, RecordedHeader},
        },
        model::{Id, Recording},
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
            texts: Texts::new(b"r-1", b"/p\0", b"a\xffb"),
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
            ending: Ending::Complete,
            is_counted_only: false,
            chunks: 7,
            recorded: None,
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
            chunks: 0,
            error: None,
            rate_limited: false,
            ending: Ending::UpstreamBrokeOff,
            ..event()
        }
    }

    /// What is recorded of a request with these lines, and this body of it and of its answer.
    fn recorded(rules: &admin::v1::Recording, body: &[u8]) -> Box<Recorded> {
        let rules = Arc::new(Recording::parse(rules).expect("rules"));
        let (mut bytes, mut index) = (Vec::new(), Index::default());
        for (name, value) in [
            ("X-Tenant", "aü"),
            ("Authorization", "Bearer opens-it"),
            ("x-other", "not asked for"),
            ("x-tenant", "b"),
            ("Content-Type", "application/json"),
            ("x_api_key", "opens-it"),
        ] {
            index.push(&mut bytes, name.as_bytes(), value.as_bytes());
        }
        let lines = Lines::new(&bytes, &index);
        let mut recorded = Recorded::begin(&rules, &Room::default(), lines);
        let framing = Framing::Length(body.len() as u64);
        let mut request = recorded.request_tap(lines, framing);
        recorded.answer_begins(lines, framing);
        for tap in [&mut request, &mut recorded.response_body].into_iter().flatten() {
            tap.see(body);
            tap.end();
        }
        recorded.see_answer_line(b"Set-Cookie", b"opens-it");
        recorded.see_answer_line(b"date", "x".repeat(600).as_bytes());
        recorded.see_answer_line(b"date", b"y");
        recorded.ends(request, true);
        recorded
    }

    #[test]
    fn what_a_route_asks_for_is_written_without_its_secrets() {
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).into()).collect();
        let rules = admin::v1::Recording {
            request_headers: texts(&["x-tenant", "authorization", "x_api_key", "absent"]),
            response_headers: texts(&["set-cookie", "Date"]),
            request_body_bytes: 64,
            response_body_bytes: 10,
            redact: texts(&["$.password"]),
            ..Default::default()
        };
        let identity = Identity::of_this_boot(id("default"), id("node-1"));
        let mut encoder = Encoder::new(identity.into());
        encoder.begin(0);
        let body = br#"{"user":"u","password":"opens-it"}"#;
        encoder.push(&Event { recorded: Some(recorded(&rules, body)), ..event() });
        let bytes = encoder.finish(&[]);
        assert!(!String::from_utf8_lossy(&bytes).contains("opens-it"));
        let event = Batch::decode(bytes).expect("a batch").events.remove(0);
        let pairs = |headers: &[RecordedHeader]| -> Vec<_> {
            headers.iter().map(|header| (header.name.clone(), header.value.clone())).collect()
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            pairs(&event.request_headers),
            [
                pair("x-tenant", "aü"),
                pair("authorization", "[redacted]"),
                pair("x-tenant", "b"),
                pair("x_api_key", "[redacted]"),
            ],
        );
        assert_eq!(
            pairs(&event.response_headers),
            [pair("set-cookie", "[redacted]"), pair("date", &"x".repeat(512))],
        );
        let json = |text: &str, truncated, omitted: &str| {
            Some(RecordedBody {
                content_type: "application/json".into(),
                text: text.into(),
                truncated,
                omitted: omitted.into(),
            })
        };
        let kept = r#"{"password":"[redacted]","user":"u"}"#;
        assert_eq!(event.request_body, json(kept, false, ""));
        assert_eq!(event.response_body, json("", true, "truncated"));
    }

    #[test]
    fn what_is_only_counted_holds_what_is_counted() {
        let identity = Identity::of_this_boot(id("default"), id("node-1"));
        let mut encoder = Encoder::new(identity.into());
        encoder.begin(0);
        encoder.push(&Event { is_counted_only: true, ..event() });
        encoder.push(&nothing());
        let batch = Batch::decode(encoder.finish(&[])).expect("a batch");
        let counted = LogEvent {
            timestamp: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_000 }),
            key_id: "k1".into(),
            source_path: "mobile_app".into(),
            target_url: "http://up:80".into(),
            status_code: 429,
            response_time_ms: 1234.567,
            request_size: u64::MAX,
            response_size: 300,
            route_id: "route".into(),
            error: "rate_limited".into(),
            rate_limited: true,
            ..Default::default()
        };
        assert_eq!((batch.counted, batch.events.len()), (vec![counted], 1));
    }

    #[test]
    fn a_batch_is_what_the_api_says_it_is() {
        let identity = Identity::of_this_boot(id("default"), id("node-1"));
        let mut encoder = Encoder::new(identity.clone().into());
        encoder.begin(7);
        encoder.push(&event());
        encoder.push(&nothing());
        let gaps = [Gap::of((1, 3), Reason::Damaged), Gap::of((4, 7), Reason::Dropped)];
        let encoded = encoder.finish(&gaps);
        let batch = Batch::decode(&*encoded).expect("a batch");
        let wire = LogEvent {
            timestamp: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_456_000 }),
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
            path: "/p\u{fffd}".into(),
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
            response_chunks: 7,
            response_end: "complete".into(),
            ..wire.clone()
        };
        let second = LogEvent {
            ip_address: "2001:db8::1".into(),
            response_end: "upstream_broke_off".into(),
            ..wire
        };
        let sent = Batch {
            node_id: "node-1".into(),
            boot_id: identity.boot_id.to_string(),
            environment: "default".into(),
            first_seq: 7,
            events: vec![first, second],
            counted: Vec::new(),
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
