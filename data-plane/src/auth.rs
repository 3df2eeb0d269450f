//! Who sends a request, and whether they may.
//!
//! To the client an unknown, a revoked and an expired key look the same; the audit log tells
//! them apart.

use fastgate::{
    model::{self, Route},
    secret::{Kind, SecretHash},
};

use crate::{
    error::{Malformed, Refusal},
    exchange::Exchange,
    head::{self, Lines},
    keys::{KeyEntry, KeyTable},
    known::{Fingerprint, KnownSecrets},
};

/// A key as a client sent it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sent {
    /// None.
    Nothing,
    /// Something that can't be a key.
    Junk,
    /// The hash of it, which is known to have opened something.
    Known(SecretHash),
    /// The hash of it.
    New(SecretHash, Fingerprint),
}

/// The key of a request, wherever it stands in its head.
pub(crate) struct SentKey {
    pub(crate) sent: Sent,
    /// Whether it stands in `Authorization`.
    pub(crate) is_bearer: bool,
}

/// Looks for the key in a request's head.
///
/// # Errors
/// When there are two, wherever they stand.
pub(crate) fn sent(lines: Lines<'_>, known: &KnownSecrets) -> Result<SentKey, Malformed> {
    let mut keys = lines.values(head::Kind::ApiKey);
    let (key, second) = (keys.next(), keys.next());
    // A bearer token that looks like a key is one; any other Authorization is the upstream's.
    let bearer = lines.values(head::Kind::Authorization).find_map(|value| {
        let token = token_of(value)?;
        is_ours(token).then_some(token)
    });
    let has_two = second.is_some()
        || (bearer.is_some()
            && (key.is_some() || lines.values(head::Kind::Authorization).count() > 1));
    if has_two {
        return Err(Malformed::TwoKeys);
    }
    let sent = key.or(bearer).map_or(Sent::Nothing, |key| hash(key, known));
    Ok(SentKey { sent, is_bearer: bearer.is_some() })
}

/// The token of `Bearer <token>`; the scheme is read in any case (RFC 9110 section 11.1).
fn token_of(value: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = value.split_at_checked(6)?;
    let (space, token) = token.split_first()?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"bearer") && space.is_ascii_whitespace();
    is_bearer.then(|| token.trim_ascii_start())
}

fn is_ours(token: &[u8]) -> bool {
    token.starts_with(Kind::ApiKey.prefix().as_bytes())
}

fn hash(sent: &[u8], known: &KnownSecrets) -> Sent {
    let fingerprint = known.fingerprint(sent);
    if let Some(hash) = known.hash(fingerprint) {
        return Sent::Known(hash);
    }
    let hash = SecretHash::of_sent(Kind::ApiKey, sent);
    hash.map_or(Sent::Junk, |hash| Sent::New(hash, fingerprint))
}

/// Finds the key of a request; `None` when its route asks for none. The exchange is told of a
/// key even where it is refused.
///
/// # Errors
/// Why the key is refused.
pub(crate) fn identify<'a>(
    keys: &'a KeyTable,
    route: &Route,
    sent: Sent,
    known: &KnownSecrets,
    exchange: &mut Exchange,
) -> Result<Option<&'a KeyEntry>, Refusal> {
    if !route.auth_required {
        return Ok(None);
    }
    let hash = match sent {
        Sent::Nothing => return Err(Refusal::KeyMissing),
        Sent::Junk => return Err(Refusal::KeyUnknown),
        Sent::Known(hash) | Sent::New(hash, _) => hash,
    };
    let entry = keys.get(&hash).ok_or(Refusal::KeyUnknown)?;
    exchange.key = Some((entry.key.clone(), entry.version));
    if !entry.is_active {
        return Err(Refusal::KeyRevoked);
    }
    if entry.has_expired(exchange.timestamp()) {
        return Err(Refusal::KeyExpired);
    }
    if let Sent::New(hash, fingerprint) = sent {
        known.learn(fingerprint, hash);
    }
    Ok(Some(entry))
}

/// Whether the caller holds what the route asks for.
///
/// # Errors
/// When it does not.
pub(crate) fn authorise(route: &Route, caller: Option<&KeyEntry>) -> Result<(), Refusal> {
    let held = caller.into_iter().flat_map(|entry| entry.key.permissions());
    if model::allows(held, &route.required_permissions) {
        Ok(())
    } else {
        Err(Refusal::PermissionMissing)
    }
}
