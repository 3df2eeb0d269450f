//! The token a node joins with: a secret that opens the node port once, and the fingerprint of the CA
//! that whoever answers there must show before the secret is sent.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use super::Fingerprint;
use crate::secret::{Kind, Secret, SecretHash};

/// A join token in clear: `fgj_...`, a dot, the fingerprint in base64url.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    text: String,
    /// Where the dot is.
    dot: usize,
    ca: Fingerprint,
}

impl JoinToken {
    /// One that opens the node port whose CA this is.
    #[must_use]
    pub fn new(secret: &Secret, ca: Fingerprint) -> Self {
        let secret = secret.expose();
        let text = format!("{secret}.{}", BASE64_URL_SAFE_NO_PAD.encode(ca.as_bytes()));
        Self { text, dot: secret.len(), ca }
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong, without what was given: it may be a secret all the same.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mend = "give the whole token, as it was shown when it was made";
        let (secret, ca) = text.split_once('.').ok_or(format!("is no join token: {mend}"))?;
        if SecretHash::of_sent(Kind::JoinToken, secret.as_bytes()).is_none() {
            return Err(format!("is no join token, or has a mistake in it: {mend}"));
        }
        let ca = BASE64_URL_SAFE_NO_PAD.decode(ca).ok();
        let ca = ca.and_then(|bytes| Fingerprint::from_bytes(&bytes));
        let ca = ca.ok_or(format!("is a join token with a mistake behind its dot: {mend}"))?;
        Ok(Self { text: text.to_owned(), dot: secret.len(), ca })
    }

    /// All of it, for the one answer that shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// What the control plane is sent.
    #[must_use]
    pub fn secret(&self) -> &str {
        self.text.get(..self.dot).unwrap_or_default()
    }

    /// Tells a token from others where it must not be kept.
    #[must_use]
    pub fn hash(&self) -> Option<SecretHash> {
        SecretHash::of_sent(Kind::JoinToken, self.secret().as_bytes())
    }

    /// The CA that the control plane must show.
    #[must_use]
    pub const fn ca(&self) -> Fingerprint {
        self.ca
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(fgj_...)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_shows_itself_nowhere_else() {
        let secret = Secret::generate(Kind::JoinToken).expect("random bytes");
        let ca = Fingerprint::from_bytes(&[7; 32]).expect("32 bytes");
        let token = JoinToken::new(&secret, ca);
        let read = JoinToken::parse(token.expose()).expect("a token");
        assert_eq!((read.secret(), read.ca()), (secret.expose(), ca));
        assert_eq!(read.hash(), Some(secret.hash()));
        assert_eq!(format!("{read:?}"), "JoinToken(fgj_...)");
    }

    #[test]
    fn a_token_with_a_mistake_is_refused_without_being_told() {
        let secret = Secret::generate(Kind::JoinToken).expect("random bytes");
        let ca = Fingerprint::from_bytes(&[7; 32]).expect("32 bytes");
        let whole = JoinToken::new(&secret, ca).expose().to_owned();
        let key = Secret::generate(Kind::ApiKey).expect("random bytes");
        for (text, told) in [
            ("", "is no join token: "),
            (secret.expose(), "is no join token: "),
            (&whole[..whole.len() - 1], "behind its dot"),
            (&format!("{whole}A"), "behind its dot"),
            (&whole.replacen("fgj_", "fgj_x", 1), "has a mistake"),
            (JoinToken::new(&key, ca).expose(), "has a mistake"),
        ] {
            let fault = JoinToken::parse(text).expect_err("refused");
            assert!(fault.contains(told), "{told}: {fault}");
            assert!(text.len() < 8 || !fault.contains(&text[..8]), "{fault}");
        }
    }
}
