// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "base/crc32c.h"
#include "checkpoint/safetensors_json.h"
#include "checkpoint/safetensors_order.h"
#include "checkpoint/safetensors_text.h"

namespace torch_accelerated {
namespace {

constexpr std::size_t kLengthBytes = 8;

// What a file that doesn't begin as a safetensors file does probably is, and so what to do.
std::string_view cure_of_prefix(std::string_view prefix) {
  if (prefix.starts_with("PK")) return "it looks like a file of torch.save or a zip archive";
  if (prefix.starts_with("\x80\x02")) return "it looks like a pickle, which is never read";
  if (prefix.starts_with("<")) return "it looks like a web page: download the file again";
  if (prefix.starts_with("version ")) {
    return "it looks like a Git LFS pointer: fetch the file itself with git lfs pull";
  }
  return "download or copy the file again";
}

// The positions of the tensors in the order of their names, none of which may be there twice.
std::vector<std::size_t> by_name(std::span<const SafetensorsEntry> tensors,
                                 std::string_view file_name) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto name = [&](std::size_t i) -> std::string_view { return tensors[i].name; };
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return name(a) < name(b); });
  const auto twice = std::adjacent_find(
      order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return name(a) == name(b); });
  if (twice != order.end()) {
    refuse_safetensors(file_name, "tensor '", shown(name(*twice)),
                       "': it is there twice, expected once; write the file again.");
  }
  return order;
}

void refuse_double_metadata(const SafetensorsMetadata& metadata, std::string_view file_name) {
  std::vector<std::string_view> keys;
  keys.reserve(metadata.size());
  for (const auto& [key, value] : metadata) keys.emplace_back(key);
  std::sort(keys.begin(), keys.end());
  const auto twice = std::adjacent_find(keys.begin(), keys.end());
  if (twice == keys.end()) return;
  refuse_safetensors(file_name, "__metadata__: the text '", shown(*twice),
                     "' is there twice, expected once; write the file again.");
}

void check_size(const SafetensorsEntry& tensor, std::uint64_t section, std::string_view file_name) {
  const auto fail = [&](const auto&... parts) {
    refuse_safetensors(file_name, "tensor '", shown(tensor.name), "': ", parts...);
  };
  if (tensor.begin > tensor.end) {
    fail("its data_offsets begin at ", tensor.begin, " and end at ", tensor.end,
         ", expected an end not before the beginning; write the file again.");
  }
  const std::optional<std::uint64_t> bytes = safetensors_bytes(tensor.dtype, tensor.shape);
  if (!bytes) {
    fail("its shape times its dtype ", safetensors_dtype_name(tensor.dtype),
         " are no whole bytes below 2^60, expected such a number; write the file again.");
  }
  if (tensor.end - tensor.begin != *bytes) {
    fail("its data_offsets take ", tensor.end - tensor.begin, " bytes, expected ", *bytes,
         " for its shape and its dtype ", safetensors_dtype_name(tensor.dtype),
         "; write the file again.");
  }
  if (tensor.end > section) {
    fail("its bytes end at ", tensor.end, ", but only ", section,
         " follow the header; it was cut short: download or copy the file again.");
  }
}

void check_layout(const SafetensorsHeader& header, std::uint64_t section,
                  std::string_view file_name) {
  std::uint64_t end = 0;
  for (const SafetensorsEntry& tensor : header.tensors) {
    if (tensor.begin != end) {
      refuse_safetensors(file_name, "tensor '", shown(tensor.name), "': its bytes begin at ",
                         tensor.begin, ", expected ", end, " where the ones before end (",
                         tensor.begin > end ? "a hole" : "an overlap", "); write the file again.");
    }
    end = tensor.end;
  }
  if (end != section) {
    refuse_safetensors(file_name, "offset ", header.data_offset + end, ": ", section - end,
                       " bytes follow the last tensor's, expected none; the header is damaged or "
                       "another file was joined: download or copy the file again.");
  }
}

// Checksums go from the metadata to their tensors; one without a tensor is of no use.
void move_checksums(SafetensorsHeader& header, std::span<const std::size_t> order,
                    std::string_view file_name) {
  for (const auto& [key, value] : header.metadata) {
    if (!key.starts_with(kSafetensorsCrcKey)) continue;
    const std::string_view name = std::string_view(key).substr(kSafetensorsCrcKey.size());
    const auto found = std::lower_bound(
        order.begin(), order.end(), name,
        [&](std::size_t i, std::string_view wanted) { return header.tensors[i].name < wanted; });
    if (found == order.end() || header.tensors[*found].name != name) continue;
    header.tensors[*found].crc = crc_from_text(value);
    if (header.tensors[*found].crc) continue;
    refuse_safetensors(file_name, "tensor '", shown(name), "': its CRC32C is '", shown(value),
                       "', expected 8 hexadecimal digits; write the file again.");
  }
  std::erase_if(header.metadata, [](const auto& text) {
    return text.first.starts_with(kSafetensorsCrcKey) ||
           text.first == kSafetensorsCrcKey.substr(0, kSafetensorsCrcKey.size() - 1);
  });
}

