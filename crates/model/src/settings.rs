//! What a user asked for: the settings of one container, before an image or a host has its say.
//!
//! These are docker's `Config` and `HostConfig` in parsed form: the API crate converts the wire
//! shape into them (and refuses what is not there yet, by name), the engine stores them in the
//! container's record and never changes them. Fields that docker inherits from the image when
//! absent are `Option`s here, so that "not given" stays distinct from "empty".

use crate::Signal;
use crate::image::HealthcheckConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Everything that `docker create` can say about one container.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub struct ContainerSettings {
    /// The image as the user wrote it: a reference or an ID (prefix).
    pub image: String,
    /// The process: command line, environment, user, streams.
    pub process: ProcessSettings,
    /// `Hostname`; none: the short container ID.
    pub hostname: Option<String>,
    /// `Domainname`.
    pub domainname: Option<String>,
    /// `Labels`, merged over the image's.
    pub labels: BTreeMap<String, String>,
    /// `ExposedPorts`: `80/tcp`.
    pub exposed_ports: Vec<String>,
    /// `Volumes`: paths that become anonymous volumes, beside the image's.
    pub volumes: Vec<String>,
    /// `StopSignal`; none: the image's, else SIGTERM.
    pub stop_signal: Option<Signal>,
    /// `StopTimeout`; none: 10 seconds. Negative on the wire (wait for ever) is `Duration::MAX`.
    pub stop_timeout: Option<Duration>,
    /// `Healthcheck`; none inherits.
    pub healthcheck: Option<HealthcheckConfig>,
    /// Namespaces and what is shared with whom.
    pub namespaces: NamespaceSettings,
    /// Network mode, endpoints, DNS, hosts.
    pub network: NetworkSettings,
    /// `Mounts`, `Binds` and `Tmpfs` in one list, in the order given.
    pub mounts: Vec<Mount>,
    /// `VolumesFrom`: container names with optional `:ro`.
    pub volumes_from: Vec<String>,
    /// Resource limits.
    pub resources: Resources,
    /// Capabilities, seccomp and the rest of the security options.
    pub security: SecuritySettings,
    /// `Devices`, `DeviceCgroupRules`.
    pub devices: DeviceSettings,
    /// `Ulimits`.
    pub ulimits: Vec<Ulimit>,
    /// `Sysctls`.
    pub sysctls: BTreeMap<String, String>,
    /// `ShmSize` in bytes; none: 64 MiB.
    pub shm_size_bytes: Option<u64>,
    /// `Init`: run the engine's own small init as PID 1.
    pub init: bool,
    /// `ReadonlyRootfs`.
    pub read_only: bool,
    /// `AutoRemove` (`--rm`).
    pub auto_remove: bool,
    /// `RestartPolicy`.
    pub restart: RestartPolicy,
    /// `LogConfig`.
    pub log: LogSettings,
    /// `OomScoreAdj`, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// `Annotations`, handed to the runtime.
    pub annotations: BTreeMap<String, String>,
    /// `StorageOpt`; refused while no snapshotter has options.
    pub storage_opt: BTreeMap<String, String>,
}

/// The process side of the settings; an exec has one too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub struct ProcessSettings {
    /// `Entrypoint`; `Some([])` and `Some([""])` clear the image's.
    pub entrypoint: Option<Vec<String>>,
    /// `Cmd`.
    pub cmd: Option<Vec<String>>,
    /// `Env`: `NAME=value`, or `NAME` to remove the image's.
    pub env: Vec<String>,
    /// `WorkingDir`; empty inherits.
    pub working_dir: String,
    /// `User`; empty inherits.
    pub user: String,
    /// `GroupAdd`: supplementary groups, names or numbers.
    pub group_add: Vec<String>,
    /// `Tty`.
    pub tty: bool,
    /// `OpenStdin` (`-i`).
    pub open_stdin: bool,
    /// `StdinOnce`: close the container's stdin when the first attached client ends its own.
    pub stdin_once: bool,
    /// `AttachStdin`, `AttachStdout`, `AttachStderr`: reported back by inspect.
    pub attach: AttachFlags,
    /// Terminal size at start (rows, columns), from `ConsoleSize`.
    pub console_size: Option<(u16, u16)>,
}

/// Which streams the creating client said it would attach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub struct AttachFlags {
    /// `AttachStdin`.
    pub stdin: bool,
    /// `AttachStdout`.
    pub stdout: bool,
    /// `AttachStderr`.
    pub stderr: bool,
}

