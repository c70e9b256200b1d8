// SPDX-License-Identifier: Apache-2.0
//
// The checks that libFuzzer and the tests' own mutations make of a sharded model's index. To fuzz:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Itests
//       -Dfuzz_safetensors_index=LLVMFuzzerTestOneInput tests/fuzz/safetensors_index_fuzz.cpp
//       src/checkpoint/safetensors_index.cpp src/base/error.cpp
//   ./a.out -max_len=4096 -rss_limit_mb=512 -malloc_limit_mb=64
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "checkpoint/safetensors_index.h"
#include "torch_accelerated/base/error.h"

namespace {

// Nothing that names another folder, whatever else the reader thinks of it.
bool is_in_its_folder(std::string_view shard) {
  return !shard.empty() && shard.front() != '.' && shard.ends_with(".safetensors") &&
         shard.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos;
}

bool is_whole(const torch_accelerated::SafetensorsIndex& index) {
  std::set<std::string_view> names;
  for (const std::string& shard : index.shards) {
    if (!is_in_its_folder(shard) || !names.insert(shard).second) return false;
  }
  names.clear();
  std::set<std::size_t> used;
  for (const auto& tensor : index.tensors) {
    if (tensor.shard >= index.shards.size() || !names.insert(tensor.name).second) return false;
    used.insert(tensor.shard);
  }
  return used.size() == index.shards.size();
}

}  // namespace

extern "C" int fuzz_safetensors_index(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    if (!is_whole(torch_accelerated::parse_safetensors_index(bytes, "fuzz"))) __builtin_trap();
  } catch (const torch_accelerated::DataError& error) {  // the only one that bytes may end in
    if (error.what()[0] == '\0') __builtin_trap();
  }
  return 0;
}
