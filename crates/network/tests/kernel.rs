//! Bridges, ready namespaces and the firewall against the real kernel, each test in a network
//! namespace of its own, with more namespaces as containers and as the world outside.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "helpers of tests fail as tests do"
)]

use model::firewall::{BridgeRules, Change, FirewallPlan, HostPort, Target, Transport};
use model::ipam::{AddressSpace, Cidr};
use network::{
    AddressSource, Firewall, HeldPort, LinkIndex, Links, NamespaceOptions, NamespacePool, Prepared,
    ReadyNamespace, ensure_bridge,
};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(5);
/// Long enough for an answer, short enough to wait for one that must not come.
const NEVER: Duration = Duration::from_millis(300);

/// Runs a test in a fresh network namespace, or says that it cannot.
fn in_own_namespace(test: impl FnOnce() + Send + 'static) {
    let run = std::thread::spawn(move || match sys::netlink::unshare_network_namespace() {
        Ok(()) => {
            let mut links = Links::open().unwrap();
            links.set_up(network::LOOPBACK).unwrap();
            network::enable_forwarding().unwrap();
            test();
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            println!("SKIPPED: needs root to make a network namespace");
        }
        Err(error) => panic!("{error}"),
    });
    if let Err(panic) = run.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs something inside a namespace and returns what it returns.
fn inside<T: Send>(ready: &ReadyNamespace, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let netns = ready.netns.as_fd();
        let thread = scope.spawn(move || {
            sys::netlink::enter_network_namespace(netns).unwrap();
            run()
        });
        thread.join().unwrap()
    })
}

#[derive(Default)]
struct Addresses(Mutex<BTreeMap<LinkIndex, (Cidr, AddressSpace)>>);

impl AddressSource for Addresses {
    fn take(&self, bridge: LinkIndex) -> Option<Prepared> {
        let mut spaces = self.0.lock().unwrap();
        let (gateway, space) = spaces.get_mut(&bridge)?;
        Some(Prepared {
            address: Cidr::new(space.allocate().ok()?, gateway.prefix_len())?,
            gateway: Some(gateway.address()),
        })
    }

    fn give_back(&self, bridge: LinkIndex, prepared: Prepared) {
        if let Some((_, space)) = self.0.lock().unwrap().get_mut(&bridge) {
            space.release(prepared.address.address());
        }
    }
}

/// A host: `br0` for containers, `out0` as the network that the host is on.
struct Host {
    pool: NamespacePool,
    firewall: Firewall,
    plan: FirewallPlan,
    bridge: LinkIndex,
    outer: LinkIndex,
}

impl Host {
    fn new(spares: usize) -> Self {
        let addresses = Arc::new(Addresses::default());
        let mut links = Links::open().unwrap();
        let mut bridge = |name: &str, address: &str| {
            let address: Cidr = address.parse().unwrap();
            let index = ensure_bridge(&mut links, name, address, None).unwrap();
            let space = AddressSpace::new(address.network(), None, Some(address.address()));
            addresses.0.lock().unwrap().insert(index, (address, space));
            index
        };
        let (bridge, outer) = (
            bridge("br0", "172.17.0.1/16"),
            bridge("out0", "203.0.113.1/24"),
        );
        network::set_device_option("out0", "route_localnet", "0").unwrap();
        let pool = NamespacePool::start(NamespaceOptions {
            spares,
            mtu: None,
            addresses,
        })
        .unwrap();
        pool.add_bridge(bridge);
        let mut plan = FirewallPlan::default();
        let rules = BridgeRules {
            subnet: "172.17.0.1/16".parse().unwrap(),
            masquerade: true,
        };
        plan.add_bridge("br0", rules);
        let mut firewall = Firewall::open("berth-test").unwrap();
        firewall.install(&plan).unwrap();
        Self {
            pool,
            firewall,
            plan,
            bridge,
            outer,
        }
    }

    fn container(&self) -> ReadyNamespace {
        self.pool.take(Some(self.bridge)).unwrap()
    }

    fn publish(&mut self, from: HostPort, to: Target) {
        self.plan.publish(from, to).unwrap();
        self.firewall.apply(&[Change::Publish(from, to)]).unwrap();
    }
}

