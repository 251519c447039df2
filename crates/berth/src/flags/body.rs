//! Flags → the API's create body: what each flag means to the daemon.

use super::mount::{self, Volume};
use super::{ContainerArgs, FlagError, env_file, network, port};
use client::wire::{
    CreateBody, Empty, Healthcheck, HostConfig, LogConfig, ThrottleDevice, WeightDevice,
};
use std::collections::BTreeMap;
use std::path::Path;

/// What flags refer to without saying it.
pub(crate) struct Surroundings<'a> {
    /// The client's working directory.
    pub(crate) cwd: &'a Path,
    /// The client's environment.
    pub(crate) env: &'a dyn Fn(&str) -> Option<String>,
}

/// Gives the create body for a set of flags.
///
/// # Errors
/// Values that cannot be read, files that cannot be opened, flags that exclude each other.
pub(crate) fn create_body(
    args: &ContainerArgs,
    around: &Surroundings<'_>,
) -> Result<CreateBody, FlagError> {
    let restarts = args
        .restart
        .as_ref()
        .is_some_and(|policy| policy.name != "no");
    if args.rm && restarts {
        return Err(FlagError::new(
            "conflicting options: cannot specify both --restart and --rm",
        ));
    }
    let attached = |stream: &str| {
        args.attach
            .iter()
            .any(|named| named.eq_ignore_ascii_case(stream))
    };
    let default = args.attach.is_empty();
    let attach_stdin = attached("stdin") || (default && args.interactive);
    let (network_mode, networking_config) = network::networking(args)?;
    let (binds, volumes) = volumes(args, around)?;
    let (port_bindings, exposed_ports) = ports(args)?;
    let mut host_config = host_config(args, around)?;
    host_config.network_mode = network_mode;
    host_config.binds = binds;
    host_config.port_bindings = port_bindings;
    Ok(CreateBody {
        hostname: args.hostname.clone().unwrap_or_default(),
        domainname: args.domainname.clone().unwrap_or_default(),
        user: args.user.clone().unwrap_or_default(),
        attach_stdin,
        attach_stdout: attached("stdout") || default,
        attach_stderr: attached("stderr") || default,
        exposed_ports,
        tty: args.tty,
        open_stdin: args.interactive,
        stdin_once: args.interactive && attach_stdin,
        env: env_file::environment(&args.env_file, &args.env, around.env)?,
        cmd: match args.command() {
            [] => None,
            command => Some(command.to_vec()),
        },
        healthcheck: healthcheck(args)?,
        image: args.image().to_owned(),
        volumes,
        working_dir: args.workdir.clone().unwrap_or_default(),
        // `--entrypoint ""` clears the image's, which the API spells as one empty string.
        entrypoint: args.entrypoint.clone().map(|entrypoint| vec![entrypoint]),
        labels: labels(args)?,
        stop_signal: args.stop_signal.clone().unwrap_or_default(),
        stop_timeout: args.stop_timeout,
        host_config,
        networking_config,
    })
}

