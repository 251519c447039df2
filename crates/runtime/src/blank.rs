//! An empty container, its filling, and its start.
//!
//! ```text
//! Blank::create ──> Blank ──fill──> Created ──start──> Running
//!                     └────────────run (one trip)─────────┘
//! ```
//!
//! A [`Blank`] is a process that already has its own pid, uts, ipc and cgroup namespaces and waits
//! on a channel. What is dear and the same for every container has happened by then, so a shim
//! keeps one ready. Filling mounts the root and everything in it; starting executes the program.
//! Dropping a `Blank` or a `Created` ends its process.
//!
//! The calling process must have one thread: it is forked.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use model::trace::{Actor, Step};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, LinuxResources, Spec};
use rustix::fs::{Mode, OFlags};
use sys::namespace::Namespaces;

use crate::{
    cgroup::{Cgroup, CgroupError},
    channel::{Channel, Kind, Message},
    failure::Context as _,
    hooks::HookPlan,
    init,
    launch::{Launch, LaunchError, Stage},
    plan::{CgroupView, Extras, Plan, Separate, Wait},
    recorder::Recorder,
};

/// One namespace of a container: whose it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Namespace {
    /// The runtime's own.
    #[default]
    Inherit,
    /// A new one.
    New,
    /// An existing one, by path.
    Join(PathBuf),
}

/// The ids of a new user namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdMappings {
    /// User ids.
    pub uids: Vec<LinuxIdMapping>,
    /// Group ids.
    pub gids: Vec<LinuxIdMapping>,
}

/// What an empty container is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlankOptions {
    /// Process ids.
    pub pid: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// System V IPC and POSIX message queues.
    pub ipc: Namespace,
    /// Cgroup paths.
    pub cgroup_namespace: Namespace,
    /// Network; a descriptor given at fill goes before this.
    pub net: Namespace,
    /// Mounts: new unless joined.
    pub mount: Namespace,
    /// Users.
    pub user: Namespace,
    /// The ids of a new user namespace.
    pub mappings: IdMappings,
    /// The cgroup to be in from the beginning, such as `/berth/<id>`. With v1 it can be renamed
    /// at fill, so a pool may use any name beneath the right parent.
    pub cgroup: Option<PathBuf>,
    /// Limits known beforehand; written at creation, and not again at fill where they are equal.
    pub resources: Option<LinuxResources>,
}

impl BlankOptions {
    /// What nearly every container has: new pid, uts, ipc and cgroup namespaces.
    pub fn ordinary(cgroup: Option<PathBuf>) -> Self {
        Self {
            pid: Namespace::New,
            uts: Namespace::New,
            ipc: Namespace::New,
            cgroup_namespace: Namespace::New,
            mount: Namespace::New,
            cgroup,
            ..Self::default()
        }
    }

    /// What exactly this document asks for.
    pub fn for_spec(spec: &Spec) -> Self {
        let mut options = Self::default();
        let Some(linux) = spec.linux() else {
            return options;
        };
        let cgroup = linux.cgroups_path().as_deref();
        options.cgroup = cgroup.map(|path| crate::cgroup::directory_of(path, ""));
        for namespace in linux.namespaces().iter().flatten() {
            let wanted = match namespace.path() {
                Some(path) if !path.as_os_str().is_empty() => Namespace::Join(path.clone()),
                _ => Namespace::New,
            };
            match namespace.typ() {
                LinuxNamespaceType::Pid => options.pid = wanted,
                LinuxNamespaceType::Uts => options.uts = wanted,
                LinuxNamespaceType::Ipc => options.ipc = wanted,
                LinuxNamespaceType::Cgroup => options.cgroup_namespace = wanted,
                LinuxNamespaceType::Network => options.net = wanted,
                LinuxNamespaceType::Mount => options.mount = wanted,
                LinuxNamespaceType::User => options.user = wanted,
                // Its offsets cannot be set once a process is in it; nobody asks for it yet.
                LinuxNamespaceType::Time => {}
            }
        }
        if options.user == Namespace::New {
            options.mappings = IdMappings {
                uids: linux.uid_mappings().clone().unwrap_or_default(),
                gids: linux.gid_mappings().clone().unwrap_or_default(),
            };
        }
        options
    }

