//! Makes tool calls that fit the tools a request offers, whatever the agent calls them. Pure; runs no tool.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A call that the model makes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// An object; of a [`Kind::Custom`] tool a text.
    pub(super) arguments: Value,
}

/// How a tool is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// By JSON that follows a schema.
    #[default]
    Function,
    /// By free text (Responses only).
    Custom,
    /// The shell that Responses knows by itself.
    LocalShell,
}

/// A tool that is offered.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tool {
    pub(super) kind: Kind,
    /// JSON schema of its parameters.
    pub(super) schema: Value,
}

/// Name → tool.
pub(super) type Offered = BTreeMap<String, Tool>;

const WRITE: [&str; 4] = ["write", "write_file", "create_file", "WriteFile"];
const SHELL: [&str; 7] =
    ["bash", "run_shell_command", "shell", "exec_command", "shell_command", "local_shell", "execute"];
const READ: [&str; 4] = ["read", "read_file", "ReadFile", "view"];
const PLAN: [&str; 5] = ["todowrite", "update_plan", "todo_write", "write_todos", "todo"];
const PATH: [&str; 4] = ["file_path", "filePath", "absolute_path", "path"];
/// The plan that is made.
const STEPS: [(u8, &str); 3] = [(1, "completed"), (2, "in_progress"), (3, "pending")];

/// The call for what stands after `TOOL:`; `None` when no tool that can do it is offered.
pub(super) fn call(offered: &Offered, spec: &str) -> Option<Call> {
    let (verb, rest) = split(spec.trim());
    let (path, content) = split(rest);
    match verb {
        "raw" => {
            let kind = offered.get(path).map_or(Kind::Function, |tool| tool.kind);
            let arguments = match kind {
                Kind::Custom => json!(content),
                Kind::Function | Kind::LocalShell => {
                    serde_json::from_str(content).unwrap_or_else(|_| json!({}))
                }
            };
            Some(Call { name: path.to_owned(), kind, arguments })
        }
        "bash" => shell(offered, rest),
        "read" => named(offered, &READ, |schema| vec![(key(schema, &PATH), json!(path))])
            .or_else(|| shell(offered, &format!("cat {path}"))),
        "write" => write(offered, path, content),
        "plan" => plan(offered),
        _ => None,
    }
}

fn write(offered: &Offered, path: &str, content: &str) -> Option<Call> {
    let by_write = named(offered, &WRITE, |schema| {
        let text = key(schema, &["content", "contents", "file_text", "text"]);
        vec![(key(schema, &PATH), json!(path)), (text, json!(format!("{content}\n")))]
    });
    let patch = format!("*** Begin Patch\n*** Add File: {path}\n+{content}\n*** End Patch\n");
    let by_patch = || {
        let (name, tool) = offered.get_key_value("apply_patch")?;
        if tool.kind == Kind::Custom {
            return Some(Call { name: name.clone(), kind: Kind::Custom, arguments: json!(patch) });
        }
        named(offered, &["apply_patch"], |schema| {
            vec![(key(schema, &["patchText", "input", "patch"]), json!(patch))]
        })
    };
    let by_script = || by_script(offered, &format!("text(await tools.apply_patch({}));", json!(patch)));
    let quoted = content.replace('\'', r"'\''");
    by_write
        .or_else(by_patch)
        .or_else(by_script)
        .or_else(|| shell(offered, &format!("printf '%s\\n' '{quoted}' > '{path}'")))
}

/// A call of the one tool of some models of Codex: a JavaScript program that calls the other tools.
fn by_script(offered: &Offered, program: &str) -> Option<Call> {
    let (name, tool) = offered.get_key_value("exec")?;
    let call = Call { name: name.clone(), kind: Kind::Custom, arguments: json!(program) };
    (tool.kind == Kind::Custom).then_some(call)
}

fn shell(offered: &Offered, command: &str) -> Option<Call> {
    named(offered, &SHELL, |schema| {
        let key = key(schema, &["command", "cmd", "script"]);
        let as_list = type_of(&schema["properties"][&key]) == "array";
        let command = if as_list { json!(["bash", "-lc", command]) } else { json!(command) };
        vec![(key, command)]
    })
    .or_else(|| {
        let program =
            format!("const r = await tools.exec_command({{cmd: {}}}); text(r.output ?? r);", json!(command));
        by_script(offered, &program)
    })
}

fn plan(offered: &Offered) -> Option<Call> {
    let by_name = named(offered, &PLAN, |schema| {
        let list = key(schema, &["todos", "plan"]);
        let item = &schema["properties"][&list]["items"];
        let text = key(item, &["content", "step", "description", "title"]);
        let steps = STEPS.map(|(n, status)| {
            let mut given =
                vec![(text.clone(), json!(format!("scripted step {n}"))), ("status".into(), json!(status))];
            if !item["properties"]["id"].is_null() {
                given.push(("id".into(), json!(n.to_string())));
            }
            fill(item, given)
        });
        vec![(list, json!(steps))]
    });
    by_name.or_else(|| {
        let steps = STEPS.map(|(n, status)| json!({"step": format!("scripted step {n}"), "status": status}));
        by_script(offered, &format!("await tools.update_plan({{plan: {}}}); text('ok');", json!(steps)))
    })
}

