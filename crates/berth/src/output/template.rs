//! A subset of Go's templates over JSON: what people write after `--format`.
//!
//! `{{.Field.Sub}}`, `{{json .X}}`, `{{index .M "key"}}`, `{{len .X}}`, `{{join .X ","}}`,
//! `{{upper .X}}`, `{{lower .X}}`, `{{title .X}}`, `{{println .X}}`, `{{range .X}}…{{end}}` (also
//! with `$k, $v :=`), `{{if .X}}…{{else}}…{{end}}`, and comparison by `eq` and `ne`. Anything else
//! is refused by name rather than printed wrongly.

use serde_json::Value;
use std::collections::HashMap;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Node>);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Print(Vec<Term>),
    If {
        condition: Vec<Term>,
        then: Vec<Self>,
        otherwise: Vec<Self>,
    },
    Range {
        key: Option<String>,
        value: Option<String>,
        over: Vec<Term>,
        body: Vec<Self>,
        otherwise: Vec<Self>,
    },
}

#[derive(Debug, Clone, PartialEq)]
enum Term {
    Word(String),
    Literal(Value),
    /// A path from the dot or from a variable.
    Path(Option<String>, Vec<String>),
    Group(Vec<Self>),
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template parsing error: {0}")]
pub(crate) struct TemplateError(String);

type Result<T> = std::result::Result<T, TemplateError>;

/// How deep blocks may nest: templates are typed by hand.
const MAX_DEPTH: usize = 32;

fn error<T>(message: impl Into<String>) -> Result<T> {
    Err(TemplateError(message.into()))
}

impl std::str::FromStr for Template {
    type Err = TemplateError;

    fn from_str(text: &str) -> Result<Self> {
        let mut parser = Parser {
            pieces: split(text)?,
            at: 0,
        };
        let (nodes, ended) = parser.block(0)?;
        match ended {
            None => Ok(Self(nodes)),
            Some(word) => error(format!("unexpected {{{{{word}}}}}")),
        }
    }
}

enum Piece {
    Text(String),
    Action(String),
}

fn split(text: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((action, after)) = after.split_once("}}") else {
            return error("unclosed action");
        };
        let mut before = before.to_owned();
        if let Some(trimmed) = action.strip_prefix("- ") {
            before.truncate(before.trim_end().len());
            pieces.push(Piece::Text(before));
            pieces.push(Piece::Action(trimmed.trim_end_matches(" -").to_owned()));
        } else {
            pieces.push(Piece::Text(before));
            pieces.push(Piece::Action(action.trim_end_matches(" -").to_owned()));
        }
        rest = if action.ends_with(" -") {
            after.trim_start()
        } else {
            after
        };
    }
    pieces.push(Piece::Text(rest.to_owned()));
    Ok(pieces)
}

struct Parser {
    pieces: Vec<Piece>,
    at: usize,
}

impl Parser {
    /// Parses up to `else`, `end` or the end, and says which.
    fn block(&mut self, depth: usize) -> Result<(Vec<Node>, Option<String>)> {
        if depth > MAX_DEPTH {
            return error("blocks are nested too deeply");
        }
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.get(self.at) {
            self.at += 1;
            let action = match piece {
                Piece::Text(text) => {
                    if !text.is_empty() {
                        nodes.push(Node::Text(text.clone()));
                    }
                    continue;
                }
                Piece::Action(action) => action.trim().to_owned(),
            };
            let (word, rest) = action
                .split_once(char::is_whitespace)
                .unwrap_or((&action, ""));
            match word {
                "end" | "else" => return Ok((nodes, Some(action))),
                "if" => {
                    let condition = terms(rest)?;
                    let (then, otherwise) = self.branches(depth)?;
                    nodes.push(Node::If {
                        condition,
                        then,
                        otherwise,
                    });
                }
                "range" => {
                    let (key, value, over) = range_head(rest)?;
                    let (body, otherwise) = self.branches(depth)?;
                    nodes.push(Node::Range {
                        key,
                        value,
                        over,
                        body,
                        otherwise,
                    });
                }
                _ if action.starts_with("/*") => {}
                _ => nodes.push(Node::Print(terms(&action)?)),
            }
        }
        Ok((nodes, None))
    }

    fn branches(&mut self, depth: usize) -> Result<(Vec<Node>, Vec<Node>)> {
        let (then, ended) = self.block(depth + 1)?;
        match ended.as_deref() {
            Some("end") => Ok((then, Vec::new())),
            Some("else") => match self.block(depth + 1)? {
                (otherwise, Some(end)) if end == "end" => Ok((then, otherwise)),
                _ => error("expected {{end}}"),
            },
            Some(other) => error(format!("{{{{{other}}}}} is not supported")),
            None => error("unexpected EOF: a block is not closed"),
        }
    }
}

