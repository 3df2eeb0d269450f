//! Keys by the thousand: taken in, and read out with what is kept of their secrets.

use std::{collections::HashMap, time::SystemTime};

use fastgate::{
    admin::v1::{
        ExportKeysRequest, ExportKeysResponse, ImportKeysRequest, ImportKeysResponse, ImportedKey,
        Key, Secret as WireSecret,
    },
    model::{Id, Violations},
    secret::{Kind, Secret, SecretHash},
};

use super::{
    Admin,
    change::Draft,
    future,
    keys::{check, wire},
    new_id, now,
    page::Paging,
    repeat::Answer,
    time, to_millisecond,
};
use crate::{
    domain::{Actor, ApiKey, ApiSecret, Committed, Expect, Op, Stored},
    error::Error,
    store::{Cursor, KeyFilter, StoreError},
};

const IMPORT: &str = "fastgate.admin.v1.KeyService/ImportKeys";

/// Keys one call takes in: they are one transaction, one revision, and one message to nodes.
const MOST: usize = 1000;
/// Faults one refusal names. It travels in the headers of the answer, which clients bound.
const MOST_FAULTS: usize = 20;
/// How often it is tried again when somebody else creates one of the keys in between.
const ATTEMPTS: usize = 20;

/// One key of a call.
struct Row {
    key: ApiKey,
    /// Made for it, where it brought none.
    made: Option<Secret>,
}

impl Admin {
    pub(super) async fn import(
        &self,
        actor: Actor,
        request: ImportKeysRequest,
    ) -> Result<ImportKeysResponse, Error> {
        let ImportKeysRequest { validate_only, request_id, .. } = &request;
        let call = Self::call_id(IMPORT, &request, request_id, *validate_only)?;
        if let Some(answer) = self.first_answer(call.as_ref()).await? {
            return Ok(answer);
        }
        let environment = self.environment(&request.environment, "").await?;
        let rows = read(&request.keys, &environment, now())?;
        let key_ids: Vec<_> = rows.iter().map(|row| row.key.key_id.clone()).collect();
        let validate_only = request.validate_only;
        let draft = Draft { environment, actor, action: IMPORT, validate_only };
        // None, until the store says otherwise: where that is right, nothing needs to be read.
        let mut there = Vec::new();
        let mut tries = ATTEMPTS;
        loop {
            let answer = compare(&rows, &there)?;
            let is_new = answer.keys.iter().map(|key| !key.existed);
            let new = rows.iter().zip(is_new).filter(|(_, is_new)| *is_new);
            let ops: Vec<_> =
                new.map(|(row, _)| Op::PutKey(row.key.clone(), Expect::Absent)).collect();
            if ops.is_empty() {
                return Ok(answer);
            }
            return match self.answer(&draft, ops, call.clone(), answer).await {
                Ok(done) if done.is_first && !validate_only => Ok(with_secrets(done.answer, &rows)),
                Ok(done) => Ok(done.answer),
                Err(Error::Store(StoreError::Exists { .. })) if tries > 0 => {
                    tries -= 1;
                    there = self.store.keys_named(&draft.environment, &key_ids).await?;
                    continue;
                }
                Err(Error::Store(StoreError::SecretTaken { id, other })) => {
                    let at = rows.iter().position(|row| row.key.key_id.as_str() == id);
                    let field = format!("keys[{}].secrets", at.unwrap_or_default());
                    Err(Error::SecretTaken { id, other, field })
                }
                Err(fault) => Err(fault),
            };
        }
    }

    pub(super) async fn export(
        &self,
        request: ExportKeysRequest,
    ) -> Result<ExportKeysResponse, Error> {
        let ExportKeysRequest { environment, page_size, page_token } = request;
        let environment = self.environment(&environment, "").await?;
        let list = ["keys with hashes", environment.as_str()];
        let paging = Paging::parse(page_size, &page_token, &list)?;
        let found = self.store.keys(&environment, &KeyFilter::default(), &paging.query()).await?;
        let (page, next_page_token) = paging
            .cut(found, |(key, _)| Cursor::by_time(key.created_at, key.object.key_id.as_str()));
        let with_hashes = |(stored, usage): &(Stored<ApiKey>, _)| {
            let mut key = wire(&environment, stored, *usage);
            for (shown, kept) in key.secrets.iter_mut().zip(&stored.object.secrets) {
                shown.hash = kept.hash.to_hex();
            }
            key
        };
        Ok(ExportKeysResponse { keys: page.iter().map(with_hashes).collect(), next_page_token })
    }
}

