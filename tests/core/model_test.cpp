// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/core/model.h"

#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::model_test {
namespace {

using testing::HasSubstr;

struct BatchNetImpl : torch::nn::Module {
  BatchNetImpl() { linear = register_module("linear", torch::nn::Linear(4, 3)); }
  ta::TensorDict forward(const ta::Batch& batch) {
    return {{"logits", linear->forward(batch["data"])}};
  }
  torch::nn::Linear linear{nullptr};
};
TORCH_MODULE(BatchNet);

struct TwoInputsImpl : torch::nn::Module {
  TwoInputsImpl() { linear = register_module("linear", torch::nn::Linear(4, 3)); }
  torch::Tensor forward(const torch::Tensor& a, const torch::Tensor& b) {
    return linear->forward(a) + b;
  }
  torch::nn::Linear linear{nullptr};
};
TORCH_MODULE(TwoInputs);

TEST(Model, GivesForwardOfATensorTheData) {
  auto net = tiny_net();
  const ta::Model model(net);
  const auto batch = tiny_batch(5);
  EXPECT_TRUE(model(batch)["output"].equal(net->forward(batch["data"])));
}

TEST(Model, GivesForwardOfABatchTheBatch) {
  const ta::Model model = BatchNet();
  EXPECT_EQ(model(tiny_batch(5))["logits"].sizes(), (std::vector<std::int64_t>{5, 3}));
}

TEST(Model, TakesALambdaForAnyOtherForward) {
  const ta::Model model(TwoInputs(), [](TwoInputs& net, const ta::Batch& batch) {
    return net->forward(batch["data"], batch["target"]);
  });
  EXPECT_EQ(model(tiny_batch(2)).only().size(0), 2);
}

TEST(Model, IsTheModuleAndNoWrapper) {
  auto net = tiny_net();
  const ta::Model model(net);
  EXPECT_EQ(&model.module(), net.ptr().get());
}

TEST(Model, TakesASharedImpl) {
  const ta::Model model(std::make_shared<BatchNetImpl>());
  EXPECT_TRUE(model(tiny_batch(1)).contains("logits"));
}

TEST(Model, TakesAChildOfAnotherModule) {
  BatchNet net;
  const ta::Model child(*net->linear);
  EXPECT_EQ(&child.module(), net->linear.ptr().get());
}

TEST(Model, RefusesAnImplOnTheStack) {
  BatchNetImpl on_stack;
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { const ta::Model model(on_stack); }),
              HasSubstr("on the stack"));
}

TEST(Model, RefusesANullModule) {
  EXPECT_THAT(
      message_of<ta::ArgumentError>([] { const ta::Model model(std::shared_ptr<BatchNetImpl>{}); }),
      HasSubstr("null"));
}

TEST(LossFunction, TakesModulesFunctionsAndMeans) {
  const ta::TensorDict outputs{{"output", torch::ones({2, 3})}};
  const auto batch = tiny_batch(2);
  const ta::LossFunction module = torch::nn::MSELoss();
  const ta::LossFunction of_tensors = [](const torch::Tensor& output, const torch::Tensor& target) {
    return torch::mse_loss(output, target);
  };
  const ta::LossFunction of_dicts = [](const ta::TensorDict& all, const ta::Batch& of) {
    const auto squares = (all["output"] - of["target"]).square();
    return ta::Mean(squares.sum(), torch::full({}, squares.numel()));
  };
  const double expected = torch::mse_loss(outputs.only(), batch["target"]).item<double>();
  for (const auto& loss : {module, of_tensors, of_dicts}) {
    EXPECT_NEAR(loss(outputs, batch).value().item<double>(), expected, 1e-6);
  }
}

}  // namespace
}  // namespace tests::model_test
