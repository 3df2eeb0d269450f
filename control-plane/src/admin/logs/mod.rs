//! The audit log, as users search it and take it with them.

mod export;
mod filter;
mod tail;

use std::time::SystemTime;

use fastgate::{
    admin::v1::{
        ExportLogsRequest, FilePart, ListGapsRequest, ListGapsResponse, ListLogsRequest,
        ListLogsResponse, TailLogsRequest, TailLogsResponse, log_service_server::LogService,
    },
    audit::{TAILS, list_of_tail},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::{Admin, check_text, page::Paging};
use crate::{domain::EventPosition, error::Error, store::Cursor, streams::Endless};
use export::{Export, Format};
use tail::Tail;

#[tonic::async_trait]
impl LogService for Admin {
    type TailLogsStream = ReceiverStream<Result<TailLogsResponse, Status>>;
    type ExportLogsStream = ReceiverStream<Result<FilePart, Status>>;

    async fn list_logs(
        &self,
        request: Request<ListLogsRequest>,
    ) -> Result<Response<ListLogsResponse>, Status> {
        let mut request = request.into_inner();
        let environment = self.environment(&request.environment, "").await?;
        let (size, token) = (request.page_size, std::mem::take(&mut request.page_token));
        request.page_size = 0;
        let list = format!("{environment} {request:?}");
        let paging = Paging::parse(size, &token, &["logs", &list])?;
        let page = paging.query();
        let after = page.after.as_ref().map(position).transpose()?;
        let filter = filter::parse(environment, request, SystemTime::now())?;
        let found = self.store.events(&filter, after, page.limit).await.map_err(Error::from)?;
        let (page, next_page_token) = paging.cut(found, |(position, _)| cursor(*position));
        let logs = page.into_iter().map(|(_, event)| event).collect();
        Ok(Response::new(ListLogsResponse { logs, next_page_token }))
    }

    async fn export_logs(
        &self,
        request: Request<ExportLogsRequest>,
    ) -> Result<Response<Self::ExportLogsStream>, Status> {
        let request = request.into_inner();
        let environment = self.environment(&request.environment, "").await?;
        let format = Format::parse(&request.format)?;
        let filter = filter::parse(environment, filter::of_export(request), SystemTime::now())?;
        let export = Export { store: self.store.clone(), filter, format };
        let mut response = Response::new(export.start(self.stop.clone()));
        response.extensions_mut().insert(Endless);
        Ok(response)
    }

    async fn tail_logs(
        &self,
        request: Request<TailLogsRequest>,
    ) -> Result<Response<Self::TailLogsStream>, Status> {
        let request = request.into_inner();
        let environment = self.environment(&request.environment, "").await?;
        let list = list_of_tail(request.clone());
        let filter = filter::parse(environment.clone(), list, SystemTime::now())?;
        let (store, lines) = (self.store.clone(), request.lines);
        let live = self.tails.open(environment, request).ok_or(Error::TooManyTails(TAILS))?;
        let tail = Tail { store, filter, lines, live };
        let mut response = Response::new(tail.start(self.stop.clone()));
        response.extensions_mut().insert(Endless);
        Ok(response)
    }

    async fn list_gaps(
        &self,
        request: Request<ListGapsRequest>,
    ) -> Result<Response<ListGapsResponse>, Status> {
        let ListGapsRequest { environment, page_size, page_token, node_id } = request.into_inner();
        let environment = self.environment(&environment, "").await?;
        check_text("node_id", &node_id)?;
        let list = ["gaps", environment.as_str(), &node_id];
        let paging = Paging::parse(page_size, &page_token, &list)?;
        let node_id = Some(node_id.as_str()).filter(|node_id| !node_id.is_empty());
        let found = self.store.gaps(&environment, node_id, &paging.query()).await;
        let (page, next_page_token) =
            paging.cut(found.map_err(Error::from)?, |(cursor, _)| cursor.clone());
        let gaps = page.into_iter().map(|(_, gap)| gap).collect();
        Ok(Response::new(ListGapsResponse { gaps, next_page_token }))
    }
}

fn cursor(position: EventPosition) -> Cursor {
    Cursor { at_us: position.at_us, id: position.id.to_string() }
}

fn position(cursor: &Cursor) -> Result<EventPosition, Error> {
    let id = cursor.id.parse();
    let id = id.map_err(|_| Error::field("page_token", "is none of this list: begin anew"))?;
    Ok(EventPosition { at_us: cursor.at_us, id })
}
