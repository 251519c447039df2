//! Policy → classic BPF.
//!
//! ```text
//! architecture? ─ x86-64 ─> range tree over call numbers ─> verdict, or a chain of conditions
//!              ├─ i386 ──> range tree …
//!              └─ other ─> end the process
//! ```
//!
//! Neighbouring numbers with the same verdict become one range, and a binary search finds the
//! range: some eight comparisons instead of the hundreds of a linear list. Numbers beyond the
//! last one that the policy names answer `ENOSYS`, as in runc: they are calls younger than the
//! policy, and libraries then fall back to older ones. That covers x32 calls too, whose numbers
//! carry a high bit.

use super::policy::{Action, Architecture, Comparison, Condition, Policy, Rule};
use std::collections::BTreeMap;

/// The kernel takes no longer programs (`BPF_MAXINSNS`).
const MAX_INSTRUCTIONS: usize = 4096;
const ENOSYS: u16 = 38;
/// Numbers of x32 calls have this bit; without a limit of their own they must not pass.
const X32_BIT: u32 = 0x4000_0000;

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const JUMP: u16 = 0x05; // BPF_JMP | BPF_JA
const JUMP_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_GREATER: u16 = 0x25; // BPF_JMP | BPF_JGT | BPF_K
const JUMP_GREATER_OR_EQUAL: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

// Offsets in `struct seccomp_data`.
const NUMBER_OFFSET: u32 = 0;
const ARCHITECTURE_OFFSET: u32 = 4;
const ARGUMENTS_OFFSET: u32 = 16;

/// Why a policy cannot become a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It would be longer than the kernel takes.
    #[error("the seccomp policy needs {0} instructions, more than the kernel's 4096")]
    TooLong(usize),
    /// One call has more conditions than a jump reaches over.
    #[error("the seccomp policy has too many conditions on {0}")]
    TooManyConditions(String),
    /// It names none of the architectures known here.
    #[error("the seccomp policy names no known architecture")]
    NoArchitecture,
}

/// One `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) code: u16,
    pub(super) if_true: u8,
    pub(super) if_false: u8,
    pub(super) value: u32,
}

impl Instruction {
    fn new(code: u16, value: u32) -> Self {
        Self::branch(code, value, 0, 0)
    }

    fn branch(code: u16, value: u32, if_true: u8, if_false: u8) -> Self {
        Self {
            code,
            if_true,
            if_false,
            value,
        }
    }
}

/// Compiles a policy to consecutive `struct sock_filter` in this machine's byte order.
///
/// # Errors
/// When the policy is too large for the kernel.
pub fn compile(policy: &Policy) -> Result<Vec<u8>, CompileError> {
    let program = program(policy)?;
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for instruction in program {
        bytes.extend_from_slice(&instruction.code.to_ne_bytes());
        bytes.extend_from_slice(&[instruction.if_true, instruction.if_false]);
        bytes.extend_from_slice(&instruction.value.to_ne_bytes());
    }
    Ok(bytes)
}

pub(super) fn program(policy: &Policy) -> Result<Vec<Instruction>, CompileError> {
    if policy.architectures.is_empty() {
        return Err(CompileError::NoArchitecture);
    }
    let mut program = vec![Instruction::new(LOAD, ARCHITECTURE_OFFSET)];
    for &architecture in &policy.architectures {
        let mut body = vec![Instruction::new(LOAD, NUMBER_OFFSET)];
        emit(&ranges(policy, architecture)?, &mut body);
        let skip = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let audit = architecture.audit();
        program.push(Instruction::branch(JUMP_EQUAL, audit, 1, 0));
        program.push(Instruction::new(JUMP, skip));
        program.append(&mut body);
    }
    program.push(Instruction::new(RETURN, Action::KillProcess.verdict()));
    if program.len() > MAX_INSTRUCTIONS {
        return Err(CompileError::TooLong(program.len()));
    }
    Ok(program)
}

/// What happens from a call number on, as code that starts with the number loaded and returns.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Range {
    from: u32,
    code: Vec<Instruction>,
}

