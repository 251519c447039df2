//! Each flag of `run` has its effect, seen from inside the container (or from the kernel's side).

use std::fs;

use e2e::machine::Client;
use e2e::{Machine, scenario};

/// Runs a script in busybox with `flags` and returns what it printed.
#[track_caller]
fn inside(machine: &Machine, flags: &[&str], script: &str) -> String {
    let args = [&["run", "--rm"], flags, &["busybox", "sh", "-c", script]].concat();
    let ours = machine.berth(&args);
    let theirs = machine.docker(&args);
    assert_eq!(
        ours.ok(),
        theirs.ok(),
        "both clients mean the same by {flags:?}"
    );
    ours.ok().to_owned()
}

#[track_caller]
fn check(machine: &Machine, flags: &[&str], script: &str, expected: &str) {
    assert_eq!(
        inside(machine, flags, script),
        expected,
        "{flags:?}: {script}"
    );
}

#[test]
fn identity() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        check(
            machine,
            &["--hostname", "inner"],
            "hostname; cat /etc/hostname",
            "inner\ninner",
        );
        check(machine, &[], "hostname | wc -c", "13");
        check(
            machine,
            &["-u", "alice"],
            "id -un; id -gn; echo $HOME",
            "alice\nalice\n/home/alice",
        );
        check(machine, &["-u", "1000:50"], "id -u; id -g", "1000\n50");
        check(
            machine,
            &["-u", "12345"],
            "id -u; id -g; echo $HOME",
            "12345\n0\n/",
        );
        check(
            machine,
            &["-u", "alice", "--group-add", "extra"],
            "id -G",
            "1000 50 2000",
        );
        check(
            machine,
            &["-w", "/made/on/the/way"],
            "pwd",
            "/made/on/the/way",
        );
        check(
            machine,
            &["-e", "A=b c", "-e", "EMPTY="],
            "echo \"$A|$EMPTY|${NONE-unset}\"",
            "b c||unset",
        );
        machine
            .berth(&["run", "--rm", "-u", "nobody-here", "busybox", "true"])
            .exits(125)
            .says(&["nobody-here"]);
    });
}

#[test]
fn namespaces_are_its_own() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let script = "for n in mnt pid uts ipc net cgroup; do readlink /proc/self/ns/$n; done";
        let inner = machine.berth(&["run", "--rm", "busybox", "sh", "-c", script]);
        for line in inner.ok().lines() {
            let kind = line.split(':').next().unwrap();
            let host = fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
            assert_ne!(line, host.to_string_lossy());
        }
        check(
            machine,
            &[],
            "echo $$; set -- /proc/[0-9]*; echo $#",
            "1\n1",
        );
        // Three streams, and the directory that `ls` itself reads.
        let fds = machine.berth(&["run", "--rm", "busybox", "ls", "/proc/self/fd"]);
        assert_eq!(fds.ok(), "0\n1\n2\n3");
    });
}

#[test]
fn capabilities() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let sets = "grep ^Cap /proc/self/status | xargs";
        check(
            machine,
            &[],
            sets,
            "CapInh: 0000000000000000 CapPrm: 00000000a80425fb CapEff: 00000000a80425fb \
             CapBnd: 00000000a80425fb CapAmb: 0000000000000000",
        );
        let bounding = "grep CapBnd /proc/self/status | cut -f 2";
        check(
            machine,
            &["--cap-add", "SYS_TIME"],
            bounding,
            "00000000aa0425fb",
        );
        check(
            machine,
            &["--cap-drop", "CAP_CHOWN"],
            bounding,
            "00000000a80425fa",
        );
        check(
            machine,
            &["--cap-drop", "ALL"],
            bounding,
            "0000000000000000",
        );
        check(
            machine,
            &["--cap-drop", "ALL", "--cap-add", "KILL"],
            bounding,
            "0000000000000020",
        );
        // An ordinary user has none that are effective.
        check(
            machine,
            &["-u", "1000"],
            "grep CapEff /proc/self/status | cut -f 2",
            "0000000000000000",
        );
        machine
            .berth(&["run", "--rm", "--cap-add", "NO_SUCH", "busybox", "true"])
            .exits(125)
            .says(&["NO_SUCH"]);
    });
}

