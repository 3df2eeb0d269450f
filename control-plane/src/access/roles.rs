//! Which role may call which method: one table, which a test holds against the API.

use crate::domain::Role;

/// What a method needs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Right {
    /// No token.
    Open,
    /// To see keys, routes, upstreams, plans, environments and nodes.
    Read,
    /// To see what passed through the gateway.
    ReadLogs,
    /// To see who changed what.
    ReadAdminEvents,
    ChangeKeys,
    /// To change routes, upstreams, plans and environments, and to let nodes in and out.
    ChangeConfig,
    /// To see and change admin tokens.
    ManageTokens,
}

/// The right a method needs, by its path; `None` when there is no such method.
pub(crate) fn needed(method: &str) -> Option<Right> {
    METHODS.iter().find(|(path, _)| *path == method).map(|(_, right)| *right)
}

impl Role {
    /// Whether the role includes a right.
    pub(crate) fn may(self, right: Right) -> bool {
        match right {
            Right::Open | Right::Read => true,
            Right::ReadLogs => matches!(self, Self::Auditor | Self::Operator | Self::Owner),
            Right::ReadAdminEvents => matches!(self, Self::Auditor | Self::Owner),
            Right::ChangeKeys => matches!(self, Self::KeyManager | Self::Operator | Self::Owner),
            Right::ChangeConfig => matches!(self, Self::Operator | Self::Owner),
            Right::ManageTokens => self == Self::Owner,
        }
    }
}

