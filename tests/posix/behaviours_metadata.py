"""Names, times, modes, owners, links, extended attributes and ACLs."""

import errno
import mmap
import os
import shutil
import socket
import stat
import struct
import subprocess
import time

import harness
from harness import NOBODY, as_user, errno_of, fsync, pattern, read, shell, system_call, write

RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT, AT_FDCWD = 1, 2, 4, -100
# A file capability as the kernel keeps it: version 2, effective; permitted: CAP_NET_RAW.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def check(claims, vault):
    times(claims, vault)
    names(claims, vault)
    set_id_bits(claims, vault)
    rights(claims, vault)
    attributes(claims, vault)


def times(claims, vault):
    @claims.claim("touch -m changes the mtime alone, and it survives a new mount")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"content")
        os.utime(f"{folder}/f", ns=(1_000_000_000_123_456_789, 1_100_000_000_000_000_001))
        vault.sync()
        shell("touch -m -d '2001-02-03 04:05:06.789012345 UTC' f", folder)
        vault.again()
        status = os.stat(f"{folder}/f")
        assert status.st_mtime_ns == 981173106_789012345, status
        assert status.st_atime_ns == 1_000_000_000_123_456_789, status
        assert read(f"{folder}/f") == b"content"

    @claims.claim("tar -x gives files and folders their old times, and they survive a new mount")
    def _():
        shell("mkdir -p t/a/b && echo x >t/a/f && touch -d '1999-12-31 23:59:58.5 UTC' t/a/f t/a/b t/a t && tar -cf t.tar t", vault.local)
        folder = vault.new_folder()
        shell(f"tar -xpf {vault.local}/t.tar", folder)
        vault.again()
        for name in ("t", "t/a", "t/a/b", "t/a/f"):
            assert os.stat(f"{folder}/{name}").st_mtime_ns // 10**9 == 946684798, name

    @claims.claim("times hold nanoseconds, before 1970 and after 2106 too")
    def _():
        folder = vault.new_folder()
        moments = [0, 1, -1, -2_208_988_800_000_000_001, 4_294_967_296_999_999_999, 16_725_225_600_123_456_789]
        for number, moment in enumerate(moments):
            write(f"{folder}/{number}", b"")
            os.utime(f"{folder}/{number}", ns=(moment, moment))
        vault.again()
        found = [os.stat(f"{folder}/{number}").st_mtime_ns for number in range(len(moments))]
        assert found == moments, found

    @claims.claim("which times an operation changes is as on the local disk")
    def _():
        def changed(folder):
            def stamps(path):
                status = os.lstat(path)
                return status.st_mtime_ns, status.st_ctime_ns

            def after(action):
                old = 1_000_000_000 * 10**9
                for path in ("d", "f", "."):
                    os.utime(f"{folder}/{path}", ns=(old, old))
                before = {path: stamps(f"{folder}/{path}") for path in ("d", "f", ".")}
                _spend_a_tick()
                action()
                now = {path: stamps(f"{folder}/{path}") if os.path.exists(f"{folder}/{path}") else None for path in before}
                return {path: now[path] and tuple(a != b for a, b in zip(before[path], now[path])) for path in before}

            os.mkdir(f"{folder}/d")
            write(f"{folder}/f", b"abc")
            return [
                after(lambda: os.chmod(f"{folder}/f", 0o600)),
                after(lambda: write(f"{folder}/f", b"x")),
                after(lambda: os.truncate(f"{folder}/f", 10)),
                after(lambda: os.link(f"{folder}/f", f"{folder}/d/g")),
                after(lambda: os.unlink(f"{folder}/d/g")),
                after(lambda: os.setxattr(f"{folder}/f", "user.a", b"b")),
                after(lambda: os.rename(f"{folder}/f", f"{folder}/d/f")),
            ]
        vault.both(changed)


    old, older = 1_000_000_000, 900_000_000

    def moves(vault):
        """Whether reading moves access times that are older than the change, newer than it, of a folder, and read with O_NOATIME."""
        answers = []
        for kind, accessed, modified, flags in (("f", older, old, 0), ("f", None, old, 0), ("d", older, old, 0), ("f", older, old, os.O_NOATIME)):
            folder = vault.new_folder()
            path = f"{folder}/{kind}"
            os.mkdir(path) if kind == "d" else write(path, b"content")
            os.utime(path, (accessed if accessed is not None else time.time() + 5, modified))
            os.stat(path)
            before = os.stat(path).st_atime_ns
            _spend_a_tick()
            descriptor = os.open(path, os.O_RDONLY | flags)
            os.listdir(descriptor) if kind == "d" else os.read(descriptor, 100)
            os.close(descriptor)
            answers.append(os.stat(path).st_atime_ns != before)
        return answers

    @claims.claim("reading moves no access time; with relatime those older than a change, with strictatime all, as far as asked for")
    def _():
        assert moves(vault) == [False] * 4
        with harness.Vault("access") as other:
            for options, wanted in (("relatime", [True, False, True, False]), ("strictatime,nodiratime", [True, True, False, False]),
                                    ("atime,lazytime", [True, False, True, False]), ("relatime,noatime", [False] * 4),
                                    ("relatime,ro", None)):
                other.stop()
                other.start(options)
                if wanted is None:
                    read(path)
                    assert os.stat(path).st_atime_ns == before, "nothing moves on a read-only mount"
                    break
                assert moves(other) == wanted, f"{options}: {moves(other)}"
                path = f"{other.new_folder()}/f"
                write(path, b"content")
                os.utime(path, (older, old))
                before = older * 10**9
            other.stop()
            other.start("relatime")
            read(path)
            moved = os.stat(path).st_atime_ns
            assert moved > before
            other.stop()
            other.start("")
            assert os.stat(path).st_atime_ns == moved, "it is stored"


