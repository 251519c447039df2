//! OCI resources → cgroup files: a plan of writes, then the writes.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::{Cgroup, CgroupError, devices, write};

/// One value for one file of one controller.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Write {
    pub(super) controller: &'static str,
    pub(super) file: String,
    pub(super) value: String,
}

fn one(controller: &'static str, file: impl Into<String>, value: impl std::fmt::Display) -> Write {
    Write {
        controller,
        file: file.into(),
        value: value.to_string(),
    }
}

/// Applies everything that is asked for.
pub(super) fn apply(cgroup: &Cgroup, resources: &LinuxResources) -> Result<(), CgroupError> {
    let unified = cgroup.is_unified();
    if let Some(memory) = resources.memory() {
        if unified {
            carry_out(cgroup, &memory_v2(memory))?;
        } else {
            memory_v1(cgroup, memory)?;
        }
    }
    let writes = if unified {
        plan_v2(resources)
    } else {
        plan_v1(resources)
    };
    carry_out(cgroup, &writes)?;
    if let Some(rules) = resources.devices() {
        devices::apply(cgroup, rules)?;
    }
    if let Some(unified_values) = resources.unified() {
        if !unified && !unified_values.is_empty() {
            return Err(cgroup.missing("v2 (for `unified` resources)"));
        }
        for (file, value) in unified_values {
            // A file of the cgroup itself, and none elsewhere.
            if file.contains('/') {
                return Err(cgroup.missing(file));
            }
            set(cgroup, &one("", file.as_str(), value))?;
        }
    }
    Ok(())
}

fn carry_out(cgroup: &Cgroup, writes: &[Write]) -> Result<(), CgroupError> {
    writes.iter().try_for_each(|write| set(cgroup, write))
}

fn set(cgroup: &Cgroup, value: &Write) -> Result<(), CgroupError> {
    let directory = cgroup
        .controller(value.controller)
        .ok_or_else(|| cgroup.missing(value.controller))?;
    write(&directory.join(&value.file), &value.value)
}

/// v1 refuses a memory limit above the limit of memory and swap together, and the reverse, so
/// the order depends on what is set now.
fn memory_v1(cgroup: &Cgroup, memory: &LinuxMemory) -> Result<(), CgroupError> {
    let limit = memory.limit().filter(|&limit| limit != 0);
    let mut swap = memory.swap().filter(|&swap| swap != 0);
    if limit == Some(-1) && swap.is_none() {
        swap = Some(-1);
    }
    let limit = limit.map(|limit| one("memory", "memory.limit_in_bytes", limit));
    let swap = swap.map(|swap| one("memory", "memory.memsw.limit_in_bytes", swap));
    let has_swap = cgroup
        .controller("memory")
        .is_some_and(|directory: PathBuf| directory.join("memory.memsw.limit_in_bytes").is_file());
    let swap = swap.filter(|_| has_swap || memory.swap().is_some_and(|swap| swap > 0));
    match (limit, swap) {
        (Some(limit), Some(swap)) => {
            if set(cgroup, &limit).is_err() {
                set(cgroup, &swap)?;
                set(cgroup, &limit)?;
            } else {
                set(cgroup, &swap)?;
            }
        }
        (limit, swap) => limit
            .iter()
            .chain(&swap)
            .try_for_each(|write| set(cgroup, write))?,
    }
    let mut rest = Vec::new();
    if let Some(reservation) = memory.reservation().filter(|&value| value != 0) {
        rest.push(one("memory", "memory.soft_limit_in_bytes", reservation));
    }
    if let Some(swappiness) = memory.swappiness().filter(|&value| value <= 100) {
        rest.push(one("memory", "memory.swappiness", swappiness));
    }
    if memory.disable_oom_killer() == Some(true) {
        rest.push(one("memory", "memory.oom_control", 1));
    }
    carry_out(cgroup, &rest)
}

fn memory_v2(memory: &LinuxMemory) -> Vec<Write> {
    let amount = |value: i64| {
        if value < 0 {
            "max".to_owned()
        } else {
            value.to_string()
        }
    };
    let mut writes = Vec::new();
    let limit = memory.limit().filter(|&limit| limit != 0);
    if let Some(swap) = memory.swap().filter(|&swap| swap != 0) {
        // The document counts memory and swap together; v2 counts swap alone.
        let alone = match limit {
            _ if swap < 0 => -1,
            Some(limit) if limit > 0 => (swap - limit).max(0),
            _ => swap,
        };
        writes.push(one("memory", "memory.swap.max", amount(alone)));
    }
    if let Some(limit) = limit {
        writes.push(one("memory", "memory.max", amount(limit)));
    }
    if let Some(reservation) = memory.reservation().filter(|&value| value != 0) {
        writes.push(one("memory", "memory.low", amount(reservation)));
    }
    writes
}

