// SPDX-License-Identifier: Apache-2.0
// Captured steps of several ranks, whose gradients NCCL adds up.
#include "support/captured_steps.h"
#include "support/fake_nccl.h"

namespace tests::captured_step_ranks_test {
namespace {

using namespace captured;
using testing::HasSubstr;
using testing::IsEmpty;

// What two ranks, each with a thread and an NCCL of its own, make of one dataset.
std::vector<torch::nn::Sequential> trained_by_two_ranks(bool capture,
                                                        const ta::TrainOptions& options,
                                                        std::int64_t stop_at,
                                                        ta::Overlap overlap = ta::Overlap::kOff) {
  std::vector<torch::nn::Sequential> nets{tiny_net(), tiny_net()};
  const auto rows = tiny_batch(73);  // one rank has none of the last batch
  const auto errors = with_ranks(2, [&](ta::Communicator& control, FakeNccl& nccl) {
    auto of_rank = options_of(capture);
    of_rank.overlap = overlap;
    of_rank.bucket_bytes = overlap == ta::Overlap::kOn ? 64 : of_rank.bucket_bytes;
    ta::World world{.gradients = over_fake(control, nccl),
                    .control = control.duplicate(),
                    .is_callers = true,
                    .allows_threads = false};  // the device is to overlap, no thread
    ta::Accelerator accelerator(std::move(world), of_rank);
    auto& net = nets[static_cast<std::size_t>(control.rank())];
    auto optimizer = adamw(net);
    CountingTrainer trainer(net, optimizer, accelerator);
    trainer.callbacks().add(AtStepEnd([&](ta::Trainer& of, const ta::TrainStepEnd& event) {
      if (event.updates == stop_at && control.rank() == 1) of.request_stop("the test wants it");
    }));
    EXPECT_EQ(trainer.train(rows, options).was_stopped(), stop_at > 0);
  });
  EXPECT_THAT(errors, testing::Each(IsEmpty()));
  return nets;
}

TEST(CapturedSteps, IncludeWhatRanksAddUpByNccl) {
  for (const std::int64_t accumulation : {1, 3}) {
    for (const std::int64_t stop_at : {-1, 9}) {
      const FakeGraphs graphs;
      auto options = three_epochs();
      options.per_device_batch_size = 2;
      options.gradient_accumulation_steps = accumulation;
      options.clip_gradient_norm = 0.1;
      const auto plain = trained_by_two_ranks(false, options, stop_at);
      EXPECT_EQ(graphs.recorded(), 0);
      const auto captured = trained_by_two_ranks(true, options, stop_at);
      EXPECT_GE(graphs.recorded(), 2 * accumulation);
      EXPECT_GT(graphs.replayed(), 8);
      EXPECT_TRUE(equal_bits(*plain[0], *plain[1]));
      EXPECT_TRUE(equal_bits(*captured[0], *plain[0]));
      EXPECT_TRUE(equal_bits(*captured[1], *plain[0]));
    }
  }
}

TEST(CapturedSteps, IncludeWhatRanksAddUpWhileTheBackwardGoesOn) {
  const FakeGraphs graphs;
  auto options = three_epochs();
  options.per_device_batch_size = 2;
  options.gradient_accumulation_steps = 2;
  const auto plain = trained_by_two_ranks(false, options, -1, ta::Overlap::kOn);
  EXPECT_EQ(graphs.recorded(), 0);
  const auto captured = trained_by_two_ranks(true, options, -1, ta::Overlap::kOn);
  EXPECT_GE(graphs.recorded(), 4);
  EXPECT_GT(graphs.replayed(), 8);
  EXPECT_TRUE(equal_bits(*captured[0], *plain[0]));
  EXPECT_TRUE(equal_bits(*captured[1], *plain[0]));
}

// What two ranks say in their logs, each of which trains `nets`' one of its own by `train`.
template <class Net, class Train>
std::string log_of_two_ranks(std::vector<Net>& nets, const Train& train) {
  testing::internal::CaptureStderr();
  const auto errors = with_ranks(2, [&](ta::Communicator& control, FakeNccl& nccl) {
    auto options = options_of(true);
    options.overlap = ta::Overlap::kOff;
    ta::World world{
        .gradients = over_fake(control, nccl), .control = control.duplicate(), .is_callers = true};
    ta::Accelerator accelerator(std::move(world), options);
    train(accelerator, nets[static_cast<std::size_t>(control.rank())]);
  });
  EXPECT_THAT(errors, testing::Each(IsEmpty()));
  return testing::internal::GetCapturedStderr();
}

/// Rows that one rank pads to another length in each batch.
struct PaddedRows {
  std::int64_t size() const { return 160; }

  ta::Batch get_batch(std::span<const std::int64_t> indices, const ta::SampleContext&) const {
    const auto rows = static_cast<std::int64_t>(indices.size());
    auto batch = tiny_batch(rows, static_cast<std::uint64_t>(indices.front()));
    batch.set("padding", torch::zeros({rows, length ? ++*length : 1}));
    return batch;
  }

  std::shared_ptr<std::int64_t> length;  // of the last one; none where it is the same each time
};

TEST(CapturedSteps, OfRanksWhoseShapesDifferRunAsTheyAreAndTheLogSaysWhy) {
  const FakeGraphs graphs;
  std::vector<torch::nn::Sequential> nets{tiny_net(), tiny_net()};
  const auto log = log_of_two_ranks(nets, [](ta::Accelerator& accelerator, auto& net) {
    auto optimizer = adamw(net);
    CountingTrainer trainer(net, optimizer, accelerator);
    const PaddedRows rows{accelerator.rank() == 1 ? std::make_shared<std::int64_t>(0) : nullptr};
    trainer.train(rows, {.num_epochs = 1, .per_device_batch_size = 4});
  });
  EXPECT_THAT(log, HasSubstr("the batches of some ranks come in shapes"));
  EXPECT_EQ(graphs.replayed(), 0);
  EXPECT_TRUE(equal_bits(*nets[0], *nets[1]));
}

/// Has a parameter that no loss reaches.
struct WithUnusedImpl : torch::nn::Module {
  WithUnusedImpl()
      : net(register_module("net", tiny_net())),
        unused(register_parameter("unused", torch::ones({3}))) {}
  torch::Tensor forward(const torch::Tensor& data) { return net->forward(data); }

  torch::nn::Sequential net;
  torch::Tensor unused;
};
TORCH_MODULE(WithUnused);

TEST(CapturedSteps, WithoutSomeGradientsRunAsTheyAreOnSeveralRanksAndTheLogSaysWhy) {
  const FakeGraphs graphs;
  std::vector<WithUnused> nets{WithUnused(), WithUnused()};
  const auto log = log_of_two_ranks(nets, [](ta::Accelerator& accelerator, auto& net) {
    torch::optim::SGD optimizer(net->parameters(), kRate);
    ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList(), &accelerator);
    trainer.train(tiny_batch(40), three_epochs());
  });
  EXPECT_THAT(log, HasSubstr("a parameter got no gradient on this rank"));
  EXPECT_EQ(graphs.recorded(), 0);
}

}  // namespace
}  // namespace tests::captured_step_ranks_test
