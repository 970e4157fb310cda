//! The command line, as clap sees it: every command, argument and help text, and nothing else.
//!
//! Help, completions and manual pages are all made from these definitions; `cli.md`'s contract fixes the words. A
//! command that is not built yet is not here. Values that need more than a look (mount options, authenticators) stay
//! text and are read by the command, so that they fail with a message and an advice of ours.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::rollback::RollbackArgument;
use super::size::parse_block_size;

/// An encrypted view of a backup, unlocked by a passkey, kept as write-once files that any sync client can carry.
#[derive(Debug, Parser)]
#[command(name = "passkeyfs", version, max_term_width = 100, arg_required_else_help = false)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub verbosity: Verbosity,
}

/// How much is said.
#[derive(Debug, Clone, Copy, Args)]
pub struct Verbosity {
    /// Say more (may be repeated)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// Say less: once for errors only, twice for nothing but the outcome
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub quiet: u8,
}

impl Verbosity {
    /// Steps above (or below) what is usual.
    pub fn steps(self) -> i32 {
        i32::from(self.verbose) - i32::from(self.quiet)
    }
}

/// What to unlock with when nobody says it.
pub const DEFAULT_AUTHENTICATOR: &str = "hid";

/// What to unlock with.
#[derive(Debug, Clone, Args)]
pub struct AuthenticatorArgument {
    /// What to unlock with: hid (any attached security key), hid:PATH (that device), software:FILE (kept in a file; not hardware), recovery (the recovery code)
    #[arg(long, value_name = "A", env = "PASSKEYFS_AUTHENTICATOR", default_value = DEFAULT_AUTHENTICATOR, hide_env_values = true)]
    pub authenticator: String,
    /// Unlock with the recovery code in this file (-: standard input)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub recovery_code_file: Option<PathBuf>,
}

impl AuthenticatorArgument {
    /// What was said; an environment variable that is set to nothing says nothing.
    pub fn spec(&self) -> &str {
        if self.authenticator.is_empty() { DEFAULT_AUTHENTICATOR } else { &self.authenticator }
    }

    /// How to unlock: a file with a recovery code says it all.
    pub fn unlocking(&self) -> Unlocking {
        Unlocking { authenticator: self.spec().to_owned(), recovery_code_file: self.recovery_code_file.clone() }
    }
}

/// How a vault is opened by a command that changes what unlocks it.
#[derive(Debug, Clone, Args)]
#[allow(missing_docs)]
pub struct KeyChangeArgument {
    #[command(flatten)]
    pub authenticator: AuthenticatorArgument,
    #[command(flatten)]
    pub rollback: RollbackArgument,
}

/// How to unlock a vault.
#[derive(Debug, Clone)]
pub struct Unlocking {
    /// With which authenticator, as `--authenticator` says it.
    pub authenticator: String,
    /// With the recovery code in this file instead.
    pub recovery_code_file: Option<PathBuf>,
}

/// What a new slot is made on: no recovery code, for which there is `passkeyfs recovery create`.
#[derive(Debug, Clone, Args)]
pub struct NewAuthenticatorArgument {
    /// What to enrol: hid (an attached security key), hid:PATH (that device), software:FILE (kept in a file; not hardware)
    #[arg(long, value_name = "A", env = "PASSKEYFS_AUTHENTICATOR", default_value = DEFAULT_AUTHENTICATOR, hide_env_values = true)]
    pub authenticator: String,
}

impl NewAuthenticatorArgument {
    /// What was said; an environment variable that is set to nothing says nothing.
    pub fn spec(&self) -> &str {
        if self.authenticator.is_empty() { DEFAULT_AUTHENTICATOR } else { &self.authenticator }
    }
}

/// Vault and mount point belong together, and go without `--config`.
const MOUNT_USAGE: &str =
    "passkeyfs mount [OPTIONS] <VAULT> <MOUNTPOINT>\n       passkeyfs mount [OPTIONS] --config <NAME>";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a new vault in an empty folder
    Init(InitArguments),
    /// Mount a vault; returns when it is ready, and a daemon stays in the background
    #[command(override_usage = MOUNT_USAGE)]
    Mount(MountArguments),
    /// Publish, unmount, and wait until the daemon is gone
    #[command(visible_alias = "unmount")]
    Umount(UmountArguments),
    /// Publish now; returns when the files lie in the vault folder
    Sync(SyncArguments),
    /// Show what is mounted, unpublished and awaited, the devices, the space and the keys; needs no unlock
    Status(StatusArguments),
    /// The keys that unlock a vault
    #[command(subcommand)]
    Key(KeyCommand),
    /// The recovery code, which unlocks a vault when its keys are lost
    #[command(subcommand)]
    Recovery(RecoveryCommand),
    /// Look through a vault for damage and for what has not arrived; changes nothing
    Check(CheckArguments),
    /// Find what on this machine, or in a vault's folder, keeps passkeyfs from working
    Doctor(DoctorArguments),
    /// Look inside a vault, for developers; never prints secrets
    #[command(subcommand)]
    Debug(DebugCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArguments),
    /// Print the manual page, or write all manual pages into a folder
    Man(ManArguments),
}

