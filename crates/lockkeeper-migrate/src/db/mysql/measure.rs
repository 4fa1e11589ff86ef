//! What each statement locks and writes anew, for rehearsals.
//!
//! DDL gives its locks back before it ends, so they cannot be seen afterwards. How an ALTER TABLE can be done can be
//! asked, though: the server refuses an ALGORITHM or LOCK that it cannot keep. It is asked on an empty copy of the
//! table, since the first that it accepts is carried out. Locks follow from that, as the servers' manuals have it.

use tokio::time::Instant;

use super::apply::Run;
use super::failure::Failure;
use super::hand::MySqlHand;
use super::text;
use crate::db::Event;
use crate::db::measure::{Algorithm, Blocks, Detail, Effects, Evidence, LockTaken, Rewritten};
use crate::dialect::Dialect;
use crate::sql::{Statement, StatementKind, pieces};

/// The copy, which is dropped again.
const COPY: &str = "lockkeeper_rehearsal_copy";

/// The server cannot do it that way: 1845 without, 1846 with its reason.
const NOT_THAT_WAY: [u16; 2] = [1845, 1846];

/// Ways to do an ALTER TABLE, cheapest first. `INSTANT` takes no LOCK clause on MySQL.
const WAYS: [(&str, Option<&str>); 8] = [
    ("INSTANT", None),
    ("NOCOPY", Some("NONE")),
    ("NOCOPY", Some("SHARED")),
    ("INPLACE", Some("NONE")),
    ("INPLACE", Some("SHARED")),
    ("COPY", Some("NONE")),
    ("COPY", Some("SHARED")),
    ("COPY", Some("EXCLUSIVE")),
];

/// A statement that is about to run.
pub(super) struct Measuring {
    algorithm: Option<Algorithm>,
    table: Option<String>,
    began: Instant,
}

/// Looks at what can only be seen before. `None` when nothing is measured.
pub(super) async fn before(
    hand: &mut MySqlHand,
    statement: &Statement,
) -> Result<Option<Measuring>, Failure> {
    if hand.target.limits.detail == Detail::Plain {
        return Ok(None);
    }
    let alter = Alter::of(&statement.text);
    let algorithm = match &alter {
        Some(alter) => try_ways(hand, alter).await?,
        None => None,
    };
    let table = match alter {
        Some(alter) => Some(alter.table.to_owned()),
        None => super::doubt::table_of(&statement.text),
    };
    Ok(Some(Measuring {
        algorithm,
        table,
        began: Instant::now(),
    }))
}

/// Tells what it did.
pub(super) async fn after(
    run: &mut Run<'_>,
    position: usize,
    statement: &Statement,
    measuring: Measuring,
    rows: u64,
) {
    let Measuring {
        algorithm,
        table,
        began,
    } = measuring;
    let duration = began.elapsed();
    let seen = if statement.kind == StatementKind::RowChange {
        locks_of_rows(run.hand).await
    } else {
        Vec::new()
    };
    let table = table.map_or_else(|| "its table".to_owned(), |table| table.replace('`', ""));
    let locks = if seen.is_empty() {
        documented(statement, algorithm.as_ref(), &table)
            .into_iter()
            .collect()
    } else {
        seen
    };
    let effects = Effects {
        duration,
        rows: (statement.kind == StatementKind::RowChange || rows > 0).then_some(rows),
        locks,
        rewritten: rewritten(algorithm.as_ref(), &table),
        algorithm,
    };
    run.observer
        .event(Event::Measured(effects.of(position, statement)));
}

/// An ALTER TABLE whose table can be another one.
struct Alter<'a> {
    /// As it is written, database included.
    table: &'a str,
    /// What follows the table's name.
    rest: &'a str,
}

