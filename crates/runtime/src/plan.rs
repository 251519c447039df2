//! A [`Launch`] → the plan that the container's first process carries out.
//!
//! Pure. Everything that can be decided outside is decided here: words become flags, names
//! become numbers, defaults are filled in. What needs the container's own files (users, the
//! search path) stays a question in the plan.

use std::{collections::HashSet, path::PathBuf};

use oci_spec::runtime::{
    Capability, IOPriorityClass, LinuxCapabilities, LinuxDevice, LinuxDeviceType,
    LinuxNamespaceType, LinuxPersonalityDomain, Mount, PosixRlimitType, Process, Spec,
};
use serde::{Deserialize, Serialize};

use crate::{
    hooks::HookPlan,
    launch::{ExecRequest, Launch, LaunchError, Root, Stage, UserRequest},
    options::{Options, propagation, propagation_word},
};

/// What the first process does, in this order.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) root: Root,
    pub(crate) root_read_only: bool,
    /// What the mounts of the host become in the container's namespace.
    pub(crate) namespace_propagation: u64,
    /// What the container's root becomes at the end.
    pub(crate) root_propagation: Option<(u64, bool)>,
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) devices: Vec<DevicePlan>,
    /// Devices are bound from the host: a user namespace makes none.
    pub(crate) bind_devices: bool,
    /// `/dev` is the host's; nothing is put into it.
    pub(crate) foreign_dev: bool,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) read_only: Vec<PathBuf>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) sysctls: Vec<(String, String)>,
    pub(crate) create_cwd: bool,
    pub(crate) pivot: bool,
    pub(crate) personality: Option<u64>,
    pub(crate) hooks: HookPlan,
    pub(crate) process: ProcessPlan,
    pub(crate) trace: bool,
    /// The hierarchies to show where a mount of type `cgroup` asks for them.
    pub(crate) cgroups: CgroupView,
    pub(crate) new_cgroup_namespace: bool,
    pub(crate) new_user_namespace: bool,
    pub(crate) new_network: bool,
    /// Wait for word before executing.
    pub(crate) wait: Wait,
}

/// What the process waits for when all is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// A message on the channel.
    Message,
    /// A connection to the listening socket that came with the plan.
    Connection,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MountPlan {
    pub(crate) destination: PathBuf,
    pub(crate) kind: String,
    pub(crate) source: Option<PathBuf>,
    pub(crate) options: Options,
}

/// One device node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DevicePlan {
    pub(crate) path: PathBuf,
    pub(crate) kind: DeviceKind,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What sort of node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum DeviceKind {
    Character,
    Block,
    Fifo,
}

/// How cgroups look from inside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CgroupView {
    /// The unified hierarchy alone, and where the host has it mounted.
    pub(crate) unified: Option<PathBuf>,
    /// Each v1 hierarchy.
    pub(crate) hierarchies: Vec<HierarchyView>,
    /// The container's path in them.
    pub(crate) path: PathBuf,
}

/// One v1 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HierarchyView {
    /// Its directory's name, such as `cpu,cpuacct`.
    pub(crate) name: String,
    /// What names it to mount(2), such as `name=systemd`.
    pub(crate) selector: String,
    /// Where the host has it mounted.
    pub(crate) mount_point: PathBuf,
}

/// What a process is to be, for the first one and for added ones alike.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProcessPlan {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) user: UserPlan,
    pub(crate) umask: Option<u32>,
    pub(crate) capabilities: CapabilityPlan,
    /// Kind, soft and hard limit.
    pub(crate) limits: Vec<(u32, u64, u64)>,
    pub(crate) no_new_privileges: bool,
    /// Rows and columns, where a terminal is wanted.
    pub(crate) terminal: Option<(u16, u16)>,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) io_priority: Option<(u16, u16)>,
    pub(crate) apparmor: Option<String>,
    pub(crate) selinux: Option<String>,
    /// Descriptors after the standard streams that stay open.
    pub(crate) preserve_fds: u32,
}

/// Who the process runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum UserPlan {
    Ids {
        uid: u32,
        gid: u32,
        groups: Vec<u32>,
    },
    Named(UserRequest),
}

