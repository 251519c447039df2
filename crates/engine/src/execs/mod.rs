//! Execs: further processes in running containers.
//!
//! An exec lives in the daemon's memory, as in docker: created, started once, kept with its exit
//! code until its container is gone or too many newer ones push it out.

use crate::containers::{Containers, Refused, Reservation, Verb, VerbError, View};
use crate::shims::{AttachOptions, ExecProcess, ExecStart, ExitRecord, IoSettings, ShimError};
use crate::{Context, random, seccomp};
use model::process::{ProcessError, ResolvedProcess};
use model::settings::ProcessSettings;
use model::{ContainerId, ErrorKind};
use oci_spec::runtime::Spec;
use runtime::{ExecRequest, UserRequest};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Finished execs that are remembered, for inspect.
const KEPT: usize = 4096;

/// How long the execs of a removed container can still be asked for their exit code: a client
/// hears of the end by its stream, and asks then.
const LAST_QUESTIONS: Duration = Duration::from_secs(1);

/// The exit code of a process that SIGKILL ended.
const KILLED: i32 = 128 + 9;

/// What an exec is to be.
#[derive(Debug, Clone, Default)]
pub struct ExecSettings {
    /// Command line, environment, user, terminal.
    pub process: ProcessSettings,
    /// All capabilities.
    pub privileged: bool,
    /// Keys that end an attachment.
    pub detach_keys: Option<String>,
}

/// An exec as inspect shows it.
#[derive(Debug, Clone)]
pub struct ExecView {
    /// 64 hex digits.
    pub id: String,
    /// Its container.
    pub container: ContainerId,
    /// What it is.
    pub settings: Arc<ExecSettings>,
    /// The process that it means.
    pub process: Arc<ResolvedProcess>,
    /// It runs.
    pub running: bool,
    /// Its exit code; none while it has not ended.
    pub exit_code: Option<i32>,
    /// Its process ID on the host; 0 if it does not run.
    pub pid: i32,
}

/// Why an exec fails.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No such exec.
    #[error("No such exec instance: {0}")]
    NotFound(String),
    /// It has been started.
    #[error("exec {0} has already started")]
    Started(String),
    /// Its container is not there or not running.
    #[error(transparent)]
    Container(#[from] VerbError),
    /// The process cannot be.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The container's runtime document cannot be made.
    #[error(transparent)]
    Spec(#[from] model::spec::SpecError),
    /// The seccomp profile is wrong.
    #[error(transparent)]
    Start(#[from] crate::containers::StartError),
    /// The runtime failed.
    #[error("{}", .0.below("OCI runtime exec failed: exec failed"))]
    Launch(ShimError),
}

impl ExecError {
    /// Returns the sort of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::Started(_) => ErrorKind::Conflict,
            Self::Container(error) => error.kind(),
            Self::Process(_) | Self::Spec(_) => ErrorKind::InvalidParameter,
            Self::Start(error) => error.kind(),
            Self::Launch(error) => error.kind(),
        }
    }

    /// Docker's: 127 if there is no such program, 126 for every other reason.
    fn exit_code(&self) -> i32 {
        match self {
            Self::Launch(ShimError::Launch(error)) if error.exit_code == 127 => 127,
            _ => 126,
        }
    }
}

#[derive(Debug)]
struct Exec {
    container: ContainerId,
    settings: Arc<ExecSettings>,
    process: Arc<ResolvedProcess>,
    started: bool,
    running: Option<ExecProcess>,
    /// Set when a start failed before there was a process.
    failed: Option<i32>,
}

impl Exec {
    fn runs(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|run| ended(&run.exit()).is_none())
    }

    fn has_ended(&self) -> bool {
        self.failed.is_some() || (self.running.is_some() && !self.runs())
    }
}

/// Its exit code, once it has ended; a process whose shim is gone was killed with it.
fn ended(exit: &watch::Receiver<Option<ExitRecord>>) -> Option<i32> {
    // In this order: after the end of the channel there comes no record any more.
    let gone = exit.has_changed().is_err();
    let record = exit.borrow();
    let recorded = record.as_ref().map(|record| record.exit_code);
    recorded.or(gone.then_some(KILLED))
}

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Execs {
    context: Arc<Context>,
    containers: Containers,
    table: Arc<Mutex<Rows>>,
}

#[derive(Debug, Default)]
struct Rows {
    by_id: HashMap<String, Exec>,
    /// In order of creation, to bound the table.
    order: VecDeque<String>,
    /// Containers whose removal is waited for.
    followed: HashSet<ContainerId>,
}

