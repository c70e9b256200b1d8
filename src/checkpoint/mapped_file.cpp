// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <system_error>
#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

[[noreturn]] void fail(const std::string& path, const char* what, int error, const char* cure) {
  throw FileError(concat("'", path, "' can't be ", what, " (",
                         std::generic_category().message(error), "); ", cure));
}

/// Closes a file at the end of the scope; its mapping stays.
struct OpenFile {
  int number;

  explicit OpenFile(int opened) : number(opened) {}
  ~OpenFile() { ::close(number); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
};

// Without O_NONBLOCK, opening a pipe would wait for a writer, rather than get to be refused.
int open_to_read(const std::string& path) {
  int file = -1;
  do {
    file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (file < 0 && errno == EINTR);
  if (file < 0) fail(path, "opened", errno, "check the name and its permissions");
  return file;
}

std::size_t size_of(const OpenFile& file, const std::string& path) {
  struct stat status{};
  if (::fstat(file.number, &status) != 0) fail(path, "read", errno, "check the disk");
  if (!S_ISREG(status.st_mode)) {
    throw FileError(concat("'", path, "' is ",
                           S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe",
                           ", expected a regular file; give the name of the file itself"));
  }
  if (static_cast<std::uint64_t>(status.st_size) > std::numeric_limits<std::size_t>::max()) {
    fail(path, "mapped", EFBIG, "it is larger than this machine's memory addresses");
  }
  return static_cast<std::size_t>(status.st_size);
}

}  // namespace

MappedFile::MappedFile(std::string path) : path_(std::move(path)) {
  const OpenFile file(open_to_read(path_));
  const std::size_t size = size_of(file, path_);
  if (size == 0) return;  // which can't be mapped
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.number, 0);
  if (start == MAP_FAILED) {
    fail(path_, "mapped", errno, "check the limits on memory (ulimit -v) and the disk");
  }
  bytes_ = {static_cast<const char*>(start), size};
}

MappedFile::~MappedFile() { unmap(); }

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)), bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  unmap();
  path_ = std::move(other.path_);
  bytes_ = std::exchange(other.bytes_, {});
  return *this;
}

void MappedFile::read_ahead(std::string_view part) const {
  if (part.empty()) return;
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::size_t before = reinterpret_cast<std::uintptr_t>(part.data()) % page;
  char* start = const_cast<char*>(part.data()) - before;  // madvise takes no const
  const std::size_t size = part.size() + before;
  int result = -1;
#ifdef MADV_POPULATE_READ
  do {
    result = ::madvise(start, size, MADV_POPULATE_READ);
  } while (result != 0 && errno == EINTR);
  if (result != 0 && errno == EFAULT) {
    fail(path_, "read", EIO, "it has become shorter or the disk fails; take another copy");
  }
#endif
  // An older system knows only this one, which is no more than a hint.
  if (result != 0) ::madvise(start, size, MADV_WILLNEED);
}

void MappedFile::unmap() noexcept {
  if (!bytes_.empty()) ::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

}  // namespace torch_accelerated