type RangeHead = (Option<String>, Option<String>, Vec<Term>);

fn range_head(text: &str) -> Result<RangeHead> {
    let Some((variables, over)) = text.split_once(":=") else {
        return Ok((None, None, terms(text)?));
    };
    let name = |text: &str| text.trim().strip_prefix('$').map(str::to_owned);
    let (key, value) = match variables.split_once(',') {
        Some((key, value)) => (name(key), name(value)),
        None => (None, name(variables)),
    };
    if value.is_none() {
        return error(format!("bad variables in range: {variables}"));
    }
    Ok((key, value, terms(over)?))
}

/// Parses one action's words; a pipe hands its left side to the right as last argument.
fn terms(text: &str) -> Result<Vec<Term>> {
    let mut chars = text.chars().peekable();
    let parsed = sequence(&mut chars, 0)?;
    if chars.next().is_some() {
        return error(format!("unexpected ) in {text}"));
    }
    if parsed.is_empty() {
        return error("missing value for command");
    }
    Ok(parsed)
}

fn sequence(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    depth: usize,
) -> Result<Vec<Term>> {
    if depth > MAX_DEPTH {
        return error("parentheses are nested too deeply");
    }
    let mut found = Vec::new();
    while let Some(&c) = chars.peek() {
        match c {
            ')' => break,
            c if c.is_whitespace() => {
                chars.next();
            }
            '(' => {
                chars.next();
                found.push(Term::Group(sequence(chars, depth + 1)?));
                if chars.next() != Some(')') {
                    return error("unclosed parenthesis");
                }
            }
            '|' => {
                chars.next();
                let left = Term::Group(std::mem::take(&mut found));
                let mut right = sequence(chars, depth + 1)?;
                // The right side may itself be piped on; the innermost command takes the value.
                feed(&mut right, left)?;
                return Ok(right);
            }
            '"' | '`' => found.push(Term::Literal(Value::String(quoted(chars)?))),
            _ => found.push(word(chars)?),
        }
    }
    Ok(found)
}

fn feed(command: &mut Vec<Term>, value: Term) -> Result<()> {
    if command.is_empty() {
        return error("missing value for command");
    }
    // `a | b | c` parses as `a | (b | c)`, which is c with (b) as its last argument.
    let piped_on = matches!(command.last(), Some(Term::Group(_))) && command.len() > 1;
    if piped_on && let Some(Term::Group(inner)) = command.last_mut() {
        return feed(inner, value);
    }
    command.push(value);
    Ok(())
}

fn quoted(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<String> {
    let quote = chars.next();
    let mut text = String::new();
    while let Some(c) = chars.next() {
        if Some(c) == quote {
            return Ok(text);
        }
        if c == '\\' && quote == Some('"') {
            text.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(other) => other,
                None => break,
            });
        } else {
            text.push(c);
        }
    }
    error("unterminated quoted string")
}

fn word(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Term> {
    let mut text = String::new();
    while let Some(&c) = chars.peek() {
        if c.is_whitespace() || "()|\"`".contains(c) {
            break;
        }
        text.push(c);
        chars.next();
    }
    if let Ok(number) = text.parse::<i64>() {
        return Ok(Term::Literal(number.into()));
    }
    let path = |text: &str| -> Result<Vec<String>> {
        let fields: Vec<String> = text.split('.').map(str::to_owned).collect();
        if fields.iter().any(String::is_empty) {
            return error(format!("bad field: {text}"));
        }
        Ok(fields)
    };
    match text.strip_prefix('.') {
        Some("") => return Ok(Term::Path(None, Vec::new())),
        Some(rest) => return Ok(Term::Path(None, path(rest)?)),
        None => {}
    }
    if let Some(rest) = text.strip_prefix('$') {
        let (name, fields) = rest.split_once('.').unwrap_or((rest, ""));
        let fields = if fields.is_empty() {
            Vec::new()
        } else {
            path(fields)?
        };
        return Ok(Term::Path(Some(name.to_owned()), fields));
    }
    match text.as_str() {
        "true" => Ok(Term::Literal(true.into())),
        "false" => Ok(Term::Literal(false.into())),
        _ => Ok(Term::Word(text)),
    }
}

struct Scope<'a> {
    root: &'a Value,
    dot: Value,
    variables: HashMap<String, Value>,
}

