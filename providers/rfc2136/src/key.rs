//! The TSIG key, and the file BIND keeps it in.

use std::path::{Path, PathBuf};

use acmekit_core::{Error, ErrorKind, Result, Secret};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;

/// The algorithm of a TSIG key (RFC 8945 section 6). SHA-1 and MD5 are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Algorithm {
    /// `hmac-sha256`, the default.
    #[default]
    HmacSha256,
    /// `hmac-sha384`.
    HmacSha384,
    /// `hmac-sha512`.
    HmacSha512,
}

impl TryFrom<String> for Algorithm {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        match text.trim_end_matches('.').to_ascii_lowercase().as_str() {
            "hmac-sha256" => Ok(Self::HmacSha256),
            "hmac-sha384" => Ok(Self::HmacSha384),
            "hmac-sha512" => Ok(Self::HmacSha512),
            _ => Err(Error::new(
                ErrorKind::Config,
                "rfc2136.algorithm",
                format!("`{}` is no TSIG algorithm acmekit uses", text.escape_debug()),
            )
            .with_hint("use hmac-sha256, hmac-sha384 or hmac-sha512; `tsig-keygen` makes such a key (SHA-1 and MD5 are too weak)")),
        }
    }
}

/// A TSIG key: the name both sides know it by, and the secret.
///
/// In a configuration it is written out, or named by its file, which is read at once:
/// ```
/// use acmekit_rfc2136::Key;
/// let key: Key = serde_json::from_str(r#"{ "name": "acme.example.com", "secret": "3q2+7w==" }"#).unwrap();
/// assert_eq!(key.name, "acme.example.com");
/// let missing = serde_json::from_str::<Key>(r#"{ "file": "/etc/acme/missing.key" }"#).unwrap_err();
/// assert!(missing.to_string().contains("/etc/acme/missing.key"));
/// ```
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Form")]
#[non_exhaustive]
pub struct Key {
    /// Its name, such as `acme.example.com`.
    pub name: String,
    /// Its algorithm (default `hmac-sha256`).
    pub algorithm: Algorithm,
    /// Its secret, base64, as `tsig-keygen` prints it.
    pub secret: Secret<String>,
}

/// A key as a configuration has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    file: Option<PathBuf>,
    name: Option<String>,
    algorithm: Option<Algorithm>,
    secret: Option<Secret<String>>,
}

impl TryFrom<Form> for Key {
    type Error = Error;

    fn try_from(form: Form) -> Result<Self> {
        match form {
            Form { file: Some(path), name: None, algorithm: None, secret: None } => Self::from_file(path),
            Form { file: None, name: Some(name), algorithm, secret: Some(secret) } => {
                Ok(Self { name, algorithm: algorithm.unwrap_or_default(), secret })
            }
            _ => Err(Error::new(
                ErrorKind::Config,
                "rfc2136.key",
                "a key is given by `name` and `secret` (and `algorithm`), or by `file` alone",
            )),
        }
    }
}

impl Key {
    /// A key from its parts.
    pub fn new(name: impl Into<String>, algorithm: Algorithm, secret: impl Into<Secret<String>>) -> Self {
        Self { name: name.into(), algorithm, secret: secret.into() }
    }

    /// Reads a file as `tsig-keygen` writes it:
    /// `key "name" { algorithm hmac-sha256; secret "…"; };`
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the file and what is wrong in it.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|e| {
            Error::new(ErrorKind::Config, "rfc2136.key_file", "the key file cannot be read")
                .with("path", path.display())
                .with("reason", &e)
                .with_source(e)
        })?;
        Self::parse(&Secret::new(text)).map_err(|e| e.with("path", path.display()))
    }

    /// Reads the text of such a file. It holds one key; comments are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that says what is wrong in it, without the secret.
    pub fn parse(text: &Secret<String>) -> Result<Self> {
        let refuse = |why: String| {
            Error::new(ErrorKind::Config, "rfc2136.key_file", why)
                .with_hint("it should read: key \"name\" { algorithm hmac-sha256; secret \"…\"; };")
        };
        let lacks = |what: &str| refuse(format!("there is no {what} in the key file"));
        let mut keys = keys(text.expose());
        if keys.len() > 1 {
            let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
            return Err(refuse(format!("the key file has several keys: {}", names.join(" "))));
        }
        let found = keys.pop().ok_or_else(|| lacks("key name"))?;
        let algorithm = found.algorithm.ok_or_else(|| lacks("algorithm"))?.to_owned();
        Ok(Self {
            name: found.name.to_owned(),
            algorithm: algorithm.try_into()?,
            secret: Secret::new(found.secret.ok_or_else(|| lacks("secret"))?.to_owned()),
        })
    }

    pub(crate) fn octets(&self) -> Result<Secret<Vec<u8>>> {
        let refuse = |why: &str| {
            Error::new(ErrorKind::Config, "rfc2136.key", format!("the TSIG secret is not usable: {why}"))
                .with("key", &self.name)
                .with_hint("copy the text between the quotes behind `secret` in the key file")
        };
        let octets =
            BASE64_STANDARD.decode(self.secret.expose().trim()).map_err(|_| refuse("it is not base64"))?;
        if octets.is_empty() { Err(refuse("it is empty")) } else { Ok(Secret::new(octets)) }
    }
}

/// One `key` statement, as far as it goes.
struct Statement<'a> {
    name: &'a str,
    algorithm: Option<&'a str>,
    secret: Option<&'a str>,
}

#[derive(PartialEq, Eq)]
enum Token<'a> {
    Word(&'a str),
    Open,
    Close,
    End,
}

