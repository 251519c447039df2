//! Standard streams without a terminal: half-close, several clients, signals.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use e2e::machine::{Client, signal};
use e2e::{scenario, wait_until};

#[test]
fn stdin_is_half_closed() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for client in Client::ALL {
            let command = machine.client_command(client, &["run", "--rm", "-i", "busybox", "cat"]);
            let out = e2e::command::run(command, b"hi\n");
            assert_eq!(out.ok(), "hi");
            let command =
                machine.client_command(client, &["run", "--rm", "-i", "busybox", "wc", "-c"]);
            let megabytes = vec![b'x'; 3_000_000];
            assert_eq!(e2e::command::run(command, &megabytes).ok(), "3000000");
        }
    });
}

#[test]
fn without_i_stdin_is_empty() {
    scenario(|machine| {
        for client in Client::ALL {
            let command = machine.client_command(client, &["run", "--rm", "busybox", "wc", "-c"]);
            assert_eq!(e2e::command::run(command, b"not read").ok(), "0");
        }
    });
}

#[test]
fn signals_are_passed_on() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for client in Client::ALL {
            let script =
                "trap 'echo got term; exit 5' TERM; echo ready; while :; do sleep 0.1; done";
            let mut child = machine
                .client_command(client, &["run", "--rm", "busybox", "sh", "-c", script])
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "ready");
            // `timeout` hands the signal to the client it watches.
            signal(child.id(), "TERM");
            assert_eq!(lines.next().unwrap().unwrap(), "got term");
            child.wait().unwrap();
        }
    });
}

#[test]
fn several_clients_see_the_same_output_and_share_the_input() {
    scenario(|machine| {
        let id = machine
            .berth(&["run", "-d", "-i", "busybox", "cat"])
            .ok()
            .to_owned();
        let attach = |client| {
            machine
                .client_command(client, &["attach", &id])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut clients = [
            attach(Client::Berth),
            attach(Client::Docker),
            attach(Client::Berth),
        ];
        let mut outputs: Vec<_> = clients
            .iter_mut()
            .map(|c| BufReader::new(c.stdout.take().unwrap()))
            .collect();
        // All are attached once a line that one types reaches each: until then it is typed again.
        e2e::wait::pause(std::time::Duration::from_millis(500));
        for (index, client) in clients.iter_mut().enumerate() {
            let line = format!("from {index}\n");
            client
                .stdin
                .as_mut()
                .unwrap()
                .write_all(line.as_bytes())
                .unwrap();
            for output in &mut outputs {
                let mut seen = String::new();
                output.read_line(&mut seen).unwrap();
                assert_eq!(seen, line);
            }
        }
        machine.berth(&["kill", &id]).ok();
        for mut client in clients {
            drop(client.stdin.take());
            client.wait().unwrap();
        }
    });
}

#[test]
fn logs_follow_tail_and_tell_times() {
    scenario(|machine| {
        let script = "for i in 1 2 3; do echo line $i; done; echo problem >&2; sleep 1; echo end";
        for client in Client::ALL {
            let id = machine.berth(&["run", "-d", "busybox", "sh", "-c", script]);
            let id = id.ok().to_owned();
            let followed = machine.client(client, &["logs", "-f", &id]);
            assert_eq!(followed.ok(), "line 1\nline 2\nline 3\nend");
            assert_eq!(followed.stderr, "problem\n");
            assert_eq!(
                machine.client(client, &["logs", "--tail", "1", &id]).ok(),
                "end"
            );
            let timed = machine.client(client, &["logs", "-t", &id]);
            let first = timed.ok().lines().next().unwrap().to_owned();
            let (time, line) = first.split_once(' ').unwrap();
            assert_eq!(line, "line 1");
            assert!(time.len() > 20 && time.ends_with('Z'), "{time}");
        }
    });
}

#[test]
fn a_slow_reader_loses_nothing_and_blocks_nobody() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let mut slow = machine
            .berth_command(&["run", "--name", "chatty", "busybox", "seq", "1", "100000"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Nobody reads the client's output yet; the daemon must still answer.
        e2e::wait::pause(std::time::Duration::from_millis(300));
        machine.berth(&["ps"]).ok();
        let lines = BufReader::new(slow.stdout.take().unwrap()).lines().count();
        assert_eq!(lines, 100_000);
        assert!(slow.wait().unwrap().success());
        wait_until("its log is whole as well", || {
            (machine.berth(&["logs", "chatty"]).ok().lines().count() == 100_000).then_some(())
        });
    });
}
