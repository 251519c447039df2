//! Becoming the program: streams, limits, user, working directory, search path, capabilities.
//!
//! The same for a container's first process and for an added one. Everything that can fail for
//! the user's reasons fails in [`Program::prepare`]; [`Program::execute`] only drops what the
//! program may not have, and executes.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Access, AtFlags, CWD, FileType, Gid, Mode, Uid, accessat, fchown},
    termios::{Winsize, tcsetwinsize},
};
use sys::{
    capability::{self, Capabilities},
    process::{StdStream, set_stdio},
};

use crate::{
    channel::Channel,
    failure::{Context as _, errno_text},
    in_root,
    launch::{LaunchError, Stage},
    plan::{CapabilityPlan, ProcessPlan, UserPlan},
    users::{self, Identity},
};

/// Where the program reads and writes.
#[derive(Debug)]
pub(crate) enum Streams {
    /// The process's own.
    Inherited,
    /// These.
    Given([OwnedFd; 3]),
    /// A terminal: master and slave.
    Terminal((OwnedFd, OwnedFd)),
}

/// A program ready to be executed.
#[derive(Debug)]
pub(crate) struct Program {
    path: CString,
    name: String,
    args: Vec<CString>,
    env: Vec<CString>,
    capabilities: CapabilityPlan,
    no_new_privileges: bool,
    seccomp: Option<Vec<u8>>,
    preserve_fds: u32,
    console: Option<OwnedFd>,
    umask: u32,
}

impl Program {
    /// Sets up all but the last rights, and finds the program.
    pub(crate) fn prepare(
        plan: &ProcessPlan,
        root: BorrowedFd<'_>,
        streams: Streams,
        seccomp: Option<Vec<u8>>,
    ) -> Result<Self, LaunchError> {
        let (identity, env) = identity_and_environment(plan, root)?;
        let console = attach(streams, plan, &identity)?;
        for &(kind, soft, hard) in &plan.limits {
            sys::process::set_limit(kind, soft, hard).at(
                Stage::Settings,
                format!("error setting rlimit type {kind} to soft {soft}, hard {hard}"),
            )?;
        }
        if let Some((class, level)) = plan.io_priority {
            sys::process::set_io_priority(class, level).at(Stage::Settings, "I/O priority")?;
        }
        // Once as ourselves, for a directory that only root may enter, and once as the user.
        let early = rustix::process::chdir(&plan.cwd);
        capability::limit_bounding(plan.capabilities.bounding)
            .at(Stage::Identity, "bounding capabilities")?;
        change_user(&identity)?;
        working_directory(&plan.cwd, early.is_ok())?;
        let name = plan.args.first().cloned().unwrap_or_default();
        let path = find(&name, &env)?;
        Ok(Self {
            path: c_string(path.as_os_str().as_bytes())?,
            name,
            args: plan
                .args
                .iter()
                .map(|arg| c_string(arg.as_bytes()))
                .collect::<Result<_, _>>()?,
            env: env
                .iter()
                .map(|pair| c_string(pair.as_bytes()))
                .collect::<Result<_, _>>()?,
            capabilities: plan.capabilities,
            no_new_privileges: plan.no_new_privileges,
            seccomp,
            preserve_fds: plan.preserve_fds,
            console,
            umask: plan.umask.unwrap_or(0o022),
        })
    }

    /// The master of the terminal.
    pub(crate) fn console(&self) -> Option<BorrowedFd<'_>> {
        self.console.as_ref().map(|console| console.as_fd())
    }

    /// Closes what is not the program's, drops the last rights and executes. A failure goes up the
    /// channel, and the process ends.
    pub(crate) fn execute(self, channel: &Channel) -> ! {
        let first = self.preserve_fds.saturating_add(3);
        sys::process::close_all_and_end(first, channel.as_fd(), |closed| {
            let done = closed.at(Stage::Settings, "close_range");
            match done.and_then(|()| self.last_steps()) {
                Ok(never) => match never {},
                Err(error) => super::report(channel, &error),
            }
        })
    }

    fn last_steps(&self) -> Result<std::convert::Infallible, LaunchError> {
        rustix::process::umask(Mode::from_raw_mode(self.umask & 0o777));
        sys::process::reset_signals().at(Stage::Settings, "signals")?;
        if self.no_new_privileges {
            capability::set_no_new_privileges().at(Stage::Identity, "no_new_privs")?;
        }
        if let Some(program) = &self.seccomp {
            // Before the capabilities go, because it needs one without no_new_privs; and after
            // everything else, because the filter judges us as well.
            sys::seccomp::install(program, sys::seccomp::FilterFlags::default())
                .map_err(|error| LaunchError::new(Stage::Seccomp, format!("seccomp: {error}")))?;
        }
        restrict(&self.capabilities)?;
        let error = sys::process::exec(&self.path, &self.args, &self.env);
        Err(exec_failure(&self.name, &error))
    }
}

