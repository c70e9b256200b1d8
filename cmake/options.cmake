# SPDX-License-Identifier: Apache-2.0
# What can be set from outside. Whoever adds this project to their own gets the library and nothing else.

option(TORCH_ACCELERATED_BUILD_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(TORCH_ACCELERATED_BUILD_EXAMPLES "Build the examples" ${PROJECT_IS_TOP_LEVEL})
option(TORCH_ACCELERATED_BUILD_BENCHMARKS "Build the benchmarks" OFF)
option(TORCH_ACCELERATED_INSTALL "Make the rules that install the library" ${PROJECT_IS_TOP_LEVEL})
option(TORCH_ACCELERATED_WERROR "Treat this project's warnings as errors" ${PROJECT_IS_TOP_LEVEL})
option(TORCH_ACCELERATED_PCH "Precompile <torch/torch.h>" ${PROJECT_IS_TOP_LEVEL})
option(TORCH_ACCELERATED_UNITY "Compile several sources as one, which is quicker" ON)
set(TORCH_ACCELERATED_SANITIZE "" CACHE STRING "Sanitizers to build with, such as address;undefined")

# AUTO uses what is found; ON makes its absence an error; OFF doesn't look.
foreach(feature CUDA MPI NCCL)
  set(TORCH_ACCELERATED_${feature} AUTO CACHE STRING "Use ${feature}: AUTO, ON or OFF")
  set_property(CACHE TORCH_ACCELERATED_${feature} PROPERTY STRINGS AUTO ON OFF)
  if(NOT "${TORCH_ACCELERATED_${feature}}" MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR "TORCH_ACCELERATED_${feature} is \"${TORCH_ACCELERATED_${feature}}\"; "
                        "it has to be AUTO, ON or OFF.")
  endif()
endforeach()

# Where LibTorch is looked for is told in FindLibTorch.cmake.
set(TORCH_ACCELERATED_LIBTORCH "" CACHE PATH "LibTorch: an unpacked archive or a wheel's torch folder")
set(TORCH_ACCELERATED_PYTHON "" CACHE FILEPATH "The Python whose torch wheel is used")

if(PROJECT_IS_TOP_LEVEL)
  get_property(multi_config GLOBAL PROPERTY GENERATOR_IS_MULTI_CONFIG)
  if(NOT CMAKE_BUILD_TYPE AND NOT multi_config)
    set(CMAKE_BUILD_TYPE Release CACHE STRING "Debug, Release, RelWithDebInfo or MinSizeRel" FORCE)
  endif()
  # The arithmetic is LibTorch's, so -O3 would buy nothing here but longer builds.
  string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")
  set(CMAKE_EXPORT_COMPILE_COMMANDS ON)

  find_program(TORCH_ACCELERATED_CCACHE ccache)
  mark_as_advanced(TORCH_ACCELERATED_CCACHE)
  if(TORCH_ACCELERATED_CCACHE AND NOT DEFINED CMAKE_CXX_COMPILER_LAUNCHER)
    # Without these, ccache leaves every file alone that uses a precompiled header.
    set(CMAKE_CXX_COMPILER_LAUNCHER
        ${CMAKE_COMMAND} -E env
        CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
        ${TORCH_ACCELERATED_CCACHE})
  endif()
endif()

if(CMAKE_CXX_COMPILER_ID MATCHES "^(GNU|Clang)$")
  set(oldest_GNU 12)
  set(oldest_Clang 19)
  if(CMAKE_CXX_COMPILER_VERSION VERSION_LESS oldest_${CMAKE_CXX_COMPILER_ID})
    message(WARNING "torch-accelerated is tested with g++ 12 and clang 19; ${CMAKE_CXX_COMPILER_ID} "
                    "${CMAKE_CXX_COMPILER_VERSION} may not compile it, -DCMAKE_CXX_COMPILER names another.")
  endif()
endif()
