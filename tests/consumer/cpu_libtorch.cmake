# SPDX-License-Identifier: Apache-2.0
# LibTorch's own CMake package of a CUDA build wants a CUDA toolkit and all CUDA libraries. As it is
# in a CPU build it can be configured, linked and run on any machine.

# replace_in(<file> <regex> <replacement>): fails where there is nothing to replace, as with another LibTorch.
function(replace_in file regex replacement)
  file(READ ${file} text)
  string(REGEX REPLACE "${regex}" "${replacement}" changed "${text}")
  if(changed STREQUAL text)
    message(FATAL_ERROR "${file} has nothing like \"${regex}\"; what a CPU build's package has there must be told anew")
  endif()
  file(WRITE ${file} "${changed}")
endfunction()

# make_cpu_libtorch(<CUDA build> <folder> <compiler>): a torch folder with links to the CPU part of another.
function(make_cpu_libtorch real folder compiler)
  file(REMOVE_RECURSE ${folder})
  file(MAKE_DIRECTORY ${folder}/lib)
  file(CREATE_LINK ${real}/include ${folder}/include SYMBOLIC)
  file(GLOB libraries ${real}/lib/*.so*)
  list(FILTER libraries EXCLUDE REGEX "/libtorch[.]so|cuda|nvrtc|nvshmem")
  foreach(library IN LISTS libraries)
    get_filename_component(name ${library} NAME)
    file(CREATE_LINK ${library} ${folder}/lib/${name} SYMBOLIC)
  endforeach()
  # libtorch_cpu.so of a CUDA build looks for libcudart and libcupti beside its folder.
  get_filename_component(site ${real} DIRECTORY)
  get_filename_component(beside ${folder} DIRECTORY)
  if(EXISTS ${site}/nvidia AND NOT EXISTS ${beside}/nvidia)
    file(CREATE_LINK ${site}/nvidia ${beside}/nvidia SYMBOLIC)
  endif()
  # An empty library, which only needs the others: with CUDA its CUDA part, too.
  execute_process(COMMAND ${compiler} -shared -x c++ /dev/null -Wl,-soname,libtorch.so -o ${folder}/lib/libtorch.so
                          COMMAND_ERROR_IS_FATAL ANY)

  file(COPY ${real}/share/cmake DESTINATION ${folder}/share)
  set(packages ${folder}/share/cmake)
  set(cuda_targets "c10_cuda|torch_nvshmem|torch_cuda|torch_cuda_library")
  replace_in(${packages}/Torch/TorchConfig.cmake "if\\(ON\\)(\n +if\\(MSVC\\)\n +find_library\\(CAFFE2_NVRTC)" "if(OFF)\\1")
  replace_in(${packages}/Caffe2/Caffe2Config.cmake "if\\(ON\\)(\n[^\n]*public/cuda[.]cmake)" "if(OFF)\\1")
  replace_in(${packages}/Caffe2/Caffe2Targets.cmake "# Create imported target (${cuda_targets})\n[^#]*" "")
  replace_in(${packages}/Caffe2/Caffe2Targets.cmake " (c10_cuda|torch_nvshmem|torch_cuda_library|torch_cuda)" "")
  replace_in(${packages}/Caffe2/Caffe2Targets.cmake ";torch_cuda_library" "")
  replace_in(${packages}/Caffe2/Caffe2Targets-release.cmake "# Import target \"(${cuda_targets})\"[^#]*" "")
endfunction()
