// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <zlib.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace torch_accelerated::testing {

/// One file to be put into an archive, with what its headers say of it.
struct ZipPart {
  std::string name;
  std::string bytes;
  std::uint64_t flags = 0;
  std::uint64_t method = 0;
  std::string extra = {};  ///< of its entry in the directory
};

inline void append_number(std::string& to, std::uint64_t number, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i, number >>= 8) to += static_cast<char>(number & 0xFF);
}

inline std::uint64_t crc32_of(const std::string& bytes) {
  return crc32_z(0, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

/// What the two headers of a part have in common: flags, method, time, checksum, sizes, lengths.
inline void append_shared(std::string& to, const ZipPart& part, std::uint64_t extra) {
  append_number(to, part.flags, 2);
  append_number(to, part.method, 2);
  append_number(to, 0, 4);
  append_number(to, crc32_of(part.bytes), 4);
  append_number(to, part.bytes.size(), 4);
  append_number(to, part.bytes.size(), 4);
  append_number(to, part.name.size(), 2);
  append_number(to, extra, 2);
}

inline void append_zip_ends(std::string& to, std::uint64_t begin, std::uint64_t count,
                            bool is_wide) {
  const std::uint64_t at = to.size();
  if (is_wide) {
    to += "PK\6\6";
    append_number(to, 44, 8);
    append_number(to, 0, 12);
    for (std::uint64_t number : {count, count, at - begin, begin}) append_number(to, number, 8);
    to += "PK\6\7";
    append_number(to, 0, 4);
    append_number(to, at, 8);
    append_number(to, 1, 4);
  }
  to += "PK\5\6";
  append_number(to, 0, 4);
  append_number(to, std::min<std::uint64_t>(count, 0xFFFF), 2);
  append_number(to, std::min<std::uint64_t>(count, 0xFFFF), 2);
  append_number(to, at - begin, 4);
  append_number(to, begin, 4);
  append_number(to, 0, 2);
}

/// A zip archive of these parts, stored as they are.
inline std::string stored_zip(const std::vector<ZipPart>& parts, bool is_wide = true) {
  std::string file;
  std::string directory;
  for (const ZipPart& part : parts) {
    directory += "PK\1\2";
    append_number(directory, 0, 4);
    append_shared(directory, part, part.extra.size());
    append_number(directory, 0, 10);
    append_number(directory, file.size(), 4);
    directory += part.name + part.extra;
    file += "PK\3\4";
    append_number(file, 0, 2);
    append_shared(file, part, 0);
    file += part.name + part.bytes;
  }
  const std::uint64_t begin = file.size();
  file += directory;
  append_zip_ends(file, begin, parts.size(), is_wide);
  return file;
}

/// Writes `number` over the bytes at `at`.
inline void overwrite(std::string& bytes, std::size_t at, std::uint64_t number, std::size_t size) {
  std::string text;
  append_number(text, number, size);
  bytes.replace(at, size, text);
}

}  // namespace torch_accelerated::testing
