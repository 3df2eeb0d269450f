//! API keys, as nodes know them.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use super::{Fallback, Id, Permission, RateLimit, Violations, bounds, check};
use crate::{node::v1, secret::SecretHash};

/// An API key without its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// Names it in logs, metrics and admin interfaces.
    pub key_id: Id,
    /// Who it was issued to.
    pub source_path: SourcePath,
    /// What it may do.
    pub permissions: Vec<Permission>,
    /// Refused from this moment on.
    pub expires_at: Option<SystemTime>,
    /// False once revoked.
    pub is_active: bool,
    /// Of its own; `None`: its plan's limit, else the environment's default with this fallback.
    pub rate_limit: Option<RateLimit>,
    /// What its limit does while Redis is away.
    pub fallback: Fallback,
    /// The plan it is on.
    pub plan_id: Option<Id>,
    /// When its limits were made full again last.
    pub limits_reset_at: Option<SystemTime>,
    /// One, or two during a rotation.
    pub secrets: Vec<KeySecret>,
}

/// One live secret of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeySecret {
    /// 1 for the first secret of a key, one more at each rotation.
    pub version: u32,
    /// What is kept of it.
    pub hash: SecretHash,
    /// Refused from this moment on; `None`: as long as the key.
    pub expires_at: Option<SystemTime>,
}

impl Key {
    /// Reads the wire form.
    ///
    /// # Errors
    /// All faults of it.
    pub fn parse(wire: &v1::KeyRecord) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let key_id = faults.take("key_id", Id::parse(&wire.key_id), Id::unknown());
        let source_path = SourcePath::parse(&wire.source_path);
        let source_path = faults.take("source_path", source_path, SourcePath(Box::default()));
        let permissions = Self::parse_permissions(&wire.permissions, &mut faults);
        let rate = wire.rate_limit.map(RateLimit::parse).transpose();
        let rate_limit = faults.take("rate_limit", rate, None);
        let fallback = Fallback::parse(&wire.rate_limit_fallback);
        let fallback = faults.take("rate_limit_fallback", fallback, Fallback::default());
        let plan_id = Some(wire.plan_id.as_str()).filter(|id| !id.is_empty()).map(Id::parse);
        let plan_id = faults.take("plan_id", plan_id.transpose(), None);
        let expires_at = faults.take("expires_at", time(wire.expires_at_ms), None);
        let reset_at = time(wire.limits_reset_at_ms);
        let limits_reset_at = faults.take("limits_reset_at", reset_at, None);
        if wire.secrets.is_empty() || wire.secrets.len() > bounds::SECRETS {
            faults.add("secrets", format!("must be 1 to {}", bounds::SECRETS));
        }
        let mut secrets = Vec::with_capacity(wire.secrets.len());
        for (at, secret) in wire.secrets.iter().enumerate() {
            match KeySecret::parse(secret) {
                Ok(secret) => secrets.push(secret),
                Err(part) => faults.add_below(&format!("secrets[{at}]"), part),
            }
        }
        faults.or(Self {
            key_id,
            source_path,
            permissions,
            expires_at,
            is_active: wire.is_active,
            rate_limit,
            fallback,
            plan_id,
            limits_reset_at,
            secrets,
        })
    }

    fn parse_permissions(wire: &[String], faults: &mut Violations) -> Vec<Permission> {
        if wire.len() > bounds::PERMISSIONS {
            faults.add("permissions", format!("are more than {}", bounds::PERMISSIONS));
        }
        let mut permissions = Vec::with_capacity(wire.len());
        for (at, text) in wire.iter().enumerate() {
            match Permission::parse(text) {
                Ok(permission) => permissions.push(permission),
                Err(description) => faults.add(format!("permissions[{at}]"), description),
            }
        }
        permissions
    }
}

impl KeySecret {
    fn parse(wire: &v1::SecretRecord) -> Result<Self, Violations> {
        let mut faults = Violations::default();
        let expires_at = faults.take("expires_at", time(wire.expires_at_ms), None);
        let Some(hash) = SecretHash::from_bytes(&wire.hash) else {
            faults.add("hash", "must be 32 bytes");
            return Err(faults);
        };
        faults.or(Self { version: wire.version, hash, expires_at })
    }
}

/// Who a key was issued to, such as `mobile_app`; goes upstream as a header.
#[derive(Clone, PartialEq, Eq)]
pub struct SourcePath(Box<str>);

impl SourcePath {
    /// Reads a source path.
    ///
    /// # Errors
    /// What is wrong with it and how to mend it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is missing: say who the key is for, such as 'mobile_app'".into());
        }
        let text = check::text(text)?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@".contains(&b);
        if !text.bytes().all(allowed) {
            return Err("must consist of letters, digits, '_', '-', '.', '/', ':' and '@'".into());
        }
        Ok(Self(text.into()))
    }

    /// The text of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SourcePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn time(unix_ms: Option<i64>) -> Result<Option<SystemTime>, String> {
    let Some(ms) = unix_ms else { return Ok(None) };
    u64::try_from(ms)
        .ok()
        .and_then(|ms| SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)))
        .map(Some)
        .ok_or_else(|| "is before 1970 or too far away".into())
}
