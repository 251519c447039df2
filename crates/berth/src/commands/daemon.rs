//! `berth daemon`: flags and `daemon.json`, the locks that keep two daemons apart, the sockets,
//! and a shutdown that leaves containers running.
//!
//! Flags and keys are dockerd's where they mean the same. What is said in both places is refused,
//! as dockerd does, so that nobody wonders which one won.

#![expect(clippy::doc_markdown, reason = "doc comments of flags are help text")]

mod steps;

use docker_api::AppState;
use engine::{Engine, EngineOptions};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

const DEFAULT_CONFIG: &str = "/etc/berth/daemon.json";
/// How long requests in flight may take to end after SIGTERM.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Flags of `berth daemon`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Socket to listen on: unix://PATH (repeatable) [default: unix://EXEC_ROOT/berth.sock]
    #[arg(short = 'H', long = "host", value_name = "URL")]
    hosts: Vec<String>,
    /// Where images, volumes and records are kept [default: /var/lib/berth]
    #[arg(long, value_name = "DIR")]
    data_root: Option<PathBuf>,
    /// Where sockets and run-time state are kept [default: /run/berth]
    #[arg(long, value_name = "DIR")]
    exec_root: Option<PathBuf>,
    /// File that holds the daemon's process ID [default: EXEC_ROOT/berth.pid]
    #[arg(short = 'p', long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config_file: PathBuf,
    /// Mirror to ask before any registry (repeatable)
    #[arg(long = "registry-mirror", value_name = "URL")]
    registry_mirrors: Vec<String>,
    /// Registry that may be spoken to without TLS: HOST[:PORT] or CIDR (repeatable)
    #[arg(long = "insecure-registry", value_name = "REGISTRY")]
    insecure_registries: Vec<String>,
    /// debug, info, warn or error [default: info]
    #[arg(short = 'l', long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Same as --log-level debug
    #[arg(short = 'D', long)]
    debug: bool,
    /// Address of the default bridge, like 172.17.0.1/16
    #[arg(long, value_name = "CIDR")]
    bip: Option<String>,
    /// Name of the default bridge; none turns networking off [default: berth0]
    #[arg(short = 'b', long, value_name = "NAME")]
    bridge: Option<String>,
    /// Pool that networks are cut from: base=10.0.0.0/8,size=24 (repeatable)
    #[arg(long = "default-address-pool", value_name = "POOL")]
    default_address_pools: Vec<String>,
    /// DNS server of containers (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    dns: Vec<IpAddr>,
    /// DNS search domain of containers (repeatable)
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// DNS option of containers (repeatable)
    #[arg(long = "dns-opt", value_name = "OPTION")]
    dns_opts: Vec<String>,
    /// Cgroup under which containers get theirs [default: /berth]
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Group that may use the socket [default: berth, if there is one]
    #[arg(short = 'G', long, value_name = "GROUP")]
    group: Option<String>,
}

impl crate::cli::Verb for Args {
    fn run(self, _: &crate::cli::Globals) -> Result<ExitCode, crate::failure::Failure> {
        Ok(run(self)?)
    }
}

