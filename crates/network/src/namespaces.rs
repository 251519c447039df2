//! Network namespaces that are ready before anybody asks.
//!
//! A fresh namespace costs half a millisecond and a veth pair as much, several times that when
//! they are made back to back or while the kernel takes an old one apart. So one thread makes them
//! ahead: loopback up, and for a bridge the pair whose far end `eth0` was made inside, with the
//! address it will have. Taking one is then no more than a queue's pop.
//!
//! ```text
//! take ──► shelf "none"    [ns] [ns]          ◄── thread: refills when it has been quiet,
//!      └─► shelf <bridge>  [ns+eth0] [ns+eth0] ◄──        at once if somebody waits
//! ```
//!
//! Nothing here outlives a descriptor: when the last one to a namespace is closed, the kernel
//! takes it apart with the pair inside it, after a crash too.

use crate::host::write_setting;
use crate::link::{LOOPBACK, LinkIndex, Links, MacAddress, VethPeer};
use model::ipam::Cidr;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How the host's ends begin, as docker's do.
const HOST_DEVICE_PREFIX: &str = "veth";
/// The thread lets a start finish before it competes with it for processors and kernel locks.
const QUIET: Duration = Duration::from_millis(8);
/// No start waits longer than this for a namespace that cannot be made.
const TAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failure, before the thread tries again unasked.
const RETRY: Duration = Duration::from_secs(1);

/// The address that an endpoint is prepared with, taken from its network before it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepared {
    /// Address and prefix of the network.
    pub address: Cidr,
    /// Default route, if any.
    pub gateway: Option<Ipv4Addr>,
}

/// Where the thread gets addresses for the endpoints it prepares.
pub trait AddressSource: Send + Sync {
    /// Takes an address; none if there is none left: the endpoint is then made without.
    fn take(&self, bridge: LinkIndex) -> Option<Prepared>;
    /// Gives back the address of an endpoint that could not be made.
    fn give_back(&self, bridge: LinkIndex, prepared: Prepared);
}

/// How the pool works.
#[derive(Clone)]
pub struct NamespaceOptions {
    /// How many are kept ready on each shelf; 0: each is made when it is asked for.
    pub spares: usize,
    /// `--mtu`.
    pub mtu: Option<u32>,
    /// Where addresses come from.
    pub addresses: Arc<dyn AddressSource>,
}

impl fmt::Debug for NamespaceOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamespaceOptions")
            .field("spares", &self.spares)
            .finish_non_exhaustive()
    }
}

/// A namespace with its loopback device up.
#[derive(Debug)]
pub struct ReadyNamespace {
    /// The namespace.
    pub netns: OwnedFd,
    /// A connection that was opened inside. It keeps the namespace alive as `netns` does.
    pub links: Links,
    /// The endpoint, unless it is one with loopback only.
    pub endpoint: Option<ReadyEndpoint>,
}

/// A device inside a namespace that is a port of a bridge outside.
#[derive(Debug, Clone)]
pub struct ReadyEndpoint {
    /// Name of the host's end.
    pub host_device: String,
    /// The device inside.
    pub device: LinkIndex,
    /// Its hardware address.
    pub mac: MacAddress,
    /// The address it has already.
    pub prepared: Option<Prepared>,
}

/// The pool; dropped, it ends its thread and with it what was not taken.
#[derive(Debug)]
pub struct NamespacePool {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

type Shelf = Option<LinkIndex>;

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    options: NamespaceOptions,
}

