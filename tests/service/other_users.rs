//! A vault that one user has mounted, and the others on the machine: root, who administers it, and those it is none of
//! the business of.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::rig::{Rig, wait_for, words};

/// `nobody` on every system.
const USER: u32 = 65_534;

/// A home of another user, where that can be played: as root, and where something can be mounted.
fn home_of_another_user() -> Option<Rig> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not tested: only root can play another user");
        return None;
    }
    let rig = Rig::where_fuse_works()?;
    give_away(rig.folder.path());
    Some(rig)
}

fn give_away(path: &Path) {
    chown(path, Some(USER), Some(USER)).expect("given away");
    if path.is_dir() {
        fs::read_dir(path).expect("listed").flatten().for_each(|entry| give_away(&entry.path()));
    }
}

/// `/dev/fuse` is for everybody where udev runs; elsewhere it is made so, for these commands alone.
const AS_ROOT_ON_A_USERS_MOUNT: &str = r#"
passkeyfs=$1
cd /
{ mknod "$HOME/fuse" c 10 229 && chmod 666 "$HOME/fuse" && mount --bind "$HOME/fuse" /dev/fuse; } || exit 77
user() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
trap 'umount -l "$HOME/mount" 2>/dev/null' EXIT
user "$passkeyfs" mount "$HOME/the vault" "$HOME/mount" || exit 77
"$passkeyfs" status "$HOME/mount" --json >"$HOME/status" || exit 1
"$passkeyfs" sync "$HOME/mount" || exit 2
"$passkeyfs" sync "$HOME/mount/any/place" || exit 3
"$passkeyfs" umount "$HOME/mount" || exit 4
"#;

#[test]
fn root_looks_at_syncs_and_unmounts_the_vault_of_a_user() {
    let Some(rig) = home_of_another_user() else { return };
    let mut command = rig.command_under("unshare", &["--mount", "sh", "-c", AS_ROOT_ON_A_USERS_MOUNT, "sh"]);
    let done = command.env("CREDENTIALS_DIRECTORY", rig.path("credentials")).output().expect("it runs");
    if done.status.code() == Some(77) {
        return eprintln!("not tested: no user can mount here: {}", words(&done));
    }
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    let status = fs::read(rig.path("status")).expect("read");
    let report: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
    // What root keeps of vaults is not what the user keeps of this one.
    assert!(report["daemon"]["pid"].is_u64() && report["local"].is_null(), "{report}");
    let names = |path: std::path::PathBuf| fs::read_dir(path).expect("listed").count();
    assert_eq!(names(rig.mount()), 0, "it is unmounted");
}

#[test]
fn status_counts_the_vaults_of_other_users_in_one_line() {
    let Some(rig) = home_of_another_user() else { return };
    let mounted = rig.command().arg("mount").arg(rig.vault()).arg(rig.mount()).output().expect("it runs");
    assert!(mounted.status.success(), "{}", words(&mounted));
    let status = rig.command().arg("status").uid(USER).gid(USER).output().expect("it runs");
    let said = String::from_utf8_lossy(&status.stderr).into_owned();
    let shown = String::from_utf8_lossy(&status.stdout).into_owned();
    let unmounted = rig.command().arg("umount").arg(rig.mount()).output().expect("it runs");
    assert!(unmounted.status.success(), "{}", words(&unmounted));
    assert!(status.status.success() && said.is_empty(), "{said}");
    let last = shown.lines().last().unwrap_or_default();
    assert!(last.ends_with("of other users, which they and root can look at."), "{shown}");
}

/// A state that names a process as the daemon of a mount that lives on elsewhere. Locked until it is dropped.
fn claim(lock: &Path, daemon: &Child, mountpoint: &Path) -> File {
    fs::write(lock, format!("{}\n{}\n", daemon.id(), mountpoint.display())).expect("written");
    give_away(lock);
    let claim = File::open(lock).expect("opened");
    claim.lock().expect("locked");
    claim
}

fn run_as(user: u32) -> Child {
    Command::new("sleep").arg("600").uid(user).gid(user).spawn().expect("it runs")
}

#[test]
fn root_ends_no_process_of_another_user_that_a_user_s_state_names_as_a_daemon() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("not tested: only root can play another user");
    }
    let rig = Rig::new();
    give_away(rig.folder.path());
    let states = rig.path(".local/state/passkeyfs");
    let state: PathBuf = fs::read_dir(&states).expect("listed").flatten().next().expect("a state").path();
    // A link leads to a folder of root's in which everybody may write, as in /tmp.
    let (open, link) = (rig.path("open"), states.join("link"));
    fs::create_dir(&open).expect("made");
    fs::set_permissions(&open, Permissions::from_mode(0o1777)).expect("opened up");
    symlink(&open, &link).expect("linked");
    let cut_off = || rig.command().arg("umount").arg(rig.mount()).output().expect("it runs");
    for state in [&state, &link] {
        let mut victim = run_as(0);
        let claimed = claim(&state.join("lock"), &victim, &rig.mount());
        let refused = cut_off();
        let is_alive = victim.try_wait().expect("asked").is_none();
        victim.kill().and_then(|()| victim.wait()).expect("ended");
        assert!(is_alive, "{}: {}", state.display(), words(&refused));
        let said = words(&refused);
        assert!(refused.status.code() == Some(1) && said.contains("belongs to another user"), "{said}");
        drop(claimed);
    }
    // One of that user's own is ended.
    let mut daemon = run_as(USER);
    let _claimed = claim(&state.join("lock"), &daemon, &rig.mount());
    let done = cut_off();
    let is_ended = wait_for(|| daemon.try_wait().expect("asked").is_some());
    daemon.kill().and_then(|()| daemon.wait()).expect("ended");
    assert!(is_ended && done.status.success(), "{}", words(&done));
}
