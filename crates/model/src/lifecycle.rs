//! A container's life, as a pure state machine, and what a returning daemon makes of what it finds.
//!
//! ```text
//!            Start            Started              Exit(Stay)
//!  Created ────────▶ Starting ───────▶ Running ─────────────▶ Exited
//!     ▲                 │ StartFailed   │  ▲ Due               │  │
//!     └─(never ran)─────┴───────────────│──┴── Restarting ◀────┘  │ Start: Starting
//!                                       │ Exit(Restart) ▲         │
//!                                       └───────────────┘         ▼
//!                      Remove, or Exit(Remove) ───────────▶  Removing
//! ```
//!
//! The engine's driver asks [`step`] what an input means, writes the next phase down, carries the
//! actions out and feeds what happened back in. Nothing here knows time, disks or processes.

use crate::settings::RestartPolicy;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Made, and never started with success.
    #[default]
    Created,
    /// The intent to start is written; its resources may exist.
    Starting,
    /// Its init process runs.
    Running {
        /// Its processes are frozen.
        paused: bool,
        /// A user asked it to end, so no restart policy brings it back.
        stopping: bool,
    },
    /// Its init process ended, and the restart policy will start it again.
    Restarting,
    /// Its init process ended.
    Exited,
    /// It is being deleted; nothing brings it back.
    Removing,
}

impl Phase {
    /// True while there is an init process.
    #[must_use]
    pub const fn has_process(self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// What happens to a container: wishes of users, and facts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// A user, or the restart policy at the daemon's start, wants it to run.
    Start,
    /// Fact: the init process executes.
    Started,
    /// Fact: the start failed and everything is undone.
    StartFailed,
    /// A user wants it to end; the signals follow.
    Stop,
    /// A user sends a signal.
    Signal {
        /// The signal cannot be survived, or is the stop signal.
        ends: bool,
    },
    /// A user wants it frozen.
    Pause,
    /// A user wants it thawed.
    Unpause,
    /// Fact: the init process ended.
    Exit(AfterExit),
    /// Fact: the restart's delay is over.
    Due,
    /// A user wants it gone.
    Remove {
        /// Also if it runs.
        force: bool,
    },
}

/// What an exit leads to, by [`after_exit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterExit {
    /// It stays, exited.
    Stay,
    /// It starts again after a delay.
    Restart,
    /// It is removed (`--rm`).
    Remove,
}

/// What the driver has to do, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Prepare, launch, report `Started` or `StartFailed`.
    Launch,
    /// Deliver the signal.
    Signal,
    /// Freeze its cgroup.
    Freeze,
    /// Thaw its cgroup.
    Thaw,
    /// Kill its processes and wait for the exit.
    Kill,
    /// Let go of network, mounts and shim.
    Release,
    /// Start the timer of the restart.
    ScheduleRestart,
    /// Stop the timer of the restart.
    CancelRestart,
    /// Delete its record and files.
    Delete,
}

/// The answer of [`step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Write `next` down, then do the actions.
    Accept {
        /// The phase from now on.
        next: Phase,
        /// What to do.
        actions: &'static [Action],
    },
    /// It is so already; nothing to do.
    AlreadySo,
    /// Not in this phase.
    Refuse(Refusal),
}

/// Why an input does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It must run for this.
    #[error("is not running")]
    NotRunning,
    /// It must not run for this.
    #[error("is running")]
    Running,
    /// It must not be paused for this.
    #[error("is paused")]
    Paused,
    /// It is not paused.
    #[error("is not paused")]
    NotPaused,
    /// It is between two runs.
    #[error("is restarting, wait until the container is running")]
    Restarting,
    /// It is being removed.
    #[error("is marked for removal")]
    Removing,
    /// A fact that cannot be, which is a fault of the engine's.
    #[error("cannot have come to this")]
    Impossible,
}

