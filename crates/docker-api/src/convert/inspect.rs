//! A container's picture → `GET /containers/{id}/json`.

use super::human::rfc3339;
use crate::ApiVersion;
use engine::containers::{Definition, MountPoint, MountPointSource, View};
use engine::networks::{EndpointInfo, PublishedPort};
use model::lifecycle::Phase;
use model::settings::{
    ContainerSettings, NamespaceMode, NetworkMode, Resources, RestartPolicy, SecuritySettings,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What is not in the picture.
pub(crate) struct Surroundings<'a> {
    /// Where its log and its `/etc` files lie.
    pub directory: &'a Path,
    /// Its root as overlayfs gets it.
    pub root: Option<store_root::RootDirs>,
    /// Bytes of its changes and of all of it.
    pub sizes: Option<(u64, u64)>,
    /// Execs that run in it.
    pub execs: Vec<String>,
}

/// Paths of the overlay, for `GraphDriver`.
pub(crate) mod store_root {
    /// Directories as text.
    pub(crate) struct RootDirs {
        /// `lowerdir`.
        pub lower: String,
        /// `upperdir`.
        pub upper: String,
        /// `workdir`.
        pub work: String,
    }
}

/// Converts.
pub(crate) fn container(view: &View, around: &Surroundings<'_>, version: ApiVersion) -> Value {
    let definition = &view.definition;
    let settings = &definition.settings;
    let args = &definition.process.args;
    let file = |name: &str| around.directory.join(name).display().to_string();
    let log_path = if settings.log.driver == "none" {
        String::new()
    } else {
        file(&format!("{}-json.log", definition.id))
    };
    let mut json = json!({
        "Id": definition.id.as_str(),
        "Created": rfc3339(Some(definition.created_unix_ns)),
        "Path": args.first().map_or("", String::as_str),
        "Args": args.get(1..).unwrap_or_default(),
        "State": state(view),
        "Image": definition.image.id.to_string(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "LogPath": log_path,
        "Name": format!("/{}", view.state.name),
        "RestartCount": view.state.restart_count,
        "Driver": "overlay2",
        "Platform": definition.image.platform.os,
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": settings.security.apparmor.as_deref().unwrap_or_default(),
        "ExecIDs": (!around.execs.is_empty()).then_some(&around.execs),
        "HostConfig": host_config(view, version),
        "GraphDriver": graph_driver(around),
        "Mounts": definition.mounts.iter().map(mount).collect::<Vec<_>>(),
        "Config": config(definition, version),
        "NetworkSettings": network_settings(view, version),
    });
    if let (Some((changes, all)), Some(json)) = (around.sizes, json.as_object_mut()) {
        json.insert("SizeRw".to_owned(), changes.into());
        json.insert("SizeRootFs".to_owned(), all.into());
    }
    json
}

fn state(view: &View) -> Value {
    let state = &view.state;
    let running = view.is_running() || state.phase == Phase::Restarting;
    json!({
        "Status": view.status(),
        "Running": running,
        "Paused": view.status() == "paused",
        "Restarting": state.phase == Phase::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": false,
        "Pid": state.pid,
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": rfc3339(state.started_unix_ns),
        "FinishedAt": rfc3339(state.finished_unix_ns),
    })
}

fn graph_driver(around: &Surroundings<'_>) -> Value {
    let data = around.root.as_ref().map(|root| {
        json!({
            "LowerDir": root.lower,
            "MergedDir": "",
            "UpperDir": root.upper,
            "WorkDir": root.work,
        })
    });
    json!({ "Name": "overlay2", "Data": data })
}

/// Converts one mount.
pub(crate) fn mount(mount: &MountPoint) -> Value {
    let MountPoint {
        target,
        read_only,
        source,
        from_bind: _,
    } = mount;
    match source {
        MountPointSource::Bind {
            path, propagation, ..
        } => json!({
            "Type": "bind",
            "Source": path,
            "Destination": target,
            "Mode": if *read_only { "ro" } else { "" },
            "RW": !read_only,
            "Propagation": propagation,
        }),
        MountPointSource::Volume { name, path, .. } => json!({
            "Type": "volume",
            "Name": name,
            "Source": path,
            "Destination": target,
            "Driver": "local",
            "Mode": if *read_only { "ro" } else { "z" },
            "RW": !read_only,
            "Propagation": "",
        }),
        MountPointSource::Tmpfs { .. } => json!({
            "Type": "tmpfs",
            "Source": "",
            "Destination": target,
            "Mode": "",
            "RW": !read_only,
            "Propagation": "",
        }),
    }
}

fn keys<'a>(keys: impl Iterator<Item = &'a String>) -> Value {
    keys.map(|key| (key.clone(), json!({})))
        .collect::<Map<_, _>>()
        .into()
}

