//! Reading policies: docker's profile documents, and `linux.seccomp` of an OCI runtime spec.

use super::policy::{Action, Architecture, Condition, Policy, Rule};
use super::syscalls;
use oci_spec::runtime::LinuxSeccomp;
use serde::Deserialize;
use std::collections::BTreeSet;

const EPERM: u16 = 1;

/// Why a document is no policy.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not JSON of the expected shape.
    #[error("decoding seccomp profile failed: {0}")]
    Json(#[from] serde_json::Error),
    /// It names an action that is not known (or not supported: `SCMP_ACT_NOTIFY`).
    #[error("seccomp action {0:?} is not supported")]
    Action(String),
    /// A condition has an unknown operator or argument number.
    #[error("seccomp condition {0:?} on argument {1} is not supported")]
    Condition(String, u64),
    /// A flag that cannot be honoured here.
    #[error("seccomp filter flag {0:?} is not supported")]
    Flag(String),
    /// A kernel version that is none.
    #[error("seccomp profile: {0:?} is no kernel version")]
    Kernel(String),
    /// Both forms at once.
    #[error(
        "seccomp profile: use either 'architectures' or 'archMap', and either 'name' or 'names'"
    )]
    Both,
}

/// What conditions of a profile may depend on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Facts {
    /// The machine.
    pub architecture: Architecture,
    /// The kernel's version.
    pub kernel: (u32, u32),
    /// The container's capabilities: `CAP_SYS_ADMIN`.
    pub capabilities: BTreeSet<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    default_action: String,
    default_errno_ret: Option<u16>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchitectureMap>>,
    #[serde(default)]
    syscalls: Option<Vec<Group>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u64,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile document as `--security-opt seccomp=` takes it.
///
/// # Errors
/// When it asks for something that is unknown; nothing is skipped in silence but names of calls.
pub fn parse_profile(text: &str, facts: &Facts) -> Result<Policy, ProfileError> {
    let document: Document = serde_json::from_str(text)?;
    let listens = !document.listener_path.is_empty();
    check_flags(document.flags.as_deref().unwrap_or_default(), listens)?;
    let native = facts.architecture;
    let architectures = match (document.architectures, document.arch_map) {
        (Some(listed), Some(map)) if !listed.is_empty() && !map.is_empty() => {
            return Err(ProfileError::Both);
        }
        (_, Some(map)) if !map.is_empty() => map
            .iter()
            .find(|entry| Architecture::from_scmp(&entry.architecture) == Some(native))
            .map(|entry| {
                let subs = entry.sub_architectures.iter().flatten();
                known(std::iter::once(&entry.architecture).chain(subs), native)
            })
            .unwrap_or_else(|| vec![native]),
        (Some(listed), _) => known(listed.iter(), native),
        (None, _) => vec![native],
    };
    let mut rules = Vec::new();
    for group in document.syscalls.unwrap_or_default() {
        if group.applies(facts)? {
            group.add_rules(&mut rules)?;
        }
    }
    Ok(Policy {
        default: action(&document.default_action, document.default_errno_ret)?,
        architectures,
        rules,
    })
}

impl Group {
    fn applies(&self, facts: &Facts) -> Result<bool, ProfileError> {
        let has = |capability: &String| facts.capabilities.contains(capability);
        let runs_on = |name: &String| name == facts.architecture.go_name();
        let listed = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
        let (include, exclude) = (&self.includes, &self.excludes);
        // Docker's words: any excluded one is enough to leave it out; of the included
        // architectures one has to be there, of the capabilities all.
        let excluded = exclude.caps.iter().flatten().any(has)
            || exclude.arches.iter().flatten().any(runs_on)
            || at_least(exclude.min_kernel.as_deref(), facts.kernel)?.unwrap_or(false);
        let included = include.caps.iter().flatten().all(has)
            && listed(&include.arches).is_none_or(|arches| arches.iter().any(runs_on))
            && at_least(include.min_kernel.as_deref(), facts.kernel)?.unwrap_or(true);
        Ok(included && !excluded)
    }

