// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/output_file.h"

#include <fcntl.h>

#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

[[noreturn]] void fail_with(const std::string& path, const char* what, int error) {
  throw FileError(concat("'", path, "' can't be ", what, " (",
                         std::generic_category().message(error),
                         "); check the folder, its permissions and the space that is left"));
}

}  // namespace

OutputFile::OutputFile(FileIo& io, std::string path)
    : io_(io), path_(std::move(path)), file_(io.open(path_, O_WRONLY | O_CREAT | O_EXCL, 0666)) {
  if (file_ < 0) fail_with(path_, "created", errno);
}

OutputFile::~OutputFile() {
  if (file_ < 0) return;
  io_.close(file_);
  io_.remove(path_);
}

void OutputFile::fail(const char* what, int error) { fail_with(path_, what, error); }

void OutputFile::write(std::string_view bytes, std::uint64_t offset) {
  while (!bytes.empty()) {
    const auto written = io_.write(file_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (written > 0) {
      bytes.remove_prefix(static_cast<std::size_t>(written));
      offset += static_cast<std::uint64_t>(written);
    } else if (written == 0 || errno != EINTR) {
      fail("written to", written == 0 ? ENOSPC : errno);
    }
  }
}

void OutputFile::finish() {
  if (io_.sync(file_) != 0) fail("written to the disk", errno);
  // Closed even where it fails: the number may be another file's by now.
  if (io_.close(std::exchange(file_, -1)) != 0) {
    const int error = errno;
    io_.remove(path_);
    fail("closed", error);
  }
}

void write_new_file(FileIo& io, const std::string& path, std::string_view bytes) {
  OutputFile file(io, path);
  file.write(bytes, 0);
  file.finish();
}

void rename_file(FileIo& io, const std::string& from, const std::string& to) {
  if (io.rename(from, to) != 0) {
    const int error = errno;
    io.remove(from);
    fail_with(to, "replaced", error);
  }
  sync_folder(io, std::filesystem::path(to).parent_path().string());
}

void sync_folder(FileIo& io, const std::string& folder) {
  const auto path = folder.empty() ? std::string(".") : folder;
  const int file = io.open(path, O_RDONLY | O_DIRECTORY, 0);
  if (file < 0) fail_with(path, "opened", errno);
  const int error = io.sync(file) == 0 ? 0 : errno;
  io.close(file);
  // Some file systems have nothing to do there and say so.
  if (error != 0 && error != EINVAL) fail_with(path, "written to the disk", error);
}

}  // namespace torch_accelerated
