// SPDX-License-Identifier: Apache-2.0
//
// mpirun -n 2 benchmark_all_reduce [seconds]: the library's all-reduce of float32, in its own
// buffers and in ordinary memory, against MPI_Allreduce in place, by size. The three take turns in
// one run; each number is the median of calls.
#include <mpi.h>
#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <vector>

#include "torch_accelerated/distributed/run.h"
#include "torch_accelerated/distributed/world.h"

namespace {

namespace ta = torch_accelerated;
using Clock = std::chrono::steady_clock;

constexpr std::array<std::int64_t, 14> kBytes = {8,        64,        512,      4 << 10, 16 << 10,
                                                 64 << 10, 256 << 10, 437'500,  1 << 20, 2 << 20,
                                                 4 << 20,  8 << 20,   16 << 20, 25 << 20};

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

// Microseconds of one call after each rank has written all of its numbers, as backward does.
double time_call(const std::function<void()>& call, torch::Tensor& numbers,
                 ta::Communicator& start_together) {
  numbers.fill_(1);
  start_together.barrier();
  const auto start = Clock::now();
  call();
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

struct Row {
  double mpi, buffer, ordinary;
};

Row measure(ta::World& world, std::int64_t bytes, double seconds) {
  const auto numel = bytes / 4;
  std::array<std::vector<torch::Tensor>, 3> tensors;
  tensors[0] = {torch::zeros({numel})};
  tensors[1] = {world.gradients->make_buffer(numel, tensors[0][0])};
  tensors[2] = {torch::zeros({numel})};
  const std::array<std::function<void()>, 3> calls = {
      [&] {
        MPI_Allreduce(MPI_IN_PLACE, tensors[0][0].data_ptr(), static_cast<int>(numel), MPI_FLOAT,
                      MPI_SUM, MPI_COMM_WORLD);
      },
      [&] { world.gradients->all_reduce(tensors[1]); },
      [&] { world.gradients->all_reduce(tensors[2]); }};
  std::array<std::vector<double>, 3> times;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  for (int going = 1; going != 0;) {
    for (int turn = 0; turn < (bytes < 100'000 ? 50 : 1); ++turn) {
      for (std::size_t i = 0; i < calls.size(); ++i) {
        times[i].push_back(time_call(calls[i], tensors[i][0], *world.control));
      }
    }
    going = Clock::now() < end ? 1 : 0;
    MPI_Bcast(&going, 1, MPI_INT, 0, MPI_COMM_WORLD);
  }
  return {median(times[0]), median(times[1]), median(times[2])};
}

void measure_all(double seconds) {
  auto world = ta::make_world();
  if (world.size() < 2) {
    throw ta::ArgumentError("benchmark_all_reduce: there is one rank; start it by mpirun -n 2");
  }
  torch::set_num_threads(1);
  if (world.rank() == 0) {
    std::printf("%s, %d ranks, median microseconds a call\n%10s %12s %12s %7s %12s %7s\n",
                world.gradients->name().c_str(), world.size(), "bytes", "MPI", "buffer", "times",
                "ordinary", "times");
  }
  for (const auto bytes : kBytes) {
    const auto row = measure(world, bytes, seconds);
    if (world.rank() != 0) continue;
    std::printf("%10ld %12.2f %12.2f %7.2f %12.2f %7.2f\n", bytes, row.mpi, row.buffer,
                row.mpi / row.buffer, row.ordinary, row.mpi / row.ordinary);
    std::fflush(stdout);
  }
  world.close();
}

}  // namespace

int main(int argc, char** argv) {
  return ta::run([&] { measure_all(argc > 1 ? std::atof(argv[1]) : 1.0); });
}
