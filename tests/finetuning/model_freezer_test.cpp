// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/finetuning/model_freezer.h"

#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::model_freezer_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// Four groups: embedding (40 numbers), body (3 layers, 20 + 10 + 30), a dropout, head (18).
struct NetImpl : torch::nn::Module {
  NetImpl() {
    embedding = register_module("embedding", torch::nn::Embedding(10, 4));
    body = register_module("body",
                           torch::nn::Sequential(torch::nn::Linear(4, 4), torch::nn::BatchNorm1d(4),
                                                 torch::nn::Dropout(0.5), torch::nn::Linear(4, 5)));
    dropout = register_module("dropout", torch::nn::Dropout(0.1));
    head = register_module("head", torch::nn::Linear(5, 3));
    scale = register_parameter("scale", torch::ones({2}));
  }

  torch::Tensor forward(const torch::Tensor& data) {
    return head(dropout(body->forward(embedding(data)))) * scale.sum();
  }

  torch::nn::Embedding embedding{nullptr};
  torch::nn::Sequential body{nullptr};
  torch::nn::Dropout dropout{nullptr};
  torch::nn::Linear head{nullptr};
  torch::Tensor scale;
};
TORCH_MODULE(Net);

std::vector<std::string> trainable_names(const torch::nn::Module& module) {
  std::vector<std::string> names;
  for (const auto& item : module.named_parameters()) {
    if (item.value().requires_grad()) names.push_back(item.key());
  }
  return names;
}

TEST(ModelFreezer, FreezesGroupsAndKeepsBatchNormsByDefault) {
  Net net;
  const ta::ModelFreezer freezer(*net);
  net->forward(torch::randint(10, {6})).sum().backward();
  freezer.freeze();  // all but the head
  EXPECT_THAT(trainable_names(*net),
              ElementsAre("body.1.weight", "body.1.bias", "head.weight", "head.bias"));
  EXPECT_FALSE(net->embedding->weight.grad().defined());  // an optimizer would step with it
  EXPECT_TRUE(net->head->weight.grad().defined());
  EXPECT_TRUE(net->body->is_training());
  EXPECT_EQ(freezer.trainable_parameters().size(), 4U);

  freezer.freeze({.from = 1, .to = 1}, {.freeze_batch_norms = true});
  EXPECT_THAT(trainable_names(*net), ElementsAre("head.weight", "head.bias"));
}

// D13: there the modules went into eval mode and trained on.
TEST(ModelFreezer, SettingModulesAsEvalFreezesThemToo) {
  Net net;
  const ta::ModelFreezer freezer(*net);
  freezer.freeze({.from = 0, .to = 1}, {.set_as_eval = true});
  EXPECT_FALSE(net->body[3]->as<torch::nn::Linear>()->weight.requires_grad());
  EXPECT_FALSE(net->embedding->is_training());
  EXPECT_FALSE(net->body[2]->is_training());  // a dropout has nothing but its mode
  EXPECT_TRUE(net->body[1]->is_training());
  EXPECT_TRUE(net->dropout->is_training());
  EXPECT_TRUE(net->is_training());

  net->train();  // as a run begins
  freezer.set_frozen_as_eval({.from = 0, .to = 1});
  EXPECT_FALSE(net->body[2]->is_training());
  EXPECT_FALSE(net->embedding->is_training());
  EXPECT_TRUE(net->body[1]->is_training());
  EXPECT_TRUE(net->dropout->is_training());
  freezer.set_frozen_as_eval();  // all but the head: the dropout comes after a frozen group
  EXPECT_FALSE(net->dropout->is_training());
  EXPECT_TRUE(net->head->is_training());

  freezer.unfreeze();
  EXPECT_TRUE(net->embedding->is_training());
  EXPECT_TRUE(net->body[2]->is_training());
  freezer.freeze({.from = 1, .to = 1}, {.freeze_batch_norms = true});
  freezer.set_frozen_as_eval();
  EXPECT_FALSE(net->body[1]->is_training());
}

TEST(ModelFreezer, UnfreezingReturnsParamGroupsOfWhatIsNewlyTrainable) {
  Net net;
  const ta::ModelFreezer freezer(*net);
  freezer.freeze();
  torch::optim::SGD optimizer(freezer.trainable_parameters(),
                              torch::optim::SGDOptions(0.1).momentum(0.9));
  const auto body = freezer.unfreeze({.from = -3, .to = -1}, torch::optim::SGDOptions(0.01));
  ASSERT_EQ(body.size(), 1U);              // the head was trainable, the dropout has nothing
  EXPECT_EQ(body[0].params().size(), 4U);  // not the BatchNorm
  EXPECT_EQ(body[0].options().get_lr(), 0.01);
  const auto rest = freezer.unfreeze();
  ASSERT_EQ(rest.size(), 1U);
  EXPECT_TRUE(rest[0].params()[0].is_same(net->scale));  // the model's own, in its first group
  EXPECT_TRUE(rest[0].params()[1].is_same(net->embedding->weight));
  EXPECT_FALSE(rest[0].has_options());

  optimizer.add_param_group(body[0]);
  optimizer.add_param_group(rest[0]);
  EXPECT_EQ(optimizer.param_groups()[2].options().get_lr(), 0.1);
  EXPECT_TRUE(freezer.unfreeze().empty());
}

