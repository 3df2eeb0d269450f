//! Environments: isolated sets of keys, routes, upstreams and plans.

use std::sync::Arc;

use async_trait::async_trait;
use fastgate::{
    admin::v1::{
        CreateEnvironmentRequest, DeleteEnvironmentRequest, Environment as WireEnvironment,
        GetEnvironmentRequest, ListEnvironmentsRequest, ListEnvironmentsResponse,
        UpdateEnvironmentRequest, environment_service_server::EnvironmentService,
    },
    model::{self, Id, Violations},
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
    domain::{Committed, Environment, Expect, Namespace, Object, Op, RolloutPolicy, Stored},
    error::Error,
    store::{Cursor, Head, Store, StoreError},
};

const CREATE: &str = "fastgate.admin.v1.EnvironmentService/CreateEnvironment";

const UPDATABLE: Updatable = Updatable {
    message: "fastgate.admin.v1.Environment",
    fixed: &["environment", "created_at", "updated_at", "etag", "keys_revision", "config_revision"],
};

#[tonic::async_trait]
impl EnvironmentService for Admin {
    async fn create_environment(
        &self,
        request: Request<CreateEnvironmentRequest>,
    ) -> Result<Response<WireEnvironment>, Status> {
        let actor = caller(&request)?;
        let request = request.into_inner();
        let CreateEnvironmentRequest { validate_only, request_id, .. } = &request;
        let call = Self::call_id(CREATE, &request, request_id, *validate_only)?;
        if let Some(environment) = self.first_answer(call.as_ref()).await? {
            return Ok(Response::new(environment));
        }
        let CreateEnvironmentRequest { environment, validate_only, .. } = request;
        let sent = environment.ok_or_else(|| missing("environment"))?;
        let id = parse_id("environment", &sent.environment)?;
        let environment = parse(id.clone(), &sent)?;
        let draft = Draft { environment: id, actor, action: CREATE, validate_only };
        let created = self.create(&draft, environment, call).await?;
        Ok(Response::new(created.answer))
    }

    async fn get_environment(
        &self,
        request: Request<GetEnvironmentRequest>,
    ) -> Result<Response<WireEnvironment>, Status> {
        let id = parse_id("environment", &request.into_inner().environment)?;
        let (stored, ()) = self.read(&id, id.as_str()).await?;
        Ok(Response::new(wire(&stored, &self.heads().await?)))
    }

    async fn list_environments(
        &self,
        request: Request<ListEnvironmentsRequest>,
    ) -> Result<Response<ListEnvironmentsResponse>, Status> {
        let ListEnvironmentsRequest { page_size, page_token } = request.into_inner();
        let paging = Paging::parse(page_size, &page_token, &["environments"])?;
        let found = self.store.environments(&paging.query()).await.map_err(Error::from)?;
        let (page, next_page_token) =
            paging.cut(found, |found| Cursor::by_id(found.object.id.as_str()));
        let heads = self.heads().await?;
        let environments = page.iter().map(|environment| wire(environment, &heads)).collect();
        Ok(Response::new(ListEnvironmentsResponse { environments, next_page_token }))
    }

    async fn update_environment(
        &self,
        request: Request<UpdateEnvironmentRequest>,
    ) -> Result<Response<WireEnvironment>, Status> {
        let actor = caller(&request)?;
        let UpdateEnvironmentRequest { environment, update_mask, validate_only } =
            request.into_inner();
        let sent = environment.ok_or_else(|| missing("environment"))?;
        let id = parse_id("environment", &sent.environment)?;
        let action = "fastgate.admin.v1.EnvironmentService/UpdateEnvironment";
        let draft = Draft { environment: id.clone(), actor, action, validate_only };
        let (pool, etag) = (self.pool.clone(), sent.etag.clone());
        let updated = self.update(&draft, id.as_str(), &etag, move |stored: &Environment| {
            let before = updatable(stored);
            let after = UPDATABLE.merge(&pool, &before, &sent, update_mask.as_ref())?;
            parse(stored.id.clone(), &after)
        });
        Ok(Response::new(wire(&updated.await?.0, &self.heads().await?)))
    }

