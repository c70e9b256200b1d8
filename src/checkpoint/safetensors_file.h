// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/safetensors_header.h"

namespace torch_accelerated {

/// One safetensors file that is read: its header now, its tensors when they are asked for.
///
/// Views and references into it hold as long as it does, also when it is moved. Several threads may
/// read at once.
class SafetensorsFile {
 public:
  /// @throws FileError  there is no such file, or what the system said.
  /// @throws DataError  it is no safetensors file, or a damaged one.
  explicit SafetensorsFile(const std::string& path);

  /// In the order of their bytes.
  const std::vector<SafetensorsEntry>& tensors() const { return header_.tensors; }

  /// The file's texts, without the checksums.
  const SafetensorsMetadata& metadata() const { return header_.metadata; }

  const std::string& path() const { return file_.path(); }

  /// The tensor of this name; null where there is none.
  const SafetensorsEntry* find(std::string_view name) const;

  /// The values of a tensor of this file, as they are: nothing is checked.
  std::string_view bytes_of(const SafetensorsEntry& tensor) const;

  /// Copies a tensor of this file to host memory that has room for its bytes, and checks them there
  /// where the file carries their checksum.
  ///
  /// @throws CheckpointError  the checksum is another; the destination holds the wrong values.
  /// @throws FileError        the disk can't give the bytes.
  void copy(const SafetensorsEntry& tensor, void* destination) const;

  /// Checks a tensor of this file as `copy` does, without copying.
  void check(const SafetensorsEntry& tensor) const;

 private:
  void refuse_other_crc(const SafetensorsEntry& tensor, std::uint32_t crc) const;

  MappedFile file_;
  SafetensorsHeader header_;
  std::vector<std::size_t> by_name_;  // positions in header_.tensors
};

}  // namespace torch_accelerated