fn host_config(args: &ContainerArgs, around: &Surroundings<'_>) -> Result<HostConfig, FlagError> {
    let throttles = |list: &[(String, u64)]| -> Vec<ThrottleDevice> {
        list.iter()
            .map(|(path, rate)| ThrottleDevice {
                path: path.clone(),
                rate: *rate,
            })
            .collect()
    };
    Ok(HostConfig {
        binds: Vec::new(),
        container_id_file: match &args.cidfile {
            Some(path) => path.display().to_string(),
            None => String::new(),
        },
        log_config: LogConfig {
            r#type: args.log_driver.clone().unwrap_or_default(),
            config: map(&args.log_opt),
        },
        network_mode: String::new(),
        port_bindings: BTreeMap::new(),
        restart_policy: args.restart.clone().unwrap_or_default(),
        auto_remove: args.rm,
        volume_driver: args.volume_driver.clone().unwrap_or_default(),
        volumes_from: args.volumes_from.clone(),
        mounts: args
            .mount
            .iter()
            .map(|text| mount::mount(text, around.cwd))
            .collect::<Result<_, _>>()?,
        console_size: None,
        annotations: map(&args.annotation),
        cap_add: args.cap_add.clone(),
        cap_drop: args.cap_drop.clone(),
        cgroupns_mode: args.cgroupns.clone().unwrap_or_default(),
        dns: args.dns.iter().map(ToString::to_string).collect(),
        dns_options: args.dns_option.clone(),
        dns_search: args.dns_search.clone(),
        extra_hosts: args.add_host.clone(),
        group_add: args.group_add.clone(),
        ipc_mode: args.ipc.clone().unwrap_or_default(),
        links: args.link.clone(),
        oom_score_adj: args.oom_score_adj.unwrap_or_default(),
        pid_mode: args.pid.clone().unwrap_or_default(),
        privileged: args.privileged,
        publish_all_ports: args.publish_all,
        readonly_rootfs: args.read_only,
        security_opt: security(args)?,
        masked_paths: visible_paths(args),
        readonly_paths: visible_paths(args),
        storage_opt: map(&args.storage_opt),
        tmpfs: args
            .tmpfs
            .iter()
            .map(|text| mount::tmpfs(text))
            .collect::<Result<_, _>>()?,
        uts_mode: args.uts.clone().unwrap_or_default(),
        userns_mode: args.userns.clone().unwrap_or_default(),
        shm_size: args.shm_size.unwrap_or_default(),
        sysctls: map(&args.sysctl),
        runtime: args.runtime.clone().unwrap_or_default(),
        init: args.init.then_some(true),
        cpu_shares: args.cpu_shares.unwrap_or_default(),
        memory: args.memory.unwrap_or_default(),
        nano_cpus: args.cpus.unwrap_or_default(),
        cgroup_parent: args.cgroup_parent.clone().unwrap_or_default(),
        blkio_weight: args.blkio_weight.unwrap_or_default(),
        blkio_weight_device: args
            .blkio_weight_device
            .iter()
            .map(|(path, weight)| WeightDevice {
                path: path.clone(),
                weight: *weight,
            })
            .collect(),
        blkio_device_read_bps: throttles(&args.device_read_bps),
        blkio_device_write_bps: throttles(&args.device_write_bps),
        blkio_device_read_iops: throttles(&args.device_read_iops),
        blkio_device_write_iops: throttles(&args.device_write_iops),
        cpu_period: args.cpu_period.unwrap_or_default(),
        cpu_quota: args.cpu_quota.unwrap_or_default(),
        cpu_realtime_period: args.cpu_rt_period.unwrap_or_default(),
        cpu_realtime_runtime: args.cpu_rt_runtime.unwrap_or_default(),
        cpuset_cpus: args.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: args.cpuset_mems.clone().unwrap_or_default(),
        devices: args
            .device
            .iter()
            .map(|text| mount::device(text))
            .collect::<Result<_, _>>()?,
        device_cgroup_rules: args.device_cgroup_rule.clone(),
        memory_reservation: args.memory_reservation.unwrap_or_default(),
        memory_swap: args.memory_swap.unwrap_or_default(),
        memory_swappiness: args.memory_swappiness.filter(|percent| *percent != -1),
        oom_kill_disable: args.oom_kill_disable.then_some(true),
        pids_limit: args.pids_limit,
        ulimits: args.ulimit.clone(),
    })
}

fn map(pairs: &[(String, String)]) -> BTreeMap<String, String> {
    pairs.iter().cloned().collect()
}

fn labels(args: &ContainerArgs) -> Result<BTreeMap<String, String>, FlagError> {
    let mut entries = Vec::new();
    for path in &args.label_file {
        entries.extend(env_file::read_labels(path)?);
    }
    entries.extend(args.label.iter().cloned());
    Ok(entries
        .iter()
        .map(|entry| {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            (name.to_owned(), value.to_owned())
        })
        .collect())
}

type Volumes = (Vec<String>, BTreeMap<String, Empty>);

fn volumes(args: &ContainerArgs, around: &Surroundings<'_>) -> Result<Volumes, FlagError> {
    let mut binds = Vec::new();
    let mut anonymous = BTreeMap::new();
    for text in &args.volume {
        match mount::volume(text, around.cwd)? {
            Volume::Bind(bind) => binds.push(bind),
            Volume::Anonymous(target) => {
                anonymous.insert(target, Empty {});
            }
        }
    }
    Ok((binds, anonymous))
}

type Ports = (
    BTreeMap<String, Vec<client::wire::PortBinding>>,
    BTreeMap<String, Empty>,
);

