#!/usr/bin/env bash
# Puts each bug of `engine/src/chaos.rs` back, one at a time, and prints as Markdown which test finds it and how fast.
#
#   tools/tests/seeded_bugs.sh                  all bugs
#   tools/tests/seeded_bugs.sh no-fence no-jump these only
#
# A bug counts as found when a test that passes without it fails, dies, or does not end in LIMIT seconds. The groups of
# tests are tried from cheap to dear, and the first failure ends the search, so a row says which test is the first to
# notice, not which are all. Exits with an error if one is NOT FOUND, or if a test fails with no bug put back.
#
#   LIMIT=150       seconds for a group of tests
#   SEEDS=60        seeds of the simulator, which is asked last; 0 leaves it out
#   GROUPS_OF_IT    the groups of the engine's `it` binary, in order; `unit` for the unit tests
#   SKIP_HEALTHY=1  do not first see whether everything passes without a bug
#   IT, UNIT, SIMULATE   binaries that were built already (with --features seeded-bugs)
set -euo pipefail
cd "$(dirname "$0")/../.."
limit=${LIMIT:-150}
seeds=${SEEDS:-60}
groups=${GROUPS_OF_IT:-formats:: wal:: manifest:: store:: repair:: memory:: compaction:: pins:: writing:: reading:: unit faults:: metamorphic:: cancelled:: crashes::}
# A failure is expected here: it is neither shortened for minutes nor noted in the sources.
export PROPTEST_MAX_SHRINK_ITERS=0 PROPTEST_DISABLE_FAILURE_PERSISTENCE=1
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# The test executables that cargo names, the one of src/lib.rs first.
build() {
  cargo test -p esker --features seeded-bugs --lib --test it --no-run 2>&1 | sed -n 's/.*Executable.*(\(.*\))$/\1/p'
}
if [ -z "${IT:-}" ] || [ -z "${UNIT:-}" ]; then
  built=$(build)
  UNIT=$(grep '/esker-' <<<"$built")
  IT=$(grep '/it-' <<<"$built")
fi
if [ "$seeds" -gt 0 ] && [ -z "${SIMULATE:-}" ]; then
  cargo build --release -p esker-tools --features seeded-bugs --bin simulate
  SIMULATE=target/release/simulate
fi
IT=$(realpath "$IT") UNIT=$(realpath "$UNIT") SIMULATE=${SIMULATE:+$(realpath "$SIMULATE")}

now() { date +%s%N; }

# A test of libtest that failed, or a run of the simulator that broke a rule.
failure=' \.\.\. FAILED$\|^FAILED  '

# Runs a command until its first failure, and says what failed; nothing if nothing did.
first_failure() {
  local what=$1 code=0
  shift
  timeout -k 2 "$limit" "$@" >"$log" 2>/dev/null &
  local running=$!
  while kill -0 "$running" 2>/dev/null && ! grep -q "$failure" "$log"; do sleep 0.1; done
  if grep -q "$failure" "$log"; then
    sleep 0.1 # The rest of what is being told.
    kill "$running" 2>/dev/null || true
    wait "$running" 2>/dev/null || true
    sed -n 's/^test \(.*\) \.\.\. FAILED$/`\1`/p; s/^again  */, `/p; s/^FAILED  */the rule /p' "$log" |
      sed 's/^\(, `.*\)$/\1`/' | head -n 2 | paste -sd ' ' | sed 's/ , /, /; s/` `.*/`/'
    return
  fi
  wait "$running" || code=$?
  if [ "$code" = 124 ] || [ "$code" = 137 ]; then
    local slow
    slow=$(sed -n 's/^test \(.*\) has been running.*/`\1`/p' "$log" | head -n 1)
    echo "${slow:-$what} does not end"
  elif [ "$code" != 0 ]; then
    echo "$what dies"
  fi
}

# Asks one detector after the other.
find_it() {
  local group found
  for group in $groups; do
    if [ "$group" = unit ]; then
      # Golden files pin bytes, and say nothing about a bug's effect.
      found=$(first_failure "the unit tests" "$UNIT" --skip golden)
    else
      found=$(cd engine && first_failure "\`$group\`" "$IT" "$group")
    fi
    if [ -n "$found" ]; then echo "$found"; return; fi
  done
  if [ "$seeds" -gt 0 ]; then
    first_failure "\`simulate\`" "$SIMULATE" --seeds "$seeds" --operations 600 --shorten 0 --jobs 2
  fi
}

bugs=$(sed -n '/^bugs! {/,/^}/s/^ *[A-Z][A-Za-z]* "\([^"]*\)" "\([^"]*\)" "\([^"]*\)"$/\1|\2|\3/p' engine/src/chaos.rs)
if [ $# -gt 0 ]; then
  bugs=$(for name in "$@"; do grep "^$name|" <<<"$bugs" || { echo "error: no bug is called $name" >&2; exit 2; }; done)
fi

if [ -z "${SKIP_HEALTHY:-}" ]; then
  found=$(ESKER_BUG='' find_it)
  if [ -n "$found" ]; then
    echo "error: without any bug, $found fails" >&2
    exit 2
  fi
fi
missed=0
echo '| bug put back | whose | what it does | found by | seconds |'
echo '|---|---|---|---|---:|'
while IFS='|' read -r name peers what <&3; do
  began=$(now)
  found=$(ESKER_BUG=$name find_it)
  seconds=$((($(now) - began) / 100000000))
  [ -n "$found" ] || missed=$((missed + 1))
  echo "| $name | $peers | $what | ${found:-**NOT FOUND**} | $((seconds / 10)).$((seconds % 10)) |"
done 3<<<"$bugs"
[ "$missed" = 0 ] || { echo "error: $missed not found" >&2; exit 1; }