    /// Whether a container made with these options can become the one of this document. The
    /// network is settled at fill.
    pub fn fits(&self, spec: &Spec) -> bool {
        let wanted = Self::for_spec(spec);
        (self.net == Namespace::Inherit || self.net == wanted.net)
            && self.pid == wanted.pid
            && self.uts == wanted.uts
            && self.ipc == wanted.ipc
            && self.user == wanted.user
            && self.mappings == wanted.mappings
            && self.mount == wanted.mount
    }

    /// What the clone itself makes. Cgroup, network and mount namespaces wait for the fill: the
    /// first must see the final cgroup, the last the host's mounts of that moment.
    fn cloned(&self) -> Namespaces {
        let kinds = [
            (&self.pid, Namespaces::PID),
            (&self.uts, Namespaces::UTS),
            (&self.ipc, Namespaces::IPC),
            (&self.user, Namespaces::USER),
        ];
        kinds
            .iter()
            .filter(|(namespace, _)| **namespace == Namespace::New)
            .fold(Namespaces::NONE, |all, (_, kind)| all | *kind)
    }

    /// What the process joins by itself, the user namespace last: after it rights are gone.
    fn joined(&self) -> Result<Vec<(OwnedFd, Namespaces)>, LaunchError> {
        let kinds = [
            (&self.uts, Namespaces::UTS),
            (&self.ipc, Namespaces::IPC),
            (&self.cgroup_namespace, Namespaces::CGROUP),
            (&self.net, Namespaces::NET),
            (&self.mount, Namespaces::MOUNT),
            (&self.user, Namespaces::USER),
        ];
        kinds
            .into_iter()
            .filter_map(|(namespace, kind)| match namespace {
                Namespace::Join(path) => Some(open_namespace(path).map(|fd| (fd, kind))),
                Namespace::Inherit | Namespace::New => None,
            })
            .collect()
    }
}

fn open_namespace(path: &Path) -> Result<OwnedFd, LaunchError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .at(Stage::Namespaces, format!("namespace {}", path.display()))
}

/// Where the process reads and writes.
#[derive(Debug, Clone, Copy)]
pub enum Stdio<'a> {
    /// These three descriptors.
    Fds([BorrowedFd<'a>; 3]),
    /// A new terminal from the container's own `/dev/pts`; its master comes back.
    Terminal,
}

/// What filling needs beside the [`Launch`].
#[derive(Debug, Clone, Copy)]
pub struct Fill<'a> {
    /// The network namespace to be in.
    pub netns: Option<BorrowedFd<'a>>,
    /// Standard streams.
    pub stdio: Stdio<'a>,
}

/// What only the OCI command line needs at fill.
#[derive(Default)]
pub(crate) struct OciFill<'a> {
    /// Where the waiting process accepts its start.
    pub(crate) listener: Option<BorrowedFd<'a>>,
    pub(crate) hooks: HookPlan,
    /// Runs the runtime's hooks, told the process.
    pub(crate) run_hooks: Option<&'a dyn Fn(i32) -> Result<(), LaunchError>>,
    pub(crate) no_pivot: bool,
    pub(crate) preserve_fds: u32,
}

/// A process of ours that has not executed its program yet: it ends when this is dropped.
#[derive(Debug)]
struct Child {
    pid: i32,
    pidfd: Option<OwnedFd>,
}

impl Child {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd
            .as_ref()
            .expect("taken only by `keep`, which consumes the child")
            .as_fd()
    }

    fn keep(mut self) -> OwnedFd {
        self.pidfd
            .take()
            .expect("taken only here, and this consumes the child")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(pidfd) = &self.pidfd {
            drop(sys::process::pidfd_signal(pidfd.as_fd(), 9));
            drop(sys::process::wait_pidfd(pidfd.as_fd()));
        }
    }
}

