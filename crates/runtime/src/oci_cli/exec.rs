//! `exec`.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use oci_spec::runtime::Process;

use super::{
    Context, Failure, Outcome,
    args::{Args, Flag},
    create::{load_bundle, write_pid_file},
    state::{Record, Status},
    terminal,
};
use crate::{
    blank::Stdio,
    exec::{ExecTarget, exec_preserving},
    launch::{ExecRequest, UserRequest},
    protect,
};

const FLAGS: &[Flag] = &[
    (&["console-socket"], true),
    (&["cwd"], true),
    (&["env", "e"], true),
    (&["tty", "t"], false),
    (&["user", "u"], true),
    (&["additional-gids", "g"], true),
    (&["process", "p"], true),
    (&["detach", "d"], false),
    (&["pid-file"], true),
    (&["process-label"], true),
    (&["apparmor"], true),
    (&["no-new-privs"], false),
    (&["cap", "c"], true),
    (&["preserve-fds"], true),
    (&["cgroup"], true),
    (&["ignore-paused"], false),
    (&["no-subreaper"], false),
];

pub(super) fn exec(context: &Context, words: &[String]) -> Outcome {
    let args = Args::parse(words, FLAGS)?;
    let preserve_fds: u32 = match args.value("preserve-fds") {
        Some(text) => text
            .parse()
            .map_err(|_| "invalid value for flag -preserve-fds")?,
        None => 0,
    };
    protect::this_process(3 + preserve_fds)
        .map_err(|error| format!("protecting the runtime's executable: {error}"))?;
    let record = context.store.load(args.id()?)?;
    match record.status(&context.store.directory(&record.id)) {
        Status::Running | Status::Created => {}
        Status::Paused if args.has("ignore-paused") => {}
        Status::Paused => return Err("cannot exec in a paused container".into()),
        Status::Stopped | Status::Creating => {
            return Err("cannot exec in a stopped container".into());
        }
    }
    let request = request(&args, &record)?;
    let pid = rustix::process::Pid::from_raw(record.pid).ok_or("container has no process")?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(|error| format!("container process: {error}"))?;
    let cgroup = record.cgroup()?;
    let target = ExecTarget {
        pid: record.pid,
        pidfd: pidfd.as_fd(),
        cgroup: Some(&cgroup),
    };
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let stdio = if request.process.terminal() == Some(true) {
        Stdio::Terminal
    } else {
        let fds: [BorrowedFd<'_>; 3] = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        Stdio::Fds(fds)
    };
    let mut running =
        exec_preserving(&target, &request, stdio, preserve_fds).map_err(|error| Failure {
            message: error.to_string(),
            code: 255,
        })?;
    let mut console = running.console.take();
    if let (Some(socket), Some(master)) = (args.value("console-socket"), &console) {
        terminal::hand_over(Path::new(socket), master)?;
        console = None;
    }
    if let Some(path) = args.value("pid-file") {
        write_pid_file(Path::new(path), running.pid)?;
    }
    if args.has("detach") {
        return Ok(0);
    }
    terminal::follow(running.pidfd.as_fd(), console)
}

/// The process from a file, or the container's own with the flags' changes.
fn request(args: &Args, record: &Record) -> Result<ExecRequest, Failure> {
    let (_, spec) = load_bundle(&record.bundle)?;
    let seccomp = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.seccomp().as_ref());
    let seccomp = seccomp.map(crate::seccomp_of_spec).transpose()?;
    if let Some(path) = args.value("process") {
        let bytes = std::fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        let mut process: Process =
            serde_json::from_slice(&bytes).map_err(|error| format!("{path}: {error}"))?;
        inherit_capabilities(&mut process, spec.process().as_ref());
        return Ok(ExecRequest {
            process,
            user: None,
            seccomp,
            trace: false,
        });
    }
    let mut process: Process = spec.process().clone().unwrap_or_default();
    let command = args.rest.get(1..).unwrap_or_default();
    if command.is_empty() {
        return Err("process args cannot be empty".into());
    }
    process
        .set_args(Some(command.to_vec()))
        .set_terminal(Some(args.has("tty")));
    if let Some(cwd) = args.value("cwd") {
        process.set_cwd(PathBuf::from(cwd));
    }
    let mut env = process.env().clone().unwrap_or_default();
    env.extend_from_slice(args.all("env"));
    process.set_env(Some(env));
    if args.has("no-new-privs") {
        process.set_no_new_privileges(Some(true));
    }
    if let Some(profile) = args.value("apparmor") {
        process.set_apparmor_profile(Some(profile.to_owned()));
    }
    if let Some(label) = args.value("process-label") {
        process.set_selinux_label(Some(label.to_owned()));
    }
    add_capabilities(&mut process, args.all("cap"))?;
    let groups = args.all("additional-gids").to_vec();
    let user = match (args.value("user"), groups.is_empty()) {
        (Some(user), _) => Some(UserRequest {
            user: user.to_owned(),
            groups,
        }),
        (None, false) => {
            let (uid, gid) = (process.user().uid(), process.user().gid());
            Some(UserRequest {
                user: format!("{uid}:{gid}"),
                groups,
            })
        }
        (None, true) => None,
    };
    Ok(ExecRequest {
        process,
        user,
        seccomp,
        trace: false,
    })
}

/// A process that names no capabilities has the container's.
fn inherit_capabilities(process: &mut Process, container: Option<&Process>) {
    if process.capabilities().is_none() {
        process.set_capabilities(container.and_then(|first| first.capabilities().clone()));
    }
}

fn add_capabilities(process: &mut Process, names: &[String]) -> Result<(), Failure> {
    if names.is_empty() {
        return Ok(());
    }
    let mut sets = process.capabilities().clone().unwrap_or_default();
    for name in names {
        let capability: oci_spec::runtime::Capability =
            serde_json::from_value(serde_json::Value::String(name.clone()))
                .map_err(|_| format!("unknown capability {name:?}"))?;
        let with = |set: &Option<oci_spec::runtime::Capabilities>| {
            let mut set = set.clone().unwrap_or_default();
            set.insert(capability);
            Some(set)
        };
        let (bounding, effective, permitted) = (
            with(sets.bounding()),
            with(sets.effective()),
            with(sets.permitted()),
        );
        sets.set_bounding(bounding)
            .set_effective(effective)
            .set_permitted(permitted);
    }
    process.set_capabilities(Some(sets));
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn process(capabilities: Option<&str>) -> Process {
        let mut process = json!({"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        if let Some(name) = capabilities {
            process["capabilities"] = json!({"bounding": [name]});
        }
        serde_json::from_value(process).unwrap()
    }

    #[test]
    fn capabilities_are_the_container_s_where_none_are_named() {
        let container = process(Some("CAP_CHOWN"));
        let mut added = process(None);
        inherit_capabilities(&mut added, Some(&container));
        assert_eq!(added.capabilities(), container.capabilities());
        let mut added = process(Some("CAP_KILL"));
        inherit_capabilities(&mut added, Some(&container));
        assert_eq!(added, process(Some("CAP_KILL")));
        let mut added = process(None);
        inherit_capabilities(&mut added, Some(&process(None)));
        assert_eq!(added.capabilities(), &None);
    }
}
