// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>

#include "checkpoint/file_io.h"

namespace torch_accelerated {

/// Keeps a directory for one job: a file in it that is locked (flock) as long as this lives, and
/// that says who has it. The system unlocks it when the process ends, however it ends.
class DirectoryLock {
 public:
  /// Locks the file "lock" in `directory`, which stays there afterwards.
  ///
  /// @param patience  how long to wait for another process to let go, such as one that is dying.
  /// @throws StateError  somebody else still has it; the text names host and process.
  /// @throws FileError   the file can't be written or locked.
  DirectoryLock(FileIo& io, const std::filesystem::path& directory,
                std::chrono::milliseconds patience);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  void acquire(const std::filesystem::path& directory, std::chrono::milliseconds patience) const;
  void write_holder(const std::filesystem::path& path) const;

  FileIo& io_;
  int file_;
  pid_t process_;  // that locked it, as a fork doesn't
};

}  // namespace torch_accelerated
