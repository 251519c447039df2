//! A small TCP proxy that misbehaves on demand: breaks connections in the middle, stalls them,
//! and counts what it saw. It stands between a daemon and the registry.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::machine::REGISTRY;
use crate::namespace::Namespace;
use crate::wait::pause;

/// What the proxy does to connections; shared with the test, which may change its mind.
#[derive(Debug)]
pub struct Behaviour {
    /// Break a connection after this many bytes of answers…
    pub break_after: AtomicU64,
    /// …but only so many times.
    pub breaks_left: AtomicUsize,
    /// Hold back every byte of answers while set.
    pub stalled: AtomicBool,
    /// The request lines and `Range` headers seen.
    pub requests: Mutex<Vec<String>>,
}

impl Behaviour {
    /// Passes everything on.
    fn honest() -> Self {
        Self {
            break_after: AtomicU64::new(u64::MAX),
            breaks_left: AtomicUsize::new(0),
            stalled: AtomicBool::new(false),
            requests: Mutex::new(Vec::new()),
        }
    }

    /// Breaks the next `times` connections that carry more than `bytes`.
    pub fn break_connections(&self, times: usize, bytes: u64) {
        self.break_after.store(bytes, Ordering::SeqCst);
        self.breaks_left.store(times, Ordering::SeqCst);
    }

    /// How often a path that contains `part` was asked for.
    pub fn count(&self, part: &str) -> usize {
        self.requests.lock().map_or(0, |seen| {
            seen.iter().filter(|line| line.contains(part)).count()
        })
    }
}

/// Starts a proxy on `port` of the namespace's loopback, in front of the fixtures' registry.
/// Its threads end with the test process.
pub fn start(namespace: &Namespace, port: u16) -> Arc<Behaviour> {
    let behaviour = Arc::new(Behaviour::honest());
    let shared = Arc::clone(&behaviour);
    let (ready, listening) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            namespace.enter_network();
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            // Threads inherit their maker's network namespace, so the whole proxy is inside.
            std::thread::spawn(move || serve(&listener, &shared));
            ready.send(()).unwrap();
        });
    });
    listening.recv().unwrap();
    behaviour
}

fn serve(listener: &TcpListener, behaviour: &Arc<Behaviour>) {
    for client in listener.incoming().flatten() {
        let behaviour = Arc::clone(behaviour);
        std::thread::spawn(move || {
            let _broken = connect(client, &behaviour);
        });
    }
}

fn connect(client: TcpStream, behaviour: &Arc<Behaviour>) -> std::io::Result<()> {
    let server = TcpStream::connect(REGISTRY)?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let seen = Arc::clone(behaviour);
    std::thread::spawn(move || forward_requests(from_client, to_server, &seen));
    forward_answers(server, client, behaviour)
}

fn forward_requests(mut client: TcpStream, mut server: TcpStream, behaviour: &Behaviour) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let lines = text.lines().filter(|line| {
            line.ends_with("HTTP/1.1") || line.to_ascii_lowercase().starts_with("range:")
        });
        behaviour
            .requests
            .lock()
            .unwrap()
            .extend(lines.map(str::to_owned));
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _gone = server.shutdown(Shutdown::Write);
}

fn forward_answers(
    mut server: TcpStream,
    mut client: TcpStream,
    behaviour: &Behaviour,
) -> std::io::Result<()> {
    let mut buffer = [0; 16 * 1024];
    let mut passed = 0;
    loop {
        let count = server.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        while behaviour.stalled.load(Ordering::SeqCst) {
            pause(Duration::from_millis(20));
        }
        passed += count as u64;
        let breaks = passed > behaviour.break_after.load(Ordering::SeqCst)
            && behaviour
                .breaks_left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                    left.checked_sub(1)
                })
                .is_ok();
        if breaks {
            break;
        }
        client.write_all(&buffer[..count])?;
    }
    let _gone = server.shutdown(Shutdown::Both);
    client.shutdown(Shutdown::Both)
}
