//! The shim's one loop: wait for everything, handle what is ready, let time pass.
//!
//! ```text
//! Waiting (an empty container is ready) ──Launch──> Serving ──init ended──> Ending ──> end
//!    └── the daemon goes ──> end               └── failed ──> Failed ──> end
//! ```

use super::SocketAddress;
use super::connection::Connection;
use super::protocol::{
    AttachCommand, EXIT_RECORD_NAME, Envelope, Event, ExecCommand, ExecStatus, ExitRecord,
    LaunchCommand, Message, Outcome, Request, SOCKET_NAME, Status,
};
use super::session::{Part, READ_BYTES};
use super::start;
use super::start::Ready;
use super::task::{Now, Task};
use crate::{Cgroup, ExecTarget};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A container with more exec processes than this is asked to wait.
const MAX_EXECS: usize = 256;
/// Connections from daemons; one is in use at a time.
const MAX_CONNECTIONS: usize = 8;

/// What became ready.
#[derive(Debug, Clone, Copy)]
enum Token {
    Signals,
    Listener,
    Control(usize),
    Task(usize, Part),
}

#[derive(Debug)]
enum Phase {
    /// Not launched; an empty container may be ready.
    Waiting(Option<Ready>),
    /// The container runs.
    Serving(Container),
    /// The container has ended and that is reported.
    Ending,
    /// It never ran.
    Failed,
}

/// What is known of the running container.
#[derive(Debug)]
struct Container {
    pid: i32,
    pidfd: OwnedFd,
    cgroup: Option<Cgroup>,
    /// While this is held, the slow end of the mount namespace comes after the exit is reported.
    _mount_namespace: Option<OwnedFd>,
}

impl Container {
    /// Removes the cgroup, and lets the mount namespace go.
    fn take_apart(self) {
        let Some(cgroup) = &self.cgroup else {
            return;
        };
        // Processes are left only where the container shared somebody's process namespace.
        if cgroup.procs().is_ok_and(|left| !left.is_empty()) {
            cgroup.kill().ok();
        }
        // What cannot be removed now is swept by the daemon's next start.
        cgroup.remove().ok();
    }
}

/// Everything the shim has.
#[derive(Debug)]
pub(super) struct Server {
    signals: OwnedFd,
    control: Vec<Connection>,
    listener: Option<OwnedFd>,
    phase: Phase,
    id: String,
    directory: PathBuf,
    exited: Option<ExitRecord>,
    /// What is left of the container when its end is reported.
    ended: Option<Container>,
    tasks: Vec<Task>,
    scratch: Vec<u8>,
}

impl Server {
    /// Starts with one daemon's connection and perhaps an empty container.
    pub(super) fn new(signals: OwnedFd, control: OwnedFd, blank: Option<Ready>) -> Self {
        Self {
            signals,
            control: vec![Connection::new(control)],
            listener: None,
            phase: Phase::Waiting(blank),
            id: String::new(),
            directory: PathBuf::new(),
            exited: None,
            ended: None,
            tasks: Vec::new(),
            scratch: vec![0; READ_BYTES],
        }
    }

    /// Sends an event to every daemon that listens.
    pub(super) fn tell(&mut self, event: Event) {
        let message = Message::Event(event);
        for connection in &mut self.control {
            connection.send(&message);
        }
    }

    /// Runs until there is nothing left to do.
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.is_over() {
            let ready = self.wait()?;
            for (token, flags) in ready {
                self.handle(token, flags);
            }
            self.advance();
        }
        if let Phase::Waiting(Some(ready)) = self.phase {
            ready.discard();
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        match &self.phase {
            Phase::Waiting(_) => self.control.is_empty(),
            Phase::Serving(_) => false,
            Phase::Failed => !self.control.iter().any(Connection::has_waiting),
            Phase::Ending => {
                self.tasks.is_empty() && !self.control.iter().any(Connection::has_waiting)
            }
        }
    }

