//! Why an image could not be found.

use model::{ErrorKind, InvalidReference};

/// Why a name stands for no image here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// Nothing on this machine has the name.
    #[error("No such image: {name}")]
    NotFound {
        /// The name, with its tag.
        name: String,
    },
    /// Several images' IDs begin so.
    #[error("ambiguous image ID prefix: {prefix}")]
    Ambiguous {
        /// The prefix.
        prefix: String,
    },
    /// It is no reference and no ID.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
}

impl ImageError {
    /// Says what sort of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound { .. } => ErrorKind::NotFound,
            Self::Ambiguous { .. } | Self::Reference(_) => ErrorKind::InvalidParameter,
        }
    }
}
