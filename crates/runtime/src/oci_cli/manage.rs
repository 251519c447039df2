//! `state`, `kill`, `delete`, `pause`, `resume`, `update`.

use std::{io::Read as _, os::fd::AsFd as _};

use model::Signal;
use oci_spec::runtime::LinuxResources;
use serde_json::{Map, Value, json};

use super::{
    Context, Failure, Outcome,
    args::{Args, Flag},
    print,
    state::{Record, Status},
};
use crate::hooks;

fn load(context: &Context, args: &Args) -> Result<(Record, Status), Failure> {
    let record = context.store.load(args.id()?)?;
    let status = record.status(&context.store.directory(&record.id));
    Ok((record, status))
}

pub(super) fn state(context: &Context, words: &[String]) -> Outcome {
    let (record, status) = load(context, &Args::parse(words, &[])?)?;
    print(&format!("{}\n", record.json(status)))?;
    Ok(0)
}

pub(super) fn kill(context: &Context, words: &[String]) -> Outcome {
    const ALL: &[Flag] = &[(&["all", "a"], false)];
    let args = Args::parse(words, ALL)?;
    let (record, status) = load(context, &args)?;
    // conmon writes the flag after the id and the signal.
    let words: Vec<&String> = args
        .rest
        .iter()
        .skip(1)
        .filter(|word| !matches!(word.as_str(), "--all" | "-a"))
        .collect();
    let all = args.has("all") || words.len() + 1 != args.rest.len();
    let name = words.first().map_or("SIGTERM", |name| name.as_str());
    let signal: Signal = name
        .parse()
        .map_err(|_| format!("unknown signal {name:?}"))?;
    let number = signal.number();
    if all {
        let cgroup = record.cgroup()?;
        let pids = cgroup.procs().unwrap_or_default();
        if number == 9 {
            cgroup.kill()?;
        } else {
            pids.iter()
                .for_each(|&pid| sys::process::kill(pid, number).unwrap_or(()));
        }
        return Ok(0);
    }
    if status == Status::Stopped {
        return Err("container not running".into());
    }
    send(&record, number)?;
    if number == 9 && status == Status::Paused {
        // The frozen cannot die.
        record.cgroup()?.thaw()?;
    }
    Ok(0)
}

fn send(record: &Record, signal: i32) -> Result<(), Failure> {
    let pid = rustix::process::Pid::from_raw(record.pid).ok_or("container has no process")?;
    let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())
        .map_err(|_| "container not running")?;
    // The descriptor cannot be reused; the number could have been before it was opened.
    if super::state::start_time(record.pid) != Some(record.start_time) {
        return Err("container not running".into());
    }
    sys::process::pidfd_signal(pidfd.as_fd(), signal)
        .map_err(|error| format!("signal {signal}: {error}").into())
}

pub(super) fn delete(context: &Context, words: &[String]) -> Outcome {
    const FORCE: &[Flag] = &[(&["force", "f"], false)];
    let args = Args::parse(words, FORCE)?;
    let force = args.has("force");
    let id = args.id()?;
    let record = match context.store.load(id) {
        Ok(record) => record,
        Err(_) if force => {
            // Half-made, or not there at all.
            context.store.remove(id)?;
            return Ok(0);
        }
        Err(message) => return Err(message.into()),
    };
    match record.status(&context.store.directory(id)) {
        Status::Stopped => {}
        Status::Created | Status::Creating => end(&record)?,
        Status::Running | Status::Paused if force => end(&record)?,
        Status::Running | Status::Paused => {
            let message = format!("cannot delete container {id} that is not stopped");
            return Err(message.into());
        }
    }
    remove(context, &record)?;
    Ok(0)
}

/// Kills the container and waits for its end.
fn end(record: &Record) -> Result<(), Failure> {
    send(record, 9).ok();
    record.cgroup()?.kill()?;
    Ok(())
}

/// Forgets a stopped container.
pub(super) fn remove(context: &Context, record: &Record) -> Result<(), Failure> {
    let cgroup = record.cgroup()?;
    // Processes that shared another's pid namespace outlive the first one.
    cgroup.kill()?;
    cgroup.remove()?;
    context.store.remove(&record.id)?;
    // The container is gone, whatever a hook says.
    hooks::run("poststop", &record.poststop, &record.json(Status::Stopped)).ok();
    Ok(())
}

pub(super) fn pause(context: &Context, words: &[String]) -> Outcome {
    let (record, status) = load(context, &Args::parse(words, &[])?)?;
    if !matches!(status, Status::Running | Status::Created) {
        return Err("container not running".into());
    }
    record.cgroup()?.freeze()?;
    Ok(0)
}

pub(super) fn resume(context: &Context, words: &[String]) -> Outcome {
    let (record, status) = load(context, &Args::parse(words, &[])?)?;
    if status != Status::Paused {
        return Err("container not paused".into());
    }
    record.cgroup()?.thaw()?;
    Ok(0)
}

/// A flag of `update`, and the place of its value in the document.
const LIMITS: [(&str, [&str; 2]); 11] = [
    ("memory", ["memory", "limit"]),
    ("memory-swap", ["memory", "swap"]),
    ("memory-reservation", ["memory", "reservation"]),
    ("cpu-period", ["cpu", "period"]),
    ("cpu-quota", ["cpu", "quota"]),
    ("cpu-share", ["cpu", "shares"]),
    ("cpu-burst", ["cpu", "burst"]),
    ("pids-limit", ["pids", "limit"]),
    ("blkio-weight", ["blockIO", "weight"]),
    ("cpuset-cpus", ["cpu", "cpus"]),
    ("cpuset-mems", ["cpu", "mems"]),
];

pub(super) fn update(context: &Context, words: &[String]) -> Outcome {
    const FLAGS: &[Flag] = &[
        (&["resources", "r"], true),
        (&["memory"], true),
        (&["memory-swap"], true),
        (&["memory-reservation"], true),
        (&["cpu-period"], true),
        (&["cpu-quota"], true),
        (&["cpu-share"], true),
        (&["cpu-burst"], true),
        (&["pids-limit"], true),
        (&["blkio-weight"], true),
        (&["cpuset-cpus"], true),
        (&["cpuset-mems"], true),
    ];
    let args = Args::parse(words, FLAGS)?;
    let (record, status) = load(context, &args)?;
    if status == Status::Stopped {
        return Err("container not running".into());
    }
    let document = match args.value("resources") {
        Some(path) => read_document(path)?,
        None => from_flags(&args),
    };
    let resources: LinuxResources =
        serde_json::from_value(document).map_err(|error| format!("resources: {error}"))?;
    record.cgroup()?.apply(&resources)?;
    Ok(0)
}

fn read_document(path: &str) -> Result<Value, Failure> {
    let mut text = String::new();
    let read = if path == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(path).map(|content| text = content)
    };
    read.map_err(|error| format!("{path}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{path}: {error}").into())
}

fn from_flags(args: &Args) -> Value {
    let mut document = Map::new();
    for (flag, [section, key]) in LIMITS {
        if let Some(text) = args.value(flag) {
            let number = text
                .parse::<i64>()
                .ok()
                .filter(|_| !flag.starts_with("cpuset"));
            let value = number.map_or_else(|| json!(text), |number| json!(number));
            let section = document.entry(section).or_insert_with(|| json!({}));
            section[key] = value;
        }
    }
    Value::Object(document)
}
