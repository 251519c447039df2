//! `run --trace`: every actor's steps, as text and as JSON that trace viewers open.

use std::fs;

use e2e::scenario;

#[test]
fn the_waterfall_names_every_actor() {
    scenario(|machine| {
        let out = machine.berth(&["run", "--rm", "--trace", "busybox", "echo", "hello"]);
        assert_eq!(out.ok(), "hello", "the command's own output is untouched");
        for actor in ["client", "daemon", "registry", "kernel", "container"] {
            assert!(out.stderr.contains(actor), "{actor} in\n{}", out.stderr);
        }
        for step in ["pull", "create", "start", "exec"] {
            assert!(
                out.stderr.to_lowercase().contains(step),
                "{step} in\n{}",
                out.stderr
            );
        }
        assert!(out.stderr.contains("ms"), "{}", out.stderr);
        // Warm: no registry in it.
        let warm = machine.berth(&["run", "--rm", "--trace", "busybox", "true"]);
        warm.ok();
        assert!(!warm.stderr.contains("registry"), "{}", warm.stderr);
    });
}

#[test]
fn as_json_for_trace_viewers() {
    scenario(|machine| {
        let file = machine.path("trace.json");
        let flag = format!("--trace={}", file.display());
        let out = machine.berth(&["run", "--rm", &flag, "busybox", "echo", "hello"]);
        assert_eq!(out.ok(), "hello");
        let json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let events = json["traceEvents"]
            .as_array()
            .or_else(|| json.as_array())
            .unwrap();
        let steps: Vec<_> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert!(steps.len() > 10, "{} steps", steps.len());
        for step in &steps {
            assert!(
                step["name"].is_string() && step["ts"].is_number() && step["dur"].is_number(),
                "{step}"
            );
        }
    });
}