def _spend_a_tick():
    time.sleep(0.02)  # times on the local disk move with the kernel's clock tick


def names(claims, vault):
    @claims.claim("names of 255 bytes, of any bytes but / and NUL, come back")
    def _():
        folder = vault.new_folder().encode()
        any_bytes = bytes(value for value in range(1, 256) if value != ord("/"))
        wanted = {any_bytes, b"\xff" * 255, b"-" * 255, b"\n", b"\xc3\xa4".ljust(255, b"\xe2"), b" ", b"...", b"*"}
        for name in wanted:
            write(folder + b"/" + name, name)
        assert errno_of(write, folder + b"/" + b"n" * 256, b"") == errno.ENAMETOOLONG
        vault.again()
        assert set(os.listdir(folder)) == wanted
        assert all(read(folder + b"/" + name) == name for name in wanted)

    @claims.claim("a path of 4095 bytes can be made and read")
    def _():
        folder = os.path.realpath(vault.new_folder())
        while len(folder) + 201 < 4090:
            folder += "/" + "d" * 200
            os.mkdir(folder)
        path = folder + "/" + "f" * (4095 - len(folder) - 1)
        write(path, b"deep")
        vault.again()
        assert len(path) == 4095 and read(path) == b"deep"

    @claims.claim("symlinks hold targets of 1 to 4095 bytes")
    def _():
        folder = vault.new_folder()
        lengths = (1, 59, 60, 1023, 2048, 4094, 4095)
        for length in lengths:
            os.symlink("t" * length, f"{folder}/{length}")
        assert errno_of(os.symlink, "t" * 4096, f"{folder}/long") == errno.ENAMETOOLONG
        vault.again()
        for length in lengths:
            assert os.readlink(f"{folder}/{length}") == "t" * length
            assert os.lstat(f"{folder}/{length}").st_size == length

    @claims.claim("hard links are one file: one inode, one content, a count that is right")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/a", b"one")
        os.mkdir(f"{folder}/d")
        os.link(f"{folder}/a", f"{folder}/d/b")
        os.link(f"{folder}/a", f"{folder}/c")
        with open(f"{folder}/c", "ab") as file:
            file.write(b" two")
        os.unlink(f"{folder}/a")
        vault.again()
        first, second = os.stat(f"{folder}/d/b"), os.stat(f"{folder}/c")
        assert (first.st_ino, first.st_nlink) == (second.st_ino, 2) and second.st_nlink == 2
        assert read(f"{folder}/d/b") == b"one two"

    @claims.claim("fifos, sockets and device nodes come back")
    def _():
        folder = vault.new_folder()
        os.mkfifo(f"{folder}/fifo", 0o640)
        os.mknod(f"{folder}/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(f"{folder}/block", stat.S_IFBLK | 0o600, os.makedev(259, 70000))
        where = os.getcwd()
        os.chdir(folder)  # a socket's path is short
        with socket.socket(socket.AF_UNIX) as endpoint:
            endpoint.bind("socket")
        os.chdir(where)
        vault.again()
        kinds = {name: stat.S_IFMT(os.lstat(f"{folder}/{name}").st_mode) for name in os.listdir(folder)}
        assert kinds == {"fifo": stat.S_IFIFO, "null": stat.S_IFCHR, "block": stat.S_IFBLK, "socket": stat.S_IFSOCK}
        assert os.stat(f"{folder}/null").st_rdev == os.makedev(1, 3)
        assert os.stat(f"{folder}/block").st_rdev == os.makedev(259, 70000)

    @claims.claim("renameat2: NOREPLACE refuses, EXCHANGE swaps files and folders")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/a", b"a")
        write(f"{folder}/b", b"b")
        os.mkdir(f"{folder}/d")
        write(f"{folder}/d/inside", b"x")
        move = lambda source, target, flags: system_call(
            "renameat2", AT_FDCWD, f"{folder}/{source}".encode(), AT_FDCWD, f"{folder}/{target}".encode(), flags)
        assert errno_of(move, "a", "b", RENAME_NOREPLACE) == errno.EEXIST
        move("a", "c", RENAME_NOREPLACE)
        move("c", "b", RENAME_EXCHANGE)
        move("b", "d", RENAME_EXCHANGE)
        assert errno_of(move, "c", "missing", RENAME_EXCHANGE) == errno.ENOENT
        assert errno_of(move, "b", "b/inside/x", 0) != 0
        vault.again()
        assert (read(f"{folder}/c"), read(f"{folder}/d"), read(f"{folder}/b/inside")) == (b"b", b"a", b"x")
        assert os.stat(folder).st_nlink == 3, "one folder inside"

    @claims.claim("renameat2 leaves a whiteout: a character device 0:0 in the place of what was moved")
    def _():
        folder = vault.new_folder()
        move = lambda source, target, flags: system_call(
            "renameat2", AT_FDCWD, f"{folder}/{source}".encode(), AT_FDCWD, f"{folder}/{target}".encode(), flags)
        write(f"{folder}/a", b"a")
        write(f"{folder}/over", b"over")
        os.mkdir(f"{folder}/d")
        move("a", "b", RENAME_WHITEOUT)
        move("d", "e", RENAME_WHITEOUT)
        assert errno_of(move, "over", "b", RENAME_WHITEOUT | RENAME_NOREPLACE) == errno.EEXIST
        assert errno_of(move, "over", "b", RENAME_WHITEOUT | RENAME_EXCHANGE) == errno.EINVAL
        move("over", "b", RENAME_WHITEOUT)
        vault.again()
        for name in ("a", "d", "over"):
            status = os.lstat(f"{folder}/{name}")
            assert stat.S_ISCHR(status.st_mode) and status.st_rdev == 0 and status.st_nlink == 1, (name, status)
        assert read(f"{folder}/b") == b"over" and os.listdir(f"{folder}/e") == []
        assert os.stat(folder).st_nlink == 3, "one folder inside"

    @claims.claim("a folder of 10000 entries is listed once each, also while entries go")
    def _():
        folder = vault.new_folder()
        wanted = {f"file {number}" for number in range(10_000)}
        for name in wanted:
            os.close(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY))
        listed = os.listdir(folder)
        assert len(listed) == len(wanted) and set(listed) == wanted
        with os.scandir(folder) as entries:
            seen = []
            for entry in entries:
                seen.append(entry.name)
                os.unlink(entry.path)
        assert len(seen) == len(wanted) and set(seen) == wanted and os.listdir(folder) == []
        os.rmdir(folder)


