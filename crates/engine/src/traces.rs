//! Steps of traced requests, kept until the client that asked for them fetches them.
//!
//! Whether anything is traced is one atomic load, so that the others pay nothing.

use model::trace::Step;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Traces kept; a client that never fetches its own is forgotten.
const MAX_TRACES: usize = 16;
/// Steps of one trace; a pull of many layers has some hundreds.
const MAX_STEPS: usize = 4096;

/// The handle; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Traces {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    active: AtomicUsize,
    kept: Mutex<VecDeque<(String, Vec<Step>)>>,
}

/// A traced request that is being answered.
#[derive(Debug)]
pub struct Traced {
    inner: Arc<Inner>,
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.inner.active.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Traces {
    /// Takes a trace's ID out of a request's header: 16 hex digits.
    #[must_use]
    pub fn parse_id(text: &str) -> Option<&str> {
        let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        hex.then_some(text)
    }

    /// Says that steps of a trace are about to come.
    #[must_use]
    pub fn enter(&self, id: &str) -> Traced {
        self.inner.active.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept();
        if !kept.iter().any(|(known, _)| known == id) {
            if kept.len() == MAX_TRACES {
                kept.pop_front();
            }
            kept.push_back((id.to_owned(), Vec::new()));
        }
        Traced {
            inner: self.inner.clone(),
        }
    }

    /// True while some traced request is being answered.
    #[must_use]
    pub fn active(&self) -> bool {
        self.inner.active.load(Ordering::Relaxed) > 0
    }

    /// Adds steps to a trace that is kept.
    pub fn add(&self, id: &str, steps: impl IntoIterator<Item = Step>) {
        let mut kept = self.kept();
        if let Some((_, known)) = kept.iter_mut().find(|(known, _)| known == id) {
            let room = MAX_STEPS.saturating_sub(known.len());
            known.extend(steps.into_iter().take(room));
        }
    }

    /// Returns a trace, and forgets it.
    #[must_use]
    pub fn take(&self, id: &str) -> Option<Vec<Step>> {
        let mut kept = self.kept();
        let at = kept.iter().position(|(known, _)| known == id)?;
        kept.remove(at).map(|(_, steps)| steps)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, VecDeque<(String, Vec<Step>)>> {
        self.inner
            .kept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::trace::Actor;

    #[test]
    fn kept_until_fetched_and_bounded() {
        let traces = Traces::default();
        let step = Step {
            actor: Actor::Daemon,
            name: "x".to_owned(),
            start_ns: 1,
            duration_ns: 1,
            detail: None,
        };
        let traced = traces.enter("a");
        assert!(traces.active());
        traces.add("a", vec![step.clone(); MAX_STEPS + 1]);
        traces.add("unknown", [step]);
        drop(traced);
        assert!(!traces.active());
        assert_eq!(traces.take("a").map(|steps| steps.len()), Some(MAX_STEPS));
        assert_eq!(traces.take("a"), None);
        assert_eq!(traces.take("unknown"), None);
        for id in 0..=MAX_TRACES {
            drop(traces.enter(&id.to_string()));
        }
        assert_eq!(traces.take("0"), None);
        assert_eq!(traces.take("1"), Some(Vec::new()));
    }
}
