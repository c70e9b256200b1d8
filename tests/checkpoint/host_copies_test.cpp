// SPDX-License-Identifier: Apache-2.0
#include "checkpoint/host_copies.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace torch_accelerated::host_copies_test {
namespace {

TEST(HostCopies, KeepTheNumbersOfTheMoment) {
  const auto weight = torch::ones({2, 3}, torch::requires_grad());
  const auto strided = torch::arange(6).reshape({2, 3}).t();
  HostCopies copies;
  const auto copied = copies.of({{"weight", weight}, {"strided", strided}});
  {
    const torch::NoGradGuard no_grad;
    weight.zero_();
    strided.zero_();
  }
  ASSERT_EQ(copied.size(), 2U);
  EXPECT_EQ(copied.begin()->first, "weight");  // in the order given
  EXPECT_TRUE(torch::equal(copied["weight"], torch::ones({2, 3})));
  EXPECT_FALSE(copied["weight"].requires_grad());
  EXPECT_TRUE(torch::equal(copied["strided"], torch::arange(6).reshape({2, 3}).t()));
  EXPECT_TRUE(copied["strided"].is_contiguous());
}

TEST(HostCopies, UseTheirMemoryAgainWhereItFits) {
  HostCopies copies;
  const auto* first = copies.of({{"a", torch::ones({4})}})["a"].const_data_ptr();
  const auto again = copies.of({{"b", torch::zeros({2})}, {"a", torch::full({4}, 2.0)}});
  EXPECT_EQ(again["a"].const_data_ptr(), first);
  EXPECT_TRUE(torch::equal(again["a"], torch::full({4}, 2.0)));
}

TEST(HostCopies, FollowAnotherShapeOrDtype) {
  HostCopies copies;
  copies.of({{"a", torch::ones({4})}});
  for (const auto& tensor : {torch::ones({2, 2}), torch::ones({4}, torch::kFloat64),
                             torch::ones({4}, torch::kBool), torch::empty({0})}) {
    const auto copy = copies.of({{"a", tensor}})["a"];
    EXPECT_EQ(copy.scalar_type(), tensor.scalar_type());
    EXPECT_TRUE(torch::equal(copy, tensor));
  }
}

TEST(HostCopies, OfOneTensorUnderTwoNamesAreTwo) {
  HostCopies copies;
  const auto tensor = torch::ones({2});
  const auto copied = copies.of({{"a", tensor}, {"b", tensor}});
  EXPECT_NE(copied["a"].const_data_ptr(), copied["b"].const_data_ptr());
}

}  // namespace
}  // namespace torch_accelerated::host_copies_test
