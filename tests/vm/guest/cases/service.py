"""The user service passkeyfs@backup in a real systemd, for a user who lingers: no session, no terminal, the PIN as a credential."""

import os
import subprocess
import time

from rig import alice, case, expect, is_mounted, output, processes, read, wait_until, write
from vaults import key, one_key

UNIT = "passkeyfs@backup"
FILES = alice.path("service-files")
CONFIGURATION = alice.path(".config/passkeyfs/backup.conf")
PIN_FILE = alice.path(".config/passkeyfs/backup.pin")
DROP_IN = alice.path(f".config/systemd/user/{UNIT}.service.d/pin.conf")


def systemctl(*arguments, **more):
    return alice.run("systemctl", "--user", *arguments, **more)


def shown(*properties):
    text = alice.must("systemctl", "--user", "show", UNIT, *(f"--property={name}" for name in properties)).out
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def set_up(pin="1234", options="", configuration=None):
    """What the documentation tells a new user to do; the vault is one_key()."""
    if not os.path.exists("/var/lib/systemd/linger/alice"):
        output("loginctl", "enable-linger", "alice")
    wait_until("alice's bus", lambda: os.path.exists(f"/run/user/{alice.uid}/bus"))
    # As cp and an editor would: from the example, with her paths.
    lines = configuration or f"# the backup\nVAULT={one_key()}\nMOUNTPOINT={FILES}\n" + (f"OPTIONS={options}\n" if options else "")
    write(CONFIGURATION, lines, alice)
    write(PIN_FILE, pin + "\n", alice, mode=0o600)
    write(DROP_IN, "[Service]\nLoadCredential=passkeyfs.pin:%h/.config/passkeyfs/backup.pin\n", alice)
    expect(systemctl("daemon-reload"), 0)
    systemctl("stop", UNIT)
    systemctl("reset-failed", UNIT)
    if is_mounted(FILES):  # what a case that failed has left
        output("umount", "--lazy", FILES)


def stopped():
    expect(systemctl("stop", UNIT), 0)
    assert not is_mounted(FILES)
    wait_until("no process is left", lambda: not processes("passkeyfs", "backup"), seconds=5)


