//! Steps as a waterfall in text: who, what, when, how long.

use model::trace::{Actor, Step};
use std::fmt::Write as _;

const MIN_BAR: usize = 16;
const MAX_NAME: usize = 44;
/// Actor, gaps and the two columns of numbers.
const FIXED: usize = 10 + 2 + 11 + 1 + 10 + 2;

/// Draws steps that are sorted by their start.
pub(super) fn render(steps: &[Step], width: usize) -> String {
    let Some(first) = steps.iter().map(|step| step.start_ns).min() else {
        return String::new();
    };
    let end = |step: &Step| step.start_ns + step.duration_ns;
    let last = steps.iter().map(end).max().unwrap_or(first);
    let total = (last - first).max(1);
    let label = |step: &Step| match &step.detail {
        Some(detail) => format!("{} ({detail})", step.name),
        None => step.name.clone(),
    };
    let longest = steps.iter().map(|step| label(step).chars().count()).max();
    let names = longest.unwrap_or_default().min(MAX_NAME);
    let bar = width.saturating_sub(FIXED + names).max(MIN_BAR);
    let mut out = String::new();
    for step in steps {
        let place = |at: u64| {
            usize::try_from(u128::from(at - first) * bar as u128 / u128::from(total)).unwrap_or(bar)
        };
        let from = place(step.start_ns).min(bar - 1);
        let to = place(end(step)).clamp(from + 1, bar);
        let drawn = if step.duration_ns * bar as u64 * 2 < total {
            "▏".to_owned()
        } else {
            "█".repeat(to - from)
        };
        let pad = bar - from - drawn.chars().count();
        // Infallible: the target is a String.
        writeln!(
            out,
            "{:<10}{:<names$}  {:>11} {:>10}  {}{drawn}{}",
            actor(step.actor),
            cut(&label(step), names),
            milliseconds(step.start_ns - first, "+"),
            milliseconds(step.duration_ns, ""),
            " ".repeat(from),
            " ".repeat(pad),
        )
        .ok();
    }
    writeln!(
        out,
        "{:<10}{:<names$}  {:>11} {:>10}",
        "",
        "all of it",
        "",
        milliseconds(total, "")
    )
    .ok();
    // Bars leave spaces behind them.
    let lines: Vec<&str> = out.lines().map(str::trim_end).collect();
    lines.join("\n") + "\n"
}

pub(super) const fn actor(actor: Actor) -> &'static str {
    match actor {
        Actor::Client => "client",
        Actor::Daemon => "daemon",
        Actor::Registry => "registry",
        Actor::Kernel => "kernel",
        Actor::Container => "container",
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}

fn milliseconds(ns: u64, sign: &str) -> String {
    let us = ns / 1000;
    format!("{sign}{}.{:03} ms", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(actor: Actor, name: &str, start_us: u64, duration_us: u64) -> Step {
        Step {
            actor,
            name: name.to_owned(),
            start_ns: 5_000_000 + start_us * 1000,
            duration_ns: duration_us * 1000,
            detail: None,
        }
    }

    #[test]
    fn bars_stand_where_the_time_is() {
        let steps = [
            step(Actor::Client, "all", 0, 1000),
            step(Actor::Daemon, "second half", 500, 500),
            step(Actor::Kernel, "instant", 999, 0),
        ];
        let text = render(&steps, 63);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "client    all            +0.000 ms   1.000 ms  ████████████████",
                "daemon    second half    +0.500 ms   0.500 ms          ████████",
                "kernel    instant        +0.999 ms   0.000 ms                 ▏",
                "          all of it                  1.000 ms",
            ]
        );
    }

    #[test]
    fn long_names_are_cut_and_nothing_is_drawn_for_nothing() {
        assert_eq!(render(&[], 80), "");
        let text = render(&[step(Actor::Client, &"x".repeat(100), 0, 1)], 20);
        assert!(text.contains('…'));
    }
}
