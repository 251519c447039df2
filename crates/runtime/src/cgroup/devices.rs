//! Which devices a cgroup may use: an allow list in v1, an eBPF program in v2.
//!
//! Rules are an ordered list in which the last match counts. Docker's and podman's documents begin
//! with "deny all"; the devices that every container has are appended where it is not privileged.

use std::os::fd::AsFd as _;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::{Mode, OFlags, open};
use sys::bpf::Instruction;

use super::{Cgroup, CgroupError};

/// One rule, with wildcards as `None`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    allow: bool,
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Character = 2,
}

const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

pub(super) fn apply(cgroup: &Cgroup, rules: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    let rules = with_defaults(rules.iter().map(rule).collect());
    if cgroup.is_unified() {
        apply_v2(cgroup, &rules)
    } else {
        apply_v1(cgroup, &rules)
    }
}

fn rule(rule: &LinuxDeviceCgroup) -> Rule {
    let number = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    let access = rule
        .access()
        .as_deref()
        .unwrap_or("rwm")
        .bytes()
        .fold(0, |mask, letter| {
            mask | match letter {
                b'r' => READ,
                b'w' => WRITE,
                b'm' => MKNOD,
                _ => 0,
            }
        });
    let kind = match rule.typ() {
        Some(LinuxDeviceType::B) => Some(Kind::Block),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Some(Kind::Character),
        Some(LinuxDeviceType::A | LinuxDeviceType::P) | None => None,
    };
    Rule {
        allow: rule.allow(),
        kind,
        major: number(rule.major()),
        minor: number(rule.minor()),
        access,
    }
}

impl Rule {
    fn is_everything(&self) -> bool {
        self.kind.is_none() && self.major.is_none() && self.minor.is_none() && self.access == ALL
    }
}

