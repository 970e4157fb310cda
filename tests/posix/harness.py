"""What the mount tests share: a vault in a temporary folder, the processes it starts, and claims that print ok or FAIL.

    import harness
    claims = harness.Claims()
    with harness.Vault("name") as vault:         # made, mounted on vault.mount; all of it gone at the end
        @claims.claim("a sentence that says what must hold")
        def _(): assert ...
    claims.finish()                              # prints "N passed, N failed", exits 1 if any failed

PASSKEYFS is the program under test (default: target/release/passkeyfs). Scratch space is TMPDIR. Only mounts and processes that a
`Vault` started are ended, by their own numbers.
"""

import ctypes
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PASSKEYFS = os.path.abspath(os.environ.get("PASSKEYFS") or os.path.join(PROJECT, "target", "release", "passkeyfs"))
if not os.access(PASSKEYFS, os.X_OK):
    sys.exit(f"There is no {PASSKEYFS}: build it (cargo build --release), or name it in PASSKEYFS.")
LIBC = ctypes.CDLL(None, use_errno=True)
NOBODY = 65534


class Claims:
    """Runs claims one after the other; `only` (or the environment's CLAIMS) is a part of the sentence of those to run."""

    def __init__(self, only=None):
        self.passed, self.failed, self.skipped = 0, [], 0
        self.only = only or os.environ.get("CLAIMS", "")

    def claim(self, sentence):
        def run(check):
            if self.only not in sentence:
                return check
            start = time.monotonic()
            try:
                note = check()
                self.passed += 1
                seconds = time.monotonic() - start
                print(f"ok    {sentence}" + (f" [{note}]" if note else "") + (f" ({seconds:.1f} s)" if seconds >= 1 else ""), flush=True)
            except Exception as error:  # a claim fails for whatever reason, and the next one runs
                self.failed.append(sentence)
                where = traceback.extract_tb(error.__traceback__)[-1]
                print(f"FAIL  {sentence}\n      {type(error).__name__} in line {where.lineno} of {os.path.basename(where.filename)}: "
                      + str(error).strip().replace("\n", "\n      "), flush=True)
            return check
        return run

    def finish(self):
        print(f"{self.passed} passed, {len(self.failed)} failed", flush=True)
        sys.exit(1 if self.failed or not self.passed else 0)


