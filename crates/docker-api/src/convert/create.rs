//! `POST /containers/create` → settings.

use super::mounts;
use crate::ApiError;
use crate::wire::containers as wire;
use model::settings::{
    AttachFlags, ContainerSettings, DeviceMapping, DeviceSettings, EndpointSettings, LogSettings,
    Mount, NamespaceMode, NamespaceSettings, NetworkMode, NetworkSettings, PortMapping,
    ProcessSettings, Resources, RestartPolicy, SeccompSetting, SecuritySettings, Ulimit,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Converts the whole body.
pub(crate) fn settings(body: wire::CreateBody) -> Result<ContainerSettings, ApiError> {
    let wire::CreateBody {
        hostname,
        domainname,
        user,
        attach_stdin,
        attach_stdout,
        attach_stderr,
        exposed_ports,
        tty,
        open_stdin,
        stdin_once,
        env,
        cmd,
        healthcheck,
        image,
        volumes,
        working_dir,
        entrypoint,
        network_disabled,
        mac_address,
        on_build: _, // concerns builds only
        labels,
        stop_signal,
        stop_timeout,
        shell: _, // concerns builds only
        host_config,
        networking_config,
    } = body;
    let mut host = host_config.unwrap_or_default();
    let test = healthcheck.as_ref().and_then(|check| check.test.first());
    if test.is_some_and(|word| word != "NONE") {
        return Err(ApiError::not_supported("Healthcheck"));
    }
    refuse_unsupported(&host)?;
    let process = ProcessSettings {
        entrypoint: entrypoint.map(wire::Words::into_vec),
        // An empty list means the image's command, as in docker.
        cmd: cmd.map(wire::Words::into_vec).filter(|cmd| !cmd.is_empty()),
        env: env.unwrap_or_default(),
        working_dir: working_dir.unwrap_or_default(),
        user: user.unwrap_or_default(),
        group_add: host.group_add.take().unwrap_or_default(),
        tty: tty.unwrap_or_default(),
        open_stdin: open_stdin.unwrap_or_default(),
        stdin_once: stdin_once.unwrap_or_default(),
        attach: AttachFlags {
            stdin: attach_stdin.unwrap_or_default(),
            stdout: attach_stdout.unwrap_or_default(),
            stderr: attach_stderr.unwrap_or_default(),
        },
        console_size: host.console_size.filter(|size| *size != (0, 0)),
    };
    let image = image.filter(|image| !image.is_empty());
    Ok(ContainerSettings {
        image: image.ok_or_else(|| ApiError::bad_request("no image specified"))?,
        process,
        hostname: text(hostname),
        domainname: text(domainname),
        labels: labels.unwrap_or_default(),
        exposed_ports: exposed_ports.unwrap_or_default().into_keys().collect(),
        volumes: volumes.unwrap_or_default().into_keys().collect(),
        stop_signal: text(stop_signal)
            .map(|signal| signal.parse())
            .transpose()
            .map_err(|error: model::InvalidSignal| ApiError::bad_request(error.to_string()))?,
        stop_timeout: stop_timeout.map(timeout),
        healthcheck,
        namespaces: namespaces(&mut host)?,
        mounts: all_mounts(&mut host)?,
        volumes_from: host.volumes_from.take().unwrap_or_default(),
        resources: resources(&mut host)?,
        security: security(&mut host)?,
        devices: devices(&mut host)?,
        ulimits: host
            .ulimits
            .take()
            .unwrap_or_default()
            .into_iter()
            .map(|wire::Ulimit { name, soft, hard }| Ulimit { name, soft, hard })
            .collect(),
        sysctls: host.sysctls.take().unwrap_or_default(),
        shm_size_bytes: positive("ShmSize", host.shm_size)?,
        init: host.init.unwrap_or_default(),
        read_only: host.readonly_rootfs.unwrap_or_default(),
        auto_remove: host.auto_remove.unwrap_or_default(),
        restart: restart(host.restart_policy.take().unwrap_or_default())?,
        log: log(host.log_config.take().unwrap_or_default()),
        oom_score_adj: host.oom_score_adj.filter(|value| *value != 0),
        annotations: host.annotations.take().unwrap_or_default(),
        storage_opt: host.storage_opt.take().unwrap_or_default(),
        network: network(host, networking_config, network_disabled, mac_address)?,
    })
}

/// Negative waits for ever.
pub(crate) fn timeout(seconds: i64) -> Duration {
    u64::try_from(seconds).map_or(Duration::MAX, Duration::from_secs)
}

/// Fields without effect are refused by name when they say something.
fn refuse_unsupported(host: &wire::HostConfig) -> Result<(), ApiError> {
    let says = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let number = |value: Option<i64>| value.is_some_and(|value| value != 0);
    let unsupported = [
        (
            "VolumeDriver",
            host.volume_driver
                .as_deref()
                .is_some_and(|driver| !matches!(driver, "" | "local")),
        ),
        (
            "Runtime",
            host.runtime
                .as_deref()
                .is_some_and(|runtime| !matches!(runtime, "" | "runc" | "berth")),
        ),
        (
            "Isolation",
            host.isolation
                .as_deref()
                .is_some_and(|isolation| !matches!(isolation, "" | "default")),
        ),
        ("Cgroup", says(&host.cgroup)),
        ("CgroupParent", says(&host.cgroup_parent)),
        (
            "Links",
            host.links.as_ref().is_some_and(|links| !links.is_empty()),
        ),
        (
            "DeviceRequests",
            host.device_requests
                .as_ref()
                .is_some_and(|requests| !requests.is_empty()),
        ),
        ("CpuCount", number(host.cpu_count)),
        ("CpuPercent", number(host.cpu_percent)),
        ("IOMaximumIOps", host.io_maximum_iops.unwrap_or(0) != 0),
        (
            "IOMaximumBandwidth",
            host.io_maximum_bandwidth.unwrap_or(0) != 0,
        ),
    ];
    match unsupported.iter().find(|(_, said)| *said) {
        Some((name, _)) => Err(ApiError::not_supported(name)),
        None => Ok(()),
    }
}

fn text(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn positive(name: &str, value: Option<i64>) -> Result<Option<u64>, ApiError> {
    match value {
        None | Some(0) => Ok(None),
        Some(value) => match u64::try_from(value) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(ApiError::bad_request(format!(
                "{name} must be greater than 0, not {value}"
            ))),
        },
    }
}

fn namespaces(host: &mut wire::HostConfig) -> Result<NamespaceSettings, ApiError> {
    Ok(NamespaceSettings {
        pid: namespace("PID", host.pid_mode.take())?,
        ipc: namespace("IPC", host.ipc_mode.take())?,
        uts: namespace("UTS", host.uts_mode.take())?,
        cgroup: namespace("cgroup namespace", host.cgroupns_mode.take())?,
        user: namespace("user namespace", host.userns_mode.take())?,
        cgroup_parent: text(host.cgroup_parent.take()),
    })
}

fn namespace(kind: &str, mode: Option<String>) -> Result<NamespaceMode, ApiError> {
    let mode = mode.unwrap_or_default();
    let invalid = || ApiError::bad_request(format!("invalid {kind} mode: {mode}"));
    Ok(match mode.as_str() {
        "" | "private" => NamespaceMode::Private,
        "host" => NamespaceMode::Host,
        "shareable" if kind == "IPC" => NamespaceMode::Shareable,
        "none" if kind == "IPC" => NamespaceMode::None,
        other => match other.strip_prefix("container:") {
            Some(name) if !name.is_empty() && matches!(kind, "PID" | "IPC") => {
                NamespaceMode::Container(name.to_owned())
            }
            _ => return Err(invalid()),
        },
    })
}

fn all_mounts(host: &mut wire::HostConfig) -> Result<Vec<Mount>, ApiError> {
    let mut all = Vec::new();
    for text in host.binds.take().unwrap_or_default() {
        all.push(mounts::bind(&text)?);
    }
    for mount in host.mounts.take().unwrap_or_default() {
        all.push(mounts::mount(mount)?);
    }
    for (target, options) in host.tmpfs.take().unwrap_or_default() {
        all.push(mounts::tmpfs(target, &options));
    }
    Ok(all)
}

fn resources(host: &mut wire::HostConfig) -> Result<Resources, ApiError> {
    /// Docker's least memory limit.
    const LEAST_MEMORY: u64 = 6 << 20;
    let memory_bytes = positive("Memory", host.memory)?;
    if memory_bytes.is_some_and(|bytes| bytes < LEAST_MEMORY) {
        return Err(ApiError::bad_request("Minimum memory limit allowed is 6MB"));
    }
    let throttles = |devices: Option<Vec<wire::ThrottleDevice>>| {
        let devices = devices.unwrap_or_default().into_iter();
        devices
            .map(|wire::ThrottleDevice { path, rate }| (path.into(), rate))
            .collect()
    };
    let swappiness =
        match host.memory_swappiness {
            None | Some(-1) => None,
            Some(value) => Some(u8::try_from(value).ok().filter(|v| *v <= 100).ok_or_else(
                || {
                    ApiError::bad_request(format!(
                        "invalid value: {value}, valid memory swappiness range is 0-100"
                    ))
                },
            )?),
        };
    Ok(Resources {
        memory_bytes,
        memory_reservation_bytes: positive("MemoryReservation", host.memory_reservation)?,
        memory_swap_bytes: host.memory_swap.filter(|value| *value != 0),
        memory_swappiness: swappiness,
        oom_kill_disable: host.oom_kill_disable.unwrap_or_default(),
        nano_cpus: positive("NanoCpus", host.nano_cpus)?,
        cpu_shares: positive("CpuShares", host.cpu_shares)?,
        cpu_period_us: positive("CpuPeriod", host.cpu_period)?,
        cpu_quota_us: host.cpu_quota.filter(|value| *value != 0),
        cpu_realtime_period_us: positive("CpuRealtimePeriod", host.cpu_realtime_period)?,
        cpu_realtime_runtime_us: host.cpu_realtime_runtime.filter(|value| *value != 0),
        cpuset_cpus: text(host.cpuset_cpus.take()),
        cpuset_mems: text(host.cpuset_mems.take()),
        pids_limit: host.pids_limit.filter(|value| *value > 0),
        blkio_weight: host.blkio_weight.filter(|value| *value != 0),
        blkio_weight_device: host
            .blkio_weight_device
            .take()
            .unwrap_or_default()
            .into_iter()
            .map(|wire::WeightDevice { path, weight }| (path.into(), weight))
            .collect(),
        blkio_device_read_bps: throttles(host.blkio_device_read_bps.take()),
        blkio_device_write_bps: throttles(host.blkio_device_write_bps.take()),
        blkio_device_read_iops: throttles(host.blkio_device_read_iops.take()),
        blkio_device_write_iops: throttles(host.blkio_device_write_iops.take()),
    })
}

fn security(host: &mut wire::HostConfig) -> Result<SecuritySettings, ApiError> {
    let mut security = SecuritySettings {
        privileged: host.privileged.unwrap_or_default(),
        cap_add: host.cap_add.take().unwrap_or_default(),
        cap_drop: host.cap_drop.take().unwrap_or_default(),
        no_new_privileges: false,
        seccomp: SeccompSetting::Default,
        apparmor: None,
        selinux_labels: Vec::new(),
        masked_paths: host.masked_paths.take(),
        readonly_paths: host.readonly_paths.take(),
        raw_options: host.security_opt.take().unwrap_or_default(),
    };
    for option in security.raw_options.clone() {
        security_option(&mut security, &option)?;
    }
    Ok(security)
}

fn security_option(security: &mut SecuritySettings, option: &str) -> Result<(), ApiError> {
    let invalid = || ApiError::bad_request(format!("invalid --security-opt: {option:?}"));
    // The colon is docker's old separator; a seccomp document has colons of its own.
    let (key, value) = match option.find(['=', ':']) {
        Some(at) => (&option[..at], &option[at + 1..]),
        None => (option, ""),
    };
    match (key, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        ("no-new-privileges", "false") => security.no_new_privileges = false,
        ("seccomp", "unconfined") => security.seccomp = SeccompSetting::Unconfined,
        ("seccomp", "builtin") => security.seccomp = SeccompSetting::Default,
        ("seccomp", profile) if !profile.is_empty() => {
            security.seccomp = SeccompSetting::Profile(profile.to_owned());
        }
        ("apparmor", profile) if !profile.is_empty() => {
            security.apparmor = Some(profile.to_owned());
        }
        ("label", label) if !label.is_empty() => security.selinux_labels.push(label.to_owned()),
        _ => return Err(invalid()),
    }
    Ok(())
}

fn devices(host: &mut wire::HostConfig) -> Result<DeviceSettings, ApiError> {
    let devices = host.devices.take().unwrap_or_default().into_iter();
    let devices = devices
        .map(|device| {
            let wire::Device {
                path_on_host,
                path_in_container,
                cgroup_permissions,
            } = device;
            let inside = if path_in_container.is_empty() {
                path_on_host.clone()
            } else {
                path_in_container
            };
            if !cgroup_permissions.bytes().all(|b| b"rwm".contains(&b)) {
                return Err(ApiError::bad_request(format!(
                    "invalid device mode: {cgroup_permissions}"
                )));
            }
            Ok(DeviceMapping {
                path_on_host: path_on_host.into(),
                path_in_container: inside.into(),
                permissions: if cgroup_permissions.is_empty() {
                    "rwm".to_owned()
                } else {
                    cgroup_permissions
                },
            })
        })
        .collect::<Result<_, ApiError>>()?;
    Ok(DeviceSettings {
        devices,
        cgroup_rules: host.device_cgroup_rules.take().unwrap_or_default(),
    })
}

/// Converts a restart policy.
pub(crate) fn restart(policy: wire::RestartPolicy) -> Result<RestartPolicy, ApiError> {
    let wire::RestartPolicy {
        name,
        maximum_retry_count,
    } = policy;
    let count = maximum_retry_count.unwrap_or_default();
    let name = name.unwrap_or_default();
    if count != 0 && name != "on-failure" {
        return Err(ApiError::bad_request(
            "invalid restart policy: maximum retry count can only be used with 'on-failure'",
        ));
    }
    Ok(match name.as_str() {
        "" | "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure {
            max_retries: u32::try_from(count).map_err(|_| {
                ApiError::bad_request(
                    "invalid restart policy: maximum retry count cannot be negative",
                )
            })?,
        },
        other => {
            return Err(ApiError::bad_request(format!(
                "invalid restart policy: unknown policy '{other}'; use one of 'no', 'always', \
                 'on-failure', or 'unless-stopped'"
            )));
        }
    })
}

