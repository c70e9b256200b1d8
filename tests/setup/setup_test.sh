#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# setup_test.sh COMPILER PYTHON: what setup.sh does on machines that have some, all or nothing of what
# a build needs. Each function below is a claim. Nothing is installed, fetched or compiled.
# shellcheck disable=SC2016,SC2317  # the inner shell's variables; functions that are called by name
set -euo pipefail

compiler=$1
python=$("$2" -c 'import sys; print(sys.executable)') # $2 may be a script that finds it by the environment
here=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$here/../..
sandbox=$(mktemp -d)
trap 'rm -rf "$sandbox"' EXIT
trap 'echo "setup_test.sh: line $LINENO ended with $?"' ERR

# shellcheck source-path=SCRIPTDIR source=machine.sh
source "$here/machine.sh"

# as WHO [NAME=VALUE]... [tests]: sets up there as root or as a user, and tells the LibTorch.
as() {
  local who=$1 variables=()
  shift
  while [[ ${1:-} == *=* ]]; do
    variables+=("$1")
    shift
  done
  on "${variables[@]}" bash -c 'source "$machine/clone/cmake/setup.sh"
    is_root() { [[ '"$who"' == root ]]; }
    set_up "$@"
    echo "libtorch=$libtorch CXX=$CXX"' setup "$@"
}

# expect WHAT FILE REGEX: a line of log or said, or `not` before it for none.
expect() {
  local wanted=0 found=0
  if [[ $1 == not ]]; then wanted=1 && shift; fi
  grep -q -E -e "$2" "$machine/$1" || found=1
  if ((found != wanted)); then problems+=("$1 has $( ((wanted)) && echo a || echo no) line \"$2\""); fi
}

# refuses COMMAND...: it has to fail.
refuses() {
  if "$@"; then problems+=("it ended well: $*"); fi
}

succeeds() {
  "$@" || problems+=("it failed: $*")
}

nothing_was_called() {
  expect not log '^(apt-get|sudo|pip)'
}

# finds FOLDER [NAME=VALUE]...: without calling anybody.
finds() {
  local folder=$1
  shift
  succeeds as root "$@"
  expect said "^libtorch=$folder CXX="
  nothing_was_called
}

# --- Packages ---------------------------------------------------------------------------------------

readonly kPackages='cmake ninja-build g\+\+(-12)? zlib1g-dev libspdlog-dev libfmt-dev nlohmann-json3-dev libcli11-dev'

root_installs_what_is_missing() {
  new_machine
  succeeds as root
  expect log "^apt-get .*install --no-install-recommends $kPackages$"
  expect not log '^sudo'
  expect said 'CXX=g\+\+$'
}

only_what_is_missing_is_installed() {
  new_machine everything
  rm "$machine/system/zlib.h" "$machine/bin/ninja"
  succeeds as root
  expect log 'install --no-install-recommends ninja-build zlib1g-dev$'
}

old_package_lists_are_updated_first() {
  new_machine
  succeeds as root
  [[ $(grep -c ' update$' "$machine/log") == 1 ]] || problems+=("not one update")
  new_machine
  touch "$machine/lists"
  succeeds as root
  expect not log ' update$'
}

tests_need_more_packages_than_the_quickstart() {
  new_machine
  rm "$machine/bin/python3"
  make_torch "$machine/torch"
  succeeds as root "CMAKE_PREFIX_PATH=$machine/torch" tests
  expect log 'install .* python3 libopenmpi-dev openmpi-bin .* libgmock-dev$'
}

a_user_with_sudo_installs_by_it() {
  new_machine
  touch "$machine/passwordless"
  succeeds as user
  expect log "^sudo -n env DEBIAN_FRONTEND=noninteractive apt-get .*install --no-install-recommends $kPackages$"
}

a_user_without_sudo_is_told_the_one_line() {
  new_machine
  refuses as user
  expect said "^ ?sudo apt-get update && sudo apt-get install -y --no-install-recommends $kPackages$"
  expect not log '^(apt-get|pip)'
  [[ $(grep -c apt-get "$machine/said") == 1 ]] || problems+=("not one line with apt-get")
}

