// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_file_writer.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/crc32c.h"
#include "checkpoint/output_file.h"
#include "checkpoint/safetensors_text.h"

namespace torch_accelerated {
namespace {

// Measured: what is summed is still in the processor's cache when the system copies it.
constexpr std::size_t kChunkBytes = std::size_t{1} << 18;
constexpr std::size_t kGatheredBytes = std::size_t{1} << 15;  // copied rather than written alone

/// Bytes that follow each other in a file. Writes end at multiples of the chunk, as pages do, and
/// small pieces are gathered for them.
class ByteStream {
 public:
  ByteStream(OutputFile& file, std::uint64_t offset) : file_(file), offset_(offset) {
    gathered_.reserve(kChunkBytes);
  }

  /// Writes `bytes`, and gives their checksum.
  std::uint32_t append(std::string_view bytes) {
    Crc32c crc;
    while (!bytes.empty()) {
      const std::size_t room = kChunkBytes - static_cast<std::size_t>(end() % kChunkBytes);
      const std::string_view piece = bytes.substr(0, room);
      bytes.remove_prefix(piece.size());
      crc.update(piece.data(), piece.size());
      append_piece(piece);
    }
    return crc.value();
  }

  void flush() {
    file_.write(gathered_, offset_);
    offset_ = end();
    gathered_.clear();
  }

 private:
  std::uint64_t end() const { return offset_ + gathered_.size(); }

  void append_piece(std::string_view piece) {
    if (piece.size() > kGatheredBytes) {
      flush();
      file_.write(piece, offset_);
      offset_ += piece.size();
      return;
    }
    gathered_ += piece;
    if (end() % kChunkBytes == 0) flush();
  }

  OutputFile& file_;
  std::uint64_t offset_;  // of the first byte that isn't written
  std::string gathered_;  // follow from there
};

std::vector<SafetensorsEntry> laid_out(const std::vector<SafetensorsPart>& parts) {
  std::vector<SafetensorsEntry> tensors;
  tensors.reserve(parts.size());
  for (const SafetensorsPart& part : parts) {
    SafetensorsEntry& tensor = tensors.emplace_back();
    tensor.name = part.name;
    tensor.dtype = part.dtype;
    tensor.shape = part.shape;
  }
  return lay_out_safetensors(std::move(tensors));
}

// The values of each tensor, in the order of the tensors.
std::vector<std::string_view> values_of(const std::vector<SafetensorsEntry>& tensors,
                                        const std::vector<SafetensorsPart>& parts) {
  std::unordered_map<std::string_view, const void*> data_of;
  data_of.reserve(parts.size());
  for (const SafetensorsPart& part : parts) data_of.emplace(part.name, part.data);
  std::vector<std::string_view> values;
  values.reserve(tensors.size());
  for (const SafetensorsEntry& tensor : tensors) {
    const void* data = data_of.at(tensor.name);
    const auto size = static_cast<std::size_t>(tensor.end - tensor.begin);
    if (data == nullptr && size > 0) {
      throw ArgumentError(concat("write_safetensors_file: tensor '", shown(tensor.name),
                                 "' has values of ", size,
                                 " bytes at a null pointer; give where they are in host memory."));
    }
    values.emplace_back(static_cast<const char*>(data), size);
  }
  return values;
}

}  // namespace

WrittenFile write_safetensors_file(FileIo& io, const std::string& path,
                                   const std::vector<SafetensorsPart>& parts,
                                   const SafetensorsMetadata& metadata) {
  std::vector<SafetensorsEntry> tensors = laid_out(parts);
  // As long as the last one will be, and refused now if it would be then.
  const std::size_t header_bytes = write_safetensors_header(tensors, metadata).size();
  const std::vector<std::string_view> values = values_of(tensors, parts);

  OutputFile file(io, path);
  ByteStream stream(file, header_bytes);
  std::uint32_t data_crc = 0;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    tensors[i].crc = stream.append(values[i]);
    data_crc = combine_crc32c(data_crc, *tensors[i].crc, values[i].size());
  }
  stream.flush();
  const std::string header = write_safetensors_header(tensors, metadata);
  file.write(header, 0);
  file.finish();

  const std::uint64_t data_bytes = tensors.empty() ? 0 : tensors.back().end;
  return {header.size() + data_bytes,
          combine_crc32c(crc32c(header.data(), header.size()), data_crc, data_bytes)};
}

}  // namespace torch_accelerated