impl Template {
    /// Fills the template from a document.
    ///
    /// # Errors
    /// A field that is not there, a function that does not exist or does not fit.
    pub(crate) fn render(&self, document: &Value) -> Result<String> {
        let mut out = String::new();
        let mut scope = Scope {
            root: document,
            dot: document.clone(),
            variables: HashMap::new(),
        };
        render(&self.0, &mut scope, &mut out)?;
        Ok(out)
    }
}

fn render(nodes: &[Node], scope: &mut Scope<'_>, out: &mut String) -> Result<()> {
    for node in nodes {
        match node {
            Node::Text(text) => out.push_str(text),
            Node::Print(terms) => out.push_str(&show(&evaluate(terms, scope)?)),
            Node::If {
                condition,
                then,
                otherwise,
            } => {
                let branch = if is_true(&evaluate(condition, scope)?) {
                    then
                } else {
                    otherwise
                };
                render(branch, scope, out)?;
            }
            Node::Range {
                key,
                value,
                over,
                body,
                otherwise,
            } => {
                let items = items(evaluate(over, scope)?)?;
                if items.is_empty() {
                    render(otherwise, scope, out)?;
                }
                for (at, item) in items {
                    if let Some(key) = key {
                        scope.variables.insert(key.clone(), at);
                    }
                    if let Some(value) = value {
                        scope.variables.insert(value.clone(), item.clone());
                    }
                    let outer = std::mem::replace(&mut scope.dot, item);
                    let rendered = render(body, scope, out);
                    scope.dot = outer;
                    rendered?;
                }
            }
        }
    }
    Ok(())
}

fn items(value: Value) -> Result<Vec<(Value, Value)>> {
    match value {
        Value::Null => Ok(Vec::new()),
        Value::Array(list) => Ok(list
            .into_iter()
            .enumerate()
            .map(|(index, item)| (index.into(), item))
            .collect()),
        Value::Object(map) => Ok(map
            .into_iter()
            .map(|(key, item)| (key.into(), item))
            .collect()),
        other => error(format!("range can't iterate over {}", show(&other))),
    }
}

fn evaluate(terms: &[Term], scope: &Scope<'_>) -> Result<Value> {
    let Some((first, rest)) = terms.split_first() else {
        return error("missing value for command");
    };
    let Term::Word(function) = first else {
        return match rest {
            [] => value(first, scope),
            _ => error("a value cannot be called"),
        };
    };
    let arguments = rest
        .iter()
        .map(|term| value(term, scope))
        .collect::<Result<Vec<_>>>()?;
    call(function, &arguments)
}

fn value(term: &Term, scope: &Scope<'_>) -> Result<Value> {
    match term {
        Term::Literal(literal) => Ok(literal.clone()),
        Term::Group(terms) => evaluate(terms, scope),
        Term::Word(_) => evaluate(std::slice::from_ref(term), scope),
        Term::Path(variable, fields) => {
            let start = match variable.as_deref() {
                None => &scope.dot,
                Some("") => scope.root,
                Some(name) => match scope.variables.get(name) {
                    Some(value) => value,
                    None => return error(format!("undefined variable \"${name}\"")),
                },
            };
            follow(start, fields)
        }
    }
}

fn follow(start: &Value, fields: &[String]) -> Result<Value> {
    let mut here = start;
    for (index, field) in fields.iter().enumerate() {
        here = match here {
            Value::Object(map) => match map.get(field) {
                Some(value) => value,
                // Go's structs know their fields. Only a map of the API's (labels, networks) may
                // lack one, and those are below the first level.
                None if index > 0 => return Ok(Value::String("<no value>".to_owned())),
                None => return error(format!("map has no entry for key \"{field}\"")),
            },
            Value::Null => return Ok(Value::String("<no value>".to_owned())),
            other => {
                return error(format!("can't evaluate field {field} in {}", show(other)));
            }
        };
    }
    Ok(here.clone())
}

