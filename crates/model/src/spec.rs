//! From a container's settings to its OCI runtime spec.
//!
//! Pure: facts about the host (its capabilities, its devices, where a namespace can be joined)
//! come in as [`HostFacts`] and [`SpecInput`], so every docker default below is tested without a
//! kernel. Defaults are docker's; a mount or device the user asked for replaces the default one
//! at the same place. Seccomp is not part of it: the engine compiles the policy once per profile
//! and hands the filter to the runtime beside the spec.

mod capabilities;
mod mounts;
mod resources;

pub use capabilities::UnknownCapability;
pub use mounts::ResolvedMount;
pub use resources::{ResourceError, linux_resources};

use crate::ContainerId;
use crate::process::ResolvedProcess;
use crate::settings::{ContainerSettings, NamespaceMode, NetworkMode};
use oci_spec::runtime::{
    BoxBuilder, Linux, LinuxCapabilities, LinuxDevice, LinuxDeviceType, LinuxNamespace,
    LinuxNamespaceType, PosixRlimit, PosixRlimitBuilder, PosixRlimitType, Process, Root, Spec,
};
use std::collections::HashMap;
use std::path::PathBuf;

/// Where the engine's own small init is found inside a container started with `--init`.
pub const INIT_PATH: &str = "/sbin/docker-init";

/// `/proc` and `/sys` entries that an unprivileged container does not see (docker's list).
pub const MASKED_PATHS: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/devices/virtual/thermal",
    "/sys/firmware",
];

/// `/proc` entries that an unprivileged container sees but cannot write (docker's list).
pub const READONLY_PATHS: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What of the host matters to a spec.
#[derive(Debug, Clone, Default)]
pub struct HostFacts {
    /// The unified hierarchy is what limits are set in.
    pub cgroup_v2: bool,
    /// Names (`CAP_…`) that the engine may hand on: its own bounding set.
    pub capabilities: Vec<String>,
    /// Every device of the host, for `--privileged`.
    pub devices: Vec<DeviceNode>,
    /// Processors online; 0 if unknown.
    pub cpus: u32,
}

/// A device node that exists on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// Path inside the container.
    pub path: PathBuf,
    /// Block device; otherwise a character device.
    pub block: bool,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Some of `rwm`.
    pub permissions: String,
}

/// Namespaces to join instead of making new ones, as paths under `/proc`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinedNamespaces {
    /// From `--pid container:…`.
    pub pid: Option<PathBuf>,
    /// From `--ipc container:…`.
    pub ipc: Option<PathBuf>,
    /// From `--network container:…`.
    pub network: Option<PathBuf>,
}

/// All that a spec is made of.
#[derive(Debug)]
pub struct SpecInput<'a> {
    /// Whose spec it is.
    pub id: &'a ContainerId,
    /// What the user asked for.
    pub settings: &'a ContainerSettings,
    /// The process, merged with the image.
    pub process: &'a ResolvedProcess,
    /// The host name inside.
    pub hostname: &'a str,
    /// User mounts and the engine's own (`/etc/hosts`…), with host paths resolved.
    pub mounts: &'a [ResolvedMount],
    /// Devices of `--device`, looked up.
    pub devices: &'a [DeviceNode],
    /// Devices of the `Blkio…Device` limits, looked up: path to (major, minor).
    pub block_devices: &'a HashMap<PathBuf, (u32, u32)>,
    /// Namespaces of other containers.
    pub join: &'a JoinedNamespaces,
    /// The container's cgroup, from the root of the hierarchy: `/berth/<id>`.
    pub cgroup_path: PathBuf,
    /// The engine's own binary, for `--init`.
    pub init_binary: PathBuf,
    /// The host.
    pub host: &'a HostFacts,
}

