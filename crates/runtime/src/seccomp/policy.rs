//! What a filter decides, as data.

use super::syscalls;

/// A kind of machine whose system calls a filter can judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Architecture {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, also as a guest of the 64-bit one.
    I386,
    /// 64-bit ARM.
    Aarch64,
}

impl Architecture {
    /// The machine that this program is made for.
    #[cfg(target_arch = "x86_64")]
    pub const NATIVE: Self = Self::X86_64;
    /// The machine that this program is made for.
    #[cfg(target_arch = "aarch64")]
    pub const NATIVE: Self = Self::Aarch64;

    /// The kernel's name for it (`AUDIT_ARCH_*`).
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Itself, and those whose programs its kernel also runs. (x32 and 32-bit ARM are refused:
    /// nothing needs the one, and the other is not in the table.)
    #[must_use]
    pub fn with_compatible(self) -> Vec<Self> {
        match self {
            Self::X86_64 => vec![Self::X86_64, Self::I386],
            Self::I386 | Self::Aarch64 => vec![self],
        }
    }

    /// Reads `SCMP_ARCH_X86_64`; none for one that is not known here.
    #[must_use]
    pub fn from_scmp(name: &str) -> Option<Self> {
        match name {
            "SCMP_ARCH_X86_64" => Some(Self::X86_64),
            "SCMP_ARCH_X86" => Some(Self::I386),
            "SCMP_ARCH_AARCH64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// Go's name for it, as docker's profiles write it.
    #[must_use]
    pub fn go_name(self) -> &'static str {
        match self {
            Self::X86_64 => "amd64",
            Self::I386 => "x86",
            Self::Aarch64 => "arm64",
        }
    }
}

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// It is carried out.
    Allow,
    /// It is carried out, and logged.
    Log,
    /// It fails with this error number.
    Errno(u16),
    /// Its thread gets SIGSYS.
    Trap,
    /// A tracer decides, and learns this number.
    Trace(u16),
    /// Its thread ends.
    KillThread,
    /// Its process ends.
    KillProcess,
}

impl Action {
    /// Reads `SCMP_ACT_ALLOW` and so on; `number` is for errno and trace.
    #[must_use]
    pub fn from_scmp(name: &str, number: u16) -> Option<Self> {
        match name {
            "SCMP_ACT_ALLOW" => Some(Self::Allow),
            "SCMP_ACT_LOG" => Some(Self::Log),
            "SCMP_ACT_ERRNO" => Some(Self::Errno(number)),
            "SCMP_ACT_TRAP" => Some(Self::Trap),
            "SCMP_ACT_TRACE" => Some(Self::Trace(number)),
            "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Some(Self::KillThread),
            "SCMP_ACT_KILL_PROCESS" => Some(Self::KillProcess),
            _ => None,
        }
    }

    /// The value that a filter returns for it (`SECCOMP_RET_*`).
    #[must_use]
    pub fn verdict(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Log => 0x7ffc_0000,
            Self::Errno(number) => 0x0005_0000 | u32::from(number),
            Self::Trap => 0x0003_0000,
            Self::Trace(number) => 0x7ff0_0000 | u32::from(number),
            Self::KillThread => 0,
            Self::KillProcess => 0x8000_0000,
        }
    }
}

/// How an argument is compared, as unsigned 64-bit numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `argument == value`
    Equal,
    /// `argument != value`
    NotEqual,
    /// `argument < value`
    Less,
    /// `argument <= value`
    LessOrEqual,
    /// `argument > value`
    Greater,
    /// `argument >= value`
    GreaterOrEqual,
    /// `argument & mask == value`
    MaskedEqual {
        /// The bits that count.
        mask: u64,
    },
}

/// A demand on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Condition {
    /// Which argument, 0–5.
    pub argument: u8,
    /// How it is compared.
    pub comparison: Comparison,
    /// With what.
    pub value: u64,
}

impl Condition {
    /// Reads one condition as docker and OCI documents write it.
    #[must_use]
    pub fn from_scmp(index: u64, operator: &str, value: u64, second: u64) -> Option<Self> {
        let argument = u8::try_from(index).ok().filter(|index| *index < 6)?;
        let (comparison, value) = match operator {
            "SCMP_CMP_EQ" => (Comparison::Equal, value),
            "SCMP_CMP_NE" => (Comparison::NotEqual, value),
            "SCMP_CMP_LT" => (Comparison::Less, value),
            "SCMP_CMP_LE" => (Comparison::LessOrEqual, value),
            "SCMP_CMP_GT" => (Comparison::Greater, value),
            "SCMP_CMP_GE" => (Comparison::GreaterOrEqual, value),
            "SCMP_CMP_MASKED_EQ" => (Comparison::MaskedEqual { mask: value }, second),
            _ => return None,
        };
        Some(Self {
            argument,
            comparison,
            value,
        })
    }
}

/// What happens to one call if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// The call's name. One that an architecture does not have says nothing there.
    pub name: String,
    /// What happens.
    pub action: Action,
    /// When; empty: always.
    pub conditions: Vec<Condition>,
}

impl Rule {
    /// Makes a rule without conditions.
    #[must_use]
    pub fn new(name: &str, action: Action) -> Self {
        Self {
            name: name.to_owned(),
            action,
            conditions: Vec::new(),
        }
    }

    /// The call's number on an architecture that has it.
    pub(super) fn number(&self, architecture: Architecture) -> Option<u32> {
        syscalls::number(architecture, &self.name)
    }
}

/// A whole policy.
///
/// For one call, a rule without conditions goes before all others (as in libseccomp); among rules
/// with conditions the first that holds counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Policy {
    /// What happens to calls without a rule.
    pub default: Action,
    /// Programs of other architectures are ended.
    pub architectures: Vec<Architecture>,
    /// The rules.
    pub rules: Vec<Rule>,
}
