#!/bin/bash
# Installs what is missing and runs all tests: style, lints, cargo test, and on a real mount POSIX (pjdfstest, fsx, our own
# claims) and crashes. Usage: scripts/test.sh [PART...]
#
# Parts: style, cargo, posix, behaviours, crash, vm; without any, all of them. The mount tests run as root where FUSE works:
# not being able to run one is a failure, unless PASSKEYFS_SKIP_MOUNT=1 asks to leave them out. Long runs, as before a
# release: PASSKEYFS_FSX_OPERATIONS=100000 PASSKEYFS_FSX_SEEDS=10 PASSKEYFS_CRASH_ROUNDS=50. The part vm boots a guest under
# QEMU, with virtual security keys (tests/vm/README.md); it needs root, too, and PASSKEYFS_SKIP_VM=1 leaves it out.
# Exit code: 0 if all passed.
set -euo pipefail
. "$(dirname "$0")/_lib.sh"

PJDFSTEST_VERSION=0.2.2
FSX_VERSION=0.3.2
PARTS=(style cargo posix behaviours crash vm)

case ${1:-} in
  -h | --help) sed -n '2,10s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
for part in "$@"; do
  [[ " ${PARTS[*]} " == *" $part "* ]] || { printf 'test.sh: no part %s; there are: %s\n' "$part" "${PARTS[*]}" >&2; exit 2; }
done
[ $# -eq 0 ] || PARTS=("$@")
wants() { [[ " ${PARTS[*]} " == *" $1 "* ]]; }

cd "$ROOT"
export CARGO_TERM_COLOR=${CARGO_TERM_COLOR:-auto}
unset PASSKEYFS_AUTHENTICATOR PASSKEYFS_ASKPASS
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
case $TARGET in /*) ;; *) TARGET=$ROOT/$TARGET ;; esac

install_build_tools
FAILED=()
SECONDS=0

# check NAME COMMAND...: runs it, says how it went and how long it took, and goes on after a failure.
check() {
  local name=$1 start=$SECONDS
  shift
  step "$name"
  if "$@"; then
    say "-- $name: ok ($((SECONDS - start)) s)"
  else
    FAILED+=("$name")
    say "-- $name: FAILED ($((SECONDS - start)) s)"
  fi
}

# tool NAME VERSION: a test program from its crate, built once and kept in target/tools.
tool() {
  local folder=$TARGET/tools/$1-$2
  [ -x "$folder/bin/$1" ] ||
    CARGO_TARGET_DIR=$TARGET/tools/build cargo install --quiet --locked --root "$folder" --version "$2" "$1"
}

if wants style; then
  if cargo fmt --version >/dev/null 2>&1; then check "style (cargo fmt)" cargo fmt --check -- --color "$CARGO_TERM_COLOR"; else say "no rustfmt here: style is not checked"; fi
  if cargo clippy --version >/dev/null 2>&1; then
    check "lints (cargo clippy)" cargo clippy --quiet --locked --all-targets -- -D warnings
  else
    say "no clippy here: lints are not checked"
  fi
fi
if wants cargo; then
  # Without these some tests of the service say that they are left out.
  install_missing dbus-daemon=dbus-daemon setsid=util-linux gcore=gdb
  # A test that hangs is a failure of its own, not of the whole run.
  check "tests without a mount (cargo test)" timeout 30m cargo test --locked --quiet
fi

install_and_uninstall() {
  local folder left
  folder=$(mktemp -d)
  DESTDIR=$folder scripts/install.sh >/dev/null && "$folder/usr/local/bin/passkeyfs" --version >/dev/null &&
    [ -n "$(find "$folder" -type l -name mount.passkeyfs -path '*sbin*')" ] &&
    [ -e "$folder/usr/local/share/doc/passkeyfs/service.md" ] && [ -e "$folder/etc/fish/completions/passkeyfs.fish" ] &&
    grep -q 'file:///usr/local/share/doc/passkeyfs/service.md' "$folder/usr/local/lib/systemd/user/passkeyfs@.service" &&
    DESTDIR=$folder scripts/install.sh --uninstall >/dev/null || return 1
  # Folders that a system is made with stay, those that came with it do not.
  left=$(find "$folder" -not -type d -o -type d \( -name 'passkeyfs*' -o -name 'completions' -o -name fish -o -name user -o -name 'man?' \))
  rm -rf "$folder"
  [ -z "$left" ] || { say "left behind: $left"; return 1; }
}

mount_tests() {
  install_missing fusermount3=fuse3 python3=python3 setfacl=acl getfattr=attr rsync=rsync git=git make=make useradd=passwd \
    mount=mount tar=tar flock=util-linux
  build_release
  export PASSKEYFS
  check "install and uninstall" install_and_uninstall
  if wants posix; then
    check "the tool pjdfstest" tool pjdfstest "$PJDFSTEST_VERSION"
    check "the tool fsx" tool fsx "$FSX_VERSION"
    check "POSIX (pjdfstest)" as_root env PASSKEYFS="$PASSKEYFS" timeout 15m python3 tests/posix/pjdfstest.py "$TARGET/tools/pjdfstest-$PJDFSTEST_VERSION/bin/pjdfstest"
    check "data (fsx)" timeout 15m python3 tests/posix/fsx.py "$TARGET/tools/fsx-$FSX_VERSION/bin/fsx"
  fi
  if wants behaviours; then check "behaviours" timeout 15m python3 tests/posix/behaviours.py; fi
  if wants crash; then check "crashes" timeout 15m python3 tests/posix/crash.py; fi
}

if wants posix || wants behaviours || wants crash; then
  reason=$(why_no_fuse)
  if [ "${PASSKEYFS_SKIP_MOUNT:-}" = 1 ]; then
    say "the tests on a real mount are left out: PASSKEYFS_SKIP_MOUNT=1"
  elif [ -n "$reason" ]; then
    step "the tests on a real mount cannot run"
    say "$reason" "To leave them out: PASSKEYFS_SKIP_MOUNT=1"
    FAILED+=("the tests on a real mount")
  elif [ "$(id -u)" -ne 0 ]; then
    step "the tests on a real mount need root"
    say "Run: sudo -E scripts/test.sh posix behaviours crash" "To leave them out: PASSKEYFS_SKIP_MOUNT=1"
    FAILED+=("the tests on a real mount")
  else
    mount_tests
  fi
fi

if wants vm; then
  if [ "${PASSKEYFS_SKIP_VM:-}" = 1 ]; then
    say "the hardware test is left out: PASSKEYFS_SKIP_VM=1"
  elif [ "$(id -u)" -ne 0 ]; then
    step "the hardware test needs root"
    say "Run: sudo -E scripts/test.sh vm" "To leave it out: PASSKEYFS_SKIP_VM=1"
    FAILED+=("the hardware test")
  else
    check "installed product and virtual security keys (QEMU)" tests/vm/run.sh
  fi
fi

if [ ${#FAILED[@]} -eq 0 ]; then
  step "all passed, in $SECONDS s"
else
  step "${#FAILED[@]} failed, in $SECONDS s: $(printf '%s; ' "${FAILED[@]}")"
  exit 1
fi