class Vault:
    """A vault of its own in a temporary folder; `mount` is where its files appear, `local` a plain folder to compare with."""

    def __init__(self, name, options="", mounted=True, base=None):
        self.base = tempfile.mkdtemp(prefix=f"pkfs-{name}.", dir=base)
        os.chmod(self.base, 0o755)
        path = lambda part: os.path.join(self.base, part)
        self.folder, self.mount, self.local, self.key = path("vault"), path("mount"), path("local"), path("software.key")
        self.options, self.mounted, self.pids = options, mounted, set()
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("PASSKEYFS")}
        self.environment["XDG_STATE_HOME"] = path("state")
        os.mkdir(self.mount)
        os.mkdir(self.local)
        os.chmod(self.local, 0o755)

    def __enter__(self):
        try:
            self.run("init", self.folder, "--authenticator", f"software:{self.key}", "--no-recovery")
            if self.mounted:
                self.start()
                os.chmod(self.mount, 0o755)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for mount in self.mounts():
            self.run("umount", mount, check=False)
        for pid in self.pids:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        for mount in self.mounts():
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(self.base, ignore_errors=True)

    def run(self, *arguments, check=True, seconds=300):
        """passkeyfs ARGUMENTS...; what it printed is in .stdout and .stderr."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:  # a daemon may keep a pipe open
            done = subprocess.run([PASSKEYFS, *arguments], stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                  env=self.environment, timeout=seconds, cwd=self.base)
            for stream, name in ((out, "stdout"), (err, "stderr")):
                stream.seek(0)
                setattr(done, name, stream.read().decode(errors="replace"))
        if check and done.returncode:
            raise AssertionError(f"passkeyfs {' '.join(arguments)}: exit {done.returncode}: {done.stderr}")
        return done

    def start(self, options=None, check=True):
        """Mounts; the daemon's process number is remembered."""
        words = ",".join(filter(None, [f"authenticator=software:{self.key}", "allow_other" if os.geteuid() == 0 else "",
                                       self.options if options is None else options]))
        done = self.run("mount", self.folder, self.mount, "-o", words, check=check)
        if done.returncode == 0:
            self.pids.add(self.pid())
        return done

    def stop(self):
        self.run("umount", self.mount)

    def again(self):
        """Unmounts and mounts: what is read afterwards comes from the vault folder."""
        self.stop()
        self.start()

    def check(self):
        """Reads and verifies every byte of the unmounted vault."""
        done = self.run("check", self.folder, "--data", "--authenticator", f"software:{self.key}", check=False)
        assert done.returncode == 0, f"check: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-1000:]}"

    def sync(self):
        self.run("sync", self.mount)

    def status(self):
        return json.loads(self.run("status", "--json", self.mount).stdout)

    def pid(self):
        return self.status()["daemon"]["pid"]

    def mounts(self):
        """What is mounted in this vault's temporary folder, the innermost first."""
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as table:
            places = [line.split(" ")[1] for line in table]
        return [place for place in reversed(places) if place.startswith(self.base + "/")]

    def is_mounted(self):
        return self.mount in self.mounts()

    def kill(self):
        """SIGKILL to the daemon: what it had not made durable is gone. The dead mount stays."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_until_gone(pid)

    def files(self):
        """The ciphertext files: relative path -> (size, time, inode number)."""
        found = {}
        for folder, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(folder, name)
                status = os.stat(path)
                found[os.path.relpath(path, self.folder)] = (status.st_size, status.st_mtime_ns, status.st_ino)
        return found

    def both(self, make):
        """Calls make(folder) on a new folder here and on a new one of the local disk; both answers must be equal."""
        answers = []
        for parent in (self.mount, self.local):
            folder = tempfile.mkdtemp(dir=parent)
            os.chmod(folder, 0o755)
            answers.append(make(folder))
        assert answers[0] == answers[1], f"here {answers[0]!r}\non the local disk {answers[1]!r}"
        return answers[0]

    def new_folder(self):
        folder = tempfile.mkdtemp(dir=self.mount)
        os.chmod(folder, 0o755)
        return folder


def is_running(pid):
    """Whether a thread of the process still runs; one that has ended and waits for its parent to notice does not."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return False
    return any(thread_is_running(pid, thread) for thread in threads)


def thread_is_running(pid, thread):
    try:
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False  # it ended since it was listed; the others of the process may still run, and hold its files open


def wait_until_gone(pid, seconds=60):
    end = time.monotonic() + seconds
    while is_running(pid):
        assert time.monotonic() < end, f"process {pid} does not end"
        time.sleep(0.01)


def as_user(user, action, groups=()):
    """action() in a child process of that user (and group of the same number); its answer, or its exception."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups(list(groups))
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            answer = (True, action())
        except BaseException as error:
            answer = (False, error)
        with os.fdopen(write_end, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        good, answer = pickle.load(pipe)
    os.waitpid(child, 0)
    if not good:
        raise answer
    return answer


def errno_of(action, *arguments):
    """The errno that action(*arguments) fails with, 0 if it does not fail."""
    try:
        action(*arguments)
        return 0
    except OSError as error:
        return error.errno


def system_call(name, *arguments):
    """A function of libc that Python has no word for; fails as Python's own do."""
    answer = getattr(LIBC, name)(*arguments)
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return answer


def shell(command, folder, **environment):
    """A command line; its output. Fails if it does."""
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", command], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True,
                          text=True, errors="replace", timeout=600, env={**os.environ, "LC_ALL": "C", **environment})
    assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}"
    return done.stdout


def write(path, content, mode=0o644):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view):]
    finally:
        os.close(descriptor)


def read(path):
    with open(path, "rb") as file:
        return file.read()


def fsync(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def pattern(seed, length):
    """Bytes that depend on the seed alone and do not compress."""
    import random
    return random.Random(seed).randbytes(length)
