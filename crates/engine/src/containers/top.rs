//! top: the container's processes, as the host's `/proc` shows them.
//!
//! Docker runs the host's `ps` with the user's arguments and filters its rows; so do we, because
//! only `ps` knows what its options mean.

use super::Containers;
use super::error::{Verb, VerbError};
use std::io;

/// Titles and rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processes {
    /// Column titles.
    pub titles: Vec<String>,
    /// One row a process.
    pub rows: Vec<Vec<String>>,
}

impl Containers {
    /// Lists the processes of a running container, with arguments for `ps`.
    ///
    /// # Errors
    /// If it does not run, or `ps` fails.
    pub async fn top(&self, reference: &str, ps_arguments: &str) -> Result<Processes, VerbError> {
        let shim = self.shim(reference, Verb::Top).await?;
        let id = self.id(reference)?;
        let mut pids = crate::cgroups::processes(&self.context, &id);
        if pids.is_empty() {
            pids.push(shim.pid());
        }
        let arguments = if ps_arguments.is_empty() {
            "-ef"
        } else {
            ps_arguments
        };
        let output = tokio::process::Command::new("ps")
            .args(arguments.split_whitespace())
            .output()
            .await
            .map_err(VerbError::Processes)?;
        if !output.status.success() {
            let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(VerbError::Processes(io::Error::other(message)));
        }
        parse(&String::from_utf8_lossy(&output.stdout), &pids)
            .ok_or_else(|| VerbError::Invalid("Couldn't find PID field in ps output".to_owned()))
    }
}

fn parse(output: &str, pids: &[i32]) -> Option<Processes> {
    let mut lines = output.lines();
    let titles: Vec<String> = lines
        .next()?
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    let pid_column = titles.iter().position(|title| title == "PID")?;
    let rows = lines
        .map(|line| columns(line, titles.len()))
        .filter(|row| {
            let pid = row.get(pid_column).and_then(|pid| pid.parse().ok());
            pid.is_some_and(|pid| pids.contains(&pid))
        })
        .collect();
    Some(Processes { titles, rows })
}

/// The last column, the command, keeps its spaces.
fn columns(line: &str, count: usize) -> Vec<String> {
    let mut rest = line.trim();
    let mut row = Vec::new();
    while row.len() + 1 < count {
        let Some((column, after)) = rest.split_once(char::is_whitespace) else {
            break;
        };
        row.push(column.to_owned());
        rest = after.trim_start();
    }
    row.push(rest.to_owned());
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_our_processes() {
        let output = "UID   PID  PPID CMD\nroot   7     1 sh -c a b\nroot  71     1 other\n";
        let processes = parse(output, &[7]).unwrap();
        assert_eq!(processes.titles, ["UID", "PID", "PPID", "CMD"]);
        assert_eq!(processes.rows, [["root", "7", "1", "sh -c a b"]]);
        assert!(parse("UID CMD\n", &[7]).is_none());
    }
}
