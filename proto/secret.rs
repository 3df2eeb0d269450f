//! The form of the secrets clients and admins send, and what is kept of them.
//!
//! A secret is a prefix (`fg_` for API keys, `fga_` for admin tokens, `fgj_` for what nodes join
//! with), 32 random base62 characters and 6 that are a checksum, so that junk is refused before it
//! is hashed. Stored is only [`SecretHash`]: 190 random bits need no slow hash to stay unguessable.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM: usize = 32;
const CHECKSUM: usize = 6;

/// What a secret opens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The proxy: an API key, `fg_...`.
    ApiKey,
    /// The admin interfaces: an admin token, `fga_...`.
    AdminToken,
    /// The node port, once: a join token, `fgj_...`.
    JoinToken,
}

impl Kind {
    /// What secrets of this kind start with.
    #[must_use]
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "fg_",
            Self::AdminToken => "fga_",
            Self::JoinToken => "fgj_",
        }
    }

    // Keeps the hash of a key from ever standing for a token, and both apart from other systems' hashes.
    const fn domain(self) -> &'static [u8] {
        match self {
            Self::ApiKey => b"fastgate api key v1\0",
            Self::AdminToken => b"fastgate admin token v1\0",
            Self::JoinToken => b"fastgate join token v1\0",
        }
    }
}

/// A secret in clear: made here, shown once, never stored and never printed by accident.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    kind: Kind,
    text: String,
}

impl Secret {
    /// A new random secret.
    ///
    /// # Errors
    /// When the operating system gives no random bytes.
    pub fn generate(kind: Kind) -> Result<Self, getrandom::Error> {
        let mut text = String::with_capacity(kind.prefix().len() + RANDOM + CHECKSUM);
        text.push_str(kind.prefix());
        let mut bytes = [0; RANDOM];
        let mut drawn = 0;
        while drawn < RANDOM {
            getrandom::fill(&mut bytes)?;
            // 248 is the largest multiple of 62 in a byte: drawing again above it keeps all
            // characters equally likely.
            for byte in bytes.iter().filter(|byte| **byte < 248).take(RANDOM - drawn) {
                text.push(digit(u32::from(*byte)));
                drawn += 1;
            }
        }
        let checksum = checksum(text.as_bytes());
        text.extend(checksum.map(char::from));
        Ok(Self { kind, text })
    }

    /// The secret in clear, for the one answer that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What to store of it.
    #[must_use]
    pub fn hash(&self) -> SecretHash {
        digest(self.kind, self.text.as_bytes())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({}...)", self.kind.prefix())
    }
}

/// What is stored of a secret: a domain-separated SHA-256.
///
/// Equality takes the same time wherever two hashes differ. The hash map use (`Hash`) may leak
/// through timing which bucket a hash falls into, which says nothing about the secret.
#[derive(Clone, Copy)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// The hash of a secret as a client sent it; `None` when it can't be a secret of this kind
    /// (prefix, length, characters or checksum), which costs no hashing.
    #[must_use]
    pub fn of_sent(kind: Kind, sent: &[u8]) -> Option<Self> {
        is_well_formed(kind, sent).then(|| digest(kind, sent))
    }

    /// The 32 bytes, for storage.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads stored bytes; `None` unless there are 32.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// As text: 64 hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        let digit = |value: u8| char::from_digit(u32::from(value), 16);
        self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]).filter_map(digit).collect()
    }

    /// Reads 64 hex digits; `None` where they are anything else.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
            let digit = |digit: u8| char::from(digit).to_digit(16);
            *byte = u8::try_from(digit(*high)? << 4 | digit(*low)?).ok()?;
        }
        Some(Self(hash))
    }
}

