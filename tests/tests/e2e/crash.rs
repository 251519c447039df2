//! The daemon dies in the middle of everything; containers, their terminals and logs do not.

use e2e::machine::Client;
use e2e::{scenario, wait_until};

#[test]
fn a_shell_goes_on_through_the_daemons_death() {
    scenario(|machine| {
        let args = [
            "run",
            "-it",
            "--name",
            "box",
            "-e",
            "PS1=prompt> ",
            "busybox",
            "sh",
        ];
        let mut terminal = machine.terminal(Client::Berth, &args);
        terminal.expect("prompt> ");
        terminal.send("marker=kept; echo first\n");
        terminal.expect("first");
        terminal.expect("prompt> ");

        machine.kill_daemon();
        terminal.send("echo while-$((1+1))-dead $marker\n");
        terminal.expect("while-2-dead kept");

        machine.start_daemon();
        terminal.send("echo after-$((2+2)) $marker\n");
        terminal.expect("after-4 kept");
        assert_eq!(
            machine
                .docker(&["ps", "--format", "{{.Names}} {{.State}}"])
                .ok(),
            "box running"
        );

        // A second client, attached by the new daemon.
        let mut second = machine.terminal(Client::Docker, &["attach", "box"]);
        e2e::wait::pause(std::time::Duration::from_millis(300));
        second.send("echo second-$((3+3))\n");
        second.expect("second-6");
        terminal.expect("second-6");

        let logs = machine.docker(&["logs", "box"]).ok().to_owned();
        for part in ["first", "while-2-dead kept", "after-4 kept", "second-6"] {
            assert!(logs.contains(part), "{part:?} in the log:\n{logs}");
        }
        second.send("exit 5\n");
        assert_eq!(machine.docker(&["wait", "box"]).ok(), "5");
        wait_until("its end is recorded", || {
            (machine.inspect("box")["State"]["ExitCode"] == 5).then_some(())
        });
    });
}

#[test]
fn a_daemon_finds_what_ended_while_it_was_dead() {
    scenario(|machine| {
        let script = "sleep 0.5; echo last words; exit 33";
        machine
            .berth(&["run", "-d", "--name", "ends", "busybox", "sh", "-c", script])
            .ok();
        machine
            .berth(&[
                "run", "-d", "--rm", "--name", "vanishes", "busybox", "sleep", "0.5",
            ])
            .ok();
        machine
            .berth(&["run", "-d", "--name", "stays", "busybox", "sleep", "1000"])
            .ok();
        let pid = machine.inspect("ends")["State"]["Pid"].as_u64().unwrap();
        machine.kill_daemon();
        wait_until("the container ended", || {
            (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
        machine.start_daemon();
        machine.wait_for_status("ends", "exited");
        assert_eq!(machine.inspect("ends")["State"]["ExitCode"], 33);
        assert_eq!(machine.berth(&["logs", "ends"]).ok(), "last words");
        wait_until("--rm is kept as promised", || {
            (machine.api("GET", "/containers/vanishes/json", "").status == 404).then_some(())
        });
        assert_eq!(machine.inspect("stays")["State"]["Running"], true);
        machine.docker(&["stop", "-t", "0", "stays"]).ok();
        assert_eq!(machine.inspect("stays")["State"]["ExitCode"], 137);
    });
}

#[test]
fn a_polite_restart_changes_nothing_for_containers() {
    scenario(|machine| {
        let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";
        machine
            .berth(&[
                "run", "-d", "--name", "counts", "busybox", "sh", "-c", script,
            ])
            .ok();
        let pid = machine.inspect("counts")["State"]["Pid"].clone();
        for _ in 0..3 {
            machine.stop_daemon();
            machine.start_daemon();
        }
        assert_eq!(machine.inspect("counts")["State"]["Pid"], pid);
        machine.berth(&["exec", "counts", "true"]).ok();
        wait_until("it has counted on", || {
            (machine.berth(&["logs", "counts"]).ok().lines().count() > 10).then_some(())
        });
        machine.berth(&["stop", "-t", "0", "counts"]).ok();
        let log = machine.berth(&["logs", "counts"]).ok().to_owned();
        for (expected, line) in log.lines().enumerate() {
            assert_eq!(line, expected.to_string(), "no line is lost or doubled");
        }
        assert!(log.lines().count() > 10);
    });
}

#[test]
fn killed_again_and_again_in_the_middle_of_starts() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for round in 0..8_u64 {
            let mut client = machine
                .berth_command(&["run", "--rm", "busybox", "sleep", "0.2"])
                .stdin(std::process::Stdio::null())
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap();
            e2e::wait::pause(std::time::Duration::from_millis(3 + round * 4));
            machine.kill_daemon();
            client.wait().unwrap();
            machine.start_daemon();
        }
        // Whatever stage each had reached: nothing runs on, and what is known can be removed.
        wait_until("no container runs for ever", || {
            let running = machine.docker(&["ps", "-q"]);
            running.ok().is_empty().then_some(())
        });
        assert_eq!(
            machine
                .berth(&["run", "--rm", "busybox", "echo", "fine"])
                .ok(),
            "fine"
        );
    });
}

#[test]
fn a_killed_shim_is_noticed() {
    scenario(|machine| {
        let id = machine.berth(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
        let id = id.ok().to_owned();
        let pid = machine.inspect("box")["State"]["Pid"].as_u64().unwrap();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let shim = status
            .lines()
            .find_map(|line| line.strip_prefix("PPid:"))
            .unwrap()
            .trim();
        e2e::machine::signal(shim.parse().unwrap(), "KILL");
        wait_until("the container is told dead", || {
            (machine.inspect(&id)["State"]["Running"] == false).then_some(())
        });
        wait_until("and is", || {
            (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
        });
    });
}