/// An empty container.
#[derive(Debug)]
pub struct Blank {
    // Before the channel: a process that sees the channel close would end by itself anyway.
    child: Child,
    channel: Channel,
    options: Box<BlankOptions>,
    cgroup: Option<Cgroup>,
}

impl Blank {
    /// Creates the process and its namespaces, and leaves it waiting.
    ///
    /// # Errors
    /// Refuses a calling process with more than one thread.
    pub fn create(options: &BlankOptions) -> Result<Self, LaunchError> {
        let cgroup = match &options.cgroup {
            Some(path) => Some(Cgroup::create(path).map_err(cgroup_failure)?),
            None => None,
        };
        let made = Self::create_in(options, cgroup);
        if let (Err(_), Some(path)) = (&made, &options.cgroup) {
            drop(Cgroup::at(path).and_then(|cgroup| cgroup.remove()));
        }
        made
    }

    fn create_in(options: &BlankOptions, cgroup: Option<Cgroup>) -> Result<Self, LaunchError> {
        if let (Some(cgroup), Some(resources)) = (&cgroup, &options.resources) {
            cgroup.apply(resources).map_err(cgroup_failure)?;
        }
        let (ours, theirs) = Channel::pair().at(Stage::Channel, "socketpair")?;
        let joins = options.joined()?;
        let target = match &cgroup {
            Some(cgroup) => cgroup.clone_target().map_err(cgroup_failure)?,
            None => None,
        };
        let (mut ours, mut theirs) = (Some(ours), Some(theirs));
        let join = target.is_none();
        let forked = with_pid_namespace(&options.pid, || {
            sys::process::fork(options.cloned(), target, || {
                // The copy of the other end would keep the channel open for ever.
                drop(ours.take());
                theirs
                    .take()
                    .map_or(125, |channel| init::run(channel, &joins))
            })
        })?;
        let blank = Self {
            child: Child {
                pid: forked.pid,
                pidfd: Some(forked.pidfd),
            },
            channel: ours
                .take()
                .ok_or_else(|| LaunchError::new(Stage::Channel, "no channel"))?,
            options: Box::new(options.clone()),
            cgroup,
        };
        if options.user == Namespace::New {
            write_mappings(blank.child.pid, &options.mappings)?;
        }
        if let (Some(cgroup), true) = (&blank.cgroup, join) {
            cgroup.join(blank.child.pid).map_err(cgroup_failure)?;
        }
        Ok(blank)
    }

    /// Its process, as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// A descriptor of its process: readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// Its cgroup, if it has one already.
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// Makes it the container that `launch` describes, up to the point of executing the program.
    ///
    /// Where the blank's cgroup is not the document's, it is renamed (v1) or the process is moved.
    /// A failure removes the cgroup.
    pub fn fill(self, launch: &Launch, fill: &Fill<'_>) -> Result<Created, LaunchError> {
        self.fill_oci(launch, fill, OciFill::default())
    }

    /// Fills and starts in one trip.
    pub fn run(self, launch: &Launch, fill: &Fill<'_>) -> Result<Running, LaunchError> {
        let filling = self.begin(launch, fill, OciFill::default())?;
        // The word to start is there before the process needs it.
        if let Err(error) = filling.channel.send(Kind::Start, &[], &[]) {
            return Err(filling.diagnose(&error));
        }
        filling.finish(None)?.await_execution()
    }

    pub(crate) fn fill_oci(
        self,
        launch: &Launch,
        fill: &Fill<'_>,
        oci: OciFill<'_>,
    ) -> Result<Created, LaunchError> {
        let run_hooks = oci.run_hooks;
        self.begin(launch, fill, oci)?.finish(run_hooks)
    }

