//! Who sends a request, and whether they may.
//!
//! To the client an unknown, a revoked and an expired key look the same; the audit log tells
//! them apart.

use std::{rc::Rc, time::SystemTime};

use fastgate::{
    model::Route,
    secret::{Kind, SecretHash},
};

use crate::{
    callers::{Caller, Callers, Fingerprint},
    error::{Malformed, Refusal},
    head::{self, Lines},
    snapshot::InUse,
};

/// A key as a client sent it.
pub(crate) enum Sent {
    /// None.
    Nothing,
    /// Something that can't be a key.
    Junk,
    /// One that opened something before.
    Known(Fingerprint, Rc<Caller>),
    /// One that did not.
    New(Fingerprint, SecretHash),
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
pub(crate) fn sent(lines: Lines<'_>, callers: &Callers) -> Result<SentKey, Malformed> {
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
    let sent = key.or(bearer).map_or(Sent::Nothing, |key| look_up(key, callers));
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

fn look_up(sent: &[u8], callers: &Callers) -> Sent {
    let fingerprint = callers.fingerprint(sent);
    if let Some(caller) = callers.find(fingerprint) {
        return Sent::Known(fingerprint, caller);
    }
    let hash = SecretHash::of_sent(Kind::ApiKey, sent);
    hash.map_or(Sent::Junk, |hash| Sent::New(fingerprint, hash))
}

/// Finds the key of a request of this moment; `None` when its route asks for none. `met` is told of
/// a key even where it is refused.
///
/// # Errors
/// Why the key is refused.
pub(crate) fn identify(
    snapshot: &InUse,
    route: &Route,
    sent: Sent,
    callers: &Callers,
    (now, met): (SystemTime, &mut Option<Rc<Caller>>),
) -> Result<Option<Rc<Caller>>, Refusal> {
    if !route.auth_required {
        return Ok(None);
    }
    let generation = snapshot.generation;
    let open = |hash| {
        let entry = snapshot.keys.get(&hash).ok_or(Refusal::KeyUnknown)?;
        Ok::<_, Refusal>(Caller::new(hash, entry, generation))
    };
    let (caller, to_learn) = match sent {
        Sent::Nothing => return Err(Refusal::KeyMissing),
        Sent::Junk => return Err(Refusal::KeyUnknown),
        Sent::Known(_, caller) if caller.generation == generation => (caller, None),
        Sent::Known(fingerprint, caller) => (open(caller.hash)?, Some(fingerprint)),
        Sent::New(fingerprint, hash) => (open(hash)?, Some(fingerprint)),
    };
    *met = Some(caller.clone());
    if !caller.entry.is_active {
        return Err(Refusal::KeyRevoked);
    }
    if caller.entry.has_expired(now) {
        return Err(Refusal::KeyExpired);
    }
    if let Some(fingerprint) = to_learn {
        callers.learn(fingerprint, caller.clone());
    }
    Ok(Some(caller))
}

/// Whether the caller holds what the route asks for.
///
/// # Errors
/// When it does not.
pub(crate) fn authorise(route: &Route, caller: Option<&Caller>) -> Result<(), Refusal> {
    let may_pass = match caller {
        Some(caller) => caller.may_use(route),
        None => route.required_permissions.is_empty(),
    };
    if may_pass { Ok(()) } else { Err(Refusal::PermissionMissing) }
}