/// Which namespaces are the container's own. Absent modes are docker's defaults: private.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceSettings {
    /// `PidMode`.
    pub pid: NamespaceMode,
    /// `IpcMode`.
    pub ipc: NamespaceMode,
    /// `UTSMode`.
    pub uts: NamespaceMode,
    /// `CgroupnsMode`.
    pub cgroup: NamespaceMode,
    /// `UsernsMode`.
    pub user: NamespaceMode,
    /// `CgroupParent`.
    pub cgroup_parent: Option<String>,
}

/// Where one namespace comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceMode {
    /// A new one, as docker does by default.
    #[default]
    Private,
    /// `shareable` (IPC): new, and others may join it.
    Shareable,
    /// The host's.
    Host,
    /// `container:ID`.
    Container(String),
    /// `none` (IPC): new, without /dev/shm.
    None,
}

/// Network side of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSettings {
    /// `NetworkMode`.
    pub mode: NetworkMode,
    /// `NetworkingConfig.EndpointsConfig`, by network name or ID.
    pub endpoints: BTreeMap<String, EndpointSettings>,
    /// `Dns`.
    pub dns: Vec<IpAddr>,
    /// `DnsSearch`; `["."]` means none.
    pub dns_search: Vec<String>,
    /// `DnsOptions`.
    pub dns_options: Vec<String>,
    /// `ExtraHosts`: `name:address`, address may be `host-gateway`.
    pub extra_hosts: Vec<String>,
    /// `PortBindings`.
    pub ports: Vec<PortMapping>,
    /// `PublishAllPorts`.
    pub publish_all: bool,
    /// `Links`: `container:alias`.
    pub links: Vec<String>,
    /// `NetworkDisabled`.
    pub disabled: bool,
    /// `MacAddress` of older API versions.
    pub mac_address: Option<String>,
}

/// `NetworkMode`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// `default` or `bridge`: the default bridge.
    #[default]
    Bridge,
    /// `host`.
    Host,
    /// `none`: loopback only.
    None,
    /// `container:ID`.
    Container(String),
    /// A user-defined network, by name or ID.
    Named(String),
}

/// What a user asked of one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndpointSettings {
    /// Names on this network.
    pub aliases: Vec<String>,
    /// Legacy links on this network.
    pub links: Vec<String>,
    /// Static IPv4 address.
    pub ipv4_address: Option<IpAddr>,
    /// Static IPv6 address.
    pub ipv6_address: Option<IpAddr>,
    /// Link-local addresses.
    pub link_local_ips: Vec<IpAddr>,
    /// MAC address.
    pub mac_address: Option<String>,
    /// Driver options.
    pub driver_opts: BTreeMap<String, String>,
    /// Who provides the default gateway: highest wins.
    pub gateway_priority: i64,
}

/// One published port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PortMapping {
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// Port inside the container.
    pub container_port: u16,
    /// Address on the host; none: every address.
    pub host_ip: Option<IpAddr>,
    /// First port on the host; 0: any free one.
    pub host_port: u16,
    /// Last port of a range on the host to choose from; equal to `host_port` if none.
    pub host_port_end: u16,
}

/// A mount the user asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Absolute path inside the container.
    pub target: String,
    /// What is mounted there.
    pub source: MountSource,
    /// Mounted read-only.
    pub read_only: bool,
    /// True if it came as a `-v` string (`Binds`): docker creates a missing host path then,
    /// and refuses one that came as `--mount`.
    pub from_bind: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the host.
    Bind {
        /// Absolute host path.
        source: PathBuf,
        /// `private`, `rprivate` (default), `shared`, `rshared`, `slave`, `rslave`.
        propagation: Option<String>,
        /// False: only the mount itself (`bind-recursive=disabled`).
        recursive: bool,
        /// Create a missing host directory (`BindOptions.CreateMountpoint`, and every `-v`).
        create_source: bool,
    },
    /// A named volume, or an anonymous one if there is no name.
    Volume {
        /// The volume's name.
        name: Option<String>,
        /// Do not fill a new volume from the image (`nocopy`).
        no_copy: bool,
        /// Driver to create it with; none: `local`.
        driver: Option<String>,
        /// Driver options to create it with.
        driver_opts: BTreeMap<String, String>,
        /// Labels to create it with.
        labels: BTreeMap<String, String>,
        /// Directory inside the volume to mount.
        subpath: Option<String>,
    },
    /// Memory.
    Tmpfs {
        /// Bytes; none: half of memory.
        size_bytes: Option<u64>,
        /// Permission bits of its root.
        mode: Option<u32>,
        /// Mount options as `--tmpfs` takes them.
        options: Vec<String>,
    },
}

