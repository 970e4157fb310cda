"""Contents: holes, allocation, mmap, clones, open files without a name, locks."""

import errno
import fcntl
import mmap
import os
import struct
import subprocess
import tempfile

from harness import PROJECT, errno_of, pattern, read, shell, system_call, write

KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16


def fallocate(descriptor, mode, offset, length):
    from ctypes import c_int, c_long
    system_call("fallocate", c_int(descriptor), c_int(mode), c_long(offset), c_long(length))


def regions(path):
    """The data regions of a file, as SEEK_DATA and SEEK_HOLE tell them."""
    found, offset = [], 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        while True:
            try:
                start = os.lseek(descriptor, offset, os.SEEK_DATA)
            except OSError as error:
                assert error.errno == errno.ENXIO
                return found
            offset = os.lseek(descriptor, start, os.SEEK_HOLE)
            found.append((start, offset))
    finally:
        os.close(descriptor)


def check(claims, vault):
    holes(claims, vault)
    reserves(claims, vault)
    contents(claims, vault)
    locks(claims, vault)


def holes(claims, vault):
    @claims.claim("cp --sparse keeps holes, SEEK_HOLE and SEEK_DATA find them, and they take no space")
    def _():
        source, folder = f"{vault.local}/sparse", vault.new_folder()
        block = pattern("block", 65_536)
        with open(source, "wb") as file:
            for offset in (0, 10 << 20, 63 << 20):
                file.seek(offset)
                file.write(block)
            file.truncate(64 << 20)
        shell(f"cp --sparse=always {source} f", folder)
        vault.again()
        wanted = [(0, 65_536), (10 << 20, (10 << 20) + 65_536), (63 << 20, (63 << 20) + 65_536)]
        assert regions(f"{folder}/f") == wanted, regions(f"{folder}/f")
        assert os.stat(f"{folder}/f").st_blocks * 512 <= 4 * 65_536
        shell(f"cmp {source} f && cp --sparse=auto f {vault.local}/back && cmp {source} {vault.local}/back", folder)
        assert os.stat(f"{vault.local}/back").st_blocks * 512 <= 8 * 65_536

    @claims.claim("a file of 1 TiB with a byte at its end costs next to nothing")
    def _():
        before = sum(size for size, _, _ in vault.files().values())
        path = f"{vault.new_folder()}/huge"
        with open(path, "wb") as file:
            file.seek((1 << 40) - 1)
            file.write(b"x")
        vault.again()
        assert os.stat(path).st_size == 1 << 40 and len(regions(path)) == 1
        with open(path, "rb") as file:
            file.seek((1 << 40) - 4)
            assert file.read() == b"\0\0\0x"
        os.truncate(path, (1 << 63) - 1)
        assert os.stat(path).st_size == (1 << 63) - 1
        os.unlink(path)
        assert sum(size for size, _, _ in vault.files().values()) - before < 1 << 20

    @claims.claim("fallocate reserves, keeps the size, punches and zeroes")
    def _():
        folder = vault.new_folder()
        content = pattern("fallocate", 300_000)
        write(f"{folder}/f", content)
        descriptor = os.open(f"{folder}/f", os.O_RDWR)
        fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, 1000, 200_000)
        fallocate(descriptor, ZERO_RANGE, 250_000, 100_000)
        fallocate(descriptor, KEEP_SIZE, 400_000, 1000)
        assert os.fstat(descriptor).st_size == 350_000
        fallocate(descriptor, 0, 360_000, 10_000)
        os.close(descriptor)
        vault.again()
        wanted = content[:1000] + bytes(200_000) + content[201_000:250_000] + bytes(120_000)
        assert read(f"{folder}/f") == wanted
        in_hole = [(start, end) for start, end in regions(f"{folder}/f") if start < 196_608 and end > 65_536]
        assert in_hole == [], f"the blocks that were punched whole hold data: {in_hole}"


