//! rm: a container disappears at once for everyone who looks; its files are deleted behind.

use super::Containers;
use super::driver::{Command, Driver, Reply, answer};
use super::error::{Verb, VerbError};
use model::Signal;
use model::lifecycle::{self, Action, Input, Step};
use std::sync::Arc;
use std::time::Duration;

const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// How far a removal goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveRequest {
    /// Also if it runs: it is killed.
    pub force: bool,
    /// Its anonymous volumes too.
    pub volumes: bool,
}

impl Containers {
    /// Removes a container.
    ///
    /// # Errors
    /// If it runs and `force` is not given.
    pub async fn remove(&self, reference: &str, request: RemoveRequest) -> Result<(), VerbError> {
        let handle = self.table.get(reference)?;
        handle
            .ask(|reply| Command::Remove { request, reply })
            .await??;
        let mut view = handle.view.clone();
        let gone = view.wait_for(|view| view.removed);
        match tokio::time::timeout(KILL_TIMEOUT, gone).await {
            Ok(_) => Ok(()),
            Err(_) => Err(VerbError::Invalid(format!(
                "cannot remove container {}: it does not end, even after SIGKILL",
                handle.id
            ))),
        }
    }

    /// Removes all that were created or have ended, and match; returns their IDs and the bytes
    /// they took.
    pub async fn prune(
        &self,
        matches: impl Fn(&super::View) -> bool,
    ) -> (Vec<model::ContainerId>, u64) {
        let mut removed = Vec::new();
        let mut bytes = 0;
        for handle in self.table.all() {
            let view: Arc<super::View> = handle.view();
            if view.is_running() || !matches(&view) {
                continue;
            }
            let size_bytes = self.changes_bytes(&handle.id);
            if self
                .remove(handle.id.as_str(), RemoveRequest::default())
                .await
                .is_ok()
            {
                removed.push(handle.id);
                bytes += size_bytes;
            }
        }
        (removed, bytes)
    }
}

impl Driver {
    pub(super) async fn remove_command(
        &mut self,
        request: RemoveRequest,
        reply: Reply<Result<(), VerbError>>,
    ) {
        let RemoveRequest { force, volumes } = request;
        match lifecycle::step(self.state.phase, Input::Remove { force }) {
            Step::Refuse(why) => answer(reply, Err(self.refused(Verb::Remove, why).into())),
            Step::AlreadySo => answer(
                reply,
                Err(self
                    .refused(Verb::Remove, lifecycle::Refusal::Removing)
                    .into()),
            ),
            Step::Accept { next, actions } => {
                self.state.phase = next;
                self.state.remove_volumes |= volumes;
                if actions.contains(&Action::CancelRestart) {
                    self.restart_at = None;
                }
                if actions.contains(&Action::Kill) {
                    self.kill_for_removal().await;
                    answer(reply, Ok(()));
                } else {
                    answer(reply, Ok(()));
                    self.delete().await;
                }
            }
        }
    }

    async fn kill_for_removal(&mut self) {
        self.write_state_or_log();
        self.publish();
        if let Err(error) = crate::cgroups::freeze(&self.context, &self.definition.id, false) {
            tracing::debug!(container = %self.definition.id, %error, "thaw");
        }
        if let Some(shim) = &self.shim
            && let Err(error) = shim.signal(Signal::KILL).await
        {
            tracing::warn!(container = %self.definition.id, %error, "kill");
        }
    }
}
