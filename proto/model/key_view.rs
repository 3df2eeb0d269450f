//! A key as the bytes of its record: what a node asks of it now and then is read where it stands, so
//! that a million keys need no second form in memory. [`Key::parse`](super::Key::parse) says whether
//! a record is valid; of one that is, this says the same without allocating.

use std::num::NonZeroU64;

/// An encoded `fastgate.node.v1.KeyRecord`.
#[derive(Clone, Copy)]
pub struct KeyView<'a>(&'a [u8]);

impl<'a> KeyView<'a> {
    /// A view of an encoded record.
    #[must_use]
    pub fn new(record: &'a [u8]) -> Self {
        Self(record)
    }

    /// Who it was issued to.
    #[must_use]
    pub fn source_path(self) -> &'a str {
        self.texts(2).next().unwrap_or_default()
    }

    /// What it may do.
    pub fn permissions(self) -> impl Iterator<Item = &'a str> + Clone {
        self.texts(3)
    }

    /// The plan it is on; empty: none.
    #[must_use]
    pub fn plan_id(self) -> &'a str {
        self.texts(9).next().unwrap_or_default()
    }

    /// When its limits were made full again last, in milliseconds since 1970.
    #[must_use]
    pub fn limits_reset_at_ms(self) -> Option<NonZeroU64> {
        let numbers = Fields(self.0).filter_map(|(number, field)| match field {
            Field::Number(ms) if number == 10 => Some(ms),
            Field::Number(_) | Field::Bytes(_) => None,
        });
        numbers.last().and_then(NonZeroU64::new)
    }

    fn texts(self, number: u64) -> impl Iterator<Item = &'a str> + Clone {
        Fields(self.0).filter_map(move |(found, field)| match field {
            Field::Bytes(bytes) if found == number => std::str::from_utf8(bytes).ok(),
            Field::Bytes(_) | Field::Number(_) => None,
        })
    }
}

/// The fields of an encoded message in order, with their numbers. It ends where the message can't be
/// read.
#[derive(Clone, Copy)]
struct Fields<'a>(&'a [u8]);

/// What a field holds.
#[derive(Clone, Copy)]
enum Field<'a> {
    /// A varint.
    Number(u64),
    /// A text, a message, or a number of fixed length.
    Bytes(&'a [u8]),
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Field<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let tag = self.varint()?;
        let number = tag >> 3;
        // The wire types of https://protobuf.dev/programming-guides/encoding; groups are gone.
        let len = match tag & 7 {
            0 => return Some((number, Field::Number(self.varint()?))),
            1 => 8,
            2 => self.varint()?,
            5 => 4,
            _ => return None,
        };
        let (bytes, rest) = self.0.split_at_checked(usize::try_from(len).ok()?)?;
        self.0 = rest;
        Some((number, Field::Bytes(bytes)))
    }
}

impl Fields<'_> {
    fn varint(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;

    use super::*;
    use crate::node::v1;

    fn record() -> impl Strategy<Value = v1::KeyRecord> {
        let secret = (any::<u32>(), any::<[u8; 32]>(), prop::option::of(any::<i64>()));
        (
            "[a-z0-9][a-z0-9_-]{0,62}",
            "[A-Za-z0-9_./:@-]{1,200}",
            prop::collection::vec("[a-z]{1,9}(:\\*)?", 0..5),
            prop::option::of(any::<i64>()),
            any::<bool>(),
            prop::option::of(any::<i64>()),
            prop::sample::select(&["", "local_share", "open", "closed"]),
            prop::collection::vec(secret, 1..3),
            "([a-z0-9][a-z0-9_-]{0,62})?",
            prop::option::of(0..i64::MAX),
        )
            .prop_map(
                |(
                    key_id,
                    source_path,
                    permissions,
                    end,
                    is_active,
                    rate,
                    fallback,
                    secrets,
                    plan_id,
                    limits_reset_at_ms,
                )| {
                    let secret = |(version, hash, end): (u32, [u8; 32], _)| v1::SecretRecord {
                        version,
                        hash: hash.into(),
                        expires_at_ms: end,
                        created_at_ms: 1_795_000_000_000,
                    };
                    v1::KeyRecord {
                        key_id,
                        source_path,
                        permissions,
                        expires_at_ms: end,
                        is_active,
                        rate_limit: rate,
                        rate_limit_fallback: (*fallback).to_owned(),
                        secrets: secrets.into_iter().map(secret).collect(),
                        plan_id,
                        limits_reset_at_ms,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn it_says_what_was_written(record in record()) {
            let bytes = record.encode_to_vec();
            let view = KeyView::new(&bytes);
            prop_assert_eq!(view.source_path(), &record.source_path);
            prop_assert_eq!(view.plan_id(), &record.plan_id);
            let reset_at_ms = record.limits_reset_at_ms.map_or(0, i64::cast_unsigned);
            prop_assert_eq!(view.limits_reset_at_ms(), NonZeroU64::new(reset_at_ms));
            prop_assert_eq!(view.permissions().collect::<Vec<_>>(), record.permissions);
        }

        #[test]
        fn fields_of_a_newer_control_plane_are_passed_over(record in record()) {
            // Number 99 as a varint, 8 bytes, a text and 4 bytes.
            let newer = b"\x98\x06\x96\x01\x99\x0612345678\x9a\x06\x02hi\x9d\x061234";
            let bytes = [newer.as_slice(), &record.encode_to_vec(), newer].concat();
            let view = KeyView::new(&bytes);
            prop_assert_eq!(view.source_path(), &record.source_path);
            prop_assert_eq!(view.permissions().collect::<Vec<_>>(), record.permissions);
        }

        #[test]
        fn any_bytes_can_be_looked_at(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let view = KeyView::new(&bytes);
            prop_assert!(view.source_path().len() < 99 && view.permissions().count() < 99);
            prop_assert!(view.plan_id().len() < 99);
            let _ = view.limits_reset_at_ms();
        }
    }
}