fn log(config: wire::LogConfig) -> LogSettings {
    let wire::LogConfig { driver, options } = config;
    LogSettings {
        driver: driver.unwrap_or_default(),
        options: options.unwrap_or_default(),
    }
}

fn network(
    host: wire::HostConfig,
    networking: Option<wire::NetworkingConfig>,
    disabled: Option<bool>,
    mac_address: Option<String>,
) -> Result<NetworkSettings, ApiError> {
    let mode = network_mode(host.network_mode.as_deref().unwrap_or_default())?;
    let wire::NetworkingConfig { endpoints_config } = networking.unwrap_or_default();
    let mut endpoints = BTreeMap::new();
    for (name, endpoint) in endpoints_config.unwrap_or_default() {
        let name = if name == "default" {
            "bridge".to_owned()
        } else {
            name
        };
        endpoints.insert(name, endpoint_settings(endpoint.unwrap_or_default())?);
    }
    let mut dns = Vec::new();
    for server in host.dns.unwrap_or_default() {
        dns.push(address(&server)?);
    }
    let disabled = disabled.unwrap_or_default();
    Ok(NetworkSettings {
        mode: if disabled { NetworkMode::None } else { mode },
        endpoints,
        dns,
        dns_search: host.dns_search.unwrap_or_default(),
        dns_options: host.dns_options.unwrap_or_default(),
        extra_hosts: host.extra_hosts.unwrap_or_default(),
        ports: ports(host.port_bindings.unwrap_or_default())?,
        publish_all: host.publish_all_ports.unwrap_or_default(),
        links: host.links.unwrap_or_default(),
        disabled,
        mac_address: text(mac_address),
    })
}

