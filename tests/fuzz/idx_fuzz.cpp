// SPDX-License-Identifier: Apache-2.0
//
// libFuzzer's entry for the IDX parser; the tests feed it mutations of their own as well. To fuzz:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Itests -lz
//       tests/fuzz/idx_fuzz.cpp src/data/idx.cpp src/data/byte_source.cpp src/base/error.cpp
//   ./a.out -max_len=4096 -rss_limit_mb=512 -malloc_limit_mb=64
#include <cstddef>
#include <cstdint>
#include <span>

#include "support/idx_files.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/data/idx.h"

namespace {

using torch_accelerated::DataError;
using torch_accelerated::IdxArray;

// What is accepted is whole: as many values as the sizes say.
void parse(std::span<const std::uint8_t> bytes) {
  try {
    const IdxArray array = torch_accelerated::parse_idx(bytes, "fuzz");
    std::uint64_t count = 1;
    for (std::int64_t size : array.shape) count *= static_cast<std::uint64_t>(size);
    if (array.shape.empty() || count != array.values.size()) __builtin_trap();
  } catch (const DataError& error) {  // the only error that hostile bytes may end in
    if (error.what()[0] == '\0') __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> bytes(data, size);
  parse(bytes);
  // Behind gzip's checksum mutated bytes arrive only when they are compressed after the mutation.
  parse(torch_accelerated::testing::gzipped(bytes, 1));
  return 0;
}
