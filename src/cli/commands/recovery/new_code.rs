//! Makes a recovery code and its slot, for `recovery create` and `init`.
//!
//! The order is: check that the kit can be written, unlock, show the code, ask for part of it, write the kit, make the
//! slot. So no slot exists whose code the user does not have. The kit is removed if its slot certainly does not exist.
//! The code goes to the terminal, never to standard output, which may be a file or a log.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::kit::{Kit, KitFile};
use crate::cli::commands::made_file::remove_made;
use crate::cli::messages::exit::Exit;
use crate::cli::messages::failure::failure;
use crate::cli::messages::output;
use crate::crypto::{KernelRandomness, Randomness};
use crate::format::VaultFile;
use crate::store::SystemClock;
use crate::unlock::interaction::{CODE_TIME_LIMIT, InteractionError};
use crate::unlock::recovery_code::GROUPS;
use crate::unlock::{AuthenticatorError, EnrolledSlot, EpochKeyEntry, RecoveryCode, ask_on_terminal, enroll_recovery};

const TERMINAL: &str = "/dev/tty";
/// Groups of the code that the user has to type.
const GROUPS_ASKED: usize = 2;
const TRIES: usize = 3;
/// As on the kit; a row fits a terminal of 40 columns.
const GROUPS_IN_A_ROW: usize = 3;

/// A recovery code to be made, with a terminal or a kit to hand it to the user.
pub struct NewRecovery {
    kit: Option<KitFile>,
    has_terminal: bool,
}

impl NewRecovery {
    /// Checks that there is a terminal, or a kit that can be written.
    pub fn prepare(kit: Option<&Path>, vault_folder: &Path) -> anyhow::Result<Self> {
        let kit = kit.map(|file| KitFile::prepare(file, vault_folder)).transpose()?;
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let synced = kit.as_ref().and_then(|kit| Some((kit.path(), kit.synced_folder(vault_folder, home.as_deref())?)));
        if let Some((path, synced)) = synced {
            output::notice(&format!(
                "{} is likely to be synced, and the kit {} with it: whoever gets the vault gets its code too. Move the kit \
                 elsewhere, or print it and delete the file at once.",
                synced.display(),
                path.display()
            ));
        }
        let has_terminal = std::io::stdin().is_terminal() && File::open(TERMINAL).is_ok();
        if kit.is_none() && !has_terminal {
            return Err(failure(
                Exit::Usage,
                "there is no terminal to show the recovery code on",
                "Run it in a terminal, or say with --kit FILE (of init: --recovery-kit FILE) where the printable kit goes.",
            ));
        }
        Ok(Self { kit, has_terminal })
    }

    /// Makes the code and its slot, shows the code, and writes the kit. Nothing else is written.
    pub fn make(
        &self,
        vault: &VaultFile,
        epoch: &EpochKeyEntry,
        folder: &Path,
        label: Option<&str>,
    ) -> anyhow::Result<EnrolledSlot> {
        let code = RecoveryCode::generate(&KernelRandomness);
        let slot = enroll_recovery(vault, epoch, &code, label, &KernelRandomness, &SystemClock)?;
        if self.has_terminal {
            let mut terminal = File::options().read(true).write(true).open(TERMINAL)?;
            let asked = choose_groups(&KernelRandomness);
            hand_over(&code, asked, &|prompt| ask_on_terminal(prompt, CODE_TIME_LIMIT), &mut terminal)?;
        }
        if let Some(kit) = &self.kit {
            kit.write(&Kit { vault: vault.vault(), slot: slot.record.slot, folder, label, code: &code })?;
        }
        Ok(slot)
    }

    /// Removes the kit of a slot that does not exist.
    pub fn take_back(&self) {
        if let Some(kit) = &self.kit {
            remove_made(kit.path());
        }
    }

    /// The file of the kit, if there is to be one.
    pub fn kit(&self) -> Option<&KitFile> {
        self.kit.as_ref()
    }

    /// Where the code is, and what the user has to do with it.
    pub fn where_it_is(&self) -> String {
        match &self.kit {
            Some(kit) => format!(
                "kit      {}\nPrint it, keep it where nobody else gets it, and delete the file. Whoever has it and the vault \
                 folder reads everything.\n",
                kit.path().display()
            ),
            None => "Keep the code on paper, where nobody else gets it.\n".to_owned(),
        }
    }
}

/// Two different groups to ask for, in order.
fn choose_groups(randomness: &dyn Randomness) -> [usize; GROUPS_ASKED] {
    let first = randomness.u64() as usize % GROUPS;
    let second = (first + 1 + randomness.u64() as usize % (GROUPS - 1)) % GROUPS;
    [first.min(second), first.max(second)]
}

