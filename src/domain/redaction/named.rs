//! Which configured and inherited values are secrets.

use super::VALUE_BYTES_MIN;
use serde_json::Value;

/// Where things are, who somebody is, how to speak: never secrets, and in every second line that a tool prints.
const PLAIN: [&str; 16] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "PWD",
    "TERM",
    "NODE_ENV",
    "NODE_EXTRA_CA_CERTS",
    "EDITOR",
    "ACCEPT",
    "CONTENT-TYPE",
    "USER-AGENT",
];
const PLAIN_FAMILIES: [&str; 3] = ["LC_", "XDG_", "SSL_CERT_"];

/// A shorter value may be a word with a number.
const RANDOM_BYTES_MIN: usize = 16;
/// So many different letters at least: 16 random hex digits have about ten.
const RANDOM_VARIETY_MIN: usize = 9;

/// The name of a variable, a header or a key of JSON says that its value is a secret.
pub fn name_says_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let parts = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "AUTHORIZATION"];
    parts.iter().any(|part| name.contains(part))
        || ["KEY", "_PASS", "_PWD", "_AUTH", "_PAT"].iter().any(|end| name.ends_with(end))
}

/// The secrets in a variable that an agent was given on purpose: what it holds within, and all of it when its name says so or
/// when it looks random. Regions, models and modes are words of ordinary text.
pub fn of_variable(name: &str, value: &str) -> Vec<String> {
    let mut secrets = of_address(value);
    if !is_plain(name, value) {
        if name_says_secret(name) || looks_random(value) {
            secrets.push(value.to_owned());
        }
        within(value, &mut secrets);
    }
    secrets
}

/// The secrets in a header that an agent was given: all of it, and what it holds within. One that says how to speak is none.
pub fn of_header(name: &str, value: &str) -> Vec<String> {
    let mut secrets = of_address(value);
    if !is_plain(name, value) {
        secrets.push(value.to_owned());
        within(value, &mut secrets);
    }
    secrets
}

/// Says where things are, or how to speak; or is a proxy, of which the password is a secret alone.
fn is_plain(name: &str, value: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    PLAIN.contains(&upper.as_str())
        || PLAIN_FAMILIES.iter().any(|family| upper.starts_with(family))
        || upper.ends_with("_PROXY")
        || value.starts_with('/') && !name_says_secret(name)
}

fn within(value: &str, secrets: &mut Vec<String>) {
    secrets.extend(behind_scheme(value));
    if let Ok(json) = serde_json::from_str::<Value>(value) {
        of_json(&json, false, secrets);
    }
}

/// Made by no human: most of it is in parts that mix letters and digits, and few letters come twice. A version within a name, as
/// of a model, is a small part of it.
fn looks_random(value: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~+/=:".contains(&byte);
    if value.len() < RANDOM_BYTES_MIN || value.contains("://") || !value.bytes().all(is_of_token) {
        return false;
    }
    let is_mixed = |part: &&str| {
        part.len() >= 4
            && part.bytes().any(|byte| byte.is_ascii_digit())
            && part.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    let parts = value.split(|letter: char| !letter.is_ascii_alphanumeric());
    let mixed: usize = parts.filter(is_mixed).map(str::len).sum();
    let variety: std::collections::BTreeSet<u8> = value.bytes().collect();
    mixed * 2 >= value.len() && variety.len() >= RANDOM_VARIETY_MIN
}

/// The password and the values behind `?` of an address, where keys are put; a user that stands alone may be a key, too. A password
/// that is the user's own name (`postgres:postgres`) protects nothing, and is a word of ordinary text.
pub fn of_address(url: &str) -> Vec<String> {
    let Some((_, rest)) = url.split_once("://") else { return Vec::new() };
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let host = place.split_once('/').map_or(place, |(host, _)| host);
    let mut secrets: Vec<String> = Vec::new();
    if let Some((user, _)) = host.rsplit_once('@') {
        let (name, password) = user.split_once(':').unwrap_or(("", user));
        secrets.extend((name != password).then(|| password.to_owned()));
    }
    secrets
        .extend(query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value.to_owned()));
    let decoded: Vec<String> = secrets.iter().map(|secret| percent_decoded(secret)).collect();
    secrets.extend(decoded);
    secrets.retain(|secret| secret.len() >= VALUE_BYTES_MIN);
    secrets
}

