//! After a crash: did a statement that was started take effect?
//!
//! DDL leaves no mark of its own in a transaction, but most of it leaves something that can be looked for: a table,
//! a column, an index. Each common form is turned into probes; only when all of them agree is there a verdict.

use super::failure::Failure;
use super::session::Session;
use super::text::literal;
use super::tokens::{Token, tokens};

/// What became of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It left nothing: run it.
    NeverRan,
    /// All that it leaves is there.
    Done,
    /// It cannot be told, and why.
    InDoubt(String),
}

/// Something that a statement makes or removes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Probe {
    thing: Thing,
    /// Whether it is there when the statement has run.
    there_after: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Thing {
    Table(Name),
    Column(Name, String),
    Index(Name, String),
    Constraint(Name, String),
    Routine(Name),
    Trigger(Name),
}

/// A name, with the database if the statement gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    database: Option<String>,
    name: String,
}

/// How a statement can be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Trace {
    /// Running it again gives the same (`IF NOT EXISTS`, `OR REPLACE`, `TRUNCATE`).
    Repeatable,
    /// By looking for these.
    Probes(Vec<Probe>),
    /// Not at all.
    Nothing,
}

/// Looks at what the statement would have left.
pub(super) async fn judge(
    session: &mut Session,
    database: &str,
    statement: &str,
) -> Result<Verdict, Failure> {
    let probes = match trace(&tokens(statement)) {
        Trace::Repeatable => return Ok(Verdict::NeverRan),
        Trace::Nothing => {
            return Ok(Verdict::InDoubt(
                "this kind of statement leaves nothing that can be looked for".to_owned(),
            ));
        }
        Trace::Probes(probes) => probes,
    };
    let mut seen = Vec::new();
    let mut agree = [0_usize; 2];
    for probe in &probes {
        let there = session.any(&probe.thing.query(database)).await?;
        agree[usize::from(there == probe.there_after)] += 1;
        seen.push(format!(
            "{} {}",
            probe.thing.text(),
            if there { "exists" } else { "does not exist" }
        ));
    }
    Ok(match agree {
        [0, _] => Verdict::Done,
        [_, 0] => Verdict::NeverRan,
        _ => Verdict::InDoubt(seen.join(", ")),
    })
}

/// The table that a statement changes, for messages.
pub(super) fn table_of(statement: &str) -> Option<String> {
    let tokens = tokens(statement);
    let mut at = Reader { tokens: &tokens };
    match at.word().as_str() {
        "ALTER" | "DROP" | "TRUNCATE" | "RENAME" | "OPTIMIZE" | "ANALYZE" => {
            at.skip_any(&["ONLINE", "IGNORE"]);
            at.eat("TABLE").then_some(())?;
            at.skip_if_exists();
        }
        "CREATE" => {
            at.skip_any(&["ONLINE", "UNIQUE", "FULLTEXT", "SPATIAL", "OR", "REPLACE"]);
            at.eat("INDEX").then_some(())?;
            while !at.tokens.is_empty() && !at.eat("ON") {
                at.next();
            }
        }
        _ => return None,
    }
    at.name().map(|name| name.name)
}

/// Whether a failed statement may have taken effect in part: only a DROP of several things may.
pub(super) fn may_be_partial(statement: &str) -> bool {
    let tokens = tokens(statement);
    tokens.first().is_some_and(|first| first.is("DROP"))
        && tokens.iter().any(|token| token.is_punctuation(','))
}

impl Name {
    fn database(&self, current: &str) -> String {
        literal(self.database.as_deref().unwrap_or(current))
    }
}