def reserves(claims, vault):
    blocks = lambda path: os.stat(path).st_blocks

    @claims.claim("blocks reserved by fallocate count, writing to them changes nothing, and they are there after a new mount")
    def _():
        path = f"{vault.new_folder()}/f"
        block = os.statvfs(vault.mount).f_bsize * 16
        write(path, b"")
        descriptor = os.open(path, os.O_RDWR)
        fallocate(descriptor, 0, block - 1, 2)
        reserved = blocks(path)
        assert reserved > 0
        os.pwrite(descriptor, b"xx", block - 1)
        assert blocks(path) == reserved
        os.close(descriptor)
        vault.again()
        assert blocks(path) == reserved and os.stat(path).st_size == block + 1

    @claims.claim("a large reserve counts and costs nothing; a hole punched into it and a truncation take theirs off")
    def _():
        path, part = f"{vault.new_folder()}/f", 1 << 28
        before = sum(size for size, _, _ in vault.files().values())
        write(path, b"")
        descriptor = os.open(path, os.O_RDWR)
        fallocate(descriptor, 0, 0, 5 * part)
        assert blocks(path) * 512 == 5 * part
        fallocate(descriptor, KEEP_SIZE, 4 * part, 2 * part)
        assert blocks(path) * 512 == 6 * part and os.stat(path).st_size == 5 * part
        fallocate(descriptor, PUNCH_HOLE | KEEP_SIZE, part, part)
        assert blocks(path) * 512 == 5 * part
        os.pwrite(descriptor, b"x" * 100_000, 3 * part)
        vault.sync()
        assert blocks(path) * 512 == 5 * part
        os.ftruncate(descriptor, 4 * part)
        assert blocks(path) * 512 == 3 * part
        os.close(descriptor)
        vault.again()
        assert blocks(path) * 512 == 3 * part and os.stat(path).st_size == 4 * part
        os.truncate(path, 0)
        assert blocks(path) == 0
        assert sum(size for size, _, _ in vault.files().values()) - before < 1 << 20


