//! Compiled filters, kept: a start costs no compilation.

use super::compile::{CompileError, compile};
use super::default::default_policy;
use super::profile::{Facts, ProfileError, parse_profile};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Filters of this many profiles and capability sets are kept; then all are dropped.
const MAX_ENTRIES: usize = 64;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub enum FilterError {
    /// The document is no policy.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The policy does not compile.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// The profile's text (none: the default policy), and what its conditions depend on.
type Key = (Option<String>, Facts);

/// Compiled filters by profile text (none: the default policy) and facts.
#[derive(Debug, Default)]
pub struct Filters {
    kept: Mutex<HashMap<Key, Arc<[u8]>>>,
}

impl Filters {
    /// Returns the filter of the default policy or of a profile document.
    ///
    /// # Errors
    /// When the document is no policy that can be honoured.
    pub fn get(&self, profile: Option<&str>, facts: &Facts) -> Result<Arc<[u8]>, FilterError> {
        let key = (profile.map(str::to_owned), facts.clone());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(filter) = kept.get(&key) {
            return Ok(Arc::clone(filter));
        }
        let policy = match profile {
            None => default_policy(facts.architecture, &facts.capabilities),
            Some(text) => parse_profile(text, facts)?,
        };
        let filter: Arc<[u8]> = compile(&policy)?.into();
        if kept.len() >= MAX_ENTRIES {
            kept.clear();
        }
        kept.insert(key, Arc::clone(&filter));
        Ok(filter)
    }
}
