//! Upstreams: the named sets of targets that routes share.

use std::sync::Arc;

use async_trait::async_trait;
use fastgate::{
    admin::v1::{
        CreateUpstreamRequest, DeleteUpstreamRequest, GetUpstreamRequest, ListUpstreamsRequest,
        ListUpstreamsResponse, UpdateUpstreamRequest, Upstream as WireUpstream,
        upstream_service_server::UpstreamService,
    },
    model::Id,
};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    change::{Draft, Kept, caller},
    mask::Updatable,
    missing,
    page::Paging,
    parse_id,
    repeat::Answer,
};
use crate::{
    domain::{Committed, Expect, Object, Op, Stored, Upstream},
    error::Error,
    store::{Cursor, Store, StoreError},
};

const CREATE: &str = "fastgate.admin.v1.UpstreamService/CreateUpstream";

const UPDATABLE: Updatable = Updatable {
    message: "fastgate.admin.v1.Upstream",
    fixed: &["upstream_id", "environment", "created_at", "updated_at", "etag"],
};

#[tonic::async_trait]
impl UpstreamService for Admin {
    async fn create_upstream(
        &self,
        request: Request<CreateUpstreamRequest>,
    ) -> Result<Response<WireUpstream>, Status> {
        let actor = caller(&request)?;
        let request = request.into_inner();
        let CreateUpstreamRequest { validate_only, request_id, .. } = &request;
        let call = Self::call_id(CREATE, &request, request_id, *validate_only)?;
        if let Some(upstream) = self.first_answer(call.as_ref()).await? {
            return Ok(Response::new(upstream));
        }
        let CreateUpstreamRequest { upstream, environment, validate_only, .. } = request;
        let sent = upstream.ok_or_else(|| missing("upstream"))?;
        let environment = self.environment(&environment, &sent.environment).await?;
        let upstream = Upstream::parse(sent).map_err(Error::from)?;
        let draft = Draft { environment, actor, action: CREATE, validate_only };
        let created = self.create(&draft, upstream, call).await?;
        Ok(Response::new(created.answer))
    }

    async fn get_upstream(
        &self,
        request: Request<GetUpstreamRequest>,
    ) -> Result<Response<WireUpstream>, Status> {
        let GetUpstreamRequest { upstream_id, environment } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let id = parse_id("upstream_id", &upstream_id)?;
        let (stored, ()) = self.read(&environment, id.as_str()).await?;
        Ok(Response::new(wire(&environment, &stored)))
    }

    async fn list_upstreams(
        &self,
        request: Request<ListUpstreamsRequest>,
    ) -> Result<Response<ListUpstreamsResponse>, Status> {
        let ListUpstreamsRequest { environment, page_size, page_token } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let list = ["upstreams", environment.as_str()];
        let paging = Paging::parse(page_size, &page_token, &list)?;
        let found = self.store.upstreams(&environment, &paging.query()).await;
        let (page, next_page_token) = paging.cut(found.map_err(Error::from)?, |upstream| {
            Cursor::by_id(upstream.object.model.upstream_id.as_str())
        });
        let upstreams = page.iter().map(|upstream| wire(&environment, upstream)).collect();
        Ok(Response::new(ListUpstreamsResponse { upstreams, next_page_token }))
    }

    async fn update_upstream(
        &self,
        request: Request<UpdateUpstreamRequest>,
    ) -> Result<Response<WireUpstream>, Status> {
        let actor = caller(&request)?;
        let UpdateUpstreamRequest { upstream, update_mask, environment, validate_only } =
            request.into_inner();
        let sent = upstream.ok_or_else(|| missing("upstream"))?;
        let environment = self.environment(&environment, &sent.environment).await?;
        let id = parse_id("upstream_id", &sent.upstream_id)?;
        let action = "fastgate.admin.v1.UpstreamService/UpdateUpstream";
        let draft = Draft { environment, actor, action, validate_only };
        let (pool, etag) = (self.pool.clone(), sent.etag.clone());
        let updated = self.update(&draft, id.as_str(), &etag, move |stored: &Upstream| {
            let mask = update_mask.as_ref();
            Ok(Upstream::parse(UPDATABLE.merge(&pool, &stored.wire, &sent, mask)?)?)
        });
        Ok(Response::new(wire(&draft.environment, &updated.await?.0)))
    }

    async fn delete_upstream(
        &self,
        request: Request<DeleteUpstreamRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller(&request)?;
        let DeleteUpstreamRequest { upstream_id, environment, etag, validate_only } =
            request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let id = parse_id("upstream_id", &upstream_id)?;
        let action = "fastgate.admin.v1.UpstreamService/DeleteUpstream";
        let draft = Draft { environment, actor, action, validate_only };
        self.delete(&draft, etag, |expect| Op::DeleteUpstream(id, expect)).await?;
        Ok(Response::new(()))
    }
}

#[async_trait]
impl Kept for Upstream {
    const KIND: &'static str = "upstream";

    type Wire = WireUpstream;
    type Aside = ();

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        id: &str,
    ) -> Result<Option<(Stored<Self>, ())>, StoreError> {
        Ok(store.upstream(environment, id).await?.map(|found| (found, ())))
    }

    fn put(self, expect: Expect) -> Op {
        Op::PutUpstream(Box::new(self), expect)
    }

    fn of(object: Object) -> Option<Stored<Self>> {
        match object {
            Object::Upstream(found) => Some(found),
            _ => None,
        }
    }

    fn shown(&self, environment: &Id) -> WireUpstream {
        WireUpstream { environment: environment.to_string(), ..self.wire.clone() }
    }
}

impl Answer for WireUpstream {
    fn complete(&mut self, committed: &Committed) {
        self.created_at = Some(committed.at.into());
        self.updated_at = self.created_at;
        self.etag = committed.etag();
    }
}

pub(super) fn wire(environment: &Id, stored: &Stored<Upstream>) -> WireUpstream {
    WireUpstream {
        created_at: Some(stored.created_at.into()),
        updated_at: Some(stored.updated_at.into()),
        etag: stored.etag.clone(),
        ..stored.object.shown(environment)
    }
}
