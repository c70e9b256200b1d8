// SPDX-License-Identifier: Apache-2.0
//
// Fine-tuning: a network that has learned the digits 0 to 4 learns 5 to 9 from ten images of each.
// First its new head alone, with the backbone frozen; then all of it, with learning rates that are
// lower the nearer a layer is to the input. Each of the two is a one-cycle run. The same network
// trained from nothing on the same few images shows what the backbone was worth.
//
//   build/examples/fine_tuning [--epochs N] [--images N] [--seed N]
//                                                 N epochs, and N images of all digits to begin
//                                                 with
//   mpirun -n 2 build/examples/fine_tuning        the same on two ranks
//
// Ends near "accuracy 0.86 fine-tuned, 0.79 from nothing, on 5 to 9 with 50 images", within 0.07.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cstdio>
#include <numeric>

#include "support/small_data.h"

namespace ta = torch_accelerated;

namespace {

/// The backbone's three blocks and the head are its four layer groups.
struct NetImpl : torch::nn::Module {
  NetImpl() {
    namespace nn = torch::nn;
    const auto block = [](std::int64_t in, std::int64_t out) {
      return nn::Sequential(nn::Conv2d(nn::Conv2dOptions(in, out, 3).padding(1).bias(false)),
                            nn::BatchNorm2d(out), nn::ReLU(), nn::MaxPool2d(2));
    };
    stem = register_module("stem", block(1, 8));
    middle = register_module("middle", block(8, 16));
    top = register_module("top", block(16, 32));
    head = register_module("head", nn::Linear(32 * 3 * 3, 5));
  }

  torch::Tensor forward(const torch::Tensor& images) {
    return head(top->forward(middle->forward(stem->forward(images))).flatten(1));
  }

  torch::nn::Sequential stem{nullptr};
  torch::nn::Sequential middle{nullptr};
  torch::nn::Sequential top{nullptr};
  torch::nn::Linear head{nullptr};
};
TORCH_MODULE(Net);

/// Of `digits`, at most `count` images of five digits, with targets from 0 on.
ta::Batch five_digits(const ta::Dataset& digits, std::int64_t first, std::int64_t count) {
  std::vector<std::int64_t> indices(static_cast<std::size_t>(digits.size()));
  std::iota(indices.begin(), indices.end(), 0);
  const auto all = digits.get_batch(indices);
  const auto rows = all["target"].sub(first).div(5, "floor").eq(0).nonzero().squeeze(1);
  const auto some = rows.slice(0, 0, count);
  return {{"data", all["data"].index_select(0, some)},
          {"target", all["target"].index_select(0, some) - first}};
}

class FineTuning {
 public:
  FineTuning(ta::Accelerator& accelerator, const examples::SmallRun& run)
      : accelerator_(accelerator), run_(run) {}

  /// Trains what `optimizer` holds for one cycle.
  /// @return the accuracy on `eval`.
  double train(const Net& net, torch::optim::Optimizer& optimizer, const ta::Dataset& data,
               const ta::Dataset& eval, std::int64_t epochs) const {
    ta::Trainer trainer(net, torch::nn::CrossEntropyLoss(), optimizer,
                        ta::CallbackList(ta::LogMetrics()), &accelerator_);
    trainer.add_metric("accuracy", ta::accuracy());
    trainer.train(data, {.num_epochs = epochs,
                         .global_batch_size = run_.global_batch_size,
                         .scheduler = ta::one_cycle(),
                         .seed = run_.seed});
    return trainer.evaluate(eval, {.per_device_batch_size = 64}).metrics["eval_accuracy"];
  }

 private:
  ta::Accelerator& accelerator_;
  examples::SmallRun run_;
};

void run_example(const examples::SmallRun& run) {
  constexpr std::int64_t kFew = 50;
  const auto digits = examples::small_digits(run);
  const ta::Batch source = five_digits(digits.train, 0, run.images);
  const ta::Batch few = five_digits(digits.train, 5, kFew);
  const ta::Batch eval = five_digits(digits.eval, 5, run.images);
  ta::Accelerator accelerator;
  const FineTuning tuning(accelerator, run);
  torch::manual_seed(run.seed);
  Net net;

  accelerator.print("The digits 0 to 4");
  torch::optim::AdamW first(net->parameters(), torch::optim::AdamWOptions(0.005));
  tuning.train(net, first, source, five_digits(digits.eval, 0, run.images), 3);

  accelerator.print("\nThe digits 5 to 9, a new head alone");
  net->head->reset_parameters();
  const ta::ModelFreezer freezer(*net);
  freezer.freeze(ta::kBackbone);
  accelerator.print(freezer.describe());
  torch::optim::AdamW of_head(freezer.trainable_parameters(), torch::optim::AdamWOptions(0.01));
  tuning.train(net, of_head, few, eval, run.epochs);

  accelerator.print("\nAll of it, at rates that rise from group to group");
  freezer.unfreeze();
  const auto options = torch::optim::AdamWOptions(0.005);
  const auto groups = ta::discriminative_groups(*net, options, {.factor = 2.6});
  torch::optim::AdamW of_all(groups, options);
  const double tuned = tuning.train(net, of_all, few, eval, run.epochs);

  accelerator.print("\nThe same images, from nothing");
  Net fresh;
  torch::optim::AdamW other(fresh->parameters(), torch::optim::AdamWOptions(0.005));
  const double untuned = tuning.train(fresh, other, few, eval, 2 * run.epochs);

  char line[96];
  std::snprintf(line, sizeof line,
                "accuracy %.2f fine-tuned, %.2f from nothing, on 5 to 9 with %d images", tuned,
                untuned, static_cast<int>(few.rows()));
  accelerator.print(line);
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] {
    run_example(examples::parse_small_run(argc, argv, "Fine-tunes a network on few images.",
                                          {.epochs = 10, .images = 3'000}));
  });
}