impl Rows {
    /// Forgets the oldest that have ended until there is room for one more. What runs or is yet
    /// to be started stays, however old.
    fn make_room(&mut self, kept: usize) {
        let ended = |id: &String| self.by_id.get(id).is_none_or(Exec::has_ended);
        let excess = (self.order.len() + 1).saturating_sub(kept);
        let oldest: Vec<_> = self
            .order
            .iter()
            .filter(|id| ended(id))
            .take(excess)
            .cloned()
            .collect();
        for id in oldest {
            self.by_id.remove(&id);
            if let Some(at) = self.order.iter().position(|other| *other == id) {
                self.order.remove(at);
            }
        }
    }

    fn forget(&mut self, container: &ContainerId) {
        self.followed.remove(container);
        self.by_id.retain(|_, exec| exec.container != *container);
        let by_id = &self.by_id;
        self.order.retain(|id| by_id.contains_key(id));
    }
}

impl Execs {
    pub(crate) fn new(context: Arc<Context>, containers: Containers) -> Self {
        Self {
            context,
            containers,
            table: Arc::default(),
        }
    }

    /// Makes an exec in a running container and returns its ID.
    ///
    /// # Errors
    /// If the container does not run, or the process cannot be.
    pub fn create(&self, reference: &str, settings: ExecSettings) -> Result<String, ExecError> {
        let view = self
            .containers
            .inspect(reference)
            .map_err(VerbError::from)?;
        check_running(&view)?;
        let process = self.process(&view, &settings)?;
        let id = random::hex_id();
        let action = format!("exec_create: {}", process.args.join(" "));
        self.event(&view, action, &id, None);
        let mut rows = self.rows();
        rows.make_room(KEPT);
        if rows.followed.insert(view.definition.id.clone()) {
            self.drop_with(view.definition.id.clone());
        }
        rows.order.push_back(id.clone());
        rows.by_id.insert(
            id.clone(),
            Exec {
                container: view.definition.id.clone(),
                settings: Arc::new(settings),
                process: Arc::new(process),
                started: false,
                running: None,
                failed: None,
            },
        );
        Ok(id)
    }

    /// Forgets a container's execs once it is removed and their clients have asked for the end.
    fn drop_with(&self, container: ContainerId) {
        let execs = self.clone();
        self.context.tasks.spawn(async move {
            // It may have gone already.
            if let Ok(mut view) = execs.containers.watch(container.as_str()) {
                let _gone = view.wait_for(|view| view.removed).await.is_err();
            }
            tokio::time::sleep(LAST_QUESTIONS).await;
            execs.rows().forget(&container);
        });
    }

    /// An exec inherits the container's user, environment and directory, not its command.
    fn process(&self, view: &View, settings: &ExecSettings) -> Result<ResolvedProcess, ExecError> {
        let container = &view.definition.process;
        let base = model::image::ExecutionConfig {
            env: container.env.clone(),
            user: container.user.clone(),
            working_dir: container.cwd.clone(),
            ..Default::default()
        };
        let mut process = settings.process.clone();
        process.entrypoint = None;
        Ok(model::process::resolve(
            &base,
            &process,
            &view.definition.hostname,
        )?)
    }

    /// Shows an exec.
    ///
    /// # Errors
    /// If there is none.
    pub fn inspect(&self, id: &str) -> Result<ExecView, ExecError> {
        let rows = self.rows();
        let exec = rows
            .by_id
            .get(id)
            .ok_or_else(|| ExecError::NotFound(id.to_owned()))?;
        let exited = exec.running.as_ref().and_then(|run| ended(&run.exit()));
        let running = exec.running.is_some() && exited.is_none();
        Ok(ExecView {
            id: id.to_owned(),
            container: exec.container.clone(),
            settings: exec.settings.clone(),
            process: exec.process.clone(),
            running,
            exit_code: exited.or(exec.failed),
            pid: match &exec.running {
                Some(process) if running => process.pid(),
                _ => 0,
            },
        })
    }

    /// Keeps a place for the client that starts it; call before [`Self::start`].
    #[must_use]
    pub fn reserve(&self, options: AttachOptions) -> (Reservation, ExecAttach) {
        let (reservation, pending) = Reservation::new(options);
        (reservation, ExecAttach { pending })
    }

    /// Checks that an exec can be started, and marks it so: a second start is refused.
    ///
    /// # Errors
    /// If there is none, it was started, or its container does not run.
    pub fn claim(&self, id: &str) -> Result<(), ExecError> {
        let mut rows = self.rows();
        let exec = rows
            .by_id
            .get_mut(id)
            .ok_or_else(|| ExecError::NotFound(id.to_owned()))?;
        if exec.started {
            return Err(ExecError::Started(id.to_owned()));
        }
        let view = self
            .containers
            .inspect(exec.container.as_str())
            .map_err(VerbError::from)?;
        check_running(&view)?;
        exec.started = true;
        Ok(())
    }

