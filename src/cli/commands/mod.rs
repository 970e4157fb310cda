//! The commands, one file or folder each. On top of `cli`: nothing else of it imports from here.
//!
//! | file | what it is |
//! |---|---|
//! | `dispatch.rs` | `main` of `passkeyfs`: parses the arguments and runs the command |
//! | `init.rs` | `init`: a new vault |
//! | `mount.rs` | `mount`: checks, fork, unlock, mount, serve |
//! | `hidden_files.rs` | refuses a mount point with files in it |
//! | `mount_helper.rs` | `mount.passkeyfs`, the helper of mount(8) |
//! | `umount.rs` | `umount`: publish, detach, wait for the daemon |
//! | `sync.rs` | `sync`: publish |
//! | `status.rs` | `status` of a vault folder, a mount, or all mounts |
//! | `check.rs` | `check`: damage and missing files |
//! | `key/` | `key list`, `test`, `add`, `remove`, `rotate`, `pin` |
//! | `recovery/` | `recovery create` and `test`; the recovery kit |
//! | `made_file.rs` | removes a kit or software key whose slot does not exist |
//! | `doctor/` | `doctor`: problems of the machine, the keys, a vault folder |
//! | `debug.rs` | `debug`: what the files of a vault say |
//! | `generate.rs` | `completions` and `man` |
//! | `hid_helper.rs` | `hid-helper`, the process that talks to a security key |

pub mod check;
pub mod debug;
pub mod dispatch;
pub mod doctor;
pub mod generate;
pub mod hid_helper;
pub mod hidden_files;
pub mod init;
pub mod key;
pub mod made_file;
pub mod mount;
pub mod mount_helper;
pub mod recovery;
pub mod status;
pub mod sync;
pub mod umount;
