# shellcheck shell=bash
# For the scripts in deploy/ and tests/, which source it: where things are, and how a long step shows.

repo=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
logs=$repo/build/logs

# A compilation cached in one clone serves another; the sloppiness is what precompiled headers need.
export CCACHE_BASEDIR=$repo CCACHE_NOHASHDIR=true CCACHE_SLOPPINESS=pch_defines,time_macros

die() {
  printf '%s\n' "$*" >&2
  exit 1
}

# As root, or through sudo.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    printf 'needs root, and there is no sudo: %s\n' "$*" >&2
    return 1
  fi
}

# step NAME TEXT COMMAND...
# Runs a long command with its output in build/logs/NAME.log; a terminal sees its newest line.
# If it fails, shows the end of the log, says where the rest is, and returns its status.
step() {
  local log=$logs/$1.log text=$2 started=$SECONDS status=0 ticker=
  shift 2
  mkdir -p "$logs"
  : >"$log"
  if [[ -t 1 ]]; then
    show_newest_line "$log" "$text" &
    ticker=$!
  else
    printf '%s ...\n' "$text"
  fi
  "$@" >"$log" 2>&1 </dev/null || status=$?
  if [[ -n $ticker ]]; then
    kill "$ticker" 2>/dev/null || true
    wait "$ticker" 2>/dev/null || true
    printf '\r\033[K'
  fi
  if ((status != 0)); then
    tail -n 25 "$log" | cut -c 1-300 >&2
    printf '%s: failed after %d s (exit code %d). Everything it said: %s\n' \
      "$text" $((SECONDS - started)) "$status" "$log" >&2
    return "$status"
  fi
  printf '%s: %d s\n' "$text" $((SECONDS - started))
}

show_newest_line() {
  local started=$SECONDS
  while kill -0 $$ 2>/dev/null; do
    printf '\r\033[K%s  %d s  %s' "$2" $((SECONDS - started)) \
      "$(tail -n 1 "$1" | tr -d '\r' | cut -c 1-70)"
    sleep 1
  done
}

# build PRESET [TARGET...]: configures and builds build/PRESET; all targets when none is named.
build() {
  local preset=$1
  shift
  local targets=("${@:-all}")
  step "configure-$preset" "Configuring build/$preset" \
    cmake -S "$repo" --preset "$preset" &&
    step "build-$preset" "Building build/$preset" \
      cmake --build "$repo/build/$preset" --target "${targets[@]}"
}
