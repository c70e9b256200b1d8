// SPDX-License-Identifier: Apache-2.0
// Two optimizers over one graph: each moves its own parameters and no others.
#include <gmock/gmock.h>

#include "support/tiny.h"

namespace tests::gan_test {
namespace {

torch::nn::Sequential make_generator() {
  const ta::SeedScope scope(1);
  return torch::nn::Sequential(torch::nn::Linear(2, 8), torch::nn::Tanh(), torch::nn::Linear(8, 2));
}

torch::nn::Sequential make_discriminator() {
  const ta::SeedScope scope(2);
  return torch::nn::Sequential(torch::nn::Linear(2, 8), torch::nn::Tanh(), torch::nn::Linear(8, 1));
}

torch::Tensor score(torch::nn::Sequential& discriminator, const torch::Tensor& points,
                    double label) {
  const auto logits = discriminator->forward(points);
  return torch::binary_cross_entropy_with_logits(logits, torch::full_like(logits, label));
}

class GanTrainer : public ta::Trainer {
 public:
  GanTrainer(torch::nn::Sequential generator, torch::optim::Optimizer& generator_optimizer,
             torch::nn::Sequential discriminator, torch::optim::Optimizer& discriminator_optimizer,
             ta::Accelerator* accelerator = nullptr)
      : Trainer(generator, torch::nn::MSELoss(), generator_optimizer, ta::CallbackList(),
                accelerator),
        generator_(generator),
        discriminator_(discriminator),
        discriminator_optimizer_(&discriminator_optimizer) {
    register_module("discriminator", discriminator);
    add_optimizer("discriminator", discriminator_optimizer);
  }

 protected:
  ta::StepOutput train_step(const ta::Batch& batch) override {
    const auto fake = generator_->forward(batch["noise"]);
    const auto discriminator_loss =
        score(discriminator_, batch["data"], 1) + score(discriminator_, fake.detach(), 0);
    optimize(discriminator_loss, *discriminator_optimizer_);
    const auto generator_loss = score(discriminator_, fake, 1);
    optimize(generator_loss, optimizer());
    return {generator_loss, {{"fake", fake}}, {{"discriminator_loss", discriminator_loss}}};
  }

 private:
  torch::nn::Sequential generator_;
  torch::nn::Sequential discriminator_;
  torch::optim::Optimizer* discriminator_optimizer_;
};

ta::Batch points(std::int64_t rows) {
  const ta::SeedScope scope(3);
  return {{"data", torch::randn({rows, 2}) * 0.1 + 2}, {"noise", torch::randn({rows, 2})}};
}

TEST(Gan, TrainsAsALoopByHandDoes) {
  auto generator = make_generator();
  auto discriminator = make_discriminator();
  torch::optim::Adam generator_optimizer(generator->parameters(), 0.01);
  torch::optim::Adam discriminator_optimizer(discriminator->parameters(), 0.02);
  PlainAccelerator plain;
  GanTrainer trainer(generator, generator_optimizer, discriminator, discriminator_optimizer,
                     &plain);
  ListSource source({points(16), points(8), points(4)});
  const auto result = trainer.train(source, {.num_epochs = 2});
  EXPECT_EQ(result.progress.update, 6) << "two optimizers' steps are one update";
  EXPECT_GT(result.metrics["train_discriminator_loss"], 0);

  auto their_generator = make_generator();
  auto their_discriminator = make_discriminator();
  torch::optim::Adam their_generator_optimizer(their_generator->parameters(), 0.01);
  torch::optim::Adam their_discriminator_optimizer(their_discriminator->parameters(), 0.02);
  for (const std::int64_t rows : {16, 8, 4, 16, 8, 4}) {
    const auto batch = points(rows);
    const auto fake = their_generator->forward(batch["noise"]);
    their_discriminator_optimizer.zero_grad();
    (score(their_discriminator, batch["data"], 1) + score(their_discriminator, fake.detach(), 0))
        .backward();
    their_discriminator_optimizer.step();
    their_generator_optimizer.zero_grad();
    score(their_discriminator, fake, 1).backward();
    their_generator_optimizer.step();
  }
  EXPECT_TRUE(equal_bits(*generator, *their_generator));
  EXPECT_TRUE(equal_bits(*discriminator, *their_discriminator));
}

TEST(Gan, ACompanionIsPutIntoEvalModeWithTheModel) {
  auto generator = make_generator();
  auto discriminator = make_discriminator();
  torch::optim::Adam generator_optimizer(generator->parameters(), 0.01);
  torch::optim::Adam discriminator_optimizer(discriminator->parameters(), 0.02);
  GanTrainer trainer(generator, generator_optimizer, discriminator, discriminator_optimizer);
  bool was_training = true;
  trainer.add_metric("mode", [&](const ta::TensorDict& outputs, const ta::Batch&) {
    was_training = discriminator->is_training();
    return outputs.only().mean();
  });
  trainer.evaluate(ta::Batch{{"data", torch::randn({3, 2})}, {"target", torch::randn({3, 2})}});
  EXPECT_FALSE(was_training);
  EXPECT_TRUE(discriminator->is_training());
}

// Each update has two verdicts.
TEST(Gan, TrainsToTheSameBitsWhereVerdictsAreLate) {
  const auto trained = [](ta::Verdicts verdicts) {
    ta::Accelerator accelerator({.device = "cpu", .verdicts = verdicts});
    auto generator = make_generator();
    auto discriminator = make_discriminator();
    torch::optim::Adam generator_optimizer(generator->parameters(), 0.01);
    torch::optim::Adam discriminator_optimizer(discriminator->parameters(), 0.02);
    GanTrainer trainer(generator, generator_optimizer, discriminator, discriminator_optimizer,
                       &accelerator);
    trainer.train(points(24), {.num_epochs = 2, .per_device_batch_size = 4});
    return std::pair(generator, discriminator);
  };
  const auto [generator, discriminator] = trained(ta::Verdicts::kLate);
  const auto [their_generator, their_discriminator] = trained(ta::Verdicts::kAtOnce);
  EXPECT_TRUE(equal_bits(*generator, *their_generator));
  EXPECT_TRUE(equal_bits(*discriminator, *their_discriminator));
}

}  // namespace
}  // namespace tests::gan_test
