//! `list`, `ps`, `features`, `spec`, `--version`.

use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    Context, Outcome,
    args::{Args, Flag},
    print,
};

/// The present moment in RFC 3339.
pub(super) fn now() -> String {
    OffsetDateTime::now_utc()
        .format(&Rfc3339)
        .unwrap_or_default()
}

/// The newest specification that this runtime was written against.
const SPECIFICATION: &str = "1.2.0";

pub(super) fn version() -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    print(&format!(
        "berth-runtime version {version}\nspec: {SPECIFICATION}\n"
    ))?;
    Ok(0)
}

pub(super) fn list(context: &Context, words: &[String]) -> Outcome {
    const FLAGS: &[Flag] = &[(&["format", "f"], true), (&["quiet", "q"], false)];
    let args = Args::parse(words, FLAGS)?;
    let records: Vec<_> = context
        .store
        .ids()
        .into_iter()
        .filter_map(|id| context.store.load(&id).ok())
        .map(|record| {
            let status = record.status(&context.store.directory(&record.id));
            (record, status)
        })
        .collect();
    let text = if args.has("quiet") {
        records
            .iter()
            .map(|(record, _)| format!("{}\n", record.id))
            .collect()
    } else if args.value("format") == Some("json") {
        let shown: Vec<_> = records
            .iter()
            .map(|(record, status)| record.shown(*status))
            .collect();
        format!("{}\n", serde_json::to_string(&shown).unwrap_or_default())
    } else {
        let header = format!("{:<30} {:<8} {:<8} {}\n", "ID", "PID", "STATUS", "BUNDLE");
        let rows = records.iter().map(|(record, status)| {
            let shown = record.shown(*status);
            let status = serde_json::to_value(status).unwrap_or_default();
            let status = status.as_str().unwrap_or_default().to_owned();
            format!(
                "{:<30} {:<8} {status:<8} {}\n",
                shown.id,
                shown.pid,
                shown.bundle.display()
            )
        });
        [header].into_iter().chain(rows).collect::<String>()
    };
    print(&text)?;
    Ok(0)
}

pub(super) fn ps(context: &Context, words: &[String]) -> Outcome {
    const FLAGS: &[Flag] = &[(&["format", "f"], true)];
    let args = Args::parse(words, FLAGS)?;
    let pids = context.store.load(args.id()?)?.cgroup()?.procs()?;
    let text = if args.value("format") == Some("json") {
        format!("{}\n", json!(pids))
    } else {
        let rows = pids.iter().map(|pid| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
            let command = command.unwrap_or_default().replace('\0', " ");
            format!("{pid:<8} {}\n", command.trim_end())
        });
        [format!("{:<8} {}\n", "PID", "CMD")]
            .into_iter()
            .chain(rows)
            .collect()
    };
    print(&text)?;
    Ok(0)
}

pub(super) fn features() -> Outcome {
    let capabilities: Vec<String> = sys::capability::NAMES
        .iter()
        .map(|name| format!("CAP_{name}"))
        .collect();
    let features = json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": SPECIFICATION,
        "hooks": [
            "prestart", "createRuntime", "createContainer", "startContainer", "poststart",
            "poststop",
        ],
        "mountOptions": crate::options::WORDS,
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": {
                "v1": true, "v2": true, "systemd": false, "systemdUser": false, "rdma": false,
            },
            "seccomp": {"enabled": true},
            "apparmor": {"enabled": true},
            "selinux": {"enabled": true},
            "intelRdt": {"enabled": false},
            "mountExtensions": {"idmap": {"enabled": false}},
        },
    });
    print(&format!(
        "{}\n",
        serde_json::to_string_pretty(&features).unwrap_or_default()
    ))?;
    Ok(0)
}

pub(super) fn spec(words: &[String]) -> Outcome {
    const FLAGS: &[Flag] = &[(&["bundle", "b"], true)];
    let args = Args::parse(words, FLAGS)?;
    let path = std::path::Path::new(args.value("bundle").unwrap_or(".")).join("config.json");
    let text = serde_json::to_string_pretty(&default_document()).unwrap_or_default();
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create_new(true)
        .open(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(0)
}

fn default_document() -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": SPECIFICATION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm",
            ],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "berth",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": [
                "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5",
             ]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
                {"type": "mount"}, {"type": "cgroup"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                "/proc/scsi",
            ],
            "readonlyPaths": [
                "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger",
            ],
        },
    })
}
