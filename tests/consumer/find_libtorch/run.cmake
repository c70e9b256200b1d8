# SPDX-License-Identifier: Apache-2.0
# cmake -D find_dir=... -D work_dir=... -D libtorch=... [-D python=...] -P run.cmake
# FindLibTorch.cmake against every layout that it has to know and every mistake that it has to name.
# `libtorch` is a real one; the layouts are made of links to it.
cmake_minimum_required(VERSION 3.22)

set(failures "")
set(count 0)

# expect(<case> <passes|fails> WITH <cmake arguments>... ENVIRONMENT <NAME=value>... SAYS <regexes>...
#        [NOT_SAYS <regexes>...])
function(expect case outcome)
  cmake_parse_arguments(PARSE_ARGV 2 it "" "" "WITH;ENVIRONMENT;SAYS;NOT_SAYS")
  file(REMOVE_RECURSE ${work_dir}/build)
  # Nothing of this machine's own counts: no Python with torch, no cache folder.
  execute_process(
    COMMAND
      ${CMAKE_COMMAND} -E env --unset=TORCH_ACCELERATED_LIBTORCH --unset=TORCH_ACCELERATED_PYTHON
      --unset=CMAKE_PREFIX_PATH --unset=Torch_DIR --unset=Torch_ROOT --unset=LD_LIBRARY_PATH
      PATH=${work_dir}/no_torch:/usr/bin:/bin XDG_CACHE_HOME=${work_dir}/no_cache ${it_ENVIRONMENT}
      ${CMAKE_COMMAND} -S ${CMAKE_CURRENT_LIST_DIR} -B ${work_dir}/build -D FIND_DIR=${find_dir} ${it_WITH}
    OUTPUT_VARIABLE output
    ERROR_VARIABLE output
    RESULT_VARIABLE status)
  string(REGEX REPLACE "[ \n]+" " " flat "${output}")  # CMake breaks the lines of its errors
  set(wrong "")
  if(outcome STREQUAL "passes" AND NOT status EQUAL 0)
    set(wrong "it failed")
  elseif(outcome STREQUAL "fails" AND status EQUAL 0)
    set(wrong "it passed")
  endif()
  if(outcome STREQUAL "fails")
    string(REGEX MATCHALL "CMake (Error|Warning)" messages "${flat}")
    list(LENGTH messages messages)
    if(NOT messages EQUAL 1)
      string(APPEND wrong " it made ${messages} messages")
    endif()
  endif()
  foreach(regex IN LISTS it_SAYS)
    if(NOT flat MATCHES "${regex}")
      string(APPEND wrong " nothing said \"${regex}\"")
    endif()
  endforeach()
  foreach(regex IN LISTS it_NOT_SAYS)
    if(flat MATCHES "${regex}")
      string(APPEND wrong " something said \"${regex}\"")
    endif()
  endforeach()
  if(wrong)
    message("--- ${case}: ${wrong}\n${output}")
    set(failures "${failures}\n  ${case}" PARENT_SCOPE)
  endif()
  math(EXPR count "${count} + 1")
  set(count ${count} PARENT_SCOPE)
endfunction()

# link_tree(<folder> <names>...): a folder with links to these parts of the real LibTorch.
function(link_tree folder)
  file(MAKE_DIRECTORY ${folder})
  foreach(name IN LISTS ARGN)
    file(CREATE_LINK ${libtorch}/${name} ${folder}/${name} SYMBOLIC)
  endforeach()
endfunction()