fn plan_v1(resources: &LinuxResources) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(cpu) = resources.cpu() {
        writes.extend(cpu_v1(cpu));
    }
    if let Some(pids) = resources
        .pids()
        .as_ref()
        .and_then(|pids| pids_limit(pids.limit()))
    {
        writes.push(one("pids", "pids.max", pids));
    }
    if let Some(block) = resources.block_io() {
        writes.extend(block_v1(block));
    }
    for page in resources.hugepage_limits().iter().flatten() {
        let file = format!("hugetlb.{}.limit_in_bytes", page.page_size());
        writes.push(one("hugetlb", file, page.limit()));
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id() {
            writes.push(one("net_cls", "net_cls.classid", class));
        }
        for priority in network.priorities().iter().flatten() {
            let value = format!("{} {}", priority.name(), priority.priority());
            writes.push(one("net_prio", "net_prio.ifpriomap", value));
        }
    }
    writes
}

fn cpu_v1(cpu: &LinuxCpu) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(shares) = cpu.shares().filter(|&shares| shares != 0) {
        writes.push(one("cpu", "cpu.shares", shares));
    }
    if let Some(period) = cpu.period().filter(|&period| period != 0) {
        writes.push(one("cpu", "cpu.cfs_period_us", period));
    }
    if let Some(quota) = cpu.quota().filter(|&quota| quota != 0) {
        writes.push(one("cpu", "cpu.cfs_quota_us", quota));
    }
    if let Some(burst) = cpu.burst() {
        writes.push(one("cpu", "cpu.cfs_burst_us", burst));
    }
    if let Some(period) = cpu.realtime_period().filter(|&period| period != 0) {
        writes.push(one("cpu", "cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|&runtime| runtime != 0) {
        writes.push(one("cpu", "cpu.rt_runtime_us", runtime));
    }
    if let Some(idle) = cpu.idle() {
        writes.push(one("cpu", "cpu.idle", idle));
    }
    writes.extend(cpuset(cpu));
    writes
}

fn cpuset(cpu: &LinuxCpu) -> impl Iterator<Item = Write> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let cpus = given(cpu.cpus()).map(|cpus| one("cpuset", "cpuset.cpus", cpus));
    let mems = given(cpu.mems()).map(|mems| one("cpuset", "cpuset.mems", mems));
    cpus.into_iter().chain(mems)
}

fn pids_limit(limit: i64) -> Option<String> {
    match limit {
        0 => None,
        limit if limit < 0 => Some("max".to_owned()),
        limit => Some(limit.to_string()),
    }
}

fn block_v1(block: &LinuxBlockIo) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(weight) = block.weight().filter(|&weight| weight != 0) {
        writes.push(one("blkio", weight_file("blkio"), weight));
    }
    for device in block.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            writes.push(one("blkio", "blkio.bfq.weight_device", value));
        }
    }
    let throttles = [
        (
            "blkio.throttle.read_bps_device",
            block.throttle_read_bps_device(),
        ),
        (
            "blkio.throttle.write_bps_device",
            block.throttle_write_bps_device(),
        ),
        (
            "blkio.throttle.read_iops_device",
            block.throttle_read_iops_device(),
        ),
        (
            "blkio.throttle.write_iops_device",
            block.throttle_write_iops_device(),
        ),
    ];
    for (file, devices) in throttles {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            writes.push(one("blkio", file, value));
        }
    }
    writes
}

/// Only the BFQ scheduler has weights since Linux 5.0; older kernels lack the infix.
fn weight_file(controller: &str) -> String {
    let old = Path::new("/sys/fs/cgroup/blkio/blkio.weight");
    if controller == "blkio" && old.is_file() {
        "blkio.weight".to_owned()
    } else {
        format!("{controller}.bfq.weight")
    }
}