fn call(function: &str, arguments: &[Value]) -> Result<Value> {
    let text = |value: &Value| show(value);
    Ok(match (function, arguments) {
        ("json", [value]) => Value::String(value.to_string()),
        ("len", [Value::Array(list)]) => list.len().into(),
        ("len", [Value::Object(map)]) => map.len().into(),
        ("len", [Value::String(string)]) => string.len().into(),
        ("len", [Value::Null]) => 0.into(),
        ("index", [Value::Object(map), Value::String(key)]) => map
            .get(key)
            .cloned()
            .unwrap_or(Value::String(String::new())),
        ("index", [Value::Array(list), Value::Number(at)]) => {
            let at = at.as_u64().and_then(|at| usize::try_from(at).ok());
            match at.and_then(|at| list.get(at)) {
                Some(value) => value.clone(),
                None => return error("index out of range"),
            }
        }
        ("index", [container, first, rest @ ..]) if !rest.is_empty() => {
            let inner = call("index", &[container.clone(), first.clone()])?;
            let mut next = vec![inner];
            next.extend_from_slice(rest);
            call("index", &next)?
        }
        ("join", [Value::Array(list), separator]) => {
            let parts: Vec<String> = list.iter().map(text).collect();
            Value::String(parts.join(&text(separator)))
        }
        ("join", [Value::Null, _]) => Value::String(String::new()),
        ("upper", [value]) => Value::String(text(value).to_uppercase()),
        ("lower", [value]) => Value::String(text(value).to_lowercase()),
        ("title", [value]) => {
            let text = text(value);
            let mut chars = text.chars();
            Value::String(match chars.next() {
                Some(first) => first.to_uppercase().chain(chars).collect(),
                None => String::new(),
            })
        }
        ("print", values) => Value::String(values.iter().map(text).collect()),
        ("println", values) => {
            let parts: Vec<String> = values.iter().map(text).collect();
            Value::String(parts.join(" ") + "\n")
        }
        ("eq", [first, rest @ ..]) if !rest.is_empty() => rest.contains(first).into(),
        ("ne", [left, right]) => (left != right).into(),
        ("not", [value]) => (!is_true(value)).into(),
        ("and", [left, right]) => if is_true(left) { right } else { left }.clone(),
        ("or", [left, right]) => if is_true(left) { left } else { right }.clone(),
        (
            "json" | "len" | "index" | "join" | "upper" | "lower" | "title" | "eq" | "ne" | "not"
            | "and" | "or",
            _,
        ) => return error(format!("wrong arguments for {function}")),
        _ => return error(format!("function \"{function}\" not defined")),
    })
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(on) => *on,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// Prints as Go's `%v` does.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Bool(on) => on.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(list) => {
            let parts: Vec<String> = list.iter().map(show).collect();
            format!("[{}]", parts.join(" "))
        }
        Value::Object(map) => {
            let parts: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}:{}", show(value)))
                .collect();
            format!("map[{}]", parts.join(" "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn render(template: &str) -> Result<String> {
        let document = json!({
            "Id": "abc", "State": {"Pid": 7, "Running": true}, "Args": ["a", "b"],
            "Config": {"Labels": {"x": "1", "y.z": "2"}, "Env": []}, "None": null,
        });
        template.parse::<Template>()?.render(&document)
    }

    #[test]
    fn what_people_write() {
        let check = |template: &str, expected: &str| {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        };
        check("plain", "plain");
        check("{{.Id}}/{{ .State.Pid }}", "abc/7");
        check("{{json .State}}", r#"{"Pid":7,"Running":true}"#);
        check("{{.Args}} {{len .Args}}", "[a b] 2");
        check("{{join .Args \",\"}}", "a,b");
        check("{{.Id | upper | lower}}", "abc");
        check("{{.Id | upper}}", "ABC");
        check("{{json .Id | upper}}", "\"ABC\"");
        check("{{index .Config.Labels \"y.z\"}}", "2");
        check("{{index .Args 1}}", "b");
        check("{{range .Args}}<{{.}}>{{end}}", "<a><b>");
        check(
            "{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}",
            "x=1;y.z=2;",
        );
        check("{{range .Config.Env}}x{{else}}none{{end}}", "none");
        check("{{if .State.Running}}up{{else}}down{{end}}", "up");
        check("{{if eq .State.Pid 7}}yes{{end}}", "yes");
        check(
            "{{if and .State.Running (eq .Id \"x\")}}yes{{else}}no{{end}}",
            "no",
        );
        check("{{.Config.Labels.nothing}}", "<no value>");
    }

    #[test]
    fn what_does_not_work_is_said() {
        for bad in [
            "{{",
            "{{.Id",
            "{{}}",
            "{{.Nothing}}",
            "{{foo .Id}}",
            "{{range .Args}}",
            "{{end}}",
            "{{len 5}}",
            "{{.Id.Sub}}",
            "{{index .Args 9}}",
            "{{\"x}}",
            "{{(.Id}}",
            "{{.Id)}}",
            "{{.Id | }}",
            "{{$x}}",
            "{{if .Id}}{{else if .Id}}{{end}}",
            "{{..}}",
        ] {
            assert!(render(bad).is_err(), "{bad}: {:?}", render(bad));
        }
    }

    proptest! {
        #[test]
        fn never_panics(template in "(\\{\\{|\\}\\}|[a-z.$|() \"]|range|end|if|else|json| :=){0,24}") {
            render(&template).ok();
        }

        #[test]
        fn text_passes_through(text in "[^{}]{0,40}") {
            prop_assert_eq!(render(&text), Ok(text));
        }
    }
}
