//! The use cases: a folder per noun, a file per verb, small handles, no god object.
//!
//! The engine stands between the protocols and the crates that touch disk and kernel (`store`,
//! `registry`, `runtime`, `network`). It knows no HTTP and no API version.
//!
//! ```no_run
//! # async fn open() -> Result<(), engine::OpenError> {
//! let options = engine::EngineOptions::new("/var/lib/berth".into(), "/run/berth".into());
//! let engine = engine::Engine::open(options).await?;
//! # Ok(()) }
//! ```

pub mod images;
pub mod networks;
mod options;
pub mod shims;

pub use options::EngineOptions;

/// The engine: one handle per noun.
#[derive(Debug)]
pub struct Engine {
    options: EngineOptions,
}

/// Why the engine does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {}

impl OpenError {
    /// Returns the sort of failure.
    #[must_use]
    pub fn kind(&self) -> model::ErrorKind {
        model::ErrorKind::Internal
    }
}

impl Engine {
    /// Opens the data root and takes over what runs already.
    ///
    /// # Errors
    /// When a root cannot be used.
    pub async fn open(options: EngineOptions) -> Result<Self, OpenError> {
        Ok(Self { options })
    }

    /// Ends the engine's own tasks; containers keep running.
    pub async fn close(&self) {}

    /// Returns what the engine was opened with.
    #[must_use]
    pub fn options(&self) -> &EngineOptions {
        &self.options
    }
}
