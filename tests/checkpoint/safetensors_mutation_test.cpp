// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <chrono>
#include <iostream>

#include "support/mutations.h"
#include "support/safetensors_files.h"
#include "torch_accelerated/base/error.h"

extern "C" int fuzz_safetensors(const std::uint8_t* data, std::size_t size);

namespace torch_accelerated {
namespace {

std::vector<std::string> good_files() {
  const auto bytes = [](std::string_view json, std::size_t data) {
    return testing::safetensors_file(json, data);
  };
  return {testing::python_safetensors_file(),
          testing::own_safetensors_file(testing::some_tensors()), bytes("{}", 0),
          bytes(R"({"b":{"shape":[2,3],"data_offsets":[0,12],"dtype":"U16"}})", 12),
          bytes(R"({"z":{"dtype":"U8","shape":[1],"data_offsets":[2,3]},)"
                R"("__metadata__":{"crc32c:y":"01234567","a":"b"},)"
                R"("y":{"dtype":"F4","shape":[4],"data_offsets":[0,2]}})",
                3)};
}

// No crash, no other error than DataError, no memory beyond what a small file is worth.
TEST(SafetensorsHeader, SurvivesMutations) {
  const std::uint64_t seed = testing::mutation_seed();
  const std::uint64_t rounds = testing::is_long_run() ? 1'000'000 : 20'000;
  const auto begin = std::chrono::steady_clock::now();
  const std::int64_t peak_before = testing::peak_memory_kib();
  const std::vector<std::string> files = good_files();
  for (std::uint64_t round = 0; round < rounds; ++round) {
    RandomStream stream(seed, 0, round);
    std::string bytes = files[stream.below(files.size())];
    const std::uint64_t changes = 1 + stream.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) testing::mutate_text(bytes, stream);
    fuzz_safetensors(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
  const std::int64_t grown_kib = testing::peak_memory_kib() - peak_before;
  if (!testing::is_sanitised()) {
    EXPECT_LT(grown_kib, 16 * 1024);
  }
  if (testing::is_long_run()) {
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    std::cout << "safetensors mutations: seed " << seed << ", " << rounds << " files, "
              << taken.count() << " s, peak memory grew by " << grown_kib << " KiB\n";
  }
}

TEST(SafetensorsHeader, IsRefusedAtEveryTruncation) {
  for (const std::string& file : good_files()) {
    for (std::size_t size = 0; size < file.size(); ++size) {
      EXPECT_THROW(parse_safetensors_header(std::string_view(file).substr(0, size), size, "cut"),
                   DataError)
          << size;
    }
  }
}

bool is_noticed(const std::string& file) {
  try {
    const SafetensorsHeader header = parse_safetensors_header(file, file.size(), "flipped");
    for (const SafetensorsEntry& tensor : header.tensors) {
      const char* data = file.data() + header.data_offset + tensor.begin;
      if (tensor.crc != crc32c(data, tensor.end - tensor.begin)) return true;
    }
  } catch (const DataError&) {
    return true;
  }
  return false;
}

// By the header's checks and checksum, or by a tensor's checksum.
TEST(SafetensorsHeader, EverySingleFlippedBitOfAFileOfOursIsNoticed) {
  std::string file = testing::own_safetensors_file(testing::some_tensors());
  ASSERT_FALSE(is_noticed(file));
  for (std::size_t bit = 0; bit < 8 * file.size(); ++bit) {
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << bit % 8));
    EXPECT_TRUE(is_noticed(file)) << "bit " << bit;
    file[bit / 8] = static_cast<char>(file[bit / 8] ^ (1 << bit % 8));
  }
}

}  // namespace
}  // namespace torch_accelerated
