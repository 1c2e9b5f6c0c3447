//! What a permission request asks to do, as far as its payload says so in a shape that we know: opencode's own, or the one
//! that ACP's translator writes. Never reads a title: agents word that as they like. Pure.

use serde_json::{Map, Value};

/// Names of tools that run what they are given by a shell; a rule for one of them is for all.
const SHELLS: [&str; 5] = ["bash", "shell", "execute", "run_shell_command", "terminal"];
/// Names, and words of kinds, of tools whose doing is told by the files that they name.
const FILE_TOOLS: [&str; 12] = [
    "edit",
    "write",
    "multiedit",
    "notebookedit",
    "patch",
    "apply_patch",
    "read",
    "list",
    "delete",
    "move",
    "external_directory",
    "view",
];
/// Inputs of ACP agents that hold the path of a file.
const PATH_INPUTS: [&str; 11] = [
    "file_path",
    "filePath",
    "filepath",
    "path",
    "notebook_path",
    "absolute_path",
    "old_path",
    "new_path",
    "source",
    "destination",
    "target",
];
/// Inputs of ACP agents that hold the folder in which a command runs.
const FOLDER_INPUTS: [&str; 5] = ["cwd", "workdir", "working_directory", "directory", "dir"];

/// Is that tool, by its name, a shell?
pub fn is_shell(tool: &str) -> bool {
    SHELLS.contains(&tool)
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolUse {
    /// The tool's name in lower case; the word of its kind where the agent names none.
    pub tool: String,
    /// The word of its kind in lower case, where the protocol has kinds.
    pub kind: Option<String>,
    /// What it does.
    pub deed: Deed,
}

/// What a tool does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It runs a command.
    Command {
        /// As a shell would read it; `None`: it is not told.
        text: Option<String>,
        /// Folder in which it runs, where one is told.
        folder: Option<String>,
    },
    /// It reads or changes files at these paths, as the agent wrote them; `None`: not all are told.
    Files(Option<Vec<String>>),
    /// Something that only its name tells.
    Other,
}

impl ToolUse {
    /// What that payload asks for; `None` when it has no shape that we know.
    pub fn of(payload: &Value) -> Option<Self> {
        let fields = payload.as_object()?;
        match (text(fields, "permission"), text(fields, "tool")) {
            (Some(permission), _) => Some(of_opencode(permission, fields)),
            (None, Some(tool)) => Some(of_acp(tool, fields)),
            (None, None) => None,
        }
    }

    /// Does it go by that name? All shells have one name.
    pub fn is_called(&self, tool: &str) -> bool {
        let same = |name: &str| name == tool || (is_shell(name) && is_shell(tool));
        same(&self.tool) || self.kind.as_deref().is_some_and(same)
    }
}

fn of_opencode(permission: &str, fields: &Map<String, Value>) -> ToolUse {
    let tool = permission.to_lowercase();
    let metadata = fields.get("metadata").and_then(Value::as_object);
    let command = metadata.and_then(|metadata| metadata.get("command"));
    let deed = if is_shell(&tool) || command.is_some() {
        // The patterns are what opencode made of the command, and leave out what stands between its parts.
        Deed::Command { text: command.and_then(command_text), folder: None }
    } else if FILE_TOOLS.contains(&tool.as_str()) {
        Deed::Files(files_of_opencode(fields, metadata))
    } else {
        Deed::Other
    };
    ToolUse { tool, kind: None, deed }
}

/// The patterns of a request for files are paths, but not all: of a file that a patch moves they leave out where to.
fn files_of_opencode(
    fields: &Map<String, Value>,
    metadata: Option<&Map<String, Value>>,
) -> Option<Vec<String>> {
    let mut paths = strings(fields.get("patterns")?)?;
    if let Some(metadata) = metadata {
        // Of several files it is a list of relative ones, which the patterns have.
        paths.extend(text(metadata, "filepath").filter(|path| path.starts_with('/')).map(str::to_owned));
        paths.extend(patched_files(metadata)?);
    }
    (!paths.is_empty()).then_some(paths)
}

