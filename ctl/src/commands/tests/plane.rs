//! A control plane in miniature: keys and a config in memory, one page holds two keys.

use std::sync::{Arc, Mutex, MutexGuard};

use fastgate::{
    admin::v1::{
        config_change::{Action, After, Before},
        config_service_server::{ConfigService, ConfigServiceServer},
        key_service_server::{KeyService, KeyServiceServer},
        log_service_server::{LogService, LogServiceServer},
        metrics_service_server::{MetricsService, MetricsServiceServer},
        node_service_server::{NodeService, NodeServiceServer},
        rollout_service_server::{RolloutService, RolloutServiceServer},
        *,
    },
    model,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Stops with the test.
pub(super) struct Plane {
    pub(super) addr: String,
    state: Shared,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Default)]
struct State {
    keys: Vec<Key>,
    mask: Vec<String>,
    config: Config,
    revision: u64,
    nodes: Vec<Node>,
    rollout: Option<Rollout>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<State>>);

impl Plane {
    pub(super) fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let state = Shared::default();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("a port");
        let addr = listener.local_addr().expect("an address").to_string();
        let server = Server::builder()
            .add_service(KeyServiceServer::new(state.clone()))
            .add_service(ConfigServiceServer::new(state.clone()))
            .add_service(LogServiceServer::new(state.clone()))
            .add_service(MetricsServiceServer::new(state.clone()))
            .add_service(NodeServiceServer::new(state.clone()))
            .add_service(RolloutServiceServer::new(state.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        runtime.spawn(server);
        Self { addr, state, _runtime: runtime }
    }

    /// What it lists from now on.
    pub(super) fn set_nodes(&self, nodes: Vec<Node>) {
        self.state.0.lock().expect("not poisoned").nodes = nodes;
    }

    /// How the last change goes to the nodes from now on.
    pub(super) fn set_rollout(&self, rollout: Rollout) {
        self.state.0.lock().expect("not poisoned").rollout = Some(rollout);
    }

    pub(super) fn last_mask(&self) -> Vec<String> {
        self.state.0.lock().expect("not poisoned").mask.clone()
    }
}

type Answer<T> = Result<Response<T>, Status>;

impl Shared {
    /// The state, for whoever sent the token.
    fn enter<T>(&self, request: &Request<T>) -> Result<MutexGuard<'_, State>, Status> {
        let sent = request.metadata().get("authorization").map(|value| value.as_bytes());
        if sent != Some(b"Bearer fga_test") {
            return Err(Status::unauthenticated("no valid admin token was sent"));
        }
        Ok(self.0.lock().expect("not poisoned"))
    }
}

fn invalid(message: &str, violations: Vec<(String, String)>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info("INVALID", "fastgate", [("n".into(), "1".into())]);
    for (field, description) in violations {
        details.add_bad_request_violation(field, description);
    }
    Status::with_error_details(Code::InvalidArgument, message, details)
}

fn created_at() -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 123_000_000 })
}

#[tonic::async_trait]
impl KeyService for Shared {
    async fn create_key(&self, request: Request<CreateKeyRequest>) -> Answer<Key> {
        let mut state = self.enter(&request)?;
        let mut key = request.into_inner().key.unwrap_or_default();
        if key.source_path.is_empty() {
            let missing = ("key.source_path".into(), "is missing: give one".into());
            return Err(invalid("the key is not valid", vec![missing]));
        }
        key.key_id = format!("key-{}", state.keys.len() + 1);
        key.created_at = created_at();
        key.is_active = Some(true);
        key.environment = "default".into();
        key.etag = "1".into();
        state.keys.push(key.clone());
        key.key_value = "fg_shown_once".into();
        Ok(Response::new(key))
    }

    async fn get_key(&self, request: Request<GetKeyRequest>) -> Answer<Key> {
        let state = self.enter(&request)?;
        let key = state.keys.iter().find(|key| key.key_id == request.get_ref().key_id);
        key.cloned().map(Response::new).ok_or_else(|| Status::not_found("there is no such key"))
    }

    async fn import_keys(&self, request: Request<ImportKeysRequest>) -> Answer<ImportKeysResponse> {
        let mut state = self.enter(&request)?;
        let mut keys = Vec::new();
        for key in request.into_inner().keys {
            let existed = state.keys.iter().any(|there| there.key_id == key.key_id);
            keys.push(ImportedKey { key_id: key.key_id.clone(), existed, ..Default::default() });
            if !existed {
                state.keys.push(key);
            }
        }
        Ok(Response::new(ImportKeysResponse { keys }))
    }

