// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>

namespace torch_accelerated {

int FileIo::open(const std::string& path, int flags, unsigned mode) {
  return ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, mode);
}

ssize_t FileIo::write(int file, const void* data, std::size_t size, off_t offset) {
  return ::pwrite(file, data, size, offset);
}

int FileIo::sync(int file) { return ::fsync(file); }

int FileIo::close(int file) { return ::close(file); }

int FileIo::rename(const std::string& from, const std::string& to) {
  return std::rename(from.c_str(), to.c_str());
}

int FileIo::make_folder(const std::string& path, unsigned mode) {
  return ::mkdir(path.c_str(), mode);
}

int FileIo::remove(const std::string& path) { return ::unlink(path.c_str()); }

int FileIo::remove_folder(const std::string& path) { return ::rmdir(path.c_str()); }

FileIo& system_io() {
  static FileIo io;
  return io;
}

}  // namespace torch_accelerated
