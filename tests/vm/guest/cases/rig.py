"""What the cases share: virtual keys, people, commands and what is expected of them.

    @case
    def a_sentence_that_says_what_must_hold():
        with Key("red", pin="1234") as key:                    # plugged in, and pulled out at the end
            done = alice.run("passkeyfs", "key", "test", vault, answers=["1234"])
            expect(done, 0)
            assert done.asked == 1 and key.touches() == 1
"""

import fcntl
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import termios
import time

KEYS = "/var/lib/keys"  # outlives a reboot
COMMAND_SECONDS = 90
_cases = []


def case(function):
    """Marks a claim; its name is the sentence."""
    function.claim = function.__name__.replace("_", " ")
    _cases.append(function)
    return function


def cases_of(module):
    return [function for function in _cases if function.__module__ == module.__name__]


def wait_until(what, true, seconds=20):
    """Waits for `true()`, and gives back what it answered."""
    end = time.monotonic() + seconds
    while True:
        answer = true()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def journal_since(started):
    seconds = int(time.monotonic() - started) + 1
    text = subprocess.run(["journalctl", "--no-pager", "--output=cat", "--lines=25", f"--since=-{seconds}s"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False).stdout
    return text.decode(errors="replace").strip()


def read(path):
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()


def write(path, text, user=None, mode=0o644):
    if user:
        user.folder(os.path.dirname(os.path.relpath(path, user.home)))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(path + ".new", mode)
    if user:
        os.chown(path + ".new", user.uid, user.gid)
    os.rename(path + ".new", path)  # whole or not at all: keys read their scripts while they work


# --- Virtual keys -------------------------------------------------------------------------------------------------------------

_plugged = []


class Key:
    """A virtual security key. What it remembers stays under its name; `with` plugs it in and pulls it out."""

    def __init__(self, name, pin=None, fresh=False, options=()):
        self.name, self.pin, self.options = name, pin, list(options)
        self.folder = f"{KEYS}/{name}"
        self.process = self.device = None
        if fresh:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.makedirs(self.folder, exist_ok=True)

    def __enter__(self):
        self.plug()
        return self

    def __exit__(self, *_):
        self.unplug()

    def plug(self):
        """Attaches it, and waits until udev has made its device; a new one gets its PIN."""
        is_new = not os.path.exists(f"{self.folder}/memory")
        self.script()
        before, self.device = devices(), None
        self.process = subprocess.Popen(["/rig/virtual-key", self.folder, "--name", self.name, *self.options])
        _plugged.append(self)
        self.device = wait_until(f"{self.name} attached", lambda: next(iter(devices() - before), None))
        subprocess.run(["udevadm", "settle", "--timeout=20"], check=True)
        if is_new and self.pin:
            set_pin(self.device, self.pin)
        self.mark = len(self.log())

    def unplug(self):
        """Pulls it out, and waits until its device is gone."""
        if self.process:
            self.process.terminate()
            self.process.wait()
            self.process = None
            _plugged.remove(self)
            wait_until(f"{self.device} gone", lambda: not self.device or not os.path.exists(self.device))

    def script(self, touch="touch", hostile=""):
        """What the person does, and how the key misbehaves, from now on: see key/src/main.rs."""
        write(f"{self.folder}/touch", touch)
        write(f"{self.folder}/hostile", hostile)

    def log(self):
        path = f"{self.folder}/log"
        return [line.split(None, 1)[1] for line in read(path).splitlines()] if os.path.exists(path) else []

    def events(self):
        """What it saw since it was plugged in, or since `forget`."""
        return self.log()[self.mark:]

    def forget(self):
        self.mark = len(self.log())

    def touches(self):
        """How often it blinked for a touch."""
        return self.events().count("touch wanted")

    def tries_left(self):
        """PIN tries, as libfido2 sees them."""
        text = output("fido2-token", "-I", self.device)
        return int(re.search(r"^pin retries: (\d+)", text, re.MULTILINE)[1])

    def shown(self):
        """How passkeyfs names it."""
        return f"{self.name} ({self.device})"


def devices():
    return {f"/dev/{name}" for name in os.listdir("/dev") if name.startswith("hidraw")}


def unplug_all():
    for key in list(_plugged):
        key.unplug()


def set_pin(device, pin):
    with Terminal(None, "fido2-token", "-S", device) as terminal:
        terminal.expect(r"[Nn]ew PIN")
        terminal.send(pin + "\n")
        terminal.expect(r"again")
        terminal.send(pin + "\n")
        assert terminal.ended() == 0, f"fido2-token -S: {terminal.text}"


# --- People and commands ------------------------------------------------------------------------------------------------------


class Done:
    """A command that ended."""

    def __init__(self, arguments, code, out, err, seconds, asked):
        self.arguments, self.code, self.out, self.err, self.seconds, self.asked = arguments, code, out, err, seconds, asked
        self.questions = []

    def __str__(self):
        return (f"{' '.join(self.arguments)}: exit {self.code} after {self.seconds:.1f} s, {self.asked} questions\n"
                f"{self.out.strip()[-1500:]}\n{self.err.strip()[-1500:]}")


def expect(done, code, *phrases):
    """The exit code, and each phrase somewhere in what was printed. Blanks and line ends count as one blank."""
    printed = " ".join((done.out + done.err).split())
    assert done.code == code, f"expected exit {code}: {done}"
    for phrase in phrases:
        assert phrase in printed, f"expected the words {phrase!r}: {done}"


def output(*arguments):
    """What a command prints that root runs and that must succeed."""
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=COMMAND_SECONDS, check=False)
    assert done.returncode == 0, f"{' '.join(arguments)}: exit {done.returncode}: {done.stderr.decode()}"
    return done.stdout.decode()


