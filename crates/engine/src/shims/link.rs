//! The connection to one shim: requests with their answers, and events as they come.
//!
//! One reader task per shim; writers take turns on a lock, as a frame must not be torn.

use super::handle::ShimError;
use runtime::shim::frame::{self, Incoming};
use runtime::shim::protocol::{
    EXIT_RECORD_NAME, Envelope, Event, ExitRecord, Message, Outcome, Request,
};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};

/// What the reader knows and others ask for.
#[derive(Debug, Default)]
struct Shared {
    next_sequence: u64,
    replies: HashMap<u64, oneshot::Sender<Outcome>>,
    execs: HashMap<String, watch::Sender<Option<ExitRecord>>>,
    detached: Option<tokio::sync::mpsc::UnboundedSender<Option<String>>>,
    /// Dropped with the connection, so that whoever waits learns that no record will come.
    exit: Option<watch::Sender<Option<ExitRecord>>>,
    /// Where the exit record lies, once launched.
    directory: Option<PathBuf>,
    closed: bool,
}

/// A connection to a shim.
#[derive(Debug)]
pub(super) struct Link {
    stream: UnixStream,
    writing: tokio::sync::Mutex<()>,
    shared: Mutex<Shared>,
    exit: watch::Receiver<Option<ExitRecord>>,
    ready: watch::Sender<Option<Result<(), String>>>,
}

impl Link {
    /// Takes a connected, non-blocking socket and starts to read from it.
    pub(super) fn new(socket: OwnedFd) -> io::Result<Arc<Self>> {
        let stream = UnixStream::from_std(socket.into())?;
        let sender = watch::Sender::new(None);
        let exit = sender.subscribe();
        let shared = Shared {
            exit: Some(sender),
            ..Shared::default()
        };
        let link = Arc::new(Self {
            stream,
            writing: tokio::sync::Mutex::default(),
            shared: Mutex::new(shared),
            exit,
            ready: watch::Sender::new(None),
        });
        // The task ends with the connection, which the shim closes or `close` ends.
        tokio::spawn(read(Arc::clone(&link)));
        Ok(link)
    }

    /// Returns where the init process's exit record appears.
    pub(super) fn exit(&self) -> watch::Receiver<Option<ExitRecord>> {
        self.exit.clone()
    }

    /// Says where the exit record will lie, for a shim that ends before it can tell.
    pub(super) fn set_directory(&self, directory: &Path) {
        self.shared().directory = Some(directory.to_owned());
    }

    /// Whether the shim was asked to launch.
    pub(super) fn has_launched(&self) -> bool {
        self.shared().directory.is_some()
    }

    /// Waits until an empty container is ready, or cannot be.
    pub(super) async fn ready(&self) -> Result<(), ShimError> {
        let mut ready = self.ready.subscribe();
        let state = ready
            .wait_for(|state| state.is_some())
            .await
            .map_err(|_| ShimError::Gone)?;
        match state.as_ref() {
            Some(Ok(())) => Ok(()),
            Some(Err(message)) => Err(ShimError::Failed(message.clone())),
            None => Err(ShimError::Gone),
        }
    }

    /// Whether the connection still stands.
    pub(super) fn is_open(&self) -> bool {
        !self.shared().closed
    }

    /// Waits for the connection's end.
    pub(super) async fn closed(&self) {
        // The reader drops no sender while this handle lives, so it marks the end by a value.
        let mut ready = self.ready.subscribe();
        while self.is_open() {
            if ready.changed().await.is_err() {
                return;
            }
        }
    }

    /// Registers an exec process before it starts, so that its end cannot be missed.
    pub(super) fn expect_exec(&self, exec: &str) -> watch::Receiver<Option<ExitRecord>> {
        let sender = watch::Sender::new(None);
        let receiver = sender.subscribe();
        self.shared().execs.insert(exec.to_owned(), sender);
        receiver
    }

    /// Forgets an exec process that did not start.
    pub(super) fn forget_exec(&self, exec: &str) {
        self.shared().execs.remove(exec);
    }

    /// Returns where detached clients are reported: none for the init process, else the exec's ID.
    /// The last caller gets them.
    pub(super) fn detached(&self) -> tokio::sync::mpsc::UnboundedReceiver<Option<String>> {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        self.shared().detached = Some(sender);
        receiver
    }

    /// Ends the connection; a shim that has not launched ends with it.
    pub(super) fn close(&self) {
        rustix::net::shutdown(self.stream.as_fd(), rustix::net::Shutdown::Both).ok();
    }

