// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::tensor_dict_test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(TensorDict, KeepsTheOrderInWhichNamesWereSet) {
  ta::TensorDict dict{{"b", torch::ones({2})}, {"a", torch::zeros({2})}};
  dict.set("c", torch::ones({1})).set("b", torch::zeros({2, 3}));
  std::vector<std::string> names;
  for (const auto& [name, value] : dict) names.push_back(name);
  EXPECT_THAT(names, testing::ElementsAre("b", "a", "c"));
  EXPECT_EQ(dict["b"].dim(), 2);
}

TEST(TensorDict, NamesWhatThereIsWhenANameIsMissing) {
  const ta::TensorDict dict{{"data", torch::ones({2})}, {"target", torch::ones({2})}};
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { dict["logits"]; }),
              AllOf(HasSubstr("'logits'"), HasSubstr("'data', 'target'")));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::TensorDict{}["x"]; }), HasSubstr("empty"));
}

TEST(TensorDict, OnlyWantsExactlyOneTensor) {
  const ta::TensorDict one{{"a", torch::ones({2})}};
  EXPECT_TRUE(one.only().equal(torch::ones({2})));
  const ta::TensorDict two{{"a", torch::ones({2})}, {"b", torch::ones({2})}};
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { two.only(); }), HasSubstr("found 2"));
}

TEST(TensorDict, CountsRowsOfItsFirstTensor) {
  EXPECT_EQ(tiny_batch(6).rows(), 6);
  EXPECT_EQ(ta::TensorDict{}.rows(), 0);
  const ta::TensorDict scalar{{"a", torch::ones({})}};
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { scalar.rows(); }), HasSubstr("'a'"));
}

TEST(TensorDict, DetachesWithoutCopying) {
  auto value = torch::ones({2}, torch::requires_grad());
  const ta::TensorDict dict{{"a", value * 2}};
  const auto detached = dict.detach();
  EXPECT_FALSE(detached["a"].requires_grad());
  EXPECT_EQ(detached["a"].data_ptr(), dict["a"].data_ptr());
}

TEST(TensorDict, LeavesTheGraphToThoseWhoHoldATensorThatATemporaryDetaches) {
  const auto held = torch::ones({2}, torch::requires_grad()) * 2;
  ta::TensorDict dict{{"held", held}, {"alone", held * 3}};
  const auto* alone = dict["alone"].unsafeGetTensorImpl();
  const auto detached = std::move(dict).detach();
  EXPECT_TRUE(held.requires_grad());
  EXPECT_FALSE(detached["held"].requires_grad());
  EXPECT_EQ(detached["held"].data_ptr(), held.data_ptr());
  EXPECT_FALSE(detached["alone"].requires_grad());
  EXPECT_EQ(detached["alone"].unsafeGetTensorImpl(), alone);  // the tensor itself
  EXPECT_TRUE(detached["alone"].equal(torch::full({2}, 6.0)));
}

TEST(TensorDict, DescribesShapesAndDtypes) {
  EXPECT_THAT(tiny_batch(2).describe(), HasSubstr("data: float [2, 4] on cpu"));
}

}  // namespace
}  // namespace tests::tensor_dict_test
