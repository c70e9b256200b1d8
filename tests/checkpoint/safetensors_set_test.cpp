// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/safetensors_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/text.h"
#include "checkpoint/safetensors_index.h"
#include "support/file_bytes.h"
#include "support/mutations.h"
#include "support/safetensors_parts.h"
#include "support/temp_dir.h"
#include "torch_accelerated/base/error.h"

extern "C" int fuzz_safetensors_index(const std::uint8_t* data, std::size_t size);

namespace torch_accelerated {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::SafetensorsParts;
using testing::TempDir;
using testing::write_bytes;

constexpr std::string_view kGoodIndex =
    R"({"metadata":{"total_size":3.5e1,"of":[{"deep":[null,true,-1,"x"]}]},"weight_map":{)"
    R"("a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors",)"
    R"("c":"model-00001-of-00002.safetensors"},"later":{"weight_map":{"d":1}}})";

template <class Expected, class Action>
std::string message(Action action) {
  try {
    action();
  } catch (const Expected& error) {
    return error.what();
  }
  return "accepted";
}

std::string refusal(std::string_view json) {
  return message<DataError>([&] { parse_safetensors_index(json, "m.index.json"); });
}

// An index of one tensor "a" in this file.
std::string refusal_of_shard(std::string_view name) {
  return refusal(concat(R"({"weight_map":{"a":")", name, R"("}})"));
}

/// A folder with a model of two shards: "a" and "c" in the first, "b" in the second.
class ShardedModel {
 public:
  ShardedModel() {
    first_.add("a", SafetensorsDtype::kF32, {2, 3});
    first_.add("c", SafetensorsDtype::kI64, {});
    second_.add("b", SafetensorsDtype::kBf16, {5});
    write_safetensors_file(system_io(), shard(1), first_.parts());
    write_safetensors_file(system_io(), shard(2), second_.parts());
    write_bytes(index(), kGoodIndex);
  }

  std::filesystem::path path() const { return folder_.path(); }
  std::string index() const { return folder_.path() / "model.safetensors.index.json"; }
  std::string shard(int number) const {
    return folder_.path() / concat("model-0000", number, "-of-00002.safetensors");
  }

  std::string message() const {
    return torch_accelerated::message<CheckpointError>([&] { SafetensorsSet set(index()); });
  }

  void expect_all_in(const SafetensorsSet& set) const {
    expect(set, "a", first_.values(0));
    expect(set, "c", first_.values(1));
    expect(set, "b", second_.values(0));
  }

 private:
  static void expect(const SafetensorsSet& set, std::string_view name, std::string_view values) {
    const SafetensorsEntry* tensor = set.find(name);
    ASSERT_NE(tensor, nullptr) << name;
    EXPECT_EQ(set.bytes_of(*tensor), values) << name;
    std::string copied(values.size(), '\0');
    set.copy(*tensor, copied.data());
    EXPECT_EQ(copied, values) << name;
    set.check(*tensor);
  }

