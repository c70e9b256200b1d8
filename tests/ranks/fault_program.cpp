// SPDX-License-Identifier: Apache-2.0
//
// mpirun -n N fault_program FAULT RANK TRANSPORT TIMEOUT_MS: twenty rounds of communication, in the
// fifth of which RANK does what FAULT says; "before" the first round, or at a "second" world after
// it. Prints "fault at <ns>" to stdout before.
//
// TRANSPORT: "window"; "messages"; "buffer", a window where sums are made in a buffer; "callers",
// where the program has initialised MPI, and "given", where it gives its communicator, too.
#include <mpi.h>
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
#include "torch_accelerated/distributed/mpi.h"
#include "torch_accelerated/distributed/run.h"

namespace {

namespace ta = torch_accelerated;

void print_time() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  std::printf("fault at %lld\n", static_cast<long long>(now.tv_sec) * 1'000'000'000 + now.tv_nsec);
  std::fflush(stdout);
}

void sum(ta::Communicator& communicator, const torch::Tensor& tensor) {
  std::vector<torch::Tensor> tensors{tensor.fill_(1)};
  communicator.all_reduce(tensors);
  if (!tensor.eq(communicator.size()).all().item<bool>()) throw ta::DataError("a sum is wrong");
}

[[noreturn]] void hang() {
  print_time();
  for (;;) pause();
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
      {"other_count", [](ta::World& world) { sum(*world.gradients, torch::ones({2'999})); }},
      {"other_dtype",
       [](ta::World& world) { sum(*world.gradients, torch::ones({3'000}, torch::kInt32)); }},
      {"mpi_error", [](ta::World&) { setenv("TESTS_MPI_ERROR", "1", 1); }}};
  return all;
}

ta::World make_world(const std::string& fault, const std::string& transport, int timeout_ms) {
  // A rank that doesn't come is waited for as long as one that goes, others may start slowly.
  const int patience = fault == "before" || fault == "second" ? 1 : 5;
  const ta::WorldOptions options{.shared_window = transport != "messages",
                                 .start_timeout = std::chrono::milliseconds(timeout_ms * patience)};
  return transport == "given" ? ta::make_world(MPI_COMM_WORLD, options) : ta::make_world(options);
}

void work(const std::string& fault, int rank, const std::string& transport, int timeout_ms) {
  const char* launched = std::getenv("OMPI_COMM_WORLD_RANK");
  if (fault == "before" && std::atoi(launched) == rank) hang();
  auto world = make_world(fault, transport, timeout_ms);
  if (fault == "second") {
    if (world.rank() == rank) hang();
    make_world(fault, transport, timeout_ms);
  }
  world.gradients->set_timeout(std::chrono::milliseconds(timeout_ms));
  world.control->set_timeout(std::chrono::milliseconds(timeout_ms));
  auto tensor = torch::ones({3'000});
  if (transport == "buffer") tensor = world.gradients->make_buffer(3'000, tensor);
  for (int round = 0; round < 20; ++round) {
    if (round == 5 && world.rank() == rank) {
      print_time();
      faults().at(fault)(world);
    }
    sum(*world.gradients, tensor);
    if (round % 4 == 3) world.control->barrier();
  }
  // A rank that has more to do than the others.
  if (world.rank() == rank) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  world.close();
  if (world.rank() == rank) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  int is_initialized = 0;
  MPI_Initialized(&is_initialized);
  std::printf("rank %d is done, MPI_Initialized is %d\n", world.rank(), is_initialized);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) return 64;
  const std::string transport = argv[3];
  const bool is_callers = transport == "callers" || transport == "given";
  if (is_callers) MPI_Init(&argc, &argv);
  const int status =
      ta::run([&] { work(argv[1], std::atoi(argv[2]), transport, std::atoi(argv[4])); });
  if (!is_callers) return status;
  int is_finalized = 0;
  MPI_Finalized(&is_finalized);
  std::printf("MPI_Finalized is %d\n", is_finalized);
  MPI_Finalize();
  return status;
}