TEST(ModelFreezer, CountsLayersAndTheirIndicesFromEitherEnd) {
  Net net;
  const ta::ModelFreezer freezer(*net);
  std::vector<std::string> names;
  for (const auto& layer : freezer.layers()) names.push_back(layer.name);
  EXPECT_THAT(names, ElementsAre("(model)", "embedding", "body.0", "body.1", "body.3", "head"));
  freezer.freeze_layers({.from = 1, .to = -2});
  EXPECT_THAT(trainable_names(*net),
              ElementsAre("scale", "body.1.weight", "body.1.bias", "head.weight", "head.bias"));
  const auto groups = freezer.unfreeze_layers({.from = -2, .to = 5}, torch::optim::AdamOptions(1));
  ASSERT_EQ(groups.size(), 1U);
  EXPECT_EQ(groups[0].params().size(), 2U);
  EXPECT_EQ(freezer.resolve({.from = -3}).from, 1);
}

TEST(ModelFreezer, FreezesATiedTensorWithEitherOfItsGroups) {
  torch::nn::Linear shared(3, 3);
  torch::nn::Sequential net(shared, torch::nn::Tanh(), shared);
  const ta::ModelFreezer freezer(*net);
  EXPECT_EQ(freezer.trainable_parameters().size(), 2U);
  EXPECT_EQ(freezer.groups()[0].parameters, 12);
  EXPECT_EQ(freezer.groups()[2].parameters, 0);  // counted where it comes first
  freezer.freeze({.from = 2});
  EXPECT_TRUE(freezer.trainable_parameters().empty());
  EXPECT_TRUE(freezer.groups()[0].is_frozen);
  const auto groups = freezer.unfreeze();
  ASSERT_EQ(groups.size(), 1U);
  EXPECT_EQ(groups[0].params().size(), 2U);
}

TEST(ModelFreezer, DescribesGroupsAndLayers) {
  Net net;
  const ta::ModelFreezer freezer(*net);
  freezer.freeze();
  EXPECT_EQ(freezer.describe(),
            "group  layer  name       type         parameters  trainable\n"
            "0             embedding  Embedding            42  no\n"
            "       0      (model)    Net                   2  no\n"
            "       1      embedding  Embedding            40  no\n"
            "1             body       Sequential           53  8\n"
            "       2      body.0     Linear               20  no\n"
            "       3      body.1     BatchNorm1d           8  yes\n"
            "       4      body.3     Linear               25  no\n"
            "2             dropout    Dropout               0\n"
            "3             head       Linear               18  yes\n"
            "       5      head       Linear               18  yes\n");
}

TEST(ModelFreezer, RefusesRangesBeyondTheModelAndModelsWithoutParameters) {
  Net net;
  const ta::ModelFreezer freezer(*net);
  const auto told = [&](ta::LayerRange range) {
    return message_of<ta::ArgumentError>([&] { freezer.freeze(range); });
  };
  EXPECT_EQ(told({.from = 0, .to = 4}),
            "ModelFreezer: the range [0, 4] of layer groups goes beyond the model; indices go from "
            "-4 to 3; the model has 4: embedding, body, dropout, head");
  EXPECT_THAT(told({.from = -5, .to = 1}), HasSubstr("[-5, 1] of layer groups goes beyond"));
  EXPECT_THAT(told({.from = -1, .to = 1}), HasSubstr("[-1, 1] of layer groups ends before"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { freezer.unfreeze_layers({.from = 6}); }),
              AllOf(HasSubstr("[6, -1] of layers goes beyond"), HasSubstr("(model), embedding")));
  EXPECT_EQ(trainable_names(*net).size(), net->parameters().size());

  torch::nn::Sequential empty(torch::nn::Tanh{});
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::ModelFreezer{*empty}; }),
              HasSubstr("a Sequential, has no parameters"));
  torch::nn::Linear alone(2, 2);
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::ModelFreezer(*alone).freeze(); }),
              HasSubstr("[0, -2] of layer groups goes beyond the model"));
  ta::ModelFreezer(*alone).freeze({});
  EXPECT_FALSE(alone->weight.requires_grad());
}

}  // namespace
}  // namespace tests::model_freezer_test
