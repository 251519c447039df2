//! The flags that describe a container, shared by `run` and `create`.

use super::{FlagError, units};
use client::wire::{RestartPolicy, Ulimit};
use std::path::PathBuf;

/// The flags, as written; [`super::create_body`] gives them their meaning.
#[derive(Debug, Clone, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub(crate) struct ContainerArgs {
    /// The image, then the command to run in it and its arguments
    #[arg(value_names = ["IMAGE", "COMMAND"], required = true, num_args = 1.., trailing_var_arg = true)]
    pub(crate) image_and_command: Vec<String>,

    /// Name of the container
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Keep stdin open
    #[arg(short, long)]
    pub(crate) interactive: bool,
    /// Give the container a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// Attach only to these: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM", value_parser = ["stdin", "stdout", "stderr", "STDIN", "STDOUT", "STDERR"], hide_possible_values = true)]
    pub(crate) attach: Vec<String>,
    /// Set an environment variable: NAME=value, or NAME to pass on the client's
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) env_file: Vec<PathBuf>,
    /// Working directory
    #[arg(short, long, value_name = "DIR")]
    pub(crate) workdir: Option<String>,
    /// User (and group): name or number
    #[arg(short, long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Further groups
    #[arg(long, value_name = "GROUP")]
    pub(crate) group_add: Vec<String>,
    /// Replace the image's entry point
    #[arg(long, value_name = "COMMAND")]
    pub(crate) entrypoint: Option<String>,
    /// Run an init that forwards signals and reaps processes
    #[arg(long)]
    pub(crate) init: bool,
    /// Host name
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Domain name
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    pub(crate) label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub(crate) label_file: Vec<PathBuf>,
    /// Set an annotation, which is handed to the runtime
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) annotation: Vec<(String, String)>,
    /// Write the container's ID to a file
    #[arg(long, value_name = "FILE")]
    pub(crate) cidfile: Option<PathBuf>,
    /// Pull the image: always, missing or never
    #[arg(long, value_name = "WHEN", default_value = "missing", value_parser = ["always", "missing", "never"], hide_possible_values = true)]
    pub(crate) pull: String,
    /// Say nothing while pulling
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Platform of the image: os/arch[/variant]
    #[arg(long, value_name = "PLATFORM")]
    pub(crate) platform: Option<String>,

    /// Mount a host path or a volume
    #[arg(short, long, value_name = "[SOURCE:]TARGET[:OPTIONS]")]
    pub(crate) volume: Vec<String>,
    /// Mount, in the long form: type=bind,source=A,target=B,readonly
    #[arg(long, value_name = "FIELDS")]
    pub(crate) mount: Vec<String>,
    /// Mount a tmpfs
    #[arg(long, value_name = "TARGET[:OPTIONS]")]
    pub(crate) tmpfs: Vec<String>,
    /// Driver of the volumes given by -v
    #[arg(long, value_name = "DRIVER")]
    pub(crate) volume_driver: Option<String>,
    /// Mount another container's volumes
    #[arg(long, value_name = "CONTAINER[:ro]")]
    pub(crate) volumes_from: Vec<String>,
    /// Make the root file system read-only
    #[arg(long)]
    pub(crate) read_only: bool,
    /// Option of the storage driver
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) storage_opt: Vec<(String, String)>,
    /// Size of /dev/shm
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    pub(crate) shm_size: Option<i64>,

    /// Network: bridge, host, none, container:NAME or a network's name
    #[arg(long, visible_alias = "net", value_name = "NETWORK")]
    pub(crate) network: Vec<String>,
    /// Further name on the network
    #[arg(long, visible_alias = "net-alias", value_name = "NAME")]
    pub(crate) network_alias: Vec<String>,
    /// Publish a port
    #[arg(short, long, value_name = "[[IP:]HOST:]PORT[/PROTOCOL]")]
    pub(crate) publish: Vec<String>,
    /// Publish every exposed port at a free port of the host
    #[arg(short = 'P', long)]
    pub(crate) publish_all: bool,
    /// Say that a port is served
    #[arg(long, value_name = "PORT[/PROTOCOL]")]
    pub(crate) expose: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip: Option<String>,
    /// IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) ip6: Option<String>,
    /// Link-local address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) link_local_ip: Vec<String>,
    /// MAC address
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mac_address: Option<String>,
    /// Link to another container
    #[arg(long, value_name = "CONTAINER[:ALIAS]")]
    pub(crate) link: Vec<String>,
    /// Line of /etc/hosts
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = extra_host)]
    pub(crate) add_host: Vec<String>,
    /// DNS server
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) dns: Vec<std::net::IpAddr>,
    /// DNS option
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    pub(crate) dns_option: Vec<String>,
    /// DNS search domain
    #[arg(long, value_name = "DOMAIN")]
    pub(crate) dns_search: Vec<String>,

    /// Memory limit
    #[arg(short, long, value_name = "BYTES", value_parser = units::bytes)]
    pub(crate) memory: Option<i64>,
    /// Soft memory limit
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    pub(crate) memory_reservation: Option<i64>,
    /// Limit of memory and swap together; -1: none
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = units::bytes_or_unlimited)]
    pub(crate) memory_swap: Option<i64>,
    /// Swappiness, 0 to 100
    #[arg(long, value_name = "PERCENT", allow_hyphen_values = true)]
    pub(crate) memory_swappiness: Option<i64>,
    /// Do not kill the container when memory runs out
    #[arg(long)]
    pub(crate) oom_kill_disable: bool,
    /// Preference of the OOM killer, -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) oom_score_adj: Option<i64>,
    /// Number of processors
    #[arg(long, value_name = "NUMBER", value_parser = units::nano_cpus)]
    pub(crate) cpus: Option<i64>,
    /// Relative weight of processor time
    #[arg(short, long, value_name = "NUMBER")]
    pub(crate) cpu_shares: Option<i64>,
    /// CFS period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<i64>,
    /// CFS quota in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// Real-time period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_period: Option<i64>,
    /// Real-time runtime in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// Processors to use: 0-3,5
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use: 0-3,5
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Number of processes; -1: no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Relative weight of block IO, 10 to 1000
    #[arg(long, value_name = "NUMBER")]
    pub(crate) blkio_weight: Option<u16>,
    /// Relative weight of block IO of a device
    #[arg(long, value_name = "DEVICE:WEIGHT", value_parser = weight)]
    pub(crate) blkio_weight_device: Vec<(String, u16)>,
    /// Limit reading from a device, bytes a second
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = byte_rate)]
    pub(crate) device_read_bps: Vec<(String, u64)>,
    /// Limit writing to a device, bytes a second
    #[arg(long, value_name = "DEVICE:BYTES", value_parser = byte_rate)]
    pub(crate) device_write_bps: Vec<(String, u64)>,
    /// Limit reading from a device, operations a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = rate)]
    pub(crate) device_read_iops: Vec<(String, u64)>,
    /// Limit writing to a device, operations a second
    #[arg(long, value_name = "DEVICE:NUMBER", value_parser = rate)]
    pub(crate) device_write_iops: Vec<(String, u64)>,
    /// Resource limit
    #[arg(long, value_name = "NAME=SOFT[:HARD]", value_parser = units::ulimit)]
    pub(crate) ulimit: Vec<Ulimit>,
    /// Kernel parameter
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) sysctl: Vec<(String, String)>,
    /// Parent of the container's cgroup
    #[arg(long, value_name = "CGROUP")]
    pub(crate) cgroup_parent: Option<String>,

    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) cap_drop: Vec<String>,
    /// Security option: no-new-privileges, seccomp=FILE, apparmor=PROFILE, …
    #[arg(long, value_name = "OPTION")]
    pub(crate) security_opt: Vec<String>,
    /// Give every capability and device
    #[arg(long)]
    pub(crate) privileged: bool,
    /// Give a device of the host
    #[arg(long, value_name = "HOST[:CONTAINER[:PERMISSIONS]]")]
    pub(crate) device: Vec<String>,
    /// Rule of the device cgroup
    #[arg(long, value_name = "RULE")]
    pub(crate) device_cgroup_rule: Vec<String>,

    /// IPC namespace: private, shareable, host, none or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) ipc: Option<String>,
    /// PID namespace: host or container:NAME
    #[arg(long, value_name = "MODE")]
    pub(crate) pid: Option<String>,
    /// UTS namespace: host
    #[arg(long, value_name = "MODE")]
    pub(crate) uts: Option<String>,
    /// User namespace: host
    #[arg(long, value_name = "MODE")]
    pub(crate) userns: Option<String>,
    /// Cgroup namespace: private or host
    #[arg(long, value_name = "MODE")]
    pub(crate) cgroupns: Option<String>,

    /// What to do when it exits: no, on-failure[:N], always, unless-stopped
    #[arg(long, value_name = "POLICY", value_parser = units::restart)]
    pub(crate) restart: Option<RestartPolicy>,
    /// Signal that stops it
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    pub(crate) stop_signal: Option<String>,
    /// Seconds until a stop kills it
    #[arg(long, value_name = "SECONDS", allow_hyphen_values = true)]
    pub(crate) stop_timeout: Option<i64>,
    /// Log driver
    #[arg(long, value_name = "DRIVER")]
    pub(crate) log_driver: Option<String>,
    /// Option of the log driver
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) log_opt: Vec<(String, String)>,
    /// OCI runtime to use
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime: Option<String>,

    /// Command that checks health
    #[arg(long, value_name = "COMMAND")]
    pub(crate) health_cmd: Option<String>,
    /// Time between checks: 30s
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ns)]
    pub(crate) health_interval: Option<i64>,
    /// Time for one check
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ns)]
    pub(crate) health_timeout: Option<i64>,
    /// Time at the start in which failures do not count
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ns)]
    pub(crate) health_start_period: Option<i64>,
    /// Time between checks at the start
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ns)]
    pub(crate) health_start_interval: Option<i64>,
    /// Failures until it counts as unhealthy
    #[arg(long, value_name = "NUMBER")]
    pub(crate) health_retries: Option<i64>,
    /// Turn the image's health check off
    #[arg(long)]
    pub(crate) no_healthcheck: bool,
}

