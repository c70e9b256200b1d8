# SPDX-License-Identifier: Apache-2.0
# How this project's own targets are compiled; nothing of it reaches a user's targets.

# torch_accelerated_settings(<target>): C++20, warnings and sanitizers.
function(torch_accelerated_settings target)
  target_compile_features(${target} PRIVATE cxx_std_20)
  set_target_properties(${target} PROPERTIES CXX_EXTENSIONS OFF)
  if(PROJECT_IS_TOP_LEVEL)
    target_compile_options(
      ${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
                        $<$<BOOL:${TORCH_ACCELERATED_WERROR}>:-Werror>)
  else()
    target_compile_options(${target} PRIVATE -w)  # whatever flags the including project has
  endif()
  # One model of code for the library, tests and examples, so that they can share a precompiled header.
  # Calls don't go through tables that would let another library take a function's place.
  target_compile_options(${target} PRIVATE -fPIC -fno-semantic-interposition -fno-plt)
  if(TORCH_ACCELERATED_SANITIZE)
    list(JOIN TORCH_ACCELERATED_SANITIZE "," sanitizers)
    target_compile_options(${target} PRIVATE -fsanitize=${sanitizers} -fno-sanitize-recover=all
                                             -fno-omit-frame-pointer -g1)
    target_link_options(${target} PUBLIC $<BUILD_INTERFACE:-fsanitize=${sanitizers}>)
  endif()
endfunction()

# torch_accelerated_use_pch(<target>): the library's precompiled <torch/torch.h>, where it has one.
function(torch_accelerated_use_pch target)
  if(TORCH_ACCELERATED_PCH)
    target_precompile_headers(${target} REUSE_FROM torch_accelerated_weights)
  endif()
endfunction()

# torch_accelerated_compile_together(<target>): eight of its sources at a time as one, since a source
# that sees torch takes six seconds before its first line. Names in their unnamed namespaces have to
# differ.
function(torch_accelerated_compile_together target)
  if(TORCH_ACCELERATED_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
    # g++ takes all but the first of them for headers.
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()

# torch_accelerated_quick_tests(<target>): tests are compiled more often than they run, and what they
# test has its own flags.
function(torch_accelerated_quick_tests target)
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)
endfunction()