// A header of our own carries its checksum, made with zeros in the checksum's place.
void check_own_checksum(std::string_view header, std::string_view file_name) {
  constexpr std::string_view kZeros = "00000000";
  const std::string_view brackets = kSafetensorsMark.substr(0, kSafetensorsMark.find("\"crc"));
  if (!header.substr(kLengthBytes).starts_with(brackets)) return;
  const std::size_t at = kLengthBytes + kSafetensorsMark.size();
  std::optional<std::uint32_t> stored;
  if (header.substr(kLengthBytes).starts_with(kSafetensorsMark)) {
    stored = crc_from_text(header.substr(at, kZeros.size()));
  }
  Crc32c crc;
  crc.update(header.data(), std::min(at, header.size()));
  crc.update(kZeros.data(), kZeros.size());
  if (stored) crc.update(header.data() + at + kZeros.size(), header.size() - at - kZeros.size());
  if (stored == crc.value()) return;
  refuse_safetensors(file_name, "offset ", at, ": the header's CRC32C is ",
                     stored ? crc_text(*stored) : "missing", ", expected ", crc_text(crc.value()),
                     "; the header is damaged: download or copy the file again.");
}

}  // namespace

std::uint64_t safetensors_header_size(std::string_view first_bytes, std::uint64_t file_size,
                                      std::string_view file_name) {
  if (file_size < kLengthBytes) {
    refuse_safetensors(file_name, "it holds ", file_size,
                       " bytes, expected at least the 8 of the header's length; download or copy "
                       "the file again.");
  }
  if (first_bytes.size() < kLengthBytes) {
    throw ArgumentError(concat("safetensors_header_size: got ", first_bytes.size(),
                               " bytes of a file, expected its first 8."));
  }
  std::uint64_t length = 0;
  for (std::size_t i = kLengthBytes; i > 0; --i) {
    length = length << 8 | static_cast<unsigned char>(first_bytes[i - 1]);
  }
  if (length > SafetensorsLimits::kHeaderBytes) {
    refuse_safetensors(file_name, "offset 0: the header's length is ", length,
                       ", expected at most ", SafetensorsLimits::kHeaderBytes, "; ",
                       cure_of_prefix(first_bytes), ".");
  }
  if (length > file_size - kLengthBytes) {
    refuse_safetensors(file_name, "offset 0: the header's length is ", length, ", but only ",
                       file_size - kLengthBytes,
                       " bytes follow; it was cut short: download or copy the file again.");
  }
  return kLengthBytes + length;
}

SafetensorsHeader parse_safetensors_header(std::string_view prefix, std::uint64_t file_size,
                                           std::string_view file_name) {
  const std::uint64_t size = safetensors_header_size(prefix, file_size, file_name);
  if (prefix.size() < size) {
    throw ArgumentError(concat("parse_safetensors_header: got ", prefix.size(),
                               " bytes of a file, expected its header of ", size, "."));
  }
  const std::string_view bytes = prefix.substr(0, static_cast<std::size_t>(size));
  SafetensorsHeader header = read_safetensors_json(bytes.substr(kLengthBytes), file_name);
  check_own_checksum(bytes, file_name);
  header.data_offset = size;
  for (const SafetensorsEntry& tensor : header.tensors) {
    check_size(tensor, file_size - size, file_name);
  }
  header.tensors = sorted_tensors(std::move(header.tensors), [](const SafetensorsEntry& tensor) {
    return std::pair(tensor.begin, tensor.end);
  });
  const std::vector<std::size_t> order = by_name(header.tensors, file_name);
  refuse_double_metadata(header.metadata, file_name);
  check_layout(header, file_size - size, file_name);
  move_checksums(header, order, file_name);
  return header;
}

std::optional<std::uint32_t> crc_of(const SafetensorsHeader& header, std::string_view name) {
  const auto found =
      std::find_if(header.tensors.begin(), header.tensors.end(),
                   [&](const SafetensorsEntry& tensor) { return tensor.name == name; });
  if (found == header.tensors.end()) return std::nullopt;
  return found->crc;
}

}  // namespace torch_accelerated
