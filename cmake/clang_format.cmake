# SPDX-License-Identifier: Apache-2.0
# cmake -D check=format_check|format -D tool=... -D git=... -P clang_format.cmake
# in the repository: runs clang-format on every C++ file that git knows or would.

execute_process(
  COMMAND ${git} ls-files --cached --others --exclude-standard *.h *.cpp
  OUTPUT_VARIABLE text
  ERROR_VARIABLE why
  RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "git ls-files failed: ${why}")
endif()
string(STRIP "${text}" text)
string(REPLACE "\n" ";" files "${text}")
set(existing)
foreach(file IN LISTS files)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/${file})
    list(APPEND existing ${file})
  endif()
endforeach()

if(check STREQUAL "format")
  set(arguments -i)
else()
  set(arguments --dry-run -Werror --ferror-limit=1)
endif()
execute_process(COMMAND ${tool} ${arguments} ${existing} RESULT_VARIABLE status)
if(NOT status EQUAL 0)
  message(FATAL_ERROR "Some files are not formatted; cmake --build <folder> --target format does it.")
endif()
