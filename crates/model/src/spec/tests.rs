//! The whole translation, from an image config and settings to the runtime document.

use super::*;
use crate::settings::{DeviceSettings, NetworkSettings, SecuritySettings, Ulimit};

fn host() -> HostFacts {
    let names = [
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_ADMIN",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_ADMIN",
        "CAP_SYS_CHROOT",
    ];
    HostFacts {
        cgroup_v2: true,
        capabilities: names.map(str::to_owned).to_vec(),
        devices: Vec::new(),
        cpus: 2,
    }
}

fn built(settings: &ContainerSettings, mounts: &[ResolvedMount]) -> Result<Spec, SpecError> {
    let id = ContainerId::from_random([7; 32]);
    let process = ResolvedProcess {
        args: vec!["sh".into()],
        env: vec!["PATH=/bin".into()],
        cwd: "/".into(),
        user: String::new(),
        groups: Vec::new(),
        tty: false,
    };
    build(&SpecInput {
        id: &id,
        settings,
        process: &process,
        hostname: "box",
        mounts,
        devices: &[],
        block_devices: &HashMap::new(),
        join: &JoinedNamespaces::default(),
        cgroup_path: "/berth/x".into(),
        init_binary: "/usr/bin/berth".into(),
        host: &host(),
    })
}

fn capabilities(security: SecuritySettings) -> Result<Vec<String>, SpecError> {
    let settings = ContainerSettings {
        security,
        ..Default::default()
    };
    let spec = built(&settings, &[])?;
    let process = spec.process().as_ref().unwrap();
    let sets = process.capabilities().as_ref().unwrap();
    assert_eq!(sets.bounding(), sets.effective());
    assert_eq!(sets.bounding(), sets.permitted());
    assert!(sets.ambient().is_none() && sets.inheritable().is_none());
    let mut names: Vec<String> = sets
        .bounding()
        .iter()
        .flatten()
        .map(ToString::to_string)
        .collect();
    names.sort();
    Ok(names)
}

