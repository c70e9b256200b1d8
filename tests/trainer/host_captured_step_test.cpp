// SPDX-License-Identifier: Apache-2.0
// Captured steps on the CPU: what the library records of a step there, and what it refuses.
#include <torch/library.h>

#include <string>

#include "support/captured_steps.h"
#include "support/fake_nccl.h"

namespace tests::host_captured_step_test {
namespace {

using namespace captured;
using testing::AllOf;
using testing::HasSubstr;

/// What it computes of a batch, `step`, is the loss.
class Trained : public CountingTrainer {
 public:
  using Step = std::function<torch::Tensor(torch::nn::Sequential&, const ta::Batch&)>;

  Trained(torch::nn::Sequential net, torch::optim::Optimizer& optimizer,
          ta::Accelerator& accelerator, Step step)
      : CountingTrainer(net, optimizer, accelerator), net_(net), step_(std::move(step)) {}

 protected:
  ta::StepOutput calculate_train_batch_loss(const ta::Batch& batch) override {
    ++steps;
    return {step_(net_, batch), {}, {}};
  }

 private:
  torch::nn::Sequential net_;
  Step step_;
};

struct Result {
  torch::nn::Sequential net;
  int steps;
};

Result trained(bool capture, const ta::Batch& rows, MakeNet make_net, const Trained::Step& step,
               ta::AcceleratorOptions options = {.device = "cpu"}) {
  torch::manual_seed(5);
  options.capture_graph = capture;
  ta::Accelerator accelerator(options);
  Result result{make_net(), 0};
  auto optimizer = nesterov(result.net);
  Trained trainer(result.net, optimizer, accelerator, step);
  trainer.train(rows, {.num_epochs = 3, .per_device_batch_size = 4});
  result.steps = trainer.steps;
  return result;
}

void expect_same_bits(const ta::Batch& rows, MakeNet make_net, const Trained::Step& step,
                      const ta::AcceleratorOptions& options = {.device = "cpu"}) {
  const auto plain = trained(false, rows, make_net, step, options);
  const auto captured = trained(true, rows, make_net, step, options);
  // The first update and one more as they are, one recorded, one to prove the recording.
  EXPECT_EQ(captured.steps, 4);
  EXPECT_TRUE(equal_bits(*captured.net, *plain.net));
}

void expect_refusal(const Trained::Step& step, const std::string& reason) {
  EXPECT_THAT(
      message_of<ta::ArgumentError>([&] { trained(true, tiny_batch(40), plain_net, step); }),
      AllOf(HasSubstr("capture_graph: the step can't be captured: "), HasSubstr(reason),
            HasSubstr("or set capture_graph to false")));
}

torch::Tensor squares(torch::nn::Sequential& net, const ta::Batch& batch) {
  return torch::mse_loss(net->forward(batch["data"]), batch["target"]);
}

torch::nn::Sequential convolutions() {
  const ta::SeedScope scope(4);
  using torch::nn::Conv2dOptions;
  return torch::nn::Sequential(
      torch::nn::Conv2d(Conv2dOptions(2, 4, 3).padding(1)), torch::nn::BatchNorm2d(4),
      torch::nn::ReLU(torch::nn::ReLUOptions().inplace(true)), torch::nn::MaxPool2d(2),
      torch::nn::Conv2d(Conv2dOptions(4, 3, 3).groups(1)), torch::nn::AdaptiveAvgPool2d(2),
      torch::nn::Flatten(), torch::nn::Linear(12, 3));
}

TEST(HostCapturedSteps, OfAConvolutionalNetGiveTheBitsOfPlainSteps) {
  const ta::SeedScope scope(1);
  const ta::Batch rows{{"data", torch::randn({40, 2, 8, 8})},
                       {"target", torch::randint(3, {40}, torch::kLong)}};
  const auto step = [](torch::nn::Sequential& net, const ta::Batch& batch) {
    return torch::cross_entropy_loss(net->forward(batch["data"]), batch["target"]);
  };
  expect_same_bits(rows, convolutions, step);
  expect_same_bits(
      rows, convolutions, step,
      {.device = "cpu", .mixed_precision = ta::MixedPrecision::kBf16, .channels_last = true});
}

struct TokensImpl : torch::nn::Module {
  TokensImpl() {
    embedding = register_module("embedding", torch::nn::Embedding(11, 8));
    layer = register_module(
        "layer",
        torch::nn::TransformerEncoderLayer(
            torch::nn::TransformerEncoderLayerOptions(8, 2).dim_feedforward(16).dropout(0.1)));
    recurrent = register_module("recurrent", torch::nn::LSTM(8, 5));
    head = register_module("head", torch::nn::Linear(5, 11));
  }

  torch::Tensor forward(const torch::Tensor& tokens) {
    const auto hidden = layer->forward(embedding->forward(tokens.t()));
    return head->forward(std::get<0>(recurrent->forward(hidden))).permute({1, 2, 0});
  }

