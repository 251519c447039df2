//! What a cgroup uses, read from its files.

use super::{Cgroup, CgroupError};

/// Everything at one moment. A controller that is missing leaves its part at zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupStats {
    /// Processor time.
    pub cpu: CpuStats,
    /// Memory.
    pub memory: MemoryStats,
    /// Tasks.
    pub pids: PidsStats,
    /// Block devices.
    pub block_io: Vec<BlockIoEntry>,
}

/// Processor time, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuStats {
    /// All of it.
    pub total_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// By processor; v1 only.
    pub per_cpu_ns: Vec<u64>,
    /// Periods of the quota that passed.
    pub periods: u64,
    /// Periods in which it was held back.
    pub throttled_periods: u64,
    /// For how long it was held back.
    pub throttled_ns: u64,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryStats {
    /// In use, page cache included.
    pub usage: u64,
    /// The most ever in use; v1, and v2 from Linux 5.19.
    pub max_usage: u64,
    /// The limit; `u64::MAX` without one.
    pub limit: u64,
    /// How often the limit was hit.
    pub failures: u64,
    /// `memory.stat`, as the kernel names things.
    pub details: Vec<(String, u64)>,
}

/// Numbers of tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PidsStats {
    /// Now.
    pub current: u64,
    /// The limit; `u64::MAX` without one.
    pub limit: u64,
}

/// Traffic with one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BlockIoEntry {
    /// Its major number.
    pub major: u64,
    /// Its minor number.
    pub minor: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

pub(super) fn read(cgroup: &Cgroup) -> Result<CgroupStats, CgroupError> {
    if !cgroup.exists() {
        let error = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(CgroupError::new("read", cgroup.path(), error));
    }
    let pids = PidsStats {
        current: number(cgroup, "pids", "pids.current"),
        limit: limit(cgroup, "pids", "pids.max"),
    };
    Ok(if cgroup.is_unified() {
        CgroupStats {
            cpu: cpu_v2(cgroup),
            memory: memory_v2(cgroup),
            pids,
            block_io: io_v2(cgroup),
        }
    } else {
        CgroupStats {
            cpu: cpu_v1(cgroup),
            memory: memory_v1(cgroup),
            pids,
            block_io: io_v1(cgroup),
        }
    })
}

fn number(cgroup: &Cgroup, controller: &str, file: &str) -> u64 {
    cgroup
        .read(controller, file)
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0)
}

fn limit(cgroup: &Cgroup, controller: &str, file: &str) -> u64 {
    // "max", and v1's largest page-aligned number, both mean that there is none.
    const NO_LIMIT: u64 = 0x7fff_ffff_ffff_f000;
    let value = cgroup
        .read(controller, file)
        .and_then(|text| text.trim().parse().ok());
    value.filter(|&value| value < NO_LIMIT).unwrap_or(u64::MAX)
}

/// A `name value` line of a flat file.
pub(super) fn field(text: &str, name: &str) -> Option<u64> {
    fields(text)
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

fn fields(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name, value.trim().parse().ok()?))
    })
}

fn cpu_v1(cgroup: &Cgroup) -> CpuStats {
    let per_cpu = cgroup
        .read("cpuacct", "cpuacct.usage_percpu")
        .unwrap_or_default();
    let throttling = cgroup.read("cpu", "cpu.stat").unwrap_or_default();
    let value = |name| field(&throttling, name).unwrap_or(0);
    CpuStats {
        total_ns: number(cgroup, "cpuacct", "cpuacct.usage"),
        user_ns: number(cgroup, "cpuacct", "cpuacct.usage_user"),
        system_ns: number(cgroup, "cpuacct", "cpuacct.usage_sys"),
        per_cpu_ns: per_cpu
            .split_whitespace()
            .filter_map(|text| text.parse().ok())
            .collect(),
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_ns: value("throttled_time"),
    }
}

fn cpu_v2(cgroup: &Cgroup) -> CpuStats {
    let text = cgroup.read("cpu", "cpu.stat").unwrap_or_default();
    let value = |name| field(&text, name).unwrap_or(0);
    CpuStats {
        total_ns: value("usage_usec") * 1000,
        user_ns: value("user_usec") * 1000,
        system_ns: value("system_usec") * 1000,
        per_cpu_ns: Vec::new(),
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_ns: value("throttled_usec") * 1000,
    }
}

