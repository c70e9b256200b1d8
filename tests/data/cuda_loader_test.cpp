// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "data/batch_digest.h"
#include "torch_accelerated/data/data_loader.h"

namespace torch_accelerated {
namespace {

using testing::numbered_rows;

// What the current stream makes of a loader's batches, which are dropped while it still works.
std::vector<torch::Tensor> sums_over(DataLoader& loader) {
  std::vector<torch::Tensor> sums;
  while (const auto batch = loader.next()) {
    torch::Tensor rows = (*batch)["target"];  // whole numbers: sums are exact in any order
    for (int i = 0; i < 50; ++i) rows = rows + (*batch)["target"];
    sums.push_back(rows.sum(0));
  }
  for (torch::Tensor& sum : sums) sum = sum.cpu();
  return sums;
}

TEST(CudaDataLoader, BringsTheSameBatchesAsOnTheHost) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "skipped: no CUDA device";
  const Batch rows = numbered_rows(20'000);
  const DataLoaderOptions options{.batch_size = 512, .shuffle = true};
  DataLoader host(rows, options);
  const auto expected = sums_over(host);
  for (const bool from_device : {false, true}) {
    for (const int workers : {0, 1, 4}) {
      auto there = options;
      there.num_workers = workers;
      there.device = c10::kCUDA;
      DataLoader loader(from_device ? rows.to(c10::kCUDA) : rows, there);
      EXPECT_TRUE(loader.options().device.has_index());
      const auto sums = sums_over(loader);
      ASSERT_EQ(sums.size(), expected.size());
      for (std::size_t i = 0; i < sums.size(); ++i) {
        EXPECT_TRUE(sums[i].equal(expected[i])) << "batch " << i << ", " << workers << " workers";
      }
    }
  }
}

}  // namespace
}  // namespace torch_accelerated
