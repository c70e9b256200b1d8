# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# A machine in a folder, on which setup.sh can be tried: what is installed, what apt and pip can
# bring, and a log of who was called. A part of setup_test.sh.
#
#   $machine/bin     the PATH: programs that are installed
#   $machine/shelf   programs that can be installed
#   $machine/system  headers that the compiler finds, and site/, the packages of python3
#   $machine/index   wheels that pip can fetch
#   $machine/log     a line a call of apt-get, sudo, pip, cmake and ctest
#   $machine/clone   the repository's scripts

# What the scripts may use besides what is tried; everything else isn't there.
readonly kTools=(awk basename bash cat chmod cp dirname env flock grep head ln mkdir mv nproc paste
  realpath rm sed sort tail timeout touch tr true)

# program NAME: the script on stdin, in $machine/shelf.
program() {
  { echo '#!/usr/bin/env bash' && cat; } >"$machine/shelf/$1"
  chmod +x "$machine/shelf/$1"
}

make_package_programs() {
  # A machine without package lists has to update them before apt-get finds anything.
  program apt-get <<'TEXT'
echo "apt-get $*" >>"$machine/log"
if [[ $* == *update* ]]; then touch "$machine/lists" && exit; fi
[[ -e $machine/lists && ! -e $machine/offline ]] || exit 100
if [[ $* == *--simulate* ]]; then exit; fi
declare -A header=([zlib1g-dev]=zlib.h [libspdlog-dev]=spdlog/spdlog.h [libfmt-dev]=fmt/format.h
  [nlohmann-json3-dev]=nlohmann/json.hpp [libcli11-dev]=CLI/CLI.hpp [libgmock-dev]=gmock/gmock.h)
declare -A program=([cmake]=cmake [ninja-build]=ninja [g++]=g++ [g++-12]=g++ [python3]=python3
  [openmpi-bin]=mpirun [libopenmpi-dev]=mpicc)
for package in "${@:$(($(printf '%s\n' "$@" | grep -n -x -e --no-install-recommends | sed 's/:.*//') + 1))}"; do
  if [[ -n ${header[$package]:-} ]]; then
    mkdir -p "$machine/system/$(dirname "${header[$package]}")"
    touch "$machine/system/${header[$package]}"
  elif [[ -n ${program[$package]:-} ]]; then
    cp "$machine/shelf/${program[$package]}" "$machine/bin"
  else
    exit 101
  fi
done
TEXT
  program sudo <<'TEXT'
echo "sudo $*" >>"$machine/log"
[[ -e $machine/passwordless && $1 == -n ]] && exec "${@:2}"
TEXT
}

make_build_programs() {
  program g++ <<TEXT
if [[ \$1 == -dumpversion ]]; then echo 12; else exec $compiler -nostdinc -isystem "\$machine/system" "\$@"; fi
TEXT
  for name in ninja mpicc mpirun; do program $name </dev/null; done
  # Does what the scripts want of a build: examples/mnist and a cache that tells which LibTorch it is.
  program cmake <<'TEXT'
echo "cmake $*" >>"$machine/log"
if [[ $1 == --build ]]; then
  mkdir -p "$2/examples"
  printf '#!/usr/bin/env bash\necho "trained $*"\n' >"$2/examples/mnist"
  chmod +x "$2/examples/mnist"
else
  printf '%s\n' "$@" | sed -n -E 's/^-D(LibTorch_HINT|TORCH_ACCELERATED_LIBTORCH)=/_LibTorch_last:INTERNAL=/p' \
    >"$4/CMakeCache.txt"
fi
TEXT
  program ctest <<'TEXT'
echo "ctest $*" >>"$machine/log"
echo '100% tests passed, 0 tests failed out of 1'
TEXT
}

