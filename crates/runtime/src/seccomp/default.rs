//! The default policy: docker's allow-list, by what its calls are for.
//!
//! Everything not listed fails with `EPERM`. Calls that undo the container's walls are allowed
//! only with the capability that allows them to the user outside; `clone3`, whose flags lie in
//! memory that a filter cannot read, fails with `ENOSYS` so that libraries fall back to `clone`.

use super::policy::{Action, Architecture, Comparison, Condition, Policy, Rule};
use std::collections::BTreeSet;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Clocks and timers.
#[rustfmt::skip]
const TIME: &[&str] = &[
    "adjtimex", "alarm", "clock_adjtime", "clock_adjtime64", "clock_getres", "clock_getres_time64",
    "clock_gettime", "clock_gettime64", "clock_nanosleep", "clock_nanosleep_time64", "getitimer",
    "gettimeofday", "nanosleep", "setitimer", "time", "timer_create", "timer_delete",
    "timer_getoverrun", "timer_gettime", "timer_gettime64", "timer_settime", "timer_settime64",
    "timerfd_create", "timerfd_gettime", "timerfd_gettime64", "timerfd_settime",
    "timerfd_settime64", "times",
];

/// Signals, and processes by descriptor.
#[rustfmt::skip]
const SIGNALS: &[&str] = &[
    "kill", "pause", "pidfd_open", "pidfd_send_signal", "restart_syscall", "rt_sigaction",
    "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo", "rt_sigreturn", "rt_sigsuspend",
    "rt_sigtimedwait", "rt_sigtimedwait_time64", "rt_tgsigqueueinfo", "sigaltstack", "signalfd",
    "signalfd4", "sigprocmask", "sigreturn", "tgkill", "tkill",
];

/// Sockets, once made; making one depends on the family.
#[rustfmt::skip]
const SOCKETS: &[&str] = &[
    "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen",
    "recv", "recvfrom", "recvmmsg", "recvmmsg_time64", "recvmsg", "send", "sendfile", "sendfile64",
    "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown", "socketcall", "socketpair",
];

/// System V IPC and POSIX message queues.
#[rustfmt::skip]
const SYSTEM_V_AND_QUEUES: &[&str] = &[
    "ipc", "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedreceive_time64",
    "mq_timedsend", "mq_timedsend_time64", "mq_unlink", "msgctl", "msgget", "msgrcv", "msgsnd",
    "semctl", "semget", "semop", "semtimedop", "semtimedop_time64", "shmat", "shmctl", "shmdt",
    "shmget",
];

/// Waiting for descriptors and file changes, asynchronous IO.
#[rustfmt::skip]
const EVENTS: &[&str] = &[
    "_newselect", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_ctl_old", "epoll_pwait",
    "epoll_pwait2", "epoll_wait", "epoll_wait_old", "eventfd", "eventfd2", "fanotify_mark",
    "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch", "io_cancel",
    "io_destroy", "io_getevents", "io_pgetevents", "io_pgetevents_time64", "io_setup", "io_submit",
    "poll", "ppoll", "ppoll_time64", "pselect6", "pselect6_time64", "select",
];

/// A process's own memory.
#[rustfmt::skip]
const MEMORY: &[&str] = &[
    "brk", "madvise", "map_shadow_stack", "membarrier", "memfd_create", "memfd_secret", "mincore",
    "mlock", "mlock2", "mlockall", "mmap", "mmap2", "mprotect", "mremap", "mseal", "msync",
    "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
    "process_mrelease", "remap_file_pages",
];

/// What a threads library needs.
#[rustfmt::skip]
const THREADS: &[&str] = &[
    "futex", "futex_requeue", "futex_time64", "futex_wait", "futex_waitv", "futex_wake",
    "get_robust_list", "get_thread_area", "getcpu", "gettid", "rseq", "set_robust_list",
    "set_thread_area", "set_tid_address",
];

/// Users, groups and capabilities, which the kernel checks itself.
#[rustfmt::skip]
const IDENTITY: &[&str] = &[
    "capget", "capset", "getegid", "getegid32", "geteuid", "geteuid32", "getgid", "getgid32",
    "getgroups", "getgroups32", "getpgid", "getresgid", "getresgid32", "getresuid", "getresuid32",
    "getuid", "getuid32", "setfsgid", "setfsgid32", "setfsuid", "setfsuid32", "setgid", "setgid32",
    "setgroups", "setgroups32", "setpgid", "setregid", "setregid32", "setresgid", "setresgid32",
    "setresuid", "setresuid32", "setreuid", "setreuid32", "setuid", "setuid32",
];

/// Processes, scheduling, limits, sandboxes.
#[rustfmt::skip]
const PROCESSES: &[&str] = &[
    "execve", "execveat", "exit", "exit_group", "fork", "getpgrp", "getpid", "getppid",
    "getpriority", "getrandom", "getrlimit", "getrusage", "getsid", "ioprio_get", "ioprio_set",
    "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "prctl", "prlimit64",
    "riscv_hwprobe", "sched_get_priority_max", "sched_get_priority_min", "sched_getaffinity",
    "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval",
    "sched_rr_get_interval_time64", "sched_setaffinity", "sched_setattr", "sched_setparam",
    "sched_setscheduler", "sched_yield", "seccomp", "setpriority", "setrlimit", "setsid",
    "sysinfo", "ugetrlimit", "umask", "uname", "uretprobe", "vfork", "wait4", "waitid", "waitpid",
];

