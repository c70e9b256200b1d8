// SPDX-License-Identifier: Apache-2.0
// What a step on the CPU does that can't be captured, and what it throws all the same.
#include <stdexcept>
#include <string>

#include "support/fake_nccl.h"
#include "support/host_captured_steps.h"

namespace tests::host_captured_step_refusals_test {
namespace {

using namespace captured;
using testing::AllOf;
using testing::HasSubstr;

void expect_refusal(const Trained::Step& step, const std::string& reason) {
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { trained(true, tiny_batch(40), plain_net, step); }),
      AllOf(HasSubstr("capture_graph: the step can't be captured: "), HasSubstr(reason),
            HasSubstr("or set capture_graph to false")));
}

TEST(HostCapturedSteps, ThatReadANumberAreRefused) {
  expect_refusal(
      [](torch::nn::Sequential& net, const ta::Batch& batch) {
        const auto loss = squares(net, batch);
        return loss * (loss.item<double>() > 1 ? 0.5 : 1.0);
      },
      "aten::_local_scalar_dense reads a number of a tensor");
}

TEST(HostCapturedSteps, WhoseTensorsHaveNoFixedSizeAreRefused) {
  const auto chosen = [](torch::nn::Sequential& net, const ta::Batch& batch) {
    const auto apart = net->forward(batch["data"]) - batch["target"];
    return apart.index({apart.detach() > 0}).sum() + 0 * apart.sum();
  };
  expect_refusal(chosen, "aten::index makes tensors whose size may be another each time");
}

TEST(HostCapturedSteps, ThatComputeOnTheirOwnAreRefused) {
  const std::string reason = "it does something else than a replay";
  // Goes by a number that it reads through a pointer.
  expect_refusal(
      [](torch::nn::Sequential& net, const ta::Batch& batch) {
        const double factor = batch["data"].const_data_ptr<float>()[0];
        return squares(net, batch) * factor;
      },
      reason);
  // Makes a tensor by itself.
  expect_refusal(
      [](torch::nn::Sequential& net, const ta::Batch& batch) {
        auto mine = torch::empty({3});
        for (int i = 0; i < 3; ++i) mine[i] = batch["data"].const_data_ptr<float>()[i];
        return (net->forward(batch["data"]) * mine).square().mean();
      },
      reason);
  // Changes what LibTorch has computed.
  expect_refusal(
      [](torch::nn::Sequential& net, const ta::Batch& batch) {
        auto made = net->forward(batch["data"]) - batch["target"];
        const auto weights = torch::ones({3});
        weights.mutable_data_ptr<float>()[0] = std::abs(batch["data"].const_data_ptr<float>()[0]);
        return (made.square() * weights).mean();
      },
      reason);
  // Sets the random generator back.
  expect_refusal(
      [](torch::nn::Sequential& net, const ta::Batch& batch) {
        const auto made = ta::checkpoint(
            [&](const torch::Tensor& x) { return torch::dropout(net->forward(x), 0.5, true); },
            batch["data"]);
        return torch::mse_loss(made, batch["target"]);
      },
      reason);
  // Counts.
  auto calls = std::make_shared<int>(0);
  expect_refusal([calls](torch::nn::Sequential& net,
                         const ta::Batch& batch) { return squares(net, batch) * (1.0 / ++*calls); },
                 reason);
}

TEST(HostCapturedSteps, OfOperationsWhoseResultsChangeTheirSizeEndTheRun) {
  const auto step = [](torch::nn::Sequential& net, const ta::Batch& batch) {
    return squares(net, batch) * positive(batch["data"], true).mean();
  };
  EXPECT_THAT(message_of<ta::StateError>([&] { trained(true, tiny_batch(40), plain_net, step); }),
              AllOf(HasSubstr("capture_graph: captured_step_tests::positive gave a tensor of ["),
                    HasSubstr("when the step was captured; set capture_graph to false")));
}

TEST(HostCapturedSteps, ThrowWhatTheirOperationsFind) {
  auto rows = tiny_batch(40);
  rows["data"][39][0] = -100.0F;
  const auto step = [](torch::nn::Sequential& net, const ta::Batch& batch) {
    const auto matrix = torch::eye(2) * (batch["data"].sum() + 50);
    return squares(net, batch) + torch::linalg_cholesky(matrix.detach()).sum();
  };
  for (const bool capture : {false, true}) {
    EXPECT_ANY_THROW(trained(capture, rows, plain_net, step)) << capture;
  }
}

TEST(HostCapturedSteps, ThatWriteToABufferByAPointerAreRefused) {
  struct CountingImpl : torch::nn::Module {
    torch::Tensor calls = register_buffer("calls", torch::zeros({1}));
    torch::Tensor forward(const torch::Tensor& x) {
      calls.mutable_data_ptr<float>()[0] += 1;
      return x;
    }
  };
  EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                trained(
                    true, tiny_batch(40),
                    +[] {
                      return torch::nn::Sequential(std::make_shared<CountingImpl>(),
                                                   torch::nn::Linear(4, 3));
                    },
                    squares);
              }),
              HasSubstr("it does something else than a replay"));
}

TEST(HostCapturedSteps, OverMemoryThatIsNotLibTorchsAreRefused) {
  std::vector<float> sums(3);
  expect_refusal(
      [&](torch::nn::Sequential& net, const ta::Batch& batch) {
        torch::from_blob(sums.data(), {3}).add_(batch["target"].mean(0));
        return squares(net, batch);
      },
      "has a tensor over memory that isn't LibTorch's, as from_blob makes it: clone() it");
  expect_refusal(
      [](torch::nn::Sequential& net, const ta::Batch& batch) {
        const torch::NoGradGuard no_grad;
        const auto scale =
            own_operation<torch::Tensor(const torch::Tensor&)>("one_number", batch["data"]);
        const torch::AutoGradMode with_graph(true);
        return (net->forward(batch["data"]) * scale).mean();
      },
      "captured_step_tests::one_number gives a tensor that overlaps itself");
}

TEST(HostCapturedSteps, ThrowTheProgramsOwnErrorsAlsoWhereTheyAreRecorded) {
  for (const int at : {2, 3, 4}) {  // as it is, recorded, proved
    int calls = 0;
    const auto step = [&](torch::nn::Sequential& net, const ta::Batch& batch) {
      if (++calls == at) throw std::out_of_range("of the test");
      return squares(net, batch);
    };
    EXPECT_THAT(
        message_of<ta::UserCodeError>([&] { trained(true, tiny_batch(40), plain_net, step); }),
        testing::EndsWith(": of the test"));
  }
}

TEST(HostCapturedSteps, OfSeveralRanksAreRefused) {
  const auto errors = with_ranks(2, [](ta::Communicator& control, FakeNccl&) {
    ta::World world{
        .gradients = control.duplicate(), .control = control.duplicate(), .is_callers = true};
    EXPECT_THAT(message_of<ta::ArgumentError>([&] {
                  ta::Accelerator accelerator(std::move(world),
                                              {.device = "cpu", .capture_graph = true});
                }),
                HasSubstr("as those of several ranks on the CPU"));
  });
  EXPECT_THAT(errors, testing::Each(testing::IsEmpty()));
}

}  // namespace
}  // namespace tests::host_captured_step_refusals_test
