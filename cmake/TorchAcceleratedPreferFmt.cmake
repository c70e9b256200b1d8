# SPDX-License-Identifier: Apache-2.0
#[[
LibTorch's include folder holds the headers of an fmt of its own. A file that includes both torch and
<fmt/...> or <spdlog/...> gets that one, whatever fmt the target links, and then doesn't compile or
doesn't link. (Files that include torch alone, or fmt alone in a target that doesn't link torch, need
nothing; torch-accelerated's own fmt and spdlog are hidden and meet nobody's.)

  torch_accelerated_prefer_fmt(<target> [<include folder>])

puts a folder before LibTorch's in which there is nothing but a link to the user's fmt: the one in
<include folder>, else that of the target fmt::fmt, else the one that the compiler's own search finds.
]]
function(torch_accelerated_prefer_fmt target)
  set(folders ${ARGV1})
  if(NOT folders AND TARGET fmt::fmt)
    get_target_property(folders fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
    # A project that was added with add_subdirectory says $<BUILD_INTERFACE:folder>.
    string(REGEX REPLACE "\\$<BUILD_INTERFACE:([^>]*)>" "\\1" folders "${folders}")
  endif()
  if(NOT folders)
    find_path(TORCH_ACCELERATED_USER_FMT_INCLUDE fmt/format.h)
    mark_as_advanced(TORCH_ACCELERATED_USER_FMT_INCLUDE)
    set(folders ${TORCH_ACCELERATED_USER_FMT_INCLUDE})
  endif()
  foreach(folder IN LISTS folders)
    if(EXISTS "${folder}/fmt/format.h")
      get_filename_component(real "${folder}/fmt" REALPATH)
      string(MD5 name "${real}")
      set(link "${CMAKE_BINARY_DIR}/torch_accelerated_fmt/${name}")
      file(MAKE_DIRECTORY "${link}")
      file(CREATE_LINK "${real}" "${link}/fmt" SYMBOLIC)
      target_include_directories(${target} SYSTEM BEFORE PRIVATE "${link}")
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "torch_accelerated_prefer_fmt(${target}) found no fmt/format.h; call find_package(fmt) "
                      "before it, or give the include folder as the second argument.")
endfunction()
