"""Mounting and its end: mount(8), fstab, a second mount, busy mounts, signals, kills, wrong keys, full and broken folders."""

import errno
import os
import shutil
import signal
import subprocess
import time

from harness import NOBODY, PASSKEYFS, Vault, as_user, errno_of, fsync, is_running, pattern, read, shell, wait_until_gone, write

HELPER = "/sbin/mount.passkeyfs"


def check(claims):
    with Vault("daemon") as vault:
        ends(claims, vault)
        refusals(claims, vault)
        by_mount(claims, vault)
    helper(claims)
    bad_vaults(claims)
    full_disk(claims)


def helper(claims):
    @claims.claim("a user's mount hands fusermount3 no option about access times, which some versions of it refuse")
    def _():
        with Vault("helper", mounted=False) as vault:
            program, heard = f"{vault.base}/bin/fusermount3", f"{vault.base}/heard"
            os.mkdir(os.path.dirname(program))
            write(program, f"#!/bin/sh\necho \"$*\" >>{heard}\necho no >&2\nexit 1\n".encode(), 0o755)
            vault.environment["PATH"] = f"{os.path.dirname(program)}:{os.environ['PATH']}"
            for folder, _, files in os.walk(vault.base):
                for path in [folder, *(f"{folder}/{name}" for name in files)]:
                    os.chown(path, NOBODY, NOBODY)
            for option in ("atime", "noatime", "relatime", "norelatime", "strictatime", "diratime", "nodiratime", "lazytime", "noexec"):
                words = ["-o", f"authenticator=software:{vault.key},{option}"]
                as_user(NOBODY, lambda: subprocess.run([PASSKEYFS, "mount", vault.folder, vault.mount, *words], env=vault.environment,
                                                       stdin=subprocess.DEVNULL, capture_output=True).returncode)
            handed_on = [line.split()[1].split(",") for line in read(heard).decode().splitlines()]
            assert len(handed_on) == 9 and "noexec" in handed_on[-1], handed_on
            assert all(len(options) == len(handed_on[-1]) - 1 for options in handed_on[:-1]), handed_on


def ends(claims, vault):
    @claims.claim("kill -9 of the daemon: what was fsynced is there at the next mount, which clears the dead one")
    def _():
        folder = vault.new_folder()
        contents = {f"{number}": pattern(number, size) for number, size in enumerate((0, 10, 5000, 70_000, 1_500_000))}
        for name, content in contents.items():
            write(f"{folder}/{name}", content)
            fsync(f"{folder}/{name}")
        os.rename(f"{folder}/1", f"{folder}/renamed")
        fsync(folder)
        contents["renamed"] = contents.pop("1")
        vault.kill()
        dead = errno_of(os.listdir, vault.mount)
        assert dead == errno.ENOTCONN, os.strerror(dead)
        vault.start()
        assert set(os.listdir(folder)) == set(contents)
        assert all(read(f"{folder}/{name}") == content for name, content in contents.items())

    @claims.claim("umount clears a dead mount, and the next mount has what was fsynced")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"kept")
        fsync(f"{folder}/f")
        vault.kill()
        vault.stop()
        assert not vault.is_mounted()
        vault.start()
        assert read(f"{folder}/f") == b"kept"

    @claims.claim("SIGTERM to the daemon loses nothing, although nothing was synced, and leaves no mount")
    def _():
        folder = vault.new_folder()
        content = pattern("term", 3_000_000)
        write(f"{folder}/f", content)
        pid = vault.pid()
        os.kill(pid, signal.SIGTERM)
        wait_until_gone(pid)
        assert not vault.is_mounted()
        vault.start()
        assert read(f"{folder}/f") == content

    @claims.claim("umount loses nothing and returns when the daemon is gone")
    def _():
        folder = vault.new_folder()
        for number in range(200):
            write(f"{folder}/{number}", pattern(number, 10_000))
        pid = vault.pid()
        vault.stop()
        assert not is_running(pid)
        vault.start()
        assert all(read(f"{folder}/{number}") == pattern(number, 10_000) for number in range(200))

    @claims.claim("a vault folder that vanishes under a mount: umount says so with exit code 1, and nothing is lost")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"published")
        vault.sync()
        write(f"{folder}/g", b"not yet")
        os.rename(vault.folder, f"{vault.folder}.away")
        status = vault.status()
        assert status["daemon"]["pid"], status
        pid = vault.pid()
        done = vault.run("umount", vault.mount, check=False)
        assert done.returncode == 1 and "journal" in done.stderr, f"exit {done.returncode}: {done.stderr}"
        wait_until_gone(pid)
        assert not vault.is_mounted()
        assert not os.path.exists(vault.folder), "it is not made anew"
        os.rename(f"{vault.folder}.away", vault.folder)
        vault.start()
        assert (read(f"{folder}/f"), read(f"{folder}/g")) == (b"published", b"not yet")

    @claims.claim("a state folder that is lost costs nothing that was published")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"published")
        vault.stop()
        shutil.rmtree(vault.environment["XDG_STATE_HOME"])
        vault.start()
        assert read(f"{folder}/f") == b"published"
        write(f"{folder}/g", b"by the device's new self")
        vault.again()
        assert read(f"{folder}/g") == b"by the device's new self"


