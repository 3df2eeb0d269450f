//! Keys that are asked for at the same time: one look at the database for all of them.

use std::collections::HashMap;

use fastgate::model::Id;

use super::{super::Backend, Result, objects, together::Joint};
use crate::domain::{ApiKey, Stored, Usage};

/// A key somebody asks for.
pub(super) struct WantedKey(pub(super) Id);

impl Joint for WantedKey {
    type Answer = Option<(Stored<ApiKey>, Usage)>;

    const AT_ONCE: usize = 256;

    async fn run(
        backend: &Backend,
        environment: &Id,
        wanted: &[Self],
        answers: &mut Vec<Result<Self::Answer>>,
    ) -> Result<()> {
        let mut key_ids: Vec<_> = wanted.iter().map(|WantedKey(key_id)| key_id.clone()).collect();
        key_ids.sort_unstable();
        key_ids.dedup();
        let found = objects::keys_used(&mut backend.read().await?, environment, &key_ids).await?;
        let by_id: HashMap<_, _> =
            found.into_iter().map(|found| (found.0.object.key_id.clone(), found)).collect();
        answers.extend(wanted.iter().map(|WantedKey(key_id)| Ok(by_id.get(key_id).cloned())));
        Ok(())
    }
}
