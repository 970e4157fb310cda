#!/bin/bash
# The hardware test that needs no hardware: boots a Debian guest under QEMU with virtual security keys, and tries the
# installed product in it, claim by claim. Usage: tests/vm/run.sh [PART OF A CLAIM...]          as root, on Debian 12
#
# Builds what is missing: the release program, the virtual key, the guest's image (kept in target/vm). Two boots of one disk,
# each with a time limit. With parts of claims only those run (and what they need is made by themselves). Environment:
#   PASSKEYFS=FILE              the program to install, instead of building one
#   PASSKEYFS_VM_BOOTS="1"      only the first boot
#   PASSKEYFS_VM_SECONDS=900    the time limit of a boot
#   PASSKEYFS_VM_ACCEL=tcg      instead of looking whether KVM is of use
# What the guest's kernel and systemd say lies in target/vm/console-N.log, and is shown when a boot fails.
set -euo pipefail
. "$(dirname "$0")/../../scripts/_lib.sh"
HERE=$ROOT/tests/vm

case ${1:-} in
  -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
[ "$(id -u)" -eq 0 ] || fail "the guest's image can only be made by root" "Run: sudo -E tests/vm/run.sh"
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
case $TARGET in /*) ;; *) TARGET=$PWD/$TARGET ;; esac
SECONDS_MAX=${PASSKEYFS_VM_SECONDS:-900}
VM=$TARGET/vm
mkdir -p "$VM"
# One run at a time: two would write the same disk and logs.
exec 9>"$VM/lock"
flock -n 9 || fail "another run of the hardware test is using $VM" "Wait until it is done."

WORK=$(mktemp -d "$VM/run.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
rm -f "$VM"/cases-*.log "$VM"/console-*.log

prepare() {
  install_missing qemu-system-x86_64=qemu-system-x86 mmdebstrap=mmdebstrap busybox=busybox-static cpio=cpio modprobe=kmod \
    mkfs.ext4=e2fsprogs flock=util-linux strip=binutils
  ls /usr/lib/llvm-*/lib/libclang.so* >/dev/null 2>&1 || apt_install libclang1-14
  install_build_tools
  [ -n "${PASSKEYFS:-}" ] || build_release
  # littlefs asks libclang about its headers, which without clang's own has to be shown gcc's.
  BINDGEN_EXTRA_CLANG_ARGS=-I$(gcc -print-file-name=include) CARGO_TARGET_DIR=$VM/key \
    cargo build --release --locked --quiet --manifest-path "$HERE/key/Cargo.toml"
  IMAGE=$VM/image-$(cat "$HERE/build-image.sh" "$HERE/guest/start.sh" "$HERE/guest/cases.service" | sha256sum | head -c 16)
  if [ ! -e "$IMAGE/root.ext4" ]; then
    say "building the guest's image from packages"
    rm -rf "$VM"/image-*
    "$HERE/build-image.sh" "$IMAGE" >"$VM/image.log" 2>&1 || { tail -n 20 "$VM/image.log"; fail "the image was not built"; }
  fi
}

# The guest's second disk: the product as its installer lays it out, and the rig.
second_disk() {
  local tree=$WORK/tree
  mkdir -p "$tree/rig/cases" "$WORK/product/release"
  # The installer takes the program from where cargo puts it.
  ln -s "$(realpath "$PASSKEYFS")" "$WORK/product/release/passkeyfs"
  CARGO_TARGET_DIR=$WORK/product DESTDIR=$tree "$ROOT/scripts/install.sh" >"$VM/install.log"
  strip --strip-debug "$tree/usr/local/bin/passkeyfs"
  install -m 755 "$VM/key/release/virtual-key" "$HERE/guest/askpass" "$tree/rig/"
  install -m 644 "$HERE"/guest/cases/*.py "$tree/rig/cases/"
  printf '%s\n' "$@" >"$tree/rig/only"
  tar cf "$WORK/second.tar" --owner=0 --group=0 --mode=u+rwX,go+rX -C "$tree" $(ls "$tree")
  rm -rf "$tree"
}

# /dev/kvm alone says little: without vmx or svm it is itself an emulation, and slower than QEMU's.
accelerator() {
  if [ -w /dev/kvm ] && grep -qwE 'vmx|svm' /proc/cpuinfo; then echo kvm; else echo tcg; fi
}

boot() { # boot NUMBER: the cases' words on standard output and in cases-NUMBER.log; 0 if the guest ended by itself
  local accel=${PASSKEYFS_VM_ACCEL:-$(accelerator)} status=0 reader
  mkfifo "$WORK/log-$1"
  tee "$VM/cases-$1.log" <"$WORK/log-$1" &
  reader=$!
  # Westmere: SSE4 and AES, which QEMU's emulation does well, and nothing wider, which it does slowly.
  timeout "$SECONDS_MAX" qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot -machine q35 \
    -accel "$accel" -cpu "$([ "$accel" = kvm ] && echo host || echo Westmere)" -smp 2 -m 1024 \
    -kernel "$IMAGE/vmlinuz" -initrd "$IMAGE/initrd.gz" -append "console=ttyS0 mitigations=off panic=-1 systemd.log_color=0" \
    -serial "file:$VM/console-$1.log" \
    -drive "if=virtio,format=raw,file=$WORK/root.ext4,cache=unsafe" \
    -drive "if=virtio,format=raw,file=$WORK/second.tar,readonly=on" \
    -device virtio-rng-pci -device virtio-serial-pci \
    -chardev "file,id=log,path=$WORK/log-$1" -device virtserialport,chardev=log,name=cases.log </dev/null || status=$?
  wait "$reader"
  [ "$status" -ne 124 ] || say "vm: the guest did not end within $SECONDS_MAX s"
  return "$status"
}

prepare
second_disk "$@"
cp --sparse=always "$IMAGE/root.ext4" "$WORK/root.ext4"
failed=0
for number in ${PASSKEYFS_VM_BOOTS:-1 2}; do
  started=$SECONDS
  say "vm: boot $number"
  if boot "$number" && grep -q '^vm: [1-9][0-9]* passed, 0 failed' "$VM/cases-$number.log"; then
    say "vm: boot $number took $((SECONDS - started)) s"
  else
    failed=1
    say "vm: boot $number FAILED after $((SECONDS - started)) s; the end of $VM/console-$number.log:"
    tail -n 20 "$VM/console-$number.log" || true
  fi
done
# Once more at the very end, where they are looked for.
grep -h '^FAIL ' "$VM"/cases-*.log || true
exit "$failed"
