//! The text as a tree that knows where everything stands, read section by section: so that all that
//! is wrong is told at once, with its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, nearest, shown};

/// Keys whose value is never shown: the secret itself, and the table it belongs in, since people put it there.
pub(super) const SECRET: [&str; 8] =
    ["key", "secret", "secret_access_key", "token", "password", "eab", "env", "settings"];

/// How deep values may be nested; ours are four deep.
const MAX_DEPTH: usize = 32;

/// Where each key of the configuration stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) file: Option<PathBuf>,
    keys: BTreeMap<String, Place>,
}

impl Places {
    /// Where this key stands, or else the nearest part of its path that does.
    pub(super) fn find(&self, key: &str) -> Option<Place> {
        let mut path = key;
        loop {
            if let Some(place) = self.keys.get(path) {
                return Some(*place);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }
}

/// One value in the tree.
#[derive(Debug)]
struct Node {
    path: String,
    span: Range<usize>,
    scalar: bool,
    secret: bool,
}

/// A part of the tree, to be read as one type.
#[derive(Debug)]
pub(super) struct Section<'t> {
    pub(super) path: String,
    value: Spanned<DeValue<'t>>,
}

/// Reads sections, and collects what is wrong with them.
#[derive(Debug)]
pub(super) struct Document<'t> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    nodes: Vec<Node>,
    /// Where the text is deeper than can be read without an end to the stack.
    too_deep: Option<Place>,
    pub(super) places: Places,
    pub(super) problems: Vec<Problem>,
}

impl<'t> Document<'t> {
    /// Reads the syntax. What follows a mistake in it is read as well as it can be.
    pub(super) fn parse(text: &'t str, file: Option<PathBuf>) -> (Self, Section<'t>) {
        let (root, errors) = DeTable::parse_recoverable(text);
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let mut document = Self {
            text,
            lines: std::iter::once(0).chain(breaks).collect(),
            nodes: Vec::new(),
            too_deep: None,
            places: Places { file, keys: BTreeMap::new() },
            problems: Vec::new(),
        };
        let whole = root.span();
        document.walk_table("", root.get_ref(), 0, false);
        for error in errors {
            let why = format!("this is not TOML: {}", error.message());
            let mut problem = Problem::new("", why)
                .hint("strings stand in quotes, `#` begins a comment; see https://toml.io");
            problem.place = error.span().map(|span| document.place(span.start));
            document.problems.push(problem);
        }
        let mut root = DeValue::Table(root.into_inner());
        if let Some(place) = document.too_deep {
            let mut problem =
                Problem::new("", "tables are nested too deep here").hint("no key of acmekit's is so deep");
            problem.place = Some(place);
            document.problems.push(problem);
            take_apart(std::mem::replace(&mut root, DeValue::Table(DeTable::new())));
        }
        let value = Spanned::new(whole, root);
        (document, Section { path: String::new(), value })
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.lines.partition_point(|start| *start <= offset).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or_default();
        let before = self.text.get(start..offset.min(self.text.len())).unwrap_or_default();
        Place { line, column: before.chars().count() + 1 }
    }

    fn walk_table(&mut self, path: &str, table: &DeTable<'t>, depth: usize, secret: bool) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let path = join(path, name);
            self.places.keys.insert(path.clone(), self.place(key.span().start));
            self.walk(path, value, depth + 1, secret || SECRET.contains(&name));
        }
    }

    /// The parser limits dotted keys and brackets, but not both together.
    fn walk(&mut self, path: String, value: &Spanned<DeValue<'t>>, depth: usize, secret: bool) {
        if depth > MAX_DEPTH {
            self.too_deep = Some(self.place(value.span().start));
            return;
        }
        match value.get_ref() {
            DeValue::Table(table) => self.walk_table(&path, table, depth, secret),
            DeValue::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    let path = format!("{path}[{at}]");
                    self.places.keys.insert(path.clone(), self.place(item.span().start));
                    self.walk(path, item, depth + 1, secret);
                }
            }
            _ => {}
        }
        let scalar = !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
        self.nodes.push(Node { path, span: value.span(), scalar, secret });
    }

    /// Notes that something is wrong at this key.
    pub(super) fn refuse(&mut self, mut problem: Problem) {
        if problem.place.is_none() {
            problem.place = self.places.find(&problem.key);
        }
        self.problems.push(problem);
    }

    /// Reads a section as `T`; what is wrong is noted.
    pub(super) fn read<T: Deserialize<'t>>(&mut self, section: Section<'t>) -> Option<T> {
        match T::deserialize(section.value.into_deserializer()) {
            Ok(read) => Some(read),
            Err(error) => {
                let problem = self.problem(&section.path, &error);
                self.refuse(problem);
                None
            }
        }
    }

    /// What serde says, as a person needs it.
    fn problem(&self, section: &str, error: &toml::de::Error) -> Problem {
        let message = error.message();
        // The innermost value around the place; its path is the longest.
        let around = error.span().and_then(|span| {
            let holds = |node: &&Node| {
                node.path.starts_with(section) && node.span.start <= span.start && span.end <= node.span.end
            };
            self.nodes.iter().filter(holds).max_by_key(|node| node.path.len())
        });
        let path = around.map_or(section, |node| node.path.as_str());
        if let Some((name, known)) =
            message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'))
        {
            let place = error.span().map(|span| self.place(span.start));
            let key = self.key_at(section, name, place).unwrap_or_else(|| join(path, name));
            return unknown_key(key, name, words(known));
        }
        if let Some(name) = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
            return missing(join(path, name), self.places.find(path));
        }
        let (why, hint) = in_words(message);
        if around.is_some_and(|node| node.secret) {
            return Problem::new(path, "the value is not of the form expected")
                .hint("see full.toml for its form");
        }
        let mut problem = Problem::new(path, why);
        problem.hint = hint;
        problem.place = around.map(|node| self.place(node.span.start));
        match around.filter(|node| node.scalar).and_then(|node| self.text.get(node.span.clone())) {
            Some(value) => problem.value(value),
            None => problem,
        }
    }

    /// The key of this name that stands at this place; spans of keys are not values', so they are not nodes.
    fn key_at(&self, section: &str, name: &str, place: Option<Place>) -> Option<String> {
        let ends = |path: &str| path.rsplit(['.', ']']).next() == Some(name);
        let mut fits = self.places.keys.iter().filter(|(path, _)| path.starts_with(section) && ends(path));
        fits.find(|(_, at)| Some(**at) == place).map(|(path, _)| path.clone())
    }
}

