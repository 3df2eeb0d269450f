//! `fgctl keys export`.

use fastgate::admin::v1::{ExportKeysRequest, Key, ListKeysRequest};

use crate::{
    client::Client,
    commands::PAGE,
    error::Error,
    output::Output,
    schema::{self, Written},
};

/// Writes every key as it comes, page by page.
pub(super) async fn run(
    with_hashes: bool,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let mut token = String::new();
    loop {
        let (keys, next) = page(with_hashes, token, client).await?;
        let mut lines = String::new();
        for key in keys {
            lines.push_str(&line(key, with_hashes)?);
            lines.push('\n');
        }
        output.text(&lines)?;
        if next.is_empty() {
            return Ok(());
        }
        token = next;
    }
}

async fn page(
    with_hashes: bool,
    page_token: String,
    client: &Client,
) -> Result<(Vec<Key>, String), Error> {
    let (environment, page_size) = (client.environment(), PAGE.cast_signed());
    if with_hashes {
        let request = ExportKeysRequest { environment, page_size, page_token };
        let answer = client.keys().export_keys(request).await?.into_inner();
        return Ok((answer.keys, answer.next_page_token));
    }
    let request =
        ListKeysRequest { environment, page_size, page_token, ..ListKeysRequest::default() };
    let answer = client.keys().list_keys(request).await?.into_inner();
    Ok((answer.keys, answer.next_page_token))
}

/// What an import takes of a key: no more than users set, and its secrets if they have hashes.
fn line(key: Key, with_hashes: bool) -> Result<String, Error> {
    let key = Key {
        created_at: None,
        updated_at: None,
        last_used_at: None,
        usage_count: 0,
        limits_reset_at: None,
        environment: String::new(),
        etag: String::new(),
        secrets: if with_hashes { key.secrets } else { Vec::new() },
        ..key
    };
    let open = schema::open("Key", &key)?;
    let text = serde_json::to_string(&Written::Document(&open));
    text.map_err(|fault| Error::Show(fault.to_string()))
}
