# SPDX-License-Identifier: Apache-2.0
#[[
FindLibTorch: LibTorch 2.11 or newer as imported targets, without its own CMake package, which
switches the CUDA language on and wants a CUDA toolkit.

Where it is looked for; the first that names a LibTorch is taken, and what was asked for in 1 to 3
is never passed over:
  1. TORCH_ACCELERATED_LIBTORCH, a variable of CMake or of the environment: an unpacked archive, a
     wheel's torch folder, or a site-packages folder with torch in it
  2. the targets of a find_package(Torch) that ran before
  3. TORCH_ACCELERATED_PYTHON, a variable of CMake or of the environment: that Python's wheel
  4. Torch_DIR, Torch_ROOT, CMAKE_PREFIX_PATH
  5. LibTorch_HINT, which an installed TorchAccelerated sets to what it was built with
  6. the wheel of the python3 on the PATH
  7. ${XDG_CACHE_HOME:-~/.cache}/torch-accelerated, which cmake/setup.sh fills

TORCH_ACCELERATED_CUDA=AUTO|ON|OFF says whether its CUDA part is linked as well.

Sets LibTorch_FOUND, LibTorch_VERSION, LibTorch_DIR_FOUND (the folder with lib and include),
LibTorch_CUDA (TRUE where the CUDA part is linked), LibTorch_CUDA_VERSION (of a CUDA build),
LibTorch_CUDA_REASON (why the CUDA part isn't linked), LibTorch_NVIDIA_DIR (the folder with NVIDIA's
wheels, if there is one) and LibTorch_NOT_FOUND_MESSAGE.
Defines LibTorch::LibTorch, which one links, and LibTorch::torch_cpu, LibTorch::c10 and, with CUDA,
LibTorch::torch_cuda and LibTorch::c10_cuda.
]]

if(TARGET LibTorch::LibTorch)
  get_target_property(LibTorch_VERSION LibTorch::LibTorch LibTorch_VERSION)
  set(LibTorch_FOUND TRUE)
  return()
endif()

set(_LibTorch_oldest 2.11)
set(_LibTorch_tested 2.11)

# --- Where it is ----------------------------------------------------------------------------------

