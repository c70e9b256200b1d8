// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/accelerator/sync_batch_norm.h"

#include <gmock/gmock.h>

#include <cmath>

#include "accelerator/sync_batch_norm_ranks.h"
#include "support/tiny.h"

namespace tests::sync_batch_norm_test {
namespace {

using torch::nn::BatchNormOptions;

TEST(SyncBatchNorm, ABorrowedRowsInfiniteGradientReachesNobody) {
  run_ranks(2, [](std::size_t rank, const Group& group) {
    ta::SyncBatchNorm norm(3);
    norm->set_group(group);
    group->rows_count = rank == 0;
    const auto input = torch::arange(12).view({4, 3}).to(torch::kFloat32).requires_grad_();
    norm->forward(input).backward(torch::full({4, 3}, rank == 0 ? 1.0 : INFINITY));
    EXPECT_TRUE(torch::isfinite(input.grad()).all().item<bool>());
    EXPECT_TRUE(torch::isfinite(norm->weight.grad()).all().item<bool>());
  });
}

TEST(SyncBatchNorm, CommunicatesOnceInForwardAndOnceInBackwardInTheCallingThread) {
  run_ranks(2, [](std::size_t, const Group& group) {
    ta::SyncBatchNorm norm(3);
    norm->set_group(group);
    const auto input = torch::randn({2, 3}).requires_grad_();
    std::thread::id of_backward;
    input.register_hook([&](const torch::Tensor&) { of_backward = std::this_thread::get_id(); });
    const auto output = norm->forward(input);
    EXPECT_EQ(group->communicator->operations(), 1);
    output.sum().backward();
    EXPECT_EQ(group->communicator->operations(), 2);
    EXPECT_EQ(of_backward, std::this_thread::get_id());
    norm->forward(input.detach()).sum().backward();
    EXPECT_EQ(group->communicator->operations(), 3) << "nothing to send where no input wants it";
  });
}

TEST(SyncBatchNorm, CommunicatesNothingInEvalMode) {
  run_ranks(2, [](std::size_t rank, const Group& group) {
    for (const bool track : {true, false}) {
      const auto options = BatchNormOptions(3).track_running_stats(track);
      ta::SyncBatchNorm norm(options);
      torch::nn::BatchNorm1d plain(options);
      norm->set_group(group);
      norm->eval();
      plain->eval();
      if (rank == 1) continue;  // nobody waits for it
      const auto input = torch::arange(12).view({4, 3}).to(torch::kFloat32);
      EXPECT_TRUE(norm->forward(input).equal(plain->forward(input)));
    }
    EXPECT_EQ(group->communicator->operations(), 0);
  });
}

TEST(SyncBatchNorm, HasTheNamesOfBatchNorm) {
  for (const bool affine : {true, false}) {
    for (const bool track : {true, false}) {
      const auto options = BatchNormOptions(3).affine(affine).track_running_stats(track);
      const ta::SyncBatchNorm norm(options);
      const torch::nn::BatchNorm2d plain(options);
      EXPECT_EQ(norm->named_parameters().keys(), plain->named_parameters().keys());
      EXPECT_EQ(norm->named_buffers().keys(), plain->named_buffers().keys());
    }
  }
}

TEST(SyncBatchNorm, AnOutputMayBeChangedInPlace) {
  run_ranks(2, [](std::size_t, const Group& group) {
    for (const bool affine : {true, false}) {
      ta::SyncBatchNorm norm(BatchNormOptions(3).affine(affine));
      norm->set_group(group);
      const auto input = torch::randn({4, 3}).requires_grad_();
      auto output = norm->forward(input);
      output.relu_();
      output.sum().backward();
      EXPECT_TRUE(input.grad().defined());
    }
  });
}

TEST(SyncBatchNorm, KeepsTheMemoryFormat) {
  run_ranks(2, [](std::size_t, const Group& group) {
    ta::SyncBatchNorm norm(3);
    norm->set_group(group);
    const auto input = torch::randn({2, 3, 4, 5}).contiguous(torch::MemoryFormat::ChannelsLast);
    EXPECT_TRUE(norm->forward(input).is_contiguous(torch::MemoryFormat::ChannelsLast));
  });
}

TEST(SyncBatchNorm, ACloneHasItsOwnTensorsAndTheSameGroup) {
  run_ranks(2, [](std::size_t, const Group& group) {
    ta::SyncBatchNorm norm(3);
    norm->set_group(group);
    const auto clone = std::dynamic_pointer_cast<ta::SyncBatchNormImpl>(norm->clone());
    ASSERT_TRUE(clone);
    clone->forward(torch::randn({4, 3}));
    EXPECT_EQ(group->communicator->operations(), 1);
    EXPECT_TRUE(norm->running_mean.equal(torch::zeros({3})));
    EXPECT_FALSE(clone->running_mean.equal(torch::zeros({3})));
  });
}

TEST(SyncBatchNorm, RefusesInputsOfAnotherShapeOrDtype) {
  ta::SyncBatchNorm norm(3);
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { norm->forward(torch::randn({2, 4})); }),
              testing::HasSubstr("[2, 4], expected (N, 3, ...)"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { norm->forward(torch::randn({3})); }),
              testing::HasSubstr("shape [3]"));
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { norm->forward(torch::ones({2, 3}, torch::kInt64)); }),
      testing::HasSubstr("floating point"));
}