impl Answer for ImportKeysResponse {
    fn complete(&mut self, _committed: &Committed) {}
}

/// Whether a key could be taken in, as far as it says so by itself: all its faults.
///
/// # Errors
/// The faults.
pub fn check_imported_key(sent: &Key) -> Result<(), Violations> {
    let now = now();
    let made = SecretHash::from_bytes(&[0; 32]).map(|hash| first_secret(hash, now));
    parse(sent, made, now).map(drop)
}

/// The keys of a call; all that is wrong with any of them.
fn read(sent: &[Key], environment: &Id, now: SystemTime) -> Result<Vec<Row>, Error> {
    if sent.is_empty() || sent.len() > MOST {
        return Err(Error::field("keys", format!("are {}: give 1 to {MOST}", sent.len())));
    }
    let mut faults = Violations::default();
    let mut rows = Vec::with_capacity(sent.len());
    for (at, sent) in sent.iter().enumerate() {
        let made = sent.secrets.is_empty().then(|| Secret::generate(Kind::ApiKey)).transpose()?;
        let first = made.as_ref().map(|made| first_secret(made.hash(), now));
        match parse(sent, first, now) {
            Ok(key) => rows.push(Row { key, made }),
            Err(part) => faults.add_below(&format!("keys[{at}]"), part),
        }
        if !sent.environment.is_empty() && sent.environment != environment.as_str() {
            faults.add(
                format!("keys[{at}].environment"),
                format!("is not '{environment}', where the keys go: leave it out"),
            );
        }
    }
    // Places are only right where every key could be read.
    if faults.is_empty() {
        find_twins(&rows, &mut faults);
    }
    Ok(bounded(faults).or(rows)?)
}

/// A key as sent, with the secret made for it where it brought none.
fn parse(sent: &Key, made: Option<ApiSecret>, now: SystemTime) -> Result<ApiKey, Violations> {
    let mut faults = Violations::default();
    let named = if sent.key_id.is_empty() { new_id("key") } else { sent.key_id.clone() };
    let key_id = Id::parse(&named).unwrap_or_else(|fault| {
        faults.add("key_id", fault);
        Id::default_environment()
    });
    if !sent.key_value.is_empty() {
        faults.add(
            "key_value",
            "can't be given: leave it out for a new secret, or give a hash in 'secrets'",
        );
    }
    let mut secrets = parse_secrets(&sent.secrets, now, &mut faults);
    let expires_at = if sent.secrets.is_empty() {
        secrets.extend(made);
        future("expires_at", sent.expires_at, now, &mut faults)
    } else {
        // It had its time elsewhere, which may be over.
        time("expires_at", sent.expires_at, &mut faults).map(to_millisecond)
    };
    let key = ApiKey {
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
        secrets,
    };
    check(key, faults)
}

fn parse_secrets(sent: &[WireSecret], now: SystemTime, faults: &mut Violations) -> Vec<ApiSecret> {
    let mut secrets = Vec::<ApiSecret>::with_capacity(sent.len());
    for (at, secret) in sent.iter().enumerate() {
        let field = |name| format!("secrets[{at}].{name}");
        let Some(hash) = SecretHash::from_hex(&secret.hash) else {
            faults.add(field("hash"), "must be 64 hex digits, as an export with hashes has them");
            continue;
        };
        let version = if secret.version == 0 { at as u32 + 1 } else { secret.version };
        if secrets.iter().any(|earlier| earlier.hash == hash || earlier.version == version) {
            faults.add(format!("secrets[{at}]"), "has the hash or version of another: remove one");
        }
        let created_at = time(&field("created_at"), secret.created_at, faults);
        let expires_at = time(&field("expires_at"), secret.expires_at, faults);
        secrets.push(ApiSecret {
            version,
            hash,
            created_at: created_at.map_or(now, to_millisecond),
            expires_at: expires_at.map(to_millisecond),
        });
    }
    secrets
}

