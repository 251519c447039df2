//! What a returning daemon does: reads the records, gathers evidence, lets the lifecycle decide,
//! and hands each container to its driver.

use super::Containers;
use super::driver::{Command, Recovered};
use super::record::{DEFINITIONS, Definition, STATES, State, VERSION};
use crate::shims::Adopted;
use model::lifecycle::{self, Evidence, Found, Recovery};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

impl Containers {
    /// Takes every recorded container over.
    ///
    /// # Errors
    /// If the records cannot be read.
    pub(crate) async fn recover(&self) -> Result<(), store::RecordError> {
        let records = self.context.store.records();
        let mut states: HashMap<String, State> =
            records.list::<State>(STATES)?.into_iter().collect();
        let definitions = records.list::<Definition>(DEFINITIONS)?;
        let known = definitions.iter().map(|(id, _)| id).chain(states.keys());
        self.sweep_unknown(&known.cloned().collect());
        for (id, definition) in definitions {
            match states.remove(&id) {
                Some(state) if definition.version == VERSION && state.version == VERSION => {
                    self.recover_one(definition, state).await;
                }
                Some(_) => tracing::error!(container = id, "record of another version, left alone"),
                // The state is written second: this one was never acknowledged.
                None => self.sweep(&id),
            }
        }
        // The state is removed last: these removals were interrupted.
        for id in states.keys() {
            self.sweep(id);
        }
        Ok(())
    }

    async fn recover_one(&self, definition: Definition, state: State) {
        let id = definition.id.clone();
        let adopted = self.context.shims.adopt(&id).await;
        let decision = lifecycle::recover(Evidence {
            recorded: state.phase,
            found: match &adopted {
                Adopted::Running(..) => Found::Running,
                Adopted::Exited(record) => Found::Exited {
                    exit_code: record.exit_code,
                },
                Adopted::Gone => Found::Gone,
            },
            policy: state.restart,
            auto_remove: definition.settings.auto_remove,
            user_stopped: state.user_stopped,
            exit_code: state.exit_code,
        });
        if let Err(taken) = self.table.reserve(&state.name, &id) {
            tracing::error!(container = %id, error = %taken, "two records with one name");
        }
        if let Adopted::Running(..) = &adopted {
            let networks = &self.context.networks;
            if let Err(error) = networks.adopt(&id, state.name.as_str(), &state.endpoints) {
                tracing::error!(container = %id, %error, "take over the network");
            }
        }
        let found = match (decision, adopted) {
            (Recovery::Leave, _) => None,
            (Recovery::Adopt, Adopted::Running(shim, _)) => Some(Recovered::Running(shim)),
            (Recovery::Adopt, _) => None,
            (Recovery::NoteExit { .. }, Adopted::Exited(record)) => Some(Recovered::Exited(record)),
            (Recovery::NoteExit { .. }, _) => Some(Recovered::Lost),
            (Recovery::UndoStart, _) => Some(Recovered::UndoStart),
            (Recovery::Start, _) => Some(Recovered::Start),
            (Recovery::Remove, Adopted::Running(shim, _)) => {
                if let Err(error) = shim.signal(model::Signal::KILL).await {
                    tracing::warn!(container = %id, %error, "kill");
                }
                Some(Recovered::Remove)
            }
            (Recovery::Remove, _) => Some(Recovered::Remove),
        };
        let handle = self.spawn(Arc::new(definition), state);
        if let Some(found) = found
            && handle
                .commands
                .send(Command::Recovered(found))
                .await
                .is_err()
        {
            tracing::error!(container = %id, "its driver ended");
        }
    }

    /// Directories come before the record that owns them: a creation was interrupted in between.
    fn sweep_unknown(&self, known: &HashSet<String>) {
        let mut found = self.context.store.snapshots().list().unwrap_or_default();
        let directories = self.context.options.data_root.join("containers");
        for entry in std::fs::read_dir(directories)
            .into_iter()
            .flatten()
            .flatten()
        {
            found.extend(entry.file_name().into_string());
        }
        for id in found.iter().filter(|id| !known.contains(*id)) {
            self.sweep(id);
        }
    }

    fn sweep(&self, id: &str) {
        let Ok(id) = id.parse::<model::ContainerId>() else {
            tracing::error!(record = id, "record with an impossible name, left alone");
            return;
        };
        let records = self.context.store.records();
        let swept = [
            self.context
                .store
                .snapshots()
                .remove(id.as_str())
                .map_err(|error| error.to_string()),
            super::files::remove(&self.context, &id).map_err(|error| error.to_string()),
            records
                .remove(DEFINITIONS, id.as_str())
                .map_err(|error| error.to_string()),
            records
                .remove(STATES, id.as_str())
                .map_err(|error| error.to_string()),
        ];
        for error in swept.into_iter().filter_map(Result::err) {
            tracing::warn!(container = %id, error, "sweep a half-made container");
        }
    }
}
