//! stop and restart: the stop signal, then SIGKILL when the patience ends.

use super::driver::Command;
use super::error::VerbError;
use super::{Containers, View, table::Handle};
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
        let stopping = self.tasks.spawn(stop(handle, signal, timeout));
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
            stop(handle.clone(), signal, timeout).await?;
            handle
                .ask(|reply| Command::Start {
                    console_size: None,
                    span: tracing::Span::current(),
                    reply,
                })
                .await??;
            let view = handle.view();
            let mut attributes = super::list::labels(&view.definition);
            attributes.insert("image".to_owned(), view.definition.settings.image.clone());
            attributes.insert("name".to_owned(), view.state.name.to_string());
            let id = handle.id.to_string();
            context
                .events
                .publish("container", "restart", id, attributes);
            Ok(())
        });
        restarting
            .await
            .unwrap_or_else(|_| Err(VerbError::Invalid("the daemon is ending".to_owned())))
    }
}

async fn stop(
    handle: Handle,
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
    send(&handle, signal).await?;
    if !ended(&handle, timeout).await {
        send(&handle, Signal::KILL).await?;
        if !ended(&handle, KILL_TIMEOUT).await {
            return Err(VerbError::Invalid(format!(
                "container {} does not end, even after SIGKILL",
                handle.id
            )));
        }
    }
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
