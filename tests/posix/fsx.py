#!/usr/bin/env python3
"""Data, byte for byte: the crate `fsx` on a mounted vault, with every operation on. Usage: fsx.py FSX_BINARY

fsx does random operations on one file and compares every read with what it must be. PASSKEYFS_FSX_OPERATIONS (default
10000) for each of PASSKEYFS_FSX_SEEDS seeds (default 2). The mount is thrown away and mounted again between seeds.
"""

import os
import subprocess
import sys

import harness

OPERATIONS = int(os.environ.get("PASSKEYFS_FSX_OPERATIONS", "10000"))
SEEDS = int(os.environ.get("PASSKEYFS_FSX_SEEDS", "2"))

WEIGHTS = {
    "close_open": 1, "read": 10, "write": 10, "mapread": 10, "mapwrite": 10, "invalidate": 1, "truncate": 5, "fsync": 1,
    "fdatasync": 1, "posix_fallocate": 5, "punch_hole": 5, "sendfile": 5, "posix_fadvise": 5, "copy_file_range": 5,
}
SHAPES = {  # name: (longest file, longest operation, share of the operations)
    "a file of 256 KiB": (262_144, 65_536, 1),
    "a file of 8 MiB, operations of up to 1 MiB": (8 << 20, 1 << 20, 50),
}


def main():
    program = os.path.abspath(sys.argv[1])
    claims = harness.Claims()
    with harness.Vault("fsx") as vault:
        for shape, (file_bytes, operation_bytes, share) in SHAPES.items():
            for seed in range(1, SEEDS + 1):
                run(claims, vault, program, shape, file_bytes, operation_bytes, max(1, OPERATIONS // share), seed)
    claims.finish()


def run(claims, vault, program, shape, file_bytes, operation_bytes, operations, seed):
    configuration = os.path.join(vault.base, "fsx.toml")
    weights = "".join(f"{name} = {weight}\n" for name, weight in WEIGHTS.items())
    harness.write(configuration, f"flen = {file_bytes}\n[opsize]\nmax = {operation_bytes}\nmin = 0\nalign = 1\n[weights]\n{weights}".encode())
    target = os.path.join(vault.mount, f"fsx-{file_bytes}-{seed}")

    @claims.claim(f"fsx: {operations} operations, seed {seed}, {shape}")
    def _():
        done = subprocess.run([program, "-f", configuration, "-N", str(operations), "-S", str(seed), "-P", vault.base, target],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=3600)
        assert "A-OK" in done.stdout + done.stderr, f"exit {done.returncode}\n{(done.stdout + done.stderr)[-1200:]}"
        before = harness.read(target)
        vault.again()
        assert harness.read(target) == before, "after mounting again the file is another"
        os.unlink(target)


if __name__ == "__main__":
    main()
