// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <functional>
#include <limits>
#include <string>
#include <utility>

#include "checkpoint/file_io.h"

namespace torch_accelerated::testing {

/// The system, which counts what is asked of it and makes one operation fail, or the process end
/// before it. Operations count from 1, in the order of the calls; any thread may make them.
class FaultyIo final : public FileIo {
 public:
  static constexpr int kKilled = 86;  ///< the exit status after kill_at

  /// Operation `k` does nothing and fails with this errno (a close does close: so does the system).
  void fail_at(std::size_t k, int error) {
    at_ = k;
    error_ = error;
  }

  /// Calls `hook` before operation `k`, which is then done.
  void call_at(std::size_t k, std::function<void()> hook) {
    at_ = k;
    hook_ = std::move(hook);
  }

  /// The process ends before operation `k`, at once, as kill -9 ends it.
  void kill_at(std::size_t k) {
    call_at(k, [] { ::_exit(kKilled); });
  }

  /// No write takes more than this many bytes from now on.
  void write_at_most(std::size_t bytes) { most_ = bytes; }

  /// How many there were.
  std::size_t operations() const { return operations_; }

  int open(const std::string& path, int flags, unsigned mode) override {
    return fails() ? -1 : FileIo::open(path, flags, mode);
  }
  ssize_t write(int file, const void* data, std::size_t size, off_t offset) override {
    return fails() ? -1 : FileIo::write(file, data, std::min(size, most_), offset);
  }
  int sync(int file) override { return fails() ? -1 : FileIo::sync(file); }
  int close(int file) override {
    const bool is_failing = fails();
    const int result = FileIo::close(file);
    if (is_failing) errno = error_;
    return is_failing ? -1 : result;
  }
  int rename(const std::string& from, const std::string& to) override {
    return fails() ? -1 : FileIo::rename(from, to);
  }
  int make_folder(const std::string& path, unsigned mode) override {
    return fails() ? -1 : FileIo::make_folder(path, mode);
  }
  int remove(const std::string& path) override { return fails() ? -1 : FileIo::remove(path); }
  int remove_folder(const std::string& path) override {
    return fails() ? -1 : FileIo::remove_folder(path);
  }

 private:
  bool fails() {
    if (++operations_ != at_) return false;
    if (hook_) hook_();
    if (error_ == 0) return false;
    errno = error_;
    return true;
  }

  std::atomic<std::size_t> operations_ = 0;
  std::size_t at_ = 0;  // none
  int error_ = 0;
  std::function<void()> hook_;
  std::size_t most_ = std::numeric_limits<std::size_t>::max();
};

}  // namespace torch_accelerated::testing
