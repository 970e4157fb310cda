"""Runs the cases of this boot. Usage (in the guest, as root): main.py BOOT

Each prints one line, PASS or FAIL, and what is wrong below it; all run even if one fails. /rig/only holds parts of the claims
of those to run, a line each; empty: all.
"""

import importlib
import sys
import time
import traceback

import rig

# In this order; a module's cases in the order in which they stand there.
MODULES = {
    1: ["rig_itself", "fstab", "enrolling", "unlocking", "refusals", "hostile_keys", "new_user", "locking", "doctor", "service",
        "conformance"],
    2: ["after_reboot"],
}


def run(case):
    started = time.monotonic()
    try:
        case()
        print(f"PASS {case.claim} ({time.monotonic() - started:.1f} s)")
        return True
    except Exception as error:  # a case fails for whatever reason, and the next one runs
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/cases/" in frame.filename]
        where = " < ".join(f"{frame.filename.rsplit('/', 1)[1]}:{frame.lineno}" for frame in reversed(frames[1:]))
        text = f"{type(error).__name__}: {error}".strip().replace("\n", "\n       ")
        print(f"FAIL {case.claim} ({time.monotonic() - started:.1f} s)\n       {text}\n       at {where}")
        print("       journal: " + rig.journal_since(started).replace("\n", "\n       "))
        return False
    finally:
        rig.unplug_all()


def main():
    boot = int(sys.argv[1])
    with open("/rig/only", encoding="utf-8") as file:
        only = [part for part in file.read().split("\n") if part] or [""]
    outcomes = []
    for name in MODULES[boot]:
        module = importlib.import_module(name)
        for case in rig.cases_of(module):
            if any(part in case.claim for part in only):
                outcomes.append(run(case))
    # The host reads this line.
    print(f"vm: {sum(outcomes)} passed, {len(outcomes) - sum(outcomes)} failed, {time.clock_gettime(time.CLOCK_BOOTTIME):.0f} s after power-on")


if __name__ == "__main__":
    main()
