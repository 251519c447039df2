//! Our filters against libseccomp's, call by call, in a small BPF machine.
//!
//! libseccomp's filter comes from a C program that this test compiles. Where there is no C
//! compiler or no libseccomp the test says so and passes.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, also outside the functions that are marked as one"
)]

use runtime::seccomp::{
    Action, Architecture, Comparison, Condition, Facts, Policy, Rule, compile, default_policy,
    parse_profile, syscall_names, syscall_number,
};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Reads `default ACTION`, `arch TOKEN`, `rule ACTION NAME N (INDEX OP A B)*`; writes BPF. Names
/// that libseccomp does not know go to stderr and are left out.
const HELPER: &str = r#"
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
int main(void) {
    char word[64], name[128];
    scmp_filter_ctx ctx = NULL;
    while (scanf("%63s", word) == 1) {
        if (!strcmp(word, "default")) {
            unsigned action;
            if (scanf("%u", &action) != 1 || !(ctx = seccomp_init(action))) return 1;
        } else if (!strcmp(word, "arch")) {
            unsigned token;
            if (scanf("%u", &token) != 1) return 2;
            int rc = seccomp_arch_add(ctx, token);
            if (rc && rc != -17) return 3;
        } else if (!strcmp(word, "only")) {
            seccomp_arch_remove(ctx, seccomp_arch_native());
        } else {
            unsigned action, count;
            struct scmp_arg_cmp args[6];
            if (scanf("%u %127s %u", &action, name, &count) != 3 || count > 6) return 4;
            for (unsigned i = 0; i < count; i++) {
                unsigned index, op; unsigned long long a, b;
                if (scanf("%u %u %llu %llu", &index, &op, &a, &b) != 4) return 5;
                args[i].arg = index; args[i].op = op; args[i].datum_a = a; args[i].datum_b = b;
            }
            int nr = seccomp_syscall_resolve_name(name);
            if (nr == __NR_SCMP_ERROR) { fprintf(stderr, "%s\n", name); continue; }
            int rc = seccomp_rule_add_array(ctx, action, nr, count, args);
            if (rc && rc != -17) { fprintf(stderr, "!%s %d\n", name, rc); return 6; }
        }
    }
    fflush(stdout);
    return seccomp_export_bpf(ctx, 1) ? 7 : 0;
}
"#;

struct Oracle {
    program: PathBuf,
    _directory: tempfile::TempDir,
}

impl Oracle {
    fn build() -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("oracle.c");
        let program = directory.path().join("oracle");
        std::fs::write(&source, HELPER).unwrap();
        let built = Command::new("gcc")
            .arg("-o")
            .arg(&program)
            .arg(&source)
            .arg("-lseccomp")
            .output();
        if built.is_ok_and(|output| output.status.success()) {
            return Some(Self {
                program,
                _directory: directory,
            });
        }
        println!("skipped: no gcc or no libseccomp to compare with");
        None
    }

    /// Returns libseccomp's filter, and the names that it does not know.
    fn filter(&self, policy: &Policy) -> (Vec<u8>, BTreeSet<String>) {
        let mut text = format!("default {}\n", policy.default.verdict());
        for architecture in &policy.architectures {
            writeln!(text, "arch {}", audit(*architecture)).unwrap();
        }
        if !policy.architectures.contains(&Architecture::NATIVE) {
            text.push_str("only\n");
        }
        for rule in &policy.rules {
            if rule.action == policy.default {
                continue; // libseccomp refuses these, and runc leaves them out
            }
            let (action, count) = (rule.action.verdict(), rule.conditions.len());
            write!(text, "rule {action} {} {count}", rule.name).unwrap();
            for condition in &rule.conditions {
                let (operator, a, b) = match condition.comparison {
                    Comparison::NotEqual => (1, condition.value, 0),
                    Comparison::Less => (2, condition.value, 0),
                    Comparison::LessOrEqual => (3, condition.value, 0),
                    Comparison::Equal => (4, condition.value, 0),
                    Comparison::GreaterOrEqual => (5, condition.value, 0),
                    Comparison::Greater => (6, condition.value, 0),
                    Comparison::MaskedEqual { mask } => (7, mask, condition.value),
                };
                write!(text, " {} {operator} {a} {b}", condition.argument).unwrap();
            }
            text.push('\n');
        }
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{:?}: {errors}", output.status);
        (output.stdout, errors.lines().map(str::to_owned).collect())
    }
}

fn audit(architecture: Architecture) -> u32 {
    match architecture {
        Architecture::X86_64 => 0xc000_003e,
        Architecture::I386 => 0x4000_0003,
        Architecture::Aarch64 => 0xc000_00b7,
    }
}