    /// Waits for anything to happen.
    fn wait(&self) -> io::Result<Vec<(Token, PollFlags)>> {
        let mut interests: Vec<(BorrowedFd<'_>, PollFlags, Token)> = Vec::new();
        interests.push((self.signals.as_fd(), PollFlags::IN, Token::Signals));
        if let Some(listener) = &self.listener {
            interests.push((listener.as_fd(), PollFlags::IN, Token::Listener));
        }
        for (index, connection) in self.control.iter().enumerate() {
            let mut flags = PollFlags::IN;
            if connection.has_waiting() {
                flags |= PollFlags::OUT;
            }
            interests.push((connection.fd(), flags, Token::Control(index)));
        }
        for (index, task) in self.tasks.iter().enumerate() {
            task.session.interests(|fd, flags, part| {
                interests.push((fd, flags, Token::Task(index, part)));
            });
        }
        let mut fds: Vec<PollFd<'_>> = interests
            .iter()
            .map(|(fd, flags, _)| PollFd::from_borrowed_fd(*fd, *flags))
            .collect();
        match poll(&mut fds, self.timeout().as_ref()) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        }
        Ok(interests
            .iter()
            .map(|(_, _, token)| *token)
            .zip(fds.iter().map(PollFd::revents))
            .filter(|(_, flags)| !flags.is_empty())
            .collect())
    }

    fn timeout(&self) -> Option<Timespec> {
        let deadline = self.tasks.iter().filter_map(Task::deadline_ns).min()?;
        let wait = deadline.saturating_sub(Now::read().monotonic_ns);
        Some(Timespec {
            tv_sec: i64::try_from(wait / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(wait % 1_000_000_000).unwrap_or(0),
        })
    }

    fn handle(&mut self, token: Token, flags: PollFlags) {
        match token {
            Token::Signals => {
                sys::poll::drain_signals(self.signals.as_fd());
                self.reap();
            }
            Token::Listener => self.accept(),
            Token::Control(index) => self.control_ready(index, flags),
            Token::Task(index, part) => {
                let now = Now::read();
                let Some(task) = self.tasks.get_mut(index) else {
                    return;
                };
                let detached = task
                    .session
                    .ready(part, flags, &mut self.scratch, now.unix_ns);
                let exec = task.exec.clone();
                if detached {
                    self.tell(Event::Detached { exec });
                }
            }
        }
    }

    /// Collects ended children: our own processes, and orphans of a container that shares the
    /// host's process namespace.
    fn reap(&mut self) {
        let now = Now::read();
        while let Ok(Some((pid, exit))) = sys::process::wait_any(false) {
            // The number may be that of an ended process, too, whose clients are still here.
            let mut running = self.tasks.iter_mut().filter(|task| task.is_running());
            if let Some(task) = running.find(|task| task.pid == pid) {
                task.exited(exit, now);
            } else if let Phase::Waiting(ready) = &mut self.phase
                && let Some(ready) = ready.take_if(|ready| ready.blank.pid() == pid)
            {
                // Without its process an empty container is of no use; the pool makes another.
                ready.discard();
                self.phase = Phase::Failed;
            }
        }
    }

    /// Moves on what the events of this round made ready to move.
    fn advance(&mut self) {
        let now = Now::read();
        for index in 0..self.tasks.len() {
            let Some(task) = self.tasks.get_mut(index) else {
                break;
            };
            task.session.sweep();
            let exec = task.exec.clone();
            let Some(record) = task.ended(&mut self.scratch, now) else {
                continue;
            };
            match exec {
                None => self.container_ended(record),
                Some(exec) => self.tell(Event::ExecExited { exec, record }),
            }
        }
        self.control.retain(Connection::is_open);
        let unheard = self.control.is_empty();
        for task in &mut self.tasks {
            if unheard || task.exec.is_none() {
                task.release(now);
            }
        }
        self.tasks.retain_mut(|task| !task.is_over(now));
        // Last, since nobody waits for it: the end of the mount namespace and, under cgroup v1,
        // of the cgroup take milliseconds.
        if let Some(container) = self.ended.take() {
            container.take_apart();
        }
    }

    /// The log is complete: write the record, tell the daemon, then let go of the rest.
    fn container_ended(&mut self, mut record: ExitRecord) {
        let Phase::Serving(container) = std::mem::replace(&mut self.phase, Phase::Ending) else {
            return;
        };
        record.oom_killed = container
            .cgroup
            .as_ref()
            .is_some_and(|cgroup| cgroup.oom_kills() > 0);
        // Without the record the daemon still learns it from the event.
        write_record(&self.directory, &record).ok();
        self.exited = Some(record.clone());
        self.tell(Event::Exited(record));
        self.ended = Some(container);
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        let flags = SocketFlags::CLOEXEC;
        if let Ok(socket) = rustix::net::accept_with(listener, flags)
            && self.control.len() < MAX_CONNECTIONS
        {
            self.control.push(Connection::new(socket));
        }
    }

    fn control_ready(&mut self, index: usize, flags: PollFlags) {
        let Some(connection) = self.control.get_mut(index) else {
            return;
        };
        if flags.contains(PollFlags::OUT) {
            connection.flush();
        }
        if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            connection.receive();
        }
        while let Some((envelope, fds)) = self.control.get_mut(index).and_then(Connection::next) {
            let Envelope {
                sequence, request, ..
            } = envelope;
            let launching = matches!(request, Request::Launch(_));
            let outcome = self.carry_out(request, fds);
            if let Some(connection) = self.control.get_mut(index) {
                connection.send(&Message::Reply { sequence, outcome });
            }
            if launching {
                // The launch's document and the start's own needs were the largest by far.
                sys::poll::give_back_memory();
            }
        }
    }

