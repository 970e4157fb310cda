//! Runs code as the user who mounted a vault. Root needs it: the kernel lets only that user into a FUSE mount without
//! `allow_other`, not even root.
//!
//! The kernel compares all ids of the caller, so a change of the filesystem user id alone is not enough. The change is
//! made by a thread of its own, for that thread alone, and ends with it.

#![allow(unsafe_code)]

use std::io;

use crate::mount::session::mount_table::Owner;

/// Does `work` with the ids of `owner`. Only root may.
pub(super) fn as_owner<T: Send>(owner: Owner, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("as-owner".into());
        let result = thread.spawn_scoped(scope, || become_user(owner).map(|()| work()))?.join();
        result.unwrap_or_else(|_| Err(io::Error::other("a thread has panicked")))
    })
}

/// Gives this thread the ids of `owner`; they cannot be given back.
fn become_user(owner: Owner) -> io::Result<()> {
    let Owner { user, group } = owner;
    let check = |result: libc::c_long| if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // The functions of the C library change all threads of a process, the system calls only the one that makes them.
    // SAFETY: no memory is passed on: the list of groups is empty.
    check(unsafe { libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()) })?;
    // SAFETY: numbers are all that is passed on.
    check(unsafe { libc::syscall(libc::SYS_setresgid, group, group, group) })?;
    // SAFETY: as above.
    check(unsafe { libc::syscall(libc::SYS_setresuid, user, user, user) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_change_for_one_thread_only() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let user = || nix::unistd::geteuid().as_raw();
        let inside = as_owner(Owner { user: 65_534, group: 65_534 }, user).expect("root may");
        assert_eq!((inside, user()), (65_534, 0));
    }
}
