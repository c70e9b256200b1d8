// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/regular_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "checkpoint/file_failure.h"

namespace torch_accelerated {
namespace {

constexpr std::string_view kCure = "check the file and its permissions";

}  // namespace

std::optional<RegularFile> RegularFile::open(const std::filesystem::path& path) {
  RegularFile opened(path);
  // A pipe would keep the call waiting for somebody who writes.
  opened.file_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
  if (opened.file_ < 0 && errno == ENOENT) return std::nullopt;
  if (opened.file_ < 0 && errno == ELOOP) {
    throw_file_error(path, "read: it is a link, expected a file", ELOOP, kCure);
  }
  if (opened.file_ < 0) throw_file_error(path, "opened", errno, kCure);
  struct ::stat status{};
  if (::fstat(opened.file_, &status) != 0) throw_file_error(path, "opened", errno, kCure);
  if (!S_ISREG(status.st_mode)) {
    throw_file_error(path, "read: it is no regular file", S_ISDIR(status.st_mode) ? EISDIR : EINVAL,
                     kCure);
  }
  opened.size_ = static_cast<std::uint64_t>(status.st_size);
  return opened;
}

RegularFile::RegularFile(RegularFile&& other) noexcept
    : path_(std::move(other.path_)), file_(std::exchange(other.file_, -1)), size_(other.size_) {}

RegularFile::~RegularFile() {
  if (file_ >= 0) ::close(file_);
}

std::size_t RegularFile::read(void* data, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const auto got = ::read(file_, static_cast<char*>(data) + done, size - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw_file_error(path_, "read", errno, kCure);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

}  // namespace torch_accelerated