make_libtorch_programs() {
  # The real interpreter, without what this machine's own has; `pip download` copies from the index.
  program python3 <<TEXT
if [[ "\$1 \$2" == '-m pip' ]]; then
  echo "pip \$*" >>"\$machine/log"
  [[ ! -e \$machine/offline ]] || exit 1
  dest=\$(printf '%s\n' "\$@" | grep -A1 -x -e --dest | tail -n 1)
  if [[ " \$*" == *' torch='* ]]; then cp "\$machine/index/torch.whl" "\$dest"; fi
  if [[ " \$*" == *' cuda-toolkit'* ]]; then cp "\$machine/index/nvidia.whl" "\$dest"; fi
elif [[ "\$*" != *'import pip'* ]]; then
  PYTHONPATH=\$machine/system/site exec $python -S "\$@"
fi
TEXT
  program ldd <<'TEXT'
if grep -q incomplete "$1"; then echo 'libcudart.so.13 => not found'; fi
TEXT
  program readelf <<'TEXT'
printf ' 0x1 (NEEDED)  Shared library: [lib%s]\n' cudart.so.13 cupti.so.13 c.so.6
TEXT
  program nvidia-smi <<<'echo "GPU 0: a GPU"'
}

# make_torch FOLDER [MINOR]: a torch folder as far as anyone looks at it before a build.
make_torch() {
  mkdir -p "$1"/{lib,include/torch/headeronly,include/torch/csrc/api/include/torch,share/cmake/Torch}
  touch "$1/lib/libtorch_cpu.so" "$1/include/torch/csrc/api/include/torch/torch.h"
  printf '#define TORCH_VERSION_%s\n' 'MAJOR 2' "MINOR ${2:-11}" 'PATCH 0' >"$1/include/torch/headeronly/version.h"
  echo 'raise SystemExit("imported")' >"$1/__init__.py"
}

make_index() {
  local wheel=$machine/wheel
  make_torch "$wheel/torch"
  mkdir -p "$wheel/torch-2.11.0.dist-info" "$wheel/nvidia/cu13/lib" "$machine/index"
  touch "$wheel/torch/only_for_python.py" "$wheel/nvidia/cu13/lib/libcudart.so.13"
  printf 'Requires-Dist: %s\n' 'sympy>=1.13' 'cuda-toolkit[cublas,cudart,cupti]==13.0.2; platform_system == "Linux"' \
    'nvidia-cudnn-cu13==9.19; platform_system == "Linux"' >"$wheel/torch-2.11.0.dist-info/METADATA"
  (cd "$wheel" && "$python" -m zipfile -c "$machine/index/torch.whl" torch torch-2.11.0.dist-info &&
    "$python" -m zipfile -c "$machine/index/nvidia.whl" nvidia)
}

# make_clone NAME: another clone on the same machine.
make_clone() {
  mkdir -p "$machine/$1/examples" "$machine/$1/tests"
  cp -r "$repository/cmake" "$machine/$1"
  cp "$repository/examples/quickstart" "$machine/$1/examples"
  cp "$repository/tests/run" "$machine/$1/tests"
}

# make_machine FOLDER: a bare one, with apt and a Python only.
make_machine() {
  local name
  machine=$1
  mkdir -p "$machine"/{bin,shelf,system/site,home}
  touch "$machine/log"
  for name in "${kTools[@]}"; do ln -s "$(type -P "$name")" "$machine/bin"; done
  make_package_programs
  make_build_programs
  make_libtorch_programs
  make_index
  make_clone clone
  for name in apt-get sudo python3 ldd readelf ctest; do cp "$machine/shelf/$name" "$machine/bin"; done
}

# new_machine [everything]: a bare one, or one with all packages and no LibTorch.
new_machine() {
  if [[ ! -d $sandbox/bare ]]; then
    make_machine "$sandbox/bare"
    cp -r "$machine" "$sandbox/everything"
    machine=$sandbox/everything
    on apt-get update
    on apt-get install --no-install-recommends cmake ninja-build g++ zlib1g-dev libspdlog-dev libfmt-dev \
      nlohmann-json3-dev libcli11-dev libgmock-dev openmpi-bin libopenmpi-dev
    : >"$machine/log"
  fi
  machine=$(mktemp -d "$sandbox/XXXXXX")
  cp -r "$sandbox/${1:-bare}/." "$machine"
}

# on [NAME=VALUE]... COMMAND...: runs it there; its output and what went wrong stand in $machine/said.
on() {
  env -i "PATH=$machine/bin" "HOME=$machine/home" "machine=$machine" "$@" >"$machine/said" 2>&1 </dev/null
}
