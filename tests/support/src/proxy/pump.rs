//! One connection: bytes in both directions, and what becomes of them.

use std::{
    cell::Cell,
    io,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
};

use super::{Behaviour, Counters, Rules};

/// After an answer was swallowed and nothing moved for so long, the request is taken to be through.
const QUIET: Duration = Duration::from_millis(100);

/// Carries bytes until both sides are done, or the connection is reset.
pub(super) async fn run(
    mut client: TcpStream,
    mut server: TcpStream,
    rules: watch::Receiver<Rules>,
    counters: &Counters,
) {
    let pump = Pump {
        counters,
        sent: Cell::new(0),
        epoch: Cell::new(rules.borrow().epoch),
        swallowed: Cell::new(false),
        moved: Cell::new(Instant::now()),
    };
    let orderly = {
        let (client_read, client_write) = client.split();
        let (server_read, server_write) = server.split();
        let both = async {
            tokio::try_join!(
                pump.up(client_read, server_write, rules.clone()),
                pump.down(server_read, client_write, rules.clone()),
            )
        };
        tokio::select! {
            done = both => done.is_ok(),
            () = pump.oversee(rules.clone()) => false,
        }
    };
    if !orderly {
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// What both directions know of one connection.
struct Pump<'a> {
    counters: &'a Counters,
    /// Bytes of the client since the behaviour changed.
    sent: Cell<u64>,
    epoch: Cell<u64>,
    /// An answer was not passed on: this connection is of no use any more.
    swallowed: Cell<bool>,
    moved: Cell<Instant>,
}

/// The connection is to be reset.
struct Reset;

impl From<io::Error> for Reset {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl Pump<'_> {
    /// The behaviour now; a change of it begins a new count.
    fn look(&self, rules: &mut watch::Receiver<Rules>) -> Behaviour {
        let now = *rules.borrow_and_update();
        if self.epoch.replace(now.epoch) != now.epoch {
            self.sent.set(0);
        }
        now.behaviour
    }

    /// From the client to the server.
    async fn up(
        &self,
        mut client: ReadHalf<'_>,
        mut server: WriteHalf<'_>,
        mut rules: watch::Receiver<Rules>,
    ) -> Result<(), Reset> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let behaviour = self.look(&mut rules);
            if behaviour == Behaviour::Hang {
                self.hold(&mut client, &mut rules).await?;
                continue;
            }
            let most = match behaviour {
                Behaviour::Slow { bytes, .. } => bytes.clamp(1, buffer.len()),
                // Not one byte further than to the point where the connection breaks.
                Behaviour::ResetMidRequest { after } => {
                    let left = after.saturating_sub(self.sent.get());
                    usize::try_from(left).unwrap_or(usize::MAX).clamp(1, buffer.len())
                }
                _ => buffer.len(),
            };
            let read = tokio::select! {
                changed = rules.changed() => {
                    changed.map_err(|_| Reset)?;
                    continue;
                }
                read = client.read(&mut buffer[..most]) => read?,
            };
            if read == 0 {
                server.shutdown().await?;
                return Ok(());
            }
            self.moved.set(Instant::now());
            server.write_all(&buffer[..read]).await?;
            self.sent.set(self.sent.get() + u64::try_from(read).unwrap());
            match behaviour {
                Behaviour::ResetMidRequest { after } if self.sent.get() >= after => {
                    self.counters.bite();
                    return Err(Reset);
                }
                Behaviour::Slow { pause, .. } => {
                    self.counters.bite();
                    tokio::time::sleep(pause).await;
                }
                _ => {}
            }
        }
    }

    /// From the server to the client.
    async fn down(
        &self,
        mut server: ReadHalf<'_>,
        mut client: WriteHalf<'_>,
        mut rules: watch::Receiver<Rules>,
    ) -> Result<(), Reset> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let behaviour = self.look(&mut rules);
            if behaviour == Behaviour::Hang {
                rules.changed().await.map_err(|_| Reset)?;
                continue;
            }
            let most = match behaviour {
                Behaviour::Slow { bytes, .. } => bytes.clamp(1, buffer.len()),
                _ => buffer.len(),
            };
            let read = tokio::select! {
                changed = rules.changed() => {
                    changed.map_err(|_| Reset)?;
                    continue;
                }
                read = server.read(&mut buffer[..most]) => read?,
            };
            self.moved.set(Instant::now());
            let swallow = match behaviour {
                Behaviour::HalfOpen => true,
                Behaviour::ResetAfterCommit { after } => self.sent.get() > after,
                _ => false,
            };
            if swallow || self.swallowed.get() {
                if read > 0 && !self.swallowed.replace(true) {
                    self.counters.bite();
                }
                if read == 0 {
                    // Nor does the client learn that the server has hung up.
                    self.swallowed.set(true);
                    return std::future::pending().await;
                }
                continue;
            }
            if read == 0 {
                client.shutdown().await?;
                return Ok(());
            }
            client.write_all(&buffer[..read]).await?;
            if let Behaviour::Slow { pause, .. } = behaviour {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Nothing moves until the behaviour changes; the client's bytes wait in the system's buffers.
    async fn hold(
        &self,
        client: &mut ReadHalf<'_>,
        rules: &mut watch::Receiver<Rules>,
    ) -> Result<(), Reset> {
        let mut byte = [0];
        tokio::select! {
            changed = rules.changed() => return changed.map_err(|_| Reset),
            waiting = client.peek(&mut byte) => {
                if waiting? > 0 {
                    self.counters.bite();
                }
            }
        }
        rules.changed().await.map_err(|_| Reset)
    }

    /// Resolves when the connection has to go, whatever the two directions are at.
    async fn oversee(&self, mut rules: watch::Receiver<Rules>) {
        loop {
            let behaviour = rules.borrow_and_update().behaviour;
            match behaviour {
                Behaviour::Refuse | Behaviour::ResetAtOnce => {
                    self.counters.bite();
                    return;
                }
                Behaviour::ResetAfterCommit { .. }
                    if self.swallowed.get() && self.moved.get().elapsed() >= QUIET =>
                {
                    return;
                }
                Behaviour::HalfOpen | Behaviour::ResetAfterCommit { .. } => {}
                // A client that missed an answer would take the next one for it.
                _ if self.swallowed.get() => return,
                _ => {}
            }
            let wait = match behaviour {
                Behaviour::ResetAfterCommit { .. } => QUIET / 4,
                _ => Duration::from_secs(3600),
            };
            if let Ok(Err(_)) = tokio::time::timeout(wait, rules.changed()).await {
                return;
            }
        }
    }
}
