//! What a permission request asks to do, as far as its payload says so in a shape that we know: opencode's own, or the one
//! that ACP's translator writes. Never reads a title: agents word that as they like. Pure.

use super::redaction::REDACTED;
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
/// Names, and words of kinds, of tools that look through files, all of the worktree where they name none.
const SEARCH_TOOLS: [&str; 3] = ["grep", "glob", "search"];
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
const FOLDER_INPUTS: [&str; 6] = ["cwd", "workdir", "working_directory", "directory", "dir", "dir_path"];
/// Inputs of ACP agents that change nothing about what a command does: claude's, gemini's, opencode's and codex's.
const HARMLESS_BESIDE_A_COMMAND: [&str; 18] = [
    "command",
    "description",
    "timeout",
    "timeout_ms",
    "timeoutMs",
    "timeout_secs",
    "run_in_background",
    "is_background",
    "call_id",
    "turn_id",
    "approval_id",
    "process_id",
    "source",
    "reason",
    "parsed_cmd",
    "proposed_execpolicy_amendment",
    "available_decisions",
    "title",
];
/// Inputs of ACP agents that hold texts of or about a file, and name none.
const TEXT_INPUTS: [&str; 24] = [
    "content",
    "ai_proposed_content",
    "new_source",
    "old_string",
    "new_string",
    "oldString",
    "newString",
    "old_text",
    "new_text",
    "oldText",
    "newText",
    "old_str",
    "new_str",
    "diff",
    "description",
    "instruction",
    "reason",
    "title",
    "call_id",
    "turn_id",
    "pattern",
    "glob",
    "include",
    "query",
];
/// What stands in the names of inputs that hold a path.
const NAMES_OF_PATHS: [&str; 5] = ["path", "file", "target", "dest", "dir"];

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
        /// As a shell would read it, and behind it the texts of inputs that nobody knows; `None`: it is not told.
        text: Option<String>,
        /// Nothing goes with it that could change what it does.
        alone: bool,
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

    /// Was something taken out of what tells it? It is kept without secrets, and then another deed could look the same.
    pub fn is_redacted(&self) -> bool {
        let redacted = |text: &String| text.contains(REDACTED);
        match &self.deed {
            Deed::Command { text, folder, .. } => text.iter().chain(folder).any(redacted),
            Deed::Files(paths) => paths.iter().flatten().any(redacted),
            Deed::Other => false,
        }
    }
}

fn of_opencode(permission: &str, fields: &Map<String, Value>) -> ToolUse {
    let tool = permission.to_lowercase();
    let metadata = fields.get("metadata").and_then(Value::as_object);
    let command = metadata.and_then(|metadata| metadata.get("command"));
    let deed = if is_shell(&tool) || command.is_some() {
        // The patterns are what opencode made of the command, and leave out what stands between its parts.
        Deed::Command { text: command.and_then(command_text), alone: true, folder: None }
    } else if SEARCH_TOOLS.contains(&tool.as_str()) {
        let empty = Map::new();
        let mut paths = searched(metadata.unwrap_or(&empty));
        let patterns = fields.get("patterns").and_then(strings).unwrap_or_default();
        paths.extend(patterns.into_iter().filter(|pattern| leads_away(pattern)));
        files_or_all(Some(paths))
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
        let unknown = |(key, value): &(&String, &Value)| {
            let known = [&HARMLESS_BESIDE_A_COMMAND[..], &FOLDER_INPUTS].concat().contains(&key.as_str());
            !known && !matches!(value, Value::Null | Value::Bool(false))
        };
        let beside: Vec<_> = input.iter().filter(unknown).collect();
        let alone = beside.is_empty();
        // A word could be split between them: what forbids looks through all.
        let text = text.map(|command| {
            let mut said = vec![command];
            beside.iter().for_each(|(_, value)| texts(value, &mut said));
            said.join(" ")
        });
        match folders[..] {
            [] => Deed::Command { text, alone, folder: None },
            [Value::String(folder)] => Deed::Command { text, alone, folder: Some(folder.clone()) },
            _ => Deed::Command { text: None, alone, folder: None },
        }
    } else if is(&|name| SEARCH_TOOLS.contains(&name)) {
        let told = files_of_acp(fields, input);
        let paths = told.map(|mut paths| {
            paths.extend(searched(input));
            paths
        });
        files_or_all(paths)
    } else if is(&|name| FILE_TOOLS.contains(&name)) {
        let paths = files_of_acp(fields, input);
        // Where something is moved to, not each agent tells.
        let moves = is(&|name| name == "move");
        Deed::Files(paths.filter(|paths| !paths.is_empty() && (!moves || paths.len() > 1)))
    } else {
        Deed::Other
    };
    ToolUse { tool, kind, deed }
}

/// A search that names no place looks through the worktree.
fn files_or_all(paths: Option<Vec<String>>) -> Deed {
    match paths {
        Some(paths) if paths.is_empty() => Deed::Other,
        paths => Deed::Files(paths),
    }
}

/// Where a search looks, and what of its patterns leads elsewhere.
fn searched(input: &Map<String, Value>) -> Vec<String> {
    let path = text(input, "path").into_iter();
    let patterns = ["pattern", "glob", "include"].into_iter().filter_map(|key| text(input, key));
    path.chain(patterns.filter(|pattern| leads_away(pattern))).map(str::to_owned).collect()
}

fn leads_away(pattern: &str) -> bool {
    pattern.starts_with(['/', '~']) || pattern.split(['/', '{', ',', '}']).any(|part| part == "..")
}

/// All texts within a value, in their order.
fn texts(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(fields) => fields.values().for_each(|value| texts(value, into)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Could that input name a file that nobody knows how to read?
fn may_name_a_file(key: &str, value: &Value) -> bool {
    if TEXT_INPUTS.contains(&key) {
        return !(value.is_string() || value.is_null());
    }
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => {
            let key = key.to_lowercase();
            text.contains('/')
                || text.contains(REDACTED)
                || NAMES_OF_PATHS.iter().any(|name| key.contains(name))
        }
        // Several changes of the one file that is named beside them.
        Value::Array(edits) if key == "edits" => !edits.iter().all(|edit| {
            edit.as_object().is_some_and(|edit| edit.iter().all(|(key, value)| !may_name_a_file(key, value)))
        }),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// The files that a request over ACP is for, which may be none; `None`: not all are told.
fn files_of_acp(fields: &Map<String, Value>, input: &Map<String, Value>) -> Option<Vec<String>> {
    let known = |key: &str| {
        let listed = PATH_INPUTS.contains(&key) || matches!(key, "files" | "changes");
        // opencode tells the files of a patch besides.
        listed || (key == "patchText" && input.contains_key("files"))
    };
    let readable = matches!(fields.get("input"), None | Some(Value::Null | Value::Object(_)));
    if !readable || input.iter().any(|(key, value)| !known(key) && may_name_a_file(key, value)) {
        return None;
    }
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
    Some(paths)
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
mod tests;