/// Why the daemon ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error("read {path}")]
    ReadConfig { path: PathBuf, source: io::Error },
    #[error("{path}")]
    ParseConfig {
        path: PathBuf,
        source: serde_json::Error,
    },
    #[error("set both as a flag and in {path}: {}", keys.join(", "))]
    SaidTwice { path: PathBuf, keys: Vec<String> },
    #[error("invalid --default-address-pool {0:?}: expected base=CIDR,size=NUMBER")]
    AddressPool(String),
    #[error(
        "refusing to listen on {0}: without TLS it would give root to everyone who reaches it; \
         use unix://"
    )]
    PlainTcp(String),
    #[error("unsupported host {0:?}: expected unix://PATH")]
    Host(String),
    #[error("unknown log level {0:?}: expected debug, info, warn or error")]
    LogLevel(String),
    #[error("no group {0:?} in /etc/group")]
    NoGroup(String),
    #[error("create {path}")]
    CreateDir { path: PathBuf, source: io::Error },
    #[error("lock {path}")]
    Lock { path: PathBuf, source: io::Error },
    #[error("another daemon uses {path}")]
    InUse { path: PathBuf },
    #[error("another daemon listens on {path}")]
    Listening { path: PathBuf },
    #[error("listen on {path}")]
    Listen { path: PathBuf, source: io::Error },
    #[error("write {path}")]
    PidFile { path: PathBuf, source: io::Error },
    #[error("start the async runtime")]
    Runtime(#[source] io::Error),
    #[error("wait for signals")]
    Signals(#[source] io::Error),
    #[error("open the engine")]
    Open(#[from] engine::OpenError),
}

/// Keys of `daemon.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct Config {
    hosts: Vec<String>,
    data_root: Option<PathBuf>,
    exec_root: Option<PathBuf>,
    pidfile: Option<PathBuf>,
    registry_mirrors: Vec<String>,
    insecure_registries: Vec<String>,
    log_level: Option<String>,
    debug: bool,
    bip: Option<String>,
    bridge: Option<String>,
    default_address_pools: Vec<PoolConfig>,
    dns: Vec<IpAddr>,
    dns_search: Vec<String>,
    dns_opts: Vec<String>,
    cgroup_parent: Option<String>,
    group: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PoolConfig {
    base: String,
    size: u8,
}

/// What flags and file come to.
#[derive(Debug)]
struct Settings {
    engine: EngineOptions,
    sockets: Vec<PathBuf>,
    pidfile: PathBuf,
    log_level: String,
    group: Option<String>,
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// When the settings are wrong, or a lock, a root or a socket cannot be had.
pub(crate) fn run(args: Args) -> Result<ExitCode, DaemonError> {
    let config = read_config(&args.config_file)?;
    let settings = merge(args, config)?;
    log_to_stderr(&settings.log_level, settings.engine.traces.clone())?;
    for root in [&settings.engine.data_root, &settings.engine.exec_root] {
        make_root(root)?;
    }
    let _lock = lock(&settings.engine.data_root)?;
    let _exec_lock = lock(&settings.engine.exec_root)?;
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(DaemonError::Runtime)?
        .block_on(serve(settings))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(settings: Settings) -> Result<(), DaemonError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DaemonError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DaemonError::Signals)?;
    let group = socket_group(settings.group.as_deref())?;
    let engine = Arc::new(Engine::open(settings.engine).await?);
    let stop = CancellationToken::new();
    let servers = TaskTracker::new();
    for path in &settings.sockets {
        let listener = listen(path, group)?;
        let state = AppState {
            engine: engine.clone(),
        };
        servers.spawn(docker_api::serve(
            listener,
            state,
            stop.clone().cancelled_owned(),
        ));
        tracing::info!(socket = %path.display(), "API listens");
    }
    write_pidfile(&settings.pidfile)?;
    notify_supervisor("READY=1");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; containers keep running");
    notify_supervisor("STOPPING=1");
    stop.cancel();
    servers.close();
    if tokio::time::timeout(SHUTDOWN_GRACE, servers.wait())
        .await
        .is_err()
    {
        tracing::warn!("requests were still in flight");
    }
    engine.close().await;
    for path in settings.sockets.iter().chain([&settings.pidfile]) {
        remove_if_there(path);
    }
    Ok(())
}

fn read_config(path: &Path) -> Result<Config, DaemonError> {
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error)
            if error.kind() == io::ErrorKind::NotFound && path == Path::new(DEFAULT_CONFIG) =>
        {
            return Ok(Config::default());
        }
        Err(source) => {
            let path = path.to_owned();
            return Err(DaemonError::ReadConfig { path, source });
        }
    };
    serde_json::from_slice(&text).map_err(|source| DaemonError::ParseConfig {
        path: path.to_owned(),
        source,
    })
}

/// Takes each setting from where it was said, and remembers which were said twice.
#[derive(Debug, Default)]
struct Merge {
    twice: Vec<String>,
}

impl Merge {
    fn one<T>(&mut self, key: &str, flag: Option<T>, file: Option<T>) -> Option<T> {
        if flag.is_some() && file.is_some() {
            self.twice.push(key.to_owned());
        }
        flag.or(file)
    }

