# SPDX-License-Identifier: Apache-2.0
# What continuous integration checks besides the tests, each a target:
#   format_check, format             clang-format 19; `format` rewrites
#   tidy                             clang-tidy 19 on TORCH_ACCELERATED_TIDY_FILES, else on what has changed
#   layers_check                     which file may include which, and what stands where
#   all_verify_interface_header_sets each public header compiles alone (CMake's own, since 3.24)
#   sanitize_check                   what never sees torch and its tests, with ASan and UBSan
#   docs_check                       the code and the links of README.md and docs/
#   consumer_check                   projects that use the library as a stranger would (tests/consumer)
#   benchmarks_check                 compiles tests/benchmarks

find_package(Python3 QUIET COMPONENTS Interpreter)
find_package(Git QUIET)
set(TORCH_ACCELERATED_TIDY_FILES "" CACHE STRING "Sources for the target tidy, relative to the repository")

# torch_accelerated_no_check(<target> <reason>): a check that can't run here fails and says why.
function(torch_accelerated_no_check target reason)
  add_custom_target(${target} COMMAND ${CMAKE_COMMAND} -E echo "${target}: ${reason}" COMMAND ${CMAKE_COMMAND} -E false)
endfunction()

# torch_accelerated_find_clang_tool(<variable> <name>): version 19 of it; others format otherwise.
function(torch_accelerated_find_clang_tool variable name)
  set(cache "$ENV{XDG_CACHE_HOME}")
  if(NOT cache)
    set(cache "$ENV{HOME}/.cache")
  endif()
  set(validator)
  if(CMAKE_VERSION VERSION_GREATER_EQUAL 3.25)
    set(validator VALIDATOR torch_accelerated_is_clang_19)
  endif()
  find_program(
    ${variable}
    NAMES ${name}-19 ${name}
    HINTS "${cache}/torch-accelerated/clang-tools-19/bin" ${validator})
  torch_accelerated_is_clang_19(is_19 "${${variable}}")
  if(NOT is_19)
    set_property(CACHE ${variable} PROPERTY VALUE ${variable}-NOTFOUND)
  endif()
  mark_as_advanced(${variable})
endfunction()
function(torch_accelerated_is_clang_19 result program)
  execute_process(COMMAND "${program}" --version OUTPUT_VARIABLE text ERROR_QUIET)
  set(${result} FALSE PARENT_SCOPE)
  if(text MATCHES "version 19[.]")
    set(${result} TRUE PARENT_SCOPE)
  endif()
endfunction()

# --- Format and tidy ------------------------------------------------------------------------------

torch_accelerated_find_clang_tool(TORCH_ACCELERATED_CLANG_FORMAT clang-format)
torch_accelerated_find_clang_tool(TORCH_ACCELERATED_CLANG_TIDY clang-tidy)
foreach(check format_check format)
  if(NOT TORCH_ACCELERATED_CLANG_FORMAT OR NOT Git_FOUND)
    torch_accelerated_no_check(
      ${check} "clang-format 19 and git are needed; python3 -m pip install clang-format==19.*, then configure again")
    continue()
  endif()
  add_custom_target(
    ${check}
    COMMAND ${CMAKE_COMMAND} -D check=${check} -D tool=${TORCH_ACCELERATED_CLANG_FORMAT} -D git=${GIT_EXECUTABLE} -P
            ${PROJECT_SOURCE_DIR}/cmake/clang_format.cmake
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    USES_TERMINAL VERBATIM)
endforeach()
if(NOT TORCH_ACCELERATED_CLANG_TIDY OR NOT Git_FOUND OR NOT Python3_FOUND)
  torch_accelerated_no_check(
    tidy "clang-tidy 19, git and a python3 are needed; python3 -m pip install clang-tidy==19.*, then configure again")
else()
  add_custom_target(
    tidy
    COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/cmake/tidy.py ${TORCH_ACCELERATED_CLANG_TIDY}
            ${PROJECT_BINARY_DIR} ${TORCH_ACCELERATED_TIDY_FILES}
    WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}
    USES_TERMINAL VERBATIM)
