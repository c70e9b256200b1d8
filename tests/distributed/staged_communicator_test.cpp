// SPDX-License-Identifier: Apache-2.0
#include "distributed/staged_communicator.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gmock/gmock.h>

#include <thread>

#include "distributed/device_communicator.h"
#include "support/tiny.h"
#include "torch_accelerated/distributed/thread_communicator.h"

namespace tests::staged_communicator_test {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using Tensors = std::vector<torch::Tensor>;
using namespace std::chrono_literals;  // NOLINT(google-build-using-namespace)

// A world of one that notes where the tensors are that it is given, and triples them.
class NotingHost : public ta::Communicator {
 public:
  explicit NotingHost(std::vector<const void*>& seen) : seen_(&seen) {}
  int rank() const noexcept override { return 0; }
  int size() const noexcept override { return 1; }
  std::string name() const override { return "noting"; }

 protected:
  class Tripled : public ta::Pending {
   public:
    explicit Tripled(Tensors tensors) : tensors_(std::move(tensors)) {}
    void wait() override {
      for (auto& tensor : tensors_) tensor.data().mul_(3);
      tensors_.clear();
    }

   private:
    Tensors tensors_;
  };

  std::unique_ptr<ta::Pending> do_all_reduce(std::span<torch::Tensor> tensors,
                                             ta::SumOrder) override {
    for (const auto& tensor : tensors) note(tensor);
    return std::make_unique<Tripled>(Tensors(tensors.begin(), tensors.end()));
  }
  void do_reduce_scatter(torch::Tensor& part, const torch::Tensor& whole) override {
    note(part);
    note(whole);
    part.data().copy_(whole);
  }
  Tensors do_all_gather(const torch::Tensor& tensor) override {
    note(tensor);
    return {tensor.clone()};
  }
  Tensors do_all_to_all(const Tensors& parts) override {
    for (const auto& part : parts) note(part);
    return {parts[0].clone()};
  }
  void do_broadcast(torch::Tensor& tensor, int) override { note(tensor); }
  void do_broadcast(std::string&, int) override {}
  void do_barrier() override { throw ta::CommunicationError("no one came"); }
  torch::Tensor do_make_buffer(std::int64_t numel, const torch::Tensor& like) override {
    return torch::full({numel}, 7, like.options());
  }
  std::unique_ptr<ta::Communicator> do_duplicate() override {
    return std::make_unique<NotingHost>(*seen_);
  }
  void do_close() override {}
  void do_abort(const std::string&, ta::ExitCode) noexcept override {}