    fn list<T>(&mut self, key: &str, flag: Vec<T>, file: Vec<T>) -> Vec<T> {
        if !flag.is_empty() && !file.is_empty() {
            self.twice.push(key.to_owned());
        }
        if flag.is_empty() { file } else { flag }
    }
}

fn merge(args: Args, config: Config) -> Result<Settings, DaemonError> {
    let mut merge = Merge::default();
    let data_root = merge.one("data-root", args.data_root, config.data_root);
    let exec_root = merge.one("exec-root", args.exec_root, config.exec_root);
    let mut engine = EngineOptions::new(
        data_root.unwrap_or_else(|| "/var/lib/berth".into()),
        exec_root.unwrap_or_else(|| "/run/berth".into()),
    );
    engine.registry_mirrors = merge.list(
        "registry-mirrors",
        args.registry_mirrors,
        config.registry_mirrors,
    );
    engine.insecure_registries = merge.list(
        "insecure-registries",
        args.insecure_registries,
        config.insecure_registries,
    );
    engine.bip = merge.one("bip", args.bip, config.bip);
    if let Some(bridge) = merge.one("bridge", args.bridge, config.bridge) {
        engine.bridge = bridge;
    }
    let flags = args
        .default_address_pools
        .iter()
        .map(|text| parse_pool(text).ok_or_else(|| DaemonError::AddressPool(text.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    let file = config
        .default_address_pools
        .into_iter()
        .map(|pool| (pool.base, pool.size))
        .collect();
    engine.address_pools = merge.list("default-address-pools", flags, file);
    engine.dns = merge.list("dns", args.dns, config.dns);
    engine.dns_search = merge.list("dns-search", args.dns_search, config.dns_search);
    engine.dns_options = merge.list("dns-opts", args.dns_opts, config.dns_opts);
    if let Some(parent) = merge.one("cgroup-parent", args.cgroup_parent, config.cgroup_parent) {
        engine.cgroup_parent = parent;
    }
    let hosts = merge.list("hosts", args.hosts, config.hosts);
    let pidfile = merge.one("pidfile", args.pidfile, config.pidfile);
    let log_level = merge.one("log-level", args.log_level, config.log_level);
    let group = merge.one("group", args.group, config.group);
    if !merge.twice.is_empty() {
        return Err(DaemonError::SaidTwice {
            path: args.config_file,
            keys: merge.twice,
        });
    }
    let debug = args.debug || config.debug;
    Ok(Settings {
        sockets: sockets(&hosts, &engine.exec_root)?,
        pidfile: pidfile.unwrap_or_else(|| engine.exec_root.join("berth.pid")),
        log_level: if debug {
            "debug".to_owned()
        } else {
            log_level.unwrap_or_else(|| "info".to_owned())
        },
        group,
        engine,
    })
}

fn parse_pool(text: &str) -> Option<(String, u8)> {
    let fields: BTreeMap<&str, &str> = text
        .split(',')
        .map(|field| field.split_once('='))
        .collect::<Option<_>>()?;
    let known = fields.keys().all(|key| matches!(*key, "base" | "size"));
    let size = fields.get("size")?.parse().ok()?;
    known.then_some(((*fields.get("base")?).to_owned(), size))
}

fn sockets(hosts: &[String], exec_root: &Path) -> Result<Vec<PathBuf>, DaemonError> {
    if hosts.is_empty() {
        return Ok(vec![exec_root.join("berth.sock")]);
    }
    hosts
        .iter()
        .map(|host| match host.split_once("://") {
            Some(("unix", path)) if path.starts_with('/') => Ok(PathBuf::from(path)),
            Some(("tcp", _)) => Err(DaemonError::PlainTcp(host.clone())),
            _ => Err(DaemonError::Host(host.clone())),
        })
        .collect()
}

fn log_to_stderr(level: &str, traces: engine::Traces) -> Result<(), DaemonError> {
    let level = match level {
        "debug" => tracing::level_filters::LevelFilter::DEBUG,
        "info" => tracing::level_filters::LevelFilter::INFO,
        "warn" => tracing::level_filters::LevelFilter::WARN,
        "error" | "fatal" => tracing::level_filters::LevelFilter::ERROR,
        other => return Err(DaemonError::LogLevel(other.to_owned())),
    };
    // Steps are for traces, not for the log.
    let logged =
        filter_fn(move |metadata| metadata.target() != "berth::step" && *metadata.level() <= level);
    let log = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
        .with_filter(logged);
    tracing_subscriber::registry()
        .with(steps::Steps { traces })
        .with(log)
        .init();
    Ok(())
}

fn make_root(path: &Path) -> Result<(), DaemonError> {
    let made = std::fs::create_dir_all(path)
        .and_then(|()| std::fs::set_permissions(path, Permissions::from_mode(0o711)));
    made.map_err(|source| DaemonError::CreateDir {
        path: path.to_owned(),
        source,
    })
}

/// Holds a root for this daemon; the kernel lets go of it however the daemon ends.
fn lock(root: &Path) -> Result<File, DaemonError> {
    let path = root.join("daemon.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = match file {
        Ok(file) => file,
        Err(source) => return Err(DaemonError::Lock { path, source }),
    };
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(DaemonError::InUse {
            path: root.to_owned(),
        }),
        Err(std::fs::TryLockError::Error(source)) => Err(DaemonError::Lock { path, source }),
    }
}

fn listen(path: &Path, group: Option<u32>) -> Result<UnixListener, DaemonError> {
    if UnixStream::connect(path).is_ok() {
        let path = path.to_owned();
        return Err(DaemonError::Listening { path });
    }
    remove_if_there(path);
    let bound = (|| {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o660))?;
        if group.is_some() {
            chown(path, None, group)?;
        }
        Ok(listener)
    })();
    bound.map_err(|source| DaemonError::Listen {
        path: path.to_owned(),
        source,
    })
}