impl Thing {
    fn query(&self, current: &str) -> String {
        let of_table = |view: &str, table: &Name, column: &str, value: &str| {
            format!(
                "SELECT 1 FROM information_schema.{view} WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND {column} = {} LIMIT 1",
                table.database(current),
                literal(&table.name),
                literal(value)
            )
        };
        match self {
            Self::Table(table) => of_table("TABLES", table, "TABLE_NAME", &table.name),
            Self::Column(table, column) => of_table("COLUMNS", table, "COLUMN_NAME", column),
            Self::Index(table, index) => of_table("STATISTICS", table, "INDEX_NAME", index),
            Self::Constraint(table, constraint) => {
                of_table("TABLE_CONSTRAINTS", table, "CONSTRAINT_NAME", constraint)
            }
            Self::Routine(routine) => format!(
                "SELECT 1 FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {} AND ROUTINE_NAME = {}",
                routine.database(current),
                literal(&routine.name)
            ),
            Self::Trigger(trigger) => format!(
                "SELECT 1 FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {} AND TRIGGER_NAME = {}",
                trigger.database(current),
                literal(&trigger.name)
            ),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Table(table) => format!("table {}", table.name),
            Self::Column(table, column) => format!("column {}.{column}", table.name),
            Self::Index(table, index) => format!("index {index} of {}", table.name),
            Self::Constraint(table, constraint) => format!("constraint {constraint} of {}", table.name),
            Self::Routine(routine) => format!("routine {}", routine.name),
            Self::Trigger(trigger) => format!("trigger {}", trigger.name),
        }
    }
}

fn trace(tokens: &[Token]) -> Trace {
    let mut at = Reader { tokens };
    match at.word().as_str() {
        "CREATE" => create(at),
        "DROP" => drop_trace(at),
        "RENAME" if at.eat("TABLE") || at.eat("TABLES") => rename(at),
        "ALTER" => {
            at.skip_any(&["ONLINE", "IGNORE"]);
            if at.eat("TABLE") {
                alter(at)
            } else {
                Trace::Nothing
            }
        }
        "TRUNCATE" | "ANALYZE" | "OPTIMIZE" => Trace::Repeatable,
        _ => Trace::Nothing,
    }
}

fn made(thing: Thing, there_after: bool) -> Probe {
    Probe { thing, there_after }
}

fn create(mut at: Reader<'_>) -> Trace {
    if at.eat("OR") {
        return Trace::Repeatable;
    }
    at.skip_definer();
    at.skip_any(&["ONLINE", "UNIQUE", "FULLTEXT", "SPATIAL", "AGGREGATE"]);
    let object = at.word();
    if at.skip_if_exists() {
        return Trace::Repeatable;
    }
    let Some(name) = at.name() else {
        return Trace::Nothing;
    };
    let thing = match object.as_str() {
        "TABLE" | "VIEW" | "SEQUENCE" => Thing::Table(name),
        "PROCEDURE" | "FUNCTION" => Thing::Routine(name),
        "TRIGGER" => Thing::Trigger(name),
        "INDEX" => {
            while !at.tokens.is_empty() && !at.eat("ON") {
                at.next();
            }
            let Some(table) = at.name() else {
                return Trace::Nothing;
            };
            Thing::Index(table, name.name)
        }
        _ => return Trace::Nothing,
    };
    Trace::Probes(vec![made(thing, true)])
}

fn drop_trace(mut at: Reader<'_>) -> Trace {
    at.skip_any(&["ONLINE"]);
    let object = at.word();
    if at.skip_if_exists() {
        return Trace::Repeatable;
    }
    let mut probes = Vec::new();
    loop {
        let Some(name) = at.name() else {
            return Trace::Nothing;
        };
        let thing = match object.as_str() {
            "TABLE" | "VIEW" | "SEQUENCE" => Thing::Table(name),
            "PROCEDURE" | "FUNCTION" => Thing::Routine(name),
            "TRIGGER" => Thing::Trigger(name),
            "INDEX" if at.eat("ON") => match at.name() {
                Some(table) => Thing::Index(table, name.name),
                None => return Trace::Nothing,
            },
            _ => return Trace::Nothing,
        };
        probes.push(made(thing, false));
        if !at.punctuation(',') {
            return Trace::Probes(probes);
        }
    }
}

