//! Why a verb on images failed: one error for each.

use super::INTERNAL;
use super::receive::ReceiveError;
use model::{Digest, ErrorKind, ImageId, InvalidReference, Platform, Reference};
use registry::{ClientError, RegistryError, ResolveError};
use std::sync::Arc;
use store::{CommitError, ContentError, GcError, LayerError, RecordError, UnpackError};

/// Why the images cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ImagesOpenError {
    /// A record cannot be read.
    #[error("cannot read the images' records")]
    Record(#[from] RecordError),
    /// There is no registry client.
    #[error("cannot prepare for registries")]
    Client(#[from] ClientError),
    /// Left-overs cannot be cleared away.
    #[error("cannot clear away what pulls left")]
    Collect(#[from] GcError),
    /// Old partial downloads cannot be cleared away.
    #[error("cannot clear away partial downloads")]
    Partial(#[from] ContentError),
}

impl ImagesOpenError {
    /// Says what sort of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        INTERNAL
    }
}

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

/// Why an image was not pulled. Nothing half-made is left.
#[derive(Debug, thiserror::Error)]
pub enum PullError {
    /// The registry has no such image, or cannot be reached.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The config did not come.
    #[error("cannot fetch the image config")]
    Config(#[source] RegistryError),
    /// The config is none.
    #[error("image config {digest} is malformed")]
    MalformedConfig {
        /// The config.
        digest: Digest,
        /// Where it does not parse.
        source: serde_json::Error,
    },
    /// The reference leads to something that is no container image.
    #[error(
        "{reference} is no container image: its manifest has {layers} layers and its config {diff_ids}"
    )]
    NotAnImage {
        /// The reference.
        reference: String,
        /// Layers in the manifest.
        layers: usize,
        /// Layers in the config.
        diff_ids: usize,
    },
    /// More layers than one root file system can have.
    #[error("image has {count} layers; at most {limit} can be stacked")]
    TooManyLayers {
        /// Its layers.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// The user asked for another platform.
    #[error(
        "image with reference {reference} was found but its platform ({actual}) does not match the specified platform ({wanted})"
    )]
    WrongPlatform {
        /// The reference.
        reference: String,
        /// The image's platform.
        actual: Box<Platform>,
        /// What the user asked for.
        wanted: Box<Platform>,
    },
    /// A layer did not come, or is none.
    #[error("cannot pull layer {}", digest.short())]
    Layer {
        /// The compressed layer.
        digest: Digest,
        /// Why; shared with other pulls of the layer.
        source: Arc<ReceiveError>,
    },
    /// The bytes came from the registry, but are not what the digest says.
    #[error("filesystem layer verification failed for digest {digest}")]
    Verification {
        /// The compressed layer.
        digest: Digest,
        /// What came instead.
        source: Arc<ReceiveError>,
    },
    /// The store refused a document or the final sync.
    #[error("cannot store the image")]
    Content(#[from] ContentError),
    /// A layer went away while the image was being recorded.
    #[error("cannot read a layer's size")]
    Size(#[from] LayerError),
    /// The record was not written.
    #[error("cannot record the image")]
    Record(#[from] RecordError),
}

impl PullError {
    /// Says what sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Resolve(error) => error.kind(),
            Self::Config(error) => error.kind(),
            Self::WrongPlatform { .. } => ErrorKind::NotFound,
            Self::MalformedConfig { .. }
            | Self::NotAnImage { .. }
            | Self::TooManyLayers { .. }
            | Self::Layer { .. }
            | Self::Verification { .. }
            | Self::Content(_)
            | Self::Size(_)
            | Self::Record(_) => INTERNAL,
        }
    }

    /// Says what a user can do where the public registry of `reference` cannot be reached.
    #[must_use]
    pub fn hint(&self, reference: &Reference) -> Option<&'static str> {
        let Self::Resolve(error) = self else {
            return None;
        };
        // Whoever names a port or an address knows which machine should have answered.
        let registry = reference.registry();
        let public = registry.contains('.') && !registry.contains(':');
        let public = public && registry.parse::<std::net::IpAddr>().is_err();
        (public && error.is_unreachable()).then_some(
            "without a registry, `berth image bootstrap debian:bookworm` makes a Debian image \
             from this machine's package source",
        )
    }
}

