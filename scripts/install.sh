#!/bin/bash
# Installs passkeyfs: program, mount.passkeyfs for mount(8) and fstab, user service, udev rule, manual, documents, completions.
# Usage: scripts/install.sh [--prefix FOLDER] [--uninstall]          as root, unless DESTDIR is a folder of yours
#
# --prefix: where it goes, /usr/local by default. DESTDIR (environment): put in front of every path, for packagers.
# Some files lie where alone they are found, whatever the prefix: mount.passkeyfs in /sbin; with another prefix than /usr or
# /usr/local the unit in /etc/systemd/user and the rule in /etc/udev/rules.d; with another than /usr fish's completions in
# /etc/fish. --uninstall removes what an installation with the same --prefix and DESTDIR brought, and the folders that are
# empty then. Builds first, with a toolchain from Debian if need be, if there is no target/release/passkeyfs yet.
set -euo pipefail
. "$(dirname "$0")/_lib.sh"

PREFIX=/usr/local UNINSTALL=''
while [ $# -gt 0 ]; do
  case $1 in
    --prefix) [ $# -ge 2 ] || fail "--prefix needs a folder"; PREFIX=$2; shift 2 ;;
    --prefix=*) PREFIX=${1#*=}; shift ;;
    --uninstall) UNINSTALL=1; shift ;;
    -h | --help) sed -n '2,9s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
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
# fish looks below /usr and in /etc/fish, and elsewhere only where XDG_DATA_DIRS is set: not on a console or over ssh.
FISH_COMPLETION=/etc/fish/completions/passkeyfs.fish
if [ "$PREFIX" = /usr ]; then FISH_COMPLETION=/usr/share/fish/vendor_completions.d/passkeyfs.fish; fi
OLD_FISH_COMPLETION=$PREFIX/share/fish/vendor_completions.d/passkeyfs.fish
DOCS=$PREFIX/share/doc/passkeyfs
DOCUMENTS=("$ROOT"/README.md "$ROOT"/CHANGELOG.md "$ROOT"/docs/*.md "$ROOT"/systemd/example.conf)
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

# remove_empty_folders FOLDER: this one and those around it that are empty, but none that a system is made with.
remove_empty_folders() {
  local folder=$1
  while :; do
    case $folder in
      "" | / | /etc | /etc/systemd | /etc/systemd/user | /etc/udev | /etc/udev/rules.d | /sbin) return 0 ;;
      /usr | /usr/local | /usr/sbin | /usr/bin | /usr/lib | /usr/share | /usr/share/man | /usr/share/man/man? | /usr/share/doc) return 0 ;;
      /usr/local/bin | /usr/local/lib | /usr/local/share | /usr/local/share/man | /usr/local/sbin) return 0 ;;
    esac
    # A folder of others is not empty; a link to one is left alone.
    if [ -L "$DESTDIR$folder" ]; then return 0; fi
    if [ -d "$DESTDIR$folder" ]; then rmdir "$DESTDIR$folder" 2>/dev/null || return 0; fi
    folder=${folder%/*}
  done
}

if [ -n "$UNINSTALL" ]; then
  [ -n "$DESTDIR" ] || [ "$(id -u)" -eq 0 ] || needs_root
  if [ -L "$DESTDIR$HELPER" ] && [ "$(readlink "$DESTDIR$HELPER")" = "$BINARY" ]; then rm -f "$DESTDIR$HELPER"; fi
  rm -f "$DESTDIR$BINARY" "$DESTDIR$BASH_COMPLETION" "$DESTDIR$ZSH_COMPLETION" "$DESTDIR$FISH_COMPLETION" "$DESTDIR$UNIT" \
    "$DESTDIR$RULE" "$DESTDIR$OLD_FISH_COMPLETION" \
    "$DESTDIR$MAN"/man1/passkeyfs.1 "$DESTDIR$MAN"/man1/passkeyfs-*.1 "$DESTDIR$MAN"/man8/mount.passkeyfs.8
  for document in "${DOCUMENTS[@]}"; do
    rm -f "$DESTDIR$DOCS/$(basename "$document")"
  done
  for file in "$BINARY" "$BASH_COMPLETION" "$ZSH_COMPLETION" "$FISH_COMPLETION" "$OLD_FISH_COMPLETION" "$UNIT" "$RULE" "$DOCS/x" \
    "$MAN/man1/x" "$MAN/man8/x"; do remove_empty_folders "$(dirname "$file")"; done
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
sed "s|/usr/bin/passkeyfs|$BINARY|g; s|/usr/share/doc/passkeyfs|$DOCS|g" "$ROOT/systemd/passkeyfs@.service" >"$WORK/unit"
put 644 "$WORK/unit" "$UNIT"
# The documents lie beside each other there, and so do the targets of README's links.
mkdir "$WORK/docs"
for document in "${DOCUMENTS[@]}"; do
  sed 's|](docs/|](|g' "$document" >"$WORK/docs/$(basename "$document")"
  put 644 "$WORK/docs/$(basename "$document")" "$DOCS/$(basename "$document")"
done
put 644 "$ROOT/systemd/70-passkeyfs.rules" "$RULE"
if [ -z "$DESTDIR" ] && command -v udevadm >/dev/null; then
  # Keys that are plugged in get the rule at once; where udev does not run there is nothing to tell.
  { udevadm control --reload && udevadm trigger --subsystem-match=hidraw; } 2>/dev/null || true
fi
say "done: $("$PASSKEYFS" --version)"
