//! Berth beside its peers and beside the floor, on one machine, in one run, in turn.
//!
//! `cargo run --release -p bench` builds Berth, makes a network and a mount namespace, starts a
//! registry, Berth, Debian's dockerd and what podman and crun need in it, and measures:
//!
//! - the time and CPU of `run --rm busybox true`, with no network and with the bridge;
//! - the pull of a real image of several hundred megabytes, beside `pigz -dc | tar x`;
//! - the private memory per running container, and the daemon's;
//! - the binary.
//!
//! Rounds are interleaved: each engine runs once, then each again, so that a busy moment of the
//! machine hits all alike. Medians and ratios go to standard output, all samples to a JSON file.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring program for developers: it prints, and stops where it cannot measure"
)]

mod cpu;
mod engines;
mod image;
mod memory;
mod pull;
mod report;
mod runs;

use std::path::PathBuf;
use std::process::Command;

use engines::{Bench, Engine};
use report::Report;

/// What to measure, from the command line.
struct Options {
    build: bool,
    rounds: usize,
    pulls: usize,
    containers: usize,
    engines: Vec<String>,
    json: PathBuf,
}

fn main() {
    let options = parse(std::env::args().skip(1));
    // The floor's `unshare` and the peers' daemons must not touch the machine's own namespaces,
    // and a client must not pay for entering ours: so the whole program moves in first.
    if std::env::var_os("BERTH_BENCH_INSIDE").is_none() {
        if options.build {
            build();
        }
        e2e::bootstrap::cache();
        image::layout();
        let status = Command::new("unshare")
            .args(["--mount", "--net", "--propagation", "private"])
            .arg(std::env::current_exe().unwrap())
            .args(std::env::args().skip(1))
            .env("BERTH_BENCH_INSIDE", "1")
            .status()
            .unwrap();
        assert!(status.success(), "the measuring part ended with {status}");
        return;
    }
    let bench = Bench::start();
    let engines: Vec<Engine> = bench.engines(&options.engines);
    let mut report = Report::new();
    runs::measure(&bench, &engines, options.rounds, &mut report);
    memory::measure(&engines, options.containers, &mut report);
    pull::measure(&bench, &engines, options.pulls, &mut report);
    drop(engines);
    drop(bench);
    print!("{}", report.table());
    std::fs::write(&options.json, report.json()).unwrap();
    println!("\nall samples: {}", options.json.display());
}

fn parse(mut args: impl Iterator<Item = String>) -> Options {
    let mut options = Options {
        build: true,
        rounds: 40,
        pulls: 3,
        containers: 10,
        engines: Vec::new(),
        json: "target/bench.json".into(),
    };
    while let Some(flag) = args.next() {
        let mut value = || {
            args.next()
                .unwrap_or_else(|| panic!("{flag} needs a value"))
        };
        match flag.as_str() {
            "--no-build" => options.build = false,
            "--rounds" => options.rounds = value().parse().unwrap(),
            "--pulls" => options.pulls = value().parse().unwrap(),
            "--containers" => options.containers = value().parse().unwrap(),
            "--only" => options.engines = value().split(',').map(str::to_owned).collect(),
            "--json" => options.json = value().into(),
            _ => panic!(
                "unknown flag {flag}; there are --no-build, --rounds N, --pulls N, --containers N, \
                 --only berth,docker,podman,crun,floor, --json FILE"
            ),
        }
    }
    options
}

fn build() {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--quiet", "--package", "berth"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(status.success(), "cargo build --release -p berth failed");
}