def set_id_bits(claims, vault):
    def after(action):
        """The mode that a file of nobody's, set-user-id and set-group-id, has after the action, for several first modes."""
        def run(folder):
            modes = []
            for mode in (0o6777, 0o2767, 0o4755, 0o6611):
                path = f"{folder}/{mode:o}"
                write(path, b"#!/bin/true\n")
                os.chown(path, NOBODY, NOBODY)
                os.chmod(path, mode)
                os.setxattr(path, "security.capability", CAPABILITY)
                action(path)
                modes.append((f"{os.stat(path).st_mode & 0o7777:o}", errno_of(os.getxattr, path, "security.capability")))
            return modes
        return run

    def write_a_byte(path):
        descriptor = os.open(path, os.O_WRONLY)
        os.write(descriptor, b"x")
        os.close(descriptor)

    def shorten_open(path):
        descriptor = os.open(path, os.O_WRONLY)
        os.ftruncate(descriptor, 3)
        os.close(descriptor)

    actions = {
        "write": write_a_byte,
        "truncate": lambda path: os.truncate(path, 3),
        "ftruncate": shorten_open,
        "open with O_TRUNC": lambda path: os.close(os.open(path, os.O_WRONLY | os.O_TRUNC)),
        "chown to the same owner": lambda path: os.chown(path, NOBODY, NOBODY),
        "chmod": lambda path: os.chmod(path, os.stat(path).st_mode & 0o7777),
    }
    for name, action in actions.items():
        @claims.claim(f"{name} by a plain user drops set-id bits and file capabilities as on the local disk")
        def _(action=action):
            vault.both(after(lambda path: as_user(NOBODY, lambda: action(path))))

        @claims.claim(f"{name} by root keeps or drops set-id bits and file capabilities as on the local disk")
        def _(action=action):
            vault.both(after(action))

    def by_nobody(path, how):
        """Changes the content as a plain user; the first page stays a valid page of what it was."""
        def change():
            direct = os.O_DIRECT if how == "a direct write" else 0
            descriptor = os.open(path, os.O_RDWR | direct)
            if how == "fallocate":
                os.posix_fallocate(descriptor, 8192, 4096)
            elif how == "a truncation":
                os.ftruncate(descriptor, 4096)
            elif how == "copy_file_range":
                source = os.open(f"{path}.source", os.O_RDONLY)
                os.copy_file_range(source, descriptor, 4096)
            else:
                os.write(descriptor, memoryview(mmap.mmap(-1, 4096)))
            os.close(descriptor)
        as_user(NOBODY, change)

    def mode_alone(path):
        """What the kernel answers from the attributes that it holds, if it thinks them right: no times are asked for."""
        return shell("stat -c %a f", os.path.dirname(path)).strip()

    for how in ("a buffered write", "a direct write", "fallocate", "a truncation", "copy_file_range"):
        @claims.claim(f"after {how} by a plain user the kernel knows that set-id bits and capabilities are gone, as on the local disk")
        def _(how=how):
            def run(folder):
                path = f"{folder}/f"
                for name in ("f", "f.source"):
                    write(f"{folder}/{name}", bytes(8192))
                os.chown(path, NOBODY, NOBODY)
                os.chmod(path, 0o6777)
                os.setxattr(path, "security.capability", CAPABILITY)
                before = mode_alone(path)
                by_nobody(path, how)
                return before, mode_alone(path), errno_of(os.getxattr, path, "security.capability")
            vault.both(run)

    @claims.claim("a set-user-id program of root's that a plain user has just changed runs as that user, as on the local disk")
    def _():
        with harness.Vault("set-id", options="suid") as other:
            def run(folder):
                path = f"{folder}/id"
                shutil.copy("/usr/bin/id", path)
                os.chmod(path, 0o4777)
                first = as_user(NOBODY, lambda: subprocess.run([path, "-u"], capture_output=True, text=True).stdout)

                def change_and_run():
                    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
                    os.write(descriptor, b"changed")
                    os.close(descriptor)
                    return subprocess.run([path, "-u"], capture_output=True, text=True).stdout
                return first, as_user(NOBODY, change_and_run)
            answers = other.both(run)
            assert answers == ("0\n", f"{NOBODY}\n"), answers

    @claims.claim("chown by root to another owner drops set-id bits and capabilities as on the local disk")
    def _():
        vault.both(after(lambda path: os.chown(path, 1, 1)))

    @claims.claim("copy_file_range by a plain user drops set-id bits as on the local disk")
    def _():
        def copy_into(path):
            write(f"{path}.source", b"y" * 100)
            os.chmod(f"{path}.source", 0o644)

            def copy():
                source, target = os.open(f"{path}.source", os.O_RDONLY), os.open(path, os.O_WRONLY)
                os.copy_file_range(source, target, 50)
            as_user(NOBODY, copy)
        vault.both(after(copy_into))