impl PartialEq for SecretHash {
    fn eq(&self, other: &Self) -> bool {
        // By words: byte for byte, as slices are compared, takes eight times as long.
        fn words(hash: &SecretHash) -> impl Iterator<Item = u64> {
            hash.0.as_chunks().0.iter().copied().map(u64::from_ne_bytes)
        }
        let differing = words(self).zip(words(other)).fold(0, |bits, (a, b)| bits | (a ^ b));
        differing.ct_eq(&0).into()
    }
}

impl Eq for SecretHash {}

impl std::hash::Hash for SecretHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // SHA-256 output is uniform: eight bytes of it are as good as all.
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_ne_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

fn is_well_formed(kind: Kind, sent: &[u8]) -> bool {
    let Some(rest) = sent.strip_prefix(kind.prefix().as_bytes()) else {
        return false;
    };
    if rest.len() != RANDOM + CHECKSUM || !rest.iter().all(u8::is_ascii_alphanumeric) {
        return false;
    }
    let (body, sum) = sent.split_at(sent.len() - CHECKSUM);
    checksum(body) == sum
}

/// The CRC-32 (IEEE) of everything before it, as six base62 digits, most significant first.
fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut rest = crc32fast::hash(body);
    let mut digits = [0; CHECKSUM];
    for place in digits.iter_mut().rev() {
        *place = digit(rest) as u8;
        rest /= 62;
    }
    digits
}

/// The base62 digit of a number modulo 62.
#[allow(clippy::indexing_slicing, reason = "the remainder is always within 62")]
fn digit(number: u32) -> char {
    char::from(ALPHABET[(number % 62) as usize])
}

fn digest(kind: Kind, secret: &[u8]) -> SecretHash {
    let mut sha = Sha256::new();
    sha.update(kind.domain());
    sha.update(secret);
    SecretHash(sha.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_secret_is_well_formed_and_reads_back() {
        for kind in [Kind::ApiKey, Kind::AdminToken, Kind::JoinToken] {
            let secret = Secret::generate(kind).expect("random bytes");
            assert_eq!(secret.expose().len(), kind.prefix().len() + 38);
            let sent = SecretHash::of_sent(kind, secret.expose().as_bytes());
            assert_eq!(sent, Some(secret.hash()));
        }
    }

    #[test]
    fn a_secret_of_one_kind_is_no_secret_of_the_other() {
        let key = Secret::generate(Kind::ApiKey).expect("random bytes");
        assert_eq!(SecretHash::of_sent(Kind::AdminToken, key.expose().as_bytes()), None);
        assert_ne!(digest(Kind::ApiKey, b"same"), digest(Kind::AdminToken, b"same"),);
    }

    #[test]
    fn any_changed_character_is_refused_before_hashing() {
        let secret = Secret::generate(Kind::ApiKey).expect("random bytes");
        let text = secret.expose().as_bytes();
        for at in 0..text.len() {
            let mut bad = text.to_vec();
            bad[at] = if bad[at] == b'x' { b'y' } else { b'x' };
            assert_eq!(SecretHash::of_sent(Kind::ApiKey, &bad), None, "at {at}");
        }
        for bad in [&b""[..], b"fg_", b"fg_short", &[0xff; 41], &text[..40]] {
            assert_eq!(SecretHash::of_sent(Kind::ApiKey, bad), None);
        }
    }

    #[test]
    fn hashes_are_equal_in_every_byte_or_not_at_all() {
        let hash = SecretHash([7; 32]);
        assert_eq!(hash, SecretHash([7; 32]));
        for at in 0..32 {
            for bit in 0..8 {
                let mut other = hash;
                other.0[at] ^= 1 << bit;
                assert_ne!(hash, other, "byte {at}");
            }
        }
    }

    #[test]
    fn debug_shows_neither_secret_nor_hash() {
        let secret = Secret::generate(Kind::ApiKey).expect("random bytes");
        assert_eq!(format!("{secret:?}"), "Secret(fg_...)");
        assert_eq!(format!("{:?}", secret.hash()), "SecretHash(..)");
    }
}
