//! Ready shims, kept ahead of time, and the way back to those that run already.

use super::handle::{Attachment, ExecProcess, Shim, ShimError, split};
use super::link::{Link, read_record, unexpected};
use model::ContainerId;
use runtime::shim::protocol::{ExitRecord, IoSettings, LaunchCommand, LogTarget, Outcome, Request};
use runtime::shim::{READY_OPTION, SocketAddress};
use runtime::{BlankOptions, Cgroup, Launch};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::process::Command;
use tokio::sync::Notify;

/// How shims are made.
#[derive(Debug, Clone)]
pub struct ShimOptions {
    /// The program that has the `shim` role; ourselves.
    pub exe: PathBuf,
    /// Shims get directories in `shims/` beneath it.
    pub exec_root: PathBuf,
    /// How many shims to keep ready; 0 starts each when it is needed.
    pub pool_size: usize,
    /// Cgroup beneath which waiting containers are kept, such as `/berth`.
    pub cgroup_parent: String,
}

/// Everything that the start of one container needs.
#[derive(Debug)]
pub struct LaunchRequest {
    /// What to run.
    pub launch: Launch,
    /// Its streams.
    pub io: IoSettings,
    /// Its log.
    pub log: LogTarget,
    /// The network namespace to join; none: as the spec says.
    pub netns: Option<OwnedFd>,
    /// Clients that attached before the start.
    pub attach: Vec<Attachment>,
}

/// What became of a container while no daemon looked.
#[derive(Debug)]
pub enum Adopted {
    /// It runs, with these exec processes.
    Running(Shim, Vec<ExecProcess>),
    /// It has ended.
    Exited(ExitRecord),
    /// Nothing is known: the machine was restarted, or its shim was killed.
    Gone,
}

/// The shims. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Shims {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: ShimOptions,
    /// The program, out of containers' reach; none: each shim sees to that itself, which costs it
    /// a second execve.
    program: Option<OwnedFd>,
    /// Shims that wait with an empty container.
    ready: Mutex<Vec<Arc<Link>>>,
    /// Told whenever one was taken or died.
    wanted: Notify,
    /// Numbers the cgroups of waiting containers; with our process ID they are unique.
    serial: AtomicU64,
}

impl Shims {
    /// Makes the handle; within a tokio runtime. The pool fills behind it, and empties with the
    /// last handle.
    #[must_use]
    pub fn new(options: ShimOptions) -> Self {
        let inner = Arc::new(Inner {
            program: runtime::protect::executable(&options.exe).ok(),
            options,
            ready: Mutex::default(),
            wanted: Notify::new(),
            serial: AtomicU64::new(0),
        });
        if inner.options.pool_size > 0 {
            inner.wanted.notify_one();
            tokio::spawn(keep_filled(Arc::downgrade(&inner)));
        }
        Self { inner }
    }

    /// Starts a container.
    ///
    /// # Errors
    /// `Launch` when the container cannot become what was asked; nothing is left then.
    pub async fn launch(
        &self,
        id: &ContainerId,
        request: LaunchRequest,
    ) -> Result<Shim, ShimError> {
        let directory = self.directory(id);
        let in_directory = |source| ShimError::Directory {
            path: directory.clone(),
            source,
        };
        make_directory(&directory).map_err(in_directory)?;
        let result = self.launch_in(id, &directory, request).await;
        if result.is_err() {
            // The failure is what counts; a directory left over is overwritten next time.
            self.forget(id).ok();
        }
        // Whatever became of it: a shim may be missing, and this start is out of the way now.
        self.inner.wanted.notify_one();
        result
    }

    async fn launch_in(
        &self,
        id: &ContainerId,
        directory: &Path,
        request: LaunchRequest,
    ) -> Result<Shim, ShimError> {
        let fits = BlankOptions::ordinary(None).fits(&request.launch.spec);
        let link = match fits.then(|| self.inner.take_ready()).flatten() {
            Some(link) => link,
            None => self.inner.spawn(None)?,
        };
        let (attach, clients) = split(request.attach);
        let command = LaunchCommand {
            id: id.as_str().to_owned(),
            directory: directory.to_owned(),
            launch: request.launch,
            io: request.io,
            log: request.log,
            has_netns: request.netns.is_some(),
            attach,
        };
        let fds = request.netns.into_iter().chain(clients).collect();
        link.set_directory(directory);
        match link.ask(Request::Launch(Box::new(command)), fds).await? {
            Outcome::Started { pid, steps } => Ok(Shim::new(id.clone(), pid, steps, link)),
            other => Err(unexpected(other)),
        }
    }