def contents(claims, vault):
    @claims.claim("a file that was unlinked while open is read and written until it is closed")
    def _():
        folder = vault.new_folder()
        content = pattern("unlinked", 500_000)
        write(f"{folder}/f", content)
        vault.sync()
        descriptor = os.open(f"{folder}/f", os.O_RDWR)
        os.unlink(f"{folder}/f")
        vault.sync()
        os.pwrite(descriptor, b"changed", 100_000)
        os.fsync(descriptor)
        vault.sync()
        assert os.fstat(descriptor).st_nlink == 0
        assert os.pread(descriptor, 500_000, 0) == content[:100_000] + b"changed" + content[100_007:]
        os.close(descriptor)
        assert os.listdir(folder) == []

    @claims.claim("O_TMPFILE is refused with EOPNOTSUPP, on which programs fall back to a named file, and leaves nothing")
    def _():
        folder = vault.new_folder()
        assert errno_of(os.open, folder, os.O_TMPFILE | os.O_RDWR, 0o600) == errno.EOPNOTSUPP
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"content")
            file.seek(0)
            assert file.read() == b"content"
        assert os.listdir(folder) == []

    @claims.claim("a file that was replaced by rename while open keeps its content for who has it open")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", b"old")
        write(f"{folder}/new", b"new")
        with open(f"{folder}/f", "rb") as file:
            os.rename(f"{folder}/new", f"{folder}/f")
            assert file.read() == b"old" and read(f"{folder}/f") == b"new"

    @claims.claim("a shared mmap's writes are seen by read, and after a new mount")
    def _():
        folder = vault.new_folder()
        write(f"{folder}/f", bytes(300_000))
        with open(f"{folder}/f", "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
            view[70_000:70_006] = b"mapped"
            view.flush()
            assert os.pread(file.fileno(), 6, 70_000) == b"mapped"
            view[299_990:299_996] = b"at end"
        vault.again()
        content = read(f"{folder}/f")
        assert content[70_000:70_006] == b"mapped" and content[299_990:299_996] == b"at end"

    @claims.claim("after an asynchronous direct write, buffered reads see what it wrote while others read the file")
    def _():
        path, program = f"{vault.new_folder()}/f", f"{vault.local}/async_direct"
        shell(f"gcc -O1 -o {program} {PROJECT}/tests/posix/async_direct.c", vault.local)
        write(path, bytes(655_360))
        readers = [subprocess.Popen(["bash", "-c", f"while :; do cat {path}; done >/dev/null"]) for _ in range(2)]
        try:
            return shell(f"{program} {path} 4", vault.local).strip()
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()

    @claims.claim("copy_file_range clones: a copy of 64 MiB uploads no content again")
    def _():
        folder = vault.new_folder()
        content = pattern("clone", 64 << 20)
        write(f"{folder}/a", content)
        vault.sync()
        before = sum(size for size, _, _ in vault.files().values())
        shell("cp a b && cp --reflink=auto a c", folder)
        vault.sync()
        grown = sum(size for size, _, _ in vault.files().values()) - before
        assert grown < 2 << 20, f"{grown} bytes"
        with open(f"{folder}/b", "r+b") as file:
            file.seek(1 << 20)
            file.write(b"only in b")
        vault.again()
        assert read(f"{folder}/a") == content == read(f"{folder}/c")
        assert read(f"{folder}/b") == content[:1 << 20] + b"only in b" + content[(1 << 20) + 9:]
        return f"{grown} bytes for two copies"

    @claims.claim("two processes that append to one file lose nothing")
    def _():
        folder = vault.new_folder()
        shell("for who in a b c; do (for i in $(seq 500); do echo $who$i >>f; done) & done; wait", folder)
        lines = read(f"{folder}/f").decode().split()
        assert sorted(lines) == sorted(f"{who}{number}" for who in "abc" for number in range(1, 501))

    @claims.claim("files of every size around the block size come back")
    def _():
        folder = vault.new_folder()
        sizes = (0, 1, 15, 16, 17, 2047, 2048, 2049, 4096, 65_535, 65_536, 65_537, 131_072, 200_003, 5_000_000)
        for size in sizes:
            write(f"{folder}/{size}", pattern(size, size))
        vault.again()
        for size in sizes:
            assert read(f"{folder}/{size}") == pattern(size, size), size

    @claims.claim("no ciphertext file ever changes after it first appears")
    def _():
        folder = vault.new_folder()
        seen = {}
        for round_number in range(6):
            for number in range(20):
                write(f"{folder}/{number}", pattern(f"{round_number} {number}", 50_000))
            with open(f"{folder}/log", "ab") as file:
                file.write(pattern(round_number, 10_000))
            vault.sync()
            for name, what in vault.files().items():
                assert seen.setdefault(name, what) == what, f"{name} was {seen[name]} and is {what}"
        return f"{len(seen)} files"

    @claims.claim("nothing in the ciphertext shows where one block ends and the next begins")
    def _():
        folder = vault.new_folder()
        for number in range(200):
            write(f"{folder}/{number}", pattern(number, 3000 + 7 * number))
        vault.sync()
        zeros = 0
        for name in vault.files():
            if name.endswith((".data", ".meta")):
                zeros += read(f"{vault.folder}/{name}")[128:].count(bytes(6))  # the header's 128 bytes are in the clear
        assert zeros == 0, f"{zeros} runs of six zero bytes"


def locks(claims, vault):
    def in_another_process(action):
        child = os.fork()
        if child == 0:
            os._exit(errno_of(action) & 0xff)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    @claims.claim("flock: one holder at a time, many readers, freed at close")
    def _():
        path = f"{vault.new_folder()}/f"
        write(path, b"")

        def attempt(kind):
            descriptor = os.open(path, os.O_RDWR)
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        holder = os.open(path, os.O_RDWR)
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert in_another_process(lambda: attempt(fcntl.LOCK_SH)) == errno.EWOULDBLOCK
        fcntl.flock(holder, fcntl.LOCK_SH)
        assert in_another_process(lambda: attempt(fcntl.LOCK_SH)) == 0
        assert in_another_process(lambda: attempt(fcntl.LOCK_EX)) == errno.EWOULDBLOCK
        os.close(holder)
        assert in_another_process(lambda: attempt(fcntl.LOCK_EX)) == 0

    @claims.claim("fcntl locks: ranges exclude each other where they overlap, and F_GETLK names the holder")
    def _():
        path = f"{vault.new_folder()}/f"
        write(path, bytes(100))
        holder = os.open(path, os.O_RDWR)
        fcntl.lockf(holder, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 20)

        def attempt(length, start):
            fcntl.lockf(os.open(path, os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB, length, start)
        assert in_another_process(lambda: attempt(20, 0)) == 0
        assert in_another_process(lambda: attempt(21, 0)) in (errno.EAGAIN, errno.EACCES)
        assert in_another_process(lambda: attempt(10, 30)) == 0

        def ask():
            wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = fcntl.fcntl(os.open(path, os.O_RDWR), fcntl.F_GETLK, wanted)
            kind, _, start, length, pid = struct.unpack("hhqqi4x", answer)
            if (kind, start, length, pid) != (fcntl.F_WRLCK, 20, 10, os.getppid()):
                raise OSError(errno.EIO, "another answer")
        assert in_another_process(ask) == 0
        os.close(holder)
        assert in_another_process(lambda: attempt(100, 0)) == 0
