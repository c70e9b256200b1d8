// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/text.h"
#include "support/mutations.h"
#include "torch_accelerated/base/error.h"
#include "torch_accelerated/base/sha256.h"

extern "C" int fuzz_manifest(const std::uint8_t* data, std::size_t size);

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

Manifest some_manifest() {
  return {.library = "0.1.0",
          .update = 123,
          .sequence = 4,
          .world_size = 2,
          .metric = 0.1,
          .files = {{"model.safetensors", 1'000'000'007, 0x0123ABCD},
                    {"state.json", 17, 0},
                    {"rank-00000.safetensors", 0, 0xFFFFFFFF}}};
}

std::string message(std::string_view text) {
  try {
    parse_manifest(text, "d/manifest.json");
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

std::string message(const Manifest& manifest) {
  try {
    manifest_text(manifest);
  } catch (const ArgumentError& error) {
    return error.what();
  }
  return "accepted";
}

std::string body_of(const std::string& text) {
  return text.substr(0, text.rfind("  \"sha256\": \""));
}

// With a last line that fits, as somebody would write it who wants it to be believed.
std::string sealed(const std::string& body) {
  Sha256 sum;
  sum.update(body.data(), body.size());
  return concat(body, "  \"sha256\": \"", sum.hex_digest(), "\"\n}\n");
}

std::string sealed_again(const std::string& text) { return sealed(body_of(text)); }

std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return sealed_again(text.replace(at, from.size(), to));
}

TEST(Manifest, IsReadableJsonOfThisForm) {
  EXPECT_EQ(manifest_text(some_manifest()),
            R"({
  "format": 1,
  "library": "0.1.0",
  "update": 123,
  "sequence": 4,
  "world_size": 2,
  "metric": 0.1,
  "files": [
    {"name": "model.safetensors", "bytes": 1000000007, "crc32c": "0123abcd"},
    {"name": "state.json", "bytes": 17, "crc32c": "00000000"},
    {"name": "rank-00000.safetensors", "bytes": 0, "crc32c": "ffffffff"}
  ],
  "sha256": "3e14a0f1bb437c241fd4cd56855b978fc156d295ae35bacf4de2bdc447400e98"
}
)");
}

TEST(Manifest, ReadsWhatItWrote) {
  const Manifest manifest = some_manifest();
  EXPECT_EQ(parse_manifest(manifest_text(manifest), "m"), manifest);
  Manifest small{.library = "1", .sequence = 1};
  EXPECT_EQ(parse_manifest(manifest_text(small), "m"), small);
  Manifest large = manifest;
  large.update = large.sequence = std::int64_t{1} << 53;
  large.is_kept = true;
  large.files.clear();
  for (int i = 0; i < 3000; ++i) {
    large.files.push_back({concat("rank-", i), std::uint64_t{1} << 53, 7});
  }
  EXPECT_EQ(parse_manifest(manifest_text(large), "m"), large);
}

TEST(Manifest, KeepsEveryFiniteMetricToTheBit) {
  using Limits = std::numeric_limits<double>;
  for (double metric : {0.0, -0.0, 1.0, -1e300, 1.0 / 3, 1e-300, Limits::max(), Limits::lowest(),
                        Limits::denorm_min(), Limits::min(), 123456789012345680.0}) {
    Manifest manifest = some_manifest();
    manifest.metric = metric;
    const auto read = parse_manifest(manifest_text(manifest), "m");
    ASSERT_TRUE(read.metric);
    EXPECT_EQ(*read.metric, metric);
    EXPECT_EQ(std::signbit(*read.metric), std::signbit(metric));
  }
}

TEST(Manifest, LeavesOutAMetricThatIsNotFinite) {
  Manifest without = some_manifest();
  without.metric.reset();
  for (double metric :
       {std::numeric_limits<double>::quiet_NaN(), -std::numeric_limits<double>::infinity()}) {
    Manifest manifest = some_manifest();
    manifest.metric = metric;
    EXPECT_EQ(manifest_text(manifest), manifest_text(without));
  }
}

TEST(Manifest, IsRefusedWithAnySingleBitFlipped) {
  std::string text = manifest_text(some_manifest());
  ASSERT_EQ(message(text), "accepted");
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
    EXPECT_THAT(message(text),
                AllOf(HasSubstr("manifest 'd/manifest.json': "), HasSubstr("altered")))
        << "bit " << bit;
    text[bit / 8] = static_cast<char>(text[bit / 8] ^ (1 << bit % 8));
  }
}

