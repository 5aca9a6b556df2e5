//! A TCP proxy on loopback that breaks connections in every way a network does, for any protocol.

mod pump;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc as commands, watch},
};

/// What the proxy does with connections, those that are open and those that come.
///
/// ```
/// use agent_audit_test_support::proxy::Behaviour;
/// assert_ne!(Behaviour::Pass, Behaviour::Hang);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Behaviour {
    /// Everything passes.
    Pass,
    /// Nobody listens: a client gets "connection refused". Open connections are reset.
    Refuse,
    /// A connection is accepted and reset at once. Open connections are reset.
    ResetAtOnce,
    /// Each connection is reset, on both sides, when the client has sent `after` more bytes: in the
    /// middle of a request. The bytes before reach the server.
    ResetMidRequest {
        /// So many bytes of a connection pass first.
        after: u64,
    },
    /// The request reaches the server whole, and the connection is reset instead of the answer: the
    /// server has done it and the client does not know. The first `after` bytes that a client sends
    /// on a connection, as for a handshake, are still answered.
    ResetAfterCommit {
        /// So many bytes of a connection are still answered.
        after: u64,
    },
    /// Bytes trickle: so many at a time, and then a pause, in both directions.
    Slow {
        /// How many at a time.
        bytes: usize,
        /// The pause.
        pause: Duration,
    },
    /// Connections are accepted, and nothing moves any more. When another behaviour follows, what
    /// the client sent meanwhile flows on, as from a server that was only suspended.
    Hang,
    /// What the client sends reaches the server, and nothing ever comes back. Such a connection is
    /// reset when another behaviour follows.
    HalfOpen,
}

/// A proxy at work. It ends, with all of its connections, when it is dropped.
///
/// It runs on a thread of its own, so that it works while a test blocks.
///
/// ```
/// use std::{io::{Read, Write}, net::{TcpListener, TcpStream}};
/// use agent_audit_test_support::proxy::{Behaviour, Proxy};
///
/// let server = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = Proxy::start(server.local_addr()?);
/// let mut client = TcpStream::connect(proxy.address())?;
/// let (mut served, _) = server.accept()?;
/// client.write_all(b"ping")?;
/// let mut buffer = [0; 4];
/// served.read_exact(&mut buffer)?;
/// assert_eq!(&buffer, b"ping");
///
/// proxy.set(Behaviour::Refuse);
/// let error = TcpStream::connect(proxy.address()).unwrap_err();
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: Option<commands::UnboundedSender<Order>>,
    counters: Arc<Counters>,
    thread: Option<JoinHandle<()>>,
}

/// What has happened so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    bites: AtomicU64,
    connections: AtomicU64,
}

impl Counters {
    /// The behaviour has met a connection that carried something.
    pub(crate) fn bite(&self) {
        self.bites.fetch_add(1, Ordering::Relaxed);
    }
}

/// What holds for every connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) behaviour: Behaviour,
    pub(crate) upstream: SocketAddr,
    /// Counts the changes: two behaviours in a row may be equal.
    pub(crate) epoch: u64,
}

type Order = (Behaviour, Option<SocketAddr>, mpsc::Sender<()>);