/// The `key "name" { … };` statements of a file in BIND's syntax.
fn keys(text: &str) -> Vec<Statement<'_>> {
    let mut tokens = tokens(text).into_iter();
    let mut found = Vec::new();
    while let Some(token) = tokens.next() {
        if token != Token::Word("key") {
            continue;
        }
        let (Some(Token::Word(name)), Some(Token::Open)) = (tokens.next(), tokens.next()) else { break };
        let mut key = Statement { name, algorithm: None, secret: None };
        let mut clause = Vec::new();
        for token in tokens.by_ref() {
            match (token, clause.as_slice()) {
                (Token::Word(word), _) => clause.push(word),
                (Token::Open, _) | (Token::Close, []) => break,
                (ends, words) => {
                    match words {
                        ["algorithm", word] => key.algorithm = Some(*word),
                        ["secret", word] => key.secret = Some(*word),
                        _ => {}
                    }
                    clause.clear();
                    if ends == Token::Close {
                        break;
                    }
                }
            }
        }
        found.push(key);
    }
    found
}

/// Comments begin only where a word could: a secret in base64 may have `//` in it.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let after = |mark: &str, skipped: &'static str| {
            rest.strip_prefix(mark).map(|inside| inside.split_once(skipped).unwrap_or((inside, "")))
        };
        let comment = after("//", "\n").or_else(|| after("#", "\n")).or_else(|| after("/*", "*/"));
        rest = match (comment, after("\"", "\""), first) {
            (Some((_, behind)), ..) => behind,
            (None, Some((word, behind)), _) => {
                out.push(Token::Word(word));
                behind
            }
            (None, None, '{' | '}' | ';') => {
                out.push(match first {
                    '{' => Token::Open,
                    '}' => Token::Close,
                    _ => Token::End,
                });
                rest.get(1..).unwrap_or_default()
            }
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || matches!(c, '{' | '}' | ';' | '"'));
                let (word, behind) = rest.split_at(end.unwrap_or(rest.len()));
                out.push(Token::Word(word));
                behind
            }
        }
        .trim_start();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_read_as_tsig_keygen_writes_them() {
        for text in [
            "key \"acme.example\" {\n\talgorithm hmac-sha512;\n\tsecret \"c2VjcmV0\";\n};\n",
            "# made by hand\nkey acme.example { algorithm HMAC-SHA512; secret c2VjcmV0; }; // end",
            "/* key \"old\" { } */ key \"acme.example\" { secret \"c2VjcmV0\"; algorithm \"hmac-sha512\" };",
        ] {
            let key = Key::parse(&text.into()).unwrap();
            assert_eq!((key.name.as_str(), key.algorithm), ("acme.example", Algorithm::HmacSha512));
            assert_eq!(key.octets().unwrap().expose(), b"secret");
        }
    }

    #[test]
    fn slashes_in_a_secret_begin_no_comment() {
        for text in [
            "key \"a\" { algorithm hmac-sha256; secret \"ab//cd==\"; };",
            "key a { algorithm hmac-sha256; secret ab//cd==; };",
        ] {
            assert_eq!(Key::parse(&text.into()).unwrap().secret.expose(), "ab//cd==");
        }
    }

    #[test]
    fn a_key_may_be_called_like_a_word_of_the_syntax() {
        for name in ["key", "secret", "algorithm"] {
            let text = format!("key \"{name}\" {{ algorithm hmac-sha384; secret \"c2VjcmV0\"; }};");
            let key = Key::parse(&text.into()).unwrap();
            assert_eq!((key.name.as_str(), key.algorithm), (name, Algorithm::HmacSha384));
            assert_eq!(key.octets().unwrap().expose(), b"secret");
        }
    }

    #[test]
    fn bad_keys_are_refused_and_never_shown() {
        for bad in [
            "",
            "key",
            "key \"a\" { secret \"c2VjcmV0\"; };",
            "key \"a\" { algorithm hmac-sha256; secret; };",
            "key \"a\" { algorithm hmac-md5; secret \"c2VjcmV0\"; };",
            "key \"a\" { algorithm hmac-sha1; secret \"c2VjcmV0\"; };",
            "key \"a\" { algorithm hmac-sha256; secret \"c2VjcmV0\"; }; key \"b\" { };",
        ] {
            let error = Key::parse(&bad.into()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(!error.report().contains("c2VjcmV0"), "{}", error.report());
            assert!(error.hint().is_some());
        }
        let key = Key::new("a", Algorithm::default(), "not base64!");
        assert!(!key.octets().unwrap_err().report().contains("not base64!"));
        assert!(!format!("{key:?}").contains("not base64!"));
    }

    #[test]
    fn a_configuration_gives_a_key_or_its_file_but_not_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = "key \"filed\" { algorithm hmac-sha512; secret \"c2VjcmV0\"; };";
        std::io::Write::write_all(&mut file.as_file(), text.as_bytes()).unwrap();
        let path = serde_json::to_string(file.path()).unwrap();
        let key: Key = serde_json::from_str(&format!(r#"{{ "file": {path} }}"#)).unwrap();
        assert_eq!((key.name.as_str(), key.algorithm), ("filed", Algorithm::HmacSha512));
        for bad in [
            format!(r#"{{ "file": {path}, "name": "a" }}"#),
            r#"{ "name": "a" }"#.to_owned(),
            r#"{ "name": "a", "secret": "c2VjcmV0", "algorithm": "hmac-md5" }"#.to_owned(),
        ] {
            let error = serde_json::from_str::<Key>(&bad).unwrap_err().to_string();
            assert!(!error.contains("c2VjcmV0"), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_key_or_an_error(text in "[ke\"{};#/* \na-z=]{0,60}") {
            let _ = Key::parse(&text.into());
        }
    }
}