/// Decides what an input means in a phase.
#[must_use]
pub fn step(phase: Phase, input: Input) -> Step {
    match input {
        Input::Start => start(phase),
        Input::Started => match phase {
            Phase::Starting => accept(RUNNING, &[]),
            Phase::Created
            | Phase::Running { .. }
            | Phase::Restarting
            | Phase::Exited
            | Phase::Removing => Step::Refuse(Refusal::Impossible),
        },
        Input::StartFailed => match phase {
            Phase::Starting => accept(Phase::Exited, &[]),
            Phase::Created
            | Phase::Running { .. }
            | Phase::Restarting
            | Phase::Exited
            | Phase::Removing => Step::Refuse(Refusal::Impossible),
        },
        Input::Stop => stop(phase),
        Input::Signal { ends } => signal(phase, ends),
        Input::Pause => pause(phase),
        Input::Unpause => unpause(phase),
        Input::Exit(after) => exit(phase, after),
        Input::Due => match phase {
            Phase::Restarting => accept(Phase::Starting, &[Action::Launch]),
            Phase::Created
            | Phase::Starting
            | Phase::Running { .. }
            | Phase::Exited
            | Phase::Removing => Step::AlreadySo,
        },
        Input::Remove { force } => remove(phase, force),
    }
}

const RUNNING: Phase = Phase::Running {
    paused: false,
    stopping: false,
};

const fn accept(next: Phase, actions: &'static [Action]) -> Step {
    Step::Accept { next, actions }
}

fn start(phase: Phase) -> Step {
    match phase {
        Phase::Created | Phase::Exited => accept(Phase::Starting, &[Action::Launch]),
        Phase::Restarting => accept(Phase::Starting, &[Action::CancelRestart, Action::Launch]),
        Phase::Running { paused: true, .. } => Step::Refuse(Refusal::Paused),
        Phase::Starting | Phase::Running { paused: false, .. } => Step::AlreadySo,
        Phase::Removing => Step::Refuse(Refusal::Removing),
    }
}

fn stop(phase: Phase) -> Step {
    match phase {
        Phase::Running { paused, .. } => accept(
            Phase::Running {
                paused,
                stopping: true,
            },
            &[],
        ),
        Phase::Restarting => accept(Phase::Exited, &[Action::CancelRestart]),
        Phase::Created | Phase::Starting | Phase::Exited => Step::AlreadySo,
        Phase::Removing => Step::Refuse(Refusal::Removing),
    }
}

fn signal(phase: Phase, ends: bool) -> Step {
    match phase {
        Phase::Running { paused, stopping } => accept(
            Phase::Running {
                paused,
                stopping: stopping || ends,
            },
            &[Action::Signal],
        ),
        // Docker counts it as running: what ends a process ends its coming back, too.
        Phase::Restarting if ends => accept(Phase::Exited, &[Action::CancelRestart]),
        Phase::Restarting => Step::AlreadySo,
        Phase::Created | Phase::Starting | Phase::Exited => Step::Refuse(Refusal::NotRunning),
        Phase::Removing => Step::Refuse(Refusal::Removing),
    }
}

fn pause(phase: Phase) -> Step {
    match phase {
        Phase::Running { paused: true, .. } => Step::Refuse(Refusal::Paused),
        Phase::Running {
            paused: false,
            stopping,
        } => accept(
            Phase::Running {
                paused: true,
                stopping,
            },
            &[Action::Freeze],
        ),
        Phase::Restarting => Step::Refuse(Refusal::Restarting),
        Phase::Created | Phase::Starting | Phase::Exited => Step::Refuse(Refusal::NotRunning),
        Phase::Removing => Step::Refuse(Refusal::Removing),
    }
}

fn unpause(phase: Phase) -> Step {
    match phase {
        Phase::Running {
            paused: true,
            stopping,
        } => accept(
            Phase::Running {
                paused: false,
                stopping,
            },
            &[Action::Thaw],
        ),
        Phase::Running { paused: false, .. } => Step::Refuse(Refusal::NotPaused),
        Phase::Created | Phase::Starting | Phase::Restarting | Phase::Exited => {
            Step::Refuse(Refusal::NotPaused)
        }
        Phase::Removing => Step::Refuse(Refusal::Removing),
    }
}

