//! The audit log, as users search it and take it with them.

mod export;
mod filter;
mod tail;

pub(crate) use export::Exports;

use std::time::{Duration, SystemTime};

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
        let turned = page.after.as_ref().map(Turned::parse).transpose()?;
        // All pages are of the time that the first one was of.
        let now = turned.as_ref().map_or_else(now_us, |turned| turned.now_us);
        let filter = filter::parse(environment, request, at(now))?;
        let after = turned.map(|turned| turned.after);
        let found = self.store.events(&filter, after, page.limit).await.map_err(Error::from)?;
        let turned = |(after, _): &_| Turned { after: *after, now_us: now }.cursor();
        let (page, next_page_token) = paging.cut_short(found.events, found.left_out > 0, turned);
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
        let room = self.exports.room()?;
        let export = Export { store: self.store.clone(), filter, format };
        let mut response = Response::new(export.start(room, self.stop.clone()));
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

/// Where a page ends, and when the first one of its list was asked for: a list without a start begins
/// an hour before that.
struct Turned {
    after: EventPosition,
    /// In microseconds since 1970.
    now_us: u64,
}

impl Turned {
    fn cursor(&self) -> Cursor {
        let Self { after: EventPosition { at_us, id }, now_us } = self;
        Cursor { at_us: *at_us, id: format!("{id} {now_us}") }
    }

    fn parse(cursor: &Cursor) -> Result<Self, Error> {
        let read = || {
            let (id, now_us) = cursor.id.split_once(' ')?;
            let after = EventPosition { at_us: cursor.at_us, id: id.parse().ok()? };
            Some(Self { after, now_us: now_us.parse().ok()? })
        };
        read().ok_or_else(|| Error::field("page_token", "is none of this list: begin anew"))
    }
}

fn now_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

fn at(us: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_micros(us)
}