/// Why a tag was not set.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// There is no such image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The new name has a digest, which nobody can choose.
    #[error("refusing to create a tag with a digest reference")]
    Digest,
    /// The record was not written.
    #[error("cannot record the tag")]
    Record(#[from] RecordError),
}

impl TagError {
    /// Says what sort of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Image(error) => error.kind(),
            Self::Digest => ErrorKind::InvalidParameter,
            Self::Record(_) => INTERNAL,
        }
    }
}

/// Why an image was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is no such image.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A container was made from the only name of the image.
    #[error(
        "conflict: unable to remove repository reference {name:?} (must force) - container {container} is using its referenced image {image}"
    )]
    NameInUse {
        /// As the user wrote it.
        name: String,
        /// Short ID of a container.
        container: String,
        /// Short ID of the image.
        image: String,
    },
    /// A running container stands on it.
    #[error(
        "conflict: unable to delete {image} (cannot be forced) - image is being used by running container {container}"
    )]
    Running {
        /// Short ID of the image.
        image: String,
        /// Short ID of a container.
        container: String,
    },
    /// A stopped container stands on it.
    #[error(
        "conflict: unable to delete {image} (must be forced) - image is being used by stopped container {container}"
    )]
    Stopped {
        /// Short ID of the image.
        image: String,
        /// Short ID of a container.
        container: String,
    },
    /// It has several names, and an ID does not say which one is meant.
    #[error(
        "conflict: unable to delete {image} (must be forced) - image is referenced in multiple repositories"
    )]
    SeveralNames {
        /// Short ID of the image.
        image: String,
    },
    /// The record was not changed.
    #[error("cannot change the image's record")]
    Record(#[from] RecordError),
    /// Its blobs and layers were not cleared away.
    #[error("cannot clear away the image's layers")]
    Collect(#[from] GcError),
}

impl RemoveError {
    /// Says what sort of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Image(error) => error.kind(),
            Self::NameInUse { .. }
            | Self::Running { .. }
            | Self::Stopped { .. }
            | Self::SeveralNames { .. } => ErrorKind::Conflict,
            Self::Record(_) | Self::Collect(_) => INTERNAL,
        }
    }
}

/// Why an archive did not become an image.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The new name has a digest, which nobody can choose.
    #[error("cannot import digest reference")]
    Digest,
    /// A change is none.
    #[error(transparent)]
    Change(#[from] super::changes::InvalidChange),
    /// There is no room to unpack in.
    #[error("cannot begin a layer")]
    Begin(#[from] LayerError),
    /// The archive is none, or its stream broke.
    #[error("cannot unpack the archive")]
    Unpack(#[from] UnpackError),
    /// The layer was not kept.
    #[error("cannot keep the layer")]
    Commit(#[from] CommitError),
    /// The config was not kept.
    #[error("cannot store image {0}")]
    Config(ImageId, #[source] ContentError),
    /// The final sync failed.
    #[error("cannot sync the image")]
    Sync(#[source] ContentError),
    /// The record was not written.
    #[error("cannot record the image")]
    Record(#[from] RecordError),
}

impl ImportError {
    /// Says what sort of failure this is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Digest | Self::Change(_) => ErrorKind::InvalidParameter,
            Self::Unpack(UnpackError::Io { .. })
            | Self::Begin(_)
            | Self::Commit(_)
            | Self::Config(..)
            | Self::Sync(_)
            | Self::Record(_) => INTERNAL,
            Self::Unpack(_) => ErrorKind::InvalidParameter,
        }
    }
}
