// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "checkpoint/safetensors_dtype.h"

namespace torch_accelerated {

/// One tensor of a safetensors file.
struct SafetensorsEntry {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0;           ///< its first byte, counted from the header's data_offset
  std::uint64_t end = 0;             ///< one beyond its last byte
  std::optional<std::uint32_t> crc;  ///< the CRC32C of its bytes, where the file carries it

  bool operator==(const SafetensorsEntry&) const = default;
};

/// Free text that goes with the tensors, in the order of the file.
using SafetensorsMetadata = std::vector<std::pair<std::string, std::string>>;

/// What stands before the values of a safetensors file.
struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  ///< in the order of their bytes
  SafetensorsMetadata metadata;           ///< without the checksums, which are with the tensors
  std::uint64_t data_offset = 0;          ///< where in the file the first tensor's bytes are

  bool operator==(const SafetensorsHeader&) const = default;
};

/// What a header may hold at most; more is refused before memory is taken for it.
struct SafetensorsLimits {
  static constexpr std::uint64_t kHeaderBytes = 100'000'000;       ///< as in Python's safetensors
  static constexpr std::size_t kTextBytes = std::size_t{1} << 22;  ///< of one text in the metadata
  static constexpr std::size_t kNameBytes = 4096;
  static constexpr std::size_t kTensors = 1'000'000;
  static constexpr std::size_t kMetadata = 2'000'000;  ///< a checksum for each tensor, and others
  static constexpr std::size_t kRank = 16;
  static constexpr std::uint64_t kNumber = std::uint64_t{1} << 53;  ///< exact in any JSON reader
};

/// How many bytes of a file are its header, from its first 8 (or all, where it has fewer).
///
/// @throws DataError  the file is shorter than that, or the header longer than the limit.
std::uint64_t safetensors_header_size(std::string_view first_bytes, std::uint64_t file_size,
                                      std::string_view file_name);

/// Reads the header of a safetensors file of `file_size` bytes, of which `prefix` holds at least
/// the header.
///
/// Each tensor's bytes follow the one before without a hole and the last ends with the file. A
/// header that `write_safetensors_header` made is checked against its own checksum. The tensors'
/// bytes are not looked at.
/// @throws DataError      anything else; the text names the file and the offset or tensor.
/// @throws ArgumentError  `prefix` is shorter than the header of a file that is not.
/// @par Source  github.com/huggingface/safetensors, README.md, "Format".
SafetensorsHeader parse_safetensors_header(std::string_view prefix, std::uint64_t file_size,
                                           std::string_view file_name);

/// Gives each tensor its place, one behind the other: those with the widest values first, so that
/// all are aligned to their values, else in the order given.
///
/// @throws ArgumentError  a shape whose bytes can't be counted.
std::vector<SafetensorsEntry> lay_out_safetensors(std::vector<SafetensorsEntry> tensors);

/// The header of a file of these tensors (as `lay_out_safetensors` gives them), a multiple of 8
/// bytes long.
///
/// Each tensor's CRC32C stands in the metadata as "crc32c:<name>", 8 hexadecimal digits, and the
/// header's own as "crc32c". The length doesn't depend on the checksums (one that is missing is
/// written as 0), so that room can be left, the values written and summed, and the header last. The
/// same tensors give the same bytes.
/// @throws ArgumentError  what a reader would refuse, or metadata named as checksums are.
std::string write_safetensors_header(const std::vector<SafetensorsEntry>& tensors,
                                     const SafetensorsMetadata& metadata = {});

/// The CRC32C that the file carries for this tensor; nothing where it has none or no such tensor.
std::optional<std::uint32_t> crc_of(const SafetensorsHeader& header, std::string_view name);

}  // namespace torch_accelerated
