//! A YAML tree that remembers where each value stands.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;

/// A place in a text; lines and columns count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

/// Where the fields of one object are, by JSON Pointer.
#[derive(Clone, Debug)]
pub struct Places {
    start: Place,
    by_pointer: BTreeMap<String, Place>,
}

impl Places {
    /// Where the object begins.
    #[must_use]
    pub const fn start(&self) -> Place {
        self.start
    }

    /// The place of the value at `pointer`, or of the nearest ancestor that was written. `None` if not even the first
    /// segment was.
    #[must_use]
    pub fn find(&self, pointer: &str) -> Option<Place> {
        let mut pointer = pointer;
        loop {
            if let Some(place) = self.by_pointer.get(pointer) {
                return Some(*place);
            }
            pointer = &pointer[..pointer.rfind('/')?];
            if pointer.is_empty() {
                return None;
            }
        }
    }

    /// The places of the object at `pointer`, relative to it.
    pub(super) fn below(&self, pointer: &str) -> Self {
        let start = self.by_pointer.get(pointer).copied().unwrap_or(self.start);
        let by_pointer = self
            .by_pointer
            .iter()
            .filter_map(|(path, place)| Some((path.strip_prefix(pointer)?, place)))
            .filter(|(rest, _)| rest.starts_with('/'))
            .map(|(rest, place)| (rest.to_owned(), *place))
            .collect();
        Self { start, by_pointer }
    }
}

/// A YAML value whose children carry their place.
#[derive(Debug)]
pub(super) enum Node {
    Scalar(Value),
    List(Vec<Spanned<Node>>),
    Map(Vec<(String, Spanned<Node>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Scalar(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Scalar(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Scalar(Value::String(value.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Node, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry::<Key, Spanned<Node>>()? {
            entries.push((entry.0.0, entry.1));
        }
        Ok(Node::Map(entries))
    }
}

/// A mapping key; YAML allows `true:` and `1:`, JSON only strings, and kubectl reads them as their text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Node::deserialize(deserializer)? {
            Node::Scalar(Value::String(text)) => Ok(Self(text)),
            Node::Scalar(other) => Ok(Self(other.to_string())),
            Node::List(_) | Node::Map(_) => Err(serde::de::Error::custom("a mapping key must be a plain value")),
        }
    }
}

/// The plain value and the places of its parts.
pub(super) fn split(root: Spanned<Node>) -> (Value, Places) {
    let mut by_pointer = BTreeMap::new();
    let start = place(&root);
    let value = walk(root, String::new(), &mut by_pointer);
    by_pointer.remove("");
    (value, Places { start, by_pointer })
}

fn place(node: &Spanned<Node>) -> Place {
    let at = &node.referenced;
    Place {
        line: usize::try_from(at.line()).unwrap_or(1).max(1),
        column: usize::try_from(at.column()).unwrap_or(1).max(1),
    }
}

fn walk(node: Spanned<Node>, pointer: String, places: &mut BTreeMap<String, Place>) -> Value {
    let here = place(&node);
    let value = match node.value {
        Node::Scalar(value) => value,
        Node::List(items) => Value::Array(
            items
                .into_iter()
                .enumerate()
                .map(|(index, item)| walk(item, format!("{pointer}/{index}"), places))
                .collect(),
        ),
        Node::Map(entries) => {
            let mut object = Map::new();
            for (key, child) in entries {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                let value = walk(child, format!("{pointer}/{escaped}"), places);
                object.insert(key, value);
            }
            Value::Object(object)
        }
    };
    places.insert(pointer, here);
    value
}