    fn carry_out(&mut self, request: Request, fds: VecDeque<OwnedFd>) -> Outcome {
        match request {
            Request::Launch(command) => self.launch(*command, fds),
            Request::Attach { exec, attach } => self.attach(exec.as_deref(), &attach, fds),
            Request::Signal { exec, signal } => self.signal(exec.as_deref(), signal),
            Request::Resize {
                exec,
                rows,
                columns,
            } => match self.running(exec.as_deref()) {
                Some(task) if task.session.resize(rows, columns) => Outcome::Done,
                Some(_) => Outcome::Failed("the process has no terminal".to_owned()),
                None => Outcome::NoSuchProcess,
            },
            Request::CloseStdin { exec } => match self.running(exec.as_deref()) {
                Some(task) => {
                    task.session.end_stdin();
                    Outcome::Done
                }
                None => Outcome::NoSuchProcess,
            },
            Request::Exec(command) => self.exec(*command, fds),
            Request::ExecRecorded { exec } => {
                let now = Now::read();
                if let Some(task) = self.find(Some(&exec)) {
                    task.release(now);
                }
                Outcome::Done
            }
            Request::Status => Outcome::Status(self.status()),
        }
    }

    fn launch(&mut self, command: LaunchCommand, mut fds: VecDeque<OwnedFd>) -> Outcome {
        let ready = match &mut self.phase {
            Phase::Waiting(ready) => ready.take(),
            Phase::Serving(_) | Phase::Ending | Phase::Failed => {
                return Outcome::Failed("this shim has launched already".to_owned());
            }
        };
        let netns = if command.has_netns {
            fds.pop_front()
        } else {
            None
        };
        let listener = match listen(&command.directory) {
            Ok(listener) => listener,
            Err(error) => {
                if let Some(ready) = ready {
                    ready.discard();
                }
                self.phase = Phase::Failed;
                return Outcome::Failed(format!("cannot listen in its directory: {error}"));
            }
        };
        let netns = netns.as_ref().map(OwnedFd::as_fd);
        match start::launch(ready, &command, netns) {
            Ok(started) => {
                let outcome = self.started(None, started, &command.attach, fds);
                self.listener = Some(listener);
                self.id = command.id;
                self.directory = command.directory;
                outcome
            }
            Err(error) => {
                self.phase = Phase::Failed;
                // The directory is the daemon's to remove.
                fs::remove_file(command.directory.join(SOCKET_NAME)).ok();
                Outcome::LaunchFailed(error)
            }
        }
    }

