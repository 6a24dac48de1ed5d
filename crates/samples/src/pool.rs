//! The material of the generator: sentences, functions, sources, organizations and entities, extracted from the shipped
//! chunks once per process.

use std::collections::HashSet;
use std::sync::LazyLock;

use serde_json::Value;

use crate::rng::Rng;

/// Ranks of entities are below 2 to this power: 8,191 entities, few of them frequent.
const OCTAVES: usize = 13;

/// A function of the samples, split at each occurrence of its name.
pub(crate) struct Function {
    pub(crate) language: String,
    pub(crate) symbol: String,
    pieces: Vec<String>,
}

/// An entity that chunks mention.
pub(crate) struct Entity {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) name: String,
}

/// The extracted material.
pub(crate) struct Pool {
    pub(crate) sentences: Vec<String>,
    pub(crate) functions: Vec<Function>,
    pub(crate) organizations: Vec<Value>,
    pub(crate) repositories: Vec<String>,
    entities: Vec<Entity>,
}

/// The pool, shared by the process; building it takes a few milliseconds.
pub(crate) static POOL: LazyLock<Pool> = LazyLock::new(|| Pool::of(&crate::parsed()));

impl Function {
    fn of(chunk: &Value) -> Option<Self> {
        let content = chunk["content"].as_str()?;
        let code = &chunk["code_metadata"];
        let symbols = code["symbols"].as_array()?.iter().filter_map(Value::as_str);
        let symbol = symbols.max_by_key(|symbol| symbol.len())?;
        Some(Self {
            language: code["language"].as_str()?.to_owned(),
            symbol: symbol.to_owned(),
            pieces: content.split(symbol).map(str::to_owned).collect(),
        })
    }

    /// The code with its name replaced by `name`.
    pub(crate) fn called(&self, name: &str) -> String {
        self.pieces.join(name)
    }

    /// The prefix of a comment line in the function's language.
    pub(crate) fn comment(&self) -> &'static str {
        comment(&self.language)
    }
}

/// The prefix of a comment line in `language`.
pub(crate) fn comment(language: &str) -> &'static str {
    match language {
        "python" | "shell" | "csv" => "# ",
        "sql" => "-- ",
        _ => "// ",
    }
}

impl Pool {
    fn of(chunks: &[Value]) -> Self {
        let prose = chunks.iter().filter(|chunk| chunk["chunk_type"] == "text");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let distinct = |found: Vec<String>| {
            let mut seen = HashSet::new();
            found.into_iter().filter(|text| !text.is_empty() && seen.insert(text.clone())).collect()
        };
        Self {
            sentences: prose.flat_map(|chunk| sentences(&chunk["content"])).collect(),
            functions: code(chunks).filter_map(Function::of).collect(),
            organizations: chunks.iter().map(|chunk| chunk["organization"].clone()).collect(),
            repositories: distinct(chunks.iter().map(|chunk| text(&chunk["source"]["repo"])).collect()),
            entities: entities(chunks),
        }
    }

    /// Draws an entity; low ranks are frequent. The entities of the samples have the lowest ranks. Higher ranks are
    /// numbered variants of them, except of persons, organizations and locations.
    pub(crate) fn entity(&self, rng: &mut Rng) -> Entity {
        let rank = rng.zipf(OCTAVES) - 1;
        let known = &self.entities[rank % self.entities.len()];
        let generation = match known.kind.as_str() {
            "person" | "organization" | "location" => 0,
            _ => rank / self.entities.len(),
        };
        let kind = known.kind.clone();
        if generation == 0 {
            return Entity { id: known.id.clone(), kind, name: known.name.clone() };
        }
        Entity { id: format!("{}~{generation}", known.id), kind, name: format!("{}_{generation}", known.name) }
    }
}

fn code(chunks: &[Value]) -> impl Iterator<Item = &Value> {
    chunks.iter().filter(|chunk| chunk["chunk_type"] == "code")
}

fn sentences(content: &Value) -> Vec<String> {
    let content = content.as_str().unwrap_or_default();
    content
        .split(['\n', '\t'])
        .flat_map(|line| line.split_inclusive(". "))
        .map(str::trim)
        .filter(|sentence| sentence.ends_with(['.', '?', '!', '。']) && (20..400).contains(&sentence.len()))
        .map(str::to_owned)
        .collect()
}

/// All entities without duplicates, in the order of the file.
fn entities(chunks: &[Value]) -> Vec<Entity> {
    let mut seen = HashSet::new();
    let all = chunks.iter().filter_map(|chunk| chunk["graph"]["entities"].as_array()).flatten();
    all.filter_map(|entity| {
        let id = entity["id"].as_str()?;
        seen.insert(id).then_some(Entity {
            id: id.to_owned(),
            kind: entity["type"].as_str()?.to_owned(),
            name: entity["name"].as_str()?.to_owned(),
        })
    })
    .collect()
}