fn exposed_ports(definition: &Definition) -> BTreeSet<&String> {
    let settings = definition.settings.exposed_ports.iter();
    let image = definition.image.config.exposed_ports.keys();
    settings.chain(image).collect()
}

fn config(definition: &Definition, version: ApiVersion) -> Value {
    let ContainerSettings {
        image,
        process,
        domainname,
        volumes,
        stop_signal: _, // the image's may count
        stop_timeout,
        healthcheck,
        network,
        ..
    } = &definition.settings;
    let image_config = &definition.image.config;
    let volumes: BTreeSet<&String> = volumes.iter().chain(image_config.volumes.keys()).collect();
    let exposed = exposed_ports(definition);
    let resolved = &definition.process;
    let entrypoint = process
        .entrypoint
        .as_ref()
        .or(image_config.entrypoint.as_ref());
    // With an entrypoint of the user's, the image's command does not count.
    let cmd = match (&process.cmd, &process.entrypoint) {
        (None, None) => image_config.cmd.as_ref(),
        (cmd, _) => cmd.as_ref(),
    };
    let env: Vec<&String> = resolved
        .env
        .iter()
        .filter(|e| !e.starts_with("HOSTNAME="))
        .collect();
    let mut json = json!({
        "Hostname": definition.hostname,
        "Domainname": domainname.as_deref().unwrap_or_default(),
        "User": resolved.user,
        "AttachStdin": process.attach.stdin,
        "AttachStdout": process.attach.stdout,
        "AttachStderr": process.attach.stderr,
        "Tty": process.tty,
        "OpenStdin": process.open_stdin,
        "StdinOnce": process.stdin_once,
        "Env": env,
        "Cmd": cmd,
        "Image": image,
        "Volumes": (!volumes.is_empty()).then(|| keys(volumes.into_iter())),
        "WorkingDir": if resolved.cwd == "/" && process.working_dir.is_empty() {
            &image_config.working_dir
        } else {
            &resolved.cwd
        },
        "Entrypoint": entrypoint,
        "OnBuild": (!image_config.on_build.is_empty()).then_some(&image_config.on_build),
        "Labels": definition.labels(),
    });
    if let Some(json) = json.as_object_mut() {
        if !exposed.is_empty() {
            json.insert("ExposedPorts".to_owned(), keys(exposed.into_iter()));
        }
        if definition.settings.stop_signal.is_some() || image_config.stop_signal.is_some() {
            let signal = definition.stop_signal.to_string();
            json.insert("StopSignal".to_owned(), signal.into());
        }
        if let Some(timeout) = stop_timeout {
            let seconds = i64::try_from(timeout.as_secs()).unwrap_or(-1);
            json.insert("StopTimeout".to_owned(), seconds.into());
        }
        if let Some(check) = healthcheck {
            json.insert("Healthcheck".to_owned(), json!(check));
        }
        if let Some(mac) = &network.mac_address
            && !version.at_least(44)
        {
            json.insert("MacAddress".to_owned(), mac.clone().into());
        }
    }
    json
}

fn namespace(mode: &NamespaceMode, private: &str) -> String {
    match mode {
        NamespaceMode::Private => private.to_owned(),
        NamespaceMode::Shareable => "shareable".to_owned(),
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(id) => format!("container:{id}"),
        NamespaceMode::None => "none".to_owned(),
    }
}

fn network_mode(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Container(id) => format!("container:{id}"),
        NetworkMode::Named(name) => name.clone(),
    }
}

fn restart_policy(policy: RestartPolicy) -> Value {
    let (name, count) = match policy {
        RestartPolicy::No => ("no", 0),
        RestartPolicy::Always => ("always", 0),
        RestartPolicy::UnlessStopped => ("unless-stopped", 0),
        RestartPolicy::OnFailure { max_retries } => ("on-failure", max_retries),
    };
    json!({ "Name": name, "MaximumRetryCount": count })
}

