//! Release numbers of programs and servers.

use std::fmt;

/// The two numbers that tell whether a program knows a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Release {
    /// PostgreSQL's is all that matters: 15 of 15.18.
    pub major: u32,
    /// The second number.
    pub minor: u32,
}

impl Release {
    /// Reads `15.18`, `10.11.19-MariaDB`, `17beta1`, `PostgreSQL 15.18`: the first word that begins with a digit.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word = text
            .split(|c: char| c.is_whitespace() || c == ',')
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
        let mut parts = word.split('.').map(leading_number);
        Some(Self {
            major: parts.next().flatten()?,
            minor: parts.next().flatten().unwrap_or(0),
        })
    }

    /// Reads what a program answers to `--version`. MariaDB's put the version of the client's own protocol first.
    #[must_use]
    pub(super) fn of_program(text: &str) -> Option<Self> {
        let marks = ["(PostgreSQL)", "Distrib", " from ", " Ver "];
        let after = marks.iter().find_map(|mark| text.split_once(mark))?.1;
        Self::parse(after)
    }
}

fn leading_number(text: &str) -> Option<u32> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(major: u32, minor: u32) -> Option<Release> {
        Some(Release { major, minor })
    }

    #[test]
    fn programs_tell_their_release_in_many_ways() {
        let of = Release::of_program;
        assert_eq!(
            of("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"),
            release(15, 18)
        );
        assert_eq!(of("psql (PostgreSQL) 18beta2"), release(18, 0));
        assert_eq!(
            of("mariadb-dump  Ver 10.19 Distrib 10.11.19-MariaDB, for debian-linux-gnu (x86_64)"),
            release(10, 11)
        );
        assert_eq!(
            of("mariadb-dump from 11.4.2-MariaDB, client 10.19 for Linux"),
            release(11, 4)
        );
        assert_eq!(
            of("mysqldump  Ver 8.0.36 for Linux on x86_64 (MySQL Community Server)"),
            release(8, 0)
        );
        assert_eq!(of("something else"), None);
    }

    #[test]
    fn servers_tell_theirs_behind_their_names() {
        assert_eq!(Release::parse("PostgreSQL 15.18"), release(15, 18));
        assert_eq!(Release::parse("MariaDB 10.11.19"), release(10, 11));
        assert_eq!(Release::parse("SQLite"), None);
    }
}