/// Resource limits, docker's names and units. Absent: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `Memory`, bytes.
    pub memory_bytes: Option<u64>,
    /// `MemoryReservation`, bytes.
    pub memory_reservation_bytes: Option<u64>,
    /// `MemorySwap`: memory and swap together, bytes; -1: no limit.
    pub memory_swap_bytes: Option<i64>,
    /// `MemorySwappiness`, 0–100.
    pub memory_swappiness: Option<u8>,
    /// `KernelMemory` of old versions; accepted and ignored, as docker does.
    pub oom_kill_disable: bool,
    /// `NanoCpus`: 1e9 is one processor.
    pub nano_cpus: Option<u64>,
    /// `CpuShares`, 2–262144.
    pub cpu_shares: Option<u64>,
    /// `CpuPeriod`, microseconds.
    pub cpu_period_us: Option<u64>,
    /// `CpuQuota`, microseconds; -1: no limit.
    pub cpu_quota_us: Option<i64>,
    /// `CpuRealtimePeriod`, microseconds.
    pub cpu_realtime_period_us: Option<u64>,
    /// `CpuRealtimeRuntime`, microseconds.
    pub cpu_realtime_runtime_us: Option<i64>,
    /// `CpusetCpus`: `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// `CpusetMems`.
    pub cpuset_mems: Option<String>,
    /// `PidsLimit`; -1 or 0: no limit.
    pub pids_limit: Option<i64>,
    /// `BlkioWeight`, 10–1000.
    pub blkio_weight: Option<u16>,
    /// `BlkioWeightDevice`: path, weight.
    pub blkio_weight_device: Vec<(PathBuf, u64)>,
    /// `BlkioDeviceReadBps`: path, bytes per second.
    pub blkio_device_read_bps: Vec<(PathBuf, u64)>,
    /// `BlkioDeviceWriteBps`: path, bytes per second.
    pub blkio_device_write_bps: Vec<(PathBuf, u64)>,
    /// `BlkioDeviceReadIOps`: path, operations per second.
    pub blkio_device_read_iops: Vec<(PathBuf, u64)>,
    /// `BlkioDeviceWriteIOps`: path, operations per second.
    pub blkio_device_write_iops: Vec<(PathBuf, u64)>,
}

/// Security side of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecuritySettings {
    /// `Privileged`.
    pub privileged: bool,
    /// `CapAdd`: `NET_ADMIN`, `CAP_NET_ADMIN` or `ALL`.
    pub cap_add: Vec<String>,
    /// `CapDrop`.
    pub cap_drop: Vec<String>,
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// `seccomp=`.
    pub seccomp: SeccompSetting,
    /// `apparmor=`; none: unconfined where the kernel has no `AppArmor`.
    pub apparmor: Option<String>,
    /// `label=`: `SELinux`.
    pub selinux_labels: Vec<String>,
    /// `MaskedPaths`; none: docker's.
    pub masked_paths: Option<Vec<String>>,
    /// `ReadonlyPaths`; none: docker's.
    pub readonly_paths: Option<Vec<String>>,
    /// The raw `SecurityOpt` strings, given back by inspect.
    pub raw_options: Vec<String>,
}

/// Which seccomp policy applies.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompSetting {
    /// The engine's own default allow-list (also spelled `builtin`).
    #[default]
    Default,
    /// None.
    Unconfined,
    /// A profile document in docker's JSON format, as the client sent it.
    Profile(String),
}

/// Device side of the settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceSettings {
    /// `Devices`.
    pub devices: Vec<DeviceMapping>,
    /// `DeviceCgroupRules`: `c 42:* rmw`.
    pub cgroup_rules: Vec<String>,
}

/// One host device made visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceMapping {
    /// Path on the host: a device node, or a directory of them.
    pub path_on_host: PathBuf,
    /// Path inside the container.
    pub path_in_container: PathBuf,
    /// Some of `rwm`.
    pub permissions: String,
}

/// One resource limit of setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// Soft limit; -1: no limit.
    pub soft: i64,
    /// Hard limit; -1: no limit.
    pub hard: i64,
}

/// What to do when the init process ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// Start again, also after the daemon starts.
    Always,
    /// Start again unless a user stopped it.
    UnlessStopped,
    /// Start again after a failure.
    OnFailure {
        /// Give up after so many; 0: never.
        max_retries: u32,
    },
}

/// `LogConfig`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogSettings {
    /// `json-file`, `local`, `none`; empty: the daemon's default.
    pub driver: String,
    /// Driver options.
    pub options: BTreeMap<String, String>,
}