fn exit(phase: Phase, after: AfterExit) -> Step {
    match phase {
        Phase::Running { .. } => match after {
            AfterExit::Stay => accept(Phase::Exited, &[Action::Release]),
            AfterExit::Restart => accept(
                Phase::Restarting,
                &[Action::Release, Action::ScheduleRestart],
            ),
            AfterExit::Remove => accept(Phase::Removing, &[Action::Release, Action::Delete]),
        },
        Phase::Removing => accept(Phase::Removing, &[Action::Release, Action::Delete]),
        Phase::Created | Phase::Starting | Phase::Restarting | Phase::Exited => {
            Step::Refuse(Refusal::Impossible)
        }
    }
}

fn remove(phase: Phase, force: bool) -> Step {
    match phase {
        Phase::Created | Phase::Exited => accept(Phase::Removing, &[Action::Delete]),
        Phase::Restarting => accept(Phase::Removing, &[Action::CancelRestart, Action::Delete]),
        // The exit that follows deletes.
        Phase::Running { .. } if force => accept(Phase::Removing, &[Action::Kill]),
        Phase::Running { paused: true, .. } => Step::Refuse(Refusal::Paused),
        Phase::Running { paused: false, .. } | Phase::Starting => Step::Refuse(Refusal::Running),
        Phase::Removing => Step::AlreadySo,
    }
}

/// How a run ended, as far as it matters for what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    /// `--rm`.
    pub auto_remove: bool,
    /// A user asked for the end.
    pub stopping: bool,
    /// Exit code of the init process.
    pub exit_code: i32,
    /// Restarts so far.
    pub restarts: u32,
}

/// Decides what follows an exit.
#[must_use]
pub fn after_exit(policy: RestartPolicy, ending: Ending) -> AfterExit {
    let again = match policy {
        RestartPolicy::No => false,
        RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
        RestartPolicy::OnFailure { max_retries } => {
            ending.exit_code != 0 && (max_retries == 0 || ending.restarts < max_retries)
        }
    };
    if again && !ending.stopping {
        AfterExit::Restart
    } else if ending.auto_remove {
        AfterExit::Remove
    } else {
        AfterExit::Stay
    }
}

/// First delay of a restart.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// Longest delay of a restart.
const LAST_DELAY: Duration = Duration::from_secs(60);
/// A run this long makes the next delay a first one again.
const HEALTHY_RUN: Duration = Duration::from_secs(10);

/// Says how long to wait before the next restart: doubling, as docker does.
#[must_use]
pub fn restart_delay(previous: Option<Duration>, ran_for: Duration) -> Duration {
    match previous {
        Some(previous) if ran_for < HEALTHY_RUN => previous.saturating_mul(2).min(LAST_DELAY),
        _ => FIRST_DELAY,
    }
}

/// What a daemon that comes back knows of one container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evidence {
    /// What the record says.
    pub recorded: Phase,
    /// What is found of its shim.
    pub found: Found,
    /// `RestartPolicy`.
    pub policy: RestartPolicy,
    /// `--rm`.
    pub auto_remove: bool,
    /// A user ended its last run.
    pub user_stopped: bool,
    /// How its last recorded run ended.
    pub exit_code: i32,
}

/// What is found of a container's shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It answers, and its init process runs.
    Running,
    /// It left an exit record.
    Exited {
        /// The exit code in it.
        exit_code: i32,
    },
    /// There is no trace of it.
    Gone,
}

/// What to do about one container when the daemon comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing runs and nothing should.
    Leave,
    /// It runs: take it over.
    Adopt,
    /// It ended meanwhile: note the exit, then what [`after_exit`] says.
    NoteExit {
        /// Its exit code; 255 if nobody saw it end, as docker says.
        exit_code: i32,
    },
    /// A start was interrupted: undo what it left.
    UndoStart,
    /// It does not run, and its policy says it should.
    Start,
    /// A removal was interrupted, or its `--rm` is due: finish it, killing what runs.
    Remove,
}

/// Exit code of a container whose end nobody saw.
pub const LOST_EXIT_CODE: i32 = 255;

