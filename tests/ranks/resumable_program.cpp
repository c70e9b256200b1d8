// SPDX-License-Identifier: Apache-2.0
//
// mpirun -n N resumable_program DIR [SIGNAL RANK MS]: a run that saves after each update and goes
// on from the newest checkpoint in DIR. RANK gets SIGNAL after MS milliseconds of training; -1 is
// every rank, -2 is mpirun itself. Prints "committed U", "stopped at U", and at the end the hash of
// the weights.
#include <torch/torch.h>
#include <torch_accelerated/torch_accelerated.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>

namespace ta = torch_accelerated;

namespace {

constexpr int kEveryRank = -1;
constexpr int kMpirun = -2;

struct Shot {
  int number = 0;  // of the signal; none: 0
  int rank = 0;
  int after_ms = 0;
};

class Telling : public ta::Callback, public ta::OnCheckpoint {
 public:
  explicit Telling(const Shot& shot) : shot_(shot) {}

  void on_training_run_start(ta::Trainer& trainer, const ta::TrainingRunStart&) override {
    const bool is_hit = shot_.rank == kEveryRank || shot_.rank == trainer.accelerator().rank();
    if (is_hit) shoot(::getpid());
  }
  void on_train_step_end(ta::Trainer& trainer, const ta::TrainStepEnd&) override {
    // mpirun passes it on to all, so all must have come to where they take it.
    if (shot_.rank == kMpirun && trainer.accelerator().is_main_process()) shoot(::getppid());
    std::this_thread::sleep_for(std::chrono::milliseconds(2));  // so that there is time for shots
  }
  void on_checkpoint_committed(ta::Trainer& trainer,
                               const ta::CheckpointCommitted& event) override {
    trainer.print("committed " + std::to_string(event.update));
  }

 private:
  // Once.
  void shoot(pid_t process) {
    if (shot_.number == 0) return;
    std::thread([process, shot = std::exchange(shot_, {})] {
      std::this_thread::sleep_for(std::chrono::milliseconds(shot.after_ms));
      ::kill(process, shot.number);
    }).detach();
  }

  Shot shot_;
};

std::string weights_sha256(const torch::nn::Module& module) {
  ta::Sha256 hash;
  for (const auto& parameter : module.parameters()) {
    const auto values = parameter.detach().contiguous();
    hash.update(values.const_data_ptr(), values.nbytes());
  }
  return hash.hex_digest();
}

void train(const std::string& directory, const Shot& shot) {
  torch::manual_seed(3);
  torch::nn::Sequential net(torch::nn::Linear(16, 64), torch::nn::Dropout(0.2),
                            torch::nn::Linear(64, 16));
  torch::optim::Adam optimizer(net->parameters(), 0.01);
  ta::Trainer trainer(net, torch::nn::MSELoss(), optimizer, ta::CallbackList());
  auto& callbacks = trainer.callbacks();
  callbacks.add(ta::ModelEma({.decay = 0.9}));
  callbacks.add(ta::JsonLinesLogger(directory + "/history.jsonl"));
  callbacks.add(ta::SaveCheckpoints({.every_epochs = 1, .every_updates = 1}));
  callbacks.add(ta::StopOnSignal());
  callbacks.add(Telling(shot));
  const auto data = torch::randn({120, 16});
  const auto result =
      trainer.train(ta::Batch{{"data", data}, {"target", data.flip(1)}},
                    {.num_epochs = 4,
                     .eval_dataset = ta::Batch{{"data", data}, {"target", data}},
                     .global_batch_size = 6,
                     .checkpoints = {.directory = directory + "/checkpoints"},
                     .resume_from = ta::latest_checkpoint(directory + "/checkpoints")});
  if (result.was_stopped()) {
    std::printf("stopped at %lld\n", static_cast<long long>(result.progress.update));
    std::fflush(stdout);
    return;
  }
  trainer.print("weights sha256 " + weights_sha256(*net));
}

}  // namespace

int main(int argc, char** argv) {
  Shot shot;
  if (argc == 5) shot = {std::stoi(argv[2]), std::stoi(argv[3]), std::stoi(argv[4])};
  return ta::run([&] { train(argv[1], shot); });
}
