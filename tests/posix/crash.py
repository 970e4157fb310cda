#!/usr/bin/env python3
"""Crashes: rounds of random work that a SIGKILL to the daemon ends, and what must be there afterwards. As root.

PASSKEYFS_CRASH_ROUNDS rounds (default 6), PASSKEYFS_CRASH_SEED the first seed (default 1). In a round three workers, each in
a folder of its own, create, overwrite, append, replace (write, fsync, rename), rename and unlink files, and say after each
step what its fsync has acknowledged. The daemon is killed at a random moment and the vault mounted again, and then
  - each file is as its last acknowledged step left it; where a step was under way, as before or after that step, and bytes
    that the step was writing may be mixed;
  - nothing else is there;
  - nothing refuses to be read;
  - no ciphertext file that was published before has changed;
  - `passkeyfs check --data` finds nothing wrong.
Publishing runs meanwhile (`publish=1`), so that kills hit journal, segments and commits alike.

Then PASSKEYFS_KILL_ROUNDS rounds (default 4) of each of three things that no fsync covers: a transaction of SQLite, which commits
by unlinking its journal; a file that was written and closed before `sync`; a plain write, 200 ms before the kill.
"""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import threading
import time

import harness
from harness import pattern, read

ROUNDS = int(os.environ.get("PASSKEYFS_CRASH_ROUNDS", "6"))
WRITTEN_SIZES = (5, 70_000, 2_000_000)
KILL_ROUNDS = int(os.environ.get("PASSKEYFS_KILL_ROUNDS", "4"))
SEED = int(os.environ.get("PASSKEYFS_CRASH_SEED", "1"))
SIZES = (0, 17, 900, 3000, 5000, 70_000, 300_000)


def fsync_folder(path):
    harness.fsync(os.path.dirname(path))


def put(path, content, flags, offset=0):
    """Writes and fsyncs."""
    descriptor = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        while content:
            written = os.pwrite(descriptor, content[:100_000], offset)
            content, offset = content[written:], offset + written
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Worker(threading.Thread):
    """`files` is what was acknowledged: name -> content. `step` is what is under way: name -> the content it is to have, None for
    none; `in_place` tells that its bytes may be mixed."""

    def __init__(self, folder, seed):
        super().__init__(daemon=True)
        self.folder, self.random, self.stopped = folder, random.Random(seed), threading.Event()
        self.files, self.step, self.in_place, self.steps, self.error = {}, {}, False, 0, None

    def run(self):
        try:
            while not self.stopped.is_set():
                self.one_step()
                for name, content in self.step.items():
                    self.files[name] = content
                self.files = {name: content for name, content in self.files.items() if content is not None}
                self.step, self.steps = {}, self.steps + 1
        except OSError as error:
            self.error = error

    def one_step(self):
        draw = self.random
        path = lambda name: f"{self.folder}/{name}"
        name = draw.choice(sorted(self.files)) if self.files else None
        kind = draw.choice(("create", "create", "overwrite", "append", "inside", "replace", "rename", "unlink")) if name else "create"
        content = pattern(draw.random(), draw.choice(SIZES))
        old = self.files.get(name, b"")
        self.in_place = kind in ("create", "overwrite", "append", "inside")
        if kind == "create":
            name = f"file{self.steps}"
            self.step = {name: content}
            put(path(name), content, os.O_CREAT | os.O_EXCL)
            fsync_folder(path(name))
        elif kind == "overwrite":
            self.step = {name: content}
            put(path(name), content, os.O_TRUNC)
        elif kind == "append":
            self.step = {name: old + content}
            put(path(name), content, 0, len(old))
        elif kind == "inside":
            offset = draw.randrange(len(old) + 1)
            content = content[:5000]
            self.step = {name: old[:offset] + content + old[offset + len(content):]}
            put(path(name), content, 0, offset)
        elif kind == "replace":
            self.step = {name: content, "temporary": None}
            put(path("temporary"), content, os.O_CREAT)
            os.rename(path("temporary"), path(name))
            fsync_folder(path(name))
        elif kind == "rename":
            target = f"file{self.steps}"
            self.step = {name: None, target: old}
            os.rename(path(name), path(target))
            fsync_folder(path(target))
        else:
            self.step = {name: None}
            os.unlink(path(name))
            fsync_folder(path(name))

    def verify(self):
        found = {name: read(f"{self.folder}/{name}") for name in os.listdir(self.folder)}
        for name in set(self.files) | set(found):
            old, new, now = self.files.get(name), self.step.get(name, self.files.get(name)), found.get(name)
            if name == "temporary" and name in self.step:
                continue
            what = lambda content: "nothing" if content is None else f"{len(content)} bytes"
            assert now in (old, new) or (name in self.step and self.in_place and is_mixed(now, old or b"", new)), \
                f"{name}: acknowledged {what(old)}, under way {what(new)}, found {what(now)}"
        if len(self.step) == 2 and "temporary" not in self.step:
            (source, target) = self.step
            assert (source in found) != (target in found), f"the rename of {source} to {target} is torn"
        return len(self.files)


