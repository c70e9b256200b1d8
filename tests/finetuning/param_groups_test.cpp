// SPDX-License-Identifier: Apache-2.0
#include "torch_accelerated/finetuning/param_groups.h"

#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::param_groups_test {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

torch::nn::Sequential normed_net() {
  return torch::nn::Sequential(torch::nn::Linear(4, 5),
                               torch::nn::LayerNorm(torch::nn::LayerNormOptions({2, 5})),
                               torch::nn::Tanh(), torch::nn::Linear(5, 3));
}

std::vector<double> rates_of(const ta::ParamGroups& groups) {
  std::vector<double> rates;
  for (const auto& group : groups) rates.push_back(group.options().get_lr());
  return rates;
}

std::size_t parameters_in(const ta::ParamGroups& groups) {
  std::size_t count = 0;
  for (const auto& group : groups) count += group.params().size();
  return count;
}

TEST(DiscriminativeGroups, RiseFromTheFirstGroupToTheLast) {
  auto net = normed_net();
  const torch::optim::SGDOptions options(0.1);
  const auto by_factor = ta::discriminative_groups(*net, options, {.factor = 2.0});
  EXPECT_THAT(rates_of(by_factor), ElementsAre(0.025, 0.05, 0.1));  // Tanh has no parameters
  EXPECT_EQ(parameters_in(by_factor), 6U);
  const auto between = rates_of(ta::discriminative_groups(*net, options, {.first_rate = 0.001}));
  ASSERT_EQ(between.size(), 3U);
  EXPECT_NEAR(between[0], 0.001, 1e-17);
  EXPECT_NEAR(between[1], 0.01, 1e-16);  // geometric
  EXPECT_EQ(between[2], 0.1);

  torch::optim::SGD optimizer(by_factor, options);
  net->forward(torch::randn({2, 2, 4})).sum().backward();
  optimizer.step();
  EXPECT_EQ(optimizer.param_groups()[1].options().get_lr(), 0.05);
}

TEST(DiscriminativeGroups, LeaveOutWhatIsFrozenAndTakeTiedParametersOnce) {
  torch::nn::Linear shared(3, 3);
  torch::nn::Sequential net(shared, torch::nn::Linear(3, 3), shared);
  auto groups = ta::discriminative_groups(*net, torch::optim::SGDOptions(0.1), {.factor = 10.0});
  EXPECT_EQ(groups.size(), 2U);
  EXPECT_EQ(parameters_in(groups), 4U);
  for (auto& parameter : net[0]->parameters()) parameter.requires_grad_(false);
  groups = ta::discriminative_groups(*net, torch::optim::SGDOptions(0.1), {.factor = 10.0});
  EXPECT_THAT(rates_of(groups), ElementsAre(0.1));
}

TEST(NoDecayGroups, DecayMatricesAndNeitherBiasesNorNorms) {
  auto net = normed_net();
  const auto options = torch::optim::AdamWOptions(0.1).weight_decay(0.3);
  const auto groups = ta::no_decay_groups(*net, options);
  ASSERT_EQ(groups.size(), 2U);
  const auto decay = [&](const ta::ParamGroups& of, std::size_t i) {
    return dynamic_cast<const torch::optim::AdamWOptions&>(of[i].options()).weight_decay();
  };
  EXPECT_EQ(decay(groups, 0), 0.3);
  EXPECT_EQ(decay(groups, 1), 0.0);
  EXPECT_EQ(groups[0].params().size(), 2U);
  EXPECT_EQ(groups[1].params().size(), 4U);  // two biases, and a (2, 5) weight and bias of a norm

  const auto both =
      ta::no_decay_groups(ta::discriminative_groups(*net, options, {.factor = 2.0}), *net);
  EXPECT_THAT(rates_of(both), ElementsAre(0.025, 0.025, 0.05, 0.1, 0.1));
  EXPECT_EQ(decay(both, 2), 0.0);
  EXPECT_EQ(decay(both, 3), 0.3);
  EXPECT_EQ(parameters_in(both), 6U);
}

TEST(AddParamGroups, FillInOptionsAndSkipWhatTheOptimizerHolds) {
  auto net = tiny_net();
  torch::optim::SGD optimizer({net[0]->as<torch::nn::Linear>()->weight},
                              torch::optim::SGDOptions(0.1).momentum(0.9));
  const ta::ParamGroups groups{
      {net[0]->parameters()},
      {{net[0]->as<torch::nn::Linear>()->weight}},
      {net[2]->parameters(), std::make_unique<torch::optim::SGDOptions>(0.5)}};
  EXPECT_EQ(ta::add_param_groups(optimizer, groups, 0.02), 2U);
  EXPECT_THAT(rates_of(optimizer.param_groups()), ElementsAre(0.1, 0.02, 0.5));
  EXPECT_EQ(optimizer.param_groups()[1].params().size(), 1U);
  const auto& filled = optimizer.param_groups()[1].options();
  EXPECT_EQ(dynamic_cast<const torch::optim::SGDOptions&>(filled).momentum(), 0.9);

  const ta::ParamGroups wrong{
      {net[0]->parameters(), std::make_unique<torch::optim::AdamOptions>(0.5)}};
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::add_param_groups(optimizer, wrong); }),
              AllOf(HasSubstr("AdamOptions"), HasSubstr("SGDOptions")));
}

struct UnknownOptions : torch::optim::OptimizerCloneableOptions<UnknownOptions> {};

TEST(ParamGroups, RefuseWhatTheyCanNotUse) {
  auto net = tiny_net();
  const auto told = [&](double rate, ta::DiscriminativeRates rates) {
    return message_of<ta::ArgumentError>(
        [&] { ta::discriminative_groups(*net, torch::optim::SGDOptions(rate), rates); });
  };
  EXPECT_THAT(told(0.1, {}), HasSubstr("neither first_rate nor factor is given"));
  EXPECT_THAT(told(0.1, {.first_rate = 0.01, .factor = 2.0}), HasSubstr("are both given"));
  EXPECT_THAT(told(0.1, {.first_rate = 0.2}), HasSubstr("at most the last group's 0.1, got 0.2"));
  EXPECT_THAT(told(0.1, {.first_rate = 0.0}), HasSubstr("must be > 0"));
  EXPECT_THAT(told(0.1, {.factor = 0.5}), HasSubstr("factor must be >= 1, got 0.5"));
  EXPECT_THAT(told(0.0, {.factor = 2.0}), HasSubstr("learning rate"));

  const ta::ParamGroups bare{{net->parameters()}};
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::no_decay_groups(bare, *net); }),
              HasSubstr("has no options"));
  EXPECT_THAT(message_of<ta::ArgumentError>([&] { ta::no_decay_groups(*net, UnknownOptions()); }),
              AllOf(HasSubstr("UnknownOptions"), HasSubstr("no weight decay")));
  for (auto& parameter : net->parameters()) parameter.requires_grad_(false);
  EXPECT_THAT(told(0.1, {.factor = 2.0}), HasSubstr("no trainable parameters"));
  EXPECT_THAT(message_of<ta::ArgumentError>(
                  [&] { ta::no_decay_groups(*net, torch::optim::SGDOptions(0.1)); }),
              HasSubstr("no trainable parameters"));
}

}  // namespace
}  // namespace tests::param_groups_test