/// Shows the code, and asks for two of its groups.
fn hand_over(
    code: &RecoveryCode,
    asked: [usize; GROUPS_ASKED],
    ask: &dyn Fn(&str) -> Result<Zeroizing<String>, InteractionError>,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let groups = code.groups();
    writeln!(output, "\nThis is the recovery code. With it, and without any key, the vault can be opened.")?;
    writeln!(output, "Write it down on paper now: it is not shown again.\n")?;
    for (row, line) in groups.chunks(GROUPS_IN_A_ROW).enumerate() {
        for (column, group) in line.iter().enumerate() {
            write!(output, "{:4}. {group}", row * GROUPS_IN_A_ROW + column + 1)?;
        }
        writeln!(output)?;
    }
    writeln!(output, "\n(No letter I, L, O or U is in it: what looks like one is a digit.)\n")?;
    for group in asked {
        let mut right = false;
        for _ in 0..TRIES {
            let typed = ask(&format!("To see that you have it, type group {}", group + 1));
            let typed = typed.map_err(|error| match error {
                InteractionError::Interrupted => failure(
                    Exit::Interrupted,
                    "interrupted; nothing was made",
                    "The code that was shown opens nothing. Run the command again: it will be another one.",
                ),
                error => AuthenticatorError::from(error).into(),
            })?;
            right = RecoveryCode::is_group(&typed, &groups[group]);
            if right {
                break;
            }
            writeln!(output, "That is not what group {} says.", group + 1)?;
        }
        if !right {
            return Err(failure(
                Exit::Failed,
                "the recovery code was not typed back, so no recovery slot was made",
                "Start again, and write the code down when it is shown: it will be another one.",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SeededRandomness;

    fn dialogue(answers: &dyn Fn(&[String]) -> String) -> (anyhow::Result<()>, String) {
        let code = RecoveryCode::generate(&SeededRandomness::new(1));
        let typed = answers(&code.groups());
        let (mut shown, lines) = (Vec::new(), std::cell::RefCell::new(typed.lines()));
        let ask = |_: &str| {
            let line = lines.borrow_mut().next().ok_or(InteractionError::Cancelled)?;
            Ok(Zeroizing::new(line.to_owned()))
        };
        let done = hand_over(&code, [2, 9], &ask, &mut shown);
        (done, String::from_utf8(shown).expect("text"))
    }

    #[test]
    fn the_code_is_shown_whole_and_two_groups_are_typed_back() {
        let (done, shown) = dialogue(&|groups| format!(" {}\n{}\n", groups[2].to_lowercase(), groups[9]));
        done.expect("typed back");
        for (number, group) in RecoveryCode::generate(&SeededRandomness::new(1)).groups().iter().enumerate() {
            assert!(shown.contains(&format!("{}. {group}", number + 1)), "{shown}");
        }
        let rows = shown.lines().filter(|line| line.contains(". ") && line.starts_with(' '));
        assert!(rows.clone().count() > 0 && rows.into_iter().all(|row| row.len() <= 40), "{shown}");
    }

    #[test]
    fn a_wrong_group_may_be_typed_again_and_three_wrong_ones_end_it() {
        dialogue(&|groups| format!("{}\n{}\n{}\n", groups[1], groups[2], groups[9])).0.expect("right at last");
        let refused = dialogue(&|groups| format!("{0}\n{0}\n{0}\n{1}\n{1}\n", groups[1], groups[2]));
        assert!(refused.0.is_err());
        assert!(dialogue(&|groups| format!("{}\n", groups[2])).0.is_err(), "the second group is asked for, too");
        assert!(dialogue(&|_| String::new()).0.is_err());
    }

    #[test]
    fn an_interrupted_question_says_that_nothing_was_made() {
        let code = RecoveryCode::generate(&SeededRandomness::new(1));
        let ask = |_: &str| Err(InteractionError::Interrupted);
        let error = hand_over(&code, [2, 9], &ask, &mut Vec::new()).expect_err("interrupted");
        assert_eq!(error.to_string(), "interrupted; nothing was made");
        assert_eq!(crate::cli::advice::of(&error).exit, Exit::Interrupted);
    }

    #[test]
    fn two_different_groups_of_the_code_are_asked_for() {
        for seed in 0..200 {
            let [first, second] = choose_groups(&SeededRandomness::new(seed));
            assert!(first < second && second < GROUPS);
        }
    }
}