fn network_mode(mode: &str) -> Result<NetworkMode, ApiError> {
    Ok(match mode {
        "" | "default" | "bridge" => NetworkMode::Bridge,
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        other => match other.strip_prefix("container:") {
            Some("") => {
                return Err(ApiError::bad_request(
                    "invalid container format container:<name|id>",
                ));
            }
            Some(name) => NetworkMode::Container(name.to_owned()),
            None => NetworkMode::Named(other.to_owned()),
        },
    })
}

fn address(text: &str) -> Result<IpAddr, ApiError> {
    let address = text.parse();
    address.map_err(|_| ApiError::bad_request(format!("invalid IP address: {text}")))
}

fn endpoint_settings(endpoint: wire::EndpointConfig) -> Result<EndpointSettings, ApiError> {
    let wire::EndpointConfig {
        ipam_config,
        links,
        aliases,
        mac_address,
        driver_opts,
        gw_priority,
    } = endpoint;
    let wire::EndpointIpam {
        ipv4_address,
        ipv6_address,
        link_local_ips,
    } = ipam_config.unwrap_or_default();
    let optional = |text: Option<String>| {
        let text = text.filter(|text| !text.is_empty());
        text.map(|text| address(&text)).transpose()
    };
    let link_local_ips = link_local_ips.unwrap_or_default();
    Ok(EndpointSettings {
        aliases: aliases.unwrap_or_default(),
        links: links.unwrap_or_default(),
        ipv4_address: optional(ipv4_address)?,
        ipv6_address: optional(ipv6_address)?,
        link_local_ips: link_local_ips
            .iter()
            .map(|text| address(text))
            .collect::<Result<_, _>>()?,
        mac_address: text(mac_address),
        driver_opts: driver_opts.unwrap_or_default(),
        gateway_priority: gw_priority.unwrap_or_default(),
    })
}

