//! The task that owns one container: it takes commands, exits and timers in turn, asks the
//! lifecycle what they mean, writes the next phase, acts, and publishes.

use super::attach::{Pending, Reserve};
use super::error::{NameTaken, Refused, StartError, Verb, VerbError};
use super::record::{DEFINITIONS, Definition, STATES, State, View};
use super::remove::RemoveRequest;
use super::table::Table;
use super::{files, start};
use crate::shims::{ExitRecord, Shim};
use crate::{Context, clock};
use model::lifecycle::{self, Action, AfterExit, Ending, Input, Phase, Step};
use model::settings::RestartPolicy;
use model::{ContainerName, Signal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::Instrument;

/// Commands waiting for one container's driver; senders wait beyond it.
pub(super) const QUEUE: usize = 32;

/// Where the answer goes; a caller that is gone does not stop a command.
pub(super) type Reply<T> = oneshot::Sender<T>;

/// What a driver is asked.
#[derive(Debug)]
pub(super) enum Command {
    Start {
        console_size: Option<(u16, u16)>,
        /// The request's, so that its steps are found below it.
        span: tracing::Span,
        reply: Reply<Result<bool, StartError>>,
    },
    Signal {
        signal: Signal,
        reply: Reply<Result<(), VerbError>>,
    },
    /// The wish to stop: false if it does not run.
    Stopping(Reply<Result<bool, VerbError>>),
    Freeze {
        pause: bool,
        reply: Reply<Result<(), VerbError>>,
    },
    Resize {
        rows: u16,
        columns: u16,
        reply: Reply<Result<(), VerbError>>,
    },
    Attach(Reserve),
    Rename {
        name: ContainerName,
        reply: Reply<Result<(), VerbError>>,
    },
    Update {
        restart: Option<RestartPolicy>,
        reply: Reply<Result<(), VerbError>>,
    },
    Remove {
        request: RemoveRequest,
        reply: Reply<Result<(), VerbError>>,
    },
    /// The shim of the running container, for an exec.
    Shim {
        verb: Verb,
        reply: Reply<Result<Shim, Refused>>,
    },
    /// What a returning daemon found.
    Recovered(Recovered),
}

/// What a returning daemon found of a container.
#[derive(Debug)]
pub(super) enum Recovered {
    Running(Shim),
    Exited(ExitRecord),
    Lost,
    UndoStart,
    Start,
    Remove,
}

pub(super) struct Driver {
    pub(super) context: Arc<Context>,
    pub(super) table: Arc<Table>,
    pub(super) definition: Arc<Definition>,
    pub(super) state: State,
    pub(super) view: watch::Sender<Arc<View>>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) shim: Option<Shim>,
    pub(super) exit: Option<watch::Receiver<Option<ExitRecord>>>,
    pub(super) restart_at: Option<Instant>,
    pub(super) pending: Vec<Pending>,
    pub(super) removed: bool,
}