#[test]
fn capabilities_follow_docker() {
    let list = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    let with = |add: &[&str], drop: &[&str]| {
        let (cap_add, cap_drop) = (list(add), list(drop));
        capabilities(SecuritySettings {
            cap_add,
            cap_drop,
            ..Default::default()
        })
    };
    assert_eq!(with(&[], &[]).unwrap().len(), 14);
    assert!(
        with(&["net_admin"], &[])
            .unwrap()
            .contains(&"NET_ADMIN".to_owned())
    );
    assert!(
        !with(&[], &["CAP_CHOWN"])
            .unwrap()
            .contains(&"CHOWN".to_owned())
    );
    assert_eq!(with(&["CHOWN"], &["ALL"]).unwrap(), ["CHOWN"]);
    assert_eq!(with(&["ALL"], &[]).unwrap().len(), 16);
    assert_eq!(with(&["ALL"], &["SYS_ADMIN"]).unwrap().len(), 15);
    // The host itself lacks it: no error, and nothing granted.
    assert_eq!(
        with(&["SYS_RESOURCE"], &["ALL"]).unwrap(),
        Vec::<String>::new()
    );
    let privileged = SecuritySettings {
        privileged: true,
        ..Default::default()
    };
    assert_eq!(capabilities(privileged).unwrap().len(), 16);
    let error = with(&["FOO"], &[]).unwrap_err().to_string();
    assert_eq!(error, r#"invalid CapAdd: unknown capability: "FOO""#);
}

fn destinations(spec: &Spec) -> Vec<String> {
    let mounts = spec.mounts().iter().flatten();
    mounts
        .map(|mount| mount.destination().display().to_string())
        .collect()
}

#[test]
fn user_mounts_replace_defaults_and_parents_come_first() {
    let tmpfs = |target: &str| ResolvedMount::Tmpfs {
        target: target.into(),
        options: vec![],
    };
    let mounts = [tmpfs("/a/b/c"), tmpfs("/dev/shm"), tmpfs("/a")];
    let spec = built(&ContainerSettings::default(), &mounts).unwrap();
    let seen = destinations(&spec);
    assert_eq!(seen.iter().filter(|path| *path == "/dev/shm").count(), 1);
    let at = |path: &str| seen.iter().position(|seen| seen == path).unwrap();
    assert!(at("/dev") < at("/dev/shm") && at("/a") < at("/a/b/c"));
}

#[test]
fn privileged_hides_nothing() {
    let security = SecuritySettings {
        privileged: true,
        ..Default::default()
    };
    let spec = built(
        &ContainerSettings {
            security,
            ..Default::default()
        },
        &[],
    )
    .unwrap();
    let linux = spec.linux().as_ref().unwrap();
    assert_eq!(linux.masked_paths(), &Some(vec![]));
    assert_eq!(linux.readonly_paths(), &Some(vec![]));
    let plain = built(&ContainerSettings::default(), &[]).unwrap();
    let linux = plain.linux().as_ref().unwrap();
    assert_eq!(
        linux.masked_paths().as_ref().unwrap().len(),
        MASKED_PATHS.len()
    );
}

#[test]
fn host_network_joins_no_namespace_and_sets_no_sysctl() {
    let network = NetworkSettings {
        mode: NetworkMode::Host,
        ..Default::default()
    };
    let spec = built(
        &ContainerSettings {
            network,
            ..Default::default()
        },
        &[],
    )
    .unwrap();
    let linux = spec.linux().as_ref().unwrap();
    let kinds = linux.namespaces().iter().flatten().map(LinuxNamespace::typ);
    assert!(
        !kinds
            .into_iter()
            .any(|kind| kind == LinuxNamespaceType::Network)
    );
    assert_eq!(linux.sysctl().as_ref().unwrap().len(), 0);
}

#[test]
fn ulimits_and_device_rules_are_checked() {
    let ulimits = vec![Ulimit {
        name: "nofile".into(),
        soft: 10,
        hard: -1,
    }];
    let spec = built(
        &ContainerSettings {
            ulimits,
            ..Default::default()
        },
        &[],
    )
    .unwrap();
    let limits = spec.process().as_ref().unwrap().rlimits().clone().unwrap();
    assert_eq!((limits[0].soft(), limits[0].hard()), (10, u64::MAX));
    for bad in [
        Ulimit {
            name: "files".into(),
            soft: 1,
            hard: 1,
        },
        Ulimit {
            name: "nofile".into(),
            soft: 2,
            hard: 1,
        },
    ] {
        let settings = ContainerSettings {
            ulimits: vec![bad],
            ..Default::default()
        };
        assert!(matches!(built(&settings, &[]), Err(SpecError::Ulimit(_))));
    }
    let devices = DeviceSettings {
        cgroup_rules: vec!["x".into()],
        ..Default::default()
    };
    let settings = ContainerSettings {
        devices,
        ..Default::default()
    };
    assert!(matches!(built(&settings, &[]), Err(SpecError::Resource(_))));
}

#[test]
fn init_comes_before_the_command() {
    let settings = ContainerSettings {
        init: true,
        ..Default::default()
    };
    let spec = built(&settings, &[]).unwrap();
    let args = spec.process().as_ref().unwrap().args().clone().unwrap();
    assert_eq!(args, [INIT_PATH, "--", "sh"]);
    assert!(destinations(&spec).contains(&INIT_PATH.to_owned()));
}

#[test]
fn more_cpus_than_there_are_is_refused_at_create() {
    let with = |nano_cpus| {
        let resources = crate::settings::Resources {
            nano_cpus: Some(nano_cpus),
            ..Default::default()
        };
        check(
            &ContainerSettings {
                resources,
                ..Default::default()
            },
            &host(),
        )
    };
    assert_eq!(with(2_000_000_000), Ok(()));
    let error = with(2_000_000_001).unwrap_err().to_string();
    assert_eq!(
        error,
        "range of CPUs is from 0.01 to 2.00, as there are only 2 CPUs available"
    );
}