    /// Finds out about a container that ran when the last daemon ended.
    pub async fn adopt(&self, id: &ContainerId) -> Adopted {
        let directory = self.directory(id);
        if let Some(record) = read_record(&directory) {
            return Adopted::Exited(record);
        }
        if let Ok(link) = connect(&directory)
            && let Ok(Outcome::Status(status)) = link.ask(Request::Status, Vec::new()).await
        {
            if let Some(record) = status.exited {
                return Adopted::Exited(record);
            }
            let shim = Shim::new(id.clone(), status.pid, Vec::new(), link);
            let execs = status
                .execs
                .into_iter()
                .map(|exec| shim.adopt_exec(exec.exec, exec.pid))
                .collect();
            return Adopted::Running(shim, execs);
        }
        // It may have ended between the two looks.
        read_record(&directory).map_or(Adopted::Gone, Adopted::Exited)
    }

    /// Removes a shim's directory, once its container's end is recorded.
    ///
    /// # Errors
    /// When it exists and cannot be removed.
    pub fn forget(&self, id: &ContainerId) -> io::Result<()> {
        match fs::remove_dir_all(self.directory(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Returns how many shims wait now.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.inner.ready().len()
    }

    fn directory(&self, id: &ContainerId) -> PathBuf {
        self.inner.options.exec_root.join("shims").join(id.as_str())
    }
}

impl Inner {
    fn ready(&self) -> MutexGuard<'_, Vec<Arc<Link>>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_ready(&self) -> Option<Arc<Link>> {
        let mut ready = self.ready();
        loop {
            let link = ready.pop()?;
            if link.is_open() {
                return Some(link);
            }
        }
    }

    /// Starts a shim process; with a cgroup, it makes an empty container in it.
    fn spawn(&self, cgroup: Option<&str>) -> Result<Arc<Link>, ShimError> {
        let (ours, theirs) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(|error| ShimError::Spawn(error.into()))?;
        rustix::io::ioctl_fionbio(&ours, true).map_err(|error| ShimError::Spawn(error.into()))?;
        let mut command = match &self.program {
            Some(program) => {
                let number = program.as_raw_fd();
                let mut command = Command::new(format!("/proc/self/fd/{number}"));
                command.env_clear().env(runtime::protect::MARK, "1");
                command
            }
            None => {
                let mut command = Command::new(&self.options.exe);
                command.env_clear();
                command
            }
        };
        command
            .arg0("berth") // not the path of the magic link, for whoever lists processes
            .arg("shim")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(cgroup) = cgroup {
            command.args([READY_OPTION, cgroup]);
        }
        // Without a pre-exec hook this is a posix_spawn: the daemon's memory is not copied.
        let mut child = command.spawn().map_err(ShimError::Spawn)?;
        // Reaps it if it ends while we live; dropping the handle does not end it.
        tokio::spawn(async move { child.wait().await.ok() });
        Link::new(ours).map_err(ShimError::Spawn)
    }

    fn cgroup(&self) -> String {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let parent = self.options.cgroup_parent.trim_end_matches('/');
        format!("{parent}/ready-{}-{serial}", std::process::id())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        for link in self.ready().drain(..) {
            link.close();
        }
    }
}

/// How long after a start the pool waits before it makes the next shim, so that the two do not
/// compete for the processor.
const REFILL_DELAY: Duration = Duration::from_millis(3);
/// After a shim could not be made.
const RETRY_DELAY: Duration = Duration::from_secs(5);

/// Keeps the pool filled until the last handle is gone.
async fn keep_filled(pool: Weak<Inner>) {
    loop {
        let Some(inner) = pool.upgrade() else { return };
        // Woken by a taken or dead shim; or looks, now and then, whether anyone still needs it.
        tokio::time::timeout(Duration::from_secs(1), inner.wanted.notified())
            .await
            .ok();
        inner.ready().retain(|link| link.is_open());
        let missing = inner.options.pool_size.saturating_sub(inner.ready().len());
        for _ in 0..missing {
            tokio::time::sleep(REFILL_DELAY).await;
            if fill_one(&inner).await.is_err() {
                tokio::time::sleep(RETRY_DELAY).await;
            }
        }
    }
}

async fn fill_one(inner: &Arc<Inner>) -> Result<(), ShimError> {
    let cgroup = inner.cgroup();
    let link = inner.spawn(Some(&cgroup))?;
    if let Err(error) = link.ready().await {
        link.close();
        return Err(error);
    }
    inner.ready().push(Arc::clone(&link));
    let pool = Arc::downgrade(inner);
    tokio::spawn(async move {
        link.closed().await;
        if let Some(inner) = pool.upgrade() {
            inner.wanted.notify_one();
        }
        if !link.has_launched() {
            // A shim that ended by itself has removed this; one that was killed has not.
            tokio::task::spawn_blocking(move || {
                Cgroup::at(Path::new(&cgroup)).and_then(|cgroup| cgroup.remove())
            })
            .await
            .ok();
        }
    });
    Ok(())
}

fn make_directory(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    DirBuilder::new().mode(0o700).create(directory)
}

fn connect(directory: &Path) -> io::Result<Arc<Link>> {
    let address = SocketAddress::beneath(directory)?;
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    rustix::net::connect(&socket, address.get())?;
    let link = Link::new(socket)?;
    link.set_directory(directory);
    Ok(link)
}