/// Execution failed although the file is there and may be executed.
fn exec_failure(name: &str, error: &io::Error) -> LaunchError {
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    LaunchError::exec(format!("exec {name}: {}", errno_text(error)), code)
}

fn c_string(bytes: &[u8]) -> Result<CString, LaunchError> {
    CString::new(bytes).map_err(|_| {
        LaunchError::exec(
            format!("{:?} contains a NUL byte", String::from_utf8_lossy(bytes)),
            126,
        )
    })
}

/// Who to be, and the environment with `HOME` filled in as docker does.
fn identity_and_environment(
    plan: &ProcessPlan,
    root: BorrowedFd<'_>,
) -> Result<(Identity, Vec<String>), LaunchError> {
    let has_home = plan.env.iter().any(|pair| {
        pair.strip_prefix("HOME=")
            .is_some_and(|home| !home.is_empty())
    });
    let read =
        |path: &str| in_root::read_text(root, Path::new(path)).at(Stage::Identity, path.to_owned());
    let (identity, home) = match &plan.user {
        UserPlan::Named(request) => {
            let (passwd, group) = (read("etc/passwd")?, read("etc/group")?);
            let identity = users::resolve(request, &passwd, &group)
                .map_err(|message| LaunchError::new(Stage::Identity, message))?;
            let home = identity.home.clone();
            (identity, home)
        }
        UserPlan::Ids { uid, gid, groups } => {
            let identity = Identity {
                uid: *uid,
                gid: *gid,
                groups: groups.clone(),
                home: None,
            };
            let home = match has_home {
                true => None,
                false => users::home_of(*uid, &read("etc/passwd")?).map(str::to_owned),
            };
            (identity, home)
        }
    };
    let mut env: Vec<String> = plan
        .env
        .iter()
        .filter(|pair| has_home || *pair != "HOME=")
        .cloned()
        .collect();
    if !has_home {
        let home = home
            .filter(|home| !home.is_empty())
            .unwrap_or_else(|| "/".to_owned());
        env.push(format!("HOME={home}"));
    }
    Ok((identity, env))
}

/// Puts the streams in their places; returns the terminal's master.
fn attach(
    streams: Streams,
    plan: &ProcessPlan,
    identity: &Identity,
) -> Result<Option<OwnedFd>, LaunchError> {
    match streams {
        Streams::Inherited => Ok(None),
        Streams::Given(stdio) => {
            for (fd, stream) in stdio
                .iter()
                .zip([StdStream::In, StdStream::Out, StdStream::Err])
            {
                set_stdio(fd, stream).at(Stage::Settings, "standard streams")?;
                give(fd.as_fd(), identity);
            }
            // A session of its own keeps the terminal of whoever started this out of reach.
            rustix::process::setsid().ok();
            Ok(None)
        }
        Streams::Terminal((master, slave)) => {
            if let Some((rows, columns)) = plan.terminal
                && (rows, columns) != (0, 0)
            {
                let size = Winsize {
                    ws_row: rows,
                    ws_col: columns,
                    ws_xpixel: 0,
                    ws_ypixel: 0,
                };
                tcsetwinsize(&master, size).at(Stage::Terminal, "terminal size")?;
            }
            // Fails for a process that leads a session already, which is as good.
            rustix::process::setsid().ok();
            for stream in [StdStream::In, StdStream::Out, StdStream::Err] {
                set_stdio(&slave, stream).at(Stage::Terminal, "standard streams")?;
            }
            rustix::process::ioctl_tiocsctty(&slave).at(Stage::Terminal, "TIOCSCTTY")?;
            give(slave.as_fd(), identity);
            Ok(Some(master))
        }
    }
}