/// Capability sets as bit masks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CapabilityPlan {
    pub(crate) bounding: u64,
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
    pub(crate) ambient: u64,
}

/// What the caller adds to the document.
#[derive(Debug, Clone)]
pub(crate) struct Extras {
    pub(crate) hooks: HookPlan,
    pub(crate) cgroups: CgroupView,
    pub(crate) wait: Wait,
    pub(crate) pivot: bool,
    pub(crate) preserve_fds: u32,
    pub(crate) new_network: bool,
    pub(crate) separate: Separate,
}

/// Which namespaces, of those that have sysctls, are not the runtime's own.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Separate {
    pub(crate) ipc: bool,
    pub(crate) network: bool,
    pub(crate) uts: bool,
}

impl Plan {
    /// Decides everything that can be decided without the container's files.
    pub(crate) fn new(launch: &Launch, extras: Extras) -> Result<Self, LaunchError> {
        let spec = &launch.spec;
        let process = spec
            .process()
            .as_ref()
            .ok_or_else(|| LaunchError::new(Stage::Spec, "the document has no process"))?;
        let process = process_plan(process, launch.user.as_ref(), extras.preserve_fds)?;
        let linux = spec.linux().clone().unwrap_or_default();
        let mounts: Vec<MountPlan> = spec
            .mounts()
            .iter()
            .flatten()
            .map(mount)
            .collect::<Result<_, _>>()?;
        let root_propagation = match linux.rootfs_propagation() {
            Some(word) if !word.is_empty() => Some(propagation_word(word).ok_or_else(|| {
                LaunchError::new(Stage::Spec, format!("unknown root propagation {word:?}"))
            })?),
            _ => None,
        };
        let new = |kind| has_new_namespace(spec, kind);
        let new_user_namespace = has_namespace(spec, LinuxNamespaceType::User);
        let foreign_dev = mounts
            .iter()
            .any(|mount| mount.destination.as_os_str() == "/dev" && mount.options.bind.is_some());
        let strings = |paths: &Option<Vec<String>>| -> Vec<PathBuf> {
            paths.iter().flatten().map(PathBuf::from).collect()
        };
        let mut sysctls: Vec<_> = linux
            .sysctl()
            .clone()
            .unwrap_or_default()
            .into_iter()
            .collect();
        sysctls.sort();
        for (key, _) in &sysctls {
            sysctl_is_namespaced(key, extras.separate)?;
        }
        Ok(Self {
            root: launch.root.clone(),
            root_read_only: spec.root().as_ref().and_then(|root| root.readonly()) == Some(true),
            namespace_propagation: namespace_propagation(root_propagation, &mounts),
            root_propagation,
            mounts,
            devices: devices(linux.devices().as_deref().unwrap_or_default())?,
            bind_devices: new_user_namespace,
            foreign_dev,
            masked: strings(linux.masked_paths()),
            read_only: strings(linux.readonly_paths()),
            // Without a namespace of its own the name would be the host's.
            hostname: spec
                .hostname()
                .clone()
                .filter(|name| !name.is_empty() && has_namespace(spec, LinuxNamespaceType::Uts)),
            domainname: spec
                .domainname()
                .clone()
                .filter(|name| !name.is_empty() && has_namespace(spec, LinuxNamespaceType::Uts)),
            sysctls,
            create_cwd: launch.create_cwd,
            pivot: extras.pivot,
            personality: linux.personality().as_ref().map(|personality| {
                match personality.domain() {
                    LinuxPersonalityDomain::PerLinux => 0,
                    LinuxPersonalityDomain::PerLinux32 => 8,
                }
            }),
            hooks: extras.hooks,
            process,
            trace: launch.trace,
            cgroups: extras.cgroups,
            new_cgroup_namespace: new(LinuxNamespaceType::Cgroup),
            new_user_namespace,
            new_network: extras.new_network,
            wait: extras.wait,
        })
    }
}