fn details(cgroup: &Cgroup) -> Vec<(String, u64)> {
    let text = cgroup.read("memory", "memory.stat").unwrap_or_default();
    fields(&text)
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn memory_v1(cgroup: &Cgroup) -> MemoryStats {
    MemoryStats {
        usage: number(cgroup, "memory", "memory.usage_in_bytes"),
        max_usage: number(cgroup, "memory", "memory.max_usage_in_bytes"),
        limit: limit(cgroup, "memory", "memory.limit_in_bytes"),
        failures: number(cgroup, "memory", "memory.failcnt"),
        details: details(cgroup),
    }
}

fn memory_v2(cgroup: &Cgroup) -> MemoryStats {
    let events = cgroup.read("memory", "memory.events").unwrap_or_default();
    MemoryStats {
        usage: number(cgroup, "memory", "memory.current"),
        max_usage: number(cgroup, "memory", "memory.peak"),
        limit: limit(cgroup, "memory", "memory.max"),
        failures: field(&events, "max").unwrap_or(0),
        details: details(cgroup),
    }
}

fn entry<'a>(entries: &'a mut Vec<BlockIoEntry>, device: &str) -> Option<&'a mut BlockIoEntry> {
    let (major, minor) = device.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    let at = entries
        .iter()
        .position(|entry| entry.major == major && entry.minor == minor);
    let at = at.unwrap_or_else(|| {
        entries.push(BlockIoEntry {
            major,
            minor,
            ..BlockIoEntry::default()
        });
        entries.len() - 1
    });
    entries.get_mut(at)
}

/// Lines such as `8:0 Read 4096`.
fn io_v1(cgroup: &Cgroup) -> Vec<BlockIoEntry> {
    let mut entries = Vec::new();
    for (file, bytes) in [
        ("blkio.throttle.io_service_bytes", true),
        ("blkio.throttle.io_serviced", false),
    ] {
        let text = cgroup.read("blkio", file).unwrap_or_default();
        add_io_v1(&mut entries, &text, bytes);
    }
    entries
}

fn add_io_v1(entries: &mut Vec<BlockIoEntry>, text: &str, bytes: bool) {
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [device, operation, value] = words[..] else {
            continue;
        };
        let (Some(entry), Ok(value)) = (entry(entries, device), value.parse()) else {
            continue;
        };
        match (operation, bytes) {
            ("Read", true) => entry.read_bytes = value,
            ("Write", true) => entry.write_bytes = value,
            ("Read", false) => entry.reads = value,
            ("Write", false) => entry.writes = value,
            _ => {}
        }
    }
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io_v2(cgroup: &Cgroup) -> Vec<BlockIoEntry> {
    let mut entries = Vec::new();
    add_io_v2(
        &mut entries,
        &cgroup.read("io", "io.stat").unwrap_or_default(),
    );
    entries
}

fn add_io_v2(entries: &mut Vec<BlockIoEntry>, text: &str) {
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let Some(entry) = words.next().and_then(|device| entry(entries, device)) else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = value.parse().unwrap_or(0);
            match key {
                "rbytes" => entry.read_bytes = value,
                "wbytes" => entry.write_bytes = value,
                "rios" => entry.reads = value,
                "wios" => entry.writes = value,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_block_io() {
        let mut v1 = Vec::new();
        add_io_v1(
            &mut v1,
            "8:0 Read 4096\n8:0 Write 10\n8:0 Total 4106\nTotal 4106\n",
            true,
        );
        add_io_v1(&mut v1, "8:0 Read 1\n8:0 Write 2\n", false);
        let mut v2 = Vec::new();
        add_io_v2(
            &mut v2,
            "8:0 rbytes=4096 wbytes=10 rios=1 wios=2 dbytes=0 dios=0\n",
        );
        assert_eq!(v1, v2);
        let expected = BlockIoEntry {
            major: 8,
            read_bytes: 4096,
            write_bytes: 10,
            reads: 1,
            writes: 2,
            minor: 0,
        };
        assert_eq!(v1, [expected]);
    }

    #[test]
    fn flat_files() {
        assert_eq!(
            field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"),
            Some(3)
        );
        assert_eq!(field("", "oom_kill"), None);
    }
}