    /// Starts a claimed exec, with the client's connection if one was reserved.
    ///
    /// # Errors
    /// If the container does not run any more, or the program cannot be executed.
    pub async fn start(
        &self,
        id: &str,
        attach: Option<ExecAttach>,
        console_size: Option<(u16, u16)>,
    ) -> Result<ExecProcess, ExecError> {
        let started = self.try_start(id, attach, console_size).await;
        let mut rows = self.rows();
        if let Some(exec) = rows.by_id.get_mut(id) {
            match &started {
                Ok(process) => exec.running = Some(process.clone()),
                Err(error) => exec.failed = Some(error.exit_code()),
            }
        }
        started
    }

    async fn try_start(
        &self,
        id: &str,
        attach: Option<ExecAttach>,
        console_size: Option<(u16, u16)>,
    ) -> Result<ExecProcess, ExecError> {
        let view = self.inspect(id)?;
        let container = self
            .containers
            .inspect(view.container.as_str())
            .map_err(VerbError::from)?;
        let shim = self
            .containers
            .shim(view.container.as_str(), Verb::Exec)
            .await?;
        let spec = self.spec(&container, &view)?;
        let pending = attach.map(|attach| attach.pending).into_iter().collect();
        let mut security = container.definition.settings.security.clone();
        security.privileged |= view.settings.privileged;
        let process = spec.process().clone().unwrap_or_default();
        let start = ExecStart {
            exec: id.to_owned(),
            request: ExecRequest {
                process,
                user: Some(UserRequest {
                    user: view.process.user.clone(),
                    groups: view.process.groups.clone(),
                }),
                seccomp: seccomp::filter(&self.context, &security, &spec)?,
                trace: false,
            },
            io: IoSettings {
                tty: view.process.tty,
                open_stdin: view.settings.process.attach.stdin,
                stdin_once: true,
                console_size: console_size.or(view.settings.process.console_size),
            },
            attach: crate::containers::arrivals(pending).await,
        };
        let action = format!("exec_start: {}", view.process.args.join(" "));
        let process = shim.exec(start).await.map_err(ExecError::Launch)?;
        self.event(&container, action, id, None);
        self.watch_exit(&container, id, &process);
        Ok(process)
    }

    /// The process side of the container's spec, with the exec's command in it.
    fn spec(&self, container: &View, exec: &ExecView) -> Result<Spec, ExecError> {
        let mut settings = container.definition.settings.clone();
        settings.security.privileged |= exec.settings.privileged;
        settings.init = false;
        settings.devices = model::settings::DeviceSettings::default();
        Ok(model::spec::build(&model::spec::SpecInput {
            id: &container.definition.id,
            settings: &settings,
            process: &exec.process,
            hostname: &container.definition.hostname,
            mounts: &[],
            devices: &[],
            block_devices: &HashMap::new(),
            join: &model::spec::JoinedNamespaces::default(),
            cgroup_path: crate::cgroups::path(&self.context, &container.definition.id),
            init_binary: self.context.options.exe.clone(),
            host: &self.context.host.facts(false),
        })?)
    }

    fn watch_exit(&self, container: &View, id: &str, process: &ExecProcess) {
        let mut exit = process.exit();
        let (execs, container, id) = (self.clone(), container.clone(), id.to_owned());
        self.context.tasks.spawn(async move {
            // An error means that its shim is gone, which is an end too.
            let _gone = exit.wait_for(Option::is_some).await.is_err();
            if let Some(code) = ended(&exit) {
                execs.event(&container, "exec_die".to_owned(), &id, Some(code));
            }
        });
    }

    /// Sets the terminal's size.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn resize(&self, id: &str, rows: u16, columns: u16) -> Result<(), ExecError> {
        self.inspect(id)?;
        let process = {
            let rows = self.rows();
            rows.by_id.get(id).and_then(|exec| exec.running.clone())
        };
        match process {
            Some(process) => process
                .resize(rows, columns)
                .await
                .map_err(ExecError::Launch),
            None => Ok(()),
        }
    }

    /// Returns the IDs of the execs that run in a container.
    #[must_use]
    pub fn running_in(&self, container: &ContainerId) -> Vec<String> {
        let rows = self.rows();
        let runs = |exec: &Exec| exec.container == *container && exec.runs();
        let matching = rows.by_id.iter().filter(|(_, exec)| runs(exec));
        matching.map(|(id, _)| id.clone()).collect()
    }

    fn event(&self, view: &View, action: String, exec: &str, exit_code: Option<i32>) {
        let mut attributes: BTreeMap<String, String> = view.definition.labels();
        attributes.insert("image".to_owned(), view.definition.settings.image.clone());
        attributes.insert("name".to_owned(), view.state.name.to_string());
        attributes.insert("execID".to_owned(), exec.to_owned());
        if let Some(code) = exit_code {
            attributes.insert("exitCode".to_owned(), code.to_string());
        }
        let id = view.definition.id.as_str();
        self.context
            .events
            .publish("container", action, id, attributes);
    }

    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The container's end of a reservation for an exec.