#[test]
fn seccomp() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let mode = "grep ^Seccomp: /proc/self/status | cut -f 2";
        check(machine, &[], mode, "2");
        check(
            machine,
            &["--security-opt", "seccomp=unconfined"],
            mode,
            "0",
        );
        // Making a user namespace is denied by the default policy and by nothing else here.
        check(machine, &[], "unshare -U true 2>/dev/null; echo $?", "1");
        check(
            machine,
            &["--security-opt", "seccomp=unconfined"],
            "unshare -U true 2>&1; echo $?",
            "0",
        );
        let profile = machine.path("profile.json");
        fs::write(
            &profile,
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}"#,
        )
        .unwrap();
        let flag = format!("seccomp={}", profile.display());
        check(
            machine,
            &["--security-opt", &flag],
            "mkdir /x 2>/dev/null || echo denied",
            "denied",
        );
        check(
            machine,
            &["--security-opt", "no-new-privileges"],
            "grep NoNewPrivs /proc/self/status | cut -f 2",
            "1",
        );
        check(
            machine,
            &[],
            "grep NoNewPrivs /proc/self/status | cut -f 2",
            "0",
        );
    });
}

#[test]
fn masked_and_read_only_paths() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        check(
            machine,
            &[],
            "cat /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | wc -c",
            "0",
        );
        check(
            machine,
            &[],
            "ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v : | xargs",
            "",
        );
        for path in [
            "/proc/sys/kernel/domainname",
            "/proc/sysrq-trigger",
            "/proc/irq/default_smp_affinity",
        ] {
            check(
                machine,
                &[],
                &format!("echo x 2>/dev/null >{path} || echo refused"),
                "refused",
            );
        }
        check(
            machine,
            &[],
            "touch /sys/x 2>/dev/null || echo refused",
            "refused",
        );
        check(
            machine,
            &["--security-opt", "systempaths=unconfined"],
            "mount | grep -c 'proc/sys ' || true",
            "0",
        );
    });
}

#[test]
fn devices() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        check(
            machine,
            &[],
            "ls /dev | tr '\\n' ' '",
            "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ",
        );
        check(
            machine,
            &[],
            "head -c 3 /dev/zero | od -An -tx1; echo x >/dev/full || echo full",
            " 00 00 00\nfull",
        );
        // The device allow-list: a node may be made, but not opened.
        check(
            machine,
            &[],
            "mknod /d b 254 0; head -c 1 /d 2>/dev/null || echo refused",
            "refused",
        );
        check(
            machine,
            &["--device", "/dev/fuse"],
            "test -c /dev/fuse && head -c 0 /dev/fuse && echo open",
            "open",
        );
        check(
            machine,
            &["--device", "/dev/fuse:/dev/other:r"],
            "test -c /dev/other && echo there",
            "there",
        );
        check(
            machine,
            &["--privileged"],
            "test -c /dev/fuse && echo all",
            "all",
        );
    });
}

