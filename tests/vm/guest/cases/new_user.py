"""The README's walkthroughs, typed at a terminal as a new user would: enrol a key, add a second one, print the recovery kit,
restore on a new machine. (Running as a service: service.py.)
"""

import os
import re
import stat

from rig import Terminal, alice, bob, case, expect, is_mounted, read, wait_until
from vaults import copy_of, key, once

VAULT, KIT = alice.path("Sync/vault"), alice.path("kit.html")


def type_pin(terminal, name, pin):
    terminal.expect(rf"PIN of {name}")
    wait_until("no echo", lambda: not terminal.echoes())
    terminal.send(pin + "\n")


def write_down_and_type_back(terminal):
    """Reads the code off the terminal, types back what is asked for, and gives back its groups."""
    shown = terminal.expect(r"recovery code\..*?type group (\d+): ", seconds=90)
    groups = dict(re.findall(r"(\d+)\. ([0-9A-Z]+)", shown[0]))
    assert len(groups) >= 8 and len({len(group) for group in groups.values()}) == 1, shown[0]
    terminal.send(groups[shown[1]].lower() + "\n")
    asked = terminal.expect(r"type group (\d+): ")
    terminal.send(groups[asked[1]] + "\n")
    return [groups[number] for number in sorted(groups, key=int)]


@once
def new_vault():
    """What README calls `init`, typed at a terminal. Gives back the recovery code's groups."""
    alice.folder("Sync")
    with key("amber"), Terminal(alice, "passkeyfs", "init", VAULT, "--label", "amber", "--recovery-kit", KIT) as terminal:
        type_pin(terminal, "amber", "1122")
        groups = write_down_and_type_back(terminal)
        assert terminal.ended(seconds=90) == 0, terminal.text
    return groups


@case
def a_new_user_enrols_a_key_and_gets_a_recovery_kit():
    groups = new_vault()
    kit = read(KIT)
    assert stat.S_IMODE(os.stat(KIT).st_mode) == 0o600 and os.stat(KIT).st_uid == alice.uid
    assert all(group in kit for group in groups) and "<svg" in kit and not re.search(r"""(src|href)\s*=""", kit)
    files = alice.folder("walk")
    with key("amber"):
        expect(alice.passkeyfs("mount", VAULT, files, answers=["1122"]), 0)
        alice.must("sh", "-c", f"echo from-alice >{files}/letter")
        expect(alice.passkeyfs("sync", files), 0)
        expect(alice.passkeyfs("status", files), 0, files)
        expect(alice.passkeyfs("umount", files), 0)


@case
def a_new_user_with_one_port_adds_a_second_key():
    new_vault()
    with key("amber") as first, Terminal(alice, "passkeyfs", "key", "add", VAULT, "--label", "drawer") as terminal:
        type_pin(terminal, "amber", "1122")
        terminal.expect(r"press Enter", seconds=60)
        first.unplug()
        with key("drawer") as second:
            terminal.send("\n")
            type_pin(terminal, "drawer", "3344")
            assert terminal.ended(seconds=90) == 0, terminal.text
            assert second.touches() == 3, second.events()
            done = alice.passkeyfs("key", "test", VAULT, answers=["3344"])
            expect(done, 0)
            assert done.asked == 1


@case
def the_recovery_code_is_tested_and_a_typing_error_is_located():
    groups = new_vault()
    wrong = list(groups)
    wrong[4] = ("3" if wrong[4][0] != "3" else "4") + wrong[4][1:]
    with Terminal(alice, "passkeyfs", "recovery", "test", VAULT) as terminal:
        terminal.expect(r"Recovery code: ")
        terminal.send(" ".join(wrong) + "\n")
        terminal.expect(r"group 5")
        terminal.expect(r"Recovery code: ")
        terminal.send("-".join(groups).lower() + "\n")
        assert terminal.ended() == 0, terminal.text


@case
def with_nothing_but_the_folder_and_the_code_a_new_machine_shows_the_files_and_enrols_a_new_key():
    groups = new_vault()
    vault, files = copy_of(VAULT, bob, "Sync", "vault"), bob.folder("files")
    with Terminal(bob, "passkeyfs", "mount", vault, files, "--authenticator", "recovery") as terminal:
        terminal.expect(r"Recovery code: ")
        terminal.send(" ".join(groups) + "\n")
        assert terminal.ended() == 0, terminal.text
    expect(bob.run("cat", f"{files}/letter"), 0, "from-alice")
    expect(bob.passkeyfs("umount", files), 0)
    assert not is_mounted(files)
    with key("bobs") as new, Terminal(bob, "passkeyfs", "key", "add", vault, "--label", "new", "--with", "recovery") as terminal:
        terminal.expect(r"Recovery code: ")
        terminal.send(" ".join(groups) + "\n")
        type_pin(terminal, "bobs", "5566")
        assert terminal.ended(seconds=90) == 0, terminal.text
        done = bob.passkeyfs("key", "test", vault, answers=["5566"])
        expect(done, 0)
        assert done.asked == 1 and new.tries_left() == 8


@case
def a_recovery_code_comes_from_a_file_where_nobody_types():
    groups = new_vault()
    vault, files = copy_of(VAULT, bob, "Sync", "vault-2"), bob.folder("files")
    bob.must("sh", "-c", f"umask 077; echo {'-'.join(groups)} >~/code")
    expect(bob.passkeyfs("mount", vault, files, "--authenticator", "recovery", "--recovery-code-file", bob.path("code")), 0)
    expect(bob.run("cat", f"{files}/letter"), 0, "from-alice")
    expect(bob.passkeyfs("umount", files), 0)