endif()

# --- Layers and documentation ---------------------------------------------------------------------

if(NOT Python3_FOUND)
  torch_accelerated_no_check(layers_check "a python3 is needed")
  torch_accelerated_no_check(docs_check "a python3 is needed")
else()
  set(layers ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/cmake/check_layers.py)
  add_custom_target(
    layers_check
    COMMAND ${layers} --self-test
    COMMAND ${layers} ${PROJECT_SOURCE_DIR}
    USES_TERMINAL VERBATIM)

  # One source a page, compiled as users' code is, with the precompiled header.
  set(docs ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/cmake/docs_check.py)
  file(GLOB pages CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/README.md ${PROJECT_SOURCE_DIR}/docs/*.md)
  set(page_sources)
  foreach(page IN LISTS pages)
    get_filename_component(name ${page} NAME_WE)
    set(source ${PROJECT_BINARY_DIR}/docs_check/${name}.cpp)
    add_custom_command(
      OUTPUT ${source}
      COMMAND ${docs} extract ${page} ${source}
      DEPENDS ${page} ${PROJECT_SOURCE_DIR}/cmake/docs_check.py
      VERBATIM)
    list(APPEND page_sources ${source})
  endforeach()
  file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/docs_check)
  add_custom_target(
    docs_check
    COMMAND ${docs} --self-test
    COMMAND ${docs} links ${PROJECT_SOURCE_DIR} ${pages}
    USES_TERMINAL VERBATIM)
  if(page_sources)
    add_library(docs_check_pages OBJECT EXCLUDE_FROM_ALL ${page_sources})
    torch_accelerated_settings(docs_check_pages)
    torch_accelerated_use_pch(docs_check_pages)
    # Less than a program: names may stay unused, each page says some twice, and a main in a
    # namespace is no main.
    target_compile_options(docs_check_pages PRIVATE -Wno-unused -Wno-shadow -Wno-return-type)
    target_link_libraries(docs_check_pages PRIVATE torch_accelerated)
    add_dependencies(docs_check docs_check_pages)
  endif()
endif()

# --- Sanitizers, consumers and benchmarks ---------------------------------------------------------

set(sanitize_dir ${PROJECT_BINARY_DIR}/sanitize)
add_custom_target(
  sanitize_check
  COMMAND
    ${CMAKE_COMMAND} -S ${PROJECT_SOURCE_DIR} -B ${sanitize_dir} -G ${CMAKE_GENERATOR}
    -DCMAKE_CXX_COMPILER=${CMAKE_CXX_COMPILER} -DCMAKE_BUILD_TYPE=Debug
    -DTORCH_ACCELERATED_SANITIZE=address$<SEMICOLON>undefined -DTORCH_ACCELERATED_PCH=OFF
    -DTORCH_ACCELERATED_BUILD_EXAMPLES=OFF -DTORCH_ACCELERATED_LIBTORCH=${LibTorch_DIR_FOUND}
  COMMAND ${CMAKE_COMMAND} --build ${sanitize_dir} --target tests_base tests_data
  COMMAND ${sanitize_dir}/tests/tests_base
  COMMAND ${sanitize_dir}/tests/tests_data
  USES_TERMINAL VERBATIM)

add_custom_target(
  consumer_check
  COMMAND ${CMAKE_CTEST_COMMAND} --test-dir ${PROJECT_BINARY_DIR} --no-tests=error --output-on-failure -L "^consumer$"
  DEPENDS torch_accelerated
  USES_TERMINAL VERBATIM)

# Benchmarks are built where they are asked for; here they only have to compile and link.
if(NOT TORCH_ACCELERATED_BUILD_BENCHMARKS)
  add_subdirectory(tests/benchmarks EXCLUDE_FROM_ALL)
endif()
get_property(benchmarks DIRECTORY tests/benchmarks PROPERTY BUILDSYSTEM_TARGETS)
add_custom_target(benchmarks_check DEPENDS ${benchmarks})
