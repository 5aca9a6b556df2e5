//! HTTP, as little as the story needs: JSON requests, and servers on loopback.

use std::{fmt, future::Future, io, net::Ipv4Addr};

use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, Uri,
    body::{Bytes, Incoming},
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use serde_json::Value;
use tokio::net::TcpListener;

/// A client of servers that speak JSON, over HTTP or HTTPS.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// A credential that is sent and never shown.
#[derive(Clone)]
pub(crate) struct ApiKey(String);

impl ApiKey {
    pub(crate) fn new(key: String) -> Self {
        Self(key)
    }

    /// The secret itself, for the one check that it was recorded nowhere.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

impl Client {
    pub(crate) fn new() -> Self {
        let connector =
            HttpsConnectorBuilder::new().with_webpki_roots().https_or_http().enable_http1().build();
        Self { pool: Pool::builder(TokioExecutor::new()).build(connector) }
    }

    pub(crate) async fn get(&self, url: &str) -> io::Result<Bytes> {
        self.send(Request::get(url).body(Full::default()).map_err(io::Error::other)?).await
    }

    pub(crate) async fn post(
        &self,
        url: &str,
        key: Option<&ApiKey>,
        body: &Value,
    ) -> io::Result<Bytes> {
        let mut request = Request::post(url)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))
            .map_err(io::Error::other)?;
        if let Some(ApiKey(key)) = key {
            let mut bearer =
                HeaderValue::try_from(format!("Bearer {key}")).map_err(io::Error::other)?;
            bearer.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, bearer);
        }
        self.send(request).await
    }

    /// The body of the answer, also where its status is that of an error and it says why.
    async fn send(&self, request: Request<Full<Bytes>>) -> io::Result<Bytes> {
        let response = self.pool.request(request).await.map_err(io::Error::other)?;
        let status = response.status();
        let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        if status.is_success() || !body.is_empty() {
            return Ok(body);
        }
        Err(io::Error::other(format!("the server answered {status}")))
    }
}

/// Serves JSON on a loopback port of its own for as long as the program runs; returns its address.
pub(crate) async fn serve<H, F>(handler: H) -> io::Result<String>
where
    H: Fn(Method, Uri, Value) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Option<Value>> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let handler = handler.clone();
            let service = service_fn(move |request| answer(handler.clone(), request));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    Ok(address)
}

async fn answer<H, F>(
    handler: H,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error>
where
    H: Fn(Method, Uri, Value) -> F,
    F: Future<Output = Option<Value>>,
{
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let body = serde_json::from_slice(&body).unwrap_or_default();
    let mut response = Response::new(Full::default());
    match handler(head.method, head.uri, body).await {
        Some(value) => *response.body_mut() = Full::from(value.to_string()),
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}
