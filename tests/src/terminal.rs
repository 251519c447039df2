//! A client on a real terminal: a pty pair whose far side is the client's controlling terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::command::exit_code;
use crate::wait::{PATIENCE, wait_within};

/// A running client and the near side of its terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    near: File,
    far: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    mark: usize,
}

impl Terminal {
    /// Starts `command` in a session of its own on a new terminal of 24 by 80.
    ///
    /// `setsid --ctty` makes the terminal the controlling one, so that interrupt characters and
    /// window changes become signals exactly as in a user's terminal.
    pub fn spawn(command: &Command) -> Self {
        let near = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&near).unwrap();
        unlockpt(&near).unwrap();
        let name = ptsname(&near, Vec::new()).unwrap();
        let far = rustix::fs::open(
            name.as_c_str(),
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        set_size(&near, 24, 80);
        let mut wrapped = Command::new("setsid");
        wrapped
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => wrapped.env(name, value),
                None => wrapped.env_remove(name),
            };
        }
        let stdio = || Stdio::from(far.try_clone().unwrap());
        let child = wrapped
            .env("TERM", "xterm")
            .stdin(stdio())
            .stdout(stdio())
            .stderr(stdio())
            .spawn()
            .unwrap();
        let near = File::from(near);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, sink) = (near.try_clone().unwrap(), Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                sink.lock().unwrap().extend_from_slice(&buffer[..count]);
            }
        });
        Self {
            child,
            near,
            far,
            seen,
            mark: 0,
        }
    }

    /// Types `text`; a newline is the return key.
    pub fn send(&mut self, text: &str) {
        self.near
            .write_all(text.replace('\n', "\r").as_bytes())
            .unwrap();
    }

    /// Waits until `text` appears after what was expected before, and moves past it.
    #[track_caller]
    pub fn expect(&mut self, text: &str) {
        let found = wait_within(PATIENCE, || {
            let seen = self.seen.lock().unwrap();
            find(&seen[self.mark..], text.as_bytes())
        });
        match found {
            Some(at) => self.mark += at + text.len(),
            None => panic!(
                "the terminal never showed {text:?}; it shows\n{}",
                self.screen()
            ),
        }
    }

    /// Everything the terminal has shown so far.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Changes the window's size, as a user dragging its corner does.
    pub fn resize(&self, rows: u16, columns: u16) {
        set_size(&self.near, rows, columns);
    }

    /// The terminal's modes now: a client must leave them as it found them.
    pub fn modes(&self) -> Termios {
        tcgetattr(&self.far).unwrap()
    }

    /// Whether the terminal echoes and edits lines, as it does for a shell user.
    pub fn is_cooked(&self) -> bool {
        use rustix::termios::LocalModes;
        self.modes()
            .local_modes
            .contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    /// The client's process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the client's end and returns its exit code.
    #[track_caller]
    pub fn exit(&mut self) -> i32 {
        let status = wait_within(PATIENCE, || self.child.try_wait().unwrap());
        // What the client wrote last may still be on its way through the terminal.
        crate::wait::pause(Duration::from_millis(20));
        match status {
            Some(status) => exit_code(status),
            None => panic!(
                "the client is still there; its terminal shows\n{}",
                self.screen()
            ),
        }
    }

    /// Whether the client still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn set_size(terminal: impl AsFd, rows: u16, columns: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).unwrap();
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len().max(1))
        .position(|window| window == needle)
}
