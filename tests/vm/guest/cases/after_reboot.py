"""The second boot of the same disk: what service.py left is at work by itself."""

from rig import KEYS, alice, case, expect, is_mounted, read, wait_until
from service import FILES, UNIT, shown, stopped


@case
def after_a_reboot_the_service_has_mounted_by_itself_and_nothing_written_before_is_lost():
    state = wait_until("the service has started or failed",
                       lambda: (found := shown("ActiveState", "ExecMainStatus", "NRestarts"))["ActiveState"] in ("active", "failed") and found,
                       seconds=90)
    assert state == {"ActiveState": "active", "ExecMainStatus": "0", "NRestarts": "0"}, state
    assert is_mounted(FILES)
    done = alice.run("cmp", f"{FILES}/written-before-the-power-off", alice.path("expected"))
    expect(done, 0)
    events = [line.split(None, 1)[1] for line in read(f"{KEYS}/red/log").splitlines()]
    since_boot = events[len(events) - events[::-1].index("attached"):]
    assert since_boot.count("touch wanted") == 1, since_boot
    stopped()
