//! Each behaviour of the proxy, in front of a server that says everything again.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agent_audit_test_support::proxy::{Behaviour, Proxy};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Says everything again, and counts what it heard.
struct Echo {
    address: SocketAddr,
    heard: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (heard, connections) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (counts, accepted) = (Arc::clone(&heard), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let counts = Arc::clone(&counts);
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    while let Ok(read @ 1..) = client.read(&mut buffer).await {
                        counts.fetch_add(read as u64, Ordering::SeqCst);
                        if client.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, heard, connections }
    }

    /// Waits until it has heard so many bytes.
    async fn hears(&self, bytes: u64) {
        within(async {
            while self.heard.load(Ordering::SeqCst) < bytes {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert_eq!(self.heard.load(Ordering::SeqCst), bytes, "and not more");
    }
}

/// What hangs for ever fails here.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("it comes")
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(proxy.address()).await.unwrap()
}

/// Sends bytes and gets them back.
async fn speak(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).await.unwrap();
    let mut heard = vec![0; bytes.len()];
    within(client.read_exact(&mut heard)).await.unwrap();
    assert_eq!(heard, bytes);
}

/// Reads until the connection breaks; how much came, and whether it was reset.
async fn until_broken(client: &mut TcpStream) -> (usize, ErrorKind) {
    let (mut came, mut buffer) = (0, [0; 4096]);
    loop {
        match within(client.read(&mut buffer)).await {
            Ok(0) => return (came, ErrorKind::UnexpectedEof),
            Ok(read) => came += read,
            Err(error) => return (came, error.kind()),
        }
    }
}

/// Nothing comes: what was sent on another connection meanwhile, there and back, did come.
async fn nothing_comes(client: &mut TcpStream) {
    let nothing = tokio::time::timeout(Duration::from_millis(200), client.read_u8()).await;
    assert!(nothing.is_err(), "{nothing:?}");
}

#[tokio::test]
async fn everything_passes() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address);
    let mut client = connect(&proxy).await;
    let bytes: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let (mut read, mut write) = client.split();
    let mut heard = vec![0; bytes.len()];
    let (sent, came) =
        within(async { tokio::join!(write.write_all(&bytes), read.read_exact(&mut heard)) }).await;
    sent.unwrap();
    came.unwrap();
    assert_eq!(heard, bytes);
    assert_eq!((proxy.bites(), proxy.connections()), (0, 1));
}

#[tokio::test]
async fn the_end_of_one_direction_is_passed_on_and_not_that_of_both() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address);
    let mut client = connect(&proxy).await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(until_broken(&mut client).await, (10, ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn nobody_listens() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address);
    let mut open = connect(&proxy).await;
    speak(&mut open, b"before").await;
    for _ in 0..3 {
        proxy.set(Behaviour::Refuse);
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(until_broken(&mut open).await, (0, ErrorKind::ConnectionReset));
        proxy.set(Behaviour::Pass);
        open = connect(&proxy).await;
        speak(&mut open, b"after").await;
    }
}

#[tokio::test]
async fn a_connection_is_reset_at_once() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address);
    proxy.set(Behaviour::ResetAtOnce);
    // Whether connect still sees it as open is a matter of luck.
    if let Ok(mut client) = TcpStream::connect(proxy.address()).await {
        let (came, how) = until_broken(&mut client).await;
        assert_eq!((came, how), (0, ErrorKind::ConnectionReset));
    }
    within(async {
        while proxy.bites() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(echo.connections.load(Ordering::SeqCst), 0, "the server heard nothing of it");
}

#[tokio::test]
async fn a_request_is_cut_after_exactly_so_many_bytes() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address);
    let mut client = connect(&proxy).await;
    speak(&mut client, &[7; 1000]).await;
    proxy.set(Behaviour::ResetMidRequest { after: 1500 });
    speak(&mut client, &[7; 1000]).await;
    client.write_all(&[7; 1000]).await.unwrap();
    let (came, how) = until_broken(&mut client).await;
    assert_eq!(how, ErrorKind::ConnectionReset);
    assert!(came <= 500, "{came}");
    // A reset takes with it what the server has not read yet.
    let heard = echo.heard.load(Ordering::SeqCst);
    assert!((2000..=2500).contains(&heard), "{heard}");
    assert_eq!(proxy.bites(), 1);
}

