// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <string>
#include <vector>

#include "support/idx_files.h"
#include "support/mutations.h"
#include "torch_accelerated/base/random_stream.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace torch_accelerated {
namespace {

using testing::Bytes;

std::vector<Bytes> good_files() {
  const std::vector<Bytes> plain{testing::idx_file({20}, 20), testing::idx_file({3, 5, 5}, 75),
                                 testing::idx_file({2, 2, 2, 2, 2}, 32),
                                 testing::idx_file({40, 50}, 2000)};
  std::vector<Bytes> files = plain;
  for (const Bytes& file : plain) files.push_back(testing::gzipped(file));
  files.push_back(testing::joined(testing::gzipped(plain[0]), testing::gzipped(plain[1])));
  return files;
}

// Headers deserve most of the changes, so that half of the positions are among the first 16.
std::size_t position(RandomStream& stream, std::size_t size) {
  return stream.below(2) == 0 ? stream.below(std::min<std::size_t>(size, 16)) : stream.below(size);
}

void mutate(Bytes& bytes, RandomStream& stream) {
  constexpr std::uint8_t kEdges[] = {0, 1, 2, 3, 8, 0x1F, 0x7F, 0x80, 0x8B, 0xFF};
  if (bytes.empty()) bytes.push_back(0);
  const std::size_t at = position(stream, bytes.size());
  const auto where = bytes.begin() + static_cast<std::ptrdiff_t>(at);
  switch (stream.below(6)) {
    case 0:
      bytes[at] = static_cast<std::uint8_t>(bytes[at] ^ (1U << stream.below(8)));
      break;
    case 1:
      bytes[at] = kEdges[stream.below(std::size(kEdges))];
      break;
    case 2:
      bytes[at] = static_cast<std::uint8_t>(stream());
      break;
    case 3:
      bytes.insert(where, static_cast<std::uint8_t>(stream()));
      break;
    case 4:
      bytes.erase(where);
      break;
    default:
      bytes.resize(at);
  }
}

// No crash, no other error than DataError, no memory beyond what small files can expand to.
TEST(Idx, SurvivesMutations) {
  const bool is_long = testing::is_long_run();
  const std::uint64_t seed = testing::mutation_seed();
  const std::uint64_t rounds = is_long ? 1'000'000 : 20'000;
  const auto begin = std::chrono::steady_clock::now();
  const std::int64_t peak_before = testing::peak_memory_kib();
  const std::vector<Bytes> files = good_files();
  for (std::uint64_t round = 0; round < rounds; ++round) {
    RandomStream stream(seed, 0, round);
    Bytes bytes = files[stream.below(files.size())];
    const std::uint64_t changes = 1 + stream.below(6);
    for (std::uint64_t i = 0; i < changes; ++i) mutate(bytes, stream);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  const std::int64_t grown_kib = testing::peak_memory_kib() - peak_before;
  if (!testing::is_sanitised()) {
    EXPECT_LT(grown_kib, 16 * 1024);
  }
  if (is_long) {
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    std::cout << "idx mutations: seed " << seed << ", " << rounds
              << " files (each plain and gzip), " << taken.count() << " s, peak memory grew by "
              << grown_kib << " KiB\n";
  }
}

}  // namespace
}  // namespace torch_accelerated
