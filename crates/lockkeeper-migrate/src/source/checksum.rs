//! The checksum of a migration file.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// SHA-256 of a file's text without byte order mark and with CRLF read as LF, in hex: a checkout on another
/// system is no edit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checksum(pub String);

impl Checksum {
    /// The checksum of `text`.
    #[must_use]
    pub fn of(text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self(hex::encode(Sha256::digest(text.replace("\r\n", "\n"))))
    }

    /// The checksum in hex.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl From<String> for Checksum {
    fn from(hex: String) -> Self {
        Self(hex)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_and_a_byte_order_mark_are_no_edit() {
        let plain = Checksum::of("SELECT 1;\nSELECT 2;\n");
        assert_eq!(Checksum::of("\u{feff}SELECT 1;\r\nSELECT 2;\r\n"), plain);
        assert_ne!(Checksum::of("SELECT 1;\nSELECT 2;"), plain);
        assert_ne!(Checksum::of("SELECT 1;\rSELECT 2;\r"), plain);
        // sha256sum of the empty file.
        assert_eq!(
            Checksum::of("").as_str(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
