// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "support/tiny.h"
#include "torch_accelerated/accelerator/sync_batch_norm.h"
#include "torch_accelerated/distributed/thread_communicator.h"

namespace tests::sync_batch_norm_convert_test {
namespace {

using torch::nn::BatchNormOptions;

/// A Sequential that another can hold: torch's own has a template for forward.
struct BlockImpl : torch::nn::SequentialImpl {
  using SequentialImpl::SequentialImpl;
  torch::Tensor forward(torch::Tensor input) { return SequentialImpl::forward(input); }
};
TORCH_MODULE(Block);

/// A body in a Sequential, and norms in typed members where asked for.
struct NetImpl : torch::nn::Module {
  explicit NetImpl(bool with_members) {
    body = register_module(
        "body", torch::nn::Sequential(
                    {{"conv", torch::nn::Conv2d(2, 4, 3)},
                     {"norm", torch::nn::BatchNorm2d(4)},
                     {"block", Block(torch::nn::Conv2d(4, 3, 1), torch::nn::BatchNorm2d(3))}}));
    if (!with_members) return;
    stem = register_module("stem", torch::nn::BatchNorm2d(2));
    register_module("list", torch::nn::ModuleList(torch::nn::ReLU(), torch::nn::BatchNorm1d(3)));
  }
  torch::Tensor forward(torch::Tensor input) {
    return body->forward(stem ? stem->forward(input) : input);
  }

