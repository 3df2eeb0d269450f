//! API keys: issue, change, rotate, revoke.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use fastgate::{
    admin::v1::{
        CreateKeyRequest, DeleteKeyRequest, ExportKeysRequest, ExportKeysResponse, GetKeyRequest,
        ImportKeysRequest, ImportKeysResponse, Key, ListKeysRequest, ListKeysResponse,
        RevokeKeyRequest, RotateKeyRequest, Secret as WireSecret, UpdateKeyRequest,
        key_service_server::KeyService,
    },
    model::{self, Id, Violations},
    secret::{Kind, Secret, SecretHash},
};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    change::{Draft, Kept, caller},
    check_text, future,
    mask::Updatable,
    missing, named_environment, new_id, now,
    page::Paging,
    parse_id,
    repeat::Answer,
    some_text,
};
use crate::{
    domain::{ApiKey, ApiSecret, Committed, Expect, Object, Op, Stored, Usage},
    error::Error,
    store::{Cursor, KeyFilter, Store, StoreError},
};

/// How long a replaced secret stays valid where the request does not say.
const OVERLAP: Duration = Duration::from_secs(86_400);
/// The longest overlap: a year.
const MAX_OVERLAP: f64 = 365.0 * 86_400.0;

const CREATE: &str = "fastgate.admin.v1.KeyService/CreateKey";

const UPDATABLE: Updatable = Updatable {
    message: "fastgate.admin.v1.Key",
    fixed: &[
        "key_id",
        "key_value",
        "created_at",
        "usage_count",
        "environment",
        "updated_at",
        "last_used_at",
        "etag",
        "secrets",
        "limits_reset_at",
    ],
};

#[tonic::async_trait]
impl KeyService for Admin {
    async fn create_key(
        &self,
        request: Request<CreateKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let actor = caller(&request)?;
        let request = request.into_inner();
        let CreateKeyRequest { validate_only, request_id, .. } = &request;
        let call = Self::call_id(CREATE, &request, request_id, *validate_only)?;
        if let Some(key) = self.first_answer(call.as_ref()).await? {
            return Ok(Response::new(key));
        }
        let CreateKeyRequest { key, environment, validate_only, .. } = request;
        let sent = key.ok_or_else(|| missing("key"))?;
        let environment = self.environment(&environment, &sent.environment).await?;
        let now = now();
        let secret = Secret::generate(Kind::ApiKey).map_err(Error::from)?;
        let first =
            ApiSecret { version: 1, hash: secret.hash(), created_at: now, expires_at: None };
        let key = new_key(&sent, first, now)?;

        let draft = Draft { environment, actor, action: CREATE, validate_only };
        let mut created = self.create(&draft, key, call).await?;
        if created.is_first && !validate_only {
            created.answer.key_value = secret.expose().to_owned();
        }
        Ok(Response::new(created.answer))
    }

    async fn get_key(&self, request: Request<GetKeyRequest>) -> Result<Response<Key>, Status> {
        let GetKeyRequest { key_id, environment } = request.into_inner();
        let environment = named_environment(&environment, "")?;
        let id = parse_id("key_id", &key_id)?;
        let (stored, usage) = self.read(&environment, id.as_str()).await?;
        Ok(Response::new(wire(&environment, &stored, usage)))
    }

    async fn list_keys(
        &self,
        request: Request<ListKeysRequest>,
    ) -> Result<Response<ListKeysResponse>, Status> {
        let ListKeysRequest { environment, page_size, page_token, source_path, is_active, plan_id } =
            request.into_inner();
        let environment = self.environment(&environment, "").await?;
        check_text("source_path", &source_path)?;
        check_text("plan_id", &plan_id)?;
        let active = is_active.map_or("any", |active| if active { "yes" } else { "no" });
        let list = ["keys", environment.as_str(), &source_path, active, &plan_id];
        let paging = Paging::parse(page_size, &page_token, &list)?;
        let filter = KeyFilter {
            source_path: some_text(source_path),
            is_active,
            plan_id: some_text(plan_id),
        };
        let found = self.store.keys(&environment, &filter, &paging.query()).await;
        let (page, next_page_token) = paging.cut(found.map_err(Error::from)?, |(key, _)| {
            Cursor::by_time(key.created_at, key.object.key_id.as_str())
        });
        let keys = page.iter().map(|(key, usage)| wire(&environment, key, *usage)).collect();
        Ok(Response::new(ListKeysResponse { keys, next_page_token }))
    }

