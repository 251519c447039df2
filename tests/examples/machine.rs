//! Starts a machine with a daemon and a registry, runs a command in it, and looks for leaks:
//! `cargo run -p e2e --example machine -- sh -c 'docker run --rm busybox true'`.

use e2e::machine::Machine;

fn main() {
    let mut machine = Machine::new();
    machine.start_registry();
    machine.start_daemon();
    let mut args = std::env::args().skip(1);
    let status = machine
        .namespace
        .command(&args.next().unwrap_or_else(|| "bash".to_owned()))
        .args(args)
        .env(
            "DOCKER_HOST",
            format!("unix://{}", machine.socket().display()),
        )
        .env(
            "BERTH_HOST",
            format!("unix://{}", machine.socket().display()),
        )
        .env("M", machine.path(""))
        .status();
    drop(status);
    let report = machine.daemon_log();
    std::io::Write::write_all(&mut std::io::stderr(), report.as_bytes()).ok();
    machine.finish();
}