    /// Sends the plan, and sets the limits while the process carries it out.
    fn begin(
        mut self,
        launch: &Launch,
        fill: &Fill<'_>,
        oci: OciFill<'_>,
    ) -> Result<Filling, LaunchError> {
        let mut recorder = Recorder::new(launch.trace);
        let start = recorder.start();
        let made = self.settle_cgroup(launch);
        recorder.end(start, Actor::Kernel, "cgroup", None);
        let sent = made.and_then(|()| self.send(launch, fill, oci));
        let limited = sent.and_then(|()| {
            let start = recorder.start();
            let limited = self.limit(launch);
            recorder.end(start, Actor::Kernel, "cgroup limits", None);
            limited
        });
        let filling = Filling {
            child: self.child,
            channel: self.channel,
            cgroup: self.cgroup,
            recorder,
        };
        match limited {
            Ok(()) => Ok(filling),
            Err(error) => {
                filling.discard();
                Err(error)
            }
        }
    }

    /// Makes the cgroup the one that the document names.
    fn settle_cgroup(&mut self, launch: &Launch) -> Result<(), LaunchError> {
        let wanted = launch
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.cgroups_path().as_deref());
        let Some(wanted) = wanted else { return Ok(()) };
        let wanted = crate::cgroup::directory_of(wanted, "");
        match &mut self.cgroup {
            Some(cgroup) if cgroup.path() == wanted => Ok(()),
            Some(cgroup) if !cgroup.is_unified() && cgroup.path().parent() == wanted.parent() => {
                cgroup.rename(&wanted).map_err(cgroup_failure)
            }
            _ => {
                let cgroup = Cgroup::create(&wanted).map_err(cgroup_failure)?;
                let joined = cgroup.join(self.child.pid).map_err(cgroup_failure);
                if let Some(old) = self.cgroup.replace(cgroup) {
                    drop(old.remove());
                }
                joined
            }
        }
    }

    fn limit(&self, launch: &Launch) -> Result<(), LaunchError> {
        let wanted = launch
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().as_ref());
        match (&self.cgroup, wanted) {
            (Some(cgroup), Some(wanted)) => {
                let wanted = without_known(wanted, self.options.resources.as_ref());
                cgroup.apply(&wanted).map_err(cgroup_failure)
            }
            _ => Ok(()),
        }
    }

    fn send(&self, launch: &Launch, fill: &Fill<'_>, oci: OciFill<'_>) -> Result<(), LaunchError> {
        let network = self.network(&launch.spec, fill.netns)?;
        let netns = match &network {
            Network::Opened(namespace) => Some(namespace.as_fd()),
            Network::Given => fill.netns,
            Network::New | Network::Settled => None,
        };
        let extras = Extras {
            hooks: oci.hooks,
            cgroups: self
                .cgroup
                .as_ref()
                .map_or_else(CgroupView::default, Cgroup::view),
            wait: if oci.listener.is_some() {
                Wait::Connection
            } else {
                Wait::Message
            },
            pivot: !oci.no_pivot,
            preserve_fds: oci.preserve_fds,
            new_network: matches!(network, Network::New),
            separate: separate(&launch.spec, netns)
                .at(Stage::Namespaces, "comparing namespaces")?,
        };
        let mut plan = Plan::new(launch, extras)?;
        if self.options.cgroup_namespace == Namespace::New && self.cgroup.is_none() {
            // Without a cgroup of its own the view from inside would be the runtime's cgroup.
            plan.cgroups = own_view()?;
        }
        let seccomp = seccomp_program(launch)?;
        adjust_oom_score(self.child.pid, plan.process.oom_score_adj)?;
        let mut fds = Vec::with_capacity(5);
        match fill.stdio {
            Stdio::Fds(stdio) => fds.extend(stdio),
            Stdio::Terminal => plan.process.terminal = plan.process.terminal.or(Some((0, 0))),
        }
        if matches!(fill.stdio, Stdio::Fds(_)) {
            plan.process.terminal = None;
        }
        let stdio = !fds.is_empty();
        fds.extend(netns);
        fds.extend(oci.listener);
        let body = serde_json::to_vec(&plan)
            .map_err(|error| LaunchError::new(Stage::Spec, error.to_string()))?;
        let header =
            init::fill_header([stdio, netns.is_some(), oci.listener.is_some()], body.len());
        let parts: [&[u8]; 3] = [&header, &body, seccomp.as_deref().unwrap_or_default()];
        self.channel
            .send(Kind::Fill, &parts, &fds)
            .at(Stage::Channel, "sending the plan")
    }

    /// The network namespace to join at fill: the one given, else the document's.
    fn network(&self, spec: &Spec, given: Option<BorrowedFd<'_>>) -> Result<Network, LaunchError> {
        match BlankOptions::for_spec(spec).net {
            _ if given.is_some() => Ok(Network::Given),
            Namespace::New => Ok(Network::New),
            Namespace::Join(path) if self.options.net == Namespace::Inherit => {
                open_namespace(&path).map(Network::Opened)
            }
            Namespace::Join(_) | Namespace::Inherit => Ok(Network::Settled),
        }
    }
}