  torch::nn::Embedding embedding{nullptr};
  torch::nn::TransformerEncoderLayer layer{nullptr};
  torch::nn::LSTM recurrent{nullptr};
  torch::nn::Linear head{nullptr};
};
TORCH_MODULE(Tokens);

TEST(HostCapturedSteps, OfATransformerWithARecurrentLayerGiveTheBitsOfPlainSteps) {
  const ta::SeedScope scope(1);
  const ta::Batch rows{{"data", torch::randint(11, {40, 6}, torch::kLong)},
                       {"target", torch::randint(11, {40, 6}, torch::kLong)}};
  expect_same_bits(
      rows,
      +[] {
        const ta::SeedScope of_net(2);
        return torch::nn::Sequential(Tokens());
      },
      [](torch::nn::Sequential& net, const ta::Batch& batch) {
        return torch::cross_entropy_loss(net->forward(batch["data"]), batch["target"]);
      });
}

TEST(HostCapturedSteps, MayCheckpointActivationsAndChangeTensorsInPlace) {
  expect_same_bits(
      tiny_batch(40), plain_net, [](torch::nn::Sequential& net, const ta::Batch& batch) {
        auto made = ta::checkpoint([&](const torch::Tensor& x) { return net->forward(x).tanh(); },
                                   batch["data"]);
        auto apart = made - batch["target"];
        apart.unsqueeze_(0).transpose_(1, 2);
        const auto order = torch::randperm(3);
        return apart.squeeze(0)
            .t()
            .index({torch::indexing::Slice(), order})
            .square_()
            .mul_(2.0)
            .mean();
      });
}

TEST(HostCapturedSteps, ReadTensorsThatAreConstant) {
  const auto scale = torch::tensor({1.0F, 2.0F, 3.0F});
  expect_same_bits(tiny_batch(40), plain_net,
                   [&](torch::nn::Sequential& net, const ta::Batch& batch) {
                     const auto made_here = torch::tensor({0.5F, 0.25F, 0.125F});
                     const auto apart = net->forward(batch["data"]) - batch["target"];
                     return (apart.square() * scale * made_here).sum();
                   });
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

// Operations of a program's own.
void define_operations() {
  static const auto library = [] {
    torch::Library made(torch::Library::DEF, "captured_step_tests", std::nullopt, __FILE__,
                        __LINE__);
    made.def("positive(Tensor x, bool only) -> Tensor");
    made.impl("positive", torch::kCPU, [](const torch::Tensor& x, bool only) {
      return only ? x.masked_select(x > 0) : x.where(x > 0, 1);
    });
    made.def("count(Tensor x, Tensor calls) -> Tensor");  // which it changes all the same
    made.impl("count", torch::kCPU, [](const torch::Tensor& x, torch::Tensor calls) {
      calls.add_(1);
      return x.clone();
    });
    made.def("look_at(Tensor x, Tensor calls) -> ()");
    made.impl("look_at", torch::kCPU,
              [](const torch::Tensor&, torch::Tensor calls) { calls.add_(1); });
    made.def("one_number(Tensor x) -> Tensor");
    made.impl("one_number", torch::kCPU,
              [](const torch::Tensor& x) { return x.sum().expand({4, 3}); });
    return made;
  }();
}

template <class Signature, class... Arguments>
auto own_operation(const std::string& name, Arguments&&... arguments) {
  define_operations();
  return c10::Dispatcher::singleton()
      .findSchemaOrThrow(("captured_step_tests::" + name).c_str(), "")
      .template typed<Signature>()
      .call(std::forward<Arguments>(arguments)...);
}

torch::Tensor positive(const torch::Tensor& x, bool only) {
  return own_operation<torch::Tensor(const torch::Tensor&, bool)>("positive", x, only);
}

TEST(HostCapturedSteps, MayHaveOperationsOfAProgramsOwn) {
  expect_same_bits(tiny_batch(40), plain_net,
                   [](torch::nn::Sequential& net, const ta::Batch& batch) {
                     return squares(net, batch) * positive(batch["data"], false).mean();
                   });
}

TEST(HostCapturedSteps, OfOperationsWhoseResultsChangeTheirSizeEndTheRun) {
  const auto step = [](torch::nn::Sequential& net, const ta::Batch& batch) {
    return squares(net, batch) * positive(batch["data"], true).mean();
  };
  EXPECT_THAT(message_of<ta::StateError>([&] { trained(true, tiny_batch(40), plain_net, step); }),
              AllOf(HasSubstr("capture_graph: captured_step_tests::positive gave a tensor of ["),
                    HasSubstr("when the step was captured; set capture_graph to false")));
}

TEST(HostCapturedSteps, CallOperationsThatChangeTensorsAsOftenAsPlainSteps) {
  const auto counted = torch::zeros({});
  const auto looked = torch::zeros({});
  const auto step = [&](torch::nn::Sequential& net, const ta::Batch& batch) {
    const torch::NoGradGuard no_grad;
    own_operation<void(const torch::Tensor&, torch::Tensor)>("look_at", batch["data"], looked);
    const auto data = own_operation<torch::Tensor(const torch::Tensor&, torch::Tensor)>(
        "count", batch["data"], counted);
    const torch::AutoGradMode with_graph(true);
    return squares(net, {{"data", data}, {"target", batch["target"]}});
  };
  expect_same_bits(tiny_batch(40), plain_net, step);
  EXPECT_EQ(counted.item<int>(), 2 * 30);  // of a plain run and a captured one
  EXPECT_EQ(looked.item<int>(), 2 * 30);
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

TEST(HostCapturedSteps, MakeCopiesAnewThatAreMadeInInferenceMode) {
  expect_same_bits(
      tiny_batch(40), plain_net, [](torch::nn::Sequential& net, const ta::Batch& batch) {
        torch::Tensor mask;
        {
          const c10::InferenceMode inference;
          mask = (batch["data"] > 1.5).all(1, /*keepdim=*/true).logical_not().to(torch::kFloat);
        }
        return ((net->forward(batch["data"]) - batch["target"]).square() * mask.clone()).mean();
      });
}

TEST(HostCapturedSteps, MayChangeTheirBatchInPlace) {
  expect_same_bits(tiny_batch(40), plain_net,
                   [](torch::nn::Sequential& net, const ta::Batch& batch) {
                     const auto clamped = batch["data"].clamp_(-1, 1);
                     return (net->forward(clamped) - batch["target"]).square().mean();
                   });
}

TEST(HostCapturedSteps, LeaveTensorsInMembersThatTheNextStepRenews) {
  std::vector<std::vector<double>> seen(2);
  for (const bool capture : {false, true}) {
    ta::Accelerator accelerator({.device = "cpu", .capture_graph = capture});
    auto net = plain_net();
    auto optimizer = nesterov(net);
    torch::Tensor kept;
    Trained trainer(net, optimizer, accelerator,
                    [&](torch::nn::Sequential& of, const ta::Batch& batch) {
                      const auto loss = squares(of, batch);
                      kept = loss.detach();
                      return loss;
                    });
    trainer.callbacks().add(AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd&) {
      seen[capture ? 1 : 0].push_back(kept.item<double>());
    }));
    trainer.train(tiny_batch(40), {.num_epochs = 2, .per_device_batch_size = 4});
  }
  EXPECT_EQ(seen[1], seen[0]);
}

TEST(HostCapturedSteps, OfTwoTrainersOnOneAcceleratorAreEachItsOwn) {
  std::vector<torch::nn::Sequential> nets;
  for (const bool capture : {false, true}) {
    ta::Accelerator accelerator({.device = "cpu", .capture_graph = capture});
    nets.push_back(tiny_net(1));
    nets.push_back(tiny_net(2));
    auto& one = nets[nets.size() - 2];
    auto& other = nets.back();
    auto of_one = nesterov(one);
    auto of_other = nesterov(other);
    Trained first(one, of_one, accelerator, squares);
    Trained second(other, of_other, accelerator, squares);
    first.start({});
    second.start({});
    for (const int each : {1, 2, 1, 0}) {  // in turns, then one alone, and in turns
      for (std::uint64_t i = 0; i < 10; ++i) {
        if (each != 2) first.step(tiny_batch(4, i));
        if (each != 1) second.step(tiny_batch(4, i + 50));
      }
    }
    first.finish();
    second.finish();
    EXPECT_EQ(first.steps < 20, capture);
  }
  EXPECT_TRUE(equal_bits(*nets[0], *nets[2]));
  EXPECT_TRUE(equal_bits(*nets[1], *nets[3]));
}

TEST(HostCapturedSteps, SeeParametersThatNoOptimizerHasWhenTheyMove) {
  std::vector<torch::nn::Sequential> nets;
  for (const bool capture : {false, true}) {
    ta::Accelerator accelerator({.device = "cpu", .capture_graph = capture});
    nets.push_back(tiny_net());
    auto& net = nets.back();
    auto first = net->children().front()->parameters();
    torch::optim::SGD optimizer(net->children().back()->parameters(), kRate);
    Trained trainer(net, optimizer, accelerator, squares);
    trainer.callbacks().add(AtStepEnd([&](ta::Trainer&, const ta::TrainStepEnd& event) {
      if (event.updates == 12) first.front().set_data(torch::ones_like(first.front()));
    }));
    trainer.train(tiny_batch(40), {.num_epochs = 2, .per_device_batch_size = 2});
    EXPECT_EQ(trainer.steps < 12, capture);
  }
  EXPECT_TRUE(equal_bits(*nets[0], *nets[1]));
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
}  // namespace tests::host_captured_step_test
