//! `create`, `start` and `run`.

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use oci_spec::runtime::{Hook, Spec};
use rustix::{
    fs::{Mode, OFlags},
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use super::{
    Context, Failure, Outcome,
    args::{Args, Flag},
    describe,
    state::{Record, SOCKET, Status, start_time},
    terminal,
};
use crate::{
    blank::{Blank, BlankOptions, Fill, OciFill, Stdio, failure_in},
    channel::{Channel, Kind},
    failure::errno_text,
    hooks::{self, HookPlan},
    launch::{Launch, LaunchError, Root},
    protect,
};

const FLAGS: &[Flag] = &[
    (&["bundle", "b"], true),
    (&["console-socket"], true),
    (&["pid-file"], true),
    (&["no-pivot"], false),
    (&["no-new-keyring"], false),
    (&["preserve-fds"], true),
    (&["detach", "d"], false),
    (&["keep"], false),
    (&["no-subreaper"], false),
];

pub(super) fn create(context: &Context, words: &[String]) -> Outcome {
    let args = Args::parse(words, FLAGS)?;
    let made = make(context, &args, args.value("console-socket").map(Path::new))?;
    drop(made);
    Ok(0)
}

pub(super) fn start(context: &Context, words: &[String]) -> Outcome {
    let args = Args::parse(words, &[])?;
    let record = context.store.load(args.id()?)?;
    go(context, &record)?;
    Ok(0)
}

pub(super) fn run(context: &Context, words: &[String]) -> Outcome {
    let args = Args::parse(words, FLAGS)?;
    let socket = args.value("console-socket").map(Path::new);
    let made = make(context, &args, socket)?;
    let record = context.store.load(args.id()?)?;
    let pidfd = made.pidfd;
    if let Err(failure) = go(context, &record) {
        super::manage::remove(context, &record).ok();
        return Err(failure);
    }
    if args.has("detach") {
        return Ok(0);
    }
    let code = terminal::follow(pidfd.as_fd(), made.console)?;
    if !args.has("keep") {
        super::manage::remove(context, &record)?;
    }
    Ok(code)
}

/// A created container, as far as its creator is concerned.
struct Made {
    pidfd: OwnedFd,
    console: Option<OwnedFd>,
}

fn make(context: &Context, args: &Args, console: Option<&Path>) -> Result<Made, Failure> {
    let preserve_fds = number(args, "preserve-fds")?;
    protect::this_process(3 + preserve_fds)
        .map_err(|error| format!("protecting the runtime's executable: {error}"))?;
    let id = args.id()?;
    let (bundle, spec) = load_bundle(Path::new(args.value("bundle").unwrap_or(".")))?;
    let directory = context.store.claim(id)?;
    let made = Creation {
        context,
        args,
        id,
        bundle,
        spec,
        directory,
        preserve_fds,
    }
    .make(console);
    if made.is_err() {
        context.store.remove(id)?;
    }
    made
}

fn number(args: &Args, name: &str) -> Result<u32, Failure> {
    let Some(text) = args.value(name) else {
        return Ok(0);
    };
    text.parse()
        .map_err(|_| format!("invalid value {text:?} for flag -{name}").into())
}

/// Reads a bundle; its path becomes absolute.
pub(super) fn load_bundle(bundle: &Path) -> Result<(PathBuf, Spec), Failure> {
    let bundle = std::path::absolute(bundle)
        .map_err(|error| format!("bundle {}: {error}", bundle.display()))?;
    let path = bundle.join("config.json");
    let bytes = std::fs::read(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("JSON specification file {} not found", path.display()),
        _ => format!("{}: {}", path.display(), errno_text(&error)),
    })?;
    let spec =
        serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((bundle, spec))
}

struct Creation<'a> {
    context: &'a Context,
    args: &'a Args,
    id: &'a str,
    bundle: PathBuf,
    spec: Spec,
    directory: PathBuf,
    preserve_fds: u32,
}