/// Runs a filter as the kernel would.
fn run(filter: &[u8], architecture: Architecture, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend_from_slice(&number.to_ne_bytes());
    data.extend_from_slice(&audit(architecture).to_ne_bytes());
    data.extend_from_slice(&0u64.to_ne_bytes());
    for argument in arguments {
        data.extend_from_slice(&argument.to_ne_bytes());
    }
    let word = |bytes: &[u8]| u32::from_ne_bytes(bytes[..4].try_into().unwrap());
    let (mut at, mut accumulator) = (0, 0_u32);
    loop {
        let instruction = &filter[at * 8..at * 8 + 8];
        let code = u16::from_ne_bytes([instruction[0], instruction[1]]);
        let value = word(&instruction[4..]);
        at += 1;
        let mut branch = |taken| at += usize::from(instruction[if taken { 2 } else { 3 }]);
        match code {
            0x20 => accumulator = word(&data[value as usize..]),
            0x54 => accumulator &= value,
            0x05 => at += value as usize,
            0x15 => branch(accumulator == value),
            0x25 => branch(accumulator > value),
            0x35 => branch(accumulator >= value),
            0x06 => return value,
            other => panic!("unexpected instruction {other:#x}"),
        }
    }
}

/// Argument values worth trying: each value that a condition names, and its neighbours.
fn interesting(policy: &Policy, name: &str) -> Vec<u64> {
    let mut values = BTreeSet::from([0, 1, u64::from(u32::MAX), u64::MAX, 1 << 32]);
    for rule in policy.rules.iter().filter(|rule| rule.name == name) {
        for condition in &rule.conditions {
            let mut around = vec![condition.value];
            if let Comparison::MaskedEqual { mask } = condition.comparison {
                around.extend([mask, !mask, condition.value | !mask, condition.value & mask]);
                around.extend((0..64).map(|bit| 1 << bit));
            }
            for value in around {
                values.extend([value, value.wrapping_add(1), value.wrapping_sub(1)]);
                values.extend([value | 1 << 32, value.rotate_left(32)]);
            }
        }
    }
    values.into_iter().collect()
}

/// Compares the two filters for every call of every architecture of the policy, up to the last
/// that the policy names (beyond it, runc and we differ from plain libseccomp on purpose).
fn compare(oracle: &Oracle, mut policy: Policy) -> usize {
    let (_, unknown) = oracle.filter(&policy);
    policy.rules.retain(|rule| !unknown.contains(&rule.name));
    let (theirs, _) = oracle.filter(&policy);
    let ours = compile(&policy).unwrap();
    let mut compared = 0;
    for &architecture in &policy.architectures {
        let last = policy
            .rules
            .iter()
            .filter(|rule| rule.action != policy.default)
            .filter_map(|rule| syscall_number(architecture, &rule.name))
            .max();
        let names: Vec<(&str, u32)> = syscall_names()
            .filter_map(|name| Some((name, syscall_number(architecture, name)?)))
            .filter(|(_, number)| Some(*number) <= last)
            .collect();
        let used: BTreeSet<u32> = names.iter().map(|(_, number)| *number).collect();
        for (name, number) in names {
            for value in interesting(&policy, name) {
                // A 32-bit program cannot pass more.
                let value = match architecture {
                    Architecture::I386 => value & u64::from(u32::MAX),
                    Architecture::X86_64 | Architecture::Aarch64 => value,
                };
                for arguments in [[value, 0, 0, 0, 0, 0], [0, value, 0, 0, 0, 0], [value; 6]] {
                    let expected = run(&theirs, architecture, number, arguments);
                    let found = run(&ours, architecture, number, arguments);
                    assert_eq!(
                        found,
                        expected,
                        "{architecture:?} {name} {arguments:x?}: {found:#x}, not {expected:#x}: {:x?}",
                        policy
                            .rules
                            .iter()
                            .filter(|rule| rule.name == name)
                            .collect::<Vec<_>>()
                    );
                    compared += 1;
                }
            }
        }
        for number in (0..last.unwrap_or(0)).filter(|number| !used.contains(number)) {
            let expected = run(&theirs, architecture, number, [0; 6]);
            let found = run(&ours, architecture, number, [0; 6]);
            assert_eq!(found, expected, "{architecture:?} {number}");
        }
    }
    compared
}

