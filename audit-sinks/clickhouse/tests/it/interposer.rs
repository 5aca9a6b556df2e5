//! What stands between a sink and its server and can act at a certain request.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

type Hook = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = Then> + Send>> + Send>;

/// What happens to the request behind the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It goes on to the server.
    Forward,
    /// It never reaches the server: the connection is closed.
    Drop,
}

/// Passes requests on, one at a time for each connection, and notes them.
pub(crate) struct Interposer {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    upstream: SocketAddr,
    /// Request lines and headers, as they came.
    seen: Mutex<Vec<String>>,
    /// Status lines and headers of the answers.
    answered: Mutex<Vec<String>>,
    /// What to do before a request whose line holds a text is passed on; once.
    hook: Mutex<Option<(&'static str, Hook)>>,
}

impl Interposer {
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            upstream,
            seen: Mutex::default(),
            answered: Mutex::default(),
            hook: Mutex::default(),
        });
        let task = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(serve(client, Arc::clone(&shared)));
                }
            }
        });
        Self { address, shared, task }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does something once, before a request whose line holds this text is passed on.
    pub(crate) fn before<F>(&self, text: &'static str, hook: impl FnOnce() -> F + Send + 'static)
    where
        F: Future<Output = Then> + Send + 'static,
    {
        let hook: Hook = Box::new(|| Box::pin(hook()));
        *self.shared.hook.lock().unwrap() = Some((text, hook));
    }

    /// Heads of the requests so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// Heads of the answers since the last time.
    #[cfg(feature = "query")]
    pub(crate) fn answered(&self) -> Vec<String> {
        std::mem::take(&mut *self.shared.answered.lock().unwrap())
    }

    /// How many requests there were whose head holds this text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.seen().iter().filter(|head| head.contains(text)).count()
    }
}

impl Drop for Interposer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(client: TcpStream, shared: Arc<Shared>) {
    let mut client = BufReader::new(client);
    let mut server = BufReader::new(TcpStream::connect(shared.upstream).await.unwrap());
    while let Some((head, body)) = message(&mut client).await {
        shared.seen.lock().unwrap().push(head.clone());
        let line = head.lines().next().unwrap_or_default().to_owned();
        let hook = {
            let mut hook = shared.hook.lock().unwrap();
            hook.take_if(|(text, _)| line.contains(*text))
        };
        if let Some((_, hook)) = hook
            && hook().await == Then::Drop
        {
            return;
        }
        server.write_all(head.as_bytes()).await.unwrap();
        server.write_all(&body).await.unwrap();
        let Some((head, body)) = message(&mut server).await else { return };
        shared.answered.lock().unwrap().push(head.clone());
        if client.write_all(head.as_bytes()).await.is_err()
            || client.write_all(&body).await.is_err()
        {
            return;
        }
    }
}

/// Head and body of a request or an answer whose length is given.
async fn message(stream: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    Some((head, body))
}
