//! Questions to a registry that change nothing here.

use super::Images;
use model::image::Descriptor;
use model::{Platform, Reference};
use registry::{Credentials, RegistryError, ResolveError};

impl Images {
    /// Says what a reference names at its registry, and for which platforms.
    ///
    /// # Errors
    /// The registry cannot be reached, or has no such thing.
    pub async fn describe(
        &self,
        reference: &Reference,
        credentials: Credentials,
    ) -> Result<(Descriptor, Vec<Platform>), ResolveError> {
        let repository = self.0.registry.repository(reference, credentials).await;
        repository.describe().await
    }

    /// Asks the registry of `reference` whether it takes the credentials.
    ///
    /// # Errors
    /// It does not, or cannot be reached.
    pub async fn log_in(
        &self,
        reference: &Reference,
        credentials: Credentials,
    ) -> Result<(), RegistryError> {
        let repository = self.0.registry.repository(reference, credentials).await;
        repository.check_credentials().await
    }
}
