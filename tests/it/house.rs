//! The rules of the house, read from the house itself: who imports whom, no dead file, no path in the README that is
//! not there, no statement without a header. Each rule is a pure function over a tree of files, so that a breach can be
//! fed to it: a rule that no breach has tried is not a rule.

use crate::support::source::{Declared, declared_modules, named_paths, tokens, word};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Path within the repository → text.
type Tree = BTreeMap<String, String>;

/// Where programs begin, and the folder that their modules lie in.
const ROOTS: [(&str, &str); 10] = [
    ("src/lib.rs", "src/"),
    ("src/main.rs", "src/"),
    ("tests/it/main.rs", "tests/it/"),
    ("tests/fixture_agent/main.rs", "tests/fixture_agent/"),
    ("tests/kill/main.rs", "tests/kill/"),
    ("tests/agents/main.rs", "tests/agents/"),
    ("tests/contract/main.rs", "tests/contract/"),
    ("benches/warm_turn.rs", "benches/"),
    ("benches/acp_turn.rs", "benches/"),
    ("benches/live_streams.rs", "benches/"),
];
/// Longest file of src, in lines.
const LINES_MAX: usize = 400;
/// Folders and files that are read; `target` and recorded traffic are not the house.
const READ: [&str; 12] = [
    "src",
    "tests",
    "sql",
    "benches",
    "deploy",
    "docs",
    ".ci",
    ".github",
    "README.md",
    "Cargo.toml",
    "build.rs",
    "fixtures/scripted",
];

#[test]
fn rooms_import_only_what_the_table_in_lib_rs_allows() {
    nothing(forbidden_imports(&the_house()));
}

#[test]
fn every_source_file_is_reached_by_a_mod() {
    nothing(dead_files(&the_house()));
}

#[test]
fn every_path_in_the_readme_exists() {
    nothing(missing_readme_paths(&the_house(), &|path| repository().join(path).exists()));
}

#[test]
fn every_statement_says_its_purpose_its_parameters_and_what_zero_rows_means() {
    nothing(headless_statements(&the_house()));
}

#[test]
fn sources_are_safe_short_and_documented_and_no_test_is_ignored() {
    nothing(untidy_sources(&the_house()));
}

#[test]
fn nothing_names_the_machine_it_was_written_on() {
    nothing(machine_paths(&the_house()));
}

fn nothing(breaches: Vec<String>) {
    assert!(breaches.is_empty(), "{} breaches of the house rules:\n{}", breaches.len(), breaches.join("\n"));
}

/// Room (or `room/file`) → rooms that it may use.
fn import_table(lib: &str) -> BTreeMap<Vec<String>, BTreeSet<String>> {
    let lines = lib.lines().map(|line| line.trim_start_matches("//!").trim());
    let rows = lines.skip_while(|line| *line != "```text").skip(1).take_while(|line| *line != "```");
    rows.filter_map(|row| row.split_once(':'))
        .map(|(room, allowed)| {
            let room = room.trim().split('/').map(str::to_owned).collect();
            (room, allowed.split_whitespace().map(str::to_owned).collect())
        })
        .collect()
}

fn forbidden_imports(tree: &Tree) -> Vec<String> {
    let table = import_table(tree.get("src/lib.rs").map_or("", String::as_str));
    let mut breaches = Vec::new();
    if table.is_empty() {
        breaches.push("src/lib.rs: there is no import table between //! ```text and //! ```".to_owned());
    }
    for (path, text) in sources(tree, "src/").filter(|(path, _)| *path != "src/lib.rs") {
        let module = module_of(path, "src/");
        let room = if module.is_empty() { vec!["main".to_owned()] } else { module.clone() };
        // The most specific row counts; domain needs none, as it uses itself alone.
        let row = (1..=room.len()).rev().find_map(|n| table.get(&room[..n]));
        if row.is_none() && room[0] != "domain" {
            breaches.push(format!("{path}: room {} has no row in the table of src/lib.rs", room[0]));
            continue;
        }
        let mut seen = BTreeSet::new();
        for named in named_paths(&tokens(text), &module, "agentpool") {
            let Some(target) =
                named.segments.first().filter(|room| seen.insert((named.line, (*room).clone())))
            else {
                continue;
            };
            let allowed = *target == room[0]
                || target == "domain"
                || row.is_some_and(|allowed| allowed.contains(target));
            if !allowed {
                breaches.push(format!("{path}:{}: {} may not use {target}", named.line, room.join("/")));
            }
        }
    }
    breaches
}

