#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Sets up what a build needs and no more: system packages (apt) and LibTorch (a wheel, in the user's
# cache folder). examples/quickstart, tests/run and .ci/run source it; called by itself, it prints
# the folder of LibTorch:
#   cmake -B build -DTORCH_ACCELERATED_LIBTORCH="$(cmake/setup.sh)"
set -euo pipefail

readonly kOldestCompiler=12
root=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export build=$root/build

# What is said on the way goes to stderr: stdout is the programs'.
say() { printf '%s\n' "$*" >&2; }

die() {
  say "$(basename "$0"): $*"
  exit 1
}

can_write() { mkdir -p "$1" 2>/dev/null && [[ -w $1 ]]; }

cache_folder() {
  local home=${HOME:-~}
  echo "${XDG_CACHE_HOME:-$home/.cache}/torch-accelerated"
}

# shellcheck source-path=SCRIPTDIR source=libtorch.sh
source "$root/cmake/libtorch.sh"

# --- System packages -----------------------------------------------------------------------------

# The C++ compiler to use: the user's, else the first g++ that is new enough.
find_compiler() {
  local compiler version
  if [[ -n ${CXX:-} ]]; then
    echo "$CXX"
    return
  fi
  for compiler in g++ g++-12 g++-13 g++-14 g++-15; do
    version=$("$compiler" -dumpversion 2>/dev/null) || continue
    if ((${version%%.*} >= kOldestCompiler)); then
      echo "$compiler"
      return
    fi
  done
}

compiler_package() {
  # The default of Ubuntu 22.04 and what is made from it is older.
  if grep -qx 'UBUNTU_CODENAME=jammy' /etc/os-release 2>/dev/null; then
    echo "g++-$kOldestCompiler"
  else
    echo g++
  fi
}

# missing_headers COMPILER PACKAGE HEADER...: the packages whose header the compiler doesn't find;
# one run of the preprocessor, so that it works on any system.
missing_headers() {
  local compiler=$1 source=""
  shift
  while (($#)); do
    source+="#if !__has_include(<$2>)"$'\n'"$1"$'\n'"#endif"$'\n'
    shift 2
  done
  # shellcheck disable=SC2086  # CXX may be two words: ccache g++
  $compiler -x c++ -E -P - <<<"$source"
}

# missing_packages [tests]: what apt has to bring.
missing_packages() {
  local compiler headers=(zlib1g-dev zlib.h libspdlog-dev spdlog/spdlog.h libfmt-dev fmt/format.h
    nlohmann-json3-dev nlohmann/json.hpp libcli11-dev CLI/CLI.hpp)
  if [[ ${1:-} == tests ]]; then headers+=(libgmock-dev gmock/gmock.h); fi
  command -v cmake >/dev/null || echo cmake
  command -v ninja >/dev/null || echo ninja-build
  if [[ ${1:-} == tests ]] && ! command -v python3 >/dev/null; then echo python3; fi
  # Training on several ranks needs MPI, training in one process doesn't; whoever has a launcher has
  # chosen one.
  if [[ ${1:-} == tests ]] || command -v mpirun >/dev/null; then
    command -v mpicc >/dev/null || echo libopenmpi-dev
    command -v mpirun >/dev/null || echo openmpi-bin
  fi
  compiler=$(find_compiler)
  if [[ -n $compiler ]]; then
    missing_headers "$compiler" "${headers[@]}"
  else
    compiler_package
    printf '%s %.0s\n' "${headers[@]}"
  fi
}

is_root() { ((EUID == 0)); }

# install_packages PACKAGE...: as root or with a sudo that asks nothing; else says what to run.
install_packages() {
  local apt=(apt-get -qq -y -o DPkg::Lock::Timeout=300) as_root=(env DEBIAN_FRONTEND=noninteractive)
  command -v apt-get >/dev/null ||
    die "these Debian packages, or what they are called here, have to be installed: $*"
  if ! is_root; then
    sudo -n true 2>/dev/null || die "run this line, then start again:"$'\n' \
      "sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
    as_root=(sudo -n "${as_root[@]}")
  fi
  say "Packages: installing $*"
  # Package lists that are missing or old are brought up to date first.
  "${apt[@]}" --simulate install "$@" >/dev/null 2>&1 || "${as_root[@]}" "${apt[@]}" update >&2 || true
  "${as_root[@]}" "${apt[@]}" install --no-install-recommends "$@" >&2 || {
    "${as_root[@]}" "${apt[@]}" update >&2
    "${as_root[@]}" "${apt[@]}" install --no-install-recommends "$@" >&2
  } || die "apt could not install $*; run this once where a network is"
}

# --- Building ------------------------------------------------------------------------------------

# set_up [tests]: packages and LibTorch, and leaves the choice in CXX and `libtorch`.
set_up() {
  local packages
  libtorch=$(find_libtorch)
  packages=$(missing_packages "$@")
  if [[ -z $libtorch ]] && ! python_with_pip >/dev/null; then
    packages+=" python3 python3-pip ca-certificates"
  fi
  # shellcheck disable=SC2086  # one package a word
  if [[ -n $packages ]]; then install_packages $packages; fi
  CXX=$(find_compiler)
  export CXX
  if [[ -z $libtorch ]]; then
    fetch_libtorch
    libtorch=$(cache_folder)/libtorch-$kTorchVersion/torch
  fi
}

# Compilations at once: a core and 2 GB of memory each, which a file that sees torch takes.
job_count() {
  local cores gigabytes
  cores=$(nproc)
  gigabytes=$(awk '/^MemAvailable/ { print int($2 / 2e6) }' /proc/meminfo)
  echo $((gigabytes < 1 ? 1 : gigabytes < cores ? gigabytes : cores))
}

# configure FOLDER CMAKE-ARGUMENT...: the generator, the build type and the arguments before `--`
# hold for a new folder only; what a user has chosen in one that is there stays. So does their
# LibTorch, before which only what the environment asks for by name comes.
configure() {
  local folder=$1 fresh=(-G Ninja -DCMAKE_BUILD_TYPE=Release) how=LibTorch_HINT
  if [[ -n ${TORCH_ACCELERATED_LIBTORCH:-}${TORCH_ACCELERATED_PYTHON:-} ]]; then
    how=TORCH_ACCELERATED_LIBTORCH
  fi
  # A compiler that nobody has tried here yet may warn; only .ci/run makes that an error.
  fresh+=("-DTORCH_ACCELERATED_WERROR=${TORCH_ACCELERATED_WERROR:-OFF}")
  shift
  while [[ $# -gt 0 && $1 != -- ]]; do
    fresh+=("$1")
    shift
  done
  can_write "$folder" || die "cannot write the build folder $folder"
  if [[ -f $folder/CMakeCache.txt ]]; then fresh=(); fi
  flock "$folder/lock" cmake -S "$root" -B "$folder" "${fresh[@]}" \
    -D"$how=$libtorch" "${@:2}" >"$folder/configure.log" ||
    die "$folder could not be configured; the reason stands above"
  grep -E '^-- (torch-accelerated|  )' "$folder/configure.log" >&2 || true
}

# build_targets FOLDER TARGET...: one run at a time in a folder, as with `configure`.
build_targets() {
  local folder=$1
  shift
  NINJA_STATUS='[%f/%t %es] ' CMAKE_BUILD_PARALLEL_LEVEL=$(job_count) flock "$folder/lock" \
    cmake --build "$folder" --target "$@" >&2
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set_up "$@"
  echo "$libtorch"
fi
