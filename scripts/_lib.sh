# Shared by the scripts here (sourced, bash): words, packages, the toolchain, FUSE.
#
# What is missing is installed from Debian's own packages; no toolchain is ever downloaded from elsewhere. Where all is
# there nothing is installed, asked or said.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CARGO_VERSION_MIN=1.89

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then BOLD=$'\e[1m' PLAIN=$'\e[0m'; else BOLD='' PLAIN=''; fi

say() { printf '%s\n' "$*"; }
step() { printf '\n%s== %s%s\n' "$BOLD" "$*" "$PLAIN"; }

# fail WHAT [NEXT...]: what happened, then what to do, a line each.
fail() {
  printf '%s: %s\n' "$(basename "$0")" "$1" >&2
  shift
  [ $# -eq 0 ] || printf '%s\n' "$@" >&2
  exit 1
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_missing TEST=PACKAGE...: installs each PACKAGE whose TEST fails. A test is a command to be found, or a file.
install_missing() {
  local pair test packages=()
  for pair in "$@"; do
    test=${pair%%=*}
    case $test in
      /*) [ -e "$test" ] || packages+=("${pair#*=}") ;;
      *) PATH=$PATH:/usr/sbin:/sbin command -v "$test" >/dev/null || packages+=("${pair#*=}") ;;
    esac
  done
  [ ${#packages[@]} -eq 0 ] || apt_install "${packages[@]}"
}

apt_install() {
  local by_hand="Install these packages (Debian's names), then try again: $*"
  command -v apt-get >/dev/null || fail "this machine has no apt-get" "$by_hand"
  if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && command -v sudo >/dev/null; }; then
    fail "packages are missing, and this user cannot install them" "As root: apt-get install $*"
  fi
  say "installing: $*"
  local apt=(as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
  local log
  log=$(mktemp)
  # The lists of packages may be missing or old: they are fetched when the first try fails.
  if ! "${apt[@]}" install -y --no-install-recommends "$@" >"$log" 2>&1 </dev/null; then
    if ! { "${apt[@]}" update && "${apt[@]}" install -y --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
      tail -n 20 "$log" >&2
      rm -f "$log"
      fail "apt-get could not install: $*" "See above; with the network and Debian's archive in reach, try again."
    fi
  fi
  rm -f "$log"
}

is_new_enough() { # is_new_enough CARGO: at least CARGO_VERSION_MIN
  local version
  version=$("$1" --version 2>/dev/null | awk '{print $2}') && [ -n "$version" ] &&
    [ "$(printf '%s\n%s\n' "$CARGO_VERSION_MIN" "$version" | sort -V | head -n 1)" = "$CARGO_VERSION_MIN" ]
}

# find_cargo: puts a cargo that is new enough first on PATH: the one there, that of ~/.cargo, or Debian's cargo-web.
find_cargo() {
  local folder
  for folder in "" "${CARGO_HOME:-$HOME/.cargo}/bin" /usr/bin /usr/share/cargo/bin; do
    if is_new_enough "${folder:+$folder/}cargo"; then
      [ -z "$folder" ] || export PATH="$folder:$PATH"
      return 0
    fi
  done
  apt_install cargo-web rustc-web
  export PATH="/usr/bin:$PATH"
  hash -r
  is_new_enough cargo || fail "cargo is older than $CARGO_VERSION_MIN" \
    "Debian 12 has 1.96 in its security archive (packages cargo-web, rustc-web): enable it, run apt-get update," \
    "and try again; or install Rust from https://rustup.rs."
}

# What the build needs: a compiler and linker (zstd and BLAKE3 bring C and assembly), udev's library to find security
# keys by, and certificates to fetch crates.
install_build_tools() {
  install_missing gcc=gcc /usr/include/stdlib.h=libc6-dev pkg-config=pkg-config /usr/include/libudev.h=libudev-dev \
    /etc/ssl/certs/ca-certificates.crt=ca-certificates
  find_cargo
}

# build_release: builds the program; sets PASSKEYFS to it.
build_release() {
  (cd "$ROOT" && cargo build --release --locked) || fail "the build failed" "The compiler says above why."
  PASSKEYFS=${CARGO_TARGET_DIR:-$ROOT/target}/release/passkeyfs
  case $PASSKEYFS in /*) ;; *) PASSKEYFS=$ROOT/$PASSKEYFS ;; esac
}

# why_no_fuse: loads the kernel's module if that can be done; prints why FUSE cannot be used, and nothing if it can.
why_no_fuse() {
  if [ ! -e /dev/fuse ] && [ "$(id -u)" -eq 0 ]; then
    PATH=$PATH:/usr/sbin:/sbin modprobe fuse 2>/dev/null || true
    # A container may have the module but not the device.
    if [ ! -e /dev/fuse ] && grep -qw fuse /proc/filesystems; then mknod -m 666 /dev/fuse c 10 229 2>/dev/null || true; fi
  fi
  if [ ! -e /dev/fuse ]; then
    say "There is no /dev/fuse: the kernel's FUSE module is not loaded (as root: modprobe fuse), or this is a container" \
      "that was started without it (docker run --device /dev/fuse --cap-add SYS_ADMIN)."
  elif ! { : <>/dev/fuse; } 2>/dev/null; then
    say "/dev/fuse cannot be opened by $(id -un). As root: chmod 666 /dev/fuse (udev does so by itself where it runs);" \
      "in a container, start it with --device /dev/fuse --cap-add SYS_ADMIN."
  elif [ "$(id -u)" -ne 0 ] && ! command -v fusermount3 >/dev/null; then
    say "fusermount3 is missing (package fuse3)."
  elif [ "$(id -u)" -ne 0 ] && [ ! -e /etc/mtab ]; then
    say "fusermount3 cannot unmount without /etc/mtab, which every booted system has. As root: ln -s /proc/self/mounts /etc/mtab"
  fi
}