impl ContainerArgs {
    /// Returns the image as written.
    pub(crate) fn image(&self) -> &str {
        self.image_and_command.first().map_or("", String::as_str)
    }

    /// Returns the command line after the image.
    pub(crate) fn command(&self) -> &[String] {
        self.image_and_command.get(1..).unwrap_or_default()
    }
}

fn pair(text: &str) -> Result<(String, String), FlagError> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(FlagError::new(format!("expected NAME=VALUE, not '{text}'"))),
    }
}

fn extra_host(text: &str) -> Result<String, FlagError> {
    let (name, address) = text
        .split_once(['=', ':'])
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| FlagError::new(format!("bad format for add-host: {text:?}")))?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    if bare != "host-gateway" && bare.parse::<std::net::IpAddr>().is_err() {
        return Err(FlagError::new(format!(
            "invalid IP address in add-host: {address:?}"
        )));
    }
    Ok(format!("{name}:{bare}"))
}

fn signal(text: &str) -> Result<String, FlagError> {
    let parsed: Result<model::Signal, _> = text.parse();
    match parsed {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(FlagError::new(error.to_string())),
    }
}

fn device_value(text: &str) -> Result<(&str, &str), FlagError> {
    text.split_once(':')
        .filter(|(path, _)| path.starts_with("/dev/"))
        .ok_or_else(|| FlagError::new(format!("bad format: '{text}': expected /dev/NAME:VALUE")))
}