/// Lets the user open its streams anew through `/proc/self/fd`, where they can be given away.
fn give(fd: BorrowedFd<'_>, identity: &Identity) {
    let Ok(stat) = rustix::fs::fstat(fd) else {
        return;
    };
    let null = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == rustix::fs::makedev(1, 3);
    if !null && stat.st_uid != identity.uid {
        // Read-only and foreign file systems refuse, and then nothing is lost.
        fchown(fd, Some(Uid::from_raw(identity.uid)), None).ok();
    }
}

fn change_user(identity: &Identity) -> Result<(), LaunchError> {
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let setgroups = rustix::thread::set_thread_groups(&groups);
    if setgroups.is_err() && !groups.is_empty() {
        return setgroups.at(Stage::Identity, "setgroups");
    }
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .at(Stage::Identity, format!("setgid {}", identity.gid))?;
    capability::keep_across_setuid(true).at(Stage::Identity, "keepcaps")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .at(Stage::Identity, format!("setuid {}", identity.uid))?;
    capability::keep_across_setuid(false).at(Stage::Identity, "keepcaps")?;
    // Leaving root took the effective set; installing a filter still needs it.
    if identity.uid != 0 {
        let own = capability::get().at(Stage::Identity, "capabilities")?;
        let all = Capabilities {
            effective: own.permitted & (1 << capability::SYS_ADMIN),
            ..own
        };
        capability::set(all).at(Stage::Identity, "capabilities")?;
    }
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable).ok();
    Ok(())
}

fn restrict(plan: &CapabilityPlan) -> Result<(), LaunchError> {
    let own = capability::get().at(Stage::Identity, "capabilities")?;
    // What we do not have ourselves nobody can get from us.
    let permitted = plan.permitted & own.permitted;
    let wanted = Capabilities {
        effective: plan.effective & permitted,
        permitted,
        inheritable: plan.inheritable & (permitted | own.inheritable),
    };
    capability::set(wanted).at(Stage::Identity, "capabilities")?;
    capability::set_ambient(plan.ambient & permitted & wanted.inheritable)
        .at(Stage::Identity, "ambient capabilities")
}

fn working_directory(cwd: &Path, entered: bool) -> Result<(), LaunchError> {
    let failed = |error: io::Error| {
        let text = errno_text(&error);
        let code = if error.kind() == io::ErrorKind::NotFound {
            127
        } else {
            126
        };
        let message = format!(
            "chdir to cwd ({:?}) set in config.json failed: {text}",
            cwd.display()
        );
        LaunchError {
            stage: Stage::Rootfs,
            message,
            exit_code: code,
        }
    };
    if !entered {
        rustix::process::chdir(cwd).map_err(|error| failed(error.into()))?;
    }
    // A directory outside the root would show itself here (CVE-2024-21626).
    let here = rustix::process::getcwd(Vec::new()).map_err(|error| failed(error.into()))?;
    if here.as_bytes().first() == Some(&b'/') {
        Ok(())
    } else {
        Err(LaunchError::new(
            Stage::Rootfs,
            "the working directory is outside the container",
        ))
    }
}

/// Finds the program as Go's `exec.LookPath` does, in its words.
fn find(name: &str, env: &[String]) -> Result<PathBuf, LaunchError> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        return executable(&path).map(|()| path).map_err(|error| {
            let text = errno_text(&error);
            match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    LaunchError::exec(format!("exec: {name:?}: stat {name}: {text}"), 127)
                }
                _ => LaunchError::exec(format!("exec: {name:?}: {text}"), 126),
            }
        });
    }
    let search = env
        .iter()
        .rev()
        .find_map(|pair| pair.strip_prefix("PATH="))
        .unwrap_or_default();
    search
        .split(':')
        .filter(|_| !name.is_empty())
        .map(|directory| Path::new(if directory.is_empty() { "." } else { directory }).join(name))
        .find(|path| executable(path).is_ok())
        .ok_or_else(|| {
            LaunchError::exec(
                format!("exec: {name:?}: executable file not found in $PATH"),
                127,
            )
        })
}

fn executable(path: &Path) -> io::Result<()> {
    let stat = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(rustix::io::Errno::ISDIR.into());
    }
    // Root may execute a file only if someone may.
    if stat.st_mode & 0o111 == 0 {
        return Err(rustix::io::Errno::ACCESS.into());
    }
    Ok(accessat(CWD, path, Access::EXEC_OK, AtFlags::empty())?)
}