impl Creation<'_> {
    fn make(mut self, console: Option<&Path>) -> Result<Made, Failure> {
        let terminal = self
            .spec
            .process()
            .as_ref()
            .and_then(|process| process.terminal());
        let terminal = terminal == Some(true);
        let in_foreground = self.args.rest.len() == 1 && !self.args.has("detach");
        if terminal && console.is_none() && !in_foreground {
            return Err("a detached terminal needs --console-socket".into());
        }
        let options = self.options();
        let rootfs = self.rootfs()?;
        let listener = self
            .listen()
            .map_err(|error| format!("{SOCKET}: {error}"))?;
        let blank = Blank::create(&options)?;
        let record = self.record(&blank, &options, rootfs.clone())?;
        let launch = Launch {
            spec: self.spec.clone(),
            root: Root::Path(rootfs),
            user: None,
            create_cwd: true,
            trace: false,
            seccomp: None,
        };
        let hooks = self.hooks();
        let state = record.json(Status::Creating);
        let run_hooks = |_pid: i32| -> Result<(), LaunchError> {
            hooks::run("prestart", &hooks.prestart, &state)?;
            hooks::run("createRuntime", &hooks.create_runtime, &state)
        };
        let oci = OciFill {
            listener: Some(listener.as_fd()),
            hooks: HookPlan {
                runtime: !hooks.prestart.is_empty() || !hooks.create_runtime.is_empty(),
                create_container: hooks.create_container,
                start_container: hooks.start_container,
                state: state.clone(),
            },
            run_hooks: Some(&run_hooks),
            no_pivot: self.args.has("no-pivot"),
            preserve_fds: self.preserve_fds,
        };
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let stdio = if terminal {
            Stdio::Terminal
        } else {
            Stdio::Fds([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
        };
        let mut created = blank.fill_oci(&launch, &Fill { netns: None, stdio }, oci)?;
        let mut master = created.take_console();
        if let (Some(socket), Some(console)) = (console, &master) {
            terminal::hand_over(socket, console)?;
            master = None;
        }
        self.context.store.save(&record)?;
        if let Some(path) = self.args.value("pid-file") {
            write_pid_file(Path::new(path), record.pid)?;
        }
        let pidfd = created.detach();
        Ok(Made {
            pidfd,
            console: master,
        })
    }

    fn options(&mut self) -> BlankOptions {
        let path = self
            .spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.cgroups_path().clone());
        let cgroup = crate::cgroup::directory_of(&path.unwrap_or_default(), self.id);
        if let Some(linux) = self.spec.linux_mut() {
            linux.set_cgroups_path(Some(cgroup.clone()));
        }
        BlankOptions {
            cgroup: Some(cgroup),
            ..BlankOptions::for_spec(&self.spec)
        }
    }

    fn rootfs(&self) -> Result<PathBuf, Failure> {
        let root = self
            .spec
            .root()
            .as_ref()
            .ok_or("the document has no root")?;
        Ok(self.bundle.join(root.path()))
    }

    /// The socket that the container's process accepts its start on.
    fn listen(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&self.directory, flags, Mode::empty())?;
        let socket = rustix::net::socket_with(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )?;
        rustix::net::bind(&socket, &short_address(&directory)?)?;
        rustix::net::listen(&socket, 1)?;
        Ok(socket)
    }

    fn record(
        &self,
        blank: &Blank,
        options: &BlankOptions,
        rootfs: PathBuf,
    ) -> Result<Record, Failure> {
        let hooks = self.hooks();
        Ok(Record {
            oci_version: self.spec.version().clone(),
            id: self.id.to_owned(),
            pid: blank.pid(),
            start_time: start_time(blank.pid()).ok_or("the container's process has ended")?,
            bundle: self.bundle.clone(),
            rootfs,
            created: describe::now(),
            cgroup: options.cgroup.clone().unwrap_or_default(),
            annotations: self.spec.annotations().clone().unwrap_or_default(),
            poststart: hooks.poststart,
            poststop: hooks.poststop,
        })
    }

    fn hooks(&self) -> HookLists {
        let Some(hooks) = self.spec.hooks() else {
            return HookLists::default();
        };
        let list = |hooks: &Option<Vec<Hook>>| hooks.clone().unwrap_or_default();
        let prestart = list(hooks.prestart());
        HookLists {
            prestart,
            create_runtime: list(hooks.create_runtime()),
            create_container: list(hooks.create_container()),
            start_container: list(hooks.start_container()),
            poststart: list(hooks.poststart()),
            poststop: list(hooks.poststop()),
        }
    }
}

#[derive(Default)]
struct HookLists {
    prestart: Vec<Hook>,
    create_runtime: Vec<Hook>,
    create_container: Vec<Hook>,
    start_container: Vec<Hook>,
    poststart: Vec<Hook>,
    poststop: Vec<Hook>,
}

/// A socket's path has room for 107 bytes, and `--root` may be longer.
fn short_address(directory: &OwnedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!(
        "/proc/self/fd/{}/{SOCKET}",
        directory.as_raw_fd()
    ))?)
}

pub(super) fn write_pid_file(path: &Path, pid: i32) -> Result<(), Failure> {
    // Whole or not at all: monitors watch for it.
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, pid.to_string())
        .and_then(|()| std::fs::rename(&temporary, path))
        .map_err(|error| format!("pid file {}: {error}", path.display()).into())
}

/// Starts a created container, and runs its poststart hooks.
fn go(context: &Context, record: &Record) -> Result<(), Failure> {
    let directory = context.store.directory(&record.id);
    match record.status(&directory) {
        Status::Created => {}
        Status::Stopped => return Err("cannot start a container that has stopped".into()),
        Status::Creating | Status::Running | Status::Paused => {
            return Err("cannot start an already running container".into());
        }
    }
    let socket = connect(&directory).map_err(|error| format!("{SOCKET}: {error}"))?;
    let mut channel = Channel::new(socket);
    channel
        .send(Kind::Start, &[], &[])
        .map_err(|error| format!("starting: {}", errno_text(&error)))?;
    let heard = channel
        .receive()
        .map_err(|error| format!("starting: {}", errno_text(&error)))?;
    std::fs::remove_file(directory.join(SOCKET)).ok();
    if let Some(message) = heard {
        return Err(failure_in(&message).into());
    }
    if let Err(error) = hooks::run(
        "poststart",
        &record.poststart,
        &record.json(Status::Running),
    ) {
        record.cgroup()?.kill()?;
        return Err(error.into());
    }
    Ok(())
}

fn connect(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    let flags = SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &short_address(&directory)?)?;
    Ok(socket)
}
