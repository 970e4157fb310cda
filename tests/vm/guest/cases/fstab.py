"""mount(8) and fstab, as an ordinary user."""

import os

from rig import alice, case, expect, is_mounted, processes, wait_until, write


def fstab(*lines):
    write("/etc/fstab", "".join(line + "\n" for line in lines))


@case
def a_user_mounts_what_fstab_says_with_the_software_authenticator():
    vault, files, key = alice.path("software-vault"), alice.folder("software-files"), alice.path("software.key")
    alice.must("passkeyfs", "init", vault, "--authenticator", f"software:{key}", "--no-recovery")
    fstab(f"{vault} {files} passkeyfs noauto,user,authenticator=software:{key} 0 0")
    expect(alice.run("mount", files), 0)
    assert is_mounted(files)
    alice.must("sh", "-c", f"echo hello >{files}/greeting")
    expect(alice.passkeyfs("umount", files), 0)
    assert not is_mounted(files) and not os.listdir(files)
    wait_until("the daemon is gone", lambda: not processes("passkeyfs", files), seconds=5)
    expect(alice.run("mount", files), 0)
    done = alice.run("cat", f"{files}/greeting")
    expect(done, 0, "hello")
    expect(alice.run("umount", files), 0)
    fstab()