def is_mixed(now, old, new):
    """Whether each byte is that of the old content, of the new one, or zero: what a write under way may leave."""
    if now is None or len(now) > max(len(old), len(new)):
        return False
    at = lambda content, index: content[index] if index < len(content) else 0
    return all(byte in (0, at(old, index), at(new, index)) for index, byte in enumerate(now))


def one_round(seed):
    draw = random.Random(seed)
    with harness.Vault("crash", options="publish=1") as vault:
        workers = []
        for number in range(3):
            folder = f"{vault.mount}/{number}"
            os.mkdir(folder)
            harness.fsync(vault.mount)
            workers.append(Worker(folder, seed * 10 + number))
        for worker in workers:
            worker.start()
        time.sleep(draw.uniform(0.3, 3.0))
        early = [worker.error for worker in workers if worker.error]
        published = vault.files()
        time.sleep(draw.uniform(0.0, 0.5))
        vault.kill()
        for worker in workers:
            worker.stopped.set()
            worker.join(60)
        assert not early, f"before the crash: {early}"
        after = vault.files()
        vault.start()
        files = sum(worker.verify() for worker in workers)
        vault.again()
        assert files == sum(worker.verify() for worker in workers)
        for name, what in published.items():
            assert after.get(name) == what, f"{name} was {what} and is {after.get(name)}"
        vault.stop()
        vault.check()
        return f"{sum(worker.steps for worker in workers)} steps acknowledged, {files} files"


def kill_at_once(vault, pid):
    """Without a word to the daemon, whose answer would give it time."""
    os.kill(pid, signal.SIGKILL)
    harness.wait_until_gone(pid)
    vault.start()
    return vault.pid()


def kill_rounds(before, missing):
    """The rounds after which `missing` says so, of what `before` did right before the kill."""
    with harness.Vault("kill") as vault:
        pid, lost = vault.pid(), []
        for number in range(KILL_ROUNDS):
            before(vault.mount, number)
            pid = kill_at_once(vault, pid)
            if missing(vault.mount, number):
                lost.append(number)
        vault.stop()
        vault.check()
        assert not lost, f"lost in {len(lost)} of {KILL_ROUNDS} rounds: {lost}"
        return f"{KILL_ROUNDS} kills"


def commit(mount, number):
    connection = sqlite3.connect(f"{mount}/database", isolation_level=None)
    connection.execute("create table if not exists rows(number)")
    for row in range(5):
        connection.execute("insert into rows values(?)", (number * 5 + row,))
    STILL_OPEN.append(connection)


# Not closed before the kill: that would take a moment, and have the file journaled.
STILL_OPEN = []


def lacks_rows(mount, number):
    with contextlib.closing(sqlite3.connect(f"{mount}/database")) as connection:
        return connection.execute("select count(*) from rows").fetchone()[0] != number * 5 + 5


def write_and_sync(mount, number):
    subprocess.run(["sh", "-c", f"echo kept{number} > {mount}/synced{number}; sync"], check=True)


def write_and_wait(mount, number):
    file = open(f"{mount}/written{number}", "wb", buffering=0)
    STILL_OPEN.append(file)
    file.write(pattern(number, WRITTEN_SIZES[number % 3]))
    time.sleep(0.2)


def main():
    claims = harness.Claims()
    for seed in range(SEED, SEED + ROUNDS):
        claims.claim(f"kill -9 in the middle of work loses nothing that was acknowledged (seed {seed})")(lambda seed=seed: one_round(seed))
    claims.claim("kill -9 after a commit of SQLite undoes no transaction")(lambda: kill_rounds(commit, lacks_rows))
    lacks_synced = lambda mount, number: read_if_there(f"{mount}/synced{number}") != f"kept{number}\n".encode()
    claims.claim("kill -9 after sync loses no file that was closed before")(lambda: kill_rounds(write_and_sync, lacks_synced))
    lacks_written = lambda mount, number: read_if_there(f"{mount}/written{number}") != pattern(number, WRITTEN_SIZES[number % 3])
    claims.claim("kill -9 200 ms after a write loses nothing of it")(lambda: kill_rounds(write_and_wait, lacks_written))
    claims.finish()


def read_if_there(path):
    return read(path) if os.path.exists(path) else None


if __name__ == "__main__":
    main()