#[tokio::test]
async fn the_server_has_done_what_the_client_does_not_know() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address);
    let mut client = connect(&proxy).await;
    proxy.set(Behaviour::ResetAfterCommit { after: 100 });
    speak(&mut client, b"hello").await;
    client.write_all(&[7; 50_000]).await.unwrap();
    let (came, how) = until_broken(&mut client).await;
    assert_eq!((came, how), (0, ErrorKind::ConnectionReset));
    echo.hears(50_005).await;
    assert_eq!(proxy.bites(), 1);
    proxy.set(Behaviour::Pass);
    speak(&mut connect(&proxy).await, b"again").await;
}

#[tokio::test]
async fn bytes_trickle_and_all_arrive() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address);
    proxy.set(Behaviour::Slow { bytes: 100, pause: Duration::from_millis(1) });
    let mut client = connect(&proxy).await;
    speak(&mut client, &[7; 2000]).await;
    assert!(proxy.bites() >= 20, "each hundred bytes by themselves: {}", proxy.bites());
}

#[tokio::test]
async fn what_hangs_flows_on_when_it_is_mended() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address);
    let mut open = connect(&proxy).await;
    speak(&mut open, b"before").await;
    proxy.set(Behaviour::Hang);
    let mut fresh = connect(&proxy).await;
    for client in [&mut open, &mut fresh] {
        client.write_all(b"held back").await.unwrap();
        nothing_comes(client).await;
    }
    assert_eq!(echo.heard.load(Ordering::SeqCst), 6, "the server heard nothing either");
    within(async {
        while proxy.bites() < 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // One client gives up: what it sent arrives all the same.
    drop(open);
    proxy.set(Behaviour::Pass);
    let mut heard = [0; 9];
    within(fresh.read_exact(&mut heard)).await.unwrap();
    assert_eq!(&heard, b"held back");
    echo.hears(6 + 9 + 9).await;
}

#[tokio::test]
async fn requests_arrive_and_answers_never_come_back() {
    let echo = Echo::start().await;
    let proxy = Proxy::start(echo.address);
    let mut open = connect(&proxy).await;
    speak(&mut open, b"before").await;
    proxy.set(Behaviour::HalfOpen);
    let mut fresh = connect(&proxy).await;
    open.write_all(b"first").await.unwrap();
    fresh.write_all(b"second").await.unwrap();
    echo.hears(6 + 5 + 6).await;
    nothing_comes(&mut open).await;
    nothing_comes(&mut fresh).await;
    assert_eq!(proxy.bites(), 2);
    // An answer that was dropped would be taken for the next one.
    proxy.set(Behaviour::Pass);
    for client in [&mut open, &mut fresh] {
        assert_eq!(until_broken(client).await, (0, ErrorKind::ConnectionReset));
    }
    speak(&mut connect(&proxy).await, b"again").await;
}

#[tokio::test]
async fn a_server_that_is_away_resets_and_one_that_moved_is_found() {
    let echo = Echo::start().await;
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = nobody.local_addr().unwrap();
    drop(nobody);
    let proxy = Proxy::start(away);
    // Whether connect still sees it as open is a matter of luck.
    if let Ok(mut client) = TcpStream::connect(proxy.address()).await {
        assert_eq!(until_broken(&mut client).await, (0, ErrorKind::ConnectionReset));
    }
    proxy.pass_to(echo.address);
    speak(&mut connect(&proxy).await, b"hello").await;
}

#[tokio::test]
async fn its_address_can_be_chosen_and_is_free_after_it() {
    let echo = Echo::start().await;
    let address = Proxy::start(echo.address).address();
    let proxy = Proxy::start_at(address, echo.address);
    assert_eq!(proxy.address(), address);
    speak(&mut connect(&proxy).await, b"hello").await;
}