/// Why settings make no spec. The wording is docker's where scripts read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// `--cap-add` or `--cap-drop` names none.
    #[error(transparent)]
    Capability(#[from] UnknownCapability),
    /// A limit cannot be.
    #[error(transparent)]
    Resource(#[from] ResourceError),
    /// `--ulimit` names none, or its soft limit is above the hard one.
    #[error("invalid ulimit {0}")]
    Ulimit(String),
}

/// Checks what can be known before there is a container: docker refuses these at create.
///
/// # Errors
/// As [`build`], but for the block devices, which are looked up at start.
pub fn check(settings: &ContainerSettings, host: &HostFacts) -> Result<(), SpecError> {
    capabilities::effective(&settings.security, &host.capabilities)?;
    resources::check(settings, host.cpus)?;
    settings
        .ulimits
        .iter()
        .try_for_each(|limit| rlimit(limit).map(drop))
}

/// Makes the OCI runtime spec of a container.
///
/// # Errors
/// A setting names something that does not exist, or is out of range.
pub fn build(input: &SpecInput<'_>) -> Result<Spec, SpecError> {
    let settings = input.settings;
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs"))
        .set_readonly(Some(settings.read_only));
    let mut spec = Spec::default();
    spec.set_root(Some(root))
        .set_process(Some(process(input)?))
        .set_mounts(Some(mounts::plan(input)))
        .set_linux(Some(linux(input)?));
    if settings.namespaces.uts == NamespaceMode::Host {
        spec.set_hostname(None);
    } else {
        spec.set_hostname(Some(input.hostname.to_owned()));
        spec.set_domainname(settings.domainname.clone().filter(|name| !name.is_empty()));
    }
    if !settings.annotations.is_empty() {
        let annotations = settings.annotations.clone().into_iter().collect();
        spec.set_annotations(Some(annotations));
    }
    Ok(spec)
}

fn process(input: &SpecInput<'_>) -> Result<Process, SpecError> {
    let settings = input.settings;
    let resolved = input.process;
    let capabilities = capabilities::effective(&settings.security, &input.host.capabilities)?;
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(capabilities.clone()))
        .set_effective(Some(capabilities.clone()))
        .set_permitted(Some(capabilities))
        .set_inheritable(None)
        .set_ambient(None);
    let mut args = resolved.args.clone();
    if settings.init {
        args.splice(0..0, [INIT_PATH.to_owned(), "--".to_owned()]);
    }
    let mut process = Process::default();
    process
        .set_terminal(Some(resolved.tty))
        .set_args(Some(args))
        .set_env(Some(resolved.env.clone()))
        .set_cwd(PathBuf::from(&resolved.cwd))
        .set_capabilities(Some(sets))
        .set_no_new_privileges(Some(settings.security.no_new_privileges))
        .set_rlimits(None)
        .set_oom_score_adj(settings.oom_score_adj)
        .set_apparmor_profile(apparmor(input))
        .set_console_size(settings.process.console_size.filter(|_| resolved.tty).map(
            |(rows, columns)| {
                BoxBuilder::default()
                    .height(rows)
                    .width(columns)
                    .build()
                    .expect("every field is set")
            },
        ));
    let rlimits: Vec<PosixRlimit> = settings
        .ulimits
        .iter()
        .map(rlimit)
        .collect::<Result<_, _>>()?;
    if !rlimits.is_empty() {
        process.set_rlimits(Some(rlimits));
    }
    Ok(process)
}

fn apparmor(input: &SpecInput<'_>) -> Option<String> {
    let named = input.settings.security.apparmor.as_deref();
    named
        .filter(|profile| !profile.is_empty() && *profile != "unconfined")
        .map(str::to_owned)
}

fn rlimit(limit: &crate::settings::Ulimit) -> Result<PosixRlimit, SpecError> {
    let kind = ulimit_kind(&limit.name)
        .ok_or_else(|| SpecError::Ulimit(format!("type: {}", limit.name)))?;
    // -1 is RLIM_INFINITY, all bits set.
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let (soft, hard) = (unsigned(limit.soft), unsigned(limit.hard));
    if soft > hard {
        let message = format!(
            "{}: soft limit must be less than or equal to hard limit: {} > {}",
            limit.name, limit.soft, limit.hard
        );
        return Err(SpecError::Ulimit(message));
    }
    let limit = PosixRlimitBuilder::default()
        .typ(kind)
        .soft(soft)
        .hard(hard)
        .build();
    Ok(limit.expect("every field is set"))
}

/// The limit that docker's `--ulimit` name stands for (setrlimit(2)).
#[must_use]
pub fn ulimit_kind(name: &str) -> Option<PosixRlimitType> {
    Some(match name {
        "as" => PosixRlimitType::RlimitAs,
        "core" => PosixRlimitType::RlimitCore,
        "cpu" => PosixRlimitType::RlimitCpu,
        "data" => PosixRlimitType::RlimitData,
        "fsize" => PosixRlimitType::RlimitFsize,
        "locks" => PosixRlimitType::RlimitLocks,
        "memlock" => PosixRlimitType::RlimitMemlock,
        "msgqueue" => PosixRlimitType::RlimitMsgqueue,
        "nice" => PosixRlimitType::RlimitNice,
        "nofile" => PosixRlimitType::RlimitNofile,
        "nproc" => PosixRlimitType::RlimitNproc,
        "rss" => PosixRlimitType::RlimitRss,
        "rtprio" => PosixRlimitType::RlimitRtprio,
        "rttime" => PosixRlimitType::RlimitRttime,
        "sigpending" => PosixRlimitType::RlimitSigpending,
        "stack" => PosixRlimitType::RlimitStack,
        _ => return None,
    })
}