fn ports(args: &ContainerArgs) -> Result<Ports, FlagError> {
    let mut bindings: BTreeMap<String, Vec<client::wire::PortBinding>> = BTreeMap::new();
    let mut exposed = BTreeMap::new();
    for text in &args.publish {
        for (port, binding) in port::publish(text)? {
            exposed.insert(port.clone(), Empty {});
            bindings.entry(port).or_default().push(binding);
        }
    }
    for text in &args.expose {
        exposed.extend(port::expose(text)?.into_iter().map(|port| (port, Empty {})));
    }
    Ok((bindings, exposed))
}

/// `systempaths=unconfined` is no option of the daemon's: it means that no path is hidden.
fn visible_paths(args: &ContainerArgs) -> Option<Vec<String>> {
    let unconfined = |option: &String| option == SYSTEM_PATHS;
    args.security_opt.iter().any(unconfined).then(Vec::new)
}

const SYSTEM_PATHS: &str = "systempaths=unconfined";

/// The daemon cannot read the client's files: a seccomp profile travels inside the option.
fn security(args: &ContainerArgs) -> Result<Vec<String>, FlagError> {
    args.security_opt
        .iter()
        .filter(|option| *option != SYSTEM_PATHS)
        .map(|option| {
            let Some((name, value)) = option.split_once(['=', ':']) else {
                return if option == "no-new-privileges" {
                    Ok(option.clone())
                } else {
                    Err(FlagError::new(format!(
                        "invalid --security-opt: {option:?}"
                    )))
                };
            };
            if name != "seccomp" || matches!(value, "unconfined" | "builtin") {
                return Ok(option.clone());
            }
            let bytes = std::fs::read(value).map_err(|error| {
                FlagError::new(format!("opening seccomp profile ({value}) failed: {error}"))
            })?;
            let profile: serde_json::Value = serde_json::from_slice(&bytes).map_err(|error| {
                FlagError::new(format!(
                    "compacting json for seccomp profile ({value}) failed: {error}"
                ))
            })?;
            Ok(format!("seccomp={profile}"))
        })
        .collect()
}

fn healthcheck(args: &ContainerArgs) -> Result<Option<Healthcheck>, FlagError> {
    let check = Healthcheck {
        test: match &args.health_cmd {
            Some(command) => vec!["CMD-SHELL".to_owned(), command.clone()],
            None => Vec::new(),
        },
        interval: args.health_interval.unwrap_or_default(),
        timeout: args.health_timeout.unwrap_or_default(),
        start_period: args.health_start_period.unwrap_or_default(),
        start_interval: args.health_start_interval.unwrap_or_default(),
        retries: args.health_retries.unwrap_or_default(),
    };
    let given = check != Healthcheck::default();
    if args.no_healthcheck {
        if given {
            return Err(FlagError::new(
                "--no-healthcheck conflicts with --health-* options",
            ));
        }
        return Ok(Some(Healthcheck {
            test: vec!["NONE".to_owned()],
            ..check
        }));
    }
    Ok(given.then_some(check))
}

#[cfg(test)]
mod tests {
    use super::super::container::{parse, try_parse};
    use super::*;
    use serde_json::{Value, json};

    fn body(args: &[&str]) -> Result<Value, FlagError> {
        let around = Surroundings {
            cwd: Path::new("/home/me"),
            env: &|name| (name == "HOME").then(|| "/root".to_owned()),
        };
        create_body(&parse(args), &around).map(|body| serde_json::to_value(body).unwrap())
    }

    fn check(args: &[&str], pointer: &str, expected: &Value) {
        let body = body(args).unwrap();
        let found = body.pointer(pointer).cloned().unwrap_or(Value::Null);
        assert_eq!(found, *expected, "{args:?} {pointer}\n{body}");
    }

    #[test]
    fn what_is_not_said_is_not_sent() {
        assert_eq!(
            body(&["busybox"]).unwrap(),
            json!({
                "Image": "busybox", "AttachStdout": true, "AttachStderr": true,
                "HostConfig": {"NetworkMode": "default"},
            })
        );
    }

    #[test]
    fn flags_after_the_image_are_the_commands() {
        let args = ["--rm", "-it", "busybox", "ls", "--rm", "-x", "--", "--help"];
        check(&args, "/Cmd", &json!(["ls", "--rm", "-x", "--", "--help"]));
        check(&["busybox", "--rm"], "/Cmd", &json!(["--rm"]));
        check(&["busybox", "--rm"], "/HostConfig/AutoRemove", &Value::Null);
        check(&args, "/StdinOnce", &json!(true));
        check(&args, "/Tty", &json!(true));
    }

