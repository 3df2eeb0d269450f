//! A plain HTTP client.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::net::TcpStream;

/// A client with keep-alive connections of its own to one server.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    headers: HeaderMap,
    inner: legacy::Client<HttpConnector, Full<Bytes>>,
}

/// A client with one connection, and never another: requests fail once the server has closed it.
pub(crate) struct Line {
    host: String,
    sender: SendRequest<Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Client {
    pub(crate) fn new(base: impl Into<String>) -> Self {
        let inner = legacy::Client::builder(TokioExecutor::new()).build_http();
        Self { base: base.into(), headers: HeaderMap::new(), inner }
    }

    /// Sends this header with every request.
    pub(crate) fn with(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.parse().expect("a header value"));
        self
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Answer {
        let what = format!("{method} {path}");
        self.try_send(method, path, body).await.unwrap_or_else(|fault| panic!("{what}: {fault}"))
    }

    pub(crate) async fn json(&self, method: Method, path: &str, body: Value) -> Value {
        let what = format!("{method} {path} {body}");
        let answer = self.send(method, path, body.to_string()).await;
        assert!(answer.status.is_success(), "{what}: {answer:?}");
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    pub(crate) async fn try_send(
        &self,
        method: Method,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, legacy::Error> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = method;
        *request.uri_mut() = format!("{}{path}", self.base).parse().expect("a URI");
        *request.headers_mut() = self.headers.clone();
        Ok(Answer::read(self.inner.request(request).await?).await)
    }
}

impl Line {
    pub(crate) async fn open(base: &str) -> Self {
        let host = base.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).await.expect("connects");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        Self { host, sender }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        let request = Request::get(path).header("host", &self.host).body(Full::default());
        self.sender.ready().await.expect("the connection is open");
        let answer = self.sender.send_request(request.expect("a request")).await;
        Answer::read(answer.unwrap_or_else(|fault| panic!("GET {path}: {fault}"))).await
    }
}

impl Answer {
    async fn read(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.map(|body| body.to_bytes());
        let body = body.unwrap_or_else(|fault| panic!("the body broke off: {fault}"));
        Self { status: head.status, headers: head.headers, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|fault| panic!("no JSON ({fault}): {:?}", self.body))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}