def refusals(claims, vault):
    def refused(done, code, *words):
        assert done.returncode == code, f"exit {done.returncode}, not {code}: {done.stderr}"
        lines = done.stderr.strip().splitlines()
        assert lines[-2].startswith("passkeyfs: ") and len(lines[-1]) > 10, f"not what happened and what to do: {lines}"
        for word in words:
            assert word in done.stderr, f"{word!r} is not in {done.stderr!r}"

    @claims.claim("a second mount of the vault is refused with exit code 7, and names the first")
    def _():
        second = os.path.join(vault.base, "second")
        os.mkdir(second)
        done = vault.run("mount", vault.folder, second, "--authenticator", f"software:{vault.key}", check=False)
        refused(done, 7, vault.mount)
        refused(vault.start(check=False), 7)

    @claims.claim("umount of a busy mount is refused with exit code 1, and names who holds it")
    def _():
        holder = subprocess.Popen(["sleep", "1000"], cwd=vault.mount)
        try:
            time.sleep(0.1)
            refused(vault.run("umount", vault.mount, check=False), 1, str(holder.pid), "sleep")
            assert vault.is_mounted() and os.listdir(vault.mount)
        finally:
            holder.kill()
            holder.wait()

    @claims.claim("another software authenticator does not unlock: exit code 3")
    def _():
        with Vault("other", mounted=False) as other:
            done = vault.run("key", "test", vault.folder, "--authenticator", f"software:{other.key}", check=False)
            refused(done, 3)
        vault.run("key", "test", vault.folder, "--authenticator", f"software:{vault.key}")

    @claims.claim("unknown mount options are refused by name with exit code 2")
    def _():
        with Vault("options", mounted=False) as other:
            refused(other.start(options="no-such-option", check=False), 2, "no-such-option")

    @claims.claim("a read-only mount takes no change")
    def _():
        with Vault("ro") as other:
            write(f"{other.mount}/f", b"x")
            other.stop()
            other.start(options="ro")
            assert read(f"{other.mount}/f") == b"x"
            assert errno_of(write, f"{other.mount}/g", b"") == errno.EROFS


def by_mount(claims, vault):
    """mount(8) looks for its helper in /sbin alone: a link to the program under test lies there for the time being."""
    made = not os.path.lexists(HELPER)
    if made:
        os.symlink(PASSKEYFS, HELPER)
    try:
        with Vault("mount8", mounted=False) as other:
            @claims.claim("mount -t passkeyfs mounts, and umount(8) loses nothing")
            def _():
                options = f"authenticator=software:{other.key},allow_other,nodev,nosuid,_netdev,x-systemd.automount"
                shell(f"mount -t passkeyfs -o {options} {other.folder} {other.mount}", "/", **other.environment)
                other.pids.add(other.pid())
                write(f"{other.mount}/f", b"through mount(8)")
                line = next(line for line in open("/proc/mounts") if f" {other.mount} " in line)
                assert "nodev" in line and "nosuid" in line and "passkeyfs" in line, line
                pid = other.pid()
                shell(f"umount {other.mount}", "/")
                wait_until_gone(pid)

            @claims.claim("a line of fstab mounts")
            def _():
                table = os.path.join(other.base, "fstab")
                write(table, f"{other.folder} {other.mount} passkeyfs noauto,user,nofail,authenticator=software:{other.key} 0 0\n".encode())
                shell(f"mount -T {table} {other.mount}", "/", **other.environment)
                other.pids.add(other.pid())
                assert read(f"{other.mount}/f") == b"through mount(8)"
                other.stop()

            @claims.claim("mount.passkeyfs answers in mount(8)'s exit codes")
            def _():
                call = lambda *words: subprocess.run([HELPER, *words], stdin=subprocess.DEVNULL, capture_output=True,
                                                     env=other.environment).returncode
                key = f"authenticator=software:{other.key}"
                assert call(other.folder) == 1
                assert call(other.folder, other.mount, "-o", f"{key},no-such-option") == 1
                assert call(other.folder, other.mount, "-f", "-o", key) == 0 and not other.is_mounted()
                assert call("/nonexistent", other.mount, "-o", key) == 32
    finally:
        if made:
            os.unlink(HELPER)


