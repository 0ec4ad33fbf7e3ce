//! Scripts as JSON, for programs that take them from a file.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Action, Answer, ChainFault, Fault, FaultId, Faults, Only, RetryAfter};
use crate::Endpoint;

const ACTIONS: &str = "respond, problem, delay, hang, reset, flood, cut, abort, patch, body, chain, \
    set-header, remove-header, huge-headers";
const LARGEST_HEADERS: u64 = 16 * 1024 * 1024;

/// What is wrong with a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptError {
    rule: Option<usize>,
    field: Option<String>,
    why: String,
}

impl ScriptError {
    fn new(why: impl fmt::Display) -> Self {
        Self { rule: None, field: None, why: why.to_string() }
    }

    fn at(field: &str, why: impl fmt::Display) -> Self {
        Self { rule: None, field: Some(field.to_owned()), why: why.to_string() }
    }

    /// The rule, counted from 1; `None` if it is the whole script.
    pub fn rule(&self) -> Option<usize> {
        self.rule
    }

    /// The field.
    pub fn field(&self) -> Option<&str> {
        self.field.as_deref()
    }
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("script of faults: ")?;
        if let Some(rule) = self.rule {
            write!(f, "rule {rule}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "`{field}`: ")?;
        }
        f.write_str(&self.why)
    }
}

impl std::error::Error for ScriptError {}

impl Faults {
    /// Reads a script: a JSON array of rules, each an object.
    ///
    /// | field | meaning |
    /// |---|---|
    /// | `preset` | one of [`Fault::all_named`]; or else: |
    /// | `endpoint` | a name as `new-order`, an array of them, or `any` |
    /// | `action` | what goes wrong |
    /// | `after_effect` | `true`: once the request has taken effect |
    /// | `skip`, `times` | numbers; `times` may be `"always"`, and is 1 if missing |
    /// | `percent`, `seed` | the chance for each request, and the dice |
    /// | `only` | `posts`, `replaces`, or an array of the `status` values the real answer must have |
    ///
    /// Beside a preset, each of them takes the place of what the preset says. The actions and their fields:
    ///
    /// | `action` | fields |
    /// |---|---|
    /// | `respond` | `status`; `content_type`, `body`, `headers`, `nonce`, `retry_after` or `retry_after_date` |
    /// | `problem` | `type` (`rateLimited`), `status`; `detail`, `retry_after`, `retry_after_date` |
    /// | `delay` | `seconds` |
    /// | `hang`, `reset`, `abort` | |
    /// | `flood` | `bytes`, a GiB if missing |
    /// | `cut` | `keep`, a percentage: 50 if missing |
    /// | `patch` | `patch` (RFC 7396) |
    /// | `body` | `body` |
    /// | `chain` | `order`: `intermediate-first`, `leaf-missing` |
    /// | `set-header` | `name`, `value` |
    /// | `remove-header` | `name` |
    /// | `huge-headers` | `count`, `bytes` |
    ///
    /// `retry_after` is sent as it is; `retry_after_date` as the HTTP date so many seconds from now.
    ///
    /// # Errors
    /// What is wrong, with the number of the rule and the name of the field.
    pub fn from_json(script: &str) -> Result<Self, ScriptError> {
        let faults = Self::new();
        faults.load_json(script)?;
        Ok(faults)
    }

    /// Puts a script, as [`from_json`](Self::from_json) reads it, in the place of what there is.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json); then all is as before.
    pub fn load_json(&self, script: &str) -> Result<Vec<FaultId>, ScriptError> {
        let script: Value =
            serde_json::from_str(script).map_err(|error| ScriptError::new(format!("not JSON: {error}")))?;
        Ok(self.replace(read(script)?))
    }
}

impl<'de> Deserialize<'de> for Faults {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let faults = Self::new();
        faults.replace(read(Value::deserialize(input)?).map_err(serde::de::Error::custom)?);
        Ok(faults)
    }
}

fn read(script: Value) -> Result<Vec<Fault>, ScriptError> {
    let Value::Array(rules) = script else { return Err(ScriptError::new("not an array of rules")) };
    let number = |(at, rule)| read_rule(rule).map_err(|error| ScriptError { rule: Some(at + 1), ..error });
    rules.into_iter().enumerate().map(number).collect()
}

