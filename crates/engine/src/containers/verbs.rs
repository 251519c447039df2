//! The short verbs: kill, pause, unpause, resize, rename, update, start as a command.

use super::Containers;
use super::driver::{Command, Driver};
use super::error::{Refused, StartError, Verb, VerbError};
use crate::shims::Shim;
use model::lifecycle::{self, Action, Input, Refusal, Step};
use model::settings::RestartPolicy;
use model::{ContainerName, Signal};
use std::collections::BTreeMap;

impl Containers {
    /// Starts a container; false if it runs already.
    ///
    /// # Errors
    /// See [`StartError`]; what was made is undone.
    pub async fn start(
        &self,
        reference: &str,
        console_size: Option<(u16, u16)>,
    ) -> Result<bool, VerbError> {
        let handle = self.table.get(reference)?;
        let started = handle
            .ask(|reply| Command::Start {
                console_size,
                span: tracing::Span::current(),
                reply,
            })
            .await?;
        Ok(started.map_err(|error: StartError| error)?)
    }

    /// Sends one signal.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill(&self, reference: &str, signal: Signal) -> Result<(), VerbError> {
        let handle = self.table.get(reference)?;
        handle
            .ask(|reply| Command::Signal { signal, reply })
            .await?
    }

    /// Freezes all processes, or thaws them.
    ///
    /// # Errors
    /// If it does not run, or is so already.
    pub async fn pause(&self, reference: &str, pause: bool) -> Result<(), VerbError> {
        let handle = self.table.get(reference)?;
        handle.ask(|reply| Command::Freeze { pause, reply }).await?
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn resize(&self, reference: &str, rows: u16, columns: u16) -> Result<(), VerbError> {
        let handle = self.table.get(reference)?;
        handle
            .ask(|reply| Command::Resize {
                rows,
                columns,
                reply,
            })
            .await?
    }

    /// Gives it another name.
    ///
    /// # Errors
    /// If the name is invalid, taken or its own.
    pub async fn rename(&self, reference: &str, name: &str) -> Result<(), VerbError> {
        let handle = self.table.get(reference)?;
        let name: ContainerName = name
            .parse()
            .map_err(|error: model::InvalidContainerName| VerbError::Invalid(error.to_string()))?;
        handle.ask(|reply| Command::Rename { name, reply }).await?
    }

    /// Changes its restart policy.
    ///
    /// # Errors
    /// If it is being removed.
    pub async fn update(
        &self,
        reference: &str,
        restart: Option<RestartPolicy>,
    ) -> Result<(), VerbError> {
        let handle = self.table.get(reference)?;
        handle
            .ask(|reply| Command::Update { restart, reply })
            .await?
    }

    /// Returns the shim of a running container.
    pub(crate) async fn shim(&self, reference: &str, verb: Verb) -> Result<Shim, VerbError> {
        let handle = self.table.get(reference)?;
        Ok(handle.ask(|reply| Command::Shim { verb, reply }).await??)
    }
}

impl Driver {
    pub(super) async fn signal(&mut self, signal: Signal) -> Result<(), VerbError> {
        let ends = signal == Signal::KILL || signal == self.definition.stop_signal;
        let before = self.state.phase;
        match lifecycle::step(self.state.phase, Input::Signal { ends }) {
            Step::Refuse(why) => return Err(self.refused(Verb::Kill, why).into()),
            Step::AlreadySo => return Ok(()),
            Step::Accept { next, actions } => {
                self.state.phase = next;
                if actions.contains(&Action::CancelRestart) {
                    self.cancel_restart();
                    self.write_state_or_log();
                    self.publish();
                    return Ok(());
                }
            }
        }
        let sent = match &self.shim {
            Some(shim) => shim.signal(signal).await,
            None => Err(crate::shims::ShimError::Gone),
        };
        if let Err(source) = sent {
            self.state.phase = before;
            let verb = "kill";
            return Err(VerbError::Shim { verb, source });
        }
        if self.state.phase != before {
            self.write_state_or_log();
        }
        let number = BTreeMap::from([("signal".to_owned(), signal.number().to_string())]);
        self.event("kill", number);
        Ok(())
    }

    /// A user ends the coming back of a container that waits for it.
    fn cancel_restart(&mut self) {
        self.restart_at = None;
        self.state.user_stopped = true;
    }

    pub(super) fn stopping(&mut self) -> Result<bool, VerbError> {
        match lifecycle::step(self.state.phase, Input::Stop) {
            Step::AlreadySo => Ok(false),
            Step::Refuse(why) => Err(self.refused(Verb::Stop, why).into()),
            Step::Accept { next, actions } => {
                self.state.phase = next;
                if actions.contains(&Action::CancelRestart) {
                    self.cancel_restart();
                }
                self.write_state_or_log();
                self.publish();
                Ok(true)
            }
        }
    }

    pub(super) fn freeze(&mut self, pause: bool) -> Result<(), VerbError> {
        let (input, verb, word) = if pause {
            (Input::Pause, Verb::Pause, "freeze")
        } else {
            (Input::Unpause, Verb::Unpause, "thaw")
        };
        let before = self.state.phase;
        match lifecycle::step(before, input) {
            Step::Refuse(why) => return Err(self.refused(verb, why).into()),
            Step::AlreadySo => return Ok(()),
            Step::Accept { next, .. } => self.state.phase = next,
        }
        if let Err(source) = crate::cgroups::freeze(&self.context, &self.definition.id, pause) {
            self.state.phase = before;
            return Err(VerbError::Cgroup {
                verb: word,
                id: self.definition.id.clone(),
                source,
            });
        }
        self.write_state_or_log();
        self.publish();
        self.event(if pause { "pause" } else { "unpause" }, BTreeMap::new());
        Ok(())
    }

    pub(super) async fn resize(&mut self, rows: u16, columns: u16) -> Result<(), VerbError> {
        let shim = self.running_shim(Verb::Resize)?;
        let verb = "resize";
        shim.resize(rows, columns)
            .await
            .map_err(|source| VerbError::Shim { verb, source })?;
        let size = BTreeMap::from([
            ("height".to_owned(), rows.to_string()),
            ("width".to_owned(), columns.to_string()),
        ]);
        self.event(verb, size);
        Ok(())
    }

    pub(super) fn update(&mut self, restart: Option<RestartPolicy>) -> Result<(), VerbError> {
        if let Some(restart) = restart {
            if restart != RestartPolicy::No && self.definition.settings.auto_remove {
                return Err(VerbError::Invalid(
                    "Restart policy cannot be updated because AutoRemove is enabled for the \
                     container"
                        .to_owned(),
                ));
            }
            self.state.restart = restart;
        }
        self.write_state()?;
        self.publish();
        self.event("update", BTreeMap::new());
        Ok(())
    }

    pub(super) fn running_shim(&self, verb: Verb) -> Result<Shim, Refused> {
        match &self.shim {
            Some(shim) => Ok(shim.clone()),
            None => Err(self.refused(verb, Refusal::NotRunning)),
        }
    }
}