a_machine_without_apt_is_told_the_packages() {
  new_machine
  rm "$machine/bin/apt-get"
  refuses as root
  expect said "have to be installed: $kPackages$"
}

off_the_network_what_is_missing_ends_in_a_sentence() {
  new_machine
  touch "$machine/offline"
  refuses as root
  expect said 'apt could not install .*; run this once where a network is$'
  new_machine everything
  touch "$machine/offline"
  refuses as root
  expect said 'could not download torch==2.11.0; run this once where a network is, or set TORCH_ACCELERATED_LIBTORCH'
  refuses test -e "$machine/home/.cache/torch-accelerated/libtorch-2.11.0"
}

# --- LibTorch ---------------------------------------------------------------------------------------

libtorch_is_fetched_without_what_only_python_needs() {
  new_machine everything
  local folder=$machine/home/.cache/torch-accelerated/libtorch-2.11.0
  succeeds as root
  expect said "^libtorch=$folder/torch CXX="
  expect log 'pip .*--dest [^ ]* --no-deps torch==2.11.0$'
  expect log 'pip .*--dest [^ ]* cuda-toolkit\[cudart,cupti\]==13.0.2$'
  expect not log 'sympy|cudnn'
  refuses test -e "$folder/torch/only_for_python.py"
  succeeds test -e "$folder/nvidia/cu13/lib/libcudart.so.13"
  refuses test -e "$folder.partial"
}

with_a_gpu_the_cache_is_completed() {
  new_machine everything
  succeeds as root
  cp "$machine/shelf/nvidia-smi" "$machine/bin"
  : >"$machine/log"
  succeeds as root
  expect log 'pip .* cuda-toolkit\[cublas,cudart,cupti\]==13.0.2 nvidia-cudnn-cu13==9.19$'
  : >"$machine/log"
  succeeds as root
  nothing_was_called
}

the_cache_is_found_by_the_next_clone_and_from_any_folder() {
  new_machine everything
  succeeds as root "XDG_CACHE_HOME=$machine/cache"
  expect log '^pip'
  touch "$machine/offline"
  : >"$machine/log"
  make_clone another
  succeeds on "XDG_CACHE_HOME=$machine/cache" bash -c 'cd / && "$machine/another/cmake/setup.sh"'
  expect said "^$machine/cache/torch-accelerated/libtorch-2.11.0/torch$"
  succeeds on "XDG_CACHE_HOME=$machine/cache" \
    bash -c 'cd "$machine/another/tests" && CDPATH=/ bash ../cmake/setup.sh tests'
  expect said "^$machine/cache/torch-accelerated/libtorch-2.11.0/torch$"
  nothing_was_called
}

a_given_libtorch_is_found_and_nothing_fetched() {
  new_machine everything
  local torch=$machine/given/torch name
  make_torch "$torch"
  finds "$torch" "TORCH_ACCELERATED_LIBTORCH=$torch"
  finds "$torch" "TORCH_ACCELERATED_LIBTORCH=$machine/given"
  for name in CMAKE_PREFIX_PATH Torch_DIR Torch_ROOT; do
    finds "$torch" "$name=$torch"
    finds "$torch" "$name=$machine/given"
    finds "$torch" "$name=$torch/share/cmake"
    finds "$torch" "$name=$torch/share/cmake/Torch"
  done
  finds "$torch" "CMAKE_PREFIX_PATH=/usr/no_such_folder:$torch/share/cmake"
  mv "$torch" "$machine/given/libtorch"
  finds "$machine/given/libtorch" "CMAKE_PREFIX_PATH=$machine/given"
}

