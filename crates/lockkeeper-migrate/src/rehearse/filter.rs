//! What of a MariaDB or MySQL dump must not run in the clone.
//!
//! The dump says who defined each program, which only a superuser may say of others; and it would enable the events,
//! which would then run in the clone by themselves. Both stand on lines that the dump program itself writes.

use std::sync::LazyLock;

use regex::bytes::Regex;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

/// How the lines begin on which programs and views are made.
const HEADS: [&[u8]; 4] = [
    b"CREATE DEFINER",
    b"/*!50003 CREATE",
    b"/*!50106 CREATE",
    b"/*!50013 DEFINER",
];

static DEFINER: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"DEFINER=`(?:[^`]|``)*`(?:@`(?:[^`]|``)*`)?").ok());

/// Before the event's body, which can hold the same words.
static ENABLED: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r" PRESERVE ENABLE\b").ok());

/// Passes a dump on, line by line: a row of data is one line, and never begins as those do.
pub(super) async fn pass_on(
    mut dump: impl AsyncBufRead + Unpin,
    client: &mut (impl AsyncWrite + Unpin),
) -> std::io::Result<()> {
    let mut line = Vec::new();
    while dump.read_until(b'\n', &mut line).await? > 0 {
        client.write_all(&changed(&line)).await?;
        line.clear();
    }
    client.shutdown().await
}

fn changed(line: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !HEADS.iter().any(|head| line.starts_with(head)) {
        return line.into();
    }
    let mut text = line.to_vec();
    for (pattern, instead) in [(&DEFINER, &b""[..]), (&ENABLED, &b" PRESERVE DISABLE"[..])] {
        if let Some(pattern) = pattern.as_ref() {
            text = pattern.replace(&text, instead).into_owned();
        }
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_dump_programs_own_words_are_changed() {
        let dump = "/*!50003 CREATE*/ /*!50017 DEFINER=`ro``ot`@`%`*/ /*!50003 TRIGGER t\n\
                    CREATE DEFINER=`a`@`b` PROCEDURE `p`()\n\
                    /*!50106 CREATE*/ /*!50117 DEFINER=`a`@`b`*/ /*!50106 EVENT `e` ON SCHEDULE EVERY 1 DAY \
                    ON COMPLETION NOT PRESERVE ENABLE DO SELECT ' PRESERVE ENABLE' */ ;;\n\
                    INSERT INTO `t` VALUES ('DEFINER=`a`@`b`');\n";
        let mut passed = Vec::new();
        pass_on(dump.as_bytes(), &mut passed).await.unwrap();
        let passed = String::from_utf8(passed).unwrap();
        let lines: Vec<&str> = passed.lines().collect();
        assert_eq!(lines[0], "/*!50003 CREATE*/ /*!50017 */ /*!50003 TRIGGER t");
        assert_eq!(lines[1], "CREATE  PROCEDURE `p`()");
        assert!(
            lines[2].contains("NOT PRESERVE DISABLE DO SELECT ' PRESERVE ENABLE'"),
            "{passed}"
        );
        assert_eq!(lines[3], "INSERT INTO `t` VALUES ('DEFINER=`a`@`b`');");
    }
}
