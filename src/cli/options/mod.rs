//! What the user may say: on the command line and after `-o`. Imports nothing else of `cli`.
//!
//! | file | what it is |
//! |---|---|
//! | `args.rs` | every command and its arguments, as clap reads them; help, completions and manual come from it |
//! | `mount_options.rs` | the options after `-o`, of `mount` and of mount(8) |
//! | `rollback.rs` | `--accept-rollback` of the commands that change keys |
//! | `size.rs` | sizes such as `64K`: parsed and formatted |

pub mod args;
pub mod mount_options;
pub mod rollback;
pub mod size;