fn list_or_null<T: serde::Serialize>(list: &[T]) -> Value {
    if list.is_empty() {
        Value::Null
    } else {
        json!(list)
    }
}

/// Binds that came as `-v` are shown as such; the others as `Mounts`.
fn binds(definition: &Definition) -> Vec<String> {
    let from_bind = definition.mounts.iter().filter(|mount| mount.from_bind);
    from_bind
        .map(|mount| {
            let source = match &mount.source {
                MountPointSource::Bind { path, .. } => path.display().to_string(),
                MountPointSource::Volume { name, .. } => name.clone(),
                MountPointSource::Tmpfs { .. } => String::new(),
            };
            let mode = if mount.read_only { ":ro" } else { "" };
            format!("{source}:{}{mode}", mount.target)
        })
        .collect()
}

fn tmpfs(definition: &Definition) -> Value {
    let entries: Map<String, Value> = definition
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            MountPointSource::Tmpfs { options } => {
                Some((mount.target.clone(), options.join(",").into()))
            }
            MountPointSource::Bind { .. } | MountPointSource::Volume { .. } => None,
        })
        .collect();
    if entries.is_empty() {
        Value::Null
    } else {
        entries.into()
    }
}

#[expect(clippy::too_many_lines, reason = "a flat list of fields")]
fn host_config(view: &View, version: ApiVersion) -> Value {
    let definition = &view.definition;
    let ContainerSettings {
        image: _,
        process,
        hostname: _,
        domainname: _,
        labels: _,
        exposed_ports: _,
        volumes: _,
        stop_signal: _,
        stop_timeout: _,
        healthcheck: _,
        namespaces,
        network,
        mounts: _, // as decided, below
        volumes_from,
        resources: _, // `update` may have changed them
        security,
        devices,
        ulimits,
        sysctls,
        shm_size_bytes,
        init,
        read_only,
        auto_remove,
        restart: _, // `update` may have changed it
        log,
        oom_score_adj,
        annotations,
        storage_opt,
    } = &definition.settings;
    let log_driver = if log.driver.is_empty() {
        "json-file"
    } else {
        &log.driver
    };
    let devices_json: Vec<Value> = devices
        .devices
        .iter()
        .map(|device| {
            json!({
                "PathOnHost": device.path_on_host,
                "PathInContainer": device.path_in_container,
                "CgroupPermissions": device.permissions,
            })
        })
        .collect();
    let ulimits: Vec<Value> = ulimits
        .iter()
        .map(|limit| json!({ "Name": limit.name, "Soft": limit.soft, "Hard": limit.hard }))
        .collect();
    let mut json = json!({
        "Binds": list_or_null(&binds(definition)),
        "ContainerIDFile": "",
        "LogConfig": { "Type": log_driver, "Config": log.options },
        "NetworkMode": network_mode(&network.mode),
        "PortBindings": port_bindings(&definition.settings),
        "RestartPolicy": restart_policy(view.state.restart),
        "AutoRemove": auto_remove,
        "VolumeDriver": "",
        "VolumesFrom": list_or_null(volumes_from),
        "ConsoleSize": process.console_size.unwrap_or_default(),
        "Dns": network.dns,
        "DnsOptions": network.dns_options,
        "DnsSearch": network.dns_search,
        "ExtraHosts": list_or_null(&network.extra_hosts),
        "GroupAdd": list_or_null(&process.group_add),
        "IpcMode": namespace(&namespaces.ipc, "private"),
        "Cgroup": "",
        "Links": list_or_null(&network.links),
        "OomScoreAdj": oom_score_adj.unwrap_or_default(),
        "PidMode": namespace(&namespaces.pid, ""),
        "PublishAllPorts": network.publish_all,
        "ReadonlyRootfs": read_only,
        "StorageOpt": (!storage_opt.is_empty()).then_some(storage_opt),
        "Tmpfs": tmpfs(definition),
        "UTSMode": namespace(&namespaces.uts, ""),
        "UsernsMode": namespace(&namespaces.user, ""),
        "ShmSize": shm_size_bytes.unwrap_or(64 << 20),
        "Sysctls": (!sysctls.is_empty()).then_some(sysctls),
        "Runtime": "berth",
        "Isolation": "",
        "Init": init.then_some(true),
        "Devices": devices_json,
        "DeviceCgroupRules": list_or_null(&devices.cgroup_rules),
        "DeviceRequests": null,
        "Ulimits": ulimits,
        "CgroupParent": namespaces.cgroup_parent.as_deref().unwrap_or_default(),
    });
    if let Some(json) = json.as_object_mut() {
        if !annotations.is_empty() {
            json.insert("Annotations".to_owned(), json!(annotations));
        }
        if version.at_least(41) {
            let mode = namespace(&namespaces.cgroup, "private");
            json.insert("CgroupnsMode".to_owned(), mode.into());
        }
        extend(json, security_json(security));
        extend(json, resources_json(&view.state.resources));
    }
    json
}