# Sets `result` to the folder with lib and include that `place` is or holds; empty where there is none.
function(_LibTorch_root_of place result)
  set(${result} "" PARENT_SCOPE)
  foreach(below . torch libtorch ../../.. ../..)  # the last two: share/cmake/Torch and share/cmake
    get_filename_component(root "${place}/${below}" REALPATH)
    if(EXISTS "${root}/lib/libtorch_cpu.so" AND EXISTS "${root}/include/torch/csrc/api/include/torch/torch.h")
      set(${result} "${root}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
endfunction()

# Sets `result` to the folder of the torch that `python` has, without importing it.
function(_LibTorch_of_python python result)
  execute_process(
    COMMAND "${python}" -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE folder
    OUTPUT_STRIP_TRAILING_WHITESPACE
    ERROR_QUIET
    RESULT_VARIABLE status)
  set(${result} "" PARENT_SCOPE)
  if(status EQUAL 0 AND folder)
    _LibTorch_root_of("${folder}" root)
    set(${result} "${root}" PARENT_SCOPE)
  endif()
endfunction()

# Sets `result` to the version that the headers of `root` tell.
function(_LibTorch_version_of root result)
  foreach(header headeronly/version.h csrc/api/include/torch/version.h)
    set(file "${root}/include/torch/${header}")
    if(EXISTS "${file}")
      file(STRINGS "${file}" lines REGEX "^#define TORCH_VERSION_(MAJOR|MINOR|PATCH) +[0-9]+")
      list(LENGTH lines count)
      if(count EQUAL 3)
        list(TRANSFORM lines REPLACE "^.* " "")
        list(JOIN lines "." version)
        set(${result} ${version} PARENT_SCOPE)
        return()
      endif()
    endif()
  endforeach()
  set(${result} "" PARENT_SCOPE)
endfunction()

# Sets _LibTorch_root, or _LibTorch_problem to one sentence.
function(_LibTorch_locate)
  set(root "")
  set(problem "")
  set(asked_for "")

  # Places that were asked for by name: a LibTorch there is the one, whatever else there is.
  if(TORCH_ACCELERATED_LIBTORCH)
    set(asked_for "${TORCH_ACCELERATED_LIBTORCH}")
  elseif(DEFINED ENV{TORCH_ACCELERATED_LIBTORCH} AND NOT "$ENV{TORCH_ACCELERATED_LIBTORCH}" STREQUAL "")
    set(asked_for "$ENV{TORCH_ACCELERATED_LIBTORCH}")
  endif()
  set(python "${TORCH_ACCELERATED_PYTHON}")
  if(NOT python)
    set(python "$ENV{TORCH_ACCELERATED_PYTHON}")
  endif()
  set(package_root "")
  if(TARGET torch_cpu)
    foreach(property IMPORTED_LOCATION_RELEASE IMPORTED_LOCATION)
      get_target_property(location torch_cpu ${property})
      if(location AND NOT package_root)
        get_filename_component(folder "${location}" DIRECTORY)
        _LibTorch_root_of("${folder}/.." package_root)
      endif()
    endforeach()
  endif()

  if(asked_for)
    get_filename_component(asked_for "${asked_for}" ABSOLUTE BASE_DIR "${CMAKE_SOURCE_DIR}")
    _LibTorch_root_of("${asked_for}" root)
    if(NOT root)
      set(problem "TORCH_ACCELERATED_LIBTORCH is \"${asked_for}\", where there is no lib/libtorch_cpu.so with its headers; set it to an unpacked LibTorch or to the torch folder of a wheel (python3 -c 'import torch; print(torch.__path__[0])')")
    elseif(package_root AND NOT package_root STREQUAL root)
      set(problem "find_package(Torch) found LibTorch in \"${package_root}\" but TORCH_ACCELERATED_LIBTORCH is \"${asked_for}\"; a program can have only one, so set both to the same")
    endif()
  elseif(package_root)
    set(root "${package_root}")
  elseif(python)
    _LibTorch_of_python("${python}" root)
    if(NOT root)
      set(problem "TORCH_ACCELERATED_PYTHON is \"${python}\", which has no torch that C++ can be built with; run \"${python} -m pip install torch==${_LibTorch_tested}.0\" or name another Python")
    endif()
  endif()
  if(root OR problem)
    set(_LibTorch_root "${root}" PARENT_SCOPE)
    set(_LibTorch_problem "${problem}" PARENT_SCOPE)
    return()
  endif()

  # Places where one may be.
  set(too_old "")
  string(REPLACE ":" ";" environment "$ENV{Torch_DIR}:$ENV{Torch_ROOT}:$ENV{CMAKE_PREFIX_PATH}")
  set(cache "$ENV{XDG_CACHE_HOME}")
  if(NOT cache)
    set(cache "$ENV{HOME}/.cache")
  endif()
  set(places ${Torch_DIR} ${Torch_ROOT} ${CMAKE_PREFIX_PATH} ${environment}
             "${LibTorch_HINT}" "${_LibTorch_last}" python3
             "${cache}/torch-accelerated/libtorch-${_LibTorch_tested}.0")
  foreach(place IN LISTS places)
    if(place STREQUAL "python3")
      _LibTorch_of_python(python3 root)
    elseif(IS_ABSOLUTE "${place}")
      _LibTorch_root_of("${place}" root)
    else()
      set(root "")
    endif()
    if(root)
      _LibTorch_version_of("${root}" version)
      if(version VERSION_GREATER_EQUAL _LibTorch_oldest)
        set(_LibTorch_root "${root}" PARENT_SCOPE)
        set(_LibTorch_problem "" PARENT_SCOPE)
        return()
      endif()
      list(APPEND too_old "${version} in \"${root}\"")
    endif()
  endforeach()

  set(_LibTorch_root "" PARENT_SCOPE)
  set(how "run cmake/setup.sh, or \"python3 -m pip install torch==${_LibTorch_tested}.0\", or set TORCH_ACCELERATED_LIBTORCH to an unpacked LibTorch ${_LibTorch_tested}")
  if(too_old)
    list(REMOVE_DUPLICATES too_old)
    list(JOIN too_old ", " too_old)
    set(_LibTorch_problem "LibTorch ${_LibTorch_oldest} or newer is needed, found ${too_old}; ${how}" PARENT_SCOPE)
  else()
    set(_LibTorch_problem "LibTorch was not found; ${how}" PARENT_SCOPE)
  endif()
endfunction()

# --- What its libraries need ----------------------------------------------------------------------

# Sets `found` to the paths of the libraries that `library` needs and that the linker would not find
# by itself, and `missing` to the names of those that are nowhere.
function(_LibTorch_resolve library found missing)
  set(${found} "" PARENT_SCOPE)
  set(${missing} "" PARENT_SCOPE)
  if(NOT _LibTorch_readelf)
    return()  # nothing can be told then, and the linker's own message has to do
  endif()
  execute_process(
    COMMAND "${_LibTorch_readelf}" -d "${library}"
    OUTPUT_VARIABLE dynamic
    ERROR_QUIET)
  string(REGEX MATCHALL "NEEDED[^\n]*\\[[^]\n]*\\]" needed "${dynamic}")
  string(REGEX MATCH "R(UN)?PATH[^\n]*\\[([^]\n]*)\\]" _ "${dynamic}")
  get_filename_component(origin "${library}" DIRECTORY)
  string(REPLACE "$ORIGIN" "${origin}" own_path "${CMAKE_MATCH_2}")
  string(REPLACE ":" ";" own_path "${own_path}")

  set(paths "")
  set(names "")
  foreach(entry IN LISTS needed)
    string(REGEX REPLACE ".*\\[(.*)\\]" "\\1" name "${entry}")
    set(path "")
    foreach(folder IN LISTS own_path _LibTorch_system_path)
      if(EXISTS "${folder}/${name}")
        set(path ready)
        break()
      endif()
    endforeach()
    string(FIND "${_LibTorch_ldconfig}" "\t${name} (" at)
    if(NOT path AND at GREATER -1)
      set(path ready)
    endif()
    if(NOT path)
      foreach(folder IN LISTS _LibTorch_extra_path)
        if(EXISTS "${folder}/${name}")
          set(path "${folder}/${name}")
          break()
        endif()
      endforeach()
    endif()
    if(NOT path)
      list(APPEND names ${name})
    elseif(NOT path STREQUAL "ready")
      list(APPEND paths "${path}")
    endif()
  endforeach()
  set(${found} "${paths}" PARENT_SCOPE)
  set(${missing} "${names}" PARENT_SCOPE)
endfunction()

# The folders in which needed libraries are looked for.
macro(_LibTorch_set_paths)
  find_program(_LibTorch_readelf NAMES readelf llvm-readelf HINTS "${CMAKE_READELF}" NO_CACHE)
  if(CMAKE_READELF)
    set(_LibTorch_readelf "${CMAKE_READELF}")
  endif()
  execute_process(COMMAND /sbin/ldconfig -p OUTPUT_VARIABLE _LibTorch_ldconfig ERROR_QUIET)
  string(REPLACE ":" ";" _LibTorch_system_path "$ENV{LD_LIBRARY_PATH}")
  list(APPEND _LibTorch_system_path /lib /usr/lib /lib64 /usr/lib64)
  if(CMAKE_LIBRARY_ARCHITECTURE)
    list(APPEND _LibTorch_system_path /lib/${CMAKE_LIBRARY_ARCHITECTURE} /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE})
  endif()

  # NVIDIA's wheels beside torch, then a CUDA toolkit.
  set(_LibTorch_extra_path "")
  get_filename_component(_LibTorch_site "${_LibTorch_root}/.." ABSOLUTE)
  set(LibTorch_NVIDIA_DIR "")
  if(IS_DIRECTORY "${_LibTorch_site}/nvidia")
    set(LibTorch_NVIDIA_DIR "${_LibTorch_site}/nvidia")
    file(GLOB _LibTorch_extra_path "${LibTorch_NVIDIA_DIR}/*/lib")
  endif()
  set(_LibTorch_toolkits ${CUDAToolkit_ROOT} "$ENV{CUDAToolkit_ROOT}" "$ENV{CUDA_HOME}" "$ENV{CUDA_PATH}")
  find_program(_LibTorch_nvcc nvcc NO_CACHE)
  if(_LibTorch_nvcc)
    get_filename_component(_LibTorch_nvcc "${_LibTorch_nvcc}" REALPATH)
    get_filename_component(_LibTorch_nvcc "${_LibTorch_nvcc}/../.." ABSOLUTE)
    list(APPEND _LibTorch_toolkits "${_LibTorch_nvcc}")
  endif()
  file(GLOB _LibTorch_installed /usr/local/cuda /usr/local/cuda-*)
  foreach(_LibTorch_toolkit IN LISTS _LibTorch_toolkits _LibTorch_installed)
    if(_LibTorch_toolkit)
      list(APPEND _LibTorch_extra_path "${_LibTorch_toolkit}/lib64" "${_LibTorch_toolkit}/lib"
           "${_LibTorch_toolkit}/extras/CUPTI/lib64")
    endif()
  endforeach()