fn dead_files(tree: &Tree) -> Vec<String> {
    let mut reached = BTreeSet::new();
    let mut breaches = Vec::new();
    for (root, base) in ROOTS {
        let mut open = vec![root.to_owned()];
        while let Some(path) = open.pop() {
            let Some(text) = tree.get(&path) else { continue };
            let tokens = tokens(text);
            // A root's modules lie beside it.
            let below = if path == root { Vec::new() } else { module_of(&path, base) };
            for Declared { path: name, line } in declared_modules(&tokens) {
                let stem = format!("{base}{}", [below.clone(), name].concat().join("/"));
                let file = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
                match file.into_iter().find(|file| tree.contains_key(file)) {
                    Some(file) => open.push(file),
                    None => breaches.push(format!("{path}:{line}: mod {stem} has no file")),
                }
            }
            reached.insert(path);
        }
    }
    let all = ["src/", "tests/", "benches/"].into_iter().flat_map(|base| sources(tree, base));
    breaches.extend(
        all.filter(|(path, _)| !reached.contains(*path))
            .map(|(path, _)| format!("{path}: no mod reaches it")),
    );
    breaches
}

/// What stands in backticks and begins with a folder of the repository, and every relative link.
fn missing_readme_paths(tree: &Tree, exists: &dyn Fn(&str) -> bool) -> Vec<String> {
    let Some(readme) = tree.get("README.md") else { return vec!["README.md: there is none".to_owned()] };
    const FOLDERS: [&str; 8] = ["src", "sql", "tests", "fixtures", "benches", "deploy", "docs", ".ci"];
    let in_backticks = readme.split('`').skip(1).step_by(2);
    let in_backticks =
        in_backticks.filter(|text| text.split_once('/').is_some_and(|(first, _)| FOLDERS.contains(&first)));
    let links = readme.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(link, _)| link));
    let links = links.filter(|link| !link.contains("://") && !link.starts_with(['#', '/']));
    in_backticks
        .chain(links)
        // An anchor, a line number or an argument behind a path is no part of it; a pattern is as good as its folder.
        .filter_map(|text| text.split(['#', ':', ' ', '\n', '*', '{']).next())
        .filter(|path| !path.is_empty() && !exists(path.trim_end_matches('/')))
        .map(|path| format!("README.md: {path} does not exist"))
        .collect()
}

fn headless_statements(tree: &Tree) -> Vec<String> {
    let statements = tree.iter().filter(|(path, _)| {
        path.starts_with("sql/") && path.ends_with(".sql") && !path.starts_with("sql/migrations/")
    });
    let headless = |text: &str| {
        let header: Vec<&str> = text.lines().take_while(|line| line.starts_with("--")).collect();
        let header = header.join(" ").to_lowercase();
        // A statement that always returns one row has no zero to explain, and says that.
        let rows = header.contains("zero rows") || header.contains("one row");
        !(header.contains("purpose:") && header.contains("parameters:") && rows)
    };
    statements
        .filter(|(_, text)| headless(text))
        .map(|(path, _)| format!("{path}: begin with -- Purpose: … Parameters: … Zero rows: …"))
        .collect()
}

fn untidy_sources(tree: &Tree) -> Vec<String> {
    let mut breaches = Vec::new();
    for (path, text) in sources(tree, "") {
        if !text.starts_with("//!") {
            breaches.push(format!("{path}: begin with //! and say what the file is"));
        }
        if path.starts_with("src/") && text.lines().count() > LINES_MAX {
            let lines = text.lines().count();
            breaches.push(format!("{path}: {lines} lines, ask which noun hides in it ({LINES_MAX} at most)"));
        }
        let tokens = tokens(text);
        for (at, token) in tokens.iter().enumerate() {
            match token.text.as_str() {
                "unsafe" => breaches.push(format!("{path}:{}: unsafe", token.line)),
                "ignore" if at > 0 && word(&tokens, at - 1) == "[" && !is_part(text, token.line) => {
                    breaches.push(format!("{path}:{}: an ignored test proves nothing", token.line));
                }
                _ => {}
            }
        }
    }
    breaches
}

/// Parts are no tests: other tests start them in a process of their own, and fail when they do.
fn is_part(text: &str, line: usize) -> bool {
    let marked = text.lines().nth(line.saturating_sub(1));
    marked.is_some_and(|line| line.contains("a part that other tests start in a process of its own"))
}