/// Drops a value without recursion.
fn take_apart(value: DeValue<'_>) {
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            DeValue::Table(table) => left.extend(table.into_iter().map(|(_, value)| value.into_inner())),
            DeValue::Array(items) => left.extend(items.into_iter().map(Spanned::into_inner)),
            _ => {}
        }
    }
}

impl<'t> Section<'t> {
    /// Takes the value of a key out of a table.
    pub(super) fn take(&mut self, key: &str) -> Option<Self> {
        let DeValue::Table(table) = self.value.get_mut() else { return None };
        let value = table.remove(key)?;
        Some(Self { path: join(&self.path, key), value })
    }

    /// The keys that are left in a table.
    pub(super) fn keys(&self) -> Vec<String> {
        self.value
            .get_ref()
            .as_table()
            .into_iter()
            .flatten()
            .map(|(key, _)| key.get_ref().to_string())
            .collect()
    }

    /// Its elements, if it is an array.
    pub(super) fn elements(self) -> Option<Vec<Self>> {
        let DeValue::Array(items) = self.value.into_inner() else { return None };
        let at = |(at, value)| Self { path: format!("{}[{at}]", self.path), value };
        Some(items.into_iter().enumerate().map(at).collect())
    }
}

/// A key that does not exist, and the one that was probably meant.
pub(super) fn unknown_key(key: String, name: &str, known: Vec<String>) -> Problem {
    Problem::new(key, format!("there is no key `{}` here", shown(name))).hint(one_of(name, &known))
}

/// A key that must be there.
pub(super) fn missing(key: String, place: Option<Place>) -> Problem {
    let name = key.rsplit('.').next().unwrap_or_default().to_owned();
    let mut problem = Problem::new(key, format!("`{name}` is missing")).hint(format!("add `{name} = …`"));
    problem.place = place;
    problem
}

/// Which word was meant, or which there are.
pub(super) fn one_of(given: &str, known: &[String]) -> String {
    match nearest(given, known.iter().map(String::as_str)) {
        Some(word) => format!("did you mean `{word}`?"),
        None if known.is_empty() => "take it out".to_owned(),
        None => format!("there are: {}", known.join(", ")),
    }
}

/// What serde says of a value, in the words of TOML and without the value; and what to do.
fn in_words(message: &str) -> (String, Option<String>) {
    if let Some((name, known)) =
        message.strip_prefix("unknown variant `").and_then(|rest| rest.split_once('`'))
    {
        return (format!("`{}` is not known here", shown(name)), Some(key_type_or(name, &words(known))));
    }
    let invalid = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    // The value stands in front and may hold anything; what is expected never holds these words.
    let Some((found, expected)) = invalid.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return (message.to_owned(), None);
    };
    let found = match found.split([' ', '`', '"']).next().unwrap_or_default() {
        "map" => "a table",
        "sequence" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "floating" => "a number with a point",
        "boolean" => "true or false",
        _ => "something else",
    };
    let expected = match expected {
        "a sequence" => "a list in brackets",
        "a string" | "path string" => "text in quotes",
        "a boolean" => "true or false",
        "f64" => "a number",
        "i64" | "u16" | "u32" | "u64" | "usize" => "a whole number that is not negative",
        table if table.starts_with("struct ") => "a table",
        other => other,
    };
    (format!("this is {found}, not {expected}"), Some(format!("write {expected}")))
}

/// As [`one_of`]; but who wants an RSA key meant no other, and lacks a feature.
pub(super) fn key_type_or(given: &str, known: &[String]) -> String {
    match given.starts_with("rsa-") && !known.iter().any(|word| word.starts_with("rsa-")) {
        true => "for RSA keys build it with acmekit's feature `rsa`".to_owned(),
        false => one_of(given, known),
    }
}

/// The words between backquotes in one of serde's messages.
fn words(message: &str) -> Vec<String> {
    message.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A key below a path; in quotes if TOML wants it so.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let key = if bare { key.to_owned() } else { format!("\"{}\"", shown(key)) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