    fn exec(&mut self, command: ExecCommand, fds: VecDeque<OwnedFd>) -> Outcome {
        let Phase::Serving(container) = &self.phase else {
            return Outcome::NoSuchProcess;
        };
        if self.tasks.len() > MAX_EXECS {
            return Outcome::Failed(format!("more than {MAX_EXECS} exec processes"));
        }
        if self.find_index(Some(&command.exec)).is_some() {
            return Outcome::Failed("this exec has started already".to_owned());
        }
        let target = ExecTarget {
            pid: container.pid,
            pidfd: container.pidfd.as_fd(),
            cgroup: container.cgroup.as_ref(),
        };
        match start::exec(&target, &command) {
            Ok(started) => {
                let outcome = self.started(Some(command.exec), started, &command.attach, fds);
                sys::poll::give_back_memory();
                outcome
            }
            Err(error) => Outcome::LaunchFailed(error),
        }
    }

    /// Takes a started process into care.
    fn started(
        &mut self,
        exec: Option<String>,
        started: start::Started,
        attach: &[AttachCommand],
        fds: VecDeque<OwnedFd>,
    ) -> Outcome {
        let start::Started {
            running,
            mut session,
        } = started;
        let pid = running.pid;
        let mut detached = Vec::new();
        for (command, socket) in attach.iter().zip(fds) {
            if session.attach(socket, command) {
                detached.push(Event::Detached { exec: exec.clone() });
            }
        }
        if exec.is_none() {
            self.phase = Phase::Serving(Container {
                pid,
                pidfd: running.pidfd,
                cgroup: running.cgroup,
                _mount_namespace: running.mount_namespace,
            });
        }
        self.tasks.push(Task::new(exec, pid, session));
        for event in detached {
            self.tell(event);
        }
        Outcome::Started {
            pid,
            steps: running.steps,
        }
    }

    fn attach(
        &mut self,
        exec: Option<&str>,
        attach: &AttachCommand,
        mut fds: VecDeque<OwnedFd>,
    ) -> Outcome {
        let Some(socket) = fds.pop_front() else {
            return Outcome::Failed("no connection came with the request".to_owned());
        };
        let Some(task) = self.running(exec) else {
            return Outcome::NoSuchProcess;
        };
        if task.session.attach(socket, attach) {
            let exec = exec.map(str::to_owned);
            self.tell(Event::Detached { exec });
        }
        Outcome::Done
    }

    fn signal(&mut self, exec: Option<&str>, signal: i32) -> Outcome {
        let Some(task) = self.running(exec) else {
            return Outcome::NoSuchProcess;
        };
        // The process is our child and not reaped yet, so its number cannot be anyone else's.
        match sys::process::kill(task.pid, signal) {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(format!("cannot signal the process: {error}")),
        }
    }

    fn status(&self) -> Status {
        let init = self.tasks.iter().find(|task| task.exec.is_none());
        Status {
            id: self.id.clone(),
            pid: init.map_or(0, |task| task.pid),
            exited: self.exited.clone(),
            execs: self
                .tasks
                .iter()
                .filter(|task| task.is_running())
                .filter_map(|task| {
                    Some(ExecStatus {
                        exec: task.exec.clone()?,
                        pid: task.pid,
                    })
                })
                .collect(),
        }
    }

    fn find_index(&self, exec: Option<&str>) -> Option<usize> {
        self.tasks
            .iter()
            .position(|task| task.exec.as_deref() == exec)
    }

    fn find(&mut self, exec: Option<&str>) -> Option<&mut Task> {
        let index = self.find_index(exec)?;
        self.tasks.get_mut(index)
    }

    fn running(&mut self, exec: Option<&str>) -> Option<&mut Task> {
        self.find(exec).filter(|task| task.is_running())
    }
}

/// Listens in the shim's directory.
fn listen(directory: &Path) -> io::Result<OwnedFd> {
    match fs::remove_file(directory.join(SOCKET_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let address = SocketAddress::beneath(directory)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::bind(&socket, address.get())?;
    rustix::net::listen(&socket, 4)?;
    Ok(socket)
}

/// Writes the exit record so that a reader sees all of it or none.
fn write_record(directory: &Path, record: &ExitRecord) -> io::Result<()> {
    let temporary = directory.join(".exit.json.new");
    fs::write(&temporary, serde_json::to_vec(record)?)?;
    fs::rename(temporary, directory.join(EXIT_RECORD_NAME))
}