/// The `files` of opencode's patches, by HTTP and over ACP alike; none where there is no such list.
fn patched_files(fields: &Map<String, Value>) -> Option<Vec<String>> {
    let Some(files) = fields.get("files") else { return Some(Vec::new()) };
    let mut paths = Vec::new();
    for file in files.as_array()? {
        let file = file.as_object()?;
        paths.push(text(file, "filePath")?.to_owned());
        match file.get("movePath") {
            None | Some(Value::Null) => {}
            Some(to) => paths.push(to.as_str()?.to_owned()),
        }
    }
    Some(paths)
}

fn of_acp(tool: &str, fields: &Map<String, Value>) -> ToolUse {
    let tool = tool.to_lowercase();
    let kind = text(fields, "kind").map(str::to_lowercase);
    let empty = Map::new();
    let input = fields.get("input").and_then(Value::as_object).unwrap_or(&empty);
    let is = |known: &dyn Fn(&str) -> bool| known(&tool) || kind.as_deref().is_some_and(known);
    let deed = if is(&is_shell) || input.contains_key("command") {
        let folders: Vec<&Value> = FOLDER_INPUTS.iter().filter_map(|key| input.get(*key)).collect();
        let text = input.get("command").and_then(command_text);
        match folders[..] {
            [] => Deed::Command { text, folder: None },
            [Value::String(folder)] => Deed::Command { text, folder: Some(folder.clone()) },
            _ => Deed::Command { text: None, folder: None },
        }
    } else if is(&|name| FILE_TOOLS.contains(&name)) {
        let paths = files_of_acp(fields, input);
        // Where something is moved to, not each agent tells.
        let moves = is(&|name| name == "move");
        Deed::Files(paths.filter(|paths| !moves || paths.len() > 1))
    } else {
        Deed::Other
    };
    ToolUse { tool, kind, deed }
}

fn files_of_acp(fields: &Map<String, Value>, input: &Map<String, Value>) -> Option<Vec<String>> {
    let mut paths = Vec::new();
    for location in strings(fields.get("locations").unwrap_or(&Value::Array(Vec::new())))? {
        paths.push(without_line(&location).to_owned());
    }
    for diff in fields.get("diffs").and_then(Value::as_array).into_iter().flatten() {
        paths.push(text(diff.as_object()?, "path")?.to_owned());
    }
    for key in PATH_INPUTS {
        match input.get(key) {
            None | Some(Value::Null) => {}
            // A list of files in one text: which, only their agent knows.
            Some(Value::String(path)) if path.contains(", ") => return None,
            Some(path) => paths.push(path.as_str()?.to_owned()),
        }
    }
    paths.extend(patched_files(input)?);
    // codex: each file that a patch changes, by its path.
    if let Some(changes) = input.get("changes") {
        for (path, change) in changes.as_object()? {
            paths.push(path.clone());
            match change.get("move_path") {
                None | Some(Value::Null) => {}
                Some(to) => paths.push(to.as_str()?.to_owned()),
            }
        }
    }
    paths.sort_unstable();
    paths.dedup();
    (!paths.is_empty()).then_some(paths)
}

/// A location as the translator of ACP writes it: the path, and perhaps `:line`.
fn without_line(location: &str) -> &str {
    match location.rsplit_once(':') {
        Some((path, line)) if !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()) => path,
        _ => location,
    }
}

/// A command as one text: told as such, or as the words of a program's start, of which a shell's script is the command.
fn command_text(command: &Value) -> Option<String> {
    if let Value::String(text) = command {
        return Some(text.clone());
    }
    let words = strings(command)?;
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        [shell, "-c" | "-lc", script] if runs_scripts(shell) => Some(script.to_owned()),
        ref words => shlex::try_join(words.iter().copied()).ok(),
    }
}

fn runs_scripts(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("bash" | "sh" | "zsh" | "dash"))
}

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    fields.get(key)?.as_str()
}

