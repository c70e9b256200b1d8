// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "checkpoint/file_io.h"
#include "checkpoint/safetensors_header.h"

namespace torch_accelerated {

/// A tensor to be written: its values lie one behind the other in host memory, in the order of its
/// shape, and stay as they are until the file is written.
struct SafetensorsPart {
  std::string name;
  SafetensorsDtype dtype = SafetensorsDtype::kF32;
  std::vector<std::int64_t> shape;
  const void* data = nullptr;  ///< may be null where the shape has no values
};

/// What a whole file is, known without reading it back.
struct WrittenFile {
  std::uint64_t bytes = 0;
  std::uint32_t crc = 0;  ///< the CRC32C of all of them

  bool operator==(const WrittenFile&) const = default;
};

/// Writes a new safetensors file, to the disk: the values with their checksums, then the header.
///
/// The tensors lie as `lay_out_safetensors` puts them. Where it throws, there is no file.
/// @throws ArgumentError  what a reader would refuse, or values that are null; nothing was written.
/// @throws FileError      the file is there already, or what the system said.
WrittenFile write_safetensors_file(FileIo& io, const std::string& path,
                                   const std::vector<SafetensorsPart>& parts,
                                   const SafetensorsMetadata& metadata = {});

}  // namespace torch_accelerated
