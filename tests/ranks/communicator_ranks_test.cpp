// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "ranks/worlds.h"
#include "support/communicator_checks.h"

namespace tests::communicator_ranks_test {
namespace {

class MpiCommunicator : public Worlds {};

TEST_P(MpiCommunicator, KnowsItsWorld) {
  auto world = make_world();
  int size = 0;
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  EXPECT_EQ(world.size(), size);
  EXPECT_EQ(world.local_size, size);
  EXPECT_EQ(world.local_rank, world.rank());
  EXPECT_FALSE(world.host.empty());
  EXPECT_TRUE(world.is_callers);
  EXPECT_TRUE(world.allows_threads);
  EXPECT_EQ(world.gradients->name(), GetParam() ? "MPI, shared window" : "MPI");
  world.close();
  world.close();
  EXPECT_THROW(world.control->barrier(), ta::CommunicationError);
}

TEST_P(MpiCommunicator, SumsEveryDtype) {
  auto world = make_world();
  check_sums_of_every_dtype(*world.gradients);
  world.close();
}

TEST_P(MpiCommunicator, SumsEverySize) {
  const bool is_long = std::getenv("TORCH_ACCELERATED_LONG") != nullptr;
  const char* seed = std::getenv("TORCH_ACCELERATED_SEED");
  auto world = make_world();
  check_sums_of_every_size(*world.gradients, is_long ? 2'000 : 60,
                           seed == nullptr ? 11 : std::strtoull(seed, nullptr, 10));
  world.close();
}

TEST_P(MpiCommunicator, AddsInBothOrders) {
  auto world = make_world();
  check_both_orders(*world.gradients);
  world.close();
}

TEST_P(MpiCommunicator, SumsManyTensorsAtOnce) {
  auto world = make_world();
  check_many_tensors_at_once(*world.gradients);
  check_started_sums(*world.gradients);
  world.close();
}

TEST_P(MpiCommunicator, SumsBuffers) {
  auto world = make_world();
  check_buffers(*world.gradients);
  world.close();
}

TEST_P(MpiCommunicator, ReducesAndScatters) {
  auto world = make_world();
  check_reduce_scatter(*world.control);
  world.close();
}

TEST_P(MpiCommunicator, MovesTensorsAndBytes) {
  auto world = make_world();
  check_all_gather(*world.control);
  check_all_gather_of_bytes(*world.control);
  check_all_to_all(*world.control);
  check_broadcast(*world.control);
  world.close();
}

TEST_P(MpiCommunicator, HasIndependentDuplicates) {
  auto world = make_world();
  check_duplicates(*world.gradients);
  world.close();
}

// The results of all layouts are those of one order, so they are those of each other.
TEST_P(MpiCommunicator, WorksOnPartsOfTheCallersRanks) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm half = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, rank % 2, 0, &half);
  auto world = ta::make_world(half, {.shared_window = GetParam()});
  check_sums_of_every_size(*world.gradients, 5, 17);
  world.close();
  MPI_Comm_free(&half);
}

INSTANTIATE_TEST_SUITE_P(Over, MpiCommunicator, testing::Bool(), name_of);

}  // namespace
}  // namespace tests::communicator_ranks_test
