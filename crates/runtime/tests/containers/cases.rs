//! The tests themselves.

use std::os::fd::AsFd as _;

use oci_spec::runtime::LinuxResources;
use runtime::{Blank, BlankOptions, Fill, LaunchError, Stage, Stdio};
use serde_json::json;

use crate::fixture::{Fixture, Outcome, read, write};

/// A test: its name and itself.
type Case = (&'static str, fn(&Fixture));

/// Every test.
pub(crate) const ALL: &[Case] = &[
    ("runs_and_reports_the_exit_code", runs),
    ("fills_and_starts_apart", fills_and_starts_apart),
    ("namespaces_are_its_own", namespaces),
    ("only_the_host_s_streams_reach_it", descriptors),
    ("no_descriptor_leads_to_the_host", ways_out),
    ("dev_is_complete", dev),
    ("paths_are_masked_and_read_only", masks),
    ("binds_files_and_directories", binds),
    ("mounts_stay_inside_the_root", hostile_root),
    ("root_can_be_read_only", read_only_root),
    ("users_are_resolved_inside", users),
    ("capabilities_are_limited", capabilities),
    ("missing_programs_are_named_as_docker_does", programs),
    ("working_directories", working_directories),
    ("limits_reach_the_kernel", limits),
    ("a_pooled_blank_gets_its_cgroup_by_renaming", pooled),
    ("memory_hogs_are_counted", oom),
    ("a_terminal_of_its_own", terminal),
    ("exec_joins_everything", exec),
    ("exec_in_a_terminal", exec_terminal),
    ("keys_of_ours_stay_out", keys),
    ("frozen_and_killed_as_a_whole", freeze),
    ("sysctls_are_the_namespace_s", sysctls),
    ("user_namespaces", user_namespace),
    ("tmpfs_begins_with_what_it_covers", copy_up),
    ("steps_are_recorded_on_request", trace),
    ("dropping_a_blank_ends_it", dropped),
];

/// Runs a shell script; its output.
fn shell(fixture: &Fixture, script: &str, change: impl FnOnce(&mut serde_json::Value)) -> Outcome {
    fixture
        .run(&fixture.launch(&["sh", "-c", script], change))
        .unwrap()
}

fn says(fixture: &Fixture, script: &str, expected: &str) {
    let outcome = shell(fixture, script, |_| {});
    assert_eq!(
        (outcome.code, outcome.output.trim()),
        (0, expected),
        "{script}"
    );
}

fn fails(fixture: &Fixture, change: impl FnOnce(&mut serde_json::Value)) -> LaunchError {
    fixture.run(&fixture.launch(&["true"], change)).unwrap_err()
}

fn runs(fixture: &Fixture) {
    let outcome = shell(fixture, "echo hi; exit 7", |_| {});
    assert_eq!((outcome.code, outcome.output.as_str()), (7, "hi\n"));
    let outcome = shell(fixture, "kill -9 $$", |_| {});
    assert_eq!(
        outcome.code, 0,
        "a process cannot kill its own pid namespace's init"
    );
}

fn fills_and_starts_apart(fixture: &Fixture) {
    let launch = fixture.launch(&["echo", "started"], |_| {});
    let blank = Blank::create(&BlankOptions::for_spec(&launch.spec)).unwrap();
    let (output, out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let fill = Fill {
        netns: None,
        stdio: Stdio::Fds([out.as_fd(), out.as_fd(), out.as_fd()]),
    };
    let created = blank.fill(&launch, &fill).unwrap();
    let mut poll = [rustix::event::PollFd::new(
        &output,
        rustix::event::PollFlags::IN,
    )];
    let moment = rustix::event::Timespec {
        tv_sec: 0,
        tv_nsec: 20_000_000,
    };
    assert_eq!(
        rustix::event::poll(&mut poll, Some(&moment)).unwrap(),
        0,
        "started by itself"
    );
    let running = created.start().unwrap();
    drop(out);
    assert_eq!(read(output), "started\n");
    sys::process::wait_pidfd(running.pidfd.as_fd()).unwrap();
    running.cgroup.unwrap().remove().unwrap();
}

fn namespaces(fixture: &Fixture) {
    says(fixture, "echo $$; hostname", "1\nboat");
    for kind in ["mnt", "pid", "uts", "ipc", "net", "cgroup"] {
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        let outcome = shell(fixture, &format!("readlink /proc/self/ns/{kind}"), |_| {});
        assert_ne!(outcome.output.trim(), ours.to_str().unwrap());
    }
    // The view begins at its own cgroup, and the host's mounts are gone.
    says(
        fixture,
        "grep -v ':/$' /proc/self/cgroup; grep -c . /proc/self/mountinfo >/dev/null",
        "",
    );
    says(fixture, "grep -c /var/lib /proc/self/mountinfo; true", "0");
    // The loopback of a new network namespace is up.
    says(
        fixture,
        "cat /sys/class/net/lo/operstate; grep -c UP /sys/class/net/lo/flags; true",
        "unknown\n0",
    );
}

fn descriptors(fixture: &Fixture) {
    says(fixture, "ls /proc/self/fd", "0\n1\n2\n3"); // 3 is the directory that ls reads
    // Not through a shell, which changes them.
    let launch = fixture.launch(&["grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"], |_| {});
    let outcome = fixture.run(&launch).unwrap();
    assert_eq!(
        outcome.output,
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
    );
}

/// A program that is named through a descriptor of ours, which the container's process inherits.
fn ways_out(fixture: &Fixture) {
    use std::os::{fd::AsRawFd as _, unix::fs::PermissionsExt};
    let (host, root) = (fixture.path("host"), std::fs::File::open("/").unwrap());
    std::fs::create_dir(&host).unwrap();
    std::fs::copy("/bin/busybox", host.join("true")).unwrap();
    let directory = std::fs::File::open(&host).unwrap();
    let file = std::fs::File::open(host.join("true")).unwrap();
    let number = directory.as_raw_fd();
    let layer = fixture.path("ways-out");
    std::fs::create_dir_all(layer.join("bin")).unwrap();
    let script = layer.join("bin/script");
    std::fs::write(&script, format!("#!/proc/self/fd/{number}/true\n")).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let programs = [
        format!("/proc/self/fd/{number}/true"),
        format!("/proc/self/fd/{number}/../host/true"),
        format!("/proc/self/fd/{}", file.as_raw_fd()),
        format!("/proc/self/fd/{}{}/true", root.as_raw_fd(), host.display()),
        "/bin/script".to_owned(),
    ];
    let launch = |args: &[&str]| {
        fixture.launch(args, |launch| {
            launch["root"]["overlay"]["lower"]
                .as_array_mut()
                .unwrap()
                .insert(0, json!(layer));
        })
    };
    for program in &programs {
        let error = fixture.run(&launch(&[program])).unwrap_err();
        assert_eq!(
            (error.stage, error.exit_code),
            (Stage::Exec, 127),
            "{error}"
        );
    }
    fixture.while_running(&launch(&["sleep", "100"]), |running| {
        for program in &programs {
            let error = fixture.exec(running, &[program]).unwrap_err();
            assert_eq!(
                (error.stage, error.exit_code),
                (Stage::Exec, 127),
                "{error}"
            );
        }
    });
}

fn dev(fixture: &Fixture) {
    says(
        fixture,
        "stat -c '%n %t:%T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty",
        "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n\
         /dev/urandom 1:9 666\n/dev/tty 5:0 666",
    );
    says(
        fixture,
        "for name in fd ptmx stdin; do readlink /dev/$name; done",
        "/proc/self/fd\npts/ptmx\n/proc/self/fd/0",
    );
    says(
        fixture,
        "echo x > /dev/null; head -c 2 /dev/zero | grep -c ''",
        "1",
    );
    // By the device cgroup: a node may be made, but not opened.
    let outcome = shell(fixture, "mknod /tmp/mem c 1 1 && cat /tmp/mem", |_| {});
    assert!(
        outcome.output.contains("Operation not permitted"),
        "{outcome:?}"
    );
}

fn masks(fixture: &Fixture) {
    use std::os::unix::fs::MetadataExt as _;
    says(
        fixture,
        "cat /proc/keys /proc/timer_list; ls /sys/firmware",
        "",
    );
    let outcome = shell(
        fixture,
        "echo 1 > /proc/sys/kernel/panic; touch /sys/x",
        |_| {},
    );
    assert_eq!(
        outcome.output.matches("Read-only file system").count(),
        2,
        "{outcome:?}"
    );
    // The inode behind a masked file is the host's. The mode is the one that it has anyway, so that
    // even a failure of this test changes nothing.
    let mode = std::fs::metadata("/dev/null").unwrap().mode() & 0o7777;
    let outcome = shell(
        fixture,
        &format!("for f in keys timer_list; do busybox chmod {mode:o} /proc/$f; done"),
        |_| {},
    );
    assert_eq!(
        outcome.output.matches("Read-only file system").count(),
        2,
        "{outcome:?}"
    );
    says(
        fixture,
        "echo x > /proc/keys; grep -E ' /proc/(keys|timer_list) ' /proc/self/mountinfo | grep -vc ' ro,'; true",
        "0",
    );
    let open = shell(fixture, "cat /proc/keys", |launch| {
        launch["spec"]["linux"]["maskedPaths"] = json!([]);
    });
    assert_eq!(open.code, 0);
}

fn binds(fixture: &Fixture) {
    let volume = fixture.path("volume");
    std::fs::create_dir_all(volume.join("below")).unwrap();
    std::fs::write(volume.join("file"), "text\n").unwrap();
    let change = |options: &'static [&'static str]| {
        let (directory, file) = (volume.clone(), volume.join("file"));
        move |launch: &mut serde_json::Value| {
            let mounts = launch["spec"]["mounts"].as_array_mut().unwrap();
            mounts.push(json!({"destination": "/new/deep", "type": "bind", "source": directory, "options": options}));
            mounts.push(json!({"destination": "/etc/one", "type": "bind", "source": file, "options": options}));
        }
    };
    let outcome = shell(
        fixture,
        "cat /new/deep/file /etc/one; echo more >> /etc/one",
        change(&["rbind", "rprivate"]),
    );
    assert_eq!(outcome.output, "text\ntext\n");
    assert_eq!(
        std::fs::read_to_string(volume.join("file")).unwrap(),
        "text\nmore\n"
    );
    let outcome = shell(fixture, "touch /new/deep/x", change(&["rbind", "ro"]));
    assert!(
        outcome.output.contains("Read-only file system"),
        "{outcome:?}"
    );
    let error = fails(fixture, |launch| {
        launch["spec"]["mounts"].as_array_mut().unwrap().push(json!(
            {"destination": "/etc/passwd", "type": "bind", "source": "/tmp", "options": ["rbind"]}
        ));
    });
    assert!(
        error.message.contains("mount a directory onto a file"),
        "{error}"
    );
    let error = fails(fixture, |launch| {
        launch["spec"]["mounts"].as_array_mut().unwrap().push(json!(
            {"destination": "/x", "type": "bind", "source": "/no/such", "options": ["rbind"]}
        ));
    });
    assert_eq!((error.stage, error.exit_code), (Stage::Mount, 125));
    assert!(
        error.message.ends_with("no such file or directory"),
        "{error}"
    );
}

/// An image full of links that lead out.
fn hostile_root(fixture: &Fixture) {
    use std::os::unix::fs::symlink;
    let trap = fixture.path("trap");
    std::fs::create_dir(&trap).unwrap();
    let hostile = |name: &str, target: &std::path::Path| {
        let layer = fixture.path(&fixture.id());
        let link = layer.join(name);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, link).unwrap();
        layer
    };
    let with = |layer: std::path::PathBuf| {
        move |launch: &mut serde_json::Value| {
            launch["root"]["overlay"]["lower"]
                .as_array_mut()
                .unwrap()
                .insert(0, json!(layer));
        }
    };
    // A mount point that leads out is made inside instead.
    let layer = hostile("out", &trap);
    let outcome = shell(fixture, "echo x > /out/y; cat /out/y", |launch| {
        with(layer)(launch);
        launch["spec"]["mounts"].as_array_mut().unwrap().push(json!(
            {"destination": "/out/z", "type": "tmpfs", "source": "tmpfs"}
        ));
    });
    assert_eq!(outcome.output, "x\n");
    assert!(
        std::fs::read_dir(&trap).unwrap().next().is_none(),
        "escaped"
    );
    // A procfs that is not where it belongs would undo the masks (CVE-2019-16884 and its kin).
    let opaque = hostile("proc", std::path::Path::new("/tmp"));
    let error = fails(fixture, with(opaque));
    assert!(error.message.contains("ordinary directory"), "{error}");
    // A working directory must not be one of ours (CVE-2024-21626).
    let error = fails(fixture, |launch| {
        launch["spec"]["process"]["cwd"] = json!("/proc/self/fd/7");
    });
    assert!(
        error.message.contains("no such file or directory"),
        "{error}"
    );
}