/// A call of the first tool that goes by one of the names, in any case, its required parameters filled.
fn named(
    offered: &Offered,
    names: &[&str],
    given: impl FnOnce(&Value) -> Vec<(String, Value)>,
) -> Option<Call> {
    let (name, tool) = names
        .iter()
        .find_map(|name| offered.iter().find(|(offered, _)| offered.eq_ignore_ascii_case(name)))?;
    Some(Call { name: name.clone(), kind: tool.kind, arguments: fill(&tool.schema, given(&tool.schema)) })
}

/// The first of the names that the schema has as a property; the first of all when it has none.
fn key(schema: &Value, names: &[&str]) -> String {
    let found = names.iter().find(|name| !schema["properties"][**name].is_null());
    (*found.unwrap_or(&names[0])).to_owned()
}

/// What is given, and something harmless for every other parameter that is required.
fn fill(schema: &Value, given: Vec<(String, Value)>) -> Value {
    let mut out: Map<String, Value> = given.into_iter().collect();
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !out.contains_key(name) {
            out.insert(name.to_owned(), filler(&schema["properties"][name]));
        }
    }
    Value::Object(out)
}

fn filler(schema: &Value) -> Value {
    if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
        return first.clone();
    }
    match type_of(schema).as_str() {
        "integer" | "number" => json!(1),
        "boolean" => json!(false),
        "array" => json!([]),
        "object" => json!({}),
        _ => json!("scripted"),
    }
}

/// The smallest JSON that a schema allows.
pub(super) fn minimal(schema: &Value) -> Value {
    if let Some(last) = schema["enum"].as_array().and_then(|values| values.last()) {
        return last.clone();
    }
    match type_of(schema).as_str() {
        "object" | "" => {
            let properties = schema["properties"].as_object().cloned().unwrap_or_default();
            properties.iter().map(|(name, schema)| (name.clone(), minimal(schema))).collect()
        }
        "array" => json!([]),
        "boolean" => json!(false),
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or(json!(0)),
        _ => json!("scripted"),
    }
}

/// The type of a schema, or the first of several; empty when it names none. Gemini's are in capitals.
fn type_of(schema: &Value) -> String {
    let kind = &schema["type"];
    kind.as_str().or_else(|| kind[0].as_str()).unwrap_or_default().to_ascii_lowercase()
}

/// The first word, and what follows it.
fn split(text: &str) -> (&str, &str) {
    let (first, rest) = text.split_once(' ').unwrap_or((text, ""));
    (first, rest.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offered(name: &str, schema: Value) -> Offered {
        [(name.to_owned(), Tool { kind: Kind::Function, schema })].into_iter().collect()
    }

    #[test]
    fn a_write_fits_the_tool_that_is_offered() {
        let opencode = offered(
            "write",
            json!({"properties": {"filePath": {"type": "string"}, "content": {"type": "string"}}}),
        );
        let made = call(&opencode, "write a/b.txt hello there").expect("a write tool is offered");
        assert_eq!(made.arguments, json!({"filePath": "a/b.txt", "content": "hello there\n"}));

        let shell_only = offered(
            "Bash",
            json!({"properties": {"command": {}, "description": {"type": "string"}}, "required": ["description"]}),
        );
        let made = call(&shell_only, "write b.txt it's").expect("a shell is offered");
        assert_eq!(made.name, "Bash");
        assert_eq!(made.arguments["command"], r"printf '%s\n' 'it'\''s' > 'b.txt'");
        assert_eq!(made.arguments["description"], "scripted");
    }

    #[test]
    fn a_tool_of_free_text_gets_text() {
        let custom = |name: &str| -> Offered {
            [(name.to_owned(), Tool { kind: Kind::Custom, schema: Value::Null })].into_iter().collect()
        };
        let patch = call(&custom("apply_patch"), "write a.txt hello").expect("a patch tool is offered");
        assert_eq!(patch.arguments, "*** Begin Patch\n*** Add File: a.txt\n+hello\n*** End Patch\n");
        let program = call(&custom("exec"), "bash echo \"hi\"").expect("a tool for programs is offered");
        let text = program.arguments.as_str().expect("free text");
        assert!(text.contains(r#"exec_command({cmd: "echo \"hi\""})"#), "{text}");
        assert!(call(&custom("exec"), "plan").is_some());
        assert_eq!(call(&custom("exec"), "raw exec text(1)").expect("by name").arguments, "text(1)");
    }

    #[test]
    fn what_nobody_offers_is_not_called() {
        assert_eq!(call(&offered("grep", json!({})), "plan"), None);
        assert_eq!(call(&offered("bash", json!({})), "dance"), None);
    }

    #[test]
    fn a_plan_follows_the_schema_of_its_items() {
        let item = json!({"properties": {"step": {}, "priority": {"enum": ["high", "low"]}}, "required": ["priority"]});
        let tools = offered("todowrite", json!({"properties": {"todos": {"items": item}}}));
        let made = call(&tools, "plan").expect("a plan tool is offered");
        assert_eq!(
            made.arguments["todos"][0],
            json!({"step": "scripted step 1", "status": "completed", "priority": "high"})
        );
    }

    #[test]
    fn a_schema_gets_the_smallest_answer() {
        let schema = json!({"type": "object", "properties": {"title": {"type": ["string", "null"]}, "n": {"type": "integer"}, "score": {"type": "NUMBER", "minimum": 1}}});
        assert_eq!(minimal(&schema), json!({"title": "scripted", "n": 0, "score": 1}));
    }
}