  TempDir folder_;
  SafetensorsParts first_;
  SafetensorsParts second_;
};

TEST(SafetensorsSet, ReadsAnIndexOfSeveralFiles) {
  const ShardedModel model;
  const SafetensorsSet set(model.index());
  EXPECT_EQ(set.tensors().size(), 3U);
  EXPECT_EQ(set.files().size(), 2U);
  EXPECT_EQ(set.path(), model.index());
  EXPECT_EQ(set.find("d"), nullptr);
  model.expect_all_in(set);
}

TEST(SafetensorsSet, FindsTheIndexInAFolderOrElseTheOneFile) {
  const ShardedModel model;
  model.expect_all_in(SafetensorsSet(model.path()));
  std::filesystem::copy_file(model.shard(2), model.path() / "model.safetensors");
  const SafetensorsSet set(model.path());
  EXPECT_EQ(set.path(), (model.path() / "model.safetensors").string());
  EXPECT_EQ(set.tensors().size(), 1U);
  const TempDir empty;
  EXPECT_THAT(message<FileError>([&] { SafetensorsSet none(empty.path()); }),
              AllOf(HasSubstr(empty.path()), HasSubstr("neither model.safetensors nor")));
}

TEST(SafetensorsSet, ReadsOneFileOfAnyName) {
  const ShardedModel model;
  const SafetensorsSet set(model.shard(1));
  ASSERT_EQ(set.tensors().size(), 2U);
  EXPECT_EQ(set.tensors()[0]->name, "c");  // the widest first
  EXPECT_EQ(set.tensors()[1]->name, "a");
}

TEST(SafetensorsSet, KeepsItsTensorsWhenItIsMoved) {
  const ShardedModel model;
  SafetensorsSet first(model.index());
  const SafetensorsEntry* tensor = first.find("b");
  const SafetensorsSet second(std::move(first));
  EXPECT_EQ(second.find("b"), tensor);
  model.expect_all_in(second);
}

TEST(SafetensorsSet, ReadsTensorsThatTheIndexDoesNotName) {
  const ShardedModel model;
  write_bytes(model.index(), R"({"weight_map":{"a":"model-00001-of-00002.safetensors"}})");
  const SafetensorsSet set(model.index());
  EXPECT_EQ(set.tensors().size(), 2U);
  EXPECT_NE(set.find("c"), nullptr);
}

TEST(SafetensorsSet, ReadsShardsThatAreLinks) {
  const ShardedModel model;
  const TempDir elsewhere;
  std::filesystem::rename(model.shard(2), elsewhere.path() / "blob");
  std::filesystem::create_symlink(elsewhere.path() / "blob", model.shard(2));
  model.expect_all_in(SafetensorsSet(model.index()));
}

TEST(SafetensorsSet, RefusesATensorThatIsNotWhereTheIndexSays) {
  const ShardedModel model;
  std::filesystem::copy_file(model.shard(1), model.shard(2),
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_THAT(model.message(), AllOf(HasSubstr("tensor 'a' is in both '"),
                                     HasSubstr(model.shard(1)), HasSubstr(model.shard(2))));
  SafetensorsParts other;
  other.add("d", SafetensorsDtype::kU8, {1});
  std::filesystem::remove(model.shard(2));
  write_safetensors_file(system_io(), model.shard(2), other.parts());
  EXPECT_THAT(model.message(), HasSubstr("tensor 'b' is not in 'model-00002-of-00002.safetensor"));
  write_bytes(model.index(), R"({"weight_map":{"a":"model-00002-of-00002.safetensors",)"
                             R"("c":"model-00001-of-00002.safetensors"}})");
  EXPECT_THAT(model.message(), HasSubstr("tensor 'a' is in another file, not in"));
}

TEST(SafetensorsSet, NamesAShardThatIsMissingOrDamaged) {
  const ShardedModel model;
  const auto refused = [&]<class Expected>(Expected*) {
    return message<Expected>([&] { SafetensorsSet set(model.index()); });
  };
  write_bytes(model.shard(2), "not a model");
  EXPECT_THAT(refused(static_cast<DataError*>(nullptr)), HasSubstr(model.shard(2)));
  std::filesystem::remove(model.shard(2));
  EXPECT_THAT(refused(static_cast<FileError*>(nullptr)), HasSubstr(model.shard(2)));
}

TEST(SafetensorsSet, RefusesAnIndexBeyondItsSizeBeforeItIsRead) {
  const ShardedModel model;
  std::filesystem::resize_file(model.index(), std::uint64_t{1} << 30);  // a hole
  const std::int64_t peak_before = testing::peak_memory_kib();
  EXPECT_THAT(message<DataError>([&] { SafetensorsSet set(model.index()); }),
              HasSubstr("it holds 1073741824 bytes, expected at most 67108864"));
  EXPECT_LT(testing::peak_memory_kib() - peak_before, 16 * 1024);
}

TEST(SafetensorsSet, RefusesAnotherSetsTensor) {
  const ShardedModel model;
  const SafetensorsSet set(model.index());
  SafetensorsEntry tensor;
  tensor.name = "d";
  EXPECT_THROW(set.check(tensor), ArgumentError);
}

TEST(SafetensorsIndex, ReadsTheMapAndNothingElse) {
  const SafetensorsIndex index = parse_safetensors_index(kGoodIndex, "m.index.json");
  const SafetensorsIndex expected{
      {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"},
      {{"a", 0}, {"b", 1}, {"c", 0}}};
  EXPECT_EQ(index, expected);
  EXPECT_EQ(parse_safetensors_index(R"({"weight_map":{}})", "m.index.json"), SafetensorsIndex{});
}

TEST(SafetensorsIndex, TakesNamesOfModelsThatAreThere) {
  EXPECT_EQ(refusal_of_shard("model-00001-of-000163.safetensors"), "accepted");
  EXPECT_EQ(refusal_of_shard("pytorch_model.fp16-00010-of-00010.safetensors"), "accepted");
}

TEST(SafetensorsIndex, RefusesNamesThatCouldLeadElsewhere) {
  for (const std::string_view name : {"",
                                      "model.safetensors",
                                      "../model-00001-of-00002.safetensors",
                                      "/etc/model-00001-of-00002.safetensors",
                                      "sub/model-00001-of-00002.safetensors",
                                      "..-00001-of-00002.safetensors",
                                      "a..b-00001-of-00002.safetensors",
                                      ".hidden-00001-of-00002.safetensors",
                                      "-00001-of-00002.safetensors",
                                      R"(..\\model-00001-of-00002.safetensors)",
                                      R"(C:model-00001-of-00002.safetensors)",
                                      R"(mo\ndel-00001-of-00002.safetensors)",
                                      R"(mo\u0000del-00001-of-00002.safetensors)",
                                      "model-00001-of-00002.safetensors/..",
                                      "model-00001-of-00002.safetensors.index.json",
                                      "model-00001-of-00002.bin",
                                      "model-0001-of-00002.safetensors",
                                      "model-00001-of-0000000002.safetensors",
                                      "model-00000-of-00002.safetensors",
                                      "model-00003-of-00002.safetensors",
                                      "model-0000x-of-00002.safetensors",
                                      "model-+0001-of-00002.safetensors",
                                      "00001-of-00002.safetensors"}) {
    EXPECT_THAT(refusal_of_shard(name), AllOf(HasSubstr("safetensors index 'm.index.json': "),
                                              HasSubstr("a file of this folder named as")))
        << name;
  }
  EXPECT_THAT(refusal_of_shard(std::string(201, 'x') + "-00001-of-00002.safetensors"),
              HasSubstr("a file of this folder"));
}

TEST(SafetensorsIndex, RefusesShardsOfDifferentModels) {
  const auto refused = [](std::string_view second) {
    return refusal(
        concat(R"({"weight_map":{"a":"m-00001-of-00002.safetensors","b":")", second, R"("}})"));
  };
  EXPECT_EQ(refused("m-00002-of-00002.safetensors"), "accepted");
  EXPECT_THAT(refused("n-00002-of-00002.safetensors"), HasSubstr("the stem and count of 'm-00001"));
  EXPECT_THAT(refused("m-00002-of-00003.safetensors"), HasSubstr("the stem and count of 'm-00001"));
}

TEST(SafetensorsIndex, RefusesWhatIsNoMap) {
  const std::string shard = R"("m-00001-of-00002.safetensors")";
  EXPECT_THAT(refusal(""), HasSubstr("expected '{'"));
  EXPECT_THAT(refusal("[]"), HasSubstr("expected '{'"));
  EXPECT_THAT(refusal("\xEF\xBB\xBF{}"), HasSubstr("expected '{'"));
  EXPECT_THAT(refusal("{}"), HasSubstr("it has no weight_map"));
  EXPECT_THAT(refusal(R"({"weight_map":[]})"), HasSubstr("its weight_map is an array"));
  EXPECT_THAT(refusal(R"({"weight_map":null})"), HasSubstr("its weight_map is null"));
  EXPECT_THAT(refusal(R"({"weight_map":"a"})"), HasSubstr("its weight_map is a text"));
  EXPECT_THAT(refusal(R"({"weight_map":{},"weight_map":{}})"),
              HasSubstr("weight_map is there twi"));
  EXPECT_THAT(refusal(R"({"weight_map":{"a":1}})"), HasSubstr("tensor 'a' has a number"));
  EXPECT_THAT(refusal(R"({"weight_map":{"a":{}}})"), HasSubstr("tensor 'a' has an object"));
  EXPECT_THAT(refusal(R"({"weight_map":{"a":[]}})"), HasSubstr("tensor 'a' has an array"));
  EXPECT_THAT(refusal(concat(R"({"weight_map":{"a":)", shard, R"(,"a":)", shard, "}}")),
              HasSubstr("tensor 'a' is there twice"));
  EXPECT_THAT(refusal(R"({"weight_map":{})"), HasSubstr("not JSON"));
  EXPECT_THAT(refusal(R"({"weight_map":{}} {})"), HasSubstr("offset 18: it is not JSON"));
  EXPECT_THAT(refusal(std::string("{\"weight_map\":{}\0}", 17)),
              HasSubstr("offset 16: it has a z"));
}

TEST(SafetensorsIndex, RefusesWhatIsBeyondItsLimits) {
  const std::string name(SafetensorsLimits::kNameBytes + 1, 'n');
  EXPECT_THAT(refusal(concat(R"({"weight_map":{")", name, R"(":"x"}})")),
              HasSubstr("a name has 4097 bytes"));
  const std::string text(SafetensorsLimits::kTextBytes + 1, 't');
  EXPECT_THAT(refusal(concat(R"({"x":")", text, R"("})")), HasSubstr("offset 5: a text"));
  EXPECT_THAT(refusal(std::string(kSafetensorsIndexBytes + 1, ' ')),
              HasSubstr("it holds 67108865"));
  std::string many = R"({"weight_map":{)";
  for (std::size_t i = 0; i <= SafetensorsLimits::kTensors; ++i) {
    many += (i == 0 ? "\"" : ",\"") + std::to_string(i) + R"(":"m-00001-of-00001.safetensors")";
  }
  EXPECT_THAT(refusal(many), HasSubstr("more tensors than 1000000"));
}

TEST(SafetensorsIndex, SurvivesAnyDepth) {
  const std::string deep(10'000'000, '[');
  EXPECT_THAT(refusal(R"({"metadata":)" + deep), HasSubstr("not JSON"));
}

// No crash, no other error than DataError.
TEST(SafetensorsIndex, SurvivesMutations) {
  const std::uint64_t seed = testing::mutation_seed();
  const std::uint64_t rounds = testing::is_long_run() ? 1'000'000 : 20'000;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    RandomStream stream(seed, 1, round);
    std::string bytes(kGoodIndex);
    const std::uint64_t changes = 1 + stream.below(4);
    for (std::uint64_t i = 0; i < changes; ++i) testing::mutate_text(bytes, stream);
    fuzz_safetensors_index(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  }
}

}  // namespace
}  // namespace torch_accelerated