fn read_only_root(fixture: &Fixture) {
    let outcome = shell(
        fixture,
        "touch /x; echo y > /dev/shm/y && cat /dev/shm/y",
        |launch| {
            launch["spec"]["root"]["readonly"] = json!(true);
        },
    );
    assert!(
        outcome.output.contains("Read-only file system"),
        "{outcome:?}"
    );
    assert!(outcome.output.ends_with("y\n"), "{outcome:?}");
}

fn users(fixture: &Fixture) {
    let as_user = |user: &str, groups: &[&str]| {
        let request = json!({"user": user, "groups": groups});
        shell(fixture, "id; echo $HOME", |launch| launch["user"] = request).output
    };
    assert_eq!(
        as_user("ann", &[]),
        "uid=1000(ann) gid=1000(ann) groups=10(wheel),1000(ann)\n/home/ann\n"
    );
    assert_eq!(
        as_user("1000:0", &["7"]),
        "uid=1000(ann) gid=0(root) groups=0(root),7\n/home/ann\n"
    );
    assert_eq!(as_user("77", &[]), "uid=77 gid=0(root) groups=0(root)\n/\n");
    let error = fails(fixture, |launch| launch["user"] = json!({"user": "foo"}));
    assert_eq!(
        error.message,
        "unable to find user foo: no matching entries in passwd file"
    );
    assert_eq!(error.exit_code, 125);
    // A user may write to its streams by name, as root and as itself.
    let outcome = shell(
        fixture,
        "echo x > /proc/self/fd/1; echo y > /dev/stderr",
        |launch| {
            launch["user"] = json!({"user": "ann"});
        },
    );
    assert_eq!(outcome.output, "x\ny\n");
}

