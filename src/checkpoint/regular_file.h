// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>

namespace torch_accelerated {

/// A file that is read from its beginning to its end: never a link, a device or a pipe.
class RegularFile {
 public:
  /// Nothing where no file has this name.
  /// @throws FileError  it is there, but can't be opened or is something else.
  static std::optional<RegularFile> open(const std::filesystem::path& path);

  RegularFile(RegularFile&& other) noexcept;
  RegularFile& operator=(RegularFile&&) = delete;
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;
  ~RegularFile();

  /// Bytes, when it was opened.
  std::uint64_t size() const { return size_; }

  /// Reads the next bytes, as many as there are up to `size`; 0 at the end.
  /// @throws FileError  with what the system said.
  std::size_t read(void* data, std::size_t size);

 private:
  explicit RegularFile(const std::filesystem::path& path) : path_(path) {}

  std::filesystem::path path_;
  int file_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace torch_accelerated
