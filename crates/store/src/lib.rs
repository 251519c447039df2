//! What Berth keeps on disk: records, content, layers, snapshots.
//!
//! `engine` opens one [`Store`] on the data root and works through its four handles. This crate
//! knows the file system and the digests; it does not know what an image or a container is, and
//! it never talks to a network. It may depend on `model` and on safe system calls (`rustix`).
//! Everything here blocks: call it from threads that may block.
//!
//! ```text
//! <data root>/
//!   lock                       held by the one process that owns the data root
//!   records/<kind>/<id>.json   one object each, replaced whole
//!   content/blobs/sha256/<hex> verified bytes
//!   content/ingest/<hex>       bytes still arriving; survives a restart to be resumed
//!   layers/sha256/<hex>/       layer.json and fs/, the unpacked tree, named by diff ID
//!   layers/unpacking/<n>/      half-made; swept at open
//!   l/<short>                  short names of the layers' trees, for mount options
//!   snapshots/<key>/           upper/, work/ and the list of layers beneath
//!   trash/                     renamed here at once, deleted behind
//! ```
//!
//! ```no_run
//! let store = store::Store::open(std::path::Path::new("/var/lib/berth"))?;
//! let digest = store.content().put(b"{}")?;
//! assert!(store.content().contains(&digest));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod content;
mod delete;
mod files;
mod gc;
pub mod layers;
mod open;
pub mod records;
pub mod snapshots;
#[cfg(test)]
mod testing;
mod trash;

pub use content::{Content, ContentError, Ingest, IngestError};
pub use gc::{GcError, Lease, Live, Swept};
pub use layers::{
    CommitError, LayerError, LayerWriter, Layers, UnpackError, UnpackLimits, UnpackedLayer,
};
pub use open::{OpenError, Store};
pub use records::{RecordError, Records};
pub use snapshots::{RootMount, SnapshotError, Snapshots, Usage};
