"""Places that are gone, shared, limited or where they do not belong; and a mount that lives on in other places."""

import errno
import os
import shutil
import subprocess
import threading
import time

from harness import PASSKEYFS, Vault, errno_of, fsync, is_running, pattern, read, shell, wait_until_gone, write


def check(claims):
    with Vault("places") as vault:
        elsewhere(claims, vault)
        busy(claims, vault)
    gone(claims)
    limits(claims)
    in_the_vault(claims)
    odd_places(claims)
    planted(claims)
    shared(claims)


def elsewhere(claims, vault):
    @claims.claim("umount returns while a bind mount keeps the mount alive, says where, and a second one locks the vault")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"content")
        bind = os.path.join(vault.base, "bind")
        os.mkdir(bind)
        subprocess.run(["mount", "--bind", folder, bind], check=True)
        pid = vault.pid()
        try:
            done = vault.run("umount", vault.mount, check=False, seconds=20)
            assert done.returncode == 1 and bind in done.stderr and "not locked" in done.stderr, done.stderr
            assert read(f"{bind}/f") == b"content"
            refused = vault.start(check=False)
            assert refused.returncode == 7 and f"umount {vault.mount}" in refused.stderr, refused.stderr
            vault.run("umount", vault.mount, seconds=60)
            assert not is_running(pid)
            assert errno_of(read, f"{bind}/f") is not None
        finally:
            subprocess.run(["umount", "-l", bind], check=False)
        vault.start()
        assert read(f"{folder}/f") == b"content"

    @claims.claim("umount names the process whose mount namespace keeps the mount alive; the daemon ends with it")
    def _():
        pid = vault.pid()
        holder = subprocess.Popen(["unshare", "-m", "--propagation", "private", "sleep", "1000"])
        try:
            time.sleep(0.3)
            done = vault.run("umount", vault.mount, check=False, seconds=20)
            assert done.returncode == 1 and str(holder.pid) in done.stderr, done.stderr
        finally:
            holder.kill()
            holder.wait()
        wait_until_gone(pid)
        vault.start()


def busy(claims, vault):
    @claims.claim("umount waits for whoever uses the mount in passing")
    def _():
        holder = subprocess.Popen(["sleep", "1000"], cwd=vault.mount)
        timer = threading.Timer(0.5, lambda: (holder.kill(), holder.wait()))
        timer.start()
        try:
            vault.run("umount", vault.mount)
        finally:
            timer.join()
        vault.start()


def gone(claims):
    @claims.claim("sync says an error when the vault folder is gone, although nothing is unpublished")
    def _():
        with Vault("gone") as vault:
            write(f"{vault.mount}/f", b"x")
            vault.sync()
            os.rename(vault.folder, f"{vault.folder}.away")
            done = vault.run("sync", vault.mount, check=False)
            assert done.returncode == 1 and "not there" in done.stderr, (done.returncode, done.stderr)
            os.rename(f"{vault.folder}.away", vault.folder)
            vault.sync()

    @claims.claim("fsync says an error when the folder of the local state is gone, and makes no other")
    def _():
        with Vault("stateless", options="publish=3600") as vault:
            write(f"{vault.mount}/f", b"x")
            fsync(f"{vault.mount}/f")
            state = vault.environment["XDG_STATE_HOME"]
            shutil.rmtree(state)
            write(f"{vault.mount}/f", b"more")
            assert errno_of(fsync, f"{vault.mount}/f") is not None
            assert not os.path.exists(state)

    @claims.claim("fsync is true although the journal's file was removed or replaced: the next mount has what was synced")
    def _():
        with Vault("unlinked", options="publish=3600") as vault:
            journal = os.path.join(vault.environment["XDG_STATE_HOME"], "passkeyfs")
            journal = os.path.join(journal, os.listdir(journal)[0], "journal")
            for replace in (False, True):
                write(f"{vault.mount}/f", b"before")
                fsync(f"{vault.mount}/f")
                for name in os.listdir(journal):
                    os.unlink(os.path.join(journal, name))
                    if replace:
                        write(os.path.join(journal, name), b"")
                write(f"{vault.mount}/f", b"synced")
                fsync(f"{vault.mount}/f")
                vault.kill()
                vault.start()
                assert read(f"{vault.mount}/f") == b"synced", replace


