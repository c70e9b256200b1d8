// SPDX-License-Identifier: Apache-2.0
#include "data/byte_source.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>
#include <system_error>

#include "base/text.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated {
namespace {

// The same name with or without ".gz", when that file is there.
std::string sibling_hint(const std::filesystem::path& path) {
  std::filesystem::path sibling = path;
  if (path.extension() == ".gz") {
    sibling.replace_extension();
  } else {
    sibling += ".gz";
  }
  std::error_code ignored;
  if (std::filesystem::is_regular_file(sibling, ignored)) {
    return concat(sibling.filename(), " lies in the same folder, try that name");
  }
  return "check the folder and the file's name";
}

}  // namespace

std::size_t MemoryBytes::read(std::span<std::uint8_t> to) {
  const std::size_t count = std::min(to.size(), bytes_.size() - position_);
  std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(position_), count, to.begin());
  position_ += count;
  return count;
}

FileBytes::FileBytes(const std::filesystem::path& path) {
  std::error_code error;
  const std::filesystem::file_status status = std::filesystem::status(path, error);
  if (!std::filesystem::exists(status)) {
    const std::string why = error ? error.message() : "no such file";
    throw DataError(concat("file ", path, " can't be read (", why, "); ", sibling_hint(path), "."));
  }
  if (!std::filesystem::is_regular_file(status)) {
    throw DataError(concat("file ", path, " is ",
                           std::filesystem::is_directory(status) ? "a folder" : "a device or pipe",
                           ", expected a regular file; give the name of the file itself."));
  }
  length_ = std::filesystem::file_size(path, error);
  if (!error) {
    errno = 0;
    file_.open(path, std::ios::binary);
  }
  if (error || !file_) {
    const std::string why = error ? error.message() : std::strerror(errno);
    throw DataError(concat("file ", path, " can't be opened (", why, "); check its permissions."));
  }
}

std::size_t FileBytes::read(std::span<std::uint8_t> to) {
  file_.read(reinterpret_cast<char*>(to.data()), static_cast<std::streamsize>(to.size()));
  return static_cast<std::size_t>(file_.gcount());
}

void FileBytes::rewind() {
  file_.clear();
  file_.seekg(0);
}

bool GzipBytes::begins(std::span<const std::uint8_t> bytes) {
  return bytes.size() >= 2 && bytes[0] == 0x1F && bytes[1] == 0x8B;
}

GzipBytes::GzipBytes(ByteSource& compressed, std::string_view name)
    : compressed_(compressed), name_(name) {
  constexpr int kGzipOnly = 16 + MAX_WBITS;
  if (inflateInit2(&stream_, kGzipOnly) != Z_OK) throw std::bad_alloc();
}

GzipBytes::~GzipBytes() { inflateEnd(&stream_); }

std::size_t GzipBytes::read(std::span<std::uint8_t> to) {
  std::size_t written = 0;
  while (written < to.size() && !ended_) {
    constexpr std::size_t kPiece = std::size_t{1} << 30;  // zlib counts in 32 bits
    const std::size_t room = std::min(to.size() - written, kPiece);
    stream_.next_out = to.data() + written;
    stream_.avail_out = static_cast<uInt>(room);
    inflate_some();
    written += room - stream_.avail_out;
  }
  return written;
}

bool GzipBytes::refill() {
  consumed_ +=
      stream_.next_in == nullptr ? 0 : static_cast<std::uint64_t>(stream_.next_in - buffer_.data());
  stream_.next_in = buffer_.data();
  stream_.avail_in = static_cast<uInt>(compressed_.read(buffer_));
  return stream_.avail_in > 0;
}

void GzipBytes::inflate_some() {
  if (stream_.avail_in == 0 && !refill()) {
    fail("the file ends in the middle of its compressed data",
         "it was cut short: download or copy it again");
  }
  switch (inflate(&stream_, Z_NO_FLUSH)) {
    case Z_OK:
      break;
    case Z_STREAM_END:
      begin_next_member();
      break;
    case Z_BUF_ERROR:  // more input is needed, and the next round reads it
      if (stream_.avail_in == 0) break;
      [[fallthrough]];
    case Z_DATA_ERROR:
    default:
      fail(concat("the gzip data are damaged (zlib: ",
                  stream_.msg == nullptr ? "no reason given" : stream_.msg, ")"),
           "download or copy the file again");
    case Z_MEM_ERROR:
      throw std::bad_alloc();
  }
}

void GzipBytes::begin_next_member() {
  if (stream_.avail_in == 0 && !refill()) {
    ended_ = true;
    return;
  }
  if (*stream_.next_in != 0x1F) {
    fail("other bytes follow the end of the gzip data",
         "it was joined with something else: download or copy it again");
  }
  inflateReset(&stream_);
}

void GzipBytes::fail(std::string_view problem, std::string_view cure) const {
  const std::uint64_t offset =
      consumed_ + static_cast<std::uint64_t>(stream_.next_in - buffer_.data());
  throw DataError(
      concat("gzip file '", name_, "', compressed byte ", offset, ": ", problem, "; ", cure, "."));
}

}  // namespace torch_accelerated