/// `Bearer x` is secret for its `x`.
fn behind_scheme(value: &str) -> Option<String> {
    let (scheme, rest) = value.split_once(' ')?;
    ["bearer", "basic", "token"]
        .contains(&scheme.to_ascii_lowercase().as_str())
        .then(|| rest.trim().to_owned())
}

/// The texts of a JSON that stand under a name that says secret.
fn of_json(value: &Value, named: bool, secrets: &mut Vec<String>) {
    match value {
        Value::String(text) if named => secrets.extend([text.clone()].into_iter().chain(behind_scheme(text))),
        Value::String(text) => secrets.extend(of_address(text)),
        Value::Array(items) => items.iter().for_each(|item| of_json(item, named, secrets)),
        Value::Object(fields) => {
            fields.iter().for_each(|(key, item)| of_json(item, name_says_secret(key), secrets));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn percent_decoded(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, behind)) = rest.split_first() {
        let code = behind.get(..2).filter(|_| *byte == b'%');
        let code = code.and_then(|code| u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok());
        out.push(code.unwrap_or(*byte));
        rest = if code.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_is_secret() {
        for name in [
            "OPENAI_API_KEY",
            "GITHUB_TOKEN",
            "PGPASSWORD",
            "AWS_SECRET_ACCESS_KEY",
            "apiKey",
            "X-Api-Key",
            "DB_PASS",
        ] {
            assert!(name_says_secret(name), "{name}");
        }
        for name in ["PATH", "MODEL", "BASE_URL", "KEYBOARD", "PASSENGERS", "OLDPWD"] {
            assert!(!name_says_secret(name), "{name}");
        }
    }

    #[test]
    fn a_variable_is_secret_as_a_whole_and_in_its_parts() {
        let config =
            r#"{"provider": {"x": {"options": {"apiKey": "k3y-of-provider", "name": "ordinary-name"}}}}"#;
        assert_eq!(of_variable("OPENCODE_CONFIG_CONTENT", config), ["k3y-of-provider"]);
        assert_eq!(of_variable("AUTH", "Bearer abcdefgh"), ["abcdefgh"]);
        assert_eq!(of_variable("DB_AUTH", "ordinary words"), ["ordinary words"]);
        assert_eq!(of_header("X-Auth", "Bearer abcdefgh"), ["Bearer abcdefgh", "abcdefgh"]);
        assert_eq!(of_header("X-Workspace", "ordinary"), ["ordinary"]);
        assert_eq!(of_header("Accept", "application/json"), Vec::<String>::new());
        let url = "postgres://ann:p%40ssw0rd@db/x";
        assert_eq!(of_variable("DB", url), ["p%40ssw0rd", "p@ssw0rd"]);
        assert_eq!(of_variable("PATH", "/usr/local/bin:/usr/bin"), Vec::<String>::new());
        assert_eq!(of_variable("HTTPS_PROXY", "http://u:passw0rd@proxy:1"), ["passw0rd", "passw0rd"]);
        assert_eq!(of_address("postgres://postgres:postgres@localhost/x"), Vec::<String>::new());
        assert_eq!(
            of_address("https://key-in-user@host/mcp?key=in-query&v=1"),
            ["key-in-user", "in-query", "key-in-user", "in-query"]
        );
    }

    #[test]
    fn ordinary_words_in_a_variable_are_no_secret_and_what_looks_random_is() {
        for value in [
            "us-east-1",
            "development",
            "claude-sonnet-4-5",
            "claude-3-5-sonnet-20241022",
            "us.anthropic.claude-sonnet-4-20250514-v1:0",
            "qwen2.5-coder-32b-instruct",
            "gpt-4o-mini-2024-07-18",
            "https://api.example.com/v1/x86",
            "1234567890123456",
            "2026-11-26T16:46:33Z",
            "a sentence of 16 letters and more",
        ] {
            assert_eq!(of_variable("ANYTHING", value), Vec::<String>::new(), "{value}");
        }
        for value in
            ["Q7wErT9yU2iOp4AsDfG6hJkL8zXcVbN1", "9f8a7b6c5d4e3f20", "f81d4fae-7dec-11d0-a765-00a0c91e6bf6"]
        {
            assert_eq!(of_variable("ANYTHING", value), [value]);
        }
        assert_eq!(of_variable("APP_SECRET", "development"), ["development"]);
    }
}