/// Looks the group up in the file itself: a static binary cannot ask NSS.
fn socket_group(asked: Option<&str>) -> Result<Option<u32>, DaemonError> {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let name = asked.unwrap_or("berth");
    let found = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next() == Some(name);
        found.then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    match (asked, found) {
        (Some(name), None) => Err(DaemonError::NoGroup(name.to_owned())),
        (_, found) => Ok(found),
    }
}

fn write_pidfile(path: &Path) -> Result<(), DaemonError> {
    std::fs::write(path, format!("{}\n", std::process::id())).map_err(|source| {
        DaemonError::PidFile {
            path: path.to_owned(),
            source,
        }
    })
}

fn remove_if_there(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(path = %path.display(), %error, "remove"),
    }
}

/// Tells systemd (sd_notify(3)); does nothing under any other parent.
fn notify_supervisor(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};
    let Some(address) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = (|| {
        let bytes = std::os::unix::ffi::OsStrExt::as_bytes(address.as_os_str());
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&address)?,
        };
        UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)
    })();
    if let Err(error) = sent {
        tracing::debug!(%error, "notify the supervisor");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools() {
        let check = |text: &str, expected: Option<(&str, u8)>| {
            let expected = expected.map(|(base, size)| (base.to_owned(), size));
            assert_eq!(parse_pool(text), expected, "{text}");
        };
        check("base=10.0.0.0/8,size=24", Some(("10.0.0.0/8", 24)));
        check("size=24,base=10.0.0.0/8", Some(("10.0.0.0/8", 24)));
        check("base=10.0.0.0/8", None);
        check("base=10.0.0.0/8,size=24,x=1", None);
        check("10.0.0.0/8", None);
    }

    #[test]
    fn hosts() {
        let sockets = |host: &str| sockets(&[host.to_owned()], Path::new("/run/x"));
        assert_eq!(sockets("unix:///a/b").unwrap(), [PathBuf::from("/a/b")]);
        assert!(matches!(
            sockets("tcp://0.0.0.0:2375"),
            Err(DaemonError::PlainTcp(_))
        ));
        assert!(matches!(
            sockets("unix://relative"),
            Err(DaemonError::Host(_))
        ));
    }

    #[test]
    fn flag_and_file_together_are_refused() {
        let mut merge = Merge::default();
        assert_eq!(merge.one("bip", Some(1), None), Some(1));
        assert_eq!(merge.list("dns", vec![1], vec![2]), [1]);
        assert_eq!(merge.twice, ["dns"]);
    }
}
