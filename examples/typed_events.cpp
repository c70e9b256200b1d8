// SPDX-License-Identifier: Apache-2.0
//
// An event of the program's own beside the fifteen: an interface class with one virtual function.
// A subclass of Trainer tells of the images that an evaluation gets wrong, and the callbacks that
// inherit the interface hear of them: one counts what is taken for what, one keeps the mistake that
// the model was surest of and draws it at the end. The third, PrintProgress, doesn't listen. A
// function of another signature doesn't compile.
//
//   build/examples/typed_events [--epochs N] [--images N] [--seed N]
//   mpirun -n 2 build/examples/typed_events                the same on two ranks
//
// Ends near "94 of 1000 digits wrong", within 25.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cstdio>

#include "support/small_data.h"

namespace ta = torch_accelerated;

namespace {

/// The rows of one batch of an evaluation that the model got wrong, at least one.
struct Mistakes {
  torch::Tensor images;   ///< (rows, 1, 28, 28)
  torch::Tensor targets;  ///< (rows)
  torch::Tensor scores;   ///< (rows, 10)
};

class OnMistakes {
 public:
  virtual ~OnMistakes() = default;
  virtual void on_mistakes(ta::Trainer& trainer, const Mistakes& mistakes) = 0;
};

class MistakeTrainer : public ta::Trainer {
 public:
  using Trainer::Trainer;

 protected:
  ta::StepOutput calculate_eval_batch_loss(const ta::Batch& batch) override {
    auto output = Trainer::calculate_eval_batch_loss(batch);
    const auto& scores = output.outputs.only();
    const auto wrong = scores.argmax(1).ne(batch["target"]).nonzero().squeeze(1);
    if (wrong.size(0) > 0) {
      callbacks().notify(&OnMistakes::on_mistakes, *this,
                         {.images = batch["data"].index_select(0, wrong),
                          .targets = batch["target"].index_select(0, wrong),
                          .scores = scores.index_select(0, wrong)});
    }
    return output;
  }
};

/// Counts what is taken for what in the newest evaluation.
class CountMistakes : public ta::Callback, public OnMistakes {
 public:
  bool concerns_all_ranks() const override { return true; }

  void on_eval_epoch_start(ta::Trainer& trainer, const ta::EvalEpochStart&) override {
    counts_ = torch::zeros({10, 10}, at::device(trainer.accelerator().device()).dtype(at::kLong));
  }

  void on_mistakes(ta::Trainer&, const Mistakes& mistakes) override {
    const auto pairs = mistakes.targets * 10 + mistakes.scores.argmax(1);
    counts_ += pairs.bincount({}, 100).view({10, 10});
  }

  void on_eval_epoch_end(ta::Trainer& trainer, const ta::EvalEpochEnd& event) override {
    counts_ = trainer.accelerator().reduce(counts_);
    const auto pair = counts_.argmax().item<int>();
    char line[80];
    std::snprintf(line, sizeof line, "epoch %d: %d digits wrong, most often a %d taken for a %d",
                  static_cast<int>(event.epoch), total(), pair / 10, pair % 10);
    trainer.print(line);
  }

  int total() const { return counts_.sum().item<int>(); }

 private:
  torch::Tensor counts_;  // (10 true digits, 10 named ones)
};

/// Draws the digit that the last evaluation was surest about and wrong.
class DrawSurestMistake : public ta::Callback, public OnMistakes {
 public:
  bool concerns_all_ranks() const override { return true; }

  void on_eval_epoch_start(ta::Trainer& trainer, const ta::EvalEpochStart&) override {
    surest_ = torch::empty({0, 1 + 28 * 28}, at::device(trainer.accelerator().device()));
  }

  void on_mistakes(ta::Trainer&, const Mistakes& mistakes) override {
    const auto sure = mistakes.scores.softmax(1).amax(1, /*keepdim=*/true);
    const auto rows = torch::cat({sure, mistakes.images.flatten(1)}, 1);
    surest_ = first_of(torch::cat({surest_, rows}));
  }

  void on_training_run_end(ta::Trainer& trainer, const ta::TrainingRunEnd&) override {
    surest_ = first_of(trainer.accelerator().gather(surest_));
    if (surest_.size(0) == 0) return;
    const auto image = surest_.slice(1, 1).view({28, 28}).cpu();
    for (int y = 0; y < 28; y += 2) {  // a letter is about twice as high as wide
      std::string line;
      for (int x = 0; x < 28; ++x)
        line += " .+#"[static_cast<int>(image[y][x].item<float>() * 3.9F)];
      trainer.print(line);
    }
  }

 private:
  static torch::Tensor first_of(const torch::Tensor& rows) {
    return rows.index_select(0, rows.select(1, 0).argsort(0, /*descending=*/true).slice(0, 0, 1));
  }

  torch::Tensor surest_;  // (0 or 1, 785): how sure the model is, then the image
};

void train(const examples::SmallRun& run) {
  const auto digits = examples::small_digits(run);
  torch::manual_seed(run.seed);
  torch::nn::Sequential model(torch::nn::Flatten(), torch::nn::Linear(28 * 28, 64),
                              torch::nn::ReLU(), torch::nn::Linear(64, 10));
  torch::optim::AdamW optimizer(model->parameters(), 0.005);

  MistakeTrainer trainer(
      model, torch::nn::CrossEntropyLoss(), optimizer,
      ta::CallbackList(ta::PrintProgress(), CountMistakes(), DrawSurestMistake()));
  trainer.train(digits.train, {.num_epochs = run.epochs,
                               .eval_dataset = digits.eval,
                               .global_batch_size = run.global_batch_size,
                               .seed = run.seed});
  char line[64];
  std::snprintf(line, sizeof line, "%d of %d digits wrong",
                trainer.callbacks().find<CountMistakes>()->total(),
                static_cast<int>(digits.eval.size()));
  trainer.print(line);
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] {
    train(examples::parse_small_run(argc, argv, "Trains on digits, with an event of its own."));
  });
}
