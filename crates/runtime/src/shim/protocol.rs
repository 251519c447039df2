//! What the daemon and a shim say to each other.
//!
//! Frames on a unix stream socket: a little-endian `u32` length, then that many bytes of JSON.
//! Descriptors travel as `SCM_RIGHTS` with a frame's first byte; each frame says how many are
//! its own, in the order its request documents. The daemon sends [`Envelope`]s; the shim answers
//! each with one [`Message::Reply`] and reports what happens by itself as [`Message::Event`].
//! A frame is bounded by [`MAX_FRAME_BYTES`].

use crate::shim::detach_keys::DetachKeys;
use crate::{ExecRequest, Launch, LaunchError};
use model::trace::Step;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Larger frames are refused: a runtime spec with a seccomp profile is some 200 KB.
pub const MAX_FRAME_BYTES: usize = 16 << 20;
/// Descriptors per frame, below the kernel's own limit of 253.
pub const MAX_FRAME_FDS: usize = 64;

/// Name of the shim's socket in its directory.
pub const SOCKET_NAME: &str = "shim.sock";
/// Name of the exit record in the shim's directory.
pub const EXIT_RECORD_NAME: &str = "exit.json";

/// How a process's streams are made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub struct IoSettings {
    /// A pseudo-terminal instead of pipes; attached clients then read a raw stream.
    pub tty: bool,
    /// Give it a stdin that clients can write to; else `/dev/null`.
    pub open_stdin: bool,
    /// Close its stdin when an attached client has ended its own (without a terminal).
    pub stdin_once: bool,
    /// Rows and columns of the terminal at start.
    pub console_size: Option<(u16, u16)>,
}

/// Where a container's output is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogTarget {
    /// Nowhere (`none`).
    #[default]
    None,
    /// Docker's `json-file` format.
    JsonFile {
        /// The current file; rotated ones get `.1`, `.2`, … behind it.
        path: PathBuf,
        /// Start a new file once this one has so many bytes; none: never.
        max_size_bytes: Option<u64>,
        /// How many files to keep, with the current one; at least 1.
        max_files: u32,
    },
}

/// What an attached client takes part in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "docker's own independent switches"
)]
pub struct AttachOptions {
    /// Its bytes go to the process's stdin.
    pub stdin: bool,
    /// It gets stdout (with a terminal: everything).
    pub stdout: bool,
    /// It gets stderr.
    pub stderr: bool,
    /// Keys that end the attachment and leave the process running; looked for with a terminal
    /// only, as docker does.
    pub detach_keys: DetachKeys,
}

/// One client connection handed over; its descriptor travels beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachCommand {
    /// What it takes part in.
    pub options: AttachOptions,
    /// Bytes of its stdin that were read together with the HTTP request.
    pub read_ahead: Vec<u8>,
}

/// Fill the empty container and start its process.
///
/// Descriptors: the network namespace if `has_netns`, then one per entry of `attach`.
#[derive(Debug, Serialize, Deserialize)]
pub struct LaunchCommand {
    /// The container's ID.
    pub id: String,
    /// Where this shim listens and leaves its exit record; made by the daemon.
    pub directory: PathBuf,
    /// What to run.
    pub launch: Launch,
    /// Its streams.
    pub io: IoSettings,
    /// Its log.
    pub log: LogTarget,
    /// A descriptor of a network namespace to join comes with this.
    pub has_netns: bool,
    /// Clients that attached before the start.
    pub attach: Vec<AttachCommand>,
}

/// Start another process in the container.
///
/// Descriptors: one per entry of `attach`.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExecCommand {
    /// The exec's ID, chosen by the daemon.
    pub exec: String,
    /// What to run.
    pub request: ExecRequest,
    /// Its streams.
    pub io: IoSettings,
    /// Clients attached from the start.
    pub attach: Vec<AttachCommand>,
}

/// What the daemon asks for. `exec` names an exec process; none means the init process.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Fill and start.
    Launch(Box<LaunchCommand>),
    /// Hand over a client's connection. Descriptors: that one.
    Attach {
        /// Whom to attach to.
        exec: Option<String>,
        /// How.
        attach: AttachCommand,
    },
    /// Send a signal.
    Signal {
        /// To whom.
        exec: Option<String>,
        /// Which.
        signal: i32,
    },
    /// Set the terminal's size.
    Resize {
        /// Whose.
        exec: Option<String>,
        /// Lines.
        rows: u16,
        /// Characters per line.
        columns: u16,
    },
    /// Close the process's stdin.
    CloseStdin {
        /// Whose.
        exec: Option<String>,
    },
    /// Start another process.
    Exec(Box<ExecCommand>),
    /// The daemon knows of an exec's end. Until then its clients' connections stay open: docker's
    /// client asks for the exit code as soon as its stream ends.
    ExecRecorded {
        /// Whose.
        exec: String,
    },
    /// Say how things stand; a daemon that re-adopts asks this first.
    Status,
}

/// A request with the number its reply will carry.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// Chosen by the daemon, echoed in the reply.
    pub sequence: u64,
    /// How many descriptors come with this frame.
    pub fds: usize,
    /// What is asked.
    pub request: Request,
}

/// What a shim sends.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Message {
    /// The answer to one request.
    Reply {
        /// The request's number.
        sequence: u64,
        /// What came of it.
        outcome: Outcome,
    },
    /// Something happened.
    Event(Event),
}

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done.
    Done,
    /// The init or exec process runs.
    Started {
        /// Its process ID on the host.
        pid: i32,
        /// How the start went, if it was traced.
        steps: Vec<Step>,
    },
    /// How things stand.
    Status(Status),
    /// The process could not be started.
    LaunchFailed(LaunchError),
    /// There is no such process (any more).
    NoSuchProcess,
    /// The request could not be carried out; a message for the user.
    Failed(String),
}

/// What happens by itself.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The empty container is ready to be filled.
    Ready,
    /// The empty container could not be made; the shim ends.
    NotReady(String),
    /// The init process ended, and its log is complete.
    Exited(ExitRecord),
    /// An exec process ended.
    ExecExited {
        /// Which.
        exec: String,
        /// How.
        record: ExitRecord,
    },
    /// A client typed its detach keys.
    Detached {
        /// Whom it was attached to.
        exec: Option<String>,
    },
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Docker's exit code: the process's own, or 128 + signal.
    pub exit_code: i32,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// The kernel killed something in this container for want of memory.
    pub oom_killed: bool,
    /// When, in nanoseconds since 1970.
    pub at_unix_ns: u64,
}

/// How things stand in a shim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The container's ID; empty before the launch.
    pub id: String,
    /// The init process.
    pub pid: i32,
    /// How it ended, if it did.
    pub exited: Option<ExitRecord>,
    /// Exec processes that run.
    pub execs: Vec<ExecStatus>,
}

/// One running exec process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStatus {
    /// Its ID.
    pub exec: String,
    /// Its process ID on the host.
    pub pid: i32,
}
