//! The pull of a real image, beside the plainest thing that does the same work: `pigz -dc | tar x`
//! of the same layers, two at once, without network, hashing or promises.

use std::fs;
use std::process::Command;
use std::time::Instant;

use crate::engines::{Bench, Engine, REGISTRY, shell};
use crate::image::{self, BIG};
use crate::report::Report;

const PULL: &str = "pull of the big image (s)";

/// Measures every engine in turn, `rounds` times.
pub(crate) fn measure(bench: &Bench, engines: &[Engine], rounds: usize, report: &mut Report) {
    let layout = image::layout();
    let digests = e2e::layout::layer_digests(&layout, BIG);
    let blobs: Vec<_> = digests
        .iter()
        .map(|digest| image::blob(&layout, digest))
        .collect();
    let size: u64 = blobs
        .iter()
        .map(|blob| fs::metadata(blob).unwrap().len())
        .sum();
    eprintln!(
        "bench: pull of {} layers, {} MB compressed",
        blobs.len(),
        size / 1_000_000
    );
    for _ in 0..rounds {
        report.add(PULL, "pigz | tar", unpack(bench, &blobs));
        for engine in engines.iter().filter(|engine| engine.is_engine()) {
            engine.group.enter();
            shell("sync");
            let started = Instant::now();
            engine.pull(BIG);
            report.add(PULL, engine.name, started.elapsed().as_secs_f64());
            engine.output(&["rmi", &format!("{REGISTRY}/{BIG}")]);
            bench.leave_groups();
        }
    }
}

fn unpack(bench: &Bench, blobs: &[std::path::PathBuf]) -> f64 {
    let target = bench.scratch("unpacked");
    fs::create_dir_all(&target).unwrap();
    shell("sync");
    let started = Instant::now();
    let status = Command::new("sh")
        .args([
            "-ec",
            r#"cd "$1"; shift; printf '%s\n' "$@" | xargs -P 2 -I{} sh -ec \
               'd=$(mktemp -d -p .); pigz -dc "$1" | tar -x -C "$d"' unpack {}"#,
            "unpack",
        ])
        .arg(&target)
        .args(blobs)
        .status()
        .unwrap();
    let took = started.elapsed().as_secs_f64();
    assert!(status.success());
    fs::remove_dir_all(target).unwrap();
    took
}
