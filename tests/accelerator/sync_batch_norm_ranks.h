// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <torch/torch.h>

#include <chrono>
#include <exception>
#include <memory>
#include <thread>
#include <vector>

#include "torch_accelerated/accelerator/sync_batch_norm.h"
#include "torch_accelerated/distributed/thread_communicator.h"

namespace tests {

using Group = std::shared_ptr<torch_accelerated::SyncBatchNormGroup>;

/// Runs `body(rank, group)` on a thread for each rank and throws what the first one threw.
template <class Body>
void run_ranks(std::size_t size, Body&& body) {
  auto communicators = torch_accelerated::make_thread_communicators(static_cast<int>(size));
  std::vector<std::exception_ptr> errors(size);
  std::vector<std::thread> threads;
  for (std::size_t rank = 0; rank < size; ++rank) {
    const Group group = std::make_shared<torch_accelerated::SyncBatchNormGroup>();
    group->communicator = std::move(communicators[rank]);
    group->communicator->set_timeout(std::chrono::seconds(20));  // rather than a test that hangs
    threads.emplace_back([&errors, &body, rank, group] {
      at::set_num_threads(1);  // the ranks share the cores
      try {
        body(rank, group);
      } catch (const std::exception& error) {
        errors[rank] = std::current_exception();
        group->communicator->abort(error.what(), torch_accelerated::ExitCode::kUserCode);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace tests
