//! The body of `POST /containers/create` and `POST /containers/{id}/exec`.

use serde::Serialize;
use std::collections::BTreeMap;

/// Serialises as `{}`: docker's way to write a set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Empty {}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares a wire struct whose fields are left out while they have their defaults.
macro_rules! wire {
    ($(#[$meta:meta])* $name:ident { $($(#[$field_meta:meta])* $field:ident: $type:ty,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize)]
        #[serde(rename_all = "PascalCase")]
        pub struct $name {
            $($(#[$field_meta])* #[serde(skip_serializing_if = "is_default")] pub $field: $type,)*
        }
    };
}

wire! {
    #[doc = "What to create."]
    CreateBody {
        /// Host name.
        hostname: String,
        /// Domain name.
        domainname: String,
        /// `user[:group]`.
        user: String,
        /// The creator will attach stdin.
        attach_stdin: bool,
        /// The creator will attach stdout.
        attach_stdout: bool,
        /// The creator will attach stderr.
        attach_stderr: bool,
        /// Ports the container serves.
        exposed_ports: BTreeMap<String, Empty>,
        /// A terminal.
        tty: bool,
        /// Keep stdin open.
        open_stdin: bool,
        /// Close it after the first client.
        stdin_once: bool,
        /// `NAME=value`.
        env: Vec<String>,
        /// Command.
        cmd: Option<Vec<String>>,
        /// Health check.
        healthcheck: Option<Healthcheck>,
        /// Image.
        image: String,
        /// Anonymous volumes.
        volumes: BTreeMap<String, Empty>,
        /// Working directory.
        working_dir: String,
        /// Entry point.
        entrypoint: Option<Vec<String>>,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Stop signal.
        stop_signal: String,
        /// Seconds until a stop kills.
        stop_timeout: Option<i64>,
        /// What concerns the host.
        host_config: HostConfig,
        /// Endpoints.
        networking_config: NetworkingConfig,
    }
}

wire! {
    #[doc = "Health check; durations in nanoseconds."]
    Healthcheck {
        /// `["CMD-SHELL", …]`, `["NONE"]`.
        test: Vec<String>,
        /// Between checks.
        interval: i64,
        /// For one check.
        timeout: i64,
        /// Grace at the start.
        start_period: i64,
        /// Between checks at the start.
        start_interval: i64,
        /// Failures until unhealthy.
        retries: i64,
    }
}

wire! {
    #[doc = "What concerns the host."]
    HostConfig {
        /// `-v` strings with a source.
        binds: Vec<String>,
        /// File that gets the ID (kept for inspect).
        #[serde(rename = "ContainerIDFile")]
        container_id_file: String,
        /// Log driver.
        log_config: LogConfig,
        /// Network mode.
        network_mode: String,
        /// Published ports.
        port_bindings: BTreeMap<String, Vec<PortBinding>>,
        /// Restart policy.
        restart_policy: RestartPolicy,
        /// `--rm`.
        auto_remove: bool,
        /// Volume driver.
        volume_driver: String,
        /// `--volumes-from`.
        volumes_from: Vec<String>,
        /// `--mount`.
        mounts: Vec<Mount>,
        /// Terminal size: rows, columns.
        console_size: Option<[u16; 2]>,
        /// `--annotation`.
        annotations: BTreeMap<String, String>,
        /// Capabilities to add.
        cap_add: Vec<String>,
        /// Capabilities to drop.
        cap_drop: Vec<String>,
        /// Cgroup namespace.
        cgroupns_mode: String,
        /// DNS servers.
        dns: Vec<String>,
        /// DNS options.
        dns_options: Vec<String>,
        /// DNS search domains.
        dns_search: Vec<String>,
        /// `--add-host`.
        extra_hosts: Vec<String>,
        /// Supplementary groups.
        group_add: Vec<String>,
        /// IPC namespace.
        ipc_mode: String,
        /// `--link`.
        links: Vec<String>,
        /// OOM score.
        oom_score_adj: i64,
        /// PID namespace.
        pid_mode: String,
        /// Privileged.
        privileged: bool,
        /// `-P`.
        publish_all_ports: bool,
        /// Read-only root.
        readonly_rootfs: bool,
        /// Security options.
        security_opt: Vec<String>,
        /// Paths that are not seen; none: the engine's own list.
        masked_paths: Option<Vec<String>>,
        /// Paths that are not writable; none: the engine's own list.
        readonly_paths: Option<Vec<String>>,
        /// Storage options.
        storage_opt: BTreeMap<String, String>,
        /// `--tmpfs`.
        tmpfs: BTreeMap<String, String>,
        /// UTS namespace.
        #[serde(rename = "UTSMode")]
        uts_mode: String,
        /// User namespace.
        userns_mode: String,
        /// Size of /dev/shm, bytes.
        shm_size: i64,
        /// Sysctls.
        sysctls: BTreeMap<String, String>,
        /// OCI runtime.
        runtime: String,
        /// Own init as PID 1.
        init: Option<bool>,
        /// Shares of CPU.
        cpu_shares: i64,
        /// Memory, bytes.
        memory: i64,
        /// Billionths of a CPU.
        nano_cpus: i64,
        /// Cgroup parent.
        cgroup_parent: String,
        /// Block IO weight.
        blkio_weight: u16,
        /// Block IO weight per device.
        blkio_weight_device: Vec<WeightDevice>,
        /// Read bytes per second.
        blkio_device_read_bps: Vec<ThrottleDevice>,
        /// Write bytes per second.
        blkio_device_write_bps: Vec<ThrottleDevice>,
        /// Read operations per second.
        #[serde(rename = "BlkioDeviceReadIOps")]
        blkio_device_read_iops: Vec<ThrottleDevice>,
        /// Write operations per second.
        #[serde(rename = "BlkioDeviceWriteIOps")]
        blkio_device_write_iops: Vec<ThrottleDevice>,
        /// CPU period, microseconds.
        cpu_period: i64,
        /// CPU quota, microseconds.
        cpu_quota: i64,
        /// Real-time period.
        cpu_realtime_period: i64,
        /// Real-time runtime.
        cpu_realtime_runtime: i64,
        /// CPUs.
        cpuset_cpus: String,
        /// Memory nodes.
        cpuset_mems: String,
        /// Devices.
        devices: Vec<Device>,
        /// Device cgroup rules.
        device_cgroup_rules: Vec<String>,
        /// Soft memory limit.
        memory_reservation: i64,
        /// Memory and swap.
        memory_swap: i64,
        /// Swappiness.
        memory_swappiness: Option<i64>,
        /// No OOM killer.
        oom_kill_disable: Option<bool>,
        /// Process limit.
        pids_limit: Option<i64>,
        /// Resource limits.
        ulimits: Vec<Ulimit>,
    }
}

wire! {
    #[doc = "Log driver and its options."]
    LogConfig {
        /// Driver.
        r#type: String,
        /// Options.
        config: BTreeMap<String, String>,
    }
}

/// Where a port is published; both strings are always there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PortBinding {
    /// Address of the host.
    pub host_ip: String,
    /// Port or range.
    pub host_port: String,
}

wire! {
    #[doc = "Restart policy."]
    RestartPolicy {
        /// `no`, `always`, …
        name: String,
        /// For `on-failure`.
        maximum_retry_count: i64,
    }
}

wire! {
    #[doc = "A `--mount`."]
    Mount {
        /// `bind`, `volume`, `tmpfs`, …
        r#type: String,
        /// Path or volume name.
        source: String,
        /// Path in the container.
        target: String,
        /// Read-only.
        read_only: bool,
        /// Ignored on Linux.
        consistency: String,
        /// For binds.
        bind_options: Option<BindOptions>,
        /// For volumes.
        volume_options: Option<VolumeOptions>,
        /// For tmpfs.
        tmpfs_options: Option<TmpfsOptions>,
    }
}

wire! {
    #[doc = "Options of a bind."]
    BindOptions {
        /// Propagation.
        propagation: String,
        /// Not recursive.
        non_recursive: bool,
        /// Create a missing source.
        create_mountpoint: bool,
        /// Read-only only at the top.
        read_only_non_recursive: bool,
        /// Refuse if it cannot be read-only all the way.
        read_only_force_recursive: bool,
    }
}

wire! {
    #[doc = "Options of a volume."]
    VolumeOptions {
        /// Do not fill from the image.
        no_copy: bool,
        /// Labels.
        labels: BTreeMap<String, String>,
        /// Directory inside.
        subpath: String,
        /// Driver.
        driver_config: Option<DriverConfig>,
    }
}

wire! {
    #[doc = "A volume's driver."]
    DriverConfig {
        /// Its name.
        name: String,
        /// Its options.
        options: BTreeMap<String, String>,
    }
}

wire! {
    #[doc = "Options of a tmpfs."]
    TmpfsOptions {
        /// Bytes.
        size_bytes: i64,
        /// Permission bits.
        mode: u32,
    }
}

/// Weight of a block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct WeightDevice {
    /// Device.
    pub path: String,
    /// Weight.
    pub weight: u16,
}

/// Rate limit of a block device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ThrottleDevice {
    /// Device.
    pub path: String,
    /// Rate.
    pub rate: u64,
}

