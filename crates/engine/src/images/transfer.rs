//! Layers on their way, shared by the pulls that want them.
//!
//! A transfer belongs to its waiters: the last one to go cancels it. It is keyed by diff ID, so
//! that two images, or two pulls of one, fetch a layer once.
//!
//! ```text
//! waiting ─▶ downloading ⇄ retrying ─▶ verified ─▶ extracting ─▶ done
//!      └──────────┴── last waiter gone ──┴──────────────┴──────▶ cancelled
//! ```

use super::progress::LayerState;
use super::receive::{self, Arrival, ReceiveError};
use super::{blocking, joined};
use bytes::Bytes;
use model::DiffId;
use model::image::Descriptor;
use registry::{BlobEvent, BlobStream, RegistryError, Repository};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use store::Store;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Layers that are received at once, at least: docker's `max-concurrent-downloads`.
const TRANSFERS_MIN: usize = 3;
/// Chunks between the network and the unpacker. hyper's are at most some hundred KiB, so a layer
/// has a few MiB in flight: enough to bridge the unpacker's pauses.
const CHANNEL_CHUNKS: usize = 32;

/// The outcome of a transfer.
pub(super) type Outcome = Result<(), Arc<ReceiveError>>;

/// How a transfer stands.
#[derive(Debug, Clone)]
pub(super) enum TransferState {
    Running(LayerState),
    Done(Outcome),
}

/// One waiter's share of a transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    pub states: watch::Receiver<TransferState>,
    _cancel: DropGuard,
}

/// What is to be fetched.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub diff_id: DiffId,
    pub descriptor: Descriptor,
    pub repository: Repository,
}

#[derive(Debug)]
pub(super) struct Transfers {
    store: Store,
    permits: Arc<Semaphore>,
    running: Mutex<HashMap<DiffId, Slot>>,
}

#[derive(Debug)]
struct Slot {
    transfer: Weak<Transfer>,
    states: watch::Receiver<TransferState>,
}

impl Transfers {
    pub(super) fn new(store: Store) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            store,
            permits: Arc::new(Semaphore::new(cores.max(TRANSFERS_MIN))),
            running: Mutex::default(),
        }
    }

    /// Joins the transfer of a layer, or starts it.
    pub(super) fn join(&self, wanted: Wanted) -> Arc<Transfer> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, slot| !is_done(&slot.states));
        let slot = running.get(&wanted.diff_id);
        if let Some(transfer) = slot.and_then(|slot| slot.transfer.upgrade()) {
            return transfer;
        }
        // One that was cancelled may not have ended yet: it holds the partial file until then.
        let before = slot.map(|slot| slot.states.clone());
        let (states, receiver) = watch::channel(TransferState::Running(LayerState::Waiting));
        let cancelled = CancellationToken::new();
        let transfer = Arc::new(Transfer {
            states: receiver.clone(),
            _cancel: cancelled.clone().drop_guard(),
        });
        running.insert(
            wanted.diff_id,
            Slot {
                transfer: Arc::downgrade(&transfer),
                states: receiver,
            },
        );
        let run = Run {
            store: self.store.clone(),
            permits: Arc::clone(&self.permits),
            wanted,
            states: Arc::new(states),
            cancelled,
        };
        // It ends by itself: its token is cancelled when its last waiter goes.
        drop(tokio::spawn(run.finish(before)));
        transfer
    }

    /// Waits until transfers that nobody wants any more have ended, so that who hears of a failed
    /// pull finds nothing of it still at work.
    pub(super) async fn settle(&self) {
        let abandoned: Vec<_> = {
            let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
            let gone = running
                .values()
                .filter(|slot| slot.transfer.strong_count() == 0);
            gone.map(|slot| slot.states.clone()).collect()
        };
        for mut states in abandoned {
            ended(&mut states).await;
        }
    }
}

/// Waits for the end of a transfer. An error means that its task is gone, which is as good.
async fn ended(states: &mut watch::Receiver<TransferState>) {
    let done = |state: &TransferState| matches!(state, TransferState::Done(_));
    let _ended = states.wait_for(done).await.is_ok();
}

fn is_done(states: &watch::Receiver<TransferState>) -> bool {
    matches!(*states.borrow(), TransferState::Done(_))
}

/// A transfer from the inside.
struct Run {
    store: Store,
    permits: Arc<Semaphore>,
    wanted: Wanted,
    states: Arc<watch::Sender<TransferState>>,
    cancelled: CancellationToken,
}

