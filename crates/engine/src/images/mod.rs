//! Images on this machine: which there are, and how they come and go.
//!
//! A file per verb: [`pull`](Images::pull), [`import`](Images::import), [`tag`](Images::tag),
//! [`remove`](Images::remove), [`prune`](Images::prune). The folder owns the image records; bytes
//! and unpacked layers belong to `store`, the network to `registry`. It refuses to know about
//! containers: callers say which images are in use.

mod error;
mod image;
mod progress;
mod resolve;

pub use error::ImageError;
pub use image::Image;
pub use progress::{LayerState, ProgressSender, PullEvent};

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Images {
    store: store::Store,
}
