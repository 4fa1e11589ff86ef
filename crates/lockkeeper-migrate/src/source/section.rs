//! The part of a file that is one direction's script.

use super::Checksum;
use super::substitution::Substituted;

/// Some lines of a file. The others are left empty, so that every statement keeps its line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Section {
    /// What is run.
    pub(super) body: Substituted,
    /// Its lines as the file has them: what is checked for edits.
    own: String,
    /// Line ends that stand before the next line.
    owed: usize,
}

impl Section {
    /// Takes a line of the file as it is, with its line end.
    pub(super) fn keep(&mut self, line: &str) {
        self.show(line, line);
    }

    /// Takes a line of the file of which something else is run.
    pub(super) fn show(&mut self, line: &str, instead: &str) {
        self.put(instead);
        self.own.push_str(line);
    }

    /// Takes a line of the file in which values stand for names.
    pub(super) fn show_values(&mut self, line: &str, instead: Substituted) {
        self.put("");
        self.body.append(instead);
        self.own.push_str(line);
    }

    /// Leaves a line of the file out.
    pub(super) fn leave_out(&mut self) {
        self.owed += 1;
    }

    /// Runs something in place of a line that belongs to no script.
    pub(super) fn put(&mut self, text: &str) {
        self.body
            .text
            .extend(std::iter::repeat_n('\n', std::mem::take(&mut self.owed)));
        self.body.push(text);
    }

    /// What is run.
    pub(super) fn text(&self) -> &str {
        &self.body.text
    }

    pub(super) fn checksum(&self) -> Checksum {
        Checksum::of(&self.own)
    }
}

/// The lines of a text with their line ends, numbered from 1.
pub(super) fn numbered(text: &str) -> impl Iterator<Item = (u32, &str)> {
    (1..).zip(text.split_inclusive('\n'))
}

/// A line without its line end.
pub(super) fn without_end(line: &str) -> &str {
    let line = line.strip_suffix('\n').unwrap_or(line);
    line.strip_suffix('\r').unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_place_and_others_do_not_count_as_an_edit() {
        let section = |other: &str| {
            let mut section = Section::default();
            for (_, line) in numbered(other) {
                let _ = line;
                section.leave_out();
            }
            section.show("a $X\r\n", "a 1\n");
            section.leave_out();
            section.keep("b");
            section.leave_out();
            section
        };
        let one = section("-- x\n");
        assert_eq!(one.text(), "\na 1\n\nb");
        assert_eq!(one.checksum(), section("-- x\n-- y\n").checksum());
        assert_eq!(one.checksum(), Checksum::of("a $X\nb"));
        assert_eq!(without_end("x\r\n"), "x");
    }
}