    async fn export_keys(&self, _: Request<ExportKeysRequest>) -> Answer<ExportKeysResponse> {
        Err(Status::unimplemented(""))
    }

    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Answer<ListKeysResponse> {
        let state = self.enter(&request)?;
        let request = request.get_ref();
        let from: usize = request.page_token.parse().unwrap_or(0);
        let size = usize::try_from(request.page_size).unwrap_or(0).min(2);
        let keys: Vec<_> = state.keys.iter().skip(from).take(size).cloned().collect();
        let next = from + keys.len();
        let next_page_token =
            if next < state.keys.len() { next.to_string() } else { String::new() };
        Ok(Response::new(ListKeysResponse { keys, next_page_token }))
    }

    async fn update_key(&self, request: Request<UpdateKeyRequest>) -> Answer<Key> {
        let mut state = self.enter(&request)?;
        let request = request.into_inner();
        let key = request.key.unwrap_or_default();
        if key.etag == "stale" {
            return Err(Status::aborted("the key was changed since etag 'stale'"));
        }
        state.mask = request.update_mask.unwrap_or_default().paths;
        Ok(Response::new(key))
    }

    async fn delete_key(&self, _: Request<DeleteKeyRequest>) -> Answer<()> {
        Err(Status::unimplemented(""))
    }

    async fn rotate_key(&self, _: Request<RotateKeyRequest>) -> Answer<Key> {
        Err(Status::unimplemented(""))
    }

    async fn revoke_key(&self, _: Request<RevokeKeyRequest>) -> Answer<Key> {
        Err(Status::unimplemented(""))
    }
}

impl State {
    fn violations(config: &Config) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for (at, route) in config.routes.iter().enumerate() {
            if let Err(violations) = model::Route::parse(route) {
                let place = |one: model::Violation| {
                    (format!("routes[{at}].{}", one.field), one.description)
                };
                all.extend(violations.into_iter().map(place));
            }
        }
        all
    }

    fn changes(&self, config: &Config) -> Result<Vec<ConfigChange>, Status> {
        let violations = Self::violations(config);
        if !violations.is_empty() {
            return Err(invalid("the document is not valid", violations));
        }
        let mut changes = Vec::new();
        for upstream in &config.upstreams {
            let mut stored = self.config.upstreams.iter();
            let before = stored.find(|stored| stored.upstream_id == upstream.upstream_id).cloned();
            if before.as_ref() != Some(upstream) {
                changes.push(ConfigChange {
                    action: action(before.is_some()),
                    before: before.map(Before::UpstreamBefore),
                    after: Some(After::Upstream(upstream.clone())),
                });
            }
        }
        for plan in &config.plans {
            let mut stored = self.config.plans.iter();
            let before = stored.find(|stored| stored.plan_id == plan.plan_id).cloned();
            if before.as_ref() != Some(plan) {
                changes.push(ConfigChange {
                    action: action(before.is_some()),
                    before: before.map(Before::PlanBefore),
                    after: Some(After::Plan(plan.clone())),
                });
            }
        }
        for route in &config.routes {
            let mut stored = self.config.routes.iter();
            let before = stored.find(|stored| stored.route_id == route.route_id).cloned();
            if before.as_ref() != Some(route) {
                changes.push(ConfigChange {
                    action: action(before.is_some()),
                    before: before.map(Before::RouteBefore),
                    after: Some(After::Route(route.clone())),
                });
            }
        }
        Ok(changes)
    }
}

fn action(exists: bool) -> i32 {
    if exists { Action::Update.into() } else { Action::Create.into() }
}

#[tonic::async_trait]
impl ConfigService for Shared {
    async fn validate_config(
        &self,
        request: Request<ValidateConfigRequest>,
    ) -> Answer<ValidateConfigResponse> {
        drop(self.enter(&request)?);
        let config = request.into_inner().config.unwrap_or_default();
        let violations = State::violations(&config).into_iter();
        let violations =
            violations.map(|(field, description)| Violation { field, description }).collect();
        Ok(Response::new(ValidateConfigResponse { violations }))
    }

    async fn diff_config(&self, request: Request<DiffConfigRequest>) -> Answer<DiffConfigResponse> {
        let state = self.enter(&request)?;
        let config = request.into_inner().config.unwrap_or_default();
        let changes = state.changes(&config)?;
        Ok(Response::new(DiffConfigResponse { changes, revision: state.revision }))
    }

