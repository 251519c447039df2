//! The containers' control groups, as the daemon needs them: where they are, freezing, listing.

use crate::Context;
use model::ContainerId;
use runtime::Cgroup;
use std::io;
use std::path::PathBuf;

/// Returns a container's control group, relative to each hierarchy's root.
pub(crate) fn path(context: &Context, id: &ContainerId) -> PathBuf {
    PathBuf::from(&context.options.cgroup_parent).join(id.as_str())
}

/// Freezes or thaws all processes.
pub(crate) fn freeze(context: &Context, id: &ContainerId, freeze: bool) -> io::Result<()> {
    let cgroup = Cgroup::at(&path(context, id)).map_err(io::Error::other)?;
    let done = if freeze {
        cgroup.freeze()
    } else {
        cgroup.thaw()
    };
    done.map_err(io::Error::other)
}

/// Ends what a dead shim left behind. A group that is gone is fine.
pub(crate) fn sweep(context: &Context, id: &ContainerId) {
    let Ok(cgroup) = Cgroup::at(&path(context, id)) else {
        return;
    };
    if !cgroup.exists() {
        return;
    }
    if let Err(error) = cgroup.kill().and_then(|()| cgroup.remove()) {
        tracing::warn!(container = %id, %error, "sweep the control group");
    }
}

/// Returns the process IDs on the host; none if the group is gone.
pub(crate) fn processes(context: &Context, id: &ContainerId) -> Vec<i32> {
    let cgroup = Cgroup::at(&path(context, id)).ok();
    cgroup
        .and_then(|cgroup| cgroup.procs().ok())
        .unwrap_or_default()
}