TEST(Manifest, IsRefusedAtEveryTruncationAndWithMoreBehindIt) {
  const std::string text = manifest_text(some_manifest());
  for (std::size_t size = 0; size < text.size(); ++size) {
    EXPECT_NE(message(text.substr(0, size)), "accepted") << size;
  }
  const std::string body = body_of(text);
  for (std::size_t size = 0; size < body.size(); ++size) {
    EXPECT_NE(message(sealed(body.substr(0, size))), "accepted") << size;
  }
  for (char more : {'\0', '\n', ' ', '}'}) EXPECT_NE(message(text + more), "accepted");
  EXPECT_NE(message(text + text), "accepted");
  EXPECT_NE(message(std::string(text.size(), '\0')), "accepted");
}

TEST(Manifest, OfANewerFormatIsRefusedWithTheVersionThatWroteIt) {
  std::string text = replaced(manifest_text(some_manifest()), "\"format\": 1", "\"format\": 7");
  text = replaced(text, "0.1.0", "9.9");
  text = replaced(text, "\"update\": 123", "\"updates\": [1, 2]");  // whatever else it may have
  EXPECT_EQ(message(text),
            "manifest 'd/manifest.json': it was written by torch-accelerated 9.9 in format 7; this "
            "version reads up to 1: use a newer one.");
  EXPECT_THAT(message(replaced(text, "\"format\": 7", "\"format\": 0")),
              HasSubstr("updates"));  // there is none below 1
}

TEST(Manifest, NamesWhatIsWrongInOneThatWasSealedAgain) {
  const std::string text = manifest_text(some_manifest());
  const std::vector<std::array<std::string_view, 3>> wrong = {
      {"\"format\": 1", "\"format\": 0", "its format is 0, expected 1"},
      {"\"sequence\": 4", "\"sequence\": 0", "its sequence is 0, expected 1 to 2^53"},
      {"\"update\": 123", "\"update\": -1", "expected a whole number from 0 to 9007199254740992"},
      {"\"update\": 123", "\"update\": 9007199254740993", "expected a whole number from 0 to"},
      {"\"update\": 123", "\"update\": 99999999999999999999", "expected a whole number from 0 to"},
      {"\"update\": 123", "\"update\": 0123", "not those that its values are written as"},
      {"\"update\": 123", "\"update\": 123.0", "offset 54: it has '.0,"},
      {"\"world_size\": 2", "\"world_size\": 0", "its world_size is 0, expected 1 to 100000"},
      {"\"world_size\": 2", "\"world_size\": 100001", "expected a whole number from 0 to 100000"},
      {"\"metric\": 0.1", "\"metric\": nan", "expected a finite number"},
      {"\"metric\": 0.1", "\"metric\": 1e999", "expected a finite number"},
      {"\"metric\": 0.1", "\"metric\": 0.10", "not those that its values are written as"},
      {"0.1.0", "0.1\\u0000", "its library version is '0.1\\u0000'"},
      {"state.json", "../state.json", "a file is named '../state.json'"},
      {"state.json", "..", "a file is named '..'"},
      {"state.json", ".state", "a file is named '.state'"},
      {"state.json", "/etc/passwd", "a file is named '/etc/passwd'"},
      {"state.json", "", "a file is named ''"},
      {"state.json", "st\nate", "a file is named 'st?ate'"},
      {"state.json", "manifest.json", "'manifest.json' is among its files"},
      {"state.json", "model.safetensors", "'model.safetensors' is there twice"},
      {"\"bytes\": 17", "\"bytes\": 18446744073709551615", "expected a whole number from 0 to"},
      {"0123abcd", "0123ABCD", "expected 8 hexadecimal digits"},
      {"0123abcd", "0123abc", "expected 8 hexadecimal digits"},
  };
  for (const auto& [from, to, expected] : wrong) {
    EXPECT_THAT(message(replaced(text, from, to)), HasSubstr(expected)) << to;
  }
}