    async fn apply_config(
        &self,
        request: Request<ApplyConfigRequest>,
    ) -> Answer<ApplyConfigResponse> {
        let mut state = self.enter(&request)?;
        let config = request.into_inner().config.unwrap_or_default();
        let changes = state.changes(&config)?;
        state.config = config;
        state.revision += u64::from(!changes.is_empty());
        Ok(Response::new(ApplyConfigResponse { changes, revision: state.revision }))
    }

    async fn list_revisions(
        &self,
        _: Request<ListRevisionsRequest>,
    ) -> Answer<ListRevisionsResponse> {
        Err(Status::unimplemented(""))
    }

    async fn get_revision(&self, _: Request<GetRevisionRequest>) -> Answer<Config> {
        Err(Status::unimplemented(""))
    }

    async fn diff_revisions(&self, _: Request<DiffRevisionsRequest>) -> Answer<DiffConfigResponse> {
        Err(Status::unimplemented(""))
    }

    async fn rollback_config(
        &self,
        _: Request<RollbackConfigRequest>,
    ) -> Answer<ApplyConfigResponse> {
        Err(Status::unimplemented(""))
    }

    async fn export_config(&self, request: Request<ExportConfigRequest>) -> Answer<Config> {
        let mut config = self.enter(&request)?.config.clone();
        config.environment = "default".into();
        for route in &mut config.routes {
            route.created_at = created_at();
            route.etag = "7".into();
            route.environment = "default".into();
        }
        Ok(Response::new(config))
    }
}

#[tonic::async_trait]
impl RolloutService for Shared {
    async fn get_rollout(&self, request: Request<GetRolloutRequest>) -> Answer<Rollout> {
        let rollout = self.enter(&request)?.rollout.clone();
        rollout
            .map(Response::new)
            .ok_or_else(|| Status::not_found("rollout 'default' does not exist"))
    }

    async fn pause_rollout(&self, request: Request<PauseRolloutRequest>) -> Answer<Rollout> {
        let mut state = self.enter(&request)?;
        let rollout = state.rollout.as_mut().expect("one");
        rollout.state = rollout::State::Paused.into();
        Ok(Response::new(rollout.clone()))
    }

    async fn resume_rollout(&self, _: Request<ResumeRolloutRequest>) -> Answer<Rollout> {
        Err(Status::failed_precondition(
            "the rollout of environment 'default' can't be resumed: it is running",
        ))
    }

    async fn undo_rollout(&self, _: Request<UndoRolloutRequest>) -> Answer<Rollout> {
        Err(Status::unimplemented(""))
    }
}

/// Two events, the older one as no client should cause it.
fn events() -> Vec<LogEvent> {
    let event = LogEvent {
        timestamp: created_at(),
        status_code: 200,
        method: "GET".into(),
        path: "/a".into(),
        response_time_ms: 1.25,
        request_id: "r2".into(),
        ..LogEvent::default()
    };
    let path = "/\u{1b}[2J\u{9b}2J\r\n\u{202e}x".into();
    vec![event.clone(), LogEvent { path, request_id: "r1".into(), ..event }]
}

#[tonic::async_trait]
impl NodeService for Shared {
    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Answer<ListNodesResponse> {
        let nodes = self.enter(&request)?.nodes.clone();
        Ok(Response::new(ListNodesResponse { nodes, ..Default::default() }))
    }

    async fn revoke_node(&self, _: Request<RevokeNodeRequest>) -> Answer<()> {
        Err(Status::unimplemented(""))
    }

    async fn create_join_token(&self, _: Request<CreateJoinTokenRequest>) -> Answer<JoinToken> {
        Err(Status::unimplemented(""))
    }

    async fn list_join_tokens(
        &self,
        _: Request<ListJoinTokensRequest>,
    ) -> Answer<ListJoinTokensResponse> {
        Err(Status::unimplemented(""))
    }

    async fn delete_join_token(&self, _: Request<DeleteJoinTokenRequest>) -> Answer<()> {
        Err(Status::unimplemented(""))
    }