fn weight(text: &str) -> Result<(String, u16), FlagError> {
    let (path, weight) = device_value(text)?;
    let weight = weight
        .parse()
        .ok()
        .filter(|n| *n == 0 || (10..=1000).contains(n));
    weight
        .map(|weight| (path.to_owned(), weight))
        .ok_or_else(|| FlagError::new(format!("invalid weight for device: {text}")))
}

fn rate(text: &str) -> Result<(String, u64), FlagError> {
    let (path, rate) = device_value(text)?;
    rate.parse()
        .map(|rate| (path.to_owned(), rate))
        .map_err(|_| FlagError::new(format!("invalid rate for device: {text}")))
}

fn byte_rate(text: &str) -> Result<(String, u64), FlagError> {
    let (path, rate) = device_value(text)?;
    let bytes = u64::try_from(units::bytes(rate)?).unwrap_or_default();
    Ok((path.to_owned(), bytes))
}

/// Parses flags as `create` would.
#[cfg(test)]
pub(super) fn parse(args: &[&str]) -> ContainerArgs {
    try_parse(args).unwrap()
}

/// Parses flags as `create` would.
#[cfg(test)]
pub(super) fn try_parse(args: &[&str]) -> Result<ContainerArgs, clap::Error> {
    use clap::{Args as _, FromArgMatches as _};
    let command = clap::Command::new("create").disable_help_flag(true);
    let command = crate::cli::go_booleans(ContainerArgs::augment_args(command));
    let matches =
        command.try_get_matches_from(std::iter::once("create").chain(args.iter().copied()))?;
    ContainerArgs::from_arg_matches(&matches)
}
