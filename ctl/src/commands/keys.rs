//! `fgctl keys`.

mod export;
mod import;
mod rows;
mod secrets;

use std::time::SystemTime;

use fastgate::admin::v1::{
    CreateKeyRequest, DeleteKeyRequest, GetKeyRequest, Key, ListKeysRequest, ListKeysResponse,
    RevokeKeyRequest, RotateKeyRequest, UpdateKeyRequest,
};

use super::{
    fields::{Changes, number},
    pages,
};
use crate::{
    cli::{KeyCommand, KeyFields, Limit},
    client::Client,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) use import::run as import;

pub(super) async fn run(
    command: KeyCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut keys = client.keys();
    let environment = client.environment();
    match command {
        KeyCommand::List { source_path, active, plan, page } => {
            let request = ListKeysRequest {
                environment,
                source_path: source_path.unwrap_or_default(),
                is_active: active,
                plan_id: plan.unwrap_or_default(),
                ..Default::default()
            };
            list(request, page, client, output).await
        }
        KeyCommand::Get { key_id } => {
            let request = GetKeyRequest { key_id, environment };
            output.object("Key", keys.get_key(request).await?.get_ref())
        }
        KeyCommand::Create { fields, check } => {
            let mut key = Key::default();
            set(fields, &mut key, &mut Changes::default());
            let key = Some(key);
            let validate_only = check.dry_run;
            let request =
                CreateKeyRequest { key, environment, validate_only, ..Default::default() };
            show_with_secret(keys.create_key(request).await?.get_ref(), output)
        }
        KeyCommand::Update { key_id, fields, active, clear, etag, check } => {
            let mut key = Key { key_id, etag: etag.etag.unwrap_or_default(), ..Default::default() };
            let mut changes = Changes::clearing(clear);
            set(fields, &mut key, &mut changes);
            changes.set("is_active", &mut key.is_active, active);
            let update_mask = Some(changes.mask()?);
            let key = Some(key);
            let validate_only = check.dry_run;
            let request = UpdateKeyRequest { key, update_mask, environment, validate_only };
            output.object("Key", keys.update_key(request).await?.get_ref())
        }
        KeyCommand::Delete { key_id, etag, check } => {
            let request = DeleteKeyRequest {
                key_id: key_id.clone(),
                environment,
                etag: etag.etag.unwrap_or_default(),
                validate_only: check.dry_run,
            };
            keys.delete_key(request).await?;
            output.deleted("key", &key_id, check)
        }
        KeyCommand::Rotate { key_id, overlap, etag, check } => {
            let request = RotateKeyRequest {
                key_id,
                environment,
                overlap: overlap.map(|overlap| overlap.0),
                etag: etag.etag.unwrap_or_default(),
                validate_only: check.dry_run,
            };
            show_with_secret(keys.rotate_key(request).await?.get_ref(), output)
        }
        // It has no client yet: [`import`].
        KeyCommand::Import { .. } => Ok(()),
        KeyCommand::Export { with_hashes } => export::run(with_hashes, client, output).await,
        KeyCommand::Revoke { key_id, etag, check } => {
            let request = RevokeKeyRequest {
                key_id,
                environment,
                etag: etag.etag.unwrap_or_default(),
                validate_only: check.dry_run,
            };
            output.object("Key", keys.revoke_key(request).await?.get_ref())
        }
    }
}

async fn list(
    request: ListKeysRequest,
    page: Limit,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut keys = client.keys();
    let (keys, more) = pages(page.limit, async |page_size, page_token| {
        let request = ListKeysRequest { page_size, page_token, ..request.clone() };
        let answer = keys.list_keys(request).await?.into_inner();
        Ok((answer.keys, answer.next_page_token))
    })
    .await?;
    let rows = rows(&keys, more);
    output.list("ListKeysResponse", &ListKeysResponse { keys, ..Default::default() }, rows)
}

fn show_with_secret(key: &Key, output: &mut Output<'_>) -> Result<(), Error> {
    output.object("Key", key)?;
    if key.key_value.is_empty() {
        return Ok(());
    }
    output.remark("key_value is shown this once and can't be read again: keep it safe")
}

fn set(given: KeyFields, key: &mut Key, changes: &mut Changes) {
    changes.set("source_path", &mut key.source_path, given.source_path);
    changes.set_list("permissions", &mut key.permissions, given.permissions);
    changes.set("plan_id", &mut key.plan_id, given.plan);
    changes.set("rate_limit", &mut key.rate_limit, given.rate_limit);
    changes.set("rate_limit_fallback", &mut key.rate_limit_fallback, given.rate_limit_fallback);
    let expires_at = given.expires_at.map(|moment| moment.ahead(SystemTime::now()));
    changes.set("expires_at", &mut key.expires_at, expires_at);
    changes.set("description", &mut key.description, given.description);
}

fn rows(keys: &[Key], more: bool) -> Rows {
    let row = |key: &Key| {
        vec![
            key.key_id.clone(),
            key.source_path.clone(),
            if key.is_active.unwrap_or(true) { "active" } else { "revoked" }.into(),
            key.permissions.join(","),
            key.plan_id.clone(),
            number(key.rate_limit),
            key.usage_count.to_string(),
            time(key.created_at.as_ref()),
            time(key.expires_at.as_ref()),
        ]
    };
    Rows {
        noun: "keys",
        header: &[
            "KEY ID",
            "SOURCE PATH",
            "STATE",
            "PERMISSIONS",
            "PLAN",
            "LIMIT/MIN",
            "USED",
            "CREATED",
            "EXPIRES",
        ],
        rows: keys.iter().map(row).collect(),
        more,
    }
}
