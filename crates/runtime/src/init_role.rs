//! The init that `--init` puts before a container's program: it reaps and forwards signals.
//!
//! It runs as the container's first process from a read-only bind mount at `/sbin/docker-init`:
//! `berth init -- cmd…`. It ends with the program's exit code.

use std::{
    ffi::OsString,
    io::{self, Write as _},
    os::unix::process::CommandExt as _,
    process::Command,
};

use sys::process::{kill, set_signal_mask, wait_any, wait_signal};

const SIGCHLD: i32 = 17;

/// Signals that are not ours to forward: faults of our own, the uncatchable, job control of the
/// terminal we read from, and the C library's.
const NOT_FORWARDED: [i32; 13] = [4, 5, 6, 7, 8, 9, 11, 17, 19, 21, 22, 32, 33];

/// Runs `args` (a leading `--` is skipped) and returns the exit code to end with.
pub fn main(args: &[OsString]) -> i32 {
    let args = args.strip_prefix(&[OsString::from("--")]).unwrap_or(args);
    match supervise(args) {
        Ok(code) => code,
        Err(error) => {
            writeln!(
                io::stderr(),
                "[berth-init] {}",
                crate::failure::errno_text(&error)
            )
            .ok();
            if error.kind() == io::ErrorKind::NotFound {
                127
            } else {
                126
            }
        }
    }
}

fn supervise(args: &[OsString]) -> io::Result<i32> {
    let (program, args) = args.split_first().ok_or(io::ErrorKind::NotFound)?;
    // Blocked before the child exists, so that no signal is lost between.
    let signals: Vec<i32> = (1..=64)
        .filter(|signal| *signal == SIGCHLD || !NOT_FORWARDED.contains(signal))
        .collect();
    set_signal_mask(&signals)?;
    let child = spawn(program, args)?;
    loop {
        match wait_signal(&signals) {
            Ok(SIGCHLD) => {
                while let Some((pid, exit)) = wait_any(false)? {
                    if pid == child {
                        return Ok(exit.code());
                    }
                }
            }
            // The whole group, as tini does with -g: a shell's children are meant as well. A
            // program that left its group is reached by itself.
            Ok(signal) => kill(child, signal)
                .or_else(|_| kill(-child, signal))
                .unwrap_or(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn spawn(program: &OsString, args: &[OsString]) -> io::Result<i32> {
    let mut command = Command::new(program);
    command.args(args);
    // A group of its own, in the foreground of the terminal, so that ^C reaches it alone.
    command.process_group(0);
    let terminal = rustix::termios::isatty(io::stdin());
    sys::process::unblock_signals_in(&mut command, terminal);
    let child = command.spawn()?;
    i32::try_from(child.id()).map_err(io::Error::other)
}