fn ports(
    bindings: BTreeMap<String, Option<Vec<wire::PortBinding>>>,
) -> Result<Vec<PortMapping>, ApiError> {
    let mut ports = Vec::new();
    for (port, bindings) in bindings {
        let invalid = || ApiError::bad_request(format!("invalid port specification: {port:?}"));
        let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
        let container_port: u16 = number.parse().map_err(|_| invalid())?;
        if !matches!(protocol, "tcp" | "udp" | "sctp") || container_port == 0 {
            return Err(invalid());
        }
        // No binding at all means any free port, as in docker.
        let bindings = bindings.filter(|bindings| !bindings.is_empty());
        let bindings = bindings.unwrap_or_else(|| vec![wire::PortBinding::default()]);
        for wire::PortBinding { host_ip, host_port } in bindings {
            let host_port = host_port.unwrap_or_default();
            let (first, last) = host_port
                .split_once('-')
                .unwrap_or((&host_port, &host_port));
            let number = |text: &str| {
                if text.is_empty() {
                    return Ok(0);
                }
                text.parse::<u16>().map_err(|_| {
                    ApiError::bad_request(format!("invalid port specification: {host_port:?}"))
                })
            };
            ports.push(PortMapping {
                protocol: protocol.to_owned(),
                container_port,
                host_ip: text(host_ip).map(|ip| address(&ip)).transpose()?,
                host_port: number(first)?,
                host_port_end: number(last)?,
            });
        }
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(json: &str) -> Result<ContainerSettings, ApiError> {
        settings(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn what_the_docker_cli_sends() {
        let body = r#"{"Hostname":"","Domainname":"","User":"","AttachStdin":true,"AttachStdout":true,
            "AttachStderr":true,"Tty":true,"OpenStdin":true,"StdinOnce":true,"Env":null,"Cmd":["sh"],
            "Image":"busybox","Volumes":{},"WorkingDir":"","Entrypoint":null,"OnBuild":null,"Labels":{},
            "HostConfig":{"Binds":["/a:/b:ro"],"ContainerIDFile":"","LogConfig":{"Type":"","Config":{}},
            "NetworkMode":"default","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":"8080"}]},
            "RestartPolicy":{"Name":"no","MaximumRetryCount":0},"AutoRemove":true,"VolumeDriver":"",
            "VolumesFrom":null,"ConsoleSize":[24,80],"CapAdd":null,"Dns":[],"ExtraHosts":null,
            "GroupAdd":null,"IpcMode":"","Cgroup":"","Links":null,"OomScoreAdj":0,"PidMode":"",
            "Privileged":false,"SecurityOpt":["no-new-privileges","seccomp=unconfined"],"UTSMode":"",
            "UsernsMode":"","ShmSize":0,"Isolation":"","CpuShares":0,"Memory":0,"NanoCpus":1500000000,
            "CgroupParent":"","BlkioWeight":0,"BlkioWeightDevice":[],"Devices":[],"MemorySwappiness":-1,
            "OomKillDisable":false,"PidsLimit":0,"Ulimits":null,"MaskedPaths":null,"ReadonlyPaths":null},
            "NetworkingConfig":{"EndpointsConfig":{"default":{"IPAMConfig":null,"Links":null,
            "Aliases":null,"MacAddress":"","DriverOpts":null}}}}"#;
        let settings = parse(body).unwrap();
        assert_eq!(settings.image, "busybox");
        assert!(settings.auto_remove && settings.process.tty);
        assert_eq!(settings.process.console_size, Some((24, 80)));
        assert_eq!(settings.resources.nano_cpus, Some(1_500_000_000));
        assert_eq!(settings.resources.memory_bytes, None);
        assert_eq!(settings.network.ports[0].host_port, 8080);
        assert!(settings.security.no_new_privileges);
        assert_eq!(settings.security.seccomp, SeccompSetting::Unconfined);
        assert_eq!(settings.mounts.len(), 1);
    }

    #[test]
    fn what_has_no_effect_is_refused_by_name() {
        let check = |host: &str, words: &str| {
            let body = format!(r#"{{"Image":"x","HostConfig":{{{host}}}}}"#);
            let error = parse(&body).unwrap_err();
            assert!(error.message().contains(words), "{}", error.message());
        };
        check(r#""Runtime":"kata""#, "Runtime is not supported yet");
        check(
            r#""DeviceRequests":[{}]"#,
            "DeviceRequests is not supported yet",
        );
        check(r#""Memory":1024"#, "Minimum memory limit");
        check(r#""SecurityOpt":["what=ever"]"#, "invalid --security-opt");
        check(
            r#""RestartPolicy":{"Name":"never"}"#,
            "unknown policy 'never'",
        );
        check(r#""NetworkMode":"container:""#, "invalid container format");
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC{0,40}") {
            let host_config = wire::HostConfig {
                binds: Some(vec![text.clone()]),
                security_opt: Some(vec![text.clone()]),
                port_bindings: Some([(text.clone(), None)].into()),
                ..Default::default()
            };
            let body = wire::CreateBody {
                image: Some(text),
                host_config: Some(host_config),
                ..Default::default()
            };
            drop(settings(body));
        }
    }
}
