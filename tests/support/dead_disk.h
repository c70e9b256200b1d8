// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cerrno>
#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "checkpoint/file_io.h"

namespace torch_accelerated::testing {

/// A disk on which nothing can be done from one operation on. It tells what was asked of it, such
/// as "sync update-000000002". While it lives it says that it has synced without doing so, which
/// saves time where the machine stays on.
class DeadDisk final : public FileIo {
 public:
  static constexpr auto kNever = static_cast<std::size_t>(-1);

  explicit DeadDisk(std::size_t dead_from) : dead_from_(dead_from) {}

  const std::vector<std::string>& asked() const { return asked_; }

  int open(const std::string& path, int flags, unsigned mode) override {
    const int file = is_dead("open", path) ? -1 : FileIo::open(path, flags, mode);
    if (file >= 0) opened_[file] = path;
    return file;
  }
  ssize_t write(int file, const void* data, std::size_t size, off_t offset) override {
    return is_dead("write", opened_[file]) ? -1 : FileIo::write(file, data, size, offset);
  }
  int sync(int file) override { return is_dead("sync", opened_[file]) ? -1 : 0; }
  int close(int file) override {
    FileIo::close(file);
    return is_dead("close", opened_[file]) ? -1 : 0;
  }
  int rename(const std::string& from, const std::string& to) override {
    return is_dead("rename", to) ? -1 : FileIo::rename(from, to);
  }
  int make_folder(const std::string& path, unsigned mode) override {
    return is_dead("make_folder", path) ? -1 : FileIo::make_folder(path, mode);
  }
  int remove(const std::string& path) override {
    return is_dead("remove", path) ? -1 : FileIo::remove(path);
  }
  int remove_folder(const std::string& path) override {
    return is_dead("remove_folder", path) ? -1 : FileIo::remove_folder(path);
  }

 private:
  bool is_dead(std::string_view call, const std::filesystem::path& file) {
    asked_.push_back(concat(call, " ", file.filename().string()));
    errno = EIO;
    return asked_.size() >= dead_from_;
  }

  std::size_t dead_from_;
  std::vector<std::string> asked_;
  std::map<int, std::string> opened_;
};

}  // namespace torch_accelerated::testing