fn read_rule(rule: Value) -> Result<Fault, ScriptError> {
    let Value::Object(fields) = rule else { return Err(ScriptError::new("not an object")) };
    let mut fields = Fields(fields);
    let endpoints = endpoints(&mut fields)?;
    let mut fault = match (fields.text("preset")?, fields.text("action")?) {
        (Some(_), Some(_)) => return Err(ScriptError::at("action", "not together with `preset`")),
        (None, None) => {
            return Err(ScriptError::at("action", format!("missing, as is `preset`; one of {ACTIONS}")));
        }
        (Some(name), None) => Fault::preset(&name).ok_or_else(|| {
            let known: Vec<&str> = Fault::all_named().into_iter().map(|(name, _)| name).collect();
            ScriptError::at("preset", format!("`{name}` is unknown; one of {}", known.join(", ")))
        })?,
        (None, Some(name)) => {
            if endpoints.is_none() {
                return Err(ScriptError::at("endpoint", "missing"));
            }
            Fault::everywhere(action(&name, &mut fields)?)
        }
    };
    if let Some(endpoints) = endpoints {
        fault = fault.at(&endpoints);
    }
    if let Some(percent) = fields.number("percent", 100)? {
        fault = fault.percent(u8::try_from(percent).unwrap_or(100));
    }
    if let Some(seed) = fields.number("seed", u64::MAX)? {
        fault = fault.seed(seed);
    }
    if let Some(skip) = fields.number("skip", u64::MAX)? {
        fault = fault.skip(skip);
    }
    match fields.0.remove("times") {
        None => {}
        Some(Value::String(text)) if text == "always" => fault = fault.always(),
        Some(value) => {
            let why =
                || ScriptError::at("times", format!("{value} is neither a whole number nor \"always\""));
            fault = fault.times(value.as_u64().ok_or_else(why)?);
        }
    }
    match fields.flag("after_effect")? {
        Some(true) => fault = fault.after_effect(),
        Some(false) => fault.after_effect = false,
        None => {}
    }
    if let Some(only) = only(&mut fields)? {
        fault = fault.only(only);
    }
    match fields.0.keys().next() {
        Some(unknown) => Err(ScriptError::at(unknown, "unknown, or of no use to this action")),
        None => Ok(fault),
    }
}

fn endpoints(fields: &mut Fields) -> Result<Option<Vec<Endpoint>>, ScriptError> {
    let read = |value: &Value| {
        value.as_str().and_then(Endpoint::from_name).ok_or_else(|| {
            let known = Endpoint::ALL.map(Endpoint::as_str).join(", ");
            ScriptError::at("endpoint", format!("{value} is unknown; `any`, or one or an array of {known}"))
        })
    };
    Ok(Some(match fields.0.remove("endpoint") {
        None => return Ok(None),
        Some(Value::String(any)) if any == "any" => Endpoint::ALL.to_vec(),
        Some(Value::Array(several)) => several.iter().map(read).collect::<Result<_, _>>()?,
        Some(one) => vec![read(&one)?],
    }))
}

fn only(fields: &mut Fields) -> Result<Option<Only>, ScriptError> {
    Ok(Some(match fields.0.remove("only") {
        None => return Ok(None),
        Some(Value::String(text)) if text == "posts" => Only::Posts,
        Some(Value::String(text)) if text == "replaces" => Only::Replaces,
        Some(value) => Only::StatusIn(serde_json::from_value(value.clone()).map_err(|_| {
            ScriptError::at(
                "only",
                format!("{value} is neither `posts` nor `replaces` nor an array of texts"),
            )
        })?),
    }))
}

fn action(name: &str, fields: &mut Fields) -> Result<Action, ScriptError> {
    Ok(match name {
        "respond" => Action::Respond(respond(fields)?),
        "problem" => Action::Respond(problem(fields)?),
        "delay" => Action::Delay(fields.needed("seconds", |fields| fields.seconds("seconds"))?),
        "hang" => Action::Hang,
        "reset" => Action::Reset,
        "abort" => Action::Abort,
        "flood" => Action::Flood(fields.number("bytes", u64::MAX)?.unwrap_or(1 << 30)),
        "cut" => Action::Cut(u8::try_from(fields.number("keep", 100)?.unwrap_or(50)).unwrap_or(100)),
        "patch" => {
            let missing = || ScriptError::at("patch", "missing");
            Action::Patch(fields.0.remove("patch").ok_or_else(missing)?)
        }
        "body" => Action::Body(Bytes::from(fields.needed("body", |fields| fields.text("body"))?)),
        "chain" => Action::Chain(match fields.needed("order", |fields| fields.text("order"))?.as_str() {
            "intermediate-first" => ChainFault::IntermediateFirst,
            "leaf-missing" => ChainFault::LeafMissing,
            other => {
                let why = format!("`{other}` is unknown; `intermediate-first` or `leaf-missing`");
                return Err(ScriptError::at("order", why));
            }
        }),
        "set-header" => Action::SetHeader(
            header_name("name", &fields.needed("name", |fields| fields.text("name"))?)?,
            header_value("value", &fields.needed("value", |fields| fields.text("value"))?)?,
        ),
        "remove-header" => {
            Action::RemoveHeader(header_name("name", &fields.needed("name", |fields| fields.text("name"))?)?)
        }
        "huge-headers" => {
            let count = fields.needed("count", |fields| fields.number("count", 10_000))?;
            let bytes =
                fields.needed("bytes", |fields| fields.number("bytes", LARGEST_HEADERS / count.max(1)))?;
            let too_many = |_| ScriptError::at("count", "too many");
            Action::HugeHeaders {
                count: u16::try_from(count).map_err(too_many)?,
                bytes: usize::try_from(bytes).map_err(too_many)?,
            }
        }
        other => return Err(ScriptError::at("action", format!("`{other}` is unknown; one of {ACTIONS}"))),
    })
}

