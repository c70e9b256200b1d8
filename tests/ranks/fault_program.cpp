// SPDX-License-Identifier: Apache-2.0
//
// mpirun -n N fault_program FAULT RANK TRANSPORT TIMEOUT_MS: twenty rounds of communication, in the
// fifth of which RANK does what FAULT says. Prints "fault at <ns>" to stdout before.
#include <torch/torch.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <new>
#include <string>
#include <thread>

#include "torch_accelerated/base/error.h"
#include "torch_accelerated/distributed/run.h"
#include "torch_accelerated/distributed/world.h"

namespace {

namespace ta = torch_accelerated;

void print_time() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  std::printf("fault at %lld\n", static_cast<long long>(now.tv_sec) * 1'000'000'000 + now.tv_nsec);
  std::fflush(stdout);
}

void sum(ta::Communicator& communicator, const torch::TensorOptions& options, std::int64_t numel) {
  std::vector<torch::Tensor> tensors{torch::ones({numel}, options)};
  communicator.all_reduce(tensors);
}

const std::map<std::string, std::function<void(ta::World&)>>& faults() {
  static const std::map<std::string, std::function<void(ta::World&)>> all = {
      {"none", [](ta::World&) {}},
      {"kill", [](ta::World&) { raise(SIGKILL); }},
      {"stop", [](ta::World&) { raise(SIGSTOP); }},
      {"sleep",
       [](ta::World&) {
         for (;;) pause();
       }},
      {"slow", [](ta::World&) { std::this_thread::sleep_for(std::chrono::milliseconds(800)); }},
      {"throw", [](ta::World&) { throw ta::DataError("sample 7 is torn"); }},
      {"throw_int", [](ta::World&) { throw 42; }},
      {"bad_alloc", [](ta::World&) { throw std::bad_alloc(); }},
      {"exit_3", [](ta::World&) { std::exit(3); }},
      {"exit_0", [](ta::World&) { std::exit(0); }},
      {"quick_exit_0", [](ta::World&) { _exit(0); }},
      {"terminate", [](ta::World&) { std::terminate(); }},
      {"abort",
       [](ta::World& world) {
         world.abort("rank 9, update 3: no disk", ta::ExitCode::kInputOutput);
       }},
      {"alone", [](ta::World& world) { world.control->all_gather(torch::ones({3})); }},
      {"other_operation", [](ta::World& world) { world.gradients->barrier(); }},
      {"other_count", [](ta::World& world) { sum(*world.gradients, torch::kFloat32, 2'999); }},
      {"other_dtype", [](ta::World& world) { sum(*world.gradients, torch::kInt32, 3'000); }}};
  return all;
}

void work(const std::string& fault, int rank, const std::string& transport, int timeout_ms) {
  auto world = ta::make_world({.shared_window = transport == "window"});
  world.gradients->set_timeout(std::chrono::milliseconds(timeout_ms));
  world.control->set_timeout(std::chrono::milliseconds(timeout_ms));
  for (int round = 0; round < 20; ++round) {
    if (round == 5 && world.rank() == rank) {
      print_time();
      faults().at(fault)(world);
    }
    sum(*world.gradients, torch::kFloat32, 3'000);
    if (round % 4 == 3) world.control->barrier();
  }
  // A rank that has more to do than the others.
  if (world.rank() == rank) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  world.close();
  if (world.rank() == rank) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  std::printf("rank %d is done\n", world.rank());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  return ta::run([&] { work(argv[1], std::atoi(argv[2]), argv[3], std::atoi(argv[4])); });
}