@case
def the_service_mounts_with_the_pin_as_a_credential_and_one_touch():
    set_up()
    with key("red") as red:
        expect(systemctl("start", UNIT), 0)
        assert is_mounted(FILES) and red.touches() == 1 and red.tries_left() == 8, red.events()
        state = shown("ActiveState", "StatusText", "NRestarts")
        assert state["ActiveState"] == "active" and f"mounted on {FILES}" in state["StatusText"], state
        expect(alice.run("touch", f"{FILES}/by-hand"), 0)
        stopped()
        assert shown("Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}


@case
def while_the_service_waits_for_a_touch_its_status_says_so_and_the_start_is_not_done():
    set_up()
    with key("red") as red:
        red.script(touch="never")
        expect(systemctl("start", "--no-block", UNIT), 0)
        wait_until("the key blinks", red.touches)
        state = wait_until("the status", lambda: (found := shown("ActiveState", "StatusText"))["StatusText"] and found)
        assert state["ActiveState"] == "activating" and "touch" in state["StatusText"].lower(), state
        assert "red" in state["StatusText"], state
        red.script()
        wait_until("it is active", lambda: shown("ActiveState")["ActiveState"] == "active")
        stopped()


@case
def the_service_may_be_started_and_stopped_as_often_as_a_person_does():
    set_up()
    with key("red"):
        for _ in range(5):
            expect(systemctl("start", UNIT), 0)
            stopped()


@case
def stopping_the_service_loses_nothing():
    set_up()
    with key("red"):
        expect(systemctl("start", UNIT), 0)
        script = f"for n in $(seq 200); do echo line $n >{FILES}/many-$n; done; head -c 3000000 /dev/urandom | tee {FILES}/big | sha256sum"
        before = alice.must("sh", "-c", script).out
        stopped()  # at once: nothing of it is published yet
        vault_files = alice.must("find", one_key(), "-name", "*.data").out.split()
        assert vault_files, "nothing was published"
        expect(systemctl("start", UNIT), 0)
        after = alice.must("sh", "-c", f"sha256sum <{FILES}/big; cat {FILES}/many-* | wc -l").out.split()
        assert after[0] == before.split()[0] and after[-1] == "200", (before, after)
        stopped()


@case
def a_wrong_pin_in_the_credential_uses_one_try_and_is_not_tried_again():
    set_up(pin="9999")
    with key("red") as red:
        done = systemctl("start", UNIT)
        assert done.code == 1, done
        state = shown("ActiveState", "Result", "ExecMainStatus", "NRestarts")
        assert state == {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "4", "NRestarts": "0"}, state
        time.sleep(4)
        assert red.tries_left() == 7 and shown("NRestarts")["NRestarts"] == "0"
        said = output("journalctl", "--no-pager", "--output=cat", "--lines=20", f"_SYSTEMD_USER_UNIT={UNIT}.service")
        assert "wrong PIN for" in said and "tries left: 7" in said, said
        set_up()
        expect(systemctl("start", UNIT), 0)
        assert red.tries_left() == 8
        stopped()


@case
def without_the_key_the_service_fails_once_and_says_what_is_missing():
    set_up()
    assert systemctl("start", UNIT).code == 1
    state = shown("ActiveState", "ExecMainStatus", "NRestarts")
    assert state == {"ActiveState": "failed", "ExecMainStatus": "3", "NRestarts": "0"}, state


@case
def a_daemon_that_is_killed_is_started_again_and_what_was_synced_is_there():
    set_up()
    with key("red") as red:
        expect(systemctl("start", UNIT), 0)
        alice.must("sh", "-c", f"echo kept >{FILES}/synced; sync {FILES}/synced")
        os.kill(int(shown("MainPID")["MainPID"]), 9)
        wait_until("it is back", lambda: shown("ActiveState", "NRestarts") == {"ActiveState": "active", "NRestarts": "1"}, seconds=40)
        expect(alice.run("cat", f"{FILES}/synced"), 0, "kept")
        assert red.tries_left() == 8
        stopped()


@case
def a_mistake_in_the_configuration_is_named_with_file_and_line():
    set_up(configuration=f"VAULT={one_key()}\nMOUNT={FILES}\n")
    assert systemctl("start", UNIT).code == 1
    assert shown("ExecMainStatus", "NRestarts") == {"ExecMainStatus": "2", "NRestarts": "0"}
    said = output("journalctl", "--no-pager", "--output=cat", "--lines=20", f"_SYSTEMD_USER_UNIT={UNIT}.service")
    assert f"{CONFIGURATION}, line 2" in said, said


@case
def pulling_the_key_out_stops_a_service_that_asked_for_it():
    set_up(options="lock-on-removal")
    with key("red") as red:
        expect(systemctl("start", UNIT), 0)
        red.unplug()
        wait_until("it stops", lambda: shown("ActiveState")["ActiveState"] == "inactive", seconds=20)
        assert not is_mounted(FILES) and shown("Result", "NRestarts") == {"Result": "success", "NRestarts": "0"}


@case
def a_touch_is_announced_on_the_session_bus():
    set_up()
    log = "/run/notifications"
    with open(log, "w", encoding="utf-8") as file:
        identity = alice.identity()
        monitor = subprocess.Popen(["stdbuf", "-oL", "busctl", "--user", "monitor", "org.freedesktop.Notifications"], stdout=file,
                                   stderr=subprocess.STDOUT, **identity)
    try:
        wait_until("the monitor listens", lambda: "Monitoring" in read(log))
        with key("red") as red:
            red.script(touch="after 2000")
            expect(systemctl("start", UNIT), 0)
            stopped()
        wait_until("a notification", lambda: "org.freedesktop.Notifications" in read(log), seconds=5)
    finally:
        monitor.terminate()
        monitor.wait()


@case
def the_service_is_enabled_and_at_work_when_the_machine_is_switched_off():
    # What after_reboot.py finds again.
    set_up()
    write("/etc/systemd/system/key-red.service", """[Unit]
Description=The virtual key that stays plugged in
Before=systemd-user-sessions.service

[Service]
Type=exec
ExecStart=/rig/virtual-key /var/lib/keys/red --name red
ExecStartPost=/bin/sh -c 'until ls /dev/hidraw*; do sleep 0.1; done; udevadm settle'

[Install]
WantedBy=multi-user.target
""")
    output("systemctl", "enable", "key-red.service")
    with key("red"):
        expect(systemctl("enable", "--now", UNIT), 0)
        alice.must("sh", "-c", f"date >{FILES}/written-before-the-power-off; cat {FILES}/written-before-the-power-off >~/expected")
        assert is_mounted(FILES)