/// Decides what to do about one container when the daemon comes back.
#[must_use]
pub fn recover(evidence: Evidence) -> Recovery {
    match (evidence.recorded, evidence.found) {
        (Phase::Removing, _) => Recovery::Remove,
        (_, Found::Running) => Recovery::Adopt,
        (Phase::Running { .. } | Phase::Starting, Found::Exited { exit_code }) => {
            Recovery::NoteExit { exit_code }
        }
        (Phase::Running { .. }, Found::Gone) => Recovery::NoteExit {
            exit_code: LOST_EXIT_CODE,
        },
        (Phase::Starting, Found::Gone) if evidence.auto_remove => Recovery::Remove,
        (Phase::Starting, Found::Gone) => Recovery::UndoStart,
        (Phase::Restarting, Found::Exited { .. } | Found::Gone) => Recovery::Start,
        (Phase::Exited, Found::Exited { .. } | Found::Gone) => match evidence.policy {
            RestartPolicy::Always => Recovery::Start,
            RestartPolicy::UnlessStopped if !evidence.user_stopped => Recovery::Start,
            RestartPolicy::OnFailure { .. } | RestartPolicy::UnlessStopped | RestartPolicy::No => {
                if evidence.auto_remove {
                    Recovery::Remove
                } else {
                    Recovery::Leave
                }
            }
        },
        (Phase::Created, Found::Exited { .. } | Found::Gone) => Recovery::Leave,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_after() -> impl Strategy<Value = AfterExit> {
        prop_oneof![
            Just(AfterExit::Stay),
            Just(AfterExit::Restart),
            Just(AfterExit::Remove)
        ]
    }

    fn any_wish() -> impl Strategy<Value = Input> {
        prop_oneof![
            Just(Input::Start),
            Just(Input::Stop),
            any::<bool>().prop_map(|ends| Input::Signal { ends }),
            Just(Input::Pause),
            Just(Input::Unpause),
            Just(Input::Due),
            any::<bool>().prop_map(|force| Input::Remove { force }),
        ]
    }

    /// What the world of one container holds, as the driver and the kernel would have it.
    #[derive(Debug, Default)]
    #[expect(clippy::struct_excessive_bools, reason = "independent facts")]
    struct World {
        process: bool,
        frozen: bool,
        resources: bool,
        timer: bool,
        deleted: bool,
    }

    impl World {
        fn apply(&mut self, action: Action) {
            match action {
                Action::Launch => {
                    assert!(!self.process && !self.resources, "two launches");
                    self.resources = true;
                }
                Action::Signal | Action::Kill => assert!(self.process, "no process to signal"),
                Action::Freeze => self.frozen = true,
                Action::Thaw => self.frozen = false,
                Action::Release => self.resources = false,
                Action::ScheduleRestart => self.timer = true,
                Action::CancelRestart => {
                    assert!(self.timer, "no timer to cancel");
                    self.timer = false;
                }
                Action::Delete => {
                    assert!(!self.process && !self.resources, "deleted while it runs");
                    assert!(!self.deleted, "deleted twice");
                    self.deleted = true;
                }
            }
        }
    }

    proptest! {
        /// Drives the machine against a model of the world: whatever users wish and however
        /// starts and exits fall between, phase and world agree.
        #[test]
        fn phase_and_world_agree(
            wishes in proptest::collection::vec((any_wish(), any::<bool>(), any_after()), 1..60)
        ) {
            let mut phase = Phase::Created;
            let mut world = World::default();
            for (wish, luck, after) in wishes {
                let mut inputs = vec![wish];
                while let Some(input) = inputs.pop() {
                    if input == Input::Due && phase == Phase::Restarting {
                        world.timer = false;
                    }
                    let Step::Accept { next, actions } = step(phase, input) else { continue };
                    if world.deleted { prop_assert!(false, "life after deletion: {input:?}"); }
                    phase = next;
                    for action in actions {
                        world.apply(*action);
                        match action {
                            Action::Launch if luck => {
                                world.process = true;
                                inputs.push(Input::Started);
                            }
                            Action::Launch => {
                                world.resources = false;
                                inputs.push(Input::StartFailed);
                            }
                            Action::Kill => {
                                world.process = false;
                                world.frozen = false;
                                inputs.push(Input::Exit(after));
                            }
                            Action::Signal if luck => {
                                world.process = false;
                                world.frozen = false;
                                inputs.push(Input::Exit(after));
                            }
                            Action::Signal
                            | Action::Freeze
                            | Action::Thaw
                            | Action::Release
                            | Action::ScheduleRestart
                            | Action::CancelRestart
                            | Action::Delete => {}
                        }
                    }
                }
                prop_assert_eq!(phase.has_process(), world.process);
                prop_assert_eq!(phase == Phase::Restarting, world.timer);
                prop_assert_eq!(matches!(phase, Phase::Running { paused: true, .. }), world.frozen);
                prop_assert_eq!(phase == Phase::Removing, world.deleted);
                if world.deleted { break; }
            }
        }

        #[test]
        fn delays_grow_and_are_bounded(runs in proptest::collection::vec(0u64..20, 1..40)) {
            let mut previous = None;
            for seconds in runs {
                let delay = restart_delay(previous, Duration::from_secs(seconds));
                prop_assert!((FIRST_DELAY..=LAST_DELAY).contains(&delay));
                if seconds >= 10 { prop_assert_eq!(delay, FIRST_DELAY); }
                previous = Some(delay);
            }
        }
    }

    #[test]
    fn exits() {
        let on_failure = |max_retries| RestartPolicy::OnFailure { max_retries };
        let check = |policy, auto_remove, stopping, exit_code, restarts, expected| {
            let ending = Ending {
                auto_remove,
                stopping,
                exit_code,
                restarts,
            };
            assert_eq!(after_exit(policy, ending), expected);
        };
        check(RestartPolicy::No, false, false, 1, 0, AfterExit::Stay);
        check(RestartPolicy::No, true, false, 1, 0, AfterExit::Remove);
        check(
            RestartPolicy::Always,
            false,
            false,
            0,
            9,
            AfterExit::Restart,
        );
        check(RestartPolicy::Always, false, true, 0, 9, AfterExit::Stay);
        check(on_failure(0), false, false, 0, 0, AfterExit::Stay);
        check(on_failure(0), false, false, 1, 99, AfterExit::Restart);
        check(on_failure(3), false, false, 1, 2, AfterExit::Restart);
        check(on_failure(3), false, false, 1, 3, AfterExit::Stay);
    }

    #[test]
    fn recoveries() {
        let base = Evidence {
            recorded: RUNNING,
            found: Found::Gone,
            policy: RestartPolicy::No,
            auto_remove: false,
            user_stopped: false,
            exit_code: 0,
        };
        let check = |evidence, expected| assert_eq!(recover(evidence), expected, "{evidence:?}");
        let recorded = |recorded| Evidence { recorded, ..base };
        check(base, Recovery::NoteExit { exit_code: 255 });
        let found = Found::Running;
        check(Evidence { found, ..base }, Recovery::Adopt);
        check(
            Evidence {
                found,
                ..recorded(Phase::Starting)
            },
            Recovery::Adopt,
        );
        check(
            Evidence {
                found,
                ..recorded(Phase::Removing)
            },
            Recovery::Remove,
        );
        let found = Found::Exited { exit_code: 3 };
        check(
            Evidence { found, ..base },
            Recovery::NoteExit { exit_code: 3 },
        );
        check(recorded(Phase::Created), Recovery::Leave);
        check(recorded(Phase::Starting), Recovery::UndoStart);
        check(recorded(Phase::Restarting), Recovery::Start);
        check(recorded(Phase::Exited), Recovery::Leave);
        let rm = Evidence {
            auto_remove: true,
            ..recorded(Phase::Exited)
        };
        check(rm, Recovery::Remove);
        let policy = RestartPolicy::UnlessStopped;
        let stopped = Evidence {
            policy,
            user_stopped: true,
            ..recorded(Phase::Exited)
        };
        check(stopped, Recovery::Leave);
        check(
            Evidence {
                user_stopped: false,
                ..stopped
            },
            Recovery::Start,
        );
        let policy = RestartPolicy::Always;
        check(Evidence { policy, ..stopped }, Recovery::Start);
    }
}
