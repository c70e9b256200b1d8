// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "checkpoint/file_io.h"

namespace torch_accelerated {

/// A new file that is being written. All of it throws a FileError with the path and what the system
/// said; a file that wasn't finished by then is closed and removed by the destructor.
class OutputFile {
 public:
  /// Creates `path`, which nothing may have taken yet.
  OutputFile(FileIo& io, std::string path);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  /// Writes all of `bytes` at `offset`.
  void write(std::string_view bytes, std::uint64_t offset);

  /// Waits until the disk has everything, and closes.
  void finish();

 private:
  [[noreturn]] void fail(const char* what, int error);

  FileIo& io_;
  std::string path_;
  int file_;
};

/// Writes a small new file of `bytes`, to the disk.
void write_new_file(FileIo& io, const std::string& path, std::string_view bytes);

/// Gives a finished file its name, where another may have been, to the disk. Where it can't, `from`
/// is removed.
void rename_file(FileIo& io, const std::string& from, const std::string& to);

/// Waits until the disk has the names in `folder`.
void sync_folder(FileIo& io, const std::string& folder);

}  // namespace torch_accelerated
