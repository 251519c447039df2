//! Which containers there are: by ID, by name, by ID prefix. Names are unique, and a name is taken
//! before its container exists.

use super::driver::Command;
use super::error::{LookupError, NameTaken};
use super::record::View;
use model::{ContainerId, ContainerName};
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::{mpsc, watch};

/// One container, as others reach it.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    pub id: ContainerId,
    pub commands: mpsc::Sender<Command>,
    pub view: watch::Receiver<Arc<View>>,
}

impl Handle {
    /// Returns the latest picture.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.borrow().clone()
    }

    /// Sends a command made with a reply channel, and waits for the reply.
    pub(super) async fn ask<T>(
        &self,
        command: impl FnOnce(tokio::sync::oneshot::Sender<T>) -> Command,
    ) -> Result<T, LookupError> {
        let gone = || LookupError::NotFound(self.id.to_string());
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.commands
            .send(command(reply))
            .await
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// The table. Its lock is never held across an await.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: RwLock<Rows>,
}

#[derive(Debug, Default)]
struct Rows {
    by_id: BTreeMap<ContainerId, Handle>,
    by_name: HashMap<ContainerName, ContainerId>,
}

impl Table {
    /// Takes a name for a container that is about to be.
    pub(super) fn reserve(&self, name: &ContainerName, id: &ContainerId) -> Result<(), NameTaken> {
        let mut rows = self.write();
        match rows.by_name.get(name) {
            Some(holder) if holder != id => Err(NameTaken {
                name: name.to_string(),
                holder: holder.clone(),
            }),
            _ => {
                rows.by_name.insert(name.clone(), id.clone());
                Ok(())
            }
        }
    }

    /// Lets go of a name, if the container has it.
    pub(super) fn release(&self, name: &ContainerName, id: &ContainerId) {
        let mut rows = self.write();
        if rows.by_name.get(name) == Some(id) {
            rows.by_name.remove(name);
        }
    }

    /// Makes a container visible.
    pub(super) fn insert(&self, handle: Handle) {
        self.write().by_id.insert(handle.id.clone(), handle);
    }

    /// Makes a container and its name disappear.
    pub(super) fn remove(&self, name: &ContainerName, id: &ContainerId) {
        self.write().by_id.remove(id);
        self.release(name, id);
    }

    /// Returns every container.
    pub(super) fn all(&self) -> Vec<Handle> {
        self.read().by_id.values().cloned().collect()
    }

    /// Finds by ID, name or unambiguous ID prefix, in this order, as docker does.
    pub(super) fn get(&self, reference: &str) -> Result<Handle, LookupError> {
        let rows = self.read();
        let id = reference.parse::<ContainerId>().ok();
        if let Some(handle) = id.and_then(|id| rows.by_id.get(&id)) {
            return Ok(handle.clone());
        }
        let name = reference.parse::<ContainerName>().ok();
        let named = name.and_then(|name| rows.by_name.get(&name));
        if let Some(handle) = named.and_then(|id| rows.by_id.get(id)) {
            return Ok(handle.clone());
        }
        rows.by_prefix(reference)
    }

    fn read(&self) -> RwLockReadGuard<'_, Rows> {
        self.rows.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Rows> {
        self.rows.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows {
    fn by_prefix(&self, prefix: &str) -> Result<Handle, LookupError> {
        let not_found = || LookupError::NotFound(prefix.trim_start_matches('/').to_owned());
        if prefix.is_empty() || !prefix.bytes().all(|b| b.is_ascii_hexdigit()) || prefix.len() > 64
        {
            return Err(not_found());
        }
        // The smallest ID that can begin so.
        let first: ContainerId = format!("{prefix:0<64}").parse().map_err(|_| not_found())?;
        let mut matching = self
            .by_id
            .range((Bound::Included(first), Bound::Unbounded))
            .map(|(_, handle)| handle)
            .take_while(|handle| handle.id.as_str().starts_with(prefix));
        match (matching.next(), matching.next()) {
            (Some(only), None) => Ok(only.clone()),
            (None, _) => Err(not_found()),
            (Some(_), Some(_)) => Err(LookupError::Ambiguous(prefix.to_owned())),
        }
    }
}
