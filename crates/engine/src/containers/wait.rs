//! wait: until a container does not run, until its next exit, until it is removed.

use super::error::LookupError;
use super::{Containers, View};
use std::sync::Arc;
use tokio::sync::watch;

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WaitCondition {
    /// It does not run (which it may not do already).
    #[default]
    NotRunning,
    /// A run ends after now.
    NextExit,
    /// It is removed.
    Removed,
}

/// A waiter that is in place: what happens from now on is not missed.
#[derive(Debug)]
pub struct Waited {
    condition: WaitCondition,
    exits: u64,
    view: watch::Receiver<Arc<View>>,
}

impl Containers {
    /// Puts a waiter in place.
    ///
    /// # Errors
    /// If there is no such container.
    pub fn wait(&self, reference: &str, condition: WaitCondition) -> Result<Waited, LookupError> {
        let view = self.table.get(reference)?.view.clone();
        let exits = view.borrow().state.exits;
        Ok(Waited {
            condition,
            exits,
            view,
        })
    }
}

impl Waited {
    /// Waits, and returns the last picture; the exit code is in it.
    pub async fn view(mut self) -> Arc<View> {
        let (condition, exits) = (self.condition, self.exits);
        let met = move |view: &Arc<View>| {
            view.removed
                || match condition {
                    WaitCondition::NotRunning => {
                        !view.is_running()
                            && !matches!(
                                view.state.phase,
                                model::lifecycle::Phase::Restarting
                                    | model::lifecycle::Phase::Starting
                            )
                    }
                    WaitCondition::NextExit => view.state.exits > exits,
                    WaitCondition::Removed => false,
                }
        };
        if let Ok(view) = self.view.wait_for(met).await {
            return view.clone();
        }
        // The driver is gone with the daemon; the last picture is all there is.
        self.view.borrow().clone()
    }
}