impl Proxy {
    /// Starts a proxy in front of a server, on a free port.
    #[must_use]
    pub fn start(upstream: SocketAddr) -> Self {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), upstream)
    }

    /// Starts a proxy at an address, for a server that tells its clients where to connect.
    ///
    /// # Panics
    /// Where the address is taken.
    #[track_caller]
    #[must_use]
    pub fn start_at(address: SocketAddr, upstream: SocketAddr) -> Self {
        let (orders, received) = commands::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let (ready, started) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("proxy".to_owned())
            .spawn({
                let counters = Arc::clone(&counters);
                move || {
                    let runtime =
                        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                    // Connections share cells: they stay on this thread.
                    tokio::task::LocalSet::new().block_on(&runtime, async {
                        let listener = reserve(address).and_then(|socket| socket.listen(1024));
                        let listener = match listener {
                            Ok(listener) => listener,
                            Err(error) => return drop(ready.send(Err(error))),
                        };
                        let address = listener.local_addr().unwrap();
                        ready.send(Ok(address)).unwrap();
                        let rules = Rules { behaviour: Behaviour::Pass, upstream, epoch: 0 };
                        work(address, listener, rules, received, counters).await;
                    });
                }
            })
            .unwrap();
        let address = match started.recv().unwrap() {
            Ok(address) => address,
            Err(error) => panic!("the proxy cannot listen on {address}: {error}"),
        };
        Self { address, orders: Some(orders), counters, thread: Some(thread) }
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what it does. New connections are treated so when this returns, and open ones as soon
    /// as they notice.
    pub fn set(&self, behaviour: Behaviour) {
        self.order(behaviour, None);
    }

    /// Lets everything pass, to another address: the server has moved.
    pub fn pass_to(&self, upstream: SocketAddr) {
        self.order(Behaviour::Pass, Some(upstream));
    }

    /// How often a behaviour other than [`Behaviour::Pass`] has met a connection that carried
    /// something: it was reset, held back, slowed, or its answers were dropped. A refused connection
    /// is not seen.
    #[must_use]
    pub fn bites(&self) -> u64 {
        self.counters.bites.load(Ordering::Relaxed)
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.counters.connections.load(Ordering::Relaxed)
    }

    fn order(&self, behaviour: Behaviour, upstream: Option<SocketAddr>) {
        let (done, wait) = mpsc::channel();
        let orders = self.orders.as_ref().expect("only drop takes it");
        orders.send((behaviour, upstream, done)).expect("the proxy works until it is dropped");
        wait.recv().expect("the proxy works until it is dropped");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            // Its panic, if there was one, has been reported by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Whether somebody listens.
enum Door {
    Open(TcpListener),
    /// The port is held, so that nobody else takes it, and connections to it are refused.
    Shut(TcpSocket),
}

async fn work(
    address: SocketAddr,
    listener: TcpListener,
    first: Rules,
    mut orders: commands::UnboundedReceiver<Order>,
    counters: Arc<Counters>,
) {
    let (rules, watched) = watch::channel(first);
    let mut door = Door::Open(listener);
    loop {
        let accepted = async {
            match &door {
                Door::Open(listener) => listener.accept().await,
                Door::Shut(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            order = orders.recv() => {
                let Some((behaviour, upstream, done)) = order else { return };
                door = match (door, behaviour) {
                    (Door::Open(listener), Behaviour::Refuse) => {
                        drop(listener);
                        Door::Shut(again(|| reserve(address)).await)
                    }
                    (Door::Shut(socket), other) if other != Behaviour::Refuse => {
                        Door::Open(socket.listen(1024).unwrap())
                    }
                    (door, _) => door,
                };
                rules.send_modify(|rules| {
                    rules.behaviour = behaviour;
                    rules.upstream = upstream.unwrap_or(rules.upstream);
                    rules.epoch += 1;
                });
                let _ = done.send(());
            }
            accepted = accepted => {
                // A client that is gone again is nobody's trouble.
                let Ok((client, _)) = accepted else { continue };
                counters.connections.fetch_add(1, Ordering::Relaxed);
                tokio::task::spawn_local(serve(client, watched.clone(), Arc::clone(&counters)));
            }
        }
    }
}

fn reserve(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// A listener that was just closed may hold its port for a moment longer.
async fn again<T>(mut attempt: impl FnMut() -> io::Result<T>) -> T {
    let mut left = 500;
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) if left == 0 => panic!("the proxy cannot have its port back: {error}"),
            Err(_) => left -= 1,
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Carries one connection to its end.
async fn serve(client: TcpStream, mut rules: watch::Receiver<Rules>, counters: Arc<Counters>) {
    let _ = client.set_nodelay(true);
    let upstream = loop {
        let now = *rules.borrow_and_update();
        match now.behaviour {
            Behaviour::Refuse | Behaviour::ResetAtOnce => {
                counters.bite();
                let _ = client.set_zero_linger();
                return;
            }
            Behaviour::Hang => {
                counters.bite();
                if rules.changed().await.is_err() {
                    return;
                }
            }
            _ => break now.upstream,
        }
    };
    let Ok(server) = TcpStream::connect(upstream).await else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = server.set_nodelay(true);
    pump::run(client, server, rules, &counters).await;
}
