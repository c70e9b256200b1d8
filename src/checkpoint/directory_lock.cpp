// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <ctime>
#include <fstream>
#include <string>
#include <string_view>
#include <thread>

#include "base/text.h"
#include "checkpoint/checkpoint_names.h"
#include "checkpoint/file_failure.h"
#include "distributed/host_name.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

// Always as long, so that a shorter text leaves nothing of the one before.
constexpr std::size_t kHolderBytes = 512;
constexpr std::string_view kCure =
    "give a directory that can be written to, on a file system with locks";

std::string boot_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id.empty() ? "unknown" : id;
}

std::string utc_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  std::array<char, 40> text{};
  if (::gmtime_r(&now, &parts) == nullptr) return "unknown";
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &parts)};
}

std::string holder_line() {
  return concat("host ", detail::host_name(), ", pid ", ::getpid(), ", since ", utc_now(),
                ", boot ", boot_id());
}

// What the one who has the lock wrote; it may not have come to that yet.
std::string holder_in(int file) {
  std::array<char, kHolderBytes> text{};
  const auto got = ::pread(file, text.data(), text.size(), 0);
  std::string line(text.data(), got > 0 ? static_cast<std::size_t>(got) : 0);
  line.resize(std::min(line.find(", boot "), line.size()));
  for (char& letter : line) letter = letter >= ' ' && letter <= '~' ? letter : '?';
  return line;
}

}  // namespace

DirectoryLock::DirectoryLock(FileIo& io, const std::filesystem::path& directory,
                             std::chrono::milliseconds patience)
    : io_(io), file_(-1), process_(::getpid()) {
  const auto path = directory / kLockName;
  file_ = io_.open(path.string(), O_RDWR | O_CREAT, 0666);
  if (file_ < 0) throw_file_error(path, "opened", errno, kCure);
  try {
    acquire(directory, patience);
    write_holder(path);
  } catch (...) {
    io_.close(file_);
    throw;
  }
}

DirectoryLock::~DirectoryLock() {
  // A child by fork has the same lock, and must not take it from its parent.
  if (::getpid() == process_) ::flock(file_, LOCK_UN);
  io_.close(file_);
}

void DirectoryLock::acquire(const std::filesystem::path& directory,
                            std::chrono::milliseconds patience) const {
  constexpr std::chrono::milliseconds kPause{20};
  const auto begin = std::chrono::steady_clock::now();
  while (::flock(file_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) throw_file_error(directory / kLockName, "locked", errno, kCure);
    if (std::chrono::steady_clock::now() - begin >= patience) {
      const auto holder = holder_in(file_);
      throw StateError(concat("checkpoint directory '", directory.string(), "': another job",
                              holder.empty() ? "" : concat(" (", holder, ")"),
                              " writes checkpoints there; wait for it or give another directory"));
    }
    std::this_thread::sleep_for(kPause);
  }
}

void DirectoryLock::write_holder(const std::filesystem::path& path) const {
  auto text = holder_line();
  text.resize(kHolderBytes - 1, ' ');
  text += '\n';
  std::string_view rest = text;
  while (!rest.empty()) {
    const auto written =
        io_.write(file_, rest.data(), rest.size(), static_cast<off_t>(text.size() - rest.size()));
    if (written > 0) {
      rest.remove_prefix(static_cast<std::size_t>(written));
    } else if (written == 0 || errno != EINTR) {
      throw_file_error(path, "written to", written == 0 ? ENOSPC : errno, kCure);
    }
  }
}

}  // namespace torch_accelerated