TEST(Manifest, WritesNothingThatAReaderWouldRefuse) {
  const auto message_with = [](auto change) {
    Manifest manifest = some_manifest();
    change(manifest);
    return message(manifest);
  };
  EXPECT_THAT(message_with([](Manifest& m) { m.format = 2; }), HasSubstr("its format is 2"));
  EXPECT_THAT(message_with([](Manifest& m) { m.library = "a\"b"; }), HasSubstr("its library"));
  EXPECT_THAT(message_with([](Manifest& m) { m.library.clear(); }), HasSubstr("its library"));
  EXPECT_THAT(message_with([](Manifest& m) { m.update = -1; }), HasSubstr("its update is -1"));
  EXPECT_THAT(message_with([](Manifest& m) { m.sequence = 0; }), HasSubstr("its sequence is 0"));
  EXPECT_THAT(message_with([](Manifest& m) { m.world_size = 0; }), HasSubstr("its world_size"));
  EXPECT_THAT(message_with([](Manifest& m) { m.files[0].name = "a/b"; }), HasSubstr("'a/b'"));
  EXPECT_THAT(message_with([](Manifest& m) { m.files[0].name = std::string(256, 'a'); }),
              HasSubstr("a file is named"));
  EXPECT_THAT(message_with([](Manifest& m) { m.files[0].bytes = std::uint64_t(-1); }),
              HasSubstr("has 18446744073709551615 bytes"));
  EXPECT_THAT(message_with([](Manifest& m) { m.files.resize(ManifestLimits::kFiles + 1); }),
              HasSubstr("it has 100001 files"));
  EXPECT_THAT(message_with([](Manifest& m) { m.files.push_back(m.files[0]); }),
              HasSubstr("there twice"));
}

TEST(Manifest, OfMoreFilesThanItMayHaveIsRefusedBeforeTheyAreTaken) {
  Manifest manifest = some_manifest();
  manifest.files.clear();
  for (std::size_t i = 0; i < ManifestLimits::kFiles; ++i) {
    manifest.files.push_back({concat("rank-", i), 1, 2});
  }
  const std::string text = manifest_text(manifest);
  EXPECT_EQ(message(text), "accepted");
  EXPECT_THAT(
      message(replaced(text, "\n  ],\n",
                       ",\n    {\"name\": \"a\", \"bytes\": 1, \"crc32c\": \"00000000\"}\n  ],\n")),
      HasSubstr("another file follows the first 100000"));
  EXPECT_THAT(message(std::string(ManifestLimits::kBytes + 1, ' ')),
              HasSubstr("it has 67108865 bytes"));
}

// No crash, no other error than CheckpointError, and what is accepted is what it would be written
// as. Sealed again they get beyond the digest, without that none but the good one does.
TEST(Manifest, SurvivesMutations) {
  const std::uint64_t rounds = testing::is_long_run() ? 1'000'000 : 20'000;
  const std::string good = manifest_text(some_manifest());
  std::uint64_t num_accepted = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    RandomStream stream(testing::mutation_seed(), 1, round);
    std::string text = good;
    const std::uint64_t changes = 1 + stream.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) testing::mutate_text(text, stream);
    fuzz_manifest(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    ASSERT_EQ(message(text) == "accepted", text == good) << text;
    if (message(sealed_again(text)) == "accepted") ++num_accepted;
  }
  EXPECT_GT(num_accepted, rounds / 100);  // changed numbers and names are a manifest too
}

}  // namespace
}  // namespace torch_accelerated