#[test]
fn the_root_and_mounts() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        check(
            machine,
            &["--read-only"],
            "touch /x 2>/dev/null || echo ro",
            "ro",
        );
        check(
            machine,
            &["--read-only", "--tmpfs", "/tmp"],
            "touch /tmp/x && echo rw",
            "rw",
        );
        check(
            machine,
            &["--tmpfs", "/t:size=1m,mode=700"],
            "mount | grep ' /t ' | grep -o 'size=1024k'; stat -c %a /t",
            "size=1024k\n700",
        );
        check(
            machine,
            &[],
            "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d ' ' -f 2",
            "65536",
        );
        check(
            machine,
            &["--shm-size", "8m"],
            "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d ' ' -f 2",
            "8192",
        );

        let shared = machine.path("shared");
        fs::create_dir(&shared).unwrap();
        fs::write(shared.join("file"), "from the host").unwrap();
        let bind = format!("{}:/shared", shared.display());
        check(
            machine,
            &["-v", &bind],
            "cat /shared/file; echo back >/shared/new",
            "from the host",
        );
        assert_eq!(fs::read_to_string(shared.join("new")).unwrap(), "back\n");
        check(
            machine,
            &["-v", &format!("{bind}:ro")],
            "touch /shared/x 2>/dev/null || echo ro",
            "ro",
        );
        let mount = format!("type=bind,source={},target=/m,readonly", shared.display());
        check(
            machine,
            &["--mount", &mount],
            "cat /m/file; touch /m/x 2>/dev/null || echo ro",
            "from the hostro",
        );
        machine
            .berth(&[
                "run",
                "--rm",
                "--mount",
                "type=bind,source=/no/such/dir,target=/m",
                "busybox",
                "true",
            ])
            .exits(125)
            .says(&["/no/such/dir"]);

        machine
            .berth(&[
                "run",
                "--rm",
                "-v",
                "kept:/data",
                "busybox",
                "sh",
                "-c",
                "echo 1 >/data/x",
            ])
            .ok();
        assert_eq!(
            machine
                .berth(&[
                    "run",
                    "--rm",
                    "-v",
                    "kept:/data",
                    "busybox",
                    "cat",
                    "/data/x"
                ])
                .ok(),
            "1",
            "a named volume outlives its container"
        );
    });
}

#[test]
fn limits_reach_the_kernel() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let flags = [
            "--memory",
            "64m",
            "--cpus",
            "0.5",
            "--pids-limit",
            "50",
            "--cpu-shares",
            "512",
            "--cpuset-cpus",
            "0",
        ];
        let args = [
            &["run", "-d", "--name", "box"],
            &flags[..],
            &["busybox", "sleep", "1000"],
        ]
        .concat();
        let id = machine.berth(&args).ok().to_owned();
        let read = |controller: &str, v1: &str, v2: &str| {
            let parent = &machine.cgroup_parent()[1..];
            let one = format!("/sys/fs/cgroup/{controller}/{parent}/{id}/{v1}");
            let two = format!("/sys/fs/cgroup/{parent}/{id}/{v2}");
            fs::read_to_string(&one)
                .or_else(|_| fs::read_to_string(&two))
                .unwrap_or_else(|error| panic!("{one} or {two}: {error}"))
                .trim()
                .to_owned()
        };
        assert_eq!(
            read("memory", "memory.limit_in_bytes", "memory.max"),
            "67108864"
        );
        assert_eq!(read("pids", "pids.max", "pids.max"), "50");
        assert_eq!(read("cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
        let quota = read("cpu", "cpu.cfs_quota_us", "cpu.max");
        assert!(quota == "50000" || quota == "50000 100000", "{quota}");
        machine.berth(&["rm", "-f", "box"]).ok();

        machine
            .berth(&[
                "run",
                "--rm",
                "--pids-limit",
                "5",
                "busybox",
                "sh",
                "-c",
                "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait",
            ])
            .says(&["fork"]);
        check(
            machine,
            &["--ulimit", "nofile=100:200"],
            "ulimit -Sn; ulimit -Hn",
            "100\n200",
        );
        // A container that eats more memory than it has is killed, and says why.
        machine.berth(&[
            "run",
            "--name",
            "hungry",
            "--memory",
            "16m",
            "busybox",
            "sh",
            "-c",
            "x=$(head -c 100000000 /dev/zero | tr '\\0' x); echo ${#x}",
        ]);
        let state = machine.inspect("hungry")["State"].clone();
        assert_eq!(
            (&state["OOMKilled"], &state["ExitCode"]),
            (&true.into(), &137.into()),
            "{state}"
        );
    });
}

