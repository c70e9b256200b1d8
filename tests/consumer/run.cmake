# SPDX-License-Identifier: Apache-2.0
# cmake -D case=... -D build=<the library's build folder> -D work=<folder> -D generator=... -D compiler=...
#       -D libtorch=<its folder> -P run.cmake
# Configures, builds and runs one of the projects beside this file, as a stranger would.
cmake_minimum_required(VERSION 3.22)
set(here ${CMAKE_CURRENT_LIST_DIR})
get_filename_component(repository ${here}/../.. ABSOLUTE)

# must(<what> COMMAND ...): shows what was said where it failed.
function(must what)
  execute_process(${ARGN} RESULT_VARIABLE status OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT status EQUAL 0)
    message("${output}")
    message(FATAL_ERROR "${case}: ${what} failed (${status})")
  endif()
  set(output "${output}" PARENT_SCOPE)
endfunction()

# configure_consumer(<project> <source> <cmake arguments>...): sets `folder` to its build folder.
function(configure_consumer project source)
  set(folder ${work}/${case}/${project})
  file(REMOVE_RECURSE ${folder})
  must(configuring
       COMMAND ${CMAKE_COMMAND} -S ${here}/${project} -B ${folder} -G ${generator} -D CMAKE_CXX_COMPILER=${compiler}
               -D CMAKE_BUILD_TYPE=Release -D SOURCE=${here}/${source} ${ARGN})
  set(folder ${folder} PARENT_SCOPE)
endfunction()

# consumer(<project> <source> <cmake arguments>...): the three steps of a user.
function(consumer project source)
  configure_consumer(${project} ${source} ${ARGN})
  must(building COMMAND ${CMAKE_COMMAND} --build ${folder} --parallel 2)
  if(output MATCHES "warning:")
    message("${output}")
    message(FATAL_ERROR "${case}: the library's headers make warnings in a user's build")
  endif()
  must(running COMMAND ${folder}/program)
  message("${output}")
endfunction()

if(case STREQUAL "install")
  # A fixture: the others use what this installs.
  file(REMOVE_RECURSE ${work}/prefix)
  must(installing COMMAND ${CMAKE_COMMAND} --install ${build} --prefix ${work}/prefix)
elseif(case STREQUAL "find_package_installed")
  consumer(find_package train.cpp -D CMAKE_PREFIX_PATH=${work}/prefix)
elseif(case STREQUAL "weights")
  consumer(weights weights.cpp -D CMAKE_PREFIX_PATH=${work}/prefix)
elseif(case STREQUAL "find_package_build_folder")
  consumer(find_package base.cpp -D TorchAccelerated_DIR=${build})
elseif(case STREQUAL "add_subdirectory_shared")
  # The one that compiles the library again, so it is also the one that installs a shared library and
  # has no MPI, and does without optimisation, which takes half of the time. With MPI it is configured.
  set(arguments -D LIBRARY_DIR=${repository} -D BUILD_SHARED_LIBS=ON -D CMAKE_CXX_FLAGS_RELEASE=-O0 -D
                TORCH_ACCELERATED_INSTALL=ON -D TORCH_ACCELERATED_PCH=ON -D TORCH_ACCELERATED_LIBTORCH=${libtorch})
  configure_consumer(add_subdirectory train.cpp ${arguments})
  consumer(add_subdirectory train.cpp ${arguments} -D TORCH_ACCELERATED_MPI=OFF)
  set(folder ${work}/${case}/add_subdirectory)
  execute_process(COMMAND ${CMAKE_COMMAND} -E env OMPI_COMM_WORLD_SIZE=2 ${folder}/program OUTPUT_VARIABLE output
                                                                                           ERROR_VARIABLE output)
  if(NOT output MATCHES "announces 2 ranks, but torch-accelerated was built without MPI")
    message("${output}")
    message(FATAL_ERROR "${case}: started as one of two ranks, a program without MPI doesn't say so")
  endif()
  file(REMOVE_RECURSE ${work}/shared_prefix)
  must(installing COMMAND ${CMAKE_COMMAND} --install ${folder} --prefix ${work}/shared_prefix)
  consumer(find_package base.cpp -D CMAKE_PREFIX_PATH=${work}/shared_prefix -D MPI=FALSE)
elseif(case MATCHES "^own_torch_(before|after)$")
  set(order ${CMAKE_MATCH_1})
  set(cpu_libtorch ${libtorch})
  if(EXISTS ${libtorch}/lib/libtorch_cuda.so)
    include(${here}/cpu_libtorch.cmake)
    set(cpu_libtorch ${work}/${case}/cpu/torch)
    make_cpu_libtorch(${libtorch} ${cpu_libtorch} ${compiler})
  endif()
  consumer(own_torch base.cpp -D ORDER=${order} -D CMAKE_PREFIX_PATH=${work}/prefix
           -D Torch_DIR=${cpu_libtorch}/share/cmake/Torch)
  # The package of a CUDA build as it is, which wants a toolkit.
  find_program(nvcc nvcc HINTS ENV CUDA_HOME /usr/local/cuda/bin)
  if(nvcc AND NOT cpu_libtorch STREQUAL libtorch)
    consumer(own_torch base.cpp -D ORDER=${order} -D CMAKE_PREFIX_PATH=${work}/prefix
             -D Torch_DIR=${libtorch}/share/cmake/Torch)
  endif()
elseif(case STREQUAL "own_fmt")
  consumer(own_fmt own_fmt/main.cpp -D CMAKE_PREFIX_PATH=${work}/prefix)
else()
  message(FATAL_ERROR "no case ${case}")
endif()