def bad_vaults(claims):
    def spoilt(name, change, code, *words):
        @claims.claim(f"{name}: exit code {code}, and nothing is mounted or written")
        def _():
            with Vault("bad", mounted=False) as vault:
                change(vault)
                before = vault.files()
                done = vault.start(check=False)
                assert done.returncode == code, f"exit {done.returncode}: {done.stderr}"
                assert len(done.stderr.strip().splitlines()) >= 2, done.stderr
                assert all(word in done.stderr for word in words), done.stderr
                assert not vault.is_mounted() and vault.files() == before

    def replace(vault, old, new):
        path = f"{vault.folder}/vault.json"
        content = read(path)
        assert old in content
        write(path, content.replace(old, new))

    def only(vault, suffix):
        return next(os.path.join(vault.folder, name) for name in vault.files() if name.endswith(suffix))

    def empty_folder(vault):
        shutil.rmtree(vault.folder)
        os.mkdir(vault.folder)

    spoilt("an empty folder is no vault", empty_folder, 6)
    def newer_and_unknown(vault):
        # A device that knows the vault opens it with its copy, whatever the folder says.
        shutil.rmtree(vault.environment["XDG_STATE_HOME"])
        replace(vault, b'"format": 1', b'"format": 2')

    spoilt("a vault of a newer format, on a new device", newer_and_unknown, 6)
    spoilt("a truncated commit", lambda vault: os.truncate(only(vault, ".meta"), 5000), 11)
    spoilt("an emptied commit", lambda vault: os.truncate(only(vault, ".meta"), 0), 11)
    spoilt("a missing commit", lambda vault: os.unlink(only(vault, ".meta")), 11)
    spoilt("a missing mount point", lambda vault: os.rmdir(vault.mount), 1)


def full_disk(claims):
    if os.geteuid() != 0:
        return
    base = os.path.realpath(shell("mktemp -d /tmp/pkfs-full.XXXXXX", "/").strip())
    shell(f"mount -t tmpfs -o size=64M,mode=755 tmpfs {base}", "/")
    try:
        with Vault("full", base=base) as vault:
            @claims.claim("a full disk: ENOSPC at write, what was synced stays, and space that is freed can be used again")
            def _():
                write(f"{vault.mount}/early", pattern("early", 1_000_000))
                vault.sync()
                number, failed = 0, 0
                while not failed and number < 200:
                    failed = errno_of(write, f"{vault.mount}/{number}", pattern(number, 1_000_000))
                    number += 1
                assert failed == errno.ENOSPC, f"errno {failed} after {number} files"
                assert read(f"{vault.mount}/early") == pattern("early", 1_000_000)
                synced = vault.run("sync", vault.mount, check=False).returncode
                for name in range(number - 1):
                    assert len(read(f"{vault.mount}/{name}")) == 1_000_000, f"after sync with exit {synced}: file {name}"
                for name in os.listdir(vault.mount):  # the last one may have been refused when it was to be created
                    if name != "early":
                        os.unlink(f"{vault.mount}/{name}")
                vault.stop()
                vault.start()
                assert os.listdir(vault.mount) == ["early"] and read(f"{vault.mount}/early") == pattern("early", 1_000_000)
                return f"after {number - 1} files of 1 MB on a disk of 64 MiB"
    finally:
        shell(f"umount -l {base} && rmdir {base}", "/")
