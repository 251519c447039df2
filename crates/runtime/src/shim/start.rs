//! Starting the container's processes: streams first, then the kernel's part.

use super::log::LogWriter;
use super::protocol::{ExecCommand, IoSettings, LaunchCommand};
use super::session::{Ends, Session, set_size};
use crate::{
    Blank, BlankOptions, ExecTarget, Fill, LaunchError, Running, Stage, Stdio, exec_process,
};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// An empty container kept ready, and what it was made with.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) blank: Blank,
    pub(super) options: Box<BlankOptions>,
}

impl Ready {
    /// Ends the process and removes its cgroup.
    pub(super) fn discard(self) {
        let cgroup = self.blank.cgroup().cloned();
        drop(self.blank);
        if let Some(cgroup) = cgroup {
            cgroup.remove().ok(); // the daemon's next start sweeps what is left
        }
    }
}

/// A started process with its streams.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) running: Running,
    pub(super) session: Session,
}

/// Fills the empty container, or makes one if there is none that fits, and starts it.
pub(super) fn launch(
    ready: Option<Ready>,
    command: &LaunchCommand,
    netns: Option<BorrowedFd<'_>>,
) -> Result<Started, LaunchError> {
    let spec = &command.launch.spec;
    let io = command.io;
    let prepared = prepare(command);
    let (log, pipes) = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            if let Some(ready) = ready {
                ready.discard();
            }
            return Err(error);
        }
    };
    let blank = match ready {
        Some(ready) if ready.options.fits(spec) => ready.blank,
        unfit => {
            if let Some(ready) = unfit {
                ready.discard();
            }
            Blank::create(&BlankOptions::for_spec(spec))?
        }
    };
    let (running, ends) = if let Some((theirs, ends)) = pipes {
        let fill = Fill {
            netns,
            stdio: Stdio::Fds(theirs.borrow()),
        };
        (blank.run(&command.launch, &fill)?, ends)
    } else {
        let fill = Fill {
            netns,
            stdio: Stdio::Terminal,
        };
        // In two trips, so that the size is there before the program asks for it.
        let created = blank.fill(&command.launch, &fill)?;
        size(created.console(), io);
        (created.start()?, Ends::default())
    };
    take_up(running, io, ends, log)
}

/// What a start needs beside the kernel's part: the log, and the pipes unless it has a terminal.
type Prepared = (Option<LogWriter>, Option<(Theirs, Ends)>);

fn prepare(command: &LaunchCommand) -> Result<Prepared, LaunchError> {
    let log = LogWriter::open(&command.log)
        .map_err(|error| LaunchError::new(Stage::Settings, format!("cannot open log: {error}")))?;
    let pipes = if command.io.tty {
        None
    } else {
        Some(pipes(command.io)?)
    };
    Ok((log, pipes))
}

/// Begins to serve a process that runs; one that cannot be served is ended.
fn take_up(
    mut running: Running,
    io: IoSettings,
    mut ends: Ends,
    log: Option<LogWriter>,
) -> Result<Started, LaunchError> {
    ends.console = running.console.take();
    match Session::new(io, ends, log) {
        Ok(session) => Ok(Started { running, session }),
        Err(error) => {
            sys::process::pidfd_signal(running.pidfd.as_fd(), 9).ok();
            sys::process::wait_pidfd(running.pidfd.as_fd()).ok();
            if let Some(cgroup) = running.cgroup {
                cgroup.kill().ok(); // what a shared process namespace kept
                cgroup.remove().ok(); // the daemon's next start sweeps what is left
            }
            Err(streams(error))
        }
    }
}

/// Starts another process in the container.
pub(super) fn exec(target: &ExecTarget<'_>, command: &ExecCommand) -> Result<Started, LaunchError> {
    let io = command.io;
    let (running, ends) = if io.tty {
        let running = exec_process(target, &command.request, Stdio::Terminal)?;
        size(running.console.as_ref().map(|console| console.as_fd()), io);
        (running, Ends::default())
    } else {
        let (theirs, ends) = pipes(io)?;
        let running = exec_process(target, &command.request, Stdio::Fds(theirs.borrow()))?;
        (running, ends)
    };
    take_up(running, io, ends, None)
}

fn size(console: Option<BorrowedFd<'_>>, io: IoSettings) {
    if let (Some(console), Some((rows, columns))) = (console, io.console_size) {
        // A terminal that cannot be sized still works.
        set_size(console, rows, columns).ok();
    }
}

/// The process's ends of its streams.
struct Theirs {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Theirs {
    fn borrow(&self) -> [BorrowedFd<'_>; 3] {
        [self.stdin.as_fd(), self.stdout.as_fd(), self.stderr.as_fd()]
    }
}

fn pipes(io: IoSettings) -> Result<(Theirs, Ends), LaunchError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| streams(error.into()));
    let (their_stdin, stdin) = if io.open_stdin {
        let (theirs, ours) = pipe()?;
        (theirs, Some(ours))
    } else {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let null = rustix::fs::open("/dev/null", flags, Mode::empty())
            .map_err(|error| streams(error.into()))?;
        (null, None)
    };
    let (stdout, their_stdout) = pipe()?;
    let (stderr, their_stderr) = pipe()?;
    let theirs = Theirs {
        stdin: their_stdin,
        stdout: their_stdout,
        stderr: their_stderr,
    };
    let ends = Ends {
        stdin,
        stdout: Some(stdout),
        stderr: Some(stderr),
        ..Ends::default()
    };
    Ok((theirs, ends))
}

#[expect(clippy::needless_pass_by_value, reason = "shaped for map_err")]
fn streams(error: std::io::Error) -> LaunchError {
    LaunchError::new(Stage::Terminal, format!("cannot make its streams: {error}"))
}