    async fn update_key(
        &self,
        request: Request<UpdateKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let actor = caller(&request)?;
        let UpdateKeyRequest { key, update_mask, environment, validate_only } =
            request.into_inner();
        let sent = key.ok_or_else(|| missing("key"))?;
        let environment = named_environment(&environment, &sent.environment)?;
        let id = parse_id("key_id", &sent.key_id)?;
        let action = "fastgate.admin.v1.KeyService/UpdateKey";
        let draft = Draft { environment, actor, action, validate_only };
        let (pool, etag) = (self.pool.clone(), sent.etag.clone());
        let updated = self.update(&draft, id.as_str(), &etag, move |stored| {
            let before = updatable(stored);
            let after = UPDATABLE.merge(&pool, &before, &sent, update_mask.as_ref())?;
            updated_key(stored, &after, now())
        });
        let (key, usage) = updated.await?;
        Ok(Response::new(wire(&draft.environment, &key, usage)))
    }

    async fn delete_key(&self, request: Request<DeleteKeyRequest>) -> Result<Response<()>, Status> {
        let actor = caller(&request)?;
        let DeleteKeyRequest { key_id, environment, etag, validate_only } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let id = parse_id("key_id", &key_id)?;
        let action = "fastgate.admin.v1.KeyService/DeleteKey";
        let draft = Draft { environment, actor, action, validate_only };
        self.delete(&draft, etag, |expect| Op::DeleteKey(id, expect)).await?;
        Ok(Response::new(()))
    }

    async fn rotate_key(
        &self,
        request: Request<RotateKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let actor = caller(&request)?;
        let RotateKeyRequest { key_id, environment, overlap, etag, validate_only } =
            request.into_inner();
        let environment = named_environment(&environment, "")?;
        let id = parse_id("key_id", &key_id)?;
        let overlap = parse_overlap(overlap)?;
        let secret = Secret::generate(Kind::ApiKey).map_err(Error::from)?;
        let action = "fastgate.admin.v1.KeyService/RotateKey";
        let draft = Draft { environment, actor, action, validate_only };
        let hash = secret.hash();
        let updated = self.update(&draft, id.as_str(), &etag, move |stored: &ApiKey| {
            let secrets = rotated(&stored.secrets, hash, overlap, now());
            Ok(ApiKey { secrets, ..stored.clone() })
        });
        let (key, usage) = updated.await?;
        let mut key = wire(&draft.environment, &key, usage);
        if !validate_only {
            key.key_value = secret.expose().to_owned();
        }
        Ok(Response::new(key))
    }

    async fn revoke_key(
        &self,
        request: Request<RevokeKeyRequest>,
    ) -> Result<Response<Key>, Status> {
        let actor = caller(&request)?;
        let RevokeKeyRequest { key_id, environment, etag, validate_only } = request.into_inner();
        let environment = named_environment(&environment, "")?;
        let id = parse_id("key_id", &key_id)?;
        let action = "fastgate.admin.v1.KeyService/RevokeKey";
        let draft = Draft { environment, actor, action, validate_only };
        let updated = self.update(&draft, id.as_str(), &etag, |stored: &ApiKey| {
            Ok(ApiKey { is_active: false, ..stored.clone() })
        });
        let (key, usage) = updated.await?;
        Ok(Response::new(wire(&draft.environment, &key, usage)))
    }

    async fn import_keys(
        &self,
        request: Request<ImportKeysRequest>,
    ) -> Result<Response<ImportKeysResponse>, Status> {
        let actor = caller(&request)?;
        Ok(Response::new(self.import(actor, request.into_inner()).await?))
    }

