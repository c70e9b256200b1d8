# SPDX-License-Identifier: Apache-2.0
# What the library is built with.

find_package(LibTorch MODULE REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(ZLIB QUIET)
if(NOT ZLIB_FOUND)
  message(FATAL_ERROR "zlib was not found; install zlib1g-dev.")
endif()

# --- spdlog and fmt -------------------------------------------------------------------------------
# They are used in few sources that never see torch, from their headers alone and under other
# names: neither the fmt that LibTorch brings nor a user's own fmt or spdlog of any version ever
# meets them, no program has to link them and no public header includes them.
if(NOT TARGET spdlog::spdlog)
  find_path(TORCH_ACCELERATED_SPDLOG_INCLUDE spdlog/spdlog.h)
  find_path(TORCH_ACCELERATED_FMT_INCLUDE fmt/format.h)
  mark_as_advanced(TORCH_ACCELERATED_SPDLOG_INCLUDE TORCH_ACCELERATED_FMT_INCLUDE)
  if(NOT TORCH_ACCELERATED_SPDLOG_INCLUDE)
    message(FATAL_ERROR "spdlog was not found; install libspdlog-dev and libfmt-dev.")
  endif()
endif()

# torch_accelerated_use_private_spdlog(<target> <source>...): lets these sources of a target that
# never sees torch include spdlog and fmt.
function(torch_accelerated_use_private_spdlog target)
  set(definitions FMT_HEADER_ONLY fmt=torch_accelerated_fmt spdlog=torch_accelerated_spdlog)
  if(TARGET spdlog::spdlog)  # the including project's own
    set(includes $<TARGET_PROPERTY:spdlog::spdlog,INTERFACE_INCLUDE_DIRECTORIES>)
    set(own $<TARGET_PROPERTY:spdlog::spdlog,INTERFACE_COMPILE_DEFINITIONS>)
    list(APPEND definitions $<FILTER:${own},EXCLUDE,^\(SPDLOG_COMPILED_LIB|SPDLOG_SHARED_LIB|FMT_.*\)$>)
  else()
    set(includes ${TORCH_ACCELERATED_SPDLOG_INCLUDE})
    if(TORCH_ACCELERATED_FMT_INCLUDE)
      list(APPEND includes ${TORCH_ACCELERATED_FMT_INCLUDE})
    endif()
  endif()
  target_include_directories(${target} SYSTEM PRIVATE ${includes})
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_DEFINITIONS "${definitions}")
endfunction()

# --- nlohmann-json --------------------------------------------------------------------------------
# The same: used in few sources, under another name, and seen by nobody else.
if(NOT TARGET nlohmann_json::nlohmann_json)
  find_path(TORCH_ACCELERATED_JSON_INCLUDE nlohmann/json.hpp)
  mark_as_advanced(TORCH_ACCELERATED_JSON_INCLUDE)
  if(NOT TORCH_ACCELERATED_JSON_INCLUDE)
    message(FATAL_ERROR "nlohmann-json was not found; install nlohmann-json3-dev.")
  endif()
endif()

# torch_accelerated_use_private_json(<target> <source>...): lets these sources include nlohmann-json.
function(torch_accelerated_use_private_json target)
  if(TARGET nlohmann_json::nlohmann_json)  # the including project's own
    set(includes $<TARGET_PROPERTY:nlohmann_json::nlohmann_json,INTERFACE_INCLUDE_DIRECTORIES>)
  else()
    set(includes ${TORCH_ACCELERATED_JSON_INCLUDE})
  endif()
  target_include_directories(${target} SYSTEM PRIVATE ${includes})
  set_source_files_properties(${ARGN} PROPERTIES COMPILE_DEFINITIONS "nlohmann=torch_accelerated_nlohmann")
endfunction()

# --- MPI and NCCL ---------------------------------------------------------------------------------
set(TORCH_ACCELERATED_HAS_CUDA ${LibTorch_CUDA})

