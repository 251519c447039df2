//! A root file system of busybox, cgroups with a name of their own, and clients to attach.

use engine::shims::{
    AttachOptions, Attachment, IoSettings, LaunchRequest, LogTarget, ShimOptions, Shims,
};
use model::ContainerId;
use runtime::{Cgroup, Launch};
use serde_json::{Value, json};
use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

static FIXTURES: AtomicU32 = AtomicU32::new(0);

const APPLETS: [&str; 15] = [
    "sh", "grep", "true", "cat", "echo", "sleep", "stty", "head", "tr", "yes", "kill", "wc",
    "printf", "seq", "unshare",
];

/// What one test has.
pub(crate) struct Fixture {
    directory: tempfile::TempDir,
    cgroups: String,
    next: Cell<u8>,
}

/// One started container's surroundings.
pub(crate) struct Place {
    pub(crate) id: ContainerId,
    pub(crate) log: PathBuf,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let lower = directory.path().join("lower");
        for name in ["bin", "etc", "proc", "sys", "dev", "tmp", "root"] {
            std::fs::create_dir_all(lower.join(name)).unwrap();
        }
        std::fs::copy("/bin/busybox", lower.join("bin/busybox")).unwrap();
        for name in APPLETS {
            symlink("busybox", lower.join("bin").join(name)).unwrap();
        }
        let number = FIXTURES.fetch_add(1, Ordering::Relaxed);
        Self {
            directory,
            cgroups: format!("/berth-shims-test-{}-{number}", std::process::id()),
            next: Cell::new(0),
        }
    }

    pub(crate) fn shims(&self, pool_size: usize) -> Shims {
        Shims::new(ShimOptions {
            exe: "/proc/self/exe".into(),
            exec_root: self.directory.path().join("run"),
            pool_size,
            cgroup_parent: self.cgroups.clone(),
        })
    }

    pub(crate) fn place(&self) -> Place {
        self.next.set(self.next.get() + 1);
        let id = ContainerId::from_random([self.next.get(); 32]);
        let log = self
            .directory
            .path()
            .join(format!("{}-json.log", id.short()));
        Place { id, log }
    }

    /// A launch of `args`, logged, with no terminal and no stdin.
    pub(crate) fn request(&self, place: &Place, args: &[&str]) -> LaunchRequest {
        let path = |name: &str| {
            let path = self.directory.path().join(format!("{}-{name}", place.id));
            std::fs::create_dir(&path).unwrap();
            path
        };
        let cgroup = format!("{}/{}", self.cgroups, place.id);
        let launch: Launch = serde_json::from_value(json!({
            "spec": spec(args, &cgroup),
            "root": {"overlay": {
                "lower": [self.directory.path().join("lower")],
                "upper": path("upper"), "work": path("work"), "volatile": true,
            }},
        }))
        .unwrap();
        LaunchRequest {
            launch,
            io: IoSettings::default(),
            log: LogTarget::JsonFile {
                path: place.log.clone(),
                max_size_bytes: None,
                max_files: 1,
            },
            netns: None,
            attach: Vec::new(),
        }
    }

    /// Waits until no process, cgroup or mount of ours is left; says what is, if some is.
    pub(crate) async fn nothing_is_left(&self) -> bool {
        let mut left = String::new();
        for _ in 0..100 {
            left = self.left();
            if left.is_empty() {
                let parent = Cgroup::at(Path::new(&self.cgroups)).unwrap();
                return parent.remove().is_ok();
            }
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        println!("left behind: {left}");
        // Told once is enough: the next test and the machine shall not suffer from it.
        let parent = Cgroup::at(Path::new(&self.cgroups)).unwrap();
        let ended = parent.kill().and_then(|()| parent.remove());
        println!("ended: {ended:?}");
        false
    }

    fn left(&self) -> String {
        let mut left = String::new();
        let own = std::process::id().to_string();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat
                .rsplit_once(") ")
                .and_then(|(_, rest)| rest.split(' ').nth(1).map(str::to_owned));
            if parent.as_ref() == Some(&own) {
                left.push_str(&stat);
            }
        }
        let groups = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
        for entry in groups {
            let path = entry.path().join(self.cgroups.trim_start_matches('/'));
            for child in std::fs::read_dir(path).into_iter().flatten().flatten() {
                if child.path().is_dir() {
                    left.push_str(&child.path().display().to_string());
                }
            }
        }
        left
    }
}

/// A client's side of an attachment.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
}

impl Client {
    /// Makes a connection; the attachment is what the daemon hands on.
    pub(crate) fn connect(stdin: bool, keys: &str) -> (Self, Attachment) {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let attachment = Attachment {
            options: AttachOptions {
                stdin,
                stdout: true,
                stderr: true,
                detach_keys: keys.parse().unwrap(),
            },
            stream: OwnedFd::from(theirs),
            read_ahead: Vec::new(),
        };
        let stream = UnixStream::from_std(ours).unwrap();
        (Self { stream }, attachment)
    }

    pub(crate) async fn type_in(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn end_stdin(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Reads a raw stream to its end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8(bytes).unwrap()
    }

    /// Reads a raw stream until it holds `text`.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        let mut seen = String::new();
        while !seen.contains(text) {
            let mut chunk = [0; 4096];
            let count = self.stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "ended after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
        seen
    }

    /// Reads frames to the stream's end: stdout and stderr.
    pub(crate) async fn frames(&mut self) -> (String, String) {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).await.unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut rest = bytes.as_slice();
        while let Some((header, tail)) = rest.split_first_chunk::<8>() {
            let length = u32::from_be_bytes(header[4..].try_into().unwrap()) as usize;
            let (body, tail) = tail.split_at(length);
            match header[0] {
                1 => out.extend_from_slice(body),
                2 => err.extend_from_slice(body),
                other => panic!("frame of stream {other}"),
            }
            rest = tail;
        }
        assert!(rest.is_empty());
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(out), text(err))
    }
}

/// The text of one stream in a log.
pub(crate) fn logged(log: &Path, stream: &str) -> String {
    std::fs::read_to_string(log)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|entry| entry["stream"] == stream)
        .map(|entry| entry["log"].as_str().unwrap().to_owned())
        .collect()
}

/// A process as in the OCI document.
pub(crate) fn process(args: &[&str]) -> Value {
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/bin"],
        "cwd": "/",
        "capabilities": {
            "bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"],
        },
    })
}

fn spec(args: &[&str], cgroup: &str) -> Value {
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
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "namespaces": [
                {"type": "mount"}, {"type": "pid"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "network"}, {"type": "cgroup"},
            ],
            "resources": {},
        },
    })
}
