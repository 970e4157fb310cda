//! `passkeyfs doctor`: runs all checks of the machine, the keys and a vault folder, and prints the findings.
//!
//! One finding is one small function: of the machine in `machine.rs`, of the keys in `keys.rs`, of a vault folder in
//! `vault.rs`. Nothing is changed, no PIN is asked for, no key has to be touched. Exit code 1 if
//! there is a problem; a warning may be intended.

use std::fmt::Write;
use std::path::Path;

use super::finding::{Finding, Grade, Machine};
use super::keys;
use super::machine;
use super::vault;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::output;
use crate::cli::options::args::DoctorArguments;

/// Runs the command.
pub fn run(arguments: &DoctorArguments) -> anyhow::Result<Exit> {
    let findings = examine(&Machine::this(), arguments.vault.as_deref());
    if arguments.json {
        output::print_json(&findings)?;
    } else {
        output::print(&describe(&findings))?;
    }
    let is_well = findings.iter().all(|finding| finding.grade != Grade::Problem);
    Ok(if is_well { Exit::Done } else { Exit::Failed })
}

fn examine(machine: &Machine, vault: Option<&Path>) -> Vec<Finding> {
    let mut findings = machine::examine(machine);
    findings.extend(keys::examine(machine));
    findings.extend(vault.map(|folder| vault::examine(folder, machine.home.as_deref())).unwrap_or_default());
    findings
}

fn describe(findings: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { about, grade, found, next } in findings {
        let grade = match grade {
            Grade::Ok => "ok",
            Grade::Warning => "warning",
            Grade::Problem => "PROBLEM",
        };
        let _ = writeln!(text, "{grade:<8} {about:<16} {found}");
        if let Some(next) = next {
            let _ = writeln!(text, "{:<25} {next}", "");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_well_comes_with_what_to_do() {
        let findings = [Finding::ok("clock", "it is noon"), Finding::problem("fuse", "missing", "modprobe fuse")];
        let expected = "ok       clock            it is noon\nPROBLEM  fuse             missing\n                          modprobe fuse\n";
        assert_eq!(describe(&findings), expected);
    }
}
