//! Places at which a test ends this process, to see what the next one makes of what is left.
//!
//! A failpoint has the name of the step that it stands behind: `journal.started` is reached when the journal's row
//! `started` is committed. In a release build [`reach`] is empty. In a debug build the variable
//! `LOCKKEEPER_FAILPOINT` arms them: `journal.started` ends the process there, `journal.started:3` the third time
//! that it comes there, `journal.started=stop` freezes it instead, as a pause of a virtual machine would. Several are
//! separated by commas.

/// A named place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Failpoint(&'static str);

impl Failpoint {
    /// A place named `name`; all lower case, `part.step`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// The session is registered in the gate row.
pub const TAKE_REGISTERED: Failpoint = Failpoint::new("take.registered");
/// A migration's transaction is open, and nothing of the script has run.
pub const APPLY_BEGUN: Failpoint = Failpoint::new("apply.begun");
/// All statements of a migration's transaction have run.
pub const APPLY_RAN: Failpoint = Failpoint::new("apply.ran");
/// The ledger's row is written, and not committed.
pub const APPLY_RECORDED: Failpoint = Failpoint::new("apply.recorded");
/// A migration's transaction is committed.
pub const APPLY_COMMITTED: Failpoint = Failpoint::new("apply.committed");
/// A statement that no transaction holds is about to be marked as started.
pub const JOURNAL_STARTING: Failpoint = Failpoint::new("journal.starting");
/// The mark `started` is committed, and the statement has not been sent.
pub const JOURNAL_STARTED: Failpoint = Failpoint::new("journal.started");
/// The statement has run, and its mark still says `started`.
pub const JOURNAL_RAN: Failpoint = Failpoint::new("journal.ran");
/// The mark `done` is committed.
pub const JOURNAL_DONE: Failpoint = Failpoint::new("journal.done");
/// All statements are done, and the ledger does not say so yet.
pub const LEDGER_PENDING: Failpoint = Failpoint::new("ledger.pending");
/// The ledger's row has taken the journal's place.
pub const LEDGER_WRITTEN: Failpoint = Failpoint::new("ledger.written");

/// The failpoints of this crate, in the order in which a migration comes to them.
pub const ALL: [Failpoint; 11] = [
    TAKE_REGISTERED,
    APPLY_BEGUN,
    APPLY_RAN,
    APPLY_RECORDED,
    APPLY_COMMITTED,
    JOURNAL_STARTING,
    JOURNAL_STARTED,
    JOURNAL_RAN,
    JOURNAL_DONE,
    LEDGER_PENDING,
    LEDGER_WRITTEN,
];

/// Comes to `point`: ends or freezes the process if a test has asked for it.
#[cfg(not(debug_assertions))]
pub fn reach(_point: Failpoint) {}

#[cfg(debug_assertions)]
pub use armed::reach;

#[cfg(debug_assertions)]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::Failpoint;

    const VARIABLE: &str = "LOCKKEEPER_FAILPOINT";

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Action {
        Kill,
        Stop,
    }

    #[derive(Debug)]
    struct Trap {
        name: String,
        action: Action,
        /// How often it is still to be passed.
        passes: AtomicU32,
    }

    static TRAPS: LazyLock<Vec<Trap>> = LazyLock::new(|| match std::env::var(VARIABLE) {
        Ok(text) => text.split(',').filter_map(parse).collect(),
        Err(_) => Vec::new(),
    });

    /// Comes to `point`: ends or freezes the process if a test has asked for it.
    pub fn reach(point: Failpoint) {
        for trap in TRAPS.iter().filter(|trap| trap.name == point.name()) {
            if trap.passes.fetch_sub(1, Ordering::AcqRel) == 1 {
                let signal = match trap.action {
                    Action::Kill => Signal::KILL,
                    Action::Stop => Signal::STOP,
                };
                // A process may always signal itself.
                let _ = kill_process(getpid(), signal);
            }
        }
    }

    fn parse(text: &str) -> Option<Trap> {
        let (place, action) = match text.trim().split_once('=') {
            None => (text.trim(), Action::Kill),
            Some((place, "kill")) => (place, Action::Kill),
            Some((place, "stop")) => (place, Action::Stop),
            Some(_) => return None,
        };
        let (name, passes) = match place.split_once(':') {
            None => (place, 1),
            Some((name, count)) => (name, count.parse().ok()?),
        };
        (!name.is_empty()).then(|| Trap {
            name: name.to_owned(),
            action,
            passes: AtomicU32::new(passes),
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_failpoint_is_armed_by_name_count_and_action() {
            for (text, name, passes, action) in [
                ("journal.done", "journal.done", 1, Action::Kill),
                (" journal.done:3", "journal.done", 3, Action::Kill),
                ("a.b:2=stop", "a.b", 2, Action::Stop),
            ] {
                let trap = parse(text).unwrap();
                assert_eq!((trap.name.as_str(), trap.action), (name, action));
                assert_eq!(trap.passes.into_inner(), passes);
            }
            for text in ["", ":2", "a=explode", "a:many"] {
                assert!(parse(text).is_none(), "{text}");
            }
        }

        #[test]
        fn names_are_there_once() {
            let mut names: Vec<_> = super::super::ALL.map(Failpoint::name).to_vec();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), super::super::ALL.len());
        }
    }
}