    fn add_rules(self, rules: &mut Vec<Rule>) -> Result<(), ProfileError> {
        let action = action(&self.action, self.errno_ret)?;
        let conditions = self
            .args
            .unwrap_or_default()
            .into_iter()
            .map(|argument| {
                let (index, value, second) = (argument.index, argument.value, argument.value_two);
                Condition::from_scmp(index, &argument.op, value, second)
                    .ok_or(ProfileError::Condition(argument.op, index))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let names = match self.names {
            Some(names) if !names.is_empty() => {
                if !self.name.is_empty() {
                    return Err(ProfileError::Both);
                }
                names
            }
            _ => vec![self.name],
        };
        for name in names {
            add(rules, name, action, &conditions);
        }
        Ok(())
    }
}

/// Reads the policy of a runtime spec.
///
/// # Errors
/// When it asks for something that is not supported.
pub fn from_spec(seccomp: &LinuxSeccomp, native: Architecture) -> Result<Policy, ProfileError> {
    let flags: Vec<String> = seccomp.flags().iter().flatten().map(word).collect();
    let listens = seccomp.listener_path().is_some();
    check_flags(&flags, listens)?;
    let number = |value: Option<u32>| value.and_then(|value| u16::try_from(value).ok());
    let names: Vec<String> = seccomp.architectures().iter().flatten().map(word).collect();
    let architectures = known(names.iter(), native);
    let mut rules = Vec::new();
    for group in seccomp.syscalls().iter().flatten() {
        let action = action(&word(&group.action()), number(group.errno_ret()))?;
        let conditions = group
            .args()
            .iter()
            .flatten()
            .map(|argument| {
                let operator = word(&argument.op());
                let index = argument.index() as u64;
                let second = argument.value_two().unwrap_or(0);
                Condition::from_scmp(index, &operator, argument.value(), second)
                    .ok_or(ProfileError::Condition(operator, index))
            })
            .collect::<Result<Vec<_>, _>>()?;
        for name in group.names() {
            add(&mut rules, name.clone(), action, &conditions);
        }
    }
    Ok(Policy {
        default: action(
            &word(&seccomp.default_action()),
            number(seccomp.default_errno_ret()),
        )?,
        architectures,
        rules,
    })
}

/// The document's own word for a value of an enumeration.
fn word<T: serde::Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

/// Adds a rule, as runc does: several conditions on one argument mean "any of them" (one rule
/// each), while conditions on different arguments must all hold.
fn add(rules: &mut Vec<Rule>, name: String, action: Action, conditions: &[Condition]) {
    if !syscalls::names().any(|known| known == name) {
        return; // not on any kernel that this knows: nothing to decide
    }
    let mut seen = BTreeSet::new();
    if conditions.iter().all(|one| seen.insert(one.argument)) {
        rules.push(Rule {
            name,
            action,
            conditions: conditions.to_vec(),
        });
        return;
    }
    rules.extend(conditions.iter().map(|one| Rule {
        name: name.clone(),
        action,
        conditions: vec![*one],
    }));
}

/// The architectures known here, the machine's own first; none listed means that one.
fn known<'a>(names: impl Iterator<Item = &'a String>, native: Architecture) -> Vec<Architecture> {
    let mut architectures = vec![native];
    for architecture in names.filter_map(|name| Architecture::from_scmp(name)) {
        if native.with_compatible().contains(&architecture)
            && !architectures.contains(&architecture)
        {
            architectures.push(architecture);
        }
    }
    architectures
}

fn action(name: &str, number: Option<u16>) -> Result<Action, ProfileError> {
    Action::from_scmp(name, number.unwrap_or(EPERM))
        .ok_or_else(|| ProfileError::Action(name.to_owned()))
}

/// Flags that only tune are accepted; a listener is not.
fn check_flags(flags: &[String], listens: bool) -> Result<(), ProfileError> {
    if listens {
        return Err(ProfileError::Action("SCMP_ACT_NOTIFY".to_owned()));
    }
    let tuning = [
        "SECCOMP_FILTER_FLAG_TSYNC", // has no meaning for a process with one thread
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    ];
    match flags.iter().find(|flag| !tuning.contains(&flag.as_str())) {
        Some(flag) => Err(ProfileError::Flag(flag.clone())),
        None => Ok(()),
    }
}

/// Whether the kernel is at least `4.8`; none if nothing is demanded.
fn at_least(version: Option<&str>, kernel: (u32, u32)) -> Result<Option<bool>, ProfileError> {
    let Some(text) = version.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let demanded = text
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
        .ok_or_else(|| ProfileError::Kernel(text.to_owned()))?;
    Ok(Some(kernel >= demanded))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(capabilities: &[&str]) -> Facts {
        Facts {
            architecture: Architecture::X86_64,
            kernel: (5, 10),
            capabilities: capabilities.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    fn names(text: &str, facts: &Facts) -> Vec<String> {
        let policy = parse_profile(text, facts).unwrap();
        policy.rules.into_iter().map(|rule| rule.name).collect()
    }

    #[test]
    fn conditions_of_groups_are_dockers() {
        let text = r#"{
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
            "syscalls": [
                {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["write"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["open"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
                {"names": ["close"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.10"}},
                {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "5.11"}},
                {"name": "pipe", "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
            ]
        }"#;
        assert_eq!(names(text, &facts(&[])), ["read", "write", "close", "pipe"]);
        let admin = facts(&["CAP_SYS_ADMIN"]);
        assert_eq!(names(text, &admin), ["read", "mount", "close", "pipe"]);
        let policy = parse_profile(text, &admin).unwrap();
        assert_eq!(policy.default, Action::Errno(1));
        assert_eq!(policy.rules[3].action, Action::Errno(38));
        assert_eq!(
            policy.architectures,
            [Architecture::X86_64, Architecture::I386]
        );
    }

    #[test]
    fn several_conditions_on_one_argument_are_alternatives() {
        let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{
            "names": ["personality"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]
        }]}"#;
        let policy = parse_profile(text, &facts(&[])).unwrap();
        assert_eq!(policy.rules.len(), 2);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        for bad in [
            r#"{}"#,
            r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO", "includes": {"minKernel": "five"}}]}"#,
        ] {
            parse_profile(bad, &facts(&[])).unwrap_err();
        }
    }
}
