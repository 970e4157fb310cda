#!/bin/bash
# Fuzzes the decoders and the volume: builds the targets of tests/fuzz, and runs them one after another.
# Usage: scripts/fuzz.sh SECONDS [TARGET...]                                docs/fuzzing.md lists the targets
#
# Each TARGET (all of them where none is named) runs for SECONDS, starting from its corpus in tests/fuzz/corpus, which is
# filled with samples first. An input that breaks a promise stays in tests/fuzz/artifacts. Needs cargo-fuzz (`cargo install
# cargo-fuzz`) and a C++ compiler; the stable toolchain will do. FUZZ_JOBS (environment): how many targets run at a time.
set -euo pipefail
. "$(dirname "$0")/_lib.sh"

case ${1:-} in
  -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
  '' | *[!0-9]*) sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
SECONDS_EACH=$1
shift
cd "$ROOT/tests/fuzz"
[ $# -gt 0 ] || set -- $(sed -n 's/^name = "\([a-z]*\)"$/\1/p' Cargo.toml)
command -v cargo-fuzz >/dev/null || fail "cargo-fuzz is not installed" "Run: cargo install cargo-fuzz"

# The toolchain is stable and has no sanitizers; coverage alone needs only the leave to pass its flags. Not exported: the
# ordinary build below would begin anew for it.
fuzz() { # fuzz COMMAND [ARGUMENT...]
  RUSTC_BOOTSTRAP=1 nice -n 19 cargo fuzz "$1" --fuzz-dir . --sanitizer none -O "${@:2}"
}
step "building"
fuzz build
PASSKEYFS_WRITE_CORPUS=$PWD/corpus cargo test --quiet --manifest-path ../../Cargo.toml --test decoders --test script \
  written_where_a_fuzzer_begins >/dev/null

run() {
  local target=$1
  mkdir -p "corpus/$target" logs
  if fuzz run "$target" -- "-max_total_time=$SECONDS_EACH" -max_len=20000 -timeout=25 \
    -rss_limit_mb=2048 -print_final_stats=1 >"logs/$target.log" 2>&1; then
    say "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "logs/$target.log") executions, nothing found"
  else
    say "$target: FOUND SOMETHING, see tests/fuzz/logs/$target.log"
    return 1
  fi
}
step "running $* for $SECONDS_EACH seconds each"
failed=0 running=0
for target in "$@"; do
  run "$target" &
  running=$((running + 1))
  if [ "$running" -ge "${FUZZ_JOBS:-1}" ]; then
    wait -n || failed=1
    running=$((running - 1))
  fi
done
while [ "$running" -gt 0 ]; do
  wait -n || failed=1
  running=$((running - 1))
done
exit "$failed"
