//! A small HTTP service of the tests' own: it answers by itself, passes requests on to a real server,
//! changed where a test wants it, or hangs up. For faults that no server can be made to have.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use serde_json::Value;

/// A request, whole.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `POST` and so on.
    pub method: String,
    /// The path and what follows it.
    pub target: String,
    /// Names and values, as they came.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in small letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the client sends JSON")
    }

    /// The same request with another body.
    #[must_use]
    pub fn with_json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self
    }

    /// What a server answers to it.
    ///
    /// # Panics
    /// Where the server cannot be reached or answers something that is not HTTP.
    #[must_use]
    pub fn forward(&self, server: SocketAddr) -> Response {
        exchange(self, server).expect("the real server answers")
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// Names and values; the length is not among them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// JSON with a status.
    #[must_use]
    pub fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
        Self { status, headers, body: body.to_string().into_bytes() }
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    pub fn to_json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the server answers JSON")
    }
}

/// What becomes of a request.
#[derive(Debug, Clone)]
#[expect(clippy::exhaustive_enums, reason = "there is no third way to end a request")]
pub enum Answer {
    /// This comes back.
    Send(Response),
    /// The connection is closed without an answer.
    HangUp,
}

/// A service at work on loopback. It takes no new connections after it is dropped.
///
/// ```
/// use std::{io::{Read, Write}, net::TcpStream};
/// use agent_audit_test_support::service::{Answer, Response, Service};
/// let service = Service::start(|request| {
///     Answer::Send(Response::json(418, &serde_json::json!({ "you asked for": request.target })))
/// });
/// let mut client = TcpStream::connect(service.address())?;
/// client.write_all(b"GET /tea HTTP/1.1\r\nconnection: close\r\n\r\n")?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert!(answer.starts_with("HTTP/1.1 418 ") && answer.ends_with(r#"{"you asked for":"/tea"}"#));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Service {
    address: SocketAddr,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts a service on a free port. Requests of different connections are answered at the same
    /// time.
    ///
    /// # Panics
    /// Where there is no free port.
    pub fn start(answer: impl Fn(Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let over = Arc::new(AtomicBool::new(false));
        let answer = Arc::new(answer);
        let thread = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                for client in listener.incoming() {
                    if over.load(Ordering::Acquire) {
                        return;
                    }
                    let (Ok(client), answer) = (client, Arc::clone(&answer)) else { continue };
                    // A client that is gone is nobody's trouble.
                    std::thread::spawn(move || drop(serve(&client, &*answer)));
                }
            }
        });
        Self { address, over, thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The same as a URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        // It waits for a connection: here is the last one.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            // Its panic, if there was one, has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

fn serve(client: &TcpStream, answer: &(impl Fn(Request) -> Answer + ?Sized)) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    let mut writer = client;
    while let Some(request) = read_request(&mut reader)? {
        let close = request.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"));
        let Answer::Send(response) = answer(request) else { return Ok(()) };
        let mut head = format!("HTTP/1.1 {} of the tests\r\n", response.status);
        for (name, value) in &response.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", response.body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend(response.body);
        writer.write_all(&bytes)?;
        if close {
            break;
        }
    }
    Ok(())
}

fn read_request(reader: &mut impl io::BufRead) -> io::Result<Option<Request>> {
    let Some((first, headers)) = read_head(reader)? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let length = header(&headers, "content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some(Request { method, target, headers, body }))
}

type Headers = Vec<(String, String)>;

fn read_head(reader: &mut impl io::BufRead) -> io::Result<Option<(String, Headers)>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() && !lines.is_empty() {
            break;
        }
        lines.push(line.to_owned());
    }
    let first = lines.remove(0);
    let pair = |line: String| {
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        (name.to_owned(), value.trim().to_owned())
    };
    Ok(Some((first, lines.into_iter().map(pair).collect())))
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

fn exchange(request: &Request, server: SocketAddr) -> io::Result<Response> {
    let mut stream = TcpStream::connect(server)?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        let own = ["content-length", "connection", "transfer-encoding", "expect"];
        if !own.iter().any(|own| name.eq_ignore_ascii_case(own)) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("connection: close\r\ncontent-length: {}\r\n\r\n", request.body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend(&request.body);
    stream.write_all(&bytes)?;
    let mut reader = BufReader::new(stream);
    let Some((first, headers)) = read_head(&mut reader)? else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let status = first.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or(io::ErrorKind::InvalidData)?;
    let mut body = Vec::new();
    if header(&headers, "transfer-encoding").is_some_and(|coding| coding == "chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16);
            let length = length.map_err(|_| io::ErrorKind::InvalidData)?;
            let from = body.len();
            body.resize(from + length, 0);
            reader.read_exact(&mut body[from..])?;
            reader.read_line(&mut line)?;
            if length == 0 {
                break;
            }
        }
    } else if let Some(length) = header(&headers, "content-length").and_then(|n| n.parse().ok()) {
        body.resize(length, 0);
        reader.read_exact(&mut body)?;
    } else {
        reader.read_to_end(&mut body)?;
    }
    let own = ["content-length", "transfer-encoding", "connection"];
    let keep = |(name, _): &(String, String)| !own.iter().any(|own| name.eq_ignore_ascii_case(own));
    Ok(Response { status, headers: headers.into_iter().filter(keep).collect(), body })
}
