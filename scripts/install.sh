#!/bin/bash
# Installs passkeyfs: the program, mount.passkeyfs for mount(8) and fstab, the user service, the udev rule, manual, completions.
# Usage: scripts/install.sh [--prefix FOLDER] [--uninstall]          as root, unless DESTDIR is a folder of yours
#
# --prefix: where it goes, /usr/local by default. DESTDIR (environment): put in front of every path, for packagers.
# The link mount.passkeyfs goes to /sbin whatever the prefix, for mount(8) looks nowhere else. --uninstall removes what an
# installation with the same --prefix and DESTDIR brought. Builds first if there is no target/release/passkeyfs yet.
set -euo pipefail
. "$(dirname "$0")/_lib.sh"

PREFIX=/usr/local UNINSTALL=''
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) [ $# -ge 2 ] || fail "--prefix needs a folder"; PREFIX=$2; shift 2 ;;
    --prefix=*) PREFIX=${1#*=}; shift ;;
    --uninstall) UNINSTALL=1; shift ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done
case $PREFIX in /*) ;; *) fail "the prefix '$PREFIX' is not an absolute path" ;; esac
PREFIX=${PREFIX%/}
DESTDIR=${DESTDIR:-}
# On a merged-/usr system /sbin is a link; in an empty DESTDIR it is not there yet, and must not become a folder beside it.
SBIN=/sbin
if [ -L /sbin ]; then SBIN=/usr/sbin; fi

BINARY=$PREFIX/bin/passkeyfs
HELPER=$SBIN/mount.passkeyfs
MAN=$PREFIX/share/man
BASH_COMPLETION=$PREFIX/share/bash-completion/completions/passkeyfs
ZSH_COMPLETION=$PREFIX/share/zsh/site-functions/_passkeyfs
FISH_COMPLETION=$PREFIX/share/fish/vendor_completions.d/passkeyfs.fish
EXAMPLE=$PREFIX/share/doc/passkeyfs/example.conf
# systemd and udev look below /usr and /usr/local, and in /etc.
case $PREFIX in
  /usr | /usr/local) UNITS=$PREFIX/lib/systemd/user RULES=$PREFIX/lib/udev/rules.d ;;
  *) UNITS=/etc/systemd/user RULES=/etc/udev/rules.d ;;
esac
UNIT=$UNITS/passkeyfs@.service
RULE=$RULES/70-passkeyfs.rules

needs_root() {
  fail "cannot write ${DESTDIR:-/}" "Run it as root (sudo scripts/install.sh), or set DESTDIR."
}

if [ -n "$UNINSTALL" ]; then
  [ -n "$DESTDIR" ] || [ "$(id -u)" -eq 0 ] || needs_root
  if [ -L "$DESTDIR$HELPER" ] && [ "$(readlink "$DESTDIR$HELPER")" = "$BINARY" ]; then rm -f "$DESTDIR$HELPER"; fi
  rm -f "$DESTDIR$BINARY" "$DESTDIR$BASH_COMPLETION" "$DESTDIR$ZSH_COMPLETION" "$DESTDIR$FISH_COMPLETION" "$DESTDIR$UNIT" \
    "$DESTDIR$RULE" "$DESTDIR$EXAMPLE" \
    "$DESTDIR$MAN"/man1/passkeyfs.1 "$DESTDIR$MAN"/man1/passkeyfs-*.1 "$DESTDIR$MAN"/man8/mount.passkeyfs.8
  say "removed passkeyfs from $DESTDIR$PREFIX; vaults and local state (~/.local/state/passkeyfs) are left as they are"
  exit 0
fi

[ -n "$DESTDIR" ] || [ "$(id -u)" -eq 0 ] || needs_root
PASSKEYFS=${CARGO_TARGET_DIR:-$ROOT/target}/release/passkeyfs
if [ ! -x "$PASSKEYFS" ]; then
  install_build_tools
  build_release
fi
[ -n "$DESTDIR" ] || install_missing fusermount3=fuse3

put() { # put MODE SOURCE TARGET
  install -D -m "$1" "$2" "$DESTDIR$3"
  say "  $DESTDIR$3"
}

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT
say "installing:"
put 755 "$PASSKEYFS" "$BINARY"
mkdir -p "$DESTDIR$SBIN"
ln -sf "$BINARY" "$DESTDIR$HELPER"
say "  $DESTDIR$HELPER -> $BINARY"
"$PASSKEYFS" man "$WORK/man"
for page in "$WORK"/man/*; do put 644 "$page" "$MAN/man${page##*.}/$(basename "$page")"; done
for shell in bash zsh fish; do "$PASSKEYFS" completions "$shell" >"$WORK/$shell"; done
put 644 "$WORK/bash" "$BASH_COMPLETION"
put 644 "$WORK/zsh" "$ZSH_COMPLETION"
put 644 "$WORK/fish" "$FISH_COMPLETION"
sed "s|/usr/bin/passkeyfs|$BINARY|g" "$ROOT/systemd/passkeyfs@.service" >"$WORK/unit"
put 644 "$WORK/unit" "$UNIT"
put 644 "$ROOT/systemd/example.conf" "$EXAMPLE"
put 644 "$ROOT/systemd/70-passkeyfs.rules" "$RULE"
if [ -z "$DESTDIR" ] && command -v udevadm >/dev/null; then
  # Keys that are plugged in get the rule at once; where udev does not run there is nothing to tell.
  { udevadm control --reload && udevadm trigger --subsystem-match=hidraw; } 2>/dev/null || true
fi
say "done: $("$PASSKEYFS" --version)"