/// A host device.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Device {
    /// On the host.
    pub path_on_host: String,
    /// In the container.
    pub path_in_container: String,
    /// Some of `rwm`.
    pub cgroup_permissions: String,
}

/// A resource limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Ulimit {
    /// Name.
    pub name: String,
    /// Soft limit.
    pub soft: i64,
    /// Hard limit.
    pub hard: i64,
}

wire! {
    #[doc = "Endpoints by network."]
    NetworkingConfig {
        /// By name or ID.
        endpoints_config: BTreeMap<String, EndpointConfig>,
    }
}

wire! {
    #[doc = "What is asked of an endpoint."]
    EndpointConfig {
        /// Static addresses.
        #[serde(rename = "IPAMConfig")]
        ipam_config: Option<IpamConfig>,
        /// Links.
        links: Vec<String>,
        /// Aliases.
        aliases: Vec<String>,
        /// MAC address.
        mac_address: String,
        /// Driver options.
        driver_opts: BTreeMap<String, String>,
        /// Gateway priority.
        gw_priority: i64,
    }
}

wire! {
    #[doc = "Static addresses."]
    IpamConfig {
        /// IPv4.
        #[serde(rename = "IPv4Address")]
        ipv4_address: String,
        /// IPv6.
        #[serde(rename = "IPv6Address")]
        ipv6_address: String,
        /// Link-local.
        #[serde(rename = "LinkLocalIPs")]
        link_local_ips: Vec<String>,
    }
}

wire! {
    #[doc = "An exec to create."]
    ExecBody {
        /// Attach stdin.
        attach_stdin: bool,
        /// Attach stdout.
        attach_stdout: bool,
        /// Attach stderr.
        attach_stderr: bool,
        /// Detach keys.
        detach_keys: String,
        /// A terminal.
        tty: bool,
        /// Its size: rows, columns.
        console_size: Option<[u16; 2]>,
        /// Environment.
        env: Vec<String>,
        /// Command line.
        cmd: Vec<String>,
        /// All capabilities.
        privileged: bool,
        /// User.
        user: String,
        /// Working directory.
        working_dir: String,
    }
}

/// How to start an exec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ExecStart {
    /// In the background.
    pub detach: bool,
    /// With a terminal.
    pub tty: bool,
    /// Its size: rows, columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u16; 2]>,
}