fn plan_v2(resources: &LinuxResources) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(cpu) = resources.cpu() {
        if let Some(shares) = cpu.shares().filter(|&shares| shares != 0) {
            writes.push(one("cpu", "cpu.weight", weight_of_shares(shares)));
        }
        let quota = cpu.quota().filter(|&quota| quota != 0);
        let period = cpu.period().filter(|&period| period != 0);
        if quota.is_some() || period.is_some() {
            let quota = match quota {
                Some(quota) if quota > 0 => quota.to_string(),
                _ => "max".to_owned(),
            };
            writes.push(one(
                "cpu",
                "cpu.max",
                format!("{quota} {}", period.unwrap_or(100_000)),
            ));
        }
        if let Some(burst) = cpu.burst() {
            writes.push(one("cpu", "cpu.max.burst", burst));
        }
        if let Some(idle) = cpu.idle() {
            writes.push(one("cpu", "cpu.idle", idle));
        }
        writes.extend(cpuset(cpu));
    }
    if let Some(pids) = resources
        .pids()
        .as_ref()
        .and_then(|pids| pids_limit(pids.limit()))
    {
        writes.push(one("pids", "pids.max", pids));
    }
    if let Some(block) = resources.block_io() {
        writes.extend(block_v2(block));
    }
    for page in resources.hugepage_limits().iter().flatten() {
        writes.push(one(
            "hugetlb",
            format!("hugetlb.{}.max", page.page_size()),
            page.limit(),
        ));
    }
    writes
}

/// The kernel documentation's mapping of 2…262144 onto 1…10000.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn block_v2(block: &LinuxBlockIo) -> Vec<Write> {
    let mut writes = Vec::new();
    if let Some(weight) = block.weight().filter(|&weight| weight != 0) {
        writes.push(one("io", weight_file("io"), weight));
    }
    let throttles = [
        ("rbps", block.throttle_read_bps_device()),
        ("wbps", block.throttle_write_bps_device()),
        ("riops", block.throttle_read_iops_device()),
        ("wiops", block.throttle_write_iops_device()),
    ];
    for (key, devices) in throttles {
        for device in devices.iter().flatten() {
            let value = format!(
                "{}:{} {key}={}",
                device.major(),
                device.minor(),
                device.rate()
            );
            writes.push(one("io", "io.max", value));
        }
    }
    writes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(json: &str) -> LinuxResources {
        serde_json::from_str(json).unwrap()
    }

    fn shown(writes: &[Write]) -> Vec<String> {
        writes
            .iter()
            .map(|write| format!("{}={}", write.file, write.value))
            .collect()
    }

    #[test]
    fn v2_counts_swap_alone() {
        let check = |json: &str, expected: &[&str]| {
            let resources = resources(json);
            assert_eq!(
                shown(&memory_v2(resources.memory().as_ref().unwrap())),
                expected,
                "{json}"
            );
        };
        check(
            r#"{"memory":{"limit":100,"swap":300}}"#,
            &["memory.swap.max=200", "memory.max=100"],
        );
        check(
            r#"{"memory":{"limit":100,"swap":-1}}"#,
            &["memory.swap.max=max", "memory.max=100"],
        );
        check(r#"{"memory":{"limit":-1}}"#, &["memory.max=max"]);
        check(r#"{"memory":{"limit":0}}"#, &[]);
    }

    #[test]
    fn v2_words() {
        let writes = plan_v2(&resources(
            r#"{"cpu":{"shares":1024,"quota":50000},"pids":{"limit":-1},
                "blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}}"#,
        ));
        assert_eq!(
            shown(&writes),
            [
                "cpu.weight=39",
                "cpu.max=50000 100000",
                "pids.max=max",
                "io.max=8:0 rbps=5"
            ]
        );
    }

    #[test]
    fn v1_words() {
        let writes = plan_v1(&resources(
            r#"{"cpu":{"shares":512,"quota":-1,"period":100000,"cpus":"0"},"pids":{"limit":7}}"#,
        ));
        assert_eq!(
            shown(&writes),
            [
                "cpu.shares=512",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=-1",
                "cpuset.cpus=0",
                "pids.max=7"
            ]
        );
    }

    #[test]
    fn shares_map_onto_weights() {
        assert_eq!(weight_of_shares(2), 1);
        assert_eq!(weight_of_shares(262_144), 10_000);
        assert_eq!(weight_of_shares(0), 1);
        assert_eq!(weight_of_shares(u64::MAX), 10_000);
    }
}
