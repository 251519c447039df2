//! Draws docker's progress stream: live bars on a terminal, plain lines elsewhere.
//!
//! The stream is one JSON object after another. Lines without an ID are printed as they are; those
//! with one belong to a layer, whose line is redrawn on a terminal and printed once per change of
//! state elsewhere.

use crate::failure::Failure;
use client::wire::Progress;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{self, BufReader, Read, Write};

/// Where progress goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    /// Standard output, as `pull` has it.
    Stdout,
    /// Standard error, as `run` has it.
    Stderr,
    /// Nowhere; errors are still errors.
    Nowhere,
}

/// How progress looks.
enum Screen {
    Bars(Box<Bars>),
    Plain(Plain),
    Nothing,
}

/// Reads a progress stream to its end and draws it.
///
/// # Errors
/// The stream carries an error, breaks, or is no progress stream.
pub(crate) fn draw(stream: impl Read, to: To) -> Result<(), Failure> {
    let mut screen = Screen::open(to);
    let lines = serde_json::Deserializer::from_reader(BufReader::new(stream)).into_iter();
    for line in lines {
        let line: Progress = line.map_err(|error| {
            Failure::new(format!("the daemon's progress stream broke off: {error}"))
        })?;
        if let Some(error) = line.error {
            screen.close();
            return Err(Failure::new(error));
        }
        // Output that is gone does not stop a pull that was asked for.
        screen.show(&line).ok();
    }
    screen.close();
    Ok(())
}

impl Screen {
    fn open(to: To) -> Self {
        match to {
            To::Stdout if crate::terminal::stdout_is_terminal() => {
                Self::Bars(Box::new(Bars::new(ProgressDrawTarget::stdout())))
            }
            To::Stderr if io::IsTerminal::is_terminal(&io::stderr()) => {
                Self::Bars(Box::new(Bars::new(ProgressDrawTarget::stderr())))
            }
            To::Stdout => Self::Plain(Plain::new(Box::new(io::stdout()))),
            To::Stderr => Self::Plain(Plain::new(Box::new(io::stderr()))),
            To::Nowhere => Self::Nothing,
        }
    }

    fn show(&mut self, line: &Progress) -> io::Result<()> {
        match self {
            Self::Bars(bars) => bars.show(line),
            Self::Plain(plain) => plain.show(line),
            Self::Nothing => Ok(()),
        }
    }

    fn close(&mut self) {
        if let Self::Bars(bars) = self {
            bars.close();
        }
    }
}

struct Bars {
    all: MultiProgress,
    by_id: HashMap<String, ProgressBar>,
    counting: ProgressStyle,
    saying: ProgressStyle,
}

impl Bars {
    fn new(target: ProgressDrawTarget) -> Self {
        let style = |template: &str| {
            ProgressStyle::with_template(template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ")
        };
        Self {
            all: MultiProgress::with_draw_target(target),
            by_id: HashMap::new(),
            counting: style(
                "{prefix}: {msg:<17} [{bar:30}] {bytes:>10}/{total_bytes:<10} {bytes_per_sec}",
            ),
            saying: style("{prefix}: {msg}"),
        }
    }

    fn show(&mut self, line: &Progress) -> io::Result<()> {
        // "latest: Pulling from library/ubuntu" names a tag, not a layer.
        if line.id.is_empty() || line.status.starts_with("Pulling from") {
            return self.all.println(text(line));
        }
        let bar = self.by_id.entry(line.id.clone()).or_insert_with(|| {
            self.all
                .add(ProgressBar::no_length())
                .with_prefix(line.id.clone())
        });
        let counts = line.detail.total > 0 && line.detail.units.is_empty();
        bar.set_style(if counts {
            self.counting.clone()
        } else {
            self.saying.clone()
        });
        bar.set_message(line.status.clone());
        if counts {
            bar.set_length(line.detail.total);
            bar.set_position(line.detail.current.min(line.detail.total));
        }
        bar.tick();
        Ok(())
    }

    fn close(&mut self) {
        for bar in self.by_id.values() {
            bar.abandon();
        }
    }
}

struct Plain {
    out: Box<dyn Write>,
    /// What each layer was last said to do.
    said: HashMap<String, String>,
}

impl Plain {
    fn new(out: Box<dyn Write>) -> Self {
        Self {
            out,
            said: HashMap::new(),
        }
    }

    fn show(&mut self, line: &Progress) -> io::Result<()> {
        // Counting belongs to terminals; docker leaves it out as well.
        if line.detail.total > 0 || line.detail.current > 0 {
            return Ok(());
        }
        if !line.id.is_empty() {
            let said = self.said.entry(line.id.clone()).or_default();
            if *said == line.status {
                return Ok(());
            }
            said.clone_from(&line.status);
        }
        writeln!(self.out, "{}", text(line))
    }
}

fn text(line: &Progress) -> String {
    let status = if line.status.is_empty() {
        line.stream.trim_end()
    } else {
        &line.status
    };
    if line.id.is_empty() {
        status.to_owned()
    } else {
        format!("{}: {status}", line.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn plain_lines_leave_the_counting_out() {
        let stream = r#"{"status":"Pulling from library/busybox","id":"latest"}
{"status":"Pulling fs layer","progressDetail":{},"id":"abc"}
{"status":"Downloading","progressDetail":{"current":1,"total":9},"progress":"x","id":"abc"}
{"status":"Download complete","progressDetail":{},"id":"abc"}
{"status":"Download complete","progressDetail":{},"id":"abc"}
{"status":"Digest: sha256:1"}"#;
        let sink = Sink::default();
        let mut plain = Plain::new(Box::new(sink.clone()));
        for line in serde_json::Deserializer::from_str(stream).into_iter() {
            plain.show(&line.unwrap()).unwrap();
        }
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "latest: Pulling from library/busybox\nabc: Pulling fs layer\nabc: Download complete\nDigest: sha256:1\n"
        );
    }

    #[test]
    fn an_error_in_the_stream_is_an_error() {
        let stream = br#"{"status":"x"}{"errorDetail":{"message":"no"},"error":"no"}"#;
        assert_eq!(draw(&stream[..], To::Nowhere), Err(Failure::new("no")));
        assert!(draw(&b"{\"status\""[..], To::Nowhere).is_err());
    }
}