    async fn export_keys(
        &self,
        request: Request<ExportKeysRequest>,
    ) -> Result<Response<ExportKeysResponse>, Status> {
        Ok(Response::new(self.export(request.into_inner()).await?))
    }
}

fn new_key(sent: &Key, first: ApiSecret, now: SystemTime) -> Result<ApiKey, Error> {
    let mut faults = Violations::default();
    let expires_at = future("expires_at", sent.expires_at, now, &mut faults);
    let key_id = Id::parse(&new_id("key")).map_err(|_| Error::Bug("a new key has a bad id"))?;
    check(
        ApiKey {
            key_id,
            source_path: sent.source_path.clone(),
            permissions: sent.permissions.clone(),
            expires_at,
            is_active: sent.is_active.unwrap_or(true),
            rate_limit: sent.rate_limit,
            rate_limit_fallback: sent.rate_limit_fallback.clone(),
            plan_id: sent.plan_id.clone(),
            description: sent.description.clone(),
            limits_reset_at: None,
            secrets: vec![first],
        },
        faults,
    )
    .map_err(Error::from)
}

fn updated_key(stored: &ApiKey, merged: &Key, now: SystemTime) -> Result<ApiKey, Error> {
    let mut faults = Violations::default();
    // An expiry that stays as it was may have passed since.
    let expires_at = if merged.expires_at == stored.expires_at.map(Into::into) {
        stored.expires_at
    } else {
        future("expires_at", merged.expires_at, now, &mut faults)
    };
    check(
        ApiKey {
            key_id: stored.key_id.clone(),
            source_path: merged.source_path.clone(),
            permissions: merged.permissions.clone(),
            expires_at,
            // Absent says nothing, even where the mask names it: a revocation is undone by a word.
            is_active: merged.is_active.unwrap_or(stored.is_active),
            rate_limit: merged.rate_limit,
            rate_limit_fallback: merged.rate_limit_fallback.clone(),
            plan_id: merged.plan_id.clone(),
            description: merged.description.clone(),
            limits_reset_at: stored.limits_reset_at,
            secrets: stored.secrets.clone(),
        },
        faults,
    )
    .map_err(Error::from)
}

/// The key, if what a node would make of it is right too.
pub(super) fn check(key: ApiKey, mut faults: Violations) -> Result<ApiKey, Violations> {
    if let Err(found) = model::Key::parse(&key.record()) {
        faults.extend(found);
    }
    if let Err(fault) = model::text(&key.description) {
        faults.add("description", fault);
    }
    faults.or(key)
}

/// Seconds a replaced secret stays valid.
fn parse_overlap(sent: Option<f64>) -> Result<Duration, Error> {
    match sent {
        None => Ok(OVERLAP),
        Some(seconds) if (0.0..=MAX_OVERLAP).contains(&seconds) => {
            Ok(Duration::from_secs_f64(seconds))
        }
        Some(seconds) => Err(Error::field(
            "overlap",
            format!("is {seconds}: give seconds from 0 to {MAX_OVERLAP}"),
        )),
    }
}

/// The secrets after a rotation: the newest of the old ones until its overlap ends, and the new one.
fn rotated(
    old: &[ApiSecret],
    secret: SecretHash,
    overlap: Duration,
    now: SystemTime,
) -> Vec<ApiSecret> {
    let version = old.iter().map(|secret| secret.version).max().unwrap_or(0).saturating_add(1);
    let new = ApiSecret { version, hash: secret, created_at: now, expires_at: None };
    let live = |secret: &&ApiSecret| secret.expires_at.is_none_or(|end| end > now);
    let replaced = old.iter().filter(live).max_by_key(|secret| secret.version);
    let replaced = replaced.filter(|_| !overlap.is_zero()).map(|secret| {
        let end = secret.expires_at.map_or(now + overlap, |end| end.min(now + overlap));
        ApiSecret { expires_at: Some(end), ..secret.clone() }
    });
    replaced.into_iter().chain([new]).collect()
}

