//! Names and ids. Each is checked once, where it enters, and cannot be wrong afterwards.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest name accepted for a fleet, target, service, region, coordinator or replica, in bytes.
pub const NAME_MAX_BYTES: usize = 128;

/// A name that cannot be used as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name has no character.
    #[error("{what} is empty")]
    Empty {
        /// What the name was meant for.
        what: &'static str,
    },
    /// The name has more than [`NAME_MAX_BYTES`] bytes.
    #[error("{what} has {len} bytes; at most {NAME_MAX_BYTES} are allowed")]
    TooLong {
        /// What the name was meant for.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
    },
    /// The name holds a character that store keys and command lines cannot carry unquoted.
    #[error("{what} {name:?} holds {found:?}; letters, digits and . _ - {extra}are allowed")]
    BadCharacter {
        /// What the name was meant for.
        what: &'static str,
        /// The whole name.
        name: String,
        /// The first character that does not fit.
        found: char,
        /// Further characters that this kind of name allows, for the message.
        extra: &'static str,
    },
}

fn check(what: &'static str, name: &str, allow_slash: bool) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > NAME_MAX_BYTES {
        return Err(NameError::TooLong {
            what,
            len: name.len(),
        });
    }
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') || (allow_slash && c == '/');
    let extra = if allow_slash { "/ " } else { "" };
    match name.chars().find(|c| !allowed(*c)) {
        Some(found) => Err(NameError::BadCharacter {
            what,
            name: name.to_owned(),
            found,
            extra,
        }),
        None if allow_slash && (name.starts_with('/') || name.ends_with('/') || name.contains("//")) => {
            Err(NameError::BadCharacter {
                what,
                name: name.to_owned(),
                found: '/',
                extra,
            })
        }
        None => Ok(()),
    }
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $what:literal, slash: $slash:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                check($what, &name, $slash)?;
                Ok(Self(name.into()))
            }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::try_from(name.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name_type!(
    /// Everything that shares one store prefix.
    FleetName, "fleet name", slash: false
);
name_type!(
    /// One database, for example `kratos/eu-west-1`.
    TargetName, "target name", slash: true
);
name_type!(
    /// The service whose schema a target holds, for example `kratos`.
    ServiceName, "service name", slash: false
);
name_type!(
    /// A region, for example `eu-west-1`.
    Region, "region", slash: false
);
name_type!(
    /// A coordinator's stable name.
    CoordinatorName, "coordinator name", slash: false
);
name_type!(
    /// An agent's stable replica name.
    AgentId, "replica name", slash: false
);
name_type!(
    /// A rollout's id, given by the client so that creating it twice creates it once.
    RolloutId, "rollout id", slash: false
);

/// One start of an agent's process (UUIDv7, so that a later start is larger).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub Uuid);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A coordinator's presence in the store: its name and the id of this process start.
///
/// The key is made create-only, so a process that restarts under the same name is another session and the old
/// one, which may still be alive behind a partition, does not disappear from any list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionId {
    /// The coordinator's stable name.
    pub coordinator: CoordinatorName,
    /// This process start.
    pub start: Uuid,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.coordinator, self.start)
    }
}

/// A text that is not a session id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a session id (coordinator/uuid)")]
pub struct SessionIdError(String);

impl FromStr for SessionId {
    type Err = SessionIdError;
    fn from_str(text: &str) -> Result<Self, SessionIdError> {
        let error = || SessionIdError(text.to_owned());
        let (name, start) = text.split_once('/').ok_or_else(error)?;
        Ok(Self {
            coordinator: name.parse().map_err(|_| error())?,
            start: start.parse().map_err(|_| error())?,
        })
    }
}

impl TryFrom<String> for SessionId {
    type Error = SessionIdError;
    fn try_from(text: String) -> Result<Self, SessionIdError> {
        text.parse()
    }
}

impl From<SessionId> for String {
    fn from(id: SessionId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_with_their_kind_in_the_message() {
        assert!("kratos/eu-west-1".parse::<TargetName>().is_ok());
        assert_eq!(
            "kratos/eu".parse::<Region>().unwrap_err().to_string(),
            "region \"kratos/eu\" holds '/'; letters, digits and . _ - are allowed"
        );
        assert_eq!(
            "".parse::<FleetName>().unwrap_err().to_string(),
            "fleet name is empty"
        );
        assert!("a//b".parse::<TargetName>().is_err());
        assert!("/a".parse::<TargetName>().is_err());
        assert!("x".repeat(129).parse::<AgentId>().is_err());
    }

    #[test]
    fn session_ids_survive_text() {
        let id = SessionId {
            coordinator: "c1".parse().unwrap(),
            start: Uuid::from_u128(7),
        };
        assert_eq!(id.to_string().parse::<SessionId>().unwrap(), id);
        assert!("c1".parse::<SessionId>().is_err());
    }
}
