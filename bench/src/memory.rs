//! Memory: what each running container costs beside itself, and what a daemon costs at rest.

use std::fs;

use crate::engines::{Engine, REGISTRY, berth};
use crate::report::Report;

/// Starts `count` sleeping containers per engine and looks at the processes beside them.
pub(crate) fn measure(engines: &[Engine], count: usize, report: &mut Report) {
    if let Ok(meta) = fs::metadata(berth()) {
        report.add("binary (MB)", "berth", megabytes(meta.len()));
    }
    for engine in engines.iter().filter(|engine| engine.is_engine()) {
        eprintln!("bench: memory of {}, {count} containers", engine.name);
        if let Some(daemon) = engine.daemon_pid() {
            report.add("daemon, RSS (MB)", engine.name, megabytes(resident(daemon)));
        }
        engine.group.enter();
        let image = format!("{REGISTRY}/library/busybox:latest");
        let ids: Vec<String> = (0..count)
            .map(|_| {
                let mut args = vec!["run", "-d", "--network", "none"];
                args.extend(engine.placement());
                args.extend([image.as_str(), "sleep", "1000"]);
                engine.output(&args)
            })
            .collect();
        let private: u64 = shims(engine, &ids).into_iter().map(private_memory).sum();
        #[expect(clippy::cast_precision_loss, reason = "a handful of containers")]
        let per_container = megabytes(private) / count as f64;
        report.add(
            "private memory per container (MB)",
            engine.name,
            per_container,
        );
        let mut remove = vec!["rm", "-f"];
        remove.extend(ids.iter().map(String::as_str));
        engine.output(&remove);
    }
}

/// The monitors: processes of the engine's that know a container's ID by their command line.
fn shims(engine: &Engine, ids: &[String]) -> Vec<u32> {
    let daemon = engine.daemon_pid();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| Some(pid) != daemon && pid != std::process::id())
        .filter(|&pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            ids.iter().any(|id| line.contains(id.as_str()))
                || (engine.group.processes().contains(&pid) && line.contains("shim"))
        })
        .collect()
}

fn private_memory(pid: u32) -> u64 {
    field_sum(
        &format!("/proc/{pid}/smaps_rollup"),
        &["Private_Clean:", "Private_Dirty:"],
    )
}

fn resident(pid: u32) -> u64 {
    field_sum(&format!("/proc/{pid}/status"), &["VmRSS:"])
}

fn field_sum(file: &str, fields: &[&str]) -> u64 {
    fs::read_to_string(file)
        .unwrap_or_default()
        .lines()
        .filter(|line| fields.iter().any(|field| line.starts_with(field)))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .sum::<u64>()
        * 1024
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
