#!/bin/bash
# Shows the main job on real files: a vault is made, unlocked, mounted, filled, looked at from the cloud's side, mounted
# again, and compared with what went in. Usage: scripts/try.sh [FOLDER]
#
# Installs what is missing and builds first. All is done in a temporary folder that is removed at the end, also after a
# failure; FOLDER is only read. Without FOLDER it takes this project's own files and /usr/include. The vault is unlocked by
# a software authenticator, made for this run: it needs no security key. Exit code: 0 if all came back as it was.
set -euo pipefail
. "$(dirname "$0")/_lib.sh"

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0"; }

case ${1:-} in
  -h | --help) usage; exit 0 ;;
  -*) usage >&2; exit 2 ;;
esac
if [ $# -gt 1 ]; then usage >&2; exit 2; fi
FOLDER=${1:-}
if [ -n "$FOLDER" ]; then
  [ -d "$FOLDER" ] && [ -r "$FOLDER" ] || fail "'$FOLDER' is not a folder that can be read" "Name a folder of yours."
  FOLDER=$(cd "$FOLDER" && pwd)
  [ "$FOLDER" != / ] || fail "the whole machine is too much for a try" "Name a folder of yours."
fi

install_missing fusermount3=fuse3 getfattr=attr diff=diffutils find=findutils
reason=$(why_no_fuse)
[ -z "$reason" ] || fail "a filesystem cannot be mounted here" "$reason"
install_build_tools

unset PASSKEYFS_AUTHENTICATOR PASSKEYFS_ASKPASS
WORK=$(mktemp -d "${TMPDIR:-/tmp}/passkeyfs-try.XXXXXX")
VAULT=$WORK/vault MOUNT=$WORK/mount KEY=$WORK/software.key
export XDG_STATE_HOME=$WORK/state
mkdir "$MOUNT"

leave() {
  local code=$?
  trap - EXIT INT TERM
  if grep -qF " $MOUNT " /proc/mounts; then
    "$PASSKEYFS" umount "$MOUNT" >/dev/null 2>&1 || fusermount3 -u -z "$MOUNT" 2>/dev/null || umount -l "$MOUNT" || true
  fi
  rm -rf --one-file-system "$WORK"
  exit $code
}
trap leave EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# timed WHAT COMMAND...: runs it, then prints how long it took.
timed() {
  local what=$1 start end
  shift
  start=$(date +%s%N)
  "$@"
  end=$(date +%s%N)
  printf '   %s: %d.%02d s\n' "$what" $(((end - start) / 1000000000)) $(((end - start) / 10000000 % 100))
}

human() { numfmt --to=iec --suffix=B "$1"; }

# What goes in: places to copy from, and their names in the vault.
SOURCES=() NAMES=()
if [ -n "$FOLDER" ]; then
  SOURCES=("$FOLDER") NAMES=("$(basename "$FOLDER")")
  what="$FOLDER"
else
  what="the files of this project"
  for entry in "$ROOT"/* "$ROOT"/.ci; do
    case $entry in */target) ;; *) SOURCES+=("$entry") NAMES+=("passkeyfs/$(basename "$entry")") ;; esac
  done
  for folder in /usr/include /usr/share/doc; do
    if [ -d "$folder" ]; then SOURCES+=("$folder") NAMES+=("$(basename "$folder")") what+=", and $folder"; break; fi
  done
fi

copy_in() {
  local i
  for i in "${!SOURCES[@]}"; do
    mkdir -p "$(dirname "$MOUNT/${NAMES[$i]}")"
    cp -a "${SOURCES[$i]}" "$MOUNT/${NAMES[$i]}" || fail "cp -a '${SOURCES[$i]}' failed" "Name a folder that this user can read."
  done
}

differs() { # differs WHAT SOURCE: the differences are in $WORK/difference
  head -n 10 "$WORK/difference" >&2
  fail "$1 of $2 differ" "If something wrote there meanwhile, try again with a folder at rest; else this is a bug."
}

compare_contents() {
  local i
  for i in "${!SOURCES[@]}"; do
    # diff has no word but "is a fifo while file ... is a fifo" for special files; their types are compared with the metadata.
    diff -r --no-dereference "${SOURCES[$i]}" "$MOUNT/${NAMES[$i]}" 2>&1 |
      sed -E '/ is a (fifo|socket|character special file|block special file) while /d' >"$WORK/difference" || true
    [ ! -s "$WORK/difference" ] || differs contents "${SOURCES[$i]}"
  done
}

# metadata PLACE: a line a file with name, type, mode, owner (if root copied), time to the nanosecond, size, target; then xattrs.
metadata() {
  local owner='' special='s/\t[0-7]([0-7]{3})\t/\t\1\t/' # only root may keep set-id bits of other people's files
  if [ "$(id -u)" -eq 0 ]; then owner='%U:%G' special=''; fi
  find "$1" -type d -printf '%P\t%y\t%m\t'"$owner"'\t%T@\n' -o -printf '%P\t%y\t%m\t'"$owner"'\t%T@\t%s\t%l\n' |
    sed -E "$special" | LC_ALL=C sort
  if [ -d "$1" ]; then
    (cd "$1" && getfattr -R -h -d -m '^user\.' . 2>/dev/null) | awk '/^# file: / {file = $0} NF {print file, $0}' | LC_ALL=C sort
  fi
}

