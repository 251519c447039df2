//! Interactive use on a real terminal, with our client and the official one.

use e2e::machine::{Client, signal};
use e2e::{Machine, Terminal, scenario, wait_until};

/// A shell in a container on a terminal, at its first prompt.
fn shell(machine: &Machine, client: Client, flags: &[&str]) -> Terminal {
    let args = [
        &["run", "-it", "-e", "PS1=prompt> "],
        flags,
        &["busybox", "sh"],
    ]
    .concat();
    let mut terminal = machine.terminal(client, &args);
    terminal.expect("prompt> ");
    terminal
}

#[test]
fn the_main_job() {
    scenario(|machine| {
        for client in Client::ALL {
            let args = ["run", "-i", "-t", "--rm", "ubuntu", "/bin/bash"];
            let mut terminal = machine.terminal(client, &args);
            terminal.expect("root@");
            terminal.send("grep ^ID= /etc/os-release; tty; echo $((6*7))\n");
            terminal.expect("ID=debian");
            terminal.expect("/dev/pts/0");
            terminal.expect("42");
            terminal.send("exit 3\n");
            assert_eq!(terminal.exit(), 3);
        }
    });
}

#[test]
fn a_terminal_is_a_terminal_inside() {
    scenario(|machine| {
        for client in Client::ALL {
            let mut terminal = shell(machine, client, &["--rm"]);
            terminal.send("tty && test -t 0 && test -t 1 && test -t 2 && echo all-three\n");
            terminal.expect("/dev/pts/0");
            terminal.expect("all-three");
            terminal.send("echo $TERM\n");
            terminal.expect("xterm");
            // Interrupt reaches the foreground job, and the shell survives it.
            terminal.send("sleep 1000\n");
            terminal.expect("sleep 1000");
            e2e::wait::pause(std::time::Duration::from_millis(200));
            terminal.send("\x03");
            terminal.expect("prompt> ");
            terminal.send("exit\n");
            assert_eq!(terminal.exit(), 130);
        }
    });
}

#[test]
fn the_size_is_right_from_the_start_and_follows() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for client in Client::ALL {
            let mut terminal =
                machine.terminal(client, &["run", "--rm", "-it", "busybox", "stty", "size"]);
            terminal.expect("24 80");
            assert_eq!(terminal.exit(), 0);
            let mut terminal = shell(machine, client, &["--rm"]);
            terminal.resize(50, 132);
            wait_until(&format!("the size follows, {client:?}"), || {
                // The official client prints before it listens for changes; ours must not.
                if client == Client::Docker {
                    terminal.resize(49, 131);
                    terminal.resize(50, 132);
                }
                terminal.send("stty size\n");
                e2e::wait::pause(std::time::Duration::from_millis(200));
                terminal.screen().contains("50 132").then_some(())
            });
            terminal.send("exit\n");
            terminal.exit();
        }
    });
}

#[test]
fn the_users_terminal_is_restored_on_every_way_out() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let before = shell(machine, Client::Berth, &["--rm", "--name", "first"]);
        drop(before);
        machine.berth(&["rm", "-f", "first"]);
        // The command's end, detaching, the daemon's refusal, and signals of every sort.
        let mut terminal = shell(machine, Client::Berth, &["--rm"]);
        assert!(!terminal.is_cooked(), "raw while attached");
        terminal.send("exit\n");
        terminal.exit();
        assert!(terminal.is_cooked(), "after exit");

        let mut terminal = shell(machine, Client::Berth, &["--name", "left"]);
        terminal.send("\x10\x11");
        assert_eq!(terminal.exit(), 0);
        assert!(terminal.is_cooked(), "after detaching");

        let mut terminal =
            machine.terminal(Client::Berth, &["run", "--rm", "-it", "busybox", "nope"]);
        assert_eq!(terminal.exit(), 127);
        assert!(terminal.is_cooked(), "after a failed start");

        for name in ["TERM", "HUP", "INT", "QUIT"] {
            let mut terminal = shell(machine, Client::Berth, &["--name", &format!("by-{name}")]);
            let client = child_of(terminal.pid());
            signal(client, name);
            wait_until("the client passes the signal on or ends", || {
                (!terminal.is_running()
                    || machine.inspect(&format!("by-{name}"))["State"]["Running"] == true)
                    .then_some(())
            });
            machine.berth(&["rm", "-f", &format!("by-{name}")]).ok();
            terminal.exit();
            assert!(terminal.is_cooked(), "after SIG{name}");
        }
    });
}