impl<'a> Alter<'a> {
    /// `None` for another statement, for one that says itself how it is to be done, and for one that must not be
    /// tried: a copy that is renamed would be in the way.
    fn of(text: &'a str) -> Option<Self> {
        let pieces = pieces(Dialect::MySql, text);
        let is = |at: usize, word: &str| {
            pieces
                .get(at)
                .is_some_and(|piece| piece.eq_ignore_ascii_case(word))
        };
        let mut at = 1;
        is(0, "ALTER").then_some(())?;
        at += usize::from(is(at, "ONLINE"));
        at += usize::from(is(at, "IGNORE"));
        is(at, "TABLE").then_some(())?;
        at += 1;
        if is(at, "IF") && is(at + 1, "EXISTS") {
            at += 2;
        }
        let first = at;
        if is(at + 1, ".") {
            at += 2;
        }
        let rest = &pieces[(at + 1).min(pieces.len())..];
        if rest.is_empty() || !can_be_tried(rest) {
            return None;
        }
        let place = |piece: &str| piece.as_ptr() as usize - text.as_ptr() as usize;
        let last = pieces.get(at)?;
        Some(Self {
            table: text.get(place(pieces[first])..place(last) + last.len())?,
            rest: text.get(place(rest[0])..)?,
        })
    }
}

fn can_be_tried(rest: &[&str]) -> bool {
    const NEVER: [&str; 8] = [
        "ALGORITHM",
        "LOCK",
        "PARTITION",
        "PARTITIONS",
        "PARTITIONING",
        "TABLESPACE",
        "WAIT",
        "NOWAIT",
    ];
    const RENAMED: [&str; 3] = ["COLUMN", "INDEX", "KEY"];
    let among = |words: &[&str], piece: &str| words.iter().any(|word| piece.eq_ignore_ascii_case(word));
    let renames_the_table = rest
        .iter()
        .zip(rest.iter().skip(1))
        .any(|(piece, next)| piece.eq_ignore_ascii_case("RENAME") && !among(&RENAMED, next));
    !renames_the_table && !rest.iter().any(|piece| among(&NEVER, piece))
}

/// The cheapest way that the server accepts. `None` when it cannot be tried, or fails for another reason: the real
/// statement will tell that.
async fn try_ways(hand: &mut MySqlHand, alter: &Alter<'_>) -> Result<Option<Algorithm>, Failure> {
    let copy = hand.target.own(COPY);
    let drop = format!("DROP TABLE IF EXISTS {copy}");
    hand.session.run(&drop).await?;
    let made = hand
        .session
        .run(&format!("CREATE TABLE {copy} LIKE {}", alter.table))
        .await;
    let found = match made {
        Ok(_) => first_way(hand, alter, &copy).await,
        Err(failure) if failure.is_lost() => Err(failure),
        Err(_) => Ok(None),
    };
    hand.session.run(&drop).await?;
    found
}

async fn first_way(
    hand: &mut MySqlHand,
    alter: &Alter<'_>,
    copy: &str,
) -> Result<Option<Algorithm>, Failure> {
    for (name, lock) in WAYS {
        if name == "NOCOPY" && !hand.facts.mariadb {
            continue;
        }
        let clause = lock.map_or_else(String::new, |lock| format!(" LOCK={lock},"));
        let sql = format!("ALTER TABLE {copy} ALGORITHM={name},{clause} {}", alter.rest);
        match hand.session.run(&sql).await {
            Ok(_) => {
                return Ok(Some(Algorithm {
                    name: name.to_owned(),
                    lock: lock.unwrap_or("NONE").to_owned(),
                }));
            }
            Err(failure) if failure.is_lost() => return Err(failure),
            Err(failure)
                if failure
                    .number()
                    .is_some_and(|number| NOT_THAT_WAY.contains(&number)) => {}
            Err(_) => return Ok(None),
        }
    }
    Ok(None)
}

/// A rebuild writes the table anew; so does INPLACE where NOCOPY was refused. MySQL has no NOCOPY to ask with.
fn rewritten(algorithm: Option<&Algorithm>, table: &str) -> Vec<Rewritten> {
    let anew = algorithm.is_some_and(|algorithm| matches!(algorithm.name.as_str(), "INPLACE" | "COPY"));
    let rewritten = anew.then(|| Rewritten {
        object: table.to_owned(),
        evidence: Evidence::Documented,
    });
    rewritten.into_iter().collect()
}