/// `passkeyfs init`
#[derive(Debug, Args)]
pub struct InitArguments {
    /// The folder to be the vault: empty, or not there yet
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub authenticator: NewAuthenticatorArgument,
    /// A name for the key, to tell it from others
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Keep the credential on the key itself, where its own menus show it
    #[arg(long)]
    pub discoverable: bool,
    /// Write the printable kit with the recovery code to this file, which must not be in a synced folder
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub recovery_kit: Option<PathBuf>,
    /// Make no recovery code: if the key is lost, so are the files
    #[arg(long, conflicts_with = "recovery_kit")]
    pub no_recovery: bool,
    /// Size of the blocks that files are stored in: a power of two from 4K to 1M
    #[arg(long, value_name = "BYTES", default_value = "16K", value_parser = parse_block_size)]
    pub block_size: u32,
    /// Whether blocks are compressed before they are encrypted
    #[arg(long, value_name = "METHOD", value_enum, default_value_t = CompressionArgument::Zstd)]
    pub compression: CompressionArgument,
}

/// `--compression`
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CompressionArgument {
    /// At a low level, and not where it gains nothing
    Zstd,
    /// Never: sizes then tell nothing of the content
    None,
}

/// `passkeyfs mount`
#[derive(Debug, Args)]
pub struct MountArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath, required_unless_present = "config")]
    pub vault: Option<PathBuf>,
    /// The folder to mount it on
    #[arg(value_hint = ValueHint::DirPath, required_unless_present = "config")]
    pub mountpoint: Option<PathBuf>,
    /// Take vault, mount point and options from ~/.config/passkeyfs/NAME.conf, as the service passkeyfs@NAME does
    #[arg(long, value_name = "NAME", conflicts_with_all = ["vault", "mountpoint"])]
    pub config: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub authenticator: AuthenticatorArgument,
    /// Mount options, separated by commas (listed in passkeyfs-mount(1))
    #[arg(short = 'o', value_name = "OPTIONS", allow_hyphen_values = true)]
    pub options: Vec<String>,
    /// Stay in the foreground, and log to standard error
    #[arg(short, long)]
    pub foreground: bool,
}

/// `passkeyfs umount`
#[derive(Debug, Args)]
pub struct UmountArguments {
    /// Where the vault is mounted
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: PathBuf,
}

/// `passkeyfs sync`
#[derive(Debug, Args)]
pub struct SyncArguments {
    /// Where the vault is mounted, or any place in it
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: PathBuf,
}

/// `passkeyfs status`
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// A vault folder, or where one is mounted; without: all that are mounted
    #[arg(value_name = "VAULT|MOUNTPOINT", value_hint = ValueHint::DirPath)]
    pub place: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `passkeyfs key`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the keys that are enrolled; needs no unlock
    List(KeyListArguments),
    /// Enrol another key
    Add(KeyAddArguments),
    /// Remove a key, so that it unlocks the vault no more
    Remove(KeyRemoveArguments),
    /// Unlock the vault, to see that a key works, and open nothing
    Test(KeyTestArguments),
    /// Set the PIN of a software authenticator
    Pin(KeyPinArguments),
    /// Replace the vault key: a key that was removed cannot follow what is written from then on
    Rotate(KeyRotateArguments),
}

/// `passkeyfs key add`
#[derive(Debug, Args)]
pub struct KeyAddArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub authenticator: NewAuthenticatorArgument,
    /// A name for the new key, to tell it from others
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    /// Keep the credential on the key itself, where its own menus show it
    #[arg(long)]
    pub discoverable: bool,
    /// What to unlock with, as --authenticator elsewhere
    #[arg(long, value_name = "A2", env = "PASSKEYFS_AUTHENTICATOR", default_value = DEFAULT_AUTHENTICATOR, hide_env_values = true)]
    pub with: String,
    /// Unlock with the recovery code in this file (-: standard input)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub recovery_code_file: Option<PathBuf>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub rollback: RollbackArgument,
}

impl KeyAddArguments {
    /// How to unlock.
    pub fn unlocking(&self) -> Unlocking {
        let spec = if self.with.is_empty() { DEFAULT_AUTHENTICATOR } else { &self.with };
        Unlocking { authenticator: spec.to_owned(), recovery_code_file: self.recovery_code_file.clone() }
    }
}

/// `passkeyfs key remove`
#[derive(Debug, Args)]
pub struct KeyRemoveArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    /// The key's id as `key list` shows it, or at least its first four digits, or its label
    pub slot: String,
    /// Replace the vault key too, so that the key cannot follow what is written from now on
    #[arg(long)]
    pub rotate: bool,
    /// Keep the vault key
    #[arg(long, conflicts_with = "rotate")]
    pub no_rotate: bool,
    /// Ask nothing: also where only recovery codes are left, or where it is the key that unlocks
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub opening: KeyChangeArgument,
}

/// `passkeyfs key rotate`
#[derive(Debug, Args)]
pub struct KeyRotateArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub opening: KeyChangeArgument,
}