/// Files, directories, links, attributes, pipes.
#[rustfmt::skip]
const FILES: &[&str] = &[
    "_llseek", "access", "cachestat", "chdir", "chmod", "chown", "chown32", "close", "close_range",
    "copy_file_range", "creat", "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64",
    "fadvise64_64", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown", "fchown32",
    "fchownat", "fcntl", "fcntl64", "fdatasync", "fgetxattr", "flistxattr", "flock",
    "fremovexattr", "fsetxattr", "fstat", "fstat64", "fstatat64", "fstatfs", "fstatfs64", "fsync",
    "ftruncate", "ftruncate64", "futimesat", "getcwd", "getdents", "getdents64", "getxattr",
    "getxattrat", "ioctl", "lchown", "lchown32", "lgetxattr", "link", "linkat", "listmount",
    "listxattr", "listxattrat", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat",
    "lstat64", "mkdir", "mkdirat", "mknod", "mknodat", "name_to_handle_at", "newfstatat", "open",
    "openat", "openat2", "pipe", "pipe2", "pread64", "preadv", "preadv2", "pwrite64", "pwritev",
    "pwritev2", "read", "readahead", "readlink", "readlinkat", "readv", "removexattr",
    "removexattrat", "rename", "renameat", "renameat2", "rmdir", "setxattr", "setxattrat",
    "splice", "stat", "stat64", "statfs", "statfs64", "statmount", "statx", "symlink", "symlinkat",
    "sync", "sync_file_range", "syncfs", "tee", "truncate", "truncate64", "unlink", "unlinkat",
    "utime", "utimensat", "utimensat_time64", "utimes", "vmsplice", "write", "writev",
];

/// Calls that look into other processes; safe under the default Yama and ptrace checks of every
/// kernel that Berth runs on (4.8 closed the hole that made docker withhold them).
const PROCESS_INSPECTION: &[&str] = &["process_vm_readv", "process_vm_writev", "ptrace"];

/// Calls allowed to whoever has a capability.
const BY_CAPABILITY: &[(&str, &[&str])] = &[
    ("CAP_BPF", &["bpf"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    (
        "CAP_SYS_ADMIN",
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_SYS_BOOT", &["reboot"]),
    ("CAP_SYS_CHROOT", &["chroot"]),
    ("CAP_SYSLOG", &["syslog"]),
    (
        "CAP_SYS_MODULE",
        &["delete_module", "finit_module", "init_module"],
    ),
    (
        "CAP_SYS_NICE",
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    ("CAP_SYS_PACCT", &["acct"]),
    (
        "CAP_SYS_PTRACE",
        &["kcmp", "pidfd_getfd", "process_madvise"],
    ),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    (
        "CAP_SYS_TIME",
        &["clock_settime", "clock_settime64", "settimeofday", "stime"],
    ),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
];

/// Calls of one architecture.
const BY_ARCHITECTURE: &[(Architecture, &[&str])] = &[
    (Architecture::X86_64, &["arch_prctl", "modify_ldt"]),
    (
        Architecture::Aarch64,
        &[
            "arm_fadvise64_64",
            "arm_sync_file_range",
            "breakpoint",
            "cacheflush",
            "set_tls",
            "sync_file_range2",
        ],
    ),
];

/// Flags of `clone` that make a namespace: all `CLONE_NEW*` but time.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;
/// `AF_ALG` (38) reaches the kernel's crypto from anywhere, and `AF_VSOCK` (40) the hypervisor;
/// the families around them are allowed.
const FORBIDDEN_FAMILIES: [u64; 2] = [38, 40];
/// Execution domains that `personality` may set: Linux with or without a 32-bit `uname`, with or
/// without fixed addresses of old programs; and "only ask".
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Makes the default policy for a process with these capabilities (`CAP_SYS_ADMIN`, …) on a
/// machine of this architecture.
#[must_use]
pub fn default_policy(architecture: Architecture, capabilities: &BTreeSet<String>) -> Policy {
    let admin = capabilities.contains("CAP_SYS_ADMIN");
    let mut rules = Vec::new();
    let themes = [
        TIME,
        SIGNALS,
        SOCKETS,
        SYSTEM_V_AND_QUEUES,
        EVENTS,
        MEMORY,
        THREADS,
        IDENTITY,
        PROCESSES,
        FILES,
        PROCESS_INSPECTION,
    ];
    let by_capability = BY_CAPABILITY
        .iter()
        .filter(|(capability, _)| capabilities.contains(*capability))
        .map(|(_, names)| *names);
    let by_architecture = BY_ARCHITECTURE
        .iter()
        .filter(|(native, _)| *native == architecture)
        .map(|(_, names)| *names);
    for names in themes
        .into_iter()
        .chain(by_capability)
        .chain(by_architecture)
    {
        rules.extend(names.iter().map(|name| Rule::new(name, Action::Allow)));
    }
    rules.extend(socket_families());
    rules.extend(PERSONALITIES.map(|domain| allow_if("personality", Comparison::Equal, domain)));
    if !admin {
        let without_namespaces = Comparison::MaskedEqual {
            mask: NAMESPACE_FLAGS,
        };
        rules.push(allow_if("clone", without_namespaces, 0));
        rules.push(Rule::new("clone3", Action::Errno(ENOSYS)));
    }
    Policy {
        default: Action::Errno(EPERM),
        architectures: architecture.with_compatible(),
        rules,
    }
}

/// Allows every family but the forbidden ones: below, between and above them.
fn socket_families() -> [Rule; 3] {
    let [first, second] = FORBIDDEN_FAMILIES;
    [
        allow_if("socket", Comparison::Less, first),
        allow_if("socket", Comparison::Equal, first + 1),
        allow_if("socket", Comparison::Greater, second),
    ]
}

fn allow_if(name: &str, comparison: Comparison, value: u64) -> Rule {
    Rule {
        conditions: vec![Condition {
            argument: 0,
            comparison,
            value,
        }],
        ..Rule::new(name, Action::Allow)
    }
}
