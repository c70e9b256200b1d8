// SPDX-License-Identifier: Apache-2.0
//
// A simulation that is an MPI program already and trains a surrogate model of itself while it runs:
// each rank simulates cases of its own and trains on their rows, in the program's communicator.
//
//   mpirun -n 2 build/examples/surrogate
//
// The simulation is a damped pendulum; the surrogate learns its angle from the first one, the
// damping and the time. Ends with the surrogate's error on cases that it wasn't trained on.
#include <torch/torch.h>
#include <torch_accelerated/distributed/mpi.h>
#include <torch_accelerated/torch_accelerated.h>

#include <cmath>
#include <cstdio>

namespace ta = torch_accelerated;

namespace {

constexpr int kUpdates = 1500;
constexpr int kTimes = 40;
constexpr double kTimeStep = 0.005;

/// The rows of one simulated pendulum: "data" (kTimes, 3) of first angle, damping and time,
/// "target" (kTimes, 1) of the angle then.
ta::Batch simulate(ta::RandomStream& random) {
  const double first = random.uniform(-1.5, 1.5);
  const double damping = random.uniform(0.1, 0.5);
  auto data = torch::empty({kTimes, 3});
  auto target = torch::empty({kTimes, 1});
  double angle = first;
  double speed = 0;
  for (int i = 0; i < kTimes; ++i) {
    data[i] = torch::tensor({first, damping, i * 20 * kTimeStep});
    target[i] = angle;
    for (int step = 0; step < 20; ++step) {
      speed -= kTimeStep * (std::sin(angle) + damping * speed);
      angle += kTimeStep * speed;
    }
  }
  return {{"data", data}, {"target", target}};
}

void train_and_test(MPI_Comm communicator) {
  ta::Accelerator accelerator(ta::make_world(communicator), {.device = "cpu"});
  torch::manual_seed(1);
  torch::nn::Sequential model(torch::nn::Linear(3, 64), torch::nn::Tanh(),
                              torch::nn::Linear(64, 64), torch::nn::Tanh(),
                              torch::nn::Linear(64, 1));
  torch::optim::AdamW optimizer(model->parameters(), 0.003);
  ta::Trainer trainer(model, torch::nn::MSELoss(), optimizer, ta::CallbackList(ta::PrintProgress()),
                      &accelerator);

  // Cases differ between ranks, and the ranks' own streams never meet.
  ta::RandomStream cases(7, static_cast<std::uint64_t>(accelerator.rank()));
  trainer.start({.max_updates = kUpdates, .scheduler = ta::cosine({})});
  for (int update = 0; update < kUpdates; ++update) trainer.step(simulate(cases));
  trainer.finish();

  ta::RandomStream other_cases(8, static_cast<std::uint64_t>(accelerator.rank()));
  ta::RunningMean error;
  const torch::NoGradGuard no_grad;
  for (int i = 0; i < 50; ++i) {
    const auto rows = simulate(other_cases);
    error.add((model->forward(rows["data"]) - rows["target"]).abs().mean(), rows.rows());
  }
  const auto sums = accelerator.reduce(torch::tensor({error.sum(), error.weight()}));
  char line[64];
  std::snprintf(line, sizeof line, "mean error of the angle %.3f rad",
                sums[0].item<double>() / sums[1].item<double>());
  accelerator.print(line);
  accelerator.close();
}

}  // namespace

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  const int status = ta::run([] { train_and_test(MPI_COMM_WORLD); });
  if (status != 0) MPI_Abort(MPI_COMM_WORLD, status);
  MPI_Finalize();
  return 0;
}