class Person:
    """A user of the guest. Commands run as in a session of theirs without a terminal; PINs come by askpass."""

    def __init__(self, name):
        entry = pwd.getpwnam(name)
        self.name, self.uid, self.gid, self.home = name, entry.pw_uid, entry.pw_gid, entry.pw_dir
        self.groups = os.getgrouplist(name, self.gid)
        self.environment = {
            "HOME": self.home, "USER": name, "LOGNAME": name, "SHELL": "/bin/bash", "LANG": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin", "XDG_RUNTIME_DIR": f"/run/user/{self.uid}",
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path=/run/user/{self.uid}/bus", "PASSKEYFS_ASKPASS": "/rig/askpass",
        }

    def identity(self):
        """For subprocess: this person, with no terminal."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups, "cwd": self.home,
                "env": self.environment, "start_new_session": True}

    def path(self, *parts):
        return os.path.join(self.home, *parts)

    def answers(self, *lines):
        """What will be answered to the next questions, and no more."""
        write(self.path(".rig/answers"), "".join(line + "\n" for line in lines), self)
        write(self.path(".rig/asked"), "", self)

    def asked(self):
        """The questions since `answers`."""
        return read(self.path(".rig/asked")).splitlines()

    def start(self, *arguments, answers=(), **environment):
        """Starts a command and gives back a function that waits for it."""
        self.answers(*answers)
        identity = self.identity()
        identity["env"] = {**identity["env"], **environment}
        files = [os.open("/run", os.O_TMPFILE | os.O_RDWR) for _ in range(2)]  # a daemon may keep a pipe open for ever
        started = time.monotonic()
        process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=files[0], stderr=files[1], **identity)

        def finish(seconds=COMMAND_SECONDS):
            try:
                code = process.wait(seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = f"none within {seconds} s"
                process.wait()
            texts = []
            for file in files:
                os.lseek(file, 0, os.SEEK_SET)
                with open(file, "rb") as stream:
                    texts.append(stream.read().decode(errors="replace"))
            done = Done(arguments, code, *texts, time.monotonic() - started, len(self.asked()))
            done.questions = self.asked()
            return done

        finish.process = process
        return finish

    def run(self, *arguments, answers=(), seconds=COMMAND_SECONDS, **environment):
        """Runs a command to its end."""
        return self.start(*arguments, answers=answers, **environment)(seconds)

    def passkeyfs(self, *arguments, **more):
        return self.run("passkeyfs", *arguments, **more)

    def must(self, *arguments, **more):
        """A command that has to succeed for the case to begin."""
        done = self.run(*arguments, **more)
        expect(done, 0)
        return done

    def forget_all(self, *parts):
        """Removes a file or folder of theirs."""
        path = self.path(*parts)
        if os.path.isdir(path):
            shutil.rmtree(path)
        elif os.path.exists(path):
            os.remove(path)

    def folder(self, *parts):
        """Makes a folder of theirs."""
        path = self.path(*parts)
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for folder in reversed(missing):
            os.mkdir(folder)
            os.chown(folder, self.uid, self.gid)
        return self.path(*parts)


class Terminal:
    """A command on a terminal of its own, driven as a person would: expect, send, ended."""

    def __init__(self, person, *arguments, **environment):
        self.text, self.arguments = "", arguments
        self.master, slave = os.openpty()
        self.slave_for_modes = os.dup(slave)
        identity = person.identity() if person else {"start_new_session": True, "env": dict(os.environ)}
        identity["env"] = {name: value for name, value in identity["env"].items() if name != "PASSKEYFS_ASKPASS"}
        identity["env"] = {**identity["env"], "TERM": "dumb", **environment}
        if person:
            os.fchown(slave, person.uid, person.gid)
        self.process = subprocess.Popen(arguments, stdin=slave, stdout=slave, stderr=slave,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **identity)
        os.close(slave)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self.master)
        os.close(self.slave_for_modes)

    def _read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            try:
                self.text += os.read(self.master, 4096).decode(errors="replace")
            except OSError:  # the other side is closed
                time.sleep(min(seconds, 0.05))

    def expect(self, pattern, seconds=60):
        """Waits for a pattern and takes all up to its end; gives back the match."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.text, re.DOTALL)):
            assert time.monotonic() < end, f"{' '.join(self.arguments)} does not say {pattern!r} but: {self.text!r}"
            self._read(0.2)
        self.text = self.text[match.end():]
        return match

    def send(self, text):
        """Types; first waits until the program has read all that was typed before."""
        time.sleep(0.3)  # a prompt may be printed before the echo is off, which throws away what was typed
        os.write(self.master, text.encode())

    def echoes(self):
        """Whether the terminal shows what is typed."""
        return bool(termios.tcgetattr(self.slave_for_modes)[3] & termios.ECHO)

    def ended(self, seconds=60):
        """Waits for the end; gives back the exit code."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, f"{' '.join(self.arguments)} does not end: {self.text!r}"
            self._read(0.1)
        self._read(0)
        return self.process.returncode


alice, bob, carol = Person("alice"), Person("bob"), Person("carol")


# --- Mounts and processes -----------------------------------------------------------------------------------------------------


def is_mounted(path):
    return any(line.split(" ")[1] == path for line in read("/proc/self/mounts").splitlines())


def processes(*words):
    """Numbers of processes that have all these words in their command line."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                line = read(f"/proc/{name}/cmdline").replace("\0", " ")
            except OSError:
                continue
            if line and all(word in line for word in words):
                found.append(int(name))
    return found


def no_helper_is_left():
    """The child that talked to the key is gone, a moment after its command."""
    wait_until("the helper process is gone", lambda: not processes("hid-helper"), seconds=5)