endmacro()

# --- Targets --------------------------------------------------------------------------------------

# GLOBAL, so that they are seen wherever TorchAccelerated::torch_accelerated is.
function(_LibTorch_add_library name path)
  add_library(LibTorch::${name} SHARED IMPORTED GLOBAL)
  set_target_properties(LibTorch::${name} PROPERTIES IMPORTED_LOCATION "${path}" IMPORTED_NO_SONAME FALSE)
endfunction()

function(_LibTorch_add_targets)
  set(lib "${_LibTorch_root}/lib")
  _LibTorch_add_library(c10 "${lib}/libc10.so")
  _LibTorch_add_library(torch_cpu "${lib}/libtorch_cpu.so")
  set(libraries LibTorch::torch_cpu LibTorch::c10)

  # Linked though nothing refers to them: CUDA's part registers itself when it is loaded, and a
  # library that LibTorch's own search path doesn't lead to has to be loaded before it.
  set(forced "")
  foreach(path IN LISTS _LibTorch_cpu_needs)
    list(APPEND forced "${path}")
  endforeach()
  if(LibTorch_CUDA)
    _LibTorch_add_library(c10_cuda "${lib}/libc10_cuda.so")
    _LibTorch_add_library(torch_cuda "${lib}/libtorch_cuda.so")
    list(APPEND libraries LibTorch::torch_cuda LibTorch::c10_cuda)
    list(APPEND forced ${_LibTorch_cuda_needs} "${lib}/libc10_cuda.so" "${lib}/libtorch_cuda.so")
  endif()
  list(REMOVE_DUPLICATES forced)

  add_library(LibTorch::LibTorch INTERFACE IMPORTED GLOBAL)
  if(forced)
    set(rpaths "")
    foreach(path IN LISTS forced)
      get_filename_component(folder "${path}" DIRECTORY)
      list(APPEND rpaths "-Wl,-rpath,${folder}")
    endforeach()
    list(REMOVE_DUPLICATES rpaths)
    list(JOIN forced "," forced)
    list(PREPEND libraries "-Wl,--push-state,--no-as-needed,${forced},--pop-state" ${rpaths})
  endif()
  set_target_properties(
    LibTorch::LibTorch
    PROPERTIES INTERFACE_INCLUDE_DIRECTORIES
               "${_LibTorch_root}/include;${_LibTorch_root}/include/torch/csrc/api/include"
               INTERFACE_COMPILE_FEATURES cxx_std_17
               INTERFACE_LINK_LIBRARIES "${libraries}"
               LibTorch_VERSION "${LibTorch_VERSION}")
