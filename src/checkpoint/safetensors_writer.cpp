// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "base/crc32c.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/safetensors_order.h"
#include "checkpoint/safetensors_text.h"

namespace torch_accelerated {
namespace {

constexpr std::size_t kAlignment = 8;

void append_quoted(std::string& json, std::string_view text) {
  json += '"';
  for (char letter : text) {
    const auto code = static_cast<unsigned char>(letter);
    if (code < 0x20) {
      json += "\\u00";
      json += "0123456789abcdef"[code >> 4];
      json += "0123456789abcdef"[code & 15];
      continue;
    }
    if (letter == '"' || letter == '\\') json += '\\';
    json += letter;
  }
  json += '"';
}

void append_text(std::string& json, std::string_view key, std::string_view value) {
  json += ',';
  append_quoted(json, key);
  json += ':';
  append_quoted(json, value);
}

void append_tensor(std::string& json, const SafetensorsEntry& tensor) {
  json += ',';
  append_quoted(json, tensor.name);
  json += R"(:{"dtype":")";
  json += safetensors_dtype_name(tensor.dtype);
  json += R"(","shape":[)";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    if (i > 0) json += ',';
    json += std::to_string(tensor.shape[i]);
  }
  json += R"(],"data_offsets":[)";
  json += std::to_string(tensor.begin);
  json += ',';
  json += std::to_string(tensor.end);
  json += "]}";
}

void refuse_checksum_names(const SafetensorsMetadata& metadata) {
  for (const auto& [key, value] : metadata) {
    if (!key.starts_with(kSafetensorsCrcKey) && key + ':' != kSafetensorsCrcKey) continue;
    throw ArgumentError(concat("write_safetensors_header: metadata has the key '", shown(key),
                               "', which is kept for checksums; name it otherwise."));
  }
}

// Whatever is written can be read: a reader's objection is the caller's mistake.
void try_reading(const std::string& header, const std::vector<SafetensorsEntry>& tensors) {
  const std::uint64_t section = tensors.empty() ? 0 : tensors.back().end;
  try {
    const SafetensorsHeader read =
        parse_safetensors_header(header, header.size() + section, "to be written");
    const auto is_same = [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
      return a.name == b.name;
    };
    if (std::equal(read.tensors.begin(), read.tensors.end(), tensors.begin(), tensors.end(),
                   is_same)) {
      return;
    }
  } catch (const DataError& error) {
    throw ArgumentError(concat("write_safetensors_header: ", error.what()));
  }
  throw ArgumentError(
      "write_safetensors_header: the tensors are not in the order of their bytes; give them as "
      "lay_out_safetensors does.");
}

}  // namespace

std::vector<SafetensorsEntry> lay_out_safetensors(std::vector<SafetensorsEntry> tensors) {
  constexpr std::uint64_t kWidest = 64;
  tensors = sorted_tensors(std::move(tensors), [](const SafetensorsEntry& tensor) {
    return kWidest - safetensors_bits(tensor.dtype);
  });
  std::uint64_t end = 0;
  for (SafetensorsEntry& tensor : tensors) {
    const std::optional<std::uint64_t> bytes = safetensors_bytes(tensor.dtype, tensor.shape);
    if (!bytes || *bytes > SafetensorsLimits::kNumber - end) {
      throw ArgumentError(concat("lay_out_safetensors: tensor '", shown(tensor.name),
                                 "' has a shape whose bytes can't be counted or go beyond 2^53 "
                                 "bytes in the file; split it."));
    }
    tensor.begin = end;
    tensor.end = end += *bytes;
  }
  return tensors;
}

std::string write_safetensors_header(const std::vector<SafetensorsEntry>& tensors,
                                     const SafetensorsMetadata& metadata) {
  refuse_checksum_names(metadata);
  std::string header(8, '\0');
  header += kSafetensorsMark;
  const std::size_t crc_at = header.size();
  header += R"(00000000")";
  for (const auto& [key, value] : metadata) append_text(header, key, value);
  for (const SafetensorsEntry& tensor : tensors) {
    append_text(header, concat(kSafetensorsCrcKey, tensor.name), crc_text(tensor.crc.value_or(0)));
  }
  header += '}';
  for (const SafetensorsEntry& tensor : tensors) append_tensor(header, tensor);
  header += '}';
  header.resize((header.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  const std::uint64_t length = header.size() - 8;
  for (std::size_t i = 0; i < 8; ++i) header[i] = static_cast<char>(length >> 8 * i & 0xFF);
  header.replace(crc_at, 8, crc_text(crc32c(header.data(), header.size())));
  try_reading(header, tensors);
  return header;
}

}  // namespace torch_accelerated
