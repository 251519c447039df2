//! Samples in, medians and ratios out.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

/// All samples, by measurement and subject, in the order they came.
#[derive(Debug, Default)]
pub(crate) struct Report {
    order: Vec<String>,
    samples: BTreeMap<String, Vec<(String, Vec<f64>)>>,
}

impl Report {
    /// An empty report.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds one sample.
    pub(crate) fn add(&mut self, measurement: &str, subject: &str, value: f64) {
        if !self.samples.contains_key(measurement) {
            self.order.push(measurement.to_owned());
        }
        let subjects = self.samples.entry(measurement.to_owned()).or_default();
        match subjects.iter_mut().find(|(name, _)| name == subject) {
            Some((_, values)) => values.push(value),
            None => subjects.push((subject.to_owned(), vec![value])),
        }
    }

    /// The table: per measurement each subject's median, minimum, and ratio to the first subject.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        for name in &self.order {
            let subjects = &self.samples[name];
            let base = self.base(name);
            let _infallible = writeln!(
                text,
                "\n{name}\n  {:12} {:>10} {:>10} {:>8}",
                "", "median", "minimum", "ratio"
            );
            for (subject, values) in subjects {
                let ratio = median(values) / base;
                let minimum = values.iter().copied().fold(f64::INFINITY, f64::min);
                let _infallible = writeln!(
                    text,
                    "  {subject:12} {:>10.2} {minimum:>10.2} {ratio:>8.2}",
                    median(values)
                );
            }
        }
        text
    }

    /// What ratios refer to: the floor of the same kind where it was measured, else Berth.
    fn base(&self, name: &str) -> f64 {
        let find = |measurement: &str, subject: &str| {
            let subjects = self.samples.get(measurement)?;
            Some(median(
                &subjects.iter().find(|(name, _)| name == subject)?.1,
            ))
        };
        // A bridge has no floor of its own: the bare process without one stands for both.
        find(name, "floor")
            .or_else(|| find(&name.replace("bridge", "no network"), "floor"))
            .or_else(|| find(name, "pigz | tar"))
            .or_else(|| find(name, "berth"))
            .unwrap_or(f64::NAN)
    }

    /// Everything, for machines.
    pub(crate) fn json(&self) -> String {
        let all: Vec<Value> = self
            .order
            .iter()
            .flat_map(|name| {
                self.samples[name].iter().map(move |(subject, values)| {
                    json!({
                        "measurement": name,
                        "subject": subject,
                        "median": median(values),
                        "ratio": median(values) / self.base(name),
                        "samples": values,
                    })
                })
            })
            .collect();
        serde_json::to_string_pretty(&all).unwrap()
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert!((median(&[3.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 3.0]) - 2.5).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_to_the_floor_also_for_the_bridge() {
        let mut report = Report::new();
        report.add("run, no network (ms)", "floor", 4.0);
        report.add("run, no network (ms)", "berth", 6.0);
        report.add("run, bridge (ms)", "berth", 8.0);
        let json: Value = serde_json::from_str(&report.json()).unwrap();
        assert_eq!(json[1]["ratio"], 1.5);
        assert_eq!(json[2]["ratio"], 2.0);
    }
}