#[derive(Debug, Default)]
struct State {
    shelves: BTreeMap<Shelf, Stock>,
    last_taken: Option<Instant>,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Stock {
    ready: VecDeque<ReadyNamespace>,
    /// How many callers wait.
    waiting: usize,
    /// How many are kept ready.
    spares: usize,
    /// A failure that somebody who waits has yet to see, or that delays the next try.
    failed: Option<(Instant, io::Error)>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change to the state is whole before the lock is let go.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NamespacePool {
    /// Starts the thread, in the calling thread's namespace, which is where bridges are.
    ///
    /// # Errors
    /// If a socket or the thread cannot be made.
    pub fn start(options: NamespaceOptions) -> io::Result<Self> {
        let mut state = State::default();
        state.shelves.entry(None).or_default().spares = options.spares;
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            options,
        });
        let maker = Maker::new(Arc::clone(&shared))?;
        let thread = std::thread::Builder::new()
            .name("namespaces".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || maker.run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Begins to keep endpoints of a bridge ready.
    pub fn add_bridge(&self, bridge: LinkIndex) {
        let mut state = self.shared.state();
        state.shelves.entry(Some(bridge)).or_default().spares = self.shared.options.spares;
        self.shared.changed.notify_all();
    }

    /// Stops keeping endpoints of a bridge ready; returns those there were.
    pub fn remove_bridge(&self, bridge: LinkIndex) -> Vec<ReadyNamespace> {
        let mut state = self.shared.state();
        let stock = state.shelves.remove(&Some(bridge));
        stock.map(|s| s.ready.into()).unwrap_or_default()
    }

    /// Takes a namespace: with loopback only, or with an endpoint on a bridge. Of those that are
    /// ready, the one with the lowest address.
    ///
    /// # Errors
    /// If one must be made and cannot be.
    pub fn take(&self, bridge: Option<LinkIndex>) -> io::Result<ReadyNamespace> {
        let deadline = Instant::now() + TAKE_TIMEOUT;
        let mut state = self.shared.state();
        state.last_taken = Some(Instant::now());
        state.shelves.entry(bridge).or_default().waiting += 1;
        let taken = loop {
            let stock = state.shelves.entry(bridge).or_default();
            if let Some(ready) = stock.pop_lowest() {
                break Ok(ready);
            }
            if let Some((_, error)) = stock.failed.take() {
                break Err(error);
            }
            self.shared.changed.notify_all();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break Err(io::ErrorKind::TimedOut.into());
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.shelves.entry(bridge).or_default().waiting -= 1;
        self.shared.changed.notify_all();
        taken
    }

    /// Gives up a ready endpoint that has a certain address, for somebody who asks for just that;
    /// false if there is none.
    pub fn discard(&self, bridge: LinkIndex, address: Ipv4Addr) -> bool {
        let mut state = self.shared.state();
        let Some(stock) = state.shelves.get_mut(&Some(bridge)) else {
            return false;
        };
        let before = stock.ready.len();
        stock.ready.retain(|ready| ready.address() != Some(address));
        stock.ready.len() < before
    }

    /// Lists the host devices of what is ready, so that a sweep leaves them alone.
    #[must_use]
    pub fn host_devices(&self) -> Vec<String> {
        let state = self.shared.state();
        let ready = state.shelves.values().flat_map(|stock| &stock.ready);
        ready
            .filter_map(|r| Some(r.endpoint.as_ref()?.host_device.clone()))
            .collect()
    }

    /// Waits until as many are ready as are to be, or `timeout` is over; false then.
    #[must_use]
    pub fn wait_until_full(&self, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        let mut state = self.shared.state();
        while state.shelves.values().any(|s| s.ready.len() < s.spares) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl Drop for NamespacePool {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was reported when it happened.
            let _ended = thread.join();
        }
    }
}

impl ReadyNamespace {
    fn address(&self) -> Option<Ipv4Addr> {
        Some(self.endpoint.as_ref()?.prepared?.address.address())
    }
}

impl Stock {
    fn pop_lowest(&mut self) -> Option<ReadyNamespace> {
        let addresses = self.ready.iter().enumerate();
        let (lowest, _) = addresses.min_by_key(|(_, ready)| ready.address())?;
        self.ready.remove(lowest)
    }
}

/// Tells whether a device's name is of the sort that the pool gives to the host's ends.
#[must_use]
pub fn is_host_device_name(name: &str) -> bool {
    let digits = name.strip_prefix(HOST_DEVICE_PREFIX).unwrap_or_default();
    digits.len() == 7 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Tells whether `br_netfilter` hands bridged packets to the firewall. What a container sends to its
/// own published port is then turned around by the bridge itself, at the port that it came from.
fn bridges_are_filtered() -> bool {
    std::fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|v| v.starts_with(b"1"))
}

/// What the thread does next.
enum Next {
    Make(Shelf),
    Wait(Option<Duration>),
    Stop,
}

impl State {
    fn next(&self, now: Instant) -> Next {
        if self.stopped {
            return Next::Stop;
        }
        let needy = self
            .shelves
            .iter()
            .find(|(_, s)| s.waiting > s.ready.len() && s.failed.is_none());
        if let Some((shelf, _)) = needy {
            return Next::Make(*shelf);
        }
        let mut lacking = self
            .shelves
            .iter()
            .filter(|(_, s)| s.ready.len() < s.spares);
        let Some((shelf, stock)) = lacking.next() else {
            return Next::Wait(None);
        };
        let quiet = self.last_taken.map(|taken| taken + QUIET);
        let retry = stock.failed.as_ref().map(|(at, _)| *at + RETRY);
        match quiet.max(retry).map(|at| at.saturating_duration_since(now)) {
            Some(left) if !left.is_zero() => Next::Wait(Some(left)),
            _ => Next::Make(*shelf),
        }
    }
}

/// The thread: it goes into each namespace it makes, and back.
struct Maker {
    shared: Arc<Shared>,
    host: OwnedFd,
    links: Links,
    made: u64,
    seed: u64,
}

impl Maker {
    fn new(shared: Arc<Shared>) -> io::Result<Self> {
        Ok(Self {
            shared,
            host: sys::netlink::current_network_namespace()?,
            links: Links::open()?,
            made: 0,
            seed: std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), ()),
        })
    }

    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        loop {
            match state.next(Instant::now()) {
                Next::Stop => return,
                Next::Wait(None) => {
                    let waited = shared.changed.wait(state);
                    state = waited.unwrap_or_else(PoisonError::into_inner);
                }
                Next::Wait(Some(left)) => {
                    let waited = shared.changed.wait_timeout(state, left);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Next::Make(shelf) => {
                    drop(state);
                    let made = self.make(shelf);
                    state = shared.state();
                    self.put(&mut state, shelf, made);
                    shared.changed.notify_all();
                }
            }
        }
    }

    fn put(&self, state: &mut State, shelf: Shelf, made: io::Result<ReadyNamespace>) {
        match (state.shelves.get_mut(&shelf), made) {
            (Some(stock), Ok(ready)) => {
                stock.failed = None;
                stock.ready.push_back(ready);
            }
            (Some(stock), Err(error)) => {
                tracing::debug!(%error, "no network namespace could be made ahead");
                stock.failed = Some((Instant::now(), error));
            }
            // The bridge went while its endpoint was made.
            (None, made) => drop(made),
        }
    }

    fn make(&mut self, shelf: Shelf) -> io::Result<ReadyNamespace> {
        sys::netlink::unshare_network_namespace()?;
        let inside = self.furnish();
        // A thread that stayed would keep the namespace alive. To go back cannot fail: the
        // descriptor is a network namespace that we were in.
        sys::netlink::enter_network_namespace(self.host.as_fd())?;
        let (netns, mut links) = inside?;
        let endpoint = match shelf {
            None => None,
            Some(bridge) => Some(self.connect(&netns, &mut links, bridge)?),
        };
        Ok(ReadyNamespace {
            netns,
            links,
            endpoint,
        })
    }

    /// Prepares the namespace that the thread is in.
    fn furnish(&self) -> io::Result<(OwnedFd, Links)> {
        let netns = sys::netlink::current_network_namespace()?;
        let mut links = Links::open()?;
        links.set_up(LOOPBACK)?;
        // As docker does for every container with a network of its own; all are new in kernels
        // that may lack them, or be without IPv6.
        for (setting, value) in [
            ("ipv4/ip_unprivileged_port_start", "0"),
            ("ipv4/ping_group_range", "0 2147483647"),
            ("ipv6/conf/default/disable_ipv6", "1"),
        ] {
            match write_setting(&Path::new("/proc/sys/net").join(setting), value) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok((netns, links))
    }

    fn connect(
        &mut self,
        netns: &OwnedFd,
        inside: &mut Links,
        bridge: LinkIndex,
    ) -> io::Result<ReadyEndpoint> {
        let source = Arc::clone(&self.shared.options.addresses);
        let prepared = source.take(bridge);
        let made = self.connect_with(netns, inside, bridge, prepared);
        if let (Err(_), Some(prepared)) = (&made, prepared) {
            source.give_back(bridge, prepared);
        }
        made
    }

    fn connect_with(
        &mut self,
        netns: &OwnedFd,
        inside: &mut Links,
        bridge: LinkIndex,
        prepared: Option<Prepared>,
    ) -> io::Result<ReadyEndpoint> {
        let mtu = self.shared.options.mtu;
        let mac =
            MacAddress::of_address(prepared.map_or(Ipv4Addr::UNSPECIFIED, |p| p.address.address()));
        let host_device = loop {
            let name = self.next_name();
            let peer = VethPeer {
                netns: netns.as_fd(),
                name: "eth0",
                mac,
            };
            match self.links.create_veth(&name, bridge, mtu, peer) {
                Ok(()) => break name,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        if bridges_are_filtered() {
            self.links.set_hairpin(&host_device)?;
        }
        let device = inside.index_of("eth0")?.ok_or(io::ErrorKind::NotFound)?;
        if let Some(Prepared { address, gateway }) = prepared {
            inside.configure(device, None, address, gateway)?;
        }
        Ok(ReadyEndpoint {
            host_device,
            device,
            mac,
            prepared,
        })
    }

    /// `veth` and seven digits, as docker names them; taken ones are rare and tried again.
    fn next_name(&mut self) -> String {
        self.made += 1;
        // Spread by an odd multiplier, so that several daemons do not walk the same names.
        let mixed = (self.seed ^ self.made).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("{HOST_DEVICE_PREFIX}{:07x}", mixed >> 36)
    }
}