  torch::nn::Sequential body{nullptr};
  torch::nn::BatchNorm2d stem{nullptr};
};
TORCH_MODULE(Net);

struct OwnNormImpl : torch::nn::BatchNorm1dImpl {
  using BatchNorm1dImpl::BatchNorm1dImpl;
};
TORCH_MODULE(OwnNorm);

/// A group of two ranks, the other of which never comes: a forward that synchronises throws.
std::shared_ptr<ta::SyncBatchNormGroup> lonely_group() {
  auto group = std::make_shared<ta::SyncBatchNormGroup>();
  group->communicator = std::move(ta::make_thread_communicators(2)[0]);
  group->communicator->set_timeout(std::chrono::milliseconds(1));
  return group;
}

TEST(ConvertSyncBatchNorm, ForwardRunsTheNewLayersAtAnyDepth) {
  for (const bool deep : {false, true}) {
    Net net(false);
    ASSERT_EQ(ta::convert_sync_batch_norm(*net), 2);
    const auto input = torch::randn({2, 2, 5, 5});
    EXPECT_EQ(net->forward(input).sizes(), (std::vector<std::int64_t>{2, 3, 3, 3}));
    // One layer is connected, so that it is this one that is met.
    auto& layer = *net->named_modules()[deep ? "body.block.1" : "body.norm"];
    ASSERT_EQ(ta::connect_sync_batch_norm(layer, lonely_group()), 1);
    EXPECT_THROW(net->forward(input), ta::CommunicationError);
    net->eval();
    EXPECT_NO_THROW(net->forward(input));
  }
}

TEST(ConvertSyncBatchNorm, ChangesNoNameNoNumberAndNoOrder) {
  Net net(false);
  const auto parameters = net->named_parameters();
  const auto buffers = net->named_buffers();
  const auto modules = net->named_modules().keys();
  const auto input = torch::randn({2, 2, 5, 5});
  net->forward(input);
  ta::convert_sync_batch_norm(*net);
  EXPECT_EQ(net->named_modules().keys(), modules);
  ASSERT_EQ(net->named_parameters().keys(), parameters.keys());
  ASSERT_EQ(net->named_buffers().keys(), buffers.keys());
  for (const auto& parameter : parameters) {
    EXPECT_TRUE(net->named_parameters()[parameter.key()].is_same(parameter.value()));
    EXPECT_TRUE(parameter.value().requires_grad());
  }
  for (const auto& buffer : buffers) {
    EXPECT_TRUE(net->named_buffers()[buffer.key()].is_same(buffer.value()));
  }
  net->forward(input);
  EXPECT_EQ(buffers["body.norm.num_batches_tracked"].item<std::int64_t>(), 2);
}

TEST(ConvertSyncBatchNorm, AnOptimizerMadeBeforeStillTrains) {
  torch::nn::Sequential net(torch::nn::Linear(4, 5), torch::nn::BatchNorm1d(5),
                            torch::nn::Linear(5, 3));
  auto same = std::dynamic_pointer_cast<torch::nn::SequentialImpl>(net->clone());
  auto optimizer = sgd(net);
  torch::optim::SGD other(same->parameters(), torch::optim::SGDOptions(0.1).momentum(0.9));
  ta::convert_sync_batch_norm(*net);
  const auto batch = tiny_batch(6);
  for (int update = 0; update < 3; ++update) {
    (net->forward(batch["data"]) - batch["target"]).square().mean().backward();
    (same->forward(batch["data"]) - batch["target"]).square().mean().backward();
    optimizer.step();
    other.step();
  }
  EXPECT_TRUE(equal_bits(*net, *same));
}

TEST(ConvertSyncBatchNorm, KeepsOptionsModeAndFrozenParameters) {
  torch::nn::BatchNorm1d frozen(
      BatchNormOptions(3).eps(0.5).momentum(std::nullopt).track_running_stats(false));
  frozen->weight.requires_grad_(false);
  frozen->eval();
  torch::nn::Sequential net(frozen, torch::nn::BatchNorm3d(BatchNormOptions(3).affine(false)));
  EXPECT_EQ(ta::convert_sync_batch_norm(ta::Model(net)), 2);
  const auto* first = net[0]->as<ta::SyncBatchNorm>();
  const auto* second = net[1]->as<ta::SyncBatchNorm>();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(first->options.eps(), 0.5);
  EXPECT_FALSE(first->options.momentum().has_value());
  EXPECT_FALSE(first->running_mean.defined());
  EXPECT_FALSE(first->weight.requires_grad());
  EXPECT_TRUE(first->bias.requires_grad());
  EXPECT_FALSE(first->is_training());
  EXPECT_TRUE(second->is_training());
  EXPECT_FALSE(second->weight.defined());
  EXPECT_TRUE(second->running_var.defined());
}

TEST(ConvertSyncBatchNorm, ALayerInTwoPlacesStaysOne) {
  const torch::nn::BatchNorm1d norm(4);
  torch::nn::Sequential net(norm, torch::nn::Linear(4, 4), norm, Block(norm));
  EXPECT_EQ(ta::convert_sync_batch_norm(*net.ptr()), 1);
  EXPECT_TRUE(net[0]->as<ta::SyncBatchNorm>());
  EXPECT_EQ(net[0], net[2]);
  EXPECT_EQ(net[0], net[3]->children()[0]);
}

TEST(ConvertSyncBatchNorm, RefusesAllThatItCanNotReplaceByNameAndChangesNothing) {
  Net net(true);
  const auto said = message_of<ta::ArgumentError>([&] { ta::convert_sync_batch_norm(*net); });
  EXPECT_THAT(said, testing::HasSubstr("'stem' (torch::nn::BatchNorm2dImpl)"));
  EXPECT_THAT(said, testing::HasSubstr("'list.1' (torch::nn::BatchNorm1dImpl)"));
  EXPECT_THAT(said, testing::Not(testing::HasSubstr("body")));
  EXPECT_TRUE(net->body[1]->as<torch::nn::BatchNorm2d>());

  torch::nn::Sequential derived(torch::nn::Linear(4, 3), OwnNorm(3));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::convert_sync_batch_norm(*derived); }),
              testing::HasSubstr("'1' ("));
  torch::nn::BatchNorm1d root(3);
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::convert_sync_batch_norm(*root); }),
              testing::HasSubstr("'the model itself'"));
}

TEST(ConvertSyncBatchNorm, LeavesAModelWithoutBatchNormAndAConvertedOneAsTheyAre) {
  auto net = tiny_net();
  EXPECT_EQ(ta::convert_sync_batch_norm(*net), 0);
  Net converted(false);
  EXPECT_EQ(ta::convert_sync_batch_norm(*converted), 2);
  const auto layer = converted->body[1];
  EXPECT_EQ(ta::convert_sync_batch_norm(*converted), 0);
  EXPECT_EQ(converted->body[1], layer);
}

TEST(ConvertSyncBatchNorm, AConvertedSequentialCanBeClonedAndMoved) {
  torch::nn::Sequential net(torch::nn::Linear(4, 3), torch::nn::BatchNorm1d(3));
  ta::convert_sync_batch_norm(*net);
  net->to(torch::kFloat64);
  const auto clone = std::dynamic_pointer_cast<torch::nn::SequentialImpl>(net->clone());
  const auto input = torch::randn({5, 4}, torch::kFloat64);
  EXPECT_TRUE(clone->forward(input).equal(net->forward(input)));
  EXPECT_NE(clone->ptr(1), net[1]);
}

}  // namespace
}  // namespace tests::sync_batch_norm_convert_test