fn respond(fields: &mut Fields) -> Result<Answer, ScriptError> {
    let mut answer = Answer::new(fields.needed("status", Fields::status)?);
    let content_type = fields.text("content_type")?;
    let body = fields.text("body")?.unwrap_or_default();
    if let Some(content_type) = content_type {
        answer = answer.body(header_value("content_type", &content_type)?, body);
    } else if !body.is_empty() {
        return Err(ScriptError::at("content_type", "missing, as there is a `body`"));
    }
    match fields.0.remove("headers") {
        None => {}
        Some(Value::Object(headers)) => {
            for (name, value) in headers {
                let text = value
                    .as_str()
                    .ok_or_else(|| ScriptError::at("headers", format!("`{name}` is not a text")))?;
                answer = answer.header(header_name("headers", &name)?, header_value("headers", text)?);
            }
        }
        Some(other) => return Err(ScriptError::at("headers", format!("{other} is not an object"))),
    }
    if fields.flag("nonce")? == Some(true) {
        answer = answer.with_nonce();
    }
    retry_after(answer, fields)
}

fn problem(fields: &mut Fields) -> Result<Answer, ScriptError> {
    let kind = fields.needed("type", |fields| fields.text("type"))?;
    let status = fields.needed("status", Fields::status)?;
    let detail = fields.text("detail")?.unwrap_or_default();
    let document = serde_json::json!({
        "type": format!("urn:ietf:params:acme:error:{kind}"), "detail": detail, "status": status.as_u16(),
    });
    let content_type = HeaderValue::from_static("application/problem+json");
    retry_after(Answer::new(status).body(content_type, document.to_string()).with_nonce(), fields)
}

fn retry_after(answer: Answer, fields: &mut Fields) -> Result<Answer, ScriptError> {
    Ok(match (fields.number("retry_after", u64::MAX)?, fields.seconds("retry_after_date")?) {
        (Some(_), Some(_)) => {
            return Err(ScriptError::at("retry_after_date", "not together with `retry_after`"));
        }
        (Some(seconds), None) => answer.retry_after(RetryAfter::Seconds(seconds)),
        (None, Some(wait)) => answer.retry_after(RetryAfter::Date(wait)),
        (None, None) => answer,
    })
}

fn header_name(field: &str, text: &str) -> Result<HeaderName, ScriptError> {
    let name = HeaderName::try_from(text)
        .map_err(|_| ScriptError::at(field, format!("`{text}` is not the name of a header")))?;
    if [CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) {
        return Err(ScriptError::at(field, format!("`{name}` cannot be changed; see the action `abort`")));
    }
    Ok(name)
}

fn header_value(field: &str, text: &str) -> Result<HeaderValue, ScriptError> {
    HeaderValue::try_from(text)
        .map_err(|_| ScriptError::at(field, format!("{text:?} cannot be a header's value")))
}

/// What of a rule has not been read yet.
struct Fields(Map<String, Value>);

impl Fields {
    fn needed<T>(
        &mut self,
        name: &str,
        read: impl FnOnce(&mut Self) -> Result<Option<T>, ScriptError>,
    ) -> Result<T, ScriptError> {
        read(self)?.ok_or_else(|| ScriptError::at(name, "missing"))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, ScriptError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(ScriptError::at(name, format!("{other} is not a text"))),
        }
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, ScriptError> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(ScriptError::at(name, format!("{other} is neither true nor false"))),
        }
    }

    fn number(&mut self, name: &str, largest: u64) -> Result<Option<u64>, ScriptError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        match value.as_u64().filter(|number| *number <= largest) {
            Some(number) => Ok(Some(number)),
            None => Err(ScriptError::at(name, format!("{value} is not a whole number from 0 to {largest}"))),
        }
    }

    fn seconds(&mut self, name: &str) -> Result<Option<Duration>, ScriptError> {
        let Some(value) = self.0.remove(name) else { return Ok(None) };
        match value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()) {
            Some(duration) => Ok(Some(duration)),
            None => Err(ScriptError::at(name, format!("{value} is not a number of seconds"))),
        }
    }

    fn status(&mut self) -> Result<Option<StatusCode>, ScriptError> {
        let Some(status) = self.number("status", 999)? else { return Ok(None) };
        // A 1xx would never end the request.
        match u16::try_from(status).ok().filter(|status| *status >= 200).map(StatusCode::from_u16) {
            Some(Ok(status)) => Ok(Some(status)),
            _ => Err(ScriptError::at("status", format!("{status} is not the status of an answer"))),
        }
    }
}