set(TORCH_ACCELERATED_HAS_MPI FALSE)
if(NOT TORCH_ACCELERATED_MPI STREQUAL "OFF")
  # A project that this one is added to keeps its languages.
  if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_C_COMPILER_LOADED)
    include(CheckLanguage)
    check_language(C)
    if(CMAKE_C_COMPILER)
      enable_language(C)
    endif()
  endif()
  include(TorchAcceleratedMpi)
  if(TARGET TorchAccelerated::mpi)
    set(TORCH_ACCELERATED_HAS_MPI TRUE)
  elseif(TORCH_ACCELERATED_MPI STREQUAL "ON")
    message(FATAL_ERROR "TORCH_ACCELERATED_MPI is ON, but no MPI was found; install libopenmpi-dev, "
                        "or set MPI_HOME to where one is.")
  endif()
endif()

# CUDA's runtime headers, which nccl.h and those of CUDA graphs include: a toolkit has them, and so has
# NVIDIA's wheel beside torch.
file(GLOB nvidia_includes "${LibTorch_NVIDIA_DIR}/*/include")
find_path(
  TORCH_ACCELERATED_CUDART_INCLUDE cuda_runtime.h
  HINTS ${nvidia_includes}
  PATHS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda
  PATH_SUFFIXES include)
mark_as_advanced(TORCH_ACCELERATED_CUDART_INCLUDE)

set(TORCH_ACCELERATED_HAS_NCCL FALSE)
if(NOT TORCH_ACCELERATED_NCCL STREQUAL "OFF")
  # LibTorch's own first: two NCCLs in a program don't work.
  find_path(TORCH_ACCELERATED_NCCL_INCLUDE nccl.h HINTS "${LibTorch_NVIDIA_DIR}/nccl/include")
  # Where nccl.h is a link into a toolkit, the library is beside what it leads to.
  get_filename_component(nccl_header "${TORCH_ACCELERATED_NCCL_INCLUDE}/nccl.h" REALPATH)
  get_filename_component(nccl_include "${nccl_header}" DIRECTORY)
  find_library(TORCH_ACCELERATED_NCCL_LIBRARY NAMES libnccl.so.2 nccl
               HINTS "${LibTorch_NVIDIA_DIR}/nccl/lib" "${nccl_include}/../lib" "${nccl_include}/../lib64")
  mark_as_advanced(TORCH_ACCELERATED_NCCL_INCLUDE TORCH_ACCELERATED_NCCL_LIBRARY)
  if(TORCH_ACCELERATED_NCCL_INCLUDE AND TORCH_ACCELERATED_NCCL_LIBRARY AND TORCH_ACCELERATED_CUDART_INCLUDE)
    set(TORCH_ACCELERATED_HAS_NCCL TRUE)
  elseif(TORCH_ACCELERATED_NCCL STREQUAL "ON")
    message(FATAL_ERROR "TORCH_ACCELERATED_NCCL is ON, but nccl.h, libnccl.so.2 or cuda_runtime.h was not found; run "
                        "\"python3 -m pip install nvidia-nccl-cu13 nvidia-cuda-runtime\" where torch is, or install "
                        "libnccl-dev and a CUDA toolkit.")
  endif()
endif()

# --- The table ------------------------------------------------------------------------------------

# torch_accelerated_print_dependencies(): what was found, at the end of a configuration.
function(torch_accelerated_print_dependencies)
  set(CUDA "no: ${LibTorch_CUDA_REASON}")
  if(LibTorch_CUDA)
    set(CUDA "${LibTorch_CUDA_VERSION}")
  endif()
  set(MPI "${MPI_C_LIBRARIES}${MPI_CXX_LIBRARIES}")
  set(NCCL "${TORCH_ACCELERATED_NCCL_LIBRARY}")
  foreach(feature MPI NCCL)
    if(NOT TORCH_ACCELERATED_HAS_${feature})
      set(${feature} "no: not found")
    endif()
    if(TORCH_ACCELERATED_${feature} STREQUAL "OFF")
      set(${feature} "no: switched off by TORCH_ACCELERATED_${feature}")
    endif()
  endforeach()
  message(STATUS "torch-accelerated ${PROJECT_VERSION}")
  message(STATUS "  LibTorch  ${LibTorch_VERSION}, ${LibTorch_DIR_FOUND}")
  message(STATUS "  CUDA      ${CUDA}")
  message(STATUS "  MPI       ${MPI}")
  message(STATUS "  NCCL      ${NCCL}")
endfunction()