fn extend(map: &mut Map<String, Value>, more: Value) {
    if let Value::Object(more) = more {
        map.extend(more);
    }
}

fn security_json(security: &SecuritySettings) -> Value {
    let SecuritySettings {
        privileged,
        cap_add,
        cap_drop,
        no_new_privileges: _, // in the raw options
        seccomp: _,           // too
        apparmor: _,          // too
        selinux_labels: _,    // too
        masked_paths,
        readonly_paths,
        raw_options,
    } = security;
    let default = |paths: &[&str]| json!(if *privileged { &[] } else { paths });
    json!({
        "Privileged": privileged,
        "CapAdd": list_or_null(cap_add),
        "CapDrop": list_or_null(cap_drop),
        "SecurityOpt": list_or_null(raw_options),
        "MaskedPaths": masked_paths.as_ref().map_or_else(
            || default(&model::spec::MASKED_PATHS), |paths| json!(paths)),
        "ReadonlyPaths": readonly_paths.as_ref().map_or_else(
            || default(&model::spec::READONLY_PATHS), |paths| json!(paths)),
    })
}

fn resources_json(resources: &Resources) -> Value {
    let Resources {
        memory_bytes,
        memory_reservation_bytes,
        memory_swap_bytes,
        memory_swappiness,
        oom_kill_disable,
        nano_cpus,
        cpu_shares,
        cpu_period_us,
        cpu_quota_us,
        cpu_realtime_period_us,
        cpu_realtime_runtime_us,
        cpuset_cpus,
        cpuset_mems,
        pids_limit,
        blkio_weight,
        blkio_weight_device,
        blkio_device_read_bps,
        blkio_device_write_bps,
        blkio_device_read_iops,
        blkio_device_write_iops,
    } = resources;
    let rates = |list: &[(std::path::PathBuf, u64)], word: &str| -> Value {
        let entries = list.iter();
        let entries: Vec<Value> = entries
            .map(|(path, rate)| json!({ "Path": path, word: rate }))
            .collect();
        list_or_null(&entries)
    };
    json!({
        "Memory": memory_bytes.unwrap_or_default(),
        "MemoryReservation": memory_reservation_bytes.unwrap_or_default(),
        "MemorySwap": memory_swap_bytes.unwrap_or_default(),
        "MemorySwappiness": memory_swappiness,
        "OomKillDisable": oom_kill_disable,
        "NanoCpus": nano_cpus.unwrap_or_default(),
        "CpuShares": cpu_shares.unwrap_or_default(),
        "CpuPeriod": cpu_period_us.unwrap_or_default(),
        "CpuQuota": cpu_quota_us.unwrap_or_default(),
        "CpuRealtimePeriod": cpu_realtime_period_us.unwrap_or_default(),
        "CpuRealtimeRuntime": cpu_realtime_runtime_us.unwrap_or_default(),
        "CpusetCpus": cpuset_cpus.as_deref().unwrap_or_default(),
        "CpusetMems": cpuset_mems.as_deref().unwrap_or_default(),
        "PidsLimit": pids_limit,
        "BlkioWeight": blkio_weight.unwrap_or_default(),
        "BlkioWeightDevice": rates(blkio_weight_device, "Weight"),
        "BlkioDeviceReadBps": rates(blkio_device_read_bps, "Rate"),
        "BlkioDeviceWriteBps": rates(blkio_device_write_bps, "Rate"),
        "BlkioDeviceReadIOps": rates(blkio_device_read_iops, "Rate"),
        "BlkioDeviceWriteIOps": rates(blkio_device_write_iops, "Rate"),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    })
}