endfunction()

# --- Finding --------------------------------------------------------------------------------------

set(LibTorch_FOUND FALSE)
set(LibTorch_CUDA FALSE)
set(LibTorch_CUDA_REASON "")
_LibTorch_locate()

if(_LibTorch_root)
  _LibTorch_version_of("${_LibTorch_root}" LibTorch_VERSION)
  if(NOT LibTorch_VERSION VERSION_GREATER_EQUAL _LibTorch_oldest)
    set(_LibTorch_problem "LibTorch ${_LibTorch_oldest} or newer is needed, found ${LibTorch_VERSION} in \"${_LibTorch_root}\"; run \"python3 -m pip install torch==${_LibTorch_tested}.0\" or set TORCH_ACCELERATED_LIBTORCH to a newer one")
  endif()
endif()

if(_LibTorch_root AND NOT _LibTorch_problem)
  _LibTorch_set_paths()
  _LibTorch_resolve("${_LibTorch_root}/lib/libtorch_cpu.so" _LibTorch_cpu_needs _LibTorch_missing)
  if(_LibTorch_missing)
    list(JOIN _LibTorch_missing " and " _LibTorch_missing)
    set(_LibTorch_problem "LibTorch ${LibTorch_VERSION} in \"${_LibTorch_root}\" needs ${_LibTorch_missing}, neither beside it nor in a CUDA toolkit; install the wheels that torch depends on (python3 -m pip install torch==${LibTorch_VERSION}) or set CUDAToolkit_ROOT")
  endif()
endif()