impl Run {
    async fn finish(self, before: Option<watch::Receiver<TransferState>>) {
        let outcome = self.fetch(before).await.map_err(Arc::new);
        self.states.send_replace(TransferState::Done(outcome));
    }

    async fn fetch(
        &self,
        before: Option<watch::Receiver<TransferState>>,
    ) -> Result<(), ReceiveError> {
        if let Some(mut before) = before {
            ended(&mut before).await;
        }
        let _permit = tokio::select! {
            // The semaphore is never closed.
            permit = self.permits.acquire() => permit.map_err(|_| ReceiveError::Cancelled)?,
            () = self.cancelled.cancelled() => return Err(ReceiveError::Cancelled),
        };
        let Wanted {
            diff_id,
            descriptor,
            repository,
        } = self.wanted.clone();
        let (layers, content) = (self.store.layers(), self.store.content());
        if layers.contains(&diff_id) {
            return Ok(());
        }
        if content.contains(&descriptor.digest) {
            let (digest, total_bytes) = (descriptor.digest, descriptor.size);
            show(
                &self.states,
                LayerState::Extracting {
                    current_bytes: 0,
                    total_bytes,
                },
            );
            let unpacked =
                blocking(move || receive::unpack_kept(&content, &digest, &layers, &diff_id));
            match unpacked.await {
                Ok(()) => return Ok(()),
                Err(error) => tracing::warn!(%digest, %error, "kept blob is damaged, fetching it"),
            }
        }
        self.stream(repository, descriptor, diff_id).await
    }

    /// Network on this side, disk on the other; whichever fails ends both.
    async fn stream(
        &self,
        repository: Repository,
        descriptor: Descriptor,
        diff_id: DiffId,
    ) -> Result<(), ReceiveError> {
        let (layers, content) = (self.store.layers(), self.store.content());
        // Hashing a large partial file again takes a while.
        let ingest = {
            let descriptor = descriptor.clone();
            blocking(move || content.ingest(&descriptor)).await?
        };
        let stream = repository.fetch_blob(&descriptor, ingest.offset());
        let mut sender = Feed {
            position: ingest.offset(),
            total_bytes: descriptor.size,
            stream,
            states: Arc::clone(&self.states),
        };
        let (chunks, receiver) = mpsc::channel(CHANNEL_CHUNKS);
        let arrival = Arrival {
            descriptor: descriptor.clone(),
            ingest,
            chunks: receiver,
            cancelled: self.cancelled.clone(),
        };
        let (states, total_bytes) = (Arc::clone(&self.states), descriptor.size);
        // What is left then is what the unpacker still has in hand.
        let verified = move || {
            let state = LayerState::Extracting {
                current_bytes: total_bytes,
                total_bytes,
            };
            show(&states, state);
        };
        let worker = tokio::task::spawn_blocking(move || {
            receive::receive(arrival, &layers, &diff_id, &verified)
        });
        let fed = tokio::select! {
            fed = sender.feed(chunks) => fed.map_err(ReceiveError::from),
            () = self.cancelled.cancelled() => Err(ReceiveError::Cancelled),
        };
        // The channel is closed now, so the worker comes to an end.
        let received = joined(worker.await);
        match (fed, received) {
            (Ok(()), received) => received,
            // A broken download also ends the unpacking; its own error says why.
            (Err(error), _) => Err(error),
        }
    }
}

/// The network's side of a transfer.
struct Feed {
    stream: BlobStream,
    position: u64,
    total_bytes: u64,
    states: Arc<watch::Sender<TransferState>>,
}

impl Feed {
    /// Hands chunks over until the blob ends, or the other side does not want any more.
    async fn feed(&mut self, chunks: mpsc::Sender<Bytes>) -> Result<(), RegistryError> {
        self.show_position();
        while let Some(event) = self.stream.next().await? {
            match event {
                BlobEvent::Bytes(bytes) => {
                    self.position += bytes.len() as u64;
                    if chunks.send(bytes).await.is_err() {
                        return Ok(());
                    }
                    self.show_position();
                }
                BlobEvent::Retrying { after, reason } => {
                    tracing::info!(reason, "download broke off, trying again");
                    show(&self.states, LayerState::Retrying { after });
                }
            }
        }
        show(&self.states, LayerState::Verifying);
        Ok(())
    }

    fn show_position(&self) {
        show(
            &self.states,
            LayerState::Downloading {
                current_bytes: self.position,
                total_bytes: self.total_bytes,
            },
        );
    }
}

fn show(states: &watch::Sender<TransferState>, state: LayerState) {
    states.send_replace(TransferState::Running(state));
}
