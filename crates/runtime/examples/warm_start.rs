//! Measures the warm path: filling and starting an empty container that is ready.
//!
//! `warm_start ROUNDS < launch.json` in a mount and network namespace of its own; prints the
//! median times, and the steps of the last start.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "this is a measurement"
)]

use runtime::{Blank, BlankOptions, Cgroup, Fill, Launch, Root, Stdio};
use std::os::fd::AsFd as _;
use sys::process::{monotonic_ns, wait_pidfd};

fn main() {
    let rounds: usize = std::env::args()
        .nth(1)
        .map_or(50, |rounds| rounds.parse().unwrap());
    let mut launch: Launch = serde_json::from_reader(std::io::stdin()).unwrap();
    let parent = launch
        .spec
        .linux()
        .as_ref()
        .unwrap()
        .cgroups_path()
        .clone()
        .unwrap();
    let null = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let netns = std::fs::File::open("/proc/self/ns/net").unwrap();
    let (mut starts, mut exits) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let id = format!("round{round}");
        if let Root::Overlay { upper, work, .. } = &mut launch.root {
            *upper = upper.with_file_name(format!("{id}-upper"));
            *work = work.with_file_name(format!("{id}-work"));
            std::fs::create_dir_all(&upper).unwrap();
            std::fs::create_dir_all(&work).unwrap();
        }
        launch
            .spec
            .linux_mut()
            .as_mut()
            .unwrap()
            .set_cgroups_path(Some(parent.join(&id)));
        launch.trace = round + 1 == rounds;
        let mut options = BlankOptions::ordinary(Some(parent.join(format!("ready{round}"))));
        options
            .resources
            .clone_from(launch.spec.linux().as_ref().unwrap().resources());
        let blank = Blank::create(&options).unwrap();
        // The attach to v1 cgroups settles meanwhile, as it does in a pool.
        rustix::event::poll(
            &mut [],
            Some(&rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: 20_000_000,
            }),
        )
        .unwrap();
        let start = monotonic_ns();
        let stdio = Stdio::Fds([null.as_fd(), null.as_fd(), null.as_fd()]);
        let running = blank
            .run(
                &launch,
                &Fill {
                    netns: Some(netns.as_fd()),
                    stdio,
                },
            )
            .unwrap();
        let started = monotonic_ns();
        wait_pidfd(running.pidfd.as_fd()).unwrap();
        let ended = monotonic_ns();
        starts.push((started - start) / 1000);
        exits.push((ended - start) / 1000);
        for step in &running.steps {
            println!(
                "{:>7} +{:>5} µs  {}",
                (step.start_ns - start) / 1000,
                step.duration_ns / 1000,
                step.name
            );
        }
        drop(running.mount_namespace);
        running.cgroup.unwrap().remove().unwrap();
    }
    Cgroup::at(&parent).unwrap().remove().unwrap();
    for (name, times) in [("execve", &mut starts), ("exit seen", &mut exits)] {
        times.sort_unstable();
        println!(
            "{name}: median {} µs, least {} µs",
            times[times.len() / 2],
            times[0]
        );
    }
}
