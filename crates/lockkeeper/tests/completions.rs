//! `lockkeeper completions` knows the verbs and flags that there are.

use std::process::Command;

#[test]
fn every_shell_gets_a_script_that_knows_the_verbs() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let done = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
            .args(["completions", shell])
            .output()
            .unwrap_or_else(|error| panic!("{shell}: {error}"));
        let script = String::from_utf8_lossy(&done.stdout);
        assert!(done.status.success(), "{shell}: {done:?}");
        for word in ["up-to", "redo", "--statement-timeout", "rollout"] {
            let word = word.trim_start_matches('-');
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
    let unknown = Command::new(env!("CARGO_BIN_EXE_lockkeeper"))
        .args(["completions", "tcsh"])
        .output()
        .unwrap_or_else(|error| panic!("tcsh: {error}"));
    assert_eq!(unknown.status.code(), Some(2));
}