fn machine_paths(tree: &Tree) -> Vec<String> {
    // Put together here, so that this file does not name them itself.
    let marks: Vec<String> = ["root/", "work/", "home/"].into_iter().map(|rest| format!("/{rest}")).collect();
    let names_one = |line: &str| {
        marks.iter().any(|mark| {
            line.match_indices(mark.as_str()).any(|(at, _)| {
                let before = &line[..at];
                // A folder of that name below another one is nobody's machine.
                !before.ends_with(|c: char| c.is_alphanumeric() || "./}_-*>$~)".contains(c))
            })
        })
    };
    tree.iter()
        .flat_map(|(path, text)| text.lines().enumerate().map(move |(n, line)| (path, n + 1, line)))
        .filter(|(_, _, line)| names_one(line))
        .map(|(path, n, line)| format!("{path}:{n}: names a folder of one machine: {}", line.trim()))
        .collect()
}

fn sources<'a>(tree: &'a Tree, below: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    tree.iter()
        .filter(move |(path, _)| path.starts_with(below) && path.ends_with(".rs"))
        .map(|(path, text)| (path.as_str(), text.as_str()))
}

/// The module that a file is: `src/pool/mod.rs` → pool, `src/pool/slot.rs` → pool, slot; roots → nothing.
fn module_of(path: &str, base: &str) -> Vec<String> {
    let stem = path.trim_start_matches(base).trim_end_matches(".rs");
    let mut module: Vec<String> = stem.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod")) || matches!(stem, "lib" | "main") {
        module.pop();
    }
    module
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn the_house() -> Tree {
    let mut tree = Tree::new();
    for name in READ {
        read_into(&mut tree, &repository().join(name));
    }
    assert!(tree.contains_key("src/lib.rs"), "the repository was not found");
    tree
}

fn read_into(tree: &mut Tree, path: &Path) {
    if path.is_dir() {
        for entry in fs::read_dir(path).expect("a folder of the repository can be read") {
            read_into(tree, &entry.expect("its entries too").path());
        }
    } else if let Ok(bytes) = fs::read(path) {
        let name = path.strip_prefix(repository()).expect("it lies in the repository");
        tree.insert(name.to_string_lossy().into_owned(), String::from_utf8_lossy(&bytes).into_owned());
    }
}

/// The rules tried on small houses with a breach in them.
mod breaches {
    use super::*;

    const LIB: &str = "//! doc\n//! ```text\n//! pool : backend\n//! dispatch : pool\n//! dispatch/pg : store\n//! main : pool\n//! ```\npub mod pool;";

    fn house(files: &[(&str, &str)]) -> Tree {
        let lib = ("src/lib.rs", LIB);
        [lib].iter().chain(files).map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
    }

    fn imports(path: &str, text: &str) -> usize {
        forbidden_imports(&house(&[(path, text)])).len()
    }

    #[test]
    fn a_forbidden_import_is_seen_however_it_is_written() {
        for text in [
            "use crate::store::Queue;",
            "use crate::{backend::X, store::{self, Y}};",
            "use crate::{\n    domain::ids,\n    backend::{A, b::{C, D as E}},\n    store,\n};",
            "fn f() { let x = crate::store::open(); }",
            "fn f(x: &'a crate::store::Pool) {}",
            "use super::store::Queue;",
            "mod tests { use super::super::store::Queue; }",
            "mod inner { mod tests { use super::super::super::store::Queue; } }",
            "macro_rules! m { () => { $crate::store::X } }",
            "pub(in crate::store) fn f() {}",
        ] {
            assert_eq!(imports("src/pool/mod.rs", text), 1, "{text}");
        }
        assert_eq!(imports("src/main.rs", "use agentpool::store;"), 1);
        assert_eq!(imports("src/domain/task.rs", "use crate::pool::Slot;"), 1);
        assert_eq!(imports("src/pool/slot.rs", "use super::super::store::X;"), 1);
    }

    #[test]
    fn what_is_allowed_or_only_spoken_of_is_no_breach() {
        for text in [
            "use crate::{backend::X, domain::{ids, task}, pool::Slot};",
            "// crate::store::X\n/* use crate::store; /* nested */ crate::store::Y */",
            "/// [`crate::store::X`]\nfn f() { let s = \"crate::store\"; let r = r#\"\" crate::store::X\"#; }",
            "fn f() { let c = '\"'; let d = '\\''; }\nmod tests { use super::*; use super::slot::Z; }",
            "pub(crate) fn f<'a>(x: &'a str) {}",
        ] {
            assert_eq!(
                forbidden_imports(&house(&[("src/pool/mod.rs", text)])),
                Vec::<String>::new(),
                "{text}"
            );
        }
    }