fn capabilities(fixture: &Fixture) {
    let show = "grep -E '^Cap|NoNewPrivs' /proc/self/status";
    says(
        fixture,
        show,
        "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
         CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0",
    );
    let none = shell(fixture, show, |launch| {
        let process = launch["spec"]["process"].as_object_mut().unwrap();
        process.remove("capabilities");
    });
    assert_eq!(
        none.output.matches(":\t0000000000000000\n").count(),
        5,
        "{none:?}"
    );
    let outcome = shell(fixture, show, |launch| {
        launch["user"] = json!({"user": "ann"});
        launch["spec"]["process"]["noNewPrivileges"] = json!(true);
    });
    assert_eq!(
        outcome.output,
        "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
         CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
    );
}

fn programs(fixture: &Fixture) {
    let check = |program: &str, code: u8, message: &str| {
        let error = fixture
            .run(&fixture.launch(&[program], |_| {}))
            .unwrap_err();
        assert_eq!((error.exit_code, error.message.as_str()), (code, message));
        assert_eq!(error.stage, Stage::Exec);
    };
    check(
        "foo",
        127,
        "exec: \"foo\": executable file not found in $PATH",
    );
    check("", 127, "exec: \"\": executable file not found in $PATH");
    check(
        "/foo",
        127,
        "exec: \"/foo\": stat /foo: no such file or directory",
    );
    check("/etc/plain", 126, "exec: \"/etc/plain\": permission denied");
    check("/etc", 126, "exec: \"/etc\": is a directory");
    let outcome = fixture.run(&fixture.launch(&["/bin/junk"], |launch| {
        let layer = fixture.path("junk");
        std::fs::create_dir_all(layer.join("bin")).unwrap();
        std::fs::write(layer.join("bin/junk"), "\0\0\0\0").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(layer.join("bin/junk"), mode).unwrap();
        launch["root"]["overlay"]["lower"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!(layer));
    }));
    let error = outcome.unwrap_err();
    assert_eq!(
        (error.exit_code, error.message.as_str()),
        (126, "exec /bin/junk: exec format error")
    );
}

