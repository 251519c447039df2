//! `run`: exit codes, output, names, removal — with our client and the official one.

use e2e::machine::Client;
use e2e::scenario;

#[test]
fn exit_codes_are_the_commands_own_or_dockers() {
    scenario(|machine| {
        for client in Client::ALL {
            for (command, code) in [
                (&["true"][..], 0),
                (&["false"], 1),
                (&["sh", "-c", "exit 42"], 42),
                (&["sh", "-c", "kill -TERM $$"], 143),
                (&["sh", "-c", "kill -KILL $$; sleep 5"], 137),
                (&["/etc/passwd"], 126),
                (&["no-such-command"], 127),
                (&["/no/such/path"], 127),
            ] {
                let args = [&["run", "--rm", "busybox"], command].concat();
                // A shell that is PID 1 ignores its own signals, so it runs below one.
                let wrapped = ["run", "--rm", "--init", "busybox"];
                let args = if command.len() == 3 {
                    [&wrapped, command].concat()
                } else {
                    args
                };
                machine.client(client, &args).exits(code);
            }
            machine
                .client(client, &["run", "--no-such-flag", "busybox"])
                .exits(125);
            machine
                .client(client, &["run", "--rm", "127.0.0.1:5000/no/such"])
                .exits(125);
        }
    });
}

#[test]
fn failures_to_start_say_what_docker_says() {
    scenario(|machine| {
        for client in Client::ALL {
            machine
                .client(client, &["run", "--rm", "busybox", "no-such-command"])
                .exits(127)
                .says(&["no-such-command", "executable file not found in $PATH"]);
            machine
                .client(client, &["run", "--rm", "busybox", "/no/such"])
                .exits(127)
                .says(&["no such file or directory"]);
            machine
                .client(client, &["run", "--rm", "busybox", "/etc/passwd"])
                .exits(126)
                .says(&["permission denied"]);
        }
        assert!(
            machine.containers().is_empty(),
            "--rm also after a failed start"
        );
    });
}

#[test]
fn the_first_run_pulls_and_later_ones_do_not() {
    scenario(|machine| {
        let first = machine.berth(&["run", "--rm", "busybox", "echo", "hello"]);
        assert_eq!(first.ok(), "hello");
        first.says(&["Unable to find image 'busybox:latest' locally", "Pull"]);
        let second = machine.berth(&["run", "--rm", "busybox", "echo", "again"]);
        assert_eq!(second.ok(), "again");
        assert_eq!(second.stderr, "", "nothing to say when the image is here");
        assert_eq!(
            machine
                .docker(&["run", "--rm", "busybox", "echo", "hi"])
                .ok(),
            "hi"
        );
    });
}

#[test]
fn pull_policies() {
    scenario(|machine| {
        for client in Client::ALL {
            machine
                .client(
                    client,
                    &[
                        "run",
                        "--pull=never",
                        "--rm",
                        "127.0.0.1:5000/test/zstd",
                        "true",
                    ],
                )
                .exits(125)
                .says(&["no such image"]);
        }
        machine
            .berth(&["run", "--pull=always", "--rm", "busybox", "true"])
            .ok();
        let again = machine.berth(&["run", "--pull=always", "--rm", "busybox", "true"]);
        again.ok();
        assert!(format!("{}{}", again.stdout, again.stderr).contains("up to date"));
    });
}

#[test]
fn stdout_and_stderr_stay_apart() {
    scenario(|machine| {
        for client in Client::ALL {
            machine.berth(&["pull", "busybox"]).ok();
            let script = "echo out; echo err >&2; exit 3";
            let out = machine.client(client, &["run", "--rm", "busybox", "sh", "-c", script]);
            out.exits(3);
            assert_eq!(
                (out.stdout.as_str(), out.stderr.as_str()),
                ("out\n", "err\n")
            );
        }
    });
}