fn address_of(ready: &ReadyNamespace) -> Ipv4Addr {
    let prepared = ready.endpoint.as_ref().unwrap().prepared.unwrap();
    prepared.address.address()
}

/// Serves one connection at a time: tells each client the address it is seen with.
fn serve_tcp(ready: &ReadyNamespace, port: u16) {
    let listener = inside(ready, || {
        TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
    });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let peer = stream.peer_addr().unwrap().ip();
            let _gone = write!(stream, "{peer}");
        }
    });
}

/// Connects and returns the address that the server says it sees.
fn ask_tcp(to: impl Into<IpAddr>, port: u16, timeout: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(to.into(), port), timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    let mut seen = String::new();
    stream.read_to_string(&mut seen)?;
    Ok(seen)
}

#[track_caller]
fn assert_seen_as(asked: io::Result<String>, address: Ipv4Addr) {
    assert_eq!(asked.unwrap(), address.to_string());
}

fn tcp(address: Option<Ipv4Addr>, port: u16) -> HostPort {
    HostPort {
        transport: Transport::Tcp,
        address,
        port,
    }
}

const OUTER_HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(172, 17, 0, 1);

#[test]
fn containers_reach_each_other_and_the_world() {
    in_own_namespace(|| {
        let host = Host::new(1);
        let (a, b) = (host.container(), host.container());
        let world = host.pool.take(Some(host.outer)).unwrap();
        assert_ne!(address_of(&a), address_of(&b));
        serve_tcp(&b, 80);
        serve_tcp(&world, 80);
        // Neighbours see each other as they are; the world sees the host.
        assert_seen_as(
            inside(&a, || ask_tcp(address_of(&b), 80, SOON)),
            address_of(&a),
        );
        assert_seen_as(
            inside(&a, || ask_tcp(address_of(&world), 80, SOON)),
            OUTER_HOST,
        );
        // Nobody comes in through the host's forwarding alone, and the host itself may.
        let uninvited = inside(&world, || ask_tcp(address_of(&b), 80, NEVER));
        assert_eq!(uninvited.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_seen_as(ask_tcp(address_of(&b), 80, SOON), GATEWAY);
        // The loopback device works inside.
        assert_seen_as(
            inside(&b, || ask_tcp(Ipv4Addr::LOCALHOST, 80, SOON)),
            Ipv4Addr::LOCALHOST,
        );
    });
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    in_own_namespace(reach_a_published_port_from_everywhere);
}

#[test]
fn a_published_port_is_reached_from_everywhere_without_br_netfilter() {
    in_own_namespace(|| {
        // Where the kernel has no such setting, the test above says all.
        let path = "/proc/sys/net/bridge/bridge-nf-call-iptables";
        if let Ok(mut setting) = std::fs::OpenOptions::new().write(true).open(path) {
            setting.write_all(b"0").unwrap();
        }
        reach_a_published_port_from_everywhere();
    });
}

fn reach_a_published_port_from_everywhere() {
    let mut host = Host::new(0);
    let (web, neighbour) = (host.container(), host.container());
    let world = host.pool.take(Some(host.outer)).unwrap();
    serve_tcp(&web, 80);
    let to = Target {
        address: address_of(&web),
        port: 80,
    };
    host.publish(tcp(None, 8080), to);
    let ask = |ip: Ipv4Addr| ask_tcp(ip, 8080, SOON);
    // From elsewhere the source address is kept.
    assert_seen_as(inside(&world, || ask(OUTER_HOST)), address_of(&world));
    // From the host: over loopback and over its own addresses.
    assert_seen_as(ask(Ipv4Addr::LOCALHOST), GATEWAY);
    assert_seen_as(ask(Ipv4Addr::new(127, 1, 2, 3)), GATEWAY);
    assert_eq!(ask(OUTER_HOST).unwrap(), OUTER_HOST.to_string());
    ask(GATEWAY).unwrap();
    // From a neighbour, and from the container to itself.
    assert_seen_as(inside(&neighbour, || ask(GATEWAY)), GATEWAY);
    assert_seen_as(inside(&neighbour, || ask(OUTER_HOST)), GATEWAY);
    assert_seen_as(inside(&web, || ask(OUTER_HOST)), GATEWAY);

    host.firewall
        .apply(&[Change::Withdraw(tcp(None, 8080), to)])
        .unwrap();
    assert_eq!(
        ask(OUTER_HOST).unwrap_err().kind(),
        io::ErrorKind::ConnectionRefused
    );
}

#[test]
fn a_port_on_one_address_is_only_there() {
    in_own_namespace(|| {
        let mut host = Host::new(0);
        let (web, world) = (host.container(), host.pool.take(Some(host.outer)).unwrap());
        serve_tcp(&web, 80);
        let to = Target {
            address: address_of(&web),
            port: 80,
        };
        host.publish(tcp(Some(Ipv4Addr::LOCALHOST), 8080), to);
        host.publish(tcp(Some(OUTER_HOST), 8081), to);
        ask_tcp(Ipv4Addr::LOCALHOST, 8080, SOON).unwrap();
        inside(&world, || ask_tcp(OUTER_HOST, 8081, SOON)).unwrap();
        inside(&world, || ask_tcp(OUTER_HOST, 8080, NEVER)).unwrap_err();
        ask_tcp(Ipv4Addr::LOCALHOST, 8081, NEVER).unwrap_err();
    });
}

/// Answers every datagram with the address that it came from.
fn serve_udp(ready: &ReadyNamespace, port: u16) {
    let socket = inside(ready, || {
        UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()
    });
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let own = format!("{} on {}", peer.ip(), socket.local_addr().unwrap().port());
            let _gone = socket.send_to(own.as_bytes(), peer);
        }
    });
}