fn working_directories(fixture: &Fixture) {
    let at = |cwd: &str, create: bool| {
        fixture.run(&fixture.launch(&["pwd"], |launch| {
            launch["spec"]["process"]["cwd"] = json!(cwd);
            launch["create_cwd"] = json!(create);
        }))
    };
    assert_eq!(at("/home/ann", false).unwrap().output, "/home/ann\n");
    assert_eq!(at("/new/one", true).unwrap().output, "/new/one\n");
    let error = at("/nowhere", false).unwrap_err();
    assert!(
        error.message.ends_with("failed: no such file or directory"),
        "{error}"
    );
}

fn limits(fixture: &Fixture) {
    let launch = fixture.launch(&["sleep", "100"], |launch| {
        let resources = &mut launch["spec"]["linux"]["resources"];
        resources["memory"] = json!({"limit": 64 << 20, "swap": 64 << 20});
        resources["cpu"] = json!({"shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0"});
        resources["pids"] = json!({"limit": 20});
        launch["spec"]["process"]["rlimits"] =
            json!([{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]);
    });
    fixture.while_running(&launch, |running| {
        let stats = running.cgroup.as_ref().unwrap().stats().unwrap();
        assert_eq!(stats.memory.limit, 64 << 20);
        assert_eq!((stats.pids.current, stats.pids.limit), (1, 20));
        assert!(stats.cpu.total_ns > 0);
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.pid)).unwrap();
        let line = limits
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>()[3..5],
            ["100", "200"]
        );
        let status = std::fs::read_to_string(format!("/proc/{}/status", running.pid)).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"));
        // Limits can be changed later.
        let more: LinuxResources = serde_json::from_value(
            json!({"pids": {"limit": 30}, "memory": {"limit": 96 << 20, "swap": 200 << 20}}),
        )
        .unwrap();
        running.cgroup.as_ref().unwrap().apply(&more).unwrap();
        let stats = running.cgroup.as_ref().unwrap().stats().unwrap();
        assert_eq!((stats.pids.limit, stats.memory.limit), (30, 96 << 20));
    });
}