    #[test]
    fn a_row_for_one_file_overrides_its_rooms_row() {
        assert_eq!(imports("src/dispatch/pg.rs", "use crate::store::X;"), 0);
        assert_eq!(imports("src/dispatch/pg.rs", "use crate::pool::X;"), 1);
        assert_eq!(imports("src/dispatch/executor.rs", "use crate::store::X;"), 1);
        assert_eq!(imports("src/dispatch/pg.rs", "use crate::dispatch::X;"), 0);
    }

    #[test]
    fn a_room_without_a_row_and_a_missing_table_are_seen() {
        assert_eq!(imports("src/attic/mod.rs", ""), 1);
        let bare = Tree::from([("src/lib.rs".to_owned(), "//! doc".to_owned())]);
        assert_eq!(forbidden_imports(&bare).len(), 1);
    }

    #[test]
    fn a_dead_file_and_a_mod_without_a_file_are_seen() {
        let files = [
            ("src/pool/mod.rs", "mod slot;\nmod inline { mod deep; }\n// mod attic;"),
            ("src/pool/slot.rs", ""),
            ("src/pool/inline/deep.rs", ""),
            ("src/pool/attic.rs", ""),
            ("tests/it/main.rs", "mod gone;"),
            ("benches/warm_turn.rs", "mod parts;\n#[path = \"../tests/it/lent.rs\"]\npub mod lent;"),
            ("benches/parts/mod.rs", ""),
            ("benches/parts/idle.rs", ""),
        ];
        let breaches = dead_files(&house(&files));
        assert_eq!(breaches.len(), 3, "{breaches:?}");
        for (breach, of) in breaches.iter().zip(["gone", "src/pool/attic.rs", "benches/parts/idle.rs"]) {
            assert!(breach.contains(of), "{breach} is not of {of}");
        }
    }

    #[test]
    fn a_readme_that_lies_or_is_missing_is_seen() {
        let readme = "See `src/pool/mod.rs`, `src/gone.rs`, `tests/it/*.rs`, `a/b`, [x](docs/gone.md#top), [y](https://a.b/c).";
        let exists = |path: &str| ["src/pool/mod.rs", "tests/it"].contains(&path);
        let breaches = missing_readme_paths(&house(&[("README.md", readme)]), &exists);
        assert_eq!(breaches.len(), 2, "{breaches:?}");
        assert_eq!(missing_readme_paths(&house(&[]), &exists).len(), 1);
    }

    #[test]
    fn a_statement_without_a_header_is_seen() {
        let whole = "-- Purpose: x. Parameters: none.\n-- Zero rows: none.\nSELECT 1";
        let files = [
            ("sql/a/whole.sql", whole),
            ("sql/a/mute.sql", "-- Purpose: x. Parameters: none.\nSELECT 1 -- zero rows"),
            ("sql/migrations/V1__x.sql", "CREATE TABLE x ()"),
        ];
        let breaches = headless_statements(&house(&files));
        assert!(breaches.len() == 1 && breaches[0].contains("mute"), "{breaches:?}");
    }

    #[test]
    fn an_untidy_source_is_seen() {
        let long = format!("//! doc\n{}", "\n".repeat(LINES_MAX));
        let marked = format!("//! doc\n#[{}]\nfn f() {{ {} {{}} }}", "ignore", "unsafe");
        let files = [("src/long.rs", long.as_str()), ("src/a.rs", "fn f() {}"), ("tests/it/b.rs", &marked)];
        let breaches = untidy_sources(&house(&files));
        assert_eq!(breaches.len(), 4, "{breaches:?}");
    }

    #[test]
    fn a_path_of_one_machine_is_seen() {
        let path = ["", "root", "x"].join("/");
        let scratch = ["", "home", "me"].join("/");
        let files = [("src/a.rs", format!("//! in {path}")), ("src/b.rs", format!("let x = \"{scratch}\";"))];
        let fine = ("src/c.rs".to_owned(), "base.join(\"a/home/b\"); /tmp/here".to_owned());
        let tree: Tree =
            files.into_iter().map(|(path, text)| (path.to_owned(), text)).chain([fine]).collect();
        assert_eq!(machine_paths(&tree).len(), 2, "{:?}", machine_paths(&tree));
    }
}
