//! Limits in docker's words and units, checked, into the runtime spec's.

use super::{DeviceNode, SpecInput};
use crate::settings::{ContainerSettings, Resources};
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxMemory, LinuxPids,
    LinuxResources, LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};
use std::collections::HashMap;
use std::path::PathBuf;

/// Less than this no container starts in; docker refuses it too.
const MIN_MEMORY_BYTES: u64 = 6 << 20;
/// The period docker turns `--cpus` into a quota of, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;
const NANO_CPUS_PER_CPU: u64 = 1_000_000_000;

/// A limit that cannot be. The wording is docker's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResourceError {
    /// `--memory` below 6 MiB.
    #[error("Minimum memory limit allowed is 6MB")]
    MemoryTooSmall,
    /// `--memory-swap` without `--memory`.
    #[error("You should always set the Memory limit when using Memoryswap limit, see usage")]
    SwapWithoutMemory,
    /// `--memory-swap` below `--memory`.
    #[error("Minimum memoryswap limit should be larger than memory limit, see usage")]
    SwapBelowMemory,
    /// `--memory-reservation` above `--memory`.
    #[error("Minimum memory limit can not be less than memory reservation limit, see usage")]
    ReservationAboveMemory,
    /// `--memory-swappiness` above 100.
    #[error("Invalid value: {0}, valid memory swappiness range is 0-100")]
    Swappiness(u8),
    /// Both `--cpus` and `--cpu-period` or `--cpu-quota`.
    #[error("Conflicting options: Nano CPUs and CPU {0} cannot both be set.")]
    CpusTwice(&'static str),
    /// `--cpus` above what the host has.
    #[error("range of CPUs is from 0.01 to {0}.00, as there are only {0} CPUs available")]
    CpuRange(u32),
    /// `--cpu-period` outside 1 ms to 1 s.
    #[error("CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. 1000000)")]
    CpuPeriod,
    /// `--cpu-quota` below 1 ms.
    #[error("CPU cfs quota can not be less than 1ms (i.e. 1000)")]
    CpuQuota,
    /// `--blkio-weight` outside 10–1000.
    #[error("Range of blkio weight is from 10 to 1000")]
    BlkioWeight,
    /// A number the kernel has no room for.
    #[error("limit {0} is out of range")]
    OutOfRange(u64),
    /// A device of a block I/O limit is none.
    #[error("{} is not a block device", .0.display())]
    NotABlockDevice(PathBuf),
    /// A rule of `--device-cgroup-rule` is malformed.
    #[error("invalid device cgroup rule format: '{0}'")]
    DeviceRule(String),
}

/// Checks limits and turns them into the runtime spec's, without the device rules.
///
/// # Errors
/// A limit is out of docker's range, or two contradict each other.
pub fn linux_resources(
    resources: &Resources,
    block_devices: &HashMap<PathBuf, (u32, u32)>,
) -> Result<LinuxResources, ResourceError> {
    let mut linux = LinuxResources::default();
    linux
        .set_devices(None)
        .set_memory(memory(resources)?)
        .set_cpu(cpu(resources)?)
        .set_block_io(block_io(resources, block_devices)?);
    if let Some(limit) = resources.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(if limit <= 0 { -1 } else { limit });
        linux.set_pids(Some(pids));
    }
    Ok(linux)
}

/// Checks what needs no host but its number of processors.
pub(super) fn check(settings: &ContainerSettings, cpus: u32) -> Result<(), ResourceError> {
    let resources = &settings.resources;
    memory(resources)?;
    cpu(resources)?;
    let most = u64::from(cpus).saturating_mul(NANO_CPUS_PER_CPU);
    if cpus > 0 && resources.nano_cpus.is_some_and(|nano| nano > most) {
        return Err(ResourceError::CpuRange(cpus));
    }
    settings.devices.cgroup_rules.iter().try_for_each(|text| {
        let rule = parse_rule(text).map(drop);
        rule.ok_or_else(|| ResourceError::DeviceRule(text.clone()))
    })
}