/// Refuses a sysctl that would be set for the whole host.
fn sysctl_is_namespaced(key: &str, separate: Separate) -> Result<(), LaunchError> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shm_rmid_forced",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
    ];
    // Both are written, and both mean a directory.
    let name = key.replace('/', ".");
    let reason = if IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.") {
        match separate.ipc {
            true => return Ok(()),
            false => "is not allowed in the hosts ipc namespace",
        }
    } else if name.starts_with("net.") {
        match separate.network {
            true => return Ok(()),
            false => "not allowed in host network namespace",
        }
    } else if name == "kernel.hostname" && separate.uts {
        "is not allowed as it conflicts with the OCI \"hostname\" field"
    } else if name == "kernel.domainname" && separate.uts {
        return Ok(());
    } else {
        "is not in a separate kernel namespace"
    };
    Err(LaunchError::new(
        Stage::Spec,
        format!("sysctl {name:?} {reason}"),
    ))
}

fn namespaces(spec: &Spec) -> &[oci_spec::runtime::LinuxNamespace] {
    spec.linux()
        .as_ref()
        .and_then(|linux| linux.namespaces().as_deref())
        .unwrap_or_default()
}

fn has_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    namespaces(spec)
        .iter()
        .any(|namespace| namespace.typ() == kind)
}

fn has_new_namespace(spec: &Spec, kind: LinuxNamespaceType) -> bool {
    namespaces(spec)
        .iter()
        .any(|namespace| namespace.typ() == kind && namespace.path().is_none())
}

/// Mounts that are to hear from the host need a namespace that does.
fn namespace_propagation(root: Option<(u64, bool)>, mounts: &[MountPlan]) -> u64 {
    let wanted = |flag| {
        root.is_some_and(|(root, _)| root == flag)
            || mounts.iter().any(|mount| {
                mount
                    .options
                    .propagation
                    .is_some_and(|(propagation, _)| propagation == flag)
            })
    };
    if wanted(propagation::SHARED) {
        propagation::SHARED
    } else if wanted(propagation::SLAVE) {
        propagation::SLAVE
    } else {
        propagation::PRIVATE
    }
}

fn mount(mount: &Mount) -> Result<MountPlan, LaunchError> {
    let words = mount.options().iter().flatten().map(String::as_str);
    let mut options = Options::parse(words);
    let kind = mount.typ().clone().unwrap_or_default();
    if kind == "bind" && options.bind.is_none() {
        options.bind = Some(true);
    }
    if options.id_map.is_some() || mount.uid_mappings().is_some() {
        let message = format!("id-mapped mount at {}", mount.destination().display());
        return Err(LaunchError::new(
            Stage::Spec,
            format!("{message} is not supported"),
        ));
    }
    Ok(MountPlan {
        destination: mount.destination().clone(),
        kind,
        source: mount.source().clone(),
        options,
    })
}

/// What every container has (OCI runtime specification, "Default Devices").
const DEFAULT_DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

fn devices(wanted: &[LinuxDevice]) -> Result<Vec<DevicePlan>, LaunchError> {
    let mut all: Vec<DevicePlan> = DEFAULT_DEVICES
        .iter()
        .map(|&(path, major, minor)| DevicePlan {
            path: path.into(),
            kind: DeviceKind::Character,
            major,
            minor,
            mode: 0o666,
            uid: 0,
            gid: 0,
        })
        .collect();
    let number = |value: i64, device: &LinuxDevice| {
        u32::try_from(value).map_err(|_| {
            let path = device.path().display();
            LaunchError::new(Stage::Spec, format!("device {path}: bad number {value}"))
        })
    };
    for device in wanted {
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
            LinuxDeviceType::B => DeviceKind::Block,
            LinuxDeviceType::P => DeviceKind::Fifo,
            LinuxDeviceType::A => {
                let path = device.path().display();
                return Err(LaunchError::new(
                    Stage::Spec,
                    format!("device {path}: bad type"),
                ));
            }
        };
        all.retain(|known| known.path != *device.path());
        all.push(DevicePlan {
            path: device.path().clone(),
            kind,
            major: number(device.major(), device)?,
            minor: number(device.minor(), device)?,
            mode: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
        });
    }
    Ok(all)
}

/// The plan of an exec process.
pub(crate) fn exec_plan(
    request: &ExecRequest,
    preserve_fds: u32,
) -> Result<ProcessPlan, LaunchError> {
    process_plan(&request.process, request.user.as_ref(), preserve_fds)
}

