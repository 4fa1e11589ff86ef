//! Text in which values stand in place of names: the values are run, the names are shown. A value may be a
//! password, so plans, logs and reports never see it.

use std::ops::Range;

/// A text that is put together with values in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Substituted {
    /// What is run.
    pub(super) text: String,
    /// Where values stand in it, in its order.
    pub(super) values: Vec<Value>,
}

/// A value in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Value {
    range: Range<usize>,
    /// What the file has there: `${NAME}`.
    written: String,
}

impl Substituted {
    /// A text without values.
    pub(super) fn plain(text: String) -> Self {
        Self {
            text,
            values: Vec::new(),
        }
    }

    /// Adds text as the file has it.
    pub(super) fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// Adds `value`, for which the file has `written`.
    pub(super) fn put(&mut self, written: &str, value: &str) {
        let start = self.text.len();
        self.text.push_str(value);
        self.values.push(Value {
            range: start..self.text.len(),
            written: written.to_owned(),
        });
    }

    /// Adds another text with its values.
    pub(super) fn append(&mut self, other: Self) {
        let start = self.text.len();
        self.text.push_str(&other.text);
        self.values.extend(other.values.into_iter().map(|value| Value {
            range: value.range.start + start..value.range.end + start,
            ..value
        }));
    }
}

/// The part `range` of `text` with names for all `values` that reach into it; `None` when none does.
pub(super) fn shown(text: &str, values: &[Value], range: &Range<usize>) -> Option<String> {
    let from = values.partition_point(|value| value.range.end <= range.start);
    let mut inside = values[from..]
        .iter()
        .take_while(|value| value.range.start < range.end)
        .peekable();
    inside.peek()?;
    let mut out = String::new();
    let mut at = range.start;
    for value in inside {
        out.push_str(text.get(at..value.range.start).unwrap_or_default());
        out.push_str(&value.written);
        at = value.range.end;
    }
    out.push_str(text.get(at..range.end).unwrap_or_default());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_shown_with_names_for_the_values_that_reach_into_it() {
        let mut inner = Substituted::plain("b ".to_owned());
        inner.put("${P}", "hunter2; x");
        inner.push(" c; d");
        let mut text = Substituted::plain("a; ".to_owned());
        text.put("$E", "");
        text.append(inner);
        assert_eq!(text.text, "a; b hunter2; x c; d");
        for (part, expected) in [
            ("a", None),
            ("b hunter2", Some("b ${P}")),
            ("x c", Some("${P} c")),
            ("b hunter2; x c", Some("b ${P} c")),
            ("d", None),
        ] {
            let start = text.text.find(part).unwrap();
            let found = shown(&text.text, &text.values, &(start..start + part.len()));
            assert_eq!(found.as_deref(), expected, "{part}");
        }
    }
}