/// `passkeyfs recovery`
#[derive(Debug, Subcommand)]
pub enum RecoveryCommand {
    /// Make a recovery code, show it, and write the printable kit
    Create(RecoveryCreateArguments),
    /// Type the recovery code, to see that it unlocks the vault
    Test(RecoveryTestArguments),
}

/// `passkeyfs recovery create`
#[derive(Debug, Args)]
pub struct RecoveryCreateArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    /// Write the printable kit to this file, which must not be in a synced folder
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub kit: Option<PathBuf>,
    /// A name for the code, to tell it from others
    #[arg(long, value_name = "TEXT")]
    pub label: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub opening: KeyChangeArgument,
}

/// `passkeyfs recovery test`
#[derive(Debug, Args)]
pub struct RecoveryTestArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    /// Read the recovery code from this file (-: standard input)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub recovery_code_file: Option<PathBuf>,
}

/// `passkeyfs key list`
#[derive(Debug, Args)]
pub struct KeyListArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `passkeyfs key test`
#[derive(Debug, Args)]
pub struct KeyTestArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub authenticator: AuthenticatorArgument,
}

/// `passkeyfs key pin`
#[derive(Debug, Args)]
pub struct KeyPinArguments {
    /// The software authenticator: software:FILE (made when it is not there)
    #[arg(long, value_name = "A", env = "PASSKEYFS_AUTHENTICATOR", default_value = DEFAULT_AUTHENTICATOR, hide_env_values = true)]
    pub authenticator: String,
}

/// `passkeyfs check`
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub authenticator: AuthenticatorArgument,
    /// Read and verify the files' contents too: all of them, or a sample of so many percent
    #[arg(long, value_name = "PERCENT", num_args = 0..=1, require_equals = true, default_missing_value = "100",
          value_parser = clap::value_parser!(u8).range(1..=100))]
    pub data: Option<u8>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `passkeyfs doctor`
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// A vault folder to look at as well
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// `passkeyfs debug`
#[derive(Debug, Subcommand)]
pub enum DebugCommand {
    /// What the slot files say in the clear
    Slots(DebugSlotsArguments),
    /// What a segment's header says in the clear
    Segment(DebugSegmentArguments),
    /// Try on an authenticator what passkeyfs needs of it: a dozen touches, and one wrong PIN on purpose
    Conformance(DebugConformanceArguments),
}

/// `passkeyfs debug slots`
#[derive(Debug, Args)]
pub struct DebugSlotsArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
}

/// `passkeyfs debug segment`
#[derive(Debug, Args)]
pub struct DebugSegmentArguments {
    /// A .data or .meta file
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// `passkeyfs debug conformance`
#[derive(Debug, Args)]
pub struct DebugConformanceArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub authenticator: AuthenticatorArgument,
}

/// `passkeyfs completions`
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `passkeyfs man`
#[derive(Debug, Args)]
pub struct ManArguments {
    /// Where to write all pages; made if it is not there
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directory: Option<PathBuf>,
}

/// `mount.passkeyfs`, as mount(8) calls it: mount a vault by way of fstab or `mount -t passkeyfs`
#[derive(Debug, Parser)]
#[command(name = "mount.passkeyfs", version, max_term_width = 100)]
pub struct HelperArguments {
    /// The vault folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub vault: PathBuf,
    /// The folder to mount it on
    #[arg(value_hint = ValueHint::DirPath)]
    pub mountpoint: PathBuf,
    /// Pass over options that are not known
    #[arg(short = 's')]
    pub sloppy: bool,
    /// Do all but the mount itself: only read the arguments
    #[arg(short = 'f')]
    pub fake: bool,
    /// Accepted and without effect: there is no mtab to leave alone
    #[arg(short = 'n')]
    pub no_mtab: bool,
    /// Say more (may be repeated)
    #[arg(short = 'v', action = ArgAction::Count)]
    pub verbose: u8,
    /// Mount in this mount namespace: a process id, or a file such as /proc/PID/ns/mnt
    #[arg(short = 'N', value_name = "NS")]
    pub namespace: Option<String>,
    /// The type that fstab names: passkeyfs or fuse.passkeyfs
    #[arg(short = 't', value_name = "TYPE")]
    pub kind: Option<String>,
    /// Mount options, separated by commas (listed in passkeyfs-mount(1))
    #[arg(short = 'o', value_name = "OPTIONS", allow_hyphen_values = true)]
    pub options: Vec<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definitions_make_sense_to_clap() {
        Arguments::command().debug_assert();
        HelperArguments::command().debug_assert();
    }

    #[test]
    fn data_is_checked_whole_or_by_percent() {
        let data = |words: &[&str]| {
            let line = ["passkeyfs", "check"].iter().chain(words);
            let Command::Check(check) = Arguments::try_parse_from(line).ok()?.command else { return None };
            Some(check.data)
        };
        assert_eq!(data(&["vault"]), Some(None));
        assert_eq!(data(&["--data", "vault"]), Some(Some(100)));
        assert_eq!(data(&["vault", "--data=5"]), Some(Some(5)));
        assert_eq!(data(&["vault", "--data=0"]), None);
        assert_eq!(data(&["vault", "--data=101"]), None);
    }
}