#[derive(Debug)]
pub struct ExecAttach {
    pending: crate::containers::Pending,
}

fn check_running(view: &View) -> Result<(), VerbError> {
    let why = if view.state.phase == model::lifecycle::Phase::Restarting {
        model::lifecycle::Refusal::Restarting
    } else if !view.is_running() {
        model::lifecycle::Refusal::NotRunning
    } else if view.status() == "paused" {
        model::lifecycle::Refusal::Paused
    } else {
        return Ok(());
    };
    Err(VerbError::Refused(Refused {
        id: view.definition.id.clone(),
        name: view.state.name.to_string(),
        verb: Verb::Exec,
        why,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runtime::{LaunchError, Stage};

    fn failed(error: LaunchError) -> ExecError {
        ExecError::Launch(ShimError::Launch(error))
    }

    #[test]
    fn an_unknown_user_is_no_failure_of_the_runtime() {
        let message = "unable to find user nosuch: no matching entries in passwd file";
        let error = failed(LaunchError::new(Stage::Exec, message));
        assert_eq!(crate::containers::error_chain(&error), message);
        assert_eq!(error.exit_code(), 126);
    }

    #[test]
    fn only_a_missing_program_ends_with_127() {
        let missing = "exec: \"foo\": executable file not found in $PATH";
        let error = failed(LaunchError::exec(missing, 127));
        assert_eq!(error.exit_code(), 127);
        assert_eq!(
            error.to_string(),
            "OCI runtime exec failed: exec failed: unable to start container process: exec: \
             \"foo\": executable file not found in $PATH: unknown"
        );
        let denied = failed(LaunchError::exec("permission denied", 126));
        assert_eq!(denied.exit_code(), 126);
        assert_eq!(ExecError::Launch(ShimError::Gone).exit_code(), 126);
    }

    #[test]
    fn an_exec_ends_with_its_shim() {
        let sender = watch::Sender::new(None);
        let exit = sender.subscribe();
        assert_eq!(ended(&exit), None);
        drop(sender);
        assert_eq!(ended(&exit), Some(137));

        let sender = watch::Sender::new(None);
        let exit = sender.subscribe();
        sender.send_replace(Some(ExitRecord {
            exit_code: 3,
            signal: None,
            oom_killed: false,
            at_unix_ns: 0,
        }));
        drop(sender);
        assert_eq!(ended(&exit), Some(3));
    }

    fn add(rows: &mut Rows, id: &str, container: &ContainerId, failed: Option<i32>) {
        rows.order.push_back(id.to_owned());
        let exec = Exec {
            container: container.clone(),
            settings: Arc::default(),
            process: Arc::new(
                model::process::resolve(
                    &model::image::ExecutionConfig::default(),
                    &ProcessSettings {
                        cmd: Some(vec!["sh".to_owned()]),
                        ..ProcessSettings::default()
                    },
                    "host",
                )
                .unwrap(),
            ),
            started: failed.is_some(),
            running: None,
            failed,
        };
        rows.by_id.insert(id.to_owned(), exec);
    }

    #[test]
    fn only_what_has_ended_makes_room() {
        let container: ContainerId = random::hex_id().parse().unwrap();
        let other: ContainerId = random::hex_id().parse().unwrap();
        let mut rows = Rows::default();
        add(&mut rows, "waits", &container, None);
        add(&mut rows, "old", &container, Some(126));
        add(&mut rows, "new", &other, Some(126));
        rows.make_room(4);
        assert_eq!(rows.order, ["waits", "old", "new"]);
        rows.make_room(3);
        assert_eq!(rows.order, ["waits", "new"]);
        rows.make_room(1);
        assert_eq!(rows.order, ["waits"]);
        add(&mut rows, "other", &other, None);
        rows.forget(&container);
        assert_eq!(rows.order, ["other"]);
        assert_eq!(rows.by_id.len(), 1);
    }
}