    async fn delete_environment(
        &self,
        request: Request<DeleteEnvironmentRequest>,
    ) -> Result<Response<()>, Status> {
        let actor = caller(&request)?;
        let DeleteEnvironmentRequest { environment, etag, validate_only } = request.into_inner();
        let environment = parse_id("environment", &environment)?;
        if environment == Id::default_environment() {
            return Err(Error::DefaultEnvironment.into());
        }
        let action = "fastgate.admin.v1.EnvironmentService/DeleteEnvironment";
        let draft = Draft { environment, actor, action, validate_only };
        self.delete(&draft, etag, Op::DeleteEnvironment).await?;
        Ok(Response::new(()))
    }
}

impl Admin {
    async fn heads(&self) -> Result<Vec<Head>, Error> {
        Ok(self.store.heads().await?)
    }
}

fn parse(id: Id, sent: &WireEnvironment) -> Result<Environment, Error> {
    let mut faults = Violations::default();
    if let Err(fault) = model::text(&sent.description) {
        faults.add("description", fault);
    }
    let rollout = sent.rollout.clone().and_then(|sent| {
        RolloutPolicy::parse(sent).map_err(|part| faults.add_below("rollout", part)).ok()
    });
    let environment = Environment {
        id,
        description: sent.description.clone(),
        default_rate_limit: sent.default_rate_limit,
        rollout,
    };
    if let Err(found) = model::Settings::parse(&environment.settings()) {
        faults.extend(found);
    }
    Ok(faults.or(environment)?)
}

#[async_trait]
impl Kept for Environment {
    const KIND: &'static str = "environment";

    type Wire = WireEnvironment;
    type Aside = ();

    async fn read(
        store: &Arc<dyn Store>,
        environment: &Id,
        _: &str,
    ) -> Result<Option<(Stored<Self>, ())>, StoreError> {
        Ok(store.environment(environment.as_str()).await?.map(|found| (found, ())))
    }

    fn put(self, expect: Expect) -> Op {
        Op::PutEnvironment(self, expect)
    }

    fn of(object: Object) -> Option<Stored<Self>> {
        match object {
            Object::Environment(found) => Some(found),
            _ => None,
        }
    }

    fn shown(&self, _: &Id) -> WireEnvironment {
        updatable(self)
    }
}

impl Answer for WireEnvironment {
    fn complete(&mut self, committed: &Committed) {
        self.created_at = Some(committed.at.into());
        self.updated_at = self.created_at;
        self.etag = committed.etag();
        self.keys_revision = committed.keys_revision.unwrap_or(0);
        self.config_revision = committed.config_revision.unwrap_or(0);
    }
}

fn wire(stored: &Stored<Environment>, heads: &[Head]) -> WireEnvironment {
    let revision = |ns| {
        let is_it = |head: &&Head| head.environment == stored.object.id && head.ns == ns;
        heads.iter().find(is_it).map_or(0, |head| head.revision)
    };
    WireEnvironment {
        created_at: Some(stored.created_at.into()),
        updated_at: Some(stored.updated_at.into()),
        etag: stored.etag.clone(),
        keys_revision: revision(Namespace::Keys),
        config_revision: revision(Namespace::Config),
        ..updatable(&stored.object)
    }
}

/// The fields of an environment that users set.
fn updatable(environment: &Environment) -> WireEnvironment {
    WireEnvironment {
        environment: environment.id.to_string(),
        description: environment.description.clone(),
        default_rate_limit: environment.default_rate_limit,
        rollout: environment.rollout.as_ref().map(|policy| policy.wire.clone()),
        ..WireEnvironment::default()
    }
}