#[test]
fn no_output_is_lost_however_short_the_command() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for round in 0..100 {
            let word = format!("word-{round}");
            let args = ["run", "--rm", "--network", "none", "busybox", "echo", &word];
            let client = if round % 4 == 0 {
                Client::Docker
            } else {
                Client::Berth
            };
            assert_eq!(machine.client(client, &args).ok(), word);
        }
    });
}

#[test]
fn much_output_arrives_whole() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for client in Client::ALL {
            let out = machine.client(client, &["run", "--rm", "busybox", "seq", "1", "200000"]);
            let lines: Vec<&str> = out.ok().lines().collect();
            assert_eq!((lines.len(), lines[199_999]), (200_000, "200000"));
        }
    });
}

#[test]
fn names_identify_and_collide() {
    scenario(|machine| {
        let id = machine.berth(&["run", "-d", "--name", "box", "busybox", "sleep", "1000"]);
        let id = id.ok().to_owned();
        assert_eq!(id.len(), 64);
        for client in Client::ALL {
            machine
                .client(client, &["run", "--name", "box", "busybox", "true"])
                .exits(125)
                .says(&["Conflict", "/box", "already in use"]);
        }
        for key in ["box", &id[..12], &id] {
            assert_eq!(machine.inspect(key)["Id"], id.as_str());
        }
        machine
            .berth(&["run", "--name", "bad name", "busybox", "true"])
            .exits(125);
        let names = machine.docker(&["ps", "--format", "{{.Names}}"]);
        assert_eq!(names.ok(), "box");
    });
}

#[test]
fn the_cidfile_holds_the_id() {
    scenario(|machine| {
        let file = machine.path("cid");
        let flag = format!("--cidfile={}", file.display());
        let id = machine.berth(&["run", "-d", &flag, "busybox", "true"]);
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), id.ok());
        machine
            .berth(&["run", "-d", &flag, "busybox", "true"])
            .exits(125)
            .says(&["cid"]);
    });
}

#[test]
fn the_images_config_is_resolved_as_docker_does() {
    scenario(|machine| {
        let image = "127.0.0.1:5000/test/config";
        machine.berth(&["pull", image]).ok();
        for client in Client::ALL {
            let run = |args: &[&str], command: &[&str]| {
                let args = [&["run", "--rm"], args, &[image], command].concat();
                machine.client(client, &args).ok().to_owned()
            };
            assert_eq!(run(&[], &[]), "entry default arguments");
            assert_eq!(run(&[], &["mine"]), "entry mine");
            assert_eq!(run(&["--entrypoint", "id"], &["-un"]), "alice");
            assert_eq!(run(&["--entrypoint", "pwd"], &[]), "/home/alice/work");
            assert_eq!(
                run(&["--entrypoint", "pwd", "-w", "/tmp/new"], &[]),
                "/tmp/new"
            );
            let env = run(
                &["--entrypoint", "env", "-e", "OVERRIDE=user", "-e", "NEW=1"],
                &[],
            );
            for line in [
                "FROM_IMAGE=yes",
                "OVERRIDE=user",
                "NEW=1",
                "HOME=/home/alice",
            ] {
                assert!(env.lines().any(|found| found == line), "{line} in {env}");
            }
            assert_eq!(env.matches("OVERRIDE=").count(), 1);
        }
    });
}

#[test]
fn detached_containers_log_and_are_waited_for() {
    scenario(|machine| {
        for client in Client::ALL {
            let id = machine.client(
                client,
                &["run", "-d", "busybox", "sh", "-c", "echo said; exit 7"],
            );
            let id = id.ok().to_owned();
            assert_eq!(machine.client(client, &["wait", &id]).ok(), "7");
            assert_eq!(machine.client(client, &["logs", &id]).ok(), "said");
            assert_eq!(machine.inspect(&id)["State"]["ExitCode"], 7);
            machine.client(client, &["rm", &id]).ok();
        }
    });
}
