# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Finds LibTorch, or fetches it: PyTorch's wheel without its Python-only dependencies, unpacked into
# the user's cache folder. A part of setup.sh, whose `say`, `die` and folders it uses.
readonly kTorchVersion=2.11.0

# True where this machine can run CUDA programs.
has_gpu() { [[ $(timeout 20 nvidia-smi -L 2>/dev/null) == GPU* ]]; }

# torch_folder PLACE: the folder with lib and include that a place is or holds: a torch folder, what
# it stands in, or torch's CMake packages (share/cmake, share/cmake/Torch).
torch_folder() {
  local below folder
  for below in . torch libtorch ../../.. ../..; do
    folder=$1/$below
    if [[ -e $folder/lib/libtorch_cpu.so &&
      -e $folder/include/torch/csrc/api/include/torch/torch.h ]]; then
      realpath "$folder"
      return
    fi
  done
}

# python_torch PYTHON: the torch folder of its wheel, which isn't imported.
python_torch() {
  local place ask="import importlib.util as u; print(u.find_spec('torch').submodule_search_locations[0])"
  place=$("$1" -c "$ask" 2>/dev/null) || return 0
  torch_folder "$place"
}

# The torch folder that a build which is under way has; our own cache is looked at apart.
configured_torch() {
  local folder
  folder=$(sed -n 's/^_LibTorch_last:INTERNAL=//p' "$build/CMakeCache.txt" 2>/dev/null || true)
  if ! [[ $folder -ef $(cache_folder)/libtorch-$kTorchVersion/torch ]]; then echo "$folder"; fi
}

# True where the headers of a torch folder tell a version that is new enough.
is_new_enough() {
  local version header=$1/include/torch/headeronly/version.h
  if [[ ! -e $header ]]; then header=$1/include/torch/csrc/api/include/torch/version.h; fi
  version=$(sed -n -E 's/^#define TORCH_VERSION_M(AJ|IN)OR +//p' "$header" 2>/dev/null | paste -sd.)
  printf '%s\n' "${kTorchVersion%.*}" "$version" | sort -C -V
}

# True where the C++ library of a torch folder is there with all that it needs.
is_complete() {
  [[ -f $1/lib/libtorch_cpu.so && -d $1/include ]] &&
    [[ $(LC_ALL=C ldd "$1/lib/libtorch_cpu.so") != *'not found'* ]]
}

# Our own fetched folder also has the wheels that CUDA needs once a GPU was there.
is_cached() {
  local folder=$1/libtorch-$kTorchVersion
  is_complete "$folder/torch" && { [[ -e $folder/cuda ]] || ! has_gpu; }
}

# What the environment asks for by name is taken, whatever it is: FindLibTorch.cmake says what is
# wrong with it.
asked_libtorch() {
  local folder
  if [[ -n ${TORCH_ACCELERATED_LIBTORCH:-} ]]; then
    folder=$(torch_folder "$TORCH_ACCELERATED_LIBTORCH")
    echo "${folder:-$TORCH_ACCELERATED_LIBTORCH}"
  elif [[ -n ${TORCH_ACCELERATED_PYTHON:-} ]]; then
    folder=$(python_torch "$TORCH_ACCELERATED_PYTHON")
    [[ -n $folder ]] || die "TORCH_ACCELERATED_PYTHON is $TORCH_ACCELERATED_PYTHON, which has no torch" \
      "that C++ can be built with; run \"$TORCH_ACCELERATED_PYTHON -m pip install" \
      "torch==$kTorchVersion\" or name another Python"
    echo "$folder"
  fi
}

# Prints the torch folder to build with; nothing where one has to be fetched. Looks where
# FindLibTorch.cmake looks, in the same order.
find_libtorch() {
  local folder place places
  folder=$(asked_libtorch) || return
  if [[ -n $folder ]]; then
    echo "$folder"
    return
  fi
  IFS=: read -ra places <<<"${Torch_DIR:-}:${Torch_ROOT:-}:${CMAKE_PREFIX_PATH:-}"
  for place in "${places[@]}" "$(configured_torch)"; do
    if [[ $place != /* ]]; then continue; fi
    folder=$(torch_folder "$place")
    if [[ -n $folder ]] && is_new_enough "$folder"; then
      echo "$folder"
      return
    fi
  done
  # A Python may have torch without what it depends on.
  folder=$(python_torch python3)
  if [[ -n $folder ]] && is_new_enough "$folder" && is_complete "$folder"; then
    echo "$folder"
  elif is_cached "$(cache_folder)"; then
    echo "$(cache_folder)/libtorch-$kTorchVersion/torch"
  fi
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
  local folder=$1 python what
  shift
  what=$*
  python=$(python_with_pip) || die "no Python 3.10 to 3.14 with pip is here to fetch LibTorch with"
  # Beside the target, since /tmp may be too small for a wheel of half a gigabyte.
  TMPDIR=$folder "$python" -m pip --disable-pip-version-check download --no-cache-dir --no-input \
    --only-binary=:all: --dest "$folder" "$@" >&2 ||
    die "could not download ${what#--no-deps }; run this once where a network is, or set" \
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
