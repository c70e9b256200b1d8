// SPDX-License-Identifier: Apache-2.0
//
// The checks that libFuzzer and the tests' own mutations make of a checkpoint's manifest. To fuzz:
//   clang++ -std=c++20 -g -O1 -fsanitize=fuzzer,address,undefined -Iinclude -Isrc -Itests
//       -Dfuzz_manifest=LLVMFuzzerTestOneInput tests/fuzz/manifest_fuzz.cpp
//       src/checkpoint/{checkpoint_names,manifest}.cpp src/base/{error,sha256}.cpp
//   ./a.out -max_len=4096 -rss_limit_mb=512 -malloc_limit_mb=64 tests/checkpoint/golden/format-1
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/text.h"
#include "checkpoint/manifest.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/sha256.h"

namespace {

// With a last line that fits, as somebody would write it who wants it to be believed: checks behind
// the digest see no other change.
std::string sealed(std::string_view text) {
  const auto body = text.substr(0, text.rfind("  \"sha256\": \""));
  torch_accelerated::Sha256 sum;
  sum.update(body.data(), body.size());
  return torch_accelerated::concat(body, "  \"sha256\": \"", sum.hex_digest(), "\"\n}\n");
}

// What is accepted is what would be written.
void read(std::string_view text) {
  try {
    const auto manifest = torch_accelerated::parse_manifest(text, "fuzz");
    if (torch_accelerated::manifest_text(manifest) != text) __builtin_trap();
  } catch (const torch_accelerated::CheckpointError& error) {  // the only one that bytes may end in
    if (error.what()[0] == '\0') __builtin_trap();
  }
}

}  // namespace

extern "C" int fuzz_manifest(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  read(text);
  read(sealed(text));
  return 0;
}
