//! Rows in columns, or each through a template.

use super::template::{Template, TemplateError};
use crate::failure::Failure;
use serde_json::{Map, Value};

/// Between two columns, as docker has it.
const GAP: &str = "   ";

/// What a list command prints by default, and what its columns are called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    /// The fields of the default table.
    pub(crate) columns: &'static [&'static str],
    /// Fields whose heading is not their name in capitals.
    pub(crate) headings: &'static [(&'static str, &'static str)],
}

/// Prints rows: as the default table, as `table TEMPLATE`, as `json`, or as a template per row.
///
/// # Errors
/// The template is malformed or names what is not there; stdout is gone.
pub(crate) fn print_rows(
    layout: &Layout,
    rows: &[Value],
    format: Option<&str>,
) -> Result<(), Failure> {
    let text =
        render_rows(layout, rows, format).map_err(|error| Failure::new(error.to_string()))?;
    super::write_all(text.as_bytes())
}

fn render_rows(
    layout: &Layout,
    rows: &[Value],
    format: Option<&str>,
) -> Result<String, TemplateError> {
    let format = format.unwrap_or("table");
    let default = || -> String {
        let fields: Vec<String> = layout
            .columns
            .iter()
            .map(|column| format!("{{{{.{column}}}}}"))
            .collect();
        fields.join("\\t")
    };
    let (table, template) = match format.strip_prefix("table") {
        Some("") => (true, default()),
        Some(rest) if rest.starts_with(char::is_whitespace) => (true, rest.trim().to_owned()),
        _ if format == "json" => (false, "{{json .}}".to_owned()),
        _ => (false, format.to_owned()),
    };
    let template: Template = template.replace("\\t", "\t").replace("\\n", "\n").parse()?;
    let mut lines = Vec::with_capacity(rows.len() + 1);
    if table {
        lines.push(template.render(&headings(layout, rows))?);
    }
    for row in rows {
        lines.push(template.render(row)?);
    }
    Ok(if table {
        align(&lines)
    } else {
        lines.iter().map(|line| format!("{line}\n")).collect()
    })
}

/// A row that holds each field's heading.
fn headings(layout: &Layout, rows: &[Value]) -> Value {
    let mut row = Map::new();
    let fields = rows.iter().filter_map(Value::as_object).flat_map(Map::keys);
    let known = layout.columns.iter().map(|column| (*column).to_owned());
    for field in fields.cloned().chain(known) {
        let special = layout.headings.iter().find(|(name, _)| *name == field);
        let heading = special.map_or_else(|| spaced(&field), |(_, heading)| (*heading).to_owned());
        row.insert(field, heading.into());
    }
    Value::Object(row)
}

/// `CreatedAt` → `CREATED AT`.
fn spaced(field: &str) -> String {
    let mut out = String::new();
    let mut small = false;
    for c in field.chars() {
        if c.is_uppercase() && small {
            out.push(' ');
        }
        small = c.is_lowercase();
        out.extend(c.to_uppercase());
    }
    out
}

/// Aligns cells that are separated by tabs.
pub(crate) fn align(lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines
        .iter()
        .map(|line| line.split('\t').collect())
        .collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let width = cell.chars().count();
            match widths.get_mut(column) {
                Some(widest) => *widest = width.max(*widest),
                None => widths.push(width),
            }
        }
    }
    let mut out = String::new();
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if column + 1 < row.len() {
                let pad = widths[column] - cell.chars().count();
                out.extend(std::iter::repeat_n(' ', pad));
                out.push_str(GAP);
            }
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const LAYOUT: Layout = Layout {
        columns: &["ID", "RunningFor"],
        headings: &[("ID", "CONTAINER ID"), ("RunningFor", "CREATED")],
    };

    fn check(rows: &[Value], format: Option<&str>, expected: &str) {
        assert_eq!(render_rows(&LAYOUT, rows, format).unwrap(), expected);
    }

    #[test]
    fn formats() {
        let rows = [json!({"ID": "abc", "RunningFor": "2 days ago", "CreatedAt": "x"})];
        check(&[], None, "CONTAINER ID   CREATED\n");
        check(
            &rows,
            None,
            "CONTAINER ID   CREATED\nabc            2 days ago\n",
        );
        check(&rows, Some("{{.ID}}"), "abc\n");
        check(
            &rows,
            Some("table {{.ID}}\\t{{.CreatedAt}}"),
            "CONTAINER ID   CREATED AT\nabc            x\n",
        );
        check(
            &rows,
            Some("json"),
            "{\"CreatedAt\":\"x\",\"ID\":\"abc\",\"RunningFor\":\"2 days ago\"}\n",
        );
        render_rows(&LAYOUT, &rows, Some("{{.Nope}}")).unwrap_err();
    }
}
