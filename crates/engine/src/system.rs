//! Facts about the engine and its machine, for `info` and `version`.

use crate::Context;
use std::sync::Arc;

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct System {
    context: Arc<Context>,
}

/// What `info` shows of the machine.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The daemon's ID, kept in its data root.
    pub id: String,
    /// Host name.
    pub hostname: String,
    /// `uname -r`.
    pub kernel: String,
    /// `PRETTY_NAME` of os-release.
    pub operating_system: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// Docker's word for the processor: `x86_64`.
    pub architecture: String,
    /// Processors.
    pub processors: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// 1 or 2.
    pub cgroup_version: u8,
}

impl System {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// Reads the machine's facts.
    #[must_use]
    pub fn machine(&self) -> Machine {
        let name = rustix::system::uname();
        let os = std::fs::read_to_string("/etc/os-release")
            .or_else(|_| std::fs::read_to_string("/usr/lib/os-release"))
            .unwrap_or_default();
        let field = |key: &str| {
            os.lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
                .map(|value| value.trim_matches('"').to_owned())
                .unwrap_or_default()
        };
        Machine {
            id: self.id(),
            hostname: crate::host::hostname(),
            kernel: name.release().to_string_lossy().into_owned(),
            operating_system: field("PRETTY_NAME"),
            os_version: field("VERSION_ID"),
            architecture: name.machine().to_string_lossy().into_owned(),
            processors: std::thread::available_parallelism().map_or(1, Into::into),
            memory_bytes: memory_bytes(),
            cgroup_version: if self.context.host.facts(false).cgroup_v2 {
                2
            } else {
                1
            },
        }
    }

    /// Made once per data root.
    fn id(&self) -> String {
        let records = self.context.store.records();
        match records.get::<String>("engine", "id") {
            Ok(Some(id)) => id,
            _ => {
                let id = crate::random::hex_id();
                if let Err(error) = records.put("engine", "id", &id) {
                    tracing::warn!(%error, "keep the daemon's ID");
                }
                id
            }
        }
    }
}

fn memory_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = total.and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse().ok());
    kilobytes.map_or(0, |kilobytes: u64| kilobytes * 1024)
}
