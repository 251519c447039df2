//! What happened, as docker's `events` tells it: a bounded history and a live channel.
//!
//! Publishing never waits; a reader that falls behind loses the oldest and is told so.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::broadcast;

/// How many events are kept for `since`, and how far a live reader may fall behind: docker's 256
/// is short for a machine that starts thousands.
const HISTORY: usize = 1024;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `container`, `image`, `network`, `volume` or `daemon`.
    pub kind: &'static str,
    /// `create`, `start`, `die`, `exec_create: sh`, …
    pub action: String,
    /// ID of what it happened to.
    pub id: String,
    /// `name`, `image`, `exitCode`, labels, …
    pub attributes: BTreeMap<String, String>,
    /// When, in nanoseconds since 1970.
    pub at_unix_ns: i64,
}

/// The handle; cheap to clone.
#[derive(Debug, Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    history: Mutex<VecDeque<Arc<Event>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl Default for Events {
    fn default() -> Self {
        let (live, _) = broadcast::channel(HISTORY);
        let history = Mutex::new(VecDeque::with_capacity(HISTORY));
        Self {
            inner: Arc::new(Inner { history, live }),
        }
    }
}

impl Events {
    /// Tells everyone.
    pub fn publish(
        &self,
        kind: &'static str,
        action: impl Into<String>,
        id: impl Into<String>,
        attributes: BTreeMap<String, String>,
    ) {
        let event = Arc::new(Event {
            kind,
            action: action.into(),
            id: id.into(),
            attributes,
            at_unix_ns: crate::clock::unix_ns(),
        });
        let mut history = self.history();
        if history.len() == HISTORY {
            history.pop_front();
        }
        history.push_back(event.clone());
        // Sent under the lock, so that a subscriber sees each event once. No receiver is fine.
        let _nobody_listens = self.inner.live.send(event);
    }

    /// Returns what happened since a time, and a receiver of what follows it.
    #[must_use]
    pub fn subscribe(
        &self,
        since_unix_ns: Option<i64>,
    ) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        let history = self.history();
        let past = match since_unix_ns {
            Some(since) => history
                .iter()
                .filter(|event| event.at_unix_ns >= since)
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        (past, self.inner.live.subscribe())
    }

    fn history(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Event>>> {
        self.inner
            .history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_is_bounded_and_nothing_falls_between() {
        let events = Events::default();
        for number in 0..HISTORY + 5 {
            events.publish("container", "start", number.to_string(), BTreeMap::new());
        }
        let (past, mut live) = events.subscribe(Some(0));
        events.publish("container", "die", "last", BTreeMap::new());
        assert_eq!(past.len(), HISTORY);
        assert_eq!(past[0].id, "5");
        assert_eq!(live.try_recv().unwrap().id, "last");
        live.try_recv().unwrap_err();
    }
}