# link_folder(<folder> <real folder> <excluded regex>): a folder with links to what is in another.
function(link_folder folder real excluded)
  file(MAKE_DIRECTORY ${folder})
  file(GLOB paths ${real}/*)
  foreach(path IN LISTS paths)
    get_filename_component(name ${path} NAME)
    if(NOT name MATCHES "${excluded}")
      file(CREATE_LINK ${path} ${folder}/${name} SYMBOLIC)
    endif()
  endforeach()
endfunction()

# versioned(<folder> <major> <minor>): a LibTorch whose header tells this version.
function(versioned folder major minor)
  link_folder(${folder}/lib ${libtorch}/lib "^$")
  file(MAKE_DIRECTORY ${folder}/include/torch/headeronly ${folder}/include/torch/csrc/api/include/torch)
  file(WRITE ${folder}/include/torch/csrc/api/include/torch/torch.h "")
  file(WRITE ${folder}/include/torch/headeronly/version.h
       "#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH 1\n")
endfunction()

file(REMOVE_RECURSE ${work_dir})
file(MAKE_DIRECTORY ${work_dir}/no_torch)
file(CREATE_LINK /bin/false ${work_dir}/no_torch/python3 SYMBOLIC)
get_filename_component(libtorch ${libtorch} REALPATH)
get_filename_component(site ${libtorch} DIRECTORY)
file(STRINGS ${libtorch}/include/torch/headeronly/version.h version REGEX "define TORCH_VERSION_(MAJOR|MINOR|PATCH) ")
list(TRANSFORM version REPLACE "^.* " "")
list(JOIN version "[.]" version)
set(found "LibTorch ${version} in ")

# --- Layouts --------------------------------------------------------------------------------------
expect("a torch folder" passes WITH -D TORCH_ACCELERATED_LIBTORCH=${libtorch}
       SAYS "${found}${libtorch}, (CUDA|CPU)" "links [^ ]*LibTorch::torch_cpu" "includes ${libtorch}/include;" "languages NONE[.]")
expect("a torch folder in the environment" passes ENVIRONMENT TORCH_ACCELERATED_LIBTORCH=${libtorch} SAYS "${found}")
expect("a site-packages folder" passes WITH -D TORCH_ACCELERATED_LIBTORCH=${site} SAYS "${found}${libtorch}")
expect("a prefix path as torch.utils.cmake_prefix_path gives it" passes
       WITH -D CMAKE_PREFIX_PATH=/usr/no_such_folder\;${libtorch}/share/cmake SAYS "${found}${libtorch}")
expect("a prefix path as of an unpacked archive" passes WITH -D CMAKE_PREFIX_PATH=${libtorch} SAYS "${found}${libtorch}")
expect("a prefix path in the environment" passes ENVIRONMENT CMAKE_PREFIX_PATH=/usr/no_such_folder:${libtorch} SAYS "${found}")
expect("Torch_DIR" passes WITH -D Torch_DIR=${libtorch}/share/cmake/Torch SAYS "${found}${libtorch}")
expect("Torch_DIR in the environment" passes ENVIRONMENT Torch_DIR=${libtorch}/share/cmake/Torch SAYS "${found}${libtorch}")
expect("Torch_ROOT in the environment" passes ENVIRONMENT Torch_ROOT=${libtorch} SAYS "${found}${libtorch}")
expect("a prefix path of a folder with torch in it" passes WITH -D CMAKE_PREFIX_PATH=${site} SAYS "${found}${libtorch}")
expect("a hint" passes WITH -D LibTorch_HINT=${libtorch} SAYS "${found}${libtorch}")
file(STRINGS ${work_dir}/build/CMakeCache.txt kept REGEX "^_LibTorch_last:INTERNAL=${libtorch}$")
if(NOT kept)
  message(FATAL_ERROR "the cache has no _LibTorch_last, which cmake/libtorch.sh reads")
endif()
expect("CUDA switched off" passes WITH -D TORCH_ACCELERATED_LIBTORCH=${libtorch} -D TORCH_ACCELERATED_CUDA=OFF
       SAYS "CPU [(]switched off" NOT_SAYS "torch_cuda")
expect("after find_package(Torch)" passes WITH -D TORCH_CPU=${libtorch}/lib/libtorch_cpu.so SAYS "${found}${libtorch}")

# The cache folder that cmake/setup.sh fills.
file(MAKE_DIRECTORY ${work_dir}/cache/torch-accelerated)
file(CREATE_LINK ${site} ${work_dir}/cache/torch-accelerated/libtorch-2.11.0 SYMBOLIC)
expect("the cache folder" passes ENVIRONMENT XDG_CACHE_HOME=${work_dir}/cache SAYS "${found}${libtorch}")

# An unpacked archive: no version.py, and here no NVIDIA wheels beside it.
link_tree(${work_dir}/archive/libtorch lib include share)
expect("an unpacked archive" passes WITH -D TORCH_ACCELERATED_LIBTORCH=${work_dir}/archive/libtorch SAYS "${found}")
expect("the folder of an unpacked archive" passes WITH -D TORCH_ACCELERATED_LIBTORCH=${work_dir}/archive SAYS "${found}")

# A CPU build: only these libraries.
link_tree(${work_dir}/cpu include)
link_folder(${work_dir}/cpu/lib ${libtorch}/lib "cuda|nvrtc|nvshmem")
expect("a CPU build" passes WITH -D TORCH_ACCELERATED_LIBTORCH=${work_dir}/cpu SAYS "${found}" "CPU [(]a CPU build[)]" NOT_SAYS "torch_cuda")
expect("a CPU build where CUDA is wanted" fails
       WITH -D TORCH_ACCELERATED_LIBTORCH=${work_dir}/cpu -D TORCH_ACCELERATED_CUDA=ON
       SAYS "TORCH_ACCELERATED_CUDA is ON, but .*a CPU build.*; install a CUDA build")

# A CUDA build with all that it needs: names are enough for CMake.
link_tree(${work_dir}/cuda/torch include)
link_folder(${work_dir}/cuda/torch/lib ${libtorch}/lib "^$")
file(WRITE ${work_dir}/cuda/torch/version.py "__version__ = '2.11.0+cu130'\ncuda: Optional[str] = '13.0'\n")
foreach(name cudart.so.13 cupti.so.13 cusparse.so.12 cufft.so.12 cufile.so.0 cusparseLt.so.0 nccl.so.2 curand.so.10
             cublas.so.13 cublasLt.so.13 cudnn.so.9 nvshmem_host.so.3 cusolver.so.12 nvJitLink.so.13 nvrtc.so.13)
  file(WRITE ${work_dir}/cuda/nvidia/all/lib/lib${name} "")
endforeach()
if(EXISTS ${libtorch}/lib/libtorch_cuda.so)
  expect("a CUDA build" passes WITH -D TORCH_ACCELERATED_LIBTORCH=${work_dir}/cuda -D TORCH_ACCELERATED_CUDA=ON
         SAYS "${found}[^ ]*, CUDA 13[.]0" "links [^ ]*--no-as-needed,[^ ]*libtorch_cuda.so.*LibTorch::torch_cuda" "languages NONE[.]")
endif()

# The wheel of a Python, which is asked and doesn't import it.
if(python)
  file(MAKE_DIRECTORY ${work_dir}/site)
  link_tree(${work_dir}/site/torch lib include share)
  file(WRITE ${work_dir}/site/torch/__init__.py "raise SystemExit('imported')\n")
  file(CREATE_LINK ${site}/nvidia ${work_dir}/site/nvidia SYMBOLIC)
  file(WRITE ${work_dir}/python/python3 "#!/bin/sh\nPYTHONPATH=${work_dir}/site exec ${python} \"$@\"\n")
  file(CHMOD ${work_dir}/python/python3 PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE)
  set(own "${found}${work_dir}/site/torch")
  expect("the Python that is asked for" passes WITH -D TORCH_ACCELERATED_PYTHON=${work_dir}/python/python3 SAYS "${own}" NOT_SAYS "imported")
  expect("the Python that the environment asks for" passes ENVIRONMENT TORCH_ACCELERATED_PYTHON=${work_dir}/python/python3 SAYS "${own}")
  expect("the Python on the PATH" passes ENVIRONMENT PATH=${work_dir}/python:/usr/bin:/bin SAYS "${own}")
  expect("an asked Python comes before a prefix path" passes
         WITH -D TORCH_ACCELERATED_PYTHON=${work_dir}/python/python3 -D CMAKE_PREFIX_PATH=${libtorch} SAYS "${own}")
  expect("a hint comes before the Python on the PATH" passes
         WITH -D LibTorch_HINT=${libtorch} ENVIRONMENT PATH=${work_dir}/python:/usr/bin:/bin SAYS "${found}${libtorch}")
  expect("a prefix path comes before a hint" passes
         WITH -D LibTorch_HINT=${libtorch} ENVIRONMENT CMAKE_PREFIX_PATH=${work_dir}/site SAYS "${own}")
endif()

# --- Mistakes, each one sentence that says what to do ----------------------------------------------
expect("nothing anywhere" fails
       SAYS "LibTorch was not found; run cmake/setup.sh, or \"python3 -m pip install torch==2.11.0\", or set TORCH_ACCELERATED_LIBTORCH to an unpacked LibTorch 2.11[.] ")
expect("a wrong path" fails WITH -D TORCH_ACCELERATED_LIBTORCH=${work_dir}/none
       SAYS "TORCH_ACCELERATED_LIBTORCH is \"${work_dir}/none\", where there is no lib/libtorch_cpu.so with its headers; set it to")
expect("a wrong path in the environment though there is another" fails
       ENVIRONMENT TORCH_ACCELERATED_LIBTORCH=${work_dir}/none CMAKE_PREFIX_PATH=${libtorch} SAYS "is \"${work_dir}/none\", where")
expect("a Python without torch" fails WITH -D TORCH_ACCELERATED_PYTHON=/bin/false SAYS "\"/bin/false\", which has no torch .*; run ")
expect("another one than find_package(Torch) found" fails
       WITH -D TORCH_ACCELERATED_LIBTORCH=${work_dir}/cpu -D TORCH_CPU=${libtorch}/lib/libtorch_cpu.so
       SAYS "find_package[(]Torch[)] found LibTorch in .*only one, so set both to the same")

versioned(${work_dir}/old/torch 2 6)
versioned(${work_dir}/new/torch 2 12)
expect("too old" fails WITH -D TORCH_ACCELERATED_LIBTORCH=${work_dir}/old
       SAYS "LibTorch 2.11 or newer is needed, found 2.6.1 in .*; run ")
expect("too old on the prefix path" fails WITH -D CMAKE_PREFIX_PATH=${work_dir}/old
       SAYS "LibTorch 2.11 or newer is needed, found 2.6.1 in .*; run ")
expect("too old on the prefix path, a good one behind it" passes
       WITH -D CMAKE_PREFIX_PATH=${work_dir}/old\;${libtorch} SAYS "${found}${libtorch}")
file(CREATE_LINK ${site}/nvidia ${work_dir}/new/nvidia SYMBOLIC)
expect("newer" passes WITH -D TORCH_ACCELERATED_LIBTORCH=${work_dir}/new SAYS "LibTorch 2.12.1 in .*; 2.11 is the version that is tested")

if(failures)
  message(FATAL_ERROR "FindLibTorch.cmake, of ${count} cases these failed:${failures}")
endif()
message(STATUS "FindLibTorch.cmake: ${count} cases")
