//! stop and restart: the stop signal, then SIGKILL when the patience ends.

use super::driver::Command;
use super::error::VerbError;
use super::{Containers, View, table::Handle};
use crate::Context;
use model::Signal;
use model::lifecycle::Phase;
use std::sync::Arc;
use std::time::Duration;

/// Docker's patience.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// After SIGKILL only a process in an uninterruptible wait is still there.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

impl Containers {
    /// Stops a container; false if it does not run. Goes on if the caller goes away.
    ///
    /// # Errors
    /// If it cannot be signalled.
    pub async fn stop(
        &self,
        reference: &str,
        signal: Option<Signal>,
        timeout: Option<Duration>,
    ) -> Result<bool, VerbError> {
        let handle = self.table.get(reference)?;
        let context = self.context.clone();
        let stopping = self
            .tasks
            .spawn(async move { stop(&context, &handle, signal, timeout).await });
        stopping
            .await
            .unwrap_or_else(|_| Err(VerbError::Invalid("the daemon is ending".to_owned())))
    }

    /// Stops and starts a container.
    ///
    /// # Errors
    /// If either fails.
    pub async fn restart(
        &self,
        reference: &str,
        signal: Option<Signal>,
        timeout: Option<Duration>,
    ) -> Result<(), VerbError> {
        let handle = self.table.get(reference)?;
        let context = self.context.clone();
        let restarting = self.tasks.spawn(async move {
            stop(&context, &handle, signal, timeout).await?;
            handle
                .ask(|reply| Command::Start {
                    console_size: None,
                    span: tracing::Span::current(),
                    reply,
                })
                .await??;
            tell(&context, &handle, "restart");
            Ok(())
        });
        restarting
            .await
            .unwrap_or_else(|_| Err(VerbError::Invalid("the daemon is ending".to_owned())))
    }
}

/// Publishes what happened to a container.
fn tell(context: &Context, handle: &Handle, action: &str) {
    let view = handle.view();
    super::driver::publish(context, &view.definition, &view.state, action, None);
}

async fn stop(
    context: &Context,
    handle: &Handle,
    signal: Option<Signal>,
    timeout: Option<Duration>,
) -> Result<bool, VerbError> {
    if !handle.ask(Command::Stopping).await?? {
        return Ok(false);
    }
    let view = handle.view();
    let definition = &view.definition;
    let signal = signal.unwrap_or(definition.stop_signal);
    let timeout = timeout
        .or(definition.settings.stop_timeout)
        .unwrap_or(STOP_TIMEOUT);
    // A frozen process takes no signal but SIGKILL.
    if matches!(view.state.phase, Phase::Running { paused: true, .. }) {
        let pause = false;
        handle
            .ask(|reply| Command::Freeze { pause, reply })
            .await??;
    }
    send(handle, signal).await?;
    if !ended(handle, timeout).await {
        send(handle, Signal::KILL).await?;
        if !ended(handle, KILL_TIMEOUT).await {
            return Err(VerbError::Invalid(format!(
                "container {} does not end, even after SIGKILL",
                handle.id
            )));
        }
    }
    tell(context, handle, "stop");
    Ok(true)
}

async fn send(handle: &Handle, signal: Signal) -> Result<(), VerbError> {
    match handle.ask(|reply| Command::Signal { signal, reply }).await {
        // It has ended by itself meanwhile, or even gone.
        Ok(Err(VerbError::Refused(_))) | Err(_) => Ok(()),
        Ok(sent) => sent,
    }
}

/// Waits until the run is over; false if it is not in time.
pub(super) async fn ended(handle: &Handle, patience: Duration) -> bool {
    let mut view = handle.view.clone();
    let over = |view: &Arc<View>| view.removed || !view.is_running();
    let ended = view.wait_for(over);
    tokio::time::timeout(patience, ended).await.is_ok()
}