fn pooled(fixture: &Fixture) {
    let launch = fixture.launch(&["cat", "/proc/self/cgroup"], |_| {});
    let wanted = launch
        .spec
        .linux()
        .as_ref()
        .unwrap()
        .cgroups_path()
        .clone()
        .unwrap();
    let pool = fixture.cgroups.join(fixture.id());
    let mut options = BlankOptions::ordinary(Some(pool.clone()));
    options
        .resources
        .clone_from(launch.spec.linux().as_ref().unwrap().resources());
    assert!(options.fits(&launch.spec));
    let blank = Blank::create(&options).unwrap();
    assert_eq!(blank.cgroup().unwrap().path(), pool);
    let (output, out) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
    let stdio = Stdio::Fds([out.as_fd(), out.as_fd(), out.as_fd()]);
    let running = blank.run(&launch, &Fill { netns: None, stdio }).unwrap();
    drop(out);
    assert!(read(output).lines().all(|line| line.ends_with(":/")));
    sys::process::wait_pidfd(running.pidfd.as_fd()).unwrap();
    let cgroup = running.cgroup.unwrap();
    assert_eq!(cgroup.path(), wanted);
    cgroup.remove().unwrap();
    assert!(!cgroup.exists());
}

fn oom(fixture: &Fixture) {
    let script = "x=x; while true; do x=$x$x; done";
    let mut kills = 0;
    let launch = fixture.launch(&["sh", "-c", script], |launch| {
        launch["spec"]["linux"]["resources"]["memory"] =
            json!({"limit": 16 << 20, "swap": 16 << 20});
    });
    let outcome = fixture.run_with(&launch, |running| {
        let mut poll = [rustix::event::PollFd::new(
            &running.pidfd,
            rustix::event::PollFlags::IN,
        )];
        let patience = rustix::event::Timespec {
            tv_sec: 30,
            tv_nsec: 0,
        };
        rustix::event::poll(&mut poll, Some(&patience)).unwrap();
        kills = running.cgroup.as_ref().unwrap().oom_kills();
    });
    assert_eq!(outcome.unwrap().code, 137);
    assert!(kills > 0);
}

