//! Steps as trace events, the JSON that Perfetto and Chrome open.

use super::waterfall::actor;
use model::trace::{Actor, Step};
use serde_json::{Value, json};

/// Gives the document; each actor is a track.
pub(super) fn render(steps: &[Step]) -> String {
    let track = |who: Actor| match who {
        Actor::Client => 1,
        Actor::Daemon => 2,
        Actor::Registry => 3,
        Actor::Kernel => 4,
        Actor::Container => 5,
    };
    let mut events = vec![json!({
        "ph": "M", "name": "process_name", "pid": 1, "tid": 0, "args": {"name": "berth run"},
    })];
    for who in [
        Actor::Client,
        Actor::Daemon,
        Actor::Registry,
        Actor::Kernel,
        Actor::Container,
    ] {
        events.push(json!({
            "ph": "M", "name": "thread_name", "pid": 1, "tid": track(who),
            "args": {"name": actor(who)},
        }));
    }
    events.extend(steps.iter().map(|step| {
        let args = match &step.detail {
            Some(detail) => json!({"detail": detail}),
            None => json!({}),
        };
        json!({
            "ph": "X", "name": step.name, "cat": actor(step.actor), "pid": 1,
            "tid": track(step.actor), "ts": microseconds(step.start_ns),
            "dur": microseconds(step.duration_ns), "args": args,
        })
    }));
    let document: Value = json!({"displayTimeUnit": "ms", "traceEvents": events});
    format!("{document:#}\n")
}

#[expect(
    clippy::cast_precision_loss,
    reason = "the format's times are floating-point microseconds"
)]
fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_a_complete_event() {
        let text = render(&[Step {
            actor: Actor::Kernel,
            name: "mount".to_owned(),
            start_ns: 1500,
            duration_ns: 2000,
            detail: Some("overlay".to_owned()),
        }]);
        let document: Value = serde_json::from_str(&text).unwrap();
        let event = document["traceEvents"].as_array().unwrap().last().unwrap();
        assert_eq!(event["ph"], "X");
        assert_eq!(event["ts"], 1.5);
        assert_eq!(event["dur"], 2.0);
        assert_eq!(event["args"]["detail"], "overlay");
    }
}
