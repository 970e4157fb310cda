//! What the user reads: the forms in which a command prints, logs and fails. Relies on `options` only.
//!
//! | file | what it is |
//! |---|---|
//! | `exit.rs` | the exit codes of `passkeyfs` and of `mount.passkeyfs` |
//! | `failure.rs` | a failure that a command finds itself: what happened, what to do, exit code |
//! | `clap_errors.rs` | errors of the command line, in the two-line form of all failures |
//! | `output.rs` | standard output, notices on standard error, paths quoted for a shell |
//! | `logging.rs` | where log lines go: standard error, then syslog |
//! | `dates.rs` | times as messages show them |
//! | `read_only.rs` | what to do about a volume that takes no changes |

pub mod clap_errors;
pub mod dates;
pub mod exit;
pub mod failure;
pub mod logging;
pub mod output;
pub mod read_only;