fn port_bindings(settings: &ContainerSettings) -> Value {
    let mut bindings: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for port in &settings.network.ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let host_port = match (port.host_port, port.host_port_end) {
            (0, _) => String::new(),
            (first, last) if last > first => format!("{first}-{last}"),
            (first, _) => first.to_string(),
        };
        let host_ip = port.host_ip.map(|ip| ip.to_string()).unwrap_or_default();
        let binding = json!({ "HostIp": host_ip, "HostPort": host_port });
        bindings.entry(key).or_default().push(binding);
    }
    json!(bindings)
}

fn network_settings(view: &View, version: ApiVersion) -> Value {
    let state = &view.state;
    let mut ports: BTreeMap<String, Value> = BTreeMap::new();
    if view.is_running() {
        for port in exposed_ports(&view.definition) {
            let key = if port.contains('/') {
                port.clone()
            } else {
                format!("{port}/tcp")
            };
            ports.insert(key, Value::Null);
        }
    }
    for port in state.endpoints.iter().flat_map(|end| &end.ports) {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let binding = json!({
            "HostIp": port.host_ip.to_string(),
            "HostPort": port.host_port.to_string(),
        });
        match ports.entry(key).or_insert_with(|| json!([])) {
            Value::Array(list) => list.push(binding),
            other => *other = json!([binding]),
        }
    }
    let mut networks: BTreeMap<String, Value> = BTreeMap::new();
    for end in &state.endpoints {
        networks.insert(end.network.clone(), endpoint(Some(end)));
    }
    // What is not attached now is shown with the networks it will have.
    let name = network_mode(&view.definition.settings.network.mode);
    if networks.is_empty() && !name.starts_with("container:") {
        networks.insert(name, endpoint(None));
    }
    let bridge = state.endpoints.iter().find(|end| end.network == "bridge");
    let mut json = json!({
        "Bridge": "",
        "SandboxID": if view.is_running() { view.definition.id.as_str() } else { "" },
        "SandboxKey": if view.is_running() {
            format!("/proc/{}/ns/net", state.pid)
        } else {
            String::new()
        },
        "Ports": ports,
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "Networks": networks,
    });
    if !version.at_least(52)
        && let Some(json) = json.as_object_mut()
        && let Value::Object(first) = endpoint(bridge)
    {
        // Before 1.52 the default bridge's endpoint is repeated here.
        let repeated = [
            "EndpointID",
            "Gateway",
            "GlobalIPv6Address",
            "GlobalIPv6PrefixLen",
            "IPAddress",
            "IPPrefixLen",
            "IPv6Gateway",
            "MacAddress",
        ];
        json.extend(
            first
                .into_iter()
                .filter(|(key, _)| repeated.contains(&key.as_str())),
        );
    }
    json
}

/// Converts one endpoint; none is one that is not attached.
pub(crate) fn endpoint(end: Option<&EndpointInfo>) -> Value {
    json!({
        "IPAMConfig": null,
        "Links": null,
        "Aliases": end.map(|end| &end.aliases).filter(|aliases| !aliases.is_empty()),
        "MacAddress": end.map_or("", |end| end.mac.as_str()),
        "DriverOpts": null,
        "GwPriority": 0,
        "NetworkID": end.map_or("", |end| end.network_id.as_str()),
        "EndpointID": end.map_or("", |end| end.endpoint_id.as_str()),
        "Gateway": end.and_then(|end| end.gateway).map(|ip| ip.to_string()).unwrap_or_default(),
        "IPAddress": end.map(|end| end.ip.to_string()).unwrap_or_default(),
        "IPPrefixLen": end.map_or(0, |end| end.prefix_len),
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "DNSNames": null,
    })
}

/// Converts one published port for `ps`.
pub(crate) fn published(port: &PublishedPort) -> Value {
    json!({
        "IP": port.host_ip.to_string(),
        "PrivatePort": port.container_port,
        "PublicPort": port.host_port,
        "Type": port.protocol,
    })
}