/// Which namespaces are not ours. Only a document with sysctls has to know.
fn separate(spec: &Spec, netns: Option<BorrowedFd<'_>>) -> io::Result<Separate> {
    let sysctls = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.sysctl().as_ref());
    let any_of = |prefixes: &[&str]| {
        sysctls
            .into_iter()
            .flatten()
            .any(|(key, _)| prefixes.iter().any(|prefix| key.starts_with(prefix)))
    };
    let wanted = BlankOptions::for_spec(spec);
    let foreign = |stat: rustix::fs::Stat, own: &str| {
        let own = rustix::fs::stat(own)?;
        io::Result::Ok((stat.st_dev, stat.st_ino) != (own.st_dev, own.st_ino))
    };
    let differs = |namespace: &Namespace, own: &str| match namespace {
        Namespace::New => Ok(true),
        Namespace::Inherit => Ok(false),
        Namespace::Join(path) => foreign(rustix::fs::stat(path)?, own),
    };
    let network = match netns {
        _ if !any_of(&["net"]) => false,
        Some(netns) => foreign(rustix::fs::fstat(netns)?, "/proc/self/ns/net")?,
        None => differs(&wanted.net, "/proc/self/ns/net")?,
    };
    let others = any_of(&["kernel", "fs"]);
    Ok(Separate {
        ipc: others && differs(&wanted.ipc, "/proc/self/ns/ipc")?,
        network,
        uts: others && differs(&wanted.uts, "/proc/self/ns/uts")?,
    })
}

/// How the network namespace comes about.
enum Network {
    /// The caller gave it.
    Given,
    /// The process makes one.
    New,
    /// The document named it.
    Opened(OwnedFd),
    /// The process is in it, or joins it by itself.
    Settled,
}

/// Runs `fork` with the children's pid namespace set to an existing one.
fn with_pid_namespace(
    pid: &Namespace,
    fork: impl FnOnce() -> io::Result<sys::process::Forked>,
) -> Result<sys::process::Forked, LaunchError> {
    let Namespace::Join(path) = pid else {
        return fork().at(Stage::Namespaces, "clone3");
    };
    in_pid_namespace(open_namespace(path)?.as_fd(), fork)
}

/// Forks with the child in the pid namespace of `namespace`, and comes back to our own.
pub(crate) fn in_pid_namespace(
    namespace: BorrowedFd<'_>,
    fork: impl FnOnce() -> io::Result<sys::process::Forked>,
) -> Result<sys::process::Forked, LaunchError> {
    let own = open_namespace(Path::new("/proc/self/ns/pid"))?;
    sys::namespace::join(namespace, Namespaces::PID)
        .at(Stage::Namespaces, "joining the pid namespace")?;
    let forked = fork().at(Stage::Namespaces, "clone3");
    sys::namespace::join(own.as_fd(), Namespaces::PID)
        .at(Stage::Namespaces, "returning from the pid namespace")?;
    forked
}

