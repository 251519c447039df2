//! What a pull reports while it runs, as values; protocols render them.

use model::Digest;
use std::time::Duration;
use tokio::sync::mpsc;

/// A step of one pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// The manifest is known; layers follow.
    Resolved {
        /// Tag or digest that was asked for.
        selector: String,
        /// `library/ubuntu`: the repository, without a registry.
        repository: String,
    },
    /// One layer went on.
    Layer {
        /// The compressed layer's digest.
        digest: Digest,
        /// Where it is now.
        state: LayerState,
    },
}

/// How far one layer is. The order of the variants is the order in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LayerState {
    /// It is unpacked on this machine already.
    AlreadyExists,
    /// It is known and will be fetched.
    Pending,
    /// Its turn comes when another layer is done.
    Waiting,
    /// Bytes arrive, and are unpacked as they do.
    Downloading {
        /// Compressed bytes so far.
        current_bytes: u64,
        /// Compressed bytes in all.
        total_bytes: u64,
    },
    /// The connection broke; it is tried again after a pause.
    Retrying {
        /// The pause.
        after: Duration,
    },
    /// All bytes are here; their digest is compared.
    Verifying,
    /// The digest was right.
    DownloadComplete,
    /// The last bytes are being unpacked.
    Extracting {
        /// Compressed bytes unpacked so far.
        current_bytes: u64,
        /// Compressed bytes in all.
        total_bytes: u64,
    },
    /// It is unpacked and verified.
    PullComplete,
}

/// Where a pull sends its [`PullEvent`]s. A slow receiver holds up only its own pull.
pub type ProgressSender = mpsc::Sender<PullEvent>;