fn documented(statement: &Statement, algorithm: Option<&Algorithm>, table: &str) -> Option<LockTaken> {
    let (blocks, mode) = match (
        &statement.kind,
        algorithm.map(|algorithm| algorithm.lock.as_str()),
    ) {
        (_, Some("NONE")) => (
            Blocks::SchemaChanges,
            "SHARED_UPGRADABLE (EXCLUSIVE for a moment)",
        ),
        (_, Some("SHARED")) => (Blocks::Writes, "SHARED_NO_WRITE (EXCLUSIVE for a moment)"),
        (StatementKind::Ddl, _) => (Blocks::ReadsAndWrites, "EXCLUSIVE"),
        (StatementKind::RowChange, _) => (Blocks::Nothing, "SHARED_WRITE, and its rows"),
        _ => return None,
    };
    Some(LockTaken {
        blocks,
        mode: mode.to_owned(),
        object: table.to_owned(),
        evidence: Evidence::Documented,
    })
}

/// The locks on definitions that the open transaction holds, where the server has a table of them.
async fn locks_of_rows(hand: &mut MySqlHand) -> Vec<LockTaken> {
    let database = text::literal(&hand.target.database);
    let sql = if hand.facts.mariadb {
        format!(
            "SELECT TABLE_NAME, LOCK_MODE FROM information_schema.METADATA_LOCK_INFO \
             WHERE THREAD_ID = CONNECTION_ID() AND TABLE_SCHEMA = {database}"
        )
    } else {
        format!(
            "SELECT l.OBJECT_NAME, l.LOCK_TYPE FROM performance_schema.metadata_locks l \
             JOIN performance_schema.threads t ON t.THREAD_ID = l.OWNER_THREAD_ID \
             WHERE t.PROCESSLIST_ID = CONNECTION_ID() AND l.OBJECT_TYPE = 'TABLE' AND l.OBJECT_SCHEMA = {database}"
        )
    };
    // The plugin is seldom there, and the table not for everybody: then nothing is seen.
    let rows = hand.session.rows(&sql).await.unwrap_or_default();
    let lock = |row: Vec<Option<String>>| {
        let [table, mode] = <[_; 2]>::try_from(row).unwrap_or_default();
        let (table, mode) = (table?, mode?);
        let mode = mode.strip_prefix("MDL_").unwrap_or(&mode).to_owned();
        (!table.starts_with("lockkeeper_")).then(|| LockTaken {
            blocks: blocks(&mode),
            mode,
            object: table,
            evidence: Evidence::Seen,
        })
    };
    rows.into_iter().filter_map(lock).collect()
}

fn blocks(mode: &str) -> Blocks {
    match mode {
        "EXCLUSIVE" | "SHARED_NO_READ_WRITE" => Blocks::ReadsAndWrites,
        "SHARED_NO_WRITE" | "SHARED_READ_ONLY" => Blocks::Writes,
        "SHARED_UPGRADABLE" => Blocks::SchemaChanges,
        _ => Blocks::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alter_can_be_turned_to_another_table() {
        let told = |text| Alter::of(text).map(|alter| format!("{} | {}", alter.table, alter.rest));
        assert_eq!(told("ALTER TABLE t ADD a int").as_deref(), Some("t | ADD a int"));
        assert_eq!(
            told("alter online ignore table if exists `d`.`t t` /* x */ drop a").as_deref(),
            Some("`d`.`t t` | drop a")
        );
        for text in [
            "CREATE TABLE t (a int)",
            "ALTER TABLE t RENAME TO u",
            "ALTER TABLE t RENAME u",
            "ALTER TABLE t ADD a int, ALGORITHM=COPY",
            "ALTER TABLE t DROP PARTITION p",
            "ALTER TABLE t",
            "ALTER DATABASE d CHARACTER SET utf8mb4",
        ] {
            assert_eq!(told(text), None, "{text}");
        }
        assert!(told("ALTER TABLE t RENAME COLUMN a TO b").is_some());
    }
}