#[async_trait]
impl Kept for ApiKey {
    const KIND: &'static str = "key";

    type Wire = Key;
    type Aside = Usage;

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        id: &str,
    ) -> Result<Option<(Stored<Self>, Usage)>, StoreError> {
        store.key(environment, id).await
    }

    fn put(self, expect: Expect) -> Op {
        Op::PutKey(self, expect)
    }

    fn of(object: Object) -> Option<Stored<Self>> {
        match object {
            Object::Key(found) => Some(found),
            _ => None,
        }
    }

    fn shown(&self, environment: &Id) -> Key {
        Key {
            environment: environment.to_string(),
            secrets: self.secrets.iter().map(wire_secret).collect(),
            limits_reset_at: self.limits_reset_at.map(Into::into),
            ..updatable(self)
        }
    }
}

impl Answer for Key {
    fn complete(&mut self, committed: &Committed) {
        self.created_at = Some(committed.at.into());
        self.updated_at = self.created_at;
        self.etag = committed.etag();
    }
}

pub(super) fn wire(environment: &Id, stored: &Stored<ApiKey>, usage: Usage) -> Key {
    Key {
        created_at: Some(stored.created_at.into()),
        updated_at: Some(stored.updated_at.into()),
        last_used_at: usage.last_used_at.map(Into::into),
        usage_count: usage.count,
        etag: stored.etag.clone(),
        ..stored.object.shown(environment)
    }
}

/// The fields of a key that users set.
fn updatable(key: &ApiKey) -> Key {
    Key {
        key_id: key.key_id.to_string(),
        source_path: key.source_path.clone(),
        permissions: key.permissions.clone(),
        expires_at: key.expires_at.map(Into::into),
        is_active: Some(key.is_active),
        rate_limit: key.rate_limit,
        rate_limit_fallback: key.rate_limit_fallback.clone(),
        plan_id: key.plan_id.clone(),
        description: key.description.clone(),
        ..Key::default()
    }
}

fn wire_secret(secret: &ApiSecret) -> WireSecret {
    WireSecret {
        version: secret.version,
        created_at: Some(secret.created_at.into()),
        expires_at: secret.expires_at.map(Into::into),
        hash: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(version: u32, expires_at: Option<SystemTime>) -> ApiSecret {
        let hash = Secret::generate(Kind::ApiKey).expect("random bytes").hash();
        ApiSecret { version, hash, created_at: SystemTime::UNIX_EPOCH, expires_at }
    }

    #[test]
    fn a_rotation_leaves_at_most_two_live_secrets() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        let hour = Duration::from_secs(3600);
        let (one, two) = (secret(1, None), secret(2, None));
        for (old, overlap, kept) in [
            // (secrets before, overlap, versions and ends after)
            (vec![one.clone()], hour, vec![(1, at(4600)), (2, None)]),
            (vec![one.clone()], Duration::ZERO, vec![(2, None)]),
            // While two are live, the older is ended.
            (vec![secret(1, at(2000)), two.clone()], hour, vec![(2, at(4600)), (3, None)]),
            // An expired one is dropped.
            (vec![secret(1, at(999)), two], hour, vec![(2, at(4600)), (3, None)]),
            // An end that was set is never put off.
            (vec![secret(1, at(1500))], hour, vec![(1, at(1500)), (2, None)]),
        ] {
            let new = Secret::generate(Kind::ApiKey).expect("random bytes");
            let after = rotated(&old, new.hash(), overlap, now);
            let found: Vec<_> = after.iter().map(|s| (s.version, s.expires_at)).collect();
            assert_eq!(found, kept);
            assert_eq!(after.last().map(|secret| secret.hash), Some(new.hash()));
        }
    }

    #[test]
    fn an_overlap_is_a_time_from_now_to_a_year() {
        assert_eq!(parse_overlap(None).expect("default"), OVERLAP);
        assert_eq!(parse_overlap(Some(0.0)).expect("zero"), Duration::ZERO);
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e9] {
            assert!(parse_overlap(Some(bad)).is_err(), "{bad}");
        }
    }
}
