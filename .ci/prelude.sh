# Sourced by every script in this folder: paths, messages, installation of packages.
#
# A script prints one short line for each step. The output of a step is kept in target/logs/ and shown only if it fails;
# every error names the cause and the command that repairs it.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cd "$ROOT"

# Kept between clones: tools that we build, and in CI the target folder.
CACHE=${PLUGNODE_CACHE:-${HOME:-$ROOT/target}/.cache/plugnode}
TOOLS=$CACHE/tools
LOGS=$ROOT/target/logs

# Printed, tested and documented paths begin with target/, regardless of the caller's environment. In CI target/ is a link, and cargo gets
# the resolved path, so that its build results stay valid for the next clone with the same link.
CARGO_TARGET_DIR=$(readlink -f "$ROOT/target")
export CARGO_TARGET_DIR
# The cargo that builds handlers; .ci/setup-wasm writes it.
export PLUGNODE_GUEST_CARGO=$ROOT/target/guest-cargo

say() { printf '\033[1m==\033[0m %s\n' "$*"; }
[[ -t 1 ]] || say() { printf '== %s\n' "$*"; }

# die MESSAGE [REMEDY]
die() {
  printf 'error: %s\n' "$1" >&2
  [[ $# -lt 2 ]] || printf '   do: %s\n' "$2" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# quietly NAME COMMAND…: runs the command with its output in target/logs/NAME.log; on failure, shows the last lines.
quietly() {
  local log=$LOGS/$1.log
  shift
  mkdir -p "$LOGS"
  "$@" >"$log" 2>&1 </dev/null && return
  local status=$?
  tail -n 25 "$log" >&2
  printf '(full log: %s)\n' "${log#"$ROOT"/}" >&2
  return $status
}

# as_root COMMAND…: runs it directly for root, by sudo otherwise; without a terminal, sudo must not ask for a password.
as_root() {
  if [[ $(id -u) == 0 ]]; then
    "$@"
  elif [[ -t 0 ]]; then
    sudo "$@"
  else
    sudo -n "$@"
  fi
}

can_be_root() {
  [[ $(id -u) == 0 ]] || { have sudo && { [[ -t 0 ]] || sudo -n true 2>/dev/null; }; }
}

# install_packages PURPOSE PACKAGE…: installs Debian packages without prompts.
install_packages() {
  local purpose=$1
  shift
  local remedy="sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
  have apt-get || die "$purpose needs $*, and this machine has no apt-get" \
    "install them with the package manager of this system, then run this again (on Debian: $remedy)"
  can_be_root || die "$purpose needs the packages $*, which only root can install" "$remedy"
  # Lets sudo ask on the terminal, before output goes to a file.
  as_root true || die "$purpose needs the packages $*, and sudo refused" "$remedy"
  local install=(as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends
    -o DPkg::Lock::Timeout=300 "$@")
  # The package lists of a machine may be old or missing: the second try updates them.
  quietly apt-install "${install[@]}" 2>/dev/null && return
  quietly apt-update as_root apt-get update -o DPkg::Lock::Timeout=300 ||
    die "$purpose needs the packages $*, and apt-get cannot update its lists" "check the network and /etc/apt, then: $remedy"
  quietly apt-install "${install[@]}" || die "$purpose needs the packages $*, and apt-get could not install them" "$remedy"
}

need_cargo() {
  have cargo || die "cargo is missing" "install Rust 1.95 or newer with rustup (https://rustup.rs), then open a new shell"
}

# cargo_tool NAME VERSION [OPTION…]: builds a program of crates.io to $TOOLS/bin, once for this machine. It is built with a cheap profile,
# because it runs for seconds and its own release profile takes several times as long to build.
cargo_tool() {
  local name=$1 version=$2
  shift 2
  [[ -x $TOOLS/bin/$name ]] && [[ $("$TOOLS/bin/$name" --version) == *"$version"* ]] && return
  need_cargo
  say "building $name $version, once for this machine (a few minutes)"
  mkdir -p "$TOOLS"
  # A separate folder lets an interrupted build continue; it is removed after the build.
  quietly "$name" env CARGO_TARGET_DIR="$TOOLS/build-$name" CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_PROFILE_RELEASE_LTO=off \
    CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=symbols \
    nice cargo install "$name" --locked --version "$version" --root "$TOOLS" "$@" ||
    die "cannot build $name $version" "cargo install $name --locked --version $version --root \"$TOOLS\" $*"
  rm -rf "$TOOLS/build-$name"
}
