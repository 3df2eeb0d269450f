//! Looking back at revisions of the config.

use fastgate::{
    admin::v1::{
        ConfigChange, DiffConfigResponse, DiffRevisionsRequest, GetRevisionRequest,
        ListRevisionsRequest, ListRevisionsResponse, Revision, RevisionChange,
        config_change::{Action, After, Before},
    },
    model::Id,
    node::v1::EntityKind,
};

use super::{
    Admin,
    config::{document, wire},
    diff::diff,
    page::Paging,
};
use crate::{
    domain::{self, ChangeKind, Selector, Touched},
    error::Error,
    store::{Cursor, Held},
};

/// Takes away what the store adds.
macro_rules! forget {
    ($object:expr) => {{
        $object.created_at = None;
        $object.updated_at = None;
        $object.etag.clear();
    }};
}

/// Changes of a revision that are listed: an apply may have thousands.
const SHOWN: usize = 100;

impl Admin {
    /// Revisions, newest first.
    pub(super) async fn revisions(
        &self,
        request: ListRevisionsRequest,
    ) -> Result<ListRevisionsResponse, Error> {
        let ListRevisionsRequest { environment, page_size, page_token } = request;
        let environment = self.environment(&environment, "").await?;
        let list = ["revisions", environment.as_str()];
        let paging = Paging::parse(page_size, &page_token, &list)?;
        let query = paging.query();
        let before = query.after.and_then(|cursor| cursor.id.parse().ok());
        let found = self.store.revisions(&environment, before, query.limit).await?;
        let (found, next_page_token) =
            paging.cut(found, |revision| Cursor::by_id(&revision.number.to_string()));
        let revisions = found.into_iter().map(shown).collect();
        Ok(ListRevisionsResponse { revisions, next_page_token })
    }

    /// What a revision was.
    pub(super) async fn revision(
        &self,
        request: GetRevisionRequest,
    ) -> Result<fastgate::admin::v1::Config, Error> {
        let GetRevisionRequest { revision, environment } = request;
        let environment = self.environment(&environment, "").await?;
        let held = self.held_at(&environment, "revision", revision).await?;
        Ok(document(&environment, held))
    }

    /// What changed between two revisions.
    pub(super) async fn diff_of_revisions(
        &self,
        request: DiffRevisionsRequest,
    ) -> Result<DiffConfigResponse, Error> {
        let DiffRevisionsRequest { revision, from, environment } = request;
        let environment = self.environment(&environment, "").await?;
        let after = self.held_at(&environment, "revision", revision).await?;
        let from = from.unwrap_or(revision.saturating_sub(1));
        let before = self.held_at(&environment, "from", from).await?;
        let (after, all) = (document(&environment, after), Selector::default());
        let steps = diff(&environment, after, before, true, &all)?;
        let mut changes: Vec<_> =
            steps.iter().map(|step| wire(&environment, step, false)).collect();
        changes.iter_mut().for_each(forget_times);
        Ok(DiffConfigResponse { changes, revision: from })
    }

    /// The config as of a revision that a field of the request names.
    pub(super) async fn held_at(
        &self,
        environment: &Id,
        field: &str,
        revision: u64,
    ) -> Result<Held, Error> {
        self.store.config_at(environment, revision).await?.ok_or_else(|| {
            let fault = format!(
                "is {revision}, which is not in the history: list the revisions there are with \
                 'fgctl config history'"
            );
            Error::field(field, fault)
        })
    }
}

fn shown(revision: domain::Revision) -> Revision {
    let domain::Revision { number, at, token_id, action, touched } = revision;
    Revision {
        revision: number,
        timestamp: Some(at.into()),
        token_id,
        action,
        change_count: u32::try_from(touched.len()).unwrap_or(u32::MAX),
        changes: touched.into_iter().take(SHOWN).map(change).collect(),
    }
}

fn change(Touched { kind, id, change }: Touched) -> RevisionChange {
    let action = match change {
        ChangeKind::Created => Action::Create,
        ChangeKind::Updated => Action::Update,
        ChangeKind::Deleted => Action::Delete,
    };
    let kind = match kind {
        EntityKind::Route => "route",
        EntityKind::Upstream => "upstream",
        EntityKind::Plan => "plan",
        EntityKind::Settings => "environment",
        EntityKind::Key => "key",
        EntityKind::Unspecified => "",
    };
    RevisionChange { action: action.into(), kind: kind.to_owned(), id }
}

/// Times and etags are those of now, if any: the history has none.
fn forget_times(change: &mut ConfigChange) {
    match &mut change.before {
        Some(Before::RouteBefore(route)) => forget!(route),
        Some(Before::UpstreamBefore(upstream)) => forget!(upstream),
        Some(Before::PlanBefore(plan)) => forget!(plan),
        None => {}
    }
    match &mut change.after {
        Some(After::Route(route)) => forget!(route),
        Some(After::Upstream(upstream)) => forget!(upstream),
        Some(After::Plan(plan)) => forget!(plan),
        None => {}
    }
}
