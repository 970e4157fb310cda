#!/bin/bash
# Builds the guest of the hardware test from Debian 12's packages: kernel, initrd and root filesystem.
# Usage: tests/vm/build-image.sh FOLDER            as root; takes two to four minutes
#
# Needs: mmdebstrap, busybox-static, cpio, kmod, e2fsprogs, apt-get (tests/vm/run.sh installs them). The image has nothing of
# passkeyfs in it, so that it is built once and kept; every run puts the product into a copy of it.
set -euo pipefail

[ $# -eq 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
TARGET=$(cd "$1" && pwd)
HERE=$(cd "$(dirname "$0")" && pwd)
WORK=$(mktemp -d "$TARGET/build.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
ROOT=$WORK/root

PACKAGES=(
  systemd systemd-sysv dbus dbus-user-session libpam-systemd udev kmod # a real init, a session bus for each user
  fuse3 util-linux mount procps passwd login diffutils                 # what a user of passkeyfs has
  polkitd                                                              # without it only root may ask logind to wait before sleep
  fido2-tools                                                          # a second opinion of every key: fido2-token
  python3-minimal libpython3-stdlib                                    # the cases
)
# What the guest loads; all other modules are left out.
MODULES=(uhid hid_generic fuse virtio_pci virtio_blk virtio_console virtio_rng ext4)

kernel() { # the cloud flavour: small, and with uhid, hidraw and fuse
  local package
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '/Depends: linux-image/ {print $2; exit}')
  [ -n "$package" ] || { echo "build-image.sh: apt knows no linux-image-cloud-amd64; apt-get update?" >&2; exit 1; }
  (cd "$WORK" && apt-get -qq -o APT::Sandbox::User=root download "$package" && dpkg-deb -x linux-image*.deb kernel)
  VERSION=$(ls "$WORK/kernel/lib/modules")
  cp "$WORK/kernel/boot/vmlinuz-$VERSION" "$WORK/vmlinuz"
  depmod -b "$WORK/kernel" "$VERSION"
}

# files_of MODULE...: their files and those of what they need, in the order of loading. Built-in ones have none.
files_of() {
  modprobe -d "$WORK/kernel" -S "$VERSION" --show-depends -a "$@" | awk '/^insmod/ && !seen[$2]++ {print $2}'
}

debian() {
  local mirror
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Codename: bookworm' 'Component: main' | head -n 1)
  mmdebstrap --quiet --mode=root --variant=minbase \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --include="$(IFS=,; echo "${PACKAGES[*]}")" \
    bookworm "$ROOT" ${mirror:+"$mirror"}
  rm -rf "$ROOT"/var/lib/apt/lists/* "$ROOT"/var/cache/apt/*
  local file
  for file in $(files_of "${MODULES[@]}"); do install -D -m 644 "$file" "$ROOT/usr${file#"$WORK/kernel"}"; done
  cp "$WORK/kernel/lib/modules/$VERSION"/modules.{builtin,builtin.modinfo,order} "$ROOT/usr/lib/modules/$VERSION/"
  depmod -b "$ROOT" "$VERSION"
}

configure() {
  printf 'guest\n' >"$ROOT/etc/hostname"
  printf '127.0.0.1 localhost guest\n' >"$ROOT/etc/hosts"
  : >"$ROOT/etc/fstab"
  printf '%s\n' uhid hid_generic fuse virtio_console >"$ROOT/etc/modules-load.d/guest.conf"
  # The people of the cases. alice may use security keys once the product's udev rule is there, carol may not.
  chroot "$ROOT" groupadd --force --system plugdev
  chroot "$ROOT" useradd --create-home --uid 1000 --shell /bin/bash --groups plugdev alice
  chroot "$ROOT" useradd --create-home --uid 1001 --shell /bin/bash --groups plugdev bob
  chroot "$ROOT" useradd --create-home --uid 1002 --shell /bin/bash carol
  mkdir "$ROOT/rig"
  install -m 755 "$HERE/guest/start.sh" "$ROOT/usr/local/sbin/guest-start"
  install -m 644 "$HERE/guest/cases.service" "$ROOT/etc/systemd/system/cases.service"
  systemctl --root="$ROOT" --quiet enable cases.service
  systemctl --root="$ROOT" --quiet set-default multi-user.target
}

# Without KVM each process of the boot costs tenths of a second: what no case needs is left out.
make_boot_fast() {
  local unit generator
  for unit in getty.target serial-getty@ttyS0.service systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_reap.service e2scrub_all.timer fstrim.timer systemd-update-utmp.service \
    systemd-update-utmp-runlevel.service systemd-journal-flush.service systemd-random-seed.service systemd-pstore.service \
    systemd-tmpfiles-clean.timer systemd-repart.service systemd-binfmt.service dev-hugepages.mount dev-mqueue.mount \
    modprobe@{configfs,drm,efi_pstore,loop,dm_mod}.service sys-kernel-{debug,tracing,config}.mount; do
    ln -sf /dev/null "$ROOT/etc/systemd/system/$unit"
  done
  mkdir -p "$ROOT/etc/systemd/system-generators"
  for generator in "$ROOT"/usr/lib/systemd/system-generators/*; do
    ln -sf /dev/null "$ROOT/etc/systemd/system-generators/$(basename "$generator")"
  done
}

initrd() { # loads the disk's driver, mounts the root, and is done
  local folder=$WORK/initrd file
  mkdir -p "$folder"/{bin,dev,root}
  cp "$(command -v busybox)" "$folder/bin/busybox"
  {
    printf '#!/bin/busybox sh\n/bin/busybox mount -t devtmpfs dev /dev\n'
    for file in $(files_of virtio_pci virtio_blk ext4); do
      cp "$file" "$folder/"
      printf '/bin/busybox insmod /%s\n' "$(basename "$file")"
    done
    printf 'n=0; while [ ! -b /dev/vda ] && [ $n -lt 500 ]; do /bin/busybox usleep 10000; n=$((n+1)); done\n'
    printf '/bin/busybox mount -t ext4 /dev/vda /root\n/bin/busybox mount --move /dev /root/dev\n'
    printf 'exec /bin/busybox switch_root /root /sbin/init\n'
  } >"$folder/init"
  chmod +x "$folder/init"
  (cd "$folder" && find . | cpio -o -H newc --quiet | gzip -1) >"$WORK/initrd.gz"
}

kernel
debian
configure
make_boot_fast
initrd
# The cases' files are small; the journal of a filesystem that lives for two boots is of no use, but its order at a shutdown is.
mkfs.ext4 -q -d "$ROOT" "$WORK/root.ext4" 1500M
# In place only when all is there: an interrupted build leaves nothing that looks like an image.
mv "$WORK/vmlinuz" "$WORK/initrd.gz" "$WORK/root.ext4" "$TARGET/"
