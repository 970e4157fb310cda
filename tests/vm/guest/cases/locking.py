"""Locking when the key goes away, when the machine goes to sleep, when nobody works."""

import subprocess
import time

from rig import alice, case, expect, is_mounted, output, processes, wait_until
from vaults import key, one_key


def mounted(options):
    files = alice.folder("locking")
    expect(alice.passkeyfs("mount", one_key(), files, "-o", options, answers=["1234"]), 0)
    return files


def is_locked(files):
    return not is_mounted(files) and not processes("passkeyfs", files)


def still_has(files, name, text):
    with key("red"):
        expect(alice.passkeyfs("mount", one_key(), files, answers=["1234"]), 0)
        expect(alice.run("cat", f"{files}/{name}"), 0, text)
        expect(alice.passkeyfs("umount", files), 0)


@case
def pulling_the_key_out_locks_a_mount_that_asked_for_it_and_loses_nothing():
    with key("red") as red:
        files = mounted("lock-on-removal")
        alice.must("sh", "-c", f"echo kept >{files}/before-removal")
        time.sleep(1)
        assert is_mounted(files)
        red.unplug()
        wait_until("locked", lambda: is_locked(files), seconds=20)
    still_has(files, "before-removal", "kept")


@case
def pulling_the_key_out_locks_even_while_a_file_is_open():
    with key("red") as red:
        files = mounted("lock-on-removal")
        alice.must("sh", "-c", f"echo kept >{files}/opened")
        reader = subprocess.Popen(["sh", "-c", f"exec sleep 300 <{files}/opened"], **alice.identity())
        try:
            time.sleep(1)
            red.unplug()
            wait_until("locked", lambda: is_locked(files), seconds=40)
        finally:
            reader.kill()
            reader.wait()
    still_has(files, "opened", "kept")


@case
def another_keys_removal_locks_nothing():
    with key("red"), key("green") as green:
        # Two are attached: the touch chooses, and only red is enrolled.
        green.script(touch="never")
        files = mounted("lock-on-removal")
        green.unplug()
        time.sleep(3)
        assert is_mounted(files)
        expect(alice.passkeyfs("umount", files), 0)


@case
def a_mount_that_is_idle_locks_itself():
    with key("red"):
        files = mounted("idle=3")
        alice.must("sh", "-c", f"echo kept >{files}/idle")
        wait_until("locked", lambda: is_locked(files), seconds=30)
    still_has(files, "idle", "kept")


@case
def a_mount_that_locks_on_suspend_asks_logind_to_wait_for_it():
    with key("red"):
        files = mounted("lock-on-suspend")
        listed = wait_until("an inhibitor", lambda: [line for line in output("systemd-inhibit", "--list", "--no-legend").splitlines()
                                                     if "passkeyfs" in line], seconds=10)
        assert any("sleep" in line and "delay" in line for line in listed), listed
        expect(alice.passkeyfs("umount", files), 0)
        assert "passkeyfs" not in output("systemd-inhibit", "--list", "--no-legend")