fn process_plan(
    process: &Process,
    user: Option<&UserRequest>,
    preserve_fds: u32,
) -> Result<ProcessPlan, LaunchError> {
    let args = process.args().clone().unwrap_or_default();
    if args.is_empty() {
        return Err(LaunchError::new(Stage::Spec, "no command specified"));
    }
    if !process.cwd().is_absolute() {
        return Err(LaunchError::new(
            Stage::Spec,
            "Cwd must be an absolute path",
        ));
    }
    let size = process.console_size();
    let side = |value: u64| u16::try_from(value).unwrap_or(0);
    let terminal = (process.terminal() == Some(true))
        .then(|| size.map_or((0, 0), |size| (side(size.height()), side(size.width()))));
    let nonempty = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let io_priority = process.io_priority().as_ref().map(|priority| {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => 1,
            IOPriorityClass::IoprioClassBe => 2,
            IOPriorityClass::IoprioClassIdle => 3,
        };
        (class, u16::try_from(priority.priority()).unwrap_or(0))
    });
    Ok(ProcessPlan {
        args,
        env: process.env().clone().unwrap_or_default(),
        cwd: process.cwd().clone(),
        user: user.map_or_else(
            || UserPlan::Ids {
                uid: process.user().uid(),
                gid: process.user().gid(),
                groups: process.user().additional_gids().clone().unwrap_or_default(),
            },
            |request| UserPlan::Named(request.clone()),
        ),
        umask: process.user().umask(),
        // A document that names none gives none.
        capabilities: process
            .capabilities()
            .as_ref()
            .map(capabilities)
            .unwrap_or_default(),
        limits: process
            .rlimits()
            .iter()
            .flatten()
            .map(|limit| (limit_number(limit.typ()), limit.soft(), limit.hard()))
            .collect(),
        no_new_privileges: process.no_new_privileges() == Some(true),
        terminal,
        oom_score_adj: process.oom_score_adj(),
        io_priority,
        apparmor: nonempty(process.apparmor_profile()),
        selinux: nonempty(process.selinux_label()),
        preserve_fds,
    })
}

fn capabilities(sets: &LinuxCapabilities) -> CapabilityPlan {
    let mask = |set: &Option<HashSet<Capability>>| {
        set.iter()
            .flatten()
            .filter_map(|capability| sys::capability::by_name(&capability.to_string()))
            .fold(0, |mask: u64, number| mask | 1 << number)
    };
    let (permitted, inheritable) = (mask(sets.permitted()), mask(sets.inheritable()));
    CapabilityPlan {
        bounding: mask(sets.bounding()),
        effective: mask(sets.effective()),
        permitted,
        inheritable,
        // The kernel lets none be ambient that is not both.
        ambient: mask(sets.ambient()) & permitted & inheritable,
    }
}