the_wheel_of_a_python_is_found_without_importing_it() {
  new_machine everything
  make_torch "$machine/system/site/torch"
  finds "$machine/system/site/torch"
  echo incomplete >"$machine/system/site/torch/lib/libtorch_cpu.so"
  finds "$machine/system/site/torch" "TORCH_ACCELERATED_PYTHON=$machine/bin/python3"
  refuses as root "TORCH_ACCELERATED_PYTHON=$machine/bin/ninja"
  expect said "TORCH_ACCELERATED_PYTHON is $machine/bin/ninja, which has no torch .*; run "
  nothing_was_called
  # Nobody has asked for this Python, so what its torch lacks is no reason to fail.
  succeeds as root
  expect said "^libtorch=$machine/home/.cache"
}

an_older_one_is_passed_over() {
  new_machine everything
  make_torch "$machine/old/torch" 6
  make_torch "$machine/good/torch" 12
  finds "$machine/good/torch" "CMAKE_PREFIX_PATH=$machine/old:$machine/good"
  succeeds as root "CMAKE_PREFIX_PATH=$machine/old"
  expect said "^libtorch=$machine/home/.cache"
}

the_libtorch_of_a_build_folder_stays() {
  new_machine everything
  make_torch "$machine/chosen/torch"
  mkdir "$machine/clone/build"
  echo "_LibTorch_last:INTERNAL=$machine/chosen/torch" >"$machine/clone/build/CMakeCache.txt"
  finds "$machine/chosen/torch"
  succeeds on "$machine/clone/tests/run"
  expect log "^cmake -S .*/clone/?[^ ]* -B $machine/clone/build -DLibTorch_HINT=$machine/chosen/torch -DTORCH"
  expect not log 'DTORCH_ACCELERATED_LIBTORCH'
  make_torch "$machine/asked/torch"
  succeeds on "TORCH_ACCELERATED_LIBTORCH=$machine/asked" "$machine/clone/tests/run"
  expect log "-DTORCH_ACCELERATED_LIBTORCH=$machine/asked/torch"
}

# --- The two commands -------------------------------------------------------------------------------

the_two_commands_need_nothing_but_a_clone() {
  new_machine
  touch "$machine/passwordless"
  succeeds on bash -c 'cd / && "$machine/clone/examples/quickstart"'
  expect said '^trained $'
  expect log "install --no-install-recommends $kPackages$"
  expect log '^pip '
  succeeds on bash -c 'cd "$machine/clone/examples" && ../tests/run'
  expect log 'install --no-install-recommends libopenmpi-dev openmpi-bin libgmock-dev$'
  expect said '^100% tests passed'
  # Once more, off the network.
  : >"$machine/log"
  touch "$machine/offline"
  rm "$machine/passwordless"
  succeeds on "$machine/clone/examples/quickstart" --epochs 1
  expect said '^trained --epochs 1$'
  succeeds on "$machine/clone/tests/run"
  expect said '^100% tests passed'
  nothing_was_called
}

# --- All of them ------------------------------------------------------------------------------------

status=0
for claim in root_installs_what_is_missing only_what_is_missing_is_installed old_package_lists_are_updated_first \
  tests_need_more_packages_than_the_quickstart a_user_with_sudo_installs_by_it \
  a_user_without_sudo_is_told_the_one_line a_machine_without_apt_is_told_the_packages \
  off_the_network_what_is_missing_ends_in_a_sentence libtorch_is_fetched_without_what_only_python_needs \
  with_a_gpu_the_cache_is_completed the_cache_is_found_by_the_next_clone_and_from_any_folder \
  a_given_libtorch_is_found_and_nothing_fetched the_wheel_of_a_python_is_found_without_importing_it \
  an_older_one_is_passed_over the_libtorch_of_a_build_folder_stays the_two_commands_need_nothing_but_a_clone; do
  problems=()
  "$claim"
  if ((${#problems[@]} == 0)); then
    echo "passed  $claim"
  else
    status=1
    echo "FAILED  $claim"
    printf '    %s\n' "${problems[@]}" "the last that was said:"
    sed 's/^/      /' "$machine/said" "$machine/log"
  fi
done
exit "$status"
