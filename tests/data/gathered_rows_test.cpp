// SPDX-License-Identifier: Apache-2.0
#include "data/gathered_rows.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <vector>

namespace torch_accelerated::gathered_rows_test {
namespace {

void expect_as_index_select(const torch::Tensor& value, const std::vector<std::int64_t>& indices) {
  const auto expected = value.index_select(0, torch::tensor(indices, torch::kInt64));
  const auto rows = gathered_rows(value, indices);
  EXPECT_EQ(rows.dtype(), expected.dtype());
  EXPECT_EQ(rows.sizes(), expected.sizes());
  EXPECT_TRUE(torch::equal(rows, expected)) << value.dtype() << ' ' << value.sizes();
  EXPECT_TRUE(rows.numel() == 0 || rows.data_ptr() != value.data_ptr());
}

TEST(GatheredRows, AreThoseOfIndexSelect) {
  const std::vector<std::int64_t> indices{6, 0, 0, 3, 5};
  for (const auto dtype : {torch::kFloat32, torch::kFloat64, torch::kBFloat16, torch::kInt64,
                           torch::kUInt8, torch::kBool, torch::kComplexFloat}) {
    const auto value = torch::randint(2, {7, 3, 5}, torch::kInt64).to(dtype);
    expect_as_index_select(value, indices);
    expect_as_index_select(value, {});
    expect_as_index_select(value.transpose(1, 2), indices);  // not contiguous
    expect_as_index_select(value.slice(0, 0, 7).slice(2, 1, 4), indices);
  }
  expect_as_index_select(torch::arange(7), indices);
  expect_as_index_select(torch::zeros({7, 0}), indices);
}

TEST(GatheredRows, AreTheSameWhereSeveralThreadsCopy) {
  const auto value = torch::rand({200, 50'000});
  std::vector<std::int64_t> indices;
  for (std::int64_t i = 0; i < 64; ++i) indices.push_back(i * 37 % 200);
  expect_as_index_select(value, indices);
}

}  // namespace
}  // namespace torch_accelerated::gathered_rows_test
