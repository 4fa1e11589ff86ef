//! What of a PostgreSQL archive must not come back: the lines of its table of contents that are left out.
//!
//! A line reads `215; 1259 16386 TABLE public users app`: number, catalogue and object ids, sort, schema, name,
//! owner. Sorts may have several words.

use crate::db::RestoreFrame;

/// The list that `pg_restore --use-list` is given.
pub(super) fn list(contents: &str, kept: &RestoreFrame) -> String {
    let lines = contents.lines().filter(|line| comes_back(line, kept));
    lines.fold(String::new(), |list, line| list + line + "\n")
}

fn comes_back(line: &str, kept: &RestoreFrame) -> bool {
    if line.starts_with(';') {
        return true;
    }
    let words: Vec<&str> = line.split_whitespace().skip(3).collect();
    match words.as_slice() {
        ["EXTENSION", "-", name, ..] | ["COMMENT", "-", "EXTENSION", name, ..] => {
            !kept.extensions.contains(*name)
        }
        ["SCHEMA", "-", name, ..] => !kept.schemas.contains(*name),
        words => !words.iter().any(|word| is_barrier(word)),
    }
}

/// What a fence made: its function, its triggers, and the table of a gate epoch.
pub(super) fn is_barrier(name: &str) -> bool {
    let name = name.trim_end_matches("()");
    let Some(rest) = name.strip_prefix("lockkeeper_g") else {
        return false;
    };
    let mut parts = rest.split('_');
    let digits = parts.next().unwrap_or_default();
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_a_fence_made_stays_away_and_what_is_there_stays() {
        let contents = "\
; Archive created at 2026-11-25
3; 3079 16384 EXTENSION - pgcrypto
4; 3079 16385 EXTENSION - citext
9; 0 0 COMMENT - EXTENSION pgcrypto
5; 2615 2200 SCHEMA - public app
6; 2615 16390 SCHEMA - shop app
215; 1259 16386 TABLE public users app
216; 1259 16387 TABLE public lockkeeper_gate app
217; 1259 16388 TABLE public lockkeeper_g7 app
218; 1255 16389 FUNCTION public lockkeeper_g8_00ff00ff() app
219; 2620 16391 TRIGGER public users lockkeeper_g8_00ff00ff app
220; 0 16386 TABLE DATA public users app
";
        let kept = RestoreFrame {
            extensions: BTreeSet::from(["pgcrypto".to_owned()]),
            schemas: BTreeSet::from(["public".to_owned()]),
            ..RestoreFrame::default()
        };
        let numbers: Vec<String> = list(contents, &kept)
            .lines()
            .filter_map(|line| line.split_once("; ").map(|(number, _)| number.to_owned()))
            .collect();
        assert_eq!(numbers, ["", "4", "6", "215", "216", "220"]);
    }
}
