//! Who calls, and may they: a bearer token becomes a [`Caller`], or the call ends here.

mod bootstrap;
mod roles;
mod tokens;

use std::{sync::Arc, time::SystemTime};

use fastgate::secret::{Kind, SecretHash};
use http::{HeaderMap, header::AUTHORIZATION};

pub(crate) use bootstrap::{BootstrapError, has_owner, write_first_owner};
pub(crate) use roles::{Right, needed};

use crate::{
    domain::{Actor, Role},
    error::Error,
    store::Store,
};
use tokens::Tokens;

/// Who makes a call. Found in the extensions of every request that reaches a service.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) token_id: String,
    pub(crate) role: Role,
    /// When its token ends.
    pub(crate) expires_at: SystemTime,
}

/// Decides over every call of the admin port.
#[derive(Clone)]
pub(crate) struct Access {
    tokens: Arc<Tokens>,
}

impl Access {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { tokens: Arc::new(Tokens::new(store)) }
    }

    /// Lets a call to a method pass, or says why not. `None`: the method is open to all.
    pub(crate) async fn admit(
        &self,
        headers: &HeaderMap,
        method: &str,
    ) -> Result<Option<Caller>, Error> {
        let right = needed(method);
        if right == Some(Right::Open) {
            return Ok(None);
        }
        let caller = self.authenticate(headers).await?;
        // A method that does not exist is for the router to refuse, but not before a token was seen.
        if right.is_some_and(|right| !caller.role.may(right)) {
            return Err(Error::Forbidden { role: caller.role.name(), method: method.to_owned() });
        }
        Ok(Some(caller))
    }

    /// Tokens were changed here: takes effect with the next call.
    pub(crate) fn forget_tokens(&self) {
        self.tokens.forget();
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let sent = bearer(headers).ok_or(Error::NoToken)?;
        let hash = SecretHash::of_sent(Kind::AdminToken, sent).ok_or(Error::BadToken)?;
        let token = self.tokens.find(&hash).await?.ok_or(Error::BadToken)?;
        Ok(Caller { token_id: token.token_id, role: token.role, expires_at: token.expires_at })
    }
}

impl From<Caller> for Actor {
    fn from(caller: Caller) -> Self {
        Self { token_id: caller.token_id }
    }
}

/// What stands after `Bearer`, whose letter case does not matter (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.as_bytes().split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stands_after_the_scheme() {
        for (value, token) in [
            ("Bearer fga_x", Some(&b"fga_x"[..])),
            ("bearer  fga_x ", Some(b"fga_x")),
            ("Basic fga_x", None),
            ("Bearer", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, value.parse().expect("a value"));
            assert_eq!(bearer(&headers), token, "{value}");
        }
    }
}