#[test]
fn a_container_sees_its_own_cgroup_as_the_root() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let paths = inside(machine, &[], "cut -d : -f 3 /proc/self/cgroup | sort -u");
        assert_eq!(paths, "/");
        check(
            machine,
            &["--memory", "32m"],
            "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null || true",
            "33554432",
        );
    });
}

#[test]
fn init_is_pid_1_and_reaps() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let out = inside(
            machine,
            &["--init"],
            "test $$ != 1 && echo below; (sleep 0.1 & ) ; sleep 0.4; ps -o stat,comm | grep -c ^Z || true",
        );
        assert_eq!(out, "below\n0");
        machine
            .berth(&["run", "--rm", "--init", "busybox", "sh", "-c", "exit 9"])
            .exits(9);
        // As PID 1 a bare sleep ignores SIGTERM; below an init it does not.
        machine
            .berth(&[
                "run", "-d", "--init", "--name", "box", "busybox", "sleep", "1000",
            ])
            .ok();
        let started = std::time::Instant::now();
        machine.berth(&["stop", "-t", "20", "box"]).ok();
        assert!(started.elapsed().as_secs() < 10, "init passes SIGTERM on");
    });
}

#[test]
fn privileged() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        let out = inside(
            machine,
            &["--privileged"],
            "grep ^Seccomp: /proc/self/status | cut -f 2; mount -t tmpfs t /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs t /mnt && echo mounted; echo x >/proc/sys/kernel/domainname && echo written",
        );
        assert!(
            out.starts_with('0') && out.ends_with("mounted\nwritten"),
            "{out}"
        );
        check(
            machine,
            &[],
            "mount -t tmpfs t /tmp 2>/dev/null || echo refused",
            "refused",
        );
    });
}

#[test]
fn stopping_as_asked() {
    scenario(|machine| {
        machine.berth(&["pull", "busybox"]).ok();
        for client in Client::ALL {
            let script = "trap 'echo usr1; exit 21' USR1; trap 'exit 1' TERM; echo ready; while :; do sleep 0.05; done";
            machine
                .client(
                    client,
                    &[
                        "run",
                        "-d",
                        "--name",
                        "box",
                        "--stop-signal",
                        "USR1",
                        "busybox",
                        "sh",
                        "-c",
                        script,
                    ],
                )
                .ok();
            // A first process without a handler would not hear the signal.
            e2e::wait::wait_until("the traps", || {
                let log = machine.berth(&["logs", "box"]).ok().to_owned();
                log.contains("ready").then_some(())
            });
            machine.client(client, &["stop", "box"]).ok();
            assert_eq!(machine.inspect("box")["State"]["ExitCode"], 21);
            machine.client(client, &["rm", "box"]).ok();
            machine
                .client(
                    client,
                    &[
                        "run",
                        "-d",
                        "--name",
                        "box",
                        "--stop-timeout",
                        "0",
                        "busybox",
                        "sleep",
                        "1000",
                    ],
                )
                .ok();
            machine.client(client, &["stop", "box"]).ok();
            assert_eq!(machine.inspect("box")["State"]["ExitCode"], 137);
            machine.client(client, &["rm", "box"]).ok();
        }
    });
}

#[test]
fn labels_are_kept_and_filtered_by() {
    scenario(|machine| {
        let image = "127.0.0.1:5000/test/config";
        machine
            .berth(&[
                "run",
                "-d",
                "--name",
                "box",
                "--label",
                "both=user",
                "--label",
                "own",
                image,
            ])
            .ok();
        let labels = machine.inspect("box")["Config"]["Labels"].clone();
        assert_eq!(
            labels,
            serde_json::json!({"from": "image", "both": "user", "own": ""})
        );
        let found = machine.docker(&["ps", "-aq", "--filter", "label=both=user"]);
        assert_eq!(found.ok().lines().count(), 1);
        let none = machine.docker(&["ps", "-aq", "--filter", "label=both=image"]);
        assert_eq!(none.ok(), "");
    });
}
