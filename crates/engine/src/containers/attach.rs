//! attach: a client's own connection is handed to the shim.
//!
//! The order that loses nothing: reserve (before the client hears 101), then the connection
//! arrives, then the start hands it to the shim together with the launch. On a running container
//! the connection goes to its shim at once.

use super::Containers;
use super::driver::{Command, Driver};
use super::error::LookupError;
use crate::shims::{AttachOptions, Attachment};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long a start waits for reserved connections to arrive: the client has been told 101, so
/// only its own death can keep them away, and that is noticed at once.
const ARRIVAL: Duration = Duration::from_secs(2);

/// How a client wants to take part.
#[derive(Debug, Clone, Default)]
pub struct AttachRequest {
    /// Which streams, and the keys to leave.
    pub options: AttachOptions,
}

/// A client's connection, taken out of HTTP.
#[derive(Debug)]
pub struct Connection {
    /// Its socket.
    pub stream: OwnedFd,
    /// What was read of its input together with the request.
    pub read_ahead: Vec<u8>,
}

/// A place kept for a connection that is about to arrive. Dropping it gives the place up.
#[derive(Debug)]
pub struct Reservation {
    arrive: oneshot::Sender<Connection>,
}

impl Reservation {
    /// Makes a reservation and the end that waits for it.
    pub(crate) fn new(options: AttachOptions) -> (Self, Pending) {
        let (arrive, arrived) = oneshot::channel();
        (Self { arrive }, Pending { options, arrived })
    }

    /// Hands the connection over. If nobody waits any more, it is closed.
    pub fn fulfil(self, connection: Connection) {
        let _nobody_waits = self.arrive.send(connection);
    }
}

/// A reservation as the container sees it.
#[derive(Debug)]
pub(crate) struct Pending {
    options: AttachOptions,
    arrived: oneshot::Receiver<Connection>,
}

impl Pending {
    /// Waits for the connection; none if the client went away.
    async fn connection(self) -> Option<Attachment> {
        let connection = self.arrived.await.ok()?;
        Some(Attachment {
            options: self.options,
            stream: connection.stream,
            read_ahead: connection.read_ahead,
        })
    }
}

/// Waits for all reserved connections.
pub(crate) async fn arrivals(pending: Vec<Pending>) -> Vec<Attachment> {
    let mut attachments = Vec::with_capacity(pending.len());
    let deadline = tokio::time::Instant::now() + ARRIVAL;
    for pending in pending {
        match tokio::time::timeout_at(deadline, pending.connection()).await {
            Ok(Some(attachment)) => attachments.push(attachment),
            Ok(None) => {}
            Err(_) => tracing::warn!("an attached client's connection did not arrive in time"),
        }
    }
    attachments
}

/// A command: keep this place.
#[derive(Debug)]
pub(super) struct Reserve {
    pending: Pending,
    kept: oneshot::Sender<()>,
}

impl Containers {
    /// Keeps a place for a client.
    ///
    /// # Errors
    /// If there is no such container.
    pub async fn attach(
        &self,
        reference: &str,
        request: AttachRequest,
    ) -> Result<Reservation, LookupError> {
        let handle = self.table.get(reference)?;
        let (reservation, pending) = Reservation::new(request.options);
        handle
            .ask(|kept| Command::Attach(Reserve { pending, kept }))
            .await?;
        Ok(reservation)
    }
}

impl Driver {
    pub(super) fn attach(&mut self, reserve: Reserve) {
        let Reserve { pending, kept } = reserve;
        match self.shim.clone() {
            Some(shim) => {
                // The connection may take a moment; the driver does not wait for it.
                tokio::spawn(async move {
                    if let Some(attachment) = pending.connection().await
                        && let Err(error) = shim.attach(attachment).await
                    {
                        tracing::debug!(%error, "attach");
                    }
                });
            }
            None => {
                // Clients that went away before the start leave room.
                self.pending
                    .retain(|pending| !pending.arrived.is_terminated());
                self.pending.push(pending);
            }
        }
        self.event("attach", BTreeMap::new());
        super::driver::answer(kept, ());
    }
}