 private:
  void note(const torch::Tensor& tensor) { seen_->push_back(tensor.const_data_ptr()); }
  std::vector<const void*>* seen_;
};

std::vector<const void*> places_of(const Tensors& tensors) {
  std::vector<const void*> places;
  for (const auto& tensor : tensors) places.push_back(tensor.const_data_ptr());
  return places;
}

// All operations that move tensors, and the tensors that were given to them.
std::vector<const void*> do_all(ta::Communicator& communicator) {
  Tensors given{torch::ones({3}),  torch::ones({2}, torch::kInt64),
                torch::zeros({2}), torch::ones({2}),
                torch::ones({4}),  torch::ones({5}),
                torch::ones({6})};
  Tensors summed{given[0], given[1]};
  communicator.all_reduce(summed);
  EXPECT_EQ(given[0].sum().item<float>(), 9);
  communicator.reduce_scatter(given[2], given[3]);
  EXPECT_EQ(given[2].sum().item<float>(), 2);
  EXPECT_EQ(communicator.all_gather(given[4]).at(0).numel(), 4);
  EXPECT_EQ(communicator.all_to_all({given[5]}).at(0).numel(), 5);
  communicator.broadcast(given[6], 0);
  return places_of(given);
}

TEST(StagedCommunicator, GivesTensorsThatAreOnTheCpuToTheHostAsTheyAre) {
  std::vector<const void*> seen;
  const auto communicator = ta::make_staged_communicator(std::make_unique<NotingHost>(seen));
  EXPECT_EQ(do_all(*communicator), seen);
  EXPECT_EQ(communicator->make_buffer(2, torch::ones({1}))[0].item<float>(), 7);
}

TEST(StagedCommunicator, GivesTheHostCopiesOfTheOthers) {
  std::vector<const void*> seen;
  const auto communicator =
      ta::make_staged_communicator(std::make_unique<NotingHost>(seen), ta::Staging::kAllTensors);
  const auto given = do_all(*communicator);
  ASSERT_EQ(seen.size(), given.size());
  for (std::size_t i = 0; i < seen.size(); ++i) EXPECT_NE(seen[i], given[i]) << "tensor " << i;
  EXPECT_EQ(communicator->make_buffer(2, torch::ones({1}))[0].item<float>(), 0);
}

TEST(StagedCommunicator, LeavesTensorsAloneUntilTheyAreWaitedFor) {
  std::vector<const void*> seen;
  const auto communicator =
      ta::make_staged_communicator(std::make_unique<NotingHost>(seen), ta::Staging::kAllTensors);
  auto tensor = torch::ones({2}).requires_grad_();
  Tensors first{tensor};
  Tensors second{torch::full({2}, 5)};
  const auto one = communicator->start_all_reduce(first);
  const auto two = communicator->start_all_reduce(second);
  EXPECT_TRUE(tensor.equal(torch::ones({2})));
  two->wait();
  one->wait();
  EXPECT_TRUE(tensor.equal(torch::full({2}, 3.)));
  EXPECT_TRUE(second[0].equal(torch::full({2}, 15)));
  second[0].zero_();
  two->wait();
  EXPECT_TRUE(second[0].equal(torch::zeros({2}, torch::kInt64))) << "the second wait did something";
}

TEST(StagedCommunicator, HandsOnTimeoutsAndErrorsAndIsUnusableThen) {
  std::vector<const void*> seen;
  const auto communicator = ta::make_staged_communicator(std::make_unique<NotingHost>(seen));
  EXPECT_THAT(communicator->name(), HasSubstr("noting"));
  communicator->set_timeout(9ms);
  EXPECT_EQ(communicator->duplicate()->timeout(), 9ms);
  EXPECT_THAT(message_of<ta::CommunicationError>([&] { communicator->barrier(); }),
              HasSubstr("no one came"));
  EXPECT_THAT(message_of<ta::CommunicationError>([&] { communicator->all_gather("x"); }),
              HasSubstr("unusable"));
}

TEST(StagedCommunicator, WaitsForTheOthersNoLongerThanItsTimeout) {
  auto hosts = ta::make_thread_communicators(2);
  const auto communicator = ta::make_staged_communicator(std::move(hosts[0]));
  communicator->set_timeout(20ms);
  EXPECT_THAT(message_of<ta::CommunicationError>([&] { communicator->barrier(); }),
              HasSubstr("20 ms"));
}

// What `body` returns when it is staged is what it returns over threads.
void expect_same(int size, const std::function<Tensors(ta::Communicator&)>& body) {
  auto hosts = ta::make_thread_communicators(size);
  std::vector<std::string> errors(hosts.size());
  std::vector<std::thread> threads;
  threads.reserve(hosts.size());
  for (std::size_t rank = 0; rank < hosts.size(); ++rank) {
    threads.emplace_back([&, rank] {
      errors[rank] = message_of<std::exception>([&] {
        const auto staged =
            ta::make_staged_communicator(hosts[rank]->duplicate(), ta::Staging::kAllTensors);
        const auto expected = body(*hosts[rank]);
        const auto results = body(*staged);
        ASSERT_EQ(results.size(), expected.size());
        for (std::size_t i = 0; i < results.size(); ++i) {
          EXPECT_TRUE(results[i].equal(expected[i])) << "tensor " << i << " of rank " << rank;
        }
        staged->close();
      });
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_THAT(errors, Each(""));
}

torch::Tensor numbers(int seed, c10::IntArrayRef sizes, torch::Dtype dtype = torch::kFloat32) {
  auto generator = at::make_generator<at::CPUGeneratorImpl>(static_cast<std::uint64_t>(seed));
  return (torch::randn(sizes, generator, torch::kFloat64) * 100).to(dtype);
}

class StagedRanks : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Of, StagedRanks, ::testing::Values(1, 2, 3, 4));

TEST_P(StagedRanks, GiveTheHostsResults) {
  expect_same(GetParam(), [](ta::Communicator& communicator) {
    const int rank = communicator.rank();
    const std::int64_t size = communicator.size();
    Tensors results{numbers(rank, {33}), numbers(rank, {7, 5}, torch::kBFloat16),
                    numbers(rank, {0}), numbers(rank, {9}, torch::kInt16)};
    communicator.all_reduce(results);
    communicator.all_reduce(results, ta::SumOrder::kPairwise);
    results.push_back(torch::zeros({2, 3}));
    communicator.reduce_scatter(results.back(), numbers(rank, {size * 2, 3}));
    const auto gathered = communicator.all_gather(numbers(rank, {rank, 2}));
    results.insert(results.end(), gathered.begin(), gathered.end());
    Tensors parts;
    for (int peer = 0; peer < size; ++peer) parts.push_back(numbers(rank, {(rank + peer) % 3, 2}));
    const auto received = communicator.all_to_all(parts);
    results.insert(results.end(), received.begin(), received.end());
    results.push_back(numbers(rank, {4}));
    communicator.broadcast(results.back(), communicator.size() - 1);
    communicator.barrier();
    return results;
  });
}

TEST(DeviceCommunicator, IsTheHostsForTheCpuAndStagedWhereItWasAskedFor) {
  const auto host = ta::make_self_communicator();
  EXPECT_EQ(ta::make_device_communicator(*host, c10::kCPU, false)->name(), "one process");
  EXPECT_THAT(ta::make_device_communicator(*host, c10::Device(c10::kCUDA, 0), true)->name(),
              HasSubstr("staged"));
  EXPECT_THAT(ta::make_device_communicator(*host, c10::kMPS, false)->name(), HasSubstr("staged"));
}

}  // namespace
}  // namespace tests::staged_communicator_test
