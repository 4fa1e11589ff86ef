//! PostgreSQL's rules, from the library squawk.

use lockkeeper_migrate::source::Script;
use squawk_linter::{Linter, Rule as SquawkRule, Violation};
use squawk_syntax::SourceFile;

use super::{Finding, Level, Rule};

/// Rules that lockkeeper makes needless, or says itself for every dialect.
const LEFT_OUT: &[SquawkRule] = &[
    // Every statement has a limit on its lock waits, and `--statement-timeout` sets the other.
    SquawkRule::RequireLockTimeout,
    SquawkRule::RequireStatementTimeout,
    // A statement that has run is not run again: the journal knows it.
    SquawkRule::PreferRobustStmts,
    // Said as contract-step.
    SquawkRule::BanDropTable,
    SquawkRule::BanDropColumn,
    SquawkRule::BanDropDatabase,
    SquawkRule::BanDropView,
    SquawkRule::BanDropFunction,
    SquawkRule::BanDropType,
    SquawkRule::BanDropSchema,
    SquawkRule::BanDropSequence,
    SquawkRule::BanDropDomain,
    SquawkRule::RenamingColumn,
    SquawkRule::RenamingTable,
];

/// What squawk finds in the statements of `script`; its own comments silence it as they always do.
pub(super) fn findings(script: &Script) -> Vec<Finding> {
    let mut linter = Linter::with_rules(&[], LEFT_OUT);
    // A BEGIN … COMMIT of the file's own stands in its text, and says the same.
    linter.settings.assume_in_transaction =
        script.transaction.is_transactional() && script.own_transaction.is_none();
    let parsed = SourceFile::parse(&script.text);
    let violations = linter.lint(&parsed, &script.text);
    violations
        .into_iter()
        .filter_map(|violation| finding(script, violation))
        .collect()
}

/// Only what lies in a statement that runs: a file may hold the way back, too.
fn finding(script: &Script, violation: Violation) -> Option<Finding> {
    let start = usize::from(violation.text_range.start());
    let runs = |range: &std::ops::Range<usize>| range.contains(&start);
    if !script.statements.iter().any(|statement| runs(&statement.range)) {
        return None;
    }
    let before = script.text.get(..start)?.matches('\n').count();
    Some(Finding {
        path: script.path.clone(),
        line: u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1),
        level: Level::Warning,
        rule: Rule::Squawk(violation.code.to_string()),
        message: violation.message,
        help: violation.help,
        silenced: None,
    })
}