impl Driver {
    /// Runs until the container is removed or the daemon ends.
    pub(super) async fn run(mut self) {
        while !self.removed {
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => return,
                },
                record = exited(&mut self.exit) => self.exited(record).await,
                () = due(self.restart_at) => self.due().await,
            }
        }
    }

    async fn command(&mut self, command: Command) {
        match command {
            Command::Start {
                console_size,
                span,
                reply,
            } => {
                self.start_command(console_size, reply)
                    .instrument(span)
                    .await;
            }
            Command::Signal { signal, reply } => answer(reply, self.signal(signal).await),
            Command::Stopping(reply) => answer(reply, self.stopping()),
            Command::Freeze { pause, reply } => answer(reply, self.freeze(pause)),
            Command::Resize {
                rows,
                columns,
                reply,
            } => answer(reply, self.resize(rows, columns).await),
            Command::Attach(reserve) => self.attach(reserve),
            Command::Rename { name, reply } => answer(reply, self.rename(name)),
            Command::Update { restart, reply } => answer(reply, self.update(restart)),
            Command::Remove { request, reply } => self.remove_command(request, reply).await,
            Command::Shim { verb, reply } => answer(reply, self.running_shim(verb)),
            Command::Recovered(found) => self.recovered(found).await,
        }
    }

    async fn start_command(
        &mut self,
        console_size: Option<(u16, u16)>,
        reply: Reply<Result<bool, StartError>>,
    ) {
        match lifecycle::step(self.state.phase, Input::Start) {
            Step::AlreadySo => answer(reply, Ok(false)),
            Step::Refuse(why) => answer(reply, Err(self.refused(Verb::Start, why).into())),
            Step::Accept { next, .. } => {
                self.restart_at = None;
                self.state.restart_count = 0;
                self.state.restart_delay = None;
                let started = self.launch(next, console_size).await;
                let failed = started.is_err();
                answer(reply, started.map(|()| true));
                if failed {
                    self.after_failed_start().await;
                } else {
                    self.write_state_or_log();
                    self.event("start", BTreeMap::new());
                }
            }
        }
    }

    /// Writes the intent, launches, publishes the outcome. The outcome's record is the caller's:
    /// it is not on the path to execve, and a crash in between is told by the shim itself.
    async fn launch(
        &mut self,
        next: Phase,
        console_size: Option<(u16, u16)>,
    ) -> Result<(), StartError> {
        let before = self.state.phase;
        self.state.phase = next;
        self.state.error.clear();
        self.state.user_stopped = false;
        if let Err(error) = self.write_state() {
            self.state.phase = before;
            return Err(error.into());
        }
        let pending = std::mem::take(&mut self.pending);
        let launched = start::launch(
            &self.context,
            &self.table,
            &self.definition,
            &mut self.state,
            start::Io {
                console_size,
                pending,
            },
        )
        .await;
        match launched {
            Ok(shim) => {
                self.state.started_unix_ns = Some(clock::unix_ns());
                self.running(shim);
                Ok(())
            }
            Err(error) => {
                self.state.exit_code = error.exit_code();
                self.state.error = error_chain(&error);
                self.apply(Input::StartFailed);
                self.publish();
                Err(error)
            }
        }
    }

    /// Takes a running shim over.
    fn running(&mut self, shim: Shim) {
        self.state.pid = shim.pid();
        self.state.exit_code = 0;
        self.state.oom_killed = false;
        self.take(shim);
        self.apply(Input::Started);
        self.publish();
    }

    /// Holds a shim, and tells of clients that leave its processes by their detach keys.
    fn take(&mut self, shim: Shim) {
        self.exit = Some(shim.exit());
        let mut detached = shim.detached();
        self.shim = Some(shim);
        let (context, view) = (self.context.clone(), self.view.subscribe());
        tokio::spawn(async move {
            while let Some(exec) = detached.recv().await {
                let view = view.borrow().clone();
                let (action, more) = match exec {
                    Some(exec) => ("exec_detach", Some(("execID".to_owned(), exec))),
                    None => ("detach", None),
                };
                publish(&context, &view.definition, &view.state, action, more);
            }
        });
    }

    async fn after_failed_start(&mut self) {
        if self.definition.settings.auto_remove {
            self.state.phase = Phase::Removing;
            self.delete().await;
        } else {
            self.write_state_or_log();
        }
    }

    async fn exited(&mut self, record: Option<ExitRecord>) {
        self.exit = None;
        let now = clock::unix_ns();
        let began = self.state.started_unix_ns.unwrap_or(now);
        let (exit_code, at, oom_killed) = match record {
            Some(record) => (
                record.exit_code,
                i64::try_from(record.at_unix_ns).unwrap_or(now),
                record.oom_killed,
            ),
            None => {
                // Nobody holds its processes any more, if there are some.
                crate::cgroups::sweep(&self.context, &self.definition.id);
                (lifecycle::LOST_EXIT_CODE, now, false)
            }
        };
        self.shim = None;
        self.state.pid = 0;
        self.state.exit_code = exit_code;
        self.state.oom_killed = oom_killed;
        self.state.finished_unix_ns = Some(at);
        self.state.exits += 1;
        let stopping = matches!(self.state.phase, Phase::Running { stopping: true, .. });
        self.state.user_stopped = stopping;
        let after = lifecycle::after_exit(
            self.state.restart,
            Ending {
                auto_remove: self.definition.settings.auto_remove,
                stopping,
                exit_code,
                restarts: self.state.restart_count,
            },
        );
        let Some(actions) = self.apply(Input::Exit(after)) else {
            return;
        };
        let ran_for = Duration::from_nanos(u64::try_from(at - began).unwrap_or(0));
        if after == AfterExit::Restart {
            let delay = lifecycle::restart_delay(self.state.restart_delay, ran_for);
            self.state.restart_delay = Some(delay);
        }
        if oom_killed {
            self.event("oom", BTreeMap::new());
        }
        self.event(
            "die",
            BTreeMap::from([
                ("exitCode".to_owned(), exit_code.to_string()),
                ("execDuration".to_owned(), ran_for.as_secs().to_string()),
            ]),
        );
        self.left_networks();
        start::tell_volumes(&self.context, &self.definition, "unmount");
        if actions.contains(&Action::Delete) {
            self.delete().await;
            return;
        }
        self.release();
        self.publish();
        self.write_state_or_log();
        if actions.contains(&Action::ScheduleRestart) {
            let delay = self.state.restart_delay.unwrap_or_default();
            self.restart_at = Some(Instant::now() + delay);
        }
    }

    async fn due(&mut self) {
        self.restart_at = None;
        if let Step::Accept { next, .. } = lifecycle::step(self.state.phase, Input::Due) {
            self.state.restart_count += 1;
            self.start_again(next).await;
        }
    }

    /// A start that no caller waits for.
    async fn start_again(&mut self, next: Phase) {
        match self.launch(next, None).await {
            Ok(()) => {
                self.write_state_or_log();
                self.event("start", BTreeMap::new());
            }
            Err(error) => {
                tracing::warn!(container = %self.definition.id, error = error_chain(&error), "restart");
                self.after_failed_start().await;
            }
        }
    }

    async fn recovered(&mut self, found: Recovered) {
        match found {
            Recovered::Running(shim) => {
                // A crash between launch and record leaves it starting, or even created.
                if self.state.phase.has_process() {
                    self.state.pid = shim.pid();
                    self.take(shim);
                    self.publish();
                } else {
                    self.state.phase = Phase::Starting;
                    self.state
                        .started_unix_ns
                        .get_or_insert_with(clock::unix_ns);
                    self.running(shim);
                    self.write_state_or_log();
                }
            }
            Recovered::Exited(record) => {
                self.force_running();
                self.exited(Some(record)).await;
            }
            Recovered::Lost => {
                self.force_running();
                self.exited(None).await;
            }
            Recovered::UndoStart => {
                self.apply(Input::StartFailed);
                self.release();
                self.publish();
                self.write_state_or_log();
            }
            Recovered::Start => {
                self.state.phase = Phase::Starting;
                self.start_again(Phase::Starting).await;
            }
            Recovered::Remove => {
                self.state.phase = Phase::Removing;
                self.delete().await;
            }
        }
    }

    /// An exit is only taken from a running phase; a crash may have left it starting.
    fn force_running(&mut self) {
        if !self.state.phase.has_process() {
            self.state.phase = Phase::Running {
                paused: false,
                stopping: false,
            };
        }
    }

    /// Moves on if the lifecycle accepts, and returns what to do.
    pub(super) fn apply(&mut self, input: Input) -> Option<&'static [Action]> {
        match lifecycle::step(self.state.phase, input) {
            Step::Accept { next, actions } => {
                self.state.phase = next;
                Some(actions)
            }
            Step::AlreadySo | Step::Refuse(_) => None,
        }
    }

    /// Lets go of what a run held. Each part accepts that it is gone already.
    pub(super) fn release(&mut self) {
        self.context.networks.detach(&self.definition.id);
        self.left_networks();
        if let Err(error) = self.context.shims.forget(&self.definition.id) {
            tracing::warn!(container = %self.definition.id, %error, "remove the shim's directory");
        }
    }

    fn left_networks(&mut self) {
        start::tell_networks(&self.context, &self.definition, &self.state, "disconnect");
        self.state.endpoints.clear();
    }

    /// Makes the container disappear: first for everyone who looks, then from the disk.
    pub(super) async fn delete(&mut self) {
        let id = self.definition.id.clone();
        // The intent, so that a crash below finishes the removal instead of showing half of it.
        self.write_state_or_log();
        self.table.remove(&self.state.name, &id);
        self.removed = true;
        self.pending.clear();
        // Before anybody hears of it: who waits for the removal may want the same port or address.
        self.release();
        self.view.send_replace(Arc::new(View {
            definition: self.definition.clone(),
            state: self.state.clone(),
            removed: true,
        }));
        self.event("destroy", BTreeMap::new());
        self.delete_files();
    }

    fn delete_files(&mut self) {
        let id = &self.definition.id;
        let failed = |what: &str, error: &dyn std::error::Error| {
            tracing::warn!(container = %id, error = error_chain(error), what, "removal");
        };
        if let Err(error) = self.context.store.snapshots().remove(id.as_str()) {
            failed("root file system", &error);
        }
        if let Err(error) = files::remove(&self.context, id) {
            failed("directory", &error);
        }
        let in_use = super::mounts::volumes_in_use(&self.table);
        if self.state.remove_volumes {
            for name in super::mounts::own_volumes(&self.definition) {
                if in_use.contains(name) {
                    continue;
                }
                if let Err(error) = self.context.volumes.remove(name) {
                    failed("volume", &error);
                }
            }
        }
        let records = self.context.store.records();
        // The state goes last: while it is there, a returning daemon finishes this removal.
        for kind in [DEFINITIONS, STATES] {
            if let Err(error) = records.remove(kind, id.as_str()) {
                failed("record", &error);
            }
        }
    }

    pub(super) fn write_state(&self) -> Result<(), store::RecordError> {
        let records = self.context.store.records();
        records.put(STATES, self.definition.id.as_str(), &self.state)
    }

    /// For facts: what happened cannot be refused, and the kernel still tells it after a crash.
    pub(super) fn write_state_or_log(&self) {
        if let Err(error) = self.write_state() {
            tracing::error!(container = %self.definition.id, error = error_chain(&error), "record");
        }
    }

    pub(super) fn publish(&self) {
        self.view.send_replace(Arc::new(View {
            definition: self.definition.clone(),
            state: self.state.clone(),
            removed: false,
        }));
    }

    pub(super) fn event(&self, action: &str, more: BTreeMap<String, String>) {
        publish(&self.context, &self.definition, &self.state, action, more);
    }

    pub(super) fn refused(&self, verb: Verb, why: lifecycle::Refusal) -> Refused {
        Refused {
            id: self.definition.id.clone(),
            name: self.state.name.to_string(),
            verb,
            why,
        }
    }

    fn rename(&mut self, name: ContainerName) -> Result<(), VerbError> {
        let id = &self.definition.id;
        if name == self.state.name {
            return Err(VerbError::Invalid(
                "Renaming a container with the same name as its current name".to_owned(),
            ));
        }
        self.table
            .reserve(&name, id)
            .map_err(|error: NameTaken| VerbError::Name(error))?;
        let old = std::mem::replace(&mut self.state.name, name);
        if let Err(error) = self.write_state() {
            let new = std::mem::replace(&mut self.state.name, old);
            self.table.release(&new, id);
            return Err(error.into());
        }
        self.table.release(&old, id);
        self.publish();
        let old = BTreeMap::from([("oldName".to_owned(), format!("/{old}"))]);
        self.event("rename", old);
        Ok(())
    }
}

/// Publishes what happened to a container.
pub(super) fn publish(
    context: &Context,
    definition: &Definition,
    state: &State,
    action: &str,
    more: impl IntoIterator<Item = (String, String)>,
) {
    let mut attributes = super::list::labels(definition);
    attributes.insert("image".to_owned(), definition.settings.image.clone());
    attributes.insert("name".to_owned(), state.name.to_string());
    attributes.extend(more);
    let id = definition.id.to_string();
    context.events.publish("container", action, id, attributes);
}

/// Sends an answer; a caller that went away is fine.
pub(super) fn answer<T>(reply: Reply<T>, value: T) {
    let _caller_is_gone = reply.send(value);
}

/// Writes an error and its causes in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Layers that repeat their cause in their own words would say it twice.
        if !text.ends_with(&cause_text) && !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

async fn exited(exit: &mut Option<watch::Receiver<Option<ExitRecord>>>) -> Option<ExitRecord> {
    match exit {
        // An error means that the shim is gone without a word.
        Some(exit) => match exit.wait_for(Option::is_some).await {
            Ok(record) => record.clone(),
            Err(_) => None,
        },
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
