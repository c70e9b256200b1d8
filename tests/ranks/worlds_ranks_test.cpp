// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <chrono>
#include <fstream>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "ranks/worlds.h"
#include "support/tiny.h"

namespace tests::worlds_ranks_test {
namespace {

int size_of_world() {
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

// Places in this process where memory lies that it shares with other ranks: none for one rank.
int shared_mappings() {
  int count = 0;
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    const auto path = line.find('/');
    // Of Open MPI's windows: the communicator's number ends the name.
    if (path != std::string::npos && line.find("osc_sm", path) != std::string::npos) ++count;
  }
  return count;
}

// An update, so that there are buckets and what goes with them.
void update(ta::Accelerator& ranks) {
  auto net = tiny_net();
  auto optimizer = sgd(net);
  ranks.prepare(*net);
  ranks.backward(net->forward(torch::ones({2, 4})).mean(), optimizer);
  ranks.step(optimizer);
}

TEST(MpiWorlds, OfManyAcceleratorsInARowOneIsKept) {
  const int accelerators = size_of_world() == 2 ? 50 : 10;  // more ranks than cores take long
  int in_the_first = 0;
  for (int i = 0; i < accelerators; ++i) {
    ta::Accelerator ranks({.device = "cpu"});
    update(ranks);
    if (i == 0) in_the_first = shared_mappings();
    ASSERT_EQ(shared_mappings(), in_the_first) << "in Accelerator " << i;
  }
  if (size_of_world() > 1) {
    EXPECT_GE(in_the_first, 2);
  }
}

TEST(MpiWorlds, ThatARankStillHasStay) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  std::optional<ta::World> kept = ta::make_world();
  if (rank == 0) {
    ta::make_world();
  } else {
    const auto dropped = std::exchange(kept, ta::make_world());
  }
  // All but rank 0 have dropped the first world by now.
  auto next = ta::make_world();
  next.control->barrier();
  if (rank == 0 && size_of_world() > 1) {
    kept->control->set_timeout(std::chrono::milliseconds(1));
    EXPECT_THROW(kept->control->barrier(), ta::CommunicationError);
  }
  next.control->barrier();
  next.close();
}

TEST(MpiWorlds, StayWhileATensorLiesInThem) {
  std::optional<ta::World> world = ta::make_world();
  auto buffer = world->gradients->make_buffer(100'000, torch::zeros({0}));
  world.reset();
  world = ta::make_world();
  const int with_buffer = shared_mappings();
  EXPECT_EQ(buffer.fill_(2).sum().item<float>(), 200'000);
  buffer.reset();
  world.reset();
  world = ta::make_world();
  if (size_of_world() > 1) {
    EXPECT_LT(shared_mappings(), with_buffer);
  }
  world->close();
}

/// What a rank meets that comes to its world alone.
TEST(MpiFailureAtStart, ARankThatMakesNoWorldIsWaitedForNoLongerThanTheTimeout) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm own = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &own);
  if (rank == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(400));
    // What the others have begun is ended, so that MPI has nothing left to do.
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Ibarrier(own, &request);
    MPI_Wait(&request, MPI_STATUS_IGNORE);
  } else {
    const auto start = std::chrono::steady_clock::now();
    EXPECT_THAT(message_of<ta::CommunicationError>([&] {
                  ta::make_world(own, {.start_timeout = std::chrono::milliseconds(200)});
                }),
                testing::HasSubstr("not all ranks came within 200 ms"));
    EXPECT_LE(std::chrono::steady_clock::now() - start, std::chrono::milliseconds(700));
  }
  MPI_Barrier(MPI_COMM_WORLD);
  MPI_Comm_free(&own);
}

}  // namespace
}  // namespace tests::worlds_ranks_test