def rights(claims, vault):
    @claims.claim("a new file's mode follows the umask, and a default ACL where there is one, as on the local disk")
    def _():
        def make(folder):
            shell("""mkdir plain acl && setfacl -d -m u:nobody:rwx,g::r-x,o::---,m::rwx acl
                for mask in 000 022 077; do umask $mask; for d in plain acl; do
                  touch $d/f$mask; mkdir $d/d$mask; mkfifo $d/p$mask; mkdir -m 751 $d/m$mask; done; done""", folder)
            listing = shell("getfacl -R -n . | grep -v '^# file: \\.$'", folder)
            blocks = sorted(listing.split("\n\n"))
            return blocks, sorted((name, oct(os.lstat(f"{folder}/{name}").st_mode)) for name in
                                  (f"{d}/{f}" for d in ("plain", "acl") for f in os.listdir(f"{folder}/{d}")))
        vault.both(make)

    @claims.claim("a folder's set-group-id bit is inherited as on the local disk")
    def _():
        def make(folder):
            os.mkdir(f"{folder}/s")
            os.chown(f"{folder}/s", 0, NOBODY)
            os.chmod(f"{folder}/s", 0o2777)
            os.mkdir(f"{folder}/s/d")
            write(f"{folder}/s/f", b"", 0o666)
            as_user(1, lambda: os.mkdir(f"{folder}/s/u"))
            as_user(1, lambda: os.close(os.open(f"{folder}/s/x", os.O_CREAT | os.O_WRONLY, 0o2775)))
            return [(name, oct(os.stat(f"{folder}/s/{name}").st_mode), os.stat(f"{folder}/s/{name}").st_gid) for name in "dfux"]
        vault.both(make)

    @claims.claim("an ACL lets in and keeps out whom it says, after a new mount too")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"secret", 0o600)
        opened = lambda: as_user(NOBODY, lambda: errno_of(read, f"{folder}/f"))
        assert opened() == errno.EACCES
        shell("setfacl -m u:nobody:r f", folder)
        assert opened() == 0
        vault.again()
        assert opened() == 0
        assert "user:nobody:r--" in shell("getfacl f", folder)
        shell("setfacl -m m::--- f", folder)
        assert opened() == errno.EACCES, "the mask counts"
        shell("setfacl -b f", folder)
        assert opened() == errno.EACCES
        assert os.listxattr(f"{folder}/f") == []

    @claims.claim("chmod and an ACL's mask are one, as on the local disk")
    def _():
        def make(folder):
            shell("touch f && chmod 640 f && setfacl -m u:1:rwx f && chmod 604 f", folder)
            return shell("getfacl -n f; stat -c %a f; chmod 670 f; getfacl -n f; setfacl -m g::r f; stat -c %a f", folder)
        vault.both(make)

    @claims.claim("the sticky bit guards others' files")
    def _():
        folder = vault.new_folder()
        os.chmod(folder, 0o1777)
        write(f"{folder}/f", b"")
        assert as_user(NOBODY, lambda: errno_of(os.unlink, f"{folder}/f")) in (errno.EPERM, errno.EACCES)