TEST(SyncBatchNorm, RefusesOneValuePerChannelOnEveryRankAndKeepsItsState) {
  run_ranks(3, [](std::size_t rank, const Group& group) {
    ta::SyncBatchNorm norm(3);
    norm->set_group(group);
    group->rows_count = rank == 1;
    EXPECT_THAT(message_of<ta::ArgumentError>([&] { norm->forward(torch::randn({1, 3})); }),
                testing::HasSubstr("Expected more than 1 value per channel when training, got 1"));
    EXPECT_EQ(norm->num_batches_tracked.item<std::int64_t>(), 0);
    group->rows_count = false;
    EXPECT_THAT(message_of<ta::ArgumentError>([&] { norm->forward(torch::randn({1, 3, 4})); }),
                testing::HasSubstr("got 0 over all 3 ranks"));
    group->rows_count = rank < 2;
    EXPECT_EQ(norm->forward(torch::randn({1, 3})).size(0), 1) << "two ranks bring two";
  });
}

TEST(SyncBatchNorm, RefusesOtherChannelsOnAnotherRank) {
  run_ranks(2, [](std::size_t rank, const Group& group) {
    ta::SyncBatchNorm norm(rank == 0 ? 3 : 4);
    norm->set_group(group);
    EXPECT_THAT(message_of<ta::CommunicationError>(
                    [&] { norm->forward(torch::randn({2, rank == 0 ? 3 : 4})); }),
                testing::HasSubstr(rank == 0 ? "rank 1 ran a layer of 4 channels while this one "
                                               "(rank 0) ran one of 3"
                                             : "rank 0 ran a layer of 3"));
  });
}

TEST(SyncBatchNorm, RefusesASecondDerivative) {
  run_ranks(2, [](std::size_t, const Group& group) {
    ta::SyncBatchNorm norm(3);
    norm->set_group(group);
    const auto input = torch::randn({2, 3}).requires_grad_();
    const auto loss = norm->forward(input).square().sum();
    EXPECT_THAT(message_of<ta::StateError>([&] {
                  torch::autograd::grad({loss}, {input}, {}, /*retain_graph=*/true,
                                        /*create_graph=*/true);
                }),
                testing::HasSubstr("create_graph"));
  });
}

TEST(SyncBatchNorm, ARankThatFailsEndsTheOthersBackward) {
  run_ranks(2, [](std::size_t rank, const Group& group) {
    ta::SyncBatchNorm norm(3);
    norm->set_group(group);
    const auto loss = norm->forward(torch::randn({2, 3}).requires_grad_()).sum();
    if (rank == 1) {
      group->communicator->abort("out of luck", ta::ExitCode::kUserCode);
      return;
    }
    EXPECT_THAT(message_of<ta::CommunicationError>([&] { loss.backward(); }),
                testing::HasSubstr("out of luck"));
  });
}

}  // namespace
}  // namespace tests::sync_batch_norm_test