    /// Asks, and waits for the answer. The question goes out whole even if the caller goes away.
    pub(super) async fn ask(
        self: &Arc<Self>,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<Outcome, ShimError> {
        let (sender, receiver) = oneshot::channel();
        let sequence = {
            let mut shared = self.shared();
            if shared.closed {
                return Err(ShimError::Gone);
            }
            shared.next_sequence += 1;
            let sequence = shared.next_sequence;
            shared.replies.insert(sequence, sender);
            sequence
        };
        let envelope = Envelope {
            sequence,
            fds: fds.len(),
            request,
        };
        let bytes =
            frame::encode(&envelope).map_err(|error| ShimError::Failed(error.to_string()))?;
        let link = Arc::clone(self);
        tokio::spawn(async move {
            if link.send(&bytes, &fds).await.is_err() {
                link.close();
            }
        });
        receiver.await.map_err(|_| ShimError::Gone)
    }

    /// Asks for something that has no other answer than "done".
    pub(super) async fn order(
        self: &Arc<Self>,
        request: Request,
        fds: Vec<OwnedFd>,
    ) -> Result<(), ShimError> {
        match self.ask(request, fds).await? {
            Outcome::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Writes one frame.
    async fn send(&self, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<()> {
        let _turn = self.writing.lock().await;
        let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            let fds = if written == 0 { fds.as_slice() } else { &[] };
            written += self
                .stream
                .async_io(Interest::WRITABLE, || {
                    frame::send(self.stream.as_fd(), rest, fds)
                })
                .await?;
        }
        Ok(())
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection has ended: nobody shall wait any longer.
    fn end(&self) {
        let mut shared = self.shared();
        shared.closed = true;
        shared.replies.clear();
        shared.execs.clear();
        shared.detached = None;
        if let (Some(exit), Some(directory)) = (shared.exit.take(), &shared.directory)
            && exit.borrow().is_none()
            && let Some(record) = read_record(directory)
        {
            exit.send_replace(Some(record));
        }
        drop(shared);
        self.ready.send_modify(|state| {
            if state.is_none() {
                *state = Some(Err("the shim ended".to_owned()));
            }
        });
    }

    fn take(&self, message: Message) -> Option<String> {
        match message {
            Message::Reply { sequence, outcome } => {
                let waiting = self.shared().replies.remove(&sequence);
                if let Some(waiting) = waiting {
                    waiting.send(outcome).ok(); // the asker may have gone
                }
            }
            Message::Event(Event::Ready) => {
                self.ready.send_replace(Some(Ok(())));
            }
            Message::Event(Event::NotReady(why)) => {
                self.ready.send_replace(Some(Err(why)));
            }
            Message::Event(Event::Exited(record)) => {
                if let Some(exit) = &self.shared().exit {
                    exit.send_replace(Some(record));
                }
            }
            Message::Event(Event::ExecExited { exec, record }) => {
                let waiting = self.shared().execs.remove(&exec);
                if let Some(waiting) = waiting {
                    waiting.send_replace(Some(record));
                }
                return Some(exec);
            }
            Message::Event(Event::Detached { exec }) => {
                if let Some(sender) = &self.shared().detached {
                    sender.send(exec).ok(); // nobody may listen
                }
            }
        }
        None
    }
}

/// Turns an answer that carries bad news into an error.
pub(super) fn unexpected(outcome: Outcome) -> ShimError {
    match outcome {
        Outcome::LaunchFailed(error) => ShimError::Launch(error),
        Outcome::NoSuchProcess => ShimError::NoSuchProcess,
        Outcome::Failed(message) => ShimError::Failed(message),
        Outcome::Done | Outcome::Started { .. } | Outcome::Status(_) => {
            ShimError::Failed("the shim gave an answer to another question".to_owned())
        }
    }
}

/// Reads the exit record that a shim leaves.
pub(super) fn read_record(directory: &Path) -> Option<ExitRecord> {
    let bytes = std::fs::read(directory.join(EXIT_RECORD_NAME)).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Reads until the connection's end.
async fn read(link: Arc<Link>) {
    let mut incoming = Incoming::default();
    loop {
        let received = link
            .stream
            .async_io(Interest::READABLE, || incoming.receive(link.stream.as_fd()))
            .await;
        let open = matches!(received, Ok(true));
        while let Ok(Some(message)) = incoming.take::<Message>() {
            if let Some(exec) = link.take(message) {
                let link = Arc::clone(&link);
                // Not here: an answer can only come when this task reads on.
                tokio::spawn(async move {
                    link.order(Request::ExecRecorded { exec }, Vec::new()).await
                });
            }
        }
        if !open {
            break;
        }
    }
    link.end();
}