fn write_mappings(pid: i32, mappings: &IdMappings) -> Result<(), LaunchError> {
    let text = |mappings: &[LinuxIdMapping]| {
        mappings
            .iter()
            .map(|map| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size()))
            .collect::<String>()
    };
    for (file, mappings) in [("uid_map", &mappings.uids), ("gid_map", &mappings.gids)] {
        let path = format!("/proc/{pid}/{file}");
        rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|fd| rustix::io::write(&fd, text(mappings).as_bytes()))
            .at(Stage::Namespaces, format!("id mapping {path}"))?;
    }
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "made for map_err")]
pub(crate) fn cgroup_failure(error: CgroupError) -> LaunchError {
    LaunchError::new(Stage::Cgroup, error.to_string())
}

fn own_view() -> Result<CgroupView, LaunchError> {
    Cgroup::at(Path::new("/"))
        .map(|cgroup| cgroup.view())
        .map_err(cgroup_failure)
}

/// Leaves out the device rules that are in force already: they are the most writes by far.
fn without_known(wanted: &LinuxResources, known: Option<&LinuxResources>) -> LinuxResources {
    let mut wanted = wanted.clone();
    if known.is_some_and(|known| known.devices() == wanted.devices()) {
        wanted.set_devices(None);
    }
    wanted
}

fn seccomp_program(launch: &Launch) -> Result<Option<Vec<u8>>, LaunchError> {
    if launch.seccomp.is_some() {
        return Ok(launch.seccomp.clone());
    }
    let policy = launch
        .spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    policy.map(crate::seccomp_of_spec).transpose()
}

/// Sets the score from outside, where the rights are; only where it differs from ours.
pub(crate) fn adjust_oom_score(pid: i32, wanted: Option<i32>) -> Result<(), LaunchError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    if own.trim().parse() == Ok(wanted) {
        return Ok(());
    }
    let path = format!("/proc/{pid}/oom_score_adj");
    let written = rustix::fs::open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .and_then(|fd| rustix::io::write(&fd, wanted.to_string().as_bytes()));
    match written {
        // Zero is what documents say when nobody asked, so it may remain ours.
        Err(_) if wanted == 0 => Ok(()),
        Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => Err(LaunchError::new(
            Stage::Settings,
            format!("oom_score_adj {wanted}: lowering it needs CAP_SYS_RESOURCE"),
        )),
        result => result
            .map(drop)
            .at(Stage::Settings, format!("oom_score_adj {wanted}")),
    }
}

/// A container whose plan is being carried out.
struct Filling {
    child: Child,
    channel: Channel,
    cgroup: Option<Cgroup>,
    recorder: Recorder,
}

