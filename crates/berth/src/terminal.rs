//! The user's terminal: is it one, how large, raw mode, and its way back.
//!
//! Raw mode is undone on every exit path: by the guard, by the panic hook (a release build aborts
//! on panic, so unwinding is not enough) and by the signal thread before a signal ends us.

use rustix::termios::{self, OptionalActions, Termios};
use std::io::{self, IsTerminal};
use std::sync::Mutex;

/// What the terminal was like before raw mode; here so that any thread can put it back.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Says whether stdin is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Says whether stdout is a terminal.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Returns rows and columns of the terminal at stdout (or stdin), if it knows them.
pub(crate) fn size() -> Option<[u16; 2]> {
    let size = termios::tcgetwinsize(io::stdout())
        .or_else(|_| termios::tcgetwinsize(io::stdin()))
        .ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some([size.ws_row, size.ws_col])
}

/// Raw mode of the terminal at stdin, for as long as this lives.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Enters raw mode.
    ///
    /// # Errors
    /// Stdin is no terminal, or refuses.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        if let Ok(mut slot) = BEFORE.lock() {
            *slot = Some(before);
        }
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was; harmless if it is.
pub(crate) fn restore() {
    let before = match BEFORE.lock() {
        Ok(mut slot) => slot.take(),
        Err(poisoned) => poisoned.into_inner().take(),
    };
    if let Some(before) = before {
        // Flushing input would lose what the user typed ahead; a terminal that is gone needs
        // no restoring.
        termios::tcsetattr(io::stdin(), OptionalActions::Drain, &before).ok();
    }
}
