"""Programs that people run on their files: git, compilers, SQLite, rsync."""

import os
import shutil
import sqlite3
import subprocess

from harness import PROJECT, pattern, read, shell, write

GIT = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b", "GIT_CONFIG_GLOBAL": "/dev/null"}


def check(claims, vault):
    programs(claims, vault)
    overlays(claims, vault)
    databases(claims, vault)
    synchronising(claims, vault)


def programs(claims, vault):
    @claims.claim("git: init, commit, clone, gc and fsck --strict find all in order, after a new mount too")
    def _():
        folder = vault.new_folder()
        shell(f"""git init -q first && cp -a {PROJECT}/src {PROJECT}/docs {PROJECT}/Cargo.* first/ && cd first
            git add -A && git commit -q -m one && for i in $(seq 30); do echo $i >>log; git add log; git commit -q -m $i; done
            cd .. && git clone -q --no-hardlinks first second && cd second && git fsck --full --strict && git gc -q""", folder, **GIT)
        vault.again()
        shell("cd second && git fsck --full --strict && test -z \"$(git status --porcelain)\" && cd ../first && git fsck --full --strict",
              folder, **GIT)

    @claims.claim("a build inside the mount runs, and is not repeated when nothing changed")
    def _():
        folder = vault.new_folder()
        for number in range(20):
            write(f"{folder}/part{number}.c", f"int part{number}(void) {{ return {number}; }}\n".encode())
        calls = " + ".join(f"part{number}()" for number in range(20))
        declarations = "".join(f"int part{number}(void);" for number in range(20))
        write(f"{folder}/main.c", f"{declarations} int main(void) {{ return {calls} == 190 ? 0 : 1; }}\n".encode())
        write(f"{folder}/Makefile", b"program: $(patsubst %.c,%.o,$(wildcard *.c))\n\tgcc -o $@ $^\n%.o: %.c\n\tgcc -c -o $@ $<\n")
        shell("make -j2 && ./program", folder)
        vault.again()
        assert "up to date" in shell("./program && make", folder)

    if shutil.which("cargo"):
        @claims.claim("cargo builds, tests and rebuilds a crate inside the mount")
        def _():
            folder = vault.new_folder()
            shell("cargo new --quiet --vcs none --lib small && cd small && cargo test --quiet --offline && cargo build --quiet --offline", folder,
                  CARGO_TARGET_DIR=f"{folder}/target")
            assert os.path.exists(f"{folder}/target/debug/libsmall.rlib")


def overlays(claims, vault):
    @claims.claim("overlayfs works with its upper folder in the mount: copying up, whiteouts, renames, opaque folders")
    def _():
        folder, lower, merged = vault.new_folder(), f"{vault.local}/lower", f"{vault.local}/merged"
        shell(f"mkdir -p {lower}/d {merged} && echo low >{lower}/a && echo low >{lower}/b && echo x >{lower}/d/x && mkdir upper work", folder)
        over = f"mount -t overlay overlay -o lowerdir={lower},upperdir={folder}/upper,workdir={folder}/work {merged}"
        shell(over, folder)
        try:
            shell("echo up >>a && rm b && mv a c && rm -r d && mkdir d && test -z \"$(ls d)\" && test \"$(ls | tr '\\n' ' ')\" = 'c d '", merged)
        finally:
            shell(f"umount {merged}", folder)
        vault.again()
        shell(over, folder)
        try:
            shell("test \"$(cat c)\" = \"$(printf 'low\\nup')\" && test -z \"$(ls d)\" && test \"$(ls | tr '\\n' ' ')\" = 'c d '", merged)
        finally:
            shell(f"umount {merged}", folder)


def databases(claims, vault):
    for mode in ("WAL", "DELETE", "TRUNCATE"):
        @claims.claim(f"SQLite, journal mode {mode}: two processes write, nothing is lost, and the database is whole")
        def _(mode=mode):
            path = f"{vault.new_folder()}/database"
            with sqlite3.connect(path) as database:
                assert database.execute(f"pragma journal_mode={mode}").fetchone()[0].upper() == mode
                database.execute("create table lines (who text, number integer, filler blob)")
            database.close()
            program = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], timeout=60, isolation_level=None)
for number in range(60):
    database.execute("begin immediate")
    database.execute("insert into lines values (?, ?, randomblob(3000))", (sys.argv[2], number))
    database.execute("commit")
"""
            writers = [subprocess.Popen(["python3", "-c", program, path, who]) for who in ("a", "b")]
            assert [writer.wait(120) for writer in writers] == [0, 0]
            vault.again()
            database = sqlite3.connect(path)
            assert database.execute("pragma integrity_check").fetchone()[0] == "ok"
            assert database.execute("select who, count(*), sum(number) from lines group by who order by who").fetchall() == \
                [("a", 60, 1770), ("b", 60, 1770)]
            database.close()


def synchronising(claims, vault):
    @claims.claim("rsync -aHAX into the mount: the second time there is nothing to do, after a new mount too")
    def _():
        source = f"{vault.local}/rsync"
        os.makedirs(f"{source}/deep/er")
        for number in range(300):
            write(f"{source}/deep/{number}", pattern(number, number * 37), 0o600 + number % 0o177)
            os.utime(f"{source}/deep/{number}", ns=(number, 1_234_567_890_000_000_000 + number))
        shell(f"""ln deep/7 deep/er/hard && ln deep/7 hard && ln -s ../7 deep/er/soft && ln -s nowhere dangling && mkfifo fifo
            setfacl -m u:nobody:rw,g:1:r deep/5 && setfacl -d -m u:nobody:rx deep/er && setfattr -n user.note -v hello deep/6
            setfattr -n trusted.note -v root deep/er && chown -h 1234:4321 deep/8 dangling && chmod 4755 deep/9
            truncate -s 5M sparse && cp -a {PROJECT}/src . && touch -d '1960-01-01 UTC' deep/er""", source)
        folder = vault.new_folder()
        command = f"rsync -aHAX --numeric-ids --itemize-changes {source}/ ."
        shell(command, folder)
        assert shell(command, folder) == ""
        vault.again()
        assert shell(command, folder) == ""
        assert shell(f"rsync -aHAXc --numeric-ids --itemize-changes --delete {source}/ .", folder) == "", "contents too"

    @claims.claim("cp -a out of the mount gives back what cp -a put in")
    def _():
        folder = vault.new_folder()
        shell(f"cp -a {vault.local}/rsync in && cp -a in {vault.local}/out", folder)
        assert shell(f"rsync -aHAXc --numeric-ids --itemize-changes --delete {vault.local}/rsync/ {vault.local}/out/", folder) == ""

    @claims.claim("tar out of the mount and in again keeps every byte")
    def _():
        folder = vault.new_folder()
        shell(f"tar -C {PROJECT} -cf a.tar src && mkdir x && tar -C x -xf a.tar && diff -r {PROJECT}/src x/src && rm -r x/src && rmdir x", folder)
        assert os.listdir(folder) == ["a.tar"]
        assert read(f"{folder}/a.tar")[257:262] == b"ustar"