    async fn get_node_config(&self, _: Request<GetNodeConfigRequest>) -> Answer<NodeConfig> {
        Err(Status::unimplemented(""))
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Answer<Explanation> {
        drop(self.enter(&request)?);
        let request = request.into_inner();
        let route = |id: &str, outcome: &str, detail: &str| RouteCandidate {
            route_id: id.into(),
            path_prefix: "/orders".into(),
            outcome: outcome.into(),
            detail: detail.into(),
            ..Default::default()
        };
        let limit = Limit { name: "key".into(), amount: 60, ..Default::default() };
        let standing = LimitStanding { limit: Some(limit), remaining: 7, ..Default::default() };
        Ok(Response::new(Explanation {
            node_id: if request.node_id.is_empty() { "n1".into() } else { request.node_id },
            keys_revision: 3,
            config_revision: 4,
            status_code: 403,
            error: "permission_missing".into(),
            detail: "key 'k1' does not hold orders:read".into(),
            client_address: request.from,
            host: "localhost".into(),
            path: request.target,
            route_id: "orders".into(),
            candidates: vec![
                route("orders", "taken", ""),
                route("writes", "no_match", "is for PUT\u{1b}[2J"),
            ],
            other_routes: 5,
            key: Some(KeyFinding {
                key_id: "k1".into(),
                state: "valid".into(),
                // What was sent comes back by its length.
                source_path: request
                    .headers
                    .iter()
                    .map(|line| format!("{}({})", line.name, line.value.len()))
                    .collect::<Vec<_>>()
                    .join("+"),
                ..Default::default()
            }),
            permissions: vec![PermissionFinding {
                permission: "orders:read".into(),
                held: String::new(),
            }],
            limits: vec![LimitFinding { standing: Some(standing), admits: true }],
            targets: vec![TargetFinding {
                url: "http://a:1".into(),
                share: 0.7,
                request_url: "http://a:1/orders".into(),
            }],
            ..Default::default()
        }))
    }
}

type Stream<T> = tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>>;

#[tonic::async_trait]
impl LogService for Shared {
    type ExportLogsStream = Stream<FilePart>;
    type TailLogsStream = Stream<TailLogsResponse>;

    async fn list_logs(&self, request: Request<ListLogsRequest>) -> Answer<ListLogsResponse> {
        drop(self.enter(&request)?);
        // What was asked comes back as what is found.
        let asked = format!("{:?}", request.get_ref());
        let echo = LogEvent { user_agent: asked, ..LogEvent::default() };
        let logs = if request.get_ref().key_id == "echo" { vec![echo] } else { events() };
        Ok(Response::new(ListLogsResponse { logs, ..Default::default() }))
    }

    async fn export_logs(
        &self,
        request: Request<ExportLogsRequest>,
    ) -> Answer<Self::ExportLogsStream> {
        drop(self.enter(&request)?);
        let part =
            |text: String| Ok(FilePart { data: text.into_bytes().into(), ..Default::default() });
        let parts = vec![part(format!("{:?}\n", request.get_ref())), part("end\n".into())];
        Ok(Response::new(tokio_stream::iter(parts)))
    }

    async fn list_gaps(&self, request: Request<ListGapsRequest>) -> Answer<ListGapsResponse> {
        drop(self.enter(&request)?);
        let gap = LogGap {
            timestamp: created_at(),
            node_id: request.into_inner().node_id,
            boot_id: "boot\u{1b}1".into(),
            first_seq: 5,
            last_seq: 6,
            events: 2,
            reason: "killed".into(),
            ..LogGap::default()
        };
        let gaps = if gap.node_id == "sound" { Vec::new() } else { vec![gap] };
        Ok(Response::new(ListGapsResponse { gaps, ..Default::default() }))
    }

    async fn tail_logs(&self, request: Request<TailLogsRequest>) -> Answer<Self::TailLogsStream> {
        drop(self.enter(&request)?);
        let shown = |(log, passed_over)| Ok(TailLogsResponse { log: Some(log), passed_over });
        let events: Vec<_> = events().into_iter().rev().zip([0, 7]).map(shown).collect();
        Ok(Response::new(tokio_stream::iter(events)))
    }
}

#[tonic::async_trait]
impl MetricsService for Shared {
    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Answer<Metrics> {
        drop(self.enter(&request)?);
        if request.get_ref().key_id == "idle" {
            return Ok(Response::new(Metrics::default()));
        }
        let sums = RequestSums {
            requests: 8,
            client_errors: 2,
            server_errors: 1,
            error_rate: 0.125,
            rate_limited: 1,
            request_size: 10,
            response_size: 20,
            p50_ms: 1.25,
            p90_ms: 9.0,
            p99_ms: 10.04,
        };
        let named = |name: &str| vec![NamedSums { name: name.into(), sums: Some(sums) }];
        Ok(Response::new(Metrics {
            start_time: created_at(),
            end_time: created_at(),
            step: request.get_ref().step.clone(),
            totals: Some(sums),
            series: vec![StepSums { start_time: created_at(), sums: Some(sums) }],
            top_keys: named("key-1"),
            top_errors: named("key\u{1b}_revoked"),
            ..Default::default()
        }))
    }
}