fn terminal(fixture: &Fixture) {
    let launch = fixture.launch(
        &[
            "sh",
            "-c",
            "tty; stat -c %u /dev/console; read x; echo got $x",
        ],
        |launch| {
            launch["spec"]["process"]["terminal"] = json!(true);
            launch["spec"]["process"]["consoleSize"] = json!({"height": 11, "width": 99});
            launch["user"] = json!({"user": "ann"});
        },
    );
    let blank = Blank::create(&BlankOptions::for_spec(&launch.spec)).unwrap();
    let running = blank
        .run(
            &launch,
            &Fill {
                netns: None,
                stdio: Stdio::Terminal,
            },
        )
        .unwrap();
    let console = running.console.unwrap();
    let size = rustix::termios::tcgetwinsize(&console).unwrap();
    assert_eq!((size.ws_row, size.ws_col), (11, 99));
    write(&console, "abc\n");
    let output = read(console);
    sys::process::wait_pidfd(running.pidfd.as_fd()).unwrap();
    running.cgroup.unwrap().remove().unwrap();
    assert!(
        output.contains("/dev/pts/0") && output.contains("1000"),
        "{output:?}"
    );
    assert!(output.ends_with("got abc\r\n"), "{output:?}");
}

fn exec(fixture: &Fixture) {
    let launch = fixture.launch(&["sleep", "100"], |_| {});
    fixture.while_running(&launch, |running| {
        let same = ["mnt", "pid", "uts", "ipc", "net", "cgroup"];
        for kind in same {
            let init = std::fs::read_link(format!("/proc/{}/ns/{kind}", running.pid)).unwrap();
            let outcome = fixture
                .exec(running, &["readlink", &format!("/proc/self/ns/{kind}")])
                .unwrap();
            assert_eq!(outcome.output.trim(), init.to_str().unwrap());
        }
        let outcome = fixture
            .exec(running, &["cat", "/proc/self/cgroup"])
            .unwrap();
        assert!(
            outcome.output.lines().all(|line| line.ends_with(":/")),
            "{outcome:?}"
        );
        let outcome = fixture
            .exec(running, &["sh", "-c", "ls /proc/self/fd; exit 5"])
            .unwrap();
        assert_eq!((outcome.code, outcome.output.as_str()), (5, "0\n1\n2\n3\n"));
        let outcome = fixture
            .exec(running, &["grep", "CapBnd", "/proc/self/status"])
            .unwrap();
        assert_eq!(outcome.output, "CapBnd:\t00000000a80425fb\n");
        let as_ann = |request: &mut serde_json::Value| request["user"] = json!({"user": "ann"});
        let outcome = fixture.exec_with(running, &["id", "-un"], as_ann).unwrap();
        assert_eq!(outcome.output, "ann\n");
        let error = fixture.exec(running, &["foo"]).unwrap_err();
        assert_eq!(
            error.message,
            "exec: \"foo\": executable file not found in $PATH"
        );
        assert_eq!(error.exit_code, 127);
    });
}

fn exec_terminal(fixture: &Fixture) {
    let launch = fixture.launch(&["sleep", "100"], |_| {});
    fixture.while_running(&launch, |running| {
        let request = serde_json::from_value(json!({
            "process": crate::fixture::process(&["sh", "-c", "tty; echo $((1+1))"]),
        }))
        .unwrap();
        let target = runtime::ExecTarget {
            pid: running.pid,
            pidfd: running.pidfd.as_fd(),
            cgroup: running.cgroup.as_ref(),
        };
        let process = runtime::exec_process(&target, &request, Stdio::Terminal).unwrap();
        let output = read(process.console.unwrap());
        assert_eq!(output, "/dev/pts/0\r\n2\r\n");
        sys::process::wait_pidfd(process.pidfd.as_fd()).unwrap();
    });
}

fn keys(fixture: &Fixture) {
    if sys::process::new_session_keyring().is_err() {
        return; // a kernel without keyrings
    }
    // Another user than their owner sees just the keyrings that it holds.
    let show = ["grep", "_ses", "/proc/keys"];
    let launch = fixture.launch(&["sleep", "100"], |launch| {
        launch["spec"]["linux"]["maskedPaths"] = json!([]);
    });
    let first = fixture.run(&fixture.launch(&show, |launch| {
        launch["user"] = json!({"user": "ann"});
        launch["spec"]["linux"]["maskedPaths"] = json!([]);
    }));
    let mut seen = vec![first.unwrap().output];
    fixture.while_running(&launch, |running| {
        for _ in 0..2 {
            let ann = |request: &mut serde_json::Value| request["user"] = json!({"user": "ann"});
            seen.push(fixture.exec_with(running, &show, ann).unwrap().output);
        }
    });
    let serials: std::collections::HashSet<&str> = seen
        .iter()
        .filter_map(|output| output.split_whitespace().next())
        .collect();
    assert!(
        seen.iter().all(|output| output.lines().count() == 1),
        "{seen:?}"
    );
    assert_eq!(serials.len(), 3, "one of its own each: {seen:?}");
}

