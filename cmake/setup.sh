#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Sets up what a build needs and no more: system packages (apt) and LibTorch (a wheel, in the user's
# cache folder). examples/quickstart, tests/run and .ci/run source it; called by itself, it prints
# the folder of LibTorch:
#   cmake -B build -DTORCH_ACCELERATED_LIBTORCH="$(cmake/setup.sh)"
set -euo pipefail

readonly kTorchVersion=2.11.0
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

# True where this machine can run CUDA programs.
has_gpu() { timeout 20 nvidia-smi -L 2>/dev/null | grep -q '^GPU'; }

# --- LibTorch ------------------------------------------------------------------------------------

# The torch folder of the wheel that Python has, if it is new enough.
python_torch() {
  "${TORCH_ACCELERATED_PYTHON:-python3}" - "$kTorchVersion" 2>/dev/null <<'PY' || true
import importlib.util, pathlib, re, sys
spec = importlib.util.find_spec("torch")
folder = pathlib.Path(spec.submodule_search_locations[0])
found = re.search(r"__version__ = '(\d+)\.(\d+)", (folder / "version.py").read_text())
if [int(part) for part in found.groups()] >= [int(part) for part in sys.argv[1].split(".")[:2]]:
    print(folder)
PY
}

# True where the C++ library of a torch folder is there with all that it needs.
is_complete() {
  [[ -f $1/lib/libtorch_cpu.so && -d $1/include ]] &&
    ! LC_ALL=C ldd "$1/lib/libtorch_cpu.so" | grep -q 'not found'
}

# Our own fetched folder also has the wheels that CUDA needs once a GPU was there.
is_cached() {
  local folder=$1/libtorch-$kTorchVersion
  is_complete "$folder/torch" && { [[ -e $folder/cuda ]] || ! has_gpu; }
}

# Prints the torch folder to build with; nothing where one has to be fetched.
find_libtorch() {
  local folder cache prefixes
  if [[ -n ${TORCH_ACCELERATED_LIBTORCH:-} ]]; then
    echo "$TORCH_ACCELERATED_LIBTORCH"
    return
  fi
  IFS=: read -ra prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  for folder in "${prefixes[@]}" "$(python_torch)"; do
    if [[ -n $folder ]] && is_complete "$folder"; then
      echo "$folder"
      return
    fi
  done
  cache=$(cache_folder)
  if is_cached "$cache"; then echo "$cache/libtorch-$kTorchVersion/torch"; fi
}

# The first Python that has pip and for which the wheel is made.
python_with_pip() {
  local python
  for python in "${TORCH_ACCELERATED_PYTHON:-python3}" /usr/bin/python3; do
    if "$python" -c 'import pip, sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' \
      >/dev/null 2>&1; then
      echo "$python"
      return
    fi
  done
  return 1
}

# download FOLDER PIP-ARGUMENT...: wheels, through pip's own settings (index, proxy, find-links).
download() {
  local folder=$1 python
  shift
  python=$(python_with_pip) || die "no Python 3.10 to 3.14 with pip is here to fetch LibTorch with"
  # Beside the target, since /tmp may be too small for a wheel of half a gigabyte.
  TMPDIR=$folder "$python" -m pip --disable-pip-version-check download --no-cache-dir --no-input \
    --only-binary=:all: --dest "$folder" "$@" >&2 ||
    die "could not download ${*#--no-deps }; run this once where a network is, or set" \
      "TORCH_ACCELERATED_LIBTORCH to an unpacked LibTorch $kTorchVersion"
}

# unpack WHEELS TARGET: what a C++ build needs of all wheels in a folder, which it empties.
unpack() {
  "$(python_with_pip)" - "$2" "$1"/*.whl <<'PY' || die "could not unpack into $2; is the disk full?"
import sys, zipfile
keep = ("torch/include/", "torch/lib/", "torch/share/", "torch/version.py", "nvidia/")
for wheel in sys.argv[2:]:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        archive.extractall(sys.argv[1], [n for n in names if n.startswith(keep) or ".dist-info/" in n])
PY
  rm -f "$1"/*.whl
}

# needed_wheels FOLDER: the pinned NVIDIA wheels that an unpacked torch needs: all that the CUDA part
# links with where there is a GPU, else those that libtorch_cpu.so itself asks the loader for.
needed_wheels() {
  local metadata=$1/torch-$kTorchVersion.dist-info/METADATA toolkit needed extras
  if has_gpu; then
    sed -n -E 's/^Requires-Dist: ((cuda-toolkit|nvidia-)[^; ]*).*/\1/p' "$metadata"
    return
  fi
  # The metapackage cuda-toolkit has an extra `cudart` for libcudart.so, and so on.
  toolkit=$(sed -n -E 's/^Requires-Dist: (cuda-toolkit[^; ]*).*/\1/p' "$metadata")
  needed=$(readelf -d "$1/torch/lib/libtorch_cpu.so" | sed -n -E 's/.*\(NEEDED\).*\[lib(.*)\.so.*/\1/p')
  extras=$(sed -E 's/.*\[(.*)\].*/\1/' <<<"$toolkit" | tr , '\n' | grep -xF "$needed" | paste -sd, || true)
  if [[ -n $extras ]]; then echo "cuda-toolkit[$extras]==${toolkit##*==}"; fi
}