fn linux(input: &SpecInput<'_>) -> Result<Linux, SpecError> {
    let settings = input.settings;
    let privileged = settings.security.privileged;
    let mut linux = Linux::default();
    linux
        .set_cgroups_path(Some(input.cgroup_path.clone()))
        .set_namespaces(Some(namespaces(input)))
        .set_resources(Some(resources::with_devices(input)?))
        .set_sysctl(Some(sysctls(settings)))
        .set_rootfs_propagation(mounts::root_propagation(input.mounts))
        .set_masked_paths(Some(hidden(
            privileged,
            &settings.security.masked_paths,
            &MASKED_PATHS,
        )))
        .set_readonly_paths(Some(hidden(
            privileged,
            &settings.security.readonly_paths,
            &READONLY_PATHS,
        )));
    let host: &[DeviceNode] = if privileged { &input.host.devices } else { &[] };
    let devices: Vec<LinuxDevice> = host.iter().chain(input.devices).map(linux_device).collect();
    linux.set_devices(Some(devices));
    Ok(linux)
}

#[expect(clippy::ref_option, reason = "a field is passed through as it stands")]
fn hidden(privileged: bool, given: &Option<Vec<String>>, default: &[&str]) -> Vec<String> {
    match given {
        Some(paths) => paths.clone(),
        None if privileged => Vec::new(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    }
}

fn namespaces(input: &SpecInput<'_>) -> Vec<LinuxNamespace> {
    let modes = &input.settings.namespaces;
    let network_host = input.settings.network.mode == NetworkMode::Host;
    let own = |mode: &NamespaceMode| *mode != NamespaceMode::Host;
    // Docker gives a privileged container on cgroup v1 the host's cgroup namespace.
    let cgroup = own(&modes.cgroup)
        && !(modes.cgroup == NamespaceMode::Private
            && input.settings.security.privileged
            && !input.host.cgroup_v2);
    let all = [
        (LinuxNamespaceType::Mount, true, None),
        (
            LinuxNamespaceType::Pid,
            own(&modes.pid),
            input.join.pid.clone(),
        ),
        (
            LinuxNamespaceType::Ipc,
            own(&modes.ipc),
            input.join.ipc.clone(),
        ),
        (LinuxNamespaceType::Uts, own(&modes.uts), None),
        (
            LinuxNamespaceType::Network,
            !network_host,
            input.join.network.clone(),
        ),
        (LinuxNamespaceType::Cgroup, cgroup, None),
    ];
    let wanted = all.into_iter().filter(|(_, own, _)| *own);
    wanted
        .map(|(kind, _, path)| {
            let mut namespace = LinuxNamespace::default();
            namespace.set_typ(kind).set_path(path);
            namespace
        })
        .collect()
}

/// The user's, over docker's defaults for a network namespace of its own.
fn sysctls(settings: &ContainerSettings) -> HashMap<String, String> {
    let mut sysctls = HashMap::new();
    if matches!(
        settings.network.mode,
        NetworkMode::Bridge | NetworkMode::Named(_)
    ) {
        // Any user may listen below 1024 and send pings: the namespace is the container's own.
        sysctls.insert(
            "net.ipv4.ip_unprivileged_port_start".to_owned(),
            "0".to_owned(),
        );
        sysctls.insert(
            "net.ipv4.ping_group_range".to_owned(),
            "0 2147483647".to_owned(),
        );
    }
    sysctls.extend(settings.sysctls.clone());
    sysctls
}

fn linux_device(node: &DeviceNode) -> LinuxDevice {
    let kind = if node.block {
        LinuxDeviceType::B
    } else {
        LinuxDeviceType::C
    };
    let mut device = LinuxDevice::default();
    device
        .set_path(node.path.clone())
        .set_typ(kind)
        .set_major(node.major.into())
        .set_minor(node.minor.into())
        .set_file_mode(Some(node.mode & 0o7777))
        .set_uid(Some(node.uid))
        .set_gid(Some(node.gid));
    device
}

#[cfg(test)]
mod tests;