def limits(claims):
    @claims.claim("a limit on the size of files (ulimit -f) gives errors and does not end the daemon")
    def _():
        with Vault("limit", mounted=False) as vault:
            command = ["bash", "-c", 'ulimit -f 64; exec "$@"', "bash"]
            options = f"authenticator=software:{vault.key},publish=1"
            subprocess.run([*command, PASSKEYFS, "mount", vault.folder, vault.mount, "-o", options], check=True,
                           env=vault.environment, stdin=subprocess.DEVNULL)
            pid = vault.pid()
            vault.pids.add(pid)
            write(f"{vault.mount}/f", b"small")
            fsync(f"{vault.mount}/f")
            try:
                write(f"{vault.mount}/large", pattern("limit", 3_000_000))
                fsync(f"{vault.mount}/large")
            except OSError as error:
                assert error.errno in (errno.ENOSPC, errno.EFBIG, errno.EIO), error
            else:
                raise AssertionError("3 MB were taken where 64 KiB are the limit")
            time.sleep(2.5)
            assert is_running(pid) and read(f"{vault.mount}/f") == b"small"
            done = vault.run("umount", vault.mount, check=False)
            assert done.returncode == 1 and "Nothing is lost" not in done.stderr, done.stderr
            subprocess.run(["umount", "-l", vault.mount], check=True)
            wait_until_gone(pid)
            vault.start()
            assert read(f"{vault.mount}/f") == b"small"
            vault.stop()
            vault.check()


def in_the_vault(claims):
    @claims.claim("local state, key and staging in the vault folder are refused by mount and init, by name")
    def _():
        with Vault("inside", mounted=False) as vault:
            inside = os.path.join(vault.folder, "inside")
            os.mkdir(inside)
            state = vault.environment["XDG_STATE_HOME"]
            vault.environment["XDG_STATE_HOME"] = inside
            done = vault.start(check=False)
            assert done.returncode == 1 and "local state" in done.stderr, done.stderr
            new = os.path.join(vault.base, "new")
            vault.environment["XDG_STATE_HOME"] = os.path.join(new, "state")
            done = vault.run("init", new, "--authenticator", f"software:{vault.key}", "--no-recovery", check=False)
            assert done.returncode == 1 and "local state" in done.stderr and not os.path.exists(new), done.stderr
            vault.environment["XDG_STATE_HOME"] = state
            done = vault.start(options=f"staging={inside}", check=False)
            assert done.returncode == 1 and "staging" in done.stderr, done.stderr
            key = os.path.join(inside, "key")
            shutil.copy(vault.key, key)
            done = vault.run("mount", vault.folder, vault.mount, "-o", f"authenticator=software:{key}", check=False)
            assert done.returncode == 1 and "software authenticator" in done.stderr, done.stderr
            os.unlink(key)
            vault.start()


def odd_places(claims):
    """Filesystems that lack hard links, modes, or a rename that replaces nothing, as far as this machine has them."""
    def gocryptfs(base, folder):
        cipher, word = os.path.join(base, "cipher"), os.path.join(base, "word")
        os.mkdir(cipher)
        write(word, b"word")
        subprocess.run(["gocryptfs", "-q", "-init", "-scryptn", "10", "-passfile", word, cipher], check=True)
        subprocess.run(["gocryptfs", "-q", "-passfile", word, cipher, folder], check=True)

    def image(*make):
        def mount(base, folder):
            file = os.path.join(base, "image")
            with open(file, "wb") as made:
                made.truncate(200 << 20)
            subprocess.run([*make, file], check=True, stdout=subprocess.DEVNULL)
            subprocess.run(["mount", "-o", "loop", file, folder], check=True)
        return mount

    def over(*command):
        def mount(base, folder):
            below = os.path.join(base, "below")
            os.mkdir(below)
            subprocess.run([*command, below, folder], check=True)
        return mount

    places = [("gocryptfs", gocryptfs), ("bindfs", over("bindfs")), ("mergerfs", over("mergerfs")), ("mkfs.vfat", image("mkfs.vfat")),
              ("mkfs.exfat", image("mkfs.exfat"))]

    @claims.claim("a vault on an odd filesystem (what this machine has of FUSE ones, vfat and exfat) keeps what is written")
    def _():
        tried = []
        for name, mount in places:
            if shutil.which(name) is None:
                continue
            with Vault("odd", mounted=False) as vault:
                odd = os.path.join(vault.base, "odd")
                os.mkdir(odd)
                try:
                    mount(vault.base, odd)
                except subprocess.CalledProcessError:
                    continue  # not on this kernel
                try:
                    vault.folder = os.path.join(odd, "vault")
                    vault.run("init", vault.folder, "--authenticator", f"software:{vault.key}", "--no-recovery")
                    vault.start()
                    contents = {str(size): pattern(name, size) for size in (0, 100, 70_000, 3_000_000)}
                    for file, content in contents.items():
                        write(f"{vault.mount}/{file}", content)
                    vault.again()
                    assert {file: read(f"{vault.mount}/{file}") for file in os.listdir(vault.mount)} == contents, name
                    write(f"{vault.mount}/100", b"another content")
                    vault.stop()
                    vault.check()
                    tried.append(name)
                finally:
                    if vault.mounts():
                        vault.run("umount", vault.mount, check=False)
                    subprocess.run(["umount", "-l", odd], check=False)
        return ", ".join(tried) or "there is none"


