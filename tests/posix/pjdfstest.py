#!/usr/bin/env python3
"""POSIX, operation by operation: the crate `pjdfstest` on a mounted vault, as root. Usage: pjdfstest.py PJDFSTEST_BINARY

Every feature that Linux has is on, and a second filesystem is named for EXDEV. What remains to be skipped is what Linux
lacks (file flags, lchmod) and what needs a remount. Passes if no test fails and at least as many run as must.
"""

import os
import pwd
import re
import subprocess
import sys
import tempfile

import harness

TESTS_MIN = 384  # that many of its 398 run on Linux; fewer would mean that features were left out

CONFIGURATION = """
[features]
posix_fallocate = {}
rename_ctime = {}
stat_st_birthtime = {}
utime_now = {}
utimensat = {}

[settings]
naptime = 0.02
allow_remount = false

[dummy_auth]
entries = [["nobody", "nogroup"], ["passkeyfs-test", "passkeyfs-test"]]
"""


def second_user():
    """Some tests need two users besides root. Answers whether this one had to be made."""
    try:
        pwd.getpwnam("passkeyfs-test")
        return False
    except KeyError:
        subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", "passkeyfs-test"],
                       check=True)
        return True


def main():
    program = os.path.abspath(sys.argv[1])
    made_user = second_user()
    claims = harness.Claims()
    try:
        # A short path: the tests make sockets, whose paths may have 108 bytes.
        with harness.Vault("pjd", base="/tmp") as vault, tempfile.TemporaryDirectory(dir="/dev/shm") as second:
            os.chmod(second, 0o755)
            work = os.path.join(vault.mount, "w")
            os.mkdir(work, 0o755)
            configuration = os.path.join(vault.base, "pjdfstest.toml")
            harness.write(configuration, CONFIGURATION.encode())
            done = subprocess.run([program, "-c", configuration, "-p", work, "-s", second], stdin=subprocess.DEVNULL,
                                  capture_output=True, text=True, errors="replace", timeout=1200)
            output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)

            @claims.claim(f"pjdfstest: at least {TESTS_MIN} tests pass and none fails")
            def _():
                summary = re.search(r"Summary: (\d+) failed, (\d+) skipped, (\d+) passed", output)
                assert summary, f"no summary: {output[-500:]}{done.stderr[-500:]}"
                failed, skipped, passed = map(int, summary.groups())
                assert failed == 0, f"{failed} failed:\n" + "\n".join(failures(output))
                assert passed >= TESTS_MIN, f"only {passed} passed, {skipped} were skipped"
                return f"{passed} passed, {skipped} skipped"
    finally:
        if made_user:
            subprocess.run(["userdel", "passkeyfs-test"], check=False)
    claims.finish()


def failures(output):
    """The failed tests, each with the lines that say why."""
    found, lines = [], output.splitlines()
    for number, line in enumerate(lines):
        if re.match(r"\w+::\S+\s+FAILED", line, re.IGNORECASE):
            why = []
            for after in lines[number + 1:number + 6]:
                if not after.strip() or re.match(r"\w+::\S+\s+(ok|skipped|FAILED)", after, re.IGNORECASE):
                    break
                why.append(after.strip())
            found.append(f"{line.split()[0]}: " + " | ".join(why))
    return found


if __name__ == "__main__":
    main()
