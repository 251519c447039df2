//! Networks: bridge with masquerade to an outside world, none, host, published ports.

use e2e::namespace::Namespace;
use e2e::{Machine, scenario, wait_until};

/// A world outside the machine: another namespace that knows no way back to containers.
struct Outside {
    namespace: Namespace,
}

/// TEST-NET-2: the machine's own address outside, and the world's.
const MACHINE: &str = "198.51.100.1";
const WORLD: &str = "198.51.100.2";

impl Outside {
    fn new(machine: &Machine) -> Self {
        let namespace = Namespace::new("outside");
        machine.namespace.shell(&format!(
            "ip link add out0 type veth peer name world0 netns {} && \
             ip address add {MACHINE}/24 dev out0 && ip link set out0 up",
            namespace.pid()
        ));
        namespace.shell(&format!(
            "ip address add {WORLD}/24 dev world0 && ip link set world0 up"
        ));
        Self { namespace }
    }
}

#[test]
fn the_bridge_gives_an_address_and_a_way_out() {
    scenario(|machine| {
        let outside = Outside::new(machine);
        let mut server = outside
            .namespace
            .command("busybox")
            .args(["nc", "-l", "-p", "7000", "-e", "sh", "-c"])
            .arg("busybox netstat -tn | grep :7000")
            .spawn()
            .unwrap();
        let script =
            format!("ip -4 -o address show dev eth0; ip route; sleep 0.3; nc {WORLD} 7000");
        let out = machine.berth(&["run", "--rm", "busybox", "sh", "-c", &script]);
        let text = out.ok();
        assert!(text.contains("inet 172.17.0.2/16"), "{text}");
        assert!(text.contains("default via 172.17.0.1 dev eth0"), "{text}");
        assert!(
            text.contains(&format!("{WORLD}:7000")),
            "the world answers: {text}"
        );
        assert!(
            text.contains(&format!("{MACHINE}:")),
            "from the machine's own address: {text}"
        );
        server.wait().unwrap();
        machine.namespace.shell("ip link del out0");
    });
}

#[test]
fn containers_reach_each_other_and_the_host() {
    scenario(|machine| {
        machine
            .berth(&[
                "run",
                "-d",
                "--name",
                "one",
                "busybox",
                "sh",
                "-c",
                "while :; do echo served | nc -l -p 80; done",
            ])
            .ok();
        let networks = machine.inspect("one")["NetworkSettings"].clone();
        let address = networks["Networks"]["bridge"]["IPAddress"]
            .as_str()
            .unwrap()
            .to_owned();
        let older = machine.api("GET", "/v1.41/containers/one/json", "").json();
        let old_place = &older["NetworkSettings"]["IPAddress"];
        assert_eq!(old_place, address.as_str(), "older clients read it there");
        let out = wait_until("the server listens", || {
            let out = machine.berth(&["run", "--rm", "busybox", "nc", "-w", "2", &address, "80"]);
            (out.code == 0).then_some(out)
        });
        assert_eq!(out.ok(), "served");
        machine.berth(&["exec", "one", "true"]).ok();
    });
}

#[test]
fn addresses_are_never_shared_and_come_back() {
    scenario(|machine| {
        let address = |name: &str| {
            machine
                .berth(&["run", "-d", "--name", name, "busybox", "sleep", "1000"])
                .ok();
            machine.inspect(name)["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
                .as_str()
                .unwrap()
                .to_owned()
        };
        let (a, b, c) = (address("one"), address("two"), address("three"));
        assert!(a != b && b != c && a != c);
        machine.kill_daemon();
        machine.start_daemon();
        machine
            .berth(&["run", "-d", "--name", "four", "busybox", "sleep", "1000"])
            .ok();
        let d =
            machine.inspect("four")["NetworkSettings"]["Networks"]["bridge"]["IPAddress"].clone();
        assert!(
            [a, b, c].iter().all(|used| d != used.as_str()),
            "a new daemon knows what is taken"
        );
    });
}

#[test]
fn none_and_host() {
    scenario(|machine| {
        let links = "ls /sys/class/net | tr '\\n' ' '; cat /proc/net/route | wc -l";
        let out = machine.berth(&[
            "run",
            "--rm",
            "--network",
            "none",
            "busybox",
            "sh",
            "-c",
            "ip -o link | cut -d : -f 2; ip route",
        ]);
        assert_eq!(out.ok().trim(), "lo");
        let out = machine.berth(&[
            "run",
            "--rm",
            "--network",
            "host",
            "busybox",
            "sh",
            "-c",
            "ip -o link | cut -d : -f 2; hostname",
        ]);
        assert!(
            out.ok().contains(&machine.bridge()),
            "{} {links}",
            out.stdout
        );
    });
}

#[test]
fn name_files_are_written() {
    scenario(|machine| {
        let out = machine.berth(&[
            "run",
            "--rm",
            "--hostname",
            "inner",
            "--add-host",
            "other:192.0.2.7",
            "--dns",
            "192.0.2.53",
            "busybox",
            "cat",
            "/etc/hosts",
            "/etc/resolv.conf",
        ]);
        let text = out.ok();
        for part in [
            "127.0.0.1\tlocalhost",
            "\tinner",
            "192.0.2.7\tother",
            "nameserver 192.0.2.53",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    });
}

#[test]
fn published_ports_are_reached_and_taken_ones_refused() {
    scenario(|machine| {
        let serve = "while :; do echo served | nc -l -p 80; done";
        machine
            .berth(&[
                "run", "-d", "--name", "web", "-p", "8080:80", "busybox", "sh", "-c", serve,
            ])
            .ok();
        wait_until("the published port answers", || {
            machine
                .namespace
                .shell("busybox nc -w 1 127.0.0.1 8080 || true")
                .contains("served")
                .then_some(())
        });
        assert!(
            machine
                .docker(&["ps"])
                .ok()
                .contains("0.0.0.0:8080->80/tcp")
        );
        machine
            .berth(&["run", "--rm", "-p", "8080:80", "busybox", "true"])
            .exits(125)
            .says(&["8080", "already allocated"]);
        machine.berth(&["rm", "-f", "web"]).ok();
        // Somebody else's port, not one of ours.
        let mut other = machine
            .namespace
            .command("busybox")
            .args(["nc", "-l", "-p", "8081"])
            .spawn()
            .unwrap();
        e2e::wait::pause(std::time::Duration::from_millis(200));
        machine
            .berth(&["run", "--rm", "-p", "8081:80", "busybox", "true"])
            .exits(125)
            .says(&["8081"]);
        let _gone = other.kill();
        other.wait().unwrap();
        assert!(machine.containers().is_empty());
    });
}