fn capabilities(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const CAPABILITY_SETS: &[&[&str]] = &[
    &[],
    &["CAP_CHOWN", "CAP_SYS_CHROOT", "CAP_MKNOD"],
    &["CAP_SYS_ADMIN"],
    &["CAP_SYS_PTRACE", "CAP_SYS_TIME", "CAP_BPF", "CAP_PERFMON"],
    &[
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_MODULE",
        "CAP_SYS_NICE",
    ],
];

#[test]
fn default_policy_agrees_with_libseccomp() {
    let Some(oracle) = Oracle::build() else {
        return;
    };
    for names in CAPABILITY_SETS {
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            let policy = default_policy(architecture, &capabilities(names));
            let length = compile(&policy).unwrap().len() / 8;
            let compared = compare(&oracle, policy);
            println!("{architecture:?} {names:?}: {length} instructions, {compared} verdicts");
            assert!(compared > 1000);
        }
    }
}

/// A random policy: conditions of each kind, several per call, unconditional rules beside
/// conditional ones.
fn random_policy(random: &mut impl FnMut(u64) -> u64, names: &[&str]) -> Policy {
    let (default, action) = if random(2) == 0 {
        (Action::Errno(1), Action::Allow)
    } else {
        (Action::Allow, Action::Errno(13))
    };
    let mut rules = Vec::new();
    for _ in 0..=random(60) {
        let index = usize::try_from(random(names.len() as u64)).unwrap();
        let mut rule = Rule::new(names[index], action);
        for argument in 0..random(3) {
            let value = match random(3) {
                0 => random(64),
                1 => random(u64::MAX),
                _ => random(8) << 32 | random(8),
            };
            let comparison = match random(7) {
                0 => Comparison::Equal,
                1 => Comparison::NotEqual,
                2 => Comparison::Less,
                3 => Comparison::LessOrEqual,
                4 => Comparison::Greater,
                5 => Comparison::GreaterOrEqual,
                _ => Comparison::MaskedEqual {
                    mask: random(u64::MAX),
                },
            };
            rule.conditions.push(Condition {
                argument: u8::try_from(argument).unwrap(),
                comparison,
                value,
            });
        }
        rules.push(rule);
    }
    // libseccomp cannot put conditions on multiplexed i386 calls, so one architecture.
    Policy {
        default,
        architectures: vec![Architecture::X86_64],
        rules,
    }
}

fn random_numbers(mut state: u64) -> impl FnMut(u64) -> u64 {
    move |bound| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    }
}

/// One rule per call: with several that compare by order, libseccomp 2.5 itself goes wrong
/// (`a0 > 1 << 60` beside `a0 < 62 && a1 < 36` holds for `a0 = 0xffff_ffff`).
#[test]
fn random_policies_agree_with_libseccomp() {
    let Some(oracle) = Oracle::build() else {
        return;
    };
    let names: Vec<&str> = syscall_names()
        .filter(|name| syscall_number(Architecture::X86_64, name).is_some())
        .collect();
    let mut random = random_numbers(0x9e37_79b9_7f4a_7c15);
    for _ in 0..60 {
        let mut policy = random_policy(&mut random, &names);
        let mut seen = BTreeSet::new();
        policy.rules.retain(|rule| seen.insert(rule.name.clone()));
        compare(&oracle, policy);
    }
}

/// What a policy says, word for word.
fn says(policy: &Policy, name: &str, arguments: [u64; 6]) -> u32 {
    let holds = |condition: &Condition| {
        let (found, value) = (arguments[usize::from(condition.argument)], condition.value);
        match condition.comparison {
            Comparison::Equal => found == value,
            Comparison::NotEqual => found != value,
            Comparison::Less => found < value,
            Comparison::LessOrEqual => found <= value,
            Comparison::Greater => found > value,
            Comparison::GreaterOrEqual => found >= value,
            Comparison::MaskedEqual { mask } => found & mask == value & mask,
        }
    };
    let rules = || policy.rules.iter().filter(|rule| rule.name == name);
    let action = rules()
        .find(|rule| rule.conditions.is_empty())
        .or_else(|| rules().find(|rule| rule.conditions.iter().all(holds)))
        .map_or(policy.default, |rule| rule.action);
    action.verdict()
}

#[test]
fn filters_do_what_policies_say() {
    let names = ["read", "write", "clone", "socket", "ioctl", "mseal"];
    let mut random = random_numbers(0x2545_f491_4f6c_dd1d);
    for _ in 0..300 {
        let policy = random_policy(&mut random, &names);
        let filter = compile(&policy).unwrap();
        for rule in &policy.rules {
            let number = syscall_number(Architecture::X86_64, &rule.name).unwrap();
            let values = interesting(&policy, &rule.name);
            for _ in 0..50 {
                let mut pick = || values[usize::try_from(random(values.len() as u64)).unwrap()];
                let arguments = [pick(), pick(), 0, 0, 0, 0];
                assert_eq!(
                    run(&filter, Architecture::X86_64, number, arguments),
                    says(&policy, &rule.name, arguments),
                    "{} {arguments:x?} in {policy:x?}",
                    rule.name
                );
            }
        }
    }
}

