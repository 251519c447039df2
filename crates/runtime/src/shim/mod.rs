//! The monitor of one container, which outlives the daemon.
