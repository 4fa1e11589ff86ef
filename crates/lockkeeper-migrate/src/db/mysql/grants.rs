//! What the role may do, as far as `SHOW GRANTS` tells.

use super::failure::Failure;
use super::session::Session;

/// The role's privileges, those of its active roles included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Grants(Vec<Grant>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Grant {
    /// In upper case: `SELECT`, `ALL PRIVILEGES`.
    privileges: Vec<String>,
    /// As printed: `*.*`, `` `db`.* ``, `` `db`.`t` ``.
    scope: String,
}

impl Grants {
    pub(super) async fn read(session: &mut Session) -> Result<Self, Failure> {
        let rows = session.rows("SHOW GRANTS").await?;
        Ok(Self(
            rows.into_iter()
                .filter_map(|row| grant(row.first()?.as_deref()?))
                .collect(),
        ))
    }

    /// Whether a privilege is held on everything.
    pub(super) fn global(&self, privilege: &str) -> bool {
        self.0
            .iter()
            .any(|grant| grant.scope == "*.*" && grant.gives(privilege))
    }

    /// Whether a privilege is held on all of a database.
    pub(super) fn on_database(&self, privilege: &str, database: &str) -> bool {
        let covers = |grant: &Grant| {
            let pattern = grant
                .scope
                .strip_suffix(".*")
                .map(|name| name.trim_matches('`').replace("``", "`"));
            pattern.is_some_and(|pattern| pattern == "*" || matches(&pattern, database))
        };
        self.0.iter().any(|grant| covers(grant) && grant.gives(privilege))
    }
}

impl Grant {
    fn gives(&self, privilege: &str) -> bool {
        self.privileges
            .iter()
            .any(|held| held == privilege || held == "ALL PRIVILEGES" || held == "ALL")
    }
}

/// `GRANT SELECT (a), INSERT ON `db`.* TO ...`; role grants (`GRANT r TO u`) have no scope.
fn grant(text: &str) -> Option<Grant> {
    let rest = text.strip_prefix("GRANT ")?;
    let (privileges, rest) = rest.split_once(" ON ")?;
    let scope = rest.split(" TO ").next()?.trim();
    // A privilege on columns is none on the table.
    let whole = privileges
        .split(", ")
        .filter(|privilege| !privilege.contains(['(', ')']));
    Some(Grant {
        privileges: whole.map(|p| p.trim().to_ascii_uppercase()).collect(),
        scope: scope.to_owned(),
    })
}

/// The server's database patterns: `%` and `_` are wild, a backslash takes that from them.
fn matches(pattern: &str, text: &str) -> bool {
    let mut pattern_chars = pattern.chars();
    match pattern_chars.next() {
        None => text.is_empty(),
        Some('%') => text
            .char_indices()
            .map(|(at, _)| at)
            .chain([text.len()])
            .any(|at| matches(pattern_chars.as_str(), &text[at..])),
        Some(c) => {
            let (wanted, rest) = match c {
                '\\' => {
                    let escaped = pattern_chars.next();
                    (escaped, pattern_chars.as_str())
                }
                '_' => (None, pattern_chars.as_str()),
                other => (Some(other), pattern_chars.as_str()),
            };
            let mut text_chars = text.chars();
            let first = text_chars.next();
            first.is_some() && (wanted.is_none() || wanted == first) && matches(rest, text_chars.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(lines: &[&str]) -> Grants {
        Grants(lines.iter().filter_map(|line| grant(line)).collect())
    }

    #[test]
    fn scopes_and_patterns_are_told_apart() {
        let held = grants(&[
            "GRANT USAGE ON *.* TO `app`@`%` IDENTIFIED BY PASSWORD '*1'",
            "GRANT SELECT, INSERT ON `shop\\_eu`.* TO `app`@`%`",
            "GRANT SELECT (a), UPDATE ON `shop_eu`.`t` TO `app`@`%`",
            "GRANT `r` TO `app`@`%`",
        ]);
        assert!(held.on_database("INSERT", "shop_eu"));
        assert!(!held.on_database("INSERT", "shopxeu"));
        assert!(!held.on_database("UPDATE", "shop_eu"));
        assert!(!held.global("PROCESS"));
        let root = grants(&["GRANT ALL PRIVILEGES ON *.* TO `root`@`localhost` WITH GRANT OPTION"]);
        assert!(root.global("SUPER") && root.on_database("TRIGGER", "any"));
        assert!(grants(&["GRANT CREATE ON `shop%`.* TO `a`@`b`"]).on_database("CREATE", "shop_eu"));
    }
}