#[test]
fn younger_calls_and_x32_get_enosys_and_strangers_end() {
    let filter = compile(&default_policy(Architecture::X86_64, &capabilities(&[]))).unwrap();
    let verdict = |architecture, number| run(&filter, architecture, number, [0; 6]);
    let enosys = Action::Errno(38).verdict();
    assert_eq!(verdict(Architecture::X86_64, 500), enosys);
    assert_eq!(verdict(Architecture::X86_64, 0x4000_0000), enosys);
    assert_eq!(verdict(Architecture::I386, 999), enosys);
    let stranger = verdict(Architecture::Aarch64, 0);
    assert_eq!(stranger, Action::KillProcess.verdict());
    // A deny-list does not let x32 around itself.
    let deny = Policy {
        default: Action::Allow,
        architectures: vec![Architecture::X86_64],
        rules: vec![Rule::new("mount", Action::Errno(1))],
    };
    let filter = compile(&deny).unwrap();
    let mount = syscall_number(Architecture::X86_64, "mount").unwrap();
    let verdict = |number| run(&filter, Architecture::X86_64, number, [0; 6]);
    assert_eq!(verdict(mount), Action::Errno(1).verdict());
    assert_eq!(verdict(mount | 0x4000_0000), enosys);
    assert_eq!(verdict(500), Action::Allow.verdict());
}

#[test]
fn i386_multiplexers_cannot_go_around_a_deny_list() {
    let deny = Policy {
        default: Action::Allow,
        architectures: vec![Architecture::X86_64, Architecture::I386],
        rules: vec![Rule::new("socket", Action::Errno(1))],
    };
    let filter = compile(&deny).unwrap();
    let number = syscall_number(Architecture::I386, "socketcall").unwrap();
    let call = |which| run(&filter, Architecture::I386, number, [which, 0, 0, 0, 0, 0]);
    assert_eq!(call(1), Action::Errno(1).verdict());
    assert_eq!(call(2), Action::Allow.verdict());
}

/// With `BERTH_DOCKER_SECCOMP_PROFILE=<docker's default.json>`: our own table says what docker's
/// document says, for every capability alone and all together.
#[test]
fn default_policy_agrees_with_dockers_document() {
    let Some(path) = std::env::var_os("BERTH_DOCKER_SECCOMP_PROFILE") else {
        println!("skipped: BERTH_DOCKER_SECCOMP_PROFILE names no document to compare with");
        return;
    };
    let text = std::fs::read_to_string(path).unwrap();
    let all = [
        "CAP_BPF",
        "CAP_DAC_READ_SEARCH",
        "CAP_PERFMON",
        "CAP_SYS_ADMIN",
        "CAP_SYS_BOOT",
        "CAP_SYS_CHROOT",
        "CAP_SYSLOG",
        "CAP_SYS_MODULE",
        "CAP_SYS_NICE",
        "CAP_SYS_PACCT",
        "CAP_SYS_PTRACE",
        "CAP_SYS_RAWIO",
        "CAP_SYS_TIME",
        "CAP_SYS_TTY_CONFIG",
    ];
    let mut sets: Vec<Vec<&str>> = all.iter().map(|name| vec![*name]).collect();
    sets.push(Vec::new());
    sets.push(all.to_vec());
    for names in sets {
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            let facts = Facts {
                architecture,
                kernel: (6, 1),
                capabilities: capabilities(&names),
            };
            let mut theirs = parse_profile(&text, &facts).unwrap();
            let ours = default_policy(architecture, &facts.capabilities);
            // Docker lists 32-bit ARM and x32 too, which we refuse.
            assert_eq!(ours.architectures, theirs.architectures);
            theirs.architectures.clone_from(&ours.architectures);
            let (a, b) = (compile(&ours).unwrap(), compile(&theirs).unwrap());
            for &target in &ours.architectures {
                for name in syscall_names() {
                    let Some(number) = syscall_number(target, name) else {
                        continue;
                    };
                    for value in interesting(&theirs, name) {
                        let arguments = [value; 6];
                        assert_eq!(
                            run(&a, target, number, arguments),
                            run(&b, target, number, arguments),
                            "{target:?} {name} {value:#x} with {names:?}"
                        );
                    }
                }
            }
        }
    }
}