/// The client itself: `setsid` has become `timeout`, whose child it is.
fn child_of(pid: u32) -> u32 {
    wait_until("the client started", || {
        std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
            .unwrap()
            .split_whitespace()
            .next()
            .map(|child| child.parse().unwrap())
    })
}

#[test]
fn detach_and_attach_again() {
    scenario(|machine| {
        for client in Client::ALL {
            let mut terminal = shell(machine, client, &["--name", "box"]);
            terminal.send("echo before-detaching\n");
            terminal.expect("before-detaching");
            terminal.send("\x10\x11");
            assert_eq!(terminal.exit(), 0);
            assert_eq!(machine.inspect("box")["State"]["Running"], true);

            let mut terminal = machine.terminal(client, &["attach", "box"]);
            e2e::wait::pause(std::time::Duration::from_millis(300));
            terminal.send("echo and-$((40+2))\n");
            terminal.expect("and-42");
            terminal.send("exit 9\n");
            assert_eq!(terminal.exit(), 9);
            let logs = machine.client(client, &["logs", "box"]);
            assert!(logs.stdout.contains("before-detaching") && logs.stdout.contains("and-42"));

            let mut terminal = machine.terminal(client, &["start", "-ai", "box"]);
            e2e::wait::pause(std::time::Duration::from_millis(300));
            terminal.send("echo once-more-$((1+1))\n");
            terminal.expect("once-more-2");
            terminal.send("exit 4\n");
            assert_eq!(terminal.exit(), 4);
            machine.client(client, &["rm", "box"]).ok();
        }
    });
}

#[test]
fn other_detach_keys() {
    scenario(|machine| {
        for client in Client::ALL {
            let mut terminal = shell(
                machine,
                client,
                &["--name", "box", "--detach-keys", "ctrl-a,d"],
            );
            // The default keys are ordinary input now.
            terminal.send("\x10\x11echo still-$((1+1))\n");
            terminal.expect("still-2");
            terminal.send("\x01d");
            assert_eq!(terminal.exit(), 0);
            machine.client(client, &["rm", "-f", "box"]).ok();
        }
    });
}

#[test]
fn exec_on_a_terminal() {
    scenario(|machine| {
        machine
            .berth(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"])
            .ok();
        for client in Client::ALL {
            let args = [
                "exec",
                "-it",
                "-e",
                "PS1=inner> ",
                "-w",
                "/tmp",
                "box",
                "sh",
            ];
            let mut terminal = machine.terminal(client, &args);
            terminal.expect("inner> ");
            terminal.send("tty; pwd; stty size\n");
            terminal.expect("/dev/pts/");
            terminal.expect("/tmp");
            terminal.expect("24 80");
            terminal.resize(40, 100);
            wait_until("the size follows", || {
                terminal.send("stty size\n");
                e2e::wait::pause(std::time::Duration::from_millis(200));
                terminal.screen().contains("40 100").then_some(())
            });
            terminal.send("exit 6\n");
            assert_eq!(terminal.exit(), 6);
        }
    });
}

#[test]
fn a_terminal_is_demanded_where_there_is_none() {
    scenario(|machine| {
        machine
            .berth(&["run", "--rm", "-it", "busybox", "true"])
            .exits(1)
            .says(&["the input device is not a TTY"]);
    });
}

#[test]
fn two_terminals_share_one_shell() {
    scenario(|machine| {
        let mut one = shell(machine, Client::Berth, &["--name", "box"]);
        let mut two = machine.terminal(Client::Docker, &["attach", "box"]);
        e2e::wait::pause(std::time::Duration::from_millis(500));
        one.send("echo typed-in-$((0+1))\n");
        one.expect("typed-in-1");
        two.expect("typed-in-1");
        two.send("echo typed-in-$((1+1))\n");
        two.expect("typed-in-2");
        one.expect("typed-in-2");
        one.send("exit\n");
        assert_eq!(one.exit(), 0);
        assert_eq!(two.exit(), 0);
    });
}