def planted(claims):
    @claims.claim("20,000 planted names of commits: mount, status and umount take no time, and say it in few lines")
    def _():
        with Vault("crowd") as vault:
            write(f"{vault.mount}/f", b"content")
            vault.stop()
            devices = os.path.join(vault.folder, "devices")
            folder = os.path.join(devices, os.listdir(devices)[0], "0000000")
            for number in range(20_000):
                os.close(os.open(f"{folder}/{1000 + number:010x}-{10**6 + number:016x}.meta", os.O_CREAT | os.O_WRONLY))
            began = time.monotonic()
            done = vault.start()
            assert len(done.stderr.splitlines()) < 100, len(done.stderr.splitlines())
            vault.status()
            assert read(f"{vault.mount}/f") == b"content"
            vault.stop()
            assert time.monotonic() - began < 10, time.monotonic() - began

    @claims.claim("a name at the end of the sequence numbers neither stops a publish nor loses what umount calls safe")
    def _():
        with Vault("bomb") as vault:
            write(f"{vault.mount}/f", b"content")
            vault.stop()
            devices = os.path.join(vault.folder, "devices")
            folder = os.path.join(devices, os.listdir(devices)[0], "0000000")
            names = [f"{folder}/{number:010x}-{number:016x}.data" for number in (2**40 - 1, 2**40 - 2)]
            for name in names:
                write(name, b"")
                done = vault.start()
                if "read-only" not in done.stderr:
                    write(f"{vault.mount}/g", b"later")
                vault.run("umount", vault.mount, check=False)
                os.unlink(name)
                vault.start()
                assert read(f"{vault.mount}/f") == b"content"
                write(f"{vault.mount}/h", b"after")
                vault.again()
                assert read(f"{vault.mount}/h") == b"after"
                vault.stop()

    @claims.claim("a link in the place of a folder of the vault is followed neither for reading nor for writing, and named")
    def _():
        with Vault("links") as vault:
            write(f"{vault.mount}/f", b"content")
            vault.stop()
            elsewhere_folder = os.path.join(vault.base, "elsewhere")
            devices = os.path.join(vault.folder, "devices")
            own = os.path.join(devices, os.listdir(devices)[0])
            for folder in (own, f"{own}/0000000", os.path.join(vault.folder, "keys")):
                shutil.rmtree(elsewhere_folder, ignore_errors=True)
                shutil.copytree(folder, elsewhere_folder)
                os.rename(folder, f"{folder}.away")
                os.symlink(elsewhere_folder, folder)
                before = set(os.listdir(elsewhere_folder))
                done = vault.start(check=False)
                if done.returncode == 0:
                    vault.run("umount", vault.mount, check=False)
                assert set(os.listdir(elsewhere_folder)) == before, folder
                if os.path.islink(folder):
                    assert "link" in done.stderr or "missing" in done.stderr, (folder, done.stderr)
                    os.unlink(folder)
                else:
                    shutil.rmtree(folder)
                os.rename(f"{folder}.away", folder)
            vault.start()
            assert read(f"{vault.mount}/f") == b"content"
            write(f"{vault.mount}/f", b"written on")
            vault.again()
            assert read(f"{vault.mount}/f") == b"written on"


def shared(claims):
    @claims.claim("a staging folder that another user has made or may write to is refused, and nothing is put there")
    def _():
        with Vault("staging", mounted=False) as vault:
            public = os.path.join(vault.base, "public")
            os.mkdir(public)
            os.chmod(public, 0o1777)
            states = os.path.join(vault.environment["XDG_STATE_HOME"], "passkeyfs")
            squat = os.path.join(public, f"passkeyfs-{os.listdir(states)[0]}")
            os.mkdir(squat)
            os.chown(squat, 65534, 65534)
            done = vault.start(options=f"staging={public}", check=False)
            assert done.returncode == 1 and "staging" in done.stderr, done.stderr
            assert not os.listdir(squat)
            os.chown(squat, 0, 0)
            os.chmod(squat, 0o777)
            assert vault.start(options=f"staging={public}", check=False).returncode == 1
            os.rmdir(squat)
            vault.start(options=f"staging={public}")
            assert os.stat(squat).st_mode & 0o777 == 0o700

    @claims.claim("a folder that the user may not list keeps the vault's files from nobody, and is named")
    def _():
        with Vault("unlisted", mounted=False) as vault:
            shell(f"chown -R 65534:65534 {vault.base}", "/")
            hidden = os.path.join(vault.folder, "devices", "0123456789abcdef")
            os.mkdir(hidden, 0o000)
            os.chown(hidden, 65534, 65534)
            command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "env", f"HOME={vault.base}"]
            done = subprocess.run([*command, PASSKEYFS, "check", vault.folder, "--authenticator", f"software:{vault.key}"],
                                  env=vault.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
            assert b"cannot be checked" not in done.stderr and done.returncode in (0, 11), (done.returncode, done.stderr)
