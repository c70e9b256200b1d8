// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/data/per_sample.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <functional>

#include "data/batch_digest.h"
#include "torch_accelerated/base/error.h"

namespace torch_accelerated::per_sample_test {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::numbers;
using Indices = std::vector<std::int64_t>;

struct Plain {
  std::int64_t size() const { return 8; }
  Sample get(std::int64_t index) const {
    return {{"data", torch::full({2, 3}, index)}, {"target", torch::tensor(index)}};
  }
};

/// Samples made by a function, to be wrong in one way at a time.
struct Made {
  std::function<Sample(std::int64_t)> make;
  std::size_t size() const { return 8; }
  Sample get(std::int64_t index) const { return make(index); }
};

std::string data_error_of(const Dataset& dataset, const Indices& indices) {
  try {
    dataset.get_batch(indices);
  } catch (const DataError& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(PerSample, StacksSamplesByName) {
  const Dataset dataset = per_sample(Plain{});
  const Batch batch = dataset.get_batch(Indices{5, 2});
  EXPECT_EQ(dataset.size(), 8);
  EXPECT_EQ(batch["data"].sizes(), (std::vector<std::int64_t>{2, 2, 3}));
  EXPECT_TRUE(batch["data"][1].equal(torch::full({2, 3}, 2)));
  EXPECT_THAT(numbers(batch["target"]), ElementsAre(5, 2));
}

struct Random {
  std::int64_t size() const { return 8; }
  torch::Tensor get(std::int64_t index, const SampleContext& context) const {
    return torch::tensor(context.generator(index).uniform(), torch::kFloat64);
  }
};

TEST(PerSample, GivesSamplesTheirContext) {
  const SampleContext context{.seed = 1, .epoch = 7};
  const Batch batch = per_sample(Random{}).get_batch(Indices{3, 6}, context);
  EXPECT_EQ(batch["data"][0].item<double>(), context.generator(3).uniform());
  EXPECT_EQ(batch["data"][1].item<double>(), context.generator(6).uniform());
}

struct Examples {
  std::int64_t size() const { return 8; }
  torch::data::Example<> get(std::int64_t index) const {
    return {torch::full({2}, index), torch::tensor(index)};
  }
};

struct TensorExamples {
  std::int64_t size() const { return 8; }
  torch::data::TensorExample get(std::int64_t index) const { return torch::full({2}, index); }
};

TEST(PerSample, TakesExamplesOfTorchData) {
  const Batch pair = per_sample(Examples{}).get_batch(Indices{1, 3});
  EXPECT_THAT(numbers(pair["target"]), ElementsAre(1, 3));
  EXPECT_EQ(pair["data"].size(1), 2);
  const Batch alone = per_sample(TensorExamples{}).get_batch(Indices{1, 3});
  EXPECT_EQ(alone.size(), 1U);
  EXPECT_THAT(numbers(alone["data"].flatten()), ElementsAre(1, 1, 3, 3));
}

TEST(PerSample, CollatesAsTheUserSays) {
  const Dataset dataset = per_sample(
      Made{[](std::int64_t index) { return Sample{{"data", torch::full({index}, index)}}; }},
      [](std::vector<Sample> samples) {
        std::vector<torch::Tensor> values;
        std::vector<std::int64_t> lengths;
        for (const Sample& sample : samples) {
          values.push_back(sample["data"]);
          lengths.push_back(sample["data"].size(0));
        }
        return Batch{{"lengths", torch::tensor(lengths)}, {"values", torch::cat(values)}};
      });
  const Batch batch = dataset.get_batch(Indices{2, 3});
  EXPECT_THAT(numbers(batch["lengths"]), ElementsAre(2, 3));
  EXPECT_THAT(numbers(batch["values"]), ElementsAre(2, 2, 3, 3, 3));
}

TEST(PerSample, NamesFieldSampleAndBothShapesWhereTheyDisagree) {
  const Dataset dataset = per_sample(Made{[](std::int64_t index) {
    return Sample{{"data", torch::zeros({2, index == 6 ? 4 : 3})}, {"target", torch::zeros({})}};
  }});
  EXPECT_THAT(data_error_of(dataset, {5, 1, 6}),
              AllOf(HasSubstr("'data'"), HasSubstr("sample 6"), HasSubstr("[2, 4]"),
                    HasSubstr("sample 5"), HasSubstr("[2, 3]")));
}

TEST(PerSample, RefusesDtypesNamesAndUndefinedTensorsThatDisagree) {
  const auto error_with = [](const Sample& odd) {
    const Dataset dataset = per_sample(Made{[odd](std::int64_t index) {
      return index == 6 ? odd : Sample{{"data", torch::zeros({2})}};
    }});
    return data_error_of(dataset, {5, 6});
  };
  EXPECT_THAT(error_with({{"data", torch::zeros({2}, torch::kFloat64)}}),
              AllOf(HasSubstr("sample 6 is double"), HasSubstr("sample 5 is float")));
  EXPECT_THAT(error_with({{"image", torch::zeros({2})}}),
              AllOf(HasSubstr("sample 6"), HasSubstr("image"), HasSubstr("same names")));
  EXPECT_THAT(error_with({{"data", torch::zeros({2})}, {"more", torch::zeros({2})}}),
              HasSubstr("more"));
  EXPECT_THAT(error_with({}), HasSubstr("sample 6"));
  EXPECT_THAT(error_with({{"data", torch::Tensor()}}), HasSubstr("undefined"));
}

TEST(PerSample, AnExceptionNamesTheSampleAndKeepsTheOriginal) {
  const Dataset dataset = per_sample(Made{[](std::int64_t index) -> Sample {
    if (index == 4) throw std::out_of_range("no such picture");
    return {{"data", torch::zeros({})}};
  }});
  try {
    dataset.get_batch(Indices{3, 4});
    FAIL() << "nothing was thrown";
  } catch (const DataError& error) {
    EXPECT_STREQ(error.what(), "sample 4 of 8: no such picture");
    EXPECT_THROW(std::rethrow_if_nested(error), std::out_of_range);
  }
}

TEST(PerSample, AnExceptionThatIsNoStdExceptionNamesTheSampleToo) {
  const Dataset dataset = per_sample(Made{[](std::int64_t) -> Sample { throw 42; }});
  EXPECT_THAT(data_error_of(dataset, {7}), AllOf(HasSubstr("sample 7"), HasSubstr("type int")));
}

TEST(PerSample, AnErrorOfLibTorchsIsToldWithoutItsBacktrace) {
  const Dataset dataset = per_sample(
      Made{[](std::int64_t) { return Sample{{"data", torch::zeros({2}) + torch::zeros({3})}}; }});
  const std::string message = data_error_of(dataset, {7});
  EXPECT_THAT(message, HasSubstr("sample 7 of 8: The size of tensor a (2)"));
  EXPECT_EQ(message.find("frame #"), std::string::npos);
}

TEST(Stack, NamesThePlaceInTheBatch) {
  EXPECT_THROW(stack({{{"data", torch::zeros({2})}}, {{"data", torch::zeros({3})}}}), DataError);
  const Batch batch = stack({{{"data", torch::zeros({2})}}, {{"data", torch::ones({2})}}});
  EXPECT_EQ(batch["data"].sizes(), (std::vector<std::int64_t>{2, 2}));
  EXPECT_TRUE(stack({}).empty());
}

}  // namespace
}  // namespace torch_accelerated::per_sample_test