fn memory(resources: &Resources) -> Result<Option<LinuxMemory>, ResourceError> {
    let limit = resources.memory_bytes.filter(|bytes| *bytes > 0);
    let swap = resources.memory_swap_bytes.filter(|bytes| *bytes != 0);
    let reservation = resources
        .memory_reservation_bytes
        .filter(|bytes| *bytes > 0);
    match (limit, swap, reservation) {
        (Some(bytes), _, _) if bytes < MIN_MEMORY_BYTES => {
            return Err(ResourceError::MemoryTooSmall);
        }
        (None, Some(swap), _) if swap > 0 => return Err(ResourceError::SwapWithoutMemory),
        (Some(bytes), Some(swap), _) if swap > 0 && signed(bytes)? > swap => {
            return Err(ResourceError::SwapBelowMemory);
        }
        (Some(bytes), _, Some(reservation)) if reservation > bytes => {
            return Err(ResourceError::ReservationAboveMemory);
        }
        _ => {}
    }
    if let Some(swappiness) = resources.memory_swappiness.filter(|value| *value > 100) {
        return Err(ResourceError::Swappiness(swappiness));
    }
    // Docker's default: as much swap as memory.
    let swap = match (limit, swap) {
        (Some(bytes), None) => Some(signed(bytes.saturating_mul(2))?),
        (_, swap) => swap,
    };
    let nothing = limit.is_none()
        && swap.is_none()
        && reservation.is_none()
        && resources.memory_swappiness.is_none()
        && !resources.oom_kill_disable;
    if nothing {
        return Ok(None);
    }
    let mut memory = LinuxMemory::default();
    memory
        .set_limit(limit.map(signed).transpose()?)
        .set_swap(swap)
        .set_reservation(reservation.map(signed).transpose()?)
        .set_swappiness(resources.memory_swappiness.map(u64::from));
    if resources.oom_kill_disable {
        memory.set_disable_oom_killer(Some(true));
    }
    Ok(Some(memory))
}

fn cpu(resources: &Resources) -> Result<Option<LinuxCpu>, ResourceError> {
    let nano = resources.nano_cpus.filter(|nano| *nano > 0);
    let period = resources.cpu_period_us.filter(|period| *period > 0);
    let quota = resources.cpu_quota_us.filter(|quota| *quota != 0);
    if nano.is_some() && period.is_some() {
        return Err(ResourceError::CpusTwice("Period"));
    }
    if nano.is_some() && quota.is_some() {
        return Err(ResourceError::CpusTwice("Quota"));
    }
    if period.is_some_and(|period| !(1_000..=1_000_000).contains(&period)) {
        return Err(ResourceError::CpuPeriod);
    }
    if quota.is_some_and(|quota| (1..1_000).contains(&quota)) {
        return Err(ResourceError::CpuQuota);
    }
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(resources.cpu_shares.filter(|shares| *shares > 0))
        .set_period(period)
        .set_quota(quota)
        .set_realtime_period(
            resources
                .cpu_realtime_period_us
                .filter(|period| *period > 0),
        )
        .set_realtime_runtime(
            resources
                .cpu_realtime_runtime_us
                .filter(|runtime| *runtime != 0),
        )
        .set_cpus(
            resources
                .cpuset_cpus
                .clone()
                .filter(|cpus| !cpus.is_empty()),
        )
        .set_mems(
            resources
                .cpuset_mems
                .clone()
                .filter(|mems| !mems.is_empty()),
        );
    if let Some(nano) = nano {
        let quota = nano.saturating_mul(CPU_PERIOD_US / 1_000) / (NANO_CPUS_PER_CPU / 1_000);
        cpu.set_period(Some(CPU_PERIOD_US))
            .set_quota(Some(signed(quota)?));
    }
    Ok(Some(cpu).filter(|cpu| *cpu != LinuxCpu::default()))
}