fn freeze(fixture: &Fixture) {
    let launch = fixture.launch(&["sh", "-c", "sleep 100 & sleep 100 & wait"], |_| {});
    let outcome = fixture.run_with(&launch, |running| {
        let cgroup = running.cgroup.as_ref().unwrap();
        let deadline = sys::process::monotonic_ns() + 5_000_000_000;
        while cgroup.procs().unwrap().len() < 3 {
            assert!(sys::process::monotonic_ns() < deadline);
        }
        cgroup.freeze().unwrap();
        assert!(cgroup.is_frozen());
        cgroup.thaw().unwrap();
        assert!(!cgroup.is_frozen());
        cgroup.kill().unwrap();
    });
    assert_eq!(outcome.unwrap().code, 137);
}

fn sysctls(fixture: &Fixture) {
    let with = |key: &'static str| {
        move |launch: &mut serde_json::Value| {
            launch["spec"]["linux"]["sysctl"] = json!({key: "7"});
        }
    };
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let outcome = shell(
        fixture,
        &format!("cat {path}"),
        with("net.ipv4.ip_unprivileged_port_start"),
    );
    assert_eq!(outcome.output, "7\n");
    let error = fails(fixture, with("net.none"));
    assert_eq!(
        error.message,
        "sysctl net.none=7: no such file or directory"
    );
    let error = fails(fixture, with("no.such"));
    assert_eq!(
        error.message,
        "sysctl \"no.such\" is not in a separate kernel namespace"
    );
    // A namespace that is joined may turn out to be the host's.
    let error = fails(fixture, |launch| {
        with("net.none")(launch);
        for namespace in launch["spec"]["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
        {
            if namespace["type"] == "network" {
                namespace["path"] = json!("/proc/self/ns/net");
            }
        }
    });
    assert_eq!(
        error.message,
        "sysctl \"net.none\" not allowed in host network namespace"
    );
}

fn user_namespace(fixture: &Fixture) {
    let root = fixture.path("lower");
    let outcome = shell(
        fixture,
        "id -u; cat /proc/self/uid_map; echo x > /dev/null; ls -ln /dev/null",
        |launch| {
            launch["root"] = json!({"path": root});
            let linux = &mut launch["spec"]["linux"];
            linux["namespaces"]
                .as_array_mut()
                .unwrap()
                .push(json!({"type": "user"}));
            linux["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
            linux["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 1000}]);
        },
    );
    let mut lines = outcome.output.lines();
    assert_eq!(lines.next(), Some("0"), "{outcome:?}");
    let map: Vec<_> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(map, ["0", "100000", "1000"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
}

fn copy_up(fixture: &Fixture) {
    let tmpfs = |options: &'static [&'static str]| {
        move |launch: &mut serde_json::Value| {
            launch["spec"]["mounts"].as_array_mut().unwrap().push(json!(
                {"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": options}
            ));
        }
    };
    assert_eq!(
        shell(fixture, "ls /etc", tmpfs(&["tmpcopyup"])).output,
        "group\npasswd\nplain\n"
    );
    assert_eq!(shell(fixture, "ls /etc", tmpfs(&["mode=700"])).output, "");
}

fn trace(fixture: &Fixture) {
    let launch = fixture.launch(&["true"], |launch| launch["trace"] = json!(true));
    fixture
        .run_with(&launch, |running| {
            assert!(running.steps.iter().any(|step| step.name == "mount root"));
            assert!(running.steps.iter().any(|step| step.name == "execve"));
        })
        .unwrap();
    let launch = fixture.launch(&["true"], |_| {});
    fixture
        .run_with(&launch, |running| assert!(running.steps.is_empty()))
        .unwrap();
}

fn dropped(fixture: &Fixture) {
    let path = fixture.cgroups.join(fixture.id());
    let blank = Blank::create(&BlankOptions::ordinary(Some(path.clone()))).unwrap();
    let cgroup = blank.cgroup().unwrap().clone();
    assert_eq!(cgroup.procs().unwrap(), [blank.pid()]);
    drop(blank);
    cgroup.remove().unwrap();
    assert!(sys::process::wait_any(false).unwrap().is_none());
}
