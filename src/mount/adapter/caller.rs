//! Who made a request: the groups and capabilities of its process, where they decide about set-id bits.
//!
//! The kernel asks a FUSE filesystem to drop set-id bits on a truncation or an ACL change, by flags that `fuser` 0.18
//! does not hand on, and says nothing on `fallocate` and `copy_file_range`. So it is decided here as the kernel would
//! decide for a local filesystem, from `/proc/<thread>/status`. It is read only when a file has such bits at all.
//!
//! Whatever cannot be seen (the process is gone, is in another process namespace, `/proc` is hidden) counts as *has no
//! privilege*: a set-id bit too few is an inconvenience, one too many a hole.

use std::fs;
use std::path::PathBuf;

use fuser::Request;

/// `CAP_FSETID`: may keep set-id bits when changing a file.
const CAPABILITY_SET_ID: u32 = 4;

/// `CAP_SYS_ADMIN`: may see `trusted.` attributes.
const CAPABILITY_ADMINISTER: u32 = 21;

/// The process (more exactly: the thread) behind a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    pid: u32,
    group: u32,
}

impl Caller {
    /// The process that made `request`.
    pub(super) fn of(request: &Request) -> Self {
        Self { pid: request.pid(), group: request.gid() }
    }

    /// Whether it may keep set-id bits on files that it changes (`CAP_FSETID`).
    pub(super) fn keeps_set_id(self) -> bool {
        self.has_capability(CAPABILITY_SET_ID)
    }

    /// Whether it is shown `trusted.` attributes (`CAP_SYS_ADMIN`).
    pub(super) fn administers(self) -> bool {
        self.has_capability(CAPABILITY_ADMINISTER)
    }

    /// Whether it may keep the set-group-id bit of a file of `group`: being in the group is enough.
    pub(super) fn keeps_set_group_id(self, group: u32) -> bool {
        if self.group == group {
            return true;
        }
        let Some(status) = self.status() else { return false };
        groups(&status).any(|own| own == group) || self.capability_counts(&status, CAPABILITY_SET_ID)
    }

    fn has_capability(self, capability: u32) -> bool {
        self.status().is_some_and(|status| self.capability_counts(&status, capability))
    }

    /// A capability counts only in our own user namespace: in a nested one everybody can have them all.
    fn capability_counts(self, status: &str, capability: u32) -> bool {
        effective_capabilities(status) >> capability & 1 == 1 && self.user_namespace() == own_user_namespace()
    }

    fn status(self) -> Option<String> {
        if self.pid == 0 {
            return None;
        }
        fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()
    }

    fn user_namespace(self) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{}/ns/user", self.pid)).ok()
    }
}

/// Never `None`, so that a caller whose namespace cannot be read (`None`) is not taken to be in ours.
fn own_user_namespace() -> Option<PathBuf> {
    Some(fs::read_link("/proc/self/ns/user").unwrap_or_default())
}

/// The value of a line of `/proc/<pid>/status`.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn effective_capabilities(status: &str) -> u64 {
    field(status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok()).unwrap_or(0)
}

fn groups(status: &str) -> impl Iterator<Item = u32> + '_ {
    field(status, "Groups").unwrap_or("").split_ascii_whitespace().filter_map(|group| group.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tGroups: 9\nUid:\t0\t0\t0\t0\nGroups:\t4 27 70000 \nCapEff:\t0000000000000010\n";

    #[test]
    fn groups_and_capabilities_are_read_from_the_status() {
        assert_eq!(groups(STATUS).collect::<Vec<_>>(), [4, 27, 70_000]);
        assert_eq!(effective_capabilities(STATUS), 1 << CAPABILITY_SET_ID);
    }

    #[test]
    fn a_status_without_the_lines_grants_nothing() {
        assert_eq!(groups("").count(), 0);
        assert_eq!(effective_capabilities("CapEff:\tnonsense\n"), 0);
    }

    #[test]
    fn a_caller_that_cannot_be_seen_has_no_privilege_but_its_own_group() {
        let unseen = Caller { pid: 0, group: 100 };
        assert!(!unseen.keeps_set_id() && !unseen.administers());
        assert!(unseen.keeps_set_group_id(100) && !unseen.keeps_set_group_id(101));
    }

    #[test]
    fn our_own_process_is_in_our_own_namespace() {
        let own = Caller { pid: std::process::id(), group: 0 };
        assert_eq!(own.user_namespace(), own_user_namespace());
        let status = own.status().expect("our own status can be read");
        assert_eq!(own.keeps_set_id(), effective_capabilities(&status) >> CAPABILITY_SET_ID & 1 == 1);
    }
}