fn block_io(
    resources: &Resources,
    devices: &HashMap<PathBuf, (u32, u32)>,
) -> Result<Option<LinuxBlockIo>, ResourceError> {
    let number = |path: &PathBuf| {
        let found = devices.get(path).copied();
        found.ok_or_else(|| ResourceError::NotABlockDevice(path.clone()))
    };
    let throttle = |limits: &[(PathBuf, u64)]| -> Result<_, ResourceError> {
        let mut throttles = Vec::new();
        for (path, rate) in limits {
            let (major, minor) = number(path)?;
            let device = LinuxThrottleDeviceBuilder::default()
                .major(major)
                .minor(minor)
                .rate(*rate)
                .build()
                .expect("every field is set");
            throttles.push(device);
        }
        Ok(Some(throttles).filter(|throttles| !throttles.is_empty()))
    };
    let weight = resources.blkio_weight.filter(|weight| *weight > 0);
    if weight.is_some_and(|weight| !(10..=1000).contains(&weight)) {
        return Err(ResourceError::BlkioWeight);
    }
    let mut weights = Vec::new();
    for (path, weight) in &resources.blkio_weight_device {
        let (major, minor) = number(path)?;
        let weight = u16::try_from(*weight)
            .ok()
            .filter(|weight| (10..=1000).contains(weight));
        let device = LinuxWeightDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .weight(weight.ok_or(ResourceError::BlkioWeight)?)
            .build()
            .expect("every field is set");
        weights.push(device);
    }
    let mut io = LinuxBlockIo::default();
    io.set_weight(weight)
        .set_weight_device(Some(weights).filter(|weights| !weights.is_empty()))
        .set_throttle_read_bps_device(throttle(&resources.blkio_device_read_bps)?)
        .set_throttle_write_bps_device(throttle(&resources.blkio_device_write_bps)?)
        .set_throttle_read_iops_device(throttle(&resources.blkio_device_read_iops)?)
        .set_throttle_write_iops_device(throttle(&resources.blkio_device_write_iops)?);
    Ok(Some(io).filter(|io| *io != LinuxBlockIo::default()))
}

fn signed(value: u64) -> Result<i64, ResourceError> {
    i64::try_from(value).map_err(|_| ResourceError::OutOfRange(value))
}

/// The limits together with the device allow-list.
pub(super) fn with_devices(input: &SpecInput<'_>) -> Result<LinuxResources, ResourceError> {
    let mut linux = linux_resources(&input.settings.resources, input.block_devices)?;
    linux.set_devices(Some(device_rules(input)?));
    Ok(linux)
}

/// Character devices that every container may open: null, zero, full, random, urandom, tty,
/// console, ptmx and the pts.
const ALLOWED: [(i64, Option<i64>); 9] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(1)),
    (5, Some(2)),
    (136, None),
];

fn device_rules(input: &SpecInput<'_>) -> Result<Vec<LinuxDeviceCgroup>, ResourceError> {
    let settings = input.settings;
    if settings.security.privileged {
        return Ok(vec![rule(
            true,
            Some(LinuxDeviceType::A),
            None,
            None,
            "rwm",
        )]);
    }
    let mut rules = vec![rule(false, Some(LinuxDeviceType::A), None, None, "rwm")];
    // Any node may be made: opening it is what needs the permission.
    rules.push(rule(true, Some(LinuxDeviceType::C), None, None, "m"));
    rules.push(rule(true, Some(LinuxDeviceType::B), None, None, "m"));
    rules.extend(
        ALLOWED.iter().map(|(major, minor)| {
            rule(true, Some(LinuxDeviceType::C), Some(*major), *minor, "rwm")
        }),
    );
    rules.extend(input.devices.iter().map(device_rule));
    for text in &settings.devices.cgroup_rules {
        rules.push(parse_rule(text).ok_or_else(|| ResourceError::DeviceRule(text.clone()))?);
    }
    Ok(rules)
}

