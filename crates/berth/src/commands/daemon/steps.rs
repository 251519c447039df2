//! Turns spans with the target `berth::step` into the steps that `run --trace` draws.
//!
//! A root span carries `trace`; spans below it inherit it. `step` names a step, `actor` and
//! `detail` describe it; an event with `steps` brings finished ones from the shim. While nothing
//! is traced, all of them are disabled.

use engine::Traces;
use model::trace::{Actor, Step};
use std::fmt::Debug;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

const TARGET: &str = "berth::step";

/// The layer.
pub(super) struct Steps {
    pub(super) traces: Traces,
}

/// What is kept with each span.
struct Open {
    trace: String,
    step: Step,
}

#[derive(Default)]
struct Fields {
    trace: Option<String>,
    step: Option<String>,
    actor: Option<String>,
    detail: Option<String>,
    steps: Option<String>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        let place = match field.name() {
            "trace" => &mut self.trace,
            "step" => &mut self.step,
            "actor" => &mut self.actor,
            "detail" => &mut self.detail,
            "steps" => &mut self.steps,
            _ => return,
        };
        *place = Some(value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

fn actor(name: Option<&str>) -> Actor {
    match name {
        Some("client") => Actor::Client,
        Some("registry") => Actor::Registry,
        Some("kernel") => Actor::Kernel,
        Some("container") => Actor::Container,
        _ => Actor::Daemon,
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Steps {
    fn register_callsite(
        &self,
        metadata: &'static Metadata<'static>,
    ) -> tracing::subscriber::Interest {
        if metadata.target() == TARGET {
            tracing::subscriber::Interest::sometimes()
        } else {
            tracing::subscriber::Interest::always()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target() != TARGET || self.traces.active()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() != TARGET {
            return;
        }
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let Some(span) = context.span(id) else {
            return;
        };
        let inherited = || {
            let parent = span.parent()?;
            let extensions = parent.extensions();
            extensions.get::<Open>().map(|open| open.trace.clone())
        };
        let Some(trace) = fields.trace.or_else(inherited) else {
            return;
        };
        let step = Step {
            actor: actor(fields.actor.as_deref()),
            name: fields.step.unwrap_or_else(|| span.name().to_owned()),
            start_ns: sys::process::monotonic_ns(),
            duration_ns: 0,
            detail: fields.detail,
        };
        span.extensions_mut().insert(Open { trace, step });
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let Some(span) = context.event_span(event) else {
            return;
        };
        let extensions = span.extensions();
        let (Some(open), Some(steps)) = (extensions.get::<Open>(), fields.steps) else {
            return;
        };
        if let Ok(steps) = serde_json::from_str::<Vec<Step>>(&steps) {
            self.traces.add(&open.trace, steps);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let Some(span) = context.span(&id) else {
            return;
        };
        let open = span.extensions_mut().remove::<Open>();
        if let Some(Open { trace, mut step }) = open {
            step.duration_ns = sys::process::monotonic_ns().saturating_sub(step.start_ns);
            self.traces.add(&trace, [step]);
        }
    }
}
