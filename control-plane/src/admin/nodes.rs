//! The running data planes, as this control plane knows them.

use fastgate::admin::v1::{ListNodesRequest, ListNodesResponse, node_service_server::NodeService};
use tonic::{Request, Response, Status};

use super::{Admin, page::Paging};

#[tonic::async_trait]
impl NodeService for Admin {
    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let request = request.into_inner();
        let environment = match request.environment.as_str() {
            "" => None,
            named => Some(self.environment(named, "").await?),
        };
        let list = ["nodes", &request.environment];
        let paging = Paging::parse(request.page_size, &request.page_token, &list)?;
        let nodes = self.feed.nodes(environment.as_ref());
        let named =
            nodes.into_iter().map(|node| (format!("{}/{}", node.environment, node.node_id), node));
        let (page, next_page_token) = paging.cut_all(named.collect(), |(name, _)| name);
        let nodes = page.into_iter().map(|(_, node)| node).collect();
        Ok(Response::new(ListNodesResponse { nodes, next_page_token }))
    }
}
