// SPDX-License-Identifier: Apache-2.0
//
// The checks that libFuzzer and the tests' own mutations make of the safetensors header. To fuzz:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Itests
//       -Dfuzz_safetensors=LLVMFuzzerTestOneInput tests/fuzz/safetensors_fuzz.cpp
//       src/checkpoint/safetensors_{dtype,header,json,tokens,writer}.cpp
//       src/base/{crc32c,crc32c_hardware,crc32c_table,error}.cpp
//   ./a.out -max_len=4096 -rss_limit_mb=512 -malloc_limit_mb=64 tests/checkpoint/golden/format-1
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "checkpoint/safetensors_header.h"
#include "torch_accelerated/base/error.h"

namespace {

using torch_accelerated::SafetensorsEntry;
using torch_accelerated::SafetensorsHeader;

// The tensors' bytes lie one behind the other, from the header to the end of the file.
bool is_whole(const SafetensorsHeader& header, std::uint64_t file_size) {
  std::uint64_t end = 0;
  for (const SafetensorsEntry& tensor : header.tensors) {
    if (tensor.begin != end) return false;
    end = tensor.end;
    const auto bytes = torch_accelerated::safetensors_bytes(tensor.dtype, tensor.shape);
    if (bytes != tensor.end - tensor.begin) return false;
  }
  return header.data_offset + end == file_size;
}

// What was read can be written, and says the same then.
bool survives_writing(SafetensorsHeader header) {
  for (SafetensorsEntry& tensor : header.tensors) tensor.crc = tensor.crc.value_or(0);
  const std::string bytes =
      torch_accelerated::write_safetensors_header(header.tensors, header.metadata);
  const std::uint64_t data = header.tensors.empty() ? 0 : header.tensors.back().end;
  header.data_offset = bytes.size();
  return torch_accelerated::parse_safetensors_header(bytes, bytes.size() + data, "fuzz") == header;
}

}  // namespace

extern "C" int fuzz_safetensors(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const SafetensorsHeader header =
        torch_accelerated::parse_safetensors_header(bytes, size, "fuzz");
    if (!is_whole(header, size) || !survives_writing(header)) __builtin_trap();
  } catch (const torch_accelerated::DataError& error) {  // the only one that bytes may end in
    if (error.what()[0] == '\0') __builtin_trap();
  }
  return 0;
}
