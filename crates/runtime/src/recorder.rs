//! Recording the steps of a start, when someone wants to see them.

use model::trace::{Actor, Step};

/// Collects steps; does nothing and costs nothing when off.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    on: bool,
    steps: Vec<Step>,
}

impl Recorder {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            steps: Vec::new(),
        }
    }

    /// When a step starts; give it back to [`Recorder::end`].
    pub(crate) fn start(&self) -> u64 {
        if self.on {
            sys::process::monotonic_ns()
        } else {
            0
        }
    }

    /// Records the step that started at `start_ns`.
    pub(crate) fn end(&mut self, start_ns: u64, actor: Actor, name: &str, detail: Option<String>) {
        if self.on {
            let duration_ns = sys::process::monotonic_ns().saturating_sub(start_ns);
            self.steps.push(Step {
                actor,
                name: name.to_owned(),
                start_ns,
                duration_ns,
                detail,
            });
        }
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    pub(crate) fn extend(&mut self, steps: Vec<Step>) {
        self.steps.extend(steps);
    }
}