fn device_rule(node: &DeviceNode) -> LinuxDeviceCgroup {
    let kind = if node.block {
        LinuxDeviceType::B
    } else {
        LinuxDeviceType::C
    };
    rule(
        true,
        Some(kind),
        Some(node.major.into()),
        Some(node.minor.into()),
        &node.permissions,
    )
}

/// Parses `c 1:3 rwm`, where numbers may be `*`.
fn parse_rule(text: &str) -> Option<LinuxDeviceCgroup> {
    let mut words = text.split_ascii_whitespace();
    let kind = match words.next()? {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return None,
    };
    let number = |text: &str| match text {
        "*" => Some(None),
        digits => digits
            .parse::<i64>()
            .ok()
            .filter(|number| *number >= 0)
            .map(Some),
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let access = words.next()?;
    let access_ok = (1..=3).contains(&access.len()) && access.bytes().all(|b| b"rwm".contains(&b));
    if !access_ok || words.next().is_some() {
        return None;
    }
    Some(rule(
        true,
        Some(kind),
        number(major)?,
        number(minor)?,
        access,
    ))
}

fn rule(
    allow: bool,
    kind: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow)
        .set_typ(kind)
        .set_major(major)
        .set_minor(minor)
        .set_access(Some(access.to_owned()));
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(resources: &Resources) -> Result<LinuxResources, ResourceError> {
        linux_resources(resources, &HashMap::new())
    }

    #[test]
    fn memory_gets_as_much_swap() {
        let resources = Resources {
            memory_bytes: Some(64 << 20),
            ..Default::default()
        };
        let memory = check(&resources).unwrap().memory().unwrap();
        assert_eq!(
            (memory.limit(), memory.swap()),
            (Some(64 << 20), Some(128 << 20))
        );
    }

    #[test]
    fn cpus_become_a_quota() {
        let resources = Resources {
            nano_cpus: Some(1_500_000_000),
            ..Default::default()
        };
        let cpu = check(&resources).unwrap().cpu().clone().unwrap();
        assert_eq!((cpu.period(), cpu.quota()), (Some(100_000), Some(150_000)));
    }

    #[test]
    fn nothing_asked_is_nothing_set() {
        let linux = check(&Resources::default()).unwrap();
        assert!(linux.memory().is_none() && linux.cpu().is_none() && linux.pids().is_none());
    }

    #[test]
    fn refuses_what_docker_refuses() {
        let refuse = |resources: Resources, expected| {
            assert_eq!(check(&resources).unwrap_err(), expected);
        };
        let r = Resources::default;
        refuse(
            Resources {
                memory_bytes: Some(1),
                ..r()
            },
            ResourceError::MemoryTooSmall,
        );
        refuse(
            Resources {
                memory_swap_bytes: Some(1 << 30),
                ..r()
            },
            ResourceError::SwapWithoutMemory,
        );
        refuse(
            Resources {
                memory_bytes: Some(8 << 20),
                memory_swap_bytes: Some(1),
                ..r()
            },
            ResourceError::SwapBelowMemory,
        );
        refuse(
            Resources {
                nano_cpus: Some(1),
                cpu_quota_us: Some(5_000),
                ..r()
            },
            ResourceError::CpusTwice("Quota"),
        );
        refuse(
            Resources {
                cpu_period_us: Some(10),
                ..r()
            },
            ResourceError::CpuPeriod,
        );
        refuse(
            Resources {
                blkio_weight: Some(5),
                ..r()
            },
            ResourceError::BlkioWeight,
        );
    }

    #[test]
    fn device_rules_parse() {
        for good in ["c 42:* rwm", "b *:* r", "a *:* rw"] {
            assert!(parse_rule(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "c",
            "c 1 r",
            "d 1:1 r",
            "c 1:1 x",
            "c 1:1 rwm x",
            "c -1:1 r",
        ] {
            assert!(parse_rule(bad).is_none(), "{bad}");
        }
    }
}
