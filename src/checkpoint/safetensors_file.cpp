// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_file.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "base/crc32c.h"
#include "checkpoint/safetensors_text.h"

namespace torch_accelerated {
namespace {

// Measured: one call of the system for each, and what was copied is summed while in the cache.
constexpr std::size_t kChunkBytes = std::size_t{1} << 20;

SafetensorsHeader header_of(const MappedFile& file) {
  const std::string_view bytes = file.bytes();
  file.read_ahead(bytes.substr(0, 8));
  const std::uint64_t size = safetensors_header_size(bytes.substr(0, 8), bytes.size(), file.path());
  file.read_ahead(bytes.substr(0, static_cast<std::size_t>(size)));
  return parse_safetensors_header(bytes, bytes.size(), file.path());
}

// Calls `take(piece)` for each piece of the bytes, which is in memory by then.
template <class Take>
void for_each_piece(const MappedFile& file, std::string_view bytes, Take take) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, kChunkBytes);
    file.read_ahead(piece);
    take(piece);
    bytes.remove_prefix(piece.size());
  }
}

}  // namespace

SafetensorsFile::SafetensorsFile(const std::string& path)
    : file_(path), header_(header_of(file_)), by_name_(header_.tensors.size()) {
  std::iota(by_name_.begin(), by_name_.end(), std::size_t{0});
  std::sort(by_name_.begin(), by_name_.end(), [this](std::size_t a, std::size_t b) {
    return header_.tensors[a].name < header_.tensors[b].name;
  });
}

const SafetensorsEntry* SafetensorsFile::find(std::string_view name) const {
  const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name,
                                      [this](std::size_t position, std::string_view wanted) {
                                        return header_.tensors[position].name < wanted;
                                      });
  if (found == by_name_.end() || header_.tensors[*found].name != name) return nullptr;
  return &header_.tensors[*found];
}

std::string_view SafetensorsFile::bytes_of(const SafetensorsEntry& tensor) const {
  const std::string_view values =
      file_.bytes().substr(static_cast<std::size_t>(header_.data_offset));
  if (tensor.begin > tensor.end || tensor.end > values.size()) {
    throw ArgumentError(concat("SafetensorsFile '", path(), "': tensor '", shown(tensor.name),
                               "' ends at byte ", tensor.end, " of ", values.size(),
                               "; give a tensor of this file."));
  }
  return values.substr(static_cast<std::size_t>(tensor.begin),
                       static_cast<std::size_t>(tensor.end - tensor.begin));
}

void SafetensorsFile::copy(const SafetensorsEntry& tensor, void* destination) const {
  auto* to = static_cast<char*>(destination);
  Crc32c crc;
  for_each_piece(file_, bytes_of(tensor), [&](std::string_view piece) {
    std::memcpy(to, piece.data(), piece.size());
    if (tensor.crc) crc.update(to, piece.size());
    to += piece.size();
  });
  refuse_other_crc(tensor, crc.value());
}

void SafetensorsFile::check(const SafetensorsEntry& tensor) const {
  const std::string_view bytes = bytes_of(tensor);
  if (!tensor.crc) return;
  Crc32c crc;
  for_each_piece(file_, bytes,
                 [&](std::string_view piece) { crc.update(piece.data(), piece.size()); });
  refuse_other_crc(tensor, crc.value());
}

void SafetensorsFile::refuse_other_crc(const SafetensorsEntry& tensor, std::uint32_t crc) const {
  if (!tensor.crc || *tensor.crc == crc) return;
  throw CheckpointError(concat("safetensors file '", path(), "': the bytes of tensor '",
                               shown(tensor.name), "' have the CRC32C ", crc_text(crc), ", ",
                               crc_text(*tensor.crc),
                               " was written; the file is damaged; take another copy"));
}

}  // namespace torch_accelerated