/// A swap takes names through others: only those that are there before and not after, or the reverse, tell.
fn rename(mut at: Reader<'_>) -> Trace {
    let mut names: Vec<(Name, bool, bool)> = Vec::new();
    loop {
        at.skip_if_exists();
        let (Some(from), true, Some(to)) = (at.name(), at.eat("TO"), at.name()) else {
            return Trace::Nothing;
        };
        for (name, before, after) in [(from, true, false), (to, false, true)] {
            match names.iter_mut().find(|known| known.0 == name) {
                Some(known) => known.2 = after,
                None => names.push((name, before, after)),
            }
        }
        if !at.punctuation(',') {
            break;
        }
    }
    let telling = names.into_iter().filter(|(_, before, after)| before != after);
    let probes: Vec<Probe> = telling
        .map(|(name, _, after)| made(Thing::Table(name), after))
        .collect();
    if probes.is_empty() {
        Trace::Nothing
    } else {
        Trace::Probes(probes)
    }
}

fn alter(mut at: Reader<'_>) -> Trace {
    at.skip_if_exists();
    let Some(table) = at.name() else {
        return Trace::Nothing;
    };
    let clauses = split_clauses(at.tokens);
    let mut probes = Vec::new();
    let mut repeatable = !clauses.is_empty();
    for clause in &clauses {
        let mut reader = Reader { tokens: clause };
        repeatable &= reader.has_if_exists();
        if reader.eat("RENAME") {
            let new_table = !["COLUMN", "INDEX", "KEY"].iter().any(|word| reader.peek(word));
            reader.skip_any(&["TO", "AS"]);
            if let (true, Some(to)) = (new_table, reader.name()) {
                // The columns of the same statement are then under another name: the table's tells for all.
                return Trace::Probes(vec![
                    made(Thing::Table(table), false),
                    made(Thing::Table(to), true),
                ]);
            }
        }
        probes.extend(clause_probes(&table, Reader { tokens: clause }));
    }
    match (repeatable, probes.is_empty()) {
        (true, _) => Trace::Repeatable,
        (false, true) => Trace::Nothing,
        (false, false) => Trace::Probes(probes),
    }
}

fn clause_probes(table: &Name, mut at: Reader<'_>) -> Vec<Probe> {
    // With IF [NOT] EXISTS what is there may have been there before.
    if at.has_if_exists() {
        return Vec::new();
    }
    let column = |name: String, after| made(Thing::Column(table.clone(), name), after);
    let index = |name: String, after| made(Thing::Index(table.clone(), name), after);
    let constraint = |name: String, after| made(Thing::Constraint(table.clone(), name), after);
    let verb = at.word();
    let object = at.keyword_of(&[
        "COLUMN",
        "INDEX",
        "KEY",
        "UNIQUE",
        "FULLTEXT",
        "SPATIAL",
        "PRIMARY",
        "CONSTRAINT",
        "FOREIGN",
        "PARTITION",
        "CHECK",
        "PERIOD",
        "SYSTEM",
    ]);
    if matches!(object, "UNIQUE" | "FULLTEXT" | "SPATIAL") {
        at.skip_any(&["INDEX", "KEY"]);
    }
    if object == "FOREIGN" {
        at.skip_any(&["KEY"]);
    }
    let found = match (verb.as_str(), object) {
        ("ADD", "" | "COLUMN") => at.plain().map(|name| vec![column(name, true)]),
        ("DROP", "" | "COLUMN") => at.plain().map(|name| vec![column(name, false)]),
        ("ADD", "INDEX" | "KEY" | "UNIQUE" | "FULLTEXT" | "SPATIAL") => {
            at.plain().map(|name| vec![index(name, true)])
        }
        ("DROP", "INDEX" | "KEY") => at.plain().map(|name| vec![index(name, false)]),
        ("ADD", "PRIMARY") => Some(vec![index("PRIMARY".to_owned(), true)]),
        ("DROP", "PRIMARY") => Some(vec![index("PRIMARY".to_owned(), false)]),
        ("ADD", "CONSTRAINT") => at.plain().map(|name| vec![constraint(name, true)]),
        ("DROP", "CONSTRAINT" | "FOREIGN") => at.plain().map(|name| vec![constraint(name, false)]),
        ("CHANGE" | "RENAME", "" | "COLUMN") => {
            renamed(&mut at).map(|(a, b)| vec![column(a, false), column(b, true)])
        }
        ("RENAME", "INDEX" | "KEY") => renamed(&mut at).map(|(a, b)| vec![index(a, false), index(b, true)]),
        _ => None,
    };
    found.unwrap_or_default()
}