fn first_secret(hash: SecretHash, now: SystemTime) -> ApiSecret {
    ApiSecret { version: 1, hash, created_at: now, expires_at: None }
}

/// Notes keys that have the id or a secret of an earlier one.
fn find_twins(rows: &[Row], faults: &mut Violations) {
    let (mut ids, mut hashes) = (HashMap::new(), HashMap::new());
    for (at, row) in rows.iter().enumerate() {
        if let Some(earlier) = ids.insert(&row.key.key_id, at) {
            let twin = format!("is that of keys[{earlier}]: give another, or remove one");
            faults.add(format!("keys[{at}].key_id"), twin);
        }
        for secret in &row.key.secrets {
            if let Some(earlier) = hashes.insert(secret.hash, at).filter(|earlier| *earlier != at) {
                let twin = format!("hold a secret of keys[{earlier}]: one secret opens one key");
                faults.add(format!("keys[{at}].secrets"), twin);
            }
        }
    }
}

/// Which keys are there already; the faults where one of them differs.
fn compare(rows: &[Row], there: &[Stored<ApiKey>]) -> Result<ImportKeysResponse, Error> {
    let there: HashMap<_, _> = there.iter().map(|key| (&key.object.key_id, &key.object)).collect();
    let mut faults = Violations::default();
    let mut keys = Vec::with_capacity(rows.len());
    for (at, row) in rows.iter().enumerate() {
        let key_id = &row.key.key_id;
        let kept = there.get(key_id);
        for field in kept.iter().flat_map(|kept| differences(kept, row)) {
            let fault = format!(
                "differs from key '{key_id}', which is there: give another key_id, \
                                 or change one of the two"
            );
            faults.add(format!("keys[{at}].{field}"), fault);
        }
        keys.push(ImportedKey {
            key_id: key_id.to_string(),
            key_value: String::new(),
            existed: kept.is_some(),
        });
    }
    Ok(bounded(faults).or(ImportKeysResponse { keys })?)
}

/// The fields a key that is there has otherwise. Its secret says nothing where the row brought none.
fn differences(kept: &ApiKey, Row { key, made }: &Row) -> impl Iterator<Item = &'static str> {
    let asks = |key: &ApiKey| -> Vec<(u32, SecretHash, Option<SystemTime>)> {
        key.secrets.iter().map(|one| (one.version, one.hash, one.expires_at)).collect()
    };
    [
        ("source_path", kept.source_path != key.source_path),
        ("permissions", kept.permissions != key.permissions),
        ("expires_at", kept.expires_at != key.expires_at),
        ("is_active", kept.is_active != key.is_active),
        ("rate_limit", kept.rate_limit != key.rate_limit),
        ("rate_limit_fallback", kept.rate_limit_fallback != key.rate_limit_fallback),
        ("plan_id", kept.plan_id != key.plan_id),
        ("description", kept.description != key.description),
        ("secrets", made.is_none() && asks(kept) != asks(key)),
    ]
    .into_iter()
    .filter_map(|(field, differs)| differs.then_some(field))
}

/// The first of the faults, and how many there are beyond.
fn bounded(faults: Violations) -> Violations {
    let more = faults.iter().count().saturating_sub(MOST_FAULTS);
    let mut first: Violations = faults.into_iter().take(MOST_FAULTS).collect();
    if more > 0 {
        first.add("keys", format!("have {more} more faults"));
    }
    first
}

fn with_secrets(mut answer: ImportKeysResponse, rows: &[Row]) -> ImportKeysResponse {
    for (key, row) in answer.keys.iter_mut().zip(rows) {
        if let (false, Some(made)) = (key.existed, &row.made) {
            made.expose().clone_into(&mut key.key_value);
        }
    }
    answer
}