# make_libtorch TARGET: fetched and unpacked beside the target, then renamed, so that the target is
# never half there; what a killed run has left is removed first.
make_libtorch() {
  local target=$1 partial=$1.partial wheels
  say "LibTorch: fetching the wheel torch==$kTorchVersion (0.5 GB, unpacked 1.1 GB) into $target"
  rm -rf "$partial" "$target.old"
  mkdir -p "$partial/wheels"
  download "$partial/wheels" --no-deps "torch==$kTorchVersion"
  unpack "$partial/wheels" "$partial"
  wheels=$(needed_wheels "$partial")
  if [[ -n $wheels ]]; then
    if has_gpu; then say "LibTorch: fetching what CUDA needs (2 GB), since there is a GPU"; fi
    # shellcheck disable=SC2086  # one requirement a word
    download "$partial/wheels" $wheels
    unpack "$partial/wheels" "$partial"
  fi
  rm -rf "$partial/wheels"
  if has_gpu; then : >"$partial/cuda"; fi
  if [[ -e $target ]]; then mv -T "$target" "$target.old"; fi
  mv -T "$partial" "$target"
  rm -rf "$target.old"
}

fetch_libtorch() {
  local cache
  cache=$(cache_folder)
  can_write "$cache" || die "cannot write the cache folder $cache; set XDG_CACHE_HOME to one that" \
    "you can write, or TORCH_ACCELERATED_LIBTORCH to an unpacked LibTorch $kTorchVersion"
  (
    flock -n 9 || { say "LibTorch: another run is fetching it, waiting" && flock 9; }
    if is_cached "$cache"; then exit; fi
    make_libtorch "$cache/libtorch-$kTorchVersion"
  ) 9>"$cache/lock"
}

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
  if [[ ${1:-} == tests ]]; then headers+=(libgtest-dev gtest/gtest.h); fi
  command -v cmake >/dev/null || echo cmake
  command -v ninja >/dev/null || echo ninja-build
  compiler=$(find_compiler)
  if [[ -n $compiler ]]; then
    missing_headers "$compiler" "${headers[@]}"
  else
    compiler_package
    printf '%s %.0s\n' "${headers[@]}"
  fi
}

# install_packages PACKAGE...: as root or with a sudo that asks nothing; else says what to run.
install_packages() {
  local apt=(apt-get -q -y -o DPkg::Lock::Timeout=300) as_root=(env DEBIAN_FRONTEND=noninteractive)
  command -v apt-get >/dev/null ||
    die "these Debian packages, or what they are called here, have to be installed: $*"
  if ((EUID != 0)); then
    sudo -n true 2>/dev/null ||
      die "run this line, then start again:"$'\n'"  sudo apt-get update && sudo apt-get install -y --no-install-recommends $*"
    as_root=(sudo -n "${as_root[@]}")
  fi
  say "Packages: installing $*"
  # A package list that is missing or old makes the first try fail.
  "${as_root[@]}" "${apt[@]}" install --no-install-recommends "$@" >/dev/null 2>&1 || {
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
jobs() {
  local cores gigabytes
  cores=$(nproc)
  gigabytes=$(awk '/^MemAvailable/ { print int($2 / 2e6) }' /proc/meminfo)
  echo $((gigabytes < 1 ? 1 : gigabytes < cores ? gigabytes : cores))
}

# configure FOLDER CMAKE-ARGUMENT...: the generator, the build type and the arguments before `--`
# hold for a new folder only; what a user has chosen in one that is there stays.
configure() {
  local folder=$1 fresh=(-G Ninja -DCMAKE_BUILD_TYPE=Release) log=$1/configure.log
  shift
  while [[ $# -gt 0 && $1 != -- ]]; do
    fresh+=("$1")
    shift
  done
  can_write "$folder" || die "cannot write the build folder $folder"
  if [[ -f $folder/CMakeCache.txt ]]; then
    fresh=()
    if ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$folder/CMakeCache.txt"; then
      die "$folder was made for another source folder; remove it and start again"
    fi
  fi
  flock "$folder/lock" cmake -S "$root" -B "$folder" "${fresh[@]}" -DTORCH_ACCELERATED_LIBTORCH="$libtorch" "${@:2}" \
    >"$log" || die "the build could not be configured; what CMake said is in $log"
  grep -E 'LibTorch [0-9]' "$log" >&2 || true
}

# build_targets FOLDER TARGET...: one run at a time in a folder, as with `configure`.
build_targets() {
  local folder=$1
  shift
  NINJA_STATUS='[%f/%t %es] ' flock "$folder/lock" cmake --build "$folder" --parallel "$(jobs)" --target "$@" >&2
}

if [[ ${BASH_SOURCE[0]} == "$0" ]]; then
  set_up "$@"
  echo "$libtorch"
fi
