// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>
#include <system_error>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {

/// Throws a FileError with the path, what can't be done with it, and what the system said.
[[noreturn]] inline void throw_file_error(const std::filesystem::path& path, std::string_view what,
                                          int error, std::string_view cure) {
  throw FileError(concat("'", path.string(), "' can't be ", what, " (",
                         std::generic_category().message(error), "); ", cure));
}

/// Whether the name is taken, be it by a link that leads nowhere; also where that can't be told.
inline bool is_taken(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::symlink_status(path, ignored).type() !=
         std::filesystem::file_type::not_found;
}

/// Whether it is a file itself, and no link to one.
inline bool is_file_itself(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(std::filesystem::symlink_status(path, ignored));
}

/// Whether it is a folder itself, and no link to one.
inline bool is_folder_itself(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::is_directory(std::filesystem::symlink_status(path, ignored));
}

}  // namespace torch_accelerated
