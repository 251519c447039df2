//! `run --rm busybox true`: wall time and CPU, engines in turn.

use std::process::Stdio;
use std::time::Instant;

use crate::engines::{Bench, Engine, Net};
use crate::report::Report;

/// Runs before measuring, so that caches, pools and page tables are warm for all alike.
const WARM_UP: usize = 3;

/// Measures every engine in turn, `rounds` times.
pub(crate) fn measure(bench: &Bench, engines: &[Engine], rounds: usize, report: &mut Report) {
    for net in [Net::None, Net::Bridge] {
        let kind = if net == Net::None {
            "no network"
        } else {
            "bridge"
        };
        eprintln!("bench: run --rm busybox true, {kind}, {rounds} rounds");
        for round in 0..rounds + WARM_UP {
            for engine in engines {
                let Some(mut command) = engine.run_true(bench, net) else {
                    continue;
                };
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::piped());
                engine.group.enter();
                let used_before = engine.group.used();
                let started = Instant::now();
                let out = command.spawn().unwrap().wait_with_output().unwrap();
                let took = started.elapsed();
                // What an engine leaves for later (removal, refilling pools) is its cost as well.
                e2e::wait::pause(std::time::Duration::from_millis(60));
                let used = engine.group.used().saturating_sub(used_before);
                bench.leave_groups();
                assert!(
                    out.status.success(),
                    "{}: {}",
                    engine.name,
                    String::from_utf8_lossy(&out.stderr)
                );
                if round >= WARM_UP {
                    report.add(
                        &format!("run, {kind} (ms)"),
                        engine.name,
                        took.as_secs_f64() * 1e3,
                    );
                    report.add(
                        &format!("CPU of a run, {kind} (ms)"),
                        engine.name,
                        used.as_secs_f64() * 1e3,
                    );
                }
            }
        }
    }
}
