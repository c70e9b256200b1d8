// SPDX-License-Identifier: Apache-2.0
//
// The checks that libFuzzer and the tests' own mutations make of a checkpoint's values. To fuzz:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Itests
//       -Dfuzz_state_text=LLVMFuzzerTestOneInput tests/fuzz/state_text_fuzz.cpp
//       src/checkpoint/state_text.cpp src/base/error.cpp
//   ./a.out -max_len=4096 -rss_limit_mb=512 -malloc_limit_mb=64 tests/checkpoint/golden/format-1
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "checkpoint/state_text.h"
#include "torch_accelerated/base/error.h"

namespace {

using torch_accelerated::StateEntry;

bool has_a_name_each(const std::vector<StateEntry>& entries) {
  std::unordered_set<std::string_view> names;
  for (const StateEntry& entry : entries) {
    if (entry.first.empty() || !names.insert(entry.first).second) return false;
  }
  return true;
}

// What was read can be written, and says the same then. Texts are compared, as NaN isn't itself.
bool survives_writing(const std::vector<StateEntry>& entries) {
  const std::string text = torch_accelerated::state_text(entries);
  const auto again = torch_accelerated::parse_state_text(text, "fuzz");
  return again.size() == entries.size() && torch_accelerated::state_text(again) == text;
}

}  // namespace

extern "C" int fuzz_state_text(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const auto entries = torch_accelerated::parse_state_text(text, "fuzz");
    if (!has_a_name_each(entries) || !survives_writing(entries)) __builtin_trap();
  } catch (const torch_accelerated::CheckpointError& error) {  // the only one that bytes end in
    if (error.what()[0] == '\0') __builtin_trap();
  }
  return 0;
}
