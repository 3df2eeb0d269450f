//! Routes: which requests go where.

use std::sync::Arc;

use async_trait::async_trait;
use fastgate::{
    admin::v1::{
        CreateRouteRequest, DeleteRouteRequest, GetRouteRequest, ListRoutesRequest,
        ListRoutesResponse, Route as WireRoute, UpdateRouteRequest,
        route_service_server::RouteService,
    },
    model::Id,
};
use tonic::{Request, Response, Status};

use super::{
    Admin,
    change::{Draft, Kept, caller},
    mask::Updatable,
    missing, new_id,
    page::Paging,
    parse_id,
    repeat::Answer,
};
use crate::{
    domain::{Committed, Expect, Object, Op, Route, Stored},
    error::Error,
    store::{Cursor, Store, StoreError},
};

const CREATE: &str = "fastgate.admin.v1.RouteService/CreateRoute";

const UPDATABLE: Updatable = Updatable {
    message: "fastgate.admin.v1.Route",
    fixed: &["route_id", "environment", "created_at", "updated_at", "etag"],
};

#[tonic::async_trait]
impl RouteService for Admin {
    async fn create_route(
        &self,
        request: Request<CreateRouteRequest>,
    ) -> Result<Response<WireRoute>, Status> {
        let actor = caller(&request)?;
        let request = request.into_inner();
        let CreateRouteRequest { validate_only, request_id, .. } = &request;
        let call = Self::call_id(CREATE, &request, request_id, *validate_only)?;
        if let Some(route) = self.first_answer(call.as_ref()).await? {
            return Ok(Response::new(route));
        }
        let CreateRouteRequest { route, environment, validate_only, .. } = request;
        let mut sent = route.ok_or_else(|| missing("route"))?;
        let environment = self.environment(&environment, &sent.environment).await?;
        if sent.route_id.is_empty() {
            sent.route_id = new_id("rt");
        }
        let route = Route::parse(sent).map_err(Error::from)?;
        let draft = Draft { environment, actor, action: CREATE, validate_only };
        let field = path_field(&route.wire);
        let created = self.create(&draft, route, call).await;
        let created = created.map_err(|error| at_field(error, field))?;
        Ok(Response::new(created.answer))
    }

    async fn get_route(
        &self,
        request: Request<GetRouteRequest>,
    ) -> Result<Response<WireRoute>, Status> {
        let GetRouteRequest { route_id, environment } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let id = parse_id("route_id", &route_id)?;
        let (stored, ()) = self.read(&environment, id.as_str()).await?;
        Ok(Response::new(wire(&environment, &stored)))
    }

    async fn list_routes(
        &self,
        request: Request<ListRoutesRequest>,
    ) -> Result<Response<ListRoutesResponse>, Status> {
        let ListRoutesRequest { environment, page_size, page_token } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let list = ["routes", environment.as_str()];
        let paging = Paging::parse(page_size, &page_token, &list)?;
        let found = self.store.routes(&environment, &paging.query()).await;
        let (page, next_page_token) = paging.cut(found.map_err(Error::from)?, |route| {
            Cursor::by_id(route.object.model.route_id.as_str())
        });
        let routes = page.iter().map(|route| wire(&environment, route)).collect();
        Ok(Response::new(ListRoutesResponse { routes, next_page_token }))
    }

    async fn update_route(
        &self,
        request: Request<UpdateRouteRequest>,
    ) -> Result<Response<WireRoute>, Status> {
        let actor = caller(&request)?;
        let UpdateRouteRequest { route, update_mask, environment, validate_only } =
            request.into_inner();
        let sent = route.ok_or_else(|| missing("route"))?;
        let environment = self.environment(&environment, &sent.environment).await?;
        let id = parse_id("route_id", &sent.route_id)?;
        let action = "fastgate.admin.v1.RouteService/UpdateRoute";
        let draft = Draft { environment, actor, action, validate_only };
        let (pool, etag, field) = (self.pool.clone(), sent.etag.clone(), path_field(&sent));
        let updated = self.update(&draft, id.as_str(), &etag, move |stored: &Route| {
            let mask = update_mask.as_ref();
            Ok(Route::parse(UPDATABLE.merge(&pool, &stored.wire, &sent, mask)?)?)
        });
        let (updated, ()) = updated.await.map_err(|error| at_field(error, field))?;
        Ok(Response::new(wire(&draft.environment, &updated)))
    }

    async fn delete_route(
        &self,
        request: Request<DeleteRouteRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller(&request)?;
        let DeleteRouteRequest { route_id, environment, etag, validate_only } =
            request.into_inner();
        let environment = self.environment(&environment, "").await?;
        let id = parse_id("route_id", &route_id)?;
        let action = "fastgate.admin.v1.RouteService/DeleteRoute";
        let draft = Draft { environment, actor, action, validate_only };
        self.delete(&draft, etag, |expect| Op::DeleteRoute(id, expect)).await?;
        Ok(Response::new(()))
    }
}

#[async_trait]
impl Kept for Route {
    const KIND: &'static str = "route";

    type Wire = WireRoute;
    type Aside = ();

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        id: &str,
    ) -> Result<Option<(Stored<Self>, ())>, StoreError> {
        Ok(store.route(environment, id).await?.map(|found| (found, ())))
    }

    fn put(self, expect: Expect) -> Op {
        Op::PutRoute(Box::new(self), expect)
    }

    fn of(object: Object) -> Option<Stored<Self>> {
        match object {
            Object::Route(found) => Some(*found),
            _ => None,
        }
    }

    fn shown(&self, environment: &Id) -> WireRoute {
        WireRoute { environment: environment.to_string(), ..self.wire.clone() }
    }
}

impl Answer for WireRoute {
    fn complete(&mut self, committed: &Committed) {
        self.created_at = Some(committed.at.into());
        self.updated_at = self.created_at;
        self.etag = committed.etag();
    }
}

pub(super) fn wire(environment: &Id, stored: &Stored<Route>) -> WireRoute {
    WireRoute {
        created_at: Some(stored.created_at.into()),
        updated_at: Some(stored.updated_at.into()),
        etag: stored.etag.clone(),
        ..stored.object.shown(environment)
    }
}

/// The field that says which paths a route matches.
fn path_field(route: &WireRoute) -> &'static str {
    if route.path_prefix.is_empty() { "path" } else { "path_prefix" }
}

/// Says of a collision which field the user has to change.
fn at_field(error: Error, field: &'static str) -> Error {
    match error {
        Error::Store(StoreError::RouteCollision { id, other }) => {
            Error::RouteCollision { id, other, field }
        }
        error => error,
    }
}