    #[test]
    fn streams() {
        check(&["-i", "x"], "/AttachStdin", &json!(true));
        check(&["-i", "-a", "stdout", "x"], "/AttachStdin", &Value::Null);
        check(&["-a", "stderr", "x"], "/AttachStdout", &Value::Null);
        check(&["-a", "STDERR", "x"], "/AttachStderr", &json!(true));
    }

    #[test]
    fn values() {
        check(&["-m", "64m", "x"], "/HostConfig/Memory", &json!(64 << 20));
        check(
            &["--memory-swap", "-1", "x"],
            "/HostConfig/MemorySwap",
            &json!(-1),
        );
        check(
            &["--cpus", "1.5", "x"],
            "/HostConfig/NanoCpus",
            &json!(1_500_000_000),
        );
        check(&["--pids-limit=5", "x"], "/HostConfig/PidsLimit", &json!(5));
        check(&["-h", "box", "x"], "/Hostname", &json!("box"));
        check(&["--entrypoint", "", "x"], "/Entrypoint", &json!([""]));
        check(
            &["-e", "HOME", "-e", "A=b", "x"],
            "/Env",
            &json!(["HOME=/root", "A=b"]),
        );
        check(
            &["-v", "./d:/d", "x"],
            "/HostConfig/Binds",
            &json!(["/home/me/d:/d"]),
        );
        check(&["-v", "/d", "x"], "/Volumes", &json!({"/d": {}}));
        check(
            &["--tmpfs", "/t:size=1m", "x"],
            "/HostConfig/Tmpfs",
            &json!({"/t": "size=1m"}),
        );
        check(
            &["-p", "8080:80", "x"],
            "/HostConfig/PortBindings",
            &json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}),
        );
        check(
            &["-p", "8080:80", "x"],
            "/ExposedPorts",
            &json!({"80/tcp": {}}),
        );
        check(
            &["-l", "a=b", "-l", "c", "x"],
            "/Labels",
            &json!({"a": "b", "c": ""}),
        );
        check(&["--init", "x"], "/HostConfig/Init", &json!(true));
        check(&["--init=false", "x"], "/HostConfig/Init", &Value::Null);
        check(
            &["--add-host", "a=1.2.3.4", "x"],
            "/HostConfig/ExtraHosts",
            &json!(["a:1.2.3.4"]),
        );
        check(
            &["--no-healthcheck", "x"],
            "/Healthcheck/Test",
            &json!(["NONE"]),
        );
        check(&["--uts=host", "x"], "/HostConfig/UTSMode", &json!("host"));
        check(
            &["--device-read-iops", "/dev/a:5", "x"],
            "/HostConfig/BlkioDeviceReadIOps",
            &json!([{"Path": "/dev/a", "Rate": 5}]),
        );
        check(&["--stop-timeout", "-1", "x"], "/StopTimeout", &json!(-1));
    }

    #[test]
    fn conflicts_are_refused() {
        for args in [
            &["--rm", "--restart=always", "x"][..],
            &["--no-healthcheck", "--health-cmd", "true", "x"],
            &["--security-opt", "foo", "x"],
            &["--security-opt", "seccomp=/nonexistent", "x"],
        ] {
            assert!(body(args).is_err(), "{args:?}");
        }
        body(&["--rm", "--restart=no", "x"]).unwrap();
    }

    #[test]
    fn unknown_flags_are_refused_by_name() {
        let error = try_parse(&["--memroy", "1m", "x"]).unwrap_err().to_string();
        assert!(
            error.contains("--memroy") && error.contains("--memory"),
            "{error}"
        );
        try_parse(&[]).unwrap_err();
    }

    #[test]
    fn a_seccomp_profile_travels_inside() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{ \"defaultAction\": \"SCMP_ACT_ALLOW\" }").unwrap();
        let option = format!("seccomp={}", file.path().display());
        check(
            &["--security-opt", &option, "x"],
            "/HostConfig/SecurityOpt",
            &json!(["seccomp={\"defaultAction\":\"SCMP_ACT_ALLOW\"}"]),
        );
    }
}