const METHODS: &[(&str, Right)] = &[
    ("/fastgate.admin.v1.AccessService/CreateToken", Right::ManageTokens),
    ("/fastgate.admin.v1.AccessService/ListTokens", Right::ManageTokens),
    ("/fastgate.admin.v1.AccessService/RevokeToken", Right::ManageTokens),
    ("/fastgate.admin.v1.AccessService/ListAdminEvents", Right::ReadAdminEvents),
    ("/fastgate.admin.v1.ConfigService/ValidateConfig", Right::Read),
    ("/fastgate.admin.v1.ConfigService/DiffConfig", Right::Read),
    ("/fastgate.admin.v1.ConfigService/ApplyConfig", Right::ChangeConfig),
    ("/fastgate.admin.v1.ConfigService/ExportConfig", Right::Read),
    ("/fastgate.admin.v1.ConfigService/ListRevisions", Right::Read),
    ("/fastgate.admin.v1.ConfigService/GetRevision", Right::Read),
    ("/fastgate.admin.v1.ConfigService/DiffRevisions", Right::Read),
    ("/fastgate.admin.v1.ConfigService/RollbackConfig", Right::ChangeConfig),
    ("/fastgate.admin.v1.EnvironmentService/CreateEnvironment", Right::ChangeConfig),
    ("/fastgate.admin.v1.EnvironmentService/GetEnvironment", Right::Read),
    ("/fastgate.admin.v1.EnvironmentService/ListEnvironments", Right::Read),
    ("/fastgate.admin.v1.EnvironmentService/UpdateEnvironment", Right::ChangeConfig),
    ("/fastgate.admin.v1.EnvironmentService/DeleteEnvironment", Right::ChangeConfig),
    ("/fastgate.admin.v1.KeyService/CreateKey", Right::ChangeKeys),
    ("/fastgate.admin.v1.KeyService/GetKey", Right::Read),
    ("/fastgate.admin.v1.KeyService/ListKeys", Right::Read),
    ("/fastgate.admin.v1.KeyService/UpdateKey", Right::ChangeKeys),
    ("/fastgate.admin.v1.KeyService/DeleteKey", Right::ChangeKeys),
    ("/fastgate.admin.v1.KeyService/RotateKey", Right::ChangeKeys),
    ("/fastgate.admin.v1.KeyService/RevokeKey", Right::ChangeKeys),
    ("/fastgate.admin.v1.KeyService/ImportKeys", Right::ChangeKeys),
    // It shows hashes of secrets, and whoever may change keys can put any hash in their place.
    ("/fastgate.admin.v1.KeyService/ExportKeys", Right::ChangeKeys),
    ("/fastgate.admin.v1.LimitService/ListLimits", Right::Read),
    ("/fastgate.admin.v1.LimitService/ResetLimits", Right::ChangeKeys),
    ("/fastgate.admin.v1.LogService/ListLogs", Right::ReadLogs),
    ("/fastgate.admin.v1.LogService/ExportLogs", Right::ReadLogs),
    ("/fastgate.admin.v1.LogService/TailLogs", Right::ReadLogs),
    ("/fastgate.admin.v1.LogService/ListGaps", Right::ReadLogs),
    ("/fastgate.admin.v1.MetricsService/GetMetrics", Right::Read),
    ("/fastgate.admin.v1.NodeService/ListNodes", Right::Read),
    ("/fastgate.admin.v1.NodeService/GetNodeConfig", Right::Read),
    // It changes nothing, and tells of keys and routes what reading them does.
    ("/fastgate.admin.v1.NodeService/Explain", Right::Read),
    ("/fastgate.admin.v1.NodeService/RevokeNode", Right::ChangeConfig),
    ("/fastgate.admin.v1.NodeService/CreateJoinToken", Right::ChangeConfig),
    ("/fastgate.admin.v1.NodeService/ListJoinTokens", Right::Read),
    ("/fastgate.admin.v1.NodeService/DeleteJoinToken", Right::ChangeConfig),
    ("/fastgate.admin.v1.PlanService/CreatePlan", Right::ChangeConfig),
    ("/fastgate.admin.v1.PlanService/GetPlan", Right::Read),
    ("/fastgate.admin.v1.PlanService/ListPlans", Right::Read),
    ("/fastgate.admin.v1.PlanService/UpdatePlan", Right::ChangeConfig),
    ("/fastgate.admin.v1.PlanService/DeletePlan", Right::ChangeConfig),
    ("/fastgate.admin.v1.RolloutService/GetRollout", Right::Read),
    ("/fastgate.admin.v1.RolloutService/PauseRollout", Right::ChangeConfig),
    ("/fastgate.admin.v1.RolloutService/ResumeRollout", Right::ChangeConfig),
    ("/fastgate.admin.v1.RolloutService/UndoRollout", Right::ChangeConfig),
    ("/fastgate.admin.v1.RouteService/CreateRoute", Right::ChangeConfig),
    ("/fastgate.admin.v1.RouteService/GetRoute", Right::Read),
    ("/fastgate.admin.v1.RouteService/ListRoutes", Right::Read),
    ("/fastgate.admin.v1.RouteService/UpdateRoute", Right::ChangeConfig),
    ("/fastgate.admin.v1.RouteService/DeleteRoute", Right::ChangeConfig),
    ("/fastgate.admin.v1.StatusService/GetStatus", Right::Read),
    ("/fastgate.admin.v1.UpstreamService/CreateUpstream", Right::ChangeConfig),
    ("/fastgate.admin.v1.UpstreamService/GetUpstream", Right::Read),
    ("/fastgate.admin.v1.UpstreamService/ListUpstreams", Right::Read),
    ("/fastgate.admin.v1.UpstreamService/UpdateUpstream", Right::ChangeConfig),
    ("/fastgate.admin.v1.UpstreamService/DeleteUpstream", Right::ChangeConfig),
    ("/grpc.health.v1.Health/Check", Right::Open),
    ("/grpc.health.v1.Health/Watch", Right::Open),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Right::Read),
    ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Right::Read),
];

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;

    #[test]
    fn every_admin_method_has_its_right_and_no_right_lacks_its_method() {
        let pool = DescriptorPool::decode(fastgate::FILE_DESCRIPTOR_SET).expect("descriptors");
        let mut served: Vec<String> = pool
            .services()
            .filter(|service| service.package_name() == "fastgate.admin.v1")
            .flat_map(|service| {
                let name = service.full_name().to_owned();
                service.methods().map(|m| format!("/{name}/{}", m.name())).collect::<Vec<_>>()
            })
            .collect();
        let mut listed: Vec<String> = METHODS
            .iter()
            .map(|(path, _)| (*path).to_owned())
            .filter(|path| path.starts_with("/fastgate."))
            .collect();
        served.sort();
        listed.sort();
        assert_eq!(listed, served);
    }

    #[test]
    fn only_reading_methods_need_no_more_than_read() {
        let reads = ["Get", "List", "ValidateConfig", "Diff", "ExportConfig", "Explain"];
        for (path, right) in METHODS.iter().filter(|(path, _)| path.starts_with("/fastgate.")) {
            let name = path.rsplit('/').next().unwrap_or_default();
            let is_read = reads.iter().any(|prefix| name.starts_with(prefix));
            assert!(is_read || !Role::Viewer.may(*right), "{path}");
            assert_ne!(*right, Right::Open, "{path}");
        }
    }

    #[test]
    fn each_role_has_what_its_name_says() {
        use Right::{ChangeConfig, ChangeKeys, ManageTokens, Read, ReadAdminEvents, ReadLogs};
        let all = [Read, ReadLogs, ReadAdminEvents, ChangeKeys, ChangeConfig, ManageTokens];
        for (role, rights) in [
            (Role::Viewer, &[Read][..]),
            (Role::Auditor, &[Read, ReadLogs, ReadAdminEvents]),
            (Role::KeyManager, &[Read, ChangeKeys]),
            (Role::Operator, &[Read, ReadLogs, ChangeKeys, ChangeConfig]),
            (Role::Owner, &all),
        ] {
            for right in all {
                assert_eq!(role.may(right), rights.contains(&right), "{role:?} {right:?}");
            }
        }
    }
}