if(_LibTorch_root AND NOT _LibTorch_problem)
  # A CUDA build has libtorch_cuda.so; which CUDA it is stands in a wheel's version.py or an
  # archive's build-version, else only the major number can be told.
  set(LibTorch_CUDA_VERSION "")
  if(EXISTS "${_LibTorch_root}/lib/libtorch_cuda.so")
    foreach(_LibTorch_file version.py build-version)
      if(NOT LibTorch_CUDA_VERSION AND EXISTS "${_LibTorch_root}/${_LibTorch_file}")
        file(READ "${_LibTorch_root}/${_LibTorch_file}" _LibTorch_text)
        if(_LibTorch_text MATCHES "[+]cu([0-9]+)([0-9])" OR _LibTorch_text MATCHES "cuda[^\n]*= '([0-9]+)[.]([0-9]+)'")
          set(LibTorch_CUDA_VERSION "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}")
        endif()
      endif()
    endforeach()
    if(NOT LibTorch_CUDA_VERSION)
      file(STRINGS "${_LibTorch_root}/lib/libc10_cuda.so" _LibTorch_text REGEX "^libcudart[.]so" LIMIT_COUNT 1)
      string(REGEX MATCH "[0-9.]+$" LibTorch_CUDA_VERSION "${_LibTorch_text}")
      string(REGEX REPLACE "^[.]" "" LibTorch_CUDA_VERSION "${LibTorch_CUDA_VERSION}")
    endif()

    set(_LibTorch_cuda_needs "")
    set(_LibTorch_missing "")
    foreach(_LibTorch_name c10_cuda torch_cuda torch_nvshmem torch_cuda_linalg)
      if(EXISTS "${_LibTorch_root}/lib/lib${_LibTorch_name}.so")
        _LibTorch_resolve("${_LibTorch_root}/lib/lib${_LibTorch_name}.so" _LibTorch_paths _LibTorch_names)
        list(APPEND _LibTorch_cuda_needs ${_LibTorch_paths})
        list(APPEND _LibTorch_missing ${_LibTorch_names})
      endif()
    endforeach()
    list(REMOVE_DUPLICATES _LibTorch_missing)
    if("${TORCH_ACCELERATED_CUDA}" STREQUAL "OFF")
      set(LibTorch_CUDA_REASON "switched off by TORCH_ACCELERATED_CUDA")
    elseif(_LibTorch_missing)
      list(JOIN _LibTorch_missing " " _LibTorch_missing)
      set(LibTorch_CUDA_REASON "its libtorch_cuda.so needs ${_LibTorch_missing}, which are not here")
    else()
      set(LibTorch_CUDA TRUE)
    endif()
  elseif("${TORCH_ACCELERATED_CUDA}" STREQUAL "OFF")
    set(LibTorch_CUDA_REASON "switched off by TORCH_ACCELERATED_CUDA")
  else()
    set(LibTorch_CUDA_REASON "a CPU build")
  endif()
  if("${TORCH_ACCELERATED_CUDA}" STREQUAL "ON" AND NOT LibTorch_CUDA)
    set(_LibTorch_problem "TORCH_ACCELERATED_CUDA is ON, but LibTorch ${LibTorch_VERSION} in \"${_LibTorch_root}\" can't be used with CUDA (${LibTorch_CUDA_REASON}); install a CUDA build of torch with the wheels that it depends on, or set TORCH_ACCELERATED_CUDA to AUTO")
  endif()
endif()

if(_LibTorch_problem)
  set(LibTorch_NOT_FOUND_MESSAGE "${_LibTorch_problem}.")
  if(LibTorch_FIND_REQUIRED)
    message(FATAL_ERROR "${LibTorch_NOT_FOUND_MESSAGE}")
  endif()
  return()
endif()

set(LibTorch_FOUND TRUE)
set(LibTorch_DIR_FOUND "${_LibTorch_root}")
# Kept, so that another Python on the PATH doesn't change a build that is under way.
set(_LibTorch_last "${_LibTorch_root}" CACHE INTERNAL "The LibTorch that was found last")
_LibTorch_add_targets()

if(LibTorch_CUDA)
  set(_LibTorch_text "CUDA ${LibTorch_CUDA_VERSION}")
else()
  set(_LibTorch_text "CPU (${LibTorch_CUDA_REASON})")
endif()
if(LibTorch_VERSION VERSION_GREATER_EQUAL "${_LibTorch_tested}.99")
  string(APPEND _LibTorch_text "; ${_LibTorch_tested} is the version that is tested")
endif()
if(NOT LibTorch_FIND_QUIETLY)
  message(STATUS "LibTorch ${LibTorch_VERSION} in ${_LibTorch_root}, ${_LibTorch_text}")
endif()
