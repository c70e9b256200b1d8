// SPDX-License-Identifier: Apache-2.0
#include "callbacks/line_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

// A program that changes its folder goes on with the same file.
std::filesystem::path fixed(const std::filesystem::path& path) {
  std::error_code ignored;
  auto found = std::filesystem::absolute(path, ignored);
  return found.empty() ? path : found;
}

}  // namespace

LineFile::LineFile(std::string owner, std::filesystem::path path)
    : owner_(std::move(owner)), path_(path.empty() ? path : fixed(path)) {}

void LineFile::fail(const std::filesystem::path& path, const char* what, int error) const {
  throw FileError(concat(owner_, ": ", path, " can't be ", what, " (",
                         std::generic_category().message(error),
                         "); check the folder, its permissions and the space that is left"));
}

int LineFile::open_to_write(const std::filesystem::path& path, int flags) const {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0666);
  if (file < 0) fail(path, "opened for writing", errno);
  return file;
}

void LineFile::open() const {
  std::error_code ignored;
  const auto status = std::filesystem::status(path_, ignored);
  if (std::filesystem::exists(status) && !std::filesystem::is_regular_file(status)) {
    fail(path_, "written to, it is no regular file",
         std::filesystem::is_directory(status) ? EISDIR : EINVAL);
  }
  ::close(open_to_write(path_, O_APPEND));
}

std::string LineFile::read() const {
  errno = 0;
  std::ifstream file(path_, std::ios::binary);
  std::ostringstream content;
  if (file && file.peek() != std::ifstream::traits_type::eof()) content << file.rdbuf();
  if (!file.is_open() || file.bad()) fail(path_, "read", errno);
  return content.str();
}

std::int64_t LineFile::cut_to_lines(const std::string& content,
                                    std::optional<std::int64_t> lines) const {
  std::int64_t found = 0;
  std::size_t whole = 0;  // bytes of the lines that stay
  while (!lines || found < *lines) {
    const auto end = content.find('\n', whole);
    if (end == std::string::npos) break;
    whole = end + 1;
    ++found;
  }
  if (whole == content.size()) return found;
  std::error_code error;
  std::filesystem::resize_file(path_, whole, error);
  if (error) fail(path_, "cut to whole lines", error.value());
  return found;
}

void LineFile::append(std::string_view lines) const {
  write_and_close(path_, open_to_write(path_, O_APPEND), lines, /*to_disk=*/false);
}

void LineFile::replace(std::string_view content) const {
  std::error_code ignored;
  auto target = std::filesystem::canonical(path_, ignored);  // where a link leads
  if (target.empty()) target = path_;
  auto beside = target;
  beside += concat(".", ::getpid(), ".tmp");
  const int file = open_to_write(beside, O_TRUNC);
  struct ::stat old{};
  if (::stat(target.c_str(), &old) == 0) ::fchmod(file, old.st_mode & 0777);
  try {
    write_and_close(beside, file, content, /*to_disk=*/true);
    if (std::rename(beside.c_str(), target.c_str()) != 0) fail(target, "replaced", errno);
  } catch (...) {
    std::filesystem::remove(beside, ignored);
    throw;
  }
}

void LineFile::write_and_close(const std::filesystem::path& path, int file, std::string_view text,
                               bool to_disk) const {
  int error = 0;
  while (error == 0 && !text.empty()) {
    const auto written = ::write(file, text.data(), text.size());
    if (written > 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
    } else if (written == 0 || errno != EINTR) {
      error = written == 0 ? ENOSPC : errno;
    }
  }
  if (error == 0 && to_disk && ::fsync(file) != 0) error = errno;
  if (::close(file) != 0 && error == 0) error = errno;
  if (error != 0) fail(path, "written to", error);
}

}  // namespace torch_accelerated