fn limit_number(kind: PosixRlimitType) -> u32 {
    match kind {
        PosixRlimitType::RlimitCpu => 0,
        PosixRlimitType::RlimitFsize => 1,
        PosixRlimitType::RlimitData => 2,
        PosixRlimitType::RlimitStack => 3,
        PosixRlimitType::RlimitCore => 4,
        PosixRlimitType::RlimitRss => 5,
        PosixRlimitType::RlimitNproc => 6,
        PosixRlimitType::RlimitNofile => 7,
        PosixRlimitType::RlimitMemlock => 8,
        PosixRlimitType::RlimitAs => 9,
        PosixRlimitType::RlimitLocks => 10,
        PosixRlimitType::RlimitSigpending => 11,
        PosixRlimitType::RlimitMsgqueue => 12,
        PosixRlimitType::RlimitNice => 13,
        PosixRlimitType::RlimitRtprio => 14,
        PosixRlimitType::RlimitRttime => 15,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const SEPARATE: Separate = Separate {
        ipc: true,
        network: true,
        uts: true,
    };

    fn plan(separate: Separate, linux: &Value, process: &Value) -> Result<Plan, LaunchError> {
        let mut all = json!({"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}});
        for (key, value) in process.as_object().unwrap() {
            all[key] = value.clone();
        }
        let launch = json!({
            "spec": {"ociVersion": "1.2.0", "process": all, "domainname": "harbour", "linux": linux},
            "root": {"path": "/r"},
        });
        let launch: Launch = serde_json::from_value(launch).unwrap();
        let extras = Extras {
            hooks: HookPlan::default(),
            cgroups: CgroupView::default(),
            wait: Wait::Message,
            pivot: true,
            preserve_fds: 0,
            new_network: false,
            separate,
        };
        Plan::new(&launch, extras)
    }

    fn sysctl(key: &str, separate: Separate) -> Result<(), String> {
        plan(separate, &json!({"sysctl": {key: "1"}}), &json!({}))
            .map(|plan| assert_eq!(plan.sysctls, [(key.to_owned(), "1".to_owned())]))
            .map_err(|error| error.message)
    }

    #[test]
    fn no_capabilities_are_given_where_none_are_named() {
        let none = CapabilityPlan::default();
        let made = plan(SEPARATE, &json!({}), &json!({})).unwrap();
        assert_eq!(made.process.capabilities, none);
        let named = json!({"capabilities": {"bounding": ["CAP_CHOWN"], "permitted": ["CAP_KILL"]}});
        let made = plan(SEPARATE, &json!({}), &named).unwrap();
        let expected = CapabilityPlan {
            bounding: 1,
            permitted: 1 << 5,
            ..none
        };
        assert_eq!(made.process.capabilities, expected);
        let request =
            json!({"process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}}});
        let made = exec_plan(&serde_json::from_value(request).unwrap(), 0).unwrap();
        assert_eq!(made.capabilities, none);
    }

    #[test]
    fn sysctls_of_separate_namespaces_are_allowed() {
        for key in [
            "kernel.msgmax",
            "kernel/shmmax",
            "kernel.shm_rmid_forced",
            "fs.mqueue.msg_max",
            "net.ipv4.ip_forward",
            "net/ipv4/conf/eth0/forwarding",
            "kernel.domainname",
        ] {
            assert_eq!(sysctl(key, SEPARATE), Ok(()));
        }
    }

    #[test]
    fn sysctls_of_the_host_are_refused() {
        let refused = |key: &str, separate, reason: &str| {
            assert_eq!(sysctl(key, separate), Err(reason.to_owned()));
        };
        let nothing = "is not in a separate kernel namespace";
        for key in [
            "kernel.core_pattern",
            "kernel.modprobe",
            "vm.swappiness",
            "fs.mqueue",
            "net",
            "",
        ] {
            refused(key, SEPARATE, &format!("sysctl {key:?} {nothing}"));
        }
        refused(
            "kernel/core_pattern",
            SEPARATE,
            &format!("sysctl \"kernel.core_pattern\" {nothing}"),
        );
        let host_ipc = Separate {
            ipc: false,
            ..SEPARATE
        };
        for key in ["kernel.sem", "fs.mqueue.msg_max"] {
            refused(
                key,
                host_ipc,
                &format!("sysctl {key:?} is not allowed in the hosts ipc namespace"),
            );
        }
        let host_network = Separate {
            network: false,
            ..SEPARATE
        };
        let reason = "sysctl \"net.ipv4.ip_forward\" not allowed in host network namespace";
        refused("net.ipv4.ip_forward", host_network, reason);
        let host_uts = Separate {
            uts: false,
            ..SEPARATE
        };
        refused(
            "kernel.domainname",
            host_uts,
            &format!("sysctl \"kernel.domainname\" {nothing}"),
        );
        let reason = "sysctl \"kernel.hostname\" is not allowed as it conflicts with the OCI \"hostname\" field";
        refused("kernel.hostname", SEPARATE, reason);
    }

    #[test]
    fn the_host_keeps_its_domain_name() {
        let without = plan(SEPARATE, &json!({}), &json!({})).unwrap();
        assert_eq!(without.domainname, None);
        let with = plan(
            SEPARATE,
            &json!({"namespaces": [{"type": "uts"}]}),
            &json!({}),
        )
        .unwrap();
        assert_eq!(with.domainname.as_deref(), Some("harbour"));
    }
}
