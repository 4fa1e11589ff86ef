//! Rules that a file silences in place: `-- lockkeeper:ignore RULE[, RULE]: reason`.

use lockkeeper_migrate::dialect::Dialect;
use lockkeeper_migrate::source::Script;
use lockkeeper_migrate::sql::{Comment, comments};

use super::{Finding, Level, Rule};

/// What a silencing comment begins with.
const MARK: &str = "lockkeeper:ignore";

/// One rule that is silenced at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Silence {
    line: u32,
    rule: String,
    reason: String,
    is_used: bool,
}

/// The silences of a file, and where its statements lie.
#[derive(Debug)]
pub(super) struct Silences<'a> {
    script: &'a Script,
    silences: Vec<Silence>,
    /// First and last line of each statement.
    statements: Vec<(u32, u32)>,
}

impl<'a> Silences<'a> {
    pub(super) fn of(dialect: Dialect, script: &'a Script) -> Self {
        let silences = comments(dialect, &script.text).iter().flat_map(read).collect();
        let statements = script.statements.iter().map(|statement| {
            let further = statement.text.matches('\n').count();
            let last = u32::try_from(further)
                .unwrap_or(u32::MAX)
                .saturating_add(statement.line);
            (statement.line, last)
        });
        Self {
            script,
            silences,
            statements: statements.collect(),
        }
    }

    /// Marks what is silenced, and adds what is wrong with the silences themselves.
    pub(super) fn apply(mut self, mut found: Vec<Finding>) -> Vec<Finding> {
        for finding in &mut found {
            let statement = self.statement_at(finding.line);
            let silence = self.silences.iter_mut().find(|silence| {
                let is_near = silence.line == finding.line
                    || statement.is_some_and(|(from, to)| (from..=to).contains(&silence.line));
                silence.rule == finding.rule.name() && (finding.rule.is_of_the_file() || is_near)
            });
            if let Some(silence) = silence {
                silence.is_used = true;
                if !silence.reason.is_empty() {
                    finding.silenced = Some(silence.reason.clone());
                }
            }
        }
        found.extend(self.silences.iter().filter_map(|silence| self.complaint(silence)));
        found
    }

    /// The lines of the statement at `line`, with those before it that belong to no other statement.
    fn statement_at(&self, line: u32) -> Option<(u32, u32)> {
        let at = self.statements.iter().position(|(_, last)| line <= *last)?;
        let before = at.checked_sub(1).map_or(0, |before| self.statements[before].1);
        Some((before + 1, self.statements[at].1))
    }

    fn complaint(&self, silence: &Silence) -> Option<Finding> {
        let rule = &silence.rule;
        let (level, complaint, message, help) = if silence.reason.is_empty() {
            let help = format!("write it as -- {MARK} {rule}: why it is right here");
            let message = format!("{rule} is silenced without a reason");
            (Level::Error, Rule::SilenceWithoutReason, message, help)
        } else if !silence.is_used {
            let help = "take the comment away, or put it right above the statement that it is for".to_owned();
            let message = format!("{rule} is silenced, and finds nothing here");
            (Level::Warning, Rule::UnusedSilence, message, help)
        } else {
            return None;
        };
        Some(Finding {
            path: self.script.path.clone(),
            line: silence.line,
            level,
            rule: complaint,
            message,
            help: Some(help),
            silenced: None,
        })
    }
}

fn read(comment: &Comment) -> Vec<Silence> {
    let Some(rest) = comment.text.strip_prefix(MARK) else {
        return Vec::new();
    };
    let (rules, reason) = rest.split_once(':').unwrap_or((rest, ""));
    let silence = |rule: &str| Silence {
        line: comment.line,
        rule: rule.trim().to_owned(),
        reason: reason.trim().to_owned(),
        is_used: false,
    };
    rules.split(',').map(silence).collect()
}
