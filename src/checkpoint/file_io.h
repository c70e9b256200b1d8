// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

namespace torch_accelerated {

/// What writing files asks of the system: the seam at which tests make it fail, or end the process.
///
/// Each call is one system call and gives what that gives: -1 with errno where it failed.
class FileIo {
 public:
  FileIo() = default;
  virtual ~FileIo() = default;
  FileIo(const FileIo&) = delete;
  FileIo& operator=(const FileIo&) = delete;

  virtual int open(const std::string& path, int flags, unsigned mode);
  virtual ssize_t write(int file, const void* data, std::size_t size, off_t offset);
  virtual int sync(int file);
  virtual int close(int file);
  virtual int rename(const std::string& from, const std::string& to);
  virtual int make_folder(const std::string& path, unsigned mode);
  virtual int remove(const std::string& path);         ///< a file or a link
  virtual int remove_folder(const std::string& path);  ///< an empty one
};

/// The system itself.
FileIo& system_io();

}  // namespace torch_accelerated