impl Filling {
    /// Waits until all is ready.
    fn finish(
        mut self,
        run_hooks: Option<&dyn Fn(i32) -> Result<(), LaunchError>>,
    ) -> Result<Created, LaunchError> {
        match self.until_ready(run_hooks) {
            Ok(message) => {
                let steps: Vec<Step> = serde_json::from_slice(&message.body).unwrap_or_default();
                self.recorder.extend(steps);
                let path = format!("/proc/{}/ns/mnt", self.child.pid);
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                Ok(Created {
                    // Not there once the process has ended, and then it holds nothing up.
                    mount_namespace: rustix::fs::open(path, flags, Mode::empty()).ok(),
                    console: message.fds.into_iter().next(),
                    child: self.child,
                    channel: self.channel,
                    cgroup: self.cgroup,
                    recorder: self.recorder,
                })
            }
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
    }

    fn until_ready(
        &mut self,
        run_hooks: Option<&dyn Fn(i32) -> Result<(), LaunchError>>,
    ) -> Result<Message, LaunchError> {
        loop {
            match self
                .channel
                .receive()
                .at(Stage::Channel, "hearing from the container")?
            {
                Some(message) if message.kind == Kind::Ready => return Ok(message),
                Some(message) if message.kind == Kind::Hooks => {
                    if let Some(run_hooks) = run_hooks {
                        run_hooks(self.child.pid)?;
                    }
                    self.channel
                        .send(Kind::Continue, &[], &[])
                        .at(Stage::Channel, "after the hooks")?;
                }
                Some(message) => return Err(failure_in(&message)),
                None => return Err(vanished(&self.child)),
            }
        }
    }

    /// The process may have said why it went before we noticed that it went.
    fn diagnose(mut self, error: &io::Error) -> LaunchError {
        let reason = match self.channel.receive() {
            Ok(Some(message)) => failure_in(&message),
            _ => LaunchError::new(Stage::Channel, crate::failure::errno_text(error)),
        };
        self.discard();
        reason
    }

    fn discard(self) {
        drop(self.child);
        if let Some(cgroup) = self.cgroup {
            drop(cgroup.remove());
        }
    }
}

pub(crate) fn failure_in(message: &Message) -> LaunchError {
    serde_json::from_slice(&message.body).unwrap_or_else(|_| {
        LaunchError::new(
            Stage::Channel,
            "the container's process said something unexpected",
        )
    })
}

fn vanished(child: &Child) -> LaunchError {
    let how = match sys::process::wait_pidfd(child.pidfd()) {
        Ok(sys::process::Exit::Signal(9)) => {
            "it was killed, perhaps because the memory limit is too low".to_owned()
        }
        Ok(exit) => format!("exit {}", exit.code()),
        Err(error) => error.to_string(),
    };
    LaunchError::new(
        Stage::Channel,
        format!("the container's process ended before its start: {how}"),
    )
}

/// A container that waits for its start.
#[derive(Debug)]
pub struct Created {
    child: Child,
    channel: Channel,
    cgroup: Option<Cgroup>,
    recorder: Recorder,
    mount_namespace: Option<OwnedFd>,
    console: Option<OwnedFd>,
}

impl Created {
    /// Its process, as the caller sees it.
    pub fn pid(&self) -> i32 {
        self.child.pid
    }

    /// A descriptor of its process: readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.child.pidfd()
    }

    /// The master of its terminal.
    pub fn console(&self) -> Option<BorrowedFd<'_>> {
        self.console.as_ref().map(AsFd::as_fd)
    }

    /// The master of its terminal, once.
    pub fn take_console(&mut self) -> Option<OwnedFd> {
        self.console.take()
    }

    /// Executes the program.
    pub fn start(self) -> Result<Running, LaunchError> {
        // A process that is gone says so when asked for its last words.
        drop(self.channel.send(Kind::Start, &[], &[]));
        self.await_execution()
    }

    /// Leaves the process waiting for its start by another process.
    pub(crate) fn detach(self) -> OwnedFd {
        self.child.keep()
    }

    /// The channel closes at the execution, and not before.
    fn await_execution(mut self) -> Result<Running, LaunchError> {
        let start = self.recorder.start();
        let heard = self
            .channel
            .receive()
            .at(Stage::Channel, "hearing from the container");
        if let Some(error) = match heard {
            Ok(None) => None,
            Ok(Some(message)) => Some(failure_in(&message)),
            Err(error) => Some(error),
        } {
            drop(self.child);
            if let Some(cgroup) = self.cgroup {
                drop(cgroup.remove());
            }
            return Err(error);
        }
        self.recorder.end(start, Actor::Kernel, "execve", None);
        Ok(Running {
            pid: self.child.pid,
            pidfd: self.child.keep(),
            mount_namespace: self.mount_namespace,
            console: self.console,
            cgroup: self.cgroup,
            steps: self.recorder.into_steps(),
        })
    }
}

/// A started process: a container's init process or an exec process.
#[derive(Debug)]
pub struct Running {
    /// Its process, as the caller sees it; a child of the caller.
    pub pid: i32,
    /// A descriptor of its process.
    pub pidfd: OwnedFd,
    /// Holds the mount namespace, so that its slow end comes after the exit was reported.
    pub mount_namespace: Option<OwnedFd>,
    /// The master of its terminal.
    pub console: Option<OwnedFd>,
    /// Its cgroup, where it has one of its own.
    pub cgroup: Option<Cgroup>,
    /// The steps of its start, when asked for.
    pub steps: Vec<Step>,
}