fn ret(action: Action) -> Vec<Instruction> {
    vec![Instruction::new(RETURN, action.verdict())]
}

/// Cuts the numbers of one architecture into ranges, in order, the first from 0.
fn ranges(policy: &Policy, architecture: Architecture) -> Result<Vec<Range>, CompileError> {
    let multiplexed = multiplexed(policy, architecture);
    let mut by_number: BTreeMap<u32, Vec<&Rule>> = BTreeMap::new();
    for rule in policy.rules.iter().chain(&multiplexed) {
        // A rule that says what the default says anyway is left out, as runc does.
        if let Some(number) = rule.number(architecture)
            && rule.action != policy.default
        {
            by_number.entry(number).or_default().push(rule);
        }
    }
    let mut ranges: Vec<Range> = Vec::new();
    let mut add = |from: u32, code: Vec<Instruction>| {
        // What was put down for "from here on" ends before it began.
        ranges.pop_if(|last| last.from == from);
        if ranges.last().is_none_or(|last| last.code != code) {
            ranges.push(Range { from, code });
        }
    };
    add(0, ret(policy.default));
    for (number, rules) in &by_number {
        add(*number, verdict(policy.default, rules)?);
        add(number + 1, ret(policy.default));
    }
    let beyond = by_number.keys().next_back().map_or(0, |last| last + 1);
    if answers_unknown(policy.default) && beyond > 0 {
        add(beyond, ret(Action::Errno(ENOSYS)));
    } else if architecture == Architecture::X86_64 {
        add(X32_BIT, ret(Action::Errno(ENOSYS)));
    }
    Ok(ranges)
}

/// Whether younger calls than the policy get `ENOSYS`: runc does so where the default refuses.
fn answers_unknown(default: Action) -> bool {
    match default {
        Action::Errno(_) | Action::Trap | Action::KillThread | Action::KillProcess => true,
        Action::Allow | Action::Log | Action::Trace(_) => false,
    }
}

