//! Where a store is, and opening it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use lockkeeper_coordinator::store::embedded::EmbeddedStore;
use lockkeeper_coordinator::store::etcd::{EtcdOptions, EtcdStore};
use lockkeeper_coordinator::store::{Store, StoreError};
use lockkeeper_core::id::FleetName;

/// Where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StoreAddress {
    /// These endpoints, `host:port`.
    Etcd(Vec<String>),
    /// This directory.
    Embedded(PathBuf),
}

impl FromStr for StoreAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(endpoints) = text.strip_prefix("etcd://") {
            let endpoints: Vec<String> = endpoints.split(',').map(str::to_owned).collect();
            let bad = endpoints.iter().find(|e| {
                e.rsplit_once(':')
                    .is_none_or(|(_, port)| port.parse::<u16>().is_err())
            });
            return match bad {
                Some(bad) => Err(format!("{bad:?} is no HOST:PORT")),
                None => Ok(Self::Etcd(endpoints)),
            };
        }
        match text.strip_prefix("embedded:") {
            Some("") => Err("embedded: needs a directory".to_owned()),
            Some(dir) => Ok(Self::Embedded(PathBuf::from(dir))),
            None => Err(format!(
                "{text:?} is neither etcd://HOST:PORT[,HOST:PORT] nor embedded:DIR"
            )),
        }
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd(endpoints) => write!(f, "etcd://{}", endpoints.join(",")),
            Self::Embedded(dir) => write!(f, "embedded:{}", dir.display()),
        }
    }
}

impl StoreAddress {
    /// Opens the fleet's part of the store.
    pub(crate) async fn open(&self, fleet: &FleetName) -> Result<Arc<dyn Store>, StoreError> {
        Ok(match self {
            Self::Etcd(endpoints) => {
                Arc::new(EtcdStore::connect(endpoints, fleet, EtcdOptions::default()).await?)
            }
            Self::Embedded(dir) => Arc::new(EmbeddedStore::open(dir)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_are_told_by_their_scheme() {
        let two = StoreAddress::Etcd(vec!["a:2379".to_owned(), "b:2379".to_owned()]);
        assert_eq!("etcd://a:2379,b:2379".parse(), Ok(two));
        assert_eq!(
            "embedded:/var/lib/x".parse(),
            Ok(StoreAddress::Embedded("/var/lib/x".into()))
        );
        for bad in ["etcd://a", "embedded:", "redis://a:1", ""] {
            assert!(bad.parse::<StoreAddress>().is_err(), "{bad}");
        }
    }
}
