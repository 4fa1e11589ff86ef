//! The parts of a script that go to the server as one message each.

use crate::sql::Statement;

/// What is sent at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Statements as one simple query, as the file's author's own tool sends a whole file.
    Text {
        body: &'a str,
        /// Index of the first statement in the script.
        first: usize,
        statements: &'a [Statement],
    },
    /// A COPY whose rows stand in the file: the protocol has a mode of its own for them.
    Copy {
        index: usize,
        statement: &'a Statement,
        rows: &'a str,
    },
}

/// Cuts a script at its COPYs; without any, the whole of it is one piece.
pub(super) fn pieces<'a>(text: &'a str, statements: &'a [Statement]) -> Vec<Piece<'a>> {
    let mut pieces = Vec::new();
    let mut first = 0;
    for (index, statement) in statements.iter().enumerate() {
        if let Some(rows) = &statement.rows {
            pieces.extend(between(text, first, &statements[first..index]));
            pieces.push(Piece::Copy {
                index,
                statement,
                rows: &rows.text,
            });
            first = index + 1;
        }
    }
    pieces.extend(between(text, first, &statements[first..]));
    pieces
}

fn between<'a>(text: &'a str, first: usize, statements: &'a [Statement]) -> Option<Piece<'a>> {
    let start = statements.first()?.range.start;
    let end = statements.last()?.range.end;
    Some(Piece::Text {
        body: text.get(start..end)?,
        first,
        statements,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;
    use crate::sql::split;

    fn shapes(text: &str) -> Vec<String> {
        let statements = split(Dialect::Postgres, text).unwrap();
        let shape = |piece: &Piece<'_>| match piece {
            Piece::Text { body, first, .. } => format!("{first}: {body}"),
            Piece::Copy { index, rows, .. } => format!("{index}: copy {rows:?}"),
        };
        pieces(text, &statements).iter().map(shape).collect()
    }

    #[test]
    fn a_script_is_cut_at_its_copies_and_nowhere_else() {
        assert!(shapes("").is_empty());
        assert_eq!(
            shapes("SELECT 1; -- c\nSELECT 2;"),
            ["0: SELECT 1; -- c\nSELECT 2"]
        );
        assert_eq!(
            shapes("A;\nB;\nCOPY t FROM stdin;\n1\n\\.\nCOPY u FROM stdin;\n\\.\nC;"),
            ["0: A;\nB", "2: copy \"1\\n\"", "3: copy \"\"", "4: C"]
        );
    }
}
