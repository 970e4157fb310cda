//! The binary: one program under two names. As `mount.passkeyfs` (a symlink) it is a mount(8) helper.

use std::path::Path;
use std::process::ExitCode;

use passkeyfs::cli;

fn main() -> ExitCode {
    let arguments = std::env::args_os();
    let program = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&program).file_name().unwrap_or_default();
    // libmount looks for a helper by the whole type, so `fuse.passkeyfs` in fstab comes here as well.
    let code = if name == "mount.passkeyfs" || name == "mount.fuse.passkeyfs" {
        cli::mount_helper_main(arguments)
    } else {
        cli::main(arguments)
    };
    ExitCode::from(code)
}
