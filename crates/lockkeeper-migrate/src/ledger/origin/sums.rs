//! The checksums that tools keep in their tables.

use std::fmt;
use std::hash::{Hash as _, Hasher as _};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha384};
use siphasher::sip::SipHasher13;

use crate::source::Migration;

/// CRC-32 as zip and Java have it.
const CRC32: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// A tool's checksum of a migration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolSum {
    /// sqlx: SHA-384 of the file's bytes, in hex.
    Sha384(String),
    /// refinery: SipHash-1-3 of name, version and text, as a decimal number. Refinery has versions of 32 bits, or of
    /// 64 when it is built so, and they give different sums.
    Sip13(String),
    /// Flyway: CRC-32 of the file's lines, as a signed number.
    Crc32(String),
}

impl ToolSum {
    /// Whether it is of this migration. A checkout with other line ends, or with a byte order mark, is no edit, even
    /// where the tool itself would say so.
    #[must_use]
    pub fn is_of(&self, migration: &Migration) -> bool {
        let text = migration.up.raw();
        match self {
            Self::Sha384(sum) => variants(&text).iter().any(|text| sha384(text) == *sum),
            Self::Sip13(sum) => {
                let any_width = |text: &String| {
                    sip13_sums(&migration.name, migration.version.as_str(), text).contains(sum)
                };
                variants(&text).iter().any(any_width)
            }
            Self::Crc32(sum) => crc32(&text) == *sum,
        }
    }

    /// The same kind of sum, of this migration.
    #[must_use]
    pub fn same_kind_of(&self, migration: &Migration) -> Self {
        match self {
            Self::Sha384(_) => Self::Sha384(sha384(&migration.up.raw())),
            Self::Sip13(_) => Self::Sip13(sip13(migration)),
            Self::Crc32(_) => Self::Crc32(crc32(&migration.up.raw())),
        }
    }
}

impl fmt::Display for ToolSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha384(sum) => write!(f, "sha384 {sum}"),
            Self::Sip13(sum) => write!(f, "siphash {sum}"),
            Self::Crc32(sum) => write!(f, "crc32 {sum}"),
        }
    }
}

/// The text as other checkouts have it.
fn variants(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let unix = text.replace("\r\n", "\n");
    let windows = unix.replace('\n', "\r\n");
    let plain = [text.to_owned(), unix, windows];
    let marked = plain.clone().map(|text| format!("\u{feff}{text}"));
    plain.into_iter().chain(marked).collect()
}

/// SHA-384 in hex.
#[must_use]
pub fn sha384(text: &str) -> String {
    hex::encode(Sha384::digest(text))
}

/// The sum that refinery as it is usually built (versions of 32 bits) gives, or the wide one where the version does
/// not fit.
#[must_use]
pub fn sip13(migration: &Migration) -> String {
    let sums = sip13_sums(&migration.name, migration.version.as_str(), &migration.up.raw());
    sums.into_iter().next().unwrap_or_default()
}

/// The sums with the version as each width that it fits, narrow first.
fn sip13_sums(name: &str, version: &str, text: &str) -> Vec<String> {
    let narrow = version.parse::<i32>().ok().map(|v| sip13_of(name, v, text));
    let wide = version.parse::<i64>().ok().map(|v| sip13_of(name, v, text));
    narrow
        .into_iter()
        .chain(wide)
        .map(|sum| sum.to_string())
        .collect()
}

fn sip13_of(name: &str, version: impl std::hash::Hash, text: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    name.hash(&mut hasher);
    version.hash(&mut hasher);
    text.hash(&mut hasher);
    hasher.finish()
}

/// CRC-32 over the lines without their ends, as Java prints it. A byte order mark does not count.
#[must_use]
pub fn crc32(text: &str) -> String {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut digest = CRC32.digest();
    for line in text.split('\n') {
        // A lone carriage return ends a line for Java too; between two lines it leaves nothing behind either way.
        digest.update(line.replace('\r', "").as_bytes());
    }
    digest.finalize().cast_signed().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc32_is_blind_to_line_ends_and_the_byte_order_mark() {
        // The check value of CRC-32/ISO-HDLC is 0xcbf43926.
        let check = 0xcbf4_3926_u32.cast_signed().to_string();
        for text in [
            "123456789",
            "1234\n56789\n",
            "\u{feff}1234\r\n56789",
            "12\r345\r\n6789\n",
        ] {
            assert_eq!(crc32(text), check, "{text:?}");
        }
        assert_eq!(crc32(""), "0");
    }

    #[test]
    fn siphash_is_as_refinery_gives_it() {
        let text = "CREATE TABLE persons (id int);\r\n";
        let theirs = refinery_core::Migration::unapplied("V7__initial", text).unwrap();
        let sums = sip13_sums("initial", "7", text);
        assert_eq!(sums[0], theirs.checksum().to_string());
        // A build with wide versions gives another one; what does not fit a narrow one has that alone.
        assert_eq!(sums.len(), 2);
        assert_eq!(sip13_sums("initial", "20240504090343", text).len(), 1);
    }

    #[test]
    fn sha384_is_of_the_bytes_as_they_are() {
        // FIPS 180-2, "abc".
        assert_eq!(
            sha384("abc"),
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
        );
        assert_ne!(sha384("\u{feff}abc"), sha384("abc"));
    }
}