fn ask_udp(socket: &UdpSocket, to: Ipv4Addr) -> io::Result<String> {
    socket.set_read_timeout(Some(SOON))?;
    socket.send_to(b"?", (to, 5353))?;
    let mut buffer = [0; 64];
    let (len, peer) = socket.recv_from(&mut buffer)?;
    assert_eq!(peer.ip(), IpAddr::from(to));
    Ok(String::from_utf8_lossy(&buffer[..len]).into_owned())
}

const MDNS: HostPort = HostPort {
    transport: Transport::Udp,
    address: None,
    port: 5353,
};

#[test]
fn udp_is_published_too() {
    in_own_namespace(|| {
        let mut host = Host::new(0);
        let (echo, world) = (host.container(), host.pool.take(Some(host.outer)).unwrap());
        serve_udp(&echo, 53);
        let to = Target {
            address: address_of(&echo),
            port: 53,
        };
        host.publish(MDNS, to);
        let ask = |to| ask_udp(&UdpSocket::bind("0.0.0.0:0").unwrap(), to).unwrap();
        let seen = inside(&world, || ask(OUTER_HOST));
        assert_eq!(seen, format!("{} on 53", address_of(&world)));
        assert_eq!(ask(Ipv4Addr::LOCALHOST), format!("{GATEWAY} on 53"));
    });
}