def attributes(claims, vault):
    @claims.claim("extended attributes of 0 to 65536 bytes come back, replace, and are removed")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"")
        wanted = {f"user.{length}": pattern(length, length) for length in (0, 1, 255, 2048, 2049, 20_000, 65_536)}
        wanted |= {"trusted.t": b"t", "user." + "n" * 250: b"longest name", "user.\xe4": b"any bytes"}
        for name, value in wanted.items():
            os.setxattr(f"{folder}/f", name, value)
        assert errno_of(os.setxattr, f"{folder}/f", "user.0", b"x", os.XATTR_CREATE) == errno.EEXIST
        assert errno_of(os.setxattr, f"{folder}/f", "user.none", b"x", os.XATTR_REPLACE) == errno.ENODATA
        os.setxattr(f"{folder}/f", "user.1", b"replaced", os.XATTR_REPLACE)
        os.removexattr(f"{folder}/f", "user.255")
        wanted["user.1"] = b"replaced"
        del wanted["user.255"]
        vault.again()
        assert {name: os.getxattr(f"{folder}/f", name) for name in os.listxattr(f"{folder}/f")} == wanted
        assert errno_of(os.getxattr, f"{folder}/f", "user.255") == errno.ENODATA

    @claims.claim("an ACL that is not there is removed as on the local disk, another extended attribute is not")
    def _():
        def make(folder):
            write(f"{folder}/f", b"")
            os.mkdir(f"{folder}/d")
            tries = [("f", "system.posix_acl_access"), ("d", "system.posix_acl_access"), ("d", "system.posix_acl_default"), ("f", "user.none"),
                     ("f", "trusted.none"), ("f", "security.capability")]
            removed = [errno_of(os.removexattr, f"{folder}/{path}", name) for path, name in tries]
            empty = struct.pack("<I", 2)
            emptied = [errno_of(os.setxattr, f"{folder}/{path}", name, empty) for path, name in tries[:3]]
            os.removexattr(f"{folder}/d", "system.posix_acl_default")
            shell("setfacl -k d && setfacl -b d f && getfacl -R --absolute-names . >acl && setfacl --restore=acl", folder)
            return removed, emptied
        vault.both(make)

    @claims.claim("as many extended attributes are taken as can be listed, and no more")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"")
        names = [f"user.{number:0200}" for number in range(400)]
        refused = [name for name in names if errno_of(os.setxattr, f"{folder}/f", name, b"") == errno.ENOSPC]
        assert len(refused) == len(names) - 65_536 // 206, f"{len(refused)} of {len(names)} were refused"
        assert sorted(os.listxattr(f"{folder}/f")) == names[:len(names) - len(refused)]
        os.setxattr(f"{folder}/f", names[0], b"another value")
        os.removexattr(f"{folder}/f", names[1])
        os.setxattr(f"{folder}/f", names[-1], b"in its place")
        vault.again()
        assert len(os.listxattr(f"{folder}/f")) == len(names) - len(refused)

    @claims.claim("who may set which extended attribute is as on the local disk")
    def _():
        def make(folder):
            write(f"{folder}/f", b"", 0o644)
            os.symlink("f", f"{folder}/l")
            os.mkdir(f"{folder}/d", 0o755)
            tries = [("f", "user.a"), ("f", "trusted.a"), ("f", "security.capability"), ("d", "user.a"), ("l", "user.a"), ("l", "trusted.a")]
            root = [errno_of(os.setxattr, f"{folder}/{path}", name, CAPABILITY, 0) if path != "l" else
                    errno_of(lambda: os.setxattr(f"{folder}/l", name, b"x", follow_symlinks=False)) for path, name in tries]
            user = as_user(NOBODY, lambda: [errno_of(os.setxattr, f"{folder}/{path}", name, b"x") for path, name in tries])
            return root, user, as_user(NOBODY, lambda: sorted(os.listxattr(f"{folder}/f")))
        vault.both(make)

    @claims.claim("statfs tells the space of the disk below, and names of at most 255 bytes")
    def _():
        here, below = os.statvfs(vault.mount), os.statvfs(vault.folder)
        assert here.f_namemax == 255
        free = lambda status: status.f_bavail * status.f_frsize
        assert free(here) <= free(below) + (1 << 20), "no more than the disk has"
        assert free(here) > free(below) // 2, "and not much less"

    @claims.claim("inode numbers stay the same over mounts, and the root is 1")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"")
        fsync(folder)
        number = os.stat(f"{folder}/f").st_ino
        vault.again()
        assert os.stat(f"{folder}/f").st_ino == number and os.stat(vault.mount).st_ino == 1
