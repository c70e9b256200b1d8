// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace torch_accelerated {

/// A file whose bytes can be read as memory; it is not changed by that.
///
/// The bytes are the file's own, not a copy: who shortens it meanwhile ends a program that reads
/// beyond the new end (SIGBUS), unless `read_ahead` has noticed.
class MappedFile {
 public:
  /// Opens the regular file at `path`, or the one that a link there leads to.
  ///
  /// @throws FileError  there is none, it is a folder or a device, or what the system said.
  explicit MappedFile(std::string path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  /// All of them; those of a moved-from file are none.
  std::string_view bytes() const { return bytes_; }

  const std::string& path() const { return path_; }

  /// Brings `part`, a piece of `bytes()`, into memory, all at once and so faster than by touching
  /// it. Where the system can't do that at once, it is told what will be read.
  ///
  /// @throws FileError  the disk can't give it, or the file has become shorter.
  void read_ahead(std::string_view part) const;

 private:
  void unmap() noexcept;

  std::string path_;
  std::string_view bytes_;
};

}  // namespace torch_accelerated
