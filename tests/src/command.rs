//! Running a client to its end, with a limit on how long that may take.

use std::io::Write;
use std::process::{Command, Stdio};

/// What a finished command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; a signal's is 128 and its number, as a shell says it.
    pub code: i32,
    /// Standard output, lossily decoded.
    pub stdout: String,
    /// Standard error, lossily decoded.
    pub stderr: String,
}

impl Output {
    /// Asserts success and returns standard output without its last newline.
    #[track_caller]
    pub fn ok(&self) -> &str {
        self.exits(0);
        self.stdout.trim_end_matches(['\n', '\r'])
    }

    /// Asserts the exit code.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Self {
        assert_eq!(
            self.code, code,
            "exit code of `{}`\n--- stdout\n{}\n--- stderr\n{}",
            self.line, self.stdout, self.stderr
        );
        self
    }

    /// Asserts that standard error holds each of `parts`, whatever their letters' case.
    #[track_caller]
    pub fn says(&self, parts: &[&str]) -> &Self {
        let said = self.stderr.to_lowercase();
        for part in parts {
            assert!(
                said.contains(&part.to_lowercase()),
                "`{}` should have said {part:?} but said\n{}\n--- stdout\n{}",
                self.line,
                self.stderr,
                self.stdout
            );
        }
        self
    }

    /// Asserts that the failure is told in one line (a hint may follow on lines of its own).
    #[track_caller]
    pub fn is_one_clear_line(&self) -> &Self {
        let lines: Vec<&str> = self
            .stderr
            .lines()
            .filter(|line| !line.is_empty())
            .collect();
        assert!(
            !lines.is_empty() && lines.len() <= 4,
            "`{}` should fail with one clear line (and at most a hint and the usage), not\n{}",
            self.line,
            self.stderr
        );
        assert!(
            !self.stderr.contains("panicked") && !self.stderr.contains("RUST_BACKTRACE"),
            "`{}` panicked:\n{}",
            self.line,
            self.stderr
        );
        self
    }
}

/// Wraps a command so that it is killed after `seconds`, and then exits with 124.
pub fn limited(seconds: u32, program: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([
        "--foreground",
        "--kill-after=2",
        &seconds.to_string(),
        program,
    ]);
    command
}

/// Runs a command (made by [`limited`]) with `input` on its standard input.
pub fn run(mut command: Command, input: &[u8]) -> Output {
    let line = format!("{command:?}").replace('"', "");
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // The command may well end before it has read everything.
        let _broken_pipe = stdin.write_all(&input);
    });
    let out = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    let code = exit_code(out.status);
    let output = Output {
        line,
        code,
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    };
    assert_ne!(
        code, 124,
        "`{}` did not end in time\n--- stdout\n{}\n--- stderr\n{}",
        output.line, output.stdout, output.stderr
    );
    output
}

/// The code a shell would report.
pub fn exit_code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}