/// `a TO b` or `a b`, when the names differ.
fn renamed(at: &mut Reader<'_>) -> Option<(String, String)> {
    let from = at.plain()?;
    at.skip_any(&["TO"]);
    let to = at.plain()?;
    (!from.eq_ignore_ascii_case(&to)).then_some((from, to))
}

fn split_clauses(tokens: &[Token]) -> Vec<Vec<Token>> {
    let mut depth = 0_usize;
    let mut clauses = vec![Vec::new()];
    for token in tokens {
        if token.is_punctuation('(') {
            depth += 1;
        } else if token.is_punctuation(')') {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 && token.is_punctuation(',') {
            clauses.push(Vec::new());
        } else if let Some(last) = clauses.last_mut() {
            last.push(token.clone());
        }
    }
    clauses.retain(|clause| !clause.is_empty());
    clauses
}

/// Reads tokens from the front.
#[derive(Debug)]
struct Reader<'a> {
    tokens: &'a [Token],
}

impl Reader<'_> {
    fn next(&mut self) -> Option<Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn peek(&self, word: &str) -> bool {
        self.tokens.first().is_some_and(|token| token.is(word))
    }

    fn word(&mut self) -> String {
        match self.next() {
            Some(Token::Word(word)) => word.to_ascii_uppercase(),
            _ => String::new(),
        }
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.peek(word);
        if found {
            self.next();
        }
        found
    }

    fn keyword_of(&mut self, words: &[&'static str]) -> &'static str {
        let found = words.iter().find(|word| self.peek(word));
        found.inspect(|word| {
            self.eat(word);
        });
        found.copied().unwrap_or_default()
    }

    fn punctuation(&mut self, wanted: char) -> bool {
        let found = self
            .tokens
            .first()
            .is_some_and(|token| token.is_punctuation(wanted));
        if found {
            self.next();
        }
        found
    }

    fn skip_any(&mut self, words: &[&str]) {
        while words.iter().any(|word| self.peek(word)) {
            self.next();
        }
    }

    /// `DEFINER = 'user'@'host'` or `ALGORITHM = MERGE`, before the object's kind.
    fn skip_definer(&mut self) {
        let objects = [
            "TABLE",
            "VIEW",
            "PROCEDURE",
            "FUNCTION",
            "TRIGGER",
            "INDEX",
            "SEQUENCE",
        ];
        if self.peek("DEFINER") || self.peek("ALGORITHM") || self.peek("SQL") {
            while !self.tokens.is_empty() && !objects.iter().any(|object| self.peek(object)) {
                self.next();
            }
        }
    }

    fn skip_if_exists(&mut self) -> bool {
        if !self.peek("IF") {
            return false;
        }
        self.skip_any(&["IF", "NOT", "EXISTS"]);
        true
    }

    fn has_if_exists(&self) -> bool {
        self.tokens
            .windows(2)
            .any(|pair| pair[0].is("IF") && (pair[1].is("EXISTS") || pair[1].is("NOT")))
    }

    fn plain(&mut self) -> Option<String> {
        match self.next()? {
            Token::Word(name) | Token::Name(name) => Some(name),
            Token::Text | Token::Punctuation(_) => None,
        }
    }

    fn name(&mut self) -> Option<Name> {
        let first = self.plain()?;
        if !self.punctuation('.') {
            return Some(Name {
                database: None,
                name: first,
            });
        }
        Some(Name {
            database: Some(first),
            name: self.plain()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes(statement: &str) -> Vec<String> {
        match trace(&tokens(statement)) {
            Trace::Repeatable => vec!["repeatable".to_owned()],
            Trace::Nothing => vec!["nothing".to_owned()],
            Trace::Probes(probes) => probes
                .iter()
                .map(|p| format!("{}{}", if p.there_after { "+" } else { "-" }, p.thing.text()))
                .collect(),
        }
    }

    #[test]
    fn each_common_form_has_its_probes() {
        for (statement, expected) in [
            ("CREATE TABLE `a b` (id int)", vec!["+table a b"]),
            ("create table if not exists t (id int)", vec!["repeatable"]),
            ("CREATE OR REPLACE VIEW v AS SELECT 1", vec!["repeatable"]),
            (
                "CREATE UNIQUE INDEX i USING BTREE ON d.t (a)",
                vec!["+index i of t"],
            ),
            (
                "CREATE DEFINER=`me`@`%` TRIGGER tr BEFORE INSERT ON t FOR EACH ROW SET @a = 1",
                vec!["+trigger tr"],
            ),
            ("DROP TABLE a, b", vec!["-table a", "-table b"]),
            ("DROP TABLE IF EXISTS a", vec!["repeatable"]),
            ("DROP INDEX i ON t", vec!["-index i of t"]),
            (
                "RENAME TABLE t TO t_old, t_new TO t",
                vec!["+table t_old", "-table t_new"],
            ),
            ("RENAME TABLE a TO tmp, b TO a, tmp TO b", vec!["nothing"]),
            (
                "ALTER TABLE t ADD COLUMN a int /* , DROP x */ DEFAULT (1+2), ADD b varchar(3) COMMENT 'x, DROP y', DROP c",
                vec!["+column t.a", "+column t.b", "-column t.c"],
            ),
            (
                "ALTER TABLE t ADD INDEX i (a), DROP KEY k",
                vec!["+index i of t", "-index k of t"],
            ),
            (
                "ALTER TABLE t ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES u (b)",
                vec!["+constraint fk of t"],
            ),
            ("ALTER TABLE t DROP FOREIGN KEY fk", vec!["-constraint fk of t"]),
            (
                "ALTER TABLE t RENAME TO u, ADD a int",
                vec!["-table t", "+table u"],
            ),
            (
                "ALTER TABLE t RENAME COLUMN a TO b",
                vec!["-column t.a", "+column t.b"],
            ),
            ("ALTER TABLE t CHANGE a b int", vec!["-column t.a", "+column t.b"]),
            ("ALTER TABLE t CHANGE a A int", vec!["nothing"]),
            ("ALTER TABLE t MODIFY a bigint", vec!["nothing"]),
            ("ALTER TABLE t MODIFY a bigint, ADD b int", vec!["+column t.b"]),
            ("ALTER TABLE t ADD COLUMN IF NOT EXISTS a int", vec!["repeatable"]),
            ("ALTER TABLE t ADD INDEX (a)", vec!["nothing"]),
            ("TRUNCATE TABLE t", vec!["repeatable"]),
            ("CALL p()", vec!["nothing"]),
            ("GRANT SELECT ON d.* TO u", vec!["nothing"]),
        ] {
            assert_eq!(probes(statement), expected, "{statement}");
        }
    }

    #[test]
    fn the_changed_table_is_named() {
        for (statement, table) in [
            ("ALTER TABLE d.t ADD a int", Some("t")),
            ("CREATE INDEX i ON t (a)", Some("t")),
            ("DROP TABLE IF EXISTS t", Some("t")),
            ("CREATE TABLE t (a int)", None),
        ] {
            assert_eq!(table_of(statement).as_deref(), table, "{statement}");
        }
        assert!(may_be_partial("DROP TABLE a, b"));
        assert!(!may_be_partial("DROP TABLE a"));
    }
}