#[test]
fn a_udp_client_that_keeps_its_port_is_led_anew() {
    in_own_namespace(|| {
        let mut host = Host::new(0);
        let world = host.pool.take(Some(host.outer)).unwrap();
        let client = inside(&world, || UdpSocket::bind("0.0.0.0:0").unwrap());
        // Nobody is there yet; the kernel remembers all the same.
        client.connect((OUTER_HOST, 5353)).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.send(b"?").unwrap();
        let refused = client.recv(&mut [0; 64]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        for port in [53, 54] {
            let echo = host.container();
            serve_udp(&echo, port);
            let to = Target {
                address: address_of(&echo),
                port,
            };
            host.publish(MDNS, to);
            assert_eq!(network::forget_flows(&[(MDNS, to)]).unwrap(), 1);
            let seen = ask_udp(&client, OUTER_HOST).unwrap();
            assert_eq!(seen, format!("{} on {port}", address_of(&world)));
            host.plan.withdraw(MDNS);
            host.firewall.apply(&[Change::Withdraw(MDNS, to)]).unwrap();
        }
    });
}

#[test]
fn a_rule_of_the_users_applies_to_published_ports() {
    in_own_namespace(|| {
        let mut host = Host::new(0);
        let (web, world) = (host.container(), host.pool.take(Some(host.outer)).unwrap());
        serve_tcp(&web, 80);
        let to = Target {
            address: address_of(&web),
            port: 80,
        };
        host.publish(tcp(None, 8080), to);
        host.publish(tcp(None, 8081), to);
        nft(&["add", "table", "ip", "mine"]);
        let hook = "{ type filter hook forward priority filter - 1; }";
        nft(&["add", "chain", "ip", "mine", "forward", hook]);
        let rule = "meta l4proto tcp ct original proto-dst 8080 ip saddr 203.0.113.0/24 drop";
        nft(&["add", "rule", "ip", "mine", "forward", rule]);
        inside(&world, || ask_tcp(OUTER_HOST, 8080, NEVER)).unwrap_err();
        inside(&world, || ask_tcp(OUTER_HOST, 8081, SOON)).unwrap();
    });
}

/// Runs the `nft` program, as a user would.
fn nft(args: &[&str]) -> String {
    let output = std::process::Command::new("nft")
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_host_loopback_is_closed_to_containers() {
    in_own_namespace(|| {
        let host = Host::new(0);
        let mut container = host.container();
        // Not through a published port: a service of the host's own, on 127.0.0.1 only.
        let secret = TcpListener::bind("127.0.0.1:9").unwrap();
        secret.set_nonblocking(true).unwrap();
        // A container that may change its own namespace sends 127.0.0.1 out through the bridge.
        let device = container.endpoint.as_ref().unwrap().device;
        container
            .links
            .add_address(device, "172.17.0.99/32".parse().unwrap())
            .unwrap();
        inside(&container, || {
            network::set_device_option("eth0", "route_localnet", "1").unwrap();
            let mut own = Links::open().unwrap();
            own.delete_address(network::LOOPBACK, "127.0.0.1/8".parse().unwrap())
                .unwrap();
            let asked = ask_tcp(Ipv4Addr::LOCALHOST, 9, NEVER);
            assert!(asked.is_err(), "{asked:?}");
        });
        assert_eq!(
            secret.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    });
}

#[test]
fn the_table_is_replaced_whole_and_no_other_is_touched() {
    in_own_namespace(|| {
        nft(&["add", "table", "ip", "user"]);
        nft(&[
            "add",
            "chain",
            "ip",
            "user",
            "c",
            "{ type filter hook forward priority 0; }",
        ]);
        let user = nft(&["list", "table", "ip", "user"]);

        let mut host = Host::new(0);
        let target = |port| Target {
            address: Ipv4Addr::new(172, 17, 0, 9),
            port,
        };
        host.publish(tcp(None, 80), target(8080));
        host.publish(tcp(Some(OUTER_HOST), 443), target(8443));
        let changed = nft(&["list", "table", "ip", "berth-test"]);
        assert_eq!(
            changed.matches("elements = { \"br0\" }").count(),
            2,
            "{changed}"
        );
        assert!(
            changed.contains("tcp . 80 : 172.17.0.9 . 8080"),
            "{changed}"
        );
        assert!(
            changed.contains("203.0.113.1 . tcp . 443 : 172.17.0.9 . 8443"),
            "{changed}"
        );
        host.firewall.install(&host.plan).unwrap();
        assert_eq!(nft(&["list", "table", "ip", "berth-test"]), changed);

        // A change that is refused leaves everything as it was.
        let refused = host.firewall.apply(&[
            Change::Withdraw(tcp(None, 80), target(8080)),
            Change::Withdraw(tcp(None, 81), target(8080)),
        ]);
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(nft(&["list", "table", "ip", "berth-test"]), changed);

        assert!(host.firewall.exists().unwrap());
        host.firewall.remove().unwrap();
        host.firewall.remove().unwrap();
        assert!(!host.firewall.exists().unwrap());
        assert_eq!(nft(&["list", "ruleset"]), user);
        let lost = host
            .firewall
            .apply(&[Change::Publish(tcp(None, 82), target(1))]);
        assert_eq!(lost.unwrap_err().kind(), io::ErrorKind::NotFound);
    });
}

#[test]
fn many_ports_fit_one_transaction() {
    in_own_namespace(|| {
        let mut host = Host::new(0);
        for port in 1..=u16::MAX {
            let address = Ipv4Addr::new(172, 17, 0, 9);
            host.plan
                .publish(tcp(None, port), Target { address, port })
                .unwrap();
        }
        let start = Instant::now();
        host.firewall.install(&host.plan).unwrap();
        let whole = start.elapsed();
        let to = *host.plan.published().get(&tcp(None, 80)).unwrap();
        let start = Instant::now();
        host.firewall
            .apply(&[Change::Withdraw(tcp(None, 80), to)])
            .unwrap();
        println!(
            "65,535 ports in {whole:?}, one of them withdrawn in {:?}",
            start.elapsed()
        );
    });
}

#[test]
fn a_held_port_is_taken_for_everybody() {
    in_own_namespace(|| {
        let held = HeldPort::bind(tcp(None, 8080)).unwrap();
        let other = HeldPort::bind(tcp(Some(Ipv4Addr::LOCALHOST), 8080)).unwrap_err();
        assert_eq!(other.to_string(), "address already in use");
        assert_eq!(
            TcpListener::bind("0.0.0.0:8080").unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(held);
        HeldPort::bind(tcp(Some(Ipv4Addr::LOCALHOST), 8080)).unwrap();
        let elsewhere = HeldPort::bind(tcp(Some(Ipv4Addr::new(198, 51, 100, 1)), 8080));
        assert_eq!(
            elsewhere.unwrap_err().to_string(),
            "cannot assign requested address"
        );
    });
}

#[test]
fn links_end_with_their_namespace() {
    in_own_namespace(|| {
        let host = Host::new(2);
        let taken: Vec<_> = (0..3).map(|_| host.container()).collect();
        assert!(host.pool.wait_until_full(SOON));
        let veths = || {
            let links = Links::open().unwrap().list().unwrap();
            links.iter().filter(|link| link.kind == "veth").count()
        };
        assert_eq!(veths(), 5);
        let bridge = Links::open().unwrap().find("br0").unwrap().unwrap();
        assert_eq!(bridge.mac.unwrap().to_string(), "02:42:ac:11:00:01");
        let devices = host.pool.host_devices();
        assert_eq!(devices.len(), 2);
        assert!(
            devices
                .iter()
                .all(|name| network::is_host_device_name(name)),
            "{devices:?}"
        );
        assert!(!network::is_host_device_name("veth-mine"));
        drop(taken);
        drop(host.pool);
        let deadline = Instant::now() + SOON;
        while veths() > 0 {
            assert!(Instant::now() < deadline, "{} links are left", veths());
            std::thread::yield_now();
        }
    });
}

/// Returns the processor time of the threads with a name, the longest one's.
fn thread_time(name: &str) -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let times = tasks.filter_map(|task| {
        let task = task.ok()?.path();
        let comm = std::fs::read_to_string(task.join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.join("schedstat")).ok()?;
        let nanoseconds = stat.split(' ').next()?.parse().ok()?;
        (comm.trim() == name).then_some(Duration::from_nanos(nanoseconds))
    });
    times.max().unwrap_or_default()
}

#[test]
fn attach_times_are_shown() {
    in_own_namespace(|| {
        let host = Host::new(2);
        let mut times = Vec::new();
        let mut kept = Vec::new();
        for _ in 0..20 {
            assert!(host.pool.wait_until_full(SOON));
            let start = Instant::now();
            kept.push(host.container());
            times.push(start.elapsed());
        }
        times.sort();
        println!(
            "taken from the pool: median {:?}, worst {:?}",
            times[10], times[19]
        );
        let made_ahead = thread_time("namespaces") / 24;
        println!("made ahead: {made_ahead:?} of processor time each");
        let start = Instant::now();
        kept.extend((0..50).map(|_| host.container()));
        println!(
            "back to back, faster than it is filled: {:?} each",
            start.elapsed() / 50
        );
    });
}
