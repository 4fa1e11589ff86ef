//! What of a MariaDB or MySQL dump must not come back: the statements about lockkeeper's gate, its records, and the
//! tables of gate epochs.
//!
//! A dump is read line by line. mariadb-dump writes each of the statements that matter at the beginning of a line,
//! and all rows of one INSERT in one line, so that no text of a row can begin one.

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use super::dump::LEFT_OUT;
use super::toc::is_barrier;

/// How a statement about a table begins, before the table's name in backticks.
const BEGINNINGS: [&str; 5] = [
    "DROP TABLE IF EXISTS ",
    "CREATE TABLE ",
    "LOCK TABLES ",
    "INSERT INTO ",
    "/*!40000 ALTER TABLE ",
];

/// Whether the reader is in the middle of a statement that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Between,
    Inside,
}

/// Passes a dump on, without what must not come back.
pub(super) async fn pass_on(
    mut dump: impl AsyncBufRead + Unpin,
    client: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut place = Place::Between;
    let mut line = Vec::new();
    while dump.read_until(b'\n', &mut line).await? > 0 {
        let (next, keep) = judge(place, &line);
        place = next;
        if keep {
            client.write_all(&line).await?;
        }
        line.clear();
    }
    Ok(())
}

/// Where the line leads to, and whether it is passed on.
fn judge(place: Place, line: &[u8]) -> (Place, bool) {
    let after = if ends_statement(line) {
        Place::Between
    } else {
        Place::Inside
    };
    match place {
        Place::Inside => (after, false),
        Place::Between if is_left_out(line) => (after, false),
        Place::Between => (Place::Between, true),
    }
}

fn ends_statement(line: &[u8]) -> bool {
    line.trim_ascii_end().ends_with(b";")
}

fn is_left_out(line: &[u8]) -> bool {
    // Enough for the beginning and the name: a line of rows can be very long.
    let head = String::from_utf8_lossy(&line[..line.len().min(80)]);
    let table = BEGINNINGS
        .iter()
        .find_map(|beginning| head.strip_prefix(beginning));
    let name = table.and_then(|rest| rest.strip_prefix('`')?.split('`').next());
    name.is_some_and(|name| LEFT_OUT.contains(&name) || is_barrier(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_is_about_the_gate_is_left_out() {
        let dump = "\
DROP TABLE IF EXISTS `lockkeeper_gate`;
CREATE TABLE `lockkeeper_gate` (
  `one` tinyint(3) unsigned NOT NULL,
  PRIMARY KEY (`one`)
) ENGINE=InnoDB;
LOCK TABLES `lockkeeper_gate` WRITE;
/*!40000 ALTER TABLE `lockkeeper_gate` DISABLE KEYS */;
INSERT INTO `lockkeeper_gate` VALUES (1);
UNLOCK TABLES;
CREATE TABLE `lockkeeper_gates` (
  a int
);
INSERT INTO `notes` VALUES ('x\\nINSERT INTO `lockkeeper_gate` VALUES (1);');
";
        let mut passed = Vec::new();
        pass_on(dump.as_bytes(), &mut passed).await.unwrap();
        let passed = String::from_utf8(passed).unwrap();
        assert_eq!(
            passed,
            "UNLOCK TABLES;\nCREATE TABLE `lockkeeper_gates` (\n  a int\n);\n\
             INSERT INTO `notes` VALUES ('x\\nINSERT INTO `lockkeeper_gate` VALUES (1);');\n"
        );
    }
}