/// i386's older multiplexers, and the calls that they also reach, with their number there.
const SOCKETCALL: &[(&str, u64)] = &[
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];
const IPC: &[(&str, u64)] = &[
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

/// A rule on `socket` shall hold for `socketcall(SYS_SOCKET, …)` too. The other arguments lie in
/// memory there, so rules with conditions cannot be carried over.
fn multiplexed(policy: &Policy, architecture: Architecture) -> Vec<Rule> {
    if architecture != Architecture::I386 {
        return Vec::new();
    }
    let through = |rule: &Rule, multiplexer: &str, calls: &[(&str, u64)]| {
        let (_, value) = calls.iter().find(|(name, _)| *name == rule.name)?;
        let condition = Condition {
            argument: 0,
            comparison: Comparison::Equal,
            value: *value,
        };
        Some(Rule {
            conditions: vec![condition],
            ..Rule::new(multiplexer, rule.action)
        })
    };
    policy
        .rules
        .iter()
        .filter(|rule| rule.conditions.is_empty())
        .flat_map(|rule| {
            [
                through(rule, "socketcall", SOCKETCALL),
                through(rule, "ipc", IPC),
            ]
        })
        .flatten()
        .collect()
}

/// Code for one call: its rule without conditions, or the chain of those with.
fn verdict(default: Action, rules: &[&Rule]) -> Result<Vec<Instruction>, CompileError> {
    if let Some(rule) = rules.iter().find(|rule| rule.conditions.is_empty()) {
        return Ok(ret(rule.action));
    }
    let mut code = Vec::new();
    for rule in rules {
        let too_many = || CompileError::TooManyConditions(rule.name.clone());
        code.extend(chain(rule).ok_or_else(too_many)?);
    }
    code.extend(ret(default));
    Ok(code)
}

/// Code that returns the rule's verdict if all conditions hold, and falls out at its end if not.
fn chain(rule: &Rule) -> Option<Vec<Instruction>> {
    let mut code = ret(rule.action);
    // Backwards, so that each condition knows how far its "no" has to jump.
    for condition in rule.conditions.iter().rev() {
        let mut test = test(condition, u8::try_from(code.len()).ok()?)?;
        test.append(&mut code);
        code = test;
    }
    Some(code)
}

/// Code that falls through if the condition holds, and else jumps over `skip` more instructions.
///
/// The argument's halves are compared one after the other, as BPF knows 32 bits.
fn test(condition: &Condition, skip: u8) -> Option<Vec<Instruction>> {
    let offset = ARGUMENTS_OFFSET + 8 * u32::from(condition.argument);
    let little_endian = cfg!(target_endian = "little");
    let (low_at, high_at) = if little_endian {
        (offset, offset + 4)
    } else {
        (offset + 4, offset)
    };
    let (low, high) = halves(condition.value);
    let load = |at| Instruction::new(LOAD, at);
    let no = |beyond: u8| skip.checked_add(beyond);
    // Higher halves that differ decide; equal ones leave it to the lower ones.
    let ordered = |code: u16, yes_if_greater: bool| {
        let (greater, less) = if yes_if_greater {
            (3, no(2)?)
        } else {
            (no(3)?, 2)
        };
        let (holds, fails) = if yes_if_greater { (0, skip) } else { (skip, 0) };
        Some(vec![
            load(high_at),
            Instruction::branch(JUMP_GREATER, high, greater, 0),
            Instruction::branch(JUMP_EQUAL, high, 0, less),
            load(low_at),
            Instruction::branch(code, low, holds, fails),
        ])
    };
    match condition.comparison {
        Comparison::Equal => Some(vec![
            load(high_at),
            Instruction::branch(JUMP_EQUAL, high, 0, no(2)?),
            load(low_at),
            Instruction::branch(JUMP_EQUAL, low, 0, skip),
        ]),
        Comparison::NotEqual => Some(vec![
            load(high_at),
            Instruction::branch(JUMP_EQUAL, high, 0, 2),
            load(low_at),
            Instruction::branch(JUMP_EQUAL, low, skip, 0),
        ]),
        Comparison::Greater => ordered(JUMP_GREATER, true),
        Comparison::GreaterOrEqual => ordered(JUMP_GREATER_OR_EQUAL, true),
        Comparison::LessOrEqual => ordered(JUMP_GREATER, false),
        Comparison::Less => ordered(JUMP_GREATER_OR_EQUAL, false),
        Comparison::MaskedEqual { mask } => {
            let (mask_low, mask_high) = halves(mask);
            // As libseccomp, which also ignores bits of the value outside the mask.
            let (low, high) = (low & mask_low, high & mask_high);
            Some(vec![
                load(high_at),
                Instruction::new(AND, mask_high),
                Instruction::branch(JUMP_EQUAL, high, 0, no(3)?),
                load(low_at),
                Instruction::new(AND, mask_low),
                Instruction::branch(JUMP_EQUAL, low, 0, skip),
            ])
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the halves are meant")]
fn halves(value: u64) -> (u32, u32) {
    (value as u32, (value >> 32) as u32)
}

/// Emits a binary search over ranges. Depth is the logarithm of their count.
fn emit(ranges: &[Range], out: &mut Vec<Instruction>) {
    let (left, right) = ranges.split_at(ranges.len() / 2);
    let Some(first_right) = right.first() else {
        return;
    };
    if left.is_empty() {
        out.extend_from_slice(&first_right.code);
        return;
    }
    let mut left_code = Vec::new();
    emit(left, &mut left_code);
    if let Ok(distance) = u8::try_from(left_code.len()) {
        let jump = Instruction::branch(JUMP_GREATER_OR_EQUAL, first_right.from, distance, 0);
        out.push(jump);
    } else {
        // A conditional jump reaches 255 instructions; a plain one reaches any.
        let distance = u32::try_from(left_code.len()).unwrap_or(u32::MAX);
        let jump = Instruction::branch(JUMP_GREATER_OR_EQUAL, first_right.from, 0, 1);
        out.push(jump);
        out.push(Instruction::new(JUMP, distance));
    }
    out.append(&mut left_code);
    emit(right, out);
}