/// Character devices with full access for everyone: null, zero, full, random, urandom, tty,
/// console, ptmx and the terminals of /dev/pts.
const DEFAULT_DEVICES: [(u32, Option<u32>); 9] = [
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

fn with_defaults(mut rules: Vec<Rule>) -> Vec<Rule> {
    // What stands before a rule about everything does not count.
    if let Some(last) = rules.iter().rposition(Rule::is_everything) {
        rules.drain(..last);
    }
    if rules.len() == 1 && rules[0].allow && rules[0].is_everything() {
        return rules;
    }
    let any_node = [Kind::Character, Kind::Block].map(|kind| Rule {
        allow: true,
        kind: Some(kind),
        major: None,
        minor: None,
        access: MKNOD,
    });
    let defaults = DEFAULT_DEVICES.map(|(major, minor)| Rule {
        allow: true,
        kind: Some(Kind::Character),
        major: Some(major),
        minor,
        access: ALL,
    });
    for rule in any_node.into_iter().chain(defaults) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// v1 takes one rule per write, in the same words for both files.
fn apply_v1(cgroup: &Cgroup, rules: &[Rule]) -> Result<(), CgroupError> {
    let directory = cgroup
        .controller("devices")
        .ok_or_else(|| cgroup.missing("devices"))?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let open = |name: &str| {
        let file = directory.join(name);
        open(&file, flags, Mode::empty())
            .map_err(|error| CgroupError::new("open", file, error.into()))
    };
    let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
    for rule in rules {
        let text = text_v1(rule);
        let file = if rule.allow { &allow } else { &deny };
        rustix::io::write(file, text.as_bytes()).map_err(|error| {
            let step = format!("device rule {text:?} for");
            CgroupError::new(step, &directory, error.into())
        })?;
    }
    Ok(())
}

fn text_v1(rule: &Rule) -> String {
    if rule.is_everything() {
        return "a".to_owned();
    }
    let number =
        |value: Option<u32>| value.map_or_else(|| "*".to_owned(), |value| value.to_string());
    let kind = match rule.kind {
        Some(Kind::Block) => "b",
        Some(Kind::Character) => "c",
        None => "a",
    };
    let access: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
        .iter()
        .filter(|(bit, _)| rule.access & bit != 0)
        .map(|(_, letter)| letter)
        .collect();
    format!(
        "{kind} {}:{} {access}",
        number(rule.major),
        number(rule.minor)
    )
}

fn apply_v2(cgroup: &Cgroup, rules: &[Rule]) -> Result<(), CgroupError> {
    let Some(directory) = cgroup.clone_target()? else {
        return Ok(());
    };
    let failed = |step: &str, error| CgroupError::new(step, cgroup.path(), error);
    let program = sys::bpf::load_device_program(&program(rules))
        .map_err(|error| failed("load the device program of", error))?;
    sys::bpf::attach_device_program(directory.as_fd(), program.as_fd())
        .map_err(|error| failed("attach the device program to", error))
}

// The few instructions needed, by their kernel encodings.
const LOAD_WORD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const RIGHT_SHIFT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const MOVE: u8 = 0xb4; // BPF_ALU | BPF_MOV | BPF_K
const MOVE_REGISTER: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const JUMP_IF_NOT: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const JUMP_IF_NOT_REGISTER: u8 = 0x5d; // BPF_JMP | BPF_JNE | BPF_X
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// Registers: r1 the context, r2 the kind, r3 the access, r4 and r5 the numbers, r6 scratch.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        load(2, 0),
        alu(MOVE_REGISTER, 3, 2, 0),
        alu(AND, 2, 0, 0xffff),
        alu(RIGHT_SHIFT, 3, 0, 16),
        load(4, 4),
        load(5, 8),
    ];
    // The last rule that matches counts, so the last is tried first.
    for rule in rules.iter().rev() {
        let tests = tests(rule);
        let verdict = [
            alu(MOVE, 0, 0, i32::from(rule.allow)),
            instruction(EXIT, 0, 0, 0, 0),
        ];
        if tests.is_empty() {
            // It matches everything. The verifier refuses instructions that nothing can reach.
            program.extend(verdict);
            return program;
        }
        let mut left = tests.len();
        for test in tests {
            left -= 1;
            // A jump skips what is left of the rule's tests, and its verdict.
            let jumps = test.code == JUMP_IF_NOT || test.code == JUMP_IF_NOT_REGISTER;
            let skip = i16::try_from(left + verdict.len()).unwrap_or(i16::MAX);
            program.push(Instruction {
                offset: if jumps { skip } else { 0 },
                ..test
            });
        }
        program.extend(verdict);
    }
    program.extend([alu(MOVE, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

fn tests(rule: &Rule) -> Vec<Instruction> {
    let mut tests = Vec::new();
    if let Some(kind) = rule.kind {
        tests.push(instruction(JUMP_IF_NOT, 2, 0, 0, kind as i32));
    }
    if rule.access != ALL {
        // Allowed is what lies within the rule's access: asked & allowed == asked.
        tests.push(alu(MOVE_REGISTER, 6, 3, 0));
        tests.push(alu(AND, 6, 0, i32::from(rule.access)));
        tests.push(instruction(JUMP_IF_NOT_REGISTER, 6, 3, 0, 0));
    }
    if let Some(major) = rule.major {
        tests.push(instruction(JUMP_IF_NOT, 4, 0, 0, major.cast_signed()));
    }
    if let Some(minor) = rule.minor {
        tests.push(instruction(JUMP_IF_NOT, 5, 0, 0, minor.cast_signed()));
    }
    tests
}

fn load(register: u8, offset: i16) -> Instruction {
    instruction(LOAD_WORD, register, 1, offset, 0)
}

fn alu(code: u8, to: u8, from: u8, constant: i32) -> Instruction {
    instruction(code, to, from, 0, constant)
}

fn instruction(code: u8, to: u8, from: u8, offset: i16, constant: i32) -> Instruction {
    Instruction {
        code,
        registers: from << 4 | to,
        offset,
        constant,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Interprets a program as the kernel would.
    fn run(program: &[Instruction], kind: Kind, access: u8, major: u32, minor: u32) -> bool {
        let context = [u32::from(access) << 16 | kind as u32, major, minor];
        let mut registers = [0_u32; 10];
        let mut at = 0;
        loop {
            let step = program[at];
            let (to, from) = (
                usize::from(step.registers & 15),
                usize::from(step.registers >> 4),
            );
            let constant = step.constant.cast_unsigned();
            at += 1;
            let skip = usize::try_from(step.offset).unwrap();
            match step.code {
                LOAD_WORD => registers[to] = context[skip / 4],
                AND => registers[to] &= constant,
                RIGHT_SHIFT => registers[to] >>= constant,
                MOVE => registers[to] = constant,
                MOVE_REGISTER => registers[to] = registers[from],
                JUMP_IF_NOT if registers[to] != constant => at += skip,
                JUMP_IF_NOT_REGISTER if registers[to] != registers[from] => at += skip,
                JUMP_IF_NOT | JUMP_IF_NOT_REGISTER => {}
                EXIT => return registers[0] != 0,
                other => panic!("{other:x}"),
            }
        }
    }

    const DENY_ALL: Rule = Rule {
        allow: false,
        kind: None,
        major: None,
        minor: None,
        access: ALL,
    };

    #[test]
    fn the_program_says_what_the_rules_say() {
        let sda = Rule {
            allow: true,
            kind: Some(Kind::Block),
            major: Some(8),
            minor: Some(0),
            access: READ | MKNOD,
        };
        let program = program(&with_defaults(vec![DENY_ALL, sda]));
        let check = |kind, access, major, minor, allowed| {
            assert_eq!(
                run(&program, kind, access, major, minor),
                allowed,
                "{major}:{minor}"
            );
        };
        check(Kind::Character, READ | WRITE, 1, 3, true);
        check(Kind::Character, READ, 136, 77, true);
        check(Kind::Character, READ, 10, 200, false);
        check(Kind::Character, MKNOD, 10, 200, true);
        check(Kind::Block, READ, 8, 0, true);
        check(Kind::Block, READ | WRITE, 8, 0, false);
        check(Kind::Block, READ, 8, 1, false);
    }

    #[test]
    fn privileged_stays_privileged() {
        let all = Rule {
            allow: true,
            ..DENY_ALL
        };
        assert_eq!(with_defaults(vec![DENY_ALL, all]), [all]);
        assert!(run(&program(&[all]), Kind::Block, ALL, 8, 0));
    }

    #[test]
    fn v1_words() {
        assert_eq!(text_v1(&DENY_ALL), "a");
        let rule = with_defaults(vec![DENY_ALL]);
        assert_eq!(text_v1(&rule[1]), "c *:* m");
        assert_eq!(text_v1(rule.last().unwrap()), "c 136:* rwm");
    }

    /// The verifier is stricter than the interpreter: it refuses what nothing can reach.
    #[test]
    fn the_kernel_accepts_the_programs() {
        let allow_all = Rule {
            allow: true,
            ..DENY_ALL
        };
        for rules in [
            vec![],
            vec![DENY_ALL],
            vec![allow_all],
            vec![DENY_ALL, allow_all],
        ] {
            let program = program(&with_defaults(rules.clone()));
            match sys::bpf::load_device_program(&program) {
                Ok(_loaded) => {}
                Err(error)
                    if matches!(
                        error.raw_os_error(),
                        Some(1 | 38) // EPERM, ENOSYS
                    ) =>
                {
                    eprintln!("skipped: this kernel or user may not load programs: {error}");
                    return;
                }
                Err(error) => panic!("{rules:?}: {error}"),
            }
        }
    }
}