/// A list of texts and nothing else.
fn strings(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|item| item.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn command(payload: Value) -> Option<String> {
        match ToolUse::of(&payload).expect("a known shape").deed {
            Deed::Command { text, .. } => text,
            other => panic!("{other:?}"),
        }
    }

    fn files(payload: Value) -> Option<Vec<String>> {
        match ToolUse::of(&payload).expect("a known shape").deed {
            Deed::Files(paths) => paths,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn opencodes_recorded_requests_are_read_by_their_command_and_their_files() {
        let mut seen = Vec::new();
        for traffic in [
            include_str!("../../fixtures/opencode/session.jsonl"),
            include_str!("../../fixtures/opencode/subagent.jsonl"),
        ] {
            for line in traffic.lines().filter(|line| line.contains("permission.asked")) {
                let line: Value = serde_json::from_str(line).unwrap();
                let asked = &line["event"]["payload"]["properties"];
                seen.push(ToolUse::of(asked).expect("a known shape"));
            }
        }
        let texts: Vec<Option<&str>> = seen
            .iter()
            .filter_map(|used| match &used.deed {
                Deed::Command { text, .. } => Some(text.as_deref()),
                _ => None,
            })
            .collect();
        assert_eq!(texts, [Some("echo hi > b.txt"), Some("echo sub"), Some("sleep 30")]);
        let edit = seen.iter().find(|used| used.tool == "edit").unwrap();
        let told = ["out.txt".to_owned(), "/srv/worktree/out.txt".to_owned()];
        assert_eq!(edit.deed, Deed::Files(Some(told.to_vec())));
        assert!(seen.iter().any(|used| used.tool == "external_directory"));
    }

    #[test]
    fn a_patch_that_moves_a_file_names_both_ends_of_the_way() {
        let asked = |files: Value| json!({"permission": "edit", "patterns": ["a"], "metadata": {"filepath": "a", "files": files}});
        let moved = json!([{"filePath": "/w/a", "relativePath": "b", "movePath": "/w/b"}]);
        assert_eq!(files(asked(moved)), Some(["a", "/w/a", "/w/b"].map(str::to_owned).to_vec()));
        assert_eq!(files(asked(json!("?"))), None, "a list that cannot be read is not told");
    }

    #[test]
    fn what_agents_send_over_acp_is_read_by_its_input_and_never_by_its_title() {
        // claude, opencode, codex, gemini, as recorded; the payload is our translator's.
        let claude = json!({"call_id": "c", "tool": "Bash", "kind": "execute", "input": {"command": "cargo test"}, "locations": []});
        assert_eq!(command(claude).as_deref(), Some("cargo test"));
        let codex = json!({"tool": "execute", "kind": "execute", "input": {"command": ["bash", "-lc", "cargo test"], "cwd": "/w"}});
        let used = ToolUse::of(&codex).unwrap();
        assert_eq!(used.deed, Deed::Command { text: Some("cargo test".into()), folder: Some("/w".into()) });
        let gemini = json!({"tool": "execute", "kind": "execute", "title": "cargo test", "input": null, "locations": []});
        assert_eq!(command(gemini), None, "it tells its command in the title alone");
        let argv = json!({"tool": "execute", "input": {"command": ["git", "commit", "-m", "a b; c"]}});
        assert_eq!(command(argv).as_deref(), Some("git commit -m 'a b; c'"));
        let write = json!({"tool": "Write", "kind": "edit", "input": {"file_path": "/w/a.txt", "content": "x"},
            "locations": ["/w/a.txt:3"], "diffs": [{"path": "/w/a.txt", "new": "x"}]});
        assert_eq!(files(write), Some(vec!["/w/a.txt".to_owned()]));
        let patch = json!({"tool": "edit", "kind": "edit", "locations": [],
            "input": {"changes": {"/w/a": {"type": "update", "move_path": "/etc/b"}}}});
        assert_eq!(files(patch), Some(vec!["/etc/b".to_owned(), "/w/a".to_owned()]));
        let half = json!({"tool": "move", "kind": "move", "locations": ["/w/a"], "input": {}});
        assert_eq!(files(half), None);
        let several =
            json!({"tool": "edit", "kind": "edit", "locations": [], "input": {"filepath": "a, ../b"}});
        assert_eq!(files(several), None);
    }

    #[test]
    fn whatever_holds_a_command_is_no_other_tool() {
        let disguised =
            json!({"tool": "Write", "kind": "edit", "input": {"command": "rm -rf /", "path": "/w/a"}});
        assert_eq!(command(disguised).as_deref(), Some("rm -rf /"));
        let twice = json!({"tool": "bash", "input": {"command": "ls", "cwd": "/w", "workdir": "/etc"}});
        assert_eq!(command(twice), None);
        assert_eq!(ToolUse::of(&json!({"title": "bash: ls"})), None);
        assert_eq!(ToolUse::of(&Value::Null), None);
    }
}
