//! Who sends a request, and whether they may.
//!
//! To the client an unknown, a revoked and an expired key look the same; the audit log tells
//! them apart.

use fastgate::{
    model::{self, Route},
    secret::{Kind, SecretHash},
};
use http::{HeaderMap, header};

use crate::{
    error::{Malformed, Refusal},
    exchange::Exchange,
    forwarding::API_KEY,
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

/// Takes the key out of a request's headers, so that no upstream sees it.
///
/// # Errors
/// When there are two, wherever they stand.
pub(crate) fn take_sent(headers: &mut HeaderMap, known: &KnownSecrets) -> Result<Sent, Malformed> {
    let bearer = take_bearer(headers, known)?;
    let mut keys = headers.get_all(API_KEY).iter();
    let (key, second) = (keys.next(), keys.next());
    if second.is_some() || (key.is_some() && bearer != Sent::Nothing) {
        return Err(Malformed::TwoKeys);
    }
    let Some(key) = key.map(|key| hash(key.as_bytes(), known)) else { return Ok(bearer) };
    headers.remove(API_KEY);
    Ok(key)
}

/// A bearer token that looks like a key is one; any other Authorization is the upstream's.
fn take_bearer(headers: &mut HeaderMap, known: &KnownSecrets) -> Result<Sent, Malformed> {
    let is_key = |value: &[u8]| token_of(value).is_some_and(is_ours);
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(first) = values.next() else { return Ok(Sent::Nothing) };
    let more = values.next().is_some();
    let any_key =
        headers.get_all(header::AUTHORIZATION).iter().any(|value| is_key(value.as_bytes()));
    if !any_key {
        return Ok(Sent::Nothing);
    }
    if more {
        return Err(Malformed::TwoKeys);
    }
    let sent = token_of(first.as_bytes()).map_or(Sent::Junk, |token| hash(token, known));
    headers.remove(header::AUTHORIZATION);
    Ok(sent)
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
