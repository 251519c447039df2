//! Images against registries: our small lying one, and the real one.
//!
//! Needs root, for owners and devices in layers. What a machine lacks is printed as a skip.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::format_push_string,
    reason = "helpers of tests fail as tests do, and a skip is printed"
)]

mod fixtures;
mod lying;
mod real;
#[expect(dead_code, reason = "the registry crate's tests use the rest")]
#[path = "../../../registry/tests/support/mod.rs"]
mod support;

use engine::Events;
use engine::images::{Credentials, Images, PullError, PullEvent, Pulled};
use model::{Platform, Reference};
use registry::RegistryOptions;
use std::path::Path;
use std::time::Duration;
use store::Store;
use tempfile::TempDir;
use tokio::sync::mpsc;

/// Pauses long enough to be reported.
fn options() -> RegistryOptions {
    RegistryOptions {
        retry_pause: Duration::from_millis(50),
        ..support::options()
    }
}

/// A data root with images opened on it.
struct Machine {
    images: Images,
    store: Store,
    root: TempDir,
}

impl Machine {
    /// Makes one, in a network namespace of the test's own: whatever threads and processes the
    /// test starts from here on are in it. Says so if it cannot.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("SKIPPED: needs root");
            return None;
        }
        sys::netlink::unshare_network_namespace().unwrap();
        let mut links = network::Links::open().unwrap();
        links.set_up(network::LOOPBACK).unwrap();
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        Some(Self {
            images: Images::open(&store, options(), Events::default()).unwrap(),
            store,
            root,
        })
    }

    /// Opens the images again, as a daemon that starts.
    fn reopened(self) -> Self {
        let Self {
            images,
            store,
            root,
        } = self;
        drop((images, store));
        let store = Store::open(root.path()).unwrap();
        Self {
            images: Images::open(&store, options(), Events::default()).unwrap(),
            store,
            root,
        }
    }

    async fn pull(&self, reference: &Reference) -> Result<Pulled, PullError> {
        self.pull_as(reference, None, Credentials::Anonymous)
            .await
            .0
    }

    /// Pulls, and returns what was told on the way.
    async fn pull_as(
        &self,
        reference: &Reference,
        platform: Option<Platform>,
        credentials: Credentials,
    ) -> (Result<Pulled, PullError>, Vec<PullEvent>) {
        let (sender, mut receiver) = mpsc::channel(16);
        let listening = tokio::spawn(async move {
            let mut events = Vec::new();
            while let Some(event) = receiver.recv().await {
                events.push(event);
            }
            events
        });
        let pulled = self
            .images
            .pull(reference, platform, credentials, &sender)
            .await;
        drop(sender);
        (pulled, listening.await.unwrap())
    }

    fn count(&self, dir: &str) -> usize {
        entries(&self.root.path().join(dir))
    }

    /// No record, no layer, no half-made thing; partial downloads only if `partial`.
    #[track_caller]
    fn assert_nothing_half_made(&self, partial: usize) {
        assert_eq!(self.count("records/images"), 0, "records");
        assert_eq!(self.count("layers/unpacking"), 0, "half-made layers");
        assert_eq!(self.count("content/ingest"), partial, "partial blobs");
    }
}

fn entries(dir: &Path) -> usize {
    std::fs::read_dir(dir).map_or(0, Iterator::count)
}

/// The error and its causes in one line, as users see it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
