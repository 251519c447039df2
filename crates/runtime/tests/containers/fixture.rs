//! A root file system of busybox, cgroups with a name of their own, and ways to run things.

use std::{
    cell::Cell,
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use runtime::{
    Blank, BlankOptions, Cgroup, ExecRequest, ExecTarget, Fill, Launch, LaunchError, Running,
    Stdio, exec_process,
};
use serde_json::{Value, json};
use sys::{
    namespace::Namespaces,
    process::{Exit, wait_pidfd},
};

/// What all tests share.
pub(crate) struct Fixture {
    directory: tempfile::TempDir,
    pub(crate) cgroups: PathBuf,
    next: Cell<u32>,
}

/// How a process ended, and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) code: i32,
    pub(crate) output: String,
}

const APPLETS: [&str; 22] = [
    "sh", "true", "false", "cat", "ls", "id", "echo", "stat", "mount", "touch", "mkdir", "sleep",
    "grep", "tty", "env", "hostname", "readlink", "head", "kill", "pwd", "ps", "mknod",
];

impl Fixture {
    pub(crate) fn new() -> Self {
        sys::namespace::unshare(Namespaces::MOUNT | Namespaces::NET).unwrap();
        let private = rustix::mount::MountPropagationFlags::PRIVATE
            | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let lower = directory.path().join("lower");
        for name in [
            "bin", "etc", "root", "home/ann", "proc", "sys", "dev", "tmp", "locked",
        ] {
            std::fs::create_dir_all(lower.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
        APPLETS
            .iter()
            .for_each(|name| symlink("busybox", lower.join("bin").join(name)).unwrap());
        let write = |path: &str, text: &str| std::fs::write(lower.join(path), text).unwrap();
        write(
            "etc/passwd",
            "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n",
        );
        write("etc/group", "root:x:0:\nann:x:1000:\nwheel:x:10:ann\n");
        write("etc/plain", "not a program\n");
        let cgroups = PathBuf::from(format!("/berth-runtime-test-{}", std::process::id()));
        Self {
            directory,
            cgroups,
            next: Cell::new(0),
        }
    }

    /// A fresh name.
    pub(crate) fn id(&self) -> String {
        self.next.set(self.next.get() + 1);
        format!("c{}", self.next.get())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A launch of `args` with docker's usual surroundings; `change` has the last word.
    pub(crate) fn launch(&self, args: &[&str], change: impl FnOnce(&mut Value)) -> Launch {
        let id = self.id();
        let (upper, work) = (
            self.path(&format!("{id}-upper")),
            self.path(&format!("{id}-work")),
        );
        std::fs::create_dir(&upper).unwrap();
        std::fs::create_dir(&work).unwrap();
        let mut launch = json!({
            "spec": spec(args, &self.cgroups.join(&id)),
            "root": {"overlay": {
                "lower": [self.path("lower")], "upper": upper, "work": work, "volatile": true,
            }},
        });
        change(&mut launch);
        serde_json::from_value(launch).unwrap()
    }

    /// Runs a launch to its end with pipes.
    pub(crate) fn run(&self, launch: &Launch) -> Result<Outcome, LaunchError> {
        self.run_with(launch, |_| {})
    }

    /// The same; `meanwhile` sees it running.
    pub(crate) fn run_with(
        &self,
        launch: &Launch,
        meanwhile: impl FnOnce(&Running),
    ) -> Result<Outcome, LaunchError> {
        let options = BlankOptions::for_spec(&launch.spec);
        let blank = Blank::create(&options)?;
        let (input, output, inner) = streams();
        let stdio = Stdio::Fds([inner[0].as_fd(), inner[1].as_fd(), inner[1].as_fd()]);
        let running = blank.run(launch, &Fill { netns: None, stdio })?;
        drop(inner);
        meanwhile(&running);
        drop(input);
        let output = read(output);
        let exit = wait_pidfd(running.pidfd.as_fd()).unwrap();
        if let Some(cgroup) = &running.cgroup {
            cgroup.remove().unwrap();
        }
        Ok(Outcome {
            code: exit.code(),
            output,
        })
    }

    /// Starts something that sleeps, gives it to `inside`, and ends it.
    pub(crate) fn while_running(&self, launch: &Launch, inside: impl FnOnce(&Running)) -> Exit {
        let mut ended = None;
        let outcome = self.run_with(launch, |running| {
            inside(running);
            sys::process::pidfd_signal(running.pidfd.as_fd(), 9).unwrap();
            ended = Some(Exit::Signal(9));
        });
        assert_eq!(outcome.unwrap().code, 137);
        ended.unwrap()
    }

    /// Runs a process in a container.
    pub(crate) fn exec(&self, running: &Running, args: &[&str]) -> Result<Outcome, LaunchError> {
        self.exec_with(running, args, |_| {})
    }

    pub(crate) fn exec_with(
        &self,
        running: &Running,
        args: &[&str],
        change: impl FnOnce(&mut Value),
    ) -> Result<Outcome, LaunchError> {
        let mut request = json!({"process": process(args)});
        change(&mut request);
        let request: ExecRequest = serde_json::from_value(request).unwrap();
        let target = ExecTarget {
            pid: running.pid,
            pidfd: running.pidfd.as_fd(),
            cgroup: running.cgroup.as_ref(),
        };
        let (input, output, inner) = streams();
        let stdio = Stdio::Fds([inner[0].as_fd(), inner[1].as_fd(), inner[1].as_fd()]);
        let process = exec_process(&target, &request, stdio)?;
        drop((input, inner));
        let output = read(output);
        let exit = wait_pidfd(process.pidfd.as_fd()).unwrap();
        Ok(Outcome {
            code: exit.code(),
            output,
        })
    }

    /// Removes the cgroups and says whether anything else is left.
    pub(crate) fn nothing_is_left(&self) -> bool {
        let cgroup = Cgroup::at(&self.cgroups).unwrap();
        let left = cgroup.procs().unwrap_or_default();
        let removed = cgroup.remove();
        let children = sys::process::wait_any(false).unwrap();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounted = mounts.contains(self.directory.path().to_str().unwrap());
        let clean = left.is_empty() && removed.is_ok() && children.is_none() && !mounted;
        if !clean {
            println!("left behind: {left:?} {removed:?} {children:?} mounts: {mounted}");
        }
        clean
    }
}

fn streams() -> (OwnedFd, OwnedFd, [OwnedFd; 2]) {
    let flags = rustix::pipe::PipeFlags::CLOEXEC;
    let (input, into) = rustix::pipe::pipe_with(flags).unwrap();
    let (output, out) = rustix::pipe::pipe_with(flags).unwrap();
    (into, output, [input, out])
}

pub(crate) fn read(from: OwnedFd) -> String {
    let mut text = Vec::new();
    // A terminal whose other side is gone ends in an error.
    drop(std::fs::File::from(from).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

pub(crate) fn write(to: &OwnedFd, text: &str) {
    std::fs::File::from(to.try_clone().unwrap())
        .write_all(text.as_bytes())
        .unwrap();
}

/// Docker's default capabilities.
const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

pub(crate) fn process(args: &[&str]) -> Value {
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "cwd": "/",
        "oomScoreAdj": 0,
        "capabilities": {
            "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES,
        },
    })
}

pub(crate) fn spec(args: &[&str], cgroup: &Path) -> Value {
    json!({
        "ociVersion": "1.2.0",
        "process": process(args),
        "root": {"path": "rootfs"},
        "hostname": "boat",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["ro", "nosuid", "noexec", "nodev", "relatime"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "network"}, {"type": "cgroup"},
            ],
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "maskedPaths": [
                "/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys",
                "/proc/latency_stats", "/proc/timer_list", "/proc/timer_stats",
                "/proc/sched_debug", "/proc/scsi", "/sys/firmware",
                "/sys/devices/virtual/powercap",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}