compare_metadata() {
  local i
  for i in "${!SOURCES[@]}"; do
    diff <(metadata "${SOURCES[$i]}") <(metadata "$MOUNT/${NAMES[$i]}") >"$WORK/difference" || differs metadata "${SOURCES[$i]}"
  done
}

# Names of 8 bytes and more, and up to three lines of 24 to 200 bytes from each of the first 3000 text files: too long to occur by chance.
collect_plaintext() {
  find "${SOURCES[@]}" -printf '%f\n' | awk 'length >= 8' | LC_ALL=C sort -u >"$WORK/names"
  { find "${SOURCES[@]}" -type f -size +0 -print0 | head -z -n 3000 |
    LC_ALL=C xargs -0 -r grep -I -h -m 3 -E '^.{24,200}$' 2>/dev/null || true; } | LC_ALL=C sort -u >"$WORK/lines"
}

count_found() { # count_found PATTERNS PLACE...: how many lines of PLACE hold one of PATTERNS
  local patterns=$1
  shift
  if [ -s "$patterns" ]; then { LC_ALL=C grep -r -a -h -F -f "$patterns" "$@" 2>/dev/null || true; } | wc -l; else echo 0; fi
}

# What cannot be read cannot be compared: it is said before the build, which takes minutes.
unreadable=$({ find "${SOURCES[@]}" \( -type d ! -executable -o \( -type d -o -type f \) ! -readable \) -print -prune 2>/dev/null || true; } | head -n 1)
[ -z "$unreadable" ] || fail "'$unreadable' cannot be read by $(id -un)" \
  "Name a folder that this user can read all of, or run this as root."

step "1. Build"
timed "built" build_release
say "   $("$PASSKEYFS" --version)"

step "2. Make a vault: a folder that a sync client would carry to the cloud"
say "   \$ passkeyfs init VAULT --authenticator software:FILE --no-recovery"
"$PASSKEYFS" init "$VAULT" --authenticator "software:$KEY" --no-recovery | sed 's/^\(.\)/   \1/'

step "3. Unlock it and mount it"
say "   \$ passkeyfs mount VAULT MOUNTPOINT --authenticator software:FILE"
timed "mounted" "$PASSKEYFS" mount "$VAULT" "$MOUNT" --authenticator "software:$KEY"

step "4. Copy files in: $what"
files=$(find "${SOURCES[@]}" | wc -l)
bytes=$(find "${SOURCES[@]}" -type f -printf '%s\n' | awk '{n += $1} END {printf "%d", n}')
say "   $files names, $(human "$bytes") of content"
timed "copied (cp -a)" copy_in
timed "published (passkeyfs sync)" "$PASSKEYFS" sync "$MOUNT"

step "5. What the cloud sees: the names, sizes and number of these files, and no more"
find "$VAULT" -type f -printf '   %10s  %P\n' | sort -k 2 >"$WORK/listing"
head -n 12 "$WORK/listing"
sealed=$(wc -l <"$WORK/listing")
[ "$sealed" -le 12 ] || say "   ... and $((sealed - 12)) more"
sealed_bytes=$(awk '{n += $1} END {printf "%d", n}' "$WORK/listing")
say "   $sealed files, $(human "$sealed_bytes"), for $files names and $(human "$bytes") of plaintext"
collect_plaintext
say "   searched in devices/ for $(wc -l <"$WORK/names") file names and $(wc -l <"$WORK/lines") lines of text that went in:"
in_vault=$(($(count_found "$WORK/names" "$VAULT/devices") + $(count_found "$WORK/lines" "$VAULT/devices")))
in_plain=$(count_found "$WORK/lines" "${SOURCES[@]}")
say "   $in_vault found; the same search finds $in_plain lines in the plaintext"
[ "$in_vault" -eq 0 ] || fail "plaintext was found in the vault"
[ ! -s "$WORK/lines" ] || [ "$in_plain" -gt 0 ] || fail "the search finds nothing even where it must"

step "6. Unmount"
timed "unmounted" "$PASSKEYFS" umount "$MOUNT"
[ -z "$(ls -A "$MOUNT")" ] || fail "the mount point is not empty after umount"
say "   the mount point is empty"

step "7. Mount it again, and compare all with what went in"
timed "mounted" "$PASSKEYFS" mount "$VAULT" "$MOUNT" --authenticator "software:$KEY"
timed "contents are the same (diff -r)" compare_contents
timed "types, modes, times, sizes, symlinks, xattrs$([ "$(id -u)" -ne 0 ] || echo ', owners') are the same" compare_metadata
"$PASSKEYFS" status "$MOUNT" | sed 's/^/   /'
timed "unmounted" "$PASSKEYFS" umount "$MOUNT"

step "All came back as it was. The temporary folder is removed now."
