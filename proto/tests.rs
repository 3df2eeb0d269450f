//! What nodes and control planes say to each other, byte by byte, as version 1 does: `proto/tests/v1` holds it. Whoever
//! changes a message so that these bytes mean something else has a new version, and nodes that
//! can't be brought up to date at the same moment as control planes.
//!
//! The files are never written again. `FASTGATE_GOLDEN=write` writes those that are missing, of new
//! messages; the planes' own tests (`skew.rs`) show what the other version comes to.

mod samples;

use std::{env, fs, path::PathBuf};

use prost::{
    Message as _,
    encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint},
};
use prost_reflect::{DescriptorPool, Kind, MessageDescriptor};

use self::samples::{Sample, entities, samples};
use crate::{
    FILE_DESCRIPTOR_SET,
    digest::Digest,
    model::KeyView,
    node::v1::{EntityKind, KeyRecord},
};

fn golden(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|fault| panic!("{name}: {fault}"))
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("proto/tests/v1")
        .join(name)
        .with_extension("bin")
}

fn descriptors() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("descriptors")
}

/// The same message with fields nobody knows yet, in all messages within it as well.
fn grown(mut bytes: &[u8], of: &MessageDescriptor) -> Vec<u8> {
    let mut out = unknown_fields();
    while !bytes.is_empty() {
        let (number, wire) = decode_key(&mut bytes).expect("a key");
        let field = of.get_field(number).expect("a field that is known");
        encode_key(number, wire, &mut out);
        let before = bytes;
        let length = match wire {
            WireType::LengthDelimited => {
                let length = decode_varint(&mut bytes).expect("a length");
                let (content, rest) = bytes.split_at(usize::try_from(length).expect("a length"));
                bytes = rest;
                let content = match field.kind() {
                    Kind::Message(inner) => grown(content, &inner),
                    _ => content.to_vec(),
                };
                encode_varint(content.len() as u64, &mut out);
                out.extend(content);
                continue;
            }
            WireType::Varint => {
                decode_varint(&mut bytes).expect("a number");
                before.len() - bytes.len()
            }
            WireType::ThirtyTwoBit => 4,
            WireType::SixtyFourBit => 8,
            WireType::StartGroup | WireType::EndGroup => panic!("groups are gone"),
        };
        out.extend(&before[..length]);
        bytes = &before[length..];
    }
    out.extend(unknown_fields());
    out
}

/// One of each kind there is.
fn unknown_fields() -> Vec<u8> {
    let mut out = Vec::new();
    encode_key(1001, WireType::Varint, &mut out);
    encode_varint(7, &mut out);
    encode_key(1002, WireType::SixtyFourBit, &mut out);
    out.extend([7; 8]);
    encode_key(1003, WireType::LengthDelimited, &mut out);
    encode_varint(3, &mut out);
    out.extend(b"new");
    encode_key(1004, WireType::ThirtyTwoBit, &mut out);
    out.extend([7; 4]);
    out
}

#[test]
fn version_1_is_written_and_read_as_it_was() {
    for Sample { name, encoded, decoded, decode, .. } in samples() {
        if env::var("FASTGATE_GOLDEN").is_ok_and(|what| what == "write") && !path(name).exists() {
            fs::write(path(name), &encoded).expect("writes");
        }
        let golden = golden(name);
        assert_eq!(decode(&golden), decoded, "{name} is read as something else");
        assert_eq!(encoded, golden, "{name} is written as something else");
    }
}

#[test]
fn what_a_newer_version_adds_is_passed_over() {
    let pool = descriptors();
    for Sample { name, message, decoded, decode, .. } in samples() {
        let of = pool.get_message_by_name(message).expect(message);
        assert_eq!(decode(&grown(&golden(name), &of)), decoded, "{name}");
    }
}

#[test]
fn every_message_of_the_node_port_has_a_sample() {
    let pool = descriptors();
    let samples = samples();
    let services = pool.services().filter(|it| it.package_name() == "fastgate.node.v1");
    for method in services.flat_map(|service| service.methods().collect::<Vec<_>>()) {
        for message in [method.input(), method.output()] {
            let name = message.full_name();
            let mut known = samples.iter().filter(|sample| sample.message == name);
            assert!(known.next().is_some(), "{name} has none");
        }
        // Of what is one of several, each.
        let messages = [method.input(), method.output()];
        for oneof in messages.iter().flat_map(MessageDescriptor::oneofs) {
            let (of, fields) = (oneof.parent_message().full_name().to_owned(), oneof.fields());
            let samples: Vec<_> = samples.iter().filter(|sample| sample.message == of).collect();
            for field in fields {
                let mut numbers = samples.iter().map(|sample| decode_key(&mut &sample.encoded[..]));
                let is_it =
                    |key: Result<(u32, _), _>| key.is_ok_and(|(it, _)| it == field.number());
                assert!(numbers.any(is_it), "{} has none", field.full_name());
            }
        }
    }
}

#[test]
fn the_digest_of_version_1_is_what_it_was() {
    let digest: Digest = entities().into_iter().collect();
    assert_eq!(digest.to_string(), "e4ad865e105387c790a6ec6f98d92058");
}

#[test]
fn a_key_is_viewed_through_what_a_newer_version_adds() {
    let of = descriptors().get_message_by_name("fastgate.node.v1.KeyRecord").expect("is known");
    let key = entities().into_iter().find(|entity| entity.kind() == EntityKind::Key);
    let value = key.expect("a key").value;
    let record = KeyRecord::decode(value.clone()).expect("a record");
    let newer = grown(&value, &of);
    let view = KeyView::new(&newer);
    assert_eq!(view.source_path(), record.source_path);
    assert_eq!(view.plan_id(), record.plan_id);
    assert_eq!(view.permissions().collect::<Vec<_>>(), record.permissions);
}
